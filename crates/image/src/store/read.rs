//! The way out: nothing is handed on that was not hashed again.

use std::fs::File;
use std::io::{self, Read};

use bytes::Bytes;

use super::{ContentStore, StoreError, VerifiedDigest};
use crate::digest::{Digest, Hasher};
use crate::limits::Exceeded;

/// A value together with the verified bytes that it was read from. Signatures are checked over `bytes`.
#[derive(Debug, Clone)]
pub struct Verified<T> {
    value: T,
    bytes: Bytes,
    digest: VerifiedDigest,
}

impl<T> Verified<T> {
    /// The value.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// The bytes that were hashed.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Their digest.
    pub fn digest(&self) -> &Digest {
        self.digest.digest()
    }

    /// Reads the value out of the verified bytes, and nothing else.
    ///
    /// # Errors
    /// What `parse` returns.
    pub fn parse<U, E>(self, parse: impl FnOnce(&[u8]) -> Result<U, E>) -> Result<Verified<U>, E> {
        Ok(Verified { value: parse(&self.bytes)?, bytes: self.bytes, digest: self.digest })
    }
}

impl Verified<()> {
    /// Checks bytes that came from elsewhere against a digest.
    ///
    /// # Errors
    /// When they do not match.
    pub fn check(bytes: Bytes, digest: &Digest) -> Result<Self, StoreError> {
        let mut hasher = Hasher::new(digest.algorithm());
        hasher.update(&bytes);
        let actual = hasher.finish();
        if actual != *digest {
            return Err(StoreError::DigestMismatch { expected: digest.clone(), actual });
        }
        Ok(Self { value: (), bytes, digest: VerifiedDigest(actual) })
    }

    /// Takes bytes under whatever digest they have, for documents that were asked for by a tag.
    pub fn by_content(bytes: Bytes) -> Self {
        let digest = VerifiedDigest(Digest::sha256(&bytes));
        Self { value: (), bytes, digest }
    }
}

impl ContentStore {
    /// Reads a small document and verifies it.
    ///
    /// # Errors
    /// When it is missing, larger than `max` (the limit field `limit`), or damaged; damaged content is removed.
    pub fn read(&self, digest: &Digest, limit: &'static str, max: u64) -> Result<Verified<()>, StoreError> {
        let mut reader = self.open_blob(digest)?;
        Exceeded::check(reader.size(), limit, max, || format!("document {digest}"))?;
        let mut bytes = Vec::new();
        let read = reader.read_to_end(&mut bytes);
        read.map_err(StoreError::io("read", &self.blob_path(digest)))?;
        reader.finish()?;
        Verified::check(bytes.into(), digest)
    }

    /// Opens a blob for streaming.
    ///
    /// # Errors
    /// When it is missing or the file system refuses.
    pub fn open_blob(&self, digest: &Digest) -> Result<BlobReader, StoreError> {
        let path = self.blob_path(digest);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::Missing { digest: digest.clone() });
            }
            Err(error) => return Err(StoreError::io("open", &path)(error)),
        };
        let size = file.metadata().map_err(StoreError::io("inspect", &path))?.len();
        let hasher = Hasher::new(digest.algorithm());
        Ok(BlobReader { store: self.clone(), digest: digest.clone(), file, size, hasher })
    }
}

/// A blob that is hashed while it is read. What was read may be used only after [`BlobReader::finish`] agreed.
#[derive(Debug)]
pub struct BlobReader {
    store: ContentStore,
    digest: Digest,
    file: File,
    size: u64,
    hasher: Hasher,
}

impl BlobReader {
    /// The blob's size when it was opened.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads the rest and compares the digest.
    ///
    /// # Errors
    /// When it differs; the blob is then removed from the store.
    pub fn finish(mut self) -> Result<VerifiedDigest, StoreError> {
        let path = self.store.blob_path(&self.digest);
        io::copy(&mut self, &mut io::sink()).map_err(StoreError::io("read", &path))?;
        let actual = self.hasher.finish();
        if actual == self.digest {
            return Ok(VerifiedDigest(actual));
        }
        tracing::warn!(digest = %self.digest, %actual, "removing a damaged blob");
        self.store.remove_corrupt(&self.digest)?;
        Err(StoreError::Corrupt { digest: self.digest })
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        Ok(n)
    }
}
