//! The object store on S3: conditional writes, ranged reads, uploads in parts.
//! Needs strong consistency, `If-Match` and `If-None-Match` on writes, and a `Date` header, as S3 gives them.
//!
//! Permissions: `s3:GetObject`, `s3:PutObject`, `s3:DeleteObject`, `s3:AbortMultipartUpload` on the objects and
//! `s3:ListBucket` on the bucket, without which S3 answers 403 for an object that is not there.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{Config, ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::{BoxError, ProvideErrorMetadata};
use aws_sdk_s3::primitives::{ByteStream, DateTime, DateTimeFormat};
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::timeout::TimeoutConfig;
use bytes::{Bytes, BytesMut};
use jobmill_engine::ports::{
    ETag, Metadata, OBJECT_TOO_LARGE, Object, ObjectHead, ObjectStore, PortError, PortResult, PutIf,
};

use crate::clients::{ATTEMPTS, BULK_ATTEMPT, BULK_OPERATION};
use crate::error::{of_bucket, port_error, refused};

/// Bodies from this size on get the time-outs of a bulk request.
const BULK: usize = 512 * 1024;
/// No object reaches that far, and no store counts further.
const FURTHEST: u64 = i64::MAX.unsigned_abs();
/// As many keys as S3 lists at once.
const PAGE: i32 = 1000;

/// One bucket.
#[derive(Debug, Clone)]
pub struct S3Store {
    client: aws_sdk_s3::Client,
    bucket: String,
}

/// An upload in parts, under way. One that is neither completed nor aborted costs storage until a lifecycle rule of
/// the bucket ends it.
#[derive(Debug)]
pub struct S3Upload {
    key: String,
    id: String,
    parts: Vec<CompletedPart>,
}

/// The body of an answer broke off, or was larger than allowed.
enum BodyError {
    Broken(String),
    TooLarge,
}

impl S3Store {
    /// The bucket of that name.
    pub fn new(client: aws_sdk_s3::Client, bucket: impl Into<String>) -> Self {
        Self {
            client,
            bucket: bucket.into(),
        }
    }

    fn error<E>(&self, operation: &'static str, error: SdkError<E, HttpResponse>) -> PortError
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let region = error
            .raw_response()
            .and_then(|answer| answer.headers().get("x-amz-bucket-region"))
            .map(str::to_owned);
        of_bucket(&self.bucket, region.as_deref(), port_error(operation, error))
    }
}

impl ObjectStore for S3Store {
    type Upload = S3Upload;

    async fn get(&self, key: &str, limit: u64) -> PortResult<Option<Object>> {
        const OPERATION: &str = "s3:GetObject";
        let mut attempt = 1;
        loop {
            let date = AnswerDate::default();
            let answer = self.client.get_object().bucket(&self.bucket).key(key).customize();
            let answer = match answer.interceptor(date.clone()).send().await {
                Ok(answer) => answer,
                Err(error) if error.code() == Some("NoSuchKey") => return Ok(None),
                Err(error) => return Err(self.error(OPERATION, error)),
            };
            let too_large = || {
                refused(
                    OPERATION,
                    OBJECT_TOO_LARGE,
                    format!("{key} has more than {limit} bytes"),
                )
            };
            let size = answer.content_length().and_then(|size| u64::try_from(size).ok());
            if size.is_some_and(|size| size > limit) {
                return Err(too_large());
            }
            let age = date.age(OPERATION, answer.last_modified())?;
            let etag = etag(OPERATION, answer.e_tag)?;
            match read_body(answer.body, size, limit).await {
                Ok(body) => return Ok(Some(Object { body, etag, age })),
                Err(BodyError::TooLarge) => return Err(too_large()),
                Err(BodyError::Broken(message)) if attempt == ATTEMPTS => {
                    return Err(PortError::Unknown {
                        operation: OPERATION,
                        message,
                    });
                }
                Err(BodyError::Broken(_)) => attempt += 1,
            }
        }
    }

