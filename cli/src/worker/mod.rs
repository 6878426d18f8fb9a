//! Workers that are processes of this machine: each task is one run of a command.
//!
//! The command gets the task's payload on standard input, `JOBMILL_TASK_ID` and `JOBMILL_ATTEMPT` (1 for the first) in
//! its environment, and the rest of the environment from here. Exit code 0 is a success, and standard output its result;
//! anything else is a failure, and the end of standard error says why. When its time is over it is killed, and all that it
//! started with it: each run is a process group of its own. So is whatever is left of the group when the command itself
//! has ended, as Lambda lets nothing go on behind an answer.
//!
//! No run outlives the future that asked for it, nor [`ProcessWorkers::kill_all`]. Two things are beyond its reach, for
//! which code without `unsafe` has no means: a process that leaves its group (`setsid`), and the runs under way when this
//! process is killed by SIGKILL.

mod command;
mod output;
mod runs;

use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jobmill_core::task::labourer::MetricSource;
use jobmill_engine::dispatch::ports::{Answer, Asked, Asking, Unfit, Workers};
use jobmill_engine::ports::PortResult;
use serde::Deserialize;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStdin};

pub(crate) use command::CommandLine;
use output::{Head, Lines, Tail, copy};
use runs::{Run, Runs};

/// How long the output of a run is waited for after all of its group has ended: something may have left the group with
/// the other end of a pipe.
const LAST_OUTPUT: Duration = Duration::from_secs(1);
/// A process may run as long as it is waited for. Stands for "no limit" where one has to be told.
const NO_LIMIT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Who hears the lines that workers write to standard error.
pub(crate) type Listener = Arc<dyn Fn(&str) + Send + Sync>;

/// Workers that are runs of one command. Cheap to clone; all clones share their runs.
#[derive(Clone)]
pub(crate) struct ProcessWorkers {
    command: CommandLine,
    listener: Option<Listener>,
    runs: Runs,
}

/// What a run is told of its task beside the payload.
#[derive(Debug, Default, Deserialize)]
struct Told {
    #[serde(default)]
    task_id: String,
    /// How often it was tried before.
    #[serde(default)]
    attempts: u64,
}

impl ProcessWorkers {
    /// Runs of `command`. `listener` hears what they write to standard error, line by line.
    pub(crate) fn new(command: CommandLine, listener: Option<Listener>) -> Self {
        Self {
            command,
            listener,
            runs: Runs::default(),
        }
    }

    /// Kills all runs and starts no more; for a process that is about to end without waiting.
    pub(crate) fn kill_all(&self) {
        self.runs.kill_all();
    }

    async fn run(&self, told: &Told, payload: String, limit: Duration) -> Asked {
        let mut command = self.command.to_command();
        command
            .env("JOBMILL_TASK_ID", &told.task_id)
            .env("JOBMILL_ATTEMPT", told.attempts.saturating_add(1).to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        #[cfg(unix)]
        command.process_group(0);
        let (mut child, run) = match self.runs.start(&mut command) {
            Ok(started) => started,
            Err(error) => return self.command.not_started(&error),
        };
        let (mut head, mut tail) = (Head::default(), Tail::default());
        let mut lines = self.listener.as_deref().map(Lines::new);
        let ended = {
            let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
            let talk = async {
                tokio::join!(
                    give(pipes.0, &payload),
                    copy(pipes.1, |part| head.push(part)),
                    copy(pipes.2, |part| {
                        tail.push(part);
                        if let Some(lines) = &mut lines {
                            lines.push(part);
                        }
                    }),
                );
            };
            watch(&mut child, run, talk, limit).await
        };
        match ended {
            Some(Ok(status)) if status.success() => Asked::Answered(Answer {
                payload: Bytes::from(head.into_result()),
                is_error: false,
            }),
            Some(Ok(status)) => failure(&how(status), &tail.text()),
            Some(Err(error)) => Asked::Unknown(format!("{} can't be waited for: {error}", self.command)),
            None => {
                let said = tail.text();
                let limit = format!("killed after {} s without an end", limit.as_secs_f64());
                failure("Timeout", &[limit.as_str(), &said].join("\n"))
            }
        }
    }
}

impl Workers for ProcessWorkers {
    /// One run, whatever the function: all labourers have the same command.
    async fn ask(&self, _function: &str, payload: String, asking: Asking) -> Asked {
        let Asking::Wait(limit) = asking else {
            return Asked::WorkerUnfit(Unfit {
                kind: "ModeNotSupported",
                message:
                    "a command of this machine is waited for: set the labourer's `completion` to `response`"
                        .to_owned(),
            });
        };
        match serde_json::from_str::<Told>(&payload) {
            Ok(told) => self.run(&told, payload, limit).await,
            Err(error) => Asked::PayloadRefused(format!("the payload has no task in it: {error}")),
        }
    }

    async fn longest_run(&self, _function: &str) -> PortResult<Result<Duration, Unfit>> {
        Ok(Ok(NO_LIMIT))
    }

    /// Nobody measures how well this machine is.
    async fn datapoints(&self, _source: &MetricSource) -> PortResult<Vec<f64>> {
        Ok(Vec::new())
    }
}

/// Waits for the end of a run and of its group, and for the end of its output. None if its time was over before.
async fn watch(
    child: &mut Child,
    run: Run,
    talk: impl Future<Output = ()>,
    limit: Duration,
) -> Option<std::io::Result<ExitStatus>> {
    tokio::pin!(talk);
    let mut is_said = false;
    let wait = async {
        loop {
            tokio::select! {
                status = child.wait() => return status,
                () = &mut talk, if !is_said => is_said = true,
            }
        }
    };
    let ended = tokio::time::timeout(limit, wait).await.ok();
    // Kills what is left of the group.
    drop(run);
    if ended.is_none() {
        child.kill().await.ok();
    }
    if !is_said {
        // Whoever left the group may hold a pipe: what was said until now counts.
        tokio::time::timeout(LAST_OUTPUT, &mut talk).await.ok();
    }
    ended
}

/// Gives a run its payload. One that does not read it, or not all of it, need not.
async fn give(stdin: Option<ChildStdin>, payload: &str) {
    if let Some(mut stdin) = stdin {
        stdin.write_all(payload.as_bytes()).await.ok();
    }
}

/// How a run ended that was no success, as a type of error.
fn how(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return format!("Signal {signal}");
    }
    match status.code() {
        Some(code) => format!("ExitCode {code}"),
        None => "Ended".to_owned(),
    }
}

fn failure(error_type: &str, said: &str) -> Asked {
    let said = if said.is_empty() {
        "nothing on standard error"
    } else {
        said
    };
    let document = serde_json::json!({ "errorType": error_type, "errorMessage": said });
    Asked::Answered(Answer {
        payload: Bytes::from(document.to_string()),
        is_error: true,
    })
}

#[cfg(test)]
mod tests;
