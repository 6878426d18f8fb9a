//! The S3 operations that the scheduler and its tests need, over [`Store`]. Conditions and status codes follow the
//! S3 User Guide ("Conditional writes", "Conditional deletes"); what is not here answers `NotImplemented`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256};
use s3s::dto::{self, ETag, ETagCondition, StreamingBlob, Timestamp, TimestampFormat};
use s3s::stream::{ByteStream, RemainingLength};
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, StdError, s3_error};

use super::chunked::Trailers;
use super::store::{Attributes, Bucket, Content, Object, Part, Store, Upload, hex};
use crate::clock::{self, Clock};

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

/// Pieces of a body on their way out.
struct Slices {
    pieces: std::vec::IntoIter<Bytes>,
    remaining: usize,
}

impl Slices {
    fn blob(pieces: Vec<Bytes>) -> StreamingBlob {
        let remaining = pieces.iter().map(Bytes::len).sum();
        StreamingBlob::new(Self {
            pieces: pieces.into_iter(),
            remaining,
        })
    }
}

impl Stream for Slices {
    type Item = Result<Bytes, StdError>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let piece = self.pieces.next();
        self.remaining -= piece.as_ref().map_or(0, Bytes::len);
        Poll::Ready(piece.map(Ok))
    }
}

impl ByteStream for Slices {
    fn remaining_length(&self) -> RemainingLength {
        RemainingLength::new_exact(self.remaining)
    }
}

/// The checksums that came with a body, in its headers or behind it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Sums {
    crc32: Option<String>,
    crc32c: Option<String>,
    crc64nvme: Option<String>,
    sha1: Option<String>,
    sha256: Option<String>,
}

impl Sums {
    fn named(name: &str, value: String) -> Self {
        let mut sums = Self::default();
        match name {
            "x-amz-checksum-crc32" => sums.crc32 = Some(value),
            "x-amz-checksum-crc32c" => sums.crc32c = Some(value),
            "x-amz-checksum-crc64nvme" => sums.crc64nvme = Some(value),
            "x-amz-checksum-sha1" => sums.sha1 = Some(value),
            "x-amz-checksum-sha256" => sums.sha256 = Some(value),
            _ => {}
        }
        sums
    }

    fn hasher(&self) -> ChecksumHasher {
        ChecksumHasher {
            crc32: self.crc32.as_ref().map(|_| Crc32::new()),
            crc32c: self.crc32c.as_ref().map(|_| Crc32c::new()),
            sha1: self.sha1.as_ref().map(|_| Sha1::new()),
            sha256: self.sha256.as_ref().map(|_| Sha256::new()),
            crc64nvme: self.crc64nvme.as_ref().map(|_| Crc64Nvme::new()),
        }
    }
}

struct Received {
    content: Content,
    md5: [u8; 16],
    sums: Sums,
}

/// Reads a request body to its end, hashing on the way, and compares the checksums that came with it.
async fn receive(
    body: Option<StreamingBlob>,
    headers: &HeaderMap,
    trailers: Option<&Trailers>,
    declared: Sums,
) -> S3Result<Received> {
    let announced = headers
        .get("x-amz-trailer")
        .and_then(|name| name.to_str().ok())
        .map(str::to_ascii_lowercase);
    let expected = match &announced {
        Some(name) => Sums::named(name, String::new()),
        None => declared,
    };
    let mut hasher = expected.hasher();
    let mut md5 = Md5::new();
    let mut pieces = Vec::new();
    if let Some(mut body) = body {
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|error| S3Error::with_source(S3ErrorCode::IncompleteBody, error))?;
            md5.update(&piece);
            hasher.update(&piece);
            pieces.push(piece);
        }
    }
    let expected = match (announced, trailers) {
        (Some(name), Some(trailers)) => trailers
            .get(&name)
            .map_or(expected, |value| Sums::named(&name, value)),
        _ => expected,
    };
    let computed = hasher.finalize();
    let sums = Sums {
        crc32: computed.checksum_crc32,
        crc32c: computed.checksum_crc32c,
        crc64nvme: computed.checksum_crc64nvme,
        sha1: computed.checksum_sha1,
        sha256: computed.checksum_sha256,
    };
    if sums != expected {
        return Err(s3_error!(
            BadDigest,
            "the checksum that came with the body did not match the body"
        ));
    }
    Ok(Received {
        content: Content::new(pieces),
        md5: md5.finalize(),
        sums,
    })
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
        let object = bucket(&buckets, bucket_name)?.objects.get(key).cloned();
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

