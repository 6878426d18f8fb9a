//! What every implementation of a port must do, as code: each line of the ports' documentation has its assertion here.
//! A suite fails by panicking, with the sentence that does not hold. It works below a prefix (or on ids) of its own, so
//! that it can run against a store that is in use.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a conformance suite fails by panicking, and is part of no program"
)]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use jobmill_core::task::greenfield::Greenfield;
use jobmill_core::task::item::Task;
use jobmill_core::task::write::Table;
use jobmill_engine::ports::{ETag, Metadata, ObjectStore, PortError, PortResult, PutIf};
use jobmill_engine::schedule::ports::{Created, InDoubt, MetaRow, Siblings, TaskTable};

/// How many compete in a race.
const RACERS: usize = 16;
/// Larger than any small object of the suite.
const LIMIT: u64 = 1024 * 1024;
/// The least size of a part that is not the last.
const PART: usize = 5 * 1024 * 1024;

// ----------------------------------------------------------------------------------------------------- exceptions

/// A check that somebody else's implementation of a service is known to fail.
#[derive(Debug, Clone, Copy)]
pub struct Exception {
    /// The name of the check.
    pub check: &'static str,
    /// Whether it holds now and then, by the order in which things that race arrive.
    pub by_chance: bool,
    /// What the implementation does instead.
    pub reason: &'static str,
}

/// Runs the checks of a suite, each on its own. One with an exception must fail, unless it does so by chance.
struct Checks<'a> {
    exceptions: &'a [Exception],
    seen: Vec<&'static str>,
    failed: Vec<&'static str>,
    stale: Vec<&'static str>,
}

impl<'a> Checks<'a> {
    fn except(exceptions: &'a [Exception]) -> Self {
        Self {
            exceptions,
            seen: Vec::new(),
            failed: Vec::new(),
            stale: Vec::new(),
        }
    }

    async fn run(&mut self, name: &'static str, check: impl Future<Output = ()>) {
        let exception = self.exceptions.iter().find(|exception| exception.check == name);
        let holds = AssertUnwindSafe(check).catch_unwind().await.is_ok();
        match exception {
            None if !holds => self.failed.push(name),
            Some(exception) if holds && !exception.by_chance => self.stale.push(name),
            _ => {}
        }
        self.seen.push(name);
    }

    /// Panics if a check without an exception failed (each has printed why), or one with an exception held.
    fn finish(self) {
        assert!(self.failed.is_empty(), "failed: {:?}", self.failed);
        assert!(
            self.stale.is_empty(),
            "these hold, so remove their exceptions: {:?}",
            self.stale
        );
        for exception in self.exceptions {
            assert!(self.seen.contains(&exception.check), "no check: {exception:?}");
        }
    }
}

/// Runs methods of a suite as checks of that name.
macro_rules! checks {
    ($checks:ident, $suite:ident: $($check:ident),+ $(,)?) => {
        $($checks.run(stringify!($check), $suite.$check()).await;)+
    };
}

mod tables;

pub use tables::{tables, tables_except};

// ------------------------------------------------------------------------------------------------- object store

/// The suite of [`ObjectStore`], on keys that begin with `prefix`, where nothing may be yet. Writes some 30 MB.
pub async fn object_store<S: ObjectStore>(store: &S, prefix: &str) {
    object_store_except(store, prefix, &[]).await;
}

/// The suite of [`ObjectStore`], of which some checks are known to fail.
pub async fn object_store_except<S: ObjectStore>(store: &S, prefix: &str, exceptions: &[Exception]) {
    let suite = Store { store, prefix };
    let mut checks = Checks::except(exceptions);
    checks!(checks, suite:
        what_is_not_there,
        put_and_read_back,
        put_absent,
        put_matches,
        metadata_round_trip,
        size_limit,
        ranges,
        delete,
        races,
        upload,
        upload_is_conditional,
        upload_races,
        listing,
        listing_of_odd_keys,
        listing_pages,
    );
    checks.finish();
}

