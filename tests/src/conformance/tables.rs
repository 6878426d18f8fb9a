//! The suite of the tables as dispatching sees them. It goes through the port alone: what a transaction puts, a
//! transaction's check finds again.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use jobmill_core::task::greenfield::Greenfield;
use jobmill_core::task::life::{Closing, LastError, Marks, Outcome, StoredTask, Waiting};
use jobmill_core::task::record::{Attribute, Record, number_of};
use jobmill_core::task::tables::FieldNames;
use jobmill_core::task::write::{Index, MOST_UPDATES, MOST_WRITES, Page, Range, Table, Test, Update, Write};
use jobmill_engine::dispatch::ports::{Fate, Tables, Transacted, Updated};
use jobmill_engine::ports::PortError;

use super::{Checks, Exception, RACERS};

/// The suite of [`Tables`], whose attributes have these names. `run` makes labourers and ids of this run distinct from all
/// others.
pub async fn tables<T: Tables>(tables: &T, names: &FieldNames, run: &str) {
    tables_except(tables, names, run, &[]).await;
}

/// The suite of [`Tables`], of which some checks are known to fail.
pub async fn tables_except<T: Tables>(tables: &T, names: &FieldNames, run: &str, exceptions: &[Exception]) {
    let suite = Suite { tables, names, run };
    let mut checks = Checks::except(exceptions);
    checks!(checks, suite:
        what_is_nowhere,
        claims,
        claims_of_what_is_not_as_read,
        the_life_of_a_task,
        numbers_are_compared_as_numbers,
        updates_answer_in_order,
        updates_are_refused_each_for_itself,
        updates_race,
        any_name_may_be_a_reserved_word,
        every_type_survives_a_move,
        transactions_are_all_or_nothing,
        a_put_replaces,
        ghosts,
        deletes_of_nothing,
        items_that_are_too_large,
        limits_of_a_transaction,
        transactions_race,
        the_queue_in_order,
        what_waits_in_order,
        indexes_are_sparse,
        pages,
    );
    checks.finish();
}

struct Suite<'a, T> {
    tables: &'a T,
    names: &'a FieldNames,
    run: &'a str,
}

fn equals(name: &str, value: Attribute) -> Test {
    Test::Equals(name.to_owned(), value)
}

fn absent(name: &str) -> Test {
    Test::Absent(name.to_owned())
}

/// Sets have no order.
fn in_order(record: Record) -> Record {
    fn sorted(value: Attribute) -> Attribute {
        match value {
            Attribute::Ss(mut texts) => {
                texts.sort();
                Attribute::Ss(texts)
            }
            Attribute::Ns(mut numbers) => {
                numbers.sort();
                Attribute::Ns(numbers)
            }
            Attribute::Bs(mut bytes) => {
                bytes.sort();
                Attribute::Bs(bytes)
            }
            other => other,
        }
    }
    let sorted = |(name, value)| (name, sorted(value));
    record.into_iter().map(sorted).collect()
}

