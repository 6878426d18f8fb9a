//! The three tables of tasks in memory: what DynamoDB does with an item, a condition, a transaction and an index.
//! Attributes are called as sosw calls them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use jobmill_core::task::greenfield::Greenfield;
use jobmill_core::task::item::{MAX_ITEM_BYTES, Task};
use jobmill_core::task::record::{Attribute, Record, bytes_of, number_of, text_of};
use jobmill_core::task::write::{Index, MOST_UPDATES, MOST_WRITES, Page, Range, Table, Test, Update, Write};
use jobmill_engine::dispatch::ports::{Fate, Transacted, Updated};
use jobmill_engine::ports::{PortError, PortResult};
use jobmill_engine::schedule::ports::MetaRow;

use crate::refused;

/// The operation that updates several items, each by itself.
pub const UPDATE: &str = "dynamodb:BatchExecuteStatement UPDATE";
/// The operation that writes all or nothing.
pub const TRANSACT: &str = "dynamodb:TransactWriteItems MOVE";
/// The operation that reads an index.
pub const QUERY: &str = "dynamodb:Query";
/// The operation that reads one item.
pub const GET: &str = "dynamodb:GetItem";

/// The most that a page holds.
const PAGE_BYTES: u64 = 1024 * 1024;

pub(crate) const TASK_ID: &str = "task_id";
pub(crate) const LABOURER_ID: &str = "labourer_id";
const GREENFIELD: &str = "greenfield";
const PAYLOAD: &str = "payload";
const DESIRED_LAUNCH_TIME: &str = "desired_launch_time";

/// The key of an item: its task id, and its labourer where the key has one.
type Key = (String, String);
/// A place in an index: whose, which number, which task.
type Position = (String, Greenfield, String);

/// An item in one of the tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// All its attributes.
    pub record: Record,
    /// Since when it stands there.
    pub since: Duration,
}

impl Item {
    /// The text of an attribute; empty if it has no such text.
    pub fn text(&self, name: &str) -> &str {
        text_of(&self.record, name).unwrap_or_default()
    }

    /// The number of an attribute.
    pub fn number(&self, name: &str) -> Option<Greenfield> {
        number_of(&self.record, name)
    }

    /// Its place in the queue.
    pub fn greenfield(&self) -> Option<Greenfield> {
        self.number(GREENFIELD)
    }
}

/// One of the tables: its items, and its index, which shows them as they were a while ago.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    items: BTreeMap<Key, Item>,
    /// What the index shows.
    index: BTreeMap<Position, Record>,
    positions: BTreeMap<Key, Position>,
    /// What it does not show yet, oldest first.
    pending: VecDeque<(Duration, Key, Option<Record>)>,
}

impl Rows {
    /// The item of a task.
    pub fn get(&self, task_id: &str) -> Option<&Item> {
        let (key, item) = self.items.range((task_id.to_owned(), String::new())..).next()?;
        (key.0 == task_id).then_some(item)
    }

    /// Whether it holds the task.
    pub fn contains(&self, task_id: &str) -> bool {
        self.get(task_id).is_some()
    }

    /// The ids of its tasks, in their order.
    pub fn ids(&self) -> impl Iterator<Item = &String> {
        self.items.keys().map(|(task_id, _)| task_id)
    }

    /// Its items, in the order of their tasks' ids.
    pub fn items(&self) -> impl Iterator<Item = &Item> {
        self.items.values()
    }

    /// How many items it holds.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    fn record(&self, key: &Key) -> Option<&Record> {
        self.items.get(key).map(|item| &item.record)
    }

    /// Lets the index show what happened up to `lag` ago. `number` is what it is sorted by.
    fn catch_up(&mut self, now: Duration, lag: Duration, number: Option<&str>) {
        while self.pending.front().is_some_and(|(at, _, _)| *at + lag <= now) {
            let Some((_, key, record)) = self.pending.pop_front() else {
                return;
            };
            if let Some(old) = self.positions.remove(&key) {
                self.index.remove(&old);
            }
            if let (Some(record), Some(number)) = (record, number)
                && let (Some(labourer), Some(place)) =
                    (text_of(&record, LABOURER_ID), place_of(&record, number))
            {
                let position = (labourer.to_owned(), place, key.0.clone());
                self.positions.insert(key, position.clone());
                self.index.insert(position, record);
            }
        }
    }
}

