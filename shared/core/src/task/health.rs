//! How well a worker is, by what is measured of it, and how many of its tasks that allows: sosw's rules.
//!
//! A status is 0 (bad) to 4 (high). sosw finds a wrong order of targets when it comes to it, and stops; here the
//! configuration is refused.

use crate::task::labourer::{Comparison, HealthMetric, Statistic};

/// The best status, and that of a worker of which nothing is measured.
pub const BEST: u8 = 4;

/// The share of its limit that a worker may use, by status: sosw's `invocation_number_coefficient`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coefficients(pub [f64; 5]);

impl Default for Coefficients {
    fn default() -> Self {
        Self([0.0, 0.0, 0.5, 0.75, 1.0])
    }
}

impl Coefficients {
    /// The share at that status; a status beyond the best one counts as the best one.
    pub fn strength(&self, status: u8) -> f64 {
        let [.., best] = self.0;
        self.0.get(usize::from(status)).copied().unwrap_or(best)
    }
}

impl Comparison {
    /// Whether `left operator right`.
    pub fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Lt => left < right,
            Self::Le => left <= right,
            Self::Gt => left > right,
            Self::Ge => left >= right,
        }
    }
}

/// The status by one metric: that of the first target, from the highest status down, that the value reaches; 0 if it
/// reaches none. Without a value it is the configured one.
pub fn status(metric: &HealthMetric, value: Option<f64>) -> u8 {
    let Some(value) = value.filter(|value| !value.is_nan()) else {
        return metric.status_without_data;
    };
    let reached = metric
        .feelings
        .iter()
        .find(|(_, target)| metric.operator.holds(value, *target));
    reached.map_or(0, |(status, _)| *status)
}

/// The worst of several; the best one if there are none.
pub fn worst(statuses: impl IntoIterator<Item = u8>) -> u8 {
    statuses.into_iter().min().unwrap_or(BEST)
}

/// How many tasks at once that share of the limit is: rounded down.
pub fn allowed(max_simultaneous: u32, share: f64) -> u32 {
    // A cast saturates, so that nothing and less are 0.
    (f64::from(max_simultaneous) * share).floor() as u32
}

/// What is made of the datapoints of the last while; nothing if there are none.
pub fn combine(statistic: Statistic, datapoints: &[f64]) -> Option<f64> {
    let values = datapoints.iter().copied().filter(|value| value.is_finite());
    match statistic {
        Statistic::Average => {
            let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
            (count > 0.0).then(|| sum / count)
        }
        Statistic::Maximum => values.reduce(f64::max),
        Statistic::Minimum => values.reduce(f64::min),
    }
}

/// The first two neighbours whose targets stand in the wrong order, given from the highest status down: whatever
/// reaches the lower one would have reached the higher one.
pub(crate) fn disorder(operator: Comparison, feelings: &[(u8, f64)]) -> Option<(u8, u8)> {
    let mut neighbours = feelings.iter().zip(feelings.iter().skip(1));
    neighbours
        .find(|((_, higher), (_, lower))| operator.holds(*lower, *higher))
        .map(|((higher, _), (lower, _))| (*higher, *lower))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::task::labourer::MetricSource;

    fn metric(operator: Comparison, feelings: &[(u8, f64)]) -> HealthMetric {
        HealthMetric {
            name: "cpu".to_owned(),
            source: MetricSource {
                namespace: "AWS/RDS".to_owned(),
                metric: "CPUUtilization".to_owned(),
                dimensions: BTreeMap::new(),
                statistic: Statistic::Average,
                period: 60,
                window: 300,
            },
            feelings: feelings.to_vec(),
            operator,
            status_without_data: 3,
        }
    }

    #[test]
    fn the_first_target_reached_from_above_is_the_status() {
        let cpu = metric(Comparison::Le, &[(4, 25.0), (3, 50.0), (2, 75.0), (1, 90.0)]);
        let statuses = [0.0, 25.0, 25.5, 50.0, 75.0, 90.0, 90.1].map(|value| status(&cpu, Some(value)));
        assert_eq!(statuses, [4, 4, 3, 3, 2, 1, 0]);
        // Only strictly below; statuses may be left out.
        let strict = metric(Comparison::Lt, &[(4, 25.0), (2, 60.0)]);
        assert_eq!(
            [24.9, 25.0, 59.9, 60.0].map(|value| status(&strict, Some(value))),
            [4, 2, 2, 0]
        );
        // More is better: sosw refuses every such map whose highest target is positive.
        let free = metric(Comparison::Ge, &[(4, 90.0), (3, 50.0)]);
        assert_eq!(
            [95.0, 90.0, 89.0, 50.0, 49.0].map(|value| status(&free, Some(value))),
            [4, 4, 3, 3, 0]
        );
        let above = metric(Comparison::Gt, &[(4, 90.0)]);
        assert_eq!([90.0, 90.1].map(|value| status(&above, Some(value))), [0, 4]);
    }

    #[test]
    fn without_data_the_configured_status_counts() {
        let cpu = metric(Comparison::Le, &[(4, 25.0)]);
        assert_eq!([None, Some(f64::NAN)].map(|value| status(&cpu, value)), [3, 3]);
        assert_eq!(combine(Statistic::Average, &[]), None);
        assert_eq!(combine(Statistic::Maximum, &[f64::NAN]), None);
    }

    #[test]
    fn datapoints_become_one_value() {
        let values = [Statistic::Average, Statistic::Maximum, Statistic::Minimum]
            .map(|statistic| combine(statistic, &[10.0, 40.0, 25.0]));
        assert_eq!(values, [Some(25.0), Some(40.0), Some(10.0)]);
    }

    #[test]
    fn the_worst_status_says_how_much_of_the_limit_counts() {
        assert_eq!((worst([4, 2, 3]), worst([])), (2, 4));
        let of_sosw = Coefficients::default();
        let shares = [0, 1, 2, 3, 4, 9].map(|status| allowed(10, of_sosw.strength(status)));
        assert_eq!(shares, [0, 0, 5, 7, 10, 10]);
        // One task at once stops below the best status: sosw does so, and the configuration warns of it.
        assert_eq!(
            [2, 3, 4].map(|status| allowed(1, of_sosw.strength(status))),
            [0, 0, 1]
        );
        assert_eq!([-1.0, f64::NAN, 2.0].map(|share| allowed(3, share)), [0, 0, 6]);
        assert_eq!(allowed(u32::MAX, 2.0), u32::MAX);
    }

    #[test]
    fn neighbours_in_the_wrong_order_are_found() {
        use Comparison::{Ge, Gt, Le, Lt};
        let order = |operator, feelings: &[(u8, f64)]| disorder(operator, feelings);
        assert_eq!(order(Le, &[(4, 25.0), (3, 50.0), (2, 75.0)]), None);
        assert_eq!(order(Le, &[(4, 25.0), (3, 50.0), (2, 40.0)]), Some((3, 2)));
        assert_eq!(
            order(Le, &[(4, 0.0), (3, 0.0)]),
            Some((4, 3)),
            "the lower one is never reached"
        );
        assert_eq!(order(Lt, &[(4, 25.0), (3, 20.0)]), Some((4, 3)));
        assert_eq!(order(Ge, &[(4, 90.0), (3, 50.0)]), None);
        assert_eq!(order(Ge, &[(4, 50.0), (3, 90.0)]), Some((4, 3)));
        assert_eq!(order(Gt, &[(4, -10.0), (3, -20.0)]), None);
        assert_eq!(order(Gt, &[]), None);
    }
}