/// The suite of the ages in [`ObjectStore`]'s answers: `advance` moves the store's own clock on. Without such a
/// handle an implementation can wait for real.
pub async fn object_age<S: ObjectStore>(store: &S, prefix: &str, advance: impl AsyncFn(Duration)) {
    // Between two whole seconds an age may be seen a second longer or shorter, on a slow machine some more.
    let about = |seconds: u64, age: Duration| {
        let age = age.as_secs();
        assert!(
            (seconds.saturating_sub(1)..seconds + 30).contains(&age),
            "age is {age} s instead of {seconds} s"
        );
    };
    let key = format!("{prefix}age");
    let none = Metadata::new();
    let first = store
        .put(&key, Bytes::from_static(b"1"), &none, PutIf::Absent)
        .await
        .unwrap();
    about(0, store.get(&key, LIMIT).await.unwrap().unwrap().age);
    advance(Duration::from_secs(100)).await;
    about(100, store.get(&key, LIMIT).await.unwrap().unwrap().age);
    about(100, store.head(&key).await.unwrap().unwrap().age);
    // A put that failed leaves the age alone; one that succeeded begins it anew.
    let stale = ETag("\"0123456789abcdef0123456789abcdef\"".to_owned());
    let failed = store
        .put(&key, Bytes::from_static(b"2"), &none, PutIf::Matches(stale))
        .await;
    assert!(
        matches!(failed, Err(PortError::PreconditionFailed { .. })),
        "{failed:?}"
    );
    about(100, store.get(&key, LIMIT).await.unwrap().unwrap().age);
    store
        .put(&key, Bytes::from_static(b"2"), &none, PutIf::Matches(first))
        .await
        .unwrap();
    about(0, store.get(&key, LIMIT).await.unwrap().unwrap().age);
    store.delete(&key, None).await.unwrap();
}

struct Store<'a, S> {
    store: &'a S,
    prefix: &'a str,
}

