//! The nine S3 operations that jobmill uses, over [`Store`]. Conditions and status codes follow the S3 User Guide
//! ("Conditional writes", "Conditional deletes"); what is not here answers `NotImplemented`.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use ::http::{HeaderValue, header};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::{self, ETag, ETagCondition, StreamingBlob, Timestamp, TimestampFormat};
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

use super::store::{Bucket, Content, Digest, Object, Part, Store, Upload, hex};
use crate::clock::Clock;
use crate::random::request_id;

/// S3 lists at most this many keys a page.
const MAX_KEYS: i32 = 1000;
/// All parts but the last have at least this size.
const MIN_PART: u64 = 5 * 1024 * 1024;

type Buckets = BTreeMap<String, Bucket>;

#[derive(Debug)]
pub(crate) struct MemoryS3 {
    pub(crate) store: Arc<Store>,
    pub(crate) clock: Arc<Clock>,
}

/// Reads a request body to its end.
async fn receive(body: Option<StreamingBlob>) -> S3Result<(Content, Digest)> {
    let mut pieces = Vec::new();
    if let Some(mut body) = body {
        while let Some(piece) = body.next().await {
            pieces.push(piece.map_err(|error| S3Error::with_source(S3ErrorCode::IncompleteBody, error))?);
        }
    }
    let content = Content::new(pieces);
    let md5 = content.md5();
    Ok((content, md5))
}

fn bucket<'a>(buckets: &'a Buckets, name: &str) -> S3Result<&'a Bucket> {
    buckets
        .get(name)
        .ok_or_else(|| s3_error!(NoSuchBucket, "the bucket {name} does not exist"))
}

fn bucket_mut<'a>(buckets: &'a mut Buckets, name: &str) -> S3Result<&'a mut Bucket> {
    buckets
        .get_mut(name)
        .ok_or_else(|| s3_error!(NoSuchBucket, "the bucket {name} does not exist"))
}

fn matches(condition: &ETagCondition, object: &Object) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(etag) => etag.value() == object.etag,
    }
}

fn precondition_failed(condition: &str) -> S3Error {
    s3_error!(
        PreconditionFailed,
        "at least one of the pre-conditions you specified did not hold: {condition}"
    )
}

/// The conditions of PutObject and CompleteMultipartUpload, checked under the lock that also writes.
fn check_write(
    current: Option<&Arc<Object>>,
    if_match: Option<&ETagCondition>,
    if_none_match: Option<&ETagCondition>,
) -> S3Result<()> {
    if let Some(condition) = if_none_match {
        if *condition != ETagCondition::Any {
            return Err(s3_error!(
                NotImplemented,
                "If-None-Match of a write takes the asterisk only"
            ));
        }
        if current.is_some() {
            return Err(precondition_failed("If-None-Match"));
        }
    }
    if let Some(condition) = if_match {
        let current =
            current.ok_or_else(|| s3_error!(NoSuchKey, "the key that If-Match names does not exist"))?;
        if !matches(condition, current) {
            return Err(precondition_failed("If-Match"));
        }
    }
    Ok(())
}

/// The conditions of GetObject and HeadObject.
fn check_read(
    object: &Object,
    if_match: Option<&ETagCondition>,
    if_none_match: Option<&ETagCondition>,
) -> S3Result<()> {
    if if_match.is_some_and(|condition| !matches(condition, object)) {
        return Err(precondition_failed("If-Match"));
    }
    if if_none_match.is_some_and(|condition| matches(condition, object)) {
        return Err(s3_error!(NotModified));
    }
    Ok(())
}

fn strong(etag: &str) -> Option<ETag> {
    Some(ETag::Strong(etag.to_owned()))
}

fn http_date(time: SystemTime) -> S3Result<HeaderValue> {
    let mut text = Vec::with_capacity(32);
    Timestamp::from(time)
        .format(TimestampFormat::HttpDate, &mut text)
        .map_err(S3Error::internal_error)?;
    HeaderValue::from_bytes(&text).map_err(S3Error::internal_error)
}

impl MemoryS3 {
    /// `Date` is set here, by the same clock as `Last-Modified` and after it was read, so that their difference is
    /// an age.
    fn dated<T>(&self, output: T) -> S3Result<S3Response<T>> {
        let mut response = S3Response::new(output);
        response
            .headers
            .insert(header::DATE, http_date(self.clock.now())?);
        Ok(response)
    }

    fn find(&self, bucket_name: &str, key: &str) -> S3Result<Arc<Object>> {
        let buckets = self.store.lock();
        let object = bucket(&buckets, bucket_name)?.get(key).cloned();
        object.ok_or_else(|| s3_error!(NoSuchKey, "the specified key does not exist"))
    }
}

/// The bytes that a range asks for, and the `Content-Range` that says so.
fn resolve_range(range: Option<dto::Range>, length: u64) -> S3Result<(Range<u64>, Option<String>)> {
    let Some(range) = range else {
        return Ok((0..length, None));
    };
    let bytes = range.check(length)?;
    let content_range = format!("bytes {}-{}/{length}", bytes.start, bytes.end.saturating_sub(1));
    Ok((bytes, Some(content_range)))
}

