//! What stands in the cloud: bucket, tables, queue, functions, and the configuration that names them.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::Duration;

use jobmill_core::config::Config;
use jobmill_core::job::fields::function_name;
use jobmill_local::{FunctionSpec, LocalCloud};
use serde_json::{Map, Value};

use super::{CONFIG_NAME, UpArguments, read_again};
use crate::Environment;
use crate::failure::Failure;

pub(super) const SCHEDULER: &str = "scheduler";
pub(super) const ORCHESTRATOR: &str = "orchestrator";
const QUEUE: &str = "outcomes";
/// As long as Lambda lets a function run.
const LONGEST: Duration = Duration::from_secs(900);
/// A worker may run so long where its labourer has no `max_duration`: so long its answer is waited for.
const LONGEST_WORKER: Duration = Duration::from_secs(300);

/// What was deployed.
pub(super) struct Deployed {
    pub(super) config: Config,
    pub(super) functions: Vec<String>,
    pub(super) warnings: Vec<String>,
}

/// Deploys everything.
pub(super) fn deploy(
    cloud: &LocalCloud,
    config: &Config,
    text: &str,
    folder: &Path,
    arguments: &UpArguments,
    environment: &Environment,
) -> Result<Deployed, Failure> {
    let failed = |why: String| Failure::failed("LocalCloudFailed", why);
    cloud.create_bucket(&config.queue_bucket);
    cloud
        .create_task_tables(&config.tables)
        .map_err(|error| failed(error.to_string()))?;
    let queue = cloud.create_queue(QUEUE);
    let text = derived(config, text, &queue, arguments)?;
    let config = read_again(&text)?;
    let path = folder.join(CONFIG_NAME);
    std::fs::write(&path, text)
        .map_err(|error| failed(format!("{} can't be written: {error}", path.display())))?;
    let binary = std::env::current_exe()
        .map_err(|error| failed(format!("this program does not find itself: {error}")))?;
    let function = |name: &str, args: &[&str], timeout: Duration| {
        let spec = FunctionSpec::new(name, &binary).args(args).timeout(timeout);
        let inherited = environment
            .variables
            .iter()
            .filter(|(name, _)| is_inherited(name));
        let spec = inherited.fold(spec, |spec, (name, value)| spec.env(name, value));
        let location: OsString = [OsStr::new("file:"), path.as_os_str()].into_iter().collect();
        spec.env("JOBMILL_CONFIG", location)
            .env("JOBMILL_ORCHESTRATOR", ORCHESTRATOR)
    };
    let mut functions = vec![SCHEDULER.to_owned(), ORCHESTRATOR.to_owned()];
    for name in [SCHEDULER, ORCHESTRATOR] {
        cloud.register_function(function(name, &["bootstrap", name], LONGEST));
    }
    for worker in &arguments.worker {
        let Some(labourer) = config.labourers.get(&worker.labourer_id) else {
            continue;
        };
        let arn = labourer.arn.as_deref().unwrap_or(&worker.labourer_id);
        let name = function_name(arn).unwrap_or(arn);
        if functions.iter().any(|known| known == name) {
            return Err(Failure::invalid(
                "Usage",
                format!(
                    "there are two functions {name:?}: the labourer {} needs another `arn`",
                    worker.labourer_id
                ),
            ));
        }
        let timeout = labourer.max_duration.unwrap_or(LONGEST_WORKER);
        let spec = function(name, &["bootstrap", "worker", "--", &worker.command], timeout);
        cloud.register_function(spec.max_concurrency(labourer.max_simultaneous as usize));
        functions.push(name.to_owned());
    }
    let has_worker = |id: &String| arguments.worker.iter().any(|worker| worker.labourer_id == *id);
    let without = config.labourers.keys().filter(|id| !has_worker(id));
    let warnings = without.map(|id| format!("nobody does the tasks of {id}: give --worker {id}=CMD"));
    Ok(Deployed {
        warnings: warnings.collect(),
        config,
        functions,
    })
}

/// Whether functions get that variable, too. Those by which programs find a cloud are the cloud's.
fn is_inherited(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    !["AWS_", "JOBMILL_", "_"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// The configuration with what is different here: the queue of outcomes, and functions of labourers that name none.
fn derived(config: &Config, text: &str, queue: &str, arguments: &UpArguments) -> Result<String, Failure> {
    let odd = || {
        Failure::invalid(
            "InvalidConfig",
            "the configuration has no `task_config.labourers` to deploy workers for",
        )
    };
    let mut document: Map<String, Value> = serde_json::from_str(text).map_err(|_| odd())?;
    document.insert("outcome_queue".to_owned(), queue.into());
    for worker in &arguments.worker {
        let id = &worker.labourer_id;
        if config
            .labourers
            .get(id)
            .is_some_and(|labourer| labourer.arn.is_some())
        {
            continue;
        }
        let labourer = document
            .get_mut("task_config")
            .and_then(|tasks| tasks.get_mut("labourers"))
            .and_then(|labourers| labourers.get_mut(id))
            .and_then(Value::as_object_mut);
        labourer
            .ok_or_else(odd)?
            .insert("arn".to_owned(), id.as_str().into());
    }
    Ok(format!("{:#}", Value::Object(document)))
}
