//! The clients of a sandbox: made before its first invocation, or by the next one if that failed.

use jobmill_aws::{ClientOptions, Clients};
use tokio::sync::OnceCell;

use crate::failure::Failure;

/// The clients, as soon as the environment could be read.
#[derive(Debug)]
pub struct ClientsCell {
    options: ClientOptions,
    clients: OnceCell<Clients>,
}

impl ClientsCell {
    /// Tries to make the clients at once, while Lambda gives the start of a sandbox a whole core. What went wrong is said by
    /// the invocation that comes: a process that ends here would be reported without its reason.
    pub async fn start(options: ClientOptions) -> Self {
        let cell = Self {
            options,
            clients: OnceCell::new(),
        };
        if let Err(failure) = cell.get().await {
            tracing::warn!(error_type = failure.error_type(), "{failure}");
        }
        cell
    }

    /// The clients.
    ///
    /// # Errors
    /// As [`Clients::from_environment`]; the next call tries again.
    pub async fn get(&self) -> Result<&Clients, Failure> {
        let make = || Clients::from_environment(self.options.clone());
        let made = self.clients.get_or_try_init(make).await;
        made.map_err(|source| Failure::of_service("connecting to AWS", source))
    }
}
