//! Reading a labourer: how its tasks are dispatched.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::health::{self, MetricDefaults};
use super::json_schema;
use super::section::{DECIMAL, Form, NAME, Others, OwnForm, Section, decimal};
use crate::error::{excerpt, shorten};
use crate::job::fields::function_name;
use crate::json::kind;
use crate::task::health::{Coefficients, allowed};
use crate::task::labourer::{
    Completion, KeyCap, LONGEST_RESPONSE, Labourer, Labourers, MAIN_GROUP, Rate, RetryPolicy, SuspendAfter,
};
use crate::warning::{Step, WarningKind};

/// Nobody waits longer for an answer, in seconds: the holder itself lives for 900.
const LONGEST_CONFIGURED_RESPONSE: u32 = 600;
/// More limits by value than these are refused: each is looked up for each task.
const MOST_CAPS: usize = 8;
/// Of one labourer, or of one value in the payload.
const MOST_AT_ONCE: u64 = 1_000_000;

const ATTEMPTS: std::ops::RangeInclusive<u64> = 0..=1000;
/// How the keys begin that end in the name of a labourer.
const ATTEMPTS_OF: &str = "max_attempts_";
const LIMIT: &str = "max_simultaneous_invocations";

/// What counts for a labourer that does not say otherwise, and what there is beside it.
pub(super) struct Defaults<'a> {
    pub(super) max_simultaneous: u32,
    pub(super) max_attempts: u32,
    /// `max_attempts_NAME`, by that key.
    pub(super) max_attempts_of: BTreeMap<&'a str, u32>,
    pub(super) metric: MetricDefaults,
    pub(super) coefficients: Coefficients,
    pub(super) has_outcome_queue: bool,
}

static GROUP: Form = Form {
    bounds: "1 to 64 of `A-Z a-z 0-9 . _ -`, not beginning with `.`",
    pattern: "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$",
    advice: "write at most 64 letters, digits and . _ - only, such as \"main\"",
    fits: |text| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        (1..=64).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with('.')
    },
};

static BY: Form = Form {
    bounds: "a path such as `store` or `order.customer`",
    pattern: r"^[^.]+([.][^.]+)*$",
    advice: "write the name of something in the payload such as \"store\", or a path such as \"order.customer\"",
    fits: |text| text.len() <= 255 && text.split('.').all(|name| !name.is_empty()),
};

static LIMIT_OF_A_LABOURER: OwnForm = OwnForm {
    default: "that of `task_config`",
    bounds: "at most 1,000,000; fractions are cut off",
    schema: limit_schema,
};

static LIMIT_OF_ALL: OwnForm = OwnForm {
    default: "1",
    bounds: "at most 1,000,000; fractions are cut off",
    schema: limit_schema,
};

static RATE: OwnForm = OwnForm {
    default: "none",
    bounds: "`{\"starts\": 10, \"per\": \"second\"}`: 1 to 1,000,000, and `second`, `minute` or `hour`",
    schema: || json_schema::object(&Section::keys_of(rate_of)),
};

static CONCURRENCY: OwnForm = OwnForm {
    default: "`[]`",
    bounds: "at most 8 of `{\"by\": \"store\", \"max\": 2}`; `by` may be a path such as `order.customer`",
    schema: || {
        json!({
            "type": ["array", "null"],
            "maxItems": MOST_CAPS,
            "items": json_schema::object(&Section::keys_of(cap)),
        })
    },
};

static SUSPEND_AFTER: OwnForm = OwnForm {
    default: "`{\"share\": 1, \"of\": 100}`",
    bounds: "`false`, or `share` 0.01 to 1 and `of` 1 to 10,000",
    schema: || json!({ "anyOf": [{ "const": false }, json_schema::object(&Section::keys_of(suspend_after_of))] }),
};

static QUEUE_SHARDS: OwnForm = OwnForm {
    default: "1",
    bounds: "1",
    schema: || json!({ "enum": [1, "1", null] }),
};

