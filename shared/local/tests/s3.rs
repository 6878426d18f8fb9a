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
use aws_sdk_s3::operation::complete_multipart_upload::builders::CompleteMultipartUploadFluentBuilder;
use aws_sdk_s3::operation::get_object::builders::GetObjectFluentBuilder;
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
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

fn put(s3: &Client, key: &str, body: impl Into<Bytes>) -> PutObjectFluentBuilder {
    let body = ByteStream::from(body.into());
    s3.put_object().bucket(BUCKET).key(key).body(body)
}

fn get(s3: &Client, key: &str) -> GetObjectFluentBuilder {
    s3.get_object().bucket(BUCKET).key(key)
}

async fn body(get: GetObjectFluentBuilder) -> Bytes {
    get.send()
        .await
        .unwrap()
        .body
        .collect()
        .await
        .unwrap()
        .into_bytes()
}

#[tokio::test]
async fn an_object_comes_back_with_metadata_dates_and_md5_etag() {
    const KEY: &str = "a/b c+ü.txt";
    let (cloud, s3) = start().await;
    let put = put(&s3, KEY, "hello").metadata("run", "r1").metadata("rows", "5");
    let put = put.send().await.unwrap();
    assert_eq!(put.e_tag(), Some("\"5d41402abc4b2a76b9719d911017c592\""));
    let head = s3.head_object().bucket(BUCKET).key(KEY).send().await.unwrap();
    assert_eq!(head.content_length(), Some(5));
    assert_eq!(head.metadata().unwrap()["run"], "r1");
    let got = get(&s3, KEY).send().await.unwrap();
    assert!(got.last_modified().is_some());
    assert_eq!((got.e_tag(), got.content_length()), (put.e_tag(), Some(5)));
    assert_eq!(got.body.collect().await.unwrap().into_bytes(), "hello");
    assert_eq!(cloud.bucket_keys(BUCKET, ""), [KEY]);
    assert_eq!(cloud.object(BUCKET, KEY).unwrap().metadata["rows"], "5");
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
    put(&s3, "lock", "{}").send().await.unwrap();
    cloud.advance_clock(Duration::from_secs(40));
    let seen = Headers(std::sync::Arc::default());
    let get = get(&s3, "lock").customize().interceptor(seen.clone());
    get.send().await.unwrap();
    let (date, modified) = seen.0.lock().unwrap().clone().unwrap();
    let parse = |text: &str| {
        let format = aws_smithy_types::date_time::Format::HttpDate;
        aws_smithy_types::DateTime::from_str(text, format).unwrap().secs()
    };
    let age = parse(&date) - parse(&modified);
    assert!((40..=45).contains(&age), "{date} - {modified} = {age}");
}