fn attributes_of(
    content_type: Option<dto::ContentType>,
    content_encoding: Option<String>,
    cache_control: Option<String>,
    content_disposition: Option<String>,
    metadata: Option<dto::Metadata>,
) -> Attributes {
    Attributes {
        content_type,
        content_encoding,
        cache_control,
        content_disposition,
        metadata: metadata.filter(|metadata| !metadata.is_empty()),
        ..Attributes::default()
    }
}

#[async_trait::async_trait]
impl S3 for MemoryS3 {
    async fn create_bucket(
        &self,
        req: S3Request<dto::CreateBucketInput>,
    ) -> S3Result<S3Response<dto::CreateBucketOutput>> {
        if !self.store.create_bucket(&req.input.bucket, self.clock.now()) {
            return Err(s3_error!(
                BucketAlreadyOwnedByYou,
                "the bucket {} exists",
                req.input.bucket
            ));
        }
        let location = Some(format!("/{}", req.input.bucket));
        Ok(S3Response::new(dto::CreateBucketOutput { location }))
    }

    async fn delete_bucket(
        &self,
        req: S3Request<dto::DeleteBucketInput>,
    ) -> S3Result<S3Response<dto::DeleteBucketOutput>> {
        let mut buckets = self.store.lock();
        if !bucket(&buckets, &req.input.bucket)?.objects.is_empty() {
            return Err(s3_error!(
                BucketNotEmpty,
                "the bucket {} is not empty",
                req.input.bucket
            ));
        }
        buckets.remove(&req.input.bucket);
        let mut response = S3Response::new(dto::DeleteBucketOutput::default());
        response.status = Some(StatusCode::NO_CONTENT);
        Ok(response)
    }

    async fn head_bucket(
        &self,
        req: S3Request<dto::HeadBucketInput>,
    ) -> S3Result<S3Response<dto::HeadBucketOutput>> {
        bucket(&self.store.lock(), &req.input.bucket)?;
        Ok(S3Response::new(dto::HeadBucketOutput::default()))
    }

    async fn get_bucket_location(
        &self,
        req: S3Request<dto::GetBucketLocationInput>,
    ) -> S3Result<S3Response<dto::GetBucketLocationOutput>> {
        bucket(&self.store.lock(), &req.input.bucket)?;
        Ok(S3Response::new(dto::GetBucketLocationOutput::default()))
    }

    async fn list_buckets(
        &self,
        _req: S3Request<dto::ListBucketsInput>,
    ) -> S3Result<S3Response<dto::ListBucketsOutput>> {
        let buckets = self.store.lock();
        let list = buckets.iter().map(|(name, bucket)| dto::Bucket {
            name: Some(name.clone()),
            creation_date: Some(bucket.created.into()),
            ..Default::default()
        });
        let buckets = Some(list.collect());
        Ok(S3Response::new(dto::ListBucketsOutput {
            buckets,
            ..Default::default()
        }))
    }

    async fn get_object(
        &self,
        req: S3Request<dto::GetObjectInput>,
    ) -> S3Result<S3Response<dto::GetObjectOutput>> {
        let input = req.input;
        let object = self.find(&input.bucket, &input.key)?;
        check_read(&object, input.if_match.as_ref(), input.if_none_match.as_ref())?;
        let (range, content_range) = resolve_range(input.range, object.content.len())?;
        let pieces = object.content.slice(range);
        let attributes = object.attributes.clone();
        // A checksum covers the whole body: a range comes without one.
        let sums = input.checksum_mode.is_some() && content_range.is_none();
        let length: usize = pieces.iter().map(Bytes::len).sum();
        self.dated(dto::GetObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            body: Some(Slices::blob(pieces)),
            content_length: i64::try_from(length).ok(),
            content_range,
            content_type: attributes.content_type.or_else(default_content_type),
            content_encoding: attributes.content_encoding,
            cache_control: attributes.cache_control,
            content_disposition: attributes.content_disposition,
            e_tag: strong(&object.etag),
            last_modified: Some(object.last_modified.into()),
            metadata: attributes.metadata,
            checksum_crc32: attributes.crc32.filter(|_| sums),
            checksum_crc32c: attributes.crc32c.filter(|_| sums),
            checksum_crc64nvme: attributes.crc64nvme.filter(|_| sums),
            checksum_sha1: attributes.sha1.filter(|_| sums),
            checksum_sha256: attributes.sha256.filter(|_| sums),
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
        let (range, content_range) = resolve_range(input.range, object.content.len())?;
        let attributes = object.attributes.clone();
        self.dated(dto::HeadObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            content_length: i64::try_from(range.end - range.start).ok(),
            content_range,
            content_type: attributes.content_type.or_else(default_content_type),
            content_encoding: attributes.content_encoding,
            cache_control: attributes.cache_control,
            content_disposition: attributes.content_disposition,
            e_tag: strong(&object.etag),
            last_modified: Some(object.last_modified.into()),
            metadata: attributes.metadata,
            ..Default::default()
        })
    }