fn limit_schema() -> Value {
    json!({
        "type": ["number", "string", "null"],
        "maximum": MOST_AT_ONCE,
        "pattern": DECIMAL,
    })
}

/// `task_config.max_simultaneous_invocations`.
pub(super) fn limit_of_all(at: &mut Section<'_, '_>) -> u32 {
    let meaning = "so many tasks at once for each labourer that does not say; `0` counts as not set";
    // As in sosw, where nothing is what is not set.
    let limit = limit(at, &LIMIT_OF_ALL, meaning).filter(|_| at.get(LIMIT).and_then(decimal) != Some(0.0));
    if limit == Some(0) {
        warn_of_held(at, "no labourer that does not say otherwise");
    }
    limit.unwrap_or(1)
}

/// `task_config.max_attempts`.
pub(super) fn attempts_of_all(at: &mut Section<'_, '_>) -> u32 {
    let meaning = "a task that failed so often is closed as failed; `0` counts as 1";
    at.number("max_attempts", 3_u32, ATTEMPTS, meaning)
}

/// `task_config.max_attempts_NAME`. As in sosw, 0 is what is not set.
pub(super) fn attempts_by_name<'a>(at: &mut Section<'a, '_>) -> BTreeMap<&'a str, u32> {
    let meaning =
        "the same for the labourer `NAME`; its own `max_attempts` counts before it, `0` counts as not set";
    let mut attempts = at.numbers_at(ATTEMPTS_OF, ATTEMPTS, meaning);
    attempts.retain(|_, attempts| *attempts > 0);
    attempts
}

/// Says of which of them there is no labourer.
pub(super) fn warn_of_idle_attempts<'a>(
    at: &mut Section<'a, '_>,
    attempts: &BTreeMap<&'a str, u32>,
    labourers: &Labourers,
) {
    for key in attempts.keys() {
        let name = key.strip_prefix(ATTEMPTS_OF).unwrap_or_default();
        if !labourers.contains_key(name) {
            at.warn(WarningKind::IgnoredKey, &[Step::Key(key)], || {
                format!("`{}` names no labourer: correct it or take it out", shorten(key))
            });
        }
    }
}

/// One of `task_config.labourers`.
pub(super) fn labourer(name: &str, at: &mut Section<'_, '_>, defaults: &Defaults<'_>) -> Labourer {
    at.others(Others::Warned);
    if function_name(name) != Some(name) {
        at.warn(WarningKind::UnreachableLabourer, &[], || {
            format!(
                "{:?} is no name of a Lambda function (letters, digits and _ = , . @ -), so that no job can name it: \
                 write the name here, and an ARN into `arn`",
                shorten(name)
            )
        });
    }
    let arn = at.optional_text(
        "arn",
        &NAME,
        "its function, a name or an ARN; without one nobody starts its tasks",
    );
    let group = at.text(
        "group",
        MAIN_GROUP,
        &GROUP,
        "the labourers of a group are dispatched by one invocation at a time",
    );
    let completion = at.optional_choice(
        "completion",
        &[
            ("response", Completion::Response),
            ("destination", Completion::Destination),
            ("report", Completion::Report),
        ],
        "how the end of a task is learnt: from the function's answer, from its destinations, or from a mark that the \
         worker sets as sosw's do. Not set: `response`, if a task may run for 300 seconds at most",
    );
    let max_duration = max_duration(at);
    check_completion(at, completion, max_duration, defaults.has_outcome_queue);
    let cooldown = at.number(
        "cooldown",
        0_u32,
        0..=86_400,
        "seconds: so much longer than its longest duration a task counts as running",
    );
    let max_simultaneous = limit(
        at,
        &LIMIT_OF_A_LABOURER,
        "so many of its tasks at once; `0` holds all of them back",
    );
    if max_simultaneous == Some(0) {
        warn_of_held(at, "none of its tasks");
    }
    let max_attempts = at.optional_number(
        "max_attempts",
        ATTEMPTS,
        "a task that failed so often is closed as failed; not set: as in `task_config`",
    );
    let retry = retry(at);
    let rate = rate(at);
    let concurrency = concurrency(at);
    let suspend_after = suspend_after(at);
    let paused = at.switch("paused", false, "none of its tasks is started");
    queue_shards(at);
    let health = health::metrics(at, &defaults.metric);
    of_sosws_labourers(at);
    let max_attempts = max_attempts.or_else(|| {
        let key = format!("{ATTEMPTS_OF}{name}");
        defaults.max_attempts_of.get(key.as_str()).copied()
    });
    let labourer = Labourer {
        arn,
        group,
        completion,
        max_simultaneous: max_simultaneous.unwrap_or(defaults.max_simultaneous),
        max_attempts: max_attempts.unwrap_or(defaults.max_attempts),
        max_duration,
        cooldown: seconds(cooldown),
        retry,
        rate,
        concurrency,
        suspend_after,
        paused,
        health,
    };
    warn_of_low_limit(at, &labourer, &defaults.coefficients);
    labourer
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(u64::from(seconds))
}

