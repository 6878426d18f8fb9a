//! Hostile input: seeded mutations of recorded input go into everything that reads. Each read ends in a value or in a
//! typed error with a sentence, soon, and never in a panic; and what was read keeps its laws.
//!
//! About twelve seconds; `JOBMILL_FUZZ_SECONDS` sets how long; `JOBMILL_SEED` alone replays one input. A failure prints seed,
//! target and input.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs
)]

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use jobmill_core::config::Config;
use jobmill_core::job::estimate::{Estimate, Load};
use jobmill_core::job::event::{self, MAX_RUN_ID, Request, check_file_name, check_run_id};
use jobmill_core::job::period::{self, AsOf};
use jobmill_core::job::plan::Plan;
use jobmill_core::json::{self, Document, MAX_DEPTH, MAX_TEXT_BYTES};
use jobmill_core::queue::lock::{Counters, Cursor, Lock};
use jobmill_core::queue::names::LOCK_PREFIX;
use jobmill_core::queue::receipt::Receipt;
use jobmill_core::task::greenfield::Greenfield;
use jobmill_core::task::item::{MAX_ITEM_BYTES, item_bytes};
use jobmill_core::task::row::payload_of;
use jobmill_core::warning::MAX_WARNINGS;
use jobmill_core::{Error, ErrorKind, Warning};
use jobmill_memory::Rng;
use serde_json::{Map, Value, json};

/// One input may take so long, on a busy machine and without optimisation.
const SLOWEST: Duration = Duration::from_secs(20);
/// Rows are only made one by one up to here.
const MOST_ROWS: u64 = 20_000;
const MOST_BYTES: u64 = 8 << 20;
/// So many failures are enough.
const MOST_BROKEN: u64 = 5;
/// The whole process may take so much memory.
const MOST_MEMORY_KB: u64 = 2 << 20;

fn from_environment(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().expect("a whole number"),
        Err(_) => default,
    }
}

// What is read, and what must hold.

fn sentence(error: &Error) {
    assert!(!error.sentence.trim().is_empty() && !error.kind.name().is_empty());
    assert!(
        error.sentence.len() < 20_000,
        "a sentence of {} bytes",
        error.sentence.len()
    );
}

fn config_of(text: &str) -> Option<Config> {
    match Config::parse(text) {
        Ok(config) => Some(config),
        Err(refused) => {
            assert!(!refused.problems.is_empty());
            for problem in &refused.problems {
                assert!(!problem.sentence.trim().is_empty() && problem.path.starts_with('$'));
            }
            sentence(&Error::from(refused));
            None
        }
    }
}

/// The keys of a queue file lie below the prefix, and S3 takes them.
fn keys(config: &Config, file_name: &str) {
    let prefix = config.key("");
    for (name, folders) in [
        (file_name.to_owned(), 0),
        (format!("{LOCK_PREFIX}{file_name}"), 0),
        (format!("done/{file_name}.json"), 1),
    ] {
        let key = config.key(&name);
        let rest = key.strip_prefix(&prefix).expect("below the prefix");
        assert_eq!(rest.matches('/').count(), folders, "{key:?}");
        assert!(
            rest.split('/').all(|part| !matches!(part, "" | "." | "..")),
            "{key:?}"
        );
        assert!(
            !rest.contains('\\') && !rest.chars().any(char::is_control),
            "{key:?}"
        );
        assert!(key.len() <= 1024, "S3 takes keys of 1024 bytes: {}", key.len());
    }
}

fn read_config(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    if let Some(config) = config_of(text) {
        keys(&config, &config.file_name("run"));
        assert!(config.max_tasks_per_job >= 1 && config.lease_seconds >= 15);
    }
}

/// Read in place or as a tree: the same values, written in the same way, or the same words for what is wrong.
fn read_document(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    match (Document::parse(text), serde_json::from_str::<Value>(text)) {
        // Such a key `serde_json` would take for its own.
        (Ok(document), _) if document.root().to_string().contains("$serde_json::private::") => {}
        (Ok(document), Ok(tree)) => {
            assert_eq!(document.root().to_string(), tree.to_string());
            assert_eq!(document.root().to_value(), tree);
        }
        (Err(why), Err(error)) if error.to_string().starts_with("recursion limit") => {
            assert!(why.starts_with("is nested deeper"), "{why}");
        }
        (Err(why), Err(error)) => assert_eq!(why, format!("is not JSON: {error}")),
        (Ok(document), Err(error)) => panic!("read as {document:?}, and it is wrong: {error}"),
        (Err(why), Ok(tree)) => panic!("{tree} {why}"),
    }
}

