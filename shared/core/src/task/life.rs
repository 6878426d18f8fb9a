//! The life of a task after its birth: what each step asks of the tables.
//!
//! ```text
//! queued ──claim──► running ──close──► closed          (succeeded, failed, expired)
//!   ▲  ◄─give back──┘   └─────park───► waiting ──requeue──► queued
//! ```
//!
//! A claim moves the task's greenfield so far ahead that it means *running*, as sosw does, with random digits below the
//! second: its **ticket**. Whatever moves the task on is conditional on that very number, so that it needs no lock, may be
//! repeated, and comes to nothing where somebody else was faster.

use std::fmt;
use std::io::Write as _;
use std::time::Duration;

use serde_json::Value;

use crate::json::{self, Document, View};
use crate::task::greenfield::Greenfield;
use crate::task::record::{Attribute, Record, number_of, text_of};
use crate::task::tables::FieldNames;
use crate::task::write::{Table, Test, Update, Write};

/// Where a task stood in the queue before it was claimed: it comes back there.
pub const QUEUED_GREENFIELD: &str = "queued_greenfield";
/// How a closed task ended: `succeeded`, `failed`, `expired` or `cancelled`.
pub const OUTCOME: &str = "outcome";
/// How long the last attempt took, in seconds.
pub const DURATION: &str = "duration";
/// Why the last attempt failed: `type` and `message`.
pub const LAST_ERROR: &str = "last_error";
/// What the worker returned, JSON text.
pub const RESULT: &str = "result";

/// Seconds that a claim puts a task ahead unless configured otherwise: sosw's `greenfield_invocation_delta`, a year.
pub const GREENFIELD_DELTA: u64 = 31_557_600;

/// How many of its attempts do not count towards the most that are made.
pub const ATTEMPTS_BASE: &str = "attempts_base";

const SECOND: i128 = 1_000_000_000;

/// Where in time a greenfield puts a task, given the seconds that a claim puts it ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    now: Greenfield,
    delta: i128,
}

impl Marks {
    /// The marks of this moment, milliseconds since 1970.
    pub fn at(wall_ms: i64, delta_seconds: u64) -> Self {
        Self {
            now: Greenfield::from_millis(wall_ms),
            delta: i128::from(delta_seconds) * SECOND,
        }
    }

    /// A ticket of this second; `chance` makes it one of 10^9.
    pub fn ticket(self, chance: u64) -> Greenfield {
        let second = self.now.nanos().div_euclid(SECOND) * SECOND;
        Greenfield::from_nanos(second + self.delta + i128::from(chance) % SECOND)
    }

    /// The last greenfield that means *queued*: now is excluded.
    pub fn last_queued(self) -> Greenfield {
        Greenfield::from_nanos(self.now.nanos() - 1)
    }

    /// The first greenfield that means *running*: half of the way to a claim of now. What lies between was put into the
    /// queue for a time to come.
    pub fn first_running(self) -> Greenfield {
        Greenfield::from_nanos(self.now.nanos() + self.delta / 2)
    }

    /// Since when a task with that ticket runs: how long ago, to the second. In the future: zero.
    pub fn running_for(self, ticket: Greenfield) -> Duration {
        self.queued_for(Greenfield::from_nanos(ticket.nanos() - self.delta))
    }

    /// Since when a queued task has its place: how long ago, to the second. In the future: zero.
    pub fn queued_for(self, greenfield: Greenfield) -> Duration {
        let nanos = (self.now.nanos() - greenfield.nanos()).max(0);
        Duration::from_secs(u64::try_from(nanos / SECOND).unwrap_or(u64::MAX))
    }

    /// Whole seconds since 1970, as the tables have times.
    pub fn seconds(self) -> i128 {
        self.now.nanos().div_euclid(SECOND)
    }
}

