//! S3 through the SDK: conditions, ranges, multipart, listing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod support;

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, Delete, ObjectIdentifier};
use bytes::Bytes;
use jobmill_local::LocalCloud;

const BUCKET: &str = "queue";

async fn start() -> (LocalCloud, Client) {
    let cloud = support::cloud().await;
    cloud.create_bucket(BUCKET);
    let client = support::s3(&cloud);
    (cloud, client)
}

fn refusal<E: ProvideErrorMetadata + std::fmt::Debug>(
    error: SdkError<E, aws_sdk_s3::config::http::HttpResponse>,
) -> (u16, String) {
    let status = error.raw_response().expect("an answer").status().as_u16();
    (status, error.code().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn an_object_comes_back_with_metadata_dates_and_md5_etag() {
    let (cloud, s3) = start().await;
    let put = s3
        .put_object()
        .bucket(BUCKET)
        .key("a/b c+ü.txt")
        .body(ByteStream::from_static(b"hello"));
    let put = put
        .metadata("run", "r1")
        .metadata("rows", "5")
        .content_type("text/plain")
        .send()
        .await
        .unwrap();
    assert_eq!(put.e_tag(), Some("\"5d41402abc4b2a76b9719d911017c592\""));
    let head = s3
        .head_object()
        .bucket(BUCKET)
        .key("a/b c+ü.txt")
        .send()
        .await
        .unwrap();
    assert_eq!(head.content_length(), Some(5));
    assert_eq!(head.metadata().unwrap()["run"], "r1");
    let got = s3
        .get_object()
        .bucket(BUCKET)
        .key("a/b c+ü.txt")
        .send()
        .await
        .unwrap();
    assert!(got.last_modified().is_some());
    assert_eq!(got.content_type(), Some("text/plain"));
    assert_eq!(got.e_tag(), put.e_tag());
    assert_eq!(got.body.collect().await.unwrap().into_bytes(), "hello");
    assert_eq!(cloud.bucket_keys(BUCKET, ""), ["a/b c+ü.txt"]);
    assert_eq!(cloud.object(BUCKET, "a/b c+ü.txt").unwrap().metadata["rows"], "5");
}

#[derive(Debug, Clone)]
struct Headers(std::sync::Arc<std::sync::Mutex<Option<(String, String)>>>);

impl aws_sdk_s3::config::Intercept for Headers {
    fn name(&self) -> &'static str {
        "headers"
    }

    fn read_before_deserialization(
        &self,
        context: &aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextRef<'_>,
        _: &aws_smithy_runtime_api::client::runtime_components::RuntimeComponents,
        _: &mut aws_smithy_types::config_bag::ConfigBag,
    ) -> Result<(), aws_smithy_runtime_api::box_error::BoxError> {
        let headers = context.response().headers();
        let pair = (headers.get("date"), headers.get("last-modified"));
        if let (Some(date), Some(modified)) = pair {
            *self.0.lock().unwrap() = Some((date.to_owned(), modified.to_owned()));
        }
        Ok(())
    }
}

#[tokio::test]
async fn date_and_last_modified_of_one_answer_tell_an_age() {
    let (cloud, s3) = start().await;
    s3.put_object()
        .bucket(BUCKET)
        .key("lock")
        .body(ByteStream::from_static(b"{}"))
        .send()
        .await
        .unwrap();
    cloud.advance_clock(Duration::from_secs(40));
    let seen = Headers(std::sync::Arc::default());
    s3.get_object()
        .bucket(BUCKET)
        .key("lock")
        .customize()
        .interceptor(seen.clone())
        .send()
        .await
        .unwrap();
    let (date, modified) = seen.0.lock().unwrap().clone().unwrap();
    let parse = |text: &str| {
        let format = aws_smithy_types::date_time::Format::HttpDate;
        aws_smithy_types::DateTime::from_str(text, format).unwrap().secs()
    };
    let age = parse(&date) - parse(&modified);
    assert!((40..=45).contains(&age), "{date} - {modified} = {age}");
}

#[tokio::test]
async fn conditions_of_puts_hold_or_answer_412() {
    let (_cloud, s3) = start().await;
    let put = |body: &'static [u8]| {
        s3.put_object()
            .bucket(BUCKET)
            .key("lock")
            .body(ByteStream::from_static(body))
    };
    let error = put(b"0").if_match("\"0\"").send().await.unwrap_err();
    assert_eq!(refusal(error), (404, "NoSuchKey".to_owned()));
    let first = put(b"1").if_none_match("*").send().await.unwrap();
    let error = put(b"2").if_none_match("*").send().await.unwrap_err();
    assert_eq!(refusal(error), (412, "PreconditionFailed".to_owned()));
    let second = put(b"3").if_match(first.e_tag().unwrap()).send().await.unwrap();
    let error = put(b"4")
        .if_match(first.e_tag().unwrap())
        .send()
        .await
        .unwrap_err();
    assert_eq!(refusal(error), (412, "PreconditionFailed".to_owned()));
    let get = s3
        .get_object()
        .bucket(BUCKET)
        .key("lock")
        .if_match(second.e_tag().unwrap());
    assert_eq!(
        get.send()
            .await
            .unwrap()
            .body
            .collect()
            .await
            .unwrap()
            .into_bytes(),
        "3"
    );
    let get = s3
        .get_object()
        .bucket(BUCKET)
        .key("lock")
        .if_match(first.e_tag().unwrap())
        .send()
        .await;
    assert_eq!(refusal(get.unwrap_err()).0, 412);
    let get = s3
        .get_object()
        .bucket(BUCKET)
        .key("lock")
        .if_none_match(second.e_tag().unwrap())
        .send()
        .await;
    assert_eq!(refusal(get.unwrap_err()).0, 304);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_sixteen_racers_exactly_one_wins() {
    let (_cloud, s3) = start().await;
    for round in 0..20 {
        let key = format!("lock-{round}");
        let racers = (0..16).map(|racer| {
            let put = s3.put_object().bucket(BUCKET).key(&key).if_none_match("*");
            put.body(ByteStream::from(format!("racer {racer}").into_bytes()))
                .send()
        });
        let results = futures_util::future::join_all(racers).await;
        let winners: Vec<_> = (0..16).filter(|racer| results[*racer].is_ok()).collect();
        assert_eq!(winners.len(), 1, "round {round}");
        let etag = results[winners[0]].as_ref().unwrap().e_tag().unwrap().to_owned();
        let body = s3.get_object().bucket(BUCKET).key(&key).send().await.unwrap();
        let body = body.body.collect().await.unwrap().into_bytes();
        assert_eq!(body, format!("racer {}", winners[0]));

        let racers = (0..16).map(|racer| {
            let put = s3.put_object().bucket(BUCKET).key(&key).if_match(&etag);
            put.body(ByteStream::from(format!("second {racer}").into_bytes()))
                .send()
        });
        let results = futures_util::future::join_all(racers).await;
        assert_eq!(
            results.iter().filter(|result| result.is_ok()).count(),
            1,
            "round {round}"
        );
        for error in results.into_iter().filter_map(Result::err) {
            assert_eq!(refusal(error).0, 412);
        }
    }
}

#[tokio::test]
async fn ranges_come_as_206_and_the_impossible_as_416() {
    let (cloud, s3) = start().await;
    cloud.put_object(BUCKET, "rows", "0123456789").unwrap();
    let get = |range: &str| s3.get_object().bucket(BUCKET).key("rows").range(range).send();
    let got = get("bytes=3-5").await.unwrap();
    assert_eq!(got.content_range(), Some("bytes 3-5/10"));
    assert_eq!(got.body.collect().await.unwrap().into_bytes(), "345");
    assert_eq!(
        get("bytes=7-")
            .await
            .unwrap()
            .body
            .collect()
            .await
            .unwrap()
            .into_bytes(),
        "789"
    );
    assert_eq!(
        get("bytes=-2")
            .await
            .unwrap()
            .body
            .collect()
            .await
            .unwrap()
            .into_bytes(),
        "89"
    );
    assert_eq!(
        get("bytes=8-100")
            .await
            .unwrap()
            .body
            .collect()
            .await
            .unwrap()
            .into_bytes(),
        "89"
    );
    assert_eq!(refusal(get("bytes=10-").await.unwrap_err()).0, 416);
    let missing = s3.get_object().bucket(BUCKET).key("no").send().await.unwrap_err();
    assert!(missing.as_service_error().unwrap().is_no_such_key());
    let missing = s3
        .head_object()
        .bucket(BUCKET)
        .key("no")
        .send()
        .await
        .unwrap_err();
    assert!(missing.as_service_error().unwrap().is_not_found());
}

/// A body of unknown content to the client: sent aws-chunked with a checksum trailer.
fn streamed(bytes: Bytes) -> ByteStream {
    let pieces: Vec<_> = bytes.chunks(70_001).map(Bytes::copy_from_slice).collect();
    let length = bytes.len() as u64;
    let frames = futures_util::stream::iter(
        pieces
            .into_iter()
            .map(|piece| Ok::<_, std::io::Error>(hyper::body::Frame::data(piece))),
    );
    let body = http_body_util::StreamBody::new(frames);
    ByteStream::new(SdkBody::from_body_1_x(Sized { body, length }))
}

struct Sized<B> {
    body: B,
    length: u64,
}

impl<B: hyper::body::Body + Unpin> hyper::body::Body for Sized<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        std::pin::Pin::new(&mut self.body).poll_frame(cx)
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        hyper::body::SizeHint::with_exact(self.length)
    }
}