/// `{"config": ..., "event": ..., "as_of": ...}`, the form of the recorded cases.
fn read_job(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let case = match json::parse(text) {
        Ok(case) => case,
        Err(why) => return assert!(!why.trim().is_empty()),
    };
    let Some(config) = case
        .get("config")
        .and_then(|config| config_of(&config.to_string()))
    else {
        return;
    };
    // As the bootstrap does: the event comes as text.
    let Some(event) = case
        .get("event")
        .and_then(|event| Document::parse(event.to_string()).ok())
    else {
        return;
    };
    let as_of = case.get("as_of").and_then(Value::as_str).and_then(AsOf::parse);
    match event::read(event) {
        Err(error) => sentence(&error),
        Ok(Request::Sweep) => {}
        Ok(Request::Continue(continuation)) => keys(&config, &continuation.file_name),
        Ok(Request::Job(request)) => {
            if let Some(run_id) = &request.run_id {
                keys(&config, &config.file_name(run_id));
            }
            let again = request.clone();
            let mut strict = request.clone();
            strict.strict = true;
            let now = AsOf::parse("2024-03-06").unwrap();
            match Plan::make(&config, request, as_of, now) {
                Err(error) => sentence(&error),
                Ok(plan) => {
                    rows(&config, &plan);
                    let twin = Plan::make(&config, again, as_of, now).expect("the same plan again");
                    assert_eq!(twin.fingerprint, plan.fingerprint);
                    assert_eq!(twin.chunks.byte_count(), plan.chunks.byte_count());
                    assert_eq!(twin.warnings, plan.warnings);
                    warnings(&plan.warnings);
                    // Refused exactly if there is something to warn of.
                    let quiet = plan.warnings.is_empty() && config.warnings.is_empty();
                    assert_eq!(Plan::make(&config, strict, as_of, now).is_ok(), quiet);
                }
            }
        }
    }
}

/// Warnings are few and short, whatever is warned of, and their paths can be printed.
fn warnings(warnings: &[Warning]) {
    assert!(warnings.len() <= MAX_WARNINGS + 1);
    for warning in warnings {
        assert!(warning.path.starts_with('$') && !warning.path.contains(char::is_control));
        assert!(!warning.sentence.is_empty() && warning.to_string().len() < 64 << 10);
    }
}

fn rows(config: &Config, plan: &Plan) {
    let chunks = &plan.chunks;
    assert!(chunks.row_count() <= config.max_tasks_per_job);
    assert!(Estimate::of(&Load::of(plan, config, 512)).usd().is_finite());
    if chunks.row_count() > MOST_ROWS || chunks.byte_count() > MOST_BYTES {
        return;
    }
    let (mut count, mut bytes, mut longest) = (0, 0, 0);
    let mut made = chunks.rows();
    while let Some(row) = made.next_row() {
        let value: Value = serde_json::from_slice(row).expect("a row is JSON");
        assert_eq!(value["labourer_id"], json!(plan.labourer_id));
        let (labourer_id, payload) = payload_of(row).expect("a row of ours is a task");
        assert_eq!(labourer_id, plan.labourer_id);
        let item = item_bytes(&config.tables.fields, &labourer_id, payload.len() as u64);
        assert!(item <= MAX_ITEM_BYTES, "an item of {item} bytes");
        count += 1;
        bytes += row.len() as u64 + 1;
        longest = longest.max(row.len() as u64);
    }
    assert_eq!(count, chunks.row_count(), "the count is the length");
    assert_eq!(bytes, chunks.byte_count(), "the size");
    assert_eq!(longest, chunks.longest_row(), "the longest row");
    let middle = count / 2;
    assert_eq!(
        chunks.rows_from(middle).next(),
        chunks.rows().nth(usize::try_from(middle).unwrap())
    );
}

