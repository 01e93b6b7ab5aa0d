//! Content digests: `sha256:<64 hex>` and `sha512:<128 hex>`.
//!
//! A [`Digest`] is only a well-formed name for some bytes. That bytes were hashed and found to match is told by the
//! tokens of [`crate::store`], which only that module can make.
//!
//! Spec: OCI image spec 1.1, descriptor, "Digests". Other algorithms are refused: nothing could verify them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha512};

use crate::quote::clip;

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// There is no `algorithm:` before the hexadecimal digits.
    #[error("`{0}` is not a digest: expected `sha256:` or `sha512:` and hexadecimal digits")]
    NoAlgorithm(String),
    /// The algorithm is not one that can be verified here.
    #[error("digest algorithm `{0}` is not supported: use sha256 or sha512")]
    Algorithm(String),
    /// The digits are too few, too many, upper case or not hexadecimal.
    #[error("`{text}` is not a digest: {algorithm} needs exactly {expected} lower-case hexadecimal digits")]
    Digits {
        /// The algorithm that the text names.
        algorithm: Algorithm,
        /// How many digits that algorithm has.
        expected: usize,
        /// The text as given.
        text: String,
    },
}

/// A supported hash function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256, what everybody uses.
    Sha256,
    /// SHA-512, optional in the specification.
    Sha512,
}

impl Algorithm {
    /// Every supported algorithm.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// The name before the colon.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A well-formed digest. Ordering and equality are those of its text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest {
    algorithm: Algorithm,
    /// The whole text, `sha256:…`.
    text: String,
}

impl Digest {
    /// Parses `algorithm:hex`.
    ///
    /// # Errors
    /// When the algorithm is unknown or the digits are not exactly the lower-case hexadecimal that it needs.
    pub fn parse(text: &str) -> Result<Self, DigestError> {
        let (name, hex) = text.split_once(':').ok_or_else(|| DigestError::NoAlgorithm(clip(text)))?;
        let algorithm = Algorithm::ALL
            .into_iter()
            .find(|a| a.name() == name)
            .ok_or_else(|| DigestError::Algorithm(clip(name)))?;
        if hex.len() != algorithm.hex_len() || !is_lower_hex(hex) {
            return Err(DigestError::Digits { algorithm, expected: algorithm.hex_len(), text: clip(text) });
        }
        Ok(Self { algorithm, text: text.to_owned() })
    }

    /// The SHA-256 digest of `bytes`.
    pub fn sha256(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The hash function.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The hexadecimal digits, without the algorithm.
    pub fn hex(&self) -> &str {
        &self.text[self.algorithm.name().len() + 1..]
    }

    /// The first twelve digits, as people write image ids.
    pub fn short(&self) -> &str {
        &self.hex()[..12]
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.text
    }
}

/// Computes a digest piece by piece.
#[derive(Clone)]
pub enum Hasher {
    /// A running SHA-256.
    Sha256(Sha256),
    /// A running SHA-512.
    Sha512(Sha512),
}

impl Hasher {
    /// An empty hash.
    pub fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Sha512::new()),
        }
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Sha512(hash) => hash.update(bytes),
        }
    }

    /// The digest of everything added.
    pub fn finish(self) -> Digest {
        match self {
            Self::Sha256(hash) => from_bytes(Algorithm::Sha256, &hash.finalize()),
            Self::Sha512(hash) => from_bytes(Algorithm::Sha512, &hash.finalize()),
        }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

fn from_bytes(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(algorithm.name().len() + 1 + bytes.len() * 2);
    text.push_str(algorithm.name());
    text.push(':');
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    Digest { algorithm, text }
}

/// Whether `text` is nothing but lower-case hexadecimal digits.
pub(crate) fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_hashes() {
        assert_eq!(
            Digest::sha256(b"").as_str(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        let mut hasher = Hasher::new(Algorithm::Sha512);
        hasher.update(b"a");
        hasher.update(b"bc");
        assert_eq!(
            hasher.finish().as_str(),
            "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
             2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
        );
    }

    #[test]
    fn parses_only_well_formed_text() {
        let good = |alg: &str, n: usize| format!("{alg}:{}", "a0".repeat(n / 2));
        for text in [good("sha256", 64), good("sha512", 128)] {
            let digest = Digest::parse(&text).expect("well formed");
            assert_eq!(digest.to_string(), text);
            assert_eq!(format!("{}:{}", digest.algorithm(), digest.hex()), text);
        }
        let bad = [
            String::new(),
            ":".into(),
            "a".repeat(64),
            good("sha384", 96),
            good("md5", 32),
            good("sha256", 62),
            good("sha256", 66),
            good("sha512", 64),
            good("SHA256", 64),
            format!("sha256:{}", "A0".repeat(32)),
            format!("sha256:{}", "g0".repeat(32)),
            format!("sha256:{}/", "a".repeat(63)),
            format!("sha256:../{}", "a".repeat(61)),
            format!("sha256:{}", "é".repeat(32)),
        ];
        for text in bad {
            assert!(Digest::parse(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn errors_name_what_was_expected() {
        let check = |text: &str, expected: &str| {
            assert_eq!(Digest::parse(text).expect_err("malformed").to_string(), expected);
        };
        check("abc", "`abc` is not a digest: expected `sha256:` or `sha512:` and hexadecimal digits");
        check("md5:aa", "digest algorithm `md5` is not supported: use sha256 or sha512");
        check(
            "sha256:aa",
            "`sha256:aa` is not a digest: sha256 needs exactly 64 lower-case hexadecimal digits",
        );
    }
}
