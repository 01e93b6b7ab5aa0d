//! The engine's files: what is written, what is loaded, and what happens when the disk fails.
//!
//! Only live records and the current revision are on disk, in one keyspace: under a record's key its frame (see
//! `frame`), under `revision` the number of the newest commit, 8 bytes, little-endian. The engine is `fjall`: a
//! journal, which is what a commit waits for, and tables that background work moves the journal's contents to.
//!
//! After any failure the engine refuses every further write, whatever failed. Its files are then closed, the journal is
//! cut behind the last acknowledged commit (see `journal`), and the files are opened again. So a failed commit leaves
//! nothing behind, and it does not matter whether the kernel kept, lost or wrote the pages of a sync that failed.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use fjall::config::{BlockSizePolicy, FilterPolicy};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Slice};
use imbl::OrdMap;

use super::journal::{self, JournalError};
use crate::frame::{FrameError, HEADER_BYTES, Header};
use crate::limits::DiskLimits;
use crate::stage::Changes;
use crate::{Encryption, Key, KeyError, Record, Revision, SealError, Snapshot, StorageFault};

const KEYSPACE: &str = "live";
/// The key of the newest commit's number; no record's key starts like that.
pub(crate) const REVISION: &[u8] = b"revision";

/// Reads come from memory; the engine's cache serves only its own compaction.
const CACHE_BYTES: u64 = 1 << 20;
const OPEN_FILES: usize = 16;
/// Tables are only scanned, so blocks are large and filters absent.
const BLOCK_BYTES: u32 = 16 << 10;

pub(crate) struct Disk {
    path: PathBuf,
    encryption: Option<Encryption>,
    limits: DiskLimits,
    /// None when the files could not be opened again after a failure.
    engine: Option<Engine>,
    /// Bytes written since the last flush began.
    unflushed: usize,
}

struct Engine {
    keyspace: Keyspace,
    database: Database,
}