fn read_lock(input: &[u8]) {
    let lock = match Lock::parse("locked_x.txt", input) {
        Ok(lock) => lock,
        Err(error) => {
            assert_eq!(error.kind, ErrorKind::DamagedQueue);
            return sentence(&error);
        }
    };
    let back = |lock: &Lock| Lock::parse("locked_x.txt", &lock.to_json());
    assert_eq!(back(&lock).as_ref(), Ok(&lock));
    let lane = lock.greenfields().expect("checked while it was read");
    for row in [0, lock.cursor.row, lock.rows] {
        let written = lane.at(row).to_string();
        assert_eq!(Greenfield::parse(&written), Some(lane.at(row)), "{written}");
    }
    let free = lock.is_free(Duration::from_secs(u64::from(u32::MAX) + 3));
    assert!(free);
    // Whatever a holder makes of it is a lock again.
    let taken = lock.taken_over("nonce", 1, 30);
    let moved = taken.advanced(
        Cursor {
            row: taken.claimed,
            byte: 1,
        },
        u64::MAX,
        Counters::default(),
    );
    let released = moved.released(moved.cursor, moved.claimed, Counters::default(), None);
    for next in [&taken, &moved, &released] {
        assert_eq!(back(next).as_ref(), Ok(next), "what follows");
        assert!(next.epoch > lock.epoch && next.rev > lock.rev);
    }
    let receipt = Receipt::of(&released, Counters::default(), 0);
    assert_eq!(Receipt::parse("r", &receipt.to_json()), Ok(receipt));
}

fn read_receipt(input: &[u8]) {
    match Receipt::parse("done/x.json", input) {
        Ok(receipt) => assert_eq!(Receipt::parse("x", &receipt.to_json()), Ok(receipt)),
        Err(error) => {
            assert_eq!(error.kind, ErrorKind::DamagedQueue);
            sentence(&error);
        }
    }
}

fn read_row(input: &[u8]) {
    let (labourer_id, payload) = match payload_of(input) {
        Ok(found) => found,
        Err(error) => {
            assert_eq!(error.kind, ErrorKind::DamagedQueue);
            return sentence(&error);
        }
    };
    assert!(!labourer_id.is_empty());
    // A payload may only grow by how numbers are written.
    assert!(
        payload.len() <= input.len() * 4 / 3 + 16,
        "{} from {}",
        payload.len(),
        input.len()
    );
    // The slow way to the same payload.
    let Ok(payload) = json::parse(&payload) else {
        return;
    };
    let Ok(Value::Object(mut row)) = json::parse(std::str::from_utf8(input).unwrap()) else {
        return;
    };
    let payload = payload.as_object().expect("a payload is an object");
    assert_eq!(row.shift_remove("labourer_id"), Some(json!(labourer_id)));
    if row.shift_remove("payload").is_none() {
        assert_eq!(payload, &row, "the row without its labourer");
    } else {
        let over = row.iter().all(|(key, value)| payload.get(key) == Some(value));
        assert!(over, "what stands in the row wins");
    }
}

fn read_name(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let config = Config::read(&json!({ "queue_bucket": "b", "s3_prefix": "p".repeat(400) })).unwrap();
    match check_file_name(text) {
        Ok(name) => keys(&config, &name),
        Err(error) => sentence(&error),
    }
    match check_run_id("run_id", text) {
        Ok(run_id) => {
            let file_name = config.file_name(&run_id);
            keys(&config, &file_name);
            assert_eq!(
                check_file_name(&file_name),
                Ok(file_name),
                "a continuation can name it"
            );
        }
        Err(error) => sentence(&error),
    }
}

fn read_period(input: &[u8]) {
    let text = String::from_utf8_lossy(input).into_owned();
    if let Some(as_of) = AsOf::parse(&text) {
        assert_eq!(AsOf::parse(&as_of.to_text()), Some(as_of));
    }
    let utc = jobmill_core::job::schema::Schema::empty("x").timezone;
    let today = AsOf::parse("2024-03-06").unwrap().date_in(&utc);
    match period::expand(Document::from(json!(text)).root(), today) {
        Ok(dates) => {
            assert!(
                !dates.is_empty() && dates.len() < 3_652_060,
                "{} dates",
                dates.len()
            );
            assert!(dates.is_sorted() && dates.iter().all(|date| *date <= today));
        }
        Err(error) => {
            assert_eq!(error.kind, ErrorKind::InvalidJob);
            sentence(&error);
        }
    }
}

fn read_number(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    if let Some(number) = Greenfield::parse(&text) {
        let written = number.to_string();
        assert_eq!(Greenfield::parse(&written), Some(number), "{written}");
        assert!(written.len() <= 32, "DynamoDB takes 38 digits: {written}");
    }
}

// How input is made.

