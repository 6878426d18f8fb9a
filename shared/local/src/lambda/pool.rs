//! Functions, their queues, their instances. An invocation waits in the queue of its function until a process asks for
//! it; asynchronous ones are tried again as Lambda tries them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;

use super::destinations::{Condition, Ended, EventConfig, LATEST, record};
use super::instance;
use super::invocation::{
    FunctionSpec, InvocationKind, InvocationOutcome, InvocationRecord, InvokeResult, LogLine,
};
use crate::account::function_arn;
use crate::clock;
use crate::error::LocalError;
use crate::random::{Random, request_id};
use crate::service::Deliver;

/// So many lines of output are kept; older ones are forgotten.
const MAX_LOG_LINES: usize = 100_000;
/// So many attempts are remembered; older ones are forgotten.
const MAX_RECORDS: usize = 100_000;
/// So many invocations of a function wait at most; further ones are refused.
const MAX_QUEUE: usize = 100_000;
/// The pause between two looks for events that have become too old, at least.
const AGE_STEP: Duration = Duration::from_millis(100);

/// An invocation on its way.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) request_id: String,
    pub(super) invoked_arn: String,
    /// The version or alias, `$LATEST` if none was named.
    qualifier: String,
    kind: InvocationKind,
    attempt: u32,
    pub(super) trace: String,
    pub(super) payload: Bytes,
    reply: Option<oneshot::Sender<InvokeResult>>,
    /// When it is too old to be started; never, if somebody waits for it.
    expires: Option<Instant>,
    /// What came of the attempt before.
    last: Option<InvokeResult>,
}

impl Job {
    fn new(target: &Target, request_id: &str, payload: Bytes, trace: Option<&str>) -> Self {
        Self {
            request_id: request_id.to_owned(),
            invoked_arn: target.arn(),
            qualifier: target.qualifier().to_owned(),
            kind: InvocationKind::Event,
            attempt: 1,
            trace: trace.map_or_else(|| new_trace(request_id), str::to_owned),
            payload,
            reply: None,
            expires: None,
            last: None,
        }
    }
}

/// What an instance is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Starting,
    Idle,
    Busy,
}

#[derive(Debug)]
struct Running {
    phase: Phase,
    kill: watch::Sender<bool>,
}

#[derive(Debug)]
struct Function {
    spec: Arc<FunctionSpec>,
    queue: VecDeque<Job>,
    instances: BTreeMap<u64, Running>,
    wake: Arc<Notify>,
    /// How events are handled, by version or alias.
    event_configs: BTreeMap<String, EventConfig>,
    /// When the next look for events that are too old is due.
    next_expiry: Option<Instant>,
    modified: SystemTime,
}

impl Function {
    /// How long after its failure an event is tried again, if it is.
    fn retry_delay(&self, job: &Job) -> Option<Duration> {
        let delays = &self.spec.retry_delays;
        let config = self.event_configs.get(&job.qualifier);
        let retries = config
            .and_then(|config| config.max_retries)
            .unwrap_or(delays.len());
        let before = usize::try_from(job.attempt).ok()?.checked_sub(1)?;
        let delay = || delays.get(before).or(delays.last()).copied();
        (before < retries).then(|| delay().unwrap_or(Duration::from_secs(1)))
    }

    /// Takes out the events that are too old, and says when the next one will be.
    fn expire(&mut self, now: Instant) -> (Vec<Job>, Option<Instant>) {
        let is_old = |job: &Job| job.expires.is_some_and(|expires| expires <= now);
        let (old, rest): (Vec<Job>, Vec<Job>) = self.queue.drain(..).partition(is_old);
        self.queue = rest.into();
        let next = self.queue.iter().filter_map(|job| job.expires).min();
        (old, next.map(|next| next.max(now + AGE_STEP)))
    }

    fn in_phase(&self, phase: Phase) -> usize {
        self.instances
            .values()
            .filter(|running| running.phase == phase)
            .count()
    }
}

#[derive(Debug, Default)]
struct State {
    functions: HashMap<String, Function>,
    records: VecDeque<InvocationRecord>,
    /// How many records were forgotten: the number of the first that is not.
    forgotten: usize,
    logs: VecDeque<LogLine>,
    instances: u64,
}

