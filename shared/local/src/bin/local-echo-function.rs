//! A function for the tests of the local Lambda: speaks the Runtime API, and does what its event says.
//!
//! `{"fail": true}` reports an error, `{"hang": true}` never answers, `{"exit": 3}` exits, `{"print": "..."}` prints,
//! `{"env": "NAME"}` answers with the variable, `{"describe": true}` with what the Runtime API said; anything else
//! comes back as it is. `ECHO_INIT` (`exit`, `error`, `hang`) spoils the start.

use std::error::Error;
use std::process::exit;

use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

type Api = SendRequest<Full<Bytes>>;

#[allow(clippy::disallowed_methods, reason = "this is the root of a program")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

async fn call(
    api: &mut Api,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> Result<(HeaderMap, Bytes), Box<dyn Error>> {
    let request = Request::builder()
        .method(method)
        .uri(format!("/2018-06-01/runtime/{path}"))
        .header("host", "runtime");
    let request = request.header("lambda-runtime-function-error-type", "Echo.Failed");
    let response = api
        .send_request(request.body(Full::new(Bytes::from(body)))?)
        .await?;
    let headers = response.headers().clone();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((headers, body))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = variable("AWS_LAMBDA_RUNTIME_API").ok_or("AWS_LAMBDA_RUNTIME_API is not set")?;
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut api, connection) = handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    match variable("ECHO_INIT").as_deref() {
        Some("exit") => exit(7),
        Some("error") => {
            let error = json!({ "errorType": "Echo.NoStart", "errorMessage": "as told" }).to_string();
            call(&mut api, Method::POST, "init/error", error.into_bytes()).await?;
            exit(1);
        }
        Some("hang") => std::future::pending().await,
        _ => {}
    }
    loop {
        let (headers, body) = call(&mut api, Method::GET, "invocation/next", Vec::new()).await?;
        let header = |name: &str| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
        };
        let request_id = header("lambda-runtime-aws-request-id").to_owned();
        let event: Value = serde_json::from_slice(&body)?;
        let told = |name: &str| event.get(name).filter(|value| !value.is_null());
        if let Some(text) = told("print").and_then(Value::as_str) {
            println!("{text}");
            eprintln!("{text} on stderr");
        }
        if let Some(code) = told("exit").and_then(Value::as_i64) {
            exit(i32::try_from(code)?);
        }
        if told("hang").is_some() {
            println!("hanging {request_id}");
            std::future::pending::<()>().await;
        }
        let (verb, answer) = if told("fail").is_some() {
            (
                "error",
                json!({ "errorType": "Echo.Told", "errorMessage": "failed as told" }),
            )
        } else if told("describe").is_some() {
            let description = json!({
                "request_id": request_id,
                "deadline_ms": header("lambda-runtime-deadline-ms").parse::<u64>()?,
                "arn": header("lambda-runtime-invoked-function-arn"),
                "pid": std::process::id(),
            });
            ("response", description)
        } else if let Some(name) = told("env").and_then(Value::as_str) {
            ("response", json!(variable(name)))
        } else {
            ("response", event)
        };
        let path = format!("invocation/{request_id}/{verb}");
        call(&mut api, Method::POST, &path, answer.to_string().into_bytes()).await?;
    }
}
