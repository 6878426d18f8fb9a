//! Laws of the decisions of dispatching: rates, retries, endings, keys, health.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use std::time::Duration;

use jobmill_core::json::Document;
use jobmill_core::task::health::{Coefficients, allowed};
use jobmill_core::task::key_cap::key_of;
use jobmill_core::task::labourer::{Rate, RetryPolicy};
use jobmill_core::task::outcome::{Ending, of_answer, of_destination};
use jobmill_core::task::rate::Starts;
use proptest::prelude::*;
use serde_json::{Value, json};

/// A step of somebody who starts tasks: a pause in thousandths of the time of the rate, so many wanted, so many of them
/// given back, and whether another holder takes over, and how.
#[derive(Debug, Clone)]
struct Step {
    pause: f64,
    wanted: u32,
    given_back: u32,
    holder: Holder,
}

#[derive(Debug, Clone, Copy)]
enum Holder {
    Same,
    /// Which knows nothing.
    New,
    /// Which was told what is left.
    Told,
}

fn step() -> impl Strategy<Value = Step> {
    let pause = prop_oneof![5 => Just(0.0), 100 => 0.0..20.0_f64, 1 => 0.0..1500.0_f64];
    let wanted = prop_oneof![30 => Just(u32::MAX), 1 => 0..100_u32];
    let given_back = prop_oneof![2 => Just(0_u32), 1 => 0..4_u32];
    let holder = prop_oneof![100 => Just(Holder::Same), 1 => Just(Holder::New), 1 => Just(Holder::Told)];
    (pause, wanted, given_back, holder).prop_map(|(pause, wanted, given_back, holder)| Step {
        pause,
        wanted,
        given_back,
        holder,
    })
}

fn rate() -> impl Strategy<Value = Rate> {
    let starts = prop_oneof![1..20_u32, 1..2000_u32, 1..1_000_000_u32];
    let per = prop::sample::select(vec![1_u64, 60, 3600]);
    (starts, per).prop_map(|(starts, per)| Rate {
        starts,
        per: Duration::from_secs(per),
    })
}

/// The most starts in any half-open stretch of `per`: one that begins at a start.
fn most_in_a_window(started: &[(Duration, u32)], per: Duration) -> u64 {
    let from = |at: usize| {
        let (begin, _) = started[at];
        let inside = started[at..]
            .iter()
            .take_while(|(moment, _)| *moment < begin + per);
        inside.map(|(_, count)| u64::from(*count)).sum()
    };
    (0..started.len()).map(from).max().unwrap_or(0)
}