impl State {
    /// A record by its number, unless it is forgotten.
    fn record(&mut self, number: usize) -> Option<&mut InvocationRecord> {
        self.records.get_mut(number.checked_sub(self.forgotten)?)
    }
}

#[derive(Debug)]
struct Inner {
    handle: Handle,
    environment: Vec<(String, String)>,
    /// Where records of asynchronous invocations go.
    deliver: Arc<dyn Deliver>,
    state: Mutex<State>,
    /// Invocations that are queued, running, or waiting to be tried again.
    pending: watch::Sender<usize>,
    /// Lines printed so far.
    printed: watch::Sender<u64>,
}

/// Why an invocation was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refused {
    NoSuchFunction,
    TooMany,
}

/// All functions. Cheap to clone; all clones share one state.
#[derive(Debug, Clone)]
pub(crate) struct Lambda(Arc<Inner>);

impl Lambda {
    pub(crate) fn new(handle: Handle, environment: Vec<(String, String)>, deliver: Arc<dyn Deliver>) -> Self {
        let inner = Inner {
            handle,
            environment,
            deliver,
            state: Mutex::default(),
            pending: watch::Sender::new(0),
            printed: watch::Sender::new(0),
        };
        Self(Arc::new(inner))
    }

    /// What a client in an instance needs to find the cloud.
    pub(super) fn environment(&self) -> &[(String, String)] {
        &self.0.environment
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn register(&self, spec: FunctionSpec) {
        let mut state = self.state();
        let spec = Arc::new(spec);
        match state.functions.get_mut(&spec.name) {
            Some(function) => {
                function.spec = spec;
                function.modified = clock::system_time();
            }
            None => {
                let function = Function {
                    spec: Arc::clone(&spec),
                    queue: VecDeque::new(),
                    instances: BTreeMap::new(),
                    wake: Arc::new(Notify::new()),
                    event_configs: BTreeMap::new(),
                    next_expiry: None,
                    modified: clock::system_time(),
                };
                state.functions.insert(spec.name.clone(), function);
            }
        }
    }

    /// Takes an event; it runs when there is an instance for it.
    pub(super) fn submit(
        &self,
        target: &Target,
        request_id: &str,
        payload: Bytes,
        trace: Option<&str>,
        reply: Option<oneshot::Sender<InvokeResult>>,
    ) -> Result<(), Refused> {
        let mut job = Job::new(target, request_id, payload, trace);
        job.reply = reply;
        if job.reply.is_some() {
            job.kind = InvocationKind::RequestResponse;
        }
        {
            let mut state = self.state();
            let function = state
                .functions
                .get_mut(&target.name)
                .ok_or(Refused::NoSuchFunction)?;
            let spec = &function.spec;
            let limit = match job.kind {
                InvocationKind::Event => MAX_QUEUE,
                // A caller who waits is not queued: he is refused if no instance is free or may be started.
                InvocationKind::RequestResponse => spec
                    .max_concurrency
                    .saturating_sub(function.in_phase(Phase::Busy)),
            };
            if function.queue.len() >= limit {
                return Err(Refused::TooMany);
            }
            if job.kind == InvocationKind::Event {
                if spec.max_concurrency == 0 {
                    drop(state);
                    self.send_record(&target.name, &job, Condition::RetriesExhausted);
                    return Ok(());
                }
                let config = function.event_configs.get(&job.qualifier);
                let age = config.and_then(|config| config.max_age);
                job.expires = clock::instant().checked_add(age.unwrap_or(spec.max_event_age));
            }
            self.0.pending.send_modify(|pending| *pending += 1);
            self.enqueue(function, &target.name, job);
        }
        self.dispatch(&target.name);
        Ok(())
    }

    /// Puts a job into the queue of its function, and sees to it that it is given up when it is too old.
    fn enqueue(&self, function: &mut Function, name: &str, job: Job) {
        if let Some(expires) = job.expires
            && function.next_expiry.is_none_or(|next| expires < next)
        {
            function.next_expiry = Some(expires);
            self.0
                .handle
                .spawn(self.clone().give_up(name.to_owned(), expires));
        }
        function.queue.push_back(job);
    }

    /// Gives up events that have waited too long, from `look` on while there are any; ends if another one is to look
    /// earlier.
    async fn give_up(self, name: String, mut look: Instant) {
        loop {
            tokio::time::sleep_until(look).await;
            let (old, next) = {
                let mut state = self.state();
                let Some(function) = state.functions.get_mut(&name) else {
                    return;
                };
                if function.next_expiry != Some(look) {
                    return;
                }
                let (old, next) = function.expire(clock::instant());
                function.next_expiry = next;
                (old, next)
            };
            for mut job in old {
                // This attempt has not been made.
                job.attempt -= 1;
                self.send_record(&name, &job, Condition::EventAgeExceeded);
                self.0.pending.send_modify(|pending| *pending -= 1);
            }
            match next {
                Some(next) => look = next,
                None => return,
            }
        }
    }

    /// Sends the record of an event that has ended to its destination, if it has one.
    fn send_record(&self, name: &str, job: &Job, condition: Condition) {
        let destination = {
            let state = self.state();
            let function = state.functions.get(name);
            let config = function.and_then(|function| function.event_configs.get(&job.qualifier));
            config.and_then(|config| match condition {
                Condition::Success => config.on_success.clone(),
                Condition::RetriesExhausted | Condition::EventAgeExceeded => config.on_failure.clone(),
            })
        };
        let Some(destination) = destination else { return };
        let ended = Ended {
            request_id: &job.request_id,
            function_arn: &format!("{}:{}", function_arn(name), job.qualifier),
            condition,
            count: if job.last.is_some() { job.attempt } else { 0 },
            payload: &job.payload,
            result: job.last.as_ref(),
            now: clock::system_time(),
        };
        if !self.0.deliver.deliver(&destination, record(&ended).to_string()) {
            tracing::warn!(
                destination,
                function = name,
                "a record of an invocation could not be delivered"
            );
        }
    }

    /// Records an event that was accepted and never ran.
    pub(super) fn lose(&self, target: &Target, request_id: &str, payload: Bytes) {
        let job = Job::new(target, request_id, payload, None);
        let record = self.begin(&target.name, &job, None, None);
        if let Some(record) = self.state().record(record) {
            record.ended = Some(clock::system_time());
            record.outcome = Some(InvocationOutcome::Lost);
        }
    }

    /// Starts instances for what waits, up to the function's limit, and wakes the idle ones.
    fn dispatch(&self, name: &str) {
        let mut state = self.state();
        let State {
            functions,
            instances: counter,
            ..
        } = &mut *state;
        let Some(function) = functions.get_mut(name) else {
            return;
        };
        let ready = function.in_phase(Phase::Idle) + function.in_phase(Phase::Starting);
        let room = function
            .spec
            .max_concurrency
            .saturating_sub(function.instances.len());
        for _ in 0..function.queue.len().saturating_sub(ready).min(room) {
            *counter += 1;
            let (kill, killed) = watch::channel(false);
            function.instances.insert(
                *counter,
                Running {
                    phase: Phase::Starting,
                    kill,
                },
            );
            let spec = Arc::clone(&function.spec);
            self.0
                .handle
                .spawn(instance::run(self.clone(), spec, *counter, killed));
        }
        function.wake.notify_waiters();
    }

    pub(super) fn wake(&self, name: &str) -> Option<Arc<Notify>> {
        self.state()
            .functions
            .get(name)
            .map(|function| Arc::clone(&function.wake))
    }

    pub(super) fn set_phase(&self, name: &str, instance: u64, phase: Phase) {
        let mut state = self.state();
        let running = state
            .functions
            .get_mut(name)
            .and_then(|function| function.instances.get_mut(&instance));
        if let Some(running) = running {
            running.phase = phase;
        }
    }

    /// The next job for an idle instance, which is busy from now on.
    pub(super) fn take_job(&self, name: &str, instance: u64) -> Option<Job> {
        let mut state = self.state();
        let function = state.functions.get_mut(name)?;
        let running = function.instances.get_mut(&instance)?;
        let job = function.queue.pop_front()?;
        running.phase = Phase::Busy;
        Some(job)
    }

    /// Puts back a job that its instance never got.
    pub(super) fn put_back(&self, name: &str, job: Job) {
        if let Some(function) = self.state().functions.get_mut(name) {
            function.queue.push_front(job);
        }
        self.dispatch(name);
    }

    /// Records that an attempt began; the number is for [`Lambda::finish`].
    pub(super) fn begin(
        &self,
        name: &str,
        job: &Job,
        instance: Option<u64>,
        started: Option<SystemTime>,
    ) -> usize {
        let mut state = self.state();
        if state.records.len() >= MAX_RECORDS {
            state.records.pop_front();
            state.forgotten += 1;
        }
        state.records.push_back(InvocationRecord {
            function: name.to_owned(),
            invoked_arn: job.invoked_arn.clone(),
            request_id: job.request_id.clone(),
            kind: job.kind,
            attempt: job.attempt,
            trace: job.trace.clone(),
            payload: job.payload.clone(),
            instance,
            started,
            ended: None,
            outcome: None,
        });
        state.forgotten + state.records.len() - 1
    }

    /// An attempt is over: the caller gets the outcome; a failed event is tried again while it has attempts left.
    pub(super) fn finish(&self, name: &str, record: usize, mut job: Job, outcome: InvocationOutcome) {
        let failed = !matches!(outcome, InvocationOutcome::Succeeded(_));
        let (delay, timeout) = {
            let mut state = self.state();
            if let Some(record) = state.record(record) {
                record.ended = Some(clock::system_time());
                record.outcome = Some(outcome.clone());
            }
            let function = state.functions.get(name);
            let delay = function.and_then(|function| function.retry_delay(&job));
            (
                delay,
                function.map_or(Duration::ZERO, |function| function.spec.timeout),
            )
        };
        let result = result_of(&job.request_id, outcome, timeout);
        if let Some(reply) = job.reply.take() {
            // The caller may have closed the connection.
            drop(reply.send(result));
            self.0.pending.send_modify(|pending| *pending -= 1);
            return;
        }
        job.last = Some(result);
        let condition = match delay {
            _ if !failed => Condition::Success,
            None => Condition::RetriesExhausted,
            Some(delay) if job.expires.is_some_and(|at| clock::instant() + delay >= at) => {
                Condition::EventAgeExceeded
            }
            Some(delay) => return self.try_again(name, job, delay),
        };
        self.send_record(name, &job, condition);
        self.0.pending.send_modify(|pending| *pending -= 1);
    }

    /// Puts an event that has failed back into its queue, after a delay.
    fn try_again(&self, name: &str, mut job: Job, delay: Duration) {
        job.attempt += 1;
        let (this, name) = (self.clone(), name.to_owned());
        self.0.handle.spawn(async move {
            clock::sleep(delay).await;
            if let Some(function) = this.state().functions.get_mut(&name) {
                this.enqueue(function, &name, job);
            }
            this.dispatch(&name);
        });
    }

    /// What the API shows of a function; none if there is no such function.
    pub(super) fn describe(&self, name: &str) -> Option<(Arc<FunctionSpec>, SystemTime)> {
        let state = self.state();
        let function = state.functions.get(name)?;
        Some((Arc::clone(&function.spec), function.modified))
    }

    /// Reads or changes how the events of a function are handled; none if there is no such function.
    pub(super) fn event_configs<T>(
        &self,
        name: &str,
        change: impl FnOnce(&mut BTreeMap<String, EventConfig>) -> T,
    ) -> Option<T> {
        let mut state = self.state();
        let function = state.functions.get_mut(name)?;
        Some(change(&mut function.event_configs))
    }

    /// Removes an instance that has ended from its function.
    pub(super) fn forget(&self, name: &str, instance: u64) {
        if let Some(function) = self.state().functions.get_mut(name) {
            function.instances.remove(&instance);
        }
    }

    /// An instance has ended. If it could not start, the first event that waits fails with it.
    pub(super) fn ended(&self, name: &str, instance: u64, init_failure: Option<InvocationOutcome>) {
        let orphan = {
            let mut state = self.state();
            let Some(function) = state.functions.get_mut(name) else {
                return;
            };
            function.instances.remove(&instance);
            if init_failure.is_some() {
                function.queue.pop_front()
            } else {
                None
            }
        };
        if let (Some(job), Some(outcome)) = (orphan, init_failure) {
            let record = self.begin(name, &job, Some(instance), None);
            self.finish(name, record, job, outcome);
        }
        self.dispatch(name);
    }

    pub(super) fn print(&self, function: &str, instance: u64, text: String) {
        {
            let mut state = self.state();
            if state.logs.len() >= MAX_LOG_LINES {
                state.logs.pop_front();
            }
            state.logs.push_back(LogLine {
                function: function.to_owned(),
                instance,
                text,
            });
        }
        self.0.printed.send_modify(|printed| *printed += 1);
    }

    pub(crate) fn invoke_event(&self, name: &str, payload: Bytes) -> Result<String, LocalError> {
        let request_id = request_id();
        let submitted = self.submit(&Target::parse(name, None), &request_id, payload, None, None);
        submitted.map_err(|refused| refusal(name, &refused))?;
        Ok(request_id)
    }

    pub(crate) async fn invoke(&self, name: &str, payload: Bytes) -> Result<InvokeResult, LocalError> {
        let (reply, result) = oneshot::channel();
        let submitted = self.submit(
            &Target::parse(name, None),
            &request_id(),
            payload,
            None,
            Some(reply),
        );
        submitted.map_err(|refused| refusal(name, &refused))?;
        result.await.map_err(|_| LocalError::Stopped)
    }

    pub(crate) async fn wait_idle(&self, timeout: Duration) -> Result<(), LocalError> {
        let mut pending = self.0.pending.subscribe();
        let idle = tokio::time::timeout(timeout, pending.wait_for(|pending| *pending == 0)).await;
        match idle {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(LocalError::Stopped),
            Err(_) => Err(LocalError::NotIdle {
                pending: *self.0.pending.borrow(),
                timeout,
            }),
        }
    }

    pub(crate) fn invocations(&self) -> Vec<InvocationRecord> {
        self.state().records.iter().cloned().collect()
    }

    pub(crate) fn logs(&self) -> Vec<LogLine> {
        self.state().logs.iter().cloned().collect()
    }

    pub(crate) async fn wait_log(&self, part: &str, timeout: Duration) -> Result<LogLine, LocalError> {
        let mut printed = self.0.printed.subscribe();
        let found = async {
            loop {
                printed.mark_unchanged();
                let line = self
                    .state()
                    .logs
                    .iter()
                    .find(|line| line.text.contains(part))
                    .cloned();
                if let Some(line) = line {
                    return Ok(line);
                }
                printed.changed().await.map_err(|_| LocalError::Stopped)?;
            }
        };
        let missing = || LocalError::NoSuchLog {
            part: part.to_owned(),
            timeout,
        };
        tokio::time::timeout(timeout, found)
            .await
            .unwrap_or_else(|_| Err(missing()))
    }

    /// Instances that run, by function; those of them that are at work.
    fn victims(&self, busy_only: bool) -> Vec<(String, u64)> {
        let state = self.state();
        let mut victims: Vec<_> = state
            .functions
            .iter()
            .flat_map(|(name, function)| {
                function
                    .instances
                    .iter()
                    .map(move |(id, running)| (name, id, running))
            })
            .filter(|(_, _, running)| !busy_only || running.phase == Phase::Busy)
            .map(|(name, id, _)| (name.clone(), *id))
            .collect();
        victims.sort_by_key(|(_, id)| *id);
        victims
    }

    fn kill(&self, name: &str, instance: u64) {
        let state = self.state();
        let running = state
            .functions
            .get(name)
            .and_then(|function| function.instances.get(&instance));
        if let Some(running) = running {
            running.kill.send_replace(true);
        }
    }

    pub(crate) fn kill_all(&self) -> usize {
        let victims = self.victims(false);
        for (name, instance) in &victims {
            self.kill(name, *instance);
        }
        victims.len()
    }

    pub(crate) fn kill_random(&self, random: &Random) -> Option<u64> {
        let victims = self.victims(true);
        let (name, instance) = random.choose(&victims)?;
        self.kill(name, *instance);
        Some(*instance)
    }

    pub(crate) fn kill_random_of(&self, function: &str, random: &Random) -> Option<u64> {
        let mut victims = self.victims(true);
        victims.retain(|(name, _)| name == function);
        let (name, instance) = random.choose(&victims)?;
        self.kill(name, *instance);
        Some(*instance)
    }

    pub(crate) fn instances(&self) -> usize {
        self.victims(false).len()
    }
}

fn refusal(name: &str, refused: &Refused) -> LocalError {
    match refused {
        Refused::NoSuchFunction => LocalError::NoSuchFunction(name.to_owned()),
        Refused::TooMany => LocalError::TooManyInvocations(name.to_owned()),
    }
}

/// What a waiting caller is told.
fn result_of(request_id: &str, outcome: InvocationOutcome, timeout: Duration) -> InvokeResult {
    let error = |error_type: &str, message: String| {
        let message = format!("RequestId: {request_id} Error: {message}");
        Bytes::from(serde_json::json!({ "errorType": error_type, "errorMessage": message }).to_string())
    };
    let (failed, payload) = match outcome {
        InvocationOutcome::Succeeded(payload) => (false, payload),
        InvocationOutcome::Lost => (false, Bytes::new()),
        InvocationOutcome::Failed { payload, .. } => (true, payload),
        InvocationOutcome::TimedOut => {
            let message = format!("Task timed out after {:.2} seconds", timeout.as_secs_f64());
            (true, error("Sandbox.Timedout", message))
        }
        InvocationOutcome::Crashed(how) => (
            true,
            error("Runtime.ExitError", format!("Runtime exited with {how}")),
        ),
    };
    let function_error = failed.then(|| "Unhandled".to_owned());
    InvokeResult {
        request_id: request_id.to_owned(),
        status: 200,
        function_error,
        payload,
    }
}

/// Whom an invocation is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) name: String,
    qualifier: Option<String>,
}