/// A task as it was read from the tasks table, with what every step needs of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTask {
    /// Its id.
    pub task_id: String,
    /// Where it stands: its place in the queue, or its ticket.
    pub greenfield: Greenfield,
    /// How often it was claimed.
    pub attempts: u32,
    /// All of it.
    pub record: Record,
}

/// Why an item is no task that can be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(pub String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StoredTask {
    /// Reads an item. One without `attempts` was never tried.
    ///
    /// # Errors
    /// An attribute of the key or `attempts` is not what it must be.
    pub fn read(names: &FieldNames, record: Record) -> Result<Self, (Malformed, Record)> {
        let attempts = match record.get(&names.attempts) {
            None => Some(0),
            Some(_) => number_of(&record, &names.attempts)
                .filter(|number| number.nanos() % SECOND == 0)
                .and_then(|number| u32::try_from(number.nanos() / SECOND).ok()),
        };
        let wrong = |name: &str, must: &str| Malformed(format!("its `{name}` is not {must}"));
        let malformed = match (
            text_of(&record, &names.task_id),
            number_of(&record, &names.greenfield),
            attempts,
        ) {
            (None, _, _) => wrong(&names.task_id, "text"),
            (_, None, _) => wrong(&names.greenfield, "a number"),
            (_, _, None) => wrong(&names.attempts, "a whole number"),
            (Some(task_id), Some(greenfield), Some(attempts)) => {
                return Ok(Self {
                    task_id: task_id.to_owned(),
                    greenfield,
                    attempts,
                    record,
                });
            }
        };
        Err((malformed, record))
    }

    /// Whether its worker has marked it as done with.
    pub fn is_completed(&self, names: &FieldNames) -> bool {
        self.record.contains_key(&names.completed_at)
    }

    /// Where it stood in the queue when it was claimed, if whoever claimed it wrote that down.
    pub fn place(&self) -> Option<Greenfield> {
        number_of(&self.record, QUEUED_GREENFIELD)
    }

    /// Claims it, if it still stands in the queue as it was read: the update, and the task as it is afterwards.
    pub fn claim(mut self, names: &FieldNames, ticket: Greenfield) -> (Update, Self) {
        // As it is written there, which may have more digits than we read.
        let place = self.record.get(&names.greenfield).cloned();
        let place = place.unwrap_or_else(|| Attribute::number(self.greenfield));
        let tried = match self.record.get(&names.attempts) {
            Some(attempts) => Test::Equals(names.attempts.clone(), attempts.clone()),
            None => Test::Absent(names.attempts.clone()),
        };
        self.greenfield = ticket;
        self.attempts = self.attempts.saturating_add(1);
        let set = vec![
            (names.greenfield.clone(), Attribute::number(ticket)),
            (names.attempts.clone(), Attribute::number(self.attempts)),
            (QUEUED_GREENFIELD.to_owned(), place.clone()),
        ];
        self.record.extend(set.iter().cloned());
        let update = Update {
            task_id: self.task_id.clone(),
            set,
            when: vec![
                Test::Equals(names.greenfield.clone(), place),
                tried,
                Test::Absent(names.completed_at.clone()),
            ],
        };
        (update, self)
    }

    /// Gives a claimed task back that was surely not started: its attempt does not count, and its place is the old one
    /// with fresh digits (`chance`), so that a late copy of the claim fits no more.
    pub fn give_back(&self, names: &FieldNames, chance: u64) -> (Update, Self) {
        let mut queued = self.clone();
        let place = self.place().unwrap_or(Greenfield::ZERO);
        queued.greenfield = Greenfield::from_nanos(place.nanos() + 1 + i128::from(chance % 999_999));
        queued.attempts = self.attempts.saturating_sub(1);
        let set = vec![
            (names.greenfield.clone(), Attribute::number(queued.greenfield)),
            (names.attempts.clone(), Attribute::number(queued.attempts)),
        ];
        queued.record.extend(set.iter().cloned());
        let update = Update {
            task_id: self.task_id.clone(),
            set,
            when: vec![self.stands(names)],
        };
        (update, queued)
    }

    /// Puts a claimed task back whose worker was handed to the platform, which says that it never started it. A copy of
    /// that start may be on its way all the same, so its attempt is not made again: it stays counted, and does not
    /// count towards the most that are made.
    pub fn put_back(&self, names: &FieldNames, chance: u64) -> (Update, Self) {
        let (mut update, mut queued) = self.give_back(names, chance);
        let base = (
            ATTEMPTS_BASE.to_owned(),
            Attribute::number(self.base().saturating_add(1)),
        );
        queued.attempts = self.attempts;
        for (name, value) in &mut update.set {
            if *name == names.attempts {
                *value = Attribute::number(self.attempts);
            }
        }
        update.set.push(base);
        queued.record.extend(update.set.iter().cloned());
        (update, queued)
    }

    /// How many of its attempts do not count.
    fn base(&self) -> u32 {
        let base = number_of(&self.record, ATTEMPTS_BASE);
        base.and_then(|base| u32::try_from(base.nanos() / SECOND).ok())
            .unwrap_or(0)
    }

    /// How many attempts count towards the most that are made.
    pub fn counted_attempts(&self) -> u32 {
        self.attempts.saturating_sub(self.base())
    }

    /// A claim of it can't be carried out: it still stands in the queue, as it did before.
    #[must_use]
    pub fn unclaimed(mut self, names: &FieldNames) -> Self {
        self.attempts = self.attempts.saturating_sub(1);
        if let Some(place) = self.record.remove(QUEUED_GREENFIELD) {
            self.record.insert(names.greenfield.clone(), place);
        }
        self.greenfield = number_of(&self.record, &names.greenfield).unwrap_or(self.greenfield);
        let attempts = Attribute::number(self.attempts);
        self.record.insert(names.attempts.clone(), attempts);
        self
    }

    /// It stands as it was read.
    fn stands(&self, names: &FieldNames) -> Test {
        let greenfield = self.record.get(&names.greenfield).cloned();
        let greenfield = greenfield.unwrap_or_else(|| Attribute::number(self.greenfield));
        Test::Equals(names.greenfield.clone(), greenfield)
    }

    fn delete(&self, names: &FieldNames, more: impl IntoIterator<Item = Test>) -> Write {
        Write::Delete {
            table: Table::Tasks,
            key: self.key(names),
            when: std::iter::once(self.stands(names)).chain(more).collect(),
        }
    }

    fn key(&self, names: &FieldNames) -> Record {
        Record::from([(names.task_id.clone(), Attribute::text(&self.task_id))])
    }

    /// Moves it to the closed table, if it stands as it was read and the closed table has none of its id.
    /// A failure also needs that its worker has not marked it as done with meanwhile.
    pub fn close(&self, names: &FieldNames, closing: &Closing, marks: Marks) -> [Write; 2] {
        let mut record = self.record.clone();
        let labourer_id = text_of(&record, &names.labourer_id).unwrap_or_default();
        let status = format!(
            "{labourer_id}_{}",
            u8::from(closing.outcome == Outcome::Succeeded)
        );
        let now = Attribute::number(marks.seconds());
        record.insert(names.labourer_id_task_status.clone(), Attribute::S(status));
        record.insert(names.closed_at.clone(), now.clone());
        record.insert(OUTCOME.to_owned(), Attribute::text(closing.outcome.name()));
        if closing.outcome == Outcome::Succeeded {
            record.entry(names.completed_at.clone()).or_insert(now);
            record.remove(LAST_ERROR);
        }
        if let Some(duration) = closing.duration {
            record.insert(DURATION.to_owned(), Attribute::number(seconds_of(duration)));
        }
        if let Some(error) = &closing.error {
            record.insert(LAST_ERROR.to_owned(), error.to_attribute());
        }
        if let Some(result) = &closing.result {
            record.insert(RESULT.to_owned(), Attribute::text(result));
        }
        [
            self.delete(names, self.unmarked(names, closing.outcome != Outcome::Succeeded)),
            Write::Put {
                table: Table::Closed,
                record,
                when: vec![Test::Absent(names.task_id.clone())],
            },
        ]
    }

    fn unmarked(&self, names: &FieldNames, failed: bool) -> Option<Test> {
        failed.then(|| Test::Absent(names.completed_at.clone()))
    }

    /// Takes it out of the tasks table, if it stands as it was read: the closed table holds it already.
    pub fn discard(&self, names: &FieldNames) -> Write {
        self.delete(names, None)
    }

    /// Moves it to the retry table until `due` (milliseconds since 1970), if it stands as it was read, its worker has
    /// not marked it as done with, and the closed table has none of its id.
    pub fn park(&self, names: &FieldNames, due_ms: i64, error: Option<&LastError>) -> [Write; 3] {
        let mut record = self.record.clone();
        let due = Greenfield::from_millis(due_ms);
        record.insert(names.desired_launch_time.clone(), Attribute::number(due));
        if let Some(error) = error {
            record.insert(LAST_ERROR.to_owned(), error.to_attribute());
        }
        [
            self.delete(names, self.unmarked(names, true)),
            Write::Put {
                table: Table::Retry,
                record,
                when: Vec::new(),
            },
            Write::Check {
                table: Table::Closed,
                key: self.key(names),
                when: vec![Test::Absent(names.task_id.clone())],
            },
        ]
    }
}

