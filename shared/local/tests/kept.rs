//! A cloud whose objects and items are kept in a folder.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use jobmill_aws::{ClientOptions, Clients, S3Store};
use jobmill_core::task::tables::Tables;
use jobmill_engine::ports::{Metadata, ObjectStore as _, PutIf};
use jobmill_local::{LocalCloud, LocalCloudOptions};
use serde_json::json;
use tempfile::TempDir;

async fn start(folder: &TempDir) -> (LocalCloud, S3Store) {
    let options = LocalCloudOptions::default().folder(folder.path());
    let cloud = LocalCloud::start(options).await.unwrap();
    cloud.create_bucket("kept");
    cloud.create_task_tables(&Tables::default()).unwrap();
    let clients = Clients::at_endpoint(cloud.endpoint(), ClientOptions::default());
    (cloud, S3Store::new(clients.s3, "kept"))
}

#[tokio::test]
async fn objects_and_items_are_there_at_the_next_start_as_they_were() {
    let folder = TempDir::new().unwrap();
    let (cloud, store) = start(&folder).await;
    let long = format!("a/{}", "ä".repeat(400));
    let metadata = Metadata::from([("run".to_owned(), "r-1".to_owned())]);
    for key in [&long, "left", "gone"] {
        store
            .put(key, format!("body of {key}\n\0").into(), &metadata, PutIf::Absent)
            .await
            .unwrap();
    }
    store.delete("gone", None).await.unwrap();
    let item = json!({"task_id": {"S": "t"}, "labourer_id": {"S": "w"}, "greenfield": {"N": "1"}});
    cloud.put_item("sosw_tasks", item.clone()).unwrap();
    let before = cloud.object("kept", &long).unwrap();
    let etag = store.head(&long).await.unwrap().unwrap().etag;
    drop(cloud);

    let (cloud, store) = start(&folder).await;
    assert_eq!(cloud.bucket_keys("kept", ""), [long.as_str(), "left"]);
    assert_eq!(cloud.object("kept", &long).unwrap(), before);
    assert_eq!(cloud.scan_table("sosw_tasks").unwrap(), [item]);
    // Conditions hold over the restart.
    assert!(
        store
            .put(&long, "x".into(), &metadata, PutIf::Absent)
            .await
            .is_err()
    );
    store
        .put(&long, "x".into(), &metadata, PutIf::Matches(etag))
        .await
        .unwrap();
}

#[tokio::test]
async fn an_object_that_was_half_written_never_was_and_a_foreign_file_is_told() {
    let folder = TempDir::new().unwrap();
    let (cloud, store) = start(&folder).await;
    store
        .put("a", "1".into(), &Metadata::new(), PutIf::Absent)
        .await
        .unwrap();
    drop(cloud);
    std::fs::write(folder.path().join("s3/0123.unfinished"), "{").unwrap();
    let (cloud, _) = start(&folder).await;
    assert_eq!(cloud.bucket_keys("kept", ""), ["a"]);
    drop(cloud);
    std::fs::write(folder.path().join("s3/notes.txt"), "mine").unwrap();
    let error = LocalCloud::start(LocalCloudOptions::default().folder(folder.path())).await;
    assert!(error.unwrap_err().to_string().contains("notes.txt"));
}