/// What reads an input, and inputs that it reads.
struct Target {
    name: &'static str,
    read: fn(&[u8]),
    corpus: Vec<Vec<u8>>,
    /// How many of a hundred inputs are for it.
    share: u64,
}

fn targets() -> Vec<Target> {
    let golden: Vec<Value> = include_str!("../data/golden.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .map(
            |case: Value| json!({ "as_of": case["as_of"], "config": case["config"], "event": case["event"] }),
        )
        .chain([
            sample(
                include_str!("../jobs/nightly/jobmill.json"),
                include_str!("../jobs/nightly/event.json"),
            ),
            sample(
                include_str!("../jobs/nightly/jobmill.json"),
                include_str!("../jobs/nightly/job.json"),
            ),
            sample(
                include_str!("../jobs/retail/jobmill.json"),
                include_str!("../jobs/retail/job.json"),
            ),
            sample(
                include_str!("../jobs/variants/jobmill.json"),
                include_str!("../jobs/variants/job.json"),
            ),
            sample(
                include_str!("../jobs/variants/jobmill.json"),
                include_str!("../jobs/variants/whole.json"),
            ),
        ])
        .collect();
    let text = |value: &Value| value.to_string().into_bytes();
    let lines = |text: &str| -> Vec<Vec<u8>> { text.lines().map(|line| line.as_bytes().to_vec()).collect() };
    let target = |name, read: fn(&[u8]), share, corpus: Vec<Vec<u8>>| Target {
        name,
        read,
        corpus,
        share,
    };
    vec![
        target("job", read_job, 34, golden.iter().map(text).collect()),
        target("document", read_document, 6, golden.iter().map(text).collect()),
        target(
            "config",
            read_config,
            12,
            golden.iter().map(|case| text(&case["config"])).collect(),
        ),
        target(
            "lock",
            read_lock,
            12,
            lines(include_str!("../fuzz/corpus/lock.txt")),
        ),
        target(
            "receipt",
            read_receipt,
            5,
            lines(include_str!("../fuzz/corpus/receipt.txt")),
        ),
        target("row", read_row, 12, lines(include_str!("../fuzz/corpus/row.txt"))),
        target(
            "name",
            read_name,
            7,
            lines(include_str!("../fuzz/corpus/name.txt")),
        ),
        target(
            "period",
            read_period,
            6,
            lines(include_str!("../fuzz/corpus/period.txt")),
        ),
        target(
            "number",
            read_number,
            6,
            lines(include_str!("../fuzz/corpus/number.txt")),
        ),
    ]
}

fn sample(config: &str, event: &str) -> Value {
    let [config, event] = [config, event].map(|text| serde_json::from_str::<Value>(text).unwrap());
    json!({ "as_of": "2024-03-06", "config": config, "event": event })
}

/// Words that mean something to a reader.
const WORDS: [&str; 52] = [
    "lambda_name",
    "job",
    "run_id",
    "as_of",
    "period",
    "date_list",
    "strict",
    "isolate_stors",
    "max_stores_per_batch",
    "strores",
    "periods",
    "isolate_",
    "isolate_days",
    "job_schema_name",
    "file_name",
    "hop",
    "sweep",
    "detail",
    "detail-type",
    "source",
    "time",
    "id",
    "sections",
    "section",
    "stores",
    "store",
    "isolate_sections",
    "isolate_section",
    "isolate_stores",
    "max_sections_per_batch",
    "max_section_per_batch",
    "max_stores_per_batch",
    "payload",
    "labourer_id",
    "task_id",
    "greenfield",
    "attempts",
    "version",
    "epoch",
    "rev",
    "cursor",
    "claimed",
    "rows",
    "step",
    "first_greenfield",
    "stopped",
    "counters",
    "holder",
    "chunkable_attrs",
    "plural",
    "max_tasks_per_job",
    "",
];

const TEXTS: [&str; 28] = [
    "last_7_days",
    "last_3000_days",
    "last_700000_days",
    "0_days_back",
    "previous_2_days",
    "yesterday",
    "true",
    "on",
    "0",
    "1",
    "..",
    "../x",
    "%2e%2e%2f",
    "\u{0}",
    "\u{2028}",
    "\u{fffe}",
    "\u{202e}txt",
    "{\"lambda_name\": \"w\"}",
    "[",
    "2024-03-06",
    "2024-02-30",
    "last_5_day",
    "0001-01-01",
    "9999-12-31T23:59:59+23:59",
    "default",
    "$serde_json::private::Number",
    "always",
    "Pacific/Kiritimati",
];