impl<S: ObjectStore> Store<'_, S> {
    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    async fn put(&self, key: &str, body: &[u8], condition: PutIf) -> PortResult<ETag> {
        self.store
            .put(key, Bytes::copy_from_slice(body), &Metadata::new(), condition)
            .await
    }

    /// The body and the version of an object.
    async fn read(&self, key: &str) -> Option<(Bytes, ETag)> {
        let object = self.store.get(key, LIMIT).await.unwrap()?;
        Some((object.body, object.etag))
    }

    async fn body(&self, key: &str) -> Option<Bytes> {
        self.read(key).await.map(|(body, _)| body)
    }

    async fn what_is_not_there(&self) {
        let key = self.key("missing");
        assert_eq!(self.store.get(&key, LIMIT).await, Ok(None));
        assert_eq!(self.store.get_range(&key, 0, 10).await, Ok(None));
        assert_eq!(self.store.get_range(&key, 5, 0).await, Ok(None));
        assert_eq!(self.store.head(&key).await, Ok(None));
        assert_eq!(self.store.list(&key, None).await, Ok(Vec::new()));
    }

    async fn put_and_read_back(&self) {
        let key = self.key("put");
        let body = b"one\nline\r\n\0\xff";
        let etag = self.put(&key, body, PutIf::Absent).await.unwrap();
        assert!(!etag.0.is_empty());
        assert_eq!(
            self.read(&key).await,
            Some((Bytes::from_static(body), etag.clone()))
        );
        let head = self.store.head(&key).await.unwrap().unwrap();
        assert_eq!(head.etag, etag);
        // An object without a byte is an object.
        let empty = self.key("empty");
        self.put(&empty, b"", PutIf::Absent).await.unwrap();
        assert_eq!(self.body(&empty).await, Some(Bytes::new()));
        assert_eq!(self.store.get_range(&empty, 0, 10).await, Ok(Some(Bytes::new())));
    }

    async fn put_absent(&self) {
        let key = self.key("absent");
        let first = self.put(&key, b"first", PutIf::Absent).await.unwrap();
        lost(
            self.put(&key, b"second", PutIf::Absent).await,
            "a put under Absent onto an object",
        );
        lost(
            self.put(&key, b"first", PutIf::Absent).await,
            "a put under Absent onto the same bytes",
        );
        assert_eq!(self.read(&key).await, Some((Bytes::from_static(b"first"), first)));
        self.store.delete(&key, None).await.unwrap();
        self.put(&key, b"again", PutIf::Absent).await.unwrap();
    }

    async fn put_matches(&self) {
        let key = self.key("matches");
        let mut etags = vec![self.put(&key, b"0", PutIf::Absent).await.unwrap()];
        for round in 1..10 {
            let body = round.to_string();
            let etag = self
                .put(&key, body.as_bytes(), PutIf::Matches(etags[round - 1].clone()))
                .await
                .unwrap();
            assert!(!etags.contains(&etag), "another content has another ETag");
            assert_eq!(self.read(&key).await, Some((Bytes::from(body), etag.clone())));
            for stale in &etags {
                lost(
                    self.put(&key, b"stale", PutIf::Matches(stale.clone())).await,
                    "a put onto an older version",
                );
            }
            etags.push(etag);
        }
        assert_eq!(self.body(&key).await, Some(Bytes::from_static(b"9")));
        self.store.delete(&key, None).await.unwrap();
        lost(
            self.put(&key, b"ghost", PutIf::Matches(etags[9].clone())).await,
            "a put under Matches onto nothing",
        );
        assert_eq!(self.body(&key).await, None);
    }

    async fn metadata_round_trip(&self) {
        let key = self.key("metadata");
        let metadata = |pairs: &[(&str, &str)]| -> Metadata {
            pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect()
        };
        let first = metadata(&[
            ("run", "r-1.2_3"),
            ("rows", "100000"),
            ("as-of", "2024-03-06T05:06:40Z"),
            ("f", "=+/"),
        ]);
        let etag = self
            .store
            .put(&key, Bytes::new(), &first, PutIf::Absent)
            .await
            .unwrap();
        assert_eq!(self.store.head(&key).await.unwrap().unwrap().metadata, first);
        // A put replaces the metadata as a whole.
        let second = metadata(&[("run", "r-2")]);
        let etag = self
            .store
            .put(&key, Bytes::from("x"), &second, PutIf::Matches(etag))
            .await
            .unwrap();
        assert_eq!(self.store.head(&key).await.unwrap().unwrap().metadata, second);
        self.store
            .put(&key, Bytes::new(), &Metadata::new(), PutIf::Matches(etag))
            .await
            .unwrap();
        assert_eq!(
            self.store.head(&key).await.unwrap().unwrap().metadata,
            Metadata::new()
        );
    }

    async fn size_limit(&self) {
        let key = self.key("limit");
        self.put(&key, b"0123456789", PutIf::Absent).await.unwrap();
        assert_eq!(
            self.store.get(&key, 10).await.unwrap().unwrap().body,
            "0123456789"
        );
        for limit in [9, 0] {
            match self.store.get(&key, limit).await {
                Err(PortError::Refused { code, .. }) => assert_eq!(code, "ObjectTooLarge"),
                other => panic!("10 bytes under a limit of {limit} gave {other:?}"),
            }
        }
    }

    async fn ranges(&self) {
        let key = self.key("range");
        let body = Bytes::from_static(b"0123456789");
        self.put(&key, &body, PutIf::Absent).await.unwrap();
        for offset in [0, 1, 9, 10, 11, 1000, u64::MAX] {
            for length in [0, 1, 2, 9, 10, 11, 1000, u64::MAX] {
                let at = |place: u64| place.min(10) as usize;
                let expected = body.slice(at(offset)..at(offset.saturating_add(length)));
                let range = self.store.get_range(&key, offset, length).await;
                assert_eq!(range, Ok(Some(expected)), "{length} bytes from {offset}");
            }
        }
    }

    async fn delete(&self) {
        let key = self.key("delete");
        let stale = self.put(&key, b"1", PutIf::Absent).await.unwrap();
        let etag = self.put(&key, b"2", PutIf::Matches(stale.clone())).await.unwrap();
        lost(
            self.store.delete(&key, Some(&stale)).await,
            "a delete of an older version",
        );
        assert_eq!(self.body(&key).await, Some(Bytes::from_static(b"2")));
        self.store.delete(&key, Some(&etag)).await.unwrap();
        assert_eq!(self.body(&key).await, None);
        // What is not there is deleted already, whichever version was meant.
        self.store.delete(&key, Some(&etag)).await.unwrap();
        self.store.delete(&key, None).await.unwrap();
        self.put(&key, b"3", PutIf::Absent).await.unwrap();
        self.store.delete(&key, None).await.unwrap();
        assert_eq!(self.store.head(&key).await, Ok(None));
    }

    async fn races(&self) {
        // Several rounds: a store that checks first and writes later may be lucky once.
        for round in 0..8 {
            let key = self.key(&format!("race-{round}"));
            let bodies: Vec<String> = (0..RACERS).map(|racer| format!("created by {racer}")).collect();
            let puts = bodies
                .iter()
                .map(|body| self.put(&key, body.as_bytes(), PutIf::Absent));
            let (winner, etag) = only_winner(join_all(puts).await, "puts under Absent");
            assert_eq!(
                self.read(&key).await,
                Some((Bytes::from(bodies[winner].clone()), etag.clone()))
            );

            let bodies: Vec<String> = (0..RACERS).map(|racer| format!("replaced by {racer}")).collect();
            let puts = bodies
                .iter()
                .map(|body| self.put(&key, body.as_bytes(), PutIf::Matches(etag.clone())));
            let (winner, etag) = only_winner(join_all(puts).await, "puts under Matches");
            assert_eq!(
                self.read(&key).await,
                Some((Bytes::from(bodies[winner].clone()), etag))
            );
        }
    }

    async fn upload(&self) {
        let key = self.key("upload");
        let metadata = Metadata::from([("rows".to_owned(), "3".to_owned())]);
        let parts = [
            Bytes::from(vec![b'a'; PART]),
            Bytes::from(vec![b'b'; PART + 1]),
            Bytes::from_static(b"end"),
        ];
        let mut upload = self.store.begin_upload(&key, &metadata).await.unwrap();
        for part in &parts {
            self.store.upload_part(&mut upload, part.clone()).await.unwrap();
            assert_eq!(
                self.store.head(&key).await,
                Ok(None),
                "nothing is visible before the upload is complete"
            );
        }
        assert_eq!(self.store.list(&key, None).await, Ok(Vec::new()));
        let etag = self.store.complete_upload(upload).await.unwrap();
        let head = self.store.head(&key).await.unwrap().unwrap();
        assert_eq!((head.metadata, &head.etag), (metadata, &etag));
        // The parts stand in their order, and a range may cross from one to the next.
        for (offset, expected) in [
            (0, "aa"),
            (PART - 1, "ab"),
            (2 * PART, "be"),
            (2 * PART + 1, "en"),
        ] {
            let range = self.store.get_range(&key, offset as u64, 2).await;
            assert_eq!(range, Ok(Some(Bytes::from(expected))), "from {offset}");
        }
        let whole = self.store.get(&key, u64::MAX).await.unwrap().unwrap();
        assert!(
            whole.body == parts.concat(),
            "the object is its parts, one after the other"
        );
        self.store.delete(&key, Some(&etag)).await.unwrap();
        // One small part is the last part.
        let mut upload = self.store.begin_upload(&key, &Metadata::new()).await.unwrap();
        self.store
            .upload_part(&mut upload, Bytes::from_static(b"small"))
            .await
            .unwrap();
        self.store.complete_upload(upload).await.unwrap();
        assert_eq!(self.body(&key).await, Some(Bytes::from_static(b"small")));
    }

    /// An upload of one small part, not completed yet.
    async fn begun_upload(&self, key: &str, body: String) -> S::Upload {
        let mut upload = self.store.begin_upload(key, &Metadata::new()).await.unwrap();
        self.store
            .upload_part(&mut upload, Bytes::from(body))
            .await
            .unwrap();
        upload
    }

    /// An upload that was begun before an object appeared must not replace it.
    async fn upload_is_conditional(&self) {
        let key = self.key("upload-late");
        let late = self.begun_upload(&key, "late".to_owned()).await;
        let dropped = self.begun_upload(&key, "dropped".to_owned()).await;
        let etag = self.put(&key, b"there", PutIf::Absent).await.unwrap();
        lost(self.store.complete_upload(late).await, "an upload onto an object");
        self.store.abort_upload(dropped).await.unwrap();
        assert_eq!(self.read(&key).await, Some((Bytes::from_static(b"there"), etag)));
        self.store.delete(&key, None).await.unwrap();
    }

    async fn upload_races(&self) {
        let key = self.key("upload-race");
        let begun = (0..RACERS).map(|racer| self.begun_upload(&key, format!("uploaded by {racer}")));
        let uploads = join_all(begun).await.into_iter();
        let completed = join_all(uploads.map(|upload| self.store.complete_upload(upload))).await;
        let (winner, etag) = only_winner(completed, "uploads");
        assert_eq!(
            self.read(&key).await,
            Some((Bytes::from(format!("uploaded by {winner}")), etag))
        );
    }

    async fn listing(&self) {
        // In the order of their bytes.
        let names = ["a", "a!", "a/", "a/1", "a/2", "a0", "aa", "b"];
        let keys: Vec<String> = names
            .iter()
            .map(|name| self.key(&format!("list/{name}")))
            .collect();
        for key in keys.iter().rev() {
            self.put(key, b"x", PutIf::Absent).await.unwrap();
        }
        let under = |prefix: &str, after: Option<&str>| {
            let (prefix, after) = (self.key(prefix), after.map(|after| self.key(after)));
            async move { self.store.list(&prefix, after.as_deref()).await.unwrap() }
        };
        let expected =
            |range: std::ops::Range<usize>| -> Vec<_> { range.map(|place| keys[place].clone()).collect() };
        assert_eq!(under("list/", None).await, expected(0..8), "all, in order");
        assert_eq!(
            under("list/a/", None).await,
            expected(2..5),
            "only what begins with the prefix"
        );
        assert_eq!(
            under("list/a", None).await,
            expected(0..7),
            "a prefix need not end at a slash"
        );
        assert_eq!(
            under("list/", Some("list/a/1")).await,
            expected(4..8),
            "what comes after a key, without it"
        );
        assert_eq!(
            under("list/", Some("list/a/1x")).await,
            expected(4..8),
            "the key need not exist"
        );
        assert_eq!(
            under("list/", Some("list/b")).await,
            expected(0..0),
            "nothing after the last"
        );
        assert_eq!(
            under("list/a/", Some("list/")).await,
            expected(2..5),
            "a key before the prefix changes nothing"
        );
        assert_eq!(
            under("list/a/", Some("list/a0")).await,
            expected(0..0),
            "nor is there anything beyond it"
        );
    }

    async fn listing_of_odd_keys(&self) {
        let names = ["%2F", "+", " two words", "&=?#", "<xml>\"'", "é", "日本語"];
        let mut keys: Vec<String> = names
            .iter()
            .map(|name| self.key(&format!("odd/{name}")))
            .collect();
        keys.sort_unstable();
        for key in &keys {
            self.put(key, key.as_bytes(), PutIf::Absent).await.unwrap();
            assert_eq!(self.body(key).await, Some(Bytes::from(key.clone())));
        }
        let listed = self.store.list(&self.key("odd/"), None).await.unwrap();
        assert_eq!(listed, keys);
        for key in &keys {
            assert_eq!(self.store.list(key, None).await.unwrap().len(), 1, "{key}");
            self.store.delete(key, None).await.unwrap();
        }
    }

    async fn listing_pages(&self) {
        const OBJECTS: usize = 1203;
        let keys: Vec<String> = (0..OBJECTS)
            .map(|number| self.key(&format!("pages/{number:05}")))
            .collect();
        for some in keys.chunks(RACERS) {
            for put in join_all(some.iter().map(|key| self.put(key, b"", PutIf::Absent))).await {
                put.unwrap();
            }
        }
        let (mut listed, mut pages) = (Vec::<String>::new(), 0);
        loop {
            let after = listed.last().map(String::as_str);
            let page = self.store.list(&self.key("pages/"), after).await.unwrap();
            assert!(page.len() <= 1000, "a page has at most 1,000 keys");
            if page.is_empty() {
                break;
            }
            pages += 1;
            listed.extend(page);
        }
        assert!(pages >= 2);
        assert_eq!(listed, keys, "page by page, every key comes once, in order");
    }
}

