//! The drain as a game of questions and answers, on a clock that is only a number.

use jobmill_core::queue::lock::NewLock;
use jobmill_core::task::greenfield::Greenfield;

use super::*;

const MS: Duration = Duration::from_millis(1);

/// A drain, what it asked for, and the time.
struct Game {
    drain: Drain,
    now: Duration,
    held_since: Duration,
    sent: Vec<(Unit, Sent)>,
    claimed: u64,
    should_stop: bool,
    requests: u64,
    end: Option<End>,
}

fn file(rows: usize, pad: usize) -> Bytes {
    let row = |row: usize| {
        format!(
            "{{\"row\":{row},\"pad\":\"{}\",\"labourer_id\":\"f\"}}\n",
            "x".repeat(pad)
        )
    };
    Bytes::from((0..rows).map(row).collect::<String>())
}

fn settings() -> Settings {
    Settings {
        ids: TaskIds::new("bucket", "prefix", "run"),
        range: GreenfieldRange {
            first: Greenfield::from_nanos(1),
            step: Greenfield::from_nanos(1),
        },
        fields: FieldNames::default(),
        in_doubt_until: 0,
        skip_line: None,
        limits: Limits::default(),
        meta: false,
        stop_at: Duration::from_secs(800),
        request_time: Duration::from_secs(5),
    }
}

impl Game {
    fn new(settings: Settings, rows: usize, pad: usize) -> Self {
        let new = NewLock {
            run: "run".to_owned(),
            fingerprint: "0".to_owned(),
            as_of: None,
            rows: rows as u64,
            range: settings.range,
            lease_seconds: 30,
            hop: 0,
            started_ms: 0,
        };
        let lock = Lock::create(new, "me", settings.limits.first_window);
        let lines = Lines::of(file(rows, pad), Cursor::default());
        Self {
            claimed: lock.claimed,
            drain: Drain::new(settings, &lock, lines, Duration::ZERO),
            now: Duration::ZERO,
            held_since: Duration::ZERO,
            sent: Vec::new(),
            should_stop: false,
            requests: 0,
            end: None,
        }
    }

    /// One step. Checkpoints stand at once, reads and meta rows stay unanswered.
    fn step(&mut self) -> Option<Duration> {
        let now = Now {
            at: self.now,
            wall_ms: 1_709_701_600_000,
            held_for: self.now - self.held_since,
            should_stop: self.should_stop,
        };
        let step = self.drain.step(now);
        let mut answered = false;
        for action in step.actions {
            match action {
                Action::Send(unit, sent) => {
                    self.requests += 1;
                    self.sent.push((unit, sent));
                }
                Action::Checkpoint {
                    claimed,
                    cursor,
                    counters,
                } => {
                    assert_eq!(
                        rows(counters),
                        cursor.row,
                        "each row before the cursor is counted once"
                    );
                    self.held_since = self.now;
                    self.claimed = self.claimed.max(claimed);
                    assert!(self.claimed - cursor.row <= Limits::default().last_window);
                    self.drain.checkpointed(Ok(Written::Stands), self.claimed);
                    answered = true;
                }
                Action::Read(_) | Action::RecordMeta(_) => {}
            }
        }
        match step.then {
            Then::Wait(_) if answered => Some(self.now),
            Then::Wait(until) => until,
            Then::End(end) => {
                self.end = Some(end);
                None
            }
        }
    }

    /// Answers everything that is under way, 5 ms later, but the rows that `keep` holds back.
    fn answer(&mut self, keep: impl Fn(&Unit) -> bool, mut answer: impl FnMut(&Unit) -> Answer) {
        self.now += 5 * MS;
        let (kept, sent): (Vec<_>, Vec<_>) = std::mem::take(&mut self.sent)
            .into_iter()
            .partition(|(unit, _)| keep(unit));
        self.sent = kept;
        for (unit, at) in sent {
            let answer = answer(&unit);
            self.drain.answered(unit, at, answer, self.now, 0.5);
        }
    }

    /// Steps and answers until it ends or `until` is reached.
    fn play(&mut self, until: Duration, mut answer: impl FnMut(&Unit) -> Answer) {
        while self.end.is_none() && self.now < until {
            let wake = self.step();
            if self.sent.is_empty() {
                self.now = wake.unwrap_or(self.now + MS).max(self.now + MS);
            } else {
                self.answer(|_| false, &mut answer);
            }
        }
    }
}

fn created(unit: &Unit) -> Answer {
    match unit.in_doubt {
        true => Answer::InDoubt(Ok(InDoubt::Created)),
        false => Answer::Batch(Ok(vec![Created::Now; unit.tasks.len()])),
    }
}

