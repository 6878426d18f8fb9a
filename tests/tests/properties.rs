//! Laws of planning, for jobs that nobody thought of: nothing is lost, nothing is made twice, nothing panics.
//!
//! [`reference`] expands a job a second time, the slow and plain way, from the words of the job language alone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use std::collections::{BTreeMap, HashSet};

use jobmill_core::config::Config;

use jobmill_core::job::event::{self, Request};
use jobmill_core::job::period::AsOf;
use jobmill_core::job::plan::Plan;
use jobmill_core::json;
use jobmill_core::task::greenfield::{Greenfield, GreenfieldRange};
use jobmill_core::task::identity::TaskIds;
use jobmill_core::task::item::item_bytes;
use jobmill_core::task::row::payload_of;
use jobmill_core::task::tables::FieldNames;
use jobmill_core::{Error, ErrorKind};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

type Object = Map<String, Value>;

/// Singular and plural, outermost first.
const ATTRIBUTES: [(&str, &str); 3] = [
    ("section", "sections"),
    ("store", "stores"),
    ("category", "categories"),
];
const LABOURER: &str = "worker";
const TODAY: &str = "2024-03-06";

fn cases(count: u32) -> ProptestConfig {
    ProptestConfig {
        cases: count,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn config() -> Config {
    let attributes = ATTRIBUTES.map(|(name, plural)| json!([name, {"plural": plural}]));
    Config::read(&json!({
        "queue_bucket": "b",
        "job_schema": {"chunkable_attrs": attributes},
        "task_config": {"labourers": {LABOURER: {}}},
    }))
    .unwrap()
}

fn plan(config: &Config, event: Value) -> Result<Plan, Error> {
    match event::read(event)? {
        Request::Job(request) => Plan::make(config, request, None, AsOf::parse(TODAY).unwrap()),
        other => panic!("not a job: {other:?}"),
    }
}

fn objects(plan: &Plan) -> Vec<Object> {
    plan.chunks
        .rows()
        .map(|row| serde_json::from_slice(&row).expect("a row is a JSON object"))
        .collect()
}

/// Decisions, taken from bytes; when they run out, the first choice is taken. So shorter bytes make simpler jobs, and a
/// failure shrinks to a small one.
#[derive(Debug, Clone)]
struct Tape {
    bytes: Vec<u8>,
    at: usize,
    names: usize,
    /// Values that stand at the bottom of the job: each belongs into one row.
    leaves: Vec<String>,
}

impl Tape {
    fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            at: 0,
            names: 0,
            leaves: Vec::new(),
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        let byte = self.bytes.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        usize::from(byte) % bound
    }

    fn one_of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }

    fn name(&mut self) -> String {
        self.names += 1;
        format!("v{}", self.names)
    }

    fn leaf(&mut self) -> String {
        let name = self.name();
        self.leaves.push(name.clone());
        name
    }
}

/// How wild a generated job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taste {
    /// Valid, and no key stands twice on the way to a row: every value must come out.
    Plain,
    /// Keys overwrite each other, values come under odd names, some can't be split.
    Wild,
}

fn job(tape: &mut Tape, taste: Taste) -> Object {
    let mut job = Object::from_iter([("lambda_name".to_owned(), json!(LABOURER))]);
    match tape.below(7) {
        1 => drop(job.insert("period".to_owned(), json!("last_3_days"))),
        2 => drop(job.insert("period".to_owned(), json!("yesterday"))),
        3 => drop(job.insert("date_list".to_owned(), json!(["2024-01-02", "2024-01-01"]))),
        4 => drop(job.insert(
            "period".to_owned(),
            tape.one_of(&[json!(false), json!(0), json!(""), json!([]), json!(null)]),
        )),
        _ => {}
    }
    if tape.below(3) == 1 {
        job.insert(
            "isolate_days".to_owned(),
            tape.one_of(&[json!(true), json!("yes"), json!(0)]),
        );
    }
    branch(tape, 0, taste, &mut job);
    if taste == Taste::Plain && !job.contains_key("sections") && !job.contains_key("section") {
        // A flag without values at the root is an error of its own.
        let leaf = tape.leaf();
        job.insert("sections".to_owned(), json!([leaf]));
    }
    job
}