/// Where a record stands in an index, to the billionth. What is beyond all times is at the end.
fn place_of(record: &Record, number: &str) -> Option<Greenfield> {
    let text = record.get(number)?.as_number()?;
    let end = match text.starts_with('-') {
        true => i128::MIN,
        false => i128::MAX,
    };
    Some(Greenfield::parse(text).unwrap_or(Greenfield::from_nanos(end)))
}

/// A task as it was created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Birth {
    /// Its attributes.
    pub task: Task,
    /// When.
    pub at: Duration,
    /// Its place among all that happened, as [`crate::VirtualClock::stamp`] counts.
    pub stamp: u64,
}

/// What happened to an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableChange {
    /// When.
    pub at: Duration,
    /// Its place among all that happened, as [`crate::VirtualClock::stamp`] counts: what one transaction did has one
    /// stamp.
    pub stamp: u64,
    /// Where.
    pub table: Table,
    /// Which task.
    pub task_id: String,
    /// What was there before.
    pub before: Option<Record>,
    /// What is there now.
    pub after: Option<Record>,
}

/// The capacity of a table: so many write units a second, and what a second saves up.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    unit: Duration,
    /// When all that was taken will have been paid for.
    paid_at: Duration,
}

impl Capacity {
    /// So many write units a second, one at least.
    pub fn per_second(units: u32) -> Self {
        Self {
            unit: Duration::from_secs(1) / units.max(1),
            paid_at: Duration::ZERO,
        }
    }

    /// Takes so many units. `false`: there were none left, and none was taken.
    fn takes(&mut self, now: Duration, units: u32) -> bool {
        const SAVED: Duration = Duration::from_secs(1);
        if self.paid_at >= now + SAVED {
            return false;
        }
        self.paid_at = self.paid_at.max(now) + self.unit * units;
        true
    }
}

/// The three tables.
#[derive(Debug, Clone, Default)]
pub struct TableState {
    /// The tasks table.
    pub tasks: Rows,
    /// The retry table.
    pub retry: Rows,
    /// The closed table.
    pub closed: Rows,
    /// Meta rows in the order of their writing.
    pub meta: Vec<MetaRow>,
    /// How far the indexes lag behind their tables.
    pub index_lag: Duration,
    /// What the tables take; none: as much as is asked of them.
    pub capacity: Option<Capacity>,
    /// Payloads that the tables refuse as invalid, whoever sends them and how.
    pub invalid: BTreeSet<String>,
    /// Payloads whose partition takes no more writes before that moment.
    pub hot: BTreeMap<String, Duration>,
    /// Every task as it was created by the scheduler, oldest first.
    pub births: Vec<Birth>,
    /// How many inserts of a batch found an item with their id.
    pub duplicates: u64,
    /// Whether a batch overwrites what is there, as `BatchWriteItem` does.
    pub overwrites: bool,
    /// What a batch has overwritten, as it was before.
    pub overwritten: Vec<Item>,
    /// Whether changes are kept.
    pub keeps_changes: bool,
    /// All that happened to items, oldest first, if it is kept.
    pub changes: Vec<TableChange>,
    pub(crate) stamp: u64,
}

// ------------------------------------------------------------------------------------ what others see and do

impl TableState {
    /// One of the tables.
    pub fn table(&self, table: Table) -> &Rows {
        match table {
            Table::Tasks => &self.tasks,
            Table::Retry => &self.retry,
            Table::Closed => &self.closed,
        }
    }

    /// In which tables a task stands.
    pub fn places_of(&self, task_id: &str) -> Vec<Table> {
        let mut places = vec![Table::Tasks, Table::Retry, Table::Closed];
        places.retain(|table| self.table(*table).contains(task_id));
        places
    }

