//! What a plan will cost: write units, time at the limits of DynamoDB, dollars on demand.
//!
//! Arithmetic over counts and sizes, for people who decide whether to run a job. The engine takes no decision from it.

use crate::config::Config;
use crate::job::plan::Plan;
use crate::task::item::item_bytes;

/// Bytes of an item that one write unit covers; a started unit counts whole.
/// Source: DynamoDB Developer Guide, "Read and write operations".
pub const BYTES_PER_WRITE_UNIT: u64 = 1024;

/// Write units a second that one partition key takes. The greenfield index is keyed by labourer, and its growing sort
/// key lets DynamoDB split no such partition, so this is what one labourer takes.
/// Source: DynamoDB Developer Guide, "Best practices for designing and using partition keys".
pub const UNITS_PER_SECOND_OF_A_LABOURER: u64 = 1_000;

/// Write units a second that a new on-demand table takes at once.
/// Source: DynamoDB Developer Guide, "On-demand capacity mode: initial throughput".
pub const UNITS_PER_SECOND_OF_A_NEW_TABLE: u64 = 4_000;

/// Write units a second of one table by default quota.
/// Source: DynamoDB Developer Guide, "Quotas: read/write throughput".
pub const UNITS_PER_SECOND_BY_DEFAULT_QUOTA: u64 = 40_000;

/// Dollars for a million write request units on demand, table class Standard.
/// Source: DynamoDB pricing, us-east-1, since 1 November 2024.
pub const USD_PER_MILLION_WRITE_UNITS: f64 = 0.625;

/// Dollars for a thousand PUT requests, class S3 Standard. Source: S3 pricing, us-east-1, 2024.
pub const USD_PER_THOUSAND_PUTS: f64 = 0.005;

/// Dollars for a gigabyte-second of a Lambda function on arm64. Source: Lambda pricing, us-east-1, 2024, first tier.
pub const USD_PER_GB_SECOND: f64 = 0.000_013_333_4;

/// Dollars for a million invocations. Source: Lambda pricing, us-east-1, 2024.
pub const USD_PER_MILLION_INVOCATIONS: f64 = 0.20;

/// Seconds between two writes of the lock, as this estimate assumes them.
const SECONDS_PER_CHECKPOINT: f64 = 5.0;

/// Bytes of one part of a queue file that goes up in parts; a file up to this size is one put.
pub const BYTES_PER_PART: u64 = 8 << 20;

/// PUT requests of every run: the lock, its release, the receipt.
const PUTS_OF_EVERY_RUN: u64 = 3;

/// What there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Tasks to create.
    pub rows: u64,
    /// Bytes of the queue file.
    pub file_bytes: u64,
    /// Bytes of all items together, as DynamoDB counts them.
    pub item_bytes: u64,
    /// Bytes of the largest item.
    pub longest_item: u64,
    /// Seconds that one invocation works before it hands over.
    pub seconds_per_invocation: u32,
    /// Memory of the function in MB.
    pub memory_mb: u32,
}

impl Load {
    /// The load of a plan. `memory_mb` is the memory of the function.
    ///
    /// Sizes come from the rows: a row whose `payload` is text becomes a slightly smaller item than is counted here.
    pub fn of(plan: &Plan, config: &Config, memory_mb: u32) -> Self {
        let rows = plan.chunks.row_count();
        // The payload is the row without `"labourer_id":"..."}` and the brace that takes its place.
        let ending = r#""labourer_id":""}"#.len() as u64 + plan.labourer_id.len() as u64;
        let around = item_bytes(&config.tables.fields, &plan.labourer_id, 0);
        let line_feeds = rows;
        let in_payloads = plan
            .chunks
            .byte_count()
            .saturating_sub(line_feeds)
            .saturating_sub(rows.saturating_mul(ending));
        let longest_payload = plan.chunks.longest_row().saturating_sub(ending);
        Self {
            rows,
            file_bytes: plan.chunks.byte_count(),
            item_bytes: in_payloads.saturating_add(rows.saturating_mul(around)),
            longest_item: if rows == 0 { 0 } else { around + longest_payload },
            seconds_per_invocation: config.timeout.saturating_sub(config.shutdown_period),
            memory_mb,
        }
    }

