//! The whole way of a run, in this process: the engine on the ports of a cloud, one invocation after another.
//!
//! Where the scheduler Lambda starts a sibling, the loop here goes on itself with the same request that the sibling
//! would have got; where it leaves a file to the sweep, the loop is the sweep.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jobmill_aws::{ClientOptions, Clients, DynamoTasks, MetaContext, REQUEST_TIME, S3Store, SystemHost};
use jobmill_core::job::event::{Continuation, JobRequest, Request};
use jobmill_core::task::greenfield::Greenfield;
use jobmill_core::task::item::Task;
use jobmill_core::task::tables::FieldNames;
use jobmill_core::warning::Warnings;
use jobmill_engine::EngineError;
use jobmill_engine::Limits;
use jobmill_engine::ports::{Clock as _, PortError, PortResult};
use jobmill_engine::schedule::ports::{Created, InDoubt, MetaRow, Siblings, TaskTable};
use jobmill_engine::schedule::{Context, Engine, Observation, Outcome as Ended};
use jobmill_local::{LocalCloud, LocalCloudOptions};
use serde_json::Value;

use super::progress::Progress;
use super::summary::{Outcome, Summary};
use super::{Cloud, Order};
use crate::failure::Failure;
use crate::input::is_standard_stream;

/// Invocations in a row that may end without a new task before the run is given up for now.
const IDLE_INVOCATIONS: u32 = 3;

/// Runs the order in its cloud until nothing is left to do, and tells `progress` how far it is.
pub(super) async fn perform(
    order: Order,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Summary, Failure> {
    match order.cloud {
        Cloud::Aws => {
            let clients = Clients::from_environment(ClientOptions::default()).await;
            go(&order, clients.map_err(unconnected)?, progress).await
        }
        Cloud::Local => {
            progress(Progress::Phase("starting the local cloud"));
            // Lives until the run is over.
            let cloud = start_cloud(&order).await?;
            go(
                &order,
                Clients::at_endpoint(cloud.endpoint(), ClientOptions::default()),
                progress,
            )
            .await
        }
    }
}

async fn start_cloud(order: &Order) -> Result<LocalCloud, Failure> {
    let failed = |error: jobmill_local::LocalError| Failure::failed("LocalCloudFailed", error.to_string());
    let cloud = LocalCloud::start(LocalCloudOptions::default())
        .await
        .map_err(failed)?;
    cloud.create_bucket(&order.config.queue_bucket);
    cloud.create_task_tables(&order.config.tables).map_err(failed)?;
    Ok(cloud)
}

async fn go(
    order: &Order,
    clients: Clients,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Summary, Failure> {
    let config = &order.config;
    let host = SystemHost::new();
    let store = S3Store::new(clients.s3.clone(), &config.queue_bucket);
    let table = DynamoTasks::new(
        clients.dynamodb.clone(),
        config.tables.clone(),
        config.task_writes,
    )
    .with_meta(MetaContext {
        author: "jobmill".to_owned(),
        invocation_id: order.run_id.clone(),
        log_stream_name: "command line".to_owned(),
    });
    let tasks = Recorded {
        table,
        fields: &config.tables.fields,
        out: Output::open(order)?,
    };
    let progress = Mutex::new(progress);
    let tell = |event: Progress| (progress.lock().unwrap_or_else(PoisonError::into_inner))(event);
    let observer = |observation: Observation<'_>| {
        if let Observation::Progress { done, .. } = observation {
            tell(Progress::Tasks { done });
        }
    };
    let engine = Engine {
        store: &store,
        tasks: &tasks,
        siblings: &Here,
        host: &host,
        config,
        limits: Limits::default(),
        request_time: REQUEST_TIME,
        observer: &observer,
    };
    let mut request = Request::Job(JobRequest {
        job: order.job.clone(),
        run_id: Some(order.run_id.clone()),
        as_of: order.plan.as_of,
        event_time: None,
        strict: false,
        warnings: Warnings::default(),
    });
    let begun = host.monotonic();
    let mut summary = Summary {
        outcome: Outcome::NothingToDo,
        run_id: order.run_id.clone(),
        labourer_id: order.plan.labourer_id.clone(),
        file_name: config.file_name(&order.run_id),
        rows: order.plan.chunks.row_count(),
        created: 0,
        existed: 0,
        seconds: 0.0,
        hops: 0,
        throttled: 0,
        out: order.out.as_ref().map(|path| path.display().to_string()),
    };
    tell(Progress::Phase("writing the queue file"));
    let (mut idle, mut furthest) = (0, 0);
    loop {
        let deadline = host.monotonic() + Duration::from_secs(u64::from(order.timeout));
        let context = Context {
            request_id: order.run_id.clone(),
            deadline,
        };
        let ended = engine.run(request, &context).await.map_err(failure)?;
        let handed_off = matches!(ended, Ended::HandedOff { .. });
        summary.outcome = match ended {
            Ended::Completed(done) | Ended::HandedOff { summary: done, .. } => {
                summary.created = done.counters.created;
                summary.existed = done.counters.already_there;
                summary.throttled = done.counters.throttled;
                idle = if done.done > furthest || !handed_off {
                    0
                } else {
                    idle + 1
                };
                furthest = furthest.max(done.done);
                if handed_off {
                    Outcome::HandedOff
                } else {
                    Outcome::Completed
                }
            }
            Ended::AlreadyCompleted { .. } => Outcome::AlreadyCompleted,
            Ended::HeldElsewhere { .. } => Outcome::HeldElsewhere,
            Ended::NothingToDo { .. } | Ended::Swept { .. } => Outcome::NothingToDo,
        };
        if !handed_off || idle >= IDLE_INVOCATIONS {
            break;
        }
        summary.hops += 1;
        tell(Progress::Hop { hop: summary.hops });
        // The chain is not bounded here: its hops cost nothing, and this process is watched.
        request = Request::Continue(Continuation {
            file_name: summary.file_name.clone(),
            hop: 0,
            skip_line: None,
        });
    }
    summary.seconds = (host.monotonic() - begun).as_secs_f64();
    tasks.out.finish()?;
    Ok(summary)
}

/// Nothing was begun: the sentence of the error is all there is to say.
fn unconnected(source: PortError) -> Failure {
    let sentence = source.to_string();
    let step = "connecting to AWS";
    Failure::failed(EngineError::Port { step, source }.error_type(), sentence)
}

fn failure(error: EngineError) -> Failure {
    match error {
        EngineError::Input(error) => Failure::from(error),
        other => Failure::failed(
            other.error_type(),
            format!(
                "{other}. Nothing is lost: the same command with the same --run-id goes on where it stopped"
            ),
        ),
    }
}

/// The sibling is the next turn of the loop.
struct Here;

impl Siblings for Here {
    async fn spawn(&self, _payload: String) -> PortResult<()> {
        Ok(())
    }
}

/// Where created tasks are written, a JSON object a line.
struct Output(Option<Mutex<Lines>>);

struct Lines {
    to: Box<dyn Write + Send>,
    /// The first failure; nothing is written after it.
    failed: Option<io::Error>,
}

impl Output {
    fn open(order: &Order) -> Result<Self, Failure> {
        let Some(path) = &order.out else {
            return Ok(Self(None));
        };
        let to: Box<dyn Write + Send> = if is_standard_stream(path) {
            Box::new(BufWriter::new(io::stdout()))
        } else {
            let file = File::create(path).map_err(|error| {
                Failure::invalid(
                    "Usage",
                    format!("--out {} can't be written: {error}", path.display()),
                )
            })?;
            Box::new(BufWriter::with_capacity(1 << 18, file))
        };
        Ok(Self(Some(Mutex::new(Lines { to, failed: None }))))
    }

    fn write<'a>(&self, fields: &FieldNames, tasks: impl Iterator<Item = &'a Task>) {
        let Some(lines) = &self.0 else { return };
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        for task in tasks {
            if lines.failed.is_some() {
                return;
            }
            let line = item(fields, task);
            if let Err(error) = writeln!(lines.to, "{line}") {
                lines.failed = Some(error);
            }
        }
    }

    fn finish(self) -> Result<(), Failure> {
        let Some(lines) = self.0 else { return Ok(()) };
        let mut lines = lines.into_inner().unwrap_or_else(PoisonError::into_inner);
        match lines.failed.take() {
            Some(error) => Err(error.into()),
            None => Ok(lines.to.flush()?),
        }
    }
}