    async fn get_range(&self, key: &str, offset: u64, length: u64) -> PortResult<Option<Bytes>> {
        const OPERATION: &str = "s3:GetObject";
        if length == 0 {
            return Ok(self.head(key).await?.map(|_| Bytes::new()));
        }
        let last = offset.saturating_add(length - 1);
        let range = format!("bytes={}-{}", offset.min(FURTHEST), last.min(FURTHEST));
        let mut attempt = 1;
        loop {
            let answer = self
                .client
                .get_object()
                .bucket(&self.bucket)
                .key(key)
                .range(&range)
                .customize();
            let answer = match answer.config_override(bulk()).send().await {
                Ok(answer) => answer,
                Err(error) if error.code() == Some("NoSuchKey") => return Ok(None),
                Err(error) if error.code() == Some("InvalidRange") => return Ok(Some(Bytes::new())),
                Err(error) => return Err(self.error(OPERATION, error)),
            };
            if answer.content_range().is_none() {
                return Err(refused(
                    OPERATION,
                    "RangeIgnored",
                    "the store sent the whole object instead of a range",
                ));
            }
            let size = answer.content_length().and_then(|size| u64::try_from(size).ok());
            match read_body(answer.body, size, length).await {
                Ok(body) => return Ok(Some(body)),
                Err(BodyError::TooLarge) => {
                    return Err(refused(
                        OPERATION,
                        "RangeIgnored",
                        "the store sent more than the range",
                    ));
                }
                Err(BodyError::Broken(message)) if attempt == ATTEMPTS => {
                    return Err(PortError::Unknown {
                        operation: OPERATION,
                        message,
                    });
                }
                Err(BodyError::Broken(_)) => attempt += 1,
            }
        }
    }

    async fn head(&self, key: &str) -> PortResult<Option<ObjectHead>> {
        const OPERATION: &str = "s3:HeadObject";
        let date = AnswerDate::default();
        let answer = self
            .client
            .head_object()
            .bucket(&self.bucket)
            .key(key)
            .customize();
        let answer = match answer.interceptor(date.clone()).send().await {
            Ok(answer) => answer,
            Err(error) if error.as_service_error().is_some_and(|error| error.is_not_found()) => {
                return Ok(None);
            }
            Err(error) => return Err(self.error(OPERATION, error)),
        };
        Ok(Some(ObjectHead {
            age: date.age(OPERATION, answer.last_modified())?,
            etag: etag(OPERATION, answer.e_tag)?,
            metadata: answer.metadata.unwrap_or_default().into_iter().collect(),
        }))
    }

    async fn put(&self, key: &str, body: Bytes, metadata: &Metadata, condition: PutIf) -> PortResult<ETag> {
        const OPERATION: &str = "s3:PutObject";
        let timeouts = if body.len() < BULK {
            Config::builder()
        } else {
            bulk()
        };
        let request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .set_metadata(user_metadata(metadata))
            .body(ByteStream::from(body));
        let (request, replaces) = match condition {
            PutIf::Absent => (request.if_none_match("*"), false),
            PutIf::Matches(ETag(etag)) => (request.if_match(etag), true),
        };
        match request.customize().config_override(timeouts).send().await {
            Ok(answer) => etag(OPERATION, answer.e_tag),
            // S3 answers `If-Match` on an object that is not there with 404.
            Err(error) if replaces && error.code() == Some("NoSuchKey") => {
                Err(PortError::PreconditionFailed { operation: OPERATION })
            }
            Err(error) => Err(self.error(OPERATION, error)),
        }
    }

    async fn begin_upload(&self, key: &str, metadata: &Metadata) -> PortResult<S3Upload> {
        const OPERATION: &str = "s3:CreateMultipartUpload";
        let request = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(key);
        let answer = request
            .set_metadata(user_metadata(metadata))
            .send()
            .await
            .map_err(|error| self.error(OPERATION, error))?;
        let id = answer
            .upload_id
            .ok_or_else(|| refused(OPERATION, "MissingUploadId", "the store did not name the upload"))?;
        Ok(S3Upload {
            key: key.to_owned(),
            id,
            parts: Vec::new(),
        })
    }

    async fn upload_part(&self, upload: &mut S3Upload, body: Bytes) -> PortResult<()> {
        const OPERATION: &str = "s3:UploadPart";
        let number = i32::try_from(upload.parts.len() + 1)
            .map_err(|_| refused(OPERATION, "TooManyParts", "an upload has at most 10,000 parts"))?;
        let answer = self
            .client
            .upload_part()
            .bucket(&self.bucket)
            .key(&upload.key)
            .upload_id(&upload.id)
            .part_number(number)
            .body(ByteStream::from(body))
            .customize()
            .config_override(bulk())
            .send()
            .await
            .map_err(|error| self.error(OPERATION, error))?;
        let ETag(etag) = etag(OPERATION, answer.e_tag)?;
        upload
            .parts
            .push(CompletedPart::builder().part_number(number).e_tag(etag).build());
        Ok(())
    }

