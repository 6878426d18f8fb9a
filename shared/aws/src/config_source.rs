//! Where a configuration text may lie in the cloud: an object in S3, or an item of sosw's config table.
//! JSON text and `file:` paths are the roots' own affair.

use aws_sdk_dynamodb::types::AttributeValue;
use jobmill_engine::ports::{ObjectStore, PortError};

use crate::clients::Clients;
use crate::error::{of_tables, port_error};
use crate::store::S3Store;

/// Larger than any sane configuration.
const LIMIT: u64 = 4 * 1024 * 1024;

/// A place in the cloud.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigLocation {
    /// `s3://bucket/key`.
    S3 {
        /// The bucket.
        bucket: String,
        /// The whole key.
        key: String,
    },
    /// `dynamodb://TABLE/ENV/NAME`: the attribute `config_value` of the item `env`, `config_name`, as sosw's
    /// `DynamoConfig` (0.7) keeps it.
    DynamoDb {
        /// The table, by name or ARN; sosw's is `config`.
        table: String,
        /// Its `env`, e.g. `production`.
        env: String,
        /// Its `config_name`, e.g. `scheduler_config`.
        name: String,
    },
}

/// Why there is no configuration text.
#[derive(Debug, thiserror::Error)]
pub enum ConfigSourceError {
    /// The location can't be right.
    #[error("config location `{location}` is malformed: write it as {form}")]
    Malformed {
        /// As given.
        location: String,
        /// As it should look.
        form: &'static str,
    },
    /// Nothing is there.
    #[error("config location `{location}` is empty: there is no such {what}")]
    Missing {
        /// The location.
        location: String,
        /// What was looked for.
        what: &'static str,
    },
    /// What is there is no text.
    #[error("config at `{location}` is no text: {problem}")]
    NotText {
        /// The location.
        location: String,
        /// What it is.
        problem: String,
    },
    /// It could not be read.
    #[error("config at `{location}` can't be read: {source}")]
    Unreadable {
        /// The location.
        location: String,
        /// Why.
        source: PortError,
    },
}

impl ConfigLocation {
    const S3_FORM: &'static str = "s3://BUCKET/KEY";
    const DYNAMODB_FORM: &'static str = "dynamodb://TABLE/ENV/NAME";

    /// Reads a location; `None` if `text` begins with neither `s3://` nor `dynamodb://`.
    ///
    /// # Errors
    /// `Malformed` if it begins so but lacks a part.
    pub fn parse(text: &str) -> Result<Option<Self>, ConfigSourceError> {
        let malformed = |form| ConfigSourceError::Malformed {
            location: text.to_owned(),
            form,
        };
        if let Some(rest) = text.strip_prefix("s3://") {
            return match rest.split_once('/') {
                Some((bucket, key)) if !bucket.is_empty() && !key.is_empty() => Ok(Some(Self::S3 {
                    bucket: bucket.to_owned(),
                    key: key.to_owned(),
                })),
                _ => Err(malformed(Self::S3_FORM)),
            };
        }
        let Some(rest) = text.strip_prefix("dynamodb://") else {
            return Ok(None);
        };
        // From the right: the ARN of a table has a slash of its own.
        let mut parts = rest.rsplitn(3, '/').filter(|part| !part.is_empty());
        match (parts.next(), parts.next(), parts.next()) {
            (Some(name), Some(env), Some(table)) if !table.contains('/') || table.starts_with("arn:") => {
                Ok(Some(Self::DynamoDb {
                    table: table.to_owned(),
                    env: env.to_owned(),
                    name: name.to_owned(),
                }))
            }
            _ => Err(malformed(Self::DYNAMODB_FORM)),
        }
    }
}

impl std::fmt::Display for ConfigLocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::S3 { bucket, key } => write!(f, "s3://{bucket}/{key}"),
            Self::DynamoDb { table, env, name } => write!(f, "dynamodb://{table}/{env}/{name}"),
        }
    }
}

/// Reads the configuration text at `location`.
///
/// # Errors
/// `Missing`, `NotText` or `Unreadable`, each with the location.
pub async fn fetch_config(location: &ConfigLocation, clients: &Clients) -> Result<String, ConfigSourceError> {
    let unreadable = |source| ConfigSourceError::Unreadable {
        location: location.to_string(),
        source,
    };
    let missing = |what| ConfigSourceError::Missing {
        location: location.to_string(),
        what,
    };
    let not_text = |problem| ConfigSourceError::NotText {
        location: location.to_string(),
        problem,
    };
    match location {
        ConfigLocation::S3 { bucket, key } => {
            let store = S3Store::new(clients.s3.clone(), bucket);
            let object = store
                .get(key, LIMIT)
                .await
                .map_err(unreadable)?
                .ok_or_else(|| missing("object"))?;
            String::from_utf8(object.body.into()).map_err(|error| not_text(error.to_string()))
        }
        ConfigLocation::DynamoDb { table, env, name } => {
            let client = &clients.dynamodb.retrying;
            let answer = client
                .get_item()
                .table_name(table)
                .key("env", AttributeValue::S(env.clone()))
                .key("config_name", AttributeValue::S(name.clone()))
                .consistent_read(true)
                .send()
                .await
                .map_err(|error| {
                    let error = port_error("dynamodb:GetItem", error);
                    unreadable(of_tables(&format!("{table:?}"), error))
                })?;
            let mut item = answer.item.ok_or_else(|| missing("item"))?;
            match item.remove("config_value") {
                Some(AttributeValue::S(text)) => Ok(text),
                Some(_) => Err(not_text(
                    "its attribute `config_value` is not of type S".to_owned(),
                )),
                None => Err(missing("attribute `config_value`")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_read_and_written_alike() {
        for text in [
            "s3://bucket/a/b.json",
            "dynamodb://config/production/scheduler_config",
            "dynamodb://arn:aws:dynamodb:eu-west-1:1:table/config/dev/x",
        ] {
            let location = ConfigLocation::parse(text).unwrap().unwrap();
            assert_eq!(location.to_string(), text);
        }
        let expected = ConfigLocation::DynamoDb {
            table: "config".into(),
            env: "production".into(),
            name: "x".into(),
        };
        assert_eq!(
            ConfigLocation::parse("dynamodb://config/production/x").unwrap(),
            Some(expected)
        );
    }

    #[test]
    fn other_texts_are_no_location() {
        for text in ["{}", "file:/etc/jobmill.json", "", "S3://bucket/key"] {
            assert_eq!(ConfigLocation::parse(text).unwrap(), None, "{text}");
        }
    }

    #[test]
    fn a_location_that_lacks_a_part_is_refused_with_its_form() {
        for text in ["s3://bucket", "s3://bucket/", "s3:///key"] {
            let error = ConfigLocation::parse(text).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("config location `{text}` is malformed: write it as s3://BUCKET/KEY")
            );
        }
        for text in [
            "dynamodb://config",
            "dynamodb://config/x",
            "dynamodb://a/b/c/d",
            "dynamodb://config//x",
        ] {
            let error = ConfigLocation::parse(text).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("config location `{text}` is malformed: write it as dynamodb://TABLE/ENV/NAME")
            );
        }
    }
}
