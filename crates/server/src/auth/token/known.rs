//! What is remembered by the hash of a token: a bounded number of answers, those that are asked for least going first.

use std::collections::HashMap;

/// SHA-256 of a token.
pub type TokenHash = [u8; 32];

/// The hash of a token.
#[must_use]
pub fn hash(token: &str) -> TokenHash {
    let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// How many are remembered, twice: those that came lately, and those that came before.
pub const MAX_KNOWN: usize = 1024;

/// What is known of tokens.
#[derive(Debug)]
pub struct Known<T> {
    lately: HashMap<TokenHash, T>,
    before: HashMap<TokenHash, T>,
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self { lately: HashMap::new(), before: HashMap::new() }
    }
}

impl<T: Clone> Known<T> {
    /// What is known of a token.
    pub fn get(&mut self, hash: &TokenHash) -> Option<T> {
        if let Some(found) = self.lately.get(hash) {
            return Some(found.clone());
        }
        let found = self.before.remove(hash)?;
        self.insert(*hash, found.clone());
        Some(found)
    }

    /// Remembers something of a token; when there are too many, those that did not come for the longest time are forgotten.
    pub fn insert(&mut self, hash: TokenHash, what: T) {
        if self.lately.len() >= MAX_KNOWN {
            self.before = std::mem::take(&mut self.lately);
        }
        self.lately.insert(hash, what);
    }

    /// Forgets a token.
    pub fn forget(&mut self, hash: &TokenHash) {
        self.lately.remove(hash);
        self.before.remove(hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_tokens_are_remembered() {
        let hash = |n: usize| hash(&n.to_string());
        let mut known = Known::default();
        for n in 0..10 * MAX_KNOWN {
            known.insert(hash(n), n);
            assert!(known.get(&hash(0)).is_some(), "what comes often stays: {n}");
            assert!(known.lately.len() <= MAX_KNOWN && known.before.len() <= MAX_KNOWN);
        }
        let last = hash(10 * MAX_KNOWN - 1);
        assert!(known.get(&last).is_some());
        assert!(known.get(&hash(1)).is_none(), "what came once is forgotten");
        known.forget(&last);
        assert!(known.get(&last).is_none());
    }
}