fn branch(tape: &mut Tape, level: usize, taste: Taste, object: &mut Object) {
    for _ in 0..tape.below(3) {
        let (key, value) = flag(tape);
        object.insert(key, value);
    }
    for _ in 0..tape.below(3) {
        let value = tape.name();
        let key = match taste {
            Taste::Plain => format!("k{value}"),
            Taste::Wild => {
                let strays = [
                    "note",
                    "k",
                    "date_list",
                    "sections",
                    "section",
                    "stores",
                    "category",
                    "day",
                    "payload",
                ];
                // The rarer, the more often a job stays valid.
                strays[tape.below(27).min(tape.below(9))].to_owned()
            }
        };
        object.insert(
            key,
            tape.one_of(&[json!(value), json!([value]), json!({ "note": value })]),
        );
    }
    let Some((name, plural)) = ATTRIBUTES.get(level) else {
        return;
    };
    let key = tape.one_of(&[*plural, *plural, *name]);
    if let Some(value) = values(tape, level, taste) {
        object.insert(key.to_owned(), value);
    }
}

fn flag(tape: &mut Tape) -> (String, Value) {
    let (name, plural) = tape.one_of(&ATTRIBUTES);
    let word = tape.one_of(&[plural, plural, name]);
    if tape.below(2) == 0 {
        let value = tape.one_of(&[
            json!(true),
            json!("Yes"),
            json!(1),
            json!(false),
            json!("off"),
            json!(null),
            json!(""),
        ]);
        (format!("isolate_{word}"), value)
    } else {
        let value = tape.one_of(&[json!(1), json!(2), json!("3"), json!(null), json!(100)]);
        (format!("max_{word}_per_batch"), value)
    }
}

fn values(tape: &mut Tape, level: usize, taste: Taste) -> Option<Value> {
    let wild = if taste == Taste::Wild { 6 } else { 0 };
    Some(match tape.below(10 + wild) {
        0 | 1 => entries(tape, level, taste),
        2 | 3 => (0..=tape.below(5)).map(|_| json!(tape.leaf())).collect(),
        4 => Value::Object((0..=tape.below(4)).map(|_| (tape.leaf(), Value::Null)).collect()),
        5 => json!(tape.leaf()),
        6 => (0..=tape.below(2)).map(|_| entries(tape, level, taste)).collect(),
        7 => json!([{tape.leaf(): null, tape.leaf(): null}, entries(tape, level, taste)]),
        8 | 9 => return None,
        10 => tape.one_of(&[json!([]), json!(null), json!(""), json!({})]),
        11 => json!([tape.name(), {tape.name(): null}]),
        12 => json!({tape.name(): null, tape.name(): 5}),
        _ => tape.one_of(&[
            json!([null]),
            json!([[]]),
            json!(7.50),
            json!([true, 1, "1"]),
            json!([{}]),
        ]),
    })
}

fn entries(tape: &mut Tape, level: usize, taste: Taste) -> Value {
    let mut map = Object::new();
    for _ in 0..=tape.below(3) {
        if tape.below(3) == 2 {
            map.insert(tape.leaf(), Value::Null);
        } else {
            let mut inner = Object::new();
            let name = tape.name();
            branch(tape, level + 1, taste, &mut inner);
            map.insert(name, Value::Object(inner));
        }
    }
    Value::Object(map)
}

/// A second opinion on what a job means. `Err`: `InvalidJob`.
mod reference {
    use super::*;

