//! The one thread that writes: everything it decides is decided in order.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::disk::{Disk, DiskError};
use crate::limits::{MAX_GROUP_BYTES, MAX_GROUP_TXNS, QueueLimits};
use crate::live::Live;
use crate::stage::Stage;
use crate::{CommitError, Committed, Health, Txn};

/// How long a store that failed waits before it opens its files again.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);

pub(crate) struct Writer {
    pub(crate) queue: mpsc::Receiver<Request>,
    pub(crate) disk: Disk,
    pub(crate) live: Arc<Live>,
    pub(crate) health: SharedHealth,
    pub(crate) limits: QueueLimits,
    failure: Option<Failure>,
}

/// What a store asks of its writer.
pub(crate) enum Request {
    Commit(Pending),
    /// Refuse everything that comes later and end.
    Close,
}

/// A transaction that waits.
pub(crate) struct Pending {
    pub(crate) txn: Txn,
    pub(crate) answer: oneshot::Sender<Result<Committed, CommitError>>,
    /// Its place in the queue, given back when it is answered.
    pub(crate) room: OwnedSemaphorePermit,
}

/// Why nothing is written at present.
struct Failure {
    error: DiskError,
    retry_at: Instant,
}

/// The writer's health, for everybody to see.
#[derive(Clone)]
pub(crate) struct SharedHealth(Arc<Mutex<Health>>);

impl SharedHealth {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Health::Writable)))
    }

    pub(crate) fn get(&self) -> Health {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, health: Health) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = health;
    }
}

/// Ends the watches and says that the store is closed, also when the writer panics.
struct Ending {
    live: Arc<Live>,
    health: SharedHealth,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.health.set(Health::Closed);
        self.live.close();
    }
}

impl Writer {
    pub(crate) fn new(
        queue: mpsc::Receiver<Request>,
        disk: Disk,
        live: Arc<Live>,
        health: SharedHealth,
        mut limits: QueueLimits,
    ) -> Self {
        limits.group_txns = limits.group_txns.min(MAX_GROUP_TXNS);
        limits.group_bytes = limits.group_bytes.min(MAX_GROUP_BYTES);
        Self { queue, disk, live, health, limits, failure: None }
    }

    /// Writes until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        let ending = Ending { live: self.live.clone(), health: self.health.clone() };
        while let Some(request) = self.queue.blocking_recv() {
            let group = self.collect(request);
            if !group.is_empty() {
                self.commit(group);
            }
        }
        // The files are closed before anybody hears of the end.
        drop(self);
        drop(ending);
    }

    /// `first` and what waits behind it, up to the limits of a group.
    fn collect(&mut self, first: Request) -> Vec<Pending> {
        let mut group = Vec::new();
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(request) = next {
            match request {
                Request::Close => self.queue.close(),
                Request::Commit(pending) => {
                    bytes += pending.txn.bytes();
                    group.push(pending);
                }
            }
            let full = group.len() >= self.limits.group_txns || bytes >= self.limits.group_bytes;
            next = if full { None } else { self.queue.try_recv().ok() };
        }
        group
    }

    /// Decides, writes, publishes and answers a group.
    fn commit(&mut self, group: Vec<Pending>) {
        if let Err(error) = self.recover() {
            return refuse(group.into_iter().map(|pending| pending.answer), &error);
        }
        let mut stage = Stage::new(self.live.snapshot(), self.disk.encryption().cloned());
        let mut rooms = Vec::with_capacity(group.len());
        let decide = |Pending { txn, answer, room }| {
            rooms.push(room);
            (answer, stage.apply(&txn).map_err(CommitError::from))
        };
        let answers: Vec<_> = group.into_iter().map(decide).collect();
        // A conflict, too, is answered only when what it conflicts with is durable.
        if !stage.changes().is_empty() {
            match self.write(&stage) {
                Ok(()) => self.succeed(),
                Err(error) => {
                    self.fail(error.clone());
                    return refuse(answers.into_iter().map(|(answer, _)| answer), &error);
                }
            }
        }
        let steps = stage.into_steps();
        let now = Instant::now();
        self.live.advance(&steps, now);
        // Who has the answer finds the change in each watch: what is kept from watches, as who may what, is never behind it.
        self.live.announce(&steps, now);
        for (answer, result) in answers {
            answer_caller(answer, result);
        }
        drop(rooms);
        self.disk.maintain();
    }

    /// Writes a group. When the engine's background work had stopped it before, once more with the files reopened.
    fn write(&mut self, stage: &Stage) -> Result<(), DiskError> {
        match self.disk.write(stage.changes(), stage.revision()) {
            Err(error) if error.engine_had_stopped() => {
                tracing::warn!("the storage engine had stopped, its files are opened again");
                self.disk.reopen(self.live.snapshot().revision())?;
                self.disk.write(stage.changes(), stage.revision())
            }
            result => result,
        }
    }

    /// Opens the files again after a failure, not too often. The next write shows whether that was enough.
    fn recover(&mut self) -> Result<(), DiskError> {
        let Some(failure) = &self.failure else { return Ok(()) };
        if Instant::now() < failure.retry_at {
            return Err(failure.error.clone());
        }
        let acknowledged = self.live.snapshot().revision();
        self.disk.reopen(acknowledged).inspect_err(|error| self.fail(error.clone()))
    }

    fn succeed(&mut self) {
        if self.failure.take().is_some() {
            tracing::info!("the store writes again");
            self.health.set(Health::Writable);
        }
    }

    fn fail(&mut self, error: DiskError) {
        let (fault, reason) = (error.fault(), error.reason());
        if self.failure.is_none() {
            tracing::error!(%fault, reason, "the store stopped writing");
        }
        self.health.set(Health::ReadOnly { fault, reason });
        self.failure = Some(Failure { error, retry_at: Instant::now() + REOPEN_PAUSE });
    }
}

fn refuse(answers: impl Iterator<Item = oneshot::Sender<Result<Committed, CommitError>>>, error: &DiskError) {
    for answer in answers {
        let error = CommitError::Storage { fault: error.fault(), source: Arc::new(error.clone()) };
        answer_caller(answer, Err(error));
    }
}

fn answer_caller(
    answer: oneshot::Sender<Result<Committed, CommitError>>,
    result: Result<Committed, CommitError>,
) {
    // A caller that stopped waiting does not want the answer.
    drop(answer.send(result));
}
