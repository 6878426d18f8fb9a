//! The worker as a Lambda function of the local cloud: what it returns is an answer, what it throws is an error.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::time::Duration;

use jobmill_aws::{ClientOptions, Clients, LambdaWorkers};
use jobmill_core::task::outcome::{Ending, of_answer};
use jobmill_engine::dispatch::ports::{Asked, Asking, Workers as _};
use jobmill_local::{FunctionSpec, LocalCloud, LocalCloudOptions};

#[tokio::test(flavor = "multi_thread")]
async fn it_does_a_task_and_says_when_it_can_not() {
    let cloud = LocalCloud::start(LocalCloudOptions::default()).await.unwrap();
    cloud.register_function(FunctionSpec::new(
        "worker",
        env!("CARGO_BIN_EXE_jobmill-example-worker"),
    ));
    let workers = LambdaWorkers::new(&Clients::at_endpoint(cloud.endpoint(), ClientOptions::default()));
    let ending = async |payload: &str| {
        let asking = Asking::Wait(Duration::from_secs(10));
        match workers.ask("worker", payload.to_owned(), asking).await {
            Asked::Answered(answer) => of_answer(&answer.payload, answer.is_error),
            other => panic!("{other:?}"),
        }
    };
    let done = ending(r#"{"task_id": "t", "attempts": 1, "stores": ["roma", "milano"]}"#).await;
    let result = Some(r#"{"stores":2,"attempt":2}"#.to_owned());
    assert_eq!(
        done,
        Ending::Succeeded {
            result,
            eventful: None
        }
    );
    let Ending::Failed { error, retry } = ending(r#"{"task_id": "t"}"#).await else {
        panic!("a task without stores is no success");
    };
    assert!(retry && error.message.contains("no list `stores`"), "{error:?}");
}