    pub(super) fn rows(mut job: Object) -> Result<Vec<Object>, ()> {
        job.shift_remove("lambda_name");
        let mut inner_date_list = false;
        check(&job, 0, &mut inner_date_list)?;
        let isolate_days = is_true(job.get("isolate_days"));
        let period = job
            .get("period")
            .filter(|period| !empty(period) && **period != json!(false) && **period != json!(0))
            .cloned();
        let list = job.get("date_list").cloned().unwrap_or(Value::Null);
        let split = must_split(&job, 0, &Object::new());
        let can_isolate = period.is_some() || list.as_array().is_some_and(|list| !list.is_empty());
        let mut dates: Option<Vec<Value>> = None;
        if split || (isolate_days && can_isolate) {
            job.shift_remove("period");
            job.shift_remove("isolate_days");
            dates = match period.as_ref().and_then(Value::as_str) {
                Some("last_3_days") => Some(vec![
                    json!("2024-03-03"),
                    json!("2024-03-04"),
                    json!("2024-03-05"),
                ]),
                Some("yesterday") => Some(vec![json!("2024-03-05")]),
                Some(other) => panic!("no period of these tests: {other}"),
                None if isolate_days => list.as_array().filter(|list| !list.is_empty()).cloned(),
                None => None,
            };
            if dates.iter().flatten().any(|date| !date.is_string())
                || (inner_date_list && (dates.is_some() || !empty(&list)))
            {
                return Err(());
            }
            if dates.is_some() {
                job.shift_remove("date_list");
            }
        }
        let starts: Vec<Object> = match dates {
            None => vec![Object::new()],
            Some(dates) if isolate_days => dates
                .into_iter()
                .map(|date| object("date_list", json!([date])))
                .collect(),
            Some(dates) => vec![object("date_list", Value::Array(dates))],
        };
        let mut rows = Vec::new();
        for start in starts {
            if split {
                if items(&job, 0).is_empty() {
                    let (name, plural) = ATTRIBUTES[0];
                    return if job.contains_key(name) || job.contains_key(plural) {
                        Ok(Vec::new())
                    } else {
                        Err(())
                    };
                }
                rows.extend(expand(&job, 0, start, [None; 3], &Object::new())?);
            } else {
                rows.push(over(start, job.clone()));
            }
        }
        rows.iter_mut()
            .for_each(|row| drop(row.insert("labourer_id".to_owned(), json!(LABOURER))));
        Ok(rows)
    }

    fn object(key: &str, value: Value) -> Object {
        Object::from_iter([(key.to_owned(), value)])
    }

    fn over(mut base: Object, top: Object) -> Object {
        base.extend(top);
        base
    }

    fn empty(value: &Value) -> bool {
        [json!(null), json!(""), json!([]), json!({})].contains(value)
    }

    fn is_true(value: Option<&Value>) -> bool {
        let text = value
            .map(|value| value.to_string().to_lowercase().replace('"', ""))
            .unwrap_or_default();
        ["true", "yes", "on", "1"].contains(&text.as_str())
    }

    fn items(branch: &Object, level: usize) -> Vec<Value> {
        let Some((name, plural)) = ATTRIBUTES.get(level) else {
            return Vec::new();
        };
        match [plural, name]
            .iter()
            .find_map(|key| branch.get(**key).filter(|value| !empty(value)))
        {
            None => Vec::new(),
            Some(Value::Array(items)) => items.clone(),
            Some(one) => vec![one.clone()],
        }
    }

    /// The objects inside an object of the values: the reachable branches one level down.
    fn inside(items: &[Value]) -> Vec<Object> {
        let entries = items
            .iter()
            .filter_map(Value::as_object)
            .flat_map(|item| item.values());
        entries.filter_map(Value::as_object).cloned().collect()
    }

    fn check(branch: &Object, level: usize, inner_date_list: &mut bool) -> Result<(), ()> {
        if let Some((name, plural)) = ATTRIBUTES.get(level)
            && [name, plural]
                .iter()
                .all(|key| branch.get(**key).is_some_and(|value| !empty(value)))
        {
            return Err(());
        }
        for inner in inside(&items(branch, level)) {
            *inner_date_list |= inner.contains_key("date_list");
            check(&inner, level + 1, inner_date_list)?;
        }
        Ok(())
    }

    /// The flags of a branch, with those from further out laid over them.
    fn flags(branch: &Object, outer: &Object) -> Object {
        let flag = |key: &str| key.starts_with("isolate_") || key.starts_with("max_");
        over(
            branch
                .iter()
                .filter(|(key, _)| flag(key))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
            outer.clone(),
        )
    }

    fn must_split(branch: &Object, level: usize, outer: &Object) -> bool {
        let Some((name, plural)) = ATTRIBUTES.get(level) else {
            return false;
        };
        let flags = flags(branch, outer);
        let asked = [name, plural].iter().any(|word| {
            is_true(flags.get(&format!("isolate_{word}")))
                || flags
                    .get(&format!("max_{word}_per_batch"))
                    .is_some_and(|size| !size.is_null())
        });
        asked
            || inside(&items(branch, level))
                .iter()
                .any(|inner| must_split(inner, level + 1, &flags))
    }

