//! One instance of a function: a process, its Runtime API, and its time limits.

use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use ::http::{HeaderValue, Method, Request, Response, StatusCode};
use bytes::Bytes;
use s3s::Body;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::invocation::{FunctionSpec, InvocationOutcome};
use super::pool::{Job, Lambda, Phase};
use crate::clock;
use crate::http::{Aborted, answer, bind, collect, serve};

const API: &str = "/2018-06-01/runtime/";
/// What a function is told its memory is. Nothing is held to it.
const MEMORY_MB: &str = "128";

/// What the process asks of the Runtime API.
#[derive(Debug)]
enum Call {
    /// `GET invocation/next`.
    Next(oneshot::Sender<Event>),
    /// `POST invocation/{id}/response` or `.../error`; the answer says whether that was the id.
    Done {
        request_id: String,
        outcome: InvocationOutcome,
        known: oneshot::Sender<bool>,
    },
    /// `POST init/error`.
    InitError(InvocationOutcome),
}

/// An event on its way to the process.
#[derive(Debug)]
struct Event {
    request_id: String,
    deadline_ms: u64,
    invoked_arn: String,
    trace: String,
    payload: Bytes,
}

/// Why an instance ended.
#[derive(Debug)]
enum End {
    /// It could not start, or said so itself.
    Init(InvocationOutcome),
    /// The process exited before it ever asked for an event.
    ExitedEarly(String),
    /// It ended after it had served, or was killed.
    Over,
}

/// Runs an instance to its end.
pub(super) async fn run(lambda: Lambda, spec: Arc<FunctionSpec>, id: u64, killed: watch::Receiver<bool>) {
    let end = match start(&lambda, &spec, id).await {
        Ok((listener, mut child)) => {
            let (calls, inbox) = mpsc::channel(8);
            let serving = serve(listener, move |request| runtime_api(calls.clone(), request));
            let back_by = clock::instant() + spec.init_timeout;
            let mut driver = Driver {
                lambda: &lambda,
                spec: &spec,
                id,
                killed,
                inbox,
                back_by,
                served: false,
            };
            let end = tokio::select! {
                end = driver.drive(&mut child) => end,
                () = serving => End::Over,
            };
            stop(&mut child).await;
            end
        }
        Err(error) => End::Init(failure("Runtime.InvalidEntrypoint", &error.to_string())),
    };
    let failed = match end {
        End::Init(outcome) => Some(outcome),
        End::ExitedEarly(how) => Some(InvocationOutcome::Crashed(how)),
        End::Over => None,
    };
    lambda.ended(&spec.name, id, failed);
}

async fn start(lambda: &Lambda, spec: &FunctionSpec, id: u64) -> std::io::Result<(TcpListener, Child)> {
    let (listener, address) = bind().await?;
    let root = spec.binary.parent().unwrap_or(&spec.binary);
    let mut command = Command::new(&spec.binary);
    command
        .args(&spec.args)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("LANG", "en_US.UTF-8")
        .env("TZ", ":UTC")
        .env("LAMBDA_TASK_ROOT", root)
        .env("LAMBDA_RUNTIME_DIR", root)
        .env("_HANDLER", "bootstrap")
        .env("AWS_EXECUTION_ENV", "AWS_Lambda_provided.al2023")
        .env("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand")
        .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
        .env("AWS_LAMBDA_FUNCTION_NAME", &spec.name)
        .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", MEMORY_MB)
        .env("AWS_LAMBDA_LOG_GROUP_NAME", format!("/aws/lambda/{}", spec.name))
        .env("AWS_LAMBDA_LOG_STREAM_NAME", format!("local/[$LATEST]{id:032x}"))
        .envs(lambda.environment().iter().map(|(name, value)| (name, value)))
        .envs(&spec.env)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn()?;
    if let Some(output) = child.stdout.take() {
        tokio::spawn(copy_lines(lambda.clone(), spec.name.clone(), id, output));
    }
    if let Some(output) = child.stderr.take() {
        tokio::spawn(copy_lines(lambda.clone(), spec.name.clone(), id, output));
    }
    Ok((listener, child))
}

async fn copy_lines(lambda: Lambda, function: String, id: u64, output: impl AsyncRead + Unpin) {
    let mut reader = BufReader::new(output);
    let mut line = Vec::new();
    while let Ok(1..) = reader.read_until(b'\n', &mut line).await {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        lambda.print(&function, id, text);
        line.clear();
    }
}

async fn stop(child: &mut Child) {
    if let Err(error) = child.kill().await {
        tracing::warn!(%error, "an instance could not be killed");
    }
}

