//! The ports of dispatch in memory: the tables with their conditions, workers that behave as they are told, and the queue
//! of their outcomes.

use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use chrono::DateTime;
use jobmill_core::task::labourer::MetricSource;
use jobmill_core::task::record::{Attribute, Record};
use jobmill_core::task::write::{Page, Range, Update, Write};
use jobmill_engine::dispatch::ports::{
    Answer, Asked, Asking, News, Outcomes, Tables, Transacted, Unfit, Updated, Workers,
};
use jobmill_engine::ports::PortResult;
use serde_json::{Value, json};

use crate::{EPOCH_MS, MemoryTasks, VirtualClock, locked};

impl Tables for MemoryTasks {
    async fn read(&self, range: &Range) -> PortResult<Page> {
        self.with(|tables, now| tables.read(now, range))
    }

    async fn task(&self, task_id: &str) -> PortResult<Option<Record>> {
        Ok(self.with(|tables, _| tables.tasks.get(task_id).map(|item| item.record.clone())))
    }

    async fn update(&self, updates: &[Update]) -> PortResult<Vec<Updated>> {
        self.with(|tables, now| tables.update(now, updates))
    }

    async fn transact(&self, writes: &[Write]) -> PortResult<Transacted> {
        self.with(|tables, now| tables.transact(now, writes))
    }
}

// ------------------------------------------------------------------------------------------------------ outcomes

/// How long SQS waits for news at most, and how many messages it gives out at once.
const LONGEST_POLL: Duration = Duration::from_secs(20);
const MOST_NEWS: usize = 10;
/// How long a message that was given out is hidden.
const HIDDEN: Duration = Duration::from_secs(30);

/// What is in the queue of outcomes.
#[derive(Debug)]
pub struct OutcomeQueue {
    messages: BTreeMap<u64, Message>,
    sent: u64,
    waiting: Vec<Waker>,
    /// How long a message that was given out is hidden; then it comes again, unless acknowledged.
    pub hidden: Duration,
}

#[derive(Debug)]
struct Message {
    body: String,
    visible_at: Duration,
    received: u64,
}

impl OutcomeQueue {
    /// Puts a message in. A standard queue may do so twice.
    pub fn send(&mut self, now: Duration, body: String) {
        let message = Message {
            body,
            visible_at: now,
            received: 0,
        };
        self.messages.insert(self.sent, message);
        self.sent += 1;
        for waiting in self.waiting.drain(..) {
            waiting.wake();
        }
    }

    /// How many messages are not acknowledged.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether all are acknowledged.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// See [`Outcomes::receive`]: what can be had now.
    pub fn receive(&mut self, now: Duration) -> Vec<News> {
        let hidden = self.hidden;
        let visible = self
            .messages
            .iter_mut()
            .filter(|(_, message)| message.visible_at <= now);
        visible
            .take(MOST_NEWS)
            .map(|(number, message)| {
                message.visible_at = now + hidden;
                message.received += 1;
                News {
                    body: message.body.clone(),
                    handle: format!("{number}/{}", message.received),
                }
            })
            .collect()
    }

    /// See [`Outcomes::acknowledge`]. A message that was given out once more since does not go away.
    pub fn acknowledge(&mut self, handles: &[String]) {
        self.messages
            .retain(|number, message| !handles.contains(&format!("{number}/{}", message.received)));
    }

    fn next_visible(&self) -> Option<Duration> {
        self.messages.values().map(|message| message.visible_at).min()
    }
}

/// The queue of outcomes in memory. Clones share it.
#[derive(Debug, Clone)]
pub struct MemoryOutcomes {
    queue: Option<Arc<Mutex<OutcomeQueue>>>,
    clock: VirtualClock,
}

impl MemoryOutcomes {
    /// An empty queue.
    pub fn new(clock: VirtualClock) -> Self {
        let queue = OutcomeQueue {
            messages: BTreeMap::new(),
            sent: 0,
            waiting: Vec::new(),
            hidden: HIDDEN,
        };
        Self {
            queue: Some(Arc::new(Mutex::new(queue))),
            clock,
        }
    }

    /// No queue at all.
    pub fn none(clock: VirtualClock) -> Self {
        Self { queue: None, clock }
    }

    /// Looks at the queue, if there is one, or changes it.
    pub fn with<T>(&self, look: impl FnOnce(&mut OutcomeQueue, Duration) -> T) -> Option<T> {
        let now = self.clock.now();
        Some(look(&mut locked(self.queue.as_ref()?), now))
    }

