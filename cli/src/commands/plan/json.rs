//! The plan for machines. `docs/command.md` lists the keys; keys are added, never renamed.

use std::io::{self, Write};

use jobmill_core::json::parse;
use serde_json::{Value, json};

use super::Forecast;

/// Rows from each end of the plan.
const ROWS_SHOWN: u64 = 3;

pub(super) fn write(forecast: &Forecast, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{:#}", value(forecast))?;
    out.flush()
}

fn value(forecast: &Forecast) -> Value {
    let Forecast { plan, estimate, .. } = forecast;
    let chunks = &plan.chunks;
    let levels: Vec<Value> = plan
        .attributes
        .iter()
        .zip(chunks.levels())
        .map(|(attribute, level)| json!({"attribute": attribute, "values": level.values, "rows": level.rows}))
        .collect();
    let (first, last) = forecast.ends(ROWS_SHOWN);
    json!({
        "labourer_id": plan.labourer_id,
        "schema": plan.schema,
        "split": plan.split,
        "as_of": forecast.as_of.to_text(),
        "as_of_given": plan.as_of.is_some(),
        "today": forecast.today,
        "timezone": forecast.timezone,
        "fingerprint": plan.fingerprint,
        "rows": chunks.row_count(),
        "rows_per_date": chunks.rows_per_date(),
        "dates": plan.dates,
        "dates_apart": plan.dates_apart,
        "levels": levels,
        "file_bytes": chunks.byte_count(),
        "longest_row_bytes": chunks.longest_row(),
        "estimate": {
            "write_units": estimate.write_units(),
            "table_write_units": estimate.table_units,
            "index_write_units": estimate.index_units,
            "write_units_exact": estimate.exact,
            "seconds": estimate.seconds(),
            "labourer_seconds": estimate.labourer_seconds,
            "new_table_seconds": estimate.new_table_seconds,
            "quota_seconds": estimate.quota_seconds,
            "invocations": estimate.invocations,
            "usd": estimate.usd(),
            "dynamodb_usd": estimate.dynamodb_usd,
            "s3_usd": estimate.s3_usd,
            "lambda_usd": estimate.lambda_usd,
        },
        "first_rows": rows(&first),
        "last_rows": rows(&last),
        "warnings": forecast.config_warnings.iter().chain(&plan.warnings).collect::<Vec<_>>(),
    })
}

fn rows(rows: &[Vec<u8>]) -> Vec<Value> {
    rows.iter()
        .filter_map(|row| std::str::from_utf8(row).ok())
        .filter_map(|row| parse(row).ok())
        .collect()
}
