//! How fast a job is planned and its rows are made, on one core, into a sink that counts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use jobmill_core::config::Config;
use jobmill_core::job::event::{self, JobRequest, Request};
use jobmill_core::job::period::AsOf;
use jobmill_core::job::plan::Plan;
use jobmill_core::task::row::payload_of;
use serde_json::{Map, Value, json};

fn main() {
    divan::main();
}

fn config() -> Config {
    Config::read(&json!({
        "queue_bucket": "b",
        "max_tasks_per_job": 100_000_000,
        "task_config": { "labourers": { "report_builder": {} } },
        "job_schema": { "chunkable_attrs": [["section", {}], ["store", {}], ["product", {}]] },
    }))
    .unwrap()
}

/// Days, sections, stores, products: `rows` rows of about 130 bytes.
fn nested(days: u32, rows: u32, note: usize) -> JobRequest {
    let products: Vec<String> = (0..10).map(|product| format!("product-{product:04}")).collect();
    let stores = rows / days / 10 / 10;
    let sections: Map<String, Value> = (0..10)
        .map(|section| {
            let stores: Map<String, Value> = (0..stores)
                .map(|store| (format!("store-{store:04}"), json!({ "products": products })))
                .collect();
            (format!("section-{section}"), json!({ "stores": stores }))
        })
        .collect();
    let mut job = json!({
        "lambda_name": "report_builder", "period": format!("last_{days}_days"), "isolate_days": true,
        "isolate_products": true, "sections": sections,
    });
    if note > 0 {
        for part in 0..20 {
            job[format!("attribute_{part}")] = "x".repeat(note / 20).into();
        }
    }
    match event::read(job) {
        Ok(Request::Job(request)) => request,
        other => panic!("{other:?}"),
    }
}

fn plan(request: JobRequest) -> Plan {
    Plan::make(&config(), request, None, AsOf::parse("2024-03-06").unwrap()).unwrap()
}

/// Plans with the exact count, without making a row.
#[divan::bench(args = [10_000, 100_000, 1_000_000, 10_000_000])]
fn plan_of(bencher: Bencher<'_, '_>, rows: u32) {
    bencher
        .with_inputs(|| nested(100, rows, 0))
        .bench_values(|request| {
            let plan = plan(request);
            assert_eq!(plan.chunks.row_count(), u64::from(rows));
            plan
        });
}

fn make_rows(bencher: Bencher<'_, '_>, rows: u32, note: usize) {
    bench_rows(bencher, &plan(nested(100, rows, note)));
}

fn bench_rows(bencher: Bencher<'_, '_>, plan: &Plan) {
    bencher
        .counter(ItemsCount::new(plan.chunks.row_count()))
        .bench(|| {
            let mut rows = plan.chunks.rows();
            let mut bytes = 0;
            while let Some(row) = rows.next_row() {
                bytes += black_box(row).len();
            }
            bytes
        });
}

#[divan::bench(args = [10_000, 1_000_000, 10_000_000], sample_count = 10)]
fn rows_of_130_bytes(bencher: Bencher<'_, '_>, rows: u32) {
    make_rows(bencher, rows, 0);
}

#[divan::bench(args = [100_000, 1_000_000], sample_count = 10)]
fn rows_with_2_kb_at_the_root(bencher: Bencher<'_, '_>, rows: u32) {
    make_rows(bencher, rows, 2_000);
}

/// A hundred values a row, 1.6 kB.
#[divan::bench(sample_count = 10)]
fn rows_of_100_values(bencher: Bencher<'_, '_>) {
    let products: Vec<String> = (0..1_000_000)
        .map(|product| format!("product-{product:06}"))
        .collect();
    let job = json!({ "lambda_name": "report_builder", "max_sections_per_batch": 100, "sections": products });
    let Ok(Request::Job(request)) = event::read(job) else {
        panic!("no job");
    };
    bench_rows(bencher, &plan(request));
}

/// What the drain does with a row before it is sent.
#[divan::bench]
fn payload_of_a_row(bencher: Bencher<'_, '_>) {
    let row = plan(nested(100, 10_000, 0)).chunks.rows().next().unwrap();
    bencher
        .counter(ItemsCount::new(1_u32))
        .bench(|| payload_of(black_box(&row)).unwrap());
}
