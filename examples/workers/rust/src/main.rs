//! A worker: what it returns is the result of its task, an error is the task's error. A Lambda bootstrap.

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::{Value, json};

async fn handler(event: LambdaEvent<Value>) -> Result<Value, Error> {
    let task = event.payload;
    let stores = task["stores"].as_array().ok_or("the task has no list `stores`")?;
    Ok(json!({ "stores": stores.len(), "attempt": task["attempts"].as_u64().unwrap_or(0) + 1 }))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    run(service_fn(handler)).await
}
