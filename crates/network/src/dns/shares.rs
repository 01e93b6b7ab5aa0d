//! Shares: of what all clients use together, no single one takes more than its share.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};

/// What clients have taken. Only those that have something are remembered, so this is as bounded as what is shared.
#[derive(Debug)]
pub(crate) struct Shares {
    each: usize,
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// One thing that a client has taken, until it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    shares: Arc<Shares>,
    client: IpAddr,
}

impl Shares {
    /// At most `each` for every client.
    pub(crate) fn new(each: usize) -> Arc<Self> {
        Arc::new(Self { each, taken: Mutex::default() })
    }

    /// Takes one more for `client`, unless it has its share.
    pub(crate) fn take(self: &Arc<Self>, client: IpAddr) -> Option<Share> {
        let mut taken = self.taken();
        let count = taken.entry(client).or_default();
        if *count >= self.each {
            return None;
        }
        *count += 1;
        Some(Share { shares: self.clone(), client })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.taken.lock().expect("no code panics while it holds this lock")
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.shares.taken();
        if let Some(count) = taken.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_own_share() {
        let shares = Shares::new(2);
        let [one, other] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(IpAddr::from);
        let first = shares.take(one).expect("the first");
        let second = shares.take(one).expect("the second");
        assert!(shares.take(one).is_none());
        let others = shares.take(other).expect("another client's");
        drop(first);
        let third = shares.take(one).expect("one was given back");
        drop((second, third, others));
        assert!(shares.taken().is_empty(), "nobody is remembered");
    }
}