/// A duration as the tables have it: seconds, to the millisecond.
fn seconds_of(duration: Duration) -> Greenfield {
    Greenfield::from_millis(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

/// A task of the retry table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its id.
    pub task_id: String,
    /// All of it.
    pub record: Record,
}

impl Waiting {
    /// Reads an item; `None` if it has no id.
    pub fn read(names: &FieldNames, record: Record) -> Option<Self> {
        let task_id = text_of(&record, &names.task_id)?.to_owned();
        Some(Self { task_id, record })
    }

    /// Where it stood in the queue, if whoever claimed it wrote that down.
    pub fn place(&self) -> Option<Greenfield> {
        number_of(&self.record, QUEUED_GREENFIELD)
    }

    /// Moves it back to the queue, at `place`, if it still waits as it was read and the other tables hold none of its
    /// id. What a late mark of a worker has left in the tasks table (an item without a labourer) is replaced.
    pub fn requeue(&self, names: &FieldNames, place: Greenfield) -> ([Write; 3], Record) {
        let mut record = self.record.clone();
        record.remove(&names.desired_launch_time);
        record.insert(names.greenfield.clone(), Attribute::number(place));
        let key = Record::from([(names.task_id.clone(), Attribute::text(&self.task_id))]);
        let writes = [
            Write::Put {
                table: Table::Tasks,
                record: record.clone(),
                when: vec![Test::Absent(names.labourer_id.clone())],
            },
            self.discard(names),
            Write::Check {
                table: Table::Closed,
                key,
                when: vec![Test::Absent(names.task_id.clone())],
            },
        ];
        (writes, record)
    }

    /// Takes it out of the retry table, if it still waits as it was read.
    pub fn discard(&self, names: &FieldNames) -> Write {
        let of = |name: &String| self.record.get(name).map(|value| (name.clone(), value.clone()));
        let key = [&names.labourer_id, &names.task_id].into_iter().filter_map(of);
        let when = [&names.desired_launch_time, &names.attempts]
            .into_iter()
            .filter_map(of);
        Write::Delete {
            table: Table::Retry,
            key: key.collect(),
            when: when.map(|(name, value)| Test::Equals(name, value)).collect(),
        }
    }
}

/// How a task ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Its worker is done with it.
    Succeeded,
    /// Its last attempt failed.
    Failed,
    /// Its last attempt was never heard of.
    Expired,
}

