//! The configuration of the function: found by `JOBMILL_CONFIG`, read once per sandbox.

use jobmill_aws::{Clients, ConfigLocation, ConfigSourceError, fetch_config};
use jobmill_core::config::Config;
use jobmill_core::{Error, ErrorKind};
use tokio::sync::OnceCell;

use crate::failure::Failure;

/// The configuration, as soon as it could be read. What failed is tried again by the next invocation, so that a
/// corrected configuration needs no new deployment and a service that was away no new sandbox.
#[derive(Debug)]
pub struct ConfigCell {
    source: Option<String>,
    config: OnceCell<Config>,
}

impl ConfigCell {
    /// `source` is what `JOBMILL_CONFIG` says: JSON text, `file:PATH`, `s3://BUCKET/KEY` or `dynamodb://TABLE/ENV/NAME`.
    pub fn new(source: Option<String>) -> Self {
        Self {
            source,
            config: OnceCell::new(),
        }
    }

    /// The configuration.
    ///
    /// # Errors
    /// `InvalidConfig` if it can't be right, or what hindered reading it; the next call tries again.
    pub async fn get(&self, clients: &Clients) -> Result<&Config, Failure> {
        self.config.get_or_try_init(|| self.load(clients)).await
    }

    async fn load(&self, clients: &Clients) -> Result<Config, Failure> {
        let text = self.text(clients).await?;
        let config = Config::parse(&text).map_err(|refused| {
            for problem in &refused.problems {
                tracing::error!(path = problem.path, "{problem}");
            }
            for warning in &refused.warnings {
                tracing::warn!(r#type = warning.kind.name(), path = warning.path, "{warning}");
            }
            Failure::from(Error::from(refused))
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

#[cfg(test)]
mod tests {
    use jobmill_aws::ClientOptions;

    use super::*;

    const GOOD: &str = r#"{"queue_bucket": "b", "task_config": {"labourers": {"w": {}}}}"#;

    fn nobody() -> Clients {
        Clients::at_endpoint("http://127.0.0.1:1", ClientOptions::default())
    }

    #[tokio::test]
    async fn a_configuration_that_was_mended_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jobmill.json");
        let cell = ConfigCell::new(Some(format!("file:{}", path.display())));
        let clients = nobody();
        let failure = cell.get(&clients).await.unwrap_err();
        assert_eq!(failure.error_type(), "InvalidConfig");
        assert!(failure.to_string().contains("jobmill.json"), "{failure}");
        std::fs::write(&path, "{}").unwrap();
        let failure = cell.get(&clients).await.unwrap_err();
        assert!(failure.to_string().contains("queue_bucket"), "{failure}");
        std::fs::write(&path, GOOD).unwrap();
        assert_eq!(cell.get(&clients).await.unwrap().queue_bucket, "b");
        std::fs::write(&path, "{}").unwrap();
        assert!(cell.get(&clients).await.is_ok(), "read once");
    }

    #[tokio::test]
    async fn a_source_of_no_known_form_is_refused_with_the_forms() {
        for source in [None, Some(""), Some("jobmill.json"), Some("s3://bucket")] {
            let failure = ConfigCell::new(source.map(str::to_owned))
                .get(&nobody())
                .await
                .unwrap_err();
            assert_eq!(failure.error_type(), "InvalidConfig");
            assert!(
                failure.to_string().contains("dynamodb://TABLE/ENV/NAME"),
                "{failure}"
            );
        }
    }
}
