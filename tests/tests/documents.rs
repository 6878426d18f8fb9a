//! What the documents say in figures is what the code says.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use jobmill_core::job::estimate::{Estimate, Load};

const PERFORMANCE: &str = include_str!("../../docs/performance.md");

/// The job of the benchmarks: rows of 130 bytes, tasks of one write unit, a function of 256 MB.
fn estimate(tasks: u64) -> Estimate {
    Estimate::of(&Load {
        rows: tasks,
        file_bytes: tasks * 130,
        item_bytes: tasks * 280,
        longest_item: 300,
        seconds_per_invocation: 840,
        memory_mb: 256,
    })
}

fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0 => "under a second".to_owned(),
        1..=119 => format!("{whole} s"),
        120..=7_199 => format!("{} min", whole.div_ceil(60)),
        _ => format!("{:.1} h", seconds / 3_600.0),
    }
}

#[test]
fn the_times_and_costs_in_the_document_are_those_of_the_estimate() {
    for (name, tasks) in [
        ("1 thousand", 1_000),
        ("1 million", 1_000_000),
        ("10 million", 10_000_000),
    ] {
        let estimate = estimate(tasks);
        assert!(estimate.exact);
        let row = format!(
            "| {name} | {} | {} | {} | {} | ${:.4} | ${:.4} | ${:.4} |",
            duration(estimate.labourer_seconds),
            duration(estimate.new_table_seconds),
            duration(estimate.quota_seconds),
            estimate.invocations,
            estimate.dynamodb_usd,
            estimate.s3_usd,
            estimate.lambda_usd,
        );
        assert!(
            PERFORMANCE.contains(&row),
            "docs/performance.md lacks the row\n{row}"
        );
    }
}
