//! Random bytes for later: asking the system takes longer than most of what is done with a few of them.

use std::sync::{Mutex, PoisonError};

use ring::error::Unspecified;
use ring::rand::SecureRandom;

/// How many bytes the system is asked for at a time.
const SPARE_BYTES: usize = 4096;

/// Bytes that the system gave and nobody has yet.
#[derive(Default)]
pub(crate) struct Spare(Mutex<Vec<u8>>);

impl Spare {
    /// Takes bytes that nobody else gets.
    ///
    /// # Errors
    /// The system gives none.
    pub(crate) fn take<const N: usize>(&self, random: &dyn SecureRandom) -> Result<[u8; N], Unspecified> {
        const { assert!(N <= SPARE_BYTES, "so much is not kept") };
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < N {
            let mut fresh = vec![0; SPARE_BYTES];
            random.fill(&mut fresh)?;
            *spare = fresh;
        }
        let rest = spare.len() - N;
        let mut bytes = [0; N];
        bytes.copy_from_slice(&spare[rest..]);
        spare.truncate(rest);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn nobody_gets_random_bytes_twice() {
        let (spare, random) = (Spare::default(), ring::rand::SystemRandom::new());
        let mut taken = HashSet::new();
        for _ in 0..SPARE_BYTES {
            let bytes: [u8; 12] = spare.take(&random).expect("the system has some");
            assert!(taken.insert(bytes));
        }
    }
}
