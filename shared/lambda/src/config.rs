//! The configuration of the function: found by `JOBMILL_CONFIG`, read once per sandbox.

use jobmill_aws::{Clients, ConfigLocation, ConfigSourceError, fetch_config};
use jobmill_core::config::Config;
use jobmill_core::{Error, ErrorKind};
use tokio::sync::OnceCell;

use crate::handler::Failure;

/// The configuration, as soon as it could be read. What failed is tried again by the next invocation, so that a
/// corrected configuration needs no new deployment and a service that was away no new sandbox.
pub(crate) struct ConfigCell {
    source: Option<String>,
    config: OnceCell<Config>,
}

impl ConfigCell {
    pub(crate) fn new(source: Option<String>) -> Self {
        Self {
            source,
            config: OnceCell::new(),
        }
    }

    pub(crate) async fn get(&self, clients: &Clients) -> Result<&Config, Failure> {
        self.config.get_or_try_init(|| self.load(clients)).await
    }

    async fn load(&self, clients: &Clients) -> Result<Config, Failure> {
        let text = self.text(clients).await?;
        let config = Config::parse(&text).map_err(|problems| {
            for problem in &problems {
                tracing::error!("{problem}");
            }
            Failure::from(Config::error(&problems))
        })?;
        for warning in &config.warnings {
            tracing::warn!(r#type = warning.kind.name(), path = warning.path, "{warning}");
        }
        Ok(config)
    }

    async fn text(&self, clients: &Clients) -> Result<String, Failure> {
        let source = match self.source.as_deref().map(str::trim) {
            Some(source) if !source.is_empty() => source,
            _ => return Err(invalid("`JOBMILL_CONFIG` is not set".to_owned())),
        };
        if source.starts_with('{') {
            return Ok(source.to_owned());
        }
        if let Some(path) = source.strip_prefix("file:") {
            return std::fs::read_to_string(path).map_err(|error| {
                invalid(format!(
                    "`JOBMILL_CONFIG` names the file {path:?}, which can't be read ({error})"
                ))
            });
        }
        let location = ConfigLocation::parse(source).map_err(|error| invalid(error.to_string()))?;
        let Some(location) = location else {
            return Err(invalid("`JOBMILL_CONFIG` is of no known form".to_owned()));
        };
        fetch_config(&location, clients)
            .await
            .map_err(|error| match error {
                ConfigSourceError::Unreadable { source, .. } => {
                    Failure::of_service("reading the configuration", source)
                }
                other => invalid(other.to_string()),
            })
    }
}

fn invalid(why: String) -> Failure {
    let forms = "set it to JSON text, file:PATH, s3://BUCKET/KEY or dynamodb://TABLE/ENV/NAME";
    Failure::from(Error::new(ErrorKind::InvalidConfig, format!("{why}: {forms}")))
}
