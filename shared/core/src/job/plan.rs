//! From a request to a plan: everything that can be known of a job before anything is written.

use chrono::NaiveDate;
use sha2::{Digest, Sha256};

use crate::config::Config;
use crate::error::{Error, ErrorKind, excerpt_of};
use crate::job::chunk::compile::Order;
use crate::job::chunk::inspect::inspect;
use crate::job::chunk::{Chunks, Dates};
use crate::job::event::JobRequest;
use crate::job::fields::read_switch;
use crate::job::period::{self, AsOf, iso};
use crate::job::review::{Planned, review};
use crate::job::schema::Schema;
use crate::json::View;
use crate::task::item::{MAX_ITEM_BYTES, item_bytes};
use crate::task::row::payload_of;
use crate::warning::{Document as Subject, Warning, refuse};

/// The largest queue file, in bytes: more can hardly be written within the fifteen minutes of an invocation.
pub const MAX_QUEUE_BYTES: u64 = 64 << 30;

/// What goes into a digest at a time.
const BYTES_AT_A_TIME: usize = 16 << 10;

/// What a job would become.
#[derive(Debug)]
pub struct Plan {
    /// The worker.
    pub labourer_id: String,
    /// The schema that was applied.
    pub schema: String,
    /// Its attributes, plural, outermost first.
    pub attributes: Vec<String>,
    /// Whether the job is split by attributes.
    pub split: bool,
    /// The dates of the job, oldest first; empty if it has none, or keeps them as payload.
    pub dates: Vec<String>,
    /// Whether each date has rows of its own.
    pub dates_apart: bool,
    /// The as-of that counts, if one was given.
    pub as_of: Option<AsOf>,
    /// A digest of job, schema and given as-of: tells a repeated delivery from another job. 64 hex digits.
    pub fingerprint: String,
    /// The rows.
    pub chunks: Chunks,
    /// What was accepted but may not be what was meant.
    pub warnings: Vec<Warning>,
}

impl Plan {
    /// Plans a job. `as_of` overrides the request's own; `now` serves where neither is there.
    ///
    /// ```
    /// use jobmill_core::config::Config;
    /// use jobmill_core::job::event::{self, Request};
    /// use jobmill_core::json::Document;
    /// use jobmill_core::job::period::AsOf;
    /// use jobmill_core::job::plan::Plan;
    ///
    /// let config = r#"{
    ///     "queue_bucket": "my-queue-bucket",
    ///     "job_schema": {"chunkable_attrs": ["section", "store"]},
    ///     "task_config": {"labourers": {"report": {}}}
    /// }"#;
    /// let job = r#"{
    ///     "lambda_name": "report",
    ///     "isolate_stores": true,
    ///     "sections": {"dairy": {"stores": ["milano", "torino"]}, "wine": null}
    /// }"#;
    /// let config = Config::parse(config).unwrap();
    /// let Request::Job(request) = event::read(Document::parse(job)?)? else {
    ///     panic!("not a job");
    /// };
    /// let now = AsOf::parse("2024-03-06").unwrap();
    /// let plan = Plan::make(&config, request, None, now)?;
    ///
    /// // The number of rows is known before the first one is made.
    /// assert_eq!(plan.chunks.row_count(), 3);
    /// let rows: Vec<Vec<u8>> = plan.chunks.rows().collect();
    /// let second = br#"{"isolate_stores":true,"sections":["dairy"],"stores":["torino"],"labourer_id":"report"}"#;
    /// assert_eq!(rows[1], second);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Whatever makes the job impossible, the first in the order: form of `lambda_name`, schema, labourer, the rest.
    pub fn make(config: &Config, request: JobRequest, as_of: Option<AsOf>, now: AsOf) -> Result<Self, Error> {
        let JobRequest {
            job,
            as_of: of_request,
            strict,
            mut warnings,
            ..
        } = request;
        let as_of = as_of.or(of_request);
        let labourer_id = job.labourer()?.to_owned();
        let fields = job.fields();
        let schema = config.schema(fields.get("job_schema_name"))?;
        config.check_labourer(&labourer_id)?;
        let fingerprint = fingerprint(&labourer_id, fields, schema, as_of)?;
        let isolate_days = match fields.get("isolate_days") {
            Some(value) => read_switch(|| "isolate_days".to_owned(), value)? == Some(true),
            None => false,
        };
        let inspected = inspect(schema, fields)?;
        let split = inspected.must_split();
        let found = find_dates(fields, isolate_days);
        let has_dates = !matches!(found, Found::None);
        let dates_active = split
            || (isolate_days && has_dates)
            || (schema.always_expand_period && matches!(found, Found::Period(_)));
        let mut taken_out: Vec<&str> = Vec::new();
        let (mut dates, mut named) = (Dates::Untouched, Vec::new());
        if dates_active {
            taken_out.extend(["period", "isolate_days"]);
            let own = match found {
                Found::Period(period) => {
                    let today = as_of.unwrap_or(now).date_in(&schema.timezone);
                    Some(period::expand(period, today)?.into_iter().map(iso).collect())
                }
                Found::List(list) if isolate_days => Some(own_dates(list)?),
                Found::List(_) | Found::None => None,
            };
            if let Some(own) = own {
                taken_out.push("date_list");
                named = own;
                dates = if isolate_days {
                    Dates::Each(named.clone())
                } else {
                    Dates::Together(named.clone())
                };
            }
            let in_rows = !named.is_empty() || fields.get("date_list").is_some_and(|list| !list.is_empty());
            if let (true, Some(field)) = (in_rows, &inspected.inner_date_list) {
                return Err(Error::job(format!(
                    "`{field}` would replace the dates of the job: keep dates at the root, or call it otherwise"
                )));
            }
        }
        let order = Order {
            schema,
            labourer_id: &labourer_id,
            dates,
            taken_out: &taken_out,
            split,
        };
        let chunks = Chunks::compile(order, &job, inspected)?;
        if chunks.row_count() > config.max_tasks_per_job {
            return Err(Error::new(
                ErrorKind::FanOutTooLarge,
                format!(
                    "the job would become {} tasks, and `max_tasks_per_job` is {}: put more values into one task with \
                     `max_..._per_batch`, shorten the period, or raise the bound in the configuration",
                    chunks.row_count(),
                    config.max_tasks_per_job
                ),
            ));
        }
        if chunks.byte_count() > MAX_QUEUE_BYTES {
            return Err(Error::new(
                ErrorKind::FanOutTooLarge,
                format!(
                    "the rows of the job would take {} GiB, and a queue file takes {}: keep large values in S3 and send \
                     their keys, or split the job",
                    chunks.byte_count() >> 30,
                    MAX_QUEUE_BYTES >> 30
                ),
            ));
        }
        check_sizes(config, &labourer_id, &chunks)?;
        let planned = Planned {
            schema,
            job: fields,
            split,
            dates_read: dates_active,
            isolate_days,
            has_dates,
        };
        review(&planned, &mut warnings);
        let warnings = warnings.finish(Subject::Job);
        if strict || config.strict {
            refuse(config.warnings.iter().chain(&warnings))?;
        }
        Ok(Self {
            labourer_id,
            schema: schema.name.clone(),
            attributes: schema
                .attributes
                .iter()
                .map(|attribute| attribute.plural.clone())
                .collect(),
            split,
            dates: named,
            dates_apart: isolate_days,
            as_of,
            fingerprint,
            chunks,
            warnings,
        })
    }

