//! Credentials that may take their time: loaded once before the first request, and renewed beside the requests.
//!
//! The SDK loads credentials within the time limit of a request, a few seconds here. A process that asks somebody for a
//! code, or a sign-in over the network, takes longer; given up and begun anew with each attempt it would never end.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use jobmill_engine::ports::{PortError, PortResult};

use crate::problem::{Profile, of_credentials};

/// Credentials that end within this time are renewed while they still serve.
const EARLY: Duration = Duration::from_secs(300);
/// Credentials that end within this time serve no more: a request may take as long.
const LATE: Duration = Duration::from_secs(15);

/// Keeps the credentials of another provider.
#[derive(Debug, Clone)]
pub(crate) struct Kept(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    source: SharedCredentialsProvider,
    /// For what to say when it fails.
    profile: Profile,
    held: Mutex<Held>,
    /// Held while credentials are loaded: one load at a time.
    loading: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Held {
    credentials: Option<Credentials>,
    /// These have been renewed early already, or are being; once is enough.
    renewed: bool,
}

impl Kept {
    pub(crate) fn new(source: SharedCredentialsProvider, profile: Profile) -> Self {
        Self(Arc::new(Inner {
            source,
            profile,
            held: Mutex::default(),
            loading: tokio::sync::Mutex::default(),
        }))
    }

    /// Loads the credentials, however long it takes.
    pub(crate) async fn load(&self) -> PortResult<()> {
        self.loaded().await.map(drop)
    }

    async fn credentials(&self) -> PortResult<Credentials> {
        let (usable, renew) = {
            let mut held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
            let left = held.credentials.as_ref().map_or(Duration::ZERO, time_left);
            let renew = left > LATE && left <= EARLY && !std::mem::replace(&mut held.renewed, true);
            (held.credentials.clone().filter(|_| left > LATE), renew)
        };
        let Some(usable) = usable else {
            return self.loaded().await;
        };
        if renew {
            let kept = self.clone();
            tokio::spawn(async move {
                let _one_at_a_time = kept.0.loading.lock().await;
                // When the held ones have run out it is tried once more, by somebody who waits for it.
                if let Err(error) = kept.0.load().await {
                    tracing::warn!(%error, "credentials were not renewed early");
                }
            });
        }
        Ok(usable)
    }

    /// Waits for credentials. They are loaded in a task of its own: a request that is given up does not end it, and the next
    /// one finds what was loaded.
    async fn loaded(&self) -> PortResult<Credentials> {
        let kept = self.clone();
        let load = tokio::spawn(async move {
            let _one_at_a_time = kept.0.loading.lock().await;
            match kept.0.usable() {
                Some(loaded_meanwhile) => Ok(loaded_meanwhile),
                None => kept.0.load().await,
            }
        });
        load.await.unwrap_or_else(|error| {
            Err(PortError::Unknown {
                operation: "loading credentials",
                message: error.to_string(),
            })
        })
    }
}

impl Inner {
    fn usable(&self) -> Option<Credentials> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.credentials.clone().filter(|held| time_left(held) > LATE)
    }

    async fn load(&self) -> PortResult<Credentials> {
        let loaded = self
            .source
            .provide_credentials()
            .await
            .map_err(|error| of_credentials(&error, &self.profile))?;
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        // A source that gives the same once more has nothing newer yet.
        held.renewed &= held.credentials.as_ref().and_then(Credentials::expiry) == loaded.expiry();
        held.credentials = Some(loaded.clone());
        Ok(loaded)
    }
}

/// How long credentials serve. Those that don't say serve for ever.
#[allow(
    clippy::disallowed_methods,
    reason = "credentials end by the clock of the machine"
)]
fn time_left(credentials: &Credentials) -> Duration {
    credentials.expiry().map_or(Duration::MAX, |end| {
        end.duration_since(SystemTime::now()).unwrap_or_default()
    })
}

impl ProvideCredentials for Kept {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        // Wrapped for the way through the SDK: `port_error` finds it again.
        future::ProvideCredentials::new(async {
            self.credentials().await.map_err(CredentialsError::provider_error)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::sync::Notify;

    use super::*;

    /// Loads when it is told to; the number of the load is the key.
    #[derive(Debug, Default)]
    struct Source {
        /// How long each load's credentials serve.
        lives: Mutex<Vec<u64>>,
        loads: AtomicU64,
        begun: Notify,
        go_on: Notify,
    }

    impl Source {
        fn of(lives: &[u64]) -> Arc<Self> {
            let lives = Mutex::new(lives.iter().rev().copied().collect());
            Arc::new(Self {
                lives,
                ..Self::default()
            })
        }

        fn kept(self: &Arc<Self>) -> Kept {
            Kept::new(
                SharedCredentialsProvider::new(Shared(Arc::clone(self))),
                Profile::default(),
            )
        }

        async fn next(&self) -> Result<Credentials, CredentialsError> {
            let number = self.loads.fetch_add(1, Ordering::SeqCst) + 1;
            self.begun.notify_one();
            self.go_on.notified().await;
            let Some(life) = self.lives.lock().unwrap().pop() else {
                return Err(CredentialsError::provider_error(
                    "the SSO token has expired and cannot be refreshed",
                ));
            };
            #[allow(
                clippy::disallowed_methods,
                reason = "credentials end by the clock of the machine"
            )]
            let end = SystemTime::now() + Duration::from_secs(life);
            Ok(Credentials::new(
                number.to_string(),
                "secret",
                None,
                Some(end),
                "test",
            ))
        }
    }

    #[derive(Debug)]
    struct Shared(Arc<Source>);

    impl ProvideCredentials for Shared {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            future::ProvideCredentials::new(self.0.next())
        }
    }

    const HOUR: u64 = 3_600;

    async fn key_of(kept: &Kept) -> String {
        kept.credentials().await.unwrap().access_key_id().to_owned()
    }

    #[tokio::test]
    async fn a_load_outlives_the_request_that_waited_for_it() {
        let source = Source::of(&[HOUR]);
        let kept = source.kept();
        let waiting = kept.clone();
        let given_up = tokio::spawn(async move { waiting.credentials().await });
        source.begun.notified().await;
        given_up.abort();
        assert!(given_up.await.unwrap_err().is_cancelled());
        source.go_on.notify_one();
        assert_eq!(key_of(&kept).await, "1");
        assert_eq!(source.loads.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn credentials_are_renewed_beside_the_requests_and_once() {
        let source = Source::of(&[EARLY.as_secs() - 10, HOUR]);
        let kept = source.kept();
        source.go_on.notify_one();
        kept.load().await.unwrap();
        source.begun.notified().await;
        for _ in 0..10 {
            assert_eq!(key_of(&kept).await, "1", "nobody waits");
        }
        source.begun.notified().await;
        source.go_on.notify_one();
        // The renewal holds it to its end.
        drop(kept.0.loading.lock().await);
        assert_eq!(key_of(&kept).await, "2");
        assert_eq!(source.loads.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn credentials_that_have_run_out_are_waited_for() {
        let source = Source::of(&[LATE.as_secs() - 5, HOUR]);
        let kept = source.kept();
        source.go_on.notify_one();
        kept.load().await.unwrap();
        source.go_on.notify_one();
        assert_eq!(key_of(&kept).await, "2");
    }

    #[tokio::test]
    async fn what_is_wrong_is_said_with_its_cure() {
        let source = Source::of(&[]);
        source.go_on.notify_one();
        let error = source.kept().load().await.unwrap_err();
        assert!(
            matches!(&error, PortError::Environment { kind: "ExpiredCredentials", message } if message.contains("aws sso login")),
            "{error:?}"
        );
    }
}
