//! What the node knows of a pod: its sandbox, volumes and containers as they are.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use xebec_sandbox::sandbox::ExitStatus;

use super::backoff::Backoff;

/// Everything about one pod.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The pod's namespaces and address.
    pub sandbox: Stage<Option<IpAddr>>,
    /// The pod's volumes.
    pub volumes: Stage<()>,
    /// When files of its volumes want to be written anew.
    pub refresh: Option<SystemTime>,
    /// Its containers by name, init and ephemeral containers included; absent before they are first looked at.
    pub containers: BTreeMap<String, Container>,
    /// When the pod's end was asked for.
    pub stopping: Option<Stopping>,
    /// When the node first saw the pod.
    pub started_at: Option<SystemTime>,
    /// When taking the pod down may be tried again.
    pub cleanup: Backoff,
    /// Whether the API has been told that the pod is gone.
    pub finished: bool,
}

/// Why and when a pod is to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopping {
    /// When what still runs is killed.
    pub deadline: SystemTime,
    /// The reason for the pod's status, when the node itself ends it: `Evicted`, `DeadlineExceeded`.
    pub reason: Option<String>,
    /// The reason in words.
    pub message: String,
    /// The API wants the pod gone; else it stays as a record of what became of it.
    pub deleted: bool,
}

/// A thing that is made before containers can run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Stage<T> {
    /// Not there.
    #[default]
    Absent,
    /// Being made, or removed; with how often making it failed before.
    Busy(Backoff),
    /// There.
    Ready(T),
    /// Making it failed.
    Failed {
        /// Why.
        message: String,
        /// When to try again.
        backoff: Backoff,
    },
}

impl<T> Stage<T> {
    /// Begins to make it, with what is known of earlier failures.
    pub fn begin(&mut self) {
        let backoff = match self {
            Self::Failed { backoff, .. } | Self::Busy(backoff) => *backoff,
            Self::Absent | Self::Ready(_) => Backoff::default(),
        };
        *self = Self::Busy(backoff);
    }

    /// Making it has failed.
    pub fn fail(&mut self, message: String, now: SystemTime) {
        self.begin();
        if let Self::Busy(mut backoff) = *self {
            backoff.failed(now, Duration::ZERO, false);
            *self = Self::Failed { message, backoff };
        }
    }

    /// What was made.
    #[must_use]
    pub fn ready(&self) -> Option<&T> {
        match self {
            Self::Ready(made) => Some(made),
            _ => None,
        }
    }
}

/// One container.
#[derive(Clone, Debug, Default)]
pub struct Container {
    /// What it does now.
    pub run: Run,
    /// How its run before this one ended.
    pub last: Option<Ended>,
    /// How often it was started again.
    pub restarts: u32,
    /// When it may be started again.
    pub backoff: Backoff,
    /// When its image may be pulled again.
    pub pull: Backoff,
    /// The image it runs, by digest.
    pub image_id: String,
    /// Whether its startup probe has passed, or there is none and it runs.
    pub started: bool,
    /// Whether its readiness probe passes, or there is none and it runs.
    pub ready: bool,
    /// How its run ended, if that was before its start was reported.
    pub early_end: Option<Ended>,
    /// Its end has been asked for.
    pub terminating: bool,
    /// Its end has been forced.
    pub killed: bool,
}

/// What a container does.
#[derive(Clone, Debug, Default)]
pub enum Run {
    /// It never ran, or waits for its turn.
    #[default]
    Absent,
    /// Its image is pulled, or it is being made.
    Starting,
    /// It could not be started.
    Failed {
        /// `ErrImagePull`, `CreateContainerConfigError`, …
        reason: &'static str,
        /// Why, in words.
        message: String,
        /// Since when.
        since: SystemTime,
    },
    /// It runs.
    Running {
        /// Its id in the sandbox.
        id: String,
        /// Since when.
        since: SystemTime,
    },
    /// It has ended.
    Exited(Ended),
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its id in the sandbox.
    pub id: String,
    /// The exit code, start and end.
    pub status: ExitStatus,
    /// What it left in its termination message file.
    pub message: String,
    /// Why it never ran: `StartError`.
    pub reason: Option<&'static str>,
}

impl Container {
    /// Whether a process runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self.run, Run::Running { .. })
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn ended(&self) -> Option<&Ended> {
        match &self.run {
            Run::Exited(ended) => Some(ended),
            _ => None,
        }
    }

    /// Whether it ended well.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.ended().is_some_and(|e| e.status.code() == 0)
    }
}