    async fn complete_upload(&self, upload: S3Upload) -> PortResult<ETag> {
        const OPERATION: &str = "s3:CompleteMultipartUpload";
        let parts = CompletedMultipartUpload::builder()
            .set_parts(Some(upload.parts))
            .build();
        let answer = self
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(upload.key)
            .upload_id(upload.id)
            .multipart_upload(parts)
            .if_none_match("*")
            .customize()
            .config_override(bulk())
            .send()
            .await;
        match answer {
            Ok(answer) => etag(OPERATION, answer.e_tag),
            // The upload is gone: an earlier attempt of this request may have completed it.
            Err(error) if error.code() == Some("NoSuchUpload") => Err(PortError::Unknown {
                operation: OPERATION,
                message: "the upload is no longer there".to_owned(),
            }),
            Err(error) => Err(self.error(OPERATION, error)),
        }
    }

    async fn abort_upload(&self, upload: S3Upload) -> PortResult<()> {
        let request = self.client.abort_multipart_upload().bucket(&self.bucket);
        match request.key(upload.key).upload_id(upload.id).send().await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("NoSuchUpload") => Ok(()),
            Err(error) => Err(self.error("s3:AbortMultipartUpload", error)),
        }
    }

    async fn delete(&self, key: &str, only: Option<&ETag>) -> PortResult<()> {
        const OPERATION: &str = "s3:DeleteObject";
        let request = self.client.delete_object().bucket(&self.bucket).key(key);
        let error = match request
            .set_if_match(only.map(|ETag(etag)| etag.clone()))
            .send()
            .await
        {
            Ok(_) => return Ok(()),
            Err(error) if error.code() == Some("NoSuchKey") => return Ok(()),
            Err(error) => self.error(OPERATION, error),
        };
        // A condition on an object that is not there fails too in some stores (and after a repeated attempt): gone
        // is gone.
        if matches!(error, PortError::PreconditionFailed { .. }) && self.head(key).await?.is_none() {
            return Ok(());
        }
        Err(error)
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> PortResult<Vec<String>> {
        const OPERATION: &str = "s3:ListBucket";
        let mut next = None;
        loop {
            let request = self
                .client
                .list_objects_v2()
                .bucket(&self.bucket)
                .prefix(prefix)
                .max_keys(PAGE);
            let answer = request
                .set_start_after(after.map(str::to_owned))
                .set_continuation_token(next)
                .send()
                .await
                .map_err(|error| self.error(OPERATION, error))?;
            let listed: Vec<String> = answer
                .contents
                .unwrap_or_default()
                .into_iter()
                .filter_map(|object| object.key)
                .collect();
            // An empty page that is not the last one is allowed by the API, but means the end to the engine.
            next = answer.next_continuation_token;
            if !listed.is_empty() || next.is_none() {
                return Ok(listed);
            }
        }
    }
}

/// The `Date` header of an answer, which the SDK's outputs leave out: the store's own clock beside `Last-Modified`.
/// With several attempts that of the last one counts.
#[derive(Debug, Clone, Default)]
struct AnswerDate(Arc<Mutex<Option<String>>>);

impl AnswerDate {
    /// `Date` minus `Last-Modified`. No local clock can stand in for either: the age decides about leases.
    fn age(&self, operation: &'static str, last_modified: Option<&DateTime>) -> PortResult<Duration> {
        let date = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let date = date.ok_or_else(|| {
            refused(
                operation,
                "MissingDate",
                "the store's answer has no Date header, so ages can't be known",
            )
        })?;
        let date = parse_date(&date).map_err(|error| {
            refused(
                operation,
                "InvalidDate",
                format!("the store's Date header `{date}` can't be read: {error}"),
            )
        })?;
        let last_modified = last_modified.ok_or_else(|| {
            refused(
                operation,
                "MissingLastModified",
                "the store's answer has no Last-Modified header",
            )
        })?;
        Ok(Duration::from_secs(
            u64::try_from(date.secs() - last_modified.secs()).unwrap_or_default(),
        ))
    }
}

impl Intercept for AnswerDate {
    fn name(&self) -> &'static str {
        "AnswerDate"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date").map(str::to_owned);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = date;
        Ok(())
    }
}

