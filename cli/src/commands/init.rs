//! `jobmill init`: a configuration and a first job to begin with. Nothing is ever overwritten.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use jobmill_core::config::{self, Config};
use jobmill_core::job::json_schema::{job_schema, job_schema_for};
use serde_json::Value;

use crate::failure::Failure;
use crate::terminal::{FAINT, STRONG, printable};

const EXAMPLES: &str = "\
Examples:
  jobmill init
  jobmill init jobs/nightly

Writes jobmill.json, job.json, jobmill.md, which explains their keys, and JSON
Schemas, by which editors complete and check them. A file that is there already
is never overwritten.

Exit codes: 0 done, 1 failed, 2 wrong usage, or one of the files is there.";

const CONFIG: &str = include_str!("init/jobmill.json");
const JOB: &str = include_str!("init/job.json");
const PAGE: &str = include_str!("init/jobmill.md");

/// The folder of the JSON Schemas, beside the other files.
const SCHEMAS: &str = "schemas";

/// The files, by name.
fn files() -> [(&'static str, String); 5] {
    let pretty = |schema: Value| format!("{schema:#}\n");
    let job_schema = Config::parse(CONFIG).map_or_else(|_| job_schema(), |config| job_schema_for(&config));
    [
        ("jobmill.json", CONFIG.to_owned()),
        ("job.json", JOB.to_owned()),
        ("jobmill.md", PAGE.to_owned()),
        ("schemas/config.schema.json", pretty(config::json_schema())),
        ("schemas/job.schema.json", pretty(job_schema)),
    ]
}

/// Arguments of `jobmill init`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct InitArguments {
    /// The folder to write to; it is made where it is missing
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
}

/// Writes the files.
pub(crate) fn execute(arguments: &InitArguments) -> Result<(), Failure> {
    let folder = &arguments.folder;
    let files = files();
    let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
    let there: Vec<&str> = names
        .iter()
        .copied()
        .filter(|name| folder.join(name).symlink_metadata().is_ok())
        .collect();
    if !there.is_empty() {
        let verb = if there.len() == 1 { "is" } else { "are" };
        return Err(Failure::invalid(
            "FileExists",
            format!(
                "{} {verb} in {} already, and nothing is overwritten: name another folder",
                listed(&there),
                folder.display()
            ),
        ));
    }
    let failed = |path: &Path, error: io::Error| {
        Failure::failed(
            "OutputFailed",
            format!("{} can't be written: {error}", path.display()),
        )
    };
    for folder in [folder.clone(), folder.join(SCHEMAS)] {
        fs::create_dir_all(&folder).map_err(|error| failed(&folder, error))?;
    }
    for (name, text) in files {
        let path = folder.join(name);
        File::create_new(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| failed(&path, error))?;
    }
    Ok(write_next_steps(folder, &names, &mut anstream::stdout().lock())?)
}

fn write_next_steps(folder: &Path, names: &[&str], out: &mut impl Write) -> io::Result<()> {
    let folder = folder.display().to_string();
    writeln!(
        out,
        "{STRONG}{} are written to {}{STRONG:#}",
        listed(names),
        printable(&folder)
    )?;
    writeln!(out, "\n  {FAINT}next{FAINT:#}")?;
    if folder != "." {
        writeln!(out, "  cd {}", printable(&folder))?;
    }
    for (command, what) in [
        ("jobmill plan job.json", "what the job would become"),
        (
            "jobmill run job.json --out tasks.jsonl",
            "its tasks, in a local cloud",
        ),
        ("jobmill check", "after each change of jobmill.json"),
    ] {
        writeln!(out, "  {command:<40} {FAINT}{what}{FAINT:#}")?;
    }
    out.flush()
}

/// `a, b and c`.
fn listed(names: &[&str]) -> String {
    match names {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        _ => names.concat(),
    }
}