    /// Write units of the table alone, and whether that is exact.
    fn units(&self) -> (u64, bool) {
        let most = self
            .rows
            .saturating_mul(self.longest_item.div_ceil(BYTES_PER_WRITE_UNIT));
        let least = self
            .item_bytes
            .div_ceil(BYTES_PER_WRITE_UNIT)
            .max(self.rows)
            .min(most);
        // Rounding up costs half a unit an item on average.
        let halves = self.rows.saturating_mul(BYTES_PER_WRITE_UNIT / 2);
        let likely = self.item_bytes.saturating_add(halves) / BYTES_PER_WRITE_UNIT;
        (likely.clamp(least, most), least == most)
    }
}

/// What a plan will take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Write units of the tasks table.
    pub table_units: u64,
    /// Write units of the greenfield index: it projects whole items, so as many again.
    pub index_units: u64,
    /// Whether the units are exact; else some items are larger than one unit and only their sum is known.
    pub exact: bool,
    /// Seconds at the rate that one labourer takes.
    pub labourer_seconds: f64,
    /// Seconds at the rate of a new on-demand table.
    pub new_table_seconds: f64,
    /// Seconds at the rate of the default quota.
    pub quota_seconds: f64,
    /// Invocations, one after the other.
    pub invocations: u64,
    /// Dollars for write units.
    pub dynamodb_usd: f64,
    /// Dollars for PUT requests.
    pub s3_usd: f64,
    /// Dollars for running time and invocations.
    pub lambda_usd: f64,
}

impl Estimate {
    /// Estimates a load.
    pub fn of(load: &Load) -> Self {
        let (units, exact) = load.units();
        let at = |rate: u64| float(units) / float(rate);
        let labourer_seconds = at(UNITS_PER_SECOND_OF_A_LABOURER);
        let nothing_to_do = load.rows == 0;
        let invocations = if nothing_to_do {
            1
        } else {
            let at_a_time =
                u64::from(load.seconds_per_invocation.max(1)).saturating_mul(UNITS_PER_SECOND_OF_A_LABOURER);
            units.div_ceil(at_a_time).max(1)
        };
        let puts = if nothing_to_do {
            0.0
        } else {
            float(PUTS_OF_EVERY_RUN + load.file_bytes.div_ceil(BYTES_PER_PART))
                + (labourer_seconds / SECONDS_PER_CHECKPOINT).floor()
        };
        Self {
            table_units: units,
            index_units: units,
            exact,
            labourer_seconds,
            new_table_seconds: at(UNITS_PER_SECOND_OF_A_NEW_TABLE),
            quota_seconds: at(UNITS_PER_SECOND_BY_DEFAULT_QUOTA),
            invocations,
            dynamodb_usd: 2.0 * float(units) * USD_PER_MILLION_WRITE_UNITS / 1e6,
            s3_usd: puts * USD_PER_THOUSAND_PUTS / 1e3,
            lambda_usd: labourer_seconds * f64::from(load.memory_mb) / 1024.0 * USD_PER_GB_SECOND
                + float(invocations) * USD_PER_MILLION_INVOCATIONS / 1e6,
        }
    }

    /// Write units of table and index.
    pub const fn write_units(&self) -> u64 {
        self.table_units.saturating_add(self.index_units)
    }

    /// Seconds, by the tightest of the limits. A job has one labourer, so that is the labourer's.
    pub const fn seconds(&self) -> f64 {
        self.labourer_seconds
            .max(self.new_table_seconds)
            .max(self.quota_seconds)
    }

