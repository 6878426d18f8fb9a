//! Metrics of CloudWatch, which say how well labourers are: `GetMetricStatistics`, and nothing else.
//!
//! AWS's client of CloudWatch would bring a second version of half of the HTTP crates for this one request. So it is
//! written out here, in CloudWatch's JSON protocol (`application/x-amz-json-1.0`, that of the service's model in
//! botocore), signed and sent by what the other clients are made of.
//!
//! Permission: `cloudwatch:GetMetricStatistics`.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use aws_credential_types::provider::ProvideCredentials as _;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime::client::orchestrator::operation::Operation;
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse, OrchestratorError};
use aws_smithy_types::body::SdkBody;
use aws_types::SdkConfig;
use aws_types::service_config::ServiceConfigKey;
use jobmill_core::task::labourer::{MetricSource, Statistic};
use jobmill_engine::ports::{PortError, PortResult};
use serde_json::{Value, json};

use crate::error::classify;
use crate::problem::with_causes;

const OPERATION: &str = "cloudwatch:GetMetricStatistics";
const TARGET: &str = "GraniteServiceVersion20100801.GetMetricStatistics";
const JSON: &str = "application/x-amz-json-1.0";
/// As CloudWatch is called in signatures and host names.
const SERVICE: &str = "monitoring";

/// CloudWatch, as far as its metrics are read.
#[derive(Debug, Clone)]
pub(crate) struct Metrics(Arc<SdkConfig>);

/// What came back: the status, and the body.
type Answered = (u16, Vec<u8>);

impl Metrics {
    pub(crate) fn new(config: SdkConfig) -> Self {
        Self(Arc::new(config))
    }

    /// The datapoints of a metric in its window, which ends now.
    pub(crate) async fn datapoints(&self, source: &MetricSource) -> PortResult<Vec<f64>> {
        #[allow(
            clippy::disallowed_methods,
            reason = "CloudWatch is asked for the time until now"
        )]
        let now = SystemTime::now();
        let request = self.signed(&body(source, now), now).await?;
        let (status, body) = self.send(request).await?;
        if status == 200 {
            return read(source.statistic, &body);
        }
        let error: Value = serde_json::from_slice(&body).unwrap_or_default();
        let text = |names: [&str; 2]| names.into_iter().find_map(|name| error.get(name)?.as_str());
        let code = text(["__type", "code"]).unwrap_or_default();
        // `namespace#Code`
        let code = code.rsplit('#').next().unwrap_or_default().to_owned();
        let message = text(["message", "Message"]).unwrap_or_default();
        Err(classify(
            OPERATION,
            status,
            code,
            format!("{message} (http status {status})"),
        ))
    }

    fn endpoint(&self) -> String {
        let key = ServiceConfigKey::builder()
            .service_id("CloudWatch")
            .env("AWS_ENDPOINT_URL")
            .profile("endpoint_url")
            .build();
        let of_service = || self.0.service_config()?.load_config(key.ok()?);
        let set = of_service().or_else(|| self.0.endpoint_url().map(str::to_owned));
        set.unwrap_or_else(|| {
            let region = self.region();
            let domain = if region.starts_with("cn-") {
                "amazonaws.com.cn"
            } else {
                "amazonaws.com"
            };
            format!("https://{SERVICE}.{region}.{domain}")
        })
    }

    fn region(&self) -> &str {
        self.0.region().map_or("us-east-1", AsRef::as_ref)
    }

    async fn signed(&self, body: &str, now: SystemTime) -> PortResult<HttpRequest> {
        let unsent = |why: String| PortError::Unknown {
            operation: OPERATION,
            message: why,
        };
        let provider = self.0.credentials_provider();
        let provider = provider.ok_or_else(|| unsent("there are no credentials".to_owned()))?;
        let credentials = provider.provide_credentials().await;
        let identity = credentials.map_err(|error| unsent(with_causes(&error)))?.into();
        let uri = format!("{}/", self.endpoint().trim_end_matches('/'));
        let headers = [("content-type", JSON), ("x-amz-target", TARGET)];
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(self.region())
            .name(SERVICE)
            .time(now)
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| unsent(with_causes(&error)))?
            .into();
        let bytes = SignableBody::Bytes(body.as_bytes());
        let signable = SignableRequest::new("POST", &uri, headers.into_iter(), bytes);
        let signed = signable.and_then(|signable| sign(signable, &params));
        let (instructions, _) = signed.map_err(|error| unsent(with_causes(&error)))?.into_parts();
        let mut request = http::Request::post(&uri).body(SdkBody::from(body));
        if let Ok(request) = &mut request {
            for (name, value) in headers {
                request
                    .headers_mut()
                    .insert(name, http::HeaderValue::from_static(value));
            }
            instructions.apply_to_request_http1x(request);
        }
        let request = request.map_err(|error| unsent(with_causes(&error)))?;
        request.try_into().map_err(|error| unsent(with_causes(&error)))
    }

    /// By the transport, with the attempts and time-outs, of the other clients.
    async fn send(&self, request: HttpRequest) -> PortResult<Answered> {
        let config = &self.0;
        let mut operation = Operation::builder()
            .service_name("CloudWatch")
            .operation_name("GetMetricStatistics")
            .endpoint_url(&self.endpoint())
            .no_auth();
        if let Some(client) = config.http_client() {
            operation = operation.http_client(client);
        }
        if let Some(sleep) = config.sleep_impl() {
            operation = operation.sleep_impl(sleep);
        }
        if let Some(time) = config.time_source() {
            operation = operation.time_source(time);
        }
        if let Some(timeouts) = config.timeout_config() {
            operation = operation.timeout_config(timeouts.clone());
        }
        operation = match config.retry_config() {
            Some(retries) => operation.standard_retry(retries),
            None => operation.no_retry(),
        };
        let operation = operation
            .serializer(|request: Mutex<Option<HttpRequest>>| {
                let taken = request.into_inner().ok().flatten();
                taken.ok_or_else(|| "a request is sent once".into())
            })
            .deserializer(|response: &HttpResponse| {
                let body = response.body().bytes().unwrap_or_default().to_vec();
                Ok::<_, OrchestratorError<std::convert::Infallible>>((response.status().as_u16(), body))
            })
            .build();
        let answer = operation.invoke(Mutex::new(Some(request))).await;
        answer.map_err(|error| PortError::Unknown {
            operation: OPERATION,
            message: with_causes(&error),
        })
    }
}