    fn expand(
        branch: &Object,
        level: usize,
        mut base: Object,
        mut nearest: [Option<usize>; 3],
        outer: &Object,
    ) -> Result<Vec<Object>, ()> {
        let Some((name, plural)) = ATTRIBUTES.get(level) else {
            return Ok(vec![over(base, branch.clone())]);
        };
        let values = items(branch, level);
        for key in [name, plural] {
            if !values.is_empty() {
                base.shift_remove(*key);
            }
        }
        let mut rest = branch.clone();
        rest.shift_remove(*name);
        rest.shift_remove(*plural);
        base.extend(rest);
        if values.is_empty() {
            return Ok(vec![base]);
        }
        if !must_split(branch, level, outer) {
            let key = if branch.get(*plural).is_some_and(|value| !empty(value)) {
                *plural
            } else {
                *name
            };
            base.extend(match &branch[key] {
                Value::Array(list) if list.iter().all(scalar) => object(plural, json!(list)),
                Value::Object(map) if map.values().all(Value::is_null) => {
                    object(plural, map.keys().cloned().collect())
                }
                other => object(key, other.clone()),
            });
            return Ok(vec![base]);
        }
        for (at, (name, plural)) in ATTRIBUTES.iter().enumerate() {
            for word in [name, plural] {
                let size = branch
                    .get(&format!("max_{word}_per_batch"))
                    .filter(|size| !size.is_null());
                nearest[at] = size
                    .map(|size| size.to_string().replace('"', "").parse().unwrap())
                    .or(nearest[at]);
            }
        }
        let batches = |values: &[Value]| -> Vec<Object> {
            values
                .chunks(nearest[level].unwrap_or(1))
                .map(|batch| over(base.clone(), object(plural, json!(batch))))
                .collect()
        };
        if values.iter().all(scalar) {
            return Ok(batches(&values));
        }
        let mut rows = Vec::new();
        for value in &values {
            let Value::Object(map) = value else { return Err(()) };
            if map.values().all(Value::is_null) {
                rows.extend(batches(&map.keys().map(|key| json!(key)).collect::<Vec<_>>()));
                continue;
            }
            for (entry, inner) in map {
                let named = over(base.clone(), object(plural, json!([entry])));
                match inner {
                    Value::Null => rows.push(named),
                    Value::Object(inner) if inner.contains_key(*name) || inner.contains_key(*plural) => {
                        return Err(());
                    }
                    Value::Object(inner) => {
                        rows.extend(expand(inner, level + 1, named, nearest, &flags(branch, outer))?)
                    }
                    _ => return Err(()),
                }
            }
        }
        Ok(rows)
    }

    fn scalar(value: &Value) -> bool {
        value.is_string() || value.is_number() || value.is_boolean()
    }
}

