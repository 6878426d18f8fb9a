//! The lock against a model of it: random deeds of several holders, each with what it last knew. And documents that are
//! none: they are refused with a clear error, and never overwritten.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use std::time::Duration;

use bytes::Bytes;
use jobmill_core::ErrorKind;
use jobmill_core::config::Config;
use jobmill_core::job::event;
use jobmill_core::queue::lock::{Counters, Cursor, LEASE_MARGIN, Lock, MAX_LOCK_BYTES, NewLock};
use jobmill_core::task::greenfield::{Greenfield, GreenfieldRange};
use jobmill_engine::EngineError;
use jobmill_engine::Limits;
use jobmill_engine::ports::{ETag, Metadata, PutIf};
use jobmill_engine::schedule::{Context, Engine, Observation, Outcome};
use jobmill_memory::{Bucket, MemorySiblings, MemoryStore, MemoryTasks, VirtualClock, VirtualHost};
use proptest::prelude::*;
use serde_json::{Value, json};

const ROWS: u64 = 100;
const LEASE: u32 = 30;
const KEY: &str = "p/locked_tasks_queue_run.txt";

fn cases(count: u32) -> ProptestConfig {
    ProptestConfig {
        cases: count,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn new_lock(holder: &str, claimed: u64) -> Lock {
    let new = NewLock {
        run: "run".to_owned(),
        fingerprint: "digest".to_owned(),
        as_of: None,
        rows: ROWS,
        range: GreenfieldRange {
            first: Greenfield::from_millis(2_000_000),
            step: Greenfield::from_millis(500),
        },
        lease_seconds: LEASE,
        hop: 0,
        started_ms: 1_709_701_600_000,
    };
    Lock::create(new, holder, claimed)
}

// ---------------------------------------------------------------------------------------------------- the model

#[derive(Debug, Clone)]
enum Deed {
    Look,
    Create { claimed: u64 },
    TakeOver,
    Advance { row: u64, ahead: u64 },
    Release { row: u64, sent: u64 },
    Delete,
    Wait { seconds: u64 },
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        2 => Just(Deed::Look),
        2 => (0..=2 * ROWS).prop_map(|claimed| Deed::Create { claimed }),
        3 => Just(Deed::TakeOver),
        4 => (0..=ROWS, 0..=ROWS).prop_map(|(row, ahead)| Deed::Advance { row, ahead }),
        2 => (0..=ROWS, 0..=ROWS).prop_map(|(row, sent)| Deed::Release { row, sent }),
        1 => Just(Deed::Delete),
        2 => (0..50_u64).prop_map(|seconds| Deed::Wait { seconds }),
    ]
}

/// What the lock should be: numbers, no documents.
#[derive(Debug, Clone, PartialEq)]
struct Model {
    /// Told apart by this: which write it was.
    write: u64,
    holder: Option<usize>,
    epoch: u64,
    rev: u64,
    cursor: u64,
    claimed: u64,
    since: u64,
}

/// What a holder last knew: the document, its tag, and which write that was.
type Known = Option<(Lock, ETag, u64)>;

fn cursor(row: u64) -> Cursor {
    Cursor { row, byte: row * 10 }
}

fn play(deeds: Vec<(usize, Deed)>) -> Result<(), TestCaseError> {
    let mut bucket = Bucket::default();
    let mut model: Option<Model> = None;
    let mut known: [Known; 3] = [None, None, None];
    let (mut seconds, mut writes) = (0, 0);
    for (who, deed) in deeds {
        let now = Duration::from_secs(seconds);
        let name = format!("nonce-{who}");
        let stored = bucket.get(now, KEY, MAX_LOCK_BYTES).unwrap();
        // What the deed writes, under which condition, and what the model makes of it.
        let (lock, condition, next) = match deed {
            Deed::Wait { seconds: more } => {
                seconds += more;
                continue;
            }
            Deed::Look => {
                known[who] = stored.map(|object| {
                    let lock = Lock::parse(KEY, &object.body).unwrap();
                    (lock, object.etag, model.as_ref().unwrap().write)
                });
                continue;
            }
            Deed::Delete => {
                let Some((_, etag, write)) = &known[who] else {
                    continue;
                };
                let current = model.as_ref().is_none_or(|model| model.write == *write);
                prop_assert_eq!(bucket.delete(KEY, Some(etag)).is_ok(), current);
                if current {
                    model = None;
                }
                continue;
            }
            Deed::Create { claimed } => {
                let fresh = Model {
                    write: 0,
                    holder: Some(who),
                    epoch: 1,
                    rev: 1,
                    cursor: 0,
                    claimed: claimed.min(ROWS),
                    since: seconds,
                };
                // A nonce for each creation, as the engine has one for each invocation.
                let lock = new_lock(&format!("{name}-{writes}"), claimed);
                (lock, PutIf::Absent, model.is_none().then_some(fresh))
            }
            Deed::TakeOver => {
                let (Some((lock, etag, write)), Some(object)) = (&known[who], &stored) else {
                    continue;
                };
                let free = lock.is_free(object.age);
                let old = model.clone().filter(|model| model.write == *write);
                if let Some(model) = &old {
                    let age = seconds - model.since;
                    let run_out = age > u64::from(LEASE) + LEASE_MARGIN.as_secs();
                    prop_assert_eq!(free, model.holder.is_none() || run_out);
                }
                if !free {
                    continue;
                }
                let next = old.map(|old| Model {
                    holder: Some(who),
                    epoch: old.epoch + 1,
                    rev: old.rev + 1,
                    ..old
                });
                (
                    lock.taken_over(&name, 0, LEASE),
                    PutIf::Matches(etag.clone()),
                    next,
                )
            }
            Deed::Advance { row, ahead } => {
                let Some((lock, etag, write)) = &known[who] else {
                    continue;
                };
                if lock.holder.is_none() || row > lock.claimed {
                    continue;
                }
                let next = model
                    .clone()
                    .filter(|model| model.write == *write)
                    .map(|old| Model {
                        rev: old.rev + 1,
                        cursor: old.cursor.max(row),
                        claimed: old.claimed.max((row + ahead).min(ROWS)),
                        ..old
                    });
                let lock = lock.advanced(cursor(row), row + ahead, Counters::default());
                (lock, PutIf::Matches(etag.clone()), next)
            }
            Deed::Release { row, sent } => {
                let Some((lock, etag, write)) = &known[who] else {
                    continue;
                };
                if lock.holder.is_none() || row < lock.cursor.row || row > lock.claimed {
                    continue;
                }
                let next = model
                    .clone()
                    .filter(|model| model.write == *write)
                    .map(|old| Model {
                        holder: None,
                        rev: old.rev + 1,
                        cursor: row,
                        claimed: sent.min(old.claimed).max(row),
                        ..old
                    });
                let lock = lock.released(cursor(row), sent, Counters::default(), None);
                (lock, PutIf::Matches(etag.clone()), next)
            }
        };
        let before = model.clone();
        let answer = bucket.put(
            now,
            KEY,
            Bytes::from(lock.to_json()),
            &Metadata::new(),
            &condition,
        );
        prop_assert_eq!(
            answer.is_ok(),
            next.is_some(),
            "whoever knows an old version is fenced off"
        );
        if let (Ok(etag), Some(next)) = (answer, next) {
            writes += 1;
            let next = Model {
                write: writes,
                since: seconds,
                ..next
            };
            if let Some(before) = &before {
                prop_assert!(next.epoch >= before.epoch && next.rev > before.rev);
                prop_assert!(next.cursor >= before.cursor);
                prop_assert!(next.claimed >= before.claimed || next.holder.is_none());
            }
            known[who] = Some((lock, etag, writes));
            model = Some(next);
        }
        let stored = bucket.get(now, KEY, MAX_LOCK_BYTES).unwrap();
        prop_assert_eq!(stored.is_some(), model.is_some());
        if let (Some(object), Some(model)) = (stored, &model) {
            let lock = Lock::parse(KEY, &object.body).unwrap();
            prop_assert_eq!(
                lock.to_json(),
                object.body.to_vec(),
                "a document reads as it was written"
            );
            let held = lock
                .holder
                .as_deref()
                .map(|holder| holder.split('-').nth(1).unwrap().parse().unwrap());
            let seen = (held, lock.epoch, lock.rev, lock.cursor.row, lock.claimed);
            let should = (model.holder, model.epoch, model.rev, model.cursor, model.claimed);
            prop_assert_eq!(seen, should);
            prop_assert_eq!(
                lock.greenfields(),
                new_lock("x", 0).greenfields(),
                "the lane of a run never changes"
            );
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn the_lock_does_what_its_model_does(deeds in prop::collection::vec((0..3_usize, deed()), 1..80)) {
        play(deeds)?;
    }

    #[test]
    fn a_truncated_document_is_refused(cut in 0.0..1.0_f64) {
        let whole = new_lock("nonce", 50).to_json();
        let end = (whole.len() as f64 * cut) as usize;
        refused(&whole[..end]);
    }

    #[test]
    fn what_is_no_lock_is_refused(body in prop::collection::vec(any::<u8>(), 0..200)) {
        refused(&body);
    }

    #[test]
    fn other_versions_are_refused(version in any::<u32>().prop_filter("another", |version| *version != 1)) {
        let sentence = refused(&changed("version", json!(version)));
        prop_assert!(sentence.contains(&format!("is of version {version}")), "{}", sentence);
    }
}

// ------------------------------------------------------------------------------------------------ what is no lock

/// Refuses a document, and gives the sentence.
fn refused(body: &[u8]) -> String {
    let error = Lock::parse(KEY, body).expect_err("it is no lock");
    assert_eq!(error.kind, ErrorKind::DamagedQueue);
    let sentence = error.to_string();
    assert!(
        sentence.contains(KEY) && sentence.contains("left as it is"),
        "{sentence}"
    );
    sentence
}

/// A good document with one field changed.
fn changed(field: &str, value: Value) -> Vec<u8> {
    let mut document: Value = serde_json::from_slice(&new_lock("nonce", 50).to_json()).unwrap();
    document[field] = value;
    serde_json::to_vec(&document).unwrap()
}

/// Documents that contradict themselves, or that a lock of this make never holds.
fn impossible() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        (
            "cursor behind the claim",
            changed("cursor", json!({ "row": 51, "byte": 510 })),
        ),
        ("claim behind the end", changed("claimed", json!(ROWS + 1))),
        ("no epoch", changed("epoch", json!(0))),
        ("fewer writes than holders", changed("epoch", json!(2))),
        (
            "a greenfield that is none",
            changed("first_greenfield", json!("soon")),
        ),
        ("no step", changed("step", json!("0"))),
        ("a step back", changed("step", json!("-1"))),
        ("a field of another make", changed("lease_until", json!(1))),
        ("a number as text", changed("claimed", json!("50"))),
        (
            "a negative row",
            changed("cursor", json!({ "row": -1, "byte": 0 })),
        ),
        ("a newer version", changed("version", json!(2))),
        ("an older version", changed("version", json!(0))),
        ("a list", b"[]".to_vec()),
        ("nothing", Vec::new()),
        ("half of it", changed("hop", json!(0))[..100].to_vec()),
        (
            "rows that sosw has locked",
            b"{\"section\":\"a\",\"labourer_id\":\"worker\"}\n".to_vec(),
        ),
        ("larger than any lock", vec![b' '; MAX_LOCK_BYTES as usize + 1]),
    ]
}

fn config() -> Config {
    let config = json!({
        "queue_bucket": "queue",
        "s3_prefix": "p",
        "job_schema": { "chunkable_attrs": [["section", {}]] },
        "task_config": { "labourers": { "worker": {} } },
    });
    Config::read(&config).unwrap()
}

fn invoke(
    store: &MemoryStore,
    tasks: &MemoryTasks,
    clock: &VirtualClock,
    event: Value,
) -> Result<Outcome, EngineError> {
    let host = VirtualHost::new(clock.clone(), 7);
    let engine = Engine {
        store,
        tasks,
        siblings: &MemorySiblings::default(),
        host: &host,
        config: &config(),
        limits: Limits::default(),
        request_time: Duration::from_secs(6),
        observer: &|_: Observation<'_>| {},
    };
    let context = Context {
        request_id: "run".to_owned(),
        deadline: clock.now() + Duration::from_secs(900),
    };
    clock
        .run(async { engine.run(event::read(event)?, &context).await })
        .unwrap()
}

/// Jobs, continuations and sweeps meet each of these documents, long after any lease: they say so and leave it alone.
#[test]
fn what_is_no_lock_is_never_overwritten() {
    let job = json!({ "lambda_name": "worker", "isolate_sections": true, "sections": ["a", "b", "c"] });
    for (what, body) in impossible() {
        let clock = VirtualClock::default();
        let (store, tasks) = (MemoryStore::new(clock.clone()), MemoryTasks::new(clock.clone()));
        let body = Bytes::from(body);
        store
            .with(|bucket, now| bucket.put(now, KEY, body.clone(), &Metadata::new(), &PutIf::Absent))
            .unwrap();
        // Beside rows of ours.
        let label = [
            ("jobmill", "rows"),
            ("run", "run"),
            ("rows", "3"),
            ("fingerprint", "0"),
        ];
        let label = label.map(|(key, value)| (key.to_owned(), value.to_owned()));
        store
            .with(|bucket, now| {
                let rows = Bytes::from_static(b"{}\n{}\n{}\n");
                bucket.put(
                    now,
                    "p/tasks_queue_run.txt",
                    rows,
                    &Metadata::from(label),
                    &PutIf::Absent,
                )
            })
            .unwrap();
        clock.advance(Duration::from_secs(3600));
        let continuation = json!({ "file_name": "tasks_queue_run.txt" });
        for event in [&job, &continuation, &json!({ "sweep": true }), &job] {
            let answer = invoke(&store, &tasks, &clock, event.clone());
            match answer {
                Err(error) => assert!(
                    error.to_string().contains("locked_tasks_queue_run.txt"),
                    "{what}: {error}"
                ),
                Ok(Outcome::Swept {
                    files,
                    stopped,
                    unreadable,
                    failed,
                }) => assert!(
                    files.is_empty()
                        && unreadable.is_empty()
                        && failed.is_empty()
                        && stopped == ["tasks_queue_run.txt"],
                    "{what}: {files:?} {stopped:?} {failed:?}"
                ),
                Ok(other) => panic!("{what}: {other:?}"),
            }
            clock.advance(Duration::from_secs(3600));
        }
        assert_eq!(store.body(KEY).unwrap(), body, "{what}");
        let writes =
            store.with(|bucket, _| bucket.history().iter().filter(|change| change.key == KEY).count());
        assert_eq!(writes, 1, "{what}");
        assert!(tasks.with(|tables, _| tables.births.is_empty()), "{what}");
    }
}
