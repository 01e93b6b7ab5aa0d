//! Encryption at rest: what is done to some values between memory and disk.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

use crate::Key;
use crate::limits::MAX_SEAL_BYTES;

/// Turns values into bytes that may lie on a disk, and back.
pub trait Sealer: Send + Sync {
    /// Encrypts `plaintext`, bound to `key`: sealed bytes moved to another key do not open. Adds [`MAX_SEAL_BYTES`] at
    /// most.
    ///
    /// # Errors
    /// [`SealError`]; the transaction is then not written.
    fn seal(&self, key: &Key, plaintext: &[u8]) -> Result<Vec<u8>, SealError>;

    /// Decrypts what [`Self::seal`] made for `key`.
    ///
    /// # Errors
    /// [`SealError`]; the store then does not open.
    fn open(&self, key: &Key, sealed: &[u8]) -> Result<Vec<u8>, SealError>;
}

/// Which values are sealed, and how.
#[derive(Clone)]
pub struct Encryption {
    /// The cipher and its keys.
    pub sealer: Arc<dyn Sealer>,
    /// Whether the value of a key is sealed when it is written. What was written before this changed stays readable
    /// either way.
    pub covers: Arc<dyn Fn(&Key) -> bool + Send + Sync>,
}

impl Encryption {
    /// Seals `plaintext`, if values of `key` are sealed.
    pub(crate) fn seal(&self, key: &Key, plaintext: &[u8]) -> Result<Option<Vec<u8>>, SealError> {
        if !(self.covers)(key) {
            return Ok(None);
        }
        let sealed = self.sealer.seal(key, plaintext)?;
        let added = sealed.len().saturating_sub(plaintext.len());
        if added > MAX_SEAL_BYTES {
            return Err(SealError::Long { key: key.clone(), added });
        }
        Ok(Some(sealed))
    }
}

impl fmt::Debug for Encryption {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Encryption")
    }
}

/// Names an encryption key. Stored before every sealed value, so that keys can be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SealKeyId(pub u32);

impl fmt::Display for SealKeyId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:08x}", self.0)
    }
}

/// Why a value could not be sealed or opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The system gave no random bytes, or the cipher refused.
    #[error("sealing {key} failed")]
    Seal {
        /// The record.
        key: Key,
    },
    /// The sealer added more than [`MAX_SEAL_BYTES`].
    #[error("sealing {key} added {added} bytes, more than the limit of {limit}", limit = MAX_SEAL_BYTES)]
    Long {
        /// The record.
        key: Key,
        /// How many it added.
        added: usize,
    },
    /// Fewer bytes than a nonce.
    #[error("the sealed value of {key} is cut short")]
    Short {
        /// The record.
        key: Key,
    },
    /// It was sealed with a key that was not given.
    #[error("{key} is sealed with encryption key {id}, which was not given")]
    UnknownKey {
        /// The record.
        key: Key,
        /// The encryption key.
        id: SealKeyId,
    },
    /// It was changed, belongs to another record, or the encryption key is wrong.
    #[error("{key} does not open with encryption key {id}: the key is wrong or the data was altered")]
    Tampered {
        /// The record.
        key: Key,
        /// The encryption key.
        id: SealKeyId,
    },
}

/// AES-256-GCM with a random nonce and the record's key as associated data.
///
/// It hides values, not keys, sizes or times, and does not notice when an old value of the same key is put back.
///
/// A sealed value is the key id (4 bytes, big-endian), the nonce (12), the ciphertext and the tag (16). One
/// encryption key is good for 2^32 writes; replace it before.
pub struct AesGcmSealer {
    primary: SealKeyId,
    keys: HashMap<SealKeyId, LessSafeKey>,
    random: SystemRandom,
}

const ID_LEN: usize = size_of::<u32>();

impl AesGcmSealer {
    /// Seals with `secret`, and opens what it sealed.
    #[must_use]
    pub fn new(id: SealKeyId, secret: &[u8; 32]) -> Self {
        Self { primary: id, keys: HashMap::new(), random: SystemRandom::new() }.with_older(id, secret)
    }

    /// Opens what was sealed with `secret`, too.
    #[must_use]
    pub fn with_older(mut self, id: SealKeyId, secret: &[u8; 32]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, secret).expect("AES-256 takes 32 bytes");
        self.keys.insert(id, LessSafeKey::new(key));
        self
    }
}

impl fmt::Debug for AesGcmSealer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "AesGcmSealer({})", self.primary)
    }
}

