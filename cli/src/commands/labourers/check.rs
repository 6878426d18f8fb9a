//! `jobmill labourers check`: what is wrong with each labourer, and what to do.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use futures_util::stream::{StreamExt as _, TryStreamExt as _, iter};
use jobmill_aws::{
    Clients, EventSettings, FunctionSettings, Refusal, event_settings, function_settings, may_invoke,
    queue_arn,
};
use jobmill_core::config::Config;
use jobmill_core::task::labourer::{Completion, Labourer};
use jobmill_engine::ports::PortError;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{chosen, of_port, on_aws};
use crate::failure::Failure;
use crate::figures::counted;
use crate::terminal::{ERROR, FAINT, STRONG, one_line, printable};

/// How long events may wait, in seconds: so long dispatching counts on.
pub(super) const EVENT_AGE: u32 = 60;
/// Labourers that are looked at side by side: within Lambda's limit for such requests, 15 a second.
const SIDE_BY_SIDE: usize = 4;

const EXAMPLES: &str = "\
Examples:
  jobmill labourers check
  jobmill labourers check report send
  jobmill labourers check --format json | jq .labourers

It asks the account or endpoint of the environment (AWS_PROFILE, AWS_REGION,
AWS_ENDPOINT_URL, ...), and starts and changes nothing. Permissions are those
of these credentials, not those of the orchestrator function.

Exit codes: 0 all is right, 1 something is wrong, or failed, 2 wrong usage or
invalid input.";

/// Arguments of `jobmill labourers check`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CheckArguments {
    /// The labourers; otherwise all of the configuration
    #[arg(value_name = "NAME")]
    names: Vec<String>,

    /// The configuration; otherwise jobmill.json in the current folder
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// How to show what was found
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

impl CheckArguments {
    pub(super) fn wants_json(&self) -> bool {
        self.format == Format::Json
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A table
    Text,
    /// One JSON object
    Json,
}

/// Something that is wrong with a labourer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Wrong {
    #[serde(rename = "type")]
    kind: &'static str,
    message: String,
    /// What to do.
    cure: String,
}

impl Wrong {
    fn new(kind: &'static str, message: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            cure: cure.into(),
        }
    }
}

/// A labourer as it was found.
#[derive(Debug, Serialize)]
struct Checked {
    #[serde(skip)]
    name: String,
    function: Option<String>,
    completion: Option<&'static str>,
    problems: Vec<Wrong>,
}

/// What is known of the queue of outcomes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Queue {
    /// None is configured.
    None,
    /// Its ARN.
    Found(String),
    /// It can't be looked at.
    Unreadable(String),
}

pub(super) fn execute(arguments: &CheckArguments) -> Result<(), Failure> {
    let checked = on_aws(
        arguments.config.as_ref(),
        &arguments.names,
        async |config, clients| check(config, clients, &arguments.names).await,
    )?;
    let wrong = checked.iter().filter(|one| !one.problems.is_empty()).count() as u64;
    let failure = (wrong > 0).then(|| {
        let sentence = format!(
            "{} of {} can't do the work as it is configured",
            wrong,
            counted(checked.len() as u64, "labourer", "labourers")
        );
        Failure::failed("LabourersWrong", sentence)
    });
    match arguments.format {
        Format::Text => write_text(&checked, &mut anstream::stdout().lock())?,
        Format::Json => {
            let labourers: Map<String, Value> =
                checked.iter().map(|one| (one.name.clone(), json!(one))).collect();
            let keys = [
                ("valid".to_owned(), json!(wrong == 0)),
                ("labourers".to_owned(), Value::Object(labourers)),
            ];
            match failure {
                Some(failure) => return Err(failure.with(keys)),
                None => writeln!(io::stdout().lock(), "{:#}", Value::Object(Map::from_iter(keys)))?,
            }
        }
    }
    failure.map_or(Ok(()), Err)
}