const NUMBERS: [&str; 20] = [
    "0",
    "-0",
    "1",
    "2",
    "7",
    "-1",
    "1.5",
    "1e0",
    "1E400",
    "1e-400",
    "255",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "1e20",
    "100000000000000000000.000000001",
    "123456789012345678901234567890123456789012345678901234567890",
];

fn pick<'a, T>(rng: &Rng, from: &'a [T]) -> &'a T {
    &from[usize::try_from(rng.below(from.len() as u64)).unwrap()]
}

/// Something to put in a place: a leaf, something small, something deep, something wide.
fn fragment(rng: &Rng) -> Value {
    match rng.below(16) {
        0 => Value::Null,
        1 => json!(rng.below(2) == 0),
        2 | 3 => serde_json::from_str(pick::<&str>(rng, &NUMBERS)).unwrap(),
        4 | 5 => json!(pick(rng, &TEXTS)),
        6 => json!(pick(rng, &WORDS)),
        7 => json!([]),
        8 => json!({}),
        9 => json!([fragment(rng), fragment(rng)]),
        10 => json!({ *pick(rng, &WORDS): fragment(rng) }),
        11 => json!({ "a": fragment(rng), "b": { *pick(rng, &WORDS): fragment(rng) }, "c": null }),
        12 => (0..rng.below(140)).fold(json!(1), |inner, _| Value::Array(vec![inner])),
        13 => {
            let word = pick(rng, &WORDS);
            (0..rng.below(140)).fold(json!(1), |inner, _| {
                Value::Object(Map::from_iter([((*word).to_owned(), inner)]))
            })
        }
        14 => (0..rng.below(400)).map(|at| json!(at)).collect(),
        _ => json!("x".repeat(1 << rng.below(13))),
    }
}

/// A place somewhere in a value, each with some likelihood.
fn place<'a>(rng: &Rng, value: &'a mut Value) -> &'a mut Value {
    let children = match value {
        Value::Array(items) => items.len(),
        Value::Object(map) => map.len(),
        _ => 0,
    };
    if children == 0 || rng.below(4) == 0 {
        return value;
    }
    let at = usize::try_from(rng.below(children as u64)).unwrap();
    match value {
        Value::Array(items) => place(rng, &mut items[at]),
        Value::Object(map) => place(rng, map.values_mut().nth(at).unwrap()),
        leaf => leaf,
    }
}

fn mutate_value(rng: &Rng, value: &mut Value, other: &mut Value) {
    let spot = place(rng, value);
    match (rng.below(9), spot) {
        (0, spot) => *spot = place(rng, other).clone(),
        (1, spot) => *spot = Value::String(spot.to_string()),
        (2..=4, Value::Object(map)) => {
            map.insert((*pick(rng, &WORDS)).to_owned(), fragment(rng));
        }
        (5, Value::Object(map)) if !map.is_empty() => {
            let at = usize::try_from(rng.below(map.len() as u64)).unwrap();
            let key = map.keys().nth(at).unwrap().clone();
            let moved = map.shift_remove(&key).unwrap();
            if rng.below(2) == 0 {
                map.insert((*pick(rng, &WORDS)).to_owned(), moved);
            }
        }
        (6, Value::Object(map)) => {
            // The same values under new names: more of everything.
            let more: Map<String, Value> = map
                .iter()
                .map(|(key, value)| (format!("{key}{}", rng.below(9)), value.clone()))
                .take(50)
                .collect();
            map.extend(more);
        }
        (2..=6, Value::Array(items)) => {
            items.push(fragment(rng));
            let again: Vec<Value> = items.iter().take(50).cloned().collect();
            items.extend(again);
        }
        (7, Value::String(text)) => text.push_str(pick::<&str>(rng, &TEXTS)),
        (_, spot) => *spot = fragment(rng),
    }
}

fn mutate_bytes(rng: &Rng, bytes: &mut Vec<u8>) {
    let len = bytes.len() as u64;
    let at = usize::try_from(rng.below(len + 1)).unwrap();
    let to = at + usize::try_from(rng.below(len + 1 - at as u64)).unwrap().min(64);
    match rng.below(8) {
        0 if at < bytes.len() => bytes[at] ^= 1 << rng.below(8),
        1 => bytes.insert(at, rng.below(256) as u8),
        2 => drop(bytes.drain(at..to)),
        3 => bytes.truncate(at),
        4 => {
            let again = bytes[at..to].to_vec();
            bytes.splice(at..at, again);
        }
        5 => drop(bytes.splice(at..to, pick(rng, &NUMBERS).bytes())),
        6 => drop(bytes.splice(at..at, pick(rng, &TEXTS).bytes())),
        _ => drop(bytes.splice(at..at, pick(rng, &WORDS).bytes())),
    }
}