/// A limit of tasks at once: what is below nothing is nothing, and sosw takes fractions.
fn limit(at: &mut Section<'_, '_>, form: &'static OwnForm, meaning: &'static str) -> Option<u32> {
    let value = at.own(LIMIT, form, meaning)?;
    let Some(number) = decimal(value).filter(|number| *number <= MOST_AT_ONCE as f64) else {
        let shown = excerpt(value);
        at.refuse(
            &[Step::Key(LIMIT)],
            format_args!("is {shown}: write a whole number from 0 to {MOST_AT_ONCE}"),
        );
        return None;
    };
    let limit = number.floor();
    if limit < number {
        at.warn(WarningKind::CutFraction, &[Step::Key(LIMIT)], || {
            format!(
                "`{LIMIT}` is {}, and there are only whole tasks: it counts as {limit}; write that",
                excerpt(value)
            )
        });
    }
    // A cast saturates: what is below 0 is 0.
    Some(limit as u32)
}

fn warn_of_held(at: &mut Section<'_, '_>, what: &str) {
    at.warn(WarningKind::HeldLabourer, &[Step::Key(LIMIT)], || {
        format!(
            "`{LIMIT}` is not above 0, so that {what} is started: if that is meant, `paused` says it plainly"
        )
    });
}

/// A limit of 1, the default, of which a share is to be left, is none: sosw stops there without a word.
fn warn_of_low_limit(at: &mut Section<'_, '_>, labourer: &Labourer, coefficients: &Coefficients) {
    let limit = labourer.max_simultaneous;
    let lowest = |status: &u8| {
        let share = coefficients.strength(*status);
        limit > 0 && share > 0.0 && allowed(limit, share) == 0
    };
    let statuses = labourer.health.iter().flat_map(|metric| {
        let feelings = metric.feelings.iter().map(|(status, _)| *status);
        feelings.chain([metric.status_without_data])
    });
    if let Some(status) = statuses.filter(lowest).max() {
        at.warn(WarningKind::LowLimit, &[Step::Key(LIMIT)], || {
            format!(
                "`{LIMIT}` is {limit}, of which {} at health status {status} is less than one task: nothing is started \
                 then; write a larger limit",
                coefficients.strength(status)
            )
        });
    }
}

fn max_duration(at: &mut Section<'_, '_>) -> Option<Duration> {
    let longest: Option<u32> = at.optional_number(
        "max_duration",
        1..=900,
        "seconds that a task may run; not set: as long as its function may",
    );
    let of_sosw: Option<u32> = at.optional_number("duration", 1..=900, "another name of `max_duration`");
    if let (Some(longest), Some(of_sosw)) = (longest, of_sosw)
        && longest != of_sosw
    {
        at.refuse(
            &[Step::Key("duration")],
            format_args!(
                "is {of_sosw}, and `max_duration`, which is the same, is {longest}: keep one of the two"
            ),
        );
    }
    longest.or(of_sosw).map(seconds)
}

