//! A number of bytes that several share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How much there is, and how much is taken.
#[derive(Debug)]
pub(crate) struct Room {
    limit: usize,
    taken: Arc<AtomicUsize>,
}

/// A part of a room, until it is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    bytes: usize,
    of: Arc<AtomicUsize>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.of.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Room {
    /// A room of so many bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, taken: Arc::default() }
    }

    /// How many bytes there are.
    pub(crate) const fn limit(&self) -> usize {
        self.limit
    }

    /// Takes some bytes; `None`: there are not as many.
    pub(crate) fn take(&self, bytes: usize) -> Option<Hold> {
        let fits = |taken: usize| taken.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(Hold { bytes, of: self.taken.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_let_go_can_be_taken_again() {
        let room = Room::new(10);
        let first = room.take(7).expect("there is room");
        assert!(room.take(4).is_none());
        let rest = room.take(3).expect("there is room");
        drop(first);
        assert!(room.take(8).is_none());
        assert!(room.take(7).is_some());
        drop(rest);
        assert!(room.take(10).is_some());
    }
}
