//! Who owns unpacked files.
//!
//! Pods run in a user namespace nested in Xebec's, which maps their ids `0..` to `shift..` of it, so a file of an
//! image's user U is stored as U + shift: the container's root owns what the image gives to root, and neither owns
//! anything of the user who started Xebec.

use serde::{Deserialize, Serialize};

/// Where the ids of images go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdShift {
    /// Added to each id.
    pub by: u32,
    /// The highest id that exists where images are unpacked.
    pub highest: u32,
}

impl Default for IdShift {
    fn default() -> Self {
        Self { by: 1, highest: 65_535 }
    }
}

impl IdShift {
    /// The stored id for an image's, if there is one.
    pub fn apply(&self, id: u64) -> Option<u32> {
        let shifted = u32::try_from(id).ok()?.checked_add(self.by)?;
        // The last number is no id: the kernel takes it for "leave the owner as it is".
        (shifted <= self.highest && shifted != u32::MAX).then_some(shifted)
    }

    /// `nobody` as containers see it: what an id without a place becomes.
    pub fn nobody(&self) -> u32 {
        const NOBODY: u64 = 65_534;
        self.apply(NOBODY).unwrap_or(self.highest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shifts_within_the_range() {
        let shift = IdShift::default();
        let check = |id: u64, expected: Option<u32>| assert_eq!(shift.apply(id), expected, "{id}");
        check(0, Some(1));
        check(1_000, Some(1_001));
        check(65_534, Some(65_535));
        check(65_535, None);
        check(u64::from(u32::MAX), None);
        check(u64::MAX, None);
        assert_eq!(shift.nobody(), 65_535);
        assert_eq!(IdShift { by: 10_000, highest: 65_535 }.nobody(), 65_535);
        assert_eq!(IdShift { by: 0, highest: u32::MAX }.apply(u64::from(u32::MAX)), None);
    }
}
