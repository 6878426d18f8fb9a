//! The ports of dispatch on the SDK (`LambdaWorkers`, `SqsOutcomes`) against the local cloud, and against servers that
//! break connections.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jobmill_aws::{ClientOptions, Clients, LambdaWorkers, SqsOutcomes};
use jobmill_engine::dispatch::ports::{Answer, Asked, Asking, Outcomes as _, Workers as _};
use jobmill_engine::ports::PortError;
use jobmill_local::{Effect, FunctionSpec, InvocationKind, LocalCloud, Rule, Service};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(30);
const WAIT: Asking = Asking::Wait(PATIENCE);

fn clients(endpoint: &str) -> Clients {
    Clients::at_endpoint(endpoint, ClientOptions::default())
}

async fn start(spec: FunctionSpec) -> (LocalCloud, LambdaWorkers) {
    let cloud = support::cloud().await;
    cloud.register_function(spec);
    let workers = LambdaWorkers::new(&clients(&cloud.endpoint()));
    (cloud, workers)
}

fn echo() -> FunctionSpec {
    FunctionSpec::new("echo", env!("CARGO_BIN_EXE_local-echo-function")).timeout(PATIENCE)
}

async fn ask(workers: &LambdaWorkers, payload: Value, asking: Asking) -> Asked {
    workers.ask("echo", payload.to_string(), asking).await
}