    /// Puts an item, over what is there, as anybody may. `false` if the table can't take it.
    pub fn put(&mut self, now: Duration, table: Table, record: Record) -> bool {
        let valid = valid_item(table, &record);
        if let Ok(key) = &valid {
            self.write(now, table, key.clone(), Some(normal(record)));
        }
        valid.is_ok()
    }

    /// Takes the item of a task out of a table, as anybody may.
    pub fn take(&mut self, now: Duration, table: Table, task_id: &str) -> Option<Item> {
        let item = self.table(table).get(task_id)?.clone();
        let key = key_of(table, &item.record).ok()?;
        self.write(now, table, key, None);
        Some(item)
    }

    /// Sets attributes in the tasks table, come what may: as an `UpdateItem` without a condition, such as that of sosw's
    /// assistant, it makes an item of what is not there.
    pub fn set(&mut self, now: Duration, task_id: &str, attributes: &[(&str, Attribute)]) -> bool {
        let new = || Record::from([(TASK_ID.to_owned(), Attribute::text(task_id))]);
        let mut record = self
            .tasks
            .get(task_id)
            .map_or_else(new, |item| item.record.clone());
        for (name, value) in attributes {
            record.insert((*name).to_owned(), value.clone());
        }
        let since = self.tasks.get(task_id).map(|item| item.since);
        let done = self.put(now, Table::Tasks, record);
        self.stands_since(task_id, since);
        done
    }

    /// Moves a task from the tasks table as it is. `false` if it is not there.
    pub fn move_task(&mut self, now: Duration, task_id: &str, to: Table) -> bool {
        self.take(now, Table::Tasks, task_id)
            .is_some_and(|item| self.put(now, to, item.record))
    }

    pub(crate) fn write(&mut self, now: Duration, table: Table, key: Key, after: Option<Record>) {
        let (lag, stamp) = (self.index_lag, self.stamp);
        let rows = match table {
            Table::Tasks => &mut self.tasks,
            Table::Retry => &mut self.retry,
            Table::Closed => &mut self.closed,
        };
        let before = match &after {
            Some(record) => {
                let item = Item {
                    record: record.clone(),
                    since: now,
                };
                rows.items.insert(key.clone(), item)
            }
            None => rows.items.remove(&key),
        };
        let number = number_in_index(table);
        if number.is_some() {
            rows.pending.push_back((now, key.clone(), after.clone()));
            rows.catch_up(now, lag, number);
        }
        if self.keeps_changes {
            self.changes.push(TableChange {
                at: now,
                stamp,
                table,
                task_id: key.0,
                before: before.map(|item| item.record),
                after,
            });
        }
    }

    /// What was only changed stands there as long as before.
    fn stands_since(&mut self, task_id: &str, since: Option<Duration>) {
        if let (Some(since), Some(item)) = (since, self.tasks.items.get_mut(&tasks_key(task_id))) {
            item.since = since;
        }
    }

    pub(crate) fn has_room(&mut self, now: Duration, payloads: &[&str], units: u32) -> bool {
        let cool = |payload: &&str| self.hot.get(*payload).is_none_or(|until| *until <= now);
        payloads.iter().all(cool)
            && self
                .capacity
                .as_mut()
                .is_none_or(|capacity| capacity.takes(now, units))
    }

    /// Why an item can't be in a table, whoever puts it there.
    pub(crate) fn refusal(&self, table: Table, record: &Record) -> Option<String> {
        if text_of(record, PAYLOAD).is_some_and(|payload| self.invalid.contains(payload)) {
            return Some("ValidationError: an attribute of the item is invalid".to_owned());
        }
        valid_item(table, record).err()
    }
}

/// What the index of a table is sorted by. The closed table's is read by nobody here.
fn number_in_index(table: Table) -> Option<&'static str> {
    match table {
        Table::Tasks => Some(GREENFIELD),
        Table::Retry => Some(DESIRED_LAUNCH_TIME),
        Table::Closed => None,
    }
}

