//! Trying again: how often, and how long to wait.

use std::time::Duration;

use futures::future::BoxFuture;

use super::error::RegistryError;
use crate::progress::{Event, Progress};

/// Bounds on repeated attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in a row without progress, the first included.
    pub attempts: u32,
    /// The wait after the first failure; it doubles each time.
    pub first_wait: Duration,
    /// The longest wait, also when a registry asks for a longer one.
    pub longest_wait: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts: 5, first_wait: Duration::from_millis(250), longest_wait: Duration::from_secs(20) }
    }
}

impl RetryPolicy {
    /// How long to wait after failure number `attempt` (from 1); nothing when it was the last or cannot pass.
    pub(super) fn wait(&self, attempt: u32, error: &RegistryError) -> Option<Duration> {
        if attempt >= self.attempts || !error.is_transient() {
            return None;
        }
        let doubled = self.first_wait.saturating_mul(1_u32.checked_shl(attempt - 1).unwrap_or(u32::MAX));
        let asked = match error {
            RegistryError::RateLimited { retry_after, .. } => retry_after.unwrap_or_default(),
            _ => Duration::ZERO,
        };
        Some(doubled.max(asked).min(self.longest_wait))
    }

    /// Runs `attempt` until it succeeds, or fails for good. Attempts are boxed: the future of an asynchronous closure
    /// cannot be shown to be `Send`.
    pub(super) async fn run<'a, T>(
        &self,
        what: &str,
        progress: &dyn Progress,
        attempt: impl Fn() -> BoxFuture<'a, Result<T, RegistryError>>,
    ) -> Result<T, RegistryError> {
        let mut failures = 0;
        loop {
            let error = match attempt().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            failures += 1;
            match self.wait(failures, &error) {
                None => return Err(error),
                Some(wait) => self.pause(what, failures, &error, wait, progress).await,
            }
        }
    }

    pub(super) async fn pause(
        &self,
        what: &str,
        attempt: u32,
        error: &RegistryError,
        wait: Duration,
        progress: &dyn Progress,
    ) {
        let error = error.to_string();
        progress.report(Event::Retrying { what, attempt, error: &error });
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end() {
        let policy = RetryPolicy {
            attempts: 5,
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(5),
        };
        let broken = RegistryError::Broken { host: String::new(), reason: String::new() };
        let waits: Vec<_> =
            (1..=5).map(|attempt| policy.wait(attempt, &broken).map(|w| w.as_secs())).collect();
        assert_eq!(waits, [Some(1), Some(2), Some(4), Some(5), None]);
        let limited = |seconds| RegistryError::RateLimited {
            host: String::new(),
            retry_after: Some(Duration::from_secs(seconds)),
            message: String::new(),
        };
        assert_eq!(policy.wait(1, &limited(3)), Some(Duration::from_secs(3)));
        assert_eq!(policy.wait(1, &limited(3_600)), Some(Duration::from_secs(5)));
        let denied = RegistryError::Credentials;
        assert_eq!(policy.wait(1, &denied), None);
    }
}