fn check_completion(
    at: &mut Section<'_, '_>,
    completion: Option<Completion>,
    max_duration: Option<Duration>,
    has_outcome_queue: bool,
) {
    let longest = max_duration.unwrap_or_default();
    let steps = [Step::Key("completion")];
    match completion {
        Some(Completion::Response) if longest > seconds(LONGEST_CONFIGURED_RESPONSE) => at.refuse(
            &steps,
            format_args!(
                "is \"response\", and `max_duration` is {}: nobody waits for an answer for longer than \
                 {LONGEST_CONFIGURED_RESPONSE} seconds, so write \"destination\" or \"report\", or a shorter duration",
                longest.as_secs()
            ),
        ),
        Some(Completion::Destination) if !has_outcome_queue => at.refuse(
            &steps,
            "is \"destination\", and there is no queue to look at: write its URL into `outcome_queue`, at the top",
        ),
        None if longest > LONGEST_RESPONSE => at.warn(WarningKind::UnsetCompletion, &steps, || {
            format!(
                "`completion` is not set, and `max_duration`, {}, is too long to wait for an answer: jobmill starts \
                 none of its tasks; write \"destination\" or \"report\"",
                longest.as_secs()
            )
        }),
        _ => {}
    }
}

fn retry(at: &mut Section<'_, '_>) -> RetryPolicy {
    let delay: u32 = at.number(
        "retry_delay",
        10_u32,
        0..=86_400,
        "seconds that a task waits after its first failed attempt",
    );
    let backoff = at.decimal(
        "retry_backoff",
        2.0,
        1.0..=100.0,
        "after each further attempt it waits so many times longer",
    );
    let longest: Option<u32> = at.optional_number(
        "max_retry_delay",
        0..=604_800,
        "seconds: it never waits longer; not set: 900, or `retry_delay` if that is longer",
    );
    if let Some(longest) = longest.filter(|longest| *longest < delay) {
        at.refuse(
            &[Step::Key("max_retry_delay")],
            format_args!(
                "is {longest}, less than `retry_delay`, {delay}: make it longer, or shorten the other"
            ),
        );
    }
    RetryPolicy {
        delay: seconds(delay),
        backoff,
        longest: seconds(longest.unwrap_or(900.max(delay))),
    }
}

fn rate(at: &mut Section<'_, '_>) -> Option<Rate> {
    let steps = [Step::Key("rate")];
    let value = at.own(
        "rate",
        &RATE,
        "so many of its tasks are started in so long at most",
    );
    let map = at.map_at(&steps, value)?;
    at.inside(&steps, Some(map), rate_of).0
}

fn rate_of(at: &mut Section<'_, '_>) -> Option<Rate> {
    let starts = at.optional_number("starts", 1..=MOST_AT_ONCE, "so many starts");
    let per = at.optional_choice(
        "per",
        &[("second", 1_u32), ("minute", 60), ("hour", 3600)],
        "in so long",
    );
    for key in ["starts", "per"] {
        if at.lacks(key) {
            at.refuse(
                &[Step::Key(key)],
                "is missing: write a rate such as {\"starts\": 10, \"per\": \"second\"}",
            );
        }
    }
    Some(Rate {
        starts: starts?,
        per: seconds(per?),
    })
}