async fn check(config: &Config, clients: &Clients, names: &[String]) -> Result<Vec<Checked>, Failure> {
    let queue = find_queue(config, clients).await?;
    let queue = &queue;
    iter(chosen(config, names)?)
        .map(|(name, labourer)| check_one(clients, queue, name, labourer))
        .buffered(SIDE_BY_SIDE)
        .try_collect()
        .await
}

async fn find_queue(config: &Config, clients: &Clients) -> Result<Queue, Failure> {
    let Some(url) = &config.outcome_queue else {
        return Ok(Queue::None);
    };
    match queue_arn(clients, url).await {
        Ok(arn) => Ok(Queue::Found(arn)),
        Err(PortError::Refused { message, .. }) => Ok(Queue::Unreadable(format!("{url}: {message}"))),
        Err(source) => Err(of_port("looking at the queue of outcomes", source)),
    }
}

async fn check_one(
    clients: &Clients,
    queue: &Queue,
    name: &str,
    labourer: &Labourer,
) -> Result<Checked, Failure> {
    let mut checked = Checked {
        name: name.to_owned(),
        function: labourer.arn.clone(),
        completion: None,
        problems: Vec::new(),
    };
    let Some(function) = &labourer.arn else {
        checked.problems.push(Wrong::new(
            "NoArn",
            "it has no `arn`, so that nobody can start its tasks",
            "write the ARN or the name of its function into the configuration",
        ));
        return Ok(checked);
    };
    let found = function_settings(clients, function).await;
    let settings = match found.map_err(|source| of_port("looking at a function", source))? {
        Ok(settings) => settings,
        Err(refusal) => {
            checked.problems.push(of_refusal(refusal));
            return Ok(checked);
        }
    };
    let allowed = may_invoke(clients, function).await;
    if let Err(refusal) =
        allowed.map_err(|source| of_port("asking whether a function may be started", source))?
    {
        checked.problems.push(of_refusal(refusal));
    }
    let completion = labourer.completion_for(labourer.max_duration.unwrap_or(settings.timeout));
    checked.completion = completion.map(name_of);
    let events = match completion {
        Some(Completion::Destination | Completion::Report) => {
            let found = event_settings(clients, function).await;
            found
                .map_err(|source| of_port("looking at the asynchronous invocations of a function", source))?
                .unwrap_or_default()
        }
        _ => EventSettings::default(),
    };
    let more = problems(name, labourer, completion, &settings, &events, queue);
    checked.problems.extend(more);
    Ok(checked)
}

fn of_refusal(refusal: Refusal) -> Wrong {
    Wrong::new(refusal.kind, one_line(&refusal.message), refusal.cure)
}

pub(super) const fn name_of(completion: Completion) -> &'static str {
    match completion {
        Completion::Response => "response",
        Completion::Destination => "destination",
        Completion::Report => "report",
    }
}

/// What is wrong with a labourer whose function is there.
fn problems(
    name: &str,
    labourer: &Labourer,
    completion: Option<Completion>,
    settings: &FunctionSettings,
    events: &EventSettings,
    queue: &Queue,
) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    if let Some(why) = &settings.failed {
        wrong.push(Wrong::new(
            "FunctionFailed",
            format!("Lambda can't run its function: {why}"),
            "mend what Lambda names, and deploy the function anew",
        ));
    }
    let seconds = |duration: Duration| duration.as_secs();
    if let Some(longest) = labourer
        .max_duration
        .filter(|longest| settings.timeout > *longest)
    {
        wrong.push(Wrong::new(
            "TimeoutTooLong",
            format!(
                "its function may run for {} s and its `max_duration` is {} s: a task would be started again while it runs",
                seconds(settings.timeout),
                seconds(longest)
            ),
            "give the function a shorter time-out, or the labourer a longer `max_duration`",
        ));
    }
    if let Some(reserved) = settings
        .reserved_concurrency
        .filter(|reserved| *reserved < labourer.max_simultaneous)
    {
        wrong.push(Wrong::new(
            "ConcurrencyTooLow",
            format!(
                "its function may run {reserved} times at once and its `max_simultaneous_invocations` is {}",
                labourer.max_simultaneous
            ),
            "reserve more concurrency for the function, or lower `max_simultaneous_invocations`",
        ));
    }
    match completion {
        None => wrong.push(Wrong::new(
            "NoCompletion",
            format!(
                "a task may run for {} s, too long for its answer to be waited for",
                seconds(labourer.max_duration.unwrap_or(settings.timeout))
            ),
            "set its `completion` to \"destination\" or \"report\", or its `max_duration` to at most 300",
        )),
        Some(Completion::Response) => {}
        Some(Completion::Report) => wrong.extend(of_events(name, events)),
        Some(Completion::Destination) => {
            wrong.extend(of_events(name, events));
            wrong.extend(of_destinations(name, events, queue));
        }
    }
    wrong
}