    /// Waits until there may be news, as long as one request does.
    pub(crate) async fn arrival(&self) {
        let deadline = self.clock.now() + LONGEST_POLL;
        let mut sleep = None;
        poll_fn(|context| {
            let now = self.clock.now();
            let next = self
                .with(|queue, _| {
                    if !queue
                        .waiting
                        .iter()
                        .any(|waiting| waiting.will_wake(context.waker()))
                    {
                        queue.waiting.push(context.waker().clone());
                    }
                    queue.next_visible()
                })
                .flatten();
            let until = next.map_or(deadline, |next| next.min(deadline));
            if until <= now {
                return Poll::Ready(());
            }
            Pin::new(sleep.insert(self.clock.sleep_until(until))).poll(context)
        })
        .await;
    }
}

impl Outcomes for MemoryOutcomes {
    fn is_there(&self) -> bool {
        self.queue.is_some()
    }

    async fn receive(&self) -> PortResult<Vec<News>> {
        self.arrival().await;
        Ok(self.with(|queue, now| queue.receive(now)).unwrap_or_default())
    }

    async fn acknowledge(&self, handles: &[String]) -> PortResult<()> {
        self.with(|queue, _| queue.acknowledge(handles));
        Ok(())
    }
}

// ------------------------------------------------------------------------------------------------------- workers

/// The largest payloads that Lambda takes.
const LARGEST_WAITED: usize = 6 * 1024 * 1024;
const LARGEST_EVENT: usize = 1024 * 1024;
/// How long Lambda tries to deliver an event, where the asynchronous settings say so.
const EVENT_AGE: Duration = Duration::from_secs(60);
/// When it tries a throttled one again.
const EVENT_PAUSE: Duration = Duration::from_secs(1);

/// How one start goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behaviour {
    /// It answers that JSON after so long, unless its time is over before.
    Answers(Duration, Value),
    /// It fails with that description, JSON, after so long, unless its time is over before.
    Fails(Duration, Value),
    /// It never answers: its time-out kills it.
    Hangs,
    /// It is not started, for want of concurrency.
    Throttled,
    /// It is not started: the payload is refused.
    PayloadRefused,
    /// It is not started: forbidden, disabled.
    Unfit(&'static str),
}

/// What becomes of an answer beside being given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Nothing.
    Silent,
    /// Of an asynchronous start it is sent to the queue of outcomes.
    Destination,
    /// A success is marked in the tasks table so much later, as by sosw's Worker and assistant: `completed_at` is set,
    /// whatever is there.
    Report(Duration),
}

/// A function.
#[derive(Clone)]
pub struct Function {
    /// Its time-out.
    pub longest_run: Duration,
    /// What becomes of an answer.
    pub ending: Ending,
    behaviour: Arc<dyn Fn(&Start) -> Behaviour + Send + Sync>,
}

impl Function {
    /// A function that goes as `behaviour` says of each start.
    pub fn new(
        longest_run: Duration,
        ending: Ending,
        behaviour: impl Fn(&Start) -> Behaviour + Send + Sync + 'static,
    ) -> Self {
        Self {
            longest_run,
            ending,
            behaviour: Arc::new(behaviour),
        }
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Function")
            .field("longest_run", &self.longest_run)
            .field("ending", &self.ending)
            .finish_non_exhaustive()
    }
}

/// A start of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Which function, as it was asked for.
    pub function: String,
    /// The payload.
    pub payload: Value,
    /// The task, by the payload.
    pub task_id: Option<String>,
    /// Which attempt, by the payload.
    pub attempts: Option<u64>,
    /// How many starts of this task there were before.
    pub before: u64,
    /// Whether nobody waits for its answer.
    pub event: bool,
    /// When.
    pub at: Duration,
    /// Its place among all that happened, as [`VirtualClock::stamp`] counts.
    pub stamp: u64,
    /// When it ends, or is killed.
    pub ends: Duration,
}

/// When, counted from now, the platform delivers an event.
type Delivery = Box<dyn FnMut() -> Vec<Duration> + Send>;

/// The functions, and what they have done.
pub struct WorkerState {
    /// By name or ARN.
    pub functions: BTreeMap<String, Function>,
    /// Every start, oldest first.
    pub starts: Vec<Start>,
    /// Every datapoint that was measured, and when.
    pub measured: Vec<(MetricSource, Duration, f64)>,
    /// When, counted from the asking, the platform delivers an event: once, at once; and again, where Lambda's queue
    /// doubles it.
    pub deliveries: Delivery,
    /// The same for an outcome, counted from the end of the run.
    pub outcome_deliveries: Delivery,
    by_task: BTreeMap<String, u64>,
    requests: u64,
}