/// Reads an HTTP date (`Thu, 21 Nov 2024 12:00:00 GMT`).
fn parse_date(text: &str) -> Result<DateTime, impl Display> {
    DateTime::from_str(text, DateTimeFormat::HttpDate)
}

/// Time-outs for requests that carry some MiB; the rest of the configuration stays.
fn bulk() -> aws_sdk_s3::config::Builder {
    let timeouts = TimeoutConfig::builder();
    Config::builder().timeout_config(
        timeouts
            .operation_attempt_timeout(BULK_ATTEMPT)
            .operation_timeout(BULK_OPERATION)
            .build(),
    )
}

/// Reads a body of at most `limit` bytes. The SDK's time-outs end with the headers, so there is one here.
async fn read_body(body: ByteStream, size: Option<u64>, limit: u64) -> Result<Bytes, BodyError> {
    let read = read_chunks(body, size, limit);
    match tokio::time::timeout(BULK_ATTEMPT, read).await {
        Ok(result) => result,
        Err(_) => Err(BodyError::Broken(format!(
            "the body took longer than {} s",
            BULK_ATTEMPT.as_secs()
        ))),
    }
}

async fn read_chunks(mut body: ByteStream, size: Option<u64>, limit: u64) -> Result<Bytes, BodyError> {
    let expected = size.unwrap_or_default().min(limit);
    let mut whole = BytesMut::with_capacity(usize::try_from(expected).unwrap_or_default());
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| BodyError::Broken(format!("the body broke off: {error}")))?;
        if (whole.len() + chunk.len()) as u64 > limit {
            return Err(BodyError::TooLarge);
        }
        whole.extend_from_slice(&chunk);
    }
    match size {
        Some(size) if size != whole.len() as u64 => Err(BodyError::Broken(format!(
            "the body ended after {} of {size} bytes",
            whole.len()
        ))),
        _ => Ok(whole.freeze()),
    }
}

fn etag(operation: &'static str, etag: Option<String>) -> PortResult<ETag> {
    etag.map(ETag)
        .ok_or_else(|| refused(operation, "MissingETag", "the store's answer has no ETag"))
}

fn user_metadata(metadata: &Metadata) -> Option<HashMap<String, String>> {
    let metadata: HashMap<_, _> = metadata
        .iter()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    (!metadata.is_empty()).then_some(metadata)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn age(date: &str, last_modified: &str) -> PortResult<Duration> {
        let last_modified = parse_date(last_modified).ok();
        AnswerDate(Arc::new(Mutex::new(Some(date.to_owned())))).age("test:Get", last_modified.as_ref())
    }

    #[test]
    fn age_is_date_minus_last_modified() {
        let modified = "Thu, 21 Nov 2024 11:59:30 GMT";
        assert_eq!(
            age("Thu, 21 Nov 2024 12:00:00 GMT", modified),
            Ok(Duration::from_secs(30))
        );
        assert_eq!(
            age("Thu, 21 Nov 2024 11:59:29 GMT", modified),
            Ok(Duration::ZERO),
            "never negative"
        );
    }

    #[test]
    fn an_age_is_never_guessed() {
        let modified = parse_date("Thu, 21 Nov 2024 11:59:30 GMT").ok();
        let code = |result: PortResult<Duration>| match result {
            Err(PortError::Refused { code, .. }) => code,
            other => format!("{other:?}"),
        };
        assert_eq!(
            code(AnswerDate::default().age("test:Get", modified.as_ref())),
            "MissingDate"
        );
        assert_eq!(
            code(age("yesterday", "Thu, 21 Nov 2024 11:59:30 GMT")),
            "InvalidDate"
        );
        assert_eq!(
            code(age("Thu, 21 Nov 2024 12:00:00 GMT", "never")),
            "MissingLastModified"
        );
    }

    #[tokio::test]
    async fn a_body_is_cut_off_at_the_limit() {
        let body = ByteStream::from_static(b"0123456789");
        assert!(matches!(read_body(body, None, 9).await, Err(BodyError::TooLarge)));
        let body = ByteStream::from_static(b"0123456789");
        assert!(matches!(
            read_body(body, Some(11), 100).await,
            Err(BodyError::Broken(_))
        ));
        let body = ByteStream::from_static(b"0123456789");
        assert!(
            read_body(body, Some(10), 10)
                .await
                .is_ok_and(|body| body == "0123456789")
        );
    }
}