/// A task as its item, with plain JSON values.
fn item(fields: &FieldNames, task: &Task) -> Value {
    let number = |text: String| {
        text.parse::<serde_json::Number>()
            .map_or(Value::String(text), Value::Number)
    };
    Value::Object(serde_json::Map::from_iter([
        (fields.task_id.clone(), task.task_id.clone().into()),
        (fields.labourer_id.clone(), task.labourer_id.clone().into()),
        (fields.created_at.clone(), number(task.created_at.clone())),
        (fields.greenfield.clone(), number(task.greenfield.to_string())),
        (fields.attempts.clone(), 0.into()),
        (fields.payload.clone(), task.payload.clone().into()),
    ]))
}

/// A table whose created tasks are also written to the output.
struct Recorded<'a, T> {
    table: T,
    fields: &'a FieldNames,
    out: Output,
}

impl<T: TaskTable> TaskTable for Recorded<'_, T> {
    async fn newest_greenfield(
        &self,
        labourer_id: &str,
        not_after: Greenfield,
    ) -> PortResult<Option<Greenfield>> {
        self.table.newest_greenfield(labourer_id, not_after).await
    }

    async fn create(&self, tasks: &[Task]) -> PortResult<Vec<Created>> {
        let created = self.table.create(tasks).await?;
        let new = tasks
            .iter()
            .zip(&created)
            .filter(|(_, created)| **created == Created::Now)
            .map(|(task, _)| task);
        self.out.write(self.fields, new);
        Ok(created)
    }

    async fn create_in_doubt(&self, task: &Task) -> PortResult<InDoubt> {
        let found = self.table.create_in_doubt(task).await?;
        if found == InDoubt::Created {
            self.out.write(self.fields, std::iter::once(task));
        }
        Ok(found)
    }

    async fn record_meta(&self, rows: &[MetaRow]) -> PortResult<()> {
        self.table.record_meta(rows).await
    }
}