impl fmt::Debug for WorkerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerState")
            .field("functions", &self.functions)
            .field("starts", &self.starts.len())
            .finish_non_exhaustive()
    }
}

/// What came of asking, as far as that is known at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// That is all.
    Said(Asked),
    /// It runs, and will answer.
    Runs {
        /// When it ends.
        ends: Duration,
        /// What it will say.
        answer: Answer,
    },
}

/// The workers' functions in memory, on virtual time. Clones share them.
#[derive(Debug, Clone)]
pub struct MemoryWorkers {
    state: Arc<Mutex<WorkerState>>,
    clock: VirtualClock,
    tasks: MemoryTasks,
    outcomes: MemoryOutcomes,
}

impl MemoryWorkers {
    /// No function yet. Some report to `tasks`, others send to `outcomes`.
    pub fn new(clock: VirtualClock, tasks: MemoryTasks, outcomes: MemoryOutcomes) -> Self {
        let at_once = || -> Delivery { Box::new(|| vec![Duration::ZERO]) };
        let state = WorkerState {
            functions: BTreeMap::new(),
            starts: Vec::new(),
            measured: Vec::new(),
            deliveries: at_once(),
            outcome_deliveries: at_once(),
            by_task: BTreeMap::new(),
            requests: 0,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            clock,
            tasks,
            outcomes,
        }
    }

    /// Adds a function, or puts it in place of another.
    pub fn add(&self, name: impl Into<String>, function: Function) {
        self.with(|state| state.functions.insert(name.into(), function));
    }

    /// Looks at the functions, or changes them.
    pub fn with<T>(&self, look: impl FnOnce(&mut WorkerState) -> T) -> T {
        look(&mut locked(&self.state))
    }

    /// Asks a function, and says what is known at once.
    pub fn begin(&self, name: &str, payload: &str, asking: Asking) -> Begun {
        let event = asking == Asking::Event;
        let Some(function) = self.with(|state| state.functions.get(name).cloned()) else {
            return Begun::Said(Asked::WorkerUnfit(missing(name)));
        };
        let largest = if event { LARGEST_EVENT } else { LARGEST_WAITED };
        if payload.len() > largest {
            let why = format!(
                "RequestTooLargeException: {} bytes, at most {largest}",
                payload.len()
            );
            return Begun::Said(Asked::PayloadRefused(why));
        }
        let payload: Value = match serde_json::from_str(payload) {
            Ok(payload) => payload,
            Err(error) => {
                let why = format!("InvalidRequestContentException: {error}");
                return Begun::Said(Asked::PayloadRefused(why));
            }
        };
        if !event {
            return self.start(name, &function, payload, false);
        }
        let now = self.clock.now();
        for later in self.with(|state| (state.deliveries)()) {
            let (workers, name, payload) = (self.clone(), name.to_owned(), payload.clone());
            self.clock
                .schedule(now + later, move || workers.deliver(name, payload, now));
        }
        Begun::Said(Asked::Queued)
    }

    /// Starts a function for an event that was queued at `queued`, or later, or not at all.
    fn deliver(&self, name: String, payload: Value, queued: Duration) {
        let Some(function) = self.with(|state| state.functions.get(&name).cloned()) else {
            return;
        };
        let now = self.clock.now();
        if now > queued + EVENT_AGE {
            if function.ending == Ending::Destination {
                self.send_outcome(&name, &payload, "EventAgeExceeded", None);
            }
            return;
        }
        if let Begun::Said(Asked::Throttled(_)) = self.start(&name, &function, payload.clone(), true) {
            let workers = self.clone();
            self.clock
                .schedule(now + EVENT_PAUSE, move || workers.deliver(name, payload, queued));
        }
    }