fn tape() -> impl Strategy<Value = Tape> {
    prop::collection::vec(any::<u8>(), 0..160).prop_map(Tape::new)
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn a_job_becomes_the_rows_that_its_words_say(mut tape in tape()) {
        let job = job(&mut tape, Taste::Wild);
        let made = match plan(&config(), Value::Object(job.clone())) {
            Ok(plan) => Ok(objects(&plan)),
            Err(error) => {
                prop_assert_eq!(error.kind, ErrorKind::InvalidJob);
                Err(error.sentence)
            }
        };
        let expected = reference::rows(job.clone());
        prop_assert_eq!(made.as_ref().ok(), expected.as_ref().ok(), "for {}: {:?}", json!(job), made);
    }

    #[test]
    fn nothing_is_lost_and_nothing_is_made_twice(mut tape in tape()) {
        let job = job(&mut tape, Taste::Plain);
        let plan = plan(&config(), Value::Object(job.clone())).unwrap();
        let dates = if plan.dates_apart && !plan.dates.is_empty() { plan.dates.len() } else { 1 };
        let mut found: BTreeMap<String, usize> = BTreeMap::new();
        for row in plan.chunks.rows() {
            let row = String::from_utf8(row).unwrap();
            // Names are texts of their own: the odd pieces between quotes.
            let names: HashSet<&str> = row.split('"').skip(1).step_by(2).collect();
            names.into_iter().for_each(|name| *found.entry(name.to_owned()).or_default() += 1);
        }
        for leaf in &tape.leaves {
            prop_assert_eq!(found.get(leaf), Some(&dates), "{} of {}", leaf, json!(job));
        }
        for at in 1..=tape.names {
            prop_assert!(found.contains_key(&format!("v{at}")), "v{} of {} is lost", at, json!(job));
        }
    }

    #[test]
    fn a_plan_knows_its_rows_before_they_are_made(mut tape in tape(), first in any::<prop::sample::Index>()) {
        let job = job(&mut tape, Taste::Wild);
        let config = config();
        let Ok(plan) = plan(&config, Value::Object(job.clone())) else { return Ok(()) };
        let rows: Vec<Vec<u8>> = plan.chunks.rows().collect();
        prop_assert_eq!(plan.chunks.row_count(), rows.len() as u64);
        prop_assert_eq!(plan.chunks.byte_count(), rows.iter().map(|row| row.len() as u64 + 1).sum::<u64>());
        prop_assert_eq!(plan.chunks.longest_row(), rows.iter().map(|row| row.len() as u64).max().unwrap_or(0));
        if plan.split {
            let by_level: u64 = plan.chunks.levels().iter().map(|level| level.rows).sum();
            prop_assert_eq!(by_level, plan.chunks.rows_per_date());
        }
        let first = first.index(rows.len() + 1);
        let rest: Vec<Vec<u8>> = plan.chunks.rows_from(first as u64).collect();
        prop_assert_eq!(&rest[..], &rows[first..]);
        prop_assert_eq!(plan.chunks.rows_from(first as u64).remaining(), (rows.len() - first) as u64);
        prop_assert_eq!(plan.chunks.rows_from(u64::MAX).next(), None);

        let again = self::plan(&config, Value::Object(job)).unwrap();
        prop_assert_eq!(&again.fingerprint, &plan.fingerprint);
        prop_assert_eq!(again.chunks.rows().collect::<Vec<_>>(), rows);
    }

    #[test]
    fn the_payload_of_a_row_is_the_row_without_its_labourer(mut tape in tape()) {
        let job = job(&mut tape, Taste::Wild);
        let Ok(plan) = plan(&config(), Value::Object(job)) else { return Ok(()) };
        for row in plan.chunks.rows() {
            let (labourer, payload) = payload_of(&row).unwrap();
            prop_assert_eq!(labourer, LABOURER);
            prop_assert!(payload.len() <= row.len());
            prop_assert!(item_bytes(&FieldNames::default(), LABOURER, payload.len() as u64) > payload.len() as u64);
            let mut expected: Object = serde_json::from_slice(&row).unwrap();
            expected.shift_remove("labourer_id");
            if let Some(Value::Object(base)) = expected.get("payload").cloned() {
                expected.shift_remove("payload");
                expected = base.into_iter().chain(expected).collect();
            }
            prop_assert_eq!(json::parse(&payload).unwrap(), Value::Object(expected));
        }
    }
}

/// Words that mean something somewhere in an event or a configuration.
const WORDS: &str = "\
    job lambda_name run_id as_of detail detail-type source time id file_name hop sweep period \
    isolate_days date_list job_schema_name section sections store stores category categories \
    isolate_sections isolate_store isolate_categories max_sections_per_batch max_store_per_batch \
    max_categories_per_batch isolate_unknown labourer_id payload queue_bucket s3_prefix queue_file \
    shutdown_period timeout max_hops max_tasks_per_job lease_seconds job_schema job_schema_variants \
    chunkable_attrs expand_period timezone plural default task_config labourers arn \
    greenfield_task_step dynamo_db_config table_name field_names row_mapper task_id \
    meta_handler_config write_meta_to_ddb worker outcome_queue invocation_number_coefficient \
    max_simultaneous_invocations max_attempts max_attempts_worker max_duration completion rate starts per \
    concurrency by max suspend_after share of health_metrics details feelings feeling_comparison_operator \
    Dimensions Statistics Period MetricName Namespace ecology_config default_metric_values 4 3";
const TEXTS: [&str; 22] = [
    "",
    "worker",
    "yes",
    "2",
    "last_2_days",
    "last_99999999999999999999_days",
    "previous_4000000_days",
    "0_days_back",
    "738000_days_back",
    "last_week",
    "2024-03-06",
    "2024-03-06T23:30:00-08:00",
    "0001-01-01",
    "9999-12-31",
    "always",
    "UTC",
    "arn:aws:lambda:eu-west-1:1:function:worker:",
    "{\"lambda_name\": \"worker\"}",
    "[",
    "sections",
    "\u{0}ü\"\\",
    "$serde_json::private::Number",
];

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        12 => prop::sample::select(WORDS.split(' ').collect::<Vec<_>>()).prop_map(str::to_owned),
        1 => ".{0,6}",
    ]
}

