//! A run as it should be: worked out from what was asked for, without a look at what the engine did.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jobmill_core::config::Config;
use jobmill_core::job::event::{self, Request};
use jobmill_core::job::period::AsOf;
use jobmill_core::job::plan::Plan;
use jobmill_core::queue::names::Keys;
use jobmill_core::task::identity::{TaskIds, short_digest};
use jobmill_core::task::row::payload_of;
use jobmill_memory::EPOCH_MS;
use serde_json::json;

use super::scenario::{JobSpec, SoswFile};

/// A row that must become a task, once.
#[derive(Debug)]
pub(super) struct ExpectedRow {
    pub(super) row: u64,
    pub(super) labourer_id: String,
}

/// A run that was asked for.
#[derive(Debug)]
pub(super) struct ExpectedRun {
    /// Which deployment it belongs to.
    pub(super) deployment: usize,
    pub(super) run_id: String,
    pub(super) keys: Keys,
    /// The rows that must become tasks, by the payloads of these, which no two rows of a simulation share.
    pub(super) rows: BTreeMap<String, ExpectedRow>,
    /// How many rows its queue file has.
    pub(super) count: u64,
    /// Rows that can't become tasks: somebody has the run pass over them.
    pub(super) wrong: BTreeSet<u64>,
    /// The same, and those that somebody has put right.
    pub(super) was_wrong: BTreeSet<u64>,
    /// Payloads that the tables refuse as invalid.
    pub(super) invalid: Vec<String>,
    /// A row whose task id is taken, and that id, until somebody has removed what has it.
    pub(super) taken: Option<(u64, String)>,
    /// A payload that the tables throttle, and until when.
    pub(super) hot: Option<(String, Duration)>,
}

impl ExpectedRun {
    /// The run of a job.
    pub(super) fn of_job(config: &Config, job: &JobSpec) -> Self {
        let plan = match (event::read(job.event()), AsOf::from_millis(EPOCH_MS)) {
            (Ok(Request::Job(request)), Some(now)) => Plan::make(config, request, None, now),
            _ => unreachable!("the event of the simulation is a job"),
        };
        let Ok(plan) = plan else {
            unreachable!("the job of the simulation is right")
        };
        let mut run = Self::empty(config, job.deployment, job.run_id.clone());
        let mut lines = plan.chunks.rows();
        while let Some(line) = lines.next_row() {
            run.add(line);
        }
        run.hot = job
            .hot
            .and_then(|(row, until)| Some((run.payload(row)?.to_owned(), until)));
        run.taken = job.taken.map(|row| {
            let ids = TaskIds::new(&config.queue_bucket, &config.s3_prefix, &job.run_id);
            (row, ids.at(row))
        });
        for row in &job.invalid {
            if let Some(payload) = run.payload(*row).map(str::to_owned) {
                run.rows.remove(&payload);
                run.invalid.push(payload);
                run.wrong.insert(*row);
            }
        }
        run.was_wrong = run.wrong.clone();
        run.was_wrong.extend(job.taken);
        run
    }

    /// The run that adopts a file which sosw left, if it has rows.
    pub(super) fn of_file(config: &Config, file: &SoswFile, etag: &str) -> Option<Self> {
        let run_id = format!("sosw-{}", short_digest(&[&file.name, etag]));
        let mut run = Self::empty(config, 0, run_id);
        for line in file.text().lines().filter(|line| !line.trim().is_empty()) {
            run.add(line.as_bytes());
        }
        run.was_wrong = run.wrong.clone();
        (run.count > 0).then_some(run)
    }

    fn empty(config: &Config, deployment: usize, run_id: String) -> Self {
        Self {
            deployment,
            keys: config.keys(config.file_name(&run_id)),
            run_id,
            rows: BTreeMap::new(),
            count: 0,
            wrong: BTreeSet::new(),
            was_wrong: BTreeSet::new(),
            invalid: Vec::new(),
            taken: None,
            hot: None,
        }
    }

    /// Adds the next line of the queue file.
    fn add(&mut self, line: &[u8]) {
        let row = self.count;
        match payload_of(line) {
            Ok((labourer_id, payload)) => {
                self.rows.insert(payload, ExpectedRow { row, labourer_id });
            }
            Err(_) => {
                self.wrong.insert(row);
            }
        }
        self.count += 1;
    }

    fn payload(&self, row: u64) -> Option<&str> {
        let found = self.rows.iter().find(|(_, expected)| expected.row == row);
        found.map(|(payload, _)| payload.as_str())
    }

    /// Somebody puts another line in the place of one that can't become a task: from then on it must.
    pub(super) fn mend(&mut self, row: u64) -> String {
        let section = format!("{}-{}-{row}-mended", self.deployment, self.run_id);
        let line = json!({ "sections": [section], "labourer_id": "worker" }).to_string();
        if let Ok((labourer_id, payload)) = payload_of(line.as_bytes()) {
            self.rows.insert(payload, ExpectedRow { row, labourer_id });
            self.wrong.remove(&row);
        }
        line
    }
}
