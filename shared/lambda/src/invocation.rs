//! What the platform says of an invocation: until when it may work, and by what name it was invoked.

use std::time::Duration;

use jobmill_engine::ports::Clock;
use lambda_runtime::{Context, LambdaEvent};
use serde_json::value::RawValue;

/// The event as text: read by the same rules as every other JSON from outside.
pub type Event = LambdaEvent<Box<RawValue>>;

/// The end of the invocation by the monotonic clock; where the platform does not say, after `timeout` seconds.
pub fn deadline(context: &Context, clock: &impl Clock, timeout: u32) -> Duration {
    let left = time_left(context.deadline, clock.wall_ms()).unwrap_or_else(|| {
        tracing::warn!(
            timeout,
            "the platform gave no deadline: the configured `timeout` counts"
        );
        Duration::from_secs(u64::from(timeout))
    });
    clock.monotonic() + left
}

/// What a sibling is invoked by: the ARN of this invocation, with its version or alias. `cargo lambda watch` sends the text
/// `function-arn` instead, and knows functions by their names.
pub fn this_function(context: &Context) -> &str {
    if context.invoked_function_arn.starts_with("arn:") {
        &context.invoked_function_arn
    } else {
        &context.env_config.function_name
    }
}

/// How long until the deadline. `cargo lambda watch` sends one of 1970: a deadline that is over before the invocation
/// began says nothing.
fn time_left(deadline_ms: u64, now_ms: i64) -> Option<Duration> {
    let now_ms = u64::try_from(now_ms).ok()?;
    deadline_ms
        .checked_sub(now_ms)
        .filter(|left| *left > 0)
        .map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct At(i64);

    impl Clock for At {
        fn wall_ms(&self) -> i64 {
            self.0
        }

        fn monotonic(&self) -> Duration {
            Duration::from_secs(1_000)
        }

        async fn sleep(&self, _: Duration) {}
    }

    #[test]
    fn the_deadline_is_that_of_the_platform_or_the_configured_time() {
        let mut context = Context::default();
        let seconds = |context: &Context| deadline(context, &At(1_709_700_000_000), 60).as_secs_f64();
        context.deadline = 1_709_700_000_900;
        assert_eq!(seconds(&context), 1_000.9);
        // Over before it began, and 1970, as cargo lambda watch has it.
        for over in [1_709_700_000_000, 42] {
            context.deadline = over;
            assert_eq!(seconds(&context), 1_060.0);
        }
    }

    #[test]
    fn a_function_is_known_by_its_arn_or_else_by_its_name() {
        let mut context = Context::default();
        context.invoked_function_arn = "arn:aws:lambda:eu-west-1:1:function:scheduler:live".to_owned();
        assert_eq!(this_function(&context), context.invoked_function_arn);
        context.invoked_function_arn = "function-arn".to_owned();
        assert_eq!(this_function(&context), context.env_config.function_name);
    }
}
