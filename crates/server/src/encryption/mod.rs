//! Encryption at rest, and the change of its keys while the server runs.
//!
//! ```text
//!   a new key is written ──▶ it seals what is written from now on ──▶ all that older keys have sealed is written again
//!                                                                       ──▶ the older keys are removed
//! ```
//!
//! Keys lie in the directory of keys: `encryption.key`, the first, and `encryption-N.key`; the one with the highest number
//! seals, and all open. Whatever breaks off leaves keys that are still needed where they are: the next change goes on.

mod coverage;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::future::try_join_all;
use ring::rand::SecureRandom;
use xebec_api::{Status, json};
use xebec_store::{
    AesGcmSealer, CommitError, Condition, Encryption, Identity, Key, KeyringSealer, Prefix, Record, Revision,
    SealKeyId, Txn, Value,
};

pub use self::coverage::{Coverage, CoverageError};
use crate::auth::keys::{KeyError, fingerprint, write_file};
use crate::core::Core;
use crate::registry::write::stored;

/// How many values are written again at once.
const AT_ONCE: usize = 64;
/// Says in the store which key seals: what comes after it in the store's order is sealed by that key.
const MARK: &str = "/xebec/encryption";

/// The keys that values are sealed with at rest. Cheap to clone.
#[derive(Clone, Debug)]
pub struct EncryptionKeys {
    /// Where they are; keys that are in memory only are in none.
    directory: Option<PathBuf>,
    sealer: Arc<KeyringSealer>,
    coverage: Arc<Coverage>,
    /// What tells the keys from others, as they were read.
    identity: Identity,
    /// Held while keys are changed.
    changing: Arc<tokio::sync::Mutex<()>>,
}

/// What a change of the key came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// The number of the key that seals now.
    pub key: u32,
    /// Values that were written again.
    pub values: usize,
    /// Keys that were removed.
    pub removed: usize,
}

/// Why a key could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// A key cannot be read, written or removed.
    #[error("the keys cannot be changed")]
    Key(#[from] KeyError),
    /// The store does not take what has to be written again.
    #[error("not all could be written again, and all keys are kept: {0}")]
    Commit(#[from] CommitError),
    /// Other servers would not have the new key, and could read nothing that it seals.
    #[error(
        "several servers share the store, and the others would not know the new key: stop all of them, put a new file \
         encryption-N.key of 32 random bytes beside the older keys of each, and start them again"
    )]
    Shared,
    /// There is nothing at rest.
    #[error("the keys are in memory only, and seal nothing that lasts")]
    Ephemeral,
    /// A value cannot be read.
    #[error("not all could be written again, and all keys are kept: {0}")]
    Value(Status),
}

type Secret = [u8; 32];

impl EncryptionKeys {
    /// Reads the keys in a directory; makes the first if there is none.
    ///
    /// # Errors
    /// A file cannot be read or written, or holds something else.
    pub(crate) fn open(directory: &Path, random: &dyn SecureRandom) -> Result<Self, KeyError> {
        let mut keys = read_keys(directory)?;
        if keys.is_empty() {
            keys.push((1, make_key(directory, 1, random)?));
        }
        Ok(Self::of(&keys, Some(directory.to_owned())))
    }

    /// A key that is nowhere but here.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub(crate) fn ephemeral(random: &dyn SecureRandom) -> Result<Self, KeyError> {
        Ok(Self::of(&[(1, random_key(Path::new("an encryption key"), random)?)], None))
    }

    fn of(keys: &[(u32, Secret)], directory: Option<PathBuf>) -> Self {
        Self {
            directory,
            sealer: Arc::new(KeyringSealer::new(ring_of(keys))),
            coverage: Arc::default(),
            identity: identity_of(keys),
            changing: Arc::default(),
        }
    }

    /// What all servers of a cluster have in common of the keys.
    pub(crate) const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The same keys for other resources than Secrets, too.
    #[must_use]
    pub fn covering(&self, coverage: Coverage) -> Self {
        Self { coverage: Arc::new(coverage), ..self.clone() }
    }

    /// What a store needs.
    #[must_use]
    pub fn encryption(&self) -> Encryption {
        let coverage = self.coverage.clone();
        Encryption { sealer: self.sealer.clone(), covers: Arc::new(move |key| coverage.covers(key)) }
    }

    /// Seals everything with a new key, and removes the older ones.
    ///
    /// # Errors
    /// What cannot be written again keeps its key; nothing is lost.
    pub(crate) async fn rotate(&self, core: &Core) -> Result<Rotated, RotateError> {
        if core.store.is_shared() {
            return Err(RotateError::Shared);
        }
        let Some(directory) = &self.directory else { return Err(RotateError::Ephemeral) };
        let _alone = self.changing.lock().await;
        let mut keys = read_keys(directory)?;
        let number = keys.last().map_or(1, |(number, _)| number + 1);
        keys.push((number, make_key(directory, number, &*core.random)?));
        self.sealer.replace(ring_of(&keys));
        // The store takes one transaction after the other: none before this one is sealed later.
        let mark = Key::new(MARK).expect("a short path without odd characters is a key");
        let text = Value::opaque(number.to_string().into_bytes());
        let switched = core.store.commit(Txn::default().put(mark, text)).await?.revision;
        let values = self.write_again(core, switched).await?;
        let newest = keys.pop().into_iter().collect::<Vec<_>>();
        self.sealer.replace(ring_of(&newest));
        for (number, _) in &keys {
            let path = key_path(directory, *number);
            fs::remove_file(&path).map_err(|source| file_error("removing", path, source))?;
        }
        Ok(Rotated { key: number, values, removed: keys.len() })
    }

    /// Writes again what was written before a revision.
    async fn write_again(&self, core: &Core, before: Revision) -> Result<usize, RotateError> {
        let all = Prefix::new("/registry/").expect("a short path without odd characters is a prefix");
        let snapshot = core.store.snapshot();
        let old: Vec<Arc<Record>> = snapshot
            .range(&all, None)
            .filter(|record| record.mod_revision() < before && self.coverage.covers(record.key()))
            .cloned()
            .collect();
        for some in old.chunks(AT_ONCE) {
            try_join_all(some.iter().cloned().map(|record| write_again(core, record))).await?;
        }
        Ok(old.len())
    }
}