    fn start(&self, name: &str, function: &Function, payload: Value, event: bool) -> Begun {
        let (at, stamp) = (self.clock.now(), self.clock.stamp());
        let task_id = payload.get("task_id").and_then(Value::as_str).map(str::to_owned);
        let before = self.with(|state| {
            task_id
                .as_ref()
                .and_then(|id| state.by_task.get(id).copied())
                .unwrap_or_default()
        });
        let mut start = Start {
            function: name.to_owned(),
            attempts: payload.get("attempts").and_then(Value::as_u64),
            payload,
            task_id,
            before,
            event,
            at,
            stamp,
            ends: at + function.longest_run,
        };
        let killed = || {
            let message = format!(
                "Task timed out after {:.2} seconds",
                function.longest_run.as_secs_f64()
            );
            json!({ "errorType": "Sandbox.Timedout", "errorMessage": message })
        };
        let (value, is_error) = match (function.behaviour)(&start) {
            Behaviour::Throttled => {
                let why = "TooManyRequestsException: Rate Exceeded.".to_owned();
                return Begun::Said(Asked::Throttled(why));
            }
            Behaviour::PayloadRefused => {
                let why = "InvalidRequestContentException: refused".to_owned();
                return Begun::Said(Asked::PayloadRefused(why));
            }
            Behaviour::Unfit(kind) => {
                let message = format!("`{name}` can't be started");
                return Begun::Said(Asked::WorkerUnfit(Unfit { kind, message }));
            }
            Behaviour::Answers(after, value) if after <= function.longest_run => {
                start.ends = at + after;
                (value, false)
            }
            Behaviour::Fails(after, value) if after <= function.longest_run => {
                start.ends = at + after;
                (value, true)
            }
            Behaviour::Answers(..) | Behaviour::Fails(..) | Behaviour::Hangs => (killed(), true),
        };
        let (workers, ending, ends) = (self.clone(), function.ending, start.ends);
        let (ended, answer) = (start.clone(), value.clone());
        self.clock
            .schedule(ends, move || workers.end(&ended, ending, answer, is_error));
        self.with(|state| {
            if let Some(id) = &start.task_id {
                *state.by_task.entry(id.clone()).or_default() += 1;
            }
            state.starts.push(start);
        });
        let payload = Bytes::from(value.to_string());
        Begun::Runs {
            ends,
            answer: Answer { payload, is_error },
        }
    }

    /// What happens when a run is over, whether or not anybody waits for it.
    fn end(&self, start: &Start, ending: Ending, answer: Value, is_error: bool) {
        match (ending, &start.task_id) {
            (Ending::Destination, _) if start.event => {
                let condition = if is_error { "RetriesExhausted" } else { "Success" };
                self.send_outcome(
                    &start.function,
                    &start.payload,
                    condition,
                    Some((answer, is_error)),
                );
            }
            (Ending::Report(later), Some(task_id)) if !is_error => {
                let (tasks, task_id) = (self.tasks.clone(), task_id.clone());
                let mark = move || {
                    tasks.with(|tables, now| {
                        let completed_at = Attribute::number(wall_ms(now).div_euclid(1000));
                        tables.set(now, &task_id, &[("completed_at", completed_at)])
                    });
                };
                self.clock.schedule(self.clock.now() + later, mark);
            }
            _ => {}
        }
    }

    /// Sends an outcome as a destination of Lambda does.
    fn send_outcome(&self, name: &str, payload: &Value, condition: &str, answer: Option<(Value, bool)>) {
        let now = self.clock.now();
        let (request, deliveries) = self.with(|state| {
            state.requests += 1;
            (state.requests, (state.outcome_deliveries)())
        });
        let arn = match name.starts_with("arn:") {
            true => name.to_owned(),
            false => format!("arn:aws:lambda:us-east-1:000000000000:function:{name}:$LATEST"),
        };
        let timestamp = DateTime::from_timestamp_millis(wall_ms(now)).unwrap_or_default();
        let mut message = json!({
            "version": "1.0",
            "timestamp": timestamp.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
            "requestContext": {
                "requestId": format!("00000000-0000-4000-8000-{request:012}"),
                "functionArn": arn,
                "condition": condition,
                "approximateInvokeCount": u8::from(answer.is_some()),
            },
            "requestPayload": payload,
        });
        if let (Some((answer, is_error)), Some(message)) = (answer, message.as_object_mut()) {
            let mut context = json!({ "statusCode": 200, "executedVersion": "$LATEST" });
            if let (true, Some(context)) = (is_error, context.as_object_mut()) {
                context.insert("functionError".to_owned(), json!("Unhandled"));
            }
            message.insert("responseContext".to_owned(), context);
            message.insert("responsePayload".to_owned(), answer);
        }
        for later in deliveries {
            let (outcomes, body) = (self.outcomes.clone(), message.to_string());
            self.clock.schedule(now + later, move || {
                outcomes.with(|queue, now| queue.send(now, body));
            });
        }
    }