impl Target {
    /// From a name, a partial ARN or an ARN, each with or without a version or alias.
    pub(super) fn parse(text: &str, qualifier: Option<&str>) -> Self {
        let text = text.rsplit_once("function:").map_or(text, |(_, name)| name);
        let (name, own) = text
            .split_once(':')
            .map_or((text, None), |(name, own)| (name, Some(own)));
        Self {
            name: name.to_owned(),
            qualifier: own.or(qualifier).map(str::to_owned),
        }
    }

    /// The version or alias; `$LATEST` if none is named.
    pub(super) fn qualifier(&self) -> &str {
        self.qualifier.as_deref().unwrap_or(LATEST)
    }

    /// The ARN with the version or alias, also if none is named.
    pub(super) fn qualified_arn(&self) -> String {
        format!("{}:{}", function_arn(&self.name), self.qualifier())
    }

    pub(super) fn arn(&self) -> String {
        let arn = function_arn(&self.name);
        match &self.qualifier {
            Some(qualifier) => format!("{arn}:{qualifier}"),
            None => arn,
        }
    }
}

/// A trace that begins with an invocation, not sampled.
fn new_trace(request_id: &str) -> String {
    let id: String = request_id
        .chars()
        .filter(char::is_ascii_hexdigit)
        .take(24)
        .collect();
    format!("Root=1-00000000-{id:0>24};Parent=0000000000000000;Sampled=0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_named_in_each_of_lambdas_ways() {
        let named = |name: &str, qualifier: Option<&str>| Target {
            name: name.to_owned(),
            qualifier: qualifier.map(str::to_owned),
        };
        assert_eq!(Target::parse("f", None), named("f", None));
        assert_eq!(Target::parse("f", Some("live")), named("f", Some("live")));
        assert_eq!(Target::parse("f:7", None), named("f", Some("7")));
        assert_eq!(Target::parse("000000000000:function:f", None), named("f", None));
        let arn = Target::parse("arn:aws:lambda:us-east-1:000000000000:function:f:live", None);
        assert_eq!(arn, named("f", Some("live")));
        assert_eq!(arn.arn(), "arn:aws:lambda:us-east-1:000000000000:function:f:live");
    }
}
