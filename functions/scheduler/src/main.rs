//! The scheduler Lambda. This file only says where variables come from and how memory is had.
// The types of the SDK's futures are deep.
#![recursion_limit = "256"]

/// A drain allocates for every request; docs/performance.md has what this one saves.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[allow(
    clippy::disallowed_methods,
    reason = "a composition root reads the environment"
)]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    jobmill_scheduler::serve(environment).await
}