    /// See [`Workers::datapoints`].
    pub fn datapoints_of(&self, source: &MetricSource) -> Vec<f64> {
        let since = self
            .clock
            .now()
            .saturating_sub(Duration::from_secs(source.window.into()));
        let is_asked_for = |(known, at, _): &&(MetricSource, Duration, f64)| known == source && *at >= since;
        let values = |state: &mut WorkerState| {
            let measured = state.measured.iter().filter(is_asked_for);
            measured.map(|(_, _, value)| *value).collect()
        };
        self.with(values)
    }

    /// See [`Workers::longest_run`].
    pub fn longest_run_of(&self, name: &str) -> Result<Duration, Unfit> {
        let function = self.with(|state| state.functions.get(name).map(|function| function.longest_run));
        function.ok_or_else(|| missing(name))
    }
}

fn wall_ms(now: Duration) -> i64 {
    EPOCH_MS.saturating_add(i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}

fn missing(name: &str) -> Unfit {
    Unfit {
        kind: "FunctionNotFound",
        message: format!("there is no function `{name}`"),
    }
}

impl Workers for MemoryWorkers {
    async fn ask(&self, function: &str, payload: String, asking: Asking) -> Asked {
        let asked = self.clock.now();
        match self.begin(function, &payload, asking) {
            Begun::Said(asked) => asked,
            Begun::Runs { ends, answer } => {
                let patience = match asking {
                    Asking::Wait(patience) => asked + patience,
                    Asking::Event => ends,
                };
                self.clock.sleep_until(ends.min(patience)).await;
                match ends <= patience {
                    true => Asked::Answered(answer),
                    false => Asked::Unknown("no answer came in time".to_owned()),
                }
            }
        }
    }

    async fn longest_run(&self, function: &str) -> PortResult<Result<Duration, Unfit>> {
        Ok(self.longest_run_of(function))
    }

    async fn datapoints(&self, source: &MetricSource) -> PortResult<Vec<f64>> {
        Ok(self.datapoints_of(source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn stage() -> (VirtualClock, MemoryTasks, MemoryOutcomes, MemoryWorkers) {
        let clock = VirtualClock::default();
        let tasks = MemoryTasks::new(clock.clone());
        let outcomes = MemoryOutcomes::new(clock.clone());
        let workers = MemoryWorkers::new(clock.clone(), tasks.clone(), outcomes.clone());
        (clock, tasks, outcomes, workers)
    }

    fn payload(task_id: &str, attempts: u64) -> String {
        json!({ "task_id": task_id, "attempts": attempts }).to_string()
    }

    #[test]
    fn a_worker_answers_fails_is_killed_or_outlasts_patience() {
        let (clock, _, _, workers) = stage();
        workers.add(
            "worker",
            Function::new(5 * SECOND, Ending::Silent, |start| {
                match start.task_id.as_deref() {
                    Some("good") => Behaviour::Answers(SECOND, json!({ "rows": 3 })),
                    Some("bad") => Behaviour::Fails(SECOND, json!({ "errorType": "E" })),
                    Some("slow") => Behaviour::Answers(9 * SECOND, json!(null)),
                    Some("busy") => Behaviour::Throttled,
                    _ => Behaviour::Hangs,
                }
            }),
        );
        let ask = |id: &str, patience| {
            let asking = Asking::Wait(patience);
            clock.run(workers.ask("worker", payload(id, 1), asking)).unwrap()
        };
        let answered = |asked: Asked| match asked {
            Asked::Answered(answer) => (
                serde_json::from_slice::<Value>(&answer.payload).unwrap(),
                answer.is_error,
            ),
            other => panic!("{other:?}"),
        };
        assert_eq!(answered(ask("good", 9 * SECOND)), (json!({ "rows": 3 }), false));
        assert_eq!(clock.now(), SECOND);
        assert_eq!(
            answered(ask("bad", 9 * SECOND)),
            (json!({ "errorType": "E" }), true)
        );
        for killed in ["slow", "hangs"] {
            let (error, is_error) = answered(ask(killed, 9 * SECOND));
            assert!(is_error && error["errorType"] == "Sandbox.Timedout", "{error}");
        }
        assert_eq!(clock.now(), 12 * SECOND, "a killed run ends at its time-out");
        assert!(matches!(ask("good", SECOND / 2), Asked::Unknown(_)));
        assert!(matches!(ask("busy", SECOND), Asked::Throttled(_)));
        let starts = workers.with(|state| state.starts.clone());
        assert_eq!(starts.len(), 5, "what is throttled is not started");
        assert_eq!((starts[4].before, starts[4].attempts), (1, Some(1)));
        let asked = clock
            .run(workers.ask("nobody", "{}".to_owned(), Asking::Event))
            .unwrap();
        assert!(matches!(
            asked,
            Asked::WorkerUnfit(Unfit {
                kind: "FunctionNotFound",
                ..
            })
        ));
        let asked = clock
            .run(workers.ask("worker", "{".to_owned(), Asking::Event))
            .unwrap();
        assert!(matches!(asked, Asked::PayloadRefused(_)));
    }

    #[test]
    fn an_event_may_run_twice_and_its_outcome_comes_by_the_queue_until_acknowledged() {
        let (clock, _, outcomes, workers) = stage();
        workers.with(|state| state.deliveries = Box::new(|| vec![SECOND, 3 * SECOND]));
        workers.add(
            "worker",
            Function::new(5 * SECOND, Ending::Destination, |start| match start.before {
                0 => Behaviour::Answers(SECOND, json!("done")),
                _ => Behaviour::Fails(SECOND, json!({ "errorMessage": "again?" })),
            }),
        );
        let asked = clock
            .run(workers.ask("worker", payload("t", 2), Asking::Event))
            .unwrap();
        assert_eq!((asked, clock.now()), (Asked::Queued, Duration::ZERO));
        let receive = || clock.run(outcomes.receive()).unwrap().unwrap();
        let first = receive();
        assert_eq!(clock.now(), 2 * SECOND, "a poll ends when there is news");
        let news: Value = serde_json::from_str(&first[0].body).unwrap();
        assert_eq!(news["requestContext"]["condition"], "Success");
        assert_eq!(news["requestPayload"], json!({ "task_id": "t", "attempts": 2 }));
        assert_eq!(news["responsePayload"], "done");
        assert_eq!(news["timestamp"], "2024-03-06T05:06:42.000Z");
        let second = receive();
        let news: Value = serde_json::from_str(&second[0].body).unwrap();
        assert_eq!(news["requestContext"]["condition"], "RetriesExhausted");
        assert_eq!(news["responseContext"]["functionError"], "Unhandled");
        clock
            .run(outcomes.acknowledge(&[second[0].handle.clone()]))
            .unwrap()
            .unwrap();
        assert_eq!(receive(), [], "hidden for 30 s, a poll lasts 20 s");
        let again = receive();
        assert_eq!((again[0].body == first[0].body, clock.now()), (true, 32 * SECOND));
        clock
            .run(outcomes.acknowledge(&[first[0].handle.clone()]))
            .unwrap()
            .unwrap();
        assert_eq!(
            outcomes.with(|queue, _| queue.len()),
            Some(1),
            "given out since: that handle is stale"
        );
        clock
            .run(outcomes.acknowledge(&[again[0].handle.clone()]))
            .unwrap()
            .unwrap();
        assert_eq!(outcomes.with(|queue, _| queue.is_empty()), Some(true));
    }

    #[test]
    fn a_throttled_event_is_tried_until_it_is_too_old() {
        let (clock, _, outcomes, workers) = stage();
        workers.add(
            "worker",
            Function::new(SECOND, Ending::Destination, |_| Behaviour::Throttled),
        );
        clock
            .run(workers.ask("worker", payload("t", 1), Asking::Event))
            .unwrap();
        clock.advance(100 * SECOND);
        let news = outcomes.with(|queue, now| queue.receive(now)).unwrap();
        let news: Value = serde_json::from_str(&news[0].body).unwrap();
        assert_eq!(news["requestContext"]["condition"], "EventAgeExceeded");
        assert!(workers.with(|state| state.starts.is_empty()));
    }

    #[test]
    fn a_report_marks_what_is_there_and_leaves_a_ghost_where_nothing_is() {
        let (clock, tasks, _, workers) = stage();
        workers.add(
            "worker",
            Function::new(9 * SECOND, Ending::Report(SECOND), |_| {
                Behaviour::Answers(SECOND, json!(null))
            }),
        );
        clock
            .run(workers.ask("worker", payload("t", 1), Asking::Event))
            .unwrap();
        clock.advance(3 * SECOND);
        let ghost = Record::from([
            ("task_id".to_owned(), Attribute::text("t")),
            ("completed_at".to_owned(), Attribute::number(EPOCH_MS / 1000 + 2)),
        ]);
        assert_eq!(clock.run(tasks.task("t")).unwrap(), Ok(Some(ghost)));
    }
}