fn answer(asked: Asked) -> (Value, bool) {
    match asked {
        Asked::Answered(Answer { payload, is_error }) => {
            (serde_json::from_slice(&payload).unwrap(), is_error)
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn unfit(asked: Asked, kind: &str, cure: &str) {
    match asked {
        Asked::WorkerUnfit(unfit) => {
            assert_eq!(unfit.kind, kind);
            assert!(unfit.message.contains(cure), "{}", unfit.message);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_worker_answers_who_waits() {
    let (cloud, workers) = start(echo()).await;
    assert_eq!(
        answer(ask(&workers, json!({"n": 1.50}), WAIT).await),
        (json!({"n": 1.50}), false)
    );
    let (failure, is_error) = answer(ask(&workers, json!({"fail": true}), WAIT).await);
    assert_eq!(
        (failure["errorType"].as_str(), is_error),
        (Some("Echo.Told"), true)
    );
    let (crash, is_error) = answer(ask(&workers, json!({"exit": 3}), WAIT).await);
    assert_eq!(
        (crash["errorType"].as_str(), is_error),
        (Some("Runtime.ExitError"), true)
    );
    let kinds: Vec<_> = cloud.invocations().iter().map(|record| record.kind).collect();
    assert_eq!(kinds, [InvocationKind::RequestResponse; 3]);
}

#[tokio::test]
async fn an_event_is_queued_and_runs() {
    let (cloud, workers) = start(echo()).await;
    assert_eq!(ask(&workers, json!({"n": 1}), Asking::Event).await, Asked::Queued);
    cloud.wait_idle(PATIENCE).await.unwrap();
    let records = cloud.invocations();
    assert_eq!((records.len(), records[0].kind), (1, InvocationKind::Event));
    assert_eq!(records[0].payload, r#"{"n":1}"#);
}

#[tokio::test]
async fn a_worker_that_runs_too_long_is_unknown() {
    let (cloud, _) = start(echo()).await;
    let request_time = Duration::from_millis(100);
    let workers = LambdaWorkers::new(&Clients::at_endpoint(
        cloud.endpoint(),
        ClientOptions { request_time },
    ));
    // It is there before the clock runs.
    answer(ask(&workers, json!({"warm": 1}), WAIT).await);
    let began = Instant::now();
    let asked = ask(
        &workers,
        json!({"hang": true}),
        Asking::Wait(Duration::from_millis(400)),
    )
    .await;
    assert!(
        matches!(&asked, Asked::Unknown(why) if why.contains("no answer")),
        "{asked:?}"
    );
    assert!(began.elapsed() >= Duration::from_millis(500));
    // Longer than any other request may take, and still an answer.
    cloud.kill_all_instances();
    cloud.faults().add(Rule::new(
        Service::Lambda,
        Effect::Delay {
            min: Duration::from_secs(6),
            max: Duration::from_secs(6),
        },
    ));
    let workers = LambdaWorkers::new(&clients(&cloud.endpoint()));
    assert_eq!(
        answer(ask(&workers, json!({"n": 1}), Asking::Wait(Duration::from_secs(20))).await).0,
        json!({"n": 1})
    );
}

#[tokio::test]
async fn what_goes_wrong_says_whether_the_worker_was_started_and_is_never_tried_again() {
    let (cloud, workers) = start(echo().retry_delays([])).await;
    for asking in [WAIT, Asking::Event] {
        let asked = async |effect| {
            let before = cloud.invocations().len();
            let rule = cloud.faults().add(Rule::new(Service::Lambda, effect));
            let asked = ask(&workers, json!({"n": 1}), asking).await;
            assert_eq!(cloud.faults().fired(rule), 1, "one request");
            cloud.faults().clear();
            cloud.wait_idle(PATIENCE).await.unwrap();
            (asked, cloud.invocations().len() - before)
        };
        assert!(matches!(asked(Effect::Throttle).await, (Asked::Throttled(_), 0)));
        assert!(matches!(asked(Effect::Error).await, (Asked::Unknown(_), 0)));
        assert!(matches!(asked(Effect::Refuse).await, (Asked::Unknown(_), 0)));
        assert!(matches!(asked(Effect::LoseAnswer).await, (Asked::Unknown(_), 1)));
    }
}

#[tokio::test]
async fn a_worker_that_can_not_be_started_is_told_with_its_cure() {
    let (cloud, workers) = start(echo().max_concurrency(1)).await;
    let arn = "arn:aws:lambda:us-east-1:000000000000:function:nobody";
    for asking in [WAIT, Asking::Event] {
        let asked = workers.ask(arn, "{}".to_owned(), asking).await;
        unfit(asked, "FunctionNotFound", "nobody");
        unfit(
            workers.ask("", "{}".to_owned(), asking).await,
            "InvalidFunctionName",
            "correct the ARN",
        );
        let asked = workers.ask("echo", "{".to_owned(), asking).await;
        assert!(matches!(asked, Asked::PayloadRefused(_)), "{asked:?}");
    }
    let large = json!("x".repeat(1 << 20));
    let asked = ask(&workers, large, Asking::Event).await;
    assert!(
        matches!(&asked, Asked::PayloadRefused(why) if why.contains("1048578")),
        "{asked:?}"
    );
    assert_eq!(cloud.invocations(), []);
    // All its instances are at work.
    let (_, throttled) = tokio::join!(ask(&workers, json!({"hang": true}), WAIT), async {
        cloud.wait_log("hanging", PATIENCE).await.unwrap();
        let asked = ask(&workers, json!({"n": 1}), WAIT).await;
        cloud.kill_all_instances();
        asked
    });
    assert!(matches!(throttled, Asked::Throttled(_)), "{throttled:?}");
}

#[tokio::test]
async fn a_request_that_never_left_has_started_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    for endpoint in [
        closed.as_str(),
        "http://no-such-host.invalid:80",
        &closed.replace("http", "https"),
    ] {
        let workers = LambdaWorkers::new(&clients(endpoint));
        let asked = ask(&workers, json!({}), WAIT).await;
        assert!(matches!(asked, Asked::Throttled(_)), "{endpoint}: {asked:?}");
    }
}

/// Reads a request whole; false if there is none.
async fn read_request(stream: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else {
            return false;
        };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head
        .split("content-length: ")
        .nth(1)
        .unwrap()
        .split('\r')
        .next()
        .unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).await.is_ok()
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

/// A Lambda that answers the first request of a connection, and closes it `after` more have arrived. Counts connections
/// and requests.
async fn closing(after: usize) -> (LambdaWorkers, Arc<[AtomicUsize; 2]>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let workers = LambdaWorkers::new(&clients(&format!("http://{}", listener.local_addr().unwrap())));
    let counts: Arc<[AtomicUsize; 2]> = Arc::default();
    let seen = Arc::clone(&counts);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            seen[0].fetch_add(1, Ordering::SeqCst);
            let seen = Arc::clone(&seen);
            tokio::spawn(async move {
                for number in 0..=after {
                    if !read_request(&mut stream).await {
                        return;
                    }
                    seen[1].fetch_add(1, Ordering::SeqCst);
                    if number == 0 {
                        stream.write_all(ANSWER).await.unwrap();
                    }
                }
            });
        }
    });
    (workers, counts)
}

#[tokio::test]
async fn a_request_over_a_used_connection_that_dies_is_not_sent_again() {
    let (workers, counts) = closing(1).await;
    for asking in [WAIT, Asking::Event] {
        counts.iter().for_each(|count| count.store(0, Ordering::SeqCst));
        assert!(matches!(ask(&workers, json!({}), WAIT).await, Asked::Answered(_)));
        let asked = ask(&workers, json!({}), asking).await;
        assert!(matches!(asked, Asked::Unknown(_)), "{asked:?}");
        let seen = counts.each_ref().map(|count| count.load(Ordering::SeqCst));
        assert_eq!(seen, [1, 2], "one connection, two requests");
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_costs_no_second_start() {
    let (workers, counts) = closing(0).await;
    let mut arrived = 0;
    for _ in 0..50 {
        // It may be noticed before the request goes out (a new connection then), or only when it has.
        match ask(&workers, json!({}), WAIT).await {
            Asked::Answered(_) => arrived += 1,
            Asked::Unknown(_) => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(counts[1].load(Ordering::SeqCst), arrived);
    }
    assert!(arrived > 0);
}

#[tokio::test]
async fn how_long_a_worker_may_run_is_asked() {
    let (cloud, workers) = start(echo().timeout(Duration::from_secs(90))).await;
    assert_eq!(workers.longest_run("echo").await, Ok(Ok(Duration::from_secs(90))));
    let nobody = workers.longest_run("nobody").await.unwrap().unwrap_err();
    assert_eq!(nobody.kind, "FunctionNotFound");
    let rule = cloud
        .faults()
        .add(Rule::new(Service::Lambda, Effect::Error).times(2));
    assert!(workers.longest_run("echo").await.is_ok(), "reads are tried again");
    assert_eq!(cloud.faults().fired(rule), 2);
    cloud.faults().add(Rule::new(Service::Lambda, Effect::Throttle));
    assert!(matches!(
        workers.longest_run("echo").await,
        Err(PortError::Throttled { .. })
    ));
}

async fn queue() -> (LocalCloud, aws_sdk_sqs::Client, String, SqsOutcomes) {
    let cloud = support::cloud().await;
    let url = cloud.create_queue("outcomes");
    let outcomes = SqsOutcomes::new(&clients(&cloud.endpoint()), Some(url.clone()));
    let client = support::sqs(&cloud);
    (cloud, client, url, outcomes)
}

async fn send(client: &aws_sdk_sqs::Client, url: &str, body: &str) {
    client
        .send_message()
        .queue_url(url)
        .message_body(body)
        .send()
        .await
        .unwrap();
}

#[tokio::test]
async fn outcomes_come_until_they_are_acknowledged() {
    let (cloud, client, url, outcomes) = queue().await;
    assert!(outcomes.is_there());
    for number in 0..25 {
        send(&client, &url, &number.to_string()).await;
    }
    let mut handles = Vec::new();
    let mut bodies = Vec::new();
    while bodies.len() < 25 {
        let news = outcomes.receive().await.unwrap();
        assert!((1..=10).contains(&news.len()));
        for news in news {
            bodies.push(news.body.parse::<u32>().unwrap());
            handles.push(news.handle);
        }
    }
    assert_eq!(bodies, (0..25).collect::<Vec<_>>());
    // What fails among them comes again, and is no error.
    handles.push("nonsense".to_owned());
    outcomes.acknowledge(&handles).await.unwrap();
    assert_eq!(cloud.stats().requests(Service::Sqs, "DeleteMessageBatch"), 3);
    let names = [aws_sdk_sqs::types::QueueAttributeName::ApproximateNumberOfMessagesNotVisible];
    let left = client
        .get_queue_attributes()
        .queue_url(&url)
        .set_attribute_names(Some(names.to_vec()));
    assert_eq!(left.send().await.unwrap().attributes.unwrap()[&names[0]], "0");
    outcomes.acknowledge(&[]).await.unwrap();
}

#[tokio::test]
async fn news_are_waited_for_longer_than_a_small_request_may_take() {
    let (cloud, client, url, outcomes) = queue().await;
    send(&client, &url, "news").await;
    let time = Duration::from_secs(5);
    let rule = Rule::new(Service::Sqs, Effect::Delay { min: time, max: time });
    let rule = cloud.faults().add(rule.on("ReceiveMessage"));
    assert_eq!(outcomes.receive().await.unwrap()[0].body, "news");
    assert_eq!(cloud.faults().fired(rule), 1, "one request");
}

#[tokio::test]
async fn a_deployment_without_a_queue_has_no_outcomes() {
    let (cloud, client, url, _) = queue().await;
    let none = SqsOutcomes::new(&clients(&cloud.endpoint()), None);
    assert!(!none.is_there());
    none.acknowledge(&["1.1".to_owned()]).await.unwrap();
    let missing = SqsOutcomes::new(
        &clients(&cloud.endpoint()),
        Some(url.replace("outcomes", "nowhere")),
    );
    for error in [
        missing.receive().await.unwrap_err(),
        missing.acknowledge(&["1.1".to_owned()]).await.unwrap_err(),
    ] {
        assert!(
            matches!(&error, PortError::Refused { message, .. } if message.contains("there is no queue http://")),
            "{error:?}"
        );
    }
    let outcomes = SqsOutcomes::new(&clients(&cloud.endpoint()), Some(url.clone()));
    cloud
        .faults()
        .add(Rule::new(Service::Sqs, Effect::Throttle).times(3));
    assert!(matches!(
        outcomes.receive().await,
        Err(PortError::Throttled { .. })
    ));
    cloud
        .faults()
        .add(Rule::new(Service::Sqs, Effect::Error).times(3));
    assert!(matches!(outcomes.receive().await, Err(PortError::Unknown { .. })));
    send(&client, &url, "news").await;
    assert_eq!(outcomes.receive().await.unwrap().len(), 1);
}