struct Driver<'a> {
    lambda: &'a Lambda,
    spec: &'a FunctionSpec,
    id: u64,
    killed: watch::Receiver<bool>,
    inbox: mpsc::Receiver<Call>,
    /// When the process has to be back for its next event: its first one, or after the one that it has answered.
    back_by: Instant,
    served: bool,
}

/// Resolves once the instance is to be killed; never if nobody can ask for that any more.
async fn kill_asked(killed: &mut watch::Receiver<bool>) {
    if killed.wait_for(|killed| *killed).await.is_err() {
        std::future::pending().await
    }
}

impl Driver<'_> {
    async fn drive(&mut self, child: &mut Child) -> End {
        loop {
            let ready = match self.wait_ready(child).await {
                Ok(ready) => ready,
                Err(end) => return end,
            };
            self.lambda.set_phase(&self.spec.name, self.id, Phase::Idle);
            let Some((ready, job)) = self.wait_job(child, ready).await else {
                return End::Over;
            };
            self.served = true;
            if !self.serve(child, ready, job).await {
                return End::Over;
            }
        }
    }

    /// Until the process asks for an event.
    async fn wait_ready(&mut self, child: &mut Child) -> Result<oneshot::Sender<Event>, End> {
        loop {
            tokio::select! {
                call = self.inbox.recv() => match call {
                    Some(Call::Next(ready)) => return Ok(ready),
                    Some(Call::Done { known, .. }) => acknowledge(known, false),
                    Some(Call::InitError(outcome)) if !self.served => return Err(End::Init(outcome)),
                    Some(Call::InitError(_)) | None => return Err(End::Over),
                },
                status = child.wait() => {
                    return Err(if self.served { End::Over } else { End::ExitedEarly(how(status)) });
                }
                () = kill_asked(&mut self.killed) => return Err(End::Over),
                () = tokio::time::sleep_until(self.back_by) => {
                    if self.served {
                        return Err(End::Over);
                    }
                    return Err(End::Init(failure("Runtime.InitTimeout", "the function did not ask for an event")));
                }
            }
        }
    }

    /// Until there is something to do. `None` if the process is gone or to go.
    async fn wait_job(
        &mut self,
        child: &mut Child,
        mut ready: oneshot::Sender<Event>,
    ) -> Option<(oneshot::Sender<Event>, Job)> {
        let wake = self.lambda.wake(&self.spec.name)?;
        loop {
            let woken = wake.notified();
            tokio::pin!(woken);
            // Listens before it looks, so that what comes in between is not missed.
            woken.as_mut().enable();
            if let Some(job) = self.lambda.take_job(&self.spec.name, self.id) {
                return Some((ready, job));
            }
            tokio::select! {
                () = &mut woken => {}
                call = self.inbox.recv() => match call? {
                    // The process has asked again over another connection.
                    Call::Next(again) => ready = again,
                    Call::Done { known, .. } => acknowledge(known, false),
                    Call::InitError(_) => return None,
                },
                _ = child.wait() => return None,
                () = kill_asked(&mut self.killed) => return None,
            }
        }
    }

    /// Hands a job out and waits for what becomes of it. False if the process is gone or to go.
    async fn serve(&mut self, child: &mut Child, ready: oneshot::Sender<Event>, job: Job) -> bool {
        let started = clock::system_time();
        let until = clock::instant() + self.spec.timeout;
        self.back_by = until;
        let deadline = (started + self.spec.timeout)
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let event = Event {
            request_id: job.request_id.clone(),
            deadline_ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX),
            invoked_arn: job.invoked_arn.clone(),
            trace: job.trace.clone(),
            payload: job.payload.clone(),
        };
        if ready.send(event).is_err() {
            self.lambda.put_back(&self.spec.name, job);
            return true;
        }
        let record = self
            .lambda
            .begin(&self.spec.name, &job, Some(self.id), Some(started));
        let (outcome, known) = loop {
            tokio::select! {
                call = self.inbox.recv() => match call {
                    Some(Call::Done { request_id, outcome, known }) if request_id == job.request_id => {
                        break (outcome, Some(known));
                    }
                    Some(Call::Done { known, .. }) => acknowledge(known, false),
                    Some(Call::Next(_) | Call::InitError(_)) | None => {
                        break (InvocationOutcome::Crashed("no answer to its event".to_owned()), None);
                    }
                },
                status = child.wait() => break (InvocationOutcome::Crashed(how(status)), None),
                () = kill_asked(&mut self.killed) => {
                    break (InvocationOutcome::Crashed("error: signal: killed".to_owned()), None);
                }
                () = tokio::time::sleep_until(until) => break (InvocationOutcome::TimedOut, None),
            }
        };
        match known {
            Some(known) => {
                self.lambda.set_phase(&self.spec.name, self.id, Phase::Starting);
                self.lambda.finish(&self.spec.name, record, job, outcome);
                acknowledge(known, true);
                true
            }
            None => {
                // The process is dead and its place free before the outcome is told: the next attempt runs alone.
                stop(child).await;
                self.lambda.forget(&self.spec.name, self.id);
                self.lambda.finish(&self.spec.name, record, job, outcome);
                false
            }
        }
    }
}