fn pattern(length: usize) -> Bytes {
    (0..length)
        .map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect::<Vec<_>>()
        .into()
}

#[tokio::test]
async fn a_streamed_body_with_a_checksum_trailer_arrives_unchanged() {
    let (cloud, s3) = start().await;
    for length in [0, 1, 65_536, 5_000_003] {
        let body = pattern(length);
        let put = s3
            .put_object()
            .bucket(BUCKET)
            .key("big")
            .body(streamed(body.clone()))
            .send()
            .await
            .unwrap();
        assert!(put.checksum_crc32().is_some() || length == 0);
        assert_eq!(cloud.object(BUCKET, "big").unwrap().body, body);
        let got = s3.get_object().bucket(BUCKET).key("big").send().await.unwrap();
        assert_eq!(got.body.collect().await.unwrap().into_bytes(), body);
        if length > 100 {
            let range = format!("bytes={}-{}", length / 3, length / 2);
            let got = s3
                .get_object()
                .bucket(BUCKET)
                .key("big")
                .range(range)
                .send()
                .await
                .unwrap();
            let got = got.body.collect().await.unwrap().into_bytes();
            assert_eq!(got, body.slice(length / 3..=length / 2));
        }
    }
}

#[tokio::test]
async fn a_body_that_does_not_match_its_checksum_is_refused() {
    let (cloud, s3) = start().await;
    let put = s3
        .put_object()
        .bucket(BUCKET)
        .key("x")
        .body(ByteStream::from_static(b"hello"));
    let error = put.checksum_crc32("AAAAAA==").send().await.unwrap_err();
    assert_eq!(refusal(error), (400, "BadDigest".to_owned()));
    assert!(cloud.object(BUCKET, "x").is_none());
}

