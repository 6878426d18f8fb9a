//! `jobmill labourers connect`: a function's asynchronous invocations are set such that dispatching counts on, and back.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use jobmill_aws::{
    Clients, EventSettings, S3Store, event_settings, function_settings, queue_arn, set_event_settings,
};
use jobmill_core::config::Config;
use jobmill_core::task::labourer::{Completion, Labourer};
use jobmill_engine::ports::PortError;
use serde::Serialize;
use serde_json::{Value, json};

use super::ask::agrees;
use super::check::{EVENT_AGE, name_of};
use super::kept::{self, Kept};
use super::{chosen, of_port, on_aws};
use crate::failure::Failure;
use crate::terminal::{FAINT, STRONG, one_line, printable};

const EXAMPLES: &str = "\
Examples:
  jobmill labourers connect report --dry-run
  jobmill labourers connect report send --yes
  jobmill labourers connect report --undo
  jobmill labourers connect report --yes --format json | jq .labourers

A function of a labourer whose `completion` is \"destination\" sends how each
task ended to the queue of outcomes; Lambda itself tries nothing again and
keeps an event for 60 seconds. With \"report\" its destinations stay as they
are. What was there before is kept in the bucket, as labourers/NAME.json
below `s3_prefix`, and --undo puts it back. The function's role needs
`sqs:SendMessage` on the queue.

Exit codes: 0 done, 1 failed, 2 wrong usage or invalid input.";

/// Arguments of `jobmill labourers connect`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ConnectArguments {
    /// The labourers
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,

    /// The configuration; otherwise jobmill.json in the current folder
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Show what would be changed, and change nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,

    /// Put back what was there before
    #[arg(long)]
    undo: bool,

    /// Change it without asking
    #[arg(long)]
    yes: bool,

    /// How to show what is changed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

impl ConnectArguments {
    pub(super) fn wants_json(&self) -> bool {
        self.format == Format::Json
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Sentences
    Text,
    /// One JSON object; needs --yes or --dry-run
    Json,
}

/// What is to become of the settings of a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Change {
    labourer_id: String,
    function: String,
    before: Option<EventSettings>,
    after: Option<EventSettings>,
    /// Whether it was carried out.
    changed: bool,
    /// The role of the function, and the queue on which it needs `sqs:SendMessage`.
    role: Option<String>,
    queue: Option<String>,
}

pub(super) fn execute(arguments: &ConnectArguments) -> Result<(), Failure> {
    if arguments.wants_json() && !arguments.yes && !arguments.dry_run {
        return Err(Failure::invalid(
            "Usage",
            "--format json asks nobody: give --yes or --dry-run",
        ));
    }
    let mut changes = Vec::new();
    let done = on_aws(
        arguments.config.as_ref(),
        &arguments.names,
        async |config, clients| {
            let store = S3Store::new(clients.s3.clone(), &config.queue_bucket);
            for (name, labourer) in chosen(config, &arguments.names)? {
                let change = match arguments.undo {
                    false => connect(arguments, config, clients, &store, (name, labourer)).await?,
                    true => undo(arguments, config, clients, &store, name).await?,
                };
                changes.extend(change);
            }
            Ok(())
        },
    );
    let document = json!({ "dry_run": arguments.dry_run, "labourers": changes });
    match (arguments.format, done) {
        (Format::Text, done) => done,
        (Format::Json, Ok(())) => Ok(writeln!(io::stdout().lock(), "{document:#}")?),
        (Format::Json, Err(failure)) => Err(match document {
            Value::Object(keys) => failure.with(keys),
            _ => failure,
        }),
    }
}