/// Tells the process whether its request was understood, if it still waits for the answer.
fn acknowledge(known: oneshot::Sender<bool>, understood: bool) {
    if known.send(understood).is_err() {
        tracing::debug!("an instance did not wait for its answer");
    }
}

fn how(status: std::io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => format!("error: {status}"),
        Err(error) => format!("error: {error}"),
    }
}

fn failure(error_type: &str, message: &str) -> InvocationOutcome {
    let payload = serde_json::json!({ "errorType": error_type, "errorMessage": message }).to_string();
    InvocationOutcome::Failed {
        error_type: error_type.to_owned(),
        payload: Bytes::from(payload),
    }
}

/// An error document that the function sent.
fn reported(payload: Bytes, fallback: &str) -> InvocationOutcome {
    let document: Value = serde_json::from_slice(&payload).unwrap_or_default();
    let error_type = document
        .get("errorType")
        .and_then(Value::as_str)
        .unwrap_or(fallback)
        .to_owned();
    InvocationOutcome::Failed { error_type, payload }
}

/// The Runtime API, as in "Building a custom runtime for AWS Lambda".
async fn runtime_api(calls: mpsc::Sender<Call>, request: Request<Body>) -> Result<Response<Body>, Aborted> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().strip_prefix(API).unwrap_or_default();
    if parts.method == Method::GET && path == "invocation/next" {
        let (ready, event) = oneshot::channel();
        calls.send(Call::Next(ready)).await.map_err(|_| Aborted)?;
        return event.await.map_err(|_| Aborted).and_then(handed_out);
    }
    if parts.method != Method::POST {
        return Ok(not_found());
    }
    let error_type = parts.headers.get("lambda-runtime-function-error-type");
    let error_type = error_type
        .and_then(|value| value.to_str().ok())
        .unwrap_or("Unhandled");
    let body = collect(body).await?;
    if path == "init/error" {
        calls
            .send(Call::InitError(reported(body, error_type)))
            .await
            .map_err(|_| Aborted)?;
        return Ok(accepted());
    }
    let Some((request_id, verb)) = path
        .strip_prefix("invocation/")
        .and_then(|rest| rest.split_once('/'))
    else {
        return Ok(not_found());
    };
    let outcome = match verb {
        "response" => InvocationOutcome::Succeeded(body),
        "error" => reported(body, error_type),
        _ => return Ok(not_found()),
    };
    let (known, understood) = oneshot::channel();
    let done = Call::Done {
        request_id: request_id.to_owned(),
        outcome,
        known,
    };
    calls.send(done).await.map_err(|_| Aborted)?;
    if understood.await.map_err(|_| Aborted)? {
        return Ok(accepted());
    }
    let body = r#"{"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}"#;
    Ok(answer(StatusCode::BAD_REQUEST, "application/json", body))
}

fn handed_out(event: Event) -> Result<Response<Body>, Aborted> {
    let mut response = answer(StatusCode::OK, "application/json", event.payload);
    let headers = response.headers_mut();
    let text = |text: &str| HeaderValue::from_str(text).map_err(|_| Aborted);
    headers.insert("lambda-runtime-aws-request-id", text(&event.request_id)?);
    headers.insert("lambda-runtime-deadline-ms", HeaderValue::from(event.deadline_ms));
    headers.insert("lambda-runtime-invoked-function-arn", text(&event.invoked_arn)?);
    headers.insert("lambda-runtime-trace-id", text(&event.trace)?);
    Ok(response)
}

fn accepted() -> Response<Body> {
    answer(StatusCode::ACCEPTED, "application/json", r#"{"status":"OK"}"#)
}

fn not_found() -> Response<Body> {
    answer(
        StatusCode::NOT_FOUND,
        "application/json",
        r#"{"errorType":"NotFound"}"#,
    )
}