#[async_trait::async_trait]
impl S3 for MemoryS3 {
    async fn get_object(
        &self,
        req: S3Request<dto::GetObjectInput>,
    ) -> S3Result<S3Response<dto::GetObjectOutput>> {
        let input = req.input;
        let object = self.find(&input.bucket, &input.key)?;
        check_read(&object, input.if_match.as_ref(), input.if_none_match.as_ref())?;
        let (range, content_range) = resolve_range(input.range, object.content.len())?;
        let pieces = object.content.slice(range);
        let length: usize = pieces.iter().map(Bytes::len).sum();
        self.dated(dto::GetObjectOutput {
            body: Some(StreamingBlob::wrap::<_, Infallible>(stream::iter(
                pieces.into_iter().map(Ok),
            ))),
            content_length: i64::try_from(length).ok(),
            content_range,
            e_tag: strong(&object.etag),
            last_modified: Some(object.last_modified.into()),
            metadata: Some(object.metadata.clone()),
            ..Default::default()
        })
    }

    async fn head_object(
        &self,
        req: S3Request<dto::HeadObjectInput>,
    ) -> S3Result<S3Response<dto::HeadObjectOutput>> {
        let input = req.input;
        let object = self.find(&input.bucket, &input.key)?;
        check_read(&object, input.if_match.as_ref(), input.if_none_match.as_ref())?;
        self.dated(dto::HeadObjectOutput {
            content_length: i64::try_from(object.content.len()).ok(),
            e_tag: strong(&object.etag),
            last_modified: Some(object.last_modified.into()),
            metadata: Some(object.metadata.clone()),
            ..Default::default()
        })
    }

    async fn put_object(
        &self,
        req: S3Request<dto::PutObjectInput>,
    ) -> S3Result<S3Response<dto::PutObjectOutput>> {
        let input = req.input;
        let (content, md5) = receive(input.body).await?;
        let etag = hex(&md5);
        {
            let mut buckets = self.store.lock();
            let bucket = bucket_mut(&mut buckets, &input.bucket)?;
            let current = bucket.get(&input.key);
            check_write(current, input.if_match.as_ref(), input.if_none_match.as_ref())?;
            let object = Object {
                content,
                etag: etag.clone(),
                last_modified: self.clock.now(),
                metadata: input.metadata.unwrap_or_default(),
            };
            bucket.insert(input.key, object).map_err(unwritten)?;
        }
        self.dated(dto::PutObjectOutput {
            e_tag: strong(&etag),
            ..Default::default()
        })
    }

    async fn delete_object(
        &self,
        req: S3Request<dto::DeleteObjectInput>,
    ) -> S3Result<S3Response<dto::DeleteObjectOutput>> {
        let input = req.input;
        {
            let mut buckets = self.store.lock();
            let bucket = bucket_mut(&mut buckets, &input.bucket)?;
            check_write(bucket.get(&input.key), input.if_match.as_ref(), None)?;
            bucket.remove(&input.key).map_err(unwritten)?;
        }
        self.dated(dto::DeleteObjectOutput::default())
    }

    /// The continuation token is the last key of the page before.
    async fn list_objects_v2(
        &self,
        req: S3Request<dto::ListObjectsV2Input>,
    ) -> S3Result<S3Response<dto::ListObjectsV2Output>> {
        let input = req.input;
        if input.delimiter.is_some() {
            return Err(s3_error!(
                NotImplemented,
                "the local cloud lists without a delimiter"
            ));
        }
        let max_keys = input.max_keys.unwrap_or(MAX_KEYS).clamp(0, MAX_KEYS);
        let max = usize::try_from(max_keys).unwrap_or_default();
        let prefix = input.prefix.as_deref().unwrap_or_default();
        let after = input
            .continuation_token
            .as_deref()
            .or(input.start_after.as_deref());
        let (contents, more) = {
            let buckets = self.store.lock();
            let mut listed = bucket(&buckets, &input.bucket)?.list(prefix, after.unwrap_or_default());
            let contents: Vec<dto::Object> = listed.by_ref().take(max).map(entry).collect();
            (contents, listed.next().is_some())
        };
        let last = contents.last().and_then(|object| object.key.clone());
        let next = last.filter(|_| more);
        self.dated(dto::ListObjectsV2Output {
            key_count: i32::try_from(contents.len()).ok(),
            is_truncated: Some(next.is_some()),
            next_continuation_token: next,
            contents: Some(contents),
            name: Some(input.bucket),
            prefix: input.prefix,
            max_keys: Some(max_keys),
            continuation_token: input.continuation_token,
            start_after: input.start_after,
            ..Default::default()
        })
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<dto::CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<dto::CreateMultipartUploadOutput>> {
        let input = req.input;
        let upload_id = request_id();
        let upload = Upload {
            key: input.key.clone(),
            metadata: input.metadata.unwrap_or_default(),
            parts: BTreeMap::new(),
        };
        bucket_mut(&mut self.store.lock(), &input.bucket)?
            .uploads
            .insert(upload_id.clone(), upload);
        self.dated(dto::CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(upload_id),
            ..Default::default()
        })
    }

