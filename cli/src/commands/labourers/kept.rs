//! What a function had before it was connected, kept in the bucket so that it can be put back:
//! `{prefix}/labourers/{name}.json`, written once, and deleted when it is put back.

use bytes::Bytes;
use jobmill_aws::EventSettings;
use jobmill_core::config::Config;
use jobmill_engine::ports::{ETag, Metadata, Object, ObjectStore, PortError, PutIf};
use serde::{Deserialize, Serialize};

use super::of_port;
use crate::failure::Failure;

/// A document larger than this is none of ours, in bytes.
const MAX_BYTES: u64 = 64 << 10;
const VERSION: u32 = 1;

/// The document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    version: u32,
    pub(super) labourer_id: String,
    /// Its function at that time.
    pub(super) function: String,
    /// What was there; none: Lambda's defaults.
    pub(super) before: Option<EventSettings>,
}

impl Kept {
    pub(super) fn new(labourer_id: &str, function: &str, before: Option<EventSettings>) -> Self {
        Self {
            version: VERSION,
            labourer_id: labourer_id.to_owned(),
            function: function.to_owned(),
            before,
        }
    }

    fn parse(key: &str, body: &[u8]) -> Result<Self, Failure> {
        let damaged = |why: String| {
            Failure::failed(
                "DamagedQueue",
                format!(
                    "{key:?} in the bucket is not what this command keeps there ({why}): look at it, and delete it when \
                     nothing is to be put back"
                ),
            )
        };
        let kept: Self = serde_json::from_slice(body).map_err(|error| damaged(error.to_string()))?;
        match kept.version {
            VERSION => Ok(kept),
            version => Err(damaged(format!("version {version}"))),
        }
    }
}

/// Where the document of a labourer is. A name may be anything, so it is not the name of the object but for what is plain.
pub(super) fn key(config: &Config, labourer_id: &str) -> String {
    let mut name = String::new();
    for byte in labourer_id.bytes() {
        match byte.is_ascii_alphanumeric() || b"-_".contains(&byte) {
            true => name.push(char::from(byte)),
            false => name += &format!("%{byte:02X}"),
        }
    }
    config.key(&format!("labourers/{name}.json"))
}

/// What is kept of a labourer.
pub(super) async fn find(store: &impl ObjectStore, key: &str) -> Result<Option<(Kept, ETag)>, Failure> {
    let found = store.get(key, MAX_BYTES).await;
    let Some(Object { body, etag, .. }) =
        found.map_err(|source| of_port("looking for what was there before", source))?
    else {
        return Ok(None);
    };
    Ok(Some((Kept::parse(key, &body)?, etag)))
}

/// Keeps it, if nothing is kept yet.
pub(super) async fn keep(store: &impl ObjectStore, key: &str, kept: &Kept) -> Result<(), Failure> {
    // Plain fields: there is nothing that could fail.
    let body = Bytes::from(serde_json::to_vec(kept).unwrap_or_default());
    let put = store.put(key, body, &Metadata::default(), PutIf::Absent).await;
    put.map(|_| ()).map_err(of_race)
}

/// Forgets it, if it is still the one that was read.
pub(super) async fn forget(store: &impl ObjectStore, key: &str, etag: &ETag) -> Result<(), Failure> {
    store.delete(key, Some(etag)).await.map_err(of_race)
}

fn of_race(source: PortError) -> Failure {
    match source {
        PortError::PreconditionFailed { .. } | PortError::Conflict { .. } => Failure::failed(
            "Conflict",
            "somebody else connects this labourer at the same time: look at it once more",
        ),
        source => of_port("keeping what was there before", source),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_kept_is_read_again_and_nothing_else_is() {
        let settings = EventSettings {
            maximum_retry_attempts: Some(1),
            on_failure: Some("arn:aws:sns:eu-west-1:1:t".to_owned()),
            ..EventSettings::default()
        };
        for before in [None, Some(settings)] {
            let kept = Kept::new("report", "arn:f", before);
            assert_eq!(
                Kept::parse("k", &serde_json::to_vec(&kept).unwrap()).unwrap(),
                kept
            );
        }
        for body in [
            json!(null),
            json!({"version": 2, "labourer_id": "r", "function": "f", "before": null}),
            json!({"version": 1, "labourer_id": "r", "function": "f", "before": null, "more": 1}),
        ] {
            assert!(Kept::parse("k", body.to_string().as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn a_name_never_leads_out_of_the_folder() {
        let text = r#"{"queue_bucket": "b", "s3_prefix": "p", "task_config": {"labourers": {}}}"#;
        let config = Config::parse(text).unwrap();
        assert_eq!(key(&config, "my_report-2"), "p/labourers/my_report-2.json");
        assert_eq!(key(&config, "../a b"), "p/labourers/%2E%2E%2Fa%20b.json");
    }
}
