//! Seeded randomness for jitter and tie-breaking.
//!
//! SplitMix64: small, fast, and the same on every platform. Not for secrets.

use std::sync::atomic::{AtomicU64, Ordering};

/// A generator that may be shared between tasks.
#[derive(Debug)]
pub struct Rng(AtomicU64);

impl Rng {
    /// A generator whose whole sequence follows from `seed`.
    pub fn seeded(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// The next 64 random bits.
    pub fn next_u64(&self) -> u64 {
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`; 0 when `bound` is 0.
    pub fn below(&self, bound: u64) -> u64 {
        // The high half of a 128-bit product is uniform enough for every bound far below 2^64.
        let product = u128::from(self.next_u64()) * u128::from(bound);
        u64::try_from(product >> 64).expect("the high half of a 128-bit product fits 64 bits")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_sequence_and_bounds_hold() {
        let (a, b) = (Rng::seeded(7), Rng::seeded(7));
        let mut seen = [false; 5];
        for _ in 0..200 {
            let value = a.below(5);
            assert_eq!(value, b.below(5));
            seen[usize::try_from(value).unwrap()] = true;
        }
        assert_eq!(seen, [true; 5], "every value below the bound turns up");
        assert_eq!(a.below(0), 0);
    }
}
