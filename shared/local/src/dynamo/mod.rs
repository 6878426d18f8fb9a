//! DynamoDB: `dynoxide` in memory behind its own HTTP server, and the way there, on which requests can be throttled.

mod admission;
mod tables;

use std::net::SocketAddr;

use bytes::Bytes;
use dynoxide::Database;
use http::uri::{Authority, Scheme};
use http::{HeaderMap, Request, Response, StatusCode, Uri, header};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use s3s::Body;
use serde_json::Value;

pub use tables::TaskTables;

use crate::LocalError;
use crate::clock;
use crate::faults::{Effect, Faults, Service};
use crate::server::{self, Aborted};
use crate::stats::Stats;

use admission::Admission;

const TARGET: &str = "x-amz-target";
const TARGET_PREFIX: &str = "DynamoDB_20120810.";
const CONTENT_TYPE: &str = "application/x-amz-json-1.0";

/// The DynamoDB endpoint.
#[derive(Clone)]
pub(crate) struct DynamoEndpoint {
    database: Database,
    address: SocketAddr,
    client: Client<HttpConnector, Body>,
}

impl std::fmt::Debug for DynamoEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DynamoEndpoint")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl DynamoEndpoint {
    /// Starts dynoxide on a port of its own; runs until the runtime ends.
    pub(crate) async fn start() -> Result<Self, LocalError> {
        let database = Database::memory().map_err(|error| database_error(&error))?;
        let (listener, address) = server::bind().await?;
        tokio::spawn(dynoxide::server::serve_on(listener, database.clone()));
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self {
            database,
            address,
            client,
        })
    }

    /// dynoxide's own port, past everything that could be injected.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The operation, if the request is one for DynamoDB.
    pub(crate) fn operation(headers: &HeaderMap) -> Option<&str> {
        let target = headers.get(TARGET)?.to_str().ok()?;
        target
            .strip_prefix(TARGET_PREFIX)
            .or_else(|| target.strip_prefix("DynamoDBStreams_20120810."))
    }

    pub(crate) async fn call(
        &self,
        operation: &str,
        request: Request<Body>,
        faults: &Faults,
        stats: &Stats,
    ) -> Result<Response<Body>, Aborted> {
        if !faults.is_active() {
            return self.forward(request).await;
        }
        let (parts, body) = request.into_parts();
        let body = server::collect(body).await?;
        let names = |part: &str| contains(&body, part.as_bytes());
        let decision = faults.decide(Service::DynamoDb, operation, names, |effect| match effect {
            Effect::Conflict | Effect::LoseInvoke | Effect::DoubleInvoke => false,
            Effect::Unprocessed(_) => matches!(operation, "BatchWriteItem" | "BatchExecuteStatement"),
            _ => true,
        });
        decision.wait().await;
        match &decision.effect {
            Some(Effect::Error) => {
                let body = error_body("InternalServerError", "an injected error");
                return Ok(server::answer(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    CONTENT_TYPE,
                    body,
                ));
            }
            Some(Effect::Refuse) => return Err(Aborted),
            Some(Effect::Late(delay)) => {
                let (this, delay) = (self.clone(), *delay);
                tokio::spawn(async move {
                    clock::sleep(delay).await;
                    drop(this.forward(Request::from_parts(parts, Body::from(body))).await);
                });
                return Err(Aborted);
            }
            _ => {}
        }
        let response = match admission::admit(operation, &body, decision.effect.as_ref(), faults, stats) {
            Admission::All => self.forward(Request::from_parts(parts, Body::from(body))).await?,
            Admission::None(response) => response,
            Admission::Some { request, rest } => {
                let mut parts = parts;
                // Its length has changed.
                parts.headers.remove(header::CONTENT_LENGTH);
                let response = self
                    .forward(Request::from_parts(parts, Body::from(request)))
                    .await?;
                rest.merge(response).await?
            }
        };
        if decision.effect == Some(Effect::LoseAnswer) {
            Err(Aborted)
        } else {
            Ok(response)
        }
    }

    async fn forward(&self, mut request: Request<Body>) -> Result<Response<Body>, Aborted> {
        let mut uri = std::mem::take(request.uri_mut()).into_parts();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(Authority::try_from(self.address.to_string()).map_err(|_| Aborted)?);
        *request.uri_mut() = Uri::from_parts(uri).map_err(|_| Aborted)?;
        let response = self.client.request(request).await.map_err(|error| {
            tracing::debug!(%error, "dynoxide did not answer");
            Aborted
        })?;
        Ok(response.map(Body::from))
    }

    /// Creates a table from the JSON of a CreateTable request.
    pub(crate) fn create_table(&self, definition: Value) -> Result<(), LocalError> {
        let request = serde_json::from_value(definition)?;
        self.database
            .create_table(request)
            .map_err(|error| database_error(&error))?;
        Ok(())
    }

    /// All items of a table, in DynamoDB's JSON, read at one moment per page of 1 MB.
    pub(crate) fn scan(&self, table: &str) -> Result<Vec<Value>, LocalError> {
        let mut items = Vec::new();
        let mut start = Value::Null;
        loop {
            let mut request = serde_json::json!({ "TableName": table, "ConsistentRead": true });
            if let (Some(request), false) = (request.as_object_mut(), start.is_null()) {
                request.insert("ExclusiveStartKey".to_owned(), start);
            }
            let response = self
                .database
                .scan(serde_json::from_value(request)?)
                .map_err(|error| database_error(&error))?;
            let mut page = serde_json::to_value(response)?;
            if let Some(Value::Array(found)) = page.get_mut("Items").map(Value::take) {
                items.extend(found);
            }
            start = page.get_mut("LastEvaluatedKey").map_or(Value::Null, Value::take);
            if start.is_null() {
                return Ok(items);
            }
        }
    }

    pub(crate) fn put(&self, table: &str, item: Value) -> Result<(), LocalError> {
        let request = serde_json::json!({ "TableName": table, "Item": item });
        self.database
            .put_item(serde_json::from_value(request)?)
            .map_err(|error| database_error(&error))?;
        Ok(())
    }

    pub(crate) fn get(&self, table: &str, key: Value) -> Result<Option<Value>, LocalError> {
        let request = serde_json::json!({ "TableName": table, "Key": key, "ConsistentRead": true });
        let response = self.database.get_item(serde_json::from_value(request)?);
        let mut response = serde_json::to_value(response.map_err(|error| database_error(&error))?)?;
        Ok(response
            .get_mut("Item")
            .map(Value::take)
            .filter(|item| !item.is_null()))
    }

    pub(crate) fn delete(&self, table: &str, key: Value) -> Result<(), LocalError> {
        let request = serde_json::json!({ "TableName": table, "Key": key });
        self.database
            .delete_item(serde_json::from_value(request)?)
            .map_err(|error| database_error(&error))?;
        Ok(())
    }
}

fn database_error(error: &dynoxide::DynoxideError) -> LocalError {
    LocalError::DynamoDb(error.to_string())
}

fn contains(body: &Bytes, part: &[u8]) -> bool {
    part.is_empty() || body.windows(part.len()).any(|window| window == part)
}

fn error_body(code: &str, message: &str) -> String {
    serde_json::json!({
        "__type": format!("com.amazonaws.dynamodb.v20120810#{code}"),
        "message": message,
    })
    .to_string()
}