    /// Why a job has no rows, for people.
    pub fn why_empty(&self) -> String {
        match self.attributes.first() {
            Some(plural) => format!("`{plural}` is to be split and is empty: the job has no rows"),
            None => "the job has no rows".to_owned(),
        }
    }
}

enum Found<'a> {
    None,
    Period(View<'a>),
    List(View<'a>),
}

fn find_dates(job: View<'_>, isolate_days: bool) -> Found<'_> {
    if let Some(period) = job.get("period").filter(|period| !period::is_none(*period)) {
        return Found::Period(period);
    }
    match job.get("date_list") {
        Some(list) if isolate_days && list.is_list() && !list.is_empty() => Found::List(list),
        _ => Found::None,
    }
}

fn own_dates(list: View<'_>) -> Result<Vec<String>, Error> {
    list.items()
        .enumerate()
        .map(|(at, item)| match item.as_text() {
            Some(text) => Ok(text.to_owned()),
            None => Err(Error::job(format!(
                "`date_list[{at}]` is {} ({}): write dates as text, such as \"2024-03-06\"",
                item.kind().name(),
                excerpt_of(item)
            ))),
        })
        .collect()
}

/// Refuses a job of which a row would be too large an item. Rows are only looked at where the longest one might be.
fn check_sizes(config: &Config, labourer_id: &str, chunks: &Chunks) -> Result<(), Error> {
    let around = item_bytes(&config.tables.fields, labourer_id, 0);
    let suspicious = MAX_ITEM_BYTES.saturating_sub(around);
    // A payload is hardly ever longer than its row: it lacks `labourer_id`, and text within text only loses its escapes.
    // Only the exponents of numbers in a `payload` given as text may grow, by a third at most (`1E5` becomes `1e+5`).
    let suspicious = suspicious / 4 * 3;
    if chunks.longest_row() <= suspicious {
        return Ok(());
    }
    let mut rows = chunks.rows();
    let mut number = 0_u64;
    while let Some(row) = rows.next_row() {
        if row.len() as u64 > suspicious {
            let (_, payload) = payload_of(row)?;
            let bytes = around + payload.len() as u64;
            if bytes > MAX_ITEM_BYTES {
                return Err(Error::new(
                    ErrorKind::TaskTooLarge,
                    format!(
                        "row {number} of the job would become an item of {bytes} bytes, and DynamoDB takes \
                         {MAX_ITEM_BYTES}: put fewer values into one task, or keep large values in S3 and send their keys"
                    ),
                ));
            }
        }
        number += 1;
    }
    Ok(())
}

fn fingerprint(
    labourer_id: &str,
    job: View<'_>,
    schema: &Schema,
    as_of: Option<AsOf>,
) -> Result<String, Error> {
    let names: Vec<(&str, &str)> = schema
        .attributes
        .iter()
        .map(|attribute| (attribute.name.as_str(), attribute.plural.as_str()))
        .collect();
    let head = (
        labourer_id,
        names,
        schema.always_expand_period,
        schema.timezone.name(),
        as_of.map(AsOf::to_text),
    );
    let head = serde_json::to_vec(&head)
        .map_err(|error| Error::job(format!("the job can't be written as JSON: {error}")))?;
    let mut digest = Sha256::new();
    for part in [b"jobmill 1\n", head.as_slice(), b"\n"] {
        digest.update(part);
    }
    // The digest takes long pieces faster than short ones.
    let mut short = Vec::with_capacity(BYTES_AT_A_TIME);
    job.give(&mut |piece| {
        if short.len() + piece.len() > BYTES_AT_A_TIME {
            digest.update(&short);
            short.clear();
        }
        if piece.len() > BYTES_AT_A_TIME {
            digest.update(piece);
        } else {
            short.extend_from_slice(piece);
        }
    });
    digest.update(&short);
    Ok(digest
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// "Today" for a schema, for those who show it.
pub fn today(schema: &Schema, as_of: AsOf) -> NaiveDate {
    as_of.date_in(&schema.timezone)
}
