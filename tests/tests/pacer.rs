//! The pace of writes against tables of all kinds, in virtual time. A scenario is a file in `tests/data/pacer`: how much
//! the table takes over time, and what is expected of the pace. Another scenario is another file.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::path::Path;
use std::time::Duration;

use jobmill_core::task::pacer::{MAX_LIMIT, Pacer, Send};
use serde_json::Value;

const BATCH: u64 = 25;

/// A token bucket whose rate changes over time.
struct Table {
    stages: Vec<(f64, f64, f64)>,
    tokens: f64,
    at: f64,
}

impl Table {
    fn of(scenario: &Value) -> Self {
        let number = |value: &Value| value.as_f64().unwrap();
        let stages: Vec<(f64, f64, f64)> = scenario["capacity"]
            .as_array()
            .unwrap()
            .iter()
            .map(|stage| {
                (
                    number(&stage["from_s"]),
                    number(&stage["units"]),
                    number(&stage["burst_s"]),
                )
            })
            .collect();
        let tokens = stages[0].1 * stages[0].2;
        Self {
            stages,
            tokens,
            at: 0.0,
        }
    }

    /// Units a second, and how many may pile up.
    fn stage(&self, now: f64) -> (f64, f64) {
        let (_, units, burst_s) = self
            .stages
            .iter()
            .rev()
            .find(|(from, _, _)| *from <= now)
            .unwrap();
        (*units, (units * burst_s).max(BATCH as f64))
    }

    fn take(&mut self, now: f64, wanted: u64) -> u64 {
        let (units, burst) = self.stage(now);
        self.tokens = (self.tokens + (now - self.at) * units).min(burst);
        self.at = now;
        let taken = (self.tokens.max(0.0) as u64).min(wanted);
        self.tokens -= taken as f64;
        taken
    }

    fn given(&self, from: f64, to: f64) -> f64 {
        let steps = 10_000;
        let step = (to - from) / f64::from(steps);
        (0..steps)
            .map(|at| self.stage(from + f64::from(at) * step).0 * step)
            .sum()
    }
}

struct Seen {
    tasks: u64,
    requests: u64,
    throttled: u64,
}

/// When it comes, how many units were taken, how many pushed back, when it was sent, how many were under way.
type Answer = (Duration, u64, u64, Duration, usize);

/// Drains for ever, as the engine does: what was pushed back waits, new batches go out when the pacer says so.
fn run(scenario: &Value) -> (Seen, f64) {
    let seconds = scenario["seconds"].as_f64().unwrap();
    let settled = scenario["settled_after_s"].as_f64().unwrap();
    let latency = Duration::from_secs_f64(scenario["latency_ms"].as_f64().unwrap() / 1000.0);
    let mut table = Table::of(scenario);
    let mut pacer = Pacer::new(MAX_LIMIT, Duration::ZERO);
    let mut seen = Seen {
        tasks: 0,
        requests: 0,
        throttled: 0,
    };
    let mut answers: BinaryHeap<Reverse<Answer>> = BinaryHeap::new();
    let mut waiting: VecDeque<(Duration, u64)> = VecDeque::new();
    let mut now = Duration::ZERO;
    let mut dice = 7_u64;
    while now.as_secs_f64() < seconds {
        let mut wake = Duration::MAX;
        loop {
            match pacer.may_send(now, answers.len()) {
                Send::Now => {}
                Send::At(at) => {
                    wake = wake.min(at);
                    break;
                }
                Send::AfterAnAnswer => break,
            }
            let units = match waiting.iter().position(|(ready, _)| *ready <= now) {
                Some(at) => waiting.remove(at).unwrap().1,
                None if waiting.len() >= 64 => break,
                None => BATCH,
            };
            pacer.sent(units);
            let taken = table.take(now.as_secs_f64(), units);
            let jitter = Duration::from_micros(dice % 500);
            dice = dice
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            answers.push(Reverse((
                now + latency + jitter,
                taken,
                units - taken,
                now,
                answers.len() + 1,
            )));
        }
        if let Some((ready, _)) = waiting.iter().min() {
            wake = wake.min(*ready);
        }
        let next = answers.peek().map_or(Duration::MAX, |Reverse((at, ..))| *at);
        now = next.min(wake.max(now + Duration::from_micros(10)));
        while let Some(Reverse((at, taken, pushed_back, sent_at, in_flight))) = answers.peek().copied() {
            if at > now {
                break;
            }
            answers.pop();
            pacer.answered(now, sent_at, in_flight, taken, pushed_back);
            if pushed_back > 0 {
                dice = dice
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let jitter = (dice >> 11) as f64 / (1_u64 << 53) as f64;
                waiting.push_back((now + pacer.backoff(jitter), pushed_back));
            }
            if now.as_secs_f64() >= settled {
                seen.tasks += taken;
                seen.requests += 1;
                seen.throttled += u64::from(pushed_back > 0);
            }
        }
    }
    let given = table.given(settled, seconds);
    (seen, given)
}

#[test]
fn the_pace_uses_what_the_table_gives_and_is_rarely_pushed_back() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/pacer");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty());
    let mut wrong = Vec::new();
    for file in files {
        let scenario: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let (seen, given) = run(&scenario);
        let used = seen.tasks as f64 / given;
        let throttled = seen.throttled as f64 / seen.requests.max(1) as f64;
        let seconds = scenario["seconds"].as_f64().unwrap() - scenario["settled_after_s"].as_f64().unwrap();
        let rate = seen.tasks as f64 / seconds;
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let line = format!(
            "{name}: {:.1} % used, {:.1} % of requests throttled, {rate:.0} tasks a second",
            used * 100.0,
            throttled * 100.0
        );
        println!("{line}");
        let expect = &scenario["expect"];
        let at_least = |key: &str, value: f64| expect[key].as_f64().is_none_or(|bound| value >= bound);
        let at_most = |key: &str, value: f64| expect[key].as_f64().is_none_or(|bound| value <= bound);
        if !at_least("used_at_least", used)
            || !at_least("tasks_per_second_at_least", rate)
            || !at_most("throttled_at_most", throttled)
        {
            wrong.push(format!("{line}, expected {expect}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