/// Why a group of transactions was not written.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum DiskError {
    #[error("the journal does not take the write")]
    Write(#[source] Arc<fjall::Error>),
    #[error("the files do not open again")]
    Reopen(#[source] Arc<LoadError>),
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The engine refused.
    #[error("the storage engine cannot open {path}")]
    Engine {
        /// The files.
        path: PathBuf,
        /// Its error.
        source: fjall::Error,
    },
    /// The journal is damaged, or cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// There is no revision, though the directory says that a store was made here.
    #[error("{path} holds no revision: files are missing; restore the directory from a backup")]
    NoRevision {
        /// The files.
        path: PathBuf,
    },
    /// A key is no key.
    #[error("the store holds a record under a wrong key; restore the directory from a backup")]
    Key(#[source] KeyError),
    /// A record is no record.
    #[error("the record of {key} is damaged; restore the directory from a backup")]
    Record {
        /// Its key.
        key: Key,
        /// What is wrong.
        source: FrameError,
    },
    /// A record is newer than the store.
    #[error("{key} is at revision {found}, the store only at {current}; restore the directory from a backup")]
    Revision {
        /// The record.
        key: Key,
        /// Its revision.
        found: Revision,
        /// The store's.
        current: Revision,
    },
    /// A sealed value does not open.
    #[error(transparent)]
    Seal(SealError),
    /// There are sealed values.
    #[error("{key} is encrypted, and no encryption key was given")]
    Sealed {
        /// One of them.
        key: Key,
    },
}

impl Disk {
    /// Opens the files in `path`, or makes them.
    pub(crate) fn open(
        path: PathBuf,
        encryption: Option<Encryption>,
        limits: DiskLimits,
    ) -> Result<Self, LoadError> {
        let engine = Engine::open(&path)?;
        let unflushed = engine.journaled();
        Ok(Self { path, encryption, limits, engine: Some(engine), unflushed })
    }

    /// Writes a group of transactions that ends at `revision`, all or nothing; returns when it is durable.
    pub(crate) fn write(&mut self, changes: &Changes, revision: Revision) -> Result<(), DiskError> {
        let engine = self.engine.as_ref().expect("nothing is written before a failed store is open again");
        let mut batch = engine.database.batch().durability(Some(PersistMode::SyncData));
        let mut bytes = 0;
        for (key, frame) in changes {
            let name = key.as_str().as_bytes();
            match frame {
                Some(frame) => {
                    bytes += name.len() + frame.len();
                    batch.insert(&engine.keyspace, name, Slice::from(frame.clone()));
                }
                None => {
                    bytes += name.len();
                    batch.remove(&engine.keyspace, name);
                }
            }
        }
        batch.insert(&engine.keyspace, REVISION, revision.get().to_le_bytes());
        batch.commit().map_err(|error| DiskError::Write(Arc::new(error)))?;
        self.unflushed = self.unflushed.saturating_add(bytes);
        Ok(())
    }

    /// How values are sealed.
    pub(crate) fn encryption(&self) -> Option<&Encryption> {
        self.encryption.as_ref()
    }

    /// Starts a flush when enough was written.
    ///
    /// The engine could do it by itself, but asks its one worker anew on every commit meanwhile; with its queue full
    /// of these the worker waits for room in it forever.
    pub(crate) fn maintain(&mut self) {
        let Some(engine) = &self.engine else { return };
        if self.unflushed < self.limits.flush_bytes || engine.keyspace.sealed_memtable_count() > 0 {
            return;
        }
        match engine.keyspace.rotate_memtable() {
            Ok(_) => self.unflushed = 0,
            // Durable all the same; the engine refuses the next commit if it matters.
            Err(error) => tracing::warn!(%error, "the storage engine did not start a flush"),
        }
    }

    /// Opens the files anew after a failure, as they were at `acknowledged`, the newest revision that anybody knows.
    pub(crate) fn reopen(&mut self, acknowledged: Revision) -> Result<(), DiskError> {
        // Closed before it is opened: the files are locked, and closing may write.
        self.engine = None;
        let cut = journal::cut_after(&self.path, acknowledged).map_err(LoadError::Journal);
        let engine = cut.and_then(|()| Engine::open(&self.path));
        let engine = engine.map_err(|error| DiskError::Reopen(Arc::new(error)))?;
        self.unflushed = engine.journaled();
        self.engine = Some(engine);
        Ok(())
    }

    /// Everything that is live.
    pub(crate) fn load(&self) -> Result<Snapshot, LoadError> {
        let engine_error = |source| LoadError::Engine { path: self.path.clone(), source };
        let no_revision = || LoadError::NoRevision { path: self.path.clone() };
        let keyspace = &self.engine.as_ref().ok_or_else(no_revision)?.keyspace;
        let mut revision = None;
        let mut records = OrdMap::new();
        for entry in keyspace.iter() {
            let (name, value) = entry.into_inner().map_err(engine_error)?;
            if *name == *REVISION {
                revision = value.first_chunk().map(|number| Revision::new(u64::from_le_bytes(*number)));
            } else {
                let record = self.record(&name, &value)?;
                records.insert(record.key().clone(), Arc::new(record));
            }
        }
        let current = revision.ok_or_else(no_revision)?;
        let newer = |record: &&Arc<Record>| record.mod_revision() > current;
        if let Some(record) = records.values().find(newer) {
            let (key, found) = (record.key().clone(), record.mod_revision());
            return Err(LoadError::Revision { key, found, current });
        }
        Ok(Snapshot::new(current, records))
    }

    fn record(&self, name: &[u8], value: &[u8]) -> Result<Record, LoadError> {
        let key = Key::new(String::from_utf8_lossy(name)).map_err(LoadError::Key)?;
        let damaged = |source| LoadError::Record { key: key.clone(), source };
        let header = Header::decode(value).map_err(damaged)?;
        // A copy: the engine's buffer is a block that holds other records too.
        let frame = if header.sealed {
            let Some(encryption) = &self.encryption else { return Err(LoadError::Sealed { key }) };
            let plaintext = encryption.sealer.open(&key, &value[HEADER_BYTES..]).map_err(LoadError::Seal)?;
            let mut frame = Vec::with_capacity(HEADER_BYTES + plaintext.len());
            Header { sealed: false, ..header }.encode(&mut frame);
            frame.extend_from_slice(&plaintext);
            Bytes::from(frame)
        } else {
            Bytes::copy_from_slice(value)
        };
        Record::from_frame(key.clone(), frame).map_err(damaged)
    }
}

impl Engine {
    fn open(path: &Path) -> Result<Self, LoadError> {
        journal::mend(path)?;
        Self::open_files(path).map_err(|source| LoadError::Engine { path: path.to_owned(), source })
    }

    /// Bytes in the journals, which are in memory too until they are flushed: what earlier runs left counts, or many short
    /// runs would never flush. What cannot be told counts as too much.
    fn journaled(&self) -> usize {
        let bytes = self.database.journal_disk_space().ok();
        bytes.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(usize::MAX)
    }

    fn open_files(path: &Path) -> Result<Self, fjall::Error> {
        let database = Database::builder(path)
            .cache_size(CACHE_BYTES)
            .max_cached_files(Some(OPEN_FILES))
            .worker_threads(1)
            .open()?;
        let keyspace = database.keyspace(KEYSPACE, || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(u64::MAX)
                .data_block_size_policy(BlockSizePolicy::all(BLOCK_BYTES))
                .filter_policy(FilterPolicy::disabled())
        })?;
        Ok(Self { keyspace, database })
    }
}

impl DiskError {
    /// What it means for the store.
    pub(crate) fn fault(&self) -> StorageFault {
        match io_error(self).map(io::Error::kind) {
            Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge) => {
                StorageFault::OutOfSpace
            }
            Some(_) | None => StorageFault::Engine,
        }
    }

    /// Whether the engine refused without trying, because its flush or compaction had failed.
    pub(crate) fn engine_had_stopped(&self) -> bool {
        matches!(self, Self::Write(error) if matches!(**error, fjall::Error::Poisoned))
    }

    /// It in words: the system's where there are some.
    pub(crate) fn reason(&self) -> String {
        match (io_error(self), self.source()) {
            (Some(error), _) => format!("{self}: {error}"),
            (None, Some(source)) => format!("{self}: {source}"),
            (None, None) => self.to_string(),
        }
    }
}

/// The system's error below `error`.
fn io_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    match error.downcast_ref() {
        Some(error) => Some(error),
        None => error.source().and_then(io_error),
    }
}
