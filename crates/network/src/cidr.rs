//! Address ranges, in canonical form: the bits after the prefix are zero.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A range of addresses such as `10.42.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    network: IpAddr,
    prefix_len: u8,
}

/// Why a text or a pair of address and length is no [`Cidr`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// No `/`, or a part before or after it that does not parse.
    #[error("{0:?} is not an address range: write it as ADDRESS/LENGTH, for example 10.42.0.0/16")]
    Syntax(String),
    /// The prefix is longer than the address.
    #[error("the prefix length /{len} is longer than {address} has bits")]
    TooLong {
        /// The address given.
        address: IpAddr,
        /// The length given.
        len: u8,
    },
    /// Address bits are set after the prefix.
    #[error("{address}/{len} has address bits set after its prefix: did you mean {network}/{len}?")]
    HostBits {
        /// The address given.
        address: IpAddr,
        /// The length given.
        len: u8,
        /// The address with those bits cleared.
        network: IpAddr,
    },
}

impl Cidr {
    /// The range of the addresses that share the first `prefix_len` bits with `network`.
    pub fn new(network: IpAddr, prefix_len: u8) -> Result<Self, CidrError> {
        if prefix_len > bits(network) {
            return Err(CidrError::TooLong { address: network, len: prefix_len });
        }
        let masked = mask(network, prefix_len);
        if masked != network {
            return Err(CidrError::HostBits { address: network, len: prefix_len, network: masked });
        }
        Ok(Self { network, prefix_len })
    }

    /// The first address of the range.
    pub fn network(&self) -> IpAddr {
        self.network
    }

    /// How many leading bits the addresses of the range share.
    pub fn prefix_len(&self) -> u8 {
        self.prefix_len
    }

    /// Whether `address` is of the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.network.is_ipv4() && mask(address, self.prefix_len) == self.network
    }

    /// The address at `offset` from the start, if the range is long enough to have it.
    pub fn nth(&self, offset: u32) -> Option<IpAddr> {
        let host_bits = bits(self.network) - self.prefix_len;
        if host_bits < 32 && offset >> host_bits != 0 {
            return None;
        }
        Some(match self.network {
            IpAddr::V4(base) => Ipv4Addr::from(u32::from(base) | offset).into(),
            IpAddr::V6(base) => Ipv6Addr::from(u128::from(base) | u128::from(offset)).into(),
        })
    }

    /// The distance of `address` from the start of the range, if it is of the range and fits.
    pub fn offset_of(&self, address: IpAddr) -> Option<u32> {
        if !self.contains(address) {
            return None;
        }
        match (address, self.network) {
            (IpAddr::V4(address), IpAddr::V4(base)) => Some(u32::from(address) - u32::from(base)),
            (IpAddr::V6(address), IpAddr::V6(base)) => {
                u32::try_from(u128::from(address) - u128::from(base)).ok()
            }
            _ => None,
        }
    }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn mask(address: IpAddr, prefix_len: u8) -> IpAddr {
    match address {
        IpAddr::V4(a) => {
            let keep = u32::MAX.checked_shl(32 - u32::from(prefix_len)).unwrap_or(0);
            Ipv4Addr::from(u32::from(a) & keep).into()
        }
        IpAddr::V6(a) => {
            let keep = u128::MAX.checked_shl(128 - u32::from(prefix_len)).unwrap_or(0);
            Ipv6Addr::from(u128::from(a) & keep).into()
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix_len)
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let syntax = || CidrError::Syntax(text.to_owned());
        let (address, len) = text.split_once('/').ok_or_else(syntax)?;
        Self::new(address.parse().map_err(|_| syntax())?, len.parse().map_err(|_| syntax())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_explains() {
        let check = |text: &str, want: Result<&str, &str>| {
            let got = text.parse::<Cidr>().map(|c| c.to_string()).map_err(|e| e.to_string());
            assert_eq!(got.as_deref().map_err(String::as_str), want, "{text}");
        };
        check("10.42.0.0/16", Ok("10.42.0.0/16"));
        check("0.0.0.0/0", Ok("0.0.0.0/0"));
        check("10.42.0.7/32", Ok("10.42.0.7/32"));
        check("fd00:42::/64", Ok("fd00:42::/64"));
        check("::/0", Ok("::/0"));
        check(
            "10.42.0.1/24",
            Err("10.42.0.1/24 has address bits set after its prefix: did you mean 10.42.0.0/24?"),
        );
        check("10.42.0.0/33", Err("the prefix length /33 is longer than 10.42.0.0 has bits"));
        let syntax = |t: &str| {
            format!("{t:?} is not an address range: write it as ADDRESS/LENGTH, for example 10.42.0.0/16")
        };
        for text in ["10.42.0.0", "10.42/16", "10.42.0.0/", "10.42.0.0/-1", ""] {
            check(text, Err(&syntax(text)));
        }
    }

    #[test]
    fn membership_and_offsets() {
        let check = |range: &str, address: &str, want: Option<u32>| {
            let range: Cidr = range.parse().unwrap();
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(range.offset_of(address), want, "{range} {address}");
            assert_eq!(range.contains(address), want.is_some(), "{range} {address}");
            if let Some(offset) = want {
                assert_eq!(range.nth(offset), Some(address), "{range} {offset}");
            }
        };
        check("10.42.0.0/24", "10.42.0.0", Some(0));
        check("10.42.0.0/24", "10.42.0.255", Some(255));
        check("10.42.0.0/24", "10.42.1.0", None);
        check("10.42.0.0/24", "fd00::1", None);
        check("0.0.0.0/0", "255.255.255.255", Some(u32::MAX));
        check("10.42.0.7/32", "10.42.0.7", Some(0));
        check("fd00:42::/64", "fd00:42::ff", Some(255));
        assert_eq!("10.42.0.0/24".parse::<Cidr>().unwrap().nth(256), None);
        assert_eq!("10.42.0.7/32".parse::<Cidr>().unwrap().nth(1), None);
    }
}
