//! The parts of the server process that run until its end, known by name.

use std::collections::HashMap;

use tokio::task::{Id, JoinError, JoinSet};

/// Parts that run.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    tasks: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

impl Parts {
    /// Runs a part.
    pub(crate) fn spawn(&mut self, name: &'static str, part: impl Future<Output = ()> + Send + 'static) {
        let handle = self.tasks.spawn(part);
        self.names.insert(handle.id(), name);
    }

    /// Waits for a part to end, which none does before it is told to; how it ended, in words. Waits for ever if there are
    /// none.
    pub(crate) async fn lost(&mut self) -> String {
        match self.tasks.join_next_with_id().await {
            Some(ended) => self.describe(ended),
            None => std::future::pending().await,
        }
    }

    /// Waits for all parts, which were told to end; what went wrong with those that did not.
    pub(crate) async fn end(&mut self) -> Vec<String> {
        let mut failures = Vec::new();
        while let Some(ended) = self.tasks.join_next_with_id().await {
            if ended.is_err() {
                failures.push(self.describe(ended));
            }
        }
        failures
    }

    /// The names of those that still run.
    pub(crate) fn running(&self) -> Vec<&'static str> {
        self.names.values().copied().collect()
    }

    fn describe(&mut self, ended: Result<(Id, ()), JoinError>) -> String {
        let id = match &ended {
            Ok((id, ())) => *id,
            Err(error) => error.id(),
        };
        let name = self.names.remove(&id).unwrap_or("a part of the server");
        match ended {
            Ok(_) => format!("{name} has ended"),
            Err(error) => format!("{name} has failed: {error}"),
        }
    }
}
