//! JSON logs on standard output, one object a line, as CloudWatch reads them.

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Starts logging. `level` is Lambda's `AWS_LAMBDA_LOG_LEVEL` (TRACE to FATAL); INFO where it is not set. Crates other
/// than jobmill's own, and the function's `bootstrap`, are heard from WARN on.
pub fn start(level: Option<&str>) {
    let own = match level.map(str::to_ascii_uppercase).as_deref() {
        Some("TRACE") => LevelFilter::TRACE,
        Some("DEBUG") => LevelFilter::DEBUG,
        Some("WARN") => LevelFilter::WARN,
        Some("ERROR" | "FATAL") => LevelFilter::ERROR,
        _ => LevelFilter::INFO,
    };
    let mut targets = Targets::new().with_default(own.min(LevelFilter::WARN));
    // What the handler answered it would log once more, without type and run.
    targets = targets.with_target("lambda_runtime::layers::panic", LevelFilter::OFF);
    // As prefixes: the second one stands for all of jobmill's crates.
    for name in ["bootstrap", "jobmill"] {
        targets = targets.with_target(name, own);
    }
    let json = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_target(false);
    tracing_subscriber::registry().with(targets).with(json).init();
}

/// A line of its own on standard output, whatever the level: metrics are no matter of taste.
pub fn line(text: &str) {
    use std::io::Write as _;
    if let Err(error) = writeln!(std::io::stdout().lock(), "{text}") {
        tracing::debug!(%error, "a line of metrics was not written");
    }
}