fn no_answer(unit: &Unit) -> Answer {
    let error = PortError::Unknown {
        operation: "test",
        message: "500".to_owned(),
    };
    match unit.in_doubt {
        true => Answer::InDoubt(Err(error)),
        false => Answer::Batch(Err(error)),
    }
}

#[test]
fn rows_become_tasks_in_batches_and_all_are_confirmed() {
    let mut game = Game::new(settings(), 10_000, 0);
    game.play(Duration::from_secs(60), created);
    assert!(matches!(game.end, Some(End::All)), "{:?}", game.end);
    assert_eq!(
        (game.drain.cursor().row, game.drain.counters().created),
        (10_000, 10_000)
    );
    assert_eq!(game.requests, 400);
}

#[test]
fn a_service_that_fails_at_once_is_asked_less_and_less() {
    let mut game = Game::new(settings(), 400_000, 0);
    game.play(Duration::from_secs(20), no_answer);
    assert!(game.requests < 60, "{} requests in 20 s", game.requests);
    // And goes on at full pace as soon as it is well again: within a second, the pause that is under way aside.
    let begun = game.requests;
    game.play(Duration::from_secs(30), created);
    assert!(
        game.requests - begun > 1_000,
        "{} requests in 10 s",
        game.requests - begun
    );
}

#[test]
fn one_request_without_an_answer_hardly_slows_the_others() {
    let mut game = Game::new(settings(), 200_000, 0);
    let mut count = 0;
    game.play(Duration::from_secs(10), |unit| {
        count += 1;
        if count % 200 == 0 {
            no_answer(unit)
        } else {
            created(unit)
        }
    });
    assert!(
        matches!(game.end, Some(End::All)),
        "{:?} at {:?}",
        game.end,
        game.now
    );
}

#[test]
fn the_claim_stays_near_a_row_that_lags_behind() {
    let mut game = Game::new(settings(), 400_000, 0);
    let first = |unit: &Unit| unit.rows.contains(&0);
    for _ in 0..4_000 {
        game.step();
        game.answer(first, created);
    }
    assert_eq!(game.drain.cursor().row, 0);
    assert!(game.drain.sent() > 90_000, "{}", game.drain.sent());
    assert!(
        game.drain.sent() <= 100_000 && game.claimed <= 100_000,
        "{}",
        game.claimed
    );
    // As soon as it is answered, all goes on.
    game.play(Duration::from_secs(800), created);
    assert!(matches!(game.end, Some(End::All)), "{:?}", game.end);
}

/// How many rows were counted.
fn rows(counters: Counters) -> u64 {
    counters.created + counters.already_there + counters.skipped
}

#[test]
fn what_is_counted_are_the_rows_before_the_cursor() {
    let small = Limits {
        batch: 2,
        ..Limits::default()
    };
    let settings = Settings {
        skip_line: Some(4),
        limits: small,
        ..settings()
    };
    let mut game = Game::new(settings, 10, 0);
    let text = String::from_utf8(file(10, 0).to_vec()).unwrap();
    let damaged = text.replacen("{\"row\":3,", "{row:3,", 1);
    game.drain.lines = Lines::of(Bytes::from(damaged), Cursor::default());
    let counted = |game: &Game| (game.drain.cursor().row, rows(game.drain.counters()));
    let first = |unit: &Unit| unit.rows.contains(&0);
    while game.sent.iter().any(|(unit, _)| !first(unit)) || game.requests < 5 {
        game.step();
        game.answer(first, created);
    }
    assert_eq!(counted(&game), (0, 0), "others are confirmed, and lie behind it");
    game.answer(|_| false, created);
    assert_eq!(counted(&game), (10, 10));
    assert_eq!(game.drain.counters().skipped, 1);
    game.step();
    assert!(matches!(game.end, Some(End::All)), "{:?}", game.end);
}

#[test]
fn who_wants_the_machine_back_gets_it_when_what_is_under_way_is_answered() {
    let mut game = Game::new(settings(), 400_000, 0);
    game.step();
    game.answer(|_| false, created);
    game.step();
    game.should_stop = true;
    let under_way = game.sent.len();
    game.step();
    assert_eq!(game.sent.len(), under_way, "nothing new goes out");
    assert!(game.end.is_none() && under_way > 0);
    game.answer(|_| false, created);
    game.step();
    assert!(matches!(game.end, Some(End::TimeShort)), "{:?}", game.end);
    assert_eq!(game.drain.cursor().row, game.drain.sent());
}