fn input(rng: &Rng, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = pick(rng, corpus).clone();
    if rng.below(4) > 0
        && let Ok(mut value) = serde_json::from_slice::<Value>(&bytes)
    {
        let mut other = serde_json::from_slice(pick::<Vec<u8>>(rng, corpus)).unwrap_or(Value::Null);
        for _ in 0..=rng.below(6) {
            mutate_value(rng, &mut value, &mut other);
        }
        bytes = value.to_string().into_bytes();
        if rng.below(8) > 0 {
            return bytes;
        }
    }
    for _ in 0..=rng.below(4) {
        mutate_bytes(rng, &mut bytes);
    }
    bytes
}

/// The most memory that this process ever had; nothing where the system does not say.
fn peak_memory_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// What is being read, for whoever finds that it takes too long.
type Current = std::sync::Arc<std::sync::Mutex<Option<(Instant, String)>>>;

/// Ends the process, with the input, if one is read for too long.
fn watch(current: &Current) {
    let current = std::sync::Arc::downgrade(current);
    std::thread::spawn(move || {
        while let Some(current) = current.upgrade() {
            if let Some((since, what)) = &*current.lock().unwrap()
                && since.elapsed() > SLOWEST
            {
                eprintln!("read for more than {SLOWEST:?}: {what}");
                std::process::abort();
            }
            drop(current);
            std::thread::sleep(Duration::from_millis(500));
        }
    });
}

fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    match text.char_indices().nth(20_000) {
        Some((at, _)) => format!("{} ... ({} bytes)", &text[..at], bytes.len()),
        None => text.into_owned(),
    }
}

/// Feeds one input to its target. `false` if it broke.
fn holds(target: &Target, seed: u64, bytes: &[u8], current: &Current) -> bool {
    let what = || format!("target {}, seed {seed}, input:\n{}", target.name, shown(bytes));
    *current.lock().unwrap() = Some((Instant::now(), what()));
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.read)(bytes)));
    *current.lock().unwrap() = None;
    if outcome.is_err() {
        println!("broken: {}", what());
    }
    outcome.is_ok()
}

#[test]
fn nothing_that_comes_from_outside_breaks_a_reader() {
    let seconds = from_environment("JOBMILL_FUZZ_SECONDS", 12);
    let only = std::env::var("JOBMILL_SEED").is_ok();
    let first = from_environment("JOBMILL_SEED", 0);
    let begun = Instant::now();
    let current = Current::default();
    watch(&current);
    let targets = targets();
    let mut read: BTreeMap<&str, (u64, Duration)> = BTreeMap::new();
    let mut slowest = (Duration::ZERO, String::new());
    let mut broken = 0;
    for target in &targets {
        for bytes in &target.corpus {
            broken += u64::from(!holds(target, 0, bytes, &current));
        }
    }
    let mut seed = first;
    while begun.elapsed().as_secs() < seconds && broken < MOST_BROKEN {
        let rng = Rng::new(seed);
        let mut chosen = rng.below(100);
        let target = targets
            .iter()
            .find(|target| {
                let found = chosen < target.share;
                chosen = chosen.saturating_sub(target.share);
                found
            })
            .expect("the shares make a hundred");
        let bytes = input(&rng, &target.corpus);
        let since = Instant::now();
        broken += u64::from(!holds(target, seed, &bytes, &current));
        let (count, time) = read.entry(target.name).or_default();
        *count += 1;
        *time += since.elapsed();
        if since.elapsed() > slowest.0 {
            slowest = (since.elapsed(), format!("{} by seed {seed}", target.name));
        }
        if only && seconds == 12 {
            break;
        }
        seed += 1;
    }
    let total: u64 = read.values().map(|(count, _)| count).sum();
    let peak = peak_memory_kb();
    println!(
        "{total} inputs in {:?}: {read:?}; slowest {slowest:?}; {peak} kB at most",
        begun.elapsed()
    );
    assert_eq!(broken, 0, "see above for seeds and inputs");
    assert!(peak < MOST_MEMORY_KB, "{peak} kB of memory");
}

