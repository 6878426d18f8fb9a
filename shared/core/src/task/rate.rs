//! How many tasks of a worker may be started now, where their rate is bounded.
//!
//! A bucket of starts that fills evenly. It is small, so that starts are spread over the time they are meant for, and it
//! fills so slowly that with all that it can hold there are never more than `starts` in any `per`, wherever that begins.

use std::time::Duration;

use crate::task::labourer::Rate;

/// How much may come at once: what is meant for so long, so that nobody has to look at the clock more often.
const BURST: Duration = Duration::from_millis(50);
/// The unit of what is handed over.
const THOUSAND: i128 = 1000;

/// Bounds starts. Times are monotonic, from any fixed moment.
///
/// In any half-open stretch of `per` there are at most `starts` of them. A new holder does not know what the last one
/// did, and begins with nothing: then that holds across both, and it waits for its first start as long as any start
/// takes to become free. Where that is longer than a holder lives, holders have to tell one another:
/// [`Starts::left`], [`Starts::resume`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Starts {
    /// What one start costs. In a billionth of a second `fill` come in, so that no fraction is ever lost.
    cost: i128,
    fill: i128,
    /// The most there can be.
    most: i128,
    /// What there is; less than nothing if more was taken than there was.
    level: i128,
    filled_at: Duration,
}

impl Starts {
    /// Bounds starts to `rate`, with nothing to begin with.
    pub fn new(rate: Rate, now: Duration) -> Self {
        let starts = i128::from(rate.starts.max(1));
        let cost = nanos(rate.per).max(1);
        let burst = (starts.saturating_mul(nanos(BURST)) / cost).clamp(1, starts);
        Self {
            cost,
            // With a full bucket at its beginning, `per` sees `burst` and what comes in before its end: fewer than
            // `fill` and one, `starts` in all.
            fill: starts - burst + 1,
            most: burst.saturating_mul(cost),
            level: 0,
            filled_at: now,
        }
    }

    /// Goes on with what an earlier holder had left, `ago` or longer ago.
    pub fn resume(rate: Rate, now: Duration, left: u64, ago: Duration) -> Self {
        let mut starts = Self::new(rate, Duration::ZERO);
        let left = i128::from(left).saturating_mul(starts.cost) / THOUSAND;
        starts.level = left.min(starts.most);
        starts.fill_up(ago);
        starts.filled_at = now;
        starts
    }

    /// What is left, in thousandths of a start, rounded down: for whoever comes next.
    pub fn left(&mut self, now: Duration) -> u64 {
        self.fill_up(now);
        u64::try_from(self.level.saturating_mul(THOUSAND) / self.cost).unwrap_or(0)
    }

    /// How many may start now.
    pub fn room(&mut self, now: Duration) -> u32 {
        self.fill_up(now);
        u32::try_from(self.level.max(0) / self.cost).unwrap_or(u32::MAX)
    }

    /// So many are started. What is more than [`Starts::room`] is owed.
    pub fn take(&mut self, now: Duration, count: u32) {
        self.fill_up(now);
        self.level = self
            .level
            .saturating_sub(self.cost.saturating_mul(i128::from(count)));
    }

    /// So many of those that were taken were not started after all.
    pub fn give_back(&mut self, count: u32) {
        let given = self.cost.saturating_mul(i128::from(count));
        self.level = self.level.saturating_add(given).min(self.most);
    }

    /// When the next one may start; none: now.
    pub fn next(&self, now: Duration) -> Option<Duration> {
        let missing = self.cost - self.level;
        let wait = missing.max(0).saturating_add(self.fill - 1) / self.fill;
        let wait = u64::try_from(wait).map_or(Duration::MAX, Duration::from_nanos);
        Some(self.filled_at.saturating_add(wait)).filter(|at| *at > now)
    }

    fn fill_up(&mut self, now: Duration) {
        let passed = nanos(now.saturating_sub(self.filled_at));
        let filled = self.level.saturating_add(passed.saturating_mul(self.fill));
        self.level = filled.min(self.most);
        self.filled_at = self.filled_at.max(now);
    }
}

fn nanos(duration: Duration) -> i128 {
    i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(starts: u32, per: u64) -> Rate {
        Rate {
            starts,
            per: Duration::from_secs(per),
        }
    }

    const fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn ten_a_second_come_one_by_one() {
        let mut starts = Starts::new(rate(10, 1), at(500));
        assert_eq!((starts.room(at(500)), starts.next(at(500))), (0, Some(at(600))));
        assert_eq!((starts.room(at(599)), starts.room(at(600))), (0, 1));
        assert_eq!(starts.next(at(600)), None);
        // However long nobody asks.
        assert_eq!(starts.room(at(60_000)), 1);
        starts.take(at(60_000), 1);
        assert_eq!((starts.room(at(60_099)), starts.room(at(60_100))), (0, 1));
    }

    #[test]
    fn a_thousand_a_second_come_by_fifty() {
        let mut starts = Starts::new(rate(1000, 1), at(0));
        // 951 come in each second, so that with fifty at once there are never more than 1,000.
        assert_eq!(starts.room(at(20)), 19);
        assert_eq!(starts.room(at(9000)), 50);
        starts.take(at(9000), 50);
        assert_eq!(starts.room(at(9020)), 19);
    }

    #[test]
    fn what_was_not_started_is_given_back_and_what_was_too_much_is_owed() {
        let mut starts = Starts::new(rate(10, 1), at(0));
        assert_eq!(starts.room(at(100)), 1);
        starts.take(at(100), 1);
        starts.give_back(1);
        assert_eq!(starts.room(at(100)), 1);
        starts.take(at(100), 3);
        assert_eq!((starts.room(at(300)), starts.next(at(300))), (0, Some(at(400))));
        assert_eq!(starts.room(at(400)), 1);
        starts.give_back(9);
        assert_eq!(starts.room(at(400)), 1, "never more than the bucket holds");
    }

    #[test]
    fn one_an_hour_outlives_its_holder() {
        let mut first = Starts::new(rate(1, 3600), at(0));
        let left = first.left(at(900_000));
        assert_eq!(left, 250);
        let mut second = Starts::resume(rate(1, 3600), at(0), left, at(60_000));
        assert_eq!(second.next(at(0)), Some(at(2_640_000)));
        assert_eq!(second.room(at(2_640_000)), 1);
        // Whatever is handed over.
        let mut odd = Starts::resume(rate(1, 3600), at(0), u64::MAX, Duration::MAX);
        assert_eq!(odd.room(at(0)), 1);
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing() {
        let mut starts = Starts::new(rate(10, 1), at(1000));
        assert_eq!(
            (starts.room(at(0)), starts.room(at(1099)), starts.room(at(1100))),
            (0, 0, 1)
        );
    }
}