async fn upload(s3: &Client, key: &str, parts: &[Bytes]) -> (String, CompletedMultipartUpload) {
    let created = s3
        .create_multipart_upload()
        .bucket(BUCKET)
        .key(key)
        .metadata("rows", "7");
    let id = created.send().await.unwrap().upload_id().unwrap().to_owned();
    let mut completed = CompletedMultipartUpload::builder();
    for (number, part) in (1..).zip(parts) {
        let sent = s3
            .upload_part()
            .bucket(BUCKET)
            .key(key)
            .upload_id(&id)
            .part_number(number);
        let sent = sent.body(ByteStream::from(part.clone())).send().await.unwrap();
        let part = CompletedPart::builder()
            .part_number(number)
            .e_tag(sent.e_tag().unwrap());
        completed = completed.parts(part.build());
    }
    (id, completed.build())
}

#[tokio::test]
async fn a_multipart_upload_becomes_an_object_once() {
    let (cloud, s3) = start().await;
    let parts = [pattern(5 << 20), pattern((5 << 20) + 1), pattern(17)];
    let (id, completed) = upload(&s3, "rows", &parts).await;
    assert!(cloud.bucket_keys(BUCKET, "").is_empty());
    let (other, other_completed) = upload(&s3, "rows", &parts).await;
    let complete = |id: &str, parts| {
        let complete = s3
            .complete_multipart_upload()
            .bucket(BUCKET)
            .key("rows")
            .upload_id(id);
        complete.if_none_match("*").multipart_upload(parts).send()
    };
    let done = complete(&id, completed.clone()).await.unwrap();
    assert!(done.e_tag().unwrap().ends_with("-3\""), "{:?}", done.e_tag());
    let error = complete(&other, other_completed).await.unwrap_err();
    assert_eq!(refusal(error), (412, "PreconditionFailed".to_owned()));
    let error = complete(&id, completed).await.unwrap_err();
    assert_eq!(refusal(error), (404, "NoSuchUpload".to_owned()));
    let object = cloud.object(BUCKET, "rows").unwrap();
    assert_eq!(object.body, parts.concat());
    assert_eq!(object.metadata["rows"], "7");
    // A range over the seam of two parts.
    let seam = 5 << 20;
    let got = s3
        .get_object()
        .bucket(BUCKET)
        .key("rows")
        .range(format!("bytes={}-{}", seam - 2, seam + 1));
    let got = got
        .send()
        .await
        .unwrap()
        .body
        .collect()
        .await
        .unwrap()
        .into_bytes();
    assert_eq!(got, object.body.slice(seam - 2..seam + 2));
    let uploads = s3.list_multipart_uploads().bucket(BUCKET).send().await.unwrap();
    assert_eq!(uploads.uploads().len(), 1);
    s3.abort_multipart_upload()
        .bucket(BUCKET)
        .key("rows")
        .upload_id(&other)
        .send()
        .await
        .unwrap();
    assert!(
        s3.list_multipart_uploads()
            .bucket(BUCKET)
            .send()
            .await
            .unwrap()
            .uploads()
            .is_empty()
    );
}

