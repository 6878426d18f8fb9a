//! `jobmill up`: a local cloud that keeps running, with the scheduler, the orchestrator and workers deployed in it.
//!
//! `deploy` is what stands in the cloud, `ticks` what EventBridge does in an account.

mod deploy;
mod ticks;

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use jobmill_core::config::Config;
use jobmill_local::{LocalCloud, LocalCloudOptions};
use serde_json::{Map, Value, json};

use self::deploy::{Deployed, deploy};
use crate::Environment;
use crate::failure::Failure;
use crate::input::{config_here, find_config, read_text};
use crate::stop::{Signal, Stop};
use crate::terminal::{FAINT, STRONG, printable, warn};
use crate::worker::CommandLine;

/// Where the configuration lies that counts in the cloud, below the folder.
const CONFIG_NAME: &str = "jobmill.json";
/// Locked by the process that uses the folder.
const LOCK_NAME: &str = "lock";

const EXAMPLES: &str = "\
Examples:
  jobmill up --worker report='python3 worker.py'
      the tasks of the labourer report are runs of that command
  jobmill up --data /var/lib/jobmill --port 4600
  jobmill up --format json
      one JSON object as soon as it is up

Then, in another terminal, after the export lines that it prints:

  jobmill run job.json --cloud aws --config .jobmill/jobmill.json
      creates tasks, which are worked off here

It serves on 127.0.0.1 only, and everybody on this machine can use it. SIGINT
(Ctrl-C) and SIGTERM end it; objects and items are there at the next start.

Exit codes: 0 ended by a signal, 1 failed, 2 wrong usage or invalid input.";

/// Arguments of `jobmill up`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct UpArguments {
    /// The configuration; otherwise jobmill.json in the current folder
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Where objects and items are kept; it is made where it is missing
    #[arg(long, value_name = "DIR", default_value = ".jobmill")]
    data: PathBuf,

    /// The port; 0 is any that is free
    #[arg(long, value_name = "PORT", default_value_t = 4600)]
    port: u16,

    /// Tasks of the labourer NAME are runs of this command: payload on standard input, exit code 0 a success
    #[arg(long, value_name = "NAME=CMD", value_parser = parse_worker)]
    worker: Vec<Worker>,

    /// How to show that it is up
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

impl UpArguments {
    pub(crate) fn wants_json(&self) -> bool {
        self.format == Format::Json
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Sentences, and lines for a shell
    Text,
    /// One JSON object
    Json,
}

/// A command for the tasks of a labourer.
#[derive(Debug, Clone)]
struct Worker {
    labourer_id: String,
    command: String,
}

fn parse_worker(text: &str) -> Result<Worker, String> {
    let (labourer_id, command) = text
        .split_once('=')
        .ok_or("write the labourer and its command, such as report='python3 worker.py'")?;
    // Whether it is one.
    CommandLine::parse(command).map_err(|why| why.to_string())?;
    Ok(Worker {
        labourer_id: labourer_id.to_owned(),
        command: command.to_owned(),
    })
}

/// Keeps the cloud running.
pub(crate) fn execute(arguments: &UpArguments, environment: &Environment) -> Result<(), Failure> {
    let config = config_here(arguments.config.as_deref())?;
    for worker in &arguments.worker {
        config.check_labourer(&worker.labourer_id).map_err(|error| {
            let sentence = error
                .sentence
                .replacen("`lambda_name`", "the NAME of --worker", 1);
            Failure::invalid(error.kind.name(), sentence)
        })?;
    }
    let path = arguments
        .config
        .clone()
        .or_else(|| find_config(None))
        .unwrap_or_default();
    let text = read_text("the configuration", &path)?;
    let data = open_data(&arguments.data)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed("RuntimeFailed", format!("no threads can be had: {error}")))?;
    runtime.block_on(async {
        let stop = listen().map_err(|error| {
            Failure::failed("SignalsFailed", format!("signals can't be listened to: {error}"))
        })?;
        let options = LocalCloudOptions::default()
            .port(arguments.port)
            .folder(&data.folder);
        let cloud = LocalCloud::start(options)
            .await
            .map_err(|error| not_started(&error.to_string(), arguments.port))?;
        let deployed = deploy(&cloud, &config, &text, &data.folder, arguments, environment)?;
        show(arguments, &cloud, &data.folder, &deployed)?;
        ticks::run(&cloud, &deployed.config, &stop).await;
        // The instances of functions see that this process is gone, and end what they have begun. Dropped, the cloud would
        // kill them, and leave what they have begun alone.
        std::process::exit(0)
    })
}