    /// Dollars altogether.
    pub fn usd(&self) -> f64 {
        self.dynamodb_usd + self.s3_usd + self.lambda_usd
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "an estimate: beyond 2^53 the last digits do not matter"
)]
const fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::event::{self, Request};
    use crate::job::period::AsOf;
    use crate::task::row::payload_of;

    fn close(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-9
    }

    fn load(rows: u64, item_bytes: u64, longest_item: u64) -> Load {
        Load {
            rows,
            file_bytes: rows * 150,
            item_bytes,
            longest_item,
            seconds_per_invocation: 840,
            memory_mb: 512,
        }
    }

    #[test]
    fn small_items_take_one_unit_in_the_table_and_one_in_the_index() {
        let estimate = Estimate::of(&load(100_000, 25_000_000, 300));
        assert_eq!(
            (estimate.table_units, estimate.index_units, estimate.exact),
            (100_000, 100_000, true)
        );
        assert_eq!(estimate.write_units(), 200_000);
        // 100,000 units at 1,000, 4,000 and 40,000 a second.
        assert!(close(estimate.labourer_seconds, 100.0));
        assert!(close(estimate.new_table_seconds, 25.0));
        assert!(close(estimate.quota_seconds, 2.5));
        assert!(close(estimate.seconds(), 100.0));
        assert_eq!(estimate.invocations, 1);
        // 200,000 units at $0.625 a million.
        assert!(close(estimate.dynamodb_usd, 0.125));
        // 15 MB are two parts; with lock, release, receipt and a checkpoint each 5 s: 2 + 3 + 20 = 25 PUTs.
        assert!(close(estimate.s3_usd, 0.000_125));
        // 100 s at half a GB: 50 GB-s; one invocation.
        assert!(close(estimate.lambda_usd, 0.000_666_67 + 0.000_000_2));
        assert!(close(estimate.usd(), 0.125 + 0.000_125 + 0.000_666_87));
    }

    #[test]
    fn an_item_of_exactly_one_unit_and_one_byte_more() {
        assert_eq!(Estimate::of(&load(1, 1024, 1024)).table_units, 1);
        let more = Estimate::of(&load(1, 1025, 1025));
        assert_eq!((more.table_units, more.exact), (2, true));
    }

    #[test]
    fn items_of_many_sizes_are_estimated_between_their_bounds() {
        // Ten items, 20,480 bytes together: at least 20 units. The largest has 4,096: at most 40. Half a unit is lost
        // per item: 25.
        let estimate = Estimate::of(&load(10, 20_480, 4_096));
        assert_eq!((estimate.table_units, estimate.exact), (25, false));
        // Nine of 100 bytes and one of 10,240: at least ten units, 11,140 bytes are 10.9, half a unit each: 15.
        assert_eq!(Estimate::of(&load(10, 11_140, 10_240)).table_units, 15);
    }

    #[test]
    fn a_long_run_takes_several_invocations() {
        // 840 s at 1,000 a second: 840,000 tasks an invocation.
        assert_eq!(Estimate::of(&load(840_000, 100 * 840_000, 100)).invocations, 1);
        assert_eq!(Estimate::of(&load(840_001, 100 * 840_001, 100)).invocations, 2);
        assert_eq!(
            Estimate::of(&load(1_000_000_000, 100_000_000_000, 100)).invocations,
            1_191
        );
    }

    #[test]
    fn nothing_to_do_costs_one_invocation() {
        let estimate = Estimate::of(&load(0, 0, 0));
        assert_eq!(
            (estimate.write_units(), estimate.invocations, estimate.exact),
            (0, 1, true)
        );
        assert!(close(estimate.usd(), 0.000_000_2));
        assert!(close(estimate.seconds(), 0.0));
    }

    #[test]
    fn numbers_beyond_reason_do_not_overflow() {
        let estimate = Estimate::of(&Load {
            rows: u64::MAX,
            file_bytes: u64::MAX,
            item_bytes: u64::MAX,
            longest_item: u64::MAX,
            seconds_per_invocation: 0,
            memory_mb: u32::MAX,
        });
        assert_eq!(estimate.write_units(), u64::MAX);
        assert!(estimate.usd().is_finite());
    }

    #[test]
    fn the_load_of_a_plan_is_what_its_tasks_weigh() {
        let config = Config::parse(
            r#"{"queue_bucket": "b", "task_config": {"labourers": {"worker": {}}},
                "job_schema": {"chunkable_attrs": ["section", "store"]}}"#,
        )
        .unwrap();
        let event = serde_json::json!({
            "lambda_name": "worker", "isolate_stores": true, "note": "x",
            "sections": {"a": {"stores": ["s1", "store 22"]}, "b": null},
        });
        let Request::Job(request) = event::read(event).unwrap() else {
            panic!("a job")
        };
        let plan = Plan::make(&config, request, None, AsOf::parse("2024-03-06").unwrap()).unwrap();
        let load = Load::of(&plan, &config, 512);
        let items: Vec<u64> = plan
            .chunks
            .rows()
            .map(|row| payload_of(&row).unwrap().1.len() as u64)
            .map(|payload| item_bytes(&config.tables.fields, "worker", payload))
            .collect();
        assert_eq!(load.rows, 3);
        assert_eq!(load.item_bytes, items.iter().sum::<u64>());
        assert_eq!(load.longest_item, items.iter().copied().max().unwrap());
        assert_eq!(load.file_bytes, plan.chunks.byte_count());
        assert_eq!(load.seconds_per_invocation, 840);
        // Names: 7 + 11 + 10 + 10 + 8 + 7 = 53; id 32, "worker" 6, three numbers of 21.
        assert_eq!(item_bytes(&config.tables.fields, "worker", 0), 53 + 32 + 6 + 63);
    }
}
