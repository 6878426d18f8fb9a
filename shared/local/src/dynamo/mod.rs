//! DynamoDB: `dynoxide`, in memory or in a file, behind its own HTTP server, and the way there, on which requests can be throttled.

mod admission;
mod tables;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ::http::uri::{Authority, Scheme};
use ::http::{Request, Response, StatusCode, Uri, header};
use bytes::Bytes;
use dynoxide::Database;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use s3s::Body;
use serde_json::Value;

pub use tables::table_definitions;

use crate::error::LocalError;
use crate::faults::{Effect, Faults, Service};
use crate::http::{Aborted, answer, bind, collect};
use crate::service::Endpoint;
use crate::stats::Stats;

use admission::{Admission, Gate};

const TARGET: &str = "x-amz-target";
const TARGET_PREFIX: &str = "DynamoDB_20120810.";
/// The content type of DynamoDB's JSON.
pub(crate) const JSON: &str = "application/x-amz-json-1.0";

/// The DynamoDB endpoint.
#[derive(Clone)]
pub(crate) struct DynamoEndpoint {
    database: Database,
    address: SocketAddr,
    client: Client<HttpConnector, Body>,
    faults: Faults,
    stats: Arc<Stats>,
}

impl std::fmt::Debug for DynamoEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DynamoEndpoint")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Endpoint for DynamoEndpoint {
    const SERVICE: Service = Service::DynamoDb;

    fn operation(request: &Request<Body>) -> Option<String> {
        let target = request.headers().get(TARGET)?.to_str().ok()?;
        target.strip_prefix(TARGET_PREFIX).map(str::to_owned)
    }

    /// All paths are the same: table and keys are named in the body.
    fn names(request: &Request<Bytes>, part: &str) -> bool {
        contains(request.body(), part.as_bytes())
    }

    fn applies(operation: &str, _request: &Request<Bytes>, effect: &Effect) -> bool {
        match effect {
            Effect::Conflict | Effect::LoseInvoke | Effect::DoubleInvoke => false,
            Effect::Unprocessed(_) => matches!(operation, "BatchWriteItem" | "BatchExecuteStatement"),
            _ => true,
        }
    }

    async fn call(
        &self,
        operation: &str,
        request: Request<Body>,
        effect: Option<&Effect>,
    ) -> Result<Response<Body>, Aborted> {
        if effect == Some(&Effect::Error) {
            let body = error_body("InternalServerError", "an injected error");
            return Ok(answer(StatusCode::INTERNAL_SERVER_ERROR, JSON, body));
        }
        if !self.faults.is_active() {
            return self.forward(request).await;
        }
        let (mut parts, body) = request.into_parts();
        let body = collect(body).await?;
        let gate = Gate {
            effect,
            faults: &self.faults,
            stats: &self.stats,
        };
        match gate.admit(operation, &body) {
            Admission::All => self.forward(Request::from_parts(parts, Body::from(body))).await,
            Admission::None(response) => Ok(response),
            Admission::Some { request, rest } => {
                // Its length has changed.
                parts.headers.remove(header::CONTENT_LENGTH);
                let request = Request::from_parts(parts, Body::from(request));
                rest.merge(self.forward(request).await?).await
            }
        }
    }
}

impl DynamoEndpoint {
    /// Starts dynoxide on a port of its own; runs until the runtime ends.
    pub(crate) async fn start(
        file: Option<PathBuf>,
        faults: Faults,
        stats: Arc<Stats>,
    ) -> Result<Self, LocalError> {
        let database = match file {
            Some(file) => Database::new(&file.to_string_lossy()),
            None => Database::memory(),
        };
        let database = database.map_err(|error| database_error(&error))?;
        let (listener, address) = bind().await?;
        tokio::spawn(dynoxide::server::serve_on(listener, database.clone()));
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self {
            database,
            address,
            client,
            faults,
            stats,
        })
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

    pub(crate) fn has_table(&self, table: &str) -> bool {
        let request = serde_json::from_value(serde_json::json!({ "TableName": table }));
        request.is_ok_and(|request| self.database.describe_table(request).is_ok())
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

/// The body of an error of DynamoDB.
pub(crate) fn error_body(code: &str, message: &str) -> String {
    serde_json::json!({
        "__type": format!("com.amazonaws.dynamodb.v20120810#{code}"),
        "message": message,
    })
    .to_string()
}