    async fn upload_part(
        &self,
        req: S3Request<dto::UploadPartInput>,
    ) -> S3Result<S3Response<dto::UploadPartOutput>> {
        let input = req.input;
        if !(1..=10_000).contains(&input.part_number) {
            return Err(s3_error!(
                InvalidArgument,
                "part numbers are 1 to 10000, not {}",
                input.part_number
            ));
        }
        let (content, md5) = receive(input.body).await?;
        {
            let mut buckets = self.store.lock();
            let upload = upload_mut(&mut buckets, &input.bucket, &input.key, &input.upload_id)?;
            let part = Arc::new(Part { content, md5 });
            upload.parts.insert(input.part_number, part);
        }
        self.dated(dto::UploadPartOutput {
            e_tag: strong(&hex(&md5)),
            ..Default::default()
        })
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<dto::CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<dto::CompleteMultipartUploadOutput>> {
        let input = req.input;
        let named = input
            .multipart_upload
            .and_then(|upload| upload.parts)
            .unwrap_or_default();
        let etag = {
            let mut buckets = self.store.lock();
            let upload = upload_mut(&mut buckets, &input.bucket, &input.key, &input.upload_id)?;
            let parts = chosen_parts(upload, &named)?;
            let metadata = upload.metadata.clone();
            let bucket = bucket_mut(&mut buckets, &input.bucket)?;
            let current = bucket.get(&input.key);
            check_write(current, input.if_match.as_ref(), input.if_none_match.as_ref())?;
            bucket.uploads.remove(&input.upload_id);
            let digests: Vec<u8> = parts.iter().flat_map(|part| part.md5).collect();
            let etag = format!("{}-{}", hex(&Md5::checksum(&digests)), parts.len());
            let object = Object {
                content: Content::concat(parts.iter().map(|part| &part.content)),
                etag: etag.clone(),
                last_modified: self.clock.now(),
                metadata,
            };
            bucket.insert(input.key.clone(), object).map_err(unwritten)?;
            etag
        };
        self.dated(dto::CompleteMultipartUploadOutput {
            location: Some(format!("/{}/{}", input.bucket, input.key)),
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: strong(&etag),
            ..Default::default()
        })
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<dto::AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<dto::AbortMultipartUploadOutput>> {
        let input = req.input;
        let mut buckets = self.store.lock();
        upload_mut(&mut buckets, &input.bucket, &input.key, &input.upload_id)?;
        bucket_mut(&mut buckets, &input.bucket)?
            .uploads
            .remove(&input.upload_id);
        Ok(S3Response::new(dto::AbortMultipartUploadOutput::default()))
    }
}

/// An object in a list.
fn entry((key, object): (&String, &Arc<Object>)) -> dto::Object {
    dto::Object {
        key: Some(key.clone()),
        e_tag: strong(&object.etag),
        last_modified: Some(object.last_modified.into()),
        size: i64::try_from(object.content.len()).ok(),
        ..Default::default()
    }
}

fn upload_mut<'a>(
    buckets: &'a mut Buckets,
    bucket_name: &str,
    key: &str,
    upload_id: &str,
) -> S3Result<&'a mut Upload> {
    let upload = bucket_mut(buckets, bucket_name)?.uploads.get_mut(upload_id);
    upload.filter(|upload| upload.key == key).ok_or_else(|| {
        s3_error!(
            NoSuchUpload,
            "the upload {upload_id} does not exist, or was completed or aborted"
        )
    })
}

/// The uploaded parts that the completion names, checked as S3 checks them.
fn chosen_parts(upload: &Upload, named: &[dto::CompletedPart]) -> S3Result<Vec<Arc<Part>>> {
    if named.is_empty() {
        return Err(s3_error!(MalformedXML, "a completion names at least one part"));
    }
    let mut chosen = Vec::with_capacity(named.len());
    let mut previous = 0;
    for (index, name) in named.iter().enumerate() {
        let number = name.part_number.unwrap_or(0);
        if number <= previous {
            return Err(s3_error!(
                InvalidPartOrder,
                "the parts are not in ascending order"
            ));
        }
        previous = number;
        let part = upload
            .parts
            .get(&number)
            .ok_or_else(|| s3_error!(InvalidPart, "no part {number}"))?;
        let etag = name.e_tag.as_ref().map(ETag::value);
        if etag != Some(hex(&part.md5).as_str()) {
            return Err(s3_error!(InvalidPart, "the ETag of part {number} does not match"));
        }
        if index + 1 < named.len() && part.content.len() < MIN_PART {
            return Err(s3_error!(
                EntityTooSmall,
                "part {number} is smaller than 5 MB and not the last"
            ));
        }
        chosen.push(Arc::clone(part));
    }
    Ok(chosen)
}

/// The folder of the objects could not be written to.
fn unwritten(error: std::io::Error) -> S3Error {
    s3_error!(InternalError, "the object could not be kept: {error}")
}