fn of_events(name: &str, events: &EventSettings) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    let connect = format!("`jobmill labourers connect {name}`");
    // Lambda's defaults.
    let (retries, age) = (
        events.maximum_retry_attempts.unwrap_or(2),
        events.maximum_event_age.unwrap_or(21_600),
    );
    if retries != 0 {
        wrong.push(Wrong::new(
            "LambdaRetries",
            format!(
                "Lambda runs a failed task again by itself, up to {}: attempts would not be counted",
                counted(retries.into(), "time", "times")
            ),
            connect.clone(),
        ));
    }
    if age > EVENT_AGE {
        wrong.push(Wrong::new(
            "EventAgeTooLong",
            format!("Lambda may start a task {age} s late, and after {EVENT_AGE} s it is given up here"),
            connect,
        ));
    }
    wrong
}

fn of_destinations(name: &str, events: &EventSettings, queue: &Queue) -> Option<Wrong> {
    let arn = match queue {
        Queue::Found(arn) => arn,
        Queue::None => {
            return Some(Wrong::new(
                "NoOutcomeQueue",
                "its outcomes have no queue to go to",
                "write the URL of an SQS queue into `outcome_queue`",
            ));
        }
        Queue::Unreadable(why) => {
            return Some(Wrong::new(
                "OutcomeQueueUnreadable",
                format!("the queue of outcomes can't be looked at: {}", one_line(why)),
                "correct `outcome_queue`, create the queue, or allow `sqs:GetQueueAttributes` and `sqs:ReceiveMessage` on it",
            ));
        }
    };
    let missing: Vec<String> = [
        ("successes", &events.on_success),
        ("failures", &events.on_failure),
    ]
    .into_iter()
    .filter(|(_, destination)| destination.as_ref() != Some(arn))
    .map(|(what, destination)| match destination {
        Some(other) => format!("{what} go to {other}"),
        None => format!("{what} go nowhere"),
    })
    .collect();
    (!missing.is_empty()).then(|| {
        Wrong::new(
            "NotConnected",
            format!("its {}: not to {arn}", missing.join(" and ")),
            format!("`jobmill labourers connect {name}`"),
        )
    })
}

fn write_text(checked: &[Checked], out: &mut impl Write) -> io::Result<()> {
    let widest = |of: &dyn Fn(&Checked) -> usize| checked.iter().map(of).max().unwrap_or(0);
    let name = widest(&|one| one.name.chars().count()).max("labourer".len());
    let completion = "destination".len();
    writeln!(
        out,
        "{STRONG}{:<name$}  {:<completion$}  problem{STRONG:#}",
        "labourer", "completion"
    )?;
    for one in checked {
        let how = one.completion.unwrap_or("-");
        let first = format!("{:<name$}  {how:<completion$}", one.name);
        let blank = format!("{:<name$}  {:<completion$}", "", "");
        if one.problems.is_empty() {
            writeln!(out, "{}  {FAINT}none{FAINT:#}", printable(&first))?;
        }
        for (at, Wrong { kind, message, cure }) in one.problems.iter().enumerate() {
            let begin = if at == 0 { &first } else { &blank };
            writeln!(
                out,
                "{}  {ERROR}{kind}{ERROR:#}: {}",
                printable(begin),
                printable(message)
            )?;
            writeln!(out, "{blank}  {FAINT}cure{FAINT:#}: {}", printable(cure))?;
        }
    }
    out.flush()
}
