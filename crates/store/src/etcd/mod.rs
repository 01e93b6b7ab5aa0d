//! The store in an etcd, which any number of servers share.
//!
//! Each server mirrors everything below a prefix in memory, as the embedded store has it; so reads and watches are the same
//! code, and cost the same. One watch feeds the mirror. A commit is one transaction of etcd, a revision is etcd's own.
//!
//! ```text
//!  commit ──Txn──▶ etcd ──Watch──▶ mirror ──▶ snapshots, watchers
//!     └───────────── waits until the mirror has it ──┘
//! ```
//!
//! `snapshot` may be behind what other servers have committed, by the time that the watch takes; `newest` is not (see
//! `newest`). A write that was decided on an old state conflicts, and the conflict is answered when the mirror shows its
//! reason.
//!
//! An etcd that has gone back to an older revision ends the store (see `newest`).
//!
//! When etcd is lost, reading goes on from the mirror, and the store is read only; the watch begins again where it ended
//! (see `follow`). A commit whose answer does not come is [`CommitError::Unknown`].
//!
//! etcd's history and the mirror's are independent of each other: both are cut by `compact`, etcd's by one server at a
//! time.

mod address;
mod commit;
mod follow;
#[cfg(fuzzing)]
pub mod fuzzing;
mod messages;
mod mirror;
mod names;
mod newest;
mod rpc;
mod setup;
mod shared;
mod tls;
mod value;
mod wire;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use self::follow::ReadError;
use self::messages::TxnDone;
use self::mirror::{Codec, RecordError};
use self::names::Names;
use self::newest::READERS;
use self::rpc::{Client, in_words};
use self::setup::{Agreement, Compactor};
use self::shared::{Shared, TXN};
use crate::limits::Limits;
use crate::room::Room;
use crate::{
    BoxFuture, CatchUp, CommitError, Committed, Conflict, Encryption, Health, Revision, Scope, Snapshot,
    StorageFault, Store, StoreError, Txn, Watch,
};

pub use self::address::{AddressError, EtcdAddress};
pub use self::rpc::EtcdError;
pub use self::setup::Identity;
pub use self::tls::{TlsError, TlsFiles, TlsSettings};
pub use self::wire::WireError;

/// How long etcd may take to answer a transaction.
const COMMIT: Duration = Duration::from_secs(10);
/// How long a transaction that has happened may take to be mirrored.
const MIRRORED: Duration = Duration::from_secs(10);
/// How long a reader waits for a revision that another server has told of.
const REACHED: Duration = Duration::from_secs(3);
/// How often an etcd that is not there when the store is opened is tried.
const OPEN_PAUSE: Duration = Duration::from_millis(250);

/// What a caller may choose.
#[derive(Clone, Debug)]
pub struct EtcdOptions {
    /// Where it is.
    pub address: EtcdAddress,
    /// TLS; without it everybody on the way sees everything.
    pub tls: Option<TlsSettings>,
    /// Bounds.
    pub limits: Limits,
    /// Encryption at rest.
    pub encryption: Option<Encryption>,
    /// What all servers must have in common.
    pub identity: Vec<Identity>,
    /// How long an etcd that does not answer is waited for when the store is opened.
    pub patience: Duration,
}

/// Why a store in etcd does not open.
#[derive(Debug, thiserror::Error)]
pub enum EtcdOpenError {
    /// It does not answer.
    #[error("no etcd answers at {address}: {reason}")]
    Unreachable {
        /// Where it should be.
        address: String,
        /// What the last try came to.
        reason: String,
    },
    /// Another cluster's, or a server that was set up by itself.
    #[error(
        "{address} holds a cluster that was made with {}: give this server a copy of that cluster's keys, or another \
         prefix", differing.iter().map(|name| format!("another {name}")).collect::<Vec<_>>().join(" and ")
    )]
    OtherKeys {
        /// Where it is.
        address: String,
        /// What differs.
        differing: Vec<&'static str>,
    },
    /// What is there cannot be read.
    #[error("the data at {address} cannot be read: {reason}")]
    Data {
        /// Where it is.
        address: String,
        /// What is wrong.
        reason: String,
    },
}