impl Outcome {
    /// As it stands in the closed table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Expired => "expired",
        }
    }
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastError {
    /// What kind of error, e.g. `ValueError`, `Sandbox.Timedout`.
    pub kind: String,
    /// In words.
    pub message: String,
}

impl LastError {
    fn to_attribute(&self) -> Attribute {
        Attribute::M(Record::from([
            ("type".to_owned(), Attribute::text(&self.kind)),
            ("message".to_owned(), Attribute::text(&self.message)),
        ]))
    }
}

/// What is written down of a task that is closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    /// How it ended.
    pub outcome: Outcome,
    /// How long its last attempt took, if that is known.
    pub duration: Option<Duration>,
    /// Why it failed.
    pub error: Option<LastError>,
    /// What its worker returned, JSON text.
    pub result: Option<String>,
}

/// What a worker gets of a claimed task: the task's payload with the fields of its row laid over it, as sosw's
/// orchestrator does: under the names that they have in the table, `greenfield` and `attempts` as they were before the
/// claim. `task_id` is there under this name too, where sosw's workers look for it. `more` is added under names that the
/// payload does not use itself.
///
/// # Errors
/// Why the payload is no JSON object.
pub fn payload_of(names: &FieldNames, task: &StoredTask, more: &[(&str, Value)]) -> Result<String, String> {
    let payload = match task.record.get(&names.payload) {
        None | Some(Attribute::Null) => None,
        Some(Attribute::S(text)) => {
            Some(Document::parse(text.as_str()).map_err(|why| format!("its payload {why}"))?)
        }
        Some(other) => Some(to_json(other).map_or_else(|| Document::from(Value::Null), Document::from)),
    };
    let payload = payload.as_ref().map(Document::root);
    if let Some(payload) = payload
        && !payload.is_object()
    {
        let what = match task.record.get(&names.payload) {
            Some(Attribute::S(_)) => format!("{}, ", json::kind(&payload.to_value())),
            _ => String::new(),
        };
        return Err(format!("its payload is {what}not an object"));
    }
    let fields = [
        ("task_id", names.task_id.as_str()),
        (&names.task_id, &names.task_id),
        (&names.labourer_id, &names.labourer_id),
        (&names.created_at, &names.created_at),
        (&names.completed_at, &names.completed_at),
        (&names.greenfield, QUEUED_GREENFIELD),
        (&names.closed_at, &names.closed_at),
        (&names.desired_launch_time, &names.desired_launch_time),
        (&names.arn, &names.arn),
    ];
    let mut laid: Vec<(&str, Value)> = Vec::with_capacity(fields.len() + 1);
    for (name, called) in fields {
        if let Some(value) = task.record.get(called).and_then(to_json)
            && !laid.iter().any(|(laid, _)| *laid == name)
        {
            laid.push((name, value));
        }
    }
    laid.push((&names.attempts, Value::from(task.attempts.saturating_sub(1))));
    let is_laid = |name: &str| laid.iter().any(|(laid, _)| *laid == name);
    let members = payload.iter().flat_map(View::members);
    let is_used = |name: &str| members.clone().any(|(used, _)| used == name);
    let added = more.iter().filter(|(name, _)| !is_laid(name) && !is_used(name));

    let mut out = vec![b'{'];
    let name_of = |name: &str, out: &mut Vec<u8>| {
        if out.len() > 1 {
            out.push(b',');
        }
        json::write_text(name, out);
        out.push(b':');
    };
    // What is read in place is written in place: a payload is not built as a value.
    for (name, value) in members.clone().filter(|(name, _)| !is_laid(name)) {
        name_of(name, &mut out);
        value.write(&mut out);
    }
    for (name, value) in added.chain(&laid) {
        name_of(name, &mut out);
        write!(out, "{value}").map_err(|why| why.to_string())?;
    }
    out.push(b'}');
    String::from_utf8(out).map_err(|why| why.to_string())
}

