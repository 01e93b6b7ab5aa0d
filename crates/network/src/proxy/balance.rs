//! Which backend a client gets: each in turn, or the one that it had. Pure.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Backends tried for one connection.
const MAX_ATTEMPTS: usize = 3;
/// Clients remembered for one port; the least recent is forgotten first.
const MAX_CLIENTS: usize = 4096;

/// Who may serve a port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Targets {
    pub(crate) backends: Vec<SocketAddr>,
    /// How long a client stays with its backend after its last connection, if it does.
    pub(crate) affinity: Option<Duration>,
}

/// The memory of one port.
#[derive(Debug, Default)]
pub(crate) struct Balancer {
    turn: usize,
    clients: HashMap<IpAddr, (SocketAddr, Instant)>,
}

impl Balancer {
    /// The backends to try for `client`, best first.
    pub(crate) fn order(&mut self, targets: &Targets, client: IpAddr, now: Instant) -> Vec<SocketAddr> {
        let backends = &targets.backends;
        if backends.is_empty() {
            return Vec::new();
        }
        let start = self.turn % backends.len();
        self.turn = self.turn.wrapping_add(1);
        let mut order: Vec<_> = backends.iter().cycle().skip(start).take(backends.len()).copied().collect();
        if let Some(kept) = self.remembered(targets, client, now)
            && let Some(place) = order.iter().position(|b| *b == kept)
        {
            order[..=place].rotate_right(1);
        }
        order.truncate(MAX_ATTEMPTS);
        order
    }

    /// Notes that `client` is served by `backend` now.
    pub(crate) fn served(&mut self, targets: &Targets, client: IpAddr, backend: SocketAddr, now: Instant) {
        if targets.affinity.is_none() {
            self.clients.clear();
            return;
        }
        if self.clients.len() >= MAX_CLIENTS && !self.clients.contains_key(&client) {
            let oldest = self.clients.iter().min_by_key(|(_, (_, last))| *last).map(|(client, _)| *client);
            oldest.map(|client| self.clients.remove(&client));
        }
        self.clients.insert(client, (backend, now));
    }

    fn remembered(&self, targets: &Targets, client: IpAddr, now: Instant) -> Option<SocketAddr> {
        let (backend, last) = self.clients.get(&client)?;
        let fresh = now.saturating_duration_since(*last) < targets.affinity?;
        fresh.then_some(*backend)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(n: u8) -> SocketAddr {
        ([10, 42, 0, n], 80).into()
    }

    fn targets(backends: &[u8], affinity: Option<u64>) -> Targets {
        Targets {
            backends: backends.iter().map(|n| backend(*n)).collect(),
            affinity: affinity.map(Duration::from_secs),
        }
    }

    fn client(n: u16) -> IpAddr {
        let [high, low] = n.to_be_bytes();
        IpAddr::from([127, 1, high, low])
    }

    #[test]
    fn each_in_turn_and_others_as_a_second_chance() {
        let now = Instant::now();
        let mut balancer = Balancer::default();
        let four = targets(&[1, 2, 3, 4], None);
        assert_eq!(balancer.order(&four, client(1), now), [1, 2, 3].map(backend));
        assert_eq!(balancer.order(&four, client(1), now), [2, 3, 4].map(backend));
        balancer.served(&four, client(1), backend(2), now);
        assert_eq!(balancer.order(&four, client(1), now), [3, 4, 1].map(backend));
        assert_eq!(balancer.order(&targets(&[9], None), client(1), now), [backend(9)]);
        assert!(balancer.order(&targets(&[], None), client(1), now).is_empty());
    }

    #[test]
    fn a_client_stays_until_its_time_or_its_backend_is_over() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut balancer = Balancer::default();
        let sticky = targets(&[1, 2, 3], Some(10));
        balancer.served(&sticky, client(1), backend(2), start);
        for secs in 0..10 {
            assert_eq!(balancer.order(&sticky, client(1), at(secs))[0], backend(2), "after {secs} s");
        }
        balancer.served(&sticky, client(1), backend(2), at(9));
        assert_eq!(balancer.order(&sticky, client(1), at(18))[0], backend(2));
        let firsts: Vec<_> = (0..3).map(|_| balancer.order(&sticky, client(1), at(19))[0]).collect();
        assert!(firsts.contains(&backend(1)) && firsts.contains(&backend(3)), "{firsts:?}");
        let gone = targets(&[1, 3], Some(10));
        assert_ne!(balancer.order(&gone, client(1), at(10))[0], backend(2));
    }

    #[test]
    fn the_memory_is_bounded() {
        let start = Instant::now();
        let mut balancer = Balancer::default();
        let sticky = targets(&[1, 2], Some(100_000));
        for n in 0..5000_u16 {
            balancer.served(&sticky, client(n), backend(1), start + Duration::from_secs(n.into()));
        }
        assert_eq!(balancer.clients.len(), MAX_CLIENTS);
        assert!(!balancer.clients.contains_key(&client(0)));
        assert!(balancer.clients.contains_key(&client(4999)));
    }
}