const fn name_of(statistic: Statistic) -> &'static str {
    match statistic {
        Statistic::Average => "Average",
        Statistic::Maximum => "Maximum",
        Statistic::Minimum => "Minimum",
    }
}

fn body(source: &MetricSource, now: SystemTime) -> String {
    let end = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let start = end.saturating_sub(Duration::from_secs(source.window.into()));
    let dimensions = source.dimensions.iter();
    let dimensions: Vec<Value> = dimensions
        .map(|(name, value)| json!({ "Name": name, "Value": value }))
        .collect();
    json!({
        "Namespace": source.namespace,
        "MetricName": source.metric,
        "Dimensions": dimensions,
        "StartTime": start.as_secs(),
        "EndTime": end.as_secs(),
        "Period": source.period,
        "Statistics": [name_of(source.statistic)],
    })
    .to_string()
}

fn read(statistic: Statistic, body: &[u8]) -> PortResult<Vec<f64>> {
    let answer: Value = serde_json::from_slice(body).map_err(|error| PortError::Unknown {
        operation: OPERATION,
        message: format!("the answer is no JSON: {error}"),
    })?;
    let datapoints = answer.get("Datapoints").and_then(Value::as_array);
    let values = datapoints
        .into_iter()
        .flatten()
        .filter_map(|point| point.get(name_of(statistic))?.as_f64());
    Ok(values.collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread;

    use super::*;
    use crate::clients::{ClientOptions, Clients};

    fn source() -> MetricSource {
        MetricSource {
            namespace: "AWS/RDS".to_owned(),
            metric: "CPUUtilization".to_owned(),
            dimensions: BTreeMap::from([("DBInstanceIdentifier".to_owned(), "db".to_owned())]),
            statistic: Statistic::Maximum,
            period: 60,
            window: 300,
        }
    }

    /// What CloudWatch is asked, headers and body, and what is made of its answer.
    fn asked(status: &str, answer: &'static str) -> (Vec<String>, Value, PortResult<Vec<f64>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let status = status.to_owned();
        let server = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream);
            let mut headers = Vec::new();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                match line.trim() {
                    "" => break,
                    line => headers.push(line.to_ascii_lowercase()),
                }
            }
            let length = headers
                .iter()
                .find_map(|header| header.strip_prefix("content-length: "));
            let mut body = vec![0; length.unwrap().parse().unwrap()];
            reader.read_exact(&mut body).unwrap();
            let length = answer.len();
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            reader
                .get_mut()
                .write_all(format!("{head}{answer}").as_bytes())
                .unwrap();
            (headers, serde_json::from_slice::<Value>(&body).unwrap())
        });
        let clients = Clients::at_endpoint(endpoint, ClientOptions::default());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let answer = runtime.block_on(clients.metrics().datapoints(&source()));
        let (headers, body) = server.join().unwrap();
        (headers, body, answer)
    }

    #[test]
    fn the_datapoints_of_the_window_are_asked_for_by_a_signed_request() {
        let points = r#"{"Label": "m", "Datapoints": [
            {"Timestamp": 1709701600, "Maximum": 12.5, "Unit": "Percent"}, {"Timestamp": 1709701660, "Maximum": 7}
        ]}"#;
        let (headers, body, answer) = asked("200 OK", points);
        assert_eq!(answer, Ok(vec![12.5, 7.0]));
        assert_eq!(headers[0], "post / http/1.1");
        let header = |name: &str| {
            headers
                .iter()
                .find_map(|header| header.strip_prefix(&format!("{name}: ")))
        };
        assert_eq!(header("x-amz-target"), Some(TARGET.to_ascii_lowercase().as_str()));
        assert_eq!(header("content-type"), Some(JSON));
        let signature = header("authorization").unwrap();
        assert!(
            signature.contains("/us-east-1/monitoring/aws4_request"),
            "{signature}"
        );
        assert!(signature.contains("x-amz-target"), "{signature}");
        let seconds = |name: &str| body[name].as_u64().unwrap();
        assert_eq!(seconds("EndTime") - seconds("StartTime"), 300);
        assert_eq!(
            (
                &body["Namespace"],
                &body["MetricName"],
                &body["Period"],
                &body["Statistics"],
                &body["Dimensions"]
            ),
            (
                &json!("AWS/RDS"),
                &json!("CPUUtilization"),
                &json!(60),
                &json!(["Maximum"]),
                &json!([{ "Name": "DBInstanceIdentifier", "Value": "db" }])
            )
        );
    }

    #[test]
    fn a_refusal_is_said_and_nothing_is_no_datapoint() {
        let refusal = r#"{"__type": "com.amazon.coral.service#AccessDeniedException", "Message": "no"}"#;
        let (_, _, answer) = asked("400 Bad Request", refusal);
        let Err(PortError::Refused { code, .. }) = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(code, "AccessDeniedException");
        assert_eq!(asked("200 OK", "{}").2, Ok(vec![]));
        assert!(matches!(
            asked("200 OK", "<xml/>").2,
            Err(PortError::Unknown { .. })
        ));
    }
}
