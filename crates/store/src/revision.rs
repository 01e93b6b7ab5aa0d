//! The store's global commit number.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

/// The number of a commit. Every transaction gets the next one; all keys share the sequence.
///
/// Its decimal text is what the API calls `resourceVersion`. A fresh store is at [`Revision::FIRST`], so that
/// zero never names a state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(u64);

impl Revision {
    /// Before everything: no commit has this number.
    pub const ZERO: Self = Self(0);
    /// The revision of a store that was never written.
    pub const FIRST: Self = Self(1);

    /// The revision with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The revision of the commit after this one.
    #[must_use]
    pub(crate) const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl FromStr for Revision {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::Revision;

    #[test]
    fn text_is_decimal_both_ways() {
        for number in [0, 1, 10, u64::MAX] {
            let revision = Revision::new(number);
            assert_eq!(revision.to_string(), number.to_string());
            assert_eq!(number.to_string().parse(), Ok(revision));
        }
        for bad in ["", "-1", "1.0", "18446744073709551616", "x"] {
            assert!(bad.parse::<Revision>().is_err(), "{bad:?}");
        }
    }
}