/// A condition that did not hold.
fn lost<T: Debug>(result: PortResult<T>, what: &str) {
    assert!(
        matches!(result, Err(PortError::PreconditionFailed { .. })),
        "{what} gave {result:?}"
    );
}

/// The one that won a race; the others lost by their condition, or gave way.
fn only_winner(results: Vec<PortResult<ETag>>, what: &str) -> (usize, ETag) {
    let mut winners = Vec::new();
    for (racer, result) in results.into_iter().enumerate() {
        match result {
            Ok(etag) => winners.push((racer, etag)),
            Err(PortError::PreconditionFailed { .. } | PortError::Conflict { .. }) => {}
            Err(error) => panic!("of {RACERS} {what}, one failed otherwise: {error}"),
        }
    }
    assert_eq!(winners.len(), 1, "of {RACERS} {what}, exactly one wins");
    winners.remove(0)
}

// --------------------------------------------------------------------------------------------------- task table

/// The other side of a task table: what an orchestrator sees and does.
pub trait TaskProbe: Sync {
    /// The attributes of the item in the tasks table, by sosw's names, numbers as text.
    fn read(&self, task_id: &str) -> impl Future<Output = Option<BTreeMap<String, String>>> + Send;

    /// Puts a task into one of the tables, over what is there.
    fn put(&self, table: Table, task: &Task) -> impl Future<Output = ()> + Send;

