//! How a value lies in etcd. The revision is not known before the commit, so it is not in there: who reads puts it in.
//!
//! ```text
//! 0      format: 1
//! 1      flags: bit 0 = what follows is sealed
//! 2..6   where in the value the revision's text goes, little-endian; u32::MAX when it has none
//! 6..    the value without the revision's text
//! ```

use bytes::Bytes;

use crate::{Encryption, Key, SealError, Value};

const FORMAT: u8 = 1;
const SEALED: u8 = 1;
const NO_TEXT: u32 = u32::MAX;
const PLACE_BYTES: usize = size_of::<u32>();

/// Why bytes in etcd are no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ValueError {
    /// They are not of the format that is known.
    #[error("{key} in etcd was not written by this version of xebec, or by something else")]
    Format {
        /// The record.
        key: Key,
    },
    /// The revision's place is not in the value.
    #[error("{key} in etcd is damaged")]
    Damaged {
        /// The record.
        key: Key,
    },
    /// It is sealed, and no key was given.
    #[error("{key} in etcd is encrypted, and no encryption key was given")]
    Sealed {
        /// The record.
        key: Key,
    },
    /// It does not open.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// What is put into etcd, in pieces.
pub(super) struct Stored {
    head: Vec<u8>,
    body: Bytes,
}

impl Stored {
    pub(super) fn pieces(&self) -> [&[u8]; 2] {
        [&self.head, &self.body]
    }

    pub(super) fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }
}

/// `value` as it is put.
pub(super) fn encode(encryption: Option<&Encryption>, key: &Key, value: &Value) -> Result<Stored, SealError> {
    let place = value.revision_at.map_or(NO_TEXT, |at| u32::try_from(at).expect("MAX_VALUE_BYTES fits"));
    let seal = |encryption: &Encryption| {
        let plaintext = [&place.to_le_bytes()[..], &value.bytes].concat();
        encryption.seal(key, &plaintext)
    };
    Ok(match encryption.map(seal).transpose()?.flatten() {
        Some(sealed) => Stored { head: vec![FORMAT, SEALED], body: sealed.into() },
        None => {
            let head = [&[FORMAT, 0][..], &place.to_le_bytes()].concat();
            Stored { head, body: value.bytes.clone() }
        }
    })
}

/// The value that was put as `bytes`.
pub(super) fn decode(encryption: Option<&Encryption>, key: &Key, bytes: &[u8]) -> Result<Value, ValueError> {
    let [FORMAT, flags @ (0 | SEALED), rest @ ..] = bytes else {
        return Err(ValueError::Format { key: key.clone() });
    };
    let opened;
    let plaintext = if *flags == SEALED {
        let encryption = encryption.ok_or_else(|| ValueError::Sealed { key: key.clone() })?;
        opened = encryption.sealer.open(key, rest)?;
        &opened
    } else {
        rest
    };
    let damaged = || ValueError::Damaged { key: key.clone() };
    let (place, value) = plaintext.split_first_chunk::<PLACE_BYTES>().ok_or_else(damaged)?;
    let revision_at = match u32::from_le_bytes(*place) {
        NO_TEXT => None,
        place if place as usize <= value.len() => Some(place as usize),
        _ => return Err(damaged()),
    };
    Ok(Value { bytes: Bytes::copy_from_slice(value), revision_at })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{ValueError, decode, encode};
    use crate::{AesGcmSealer, Encryption, Key, SealError, SealKeyId, Value};

    #[test]
    fn values_survive_and_are_sealed_where_they_have_to_be() {
        let sealer = Arc::new(AesGcmSealer::new(SealKeyId(1), &[7; 32]));
        let covers = Arc::new(|key: &Key| key.as_str().starts_with("/secret/"));
        let encryption = Encryption { sealer, covers };
        let key = |path: &str| Key::new(path).expect("key");
        for value in
            [Value::opaque(""), Value::opaque("text"), Value::revised("", 0), Value::revised("text", 2)]
        {
            for (path, sealed) in [("/secret/a", true), ("/open/a", false)] {
                let stored = encode(Some(&encryption), &key(path), &value).expect("encoded");
                let bytes = stored.pieces().concat();
                assert_eq!((bytes.len(), bytes[1] == 1), (stored.len(), sealed));
                assert_eq!(decode(Some(&encryption), &key(path), &bytes), Ok(value.clone()));
                let without = decode(None, &key(path), &bytes);
                let wanted =
                    if sealed { Err(ValueError::Sealed { key: key(path) }) } else { Ok(value.clone()) };
                assert_eq!(without, wanted);
                if sealed {
                    let moved = decode(Some(&encryption), &key("/secret/b"), &bytes);
                    assert!(matches!(moved, Err(ValueError::Seal(SealError::Tampered { .. }))), "{moved:?}");
                }
            }
        }
    }

    #[test]
    fn what_others_have_written_is_refused() {
        let key = Key::new("/a").expect("key");
        for bytes in [&b""[..], b"{}", &[1], &[2, 0, 0, 0, 0, 0], &[1, 2, 0, 0, 0, 0]] {
            assert_eq!(decode(None, &key, bytes), Err(ValueError::Format { key: key.clone() }), "{bytes:?}");
        }
        for bytes in [&[1, 0][..], &[1, 0, 0, 0, 0], &[1, 0, 2, 0, 0, 0, b'x']] {
            assert_eq!(decode(None, &key, bytes), Err(ValueError::Damaged { key: key.clone() }), "{bytes:?}");
        }
    }
}
