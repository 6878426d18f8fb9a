//! Somebody who looks at what waits for people: runs that stopped at a row, files of sosw that nobody has adopted.

use std::time::Duration;

use jobmill_core::queue::lock::Lock;
use jobmill_core::task::write::Table;
use jobmill_engine::ports::PutIf;
use jobmill_memory::MemoryStore;
use serde_json::{Value, json};

use super::simulation::Simulation;

impl Simulation<'_> {
    /// Looks at everything; `quiet` says that the trouble is over.
    pub(super) fn look_at_files(&mut self, quiet: bool) {
        for number in 0..self.runs.len() {
            if let Some(line) = self.stopped_line(number) {
                self.look_at_stopped(number, line);
            }
        }
        let mut left = Vec::new();
        if quiet && let Some(first) = self.deployments.first() {
            for file in &self.scenario.left_by_sosw {
                let there = first.store.body(&first.config.key(&file.name));
                if there.is_some_and(|body| !body.is_empty()) {
                    left.push(json!({ "file_name": file.name }));
                }
            }
        }
        for event in left {
            self.ask_soon(0, event);
        }
    }

    /// The line, counted from 1, that a run waits at.
    fn stopped_line(&self, number: usize) -> Option<u64> {
        let run = self.runs.get(number)?;
        let body = self.deployments.get(run.deployment)?.store.body(&run.keys.lock)?;
        let lock = Lock::parse(&run.keys.lock, &body).ok()?;
        Some(lock.stopped?.line)
    }

    /// Has a run pass over a line, or mends it; or is mistaken: sends the run on without a word, or names another line.
    fn look_at_stopped(&mut self, number: usize, line: u64) {
        let rates = &self.scenario.rates;
        let mends = *self
            .mends
            .entry(number)
            .or_insert_with(|| self.rng.once_in(rates.operator_mends));
        let mistaken = self.network.strikes(rates.operator_errs);
        let Some(run) = self.runs.get_mut(number) else {
            return;
        };
        let (deployment, file_name) = (run.deployment, run.keys.file_name.clone());
        let plain = json!({ "file_name": file_name });
        let taken = run.taken.take_if(|(row, _)| *row + 1 == line);
        let event = if let Some((_, id)) = taken {
            self.tasks.with(|tables, now| tables.take(now, Table::Tasks, &id));
            self.tell(|| format!("somebody removes the task {id} that was in the way"));
            plain
        } else if mistaken && self.rng.once_in(2) {
            plain
        } else if mistaken {
            json!({ "file_name": file_name, "skip_line": line + 1 })
        } else if mends {
            let row = line.saturating_sub(1);
            if let Some(place) = self.deployments.get(deployment)
                && run.wrong.contains(&row)
            {
                let mended = run.mend(row);
                put_line(&place.store, &run.keys.rows, row, &mended);
                self.tell(|| format!("somebody mends line {line} of {file_name}"));
            }
            plain
        } else {
            json!({ "file_name": file_name, "skip_line": line })
        };
        if let Some(line) = event.get("skip_line").and_then(Value::as_u64) {
            self.passed_over.insert((number, line.saturating_sub(1)));
        }
        self.ask_soon(deployment, event);
    }

    fn ask_soon(&mut self, deployment: usize, event: Value) {
        let after = Duration::from_secs(self.rng.below(60));
        self.ask(after, deployment, event);
    }
}

/// Puts a line in the place of another one in a queue file.
fn put_line(store: &MemoryStore, key: &str, row: u64, line: &str) {
    let Some(body) = store.body(key) else { return };
    let text = String::from_utf8_lossy(&body);
    let mended: String = (0_u64..)
        .zip(text.lines())
        .map(|(at, old)| format!("{}\n", if at == row { line } else { old }))
        .collect();
    store.with(|bucket, now| {
        if let Ok(Some(head)) = bucket.head(now, key) {
            let put = bucket.put(
                now,
                key,
                mended.into(),
                &head.metadata,
                &PutIf::Matches(head.etag),
            );
            debug_assert!(put.is_ok(), "nobody else is here");
        }
    });
}