fn cases(count: u32) -> ProptestConfig {
    ProptestConfig {
        cases: count,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn no_window_has_more_starts_than_the_rate_allows(rate in rate(), steps in prop::collection::vec(step(), 1..400)) {
        let mut now = Duration::from_secs(1000);
        let mut starts = Starts::new(rate, now);
        let mut started = Vec::new();
        for step in steps {
            now += rate.per.mul_f64(step.pause / 1000.0);
            match step.holder {
                Holder::Same => {}
                Holder::New => starts = Starts::new(rate, now),
                Holder::Told => {
                    let left = starts.left(now);
                    starts = Starts::resume(rate, now, left, Duration::ZERO);
                }
            }
            let count = starts.room(now).min(step.wanted);
            starts.take(now, count);
            let given_back = step.given_back.min(count);
            starts.give_back(given_back);
            started.push((now, count - given_back));
        }
        let most = most_in_a_window(&started, rate.per);
        prop_assert!(most <= u64::from(rate.starts), "{most} of {}", rate.starts);
    }

    #[test]
    fn whoever_comes_when_it_is_said_finds_room_and_gets_nearly_the_whole_rate(rate in rate()) {
        let begin = Duration::from_secs(7);
        let mut now = begin;
        let mut starts = Starts::new(rate, now);
        let mut count = 0_u64;
        for _ in 0..500 {
            if let Some(next) = starts.next(now) {
                prop_assert!(next > now);
                prop_assert_eq!(starts.clone().room(next - Duration::from_nanos(1)), 0);
                now = next;
            }
            let room = starts.room(now);
            prop_assert!(room > 0, "at {:?}", now);
            starts.take(now, room);
            count += u64::from(room);
        }
        let meant = (now - begin).as_secs_f64() / rate.per.as_secs_f64() * f64::from(rate.starts);
        prop_assert!(count as f64 >= meant * 0.94, "{count} of {meant}");
    }

    #[test]
    fn a_wait_lies_between_a_half_and_the_whole_and_is_never_too_long(
        delay in 0..100_000_u64, backoff in 1.0..100.0_f64, longest in 0..1_000_000_u64, attempts in any::<u32>(),
        chance in 0.0..=1.0_f64,
    ) {
        let policy = RetryPolicy {
            delay: Duration::from_secs(delay),
            backoff,
            longest: Duration::from_secs(longest),
        };
        let (whole, wait) = (policy.delay(attempts, 0.0), policy.delay(attempts, chance));
        prop_assert!(whole <= policy.longest && wait <= whole);
        prop_assert!(wait.as_secs_f64() >= whole.as_secs_f64() * 0.499_999);
        prop_assert!(policy.delay(attempts.saturating_add(1), 0.0) >= whole, "later attempts wait no shorter");
    }

    #[test]
    fn the_more_a_worker_may_the_healthier_it_is(max in any::<u32>(), status in any::<u8>()) {
        let shares = Coefficients::default();
        let now = allowed(max, shares.strength(status));
        prop_assert!(now <= max);
        prop_assert!(allowed(max, shares.strength(status.saturating_add(1))) >= now);
    }

    #[test]
    fn any_answer_ends_an_attempt(payload in answer(), is_error in any::<bool>()) {
        check_ending(of_answer(&payload, is_error), is_error)?;
    }

    #[test]
    fn any_message_is_read_or_refused(body in prop_oneof![".{0,80}", message()]) {
        if let Ok(news) = of_destination(&body, "attempts") {
            prop_assert!(!news.task_id.is_empty());
            check_ending(news.ending, false)?;
        }
    }

    #[test]
    fn equal_values_have_equal_keys_and_keys_are_short(value in json_value(), by in "[a-c]([.][a-c]){0,2}") {
        let by: Vec<String> = by.split('.').map(str::to_owned).collect();
        let key = |value: &Value| key_of(Document::parse(value.to_string()).unwrap().root(), &by);
        let nested = by.iter().rev().fold(value.clone(), |inner, name| json!({ (name): inner }));
        let in_a_list = by.iter().rev().fold(json!([value]), |inner, name| json!({ (name): inner }));
        let found = key(&nested);
        prop_assert_eq!(&found, &key(&in_a_list));
        prop_assert!(found.is_none_or(|key| key.len() <= 200));
    }
}

/// What is kept is bounded, and an error is a failure.
fn check_ending(ending: Ending, is_error: bool) -> Result<(), TestCaseError> {
    match ending {
        Ending::Succeeded { result, .. } => {
            prop_assert!(!is_error);
            prop_assert!(result.is_none_or(|result| (1..=4096).contains(&result.len())));
        }
        Ending::Failed { error, .. } => {
            prop_assert!(!error.kind.is_empty() && error.kind.chars().count() <= 201);
            prop_assert!(!error.message.is_empty() && error.message.chars().count() <= 1001);
        }
        Ending::NotStarted { why } => prop_assert!(!is_error && why.chars().count() <= 201),
    }
    Ok(())
}

const WORDS: [&str; 20] = [
    "jobmill",
    "outcome",
    "failed",
    "succeeded",
    "retry",
    "eventful",
    "error",
    "type",
    "message",
    "result",
    "errorType",
    "errorMessage",
    "task_id",
    "attempts",
    "requestPayload",
    "requestContext",
    "condition",
    "Success",
    "EventAgeExceeded",
    "functionError",
];

fn json_value() -> impl Strategy<Value = Value> {
    let text =
        prop_oneof![4 => prop::sample::select(WORDS.to_vec()).prop_map(str::to_owned), 1 => ".{0,300}"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((text.clone(), inner), 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Any bytes, and what nearly says something.
fn answer() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        json_value().prop_map(|value| value.to_string().into_bytes()),
        json_value().prop_map(|value| json!({ "jobmill": value }).to_string().into_bytes()),
        (json_value(), json_value(), json_value()).prop_map(|(outcome, error, result)| {
            let says = json!({ "outcome": outcome, "error": error, "result": result, "retry": result });
            json!({ "jobmill": says }).to_string().into_bytes()
        }),
        (json_value(), json_value()).prop_map(|(kind, message)| {
            json!({ "errorType": kind, "errorMessage": message })
                .to_string()
                .into_bytes()
        }),
        (".{1,3}", 1..4000_usize).prop_map(|(text, times)| text.repeat(times).into_bytes()),
    ]
}

/// A record of a destination in which anything may be anything.
fn message() -> impl Strategy<Value = String> {
    (json_value(), json_value(), json_value(), 0..6_usize).prop_map(|(one, two, three, right)| {
        let condition = if right > 0 {
            json!(["Success", "EventAgeExceeded", "RetriesExhausted"][right % 3])
        } else {
            three
        };
        let mut record = json!({
            "requestContext": { "condition": condition, "approximateInvokeCount": 0 },
            "requestPayload": { "task_id": "t", "attempts": 0 },
            "responseContext": one,
            "responsePayload": two,
        });
        if right > 4 {
            record["requestPayload"]["attempts"] = record["responsePayload"].clone();
        }
        record.to_string()
    })
}