#[tokio::test]
async fn a_small_part_in_the_middle_is_refused() {
    let (_cloud, s3) = start().await;
    let (id, completed) = upload(&s3, "rows", &[pattern(10), pattern(10)]).await;
    let complete = s3
        .complete_multipart_upload()
        .bucket(BUCKET)
        .key("rows")
        .upload_id(id);
    let error = complete.multipart_upload(completed).send().await.unwrap_err();
    assert_eq!(refusal(error), (400, "EntityTooSmall".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_racing_completions_exactly_one_wins() {
    let (_cloud, s3) = start().await;
    let mut uploads = Vec::new();
    for racer in 0..16 {
        uploads.push(upload(&s3, "rows", &[Bytes::from(format!("racer {racer}"))]).await);
    }
    let racers = uploads.into_iter().map(|(id, parts)| {
        let complete = s3
            .complete_multipart_upload()
            .bucket(BUCKET)
            .key("rows")
            .upload_id(id);
        complete.if_none_match("*").multipart_upload(parts).send()
    });
    let results = futures_util::future::join_all(racers).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
}

#[tokio::test]
async fn deletes_obey_if_match() {
    let (cloud, s3) = start().await;
    cloud.put_object(BUCKET, "rows", "v1").unwrap();
    let etag = format!("\"{}\"", cloud.object(BUCKET, "rows").unwrap().etag);
    let delete = |etag: &str| {
        s3.delete_object()
            .bucket(BUCKET)
            .key("rows")
            .if_match(etag)
            .send()
    };
    assert_eq!(
        refusal(delete("\"0\"").await.unwrap_err()),
        (412, "PreconditionFailed".to_owned())
    );
    delete(&etag).await.unwrap();
    assert_eq!(
        refusal(delete(&etag).await.unwrap_err()),
        (404, "NoSuchKey".to_owned())
    );
    s3.delete_object()
        .bucket(BUCKET)
        .key("rows")
        .send()
        .await
        .unwrap();
    for key in ["a", "b", "c"] {
        cloud.put_object(BUCKET, key, key).unwrap();
    }
    let object = |key: &str| ObjectIdentifier::builder().key(key).build().unwrap();
    let delete = Delete::builder()
        .objects(object("a"))
        .objects(object("c"))
        .objects(object("zz"))
        .build()
        .unwrap();
    let deleted = s3
        .delete_objects()
        .bucket(BUCKET)
        .delete(delete)
        .send()
        .await
        .unwrap();
    assert_eq!(deleted.deleted().len(), 3);
    assert_eq!(cloud.bucket_keys(BUCKET, ""), ["b"]);
}

#[tokio::test]
async fn a_copy_keeps_metadata_and_obeys_the_condition_on_its_source() {
    let (cloud, s3) = start().await;
    let put = s3
        .put_object()
        .bucket(BUCKET)
        .key("from")
        .body(ByteStream::from_static(b"rows"))
        .metadata("rows", "1");
    let etag = put.send().await.unwrap().e_tag().unwrap().to_owned();
    let copy = |etag: &str| {
        let copy = s3
            .copy_object()
            .bucket(BUCKET)
            .key("to")
            .copy_source(format!("{BUCKET}/from"));
        copy.copy_source_if_match(etag).send()
    };
    assert_eq!(refusal(copy("\"0\"").await.unwrap_err()).0, 412);
    copy(&etag).await.unwrap();
    let object = cloud.object(BUCKET, "to").unwrap();
    assert_eq!(
        (object.body.as_ref(), object.metadata["rows"].as_str()),
        (b"rows".as_slice(), "1")
    );
}

#[tokio::test]
async fn listing_pages_through_prefixes_in_byte_order() {
    let (cloud, s3) = start().await;
    let mut keys: Vec<_> = (0..25).map(|index| format!("queue/rows_{index}.txt")).collect();
    keys.extend([
        "queue/done/a.json".to_owned(),
        "queue/done/b.json".to_owned(),
        "zoo".to_owned(),
    ]);
    for key in &keys {
        cloud.put_object(BUCKET, key, "x").unwrap();
    }
    keys.sort_unstable();
    keys.retain(|key| key.starts_with("queue/"));
    let mut listed = Vec::new();
    let mut pages = s3
        .list_objects_v2()
        .bucket(BUCKET)
        .prefix("queue/")
        .max_keys(10)
        .into_paginator()
        .send();
    let mut count = 0;
    while let Some(page) = pages.next().await {
        count += 1;
        listed.extend(
            page.unwrap()
                .contents()
                .iter()
                .map(|object| object.key().unwrap().to_owned()),
        );
    }
    assert_eq!(listed, keys);
    assert_eq!(count, 3);
    let after = s3
        .list_objects_v2()
        .bucket(BUCKET)
        .prefix("queue/")
        .start_after("queue/rows_8.txt");
    let after = after.send().await.unwrap();
    assert_eq!(
        after
            .contents()
            .iter()
            .map(|object| object.key().unwrap())
            .collect::<Vec<_>>(),
        ["queue/rows_9.txt"]
    );
    let top = s3
        .list_objects_v2()
        .bucket(BUCKET)
        .delimiter("/")
        .send()
        .await
        .unwrap();
    assert_eq!(top.common_prefixes()[0].prefix(), Some("queue/"));
    assert_eq!(top.contents()[0].key(), Some("zoo"));
    assert_eq!(top.is_truncated(), Some(false));
    let mut walked = Vec::new();
    let mut pages = s3
        .list_objects_v2()
        .bucket(BUCKET)
        .delimiter("/")
        .max_keys(1)
        .into_paginator()
        .send();
    while let Some(page) = pages.next().await {
        let page = page.unwrap();
        walked.extend(
            page.common_prefixes()
                .iter()
                .map(|common| common.prefix().unwrap().to_owned()),
        );
        walked.extend(
            page.contents()
                .iter()
                .map(|object| object.key().unwrap().to_owned()),
        );
    }
    assert_eq!(walked, ["queue/", "zoo"]);
}

#[tokio::test]
async fn buckets_are_created_once_and_found() {
    let (_cloud, s3) = start().await;
    s3.create_bucket().bucket("other").send().await.unwrap();
    s3.head_bucket().bucket("other").send().await.unwrap();
    let error = s3.create_bucket().bucket("other").send().await.unwrap_err();
    assert!(error.as_service_error().unwrap().is_bucket_already_owned_by_you());
    assert!(s3.head_bucket().bucket("nowhere").send().await.is_err());
    let error = s3
        .put_object()
        .bucket("nowhere")
        .key("k")
        .body(ByteStream::from_static(b""))
        .send()
        .await;
    assert_eq!(refusal(error.unwrap_err()), (404, "NoSuchBucket".to_owned()));
    let listed = s3.list_buckets().send().await.unwrap();
    let names: Vec<_> = listed
        .buckets()
        .iter()
        .filter_map(|bucket| bucket.name())
        .collect();
    assert_eq!(names, ["other", BUCKET]);
}

/// A gigabyte in and out. `--ignored --nocapture`, in a release build.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn rate_of_a_large_body() {
    let (cloud, s3) = start().await;
    let piece = Bytes::from(vec![b'x'; 1 << 20]);
    let length = 1u64 << 30;
    let frames = (0..1024).map(move |_| Ok::<_, std::io::Error>(hyper::body::Frame::data(piece.clone())));
    let body = http_body_util::StreamBody::new(futures_util::stream::iter(frames));
    let body = ByteStream::new(SdkBody::from_body_1_x(Sized { body, length }));
    let started = tokio::time::Instant::now();
    s3.put_object()
        .bucket(BUCKET)
        .key("big")
        .body(body)
        .send()
        .await
        .unwrap();
    println!("put: {:?}", started.elapsed());
    let started = tokio::time::Instant::now();
    let mut got = s3
        .get_object()
        .bucket(BUCKET)
        .key("big")
        .range("bytes=100-")
        .send()
        .await
        .unwrap()
        .body;
    let mut read = 100;
    while let Some(piece) = got.next().await {
        read += piece.unwrap().len() as u64;
    }
    println!("get: {:?}", started.elapsed());
    assert_eq!(read, length);
    assert_eq!(cloud.bucket_keys(BUCKET, ""), ["big"]);
}