// Limits, each with a sentence of its own.

fn plain() -> Config {
    Config::read(&json!({
        "queue_bucket": "b",
        "task_config": { "labourers": { "worker": {} } },
        "job_schema": { "chunkable_attrs": ["section", "store"] },
    }))
    .unwrap()
}

fn planned(event: Value) -> Result<Plan, Error> {
    match event::read(event)? {
        Request::Job(request) => Plan::make(&plain(), request, None, AsOf::parse("2024-03-06").unwrap()),
        other => panic!("not a job: {other:?}"),
    }
}

fn refused(event: Value, kind: ErrorKind, part: &str) {
    let error = planned(event).map(|plan| plan.chunks.row_count()).unwrap_err();
    assert_eq!(error.kind, kind, "{error}");
    assert!(error.sentence.contains(part), "{error} should contain {part:?}");
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(json::parse(&nested(MAX_DEPTH)).is_ok());
    let too_deep = format!("is nested deeper than {MAX_DEPTH} levels: flatten it");
    for depth in [MAX_DEPTH + 1, 200, 1_000_000] {
        assert_eq!(json::parse(&nested(depth)).unwrap_err(), too_deep);
        let objects = "{\"a\":".repeat(depth);
        assert_eq!(json::parse(&objects).unwrap_err(), too_deep);
    }
    // A job given as text, and a payload within a row.
    let job = format!("{{\"lambda_name\":\"worker\",\"x\":{}}}", nested(200));
    refused(
        json!({ "job": job }),
        ErrorKind::InvalidEvent,
        &format!("`job` {too_deep}"),
    );
    let row = format!("{{\"labourer_id\":\"worker\",\"x\":{}}}", nested(200));
    assert_eq!(
        payload_of(row.as_bytes()).unwrap_err().kind,
        ErrorKind::DamagedQueue
    );
    let lock = format!("{{\"version\":1,\"run\":{}}}", nested(200));
    assert_eq!(
        Lock::parse("locked_x", lock.as_bytes()).unwrap_err().kind,
        ErrorKind::DamagedQueue
    );
    // Splitting what is as deep as it may be.
    let deep: Value = (0..MAX_DEPTH - 4).fold(json!(null), |inner, _| {
        Value::Object(Map::from_iter([("a".to_owned(), inner)]))
    });
    let plan = planned(json!({ "lambda_name": "worker", "isolate_stores": true, "sections": deep })).unwrap();
    assert_eq!(plan.chunks.rows().count(), 1);
}

#[test]
fn a_row_is_nested_no_deeper_than_a_job_whatever_its_last_member() {
    let row = format!(
        "{{\"x\":{}{},\"labourer_id\":\"worker\"}}",
        "[".repeat(200),
        "]".repeat(200)
    );
    assert_eq!(
        payload_of(row.as_bytes()).map(|(labourer, _)| labourer),
        Err(Error::new(
            ErrorKind::DamagedQueue,
            format!("the row is nested deeper than {MAX_DEPTH} levels: flatten it")
        ))
    );
}

#[test]
fn the_size_of_a_text_is_bounded() {
    let text = " ".repeat(MAX_TEXT_BYTES + 1);
    let begun = Instant::now();
    let why = json::parse(&text).unwrap_err();
    assert_eq!(
        why,
        format!(
            "has {} bytes, and at most {MAX_TEXT_BYTES} are read: split it",
            text.len()
        )
    );
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "refused before it is read"
    );
}

#[test]
fn the_number_of_tasks_is_bounded_before_any_is_made() {
    let sections: Vec<u32> = (0..1_001).collect();
    let job = json!({ "lambda_name": "worker", "isolate_sections": true, "isolate_days": true, "sections": sections,
        "period": "last_1000_days" });
    refused(
        job,
        ErrorKind::FanOutTooLarge,
        "the job would become 1001000 tasks, and `max_tasks_per_job` is 1000000",
    );
    // Many times more than could ever be made.
    let stores: Map<String, Value> = (0..2_000)
        .map(|store| (format!("s{store}"), json!({ "stores": sections })))
        .collect();
    let job = json!({ "lambda_name": "worker", "isolate_stores": true, "isolate_days": true, "sections": stores,
        "period": "last_300000_days" });
    refused(
        job,
        ErrorKind::FanOutTooLarge,
        "the job would become 600600000000 tasks",
    );
}