#[tokio::test]
async fn conditions_hold_or_answer_412() {
    let (_cloud, s3) = start().await;
    let put = |body: &'static str| put(&s3, "lock", body);
    let error = put("0").if_match("\"0\"").send().await.unwrap_err();
    assert_eq!(refusal(error), (404, "NoSuchKey".to_owned()));
    let first = put("1").if_none_match("*").send().await.unwrap();
    let error = put("2").if_none_match("*").send().await.unwrap_err();
    assert_eq!(refusal(error), (412, "PreconditionFailed".to_owned()));
    let first = first.e_tag().unwrap();
    let second = put("3").if_match(first).send().await.unwrap();
    let error = put("4").if_match(first).send().await.unwrap_err();
    assert_eq!(refusal(error), (412, "PreconditionFailed".to_owned()));
    let second = second.e_tag().unwrap();
    assert_eq!(body(get(&s3, "lock").if_match(second)).await, "3");
    let error = get(&s3, "lock").if_match(first).send().await.unwrap_err();
    assert_eq!(refusal(error).0, 412);
    let error = get(&s3, "lock").if_none_match(second).send().await.unwrap_err();
    assert_eq!(refusal(error).0, 304);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_sixteen_racers_exactly_one_wins() {
    let (_cloud, s3) = start().await;
    for round in 0..20 {
        let key = format!("lock-{round}");
        let racers = (0..16).map(|racer| put(&s3, &key, format!("racer {racer}")).if_none_match("*").send());
        let results = futures_util::future::join_all(racers).await;
        let winners: Vec<_> = (0..16).filter(|racer| results[*racer].is_ok()).collect();
        assert_eq!(winners.len(), 1, "round {round}");
        let etag = results[winners[0]].as_ref().unwrap().e_tag().unwrap();
        assert_eq!(body(get(&s3, &key)).await, format!("racer {}", winners[0]));

        let racers = (0..16).map(|racer| put(&s3, &key, format!("second {racer}")).if_match(etag).send());
        let results = futures_util::future::join_all(racers).await;
        let winners = results.iter().filter(|result| result.is_ok()).count();
        assert_eq!(winners, 1, "round {round}");
        for error in results.into_iter().filter_map(Result::err) {
            assert_eq!(refusal(error).0, 412);
        }
    }
}

#[tokio::test]
async fn ranges_come_as_206_and_the_impossible_as_416() {
    let (cloud, s3) = start().await;
    cloud.put_object(BUCKET, "rows", "0123456789").unwrap();
    let got = get(&s3, "rows").range("bytes=3-5").send().await.unwrap();
    assert_eq!(got.content_range(), Some("bytes 3-5/10"));
    for (range, expected) in [
        ("bytes=3-5", "345"),
        ("bytes=7-", "789"),
        ("bytes=-2", "89"),
        ("bytes=8-100", "89"),
    ] {
        assert_eq!(body(get(&s3, "rows").range(range)).await, expected, "{range}");
    }
    let error = get(&s3, "rows").range("bytes=10-").send().await.unwrap_err();
    assert_eq!(refusal(error).0, 416);
    let missing = get(&s3, "no").send().await.unwrap_err();
    assert!(missing.as_service_error().unwrap().is_no_such_key());
    let missing = s3.head_object().bucket(BUCKET).key("no").send().await;
    assert!(missing.unwrap_err().as_service_error().unwrap().is_not_found());
}

fn pattern(length: usize) -> Bytes {
    (0..length)
        .map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect::<Vec<_>>()
        .into()
}

#[tokio::test]
async fn what_jobmill_does_not_use_is_refused() {
    let (cloud, s3) = start().await;
    cloud.put_object(BUCKET, "from", "x").unwrap();
    let copy = s3.copy_object().copy_source(format!("{BUCKET}/from"));
    let error = copy.bucket(BUCKET).key("to").send().await.unwrap_err();
    assert_eq!(refusal(error), (501, "NotImplemented".to_owned()));
    let list = s3.list_objects_v2().bucket(BUCKET).delimiter("/");
    let error = list.send().await.unwrap_err();
    assert_eq!(refusal(error), (501, "NotImplemented".to_owned()));
    let file = ByteStream::from_path(file!().strip_prefix("shared/local/").unwrap()).await;
    let chunked = put(&s3, "to", "").body(file.unwrap());
    let error = chunked.send().await.unwrap_err();
    assert_eq!(refusal(error), (501, "NotImplemented".to_owned()));
    assert_eq!(cloud.bucket_keys(BUCKET, ""), ["from"]);
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_told() {
    let (_cloud, s3) = start().await;
    let error = put(&s3, "k", "").bucket("nowhere").send().await.unwrap_err();
    assert_eq!(refusal(error), (404, "NoSuchBucket".to_owned()));
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

fn complete(s3: &Client, id: &str, parts: CompletedMultipartUpload) -> CompleteMultipartUploadFluentBuilder {
    let complete = s3.complete_multipart_upload().bucket(BUCKET).key("rows");
    complete.upload_id(id).if_none_match("*").multipart_upload(parts)
}

#[tokio::test]
async fn a_multipart_upload_becomes_an_object_once() {
    let (cloud, s3) = start().await;
    let parts = [pattern(5 << 20), pattern((5 << 20) + 1), pattern(17)];
    let (id, completed) = upload(&s3, "rows", &parts).await;
    assert!(cloud.bucket_keys(BUCKET, "").is_empty());
    let (other, other_completed) = upload(&s3, "rows", &parts).await;
    let complete = |id: &str, parts| complete(&s3, id, parts).send();
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
    let range = format!("bytes={}-{}", seam - 2, seam + 1);
    let got = body(get(&s3, "rows").range(range)).await;
    assert_eq!(got, object.body.slice(seam - 2..seam + 2));
    let abort = |id: &str| {
        let abort = s3.abort_multipart_upload().bucket(BUCKET).key("rows");
        abort.upload_id(id).send()
    };
    abort(&other).await.unwrap();
    let error = abort(&other).await.unwrap_err();
    assert_eq!(refusal(error), (404, "NoSuchUpload".to_owned()));
}

#[tokio::test]
async fn a_small_part_in_the_middle_is_refused() {
    let (_cloud, s3) = start().await;
    let (id, completed) = upload(&s3, "rows", &[pattern(10), pattern(10)]).await;
    let error = complete(&s3, &id, completed).send().await.unwrap_err();
    assert_eq!(refusal(error), (400, "EntityTooSmall".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_racing_completions_exactly_one_wins() {
    let (_cloud, s3) = start().await;
    let mut uploads = Vec::new();
    for racer in 0..16 {
        uploads.push(upload(&s3, "rows", &[Bytes::from(format!("racer {racer}"))]).await);
    }
    let racers = uploads
        .into_iter()
        .map(|(id, parts)| complete(&s3, &id, parts).send());
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
    assert!(cloud.object(BUCKET, "rows").is_none());
}

#[tokio::test]
async fn listing_pages_through_a_prefix_in_byte_order() {
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
}