    /// Removes a task from one of the tables.
    fn remove(&self, table: Table, task: &Task) -> impl Future<Output = ()> + Send;
}

/// What [`TaskTable::create`] does to an item that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duplicates {
    /// Leaves it and says so: what the port asks for.
    Kept,
    /// Replaces it unnoticed: the concession to endpoints that can't insert.
    Replaced,
}

/// The suite of [`TaskTable`]. `run` makes labourers and ids of this run distinct from all others.
pub async fn task_table<T: TaskTable, P: TaskProbe>(table: &T, probe: &P, run: &str, duplicates: Duplicates) {
    task_table_except(table, probe, run, duplicates, &[]).await;
}

/// The suite of [`TaskTable`], of which some checks are known to fail.
pub async fn task_table_except<T: TaskTable, P: TaskProbe>(
    table: &T,
    probe: &P,
    run: &str,
    duplicates: Duplicates,
    exceptions: &[Exception],
) {
    let suite = Tasks { table, probe, run };
    let mut checks = Checks::except(exceptions);
    checks!(checks, suite: create_writes_every_attribute, create_a_full_batch);
    if duplicates == Duplicates::Kept {
        checks!(checks, suite:
            create_leaves_what_is_there,
            create_answers_in_order,
            create_refuses_each_for_itself,
            create_races,
        );
    } else {
        checks!(checks, suite: create_replaces_what_is_there);
    }
    checks!(checks, suite:
        in_doubt_is_created_if_nowhere,
        in_doubt_looks_into_three_tables,
        in_doubt_races,
        newest_greenfield,
        meta_rows,
    );
    checks.finish();
}