async fn connect(
    arguments: &ConnectArguments,
    config: &Config,
    clients: &Clients,
    store: &S3Store,
    (name, labourer): (&str, &Labourer),
) -> Result<Option<Change>, Failure> {
    let Some(function) = &labourer.arn else {
        return Err(Failure::invalid(
            "NoArn",
            format!("{name} has no `arn`: write the ARN or the name of its function into the configuration"),
        ));
    };
    let found = function_settings(clients, function).await;
    let settings = found
        .map_err(|source| of_port("looking at a function", source))?
        .map_err(|refusal| {
            let sentence = format!(
                "{name}, {function}: {}: {}",
                one_line(&refusal.message),
                refusal.cure
            );
            Failure::failed(refusal.kind, sentence)
        })?;
    let before = event_settings(clients, function).await;
    let before =
        before.map_err(|source| of_port("looking at the asynchronous invocations of a function", source))?;
    let completion = labourer.completion_for(labourer.max_duration.unwrap_or(settings.timeout));
    let destination = match completion {
        Some(Completion::Destination) => Some(find_queue(config, clients).await?),
        Some(Completion::Report) => None,
        other => {
            let is = other.map_or(
                "not set, and its tasks may run too long to be waited for",
                name_of,
            );
            return Err(Failure::invalid(
                "NothingToConnect",
                format!(
                    "the `completion` of {name} is {is}: set it to \"destination\" in the configuration, and the URL of a \
                     queue as `outcome_queue`"
                ),
            ));
        }
    };
    let after = wanted(before.as_ref(), destination.as_deref());
    let mut change = Change {
        labourer_id: name.to_owned(),
        function: function.clone(),
        before: before.clone(),
        after: Some(after.clone()),
        changed: false,
        role: destination.is_some().then(|| settings.role.clone()),
        queue: destination,
    };
    if before.as_ref() == Some(&after) {
        told(arguments, &format!("{name} is connected already"))?;
        return Ok(Some(change));
    }
    let key = kept::key(config, name);
    let kept = kept::find(store, &key).await?;
    if let Some((kept, _)) = kept.as_ref().filter(|(kept, _)| kept.function != *function) {
        return Err(Failure::failed(
            "StillConnected",
            format!(
                "{name} was connected as {}, which is not its `arn` any more: `jobmill labourers connect {name} --undo` puts \
                 back what that one had",
                kept.function
            ),
        ));
    }
    if !is_agreed(arguments, &change)? {
        return Ok(Some(change));
    }
    if kept.is_none() {
        kept::keep(store, &key, &Kept::new(name, function, before)).await?;
    }
    set_event_settings(clients, function, Some(&after))
        .await
        .map_err(|source| refused(&change, source))?;
    change.changed = true;
    told(arguments, &format!("{name} is connected"))?;
    Ok(Some(change))
}

async fn undo(
    arguments: &ConnectArguments,
    config: &Config,
    clients: &Clients,
    store: &S3Store,
    name: &str,
) -> Result<Option<Change>, Failure> {
    let key = kept::key(config, name);
    let Some((kept, etag)) = kept::find(store, &key).await? else {
        told(
            arguments,
            &format!("{name} is not connected by this command: nothing is put back"),
        )?;
        return Ok(None);
    };
    let function = &kept.function;
    let now = event_settings(clients, function).await;
    let now =
        now.map_err(|source| of_port("looking at the asynchronous invocations of a function", source))?;
    let mut change = Change {
        labourer_id: name.to_owned(),
        function: function.clone(),
        before: now,
        after: kept.before.clone(),
        changed: false,
        role: None,
        queue: None,
    };
    if !is_agreed(arguments, &change)? {
        return Ok(Some(change));
    }
    if change.before != change.after {
        set_event_settings(clients, function, kept.before.as_ref())
            .await
            .map_err(|source| of_port("putting back what was there before", source))?;
        change.changed = true;
    }
    kept::forget(store, &key, &etag).await?;
    told(arguments, &format!("{name} has again what it had before"))?;
    Ok(Some(change))
}

async fn find_queue(config: &Config, clients: &Clients) -> Result<String, Failure> {
    let Some(url) = &config.outcome_queue else {
        return Err(Failure::invalid(
            "NoOutcomeQueue",
            "there is no `outcome_queue` in the configuration: write the URL of an SQS queue into it",
        ));
    };
    queue_arn(clients, url).await.map_err(|source| match source {
        PortError::Refused { message, .. } => Failure::failed(
            "OutcomeQueueUnreadable",
            format!(
                "the queue of outcomes, {url}, can't be looked at ({}): correct `outcome_queue`, create the queue, or allow \
                 `sqs:GetQueueAttributes` on it",
                one_line(&message)
            ),
        ),
        source => of_port("looking at the queue of outcomes", source),
    })
}

/// What dispatching counts on.
fn wanted(before: Option<&EventSettings>, destination: Option<&str>) -> EventSettings {
    let kept = before.cloned().unwrap_or_default();
    let destination = destination.map(str::to_owned);
    EventSettings {
        maximum_retry_attempts: Some(0),
        maximum_event_age: Some(EVENT_AGE),
        on_success: destination.clone().or(kept.on_success),
        on_failure: destination.or(kept.on_failure),
    }
}

