//! Which pod has which address: a pure state machine, rebuilt from the links that exist.
//!
//! Addresses are handed out in order until each was used once, then the one that has been free for longest
//! first. One that was just freed rests for a while, so that traffic and names which still mean the old pod
//! don't reach the new one.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cidr::Cidr;

/// How long a freed address rests.
pub const QUARANTINE: Duration = Duration::from_secs(10);

/// The longest [`PodId`] in bytes; the kernel keeps it beside the link, where 255 is the limit.
const MAX_POD_ID: usize = 200;

/// What names a pod to this crate: any short printable text that stays the same, such as its UID.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodId(Arc<str>);

/// A text that is no [`PodId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} can't name a pod: it needs 1 to {MAX_POD_ID} printable ASCII characters without spaces")]
pub struct InvalidPodId(String);

impl PodId {
    /// Checks and wraps `text`.
    pub fn new(text: &str) -> Result<Self, InvalidPodId> {
        let fits = (1..=MAX_POD_ID).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if fits { Ok(Self(text.into())) } else { Err(InvalidPodId(text.to_owned())) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why no address could be given or taken over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IpamError {
    /// Each address is a pod's or rests.
    #[error("no pod address is free in {range}: {used} are in use and {resting} were freed less than {}s ago", QUARANTINE.as_secs())]
    Exhausted {
        /// The node's range.
        range: Cidr,
        /// Addresses of pods.
        used: usize,
        /// Addresses in quarantine.
        resting: usize,
    },
    /// An existing pod's address is not one that this node may give.
    #[error("pod {pod} has the address {address}, which is not a pod address of {range}")]
    Foreign {
        /// The pod.
        pod: PodId,
        /// Its address.
        address: IpAddr,
        /// The node's range.
        range: Cidr,
    },
    /// An existing pod has two addresses.
    #[error("pod {pod} has the address {known} and also {address}")]
    Second {
        /// The pod.
        pod: PodId,
        /// The address that was known before.
        known: IpAddr,
        /// The other address.
        address: IpAddr,
    },
    /// Two existing pods have one address.
    #[error("pods {first} and {second} both have the address {address}")]
    Duplicate {
        /// The pod that was known before.
        first: PodId,
        /// The other pod.
        second: PodId,
        /// Their address.
        address: IpAddr,
    },
}

/// The addresses of one node's pods. Offset 0 of the range names the network, 1 is the gateway, and the last
/// address is left out: IPv4 tools take it for the broadcast address.
#[derive(Debug)]
pub struct Ipam {
    range: Cidr,
    last: u32,
    next_fresh: u32,
    freed: VecDeque<(u32, Instant)>,
    by_pod: HashMap<PodId, u32>,
    by_offset: HashMap<u32, PodId>,
}

/// The offset of the gateway's address.
const GATEWAY: u32 = 1;

impl Ipam {
    /// Nothing allocated yet.
    pub fn new(range: Cidr) -> Self {
        let host_bits = if range.network().is_ipv4() { 32 } else { 128 } - u32::from(range.prefix_len());
        let last = 1_u32.checked_shl(host_bits).map_or(u32::MAX, |size| size.saturating_sub(2));
        Self {
            range,
            last,
            next_fresh: GATEWAY + 1,
            freed: VecDeque::new(),
            by_pod: HashMap::new(),
            by_offset: HashMap::new(),
        }
    }

    /// The node's own address on every pod link.
    pub fn gateway(range: Cidr) -> Option<IpAddr> {
        range.nth(GATEWAY)
    }

    /// The address of `pod`: the one that it has, or a free one.
    pub fn allocate(&mut self, pod: &PodId, now: Instant) -> Result<IpAddr, IpamError> {
        let offset = match self.by_pod.get(pod) {
            Some(offset) => *offset,
            None => self.take_free(now)?,
        };
        self.by_pod.insert(pod.clone(), offset);
        self.by_offset.insert(offset, pod.clone());
        Ok(self.address(offset))
    }

    /// Takes over a pod that exists.
    pub fn adopt(&mut self, pod: &PodId, address: IpAddr) -> Result<(), IpamError> {
        let foreign = || IpamError::Foreign { pod: pod.clone(), address, range: self.range };
        let offset = self.range.offset_of(address).ok_or_else(foreign)?;
        if offset <= GATEWAY || offset > self.last {
            return Err(foreign());
        }
        if let Some(known) = self.get(pod).filter(|known| *known != address) {
            return Err(IpamError::Second { pod: pod.clone(), known, address });
        }
        match self.by_offset.get(&offset) {
            Some(other) if other != pod => {
                Err(IpamError::Duplicate { first: other.clone(), second: pod.clone(), address })
            }
            _ => {
                self.by_pod.insert(pod.clone(), offset);
                self.by_offset.insert(offset, pod.clone());
                Ok(())
            }
        }
    }

    /// The address of `pod`, if it has one.
    pub fn get(&self, pod: &PodId) -> Option<IpAddr> {
        self.by_pod.get(pod).map(|offset| self.address(*offset))
    }

    /// Every pod and its address, in no order.
    pub fn pods(&self) -> impl Iterator<Item = (&PodId, IpAddr)> {
        self.by_pod.iter().map(|(pod, offset)| (pod, self.address(*offset)))
    }

    /// Frees the address of `pod`; does nothing when it has none.
    pub fn release(&mut self, pod: &PodId, now: Instant) {
        if let Some(offset) = self.by_pod.remove(pod) {
            self.by_offset.remove(&offset);
            self.freed.push_back((offset, now));
        }
    }

    fn take_free(&mut self, now: Instant) -> Result<u32, IpamError> {
        while self.next_fresh <= self.last {
            let offset = self.next_fresh;
            self.next_fresh += 1;
            let freed_before = || self.freed.iter().any(|(freed, _)| *freed == offset);
            if !self.by_offset.contains_key(&offset) && !freed_before() {
                return Ok(offset);
            }
        }
        match self.freed.front() {
            Some((offset, freed_at)) if now.saturating_duration_since(*freed_at) >= QUARANTINE => {
                let offset = *offset;
                self.freed.pop_front();
                Ok(offset)
            }
            _ => Err(IpamError::Exhausted {
                range: self.range,
                used: self.by_offset.len(),
                resting: self.freed.len(),
            }),
        }
    }

    fn address(&self, offset: u32) -> IpAddr {
        self.range.nth(offset).expect("only offsets inside the range are kept")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(n: u32) -> PodId {
        PodId::new(&format!("pod-{n}")).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_pod_keeps_its_address_and_others_get_the_next() {
        let now = Instant::now();
        let mut ipam = Ipam::new("10.42.3.0/24".parse().unwrap());
        assert_eq!(ipam.allocate(&pod(1), now), Ok(ip("10.42.3.2")));
        assert_eq!(ipam.allocate(&pod(2), now), Ok(ip("10.42.3.3")));
        assert_eq!(ipam.allocate(&pod(1), now), Ok(ip("10.42.3.2")));
        ipam.release(&pod(1), now);
        ipam.release(&pod(1), now);
        assert_eq!(ipam.get(&pod(1)), None);
        assert_eq!(ipam.allocate(&pod(3), now), Ok(ip("10.42.3.4")));
        assert_eq!(Ipam::gateway("10.42.3.0/24".parse().unwrap()), Some(ip("10.42.3.1")));
    }

    #[test]
    fn freed_addresses_rest_and_the_oldest_comes_first() {
        let start = Instant::now();
        let mut ipam = Ipam::new("10.42.0.0/29".parse().unwrap()); // .2 to .6
        for n in 2..=6 {
            ipam.allocate(&pod(n), start).unwrap();
        }
        let full = ipam.allocate(&pod(9), start).unwrap_err();
        assert_eq!(
            full.to_string(),
            "no pod address is free in 10.42.0.0/29: 5 are in use and 0 were freed less than 10s ago"
        );
        ipam.release(&pod(4), start);
        ipam.release(&pod(2), start + Duration::from_secs(1));
        let early = ipam.allocate(&pod(9), start + QUARANTINE - Duration::from_millis(1));
        assert!(matches!(early, Err(IpamError::Exhausted { used: 3, resting: 2, .. })), "{early:?}");
        assert_eq!(ipam.allocate(&pod(9), start + QUARANTINE), Ok(ip("10.42.0.4")));
        assert!(ipam.allocate(&pod(8), start + QUARANTINE).is_err());
        let later = start + QUARANTINE + Duration::from_secs(1);
        assert_eq!(ipam.allocate(&pod(8), later), Ok(ip("10.42.0.2")));
    }

    #[test]
    fn adoption_rebuilds_the_state_and_refuses_nonsense() {
        let now = Instant::now();
        let mut ipam = Ipam::new("10.42.0.0/24".parse().unwrap());
        assert_eq!(ipam.adopt(&pod(1), ip("10.42.0.2")), Ok(()));
        assert_eq!(ipam.adopt(&pod(1), ip("10.42.0.2")), Ok(()));
        assert_eq!(ipam.adopt(&pod(2), ip("10.42.0.4")), Ok(()));
        let refused =
            |ipam: &mut Ipam, address: &str| ipam.adopt(&pod(3), ip(address)).unwrap_err().to_string();
        assert_eq!(refused(&mut ipam, "10.42.0.4"), "pods pod-2 and pod-3 both have the address 10.42.0.4");
        let second = ipam.adopt(&pod(1), ip("10.42.0.9")).unwrap_err().to_string();
        assert_eq!(second, "pod pod-1 has the address 10.42.0.2 and also 10.42.0.9");
        for foreign in ["10.42.1.4", "10.42.0.0", "10.42.0.1", "10.42.0.255", "fd00::2"] {
            let want =
                format!("pod pod-3 has the address {foreign}, which is not a pod address of 10.42.0.0/24");
            assert_eq!(refused(&mut ipam, foreign), want);
        }
        assert_eq!(ipam.allocate(&pod(3), now), Ok(ip("10.42.0.3")));
        assert_eq!(ipam.allocate(&pod(4), now), Ok(ip("10.42.0.5")));
        assert_eq!(ipam.pods().count(), 4);
    }

    #[test]
    fn an_adopted_then_freed_address_is_not_given_twice() {
        let now = Instant::now();
        let mut ipam = Ipam::new("10.42.0.0/29".parse().unwrap());
        ipam.adopt(&pod(1), ip("10.42.0.3")).unwrap();
        ipam.release(&pod(1), now);
        let later = now + QUARANTINE;
        let mut given: Vec<_> = (10..15).map(|n| ipam.allocate(&pod(n), later).unwrap()).collect();
        given.sort();
        given.dedup();
        assert_eq!(given.len(), 5);
    }

    #[test]
    fn pod_ids() {
        for bad in ["", "a b", "a\n", "é", &"x".repeat(201)] {
            assert!(PodId::new(bad).is_err(), "{bad:?}");
        }
        assert_eq!(PodId::new("0f3c-11").unwrap().as_str(), "0f3c-11");
    }
}
