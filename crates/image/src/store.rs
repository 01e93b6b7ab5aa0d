//! The content store: blobs by digest, verified on the way in and on the way out.
//!
//! ```text
//! ROOT/lock                 held while the store is open: one process at a time
//! ROOT/blobs/<alg>/<hex>    complete, verified when written, never changed
//! ROOT/tmp/                 everything unfinished; emptied by the next open
//! ```
//!
//! A blob is written to `tmp` while it is hashed ([`Writer`]), synced, and renamed into place, so what is in `blobs`
//! was complete and right when it was put there; a crash leaves only a temporary file. Disks and people change files,
//! so reading hashes again: small documents in [`ContentStore::read`], layers while they stream ([`BlobReader`]). A
//! blob that no longer matches is removed, so that the next pull repairs it.
//!
//! [`VerifiedDigest`] and [`Verified`] are the proof that bytes were hashed; only this module makes them.
//!
//! The store knows nothing of images: what must be kept is told to [`ContentStore::prune`], and operations in progress
//! protect what they use by [`ContentStore::lease`].

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FlockOperation, flock};

use crate::digest::{Algorithm, Digest};
use crate::limits::{Exceeded, Limits};

mod lease;
mod read;
mod temp;
#[cfg(test)]
mod tests;
mod write;

pub use lease::Lease;
pub use read::{BlobReader, Verified};
pub(crate) use temp::remove as remove_tree;
pub use temp::{TempDir, TempFile};
pub use write::{Expected, StagedBlob, Writer};
pub(crate) use write::{sync_dir, sync_file_system};

/// What went wrong with stored content.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process uses the store.
    #[error("the image store {path} is in use by another process")]
    Locked {
        /// The store's root.
        path: PathBuf,
    },
    /// The file system failed. A full disk shows here.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// "write", "open", ….
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Bytes that were to be stored have another digest.
    #[error("content mismatch: expected {expected}, but the bytes received hash to {actual}")]
    DigestMismatch {
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// Bytes that were to be stored are too few or too many.
    #[error("content of {digest} has the wrong size: expected {expected} bytes, got {actual}")]
    SizeMismatch {
        /// What was asked for.
        digest: Digest,
        /// Its announced size.
        expected: u64,
        /// What came; when too long, what had come until then.
        actual: u64,
    },
    /// A stored blob changed after it was verified. It has been removed.
    #[error("stored content {digest} is damaged and was removed; pull or import the image again")]
    Corrupt {
        /// The blob.
        digest: Digest,
    },
    /// Not in the store.
    #[error("content {digest} is not in the image store; pull or import the image again")]
    Missing {
        /// The blob.
        digest: Digest,
    },
    /// A bound was hit.
    #[error(transparent)]
    Limit(#[from] Exceeded),
}

impl StoreError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

/// A digest whose bytes were hashed by the store and matched.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VerifiedDigest(Digest);

impl VerifiedDigest {
    /// The digest.
    pub fn digest(&self) -> &Digest {
        &self.0
    }

    /// The digest, without the proof.
    pub fn into_digest(self) -> Digest {
        self.0
    }
}

/// Blobs by digest under one directory. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ContentStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    limits: Limits,
    leases: lease::Leases,
    serial: AtomicU64,
    /// Held for its lock.
    _lock: File,
}

impl ContentStore {
    /// Opens the store, making its directories and sweeping what a crash left unfinished.
    ///
    /// # Errors
    /// When another process has it open, or the file system refuses.
    pub fn open(root: &Path, limits: Limits) -> Result<Self, StoreError> {
        for sub in ["tmp", "blobs/sha256", "blobs/sha512"] {
            let path = root.join(sub);
            fs::create_dir_all(&path).map_err(StoreError::io("create", &path))?;
        }
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(root, private).map_err(StoreError::io("make private", root))?;
        let lock_path = root.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(StoreError::io("open", &lock_path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(StoreError::Locked { path: root.to_owned() }),
            Err(errno) => return Err(StoreError::io("lock", &lock_path)(errno.into())),
        }
        let inner = Inner {
            root: root.to_owned(),
            limits,
            leases: lease::Leases::default(),
            serial: AtomicU64::new(0),
            _lock: lock,
        };
        let store = Self { inner: Arc::new(inner) };
        store.sweep()?;
        Ok(store)
    }

    /// The directory that the store was opened on.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// The bounds in force.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// Where a blob is, or would be.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blob_dir(digest.algorithm()).join(digest.hex())
    }

