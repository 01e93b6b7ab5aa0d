//! Tasks that run until they are told to stop, known by name.
//!
//! Nothing restarts such a task: what it held in memory may be half done. One that ends untold is a [`TaskLost`], which
//! goes up to whoever runs the process, and the process begins anew.

use std::any::Any;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use thiserror::Error;
use tokio::task::{Id, JoinError, JoinSet};

/// A task that was to run until it is told to stop has ended.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TaskLost {
    /// It panicked.
    #[error("{task} has panicked: {message}")]
    Panicked {
        /// What it does.
        task: String,
        /// What the panic said.
        message: String,
    },
    /// It came to an end.
    #[error("{task} has ended before it was told to")]
    Ended {
        /// What it does.
        task: String,
    },
}

/// Tasks that run. Dropping this ends them.
#[derive(Debug, Default)]
pub struct Tasks {
    set: JoinSet<()>,
    names: HashMap<Id, String>,
}

impl Tasks {
    /// Runs a task.
    pub fn spawn(&mut self, name: impl Into<String>, task: impl Future<Output = ()> + Send + 'static) {
        let handle = self.set.spawn(task);
        self.names.insert(handle.id(), name.into());
    }

    /// Waits for a task to end, before any was told to. Waits for ever if there are none.
    pub async fn lost(&mut self) -> TaskLost {
        match self.set.join_next_with_id().await {
            Some(ended) => self.describe(ended),
            None => std::future::pending().await,
        }
    }

    /// Waits for all tasks, which were told to end; gives the first that did so in a panic.
    pub async fn end(&mut self) -> Result<(), TaskLost> {
        self.failures().await.into_iter().next().map_or(Ok(()), Err)
    }

    /// Waits for all tasks, which were told to end; gives those that did so in a panic.
    pub async fn failures(&mut self) -> Vec<TaskLost> {
        let mut failures = Vec::new();
        while let Some(ended) = self.set.join_next_with_id().await {
            let failed = ended.is_err();
            let lost = self.describe(ended);
            failures.extend(failed.then_some(lost));
        }
        failures
    }

    /// The names of those that still run.
    pub fn running(&self) -> Vec<&str> {
        self.names.values().map(String::as_str).collect()
    }

    fn describe(&mut self, ended: Result<(Id, ()), JoinError>) -> TaskLost {
        let id = match &ended {
            Ok((id, ())) => *id,
            Err(error) => error.id(),
        };
        let task = self.names.remove(&id).unwrap_or_else(|| "a task".to_owned());
        match ended.map_err(JoinError::try_into_panic) {
            Err(Ok(panic)) => TaskLost::Panicked { task, message: panic_text(&*panic) },
            Ok(_) | Err(Err(_)) => TaskLost::Ended { task },
        }
    }
}

/// Runs what should not end in this task; says how it was lost when it does.
pub async fn guard(task: impl Into<String>, work: impl Future<Output = ()>) -> TaskLost {
    let task = task.into();
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(()) => TaskLost::Ended { task },
        Err(panic) => TaskLost::Panicked { task, message: panic_text(&*panic) },
    }
}

/// What a panic said.
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn a_lost_task_is_known_by_its_name() {
        let mut tasks = Tasks::default();
        let (end, told) = oneshot::channel::<()>();
        tasks.spawn("the patient one", async move { drop(told.await) });
        assert!(tasks.lost().now_or_never().is_none(), "nobody has ended");
        tasks.spawn("the clumsy one", async { panic!("fell over {}", 1) });
        assert_eq!(tasks.lost().await.to_string(), "the clumsy one has panicked: fell over 1");
        tasks.spawn("the idle one", async {});
        assert_eq!(tasks.lost().await.to_string(), "the idle one has ended before it was told to");
        drop(end);
        assert_eq!(tasks.end().await, Ok(()));
    }

    #[tokio::test]
    async fn a_panic_at_the_end_is_told_too() {
        let mut tasks = Tasks::default();
        tasks.spawn("the first", async {});
        tasks.spawn("the second", async { panic!("late") });
        assert_eq!(tasks.end().await.unwrap_err().to_string(), "the second has panicked: late");
    }

    #[tokio::test]
    async fn work_is_guarded_in_its_own_task() {
        assert_eq!(guard("work", async {}).await, TaskLost::Ended { task: "work".to_owned() });
        let lost = guard("work", async { panic!("no") }).await;
        assert_eq!(lost, TaskLost::Panicked { task: "work".to_owned(), message: "no".to_owned() });
    }
}