/// The folder, which is this process's alone as long as the file is open.
struct Data {
    folder: PathBuf,
    _lock: File,
}

fn open_data(folder: &Path) -> Result<Data, Failure> {
    let unusable = |error: io::Error| {
        Failure::failed(
            "LocalCloudFailed",
            format!("the folder {} can't be used: {error}", folder.display()),
        )
    };
    std::fs::create_dir_all(folder).map_err(unusable)?;
    let folder = folder.canonicalize().map_err(unusable)?;
    let lock = File::create(folder.join(LOCK_NAME)).map_err(unusable)?;
    if lock.try_lock().is_err() {
        return Err(Failure::failed(
            "LocalCloudFailed",
            format!(
                "another `jobmill up` uses {}: end it, or name another folder with --data",
                folder.display()
            ),
        ));
    }
    Ok(Data { folder, _lock: lock })
}

fn not_started(why: &str, port: u16) -> Failure {
    let sentence =
        format!("{why} (port {port}): name another one with --port, or look at the folder of --data");
    Failure::failed("LocalCloudFailed", sentence)
}

fn listen() -> io::Result<Stop> {
    let told = |signal: Signal| {
        writeln!(
            anstream::stderr().lock(),
            "{FAINT}{}: the local cloud ends{FAINT:#}",
            signal.name()
        )
        .ok();
    };
    Stop::listen(told, |_| {})
}

fn show(
    arguments: &UpArguments,
    cloud: &LocalCloud,
    folder: &Path,
    deployed: &Deployed,
) -> Result<(), Failure> {
    warn(&deployed.warnings);
    let mut environment = cloud.environment();
    let config_path = folder.join(CONFIG_NAME);
    environment.push((
        "JOBMILL_CONFIG".to_owned(),
        format!("file:{}", config_path.display()),
    ));
    if arguments.wants_json() {
        let variables: Map<String, Value> = environment
            .into_iter()
            .map(|(name, value)| (name, value.into()))
            .collect();
        let document = json!({
            "endpoint": cloud.endpoint(),
            "data": folder.display().to_string(),
            "config": config_path.display().to_string(),
            "functions": deployed.functions,
            "environment": variables,
            "warnings": deployed.warnings,
        });
        let mut out = io::stdout().lock();
        writeln!(out, "{document:#}")?;
        return Ok(out.flush()?);
    }
    let mut out = anstream::stdout().lock();
    writeln!(
        out,
        "{STRONG}the local cloud is up at {}{STRONG:#}",
        cloud.endpoint()
    )?;
    let mut line =
        |what: &str, value: &str| writeln!(out, "  {FAINT}{what:<10}{FAINT:#} {}", printable(value));
    line("data", &folder.display().to_string())?;
    line("functions", &deployed.functions.join(", "))?;
    writeln!(out)?;
    for (name, value) in environment {
        let value = shlex::try_quote(&value).map_or_else(|_| value.clone(), |quoted| quoted.into_owned());
        writeln!(out, "export {name}={}", printable(&value))?;
    }
    Ok(out.flush()?)
}

/// The configuration as it counts in the cloud.
fn read_again(text: &str) -> Result<Config, Failure> {
    Ok(Config::parse(text).map_err(jobmill_core::Error::from)?)
}