pub(crate) fn tasks_key(task_id: &str) -> Key {
    (task_id.to_owned(), String::new())
}

// --------------------------------------------------------------------------------- conditional writes and reads

impl TableState {
    /// See [`jobmill_engine::dispatch::ports::Tables::update`].
    pub fn update(&mut self, now: Duration, updates: &[Update]) -> PortResult<Vec<Updated>> {
        if updates.len() > MOST_UPDATES {
            let message = format!("a batch has at most {MOST_UPDATES} statements");
            return Err(refused(UPDATE, "ValidationException", message));
        }
        if let Some(update) = updates.iter().find(|update| !update.needs_an_item()) {
            let message = format!("the update of {:?} would make an item", update.task_id);
            return Err(refused(UPDATE, "ConstructionFailure", message));
        }
        let ids: BTreeSet<&String> = updates.iter().map(|update| &update.task_id).collect();
        if ids.len() < updates.len() {
            let message = "a batch has at most one statement for an item";
            return Err(refused(UPDATE, "ValidationException", message));
        }
        let updated: Vec<Updated> = updates
            .iter()
            .map(|update| self.update_one(now, update))
            .collect();
        if !updated.is_empty() && updated.iter().all(|updated| *updated == Updated::Throttled) {
            return Err(throttled(UPDATE));
        }
        Ok(updated)
    }

    fn update_one(&mut self, now: Duration, update: &Update) -> Updated {
        if let Err(why) = valid_update(update) {
            return Updated::Invalid(why);
        }
        let key = tasks_key(&update.task_id);
        let there = self.tasks.record(&key).cloned();
        let mut record = there.clone().unwrap_or_default();
        let payload = text_of(&record, PAYLOAD).unwrap_or_default().to_owned();
        if !self.has_room(now, &[&payload], write_units(&record)) {
            return Updated::Throttled;
        }
        if !holds(there.as_ref(), &update.when) {
            return Updated::Refused;
        }
        record.extend(update.set.iter().cloned());
        if let Some(why) = self.refusal(Table::Tasks, &record) {
            return Updated::Invalid(why);
        }
        let since = self.tasks.items.get(&key).map(|item| item.since);
        self.write(now, Table::Tasks, key, Some(normal(record)));
        self.stands_since(&update.task_id, since);
        Updated::Done
    }

    /// See [`jobmill_engine::dispatch::ports::Tables::transact`].
    pub fn transact(&mut self, now: Duration, writes: &[Write]) -> PortResult<Transacted> {
        let invalid = |message: String| Err(refused(TRANSACT, "ValidationException", message));
        if writes.is_empty() || writes.len() > MOST_WRITES {
            return invalid(format!("a transaction has 1 to {MOST_WRITES} parts"));
        }
        let mut keys = BTreeSet::new();
        let mut fates = Vec::with_capacity(writes.len());
        let mut units: u32 = 0;
        let mut payloads = Vec::new();
        for write in writes {
            let (table, at, when) = parts_of(write);
            let (fate, key) = match self.checked(write) {
                Ok(key) => (Fate::Fine, Some(key)),
                Err(why) => (Fate::Invalid(why), key_of(table, at).ok()),
            };
            if let Some(key) = key.clone()
                && !keys.insert((table, key))
            {
                return invalid("a transaction has at most one part for an item".to_owned());
            }
            let there = key.as_ref().and_then(|key| self.table(table).record(key));
            let fate = match fate {
                Fate::Fine if !holds(there, when) => Fate::Failed,
                fate => fate,
            };
            let written = there.map_or(1, write_units).max(write_units(at));
            units = units.saturating_add(2 * written);
            payloads.extend(text_of(at, PAYLOAD).map(str::to_owned));
            fates.push(fate);
        }
        if fates.iter().any(|fate| *fate != Fate::Fine) {
            return Ok(Transacted::Refused(fates));
        }
        let payloads: Vec<&str> = payloads.iter().map(String::as_str).collect();
        if !self.has_room(now, &payloads, units) {
            return Ok(Transacted::Refused(vec![Fate::Busy; writes.len()]));
        }
        for write in writes {
            let (table, at, _) = parts_of(write);
            let Ok(key) = key_of(table, at) else {
                continue;
            };
            match write {
                Write::Put { record, .. } => self.write(now, table, key, Some(normal(record.clone()))),
                Write::Delete { .. } if self.table(table).items.contains_key(&key) => {
                    self.write(now, table, key, None);
                }
                Write::Delete { .. } | Write::Check { .. } => {}
            }
        }
        Ok(Transacted::Done)
    }