struct Tasks<'a, T, P> {
    table: &'a T,
    probe: &'a P,
    run: &'a str,
}

impl<T: TaskTable, P: TaskProbe> Tasks<'_, T, P> {
    fn task(&self, name: &str) -> Task {
        Task {
            task_id: format!("{}-{name}", self.run),
            labourer_id: format!("{}-labourer", self.run),
            created_at: "1709701600.123456".to_owned(),
            greenfield: Greenfield::from_nanos(2_000_000_000_000),
            payload: "{}".to_owned(),
        }
    }

    async fn greenfield(&self, task: &Task) -> Option<Greenfield> {
        let item = self.probe.read(&task.task_id).await?;
        Some(Greenfield::parse(&item["greenfield"]).unwrap())
    }

    async fn create_one(&self, task: &Task) -> Created {
        let mut created = self.table.create(std::slice::from_ref(task)).await.unwrap();
        assert_eq!(created.len(), 1);
        created.remove(0)
    }

    async fn create_writes_every_attribute(&self) {
        for (number, (greenfield, payload)) in [
            ("2000", "{}"),
            (
                "1709701600.000000001",
                r#"{"lambda_name": "x", "n": 12345678901234567890.123456789}"#,
            ),
            (
                "0.5",
                "{\"text\": \"quotes ' \\\" and \\\\, lines\\n, ключ 日本 \u{1F600}\", \"null\": null}",
            ),
            ("99999999999.999999999", "[]"),
        ]
        .into_iter()
        .enumerate()
        {
            let task = Task {
                greenfield: Greenfield::parse(greenfield).unwrap(),
                payload: payload.to_owned(),
                ..self.task(&format!("attributes-{number}"))
            };
            assert_eq!(self.create_one(&task).await, Created::Now);
            let item = self.probe.read(&task.task_id).await.unwrap();
            let expected = [
                ("attempts", "0"),
                ("created_at", "1709701600.123456"),
                ("greenfield", greenfield),
                ("labourer_id", &task.labourer_id),
                ("payload", payload),
                ("task_id", &task.task_id),
            ];
            let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
            assert_eq!(item, BTreeMap::from(expected));
        }
    }

    async fn create_a_full_batch(&self) {
        assert_eq!(self.table.create(&[]).await, Ok(Vec::new()));
        let tasks: Vec<Task> = (0..25)
            .map(|number| self.task(&format!("batch-{number}")))
            .collect();
        assert_eq!(self.table.create(&tasks).await, Ok(vec![Created::Now; 25]));
        for task in &tasks {
            assert!(self.probe.read(&task.task_id).await.is_some(), "{}", task.task_id);
        }
    }

    /// A task that an orchestrator has started already, and the same task as it was born.
    async fn started(&self, name: &str) -> (Task, Task) {
        let born = self.task(name);
        let started = Task {
            greenfield: Greenfield::from_millis(2_000_000_000_000),
            ..born.clone()
        };
        self.probe.put(Table::Tasks, &started).await;
        (born, started)
    }

    async fn create_leaves_what_is_there(&self) {
        let (born, started) = self.started("started").await;
        assert_eq!(self.create_one(&born).await, Created::AlreadyThere);
        assert_eq!(
            self.greenfield(&born).await,
            Some(started.greenfield),
            "a started task is not reset"
        );
        let task = self.task("twice");
        assert_eq!(self.create_one(&task).await, Created::Now);
        assert_eq!(self.create_one(&task).await, Created::AlreadyThere);
    }

    async fn create_replaces_what_is_there(&self) {
        let (born, _) = self.started("started").await;
        assert_eq!(self.create_one(&born).await, Created::Now);
        assert_eq!(self.greenfield(&born).await, Some(born.greenfield));
    }

    async fn create_answers_in_order(&self) {
        let tasks: Vec<Task> = (0..25)
            .map(|number| self.task(&format!("mixed-{number}")))
            .collect();
        for task in tasks.iter().step_by(3) {
            self.probe.put(Table::Tasks, task).await;
        }
        let created = self.table.create(&tasks).await.unwrap();
        let expected = (0..25).map(|number| {
            if number % 3 == 0 {
                Created::AlreadyThere
            } else {
                Created::Now
            }
        });
        assert_eq!(created, expected.collect::<Vec<_>>());
    }

    async fn create_refuses_each_for_itself(&self) {
        let large = Task {
            payload: "x".repeat(410 * 1024),
            ..self.task("large")
        };
        let tasks = [self.task("before-large"), large, self.task("after-large")];
        let created = self.table.create(&tasks).await.unwrap();
        match created.as_slice() {
            [Created::Now, Created::Refused(why), Created::Now] => assert!(!why.is_empty()),
            other => panic!("an item of more than 400 KB between two small ones gave {other:?}"),
        }
        assert_eq!(self.probe.read(&tasks[1].task_id).await, None);
        let answer = self.table.create_in_doubt(&tasks[1]).await;
        assert!(matches!(answer, Ok(InDoubt::Refused(_))), "{answer:?}");
    }

    async fn create_races(&self) {
        for round in 0..4 {
            let task = self.task(&format!("race-{round}"));
            let created = join_all((0..RACERS).map(|_| self.create_one(&task))).await;
            let now = created.iter().filter(|created| **created == Created::Now).count();
            assert_eq!(
                now, 1,
                "of {RACERS} that create one task, exactly one does: {created:?}"
            );
            assert!(
                created.iter().all(|created| matches!(
                    created,
                    Created::Now | Created::AlreadyThere | Created::Throttled
                ))
            );
        }
    }

    async fn in_doubt_is_created_if_nowhere(&self) {
        let task = Task {
            payload: "{\"a\": \"é\"}".to_owned(),
            ..self.task("doubt")
        };
        assert_eq!(self.table.create_in_doubt(&task).await, Ok(InDoubt::Created));
        let item = self.probe.read(&task.task_id).await.unwrap();
        assert_eq!((&*item["payload"], &*item["attempts"]), (&*task.payload, "0"));
        assert_eq!(item["labourer_id"], task.labourer_id);
        assert_eq!(self.greenfield(&task).await, Some(task.greenfield));
        assert_eq!(
            self.table.create_in_doubt(&task).await,
            Ok(InDoubt::AlreadyThere),
            "it may be called again"
        );
        // The same id twice among the tables of one labourer does not hide that of another.
        let other = self.task("doubt-other");
        assert_eq!(self.table.create_in_doubt(&other).await, Ok(InDoubt::Created));
    }

    async fn in_doubt_looks_into_three_tables(&self) {
        let (born, started) = self.started("doubt-started").await;
        assert_eq!(self.table.create_in_doubt(&born).await, Ok(InDoubt::AlreadyThere));
        assert_eq!(
            self.greenfield(&born).await,
            Some(started.greenfield),
            "a started task is not reset"
        );
        for table in [Table::Retry, Table::Closed] {
            let task = self.task(&format!("doubt-{table:?}"));
            self.probe.put(table, &task).await;
            assert_eq!(
                self.table.create_in_doubt(&task).await,
                Ok(InDoubt::AlreadyThere),
                "{table:?}"
            );
            assert_eq!(
                self.probe.read(&task.task_id).await,
                None,
                "a task in {table:?} is not created again"
            );
            self.probe.remove(table, &task).await;
            assert_eq!(
                self.table.create_in_doubt(&task).await,
                Ok(InDoubt::Created),
                "once it is gone it may be"
            );
        }
    }

    async fn in_doubt_races(&self) {
        for round in 0..4 {
            let task = self.task(&format!("doubt-race-{round}"));
            let outcomes = join_all((0..RACERS).map(|_| self.table.create_in_doubt(&task))).await;
            let created = outcomes
                .iter()
                .filter(|outcome| **outcome == Ok(InDoubt::Created))
                .count();
            assert_eq!(
                created, 1,
                "of {RACERS} that settle one task, exactly one creates it: {outcomes:?}"
            );
            assert!(
                outcomes
                    .iter()
                    .all(|outcome| matches!(outcome, Ok(_) | Err(PortError::Throttled { .. }))),
                "{outcomes:?}"
            );
        }
    }

    async fn newest_greenfield(&self) {
        let labourer = format!("{}-queue", self.run);
        let at = |text: &str| Greenfield::parse(text).unwrap();
        let newest = async |not_after: &str| {
            let newest = self
                .table
                .newest_greenfield(&labourer, at(not_after))
                .await
                .unwrap();
            newest.map(|greenfield| greenfield.to_string())
        };
        assert_eq!(
            newest("1709701600").await,
            None,
            "of an empty queue there is none"
        );
        for (number, greenfield) in ["2000", "9", "1000.5", "10", "1741259200.25", "-3"]
            .into_iter()
            .enumerate()
        {
            let task = self.task(&format!("queue-{number}"));
            let task = Task {
                labourer_id: labourer.clone(),
                greenfield: at(greenfield),
                ..task
            };
            self.probe.put(Table::Tasks, &task).await;
        }
        let other = Task {
            labourer_id: format!("{labourer}-other"),
            ..self.task("queue-of-another")
        };
        self.probe
            .put(
                Table::Tasks,
                &Task {
                    greenfield: at("2500"),
                    ..other
                },
            )
            .await;
        for (not_after, expected) in [
            ("1709701600", Some("2000")),
            ("2000", Some("2000")),
            ("1999.999999999", Some("1000.5")),
            ("1000.5", Some("1000.5")),
            ("1000.499999999", Some("10")),
            ("9.5", Some("9")),
            ("1741259200.25", Some("1741259200.25")),
            ("0", Some("-3")),
            ("-4", None),
        ] {
            assert_eq!(
                newest(not_after).await.as_deref(),
                expected,
                "the newest that is not after {not_after}"
            );
        }
    }

    async fn meta_rows(&self) {
        self.table.record_meta(&[]).await.unwrap();
        let row = |number: usize| {
            let task = self.task(&format!("meta-{number}"));
            MetaRow {
                task_id: task.task_id,
                labourer_id: task.labourer_id,
            }
        };
        let rows: Vec<MetaRow> = (0..60).map(row).collect();
        self.table.record_meta(&rows).await.unwrap();
    }
}

// ------------------------------------------------------------------------------------------------------ siblings

/// The suite of [`Siblings`]. `arrived` gives the payloads that have arrived so far, in their order.
pub async fn siblings<S: Siblings>(siblings: &S, arrived: impl AsyncFn() -> Vec<String>) {
    let before = arrived().await.len();
    let payloads = [
        r#"{"file_name": "tasks_queue_r.txt", "hop": 3}"#,
        r#"{"text": "é 日本 \" \\"}"#,
    ];
    for payload in payloads {
        siblings.spawn(payload.to_owned()).await.unwrap();
    }
    assert_eq!(
        arrived().await[before..],
        payloads,
        "each payload arrives as it was sent"
    );
}