    async fn put_object(
        &self,
        req: S3Request<dto::PutObjectInput>,
    ) -> S3Result<S3Response<dto::PutObjectOutput>> {
        let input = req.input;
        let declared = Sums {
            crc32: input.checksum_crc32,
            crc32c: input.checksum_crc32c,
            crc64nvme: input.checksum_crc64nvme,
            sha1: input.checksum_sha1,
            sha256: input.checksum_sha256,
        };
        let trailers = req.extensions.get::<Trailers>();
        let received = receive(input.body, &req.headers, trailers, declared).await?;
        let mut attributes = attributes_of(
            input.content_type,
            input.content_encoding,
            input.cache_control,
            input.content_disposition,
            input.metadata,
        );
        let sums = received.sums;
        attributes.crc32.clone_from(&sums.crc32);
        attributes.crc32c.clone_from(&sums.crc32c);
        attributes.crc64nvme.clone_from(&sums.crc64nvme);
        attributes.sha1.clone_from(&sums.sha1);
        attributes.sha256.clone_from(&sums.sha256);
        let etag = hex(&received.md5);
        {
            let mut buckets = self.store.lock();
            let bucket = bucket_mut(&mut buckets, &input.bucket)?;
            let current = bucket.objects.get(&input.key);
            check_write(current, input.if_match.as_ref(), input.if_none_match.as_ref())?;
            let object = Object {
                content: received.content,
                etag: etag.clone(),
                last_modified: self.clock.now(),
                attributes,
            };
            bucket.objects.insert(input.key, Arc::new(object));
        }
        self.dated(dto::PutObjectOutput {
            e_tag: strong(&etag),
            checksum_crc32: sums.crc32,
            checksum_crc32c: sums.crc32c,
            checksum_crc64nvme: sums.crc64nvme,
            checksum_sha1: sums.sha1,
            checksum_sha256: sums.sha256,
            ..Default::default()
        })
    }

