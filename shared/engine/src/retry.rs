//! Trying again: which answers are worth it, how often, and the pause between.

use std::future::Future;
use std::time::Duration;

use crate::ports::{Clock, PortError, PortResult, Random};

/// How often a request that got no definite answer is tried.
pub(crate) const ATTEMPTS: u32 = 5;

/// Waits longer each time before something is tried again.
pub(crate) async fn pause(host: &(impl Clock + Random), attempt: u32) {
    let longest = 100_u64 << attempt.min(5);
    // 128 random bits, of which ten or so are used: between half and the whole.
    let jitter = u64::try_from(host.random() % u128::from(longest / 2 + 1)).unwrap_or(0);
    host.sleep(Duration::from_millis(longest / 2 + jitter)).await;
}

/// Whether to try again, and the pause before it.
pub(crate) async fn again(host: &(impl Clock + Random), error: &PortError, attempt: u32) -> bool {
    let worth = matches!(
        error,
        PortError::Unknown { .. } | PortError::Throttled { .. } | PortError::Conflict { .. }
    );
    if worth && attempt + 1 < ATTEMPTS {
        pause(host, attempt).await;
        return true;
    }
    false
}

/// Repeats a request that may be repeated, until there is an answer that settles it.
///
/// # Errors
/// What the last attempt met.
pub(crate) async fn retry<T, F: Future<Output = PortResult<T>>>(
    host: &(impl Clock + Random),
    mut request: impl FnMut() -> F,
) -> PortResult<T> {
    let mut attempt = 0;
    loop {
        match request().await {
            Err(error) if again(host, &error, attempt).await => attempt += 1,
            answer => return answer,
        }
    }
}