/// Why Lambda did not take the settings.
fn refused(change: &Change, source: PortError) -> Failure {
    match (&source, &change.role, &change.queue) {
        (PortError::Refused { message, .. }, Some(role), Some(queue)) if message.contains("permission") => {
            Failure::failed(
                "RoleNotAllowed",
                format!(
                    "Lambda does not let {} send to {queue} ({}): allow `sqs:SendMessage` on it to its role, {role}",
                    change.function,
                    one_line(message)
                ),
            )
        }
        _ => of_port("setting the asynchronous invocations of a function", source),
    }
}

/// Shows a change, and whether it is to be made.
fn is_agreed(arguments: &ConnectArguments, change: &Change) -> Result<bool, Failure> {
    if !arguments.wants_json() {
        write_text(change, &mut anstream::stdout().lock())?;
    }
    if arguments.dry_run {
        told(arguments, "nothing was changed")?;
        return Ok(false);
    }
    if arguments.yes {
        return Ok(true);
    }
    let agrees = agrees("change it?")?;
    if !agrees {
        told(arguments, "nothing was changed")?;
    }
    Ok(agrees)
}

fn told(arguments: &ConnectArguments, what: &str) -> io::Result<()> {
    if arguments.wants_json() {
        return Ok(());
    }
    writeln!(anstream::stdout().lock(), "{}", printable(what))
}

fn write_text(change: &Change, out: &mut impl Write) -> io::Result<()> {
    let Change {
        labourer_id,
        function,
        before,
        after,
        role,
        queue,
        ..
    } = change;
    writeln!(
        out,
        "{STRONG}{}{STRONG:#} {}",
        printable(labourer_id),
        printable(function)
    )?;
    let (before, after) = (
        before.clone().unwrap_or_default(),
        after.clone().unwrap_or_default(),
    );
    let number = |value: Option<u32>, default: u32| value.unwrap_or(default).to_string();
    let place = |value: Option<String>| value.unwrap_or_else(|| "nowhere".to_owned());
    let lines = [
        (
            "retries",
            number(before.maximum_retry_attempts, 2),
            number(after.maximum_retry_attempts, 2),
        ),
        (
            "event age",
            number(before.maximum_event_age, 21_600),
            number(after.maximum_event_age, 21_600),
        ),
        ("successes", place(before.on_success), place(after.on_success)),
        ("failures", place(before.on_failure), place(after.on_failure)),
    ];
    for (what, before, after) in lines {
        let (before, after) = (printable(&before).into_owned(), printable(&after).into_owned());
        let value = match before == after {
            true => before,
            false => format!("{before} -> {STRONG}{after}{STRONG:#}"),
        };
        writeln!(out, "  {FAINT}{what:<10}{FAINT:#} {value}")?;
    }
    if let (Some(role), Some(queue)) = (role, queue) {
        let (role, queue) = (printable(role), printable(queue));
        writeln!(
            out,
            "  {FAINT}role      {FAINT:#} {role} needs sqs:SendMessage on it; whether it may is told by"
        )?;
        writeln!(
            out,
            "             aws iam simulate-principal-policy --policy-source-arn {role} --action-names sqs:SendMessage \
             --resource-arns {queue}"
        )?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_labourer_whose_outcomes_come_by_the_queue_gets_new_destinations() {
        let before = EventSettings {
            on_failure: Some("arn:topic".to_owned()),
            ..EventSettings::default()
        };
        let after = wanted(Some(&before), None);
        assert_eq!(
            (after.maximum_retry_attempts, after.maximum_event_age),
            (Some(0), Some(60))
        );
        assert_eq!(
            (after.on_success, after.on_failure),
            (None, before.on_failure.clone())
        );
        let after = wanted(Some(&before), Some("arn:queue"));
        assert_eq!(after.on_success.as_deref(), Some("arn:queue"));
        assert_eq!(after.on_failure.as_deref(), Some("arn:queue"));
    }

    #[test]
    fn where_lambda_finds_that_the_role_may_not_send_the_cure_is_told() {
        let change = Change {
            labourer_id: "report".to_owned(),
            function: "arn:f".to_owned(),
            before: None,
            after: None,
            changed: false,
            role: Some("arn:role".to_owned()),
            queue: Some("arn:queue".to_owned()),
        };
        let source = PortError::Refused {
            operation: "lambda:PutFunctionEventInvokeConfig",
            code: "InvalidParameterValueException".to_owned(),
            message: "The role does not have permissions to call SendMessage".to_owned(),
        };
        let told = format!("{:?}", refused(&change, source));
        assert!(
            told.contains("RoleNotAllowed") && told.contains("to its role, arn:role"),
            "{told}"
        );
    }
}