    /// The key of a part that can be carried out; else why it can't.
    fn checked(&self, write: &Write) -> Result<Key, String> {
        match write {
            Write::Put { table, record, .. } => match self.refusal(*table, record) {
                Some(why) => Err(why),
                None => key_of(*table, record),
            },
            Write::Check { when, .. } if when.is_empty() => {
                Err("ValidationError: a check needs a condition".to_owned())
            }
            Write::Delete { table, key, .. } | Write::Check { table, key, .. } => {
                let known = key_of(*table, key)?;
                let attributes = match table {
                    Table::Retry => 2,
                    Table::Tasks | Table::Closed => 1,
                };
                match key.len() == attributes {
                    true => Ok(known),
                    false => Err("ValidationError: the key does not match the schema".to_owned()),
                }
            }
        }
    }

    /// See [`jobmill_engine::dispatch::ports::Tables::read`].
    pub fn read(&mut self, now: Duration, range: &Range) -> PortResult<Page> {
        let invalid = |message: &str| Err(refused(QUERY, "ValidationException", message));
        let lag = self.index_lag;
        let (rows, number) = match range.index {
            Index::Queue => (&mut self.tasks, GREENFIELD),
            Index::Waiting => (&mut self.retry, DESIRED_LAUNCH_TIME),
        };
        rows.catch_up(now, lag, Some(number));
        if range.limit == 0 || range.labourer_id.is_empty() || range.from > range.to {
            return invalid("a limit of 0, no labourer, or a range that ends before it begins");
        }
        let after = match &range.after {
            None => None,
            Some(after) => match (
                text_of(after, LABOURER_ID),
                place_of(after, number),
                text_of(after, TASK_ID),
            ) {
                (Some(labourer), Some(place), Some(task_id)) if labourer == range.labourer_id => {
                    Some((labourer.to_owned(), place, task_id.to_owned()))
                }
                _ => return invalid("the start key is no key of this index"),
            },
        };
        let begin = (range.labourer_id.clone(), range.from, String::new());
        let mut page = Page::default();
        let mut bytes = 0;
        for (position, record) in rows.index.range(begin..) {
            if position.0 != range.labourer_id || position.1 > range.to {
                break;
            }
            if after.as_ref().is_some_and(|after| position <= after) {
                continue;
            }
            bytes += bytes_of(record);
            page.records.push(record.clone());
            if page.records.len() >= range.limit as usize || bytes >= PAGE_BYTES {
                // As DynamoDB: there may be no more, nobody has looked.
                let key = [TASK_ID, LABOURER_ID, number].map(|name| {
                    let value = record.get(name).cloned().unwrap_or(Attribute::Null);
                    (name.to_owned(), value)
                });
                page.next = Some(Record::from(key));
                break;
            }
        }
        Ok(page)
    }

    /// See [`jobmill_engine::schedule::ports::TaskTable::newest_greenfield`].
    pub fn newest_greenfield(
        &mut self,
        now: Duration,
        labourer_id: &str,
        not_after: Greenfield,
    ) -> Option<Greenfield> {
        self.tasks.catch_up(now, self.index_lag, Some(GREENFIELD));
        let first = (
            labourer_id.to_owned(),
            Greenfield::from_nanos(i128::MIN),
            String::new(),
        );
        let behind = (
            labourer_id.to_owned(),
            Greenfield::from_nanos(not_after.nanos().saturating_add(1)),
            String::new(),
        );
        let (newest, _) = self.tasks.index.range(first..behind).next_back()?;
        Some(newest.1)
    }
}