/// A store in an etcd.
///
/// Dropping it ends what it does without waiting for it.
pub struct Etcd {
    shared: Arc<Shared>,
    /// Transactions under way: their number, and their bytes.
    places: Semaphore,
    all_places: u32,
    room: Room,
    readers: mpsc::Sender<newest::Reader>,
    compactor: Compactor,
    tasks: tokio::sync::Mutex<JoinSet<()>>,
}

impl Etcd {
    /// Reads everything, and begins to follow.
    ///
    /// # Errors
    /// [`EtcdOpenError`] says what is wrong with the etcd, or with what is in it.
    pub async fn open(options: EtcdOptions) -> Result<Self, EtcdOpenError> {
        let EtcdOptions { address, tls, limits, encryption, identity, patience } = options;
        let codec = Arc::new(Codec { names: Names::new(address.prefix.clone()), encryption });
        let client = Client::new(address.endpoints.clone(), tls);
        let deadline = Instant::now() + patience;
        let snapshot = loop {
            match load(&client, &codec, &identity, &address).await {
                Err(EtcdOpenError::Unreachable { reason, .. }) if Instant::now() < deadline => {
                    tracing::warn!(%address, reason, "etcd does not answer yet");
                    tokio::time::sleep(OPEN_PAUSE).await;
                }
                loaded => break loaded?,
            }
        };
        let all_places =
            u32::try_from(limits.queue.txns.clamp(1, Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        let room = Room::new(&limits.queue);
        let shared = Arc::new(Shared::new(client, codec, snapshot, limits));
        let (readers, waiting) = mpsc::channel(READERS);
        let mut tasks = JoinSet::new();
        tasks.spawn(follow::follow(shared.clone()));
        tasks.spawn(newest::answer(shared.clone(), waiting));
        tasks.spawn(newest::move_on(shared.clone()));
        Ok(Self {
            shared,
            places: Semaphore::new(all_places as usize),
            all_places,
            room,
            readers,
            compactor: Compactor::default(),
            tasks: tokio::sync::Mutex::new(tasks),
        })
    }

    async fn run(&self, txn: Txn) -> Result<Committed, CommitError> {
        txn.check()?;
        let checks = commit::checks(&txn)?;
        let _place = self.places.acquire().await.map_err(|_| CommitError::Closed)?;
        let _room = self.room.take(&txn).await?;
        if self.shared.is_closed() {
            return Err(CommitError::Closed);
        }
        let shared = &self.shared;
        let codec = &shared.codec;
        let request = commit::request(&codec.names, codec.encryption.as_ref(), &txn, &checks)?;
        let before = shared.live.snapshot();
        let ticket = shared.handover.expect(&txn);
        let answer = shared.client.call(TXN, &request, COMMIT).await;
        let answer = answer.map_err(|error| self.note(commit::failure(error, &txn)))?;
        let unknown = |reason| CommitError::Unknown { reason };
        let done = TxnDone::decode(&answer).map_err(|error| unknown(error.to_string()))?;
        if done.succeeded {
            shared.is_full(None);
            if done.revision <= before.revision() {
                shared.has_gone_back(done.revision, before.revision());
                return Err(unknown("etcd was restored from a backup, or is another one".into()));
            }
            if !shared.wait(MIRRORED, |reached| reached >= done.revision).await {
                return Err(unknown(format!(
                    "etcd has it at revision {}, but cannot show it yet",
                    done.revision
                )));
            }
            let events = ticket.events(done.revision, &txn, &before);
            return Ok(Committed { revision: done.revision, events });
        }
        let conflict = commit::conflict(codec, &checks, &done).map_err(|error| self.damaged(error))?;
        let conflict = conflict.ok_or_else(|| unknown("etcd contradicts itself".into()))?;
        Err(self.shown(conflict, done.revision).await.into())
    }

    /// The conflict, once a snapshot shows its reason, so that who tries again does not decide on the old state.
    async fn shown(&self, mut conflict: Conflict, revision: Revision) -> Conflict {
        let key = conflict.expected.key().clone();
        let found = conflict.current.as_ref().map(|record| record.mod_revision());
        let live = &self.shared.live;
        let shows = |reached: Revision| {
            let seen = live.snapshot().get(&key).map(|record| record.mod_revision());
            reached >= revision || seen == found || seen > found.or(Some(revision))
        };
        // What etcd says is the answer, also when the mirror does not get there.
        self.shared.wait(MIRRORED, shows).await;
        if let Some(seen) = live.snapshot().get(&key).filter(|seen| Some(seen.mod_revision()) == found) {
            conflict.current = Some(seen.clone());
        }
        conflict
    }

    fn note(&self, error: CommitError) -> CommitError {
        if let CommitError::Storage { fault: StorageFault::OutOfSpace, source } = &error {
            self.shared.is_full(Some(source.to_string()));
        }
        error
    }

    fn damaged(&self, error: RecordError) -> CommitError {
        tracing::error!(%error, "a record in etcd cannot be read");
        CommitError::Storage { fault: StorageFault::Refused, source: Arc::new(error) }
    }
}

async fn load(
    client: &Client,
    codec: &Codec,
    identity: &[Identity],
    address: &EtcdAddress,
) -> Result<Snapshot, EtcdOpenError> {
    let address = address.to_string();
    let unreachable =
        |error: EtcdError| EtcdOpenError::Unreachable { address: address.clone(), reason: in_words(&error) };
    if let Agreement::Differs(differing) =
        setup::agree(client, &codec.names, identity).await.map_err(unreachable)?
    {
        return Err(EtcdOpenError::OtherKeys { address, differing });
    }
    follow::read(client, codec).await.map_err(|error| match error {
        ReadError::Etcd(error) => unreachable(error),
        ReadError::Record(error) => {
            EtcdOpenError::Data { address: address.clone(), reason: in_words(&error) }
        }
    })
}

impl Store for Etcd {
    fn snapshot(&self) -> Snapshot {
        self.shared.live.snapshot()
    }

    fn snapshot_at(&self, revision: Revision) -> Result<Snapshot, StoreError> {
        self.shared.live.snapshot_at(revision)
    }

    fn newest(&self) -> CatchUp<'_> {
        CatchUp::Wait(Box::pin(newest::newest(&self.shared, &self.readers)))
    }

    fn reaching(&self, revision: Revision) -> CatchUp<'_> {
        let now = self.snapshot();
        if now.revision() >= revision {
            return CatchUp::Done(now);
        }
        CatchUp::Wait(Box::pin(async move {
            self.shared.wait_for(revision, REACHED).await;
            Ok(self.snapshot())
        }))
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Committed, CommitError>> {
        Box::pin(self.run(txn))
    }

    fn watch(&self, scope: Scope, after: Revision) -> Result<Watch, StoreError> {
        self.shared.live.watch(scope, after)
    }

    fn compact(&self, before: Revision) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.shared.live.compact(before, Instant::now())?;
            let compacted =
                self.compactor.compact(&self.shared.client, &self.shared.codec.names, before).await;
            compacted.map(drop).map_err(|error| StoreError::Unreachable { reason: in_words(&error) })
        })
    }

    fn health(&self) -> Health {
        self.shared.health()
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.shared.close();
            // All transactions under way have their answer then.
            if let Ok(places) = self.places.acquire_many(self.all_places).await {
                places.forget();
                self.places.close();
            }
            self.shared.shutdown.cancel();
            let mut tasks = self.tasks.lock().await;
            while let Some(ended) = tasks.join_next().await {
                if ended.is_err_and(|error| error.is_panic()) {
                    tracing::error!("a task of the store panicked");
                }
            }
            self.shared.live.close();
            self.shared.client.close();
        })
    }
}