#[test]
fn dates_end_with_the_calendar() {
    let job = |period: &str| json!({ "lambda_name": "worker", "isolate_days": true, "period": period });
    let plan = planned(job("last_700000_days")).unwrap();
    assert_eq!(plan.chunks.row_count(), 700_000);
    assert!(
        plan.chunks
            .rows_from(699_999)
            .next()
            .unwrap()
            .starts_with(b"{\"date_list\":[\"2024-03-05\"]")
    );
    for period in [
        "last_800000_days",
        "previous_400000_days",
        "99999999999999999999999_days_back",
    ] {
        refused(job(period), ErrorKind::InvalidJob, "leaves the years 1 to 9999");
    }
    // All of them in one task are too much for an item.
    let together = json!({ "lambda_name": "worker", "isolate_sections": true, "sections": [1], "period": "last_700000_days" });
    refused(together, ErrorKind::TaskTooLarge, "DynamoDB takes 409600");
}

#[test]
fn the_width_of_an_item_is_bounded() {
    let around = item_bytes(&plain().tables.fields, "worker", 0);
    let empty = "{\"x\":\"\"}".len() as u64;
    let widest = usize::try_from(MAX_ITEM_BYTES - around - empty).unwrap();
    let job = |width: usize| json!({ "lambda_name": "worker", "x": "x".repeat(width) });
    assert!(planned(job(widest)).is_ok());
    refused(
        job(widest + 1),
        ErrorKind::TaskTooLarge,
        "an item of 409601 bytes, and DynamoDB takes 409600",
    );
}

/// Or the run could be begun and not be handed on.
#[test]
fn the_file_of_every_run_can_be_named_in_a_continuation() {
    for run_id in [
        "a",
        ".",
        "..",
        "a.",
        ".a",
        "a..b",
        "-",
        "_",
        &"a".repeat(MAX_RUN_ID),
    ] {
        if let Ok(run_id) = check_run_id("run_id", run_id) {
            let file_name = plain().file_name(&run_id);
            assert_eq!(
                check_file_name(&file_name),
                Ok(file_name.clone()),
                "of run {run_id:?}"
            );
        }
    }
}

#[test]
fn no_name_leaves_the_prefix() {
    let config = plain();
    let long = "x".repeat(513);
    let hostile = [
        "",
        ".",
        "..",
        "/",
        "//",
        "/etc/passwd",
        "../x",
        "a/../b",
        "a/b",
        "a\\b",
        "..\\x",
        "\0",
        "a\0b",
        "a\nb",
        "a\rb",
        "\u{85}",
        "\u{7f}",
        &long,
    ];
    for name in hostile {
        let error = check_file_name(name).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidEvent);
        assert!(error.sentence.starts_with("`file_name` is"), "{error}");
        // A run id stands in the middle of a name, so dots can't lead anywhere.
        if !name
            .bytes()
            .all(|byte| byte == b'.' || byte.is_ascii_alphanumeric())
            || name.len() > MAX_RUN_ID
        {
            assert!(check_run_id("run_id", name).is_err(), "{name:?}");
        }
    }
    // Odd, but one segment; S3 gets them percent-encoded once more.
    for name in [
        "%2e%2e%2fx",
        "%00",
        "é",
        "․․",
        "x ",
        "\u{202e}txt.exe",
        "~",
        "a:b",
        "?x=1",
        "#",
        "*",
        &long[..512],
    ] {
        keys(&config, &check_file_name(name).unwrap());
    }
    let longest = "a".repeat(MAX_RUN_ID);
    assert!(check_run_id("run_id", &longest).is_ok());
    for name in ["%2e", "é", "a b", "․", "a：b", &"a".repeat(MAX_RUN_ID + 1)] {
        assert!(check_run_id("run_id", name).is_err(), "{name:?}");
    }
    assert!(check_run_id("run_id", "nightly-2022-03-22T18:59:43Z").is_ok());
    // A run may be called so, its lock may not be taken for a queue file.
    assert!(check_run_id("run_id", "locked_x").is_ok());
    assert!(check_file_name("locked_tasks_queue_x.txt").is_err());
    for event in [
        json!({ "file_name": "../x" }),
        json!({ "file_name": ["x"] }),
        json!({ "file_name": null }),
    ] {
        assert_eq!(event::read(event).unwrap_err().kind, ErrorKind::InvalidEvent);
    }
}