/// Writes a value as it is. Who has written another one meanwhile has sealed it anew.
async fn write_again(core: &Core, record: Arc<Record>) -> Result<(), RotateError> {
    let mut object =
        json::from_slice(record.as_slice()).map_err(|e| RotateError::Value(Status::internal(e)))?;
    let key = record.key().clone();
    let txn =
        Txn::default().when(Condition::At(key.clone(), record.mod_revision())).put(key, stored(&mut object));
    match core.commit(txn).await {
        Ok(_) | Err(CommitError::Conflict(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The last of the keys is the one that all servers must have.
fn identity_of(keys: &[(u32, Secret)]) -> Identity {
    let mut prints: Vec<String> = keys.iter().map(|(_, secret)| fingerprint(secret)).collect();
    let current = prints.pop().unwrap_or_default();
    Identity { name: "encryption key", current, former: prints }
}

/// The last of the keys seals.
fn ring_of(keys: &[(u32, Secret)]) -> AesGcmSealer {
    let (newest, older) = keys.split_last().expect("there is a key");
    let sealer = AesGcmSealer::new(SealKeyId(newest.0), &newest.1);
    older.iter().fold(sealer, |sealer, (number, secret)| sealer.with_older(SealKeyId(*number), secret))
}

fn key_path(directory: &Path, number: u32) -> PathBuf {
    match number {
        1 => directory.join("encryption.key"),
        number => directory.join(format!("encryption-{number}.key")),
    }
}

/// All keys, by number.
fn read_keys(directory: &Path) -> Result<Vec<(u32, Secret)>, KeyError> {
    let unreadable = |source| file_error("reading", directory.to_owned(), source);
    let mut keys = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        let number = match name.to_str().and_then(|name| name.strip_suffix(".key")) {
            Some("encryption") => 1,
            Some(name) => match name.strip_prefix("encryption-").and_then(|number| number.parse().ok()) {
                Some(number) if number > 1 => number,
                _ => continue,
            },
            None => continue,
        };
        let path = key_path(directory, number);
        let bytes = fs::read(&path).map_err(|source| file_error("reading", path.clone(), source))?;
        let secret = bytes.try_into().map_err(|_| {
            let wrong = io::Error::new(io::ErrorKind::InvalidData, "an encryption key has 32 bytes");
            file_error("reading", path, wrong)
        })?;
        keys.push((number, secret));
    }
    keys.sort_unstable_by_key(|(number, _)| *number);
    Ok(keys)
}

fn make_key(directory: &Path, number: u32, random: &dyn SecureRandom) -> Result<Secret, KeyError> {
    let path = key_path(directory, number);
    let secret = random_key(&path, random)?;
    write_file(&path, &secret)?;
    Ok(secret)
}

fn random_key(path: &Path, random: &dyn SecureRandom) -> Result<Secret, KeyError> {
    let mut secret = [0; 32];
    random.fill(&mut secret).map_err(|_| {
        file_error("making", path.to_owned(), io::Error::other("the system gives no random bytes"))
    })?;
    Ok(secret)
}

const fn file_error(action: &'static str, path: PathBuf, source: io::Error) -> KeyError {
    KeyError::File { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(directory: &Path) -> Result<EncryptionKeys, KeyError> {
        EncryptionKeys::open(directory, &ring::rand::SystemRandom::new())
    }

    #[test]
    fn keys_are_found_by_their_numbers() {
        let directory = tempfile::tempdir().expect("a directory");
        open(directory.path()).expect("made");
        let first = read_keys(directory.path()).expect("read");
        assert_eq!(first.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1]);
        for name in
            ["encryption-7.key", "encryption-12.key", "encryption-1.key", "encryption-x.key", "other.key"]
        {
            fs::write(directory.path().join(name), [7; 32]).expect("written");
        }
        let numbers: Vec<u32> = read_keys(directory.path()).expect("read").iter().map(|(n, _)| *n).collect();
        assert_eq!(numbers, [1, 7, 12]);
        fs::write(directory.path().join("encryption-7.key"), "short").expect("written");
        assert!(matches!(open(directory.path()), Err(KeyError::File { .. })));
    }
}