fn parts_of(write: &Write) -> (Table, &Record, &[Test]) {
    match write {
        Write::Put { table, record, when } => (*table, record, when),
        Write::Delete { table, key, when } | Write::Check { table, key, when } => (*table, key, when),
    }
}

pub(crate) fn throttled(operation: &'static str) -> PortError {
    PortError::Throttled {
        operation,
        message: "the table takes no more for now".to_owned(),
    }
}

/// Units of a write: one for each begun kilobyte of the item.
pub(crate) fn write_units(record: &Record) -> u32 {
    u32::try_from(bytes_of(record).div_ceil(1024))
        .unwrap_or(u32::MAX)
        .max(1)
}

/// Whether a condition holds of what is there.
fn holds(there: Option<&Record>, when: &[Test]) -> bool {
    when.iter().all(|test| match test {
        Test::Equals(name, value) => there
            .and_then(|record| record.get(name))
            .is_some_and(|found| same(found, value)),
        Test::Absent(name) => there.is_none_or(|record| !record.contains_key(name)),
    })
}

/// Numbers are compared as numbers, sets without their order.
fn same(one: &Attribute, other: &Attribute) -> bool {
    normal_attribute(one.clone()) == normal_attribute(other.clone())
}

// ------------------------------------------------------------------------------------------- items and numbers

/// The key of an item; else why it has none.
fn key_of(table: Table, record: &Record) -> Result<Key, String> {
    let part = |name: &str| match text_of(record, name) {
        Some(text) if !text.is_empty() => Ok(text.to_owned()),
        _ => Err(format!("ValidationError: the key needs `{name}`, a text")),
    };
    let labourer_id = match table {
        Table::Retry => part(LABOURER_ID)?,
        Table::Tasks | Table::Closed => String::new(),
    };
    Ok((part(TASK_ID)?, labourer_id))
}

fn valid_update(update: &Update) -> Result<(), String> {
    let names: BTreeSet<&String> = update.set.iter().map(|(name, _)| name).collect();
    let valid =
        !names.is_empty() && names.len() == update.set.len() && names.iter().all(|name| *name != TASK_ID);
    match valid {
        true => Ok(()),
        false => Err("ValidationError: an update sets something, each attribute once, and no key".to_owned()),
    }
}

fn valid_item(table: Table, record: &Record) -> Result<Key, String> {
    let key = key_of(table, record)?;
    if let Some(labourer) = record.get(LABOURER_ID)
        && labourer.as_text().is_none_or(str::is_empty)
    {
        return Err("ValidationError: the key of an index must be a text".to_owned());
    }
    if let Some(number) = number_in_index(table)
        && record
            .get(number)
            .is_some_and(|value| value.as_number().is_none())
    {
        return Err(format!(
            "ValidationError: `{number}` must be a number, an index is sorted by it"
        ));
    }
    for value in record.values() {
        valid_attribute(value)?;
    }
    match bytes_of(record) > MAX_ITEM_BYTES {
        true => Err("ValidationError: Item size has exceeded the maximum allowed size".to_owned()),
        false => Ok(key),
    }
}

fn valid_attribute(value: &Attribute) -> Result<(), String> {
    let number = |text: &String| match normal_number(text) {
        Some(_) => Ok(()),
        None => Err(format!("ValidationError: {text:?} is no number of DynamoDB's")),
    };
    let set = |len: usize, distinct: usize| match len > 0 && len == distinct {
        true => Ok(()),
        false => Err("ValidationError: a set has a member, and each but once".to_owned()),
    };
    match value {
        Attribute::N(text) => number(text),
        Attribute::M(values) => values.values().try_for_each(valid_attribute),
        Attribute::L(values) => values.iter().try_for_each(valid_attribute),
        Attribute::Ss(texts) => set(texts.len(), texts.iter().collect::<BTreeSet<_>>().len()),
        Attribute::Bs(bytes) => set(bytes.len(), bytes.iter().collect::<BTreeSet<_>>().len()),
        Attribute::Ns(numbers) => {
            numbers.iter().try_for_each(number)?;
            let distinct: BTreeSet<_> = numbers.iter().filter_map(|text| normal_number(text)).collect();
            set(numbers.len(), distinct.len())
        }
        Attribute::S(_) | Attribute::B(_) | Attribute::Bool(_) | Attribute::Null => Ok(()),
    }
}

