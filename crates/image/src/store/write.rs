//! The way in: hash while writing, check, sync, rename.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use super::{ContentStore, StoreError, TempFile, VerifiedDigest};
use crate::digest::{Algorithm, Digest, Hasher};
use crate::limits::Exceeded;

/// What is known beforehand about bytes to be written.
#[derive(Debug, Clone)]
pub struct Expected {
    /// Their digest; without one they are hashed with SHA-256 and take what comes out.
    pub digest: Option<Digest>,
    /// Their exact size.
    pub size: Option<u64>,
    /// The name of the field of [`crate::limits::Limits`] that bounds them.
    pub limit: &'static str,
    /// That field's value.
    pub max: u64,
}

/// Bytes on their way into the store. Dropped unfinished, it leaves nothing.
#[derive(Debug)]
pub struct Writer {
    temp: TempFile,
    file: File,
    hasher: Hasher,
    expected: Expected,
    written: u64,
}

/// Complete and verified, but not yet visible in the store. Dropped, it leaves nothing.
#[derive(Debug)]
pub struct StagedBlob {
    temp: TempFile,
    digest: VerifiedDigest,
    size: u64,
}

impl ContentStore {
    /// Starts writing a blob.
    ///
    /// # Errors
    /// When the announced size is above the limit, or the file system refuses.
    pub fn writer(&self, expected: Expected) -> Result<Writer, StoreError> {
        let what = || match &expected.digest {
            Some(digest) => format!("content {digest}"),
            None => "content".to_owned(),
        };
        Exceeded::check(expected.size.unwrap_or(0), expected.limit, expected.max, what)?;
        let algorithm = expected.digest.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
        let (temp, file) = TempFile::create(self.temp_path("blob"))?;
        Ok(Writer { temp, file, hasher: Hasher::new(algorithm), expected, written: 0 })
    }

    /// Writes a small document and makes it durable.
    ///
    /// # Errors
    /// As [`Writer::finish`] and [`ContentStore::publish`].
    pub fn put(&self, bytes: &[u8], expected: Expected) -> Result<VerifiedDigest, StoreError> {
        let mut writer = self.writer(expected)?;
        writer.append(bytes)?;
        let staged = writer.finish()?;
        let digest = staged.digest.clone();
        self.publish(vec![staged])?;
        Ok(digest)
    }

    /// Makes blobs durable and visible, all with one wait for the disk. What is in the store already is left as it is.
    ///
    /// # Errors
    /// When the file system refuses. Blobs published until then stay; nothing references them yet.
    pub fn publish(&self, staged: Vec<StagedBlob>) -> Result<(), StoreError> {
        if let [single] = staged.as_slice() {
            let path = single.temp.path();
            let file = File::open(path).map_err(StoreError::io("open", path))?;
            file.sync_all().map_err(StoreError::io("sync", path))?;
        } else if !staged.is_empty() {
            sync_file_system(&self.tmp_dir())?;
        }
        let mut algorithms = Vec::new();
        for blob in staged {
            let target = self.blob_path(blob.digest.digest());
            if self.contains(blob.digest.digest(), blob.size)? {
                continue;
            }
            blob.temp.rename_to(&target)?;
            algorithms.push(blob.digest.digest().algorithm());
        }
        algorithms.sort_unstable();
        algorithms.dedup();
        for algorithm in algorithms {
            sync_dir(&self.blob_dir(algorithm))?;
        }
        Ok(())
    }
}

impl Writer {
    /// Adds bytes.
    ///
    /// # Errors
    /// When there are more than announced or allowed, or the disk is full.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let added = u64::try_from(bytes.len()).expect("a slice's length fits 64 bits");
        let total = self.written.saturating_add(added);
        if let (Some(digest), Some(size)) = (&self.expected.digest, self.expected.size)
            && total > size
        {
            return Err(StoreError::SizeMismatch { digest: digest.clone(), expected: size, actual: total });
        }
        Exceeded::check(total, self.expected.limit, self.expected.max, || "content".to_owned())?;
        self.file.write_all(bytes).map_err(StoreError::io("write", self.temp.path()))?;
        self.hasher.update(bytes);
        self.written = total;
        Ok(())
    }

    /// Ends writing and checks size and digest.
    ///
    /// # Errors
    /// When either is not what was expected.
    pub fn finish(self) -> Result<StagedBlob, StoreError> {
        let actual = self.hasher.finish();
        if let Some(size) = self.expected.size
            && size != self.written
        {
            let digest = self.expected.digest.unwrap_or(actual);
            return Err(StoreError::SizeMismatch { digest, expected: size, actual: self.written });
        }
        if let Some(expected) = self.expected.digest
            && expected != actual
        {
            return Err(StoreError::DigestMismatch { expected, actual });
        }
        Ok(StagedBlob { temp: self.temp, digest: VerifiedDigest(actual), size: self.written })
    }
}

impl StagedBlob {
    /// Its digest.
    pub fn digest(&self) -> &VerifiedDigest {
        &self.digest
    }

    /// Its size.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads it back, before it is published.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn open(&self) -> Result<File, StoreError> {
        File::open(self.temp.path()).map_err(StoreError::io("open", self.temp.path()))
    }

    /// Its first bytes, enough to tell a compression.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn head(&self) -> Result<Vec<u8>, StoreError> {
        let mut head = Vec::new();
        self.open()?.take(8).read_to_end(&mut head).map_err(StoreError::io("read", self.temp.path()))?;
        Ok(head)
    }

    /// Reads it into memory, which only a small document allows.
    ///
    /// # Errors
    /// When it is larger than `max`, or the file system refuses.
    pub fn read(&self, limit: &'static str, max: u64) -> Result<Vec<u8>, StoreError> {
        Exceeded::check(self.size, limit, max, || format!("document {}", self.digest.digest()))?;
        let mut bytes = Vec::new();
        self.open()?.read_to_end(&mut bytes).map_err(StoreError::io("read", self.temp.path()))?;
        Ok(bytes)
    }
}

/// Writes everything that the kernel still holds for the file system of `dir`.
pub(crate) fn sync_file_system(dir: &Path) -> Result<(), StoreError> {
    let file = File::open(dir).map_err(StoreError::io("open", dir))?;
    rustix::fs::syncfs(&file).map_err(io::Error::from).map_err(StoreError::io("sync", dir))
}

/// Makes names in `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    let file = File::open(dir).map_err(StoreError::io("open", dir))?;
    file.sync_all().map_err(StoreError::io("sync", dir))
}
