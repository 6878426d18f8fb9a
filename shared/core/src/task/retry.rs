//! How long a failed task waits for its next attempt.

use std::time::Duration;

use crate::task::labourer::RetryPolicy;

impl RetryPolicy {
    /// How long a task waits that failed after `attempts` attempts (at least one): `delay * backoff^(attempts - 1)`,
    /// never more than `longest`. `chance`, from 0 to 1, takes up to a half of that away, so that tasks that failed
    /// together do not come back together: 0 leaves all of it, 1 a half.
    pub fn delay(&self, attempts: u32, chance: f64) -> Duration {
        let factor = self.backoff.max(1.0).powf(f64::from(attempts.saturating_sub(1)));
        // Nothing times something beyond all bounds is no number: `min` then gives the other one.
        let grown = if self.delay.is_zero() {
            0.0
        } else {
            self.delay.as_secs_f64() * factor
        };
        let capped = grown.min(self.longest.as_secs_f64());
        let taken = if chance > 0.0 { chance.min(1.0) / 2.0 } else { 0.0 };
        Duration::try_from_secs_f64(capped * (1.0 - taken)).unwrap_or(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(delay: u64, backoff: f64, longest: u64) -> RetryPolicy {
        RetryPolicy {
            delay: Duration::from_secs(delay),
            backoff,
            longest: Duration::from_secs(longest),
        }
    }

    #[test]
    fn each_attempt_waits_longer_up_to_the_longest_wait() {
        let policy = RetryPolicy::default();
        let waits = [0, 1, 2, 3, 7, 8, 9].map(|attempts| policy.delay(attempts, 0.0).as_secs());
        assert_eq!(waits, [10, 10, 20, 40, 640, 900, 900]);
        let slower = self::policy(8, 1.5, 3600);
        assert_eq!(slower.delay(3, 0.0), Duration::from_secs(18));
        let constant = self::policy(30, 1.0, 900);
        assert_eq!(constant.delay(u32::MAX, 0.0), Duration::from_secs(30));
    }

    #[test]
    fn chance_takes_up_to_a_half() {
        let policy = policy(10, 2.0, 15);
        let waits = [0.0, 0.5, 1.0].map(|chance| policy.delay(2, chance).as_millis());
        assert_eq!(waits, [15_000, 11_250, 7_500]);
        let odd = [-1.0, f64::NAN, 7.0].map(|chance| policy.delay(1, chance).as_secs());
        assert_eq!(odd, [10, 10, 5]);
    }

    #[test]
    fn no_number_of_attempts_overflows() {
        assert_eq!(policy(1, 100.0, 604_800).delay(u32::MAX, 0.0).as_secs(), 604_800);
        assert_eq!(policy(0, 100.0, 900).delay(u32::MAX, 0.5), Duration::ZERO);
        assert_eq!(policy(10, 2.0, 0).delay(3, 0.0), Duration::ZERO);
        assert_eq!(policy(10, f64::NAN, 900).delay(3, 0.0), Duration::from_secs(10));
        assert_eq!(
            policy(u64::MAX, 2.0, u64::MAX).delay(9, 0.0),
            Duration::from_secs(u64::MAX)
        );
    }
}