impl Sealer for AesGcmSealer {
    fn seal(&self, key: &Key, plaintext: &[u8]) -> Result<Vec<u8>, SealError> {
        let failed = || SealError::Seal { key: key.clone() };
        let cipher = self.keys.get(&self.primary).ok_or_else(failed)?;
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| failed())?;
        let mut sealed = Vec::with_capacity(ID_LEN + NONCE_LEN + plaintext.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(&self.primary.0.to_be_bytes());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plaintext);
        let body = &mut sealed[ID_LEN + NONCE_LEN..];
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag =
            cipher.seal_in_place_separate_tag(nonce, Aad::from(key.as_str()), body).map_err(|_| failed())?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    fn open(&self, key: &Key, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let short = || SealError::Short { key: key.clone() };
        let (id, rest) = sealed.split_first_chunk().ok_or_else(short)?;
        let (nonce, body) = rest.split_first_chunk().ok_or_else(short)?;
        let id = SealKeyId(u32::from_be_bytes(*id));
        let cipher = self.keys.get(&id).ok_or_else(|| SealError::UnknownKey { key: key.clone(), id })?;
        let mut body = body.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = cipher
            .open_in_place(nonce, Aad::from(key.as_str()), &mut body)
            .map_err(|_| SealError::Tampered { key: key.clone(), id })?
            .len();
        body.truncate(length);
        Ok(body)
    }
}

/// A sealer whose keys may be replaced while a store is open.
#[derive(Debug)]
pub struct KeyringSealer {
    current: RwLock<Arc<AesGcmSealer>>,
}

impl KeyringSealer {
    /// Seals and opens with these keys.
    #[must_use]
    pub fn new(keys: AesGcmSealer) -> Self {
        Self { current: RwLock::new(Arc::new(keys)) }
    }

    /// Other keys from now on. What is sealed already needs its key to be among them when the store is opened again.
    pub fn replace(&self, keys: AesGcmSealer) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }

    fn keys(&self) -> Arc<AesGcmSealer> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Sealer for KeyringSealer {
    fn seal(&self, key: &Key, plaintext: &[u8]) -> Result<Vec<u8>, SealError> {
        self.keys().seal(key, plaintext)
    }

    fn open(&self, key: &Key, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        self.keys().open(key, sealed)
    }
}

#[cfg(test)]
mod tests {
    use super::{AesGcmSealer, SealError, SealKeyId, Sealer};
    use crate::Key;

    const OLD: SealKeyId = SealKeyId(1);
    const NEW: SealKeyId = SealKeyId(2);

    fn key(path: &str) -> Key {
        Key::new(path).expect("key")
    }

    #[test]
    fn sealed_values_open_only_in_their_place() {
        let sealer = AesGcmSealer::new(OLD, &[7; 32]);
        for plaintext in [&b""[..], b"x", &[0; 5_000]] {
            let sealed = sealer.seal(&key("/a"), plaintext).expect("seal");
            assert_eq!(sealed.len(), plaintext.len() + 32);
            assert_eq!(sealer.open(&key("/a"), &sealed).as_deref(), Ok(plaintext));
            assert_ne!(sealer.seal(&key("/a"), plaintext).expect("seal"), sealed, "a nonce is used once");

            let tampered = Err(SealError::Tampered { key: key("/b"), id: OLD });
            assert_eq!(sealer.open(&key("/b"), &sealed), tampered);
            for position in 4..sealed.len().min(60) {
                let mut altered = sealed.clone();
                altered[position] ^= 1;
                let tampered = Err(SealError::Tampered { key: key("/a"), id: OLD });
                assert_eq!(sealer.open(&key("/a"), &altered), tampered, "byte {position}");
            }
            for cut in 0..16 {
                assert_eq!(sealer.open(&key("/a"), &sealed[..cut]), Err(SealError::Short { key: key("/a") }));
            }
        }
    }

    #[test]
    fn keys_can_be_replaced() {
        let old = AesGcmSealer::new(OLD, &[7; 32]);
        let new = AesGcmSealer::new(NEW, &[8; 32]);
        let both = AesGcmSealer::new(NEW, &[8; 32]).with_older(OLD, &[7; 32]);
        let sealed = old.seal(&key("/a"), b"secret").expect("seal");
        assert_eq!(both.open(&key("/a"), &sealed).as_deref(), Ok(&b"secret"[..]));
        assert_eq!(new.open(&key("/a"), &sealed), Err(SealError::UnknownKey { key: key("/a"), id: OLD }));
        let sealed = both.seal(&key("/a"), b"secret").expect("seal");
        assert_eq!(new.open(&key("/a"), &sealed).as_deref(), Ok(&b"secret"[..]));
        assert_eq!(format!("{both:?}"), "AesGcmSealer(00000002)");
    }
}