fn concurrency(at: &mut Section<'_, '_>) -> Vec<KeyCap> {
    const LIST: &str = "concurrency";
    let meaning = "so many of its tasks at once for each value of something in the payload";
    let entries = match at.own(LIST, &CONCURRENCY, meaning) {
        None => return Vec::new(),
        Some(Value::Array(entries)) if entries.len() <= MOST_CAPS => entries,
        Some(Value::Array(entries)) => {
            let count = entries.len();
            at.refuse(
                &[Step::Key(LIST)],
                format_args!("has {count} entries, and at most {MOST_CAPS} are allowed"),
            );
            return Vec::new();
        }
        Some(other) => {
            at.refuse(
                &[Step::Key(LIST)],
                format_args!(
                    "is {}, not a list: write [{{\"by\": \"store\", \"max\": 2}}]",
                    kind(other)
                ),
            );
            return Vec::new();
        }
    };
    let mut caps: Vec<KeyCap> = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let steps = [Step::Key(LIST), Step::Index(index)];
        let Some(map) = entry.as_object() else {
            at.refuse(
                &steps,
                format_args!("is {}: write {{\"by\": \"store\", \"max\": 2}}", excerpt(entry)),
            );
            continue;
        };
        let Some(cap) = at.inside(&steps, Some(map), cap).0 else {
            continue;
        };
        if caps.iter().any(|other| other.by == cap.by) {
            at.refuse(&steps, "is by the same as another entry: keep one of the two");
        }
        caps.push(cap);
    }
    caps
}

fn cap(at: &mut Section<'_, '_>) -> Option<KeyCap> {
    let by = at.required_text(
        "by",
        &BY,
        "where the value is in the payload: a name, or a path with dots",
    );
    let max = at.optional_number("max", 1..=MOST_AT_ONCE, "so many at once for each value");
    if at.lacks("max") {
        at.refuse(&[Step::Key("max")], "is missing: write how many may run at once");
    }
    Some(KeyCap {
        by: by.split('.').map(str::to_owned).collect(),
        max: max?,
    })
}

fn suspend_after(at: &mut Section<'_, '_>) -> Option<SuspendAfter> {
    let steps = [Step::Key("suspend_after")];
    let meaning =
        "so large a share of failures among so many of the last attempts, and nothing is started for a while";
    match at.own("suspend_after", &SUSPEND_AFTER, meaning) {
        None => Some(SuspendAfter::default()),
        Some(Value::Bool(false)) => None,
        Some(Value::Object(map)) => Some(at.inside(&steps, Some(map), suspend_after_of).0),
        Some(other) => {
            at.refuse(
                &steps,
                format_args!(
                    "is {}: write false, or how many failures are too many: {{\"share\": 0.9, \"of\": 50}}",
                    excerpt(other)
                ),
            );
            None
        }
    }
}

fn suspend_after_of(at: &mut Section<'_, '_>) -> SuspendAfter {
    let SuspendAfter { share, of } = SuspendAfter::default();
    SuspendAfter {
        share: at.decimal("share", share, 0.01..=1.0, "the share of failures"),
        of: at.number("of", of, 1..=10_000, "among so many of the last attempts"),
    }
}

fn queue_shards(at: &mut Section<'_, '_>) {
    let meaning = "over how many keys of an index its queue is spread";
    if let Some(value) = at.own("queue_shards", &QUEUE_SHARDS, meaning)
        && decimal(value) != Some(1.0)
    {
        at.refuse(
            &[Step::Key("queue_shards")],
            format_args!(
                "is {}: a queue that is spread is not offered yet, take it out",
                excerpt(value)
            ),
        );
    }
}

/// What sosw's Orchestrator and Scavenger work out for a labourer, and let a configuration replace.
fn of_sosws_labourers(at: &mut Section<'_, '_>) {
    for name in ["start", "invoked", "expired", "health"] {
        if at
            .look_at_sosws(name, "what sosw works out at each run")
            .is_some()
        {
            at.refuse(
                &[Step::Key(name)],
                "replaces what sosw works out at each run, with which every run would be wrong: take it out \
                 (`max_duration` and `cooldown` say when a task has expired, `health_metrics` how its worker is)",
            );
        }
    }
    at.of_sosw(
        "average_duration",
        "what sosw works out at each run, and nobody reads",
    );
}