    async fn copy_object(
        &self,
        req: S3Request<dto::CopyObjectInput>,
    ) -> S3Result<S3Response<dto::CopyObjectOutput>> {
        let input = req.input;
        let dto::CopySource::Bucket {
            bucket: from_bucket,
            key: from_key,
            ..
        } = &input.copy_source
        else {
            return Err(s3_error!(
                NotImplemented,
                "only bucket/key is a source of a copy here"
            ));
        };
        let source = self.find(from_bucket, from_key)?;
        let if_match = input.copy_source_if_match.as_ref();
        let if_none_match = input.copy_source_if_none_match.as_ref();
        if if_match.is_some_and(|condition| !matches(condition, &source))
            || if_none_match.is_some_and(|condition| matches(condition, &source))
        {
            return Err(precondition_failed("x-amz-copy-source-if-match"));
        }
        let replace = input
            .metadata_directive
            .as_ref()
            .is_some_and(|directive| directive.as_str() == "REPLACE");
        let attributes = if replace {
            attributes_of(
                input.content_type,
                input.content_encoding,
                input.cache_control,
                input.content_disposition,
                input.metadata,
            )
        } else {
            source.attributes.clone()
        };
        let object = Object {
            content: source.content.clone(),
            // A copy is written in one piece: its ETag is the plain MD5 again.
            etag: hex(&source.content.md5()),
            last_modified: self.clock.now(),
            attributes,
        };
        let result = dto::CopyObjectResult {
            e_tag: strong(&object.etag),
            last_modified: Some(object.last_modified.into()),
            ..Default::default()
        };
        // The S3 model of this library has no conditions on the target of a copy: they are read from the headers.
        let if_none_match = write_condition(&req.headers, &header::IF_NONE_MATCH)?;
        let if_match = write_condition(&req.headers, &header::IF_MATCH)?;
        {
            let mut buckets = self.store.lock();
            let bucket = bucket_mut(&mut buckets, &input.bucket)?;
            check_write(
                bucket.objects.get(&input.key),
                if_match.as_ref(),
                if_none_match.as_ref(),
            )?;
            bucket.objects.insert(input.key, Arc::new(object));
        }
        self.dated(dto::CopyObjectOutput {
            copy_object_result: Some(result),
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
            check_write(bucket.objects.get(&input.key), input.if_match.as_ref(), None)?;
            bucket.objects.remove(&input.key);
        }
        self.dated(dto::DeleteObjectOutput::default())
    }

    async fn delete_objects(
        &self,
        req: S3Request<dto::DeleteObjectsInput>,
    ) -> S3Result<S3Response<dto::DeleteObjectsOutput>> {
        let input = req.input;
        let quiet = input.delete.quiet.unwrap_or(false);
        let mut deleted = Vec::new();
        let mut errors = Vec::new();
        {
            let mut buckets = self.store.lock();
            let bucket = bucket_mut(&mut buckets, &input.bucket)?;
            for wanted in input.delete.objects {
                let condition = wanted.e_tag.map(ETagCondition::ETag);
                match check_write(bucket.objects.get(&wanted.key), condition.as_ref(), None) {
                    Ok(()) => {
                        bucket.objects.remove(&wanted.key);
                        deleted.push(dto::DeletedObject {
                            key: Some(wanted.key),
                            ..Default::default()
                        });
                    }
                    Err(error) => errors.push(dto::Error {
                        code: Some(error.code().as_str().to_owned()),
                        key: Some(wanted.key),
                        message: error.message().map(str::to_owned),
                        ..Default::default()
                    }),
                }
            }
        }
        self.dated(dto::DeleteObjectsOutput {
            deleted: (!quiet).then_some(deleted),
            errors: Some(errors).filter(|errors| !errors.is_empty()),
            ..Default::default()
        })
    }

    async fn list_objects_v2(
        &self,
        req: S3Request<dto::ListObjectsV2Input>,
    ) -> S3Result<S3Response<dto::ListObjectsV2Output>> {
        let input = req.input;
        let page = {
            let buckets = self.store.lock();
            list(bucket(&buckets, &input.bucket)?, &input)
        };
        let key_count = i32::try_from(page.contents.len() + page.common_prefixes.len()).ok();
        let is_truncated = page.next.is_some();
        self.dated(dto::ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: input.prefix,
            max_keys: Some(input.max_keys.unwrap_or(MAX_KEYS).clamp(0, MAX_KEYS)),
            key_count,
            continuation_token: input.continuation_token,
            is_truncated: Some(is_truncated),
            next_continuation_token: page.next,
            contents: Some(page.contents),
            common_prefixes: Some(page.common_prefixes),
            delimiter: input.delimiter,
            start_after: input.start_after,
            ..Default::default()
        })
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<dto::CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<dto::CreateMultipartUploadOutput>> {
        let input = req.input;
        let attributes = attributes_of(
            input.content_type,
            input.content_encoding,
            input.cache_control,
            input.content_disposition,
            input.metadata,
        );
        let upload_id = clock::request_id();
        {
            let mut buckets = self.store.lock();
            let bucket = bucket_mut(&mut buckets, &input.bucket)?;
            let upload = Upload {
                key: input.key.clone(),
                attributes,
                parts: BTreeMap::new(),
            };
            bucket.uploads.insert(upload_id.clone(), upload);
        }
        self.dated(dto::CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(upload_id),
            checksum_algorithm: input.checksum_algorithm,
            checksum_type: input.checksum_type,
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
        let declared = Sums {
            crc32: input.checksum_crc32,
            crc32c: input.checksum_crc32c,
            crc64nvme: input.checksum_crc64nvme,
            sha1: input.checksum_sha1,
            sha256: input.checksum_sha256,
        };
        let trailers = req.extensions.get::<Trailers>();
        let received = receive(input.body, &req.headers, trailers, declared).await?;
        let part = Part {
            content: received.content,
            md5: received.md5,
        };
        {
            let mut buckets = self.store.lock();
            let upload = upload_mut(&mut buckets, &input.bucket, &input.key, &input.upload_id)?;
            upload.parts.insert(input.part_number, Arc::new(part));
        }
        self.dated(dto::UploadPartOutput {
            e_tag: strong(&hex(&received.md5)),
            checksum_crc32: received.sums.crc32,
            checksum_crc32c: received.sums.crc32c,
            checksum_crc64nvme: received.sums.crc64nvme,
            checksum_sha1: received.sums.sha1,
            checksum_sha256: received.sums.sha256,
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
            let bucket = bucket_mut(&mut buckets, &input.bucket)?;
            let current = bucket.objects.get(&input.key);
            check_write(current, input.if_match.as_ref(), input.if_none_match.as_ref())?;
            let digests: Vec<u8> = parts.iter().flat_map(|part| part.md5).collect();
            let etag = format!("{}-{}", hex(&Md5::checksum(&digests)), parts.len());
            let attributes = bucket
                .uploads
                .remove(&input.upload_id)
                .map(|upload| upload.attributes);
            let object = Object {
                content: Content::concat(parts.iter().map(|part| &part.content)),
                etag: etag.clone(),
                last_modified: self.clock.now(),
                attributes: attributes.unwrap_or_default(),
            };
            bucket.objects.insert(input.key.clone(), Arc::new(object));
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

    async fn list_multipart_uploads(
        &self,
        req: S3Request<dto::ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<dto::ListMultipartUploadsOutput>> {
        let input = req.input;
        let buckets = self.store.lock();
        let uploads = bucket(&buckets, &input.bucket)?.uploads.iter();
        let uploads = uploads
            .filter(|(_, upload)| {
                input
                    .prefix
                    .as_ref()
                    .is_none_or(|prefix| upload.key.starts_with(prefix))
            })
            .map(|(id, upload)| dto::MultipartUpload {
                key: Some(upload.key.clone()),
                upload_id: Some(id.clone()),
                ..Default::default()
            })
            .collect();
        Ok(S3Response::new(dto::ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            uploads: Some(uploads),
            is_truncated: Some(false),
            ..Default::default()
        }))
    }
}

fn default_content_type() -> Option<String> {
    Some("binary/octet-stream".to_owned())
}

fn write_condition(headers: &HeaderMap, name: &header::HeaderName) -> S3Result<Option<ETagCondition>> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    ETagCondition::parse_http_header(value.as_bytes())
        .map(Some)
        .map_err(|error| s3_error!(error, InvalidArgument, "invalid header: {name}"))
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

struct Page {
    contents: Vec<dto::Object>,
    common_prefixes: Vec<dto::CommonPrefix>,
    next: Option<String>,
}

/// One page of ListObjectsV2. The continuation token is the last key, or common prefix, of the page before.
fn list(bucket: &Bucket, input: &dto::ListObjectsV2Input) -> Page {
    let prefix = input.prefix.as_deref().unwrap_or("");
    let max = usize::try_from(input.max_keys.unwrap_or(MAX_KEYS).clamp(0, MAX_KEYS)).unwrap_or(0);
    let after = input
        .continuation_token
        .as_deref()
        .or(input.start_after.as_deref())
        .unwrap_or("");
    let delimiter = input
        .delimiter
        .as_deref()
        .filter(|delimiter| !delimiter.is_empty());
    let from = if after > prefix { after } else { prefix };
    let mut page = Page {
        contents: Vec::new(),
        common_prefixes: Vec::new(),
        next: None,
    };
    let mut last = String::new();
    for (key, object) in bucket.from(from) {
        let Some(rest) = key.strip_prefix(prefix) else {
            break;
        };
        if !after.is_empty() && key.as_str() <= after {
            continue;
        }
        let common = delimiter.and_then(|delimiter| rest.find(delimiter).map(|at| at + delimiter.len()));
        let common = common.and_then(|end| key.get(..prefix.len() + end));
        if common.is_some_and(|common| common == last || (!after.is_empty() && common == after)) {
            continue;
        }
        if page.contents.len() + page.common_prefixes.len() == max {
            page.next = Some(last).filter(|_| max > 0);
            break;
        }
        if let Some(common) = common {
            common.clone_into(&mut last);
            page.common_prefixes.push(dto::CommonPrefix {
                prefix: Some(common.to_owned()),
            });
        } else {
            last.clone_from(key);
            page.contents.push(dto::Object {
                key: Some(key.clone()),
                e_tag: strong(&object.etag),
                last_modified: Some(object.last_modified.into()),
                size: i64::try_from(object.content.len()).ok(),
                storage_class: Some(dto::ObjectStorageClass::from_static(
                    dto::ObjectStorageClass::STANDARD,
                )),
                ..Default::default()
            });
        }
    }
    page
}