fn any_json() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        (-3_i64..10).prop_map(|number| json!(number)),
        any::<u64>().prop_map(|number| json!(number)),
        Just(serde_json::from_str::<Value>("-1.50e400").unwrap()),
        Just(serde_json::from_str::<Value>("123456789012345678901234567890.10").unwrap()),
    ];
    let leaf = prop_oneof![
        2 => Just(Value::Null),
        2 => any::<bool>().prop_map(Value::Bool),
        2 => number,
        4 => prop::sample::select(&TEXTS[..]).prop_map(|text| json!(text)),
        2 => word().prop_map(Value::String),
        1 => ".{0,12}".prop_map(Value::String),
    ];
    leaf.prop_recursive(6, 60, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::vec((word(), inner), 0..7)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// A value laid into a sound one, so that it gets past the first check.
fn laid_into(base: Value, over: Value) -> Value {
    match (base, over) {
        (Value::Object(mut base), Value::Object(over)) => {
            base.extend(over);
            Value::Object(base)
        }
        (_, over) => over,
    }
}

fn exercise(config: &Config, event: &Value) {
    // As it comes in: text. Some texts are refused there.
    let Ok(event) = json::parse(&event.to_string()) else {
        return;
    };
    let Ok(request) = event::read(event) else { return };
    let Request::Job(request) = request else { return };
    for now in ["2024-03-06", "0001-01-01", "9999-12-31T23:59:59+00:00"] {
        let Ok(plan) = Plan::make(config, request.clone(), None, AsOf::parse(now).unwrap()) else {
            continue;
        };
        let rows = plan.chunks.row_count();
        let mut made = 0;
        for row in plan.chunks.rows().take(300) {
            payload_of(&row).unwrap();
            made += 1;
        }
        assert_eq!(made, rows.min(300));
        assert_eq!(plan.chunks.rows_from(rows / 2).remaining(), rows - rows / 2);
    }
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn no_event_panics(event in any_json(), job in any_json()) {
        let config = config();
        exercise(&config, &event);
        exercise(&config, &laid_into(json!({"lambda_name": LABOURER, "isolate_categories": true, "sections": ["a"]}), job.clone()));
        exercise(&config, &json!({"job": laid_into(json!({"lambda_name": LABOURER}), job.clone()), "as_of": event}));
        exercise(&config, &json!({"detail-type": "t", "source": "s", "detail": job.to_string(), "time": TODAY}));
    }

    #[test]
    fn no_configuration_panics(config in any_json(), inner in any_json()) {
        let whole = json!({
            "queue_bucket": "b",
            "task_config": {"labourers": {"worker": {}}},
            "job_schema": {"chunkable_attrs": ["section", "store"]},
        });
        let mut with_schema = whole.clone();
        with_schema["job_schema"] = laid_into(json!({"chunkable_attrs": ["section"]}), inner.clone());
        let mut with_attributes = whole.clone();
        with_attributes["job_schema"]["chunkable_attrs"] = json!([inner.clone(), "store"]);
        let mut with_tasks = whole.clone();
        with_tasks["task_config"] = laid_into(whole["task_config"].clone(), inner);
        for config in [config.clone(), laid_into(whole, config), with_schema, with_attributes, with_tasks] {
            match Config::read(&config) {
                Ok(config) => exercise(&config, &json!({
                    "lambda_name": "worker", "isolate_stores": true, "period": "last_week",
                    "sections": {"a": {"stores": [1, 2]}},
                })),
                Err(refused) => {
                    prop_assert!(!refused.problems.is_empty());
                    prop_assert_eq!(Error::from(refused).kind, ErrorKind::InvalidConfig);
                }
            }
        }
    }

    #[test]
    fn no_text_panics(text in prop_oneof![".{0,60}", "[\\[\\]{}\":,0-9a-z\\\\. -]{0,60}", "[0-9eE+.-]{0,40}", "[0-9TZ:+.-]{0,30}"]) {
        drop(json::parse(&text).map(|value| Config::read(&value).is_ok()));
        drop(event::read(Value::String(text.clone())));
        let _: bool = Config::parse(&text).is_ok() || AsOf::parse(&text).is_some() || Greenfield::parse(&text).is_some();
        let _: bool = payload_of(text.as_bytes()).is_ok() || event::check_file_name(&text).is_ok();
        exercise(&config(), &json!({"lambda_name": LABOURER, "period": text, "isolate_days": true}));
        exercise(&config(), &json!({"lambda_name": text, "sections": text, "isolate_sections": true, "payload": text}));
    }

    #[test]
    fn a_row_from_anywhere_keeps_its_members(row in prop::collection::vec((word(), any_json()), 0..8), pretty in any::<bool>()) {
        let mut row: Object = row.into_iter().collect();
        row.insert("labourer_id".to_owned(), json!(LABOURER));
        let text = if pretty { format!("{:#}", Value::Object(row.clone())) } else { Value::Object(row.clone()).to_string() };
        let Ok(_) = json::parse(&text) else { return Ok(()) };
        let (labourer, payload) = payload_of(text.as_bytes()).unwrap();
        prop_assert_eq!(labourer, LABOURER);
        prop_assert!(payload.len() <= text.len(), "{} became {}", text, payload);
        let payload: Object = serde_json::from_str(&payload).unwrap();
        for (key, value) in row.iter().filter(|(key, _)| !["labourer_id", "payload"].contains(&key.as_str())) {
            prop_assert_eq!(payload.get(key), Some(value));
        }
        if let Some(Value::Object(base)) = row.get("payload") {
            for (key, value) in base.iter().filter(|(key, _)| !row.contains_key(*key) || *key == "payload") {
                prop_assert_eq!(payload.get(key), Some(value));
            }
        }
    }

    #[test]
    fn greenfields_grow_and_stay_behind_now(
        base in prop::option::of(-10_i128.pow(18)..4 * 10_i128.pow(18)),
        step in 1_i128..2 * 10_i128.pow(18),
        now in 10_i128.pow(18)..3 * 10_i128.pow(18),
        rows in prop_oneof![1_u64..5, 1_u64..1_000_000, 1_u64..100_000_000_000],
    ) {
        let now = Greenfield::from_nanos(now);
        let base = base.map(Greenfield::from_nanos);
        let lane = GreenfieldRange::behind(base, Greenfield::from_nanos(step), now, rows);
        let looked_at: Vec<u64> = [0, 1, 2, rows / 3, rows / 2, rows.saturating_sub(2), rows - 1].into_iter().filter(|row| *row < rows).collect();
        for row in looked_at {
            prop_assert!(lane.at(row) <= now);
            prop_assert!(row + 1 == rows || lane.at(row) < lane.at(row + 1));
        }
        prop_assert!(lane.step.nanos() <= step);
        let room = now.nanos() - i128::from(rows) - 1;
        if let Some(base) = base.filter(|base| base.nanos() <= room) {
            prop_assert!(lane.at(0) > base, "behind the end of the queue");
        }
    }

    #[test]
    fn a_greenfield_is_read_as_it_is_written(nanos in -10_i128.pow(29)..=10_i128.pow(29), small in -10_i128.pow(10)..10_i128.pow(10)) {
        for nanos in [nanos, small, nanos / 1_000_000_000 * 1_000_000_000] {
            let greenfield = Greenfield::from_nanos(nanos);
            prop_assert_eq!(Greenfield::parse(&greenfield.to_string()), Some(greenfield));
            prop_assert!(greenfield.to_string().bytes().filter(u8::is_ascii_digit).count() <= 38, "as DynamoDB keeps it");
        }
    }

    #[test]
    fn ids_of_tasks_are_stable_and_distinct(run in "[A-Za-z0-9._:-]{1,40}", other in "[A-Za-z0-9._:-]{1,40}", from in 0..(1_u64 << 40) - 50) {
        let ids = TaskIds::new("bucket", "prefix", &run);
        let rows = || from..from + 50;
        let mut seen: HashSet<String> = rows().map(|row| ids.at(row)).collect();
        prop_assert_eq!(seen.len(), 50);
        prop_assert!(seen.iter().all(|id| id.len() == 32 && id.bytes().all(|byte| b"0123456789abcdef".contains(&byte))));
        prop_assert_eq!(TaskIds::new("bucket", "prefix", &run).at(from), ids.at(from));
        prop_assert_eq!(ids.row_of(&ids.at(from)), Some(from));
        if run != other {
            seen.extend(rows().map(|row| TaskIds::new("bucket", "prefix", &other).at(row)));
            prop_assert_eq!(seen.len(), 100);
        }
    }
}