#[test]
fn batches_are_bounded_by_bytes() {
    let mut game = Game::new(settings(), 20, 300 * 1024);
    let mut largest = 0;
    game.play(Duration::from_secs(60), |unit| {
        largest = largest.max(unit.tasks.iter().map(|task| task.payload.len()).sum());
        created(unit)
    });
    assert!(matches!(game.end, Some(End::All)));
    assert!(largest < (1 << 20) + 300 * 1024 + 1024, "{largest}");
}

#[test]
fn a_refusal_is_shortened_to_what_a_lock_keeps() {
    let mut game = Game::new(settings(), 10, 0);
    game.play(Duration::from_secs(60), |unit| {
        let refused = |row: &u64| match row {
            3 => Created::Refused("x".repeat(70_000)),
            _ => Created::Now,
        };
        Answer::Batch(Ok(unit.rows.iter().map(refused).collect()))
    });
    let Some(End::Stopped(stopped)) = game.end else {
        panic!("{:?}", game.end)
    };
    assert_eq!((stopped.line, stopped.reason), (4, StopReason::Row));
    assert!(stopped.error.len() < 1_100, "{}", stopped.error.len());
}

#[test]
fn a_row_that_a_transaction_refuses_stops_the_run_where_it_can_be_passed_over() {
    let refuse = |unit: &Unit| match unit.rows.as_slice() {
        [3] => Answer::InDoubt(Ok(InDoubt::Refused("too large".to_owned()))),
        _ => created(unit),
    };
    let in_doubt = |skip_line| Settings {
        in_doubt_until: 10,
        skip_line,
        ..settings()
    };
    let mut game = Game::new(in_doubt(None), 10, 0);
    game.play(Duration::from_secs(60), refuse);
    assert!(
        matches!(&game.end, Some(End::Stopped(stopped)) if stopped.line == 4),
        "{:?}",
        game.end
    );
    let mut game = Game::new(in_doubt(Some(4)), 10, 0);
    game.play(Duration::from_secs(60), refuse);
    assert!(matches!(game.end, Some(End::All)), "{:?}", game.end);
    assert_eq!(
        (game.drain.counters().created, game.drain.counters().skipped),
        (9, 1)
    );
}

#[test]
fn a_task_that_is_there_before_it_was_sent_is_not_taken_for_ours() {
    let mut game = Game::new(settings(), 10, 0);
    let there = |unit: &Unit| Answer::Batch(Ok(vec![Created::AlreadyThere; unit.tasks.len()]));
    game.play(Duration::from_secs(60), there);
    let Some(End::Stopped(stopped)) = game.end else {
        panic!("{:?}", game.end)
    };
    assert_eq!((stopped.line, stopped.reason), (1, StopReason::TaskIdTaken));
    // What was pushed back may have been created by a request that said otherwise.
    let mut game = Game::new(settings(), 10, 0);
    let mut first = true;
    game.play(Duration::from_secs(60), |unit| match std::mem::take(&mut first) {
        true => Answer::Batch(Ok(vec![Created::Throttled; unit.tasks.len()])),
        false => there(unit),
    });
    assert!(matches!(game.end, Some(End::All)), "{:?}", game.end);
}

#[test]
fn meta_rows_are_bounded_and_hold_up_neither_a_hand_off_nor_an_end() {
    let with_meta = |stop_at| Settings {
        meta: true,
        stop_at,
        ..settings()
    };
    // No request for meta rows is ever answered.
    let mut game = Game::new(with_meta(Duration::from_secs(1)), 400_000, 0);
    game.play(Duration::from_secs(60), created);
    assert!(matches!(game.end, Some(End::TimeShort)), "{:?}", game.end);
    assert!(game.now < Duration::from_millis(1_100), "{:?}", game.now);
    assert!(game.drain.meta.waiting.len() <= META_WAITING);
    assert!(game.drain.meta.in_flight <= META_IN_FLIGHT);
    let mut game = Game::new(with_meta(Duration::from_secs(800)), 100, 0);
    game.play(Duration::from_secs(60), created);
    assert!(matches!(game.end, Some(End::All)), "{:?}", game.end);
    assert!(game.now < Duration::from_secs(6), "{:?}", game.now);
}

#[test]
fn nothing_goes_out_when_the_lease_may_run_out_before_the_answer() {
    let mut game = Game::new(settings(), 1_000, 0);
    game.drain.checkpointing = true;
    game.now = Duration::from_secs(25);
    game.step();
    assert!(game.sent.is_empty());
    game.drain.checkpointed(Ok(Written::RanOut), 0);
    game.step();
    assert!(matches!(game.end, Some(End::RanOut)), "{:?}", game.end);
}