impl<T: Tables> Suite<'_, T> {
    fn id(&self, name: &str) -> String {
        format!("{}-{name}", self.run)
    }

    fn labourer(&self, name: &str) -> String {
        format!("{}-labourer-{name}", self.run)
    }

    /// A queued task of a labourer of that name.
    fn queued(&self, name: &str, greenfield: &str) -> Record {
        let names = self.names;
        Record::from([
            (names.task_id.clone(), Attribute::text(self.id(name))),
            (names.labourer_id.clone(), Attribute::text(self.labourer(name))),
            (names.created_at.clone(), Attribute::number("1709701600.123456")),
            (names.greenfield.clone(), Attribute::number(greenfield)),
            (names.attempts.clone(), Attribute::number(0)),
            (names.payload.clone(), Attribute::text("{}")),
        ])
    }

    fn key(&self, table: Table, record: &Record) -> Record {
        let mut key = record.clone();
        key.retain(|name, _| {
            *name == self.names.task_id || (table == Table::Retry && *name == self.names.labourer_id)
        });
        key
    }

    async fn transact(&self, writes: &[Write]) -> Transacted {
        self.tables.transact(writes).await.unwrap()
    }

    async fn put(&self, table: Table, record: &Record) {
        let (record, when) = (record.clone(), Vec::new());
        let put = Write::Put { table, record, when };
        assert_eq!(self.transact(&[put]).await, Transacted::Done);
    }

    async fn read(&self, name: &str) -> Option<Record> {
        self.tables.task(&self.id(name)).await.unwrap()
    }

    /// Whether a condition holds at a key: of the closed and the retry table nothing else can be asked.
    async fn holds(&self, table: Table, record: &Record, when: Vec<Test>) -> bool {
        let key = self.key(table, record);
        match self.transact(&[Write::Check { table, key, when }]).await {
            Transacted::Done => true,
            Transacted::Refused(fates) => {
                assert_eq!(fates, [Fate::Failed]);
                false
            }
        }
    }

    async fn is_there(&self, table: Table, record: &Record) -> bool {
        !self.holds(table, record, vec![absent(&self.names.task_id)]).await
    }

    /// A claim of a task that was read with that greenfield and these attempts.
    fn claim(&self, name: &str, greenfield: &str, attempts: u32) -> Update {
        let names = self.names;
        Update {
            task_id: self.id(name),
            set: vec![
                (
                    names.greenfield.clone(),
                    Attribute::number("1741259200.123456789"),
                ),
                (names.attempts.clone(), Attribute::number(attempts + 1)),
            ],
            when: vec![
                equals(&names.greenfield, Attribute::number(greenfield)),
                equals(&names.attempts, Attribute::number(attempts)),
                absent(&names.completed_at),
            ],
        }
    }

    async fn update(&self, update: Update) -> Updated {
        let mut updated = self.tables.update(&[update]).await.unwrap();
        assert_eq!(updated.len(), 1);
        updated.remove(0)
    }

    fn range(&self, index: Index, labourer_id: &str, from: &str, to: &str) -> Range {
        Range {
            index,
            labourer_id: labourer_id.to_owned(),
            from: Greenfield::parse(from).unwrap(),
            to: Greenfield::parse(to).unwrap(),
            limit: 100,
            after: None,
        }
    }

    async fn what_is_nowhere(&self) {
        assert_eq!(self.read("nowhere").await, None);
        assert_eq!(self.tables.update(&[]).await, Ok(Vec::new()));
        for index in [Index::Queue, Index::Waiting] {
            let range = self.range(index, &self.labourer("nobody"), "0", "9");
            assert_eq!(self.tables.read(&range).await, Ok(Page::default()));
        }
        for table in [Table::Tasks, Table::Retry, Table::Closed] {
            assert!(!self.is_there(table, &self.queued("nowhere", "1")).await);
        }
    }

    async fn claims(&self) {
        let queued = self.queued("claim", "2000.5");
        self.put(Table::Tasks, &queued).await;
        let claim = || self.claim("claim", "2000.5", 0);
        assert_eq!(self.update(claim()).await, Updated::Done);
        let mut claimed = queued;
        claimed.extend(claim().set);
        assert_eq!(
            self.read("claim").await,
            Some(claimed.clone()),
            "nothing else has changed, and no digit is lost"
        );
        assert_eq!(self.update(claim()).await, Updated::Refused, "it is claimed");
        assert_eq!(self.read("claim").await, Some(claimed));
    }

    async fn claims_of_what_is_not_as_read(&self) {
        let queued = self.queued("other", "2000");
        self.put(Table::Tasks, &queued).await;
        for (greenfield, attempts) in [("2000", 1), ("2000.000000001", 0), ("-2000", 0)] {
            let claim = self.claim("other", greenfield, attempts);
            assert_eq!(self.update(claim).await, Updated::Refused);
        }
        let mut typed = self.claim("other", "2000", 0);
        typed.when[1] = equals(&self.names.attempts, Attribute::text("0"));
        assert_eq!(self.update(typed).await, Updated::Refused, "a text is no number");
        assert_eq!(self.read("other").await, Some(queued.clone()));

        let mut completed = queued;
        completed.insert(self.names.completed_at.clone(), Attribute::number(1));
        self.put(Table::Tasks, &completed).await;
        let claim = self.claim("other", "2000", 0);
        assert_eq!(
            self.update(claim).await,
            Updated::Refused,
            "it has been completed"
        );
        assert_eq!(self.read("other").await, Some(completed));

        let nowhere = self.claim("nowhere", "2000", 0);
        assert_eq!(self.update(nowhere).await, Updated::Refused);
        assert_eq!(self.read("nowhere").await, None, "an update makes no item");
        // A test for absence alone holds where there is no item.
        let nowhere = Update {
            when: vec![absent(&self.names.completed_at)],
            ..self.claim("nowhere", "2000", 0)
        };
        let answer = self.tables.update(&[nowhere]).await;
        assert!(matches!(answer, Err(PortError::Refused { .. })), "{answer:?}");
        assert_eq!(self.read("nowhere").await, None, "an update makes no item");
    }

    /// The moves as the protocol has them. Each fits once.
    async fn the_life_of_a_task(&self) {
        let names = self.names;
        let marks = Marks::at(1_709_701_600_000, 31_557_600);
        self.put(Table::Tasks, &self.queued("life", "2000.5")).await;
        let stored = async || StoredTask::read(names, self.read("life").await.unwrap()).unwrap();
        let claim = async |chance: u64| {
            let (update, claimed) = stored().await.claim(names, marks.ticket(chance));
            assert_eq!(self.update(update.clone()).await, Updated::Done);
            assert_eq!(self.update(update.clone()).await, Updated::Refused);
            assert_eq!(stored().await, claimed);
            (update, claimed)
        };
        let once = async |writes: &[Write]| {
            assert_eq!(self.transact(writes).await, Transacted::Done);
            let again = self.transact(writes).await;
            assert!(matches!(again, Transacted::Refused(_)), "{again:?}");
        };

        let (first, claimed) = claim(1).await;
        let (back, _) = claimed.give_back(names, 5);
        assert_eq!(self.update(back.clone()).await, Updated::Done);
        assert_eq!(self.update(back).await, Updated::Refused);
        assert_eq!(
            self.update(first).await,
            Updated::Refused,
            "a late copy of the claim"
        );
        assert_eq!(stored().await.attempts, 0);

        let (_, claimed) = claim(2).await;
        let error = LastError {
            kind: "ValueError".to_owned(),
            message: "no rows".to_owned(),
        };
        once(&claimed.park(names, 1_709_701_610_000, Some(&error))).await;
        assert_eq!(self.read("life").await, None);
        let range = self.range(Index::Waiting, &self.labourer("life"), "0", "1709701610");
        let due = self.tables.read(&range).await.unwrap().records;
        let waiting = Waiting::read(names, due[0].clone()).unwrap();
        let (writes, queued) = waiting.requeue(names, Greenfield::from_millis(3_000));
        once(&writes).await;
        assert_eq!(self.read("life").await, Some(queued));

        let (_, claimed) = claim(3).await;
        let closing = Closing {
            outcome: Outcome::Succeeded,
            duration: Some(std::time::Duration::from_millis(1_500)),
            error: None,
            result: Some("{}".to_owned()),
        };
        once(&claimed.close(names, &closing, marks)).await;
        assert_eq!(self.read("life").await, None);
        let closed = vec![
            equals(
                &names.labourer_id_task_status,
                Attribute::text(format!("{}_1", self.labourer("life"))),
            ),
            equals(&names.closed_at, Attribute::number(1_709_701_600)),
            equals(&names.attempts, Attribute::number(2)),
            absent("desired_launch_time"),
        ];
        assert!(self.holds(Table::Closed, &claimed.record, closed).await);
        let again = self.transact(&claimed.park(names, 0, None)).await;
        assert!(
            matches!(again, Transacted::Refused(_)),
            "what is closed does not wait"
        );
    }

    async fn numbers_are_compared_as_numbers(&self) {
        for (number, (stored, asked)) in [
            ("1.50", "1.5"),
            ("1.5", "1.50"),
            ("0100", "1E2"),
            ("0", "0.000"),
            ("1741259200.123456789", "1741259200.1234567890"),
        ]
        .into_iter()
        .enumerate()
        {
            let name = format!("number-{number}");
            let queued = self.queued(&name, stored);
            self.put(Table::Tasks, &queued).await;
            let read = self.read(&name).await.unwrap();
            assert_eq!(
                number_of(&read, &self.names.greenfield),
                Greenfield::parse(stored),
                "{stored}"
            );
            let same = equals(&self.names.greenfield, Attribute::number(asked));
            assert!(
                self.holds(Table::Tasks, &queued, vec![same]).await,
                "{stored} is {asked}"
            );
            let claim = self.claim(&name, asked, 0);
            assert_eq!(self.update(claim).await, Updated::Done, "{stored} is {asked}");
        }
    }

    async fn updates_answer_in_order(&self) {
        let name = |number: usize| format!("batch-{number}");
        for number in 0..MOST_UPDATES {
            self.put(Table::Tasks, &self.queued(&name(number), "7")).await;
        }
        let claims: Vec<Update> = (0..MOST_UPDATES)
            .map(|number| self.claim(&name(number), "7", u32::from(number % 3 == 0)))
            .collect();
        let expected: Vec<Updated> = (0..MOST_UPDATES)
            .map(|number| match number % 3 {
                0 => Updated::Refused,
                _ => Updated::Done,
            })
            .collect();
        assert_eq!(self.tables.update(&claims).await, Ok(expected));
    }

    async fn updates_are_refused_each_for_itself(&self) {
        for name in ["fit-1", "fit-2", "fit-3"] {
            self.put(Table::Tasks, &self.queued(name, "7")).await;
        }
        let mut claims = ["fit-1", "fit-2", "fit-3"].map(|name| self.claim(name, "7", 0));
        claims[1]
            .set
            .push(("large".to_owned(), Attribute::text("x".repeat(410 * 1024))));
        let updated = self.tables.update(&claims).await.unwrap();
        match updated.as_slice() {
            [Updated::Done, Updated::Invalid(why), Updated::Done] => assert!(!why.is_empty()),
            other => panic!("an item that grows beyond 400 KB between two others gave {other:?}"),
        }
        assert_eq!(self.read("fit-2").await, Some(self.queued("fit-2", "7")));
    }

    async fn updates_race(&self) {
        for round in 0..4 {
            let name = format!("race-{round}");
            self.put(Table::Tasks, &self.queued(&name, "7")).await;
            let claims = (0..RACERS).map(|_| self.update(self.claim(&name, "7", 0)));
            let updated = join_all(claims).await;
            let done = updated
                .iter()
                .filter(|updated| **updated == Updated::Done)
                .count();
            assert_eq!(
                done, 1,
                "of {RACERS} that claim a task exactly one does: {updated:?}"
            );
            let read = self.read(&name).await.unwrap();
            assert_eq!(read.get(&self.names.attempts), Some(&Attribute::number(1)));
        }
    }

    async fn any_name_may_be_a_reserved_word(&self) {
        let words = [
            "name",
            "status",
            "group",
            "select",
            "missing",
            "it's \"x\"",
            "é ключ",
        ];
        let mut queued = self.queued("words", "7");
        for word in words {
            queued.insert(word.to_owned(), Attribute::text(word));
        }
        self.put(Table::Tasks, &queued).await;
        for word in words {
            let update = Update {
                task_id: self.id("words"),
                set: vec![(word.to_owned(), Attribute::number(1))],
                when: vec![equals(word, Attribute::text(word)), absent(&format!("{word}!"))],
            };
            assert_eq!(self.update(update).await, Updated::Done, "{word}");
            queued.insert(word.to_owned(), Attribute::number(1));
        }
        assert_eq!(self.read("words").await, Some(queued.clone()));
        let when = words.map(|word| equals(word, Attribute::number(1)));
        assert!(self.holds(Table::Tasks, &queued, when.into()).await);
    }

    async fn every_type_survives_a_move(&self) {
        let text = |text: &str| Attribute::text(text);
        let nested = Attribute::M(BTreeMap::from([
            ("list".to_owned(), Attribute::L(vec![text("a"), Attribute::Null])),
            ("map".to_owned(), Attribute::M(BTreeMap::new())),
        ]));
        let mut task = self.queued("types", "7");
        for (name, value) in [
            ("a_text", text("é 日本 \u{1F600} \" \\ \n")),
            ("an_empty_text", text("")),
            (
                "a_number",
                Attribute::number("-1234567890.0123456789012345678901234567"),
            ),
            ("true", Attribute::Bool(true)),
            ("false", Attribute::Bool(false)),
            ("null", Attribute::Null),
            ("bytes", Attribute::B(vec![0, 1, 254, 255])),
            ("map", nested.clone()),
            (
                "list",
                Attribute::L(vec![nested, Attribute::number("0.5"), Attribute::L(Vec::new())]),
            ),
            ("texts", Attribute::Ss(vec!["a".to_owned(), "b".to_owned()])),
            ("numbers", Attribute::Ns(vec!["1".to_owned(), "2.5".to_owned()])),
            ("byte_strings", Attribute::Bs(vec![vec![1], vec![2, 3]])),
        ] {
            task.insert(name.to_owned(), value);
        }
        self.put(Table::Tasks, &task).await;
        let mut from = Table::Tasks;
        for to in [Table::Closed, Table::Retry, Table::Tasks] {
            // The condition names every attribute: it is there as it was.
            let when: Vec<Test> = task
                .iter()
                .map(|(name, value)| equals(name, value.clone()))
                .collect();
            let moved = [
                Write::Delete {
                    table: from,
                    key: self.key(from, &task),
                    when,
                },
                Write::Put {
                    table: to,
                    record: task.clone(),
                    when: vec![absent(&self.names.task_id)],
                },
            ];
            assert_eq!(
                self.transact(&moved).await,
                Transacted::Done,
                "{from:?} to {to:?}"
            );
            assert!(!self.is_there(from, &task).await);
            assert!(self.is_there(to, &task).await);
            from = to;
        }
        let read = self.read("types").await.unwrap();
        assert_eq!(in_order(read), in_order(task.clone()));
        let range = self.range(Index::Queue, &self.labourer("types"), "0", "9");
        let page = self.tables.read(&range).await.unwrap();
        let read: Vec<Record> = page.records.into_iter().map(in_order).collect();
        assert_eq!(read, [in_order(task)], "an index gives whole items, too");
    }

    async fn transactions_are_all_or_nothing(&self) {
        let names = self.names;
        let (one, two) = (self.queued("all-1", "7"), self.queued("all-2", "7"));
        self.put(Table::Tasks, &one).await;
        self.put(Table::Tasks, &two).await;
        // Each task is closed on condition of its ticket, unless it is closed or waits already.
        let close = |task: &Record, ticket: u32| {
            [
                Write::Delete {
                    table: Table::Tasks,
                    key: self.key(Table::Tasks, task),
                    when: vec![equals(&names.greenfield, Attribute::number(ticket))],
                },
                Write::Put {
                    table: Table::Closed,
                    record: task.clone(),
                    when: vec![absent(&names.task_id)],
                },
                Write::Check {
                    table: Table::Retry,
                    key: self.key(Table::Retry, task),
                    when: vec![absent(&names.task_id)],
                },
            ]
        };
        let both = |ticket: u32| [close(&one, 7), close(&two, ticket)].concat();
        let fine = || Fate::Fine;
        let failed = |at: usize| {
            let fates = (0..6).map(|part| if part == at { Fate::Failed } else { fine() });
            Transacted::Refused(fates.collect())
        };
        let untouched = async || {
            self.is_there(Table::Tasks, &one).await
                && self.is_there(Table::Tasks, &two).await
                && !self.is_there(Table::Closed, &one).await
        };
        assert_eq!(self.transact(&both(8)).await, failed(3));
        assert!(untouched().await);
        self.put(Table::Closed, &two).await;
        assert_eq!(self.transact(&both(7)).await, failed(4));
        assert!(untouched().await);
        self.put(Table::Retry, &two).await;
        let delete = Write::Delete {
            table: Table::Closed,
            key: self.key(Table::Closed, &two),
            when: vec![equals(&names.task_id, two[&names.task_id].clone())],
        };
        assert_eq!(self.transact(&[delete]).await, Transacted::Done);
        assert_eq!(self.transact(&both(7)).await, failed(5));
        assert!(untouched().await);
        let delete = Write::Delete {
            table: Table::Retry,
            key: self.key(Table::Retry, &two),
            when: vec![equals(&names.greenfield, Attribute::number("7.0"))],
        };
        assert_eq!(self.transact(&[delete]).await, Transacted::Done);
        assert_eq!(self.transact(&both(7)).await, Transacted::Done);
        for task in [&one, &two] {
            assert!(!self.is_there(Table::Tasks, task).await);
            assert!(self.is_there(Table::Closed, task).await);
        }
    }

    async fn a_put_replaces(&self) {
        let mut first = self.queued("replaced", "7");
        first.insert("more".to_owned(), Attribute::Bool(true));
        self.put(Table::Tasks, &first).await;
        let second = self.queued("replaced", "8");
        self.put(Table::Tasks, &second).await;
        assert_eq!(
            self.read("replaced").await,
            Some(second.clone()),
            "nothing is left of it"
        );
        let range = self.range(Index::Queue, &self.labourer("replaced"), "0", "9");
        assert_eq!(self.tables.read(&range).await.unwrap().records, [second]);
    }

    async fn ghosts(&self) {
        let names = self.names;
        let task = self.queued("ghost", "7");
        let mut ghost = self.key(Table::Tasks, &task);
        ghost.insert(names.completed_at.clone(), Attribute::number(1_709_701_600));
        self.put(Table::Tasks, &ghost).await;
        assert_eq!(self.read("ghost").await, Some(ghost.clone()));
        let back = [Write::Put {
            table: Table::Tasks,
            record: task.clone(),
            when: vec![absent(&names.labourer_id)],
        }];
        assert_eq!(self.transact(&back).await, Transacted::Done, "over a ghost");
        assert_eq!(self.read("ghost").await, Some(task.clone()));
        let failed = Transacted::Refused(vec![Fate::Failed]);
        assert_eq!(self.transact(&back).await, failed, "over a task");
        let delete = |when: Test| Write::Delete {
            table: Table::Tasks,
            key: self.key(Table::Tasks, &task),
            when: vec![equals(&names.task_id, task[&names.task_id].clone()), when],
        };
        let ghost_only = delete(absent(&names.labourer_id));
        assert_eq!(
            self.transact(std::slice::from_ref(&ghost_only)).await,
            failed,
            "a task"
        );
        let any = delete(absent("nothing"));
        assert_eq!(self.transact(&[any]).await, Transacted::Done);
        assert_eq!(self.transact(&back).await, Transacted::Done, "over nothing");
        self.put(Table::Tasks, &ghost).await;
        assert_eq!(self.transact(&[ghost_only]).await, Transacted::Done, "a ghost");
        assert_eq!(self.read("ghost").await, None);
    }

    async fn deletes_of_nothing(&self) {
        let task = self.queued("gone", "7");
        for table in [Table::Tasks, Table::Retry, Table::Closed] {
            let delete = Write::Delete {
                table,
                key: self.key(table, &task),
                when: vec![equals(&self.names.greenfield, Attribute::number(7))],
            };
            let failed = Transacted::Refused(vec![Fate::Failed]);
            assert_eq!(self.transact(&[delete]).await, failed, "{table:?}");
        }
    }

    async fn items_that_are_too_large(&self) {
        let small = self.queued("small", "7");
        let mut large = self.queued("large", "7");
        large.insert("result".to_owned(), Attribute::text("x".repeat(410 * 1024)));
        let put = |record: &Record| Write::Put {
            table: Table::Closed,
            record: record.clone(),
            when: vec![absent(&self.names.task_id)],
        };
        match self.transact(&[put(&small), put(&large)]).await {
            Transacted::Refused(fates) => match fates.as_slice() {
                [Fate::Fine, Fate::Invalid(why)] => assert!(!why.is_empty()),
                other => panic!("{other:?}"),
            },
            Transacted::Done => panic!("an item of more than 400 KB was put"),
        }
        for record in [&small, &large] {
            assert!(!self.is_there(Table::Closed, record).await);
        }
    }

    async fn limits_of_a_transaction(&self) {
        let put = |number: usize| Write::Put {
            table: Table::Tasks,
            record: self.queued(&format!("many-{number}"), "7"),
            when: vec![absent(&self.names.task_id)],
        };
        let many: Vec<Write> = (0..=MOST_WRITES).map(put).collect();
        let refused = self.tables.transact(&many).await;
        assert!(matches!(refused, Err(PortError::Refused { .. })), "{refused:?}");
        assert_eq!(self.read("many-0").await, None);
        let twice = [put(0), put(0)];
        let refused = self.tables.transact(&twice).await;
        assert!(matches!(refused, Err(PortError::Refused { .. })), "{refused:?}");
        assert_eq!(self.read("many-0").await, None);
        assert_eq!(self.transact(&many[..MOST_WRITES]).await, Transacted::Done);
        assert!(self.read("many-99").await.is_some());
    }

    async fn transactions_race(&self) {
        for round in 0..4 {
            let task = self.queued(&format!("settle-{round}"), "7");
            self.put(Table::Tasks, &task).await;
            let settle = [
                Write::Delete {
                    table: Table::Tasks,
                    key: self.key(Table::Tasks, &task),
                    when: vec![equals(&self.names.greenfield, Attribute::number(7))],
                },
                Write::Put {
                    table: Table::Closed,
                    record: task.clone(),
                    when: vec![absent(&self.names.task_id)],
                },
            ];
            let answers = join_all((0..RACERS).map(|_| self.tables.transact(&settle))).await;
            let done = answers
                .iter()
                .filter(|answer| **answer == Ok(Transacted::Done))
                .count();
            assert_eq!(
                done, 1,
                "of {RACERS} that settle one task exactly one does: {answers:?}"
            );
            let gave_way = |answer: &Result<Transacted, PortError>| match answer {
                Ok(Transacted::Done) | Err(PortError::Throttled { .. }) => true,
                Ok(Transacted::Refused(fates)) => fates
                    .iter()
                    .all(|fate| matches!(fate, Fate::Fine | Fate::Failed | Fate::Busy)),
                Err(_) => false,
            };
            assert!(answers.iter().all(gave_way), "{answers:?}");
        }
    }

    async fn the_queue_in_order(&self) {
        let labourer = self.labourer("queue");
        for (number, greenfield) in ["2000", "9", "1000.5", "10", "1741259200.25", "-3"]
            .into_iter()
            .enumerate()
        {
            let mut task = self.queued(&format!("queue-{number}"), greenfield);
            task.insert(self.names.labourer_id.clone(), Attribute::text(&labourer));
            self.put(Table::Tasks, &task).await;
        }
        self.put(Table::Tasks, &self.queued("queue-of-another", "11"))
            .await;
        for (from, to, expected) in [
            ("-9", "9999999999", "-3 9 10 1000.5 2000 1741259200.25"),
            ("9", "2000", "9 10 1000.5 2000"),
            ("9.000000001", "1999.999999999", "10 1000.5"),
            ("1000.5", "1000.5", "1000.5"),
            ("11", "12", ""),
        ] {
            let range = self.range(Index::Queue, &labourer, from, to);
            let page = self.tables.read(&range).await.unwrap();
            let read: Vec<String> = page
                .records
                .iter()
                .map(|record| number_of(record, &self.names.greenfield).unwrap().to_string())
                .collect();
            assert_eq!(read.join(" "), expected, "{from} to {to}");
            assert_eq!(page.next, None);
        }
    }

    async fn what_waits_in_order(&self) {
        let labourer = self.labourer("waits");
        for (number, due) in ["1709701700", "1709701600.5", "1709701650"]
            .into_iter()
            .enumerate()
        {
            let mut task = self.queued(&format!("waits-{number}"), "7");
            task.insert(self.names.labourer_id.clone(), Attribute::text(&labourer));
            task.insert("desired_launch_time".to_owned(), Attribute::number(due));
            self.put(Table::Retry, &task).await;
        }
        let range = self.range(Index::Waiting, &labourer, "0", "1709701650");
        let page = self.tables.read(&range).await.unwrap();
        let read: Vec<&Attribute> = page
            .records
            .iter()
            .map(|record| &record[&self.names.task_id])
            .collect();
        let expected = ["waits-1", "waits-2"].map(|name| Attribute::text(self.id(name)));
        assert_eq!(read, expected.iter().collect::<Vec<_>>());
        assert_eq!(page.records[0].len(), 7, "whole items");
    }

    async fn indexes_are_sparse(&self) {
        let range = self.range(Index::Queue, &self.labourer("sparse"), "0", "9");
        let shown = async || self.tables.read(&range).await.unwrap().records.len();
        let task = self.queued("sparse", "7");
        self.put(Table::Tasks, &task).await;
        assert_eq!(shown().await, 1);
        for missing in [&self.names.labourer_id, &self.names.greenfield] {
            let mut ghost = task.clone();
            ghost.remove(missing);
            self.put(Table::Tasks, &ghost).await;
            assert_eq!(shown().await, 0, "without {missing}");
            assert_eq!(self.read("sparse").await, Some(ghost));
        }
    }

    async fn pages(&self) {
        let labourer = self.labourer("pages");
        for number in 0..10 {
            // Some stand at the same place.
            let mut task = self.queued(&format!("page-{number}"), &(number / 3).to_string());
            task.insert(self.names.labourer_id.clone(), Attribute::text(&labourer));
            self.put(Table::Tasks, &task).await;
        }
        for limit in [1, 3, 4, 10, 11] {
            let mut range = self.range(Index::Queue, &labourer, "0", "9");
            range.limit = limit;
            let mut read = Vec::new();
            for _ in 0..12 {
                let page = self.tables.read(&range).await.unwrap();
                assert!(page.records.len() <= limit as usize);
                read.extend(page.records);
                range.after = page.next;
                if range.after.is_none() {
                    break;
                }
            }
            assert_eq!(range.after, None, "pages of {limit} come to an end");
            let place = |record: &Record| number_of(record, &self.names.greenfield).unwrap();
            assert!(read.is_sorted_by_key(place), "pages of {limit}");
            let ids: std::collections::BTreeSet<Attribute> = read
                .iter()
                .map(|record| record[&self.names.task_id].clone())
                .collect();
            assert_eq!((read.len(), ids.len()), (10, 10), "pages of {limit}");
        }
    }
}