/// The record as DynamoDB gives it back: numbers without superfluous digits, sets in an order of their own.
pub(crate) fn normal(record: Record) -> Record {
    let normal = |(name, value)| (name, normal_attribute(value));
    record.into_iter().map(normal).collect()
}

fn normal_attribute(value: Attribute) -> Attribute {
    let number = |text: String| normal_number(&text).unwrap_or(text);
    match value {
        Attribute::N(text) => Attribute::N(number(text)),
        Attribute::M(values) => Attribute::M(normal(values)),
        Attribute::L(values) => Attribute::L(values.into_iter().map(normal_attribute).collect()),
        Attribute::Ns(numbers) => {
            let mut numbers: Vec<String> = numbers.into_iter().map(number).collect();
            numbers.sort();
            Attribute::Ns(numbers)
        }
        Attribute::Ss(mut texts) => {
            texts.sort();
            Attribute::Ss(texts)
        }
        Attribute::Bs(mut bytes) => {
            bytes.sort();
            Attribute::Bs(bytes)
        }
        other => other,
    }
}

/// The one way to write a number, in plain decimals: `1.50` is `1.5`, `1E2` is `100`. `None` if it is no number, or has
/// more than 38 digits, or is beyond 10^126 or below 10^-130.
fn normal_number(text: &str) -> Option<String> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (text, 0),
    };
    let (sign, digits) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{fraction}");
    if all.is_empty() || !all.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let significant = all.trim_start_matches('0');
    let zeros = significant.len() - significant.trim_end_matches('0').len();
    let significant = significant.trim_end_matches('0');
    if significant.is_empty() {
        return Some("0".to_owned());
    }
    // The number is 0.significant times 10^point.
    let point = exponent
        .checked_sub(i64::try_from(fraction.len()).ok()?)?
        .checked_add(i64::try_from(zeros + significant.len()).ok()?)?;
    if significant.len() > 38 || !(-129..=126).contains(&point) {
        return None;
    }
    let len = i64::try_from(significant.len()).ok()?;
    Some(match point {
        ..=0 => {
            let zeros = "0".repeat(usize::try_from(-point).ok()?);
            format!("{sign}0.{zeros}{significant}")
        }
        _ if point >= len => {
            let zeros = "0".repeat(usize::try_from(point - len).ok()?);
            format!("{sign}{significant}{zeros}")
        }
        _ => {
            let (whole, fraction) = significant.split_at_checked(usize::try_from(point).ok()?)?;
            format!("{sign}{whole}.{fraction}")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn task(id: &str, greenfield: &str) -> Record {
        Record::from([
            (TASK_ID.to_owned(), Attribute::text(id)),
            (LABOURER_ID.to_owned(), Attribute::text("worker")),
            (GREENFIELD.to_owned(), Attribute::number(greenfield)),
        ])
    }

    fn queue() -> Range {
        Range {
            index: Index::Queue,
            labourer_id: "worker".to_owned(),
            from: Greenfield::ZERO,
            to: Greenfield::from_millis(9_000),
            limit: 100,
            after: None,
        }
    }

    fn claim(id: &str) -> Update {
        Update {
            task_id: id.to_owned(),
            set: vec![(GREENFIELD.to_owned(), Attribute::number(99))],
            when: vec![Test::Equals(GREENFIELD.to_owned(), Attribute::number(7))],
        }
    }

    #[test]
    fn the_index_shows_the_tables_as_they_were() {
        let mut tables = TableState {
            index_lag: 2 * SECOND,
            ..TableState::default()
        };
        let seen = |tables: &mut TableState, now| {
            let page = tables.read(now, &queue()).unwrap();
            let ids = page.records.iter().filter_map(|record| text_of(record, TASK_ID));
            ids.collect::<Vec<_>>().join(" ")
        };
        tables.put(SECOND, Table::Tasks, task("claimed", "7"));
        tables.put(SECOND, Table::Tasks, task("deleted", "8"));
        assert_eq!(seen(&mut tables, 2 * SECOND), "");
        assert_eq!(seen(&mut tables, 3 * SECOND), "claimed deleted");
        assert_eq!(
            tables.update(4 * SECOND, &[claim("claimed")]),
            Ok(vec![Updated::Done])
        );
        tables.take(4 * SECOND, Table::Tasks, "deleted").unwrap();
        assert_eq!(seen(&mut tables, 5 * SECOND), "claimed deleted", "as it was");
        let shown = tables.read(5 * SECOND, &queue()).unwrap().records;
        assert_eq!(shown[0], task("claimed", "7"), "whole, with its old place");
        assert_eq!(
            tables.update(5 * SECOND, &[claim("claimed")]),
            Ok(vec![Updated::Refused]),
            "a condition is tested on the table"
        );
        assert_eq!(seen(&mut tables, 6 * SECOND), "");
        assert_eq!(tables.places_of("claimed"), [Table::Tasks]);
        assert_eq!(tables.places_of("deleted"), []);
    }

    #[test]
    fn numbers_are_written_in_one_way() {
        for (text, expected) in [
            ("1.50", Some("1.5")),
            ("-0", Some("0")),
            ("0.000", Some("0")),
            ("00120", Some("120")),
            ("1.2E2", Some("120")),
            ("12e-4", Some("0.0012")),
            ("-.5", Some("-0.5")),
            ("5.", Some("5")),
            (
                "12345678901234567890123456789012345678",
                Some("12345678901234567890123456789012345678"),
            ),
            ("123456789012345678901234567890123456789", None),
            ("1E126", None),
            ("1E-131", None),
            ("", None),
            ("-", None),
            ("1.2.3", None),
            ("NaN", None),
            ("1E99999999999999999999", None),
        ] {
            assert_eq!(normal_number(text).as_deref(), expected, "{text}");
        }
        assert_eq!(normal_number("1E125").unwrap().len(), 126);
    }

    #[test]
    fn a_hot_or_exhausted_table_changes_nothing() {
        let mut tables = TableState {
            capacity: Some(Capacity::per_second(1)),
            ..TableState::default()
        };
        for id in ["a", "b", "c"] {
            tables.put(Duration::ZERO, Table::Tasks, task(id, "7"));
        }
        let updates = ["a", "b", "c"].map(claim);
        let updated = tables.update(SECOND, &updates).unwrap();
        assert_eq!(updated, [Updated::Done, Updated::Throttled, Updated::Throttled]);
        let all = tables.update(SECOND, &updates);
        assert!(matches!(all, Err(PortError::Throttled { .. })), "{all:?}");
        let put = Write::Put {
            table: Table::Closed,
            record: task("d", "7"),
            when: Vec::new(),
        };
        let busy = Transacted::Refused(vec![Fate::Busy]);
        assert_eq!(tables.transact(SECOND, &[put]), Ok(busy));
        assert!(tables.closed.is_empty());
    }

    #[test]
    fn changes_are_kept_if_asked_for() {
        let mut tables = TableState {
            keeps_changes: true,
            stamp: 5,
            ..TableState::default()
        };
        tables.put(SECOND, Table::Tasks, task("a", "7"));
        tables.move_task(SECOND, "a", Table::Closed);
        let seen: Vec<_> = tables
            .changes
            .iter()
            .map(|change| {
                (
                    change.table,
                    change.before.is_some(),
                    change.after.is_some(),
                    change.stamp,
                )
            })
            .collect();
        let expected = [
            (Table::Tasks, false, true, 5),
            (Table::Tasks, true, false, 5),
            (Table::Closed, false, true, 5),
        ];
        assert_eq!(seen, expected);
    }
}
