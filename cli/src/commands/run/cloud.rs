//! The clouds that a run can go to: the clients of one, and what must live as long as they are used.

use clap::ValueEnum;
use jobmill_aws::{ClientOptions, Clients};
use jobmill_core::config::Config;
use jobmill_engine::EngineError;
use jobmill_engine::ports::PortError;
use jobmill_local::{FunctionSpec, LocalCloud, LocalCloudOptions, LocalError};

use crate::failure::Failure;
use crate::terminal::one_line;

/// Where to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Cloud {
    /// S3, DynamoDB and Lambda in this process; gone when it ends
    Local,
    /// The account or endpoint of the environment
    Aws,
}

/// A cloud that answers.
pub(super) struct Opened {
    pub(super) clients: Clients,
    /// Stops when dropped.
    local: Option<LocalCloud>,
}

impl Opened {
    /// Deploys a function in the local cloud.
    pub(super) fn deploy(&self, function: FunctionSpec) {
        if let Some(local) = &self.local {
            local.register_function(function);
        }
    }
}

impl Cloud {
    /// Whether what a run has done outlives this process.
    pub(super) const fn outlives_process(self) -> bool {
        matches!(self, Self::Aws)
    }

    /// Makes it ready.
    pub(super) async fn open(self, config: &Config) -> Result<Opened, Failure> {
        match self {
            Self::Aws => Ok(Opened {
                clients: Clients::from_environment(ClientOptions::default())
                    .await
                    .map_err(unconnected)?,
                local: None,
            }),
            Self::Local => {
                let cloud = start_local(config)
                    .await
                    .map_err(|error| Failure::failed("LocalCloudFailed", error.to_string()))?;
                Ok(Opened {
                    clients: Clients::at_endpoint(cloud.endpoint(), ClientOptions::default()),
                    local: Some(cloud),
                })
            }
        }
    }
}

/// Nothing was begun: the sentence of the error is all there is to say.
fn unconnected(source: PortError) -> Failure {
    let sentence = one_line(&source.to_string());
    let step = "connecting to AWS";
    Failure::failed(EngineError::Port { step, source }.error_type(), sentence)
}

/// A local cloud with the bucket and the tables of a configuration.
async fn start_local(config: &Config) -> Result<LocalCloud, LocalError> {
    let cloud = LocalCloud::start(LocalCloudOptions::default()).await?;
    cloud.create_bucket(&config.queue_bucket);
    cloud.create_task_tables(&config.tables)?;
    Ok(cloud)
}