    /// The size of a stored blob.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        let path = self.blob_path(digest);
        match fs::symlink_metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("inspect", &path)(error)),
        }
    }

    /// Whether the blob is stored with exactly this size. One of another size is read: either it is damaged, and
    /// removed, or `size` is wrong. Sizes are strangers' claims, and no claim takes away what other images need.
    ///
    /// # Errors
    /// When the size is wrong, or the file system refuses.
    pub fn contains(&self, digest: &Digest, size: u64) -> Result<bool, StoreError> {
        match self.size(digest)? {
            None => Ok(false),
            Some(found) if found == size => Ok(true),
            Some(actual) => match self.open_blob(digest).and_then(BlobReader::finish) {
                Ok(_) => Err(StoreError::SizeMismatch { digest: digest.clone(), expected: size, actual }),
                Err(StoreError::Corrupt { .. } | StoreError::Missing { .. }) => Ok(false),
                Err(error) => Err(error),
            },
        }
    }

    /// Protects a digest (a blob's, or any other that pruning asks about) until the lease is dropped. Take it before
    /// looking whether something is there.
    pub fn lease(&self, digest: &Digest) -> Lease {
        self.inner.leases.take(&self.inner, digest)
    }

    /// Removes every blob that is neither in `keep` nor leased. Returns how many there were and their bytes.
    ///
    /// `keep` is asked for after leases are being remembered, so that a blob which becomes referenced while this runs
    /// is kept.
    ///
    /// # Errors
    /// When the file system refuses; blobs removed until then stay removed.
    pub fn prune<E: From<StoreError>>(
        &self,
        keep: impl FnOnce() -> Result<BTreeSet<Digest>, E>,
    ) -> Result<Pruned, E> {
        let sweep = self.sweep_leases();
        let keep = keep()?;
        let mut pruned = Pruned::default();
        for algorithm in Algorithm::ALL {
            let dir = self.blob_dir(algorithm);
            for entry in fs::read_dir(&dir).map_err(StoreError::io("list", &dir))? {
                let path = entry.map_err(StoreError::io("list", &dir))?.path();
                let hex = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                let removed = match Digest::parse(&format!("{algorithm}:{hex}")) {
                    Ok(digest) if keep.contains(&digest) => None,
                    Ok(digest) => sweep.unless_protected(&digest, || remove_blob(&path))?,
                    Err(_) => Some(remove_blob(&path)?),
                };
                pruned.count += u64::from(removed.is_some());
                pruned.bytes += removed.unwrap_or_default();
            }
        }
        Ok(pruned)
    }

    /// Starts remembering leases for something that removes what is not leased.
    pub(crate) fn sweep_leases(&self) -> lease::Sweep<'_> {
        self.inner.leases.sweep()
    }

    /// A fresh path under `tmp`.
    fn temp_path(&self, kind: &str) -> PathBuf {
        let serial = self.inner.serial.fetch_add(1, Ordering::Relaxed);
        self.tmp_dir().join(format!("{kind}-{serial}"))
    }

    /// A fresh private directory under `tmp`, removed with all its content when dropped.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn temp_dir(&self, kind: &str) -> Result<TempDir, StoreError> {
        TempDir::create(self.temp_path(kind))
    }

    fn blob_dir(&self, algorithm: Algorithm) -> PathBuf {
        self.inner.root.join("blobs").join(algorithm.name())
    }

    fn tmp_dir(&self) -> PathBuf {
        self.inner.root.join("tmp")
    }

    fn sweep(&self) -> Result<(), StoreError> {
        let dir = self.tmp_dir();
        let mut swept = 0_u32;
        for entry in fs::read_dir(&dir).map_err(StoreError::io("list", &dir))? {
            let entry = entry.map_err(StoreError::io("list", &dir))?;
            temp::remove(&entry.path())?;
            swept += 1;
        }
        if swept > 0 {
            tracing::info!(swept, "removed unfinished image content");
        }
        Ok(())
    }

    fn remove_corrupt(&self, digest: &Digest) -> Result<(), StoreError> {
        let path = self.blob_path(digest);
        match fs::remove_file(&path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(StoreError::io("remove", &path)(error)),
        }
    }
}

/// Removes a file and says how large it was.
fn remove_blob(path: &Path) -> Result<u64, StoreError> {
    let size = fs::symlink_metadata(path).map_err(StoreError::io("inspect", path))?.len();
    fs::remove_file(path).map_err(StoreError::io("remove", path))?;
    Ok(size)
}

/// What [`ContentStore::prune`] removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Files or directories.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}