/// As JSON. `None` for what JSON has no form for: bytes, and numbers that are none.
fn to_json(value: &Attribute) -> Option<Value> {
    let number = |text: &String| {
        serde_json::from_str::<serde_json::Number>(text)
            .ok()
            .map(Value::Number)
    };
    Some(match value {
        Attribute::S(text) => Value::String(text.clone()),
        Attribute::N(digits) => number(digits)?,
        Attribute::Bool(truth) => Value::Bool(*truth),
        Attribute::Null => Value::Null,
        Attribute::M(map) => Value::Object(
            map.iter()
                .map(|(name, value)| Some((name.clone(), to_json(value)?)))
                .collect::<Option<_>>()?,
        ),
        Attribute::L(values) => Value::Array(values.iter().map(to_json).collect::<Option<_>>()?),
        Attribute::Ss(texts) => Value::Array(texts.iter().cloned().map(Value::String).collect()),
        Attribute::Ns(numbers) => Value::Array(numbers.iter().map(number).collect::<Option<_>>()?),
        Attribute::B(_) | Attribute::Bs(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_700_000_000_250;

    fn names() -> FieldNames {
        FieldNames::default()
    }

    fn marks() -> Marks {
        Marks::at(NOW_MS, GREENFIELD_DELTA)
    }

    /// A queued task with attributes that nobody here knows.
    fn queued() -> StoredTask {
        let record = Record::from([
            ("task_id".to_owned(), Attribute::text("t")),
            ("labourer_id".to_owned(), Attribute::text("report")),
            ("created_at".to_owned(), Attribute::number("1699999000.5")),
            ("greenfield".to_owned(), Attribute::number("2000.5000")),
            ("attempts".to_owned(), Attribute::number(1)),
            ("payload".to_owned(), Attribute::text("{\"k\": 1, \"row\": 7}")),
            ("x".to_owned(), Attribute::Bs(vec![vec![1, 2]])),
        ]);
        StoredTask::read(&names(), record).unwrap()
    }

    fn claimed() -> StoredTask {
        queued().claim(&names(), marks().ticket(42)).1
    }

    #[test]
    fn a_ticket_is_of_this_second_a_year_ahead_and_its_own() {
        assert_eq!(marks().ticket(42).to_string(), "1731557600.000000042");
        assert_eq!(marks().running_for(marks().ticket(42)), Duration::ZERO);
        let later = Marks::at(NOW_MS + 90_000, GREENFIELD_DELTA);
        assert_eq!(later.running_for(marks().ticket(42)), Duration::from_secs(90));
        let since = Greenfield::from_millis(NOW_MS - 2_500);
        assert_eq!(marks().queued_for(since), Duration::from_secs(2));
        assert_eq!(
            marks().queued_for(Greenfield::from_millis(NOW_MS + 1)),
            Duration::ZERO
        );
        assert!(marks().last_queued() < Greenfield::from_millis(NOW_MS));
        assert!(marks().first_running() > marks().last_queued());
        assert!(marks().ticket(0) > marks().first_running());
    }

    #[test]
    fn a_claim_is_conditional_on_what_was_read_and_keeps_the_place() {
        let (update, claimed) = queued().claim(&names(), marks().ticket(42));
        assert_eq!(
            update.when,
            [
                // With every digit as it is written there.
                Test::Equals("greenfield".to_owned(), Attribute::number("2000.5000")),
                Test::Equals("attempts".to_owned(), Attribute::number(1)),
                Test::Absent("completed_at".to_owned()),
            ]
        );
        assert_eq!(claimed.attempts, 2);
        assert_eq!(claimed.place(), Some(queued().greenfield));
        assert_eq!(claimed.record.get("x"), queued().record.get("x"));
        assert_eq!(claimed.unclaimed(&names()), queued());
    }

    #[test]
    fn what_was_never_tried_has_no_attempts_to_compare() {
        let mut record = queued().record;
        record.remove("attempts");
        let task = StoredTask::read(&names(), record).unwrap();
        let (update, claimed) = task.claim(&names(), marks().ticket(1));
        assert_eq!(claimed.attempts, 1);
        assert!(update.when.contains(&Test::Absent("attempts".to_owned())));
    }

    #[test]
    fn what_is_given_back_stands_a_little_behind_its_place_with_its_old_attempts() {
        let (update, back) = claimed().give_back(&names(), 7);
        assert_eq!(
            update.when,
            [Test::Equals(
                "greenfield".to_owned(),
                Attribute::number("1731557600.000000042")
            )]
        );
        assert_eq!(
            (back.attempts, back.greenfield.to_string()),
            (1, "2000.500000008".to_owned())
        );
        // A late copy of the claim does not fit.
        let (late, _) = queued().claim(&names(), marks().ticket(42));
        assert!(!late.when.contains(&Test::Equals(
            "greenfield".to_owned(),
            Attribute::number(back.greenfield)
        )));
    }

    #[test]
    fn what_the_platform_never_started_keeps_its_attempt_and_does_not_count_it() {
        let (update, back) = claimed().put_back(&names(), 7);
        assert_eq!(update.when, claimed().give_back(&names(), 7).0.when);
        assert_eq!((back.attempts, back.counted_attempts()), (2, 1));
        let again = back.claim(&names(), marks().ticket(1)).1.put_back(&names(), 1).1;
        assert_eq!((again.attempts, again.counted_attempts()), (3, 1));
    }

    #[test]
    fn a_success_is_closed_with_what_sosw_looks_for() {
        let closing = Closing {
            outcome: Outcome::Succeeded,
            duration: Some(Duration::from_millis(1_500)),
            error: None,
            result: Some("{\"rows\":3}".to_owned()),
        };
        let [delete, put] = claimed().close(&names(), &closing, marks());
        let ticket = Test::Equals("greenfield".to_owned(), Attribute::number("1731557600.000000042"));
        assert_eq!(
            delete,
            Write::Delete {
                table: Table::Tasks,
                key: Record::from([("task_id".to_owned(), Attribute::text("t"))]),
                when: vec![ticket],
            }
        );
        let Write::Put {
            table: Table::Closed,
            record,
            when,
        } = put
        else {
            panic!("{put:?}");
        };
        assert_eq!(when, [Test::Absent("task_id".to_owned())]);
        for (name, value) in [
            ("labourer_id_task_status", Attribute::text("report_1")),
            ("closed_at", Attribute::number(1_700_000_000)),
            ("completed_at", Attribute::number(1_700_000_000)),
            ("outcome", Attribute::text("succeeded")),
            ("duration", Attribute::number("1.5")),
            ("result", Attribute::text("{\"rows\":3}")),
            ("payload", Attribute::text("{\"k\": 1, \"row\": 7}")),
            ("x", Attribute::Bs(vec![vec![1, 2]])),
        ] {
            assert_eq!(record.get(name), Some(&value), "{name}");
        }
    }

    #[test]
    fn a_failure_is_closed_or_parked_only_if_its_worker_has_not_marked_it() {
        let unmarked = Test::Absent("completed_at".to_owned());
        let error = LastError {
            kind: "ValueError".to_owned(),
            message: "no".to_owned(),
        };
        let closing = Closing {
            outcome: Outcome::Failed,
            duration: None,
            error: Some(error.clone()),
            result: None,
        };
        let [delete, put] = claimed().close(&names(), &closing, marks());
        assert!(matches!(delete, Write::Delete { when, .. } if when.contains(&unmarked)));
        assert!(
            matches!(put, Write::Put { record, .. } if !record.contains_key("completed_at")
            && text_of(&record, "labourer_id_task_status") == Some("report_0"))
        );
        let [delete, put, check] = claimed().park(&names(), NOW_MS + 10_000, Some(&error));
        assert!(matches!(delete, Write::Delete { when, .. } if when.contains(&unmarked)));
        assert!(matches!(&check, Write::Check { table: Table::Closed, when, .. } if when.len() == 1));
        let Write::Put {
            table: Table::Retry,
            record,
            ..
        } = put
        else {
            panic!("{put:?}");
        };
        let due = record.get("desired_launch_time");
        assert_eq!(due, Some(&Attribute::number("1700000010.25")));

        let waiting = Waiting::read(&names(), record).unwrap();
        let place = waiting.place().unwrap();
        let ([put, delete, check], again) = waiting.requeue(&names(), place);
        assert!(matches!(put, Write::Put { table: Table::Tasks, when, .. }
            if when == [Test::Absent("labourer_id".to_owned())]));
        assert!(matches!(delete, Write::Delete { table: Table::Retry, key, when }
            if key.len() == 2 && when.len() == 2));
        assert!(matches!(
            check,
            Write::Check {
                table: Table::Closed,
                ..
            }
        ));
        let again = StoredTask::read(&names(), again).unwrap();
        assert_eq!((again.greenfield, again.attempts), (queued().greenfield, 2));
        assert!(!again.record.contains_key("desired_launch_time"));
    }

    #[test]
    fn a_worker_gets_the_row_as_it_was_before_the_claim() {
        let more = [("not_after", Value::from(9)), ("row", Value::from(1))];
        let payload = payload_of(&names(), &claimed(), &more).unwrap();
        let expected = serde_json::json!({
            "k": 1, "row": 7, "not_after": 9, "task_id": "t", "labourer_id": "report",
            "created_at": 1_699_999_000.5, "greenfield": 2000.5, "attempts": 1,
        });
        let read =
            |text: &str| serde_json::from_str::<std::collections::BTreeMap<String, Value>>(text).unwrap();
        let (payload, expected) = (read(&payload), read(&expected.to_string()));
        assert_eq!(
            payload.keys().collect::<Vec<_>>(),
            expected.keys().collect::<Vec<_>>()
        );
        for (name, value) in &expected {
            let same = match (value.as_f64(), payload.get(name).and_then(Value::as_f64)) {
                (Some(expected), Some(found)) => expected == found,
                _ => payload.get(name) == Some(value),
            };
            assert!(same, "{name}: {payload:?}");
        }
    }

    #[test]
    fn a_payload_that_is_no_object_is_said() {
        let with = |payload: Attribute| {
            let mut task = claimed();
            task.record.insert("payload".to_owned(), payload);
            payload_of(&names(), &task, &[])
        };
        for (payload, why) in [
            (Attribute::text("[1, 2]"), "a list"),
            (Attribute::text("nonsense"), "JSON"),
            (Attribute::number(5), "not an object"),
        ] {
            let error = with(payload.clone()).unwrap_err();
            assert!(error.contains(why), "{payload:?}: {error}");
        }
        assert!(with(Attribute::Null).is_ok());
        let map = Record::from([("k".to_owned(), Attribute::Bool(true))]);
        assert!(with(Attribute::M(map)).unwrap().contains("\"k\":true"));
    }

    #[test]
    fn what_is_no_task_says_why_and_keeps_its_record() {
        for (name, value, why) in [
            ("attempts", Attribute::number("1.5"), "a whole number"),
            ("attempts", Attribute::text("1"), "a whole number"),
            ("attempts", Attribute::number(-1), "a whole number"),
            ("greenfield", Attribute::text("1"), "a number"),
            ("task_id", Attribute::number(1), "text"),
        ] {
            let mut record = queued().record;
            record.insert(name.to_owned(), value);
            let (malformed, kept) = StoredTask::read(&names(), record.clone()).unwrap_err();
            assert!(
                malformed.0.contains(why) && malformed.0.contains(name),
                "{malformed}"
            );
            assert_eq!(kept, record);
        }
    }
}
