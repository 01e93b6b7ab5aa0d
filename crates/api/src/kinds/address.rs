//! IP addresses and address ranges as fields write them.
//!
//! Forms that different programs read as different addresses (leading zeros, IPv4 inside IPv6) are refused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::names::Fault;

/// A range of addresses: all that share the first `length` bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    /// The first address.
    pub(super) base: IpAddr,
    /// How many bits are shared.
    pub(super) length: u8,
}

/// An address, not necessarily in its canonical form.
pub(super) fn ip(text: &str) -> Result<IpAddr, Fault> {
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => {
            Err("must not be an IPv4-mapped IPv6 address".into())
        }
        Ok(address) => Ok(address),
        Err(_) if without_zeros(text).is_some() => Err("must not have leading 0s".into()),
        Err(_) => Err("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".into()),
    }
}

/// An address in its canonical form.
pub(super) fn canonical_ip(text: &str) -> Result<IpAddr, Fault> {
    let address = ip(text)?;
    if address.to_string() == text {
        return Ok(address);
    }
    Err(format!("must be in canonical form (\"{address}\")"))
}

/// An address that traffic can be sent to: not this host, not a link's own.
pub(super) fn endpoint_address(text: &str) -> Result<(), Fault> {
    let Ok(address) = text.parse::<IpAddr>() else { return Err("must be a valid IP address".into()) };
    let (link, link_multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.segments()[0] & 0xffc0 == 0xfe80, v6.segments()[0] & 0xff0f == 0xff02),
    };
    let fault = if address.is_unspecified() {
        return Err(format!("may not be unspecified ({text})"));
    } else if address.is_loopback() {
        "may not be in the loopback range (127.0.0.0/8, ::1/128)"
    } else if link {
        "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
    } else if link_multicast {
        "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"
    } else {
        return Ok(());
    };
    Err(fault.into())
}

/// A range, not necessarily in its canonical form.
pub(super) fn cidr(text: &str) -> Result<Range, Fault> {
    let bad = || Fault::from("must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
    let (address, length) = text.split_once('/').ok_or_else(bad)?;
    let digits = !length.is_empty() && length.len() <= 3 && length.bytes().all(|b| b.is_ascii_digit());
    let number: u8 = if digits { length.parse().map_err(|_| bad())? } else { return Err(bad()) };
    let zeros = length.len() > 1 && length.starts_with('0');
    let base = match (address.parse::<IpAddr>(), without_zeros(address)) {
        (Ok(base), _) if !zeros => base,
        (Ok(base), _) if number <= bits(base) => return Err(LEADING_ZEROS.into()),
        (Err(_), Some(_)) if number <= 32 => return Err(LEADING_ZEROS.into()),
        _ => return Err(bad()),
    };
    if number > bits(base) {
        return Err(bad());
    }
    if matches!(base, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
        return Err("must not have an IPv4-mapped IPv6 address".into());
    }
    let range = Range { base: masked(base, number), length: number };
    if range.base == base { Ok(range) } else { Err("must not have bits set beyond the prefix length".into()) }
}

/// A range in its canonical form.
pub(super) fn canonical_cidr(text: &str) -> Result<Range, Fault> {
    let range = cidr(text)?;
    let canonical = format!("{}/{}", range.base, range.length);
    if canonical == text { Ok(range) } else { Err(format!("must be in canonical form (\"{canonical}\")")) }
}

const LEADING_ZEROS: &str = "must not have leading 0s in IP or prefix length";

impl Range {
    /// Whether all addresses of `other` are in this range.
    pub(super) fn contains(self, other: Self) -> bool {
        other.length >= self.length
            && bits(self.base) == bits(other.base)
            && masked(other.base, self.length) == self.base
    }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn masked(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & mask).into()
        }
    }
}

/// The IPv4 address that is left when leading zeros are taken as nothing.
fn without_zeros(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next().filter(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))?;
        let digits = part.trim_start_matches('0');
        *octet = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    }
    parts.next().is_none().then_some(octets.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |text: &str, want: &str| {
            let got = canonical_ip(text).map_or_else(|fault| fault, |address| address.to_string());
            assert_eq!(got, want, "{text}");
        };
        check("10.9.8.7", "10.9.8.7");
        check("2001:db8::ffff", "2001:db8::ffff");
        check("2001:DB8::ffff", "must be in canonical form (\"2001:db8::ffff\")");
        check("010.9.8.7", "must not have leading 0s");
        check("::ffff:1.2.3.4", "must not be an IPv4-mapped IPv6 address");
        for bad in ["", "1.2.3", "1.2.3.4.5", "256.1.1.1", "fe80::1%eth0", "a"] {
            check(bad, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
        }
    }

    #[test]
    fn endpoints() {
        for good in ["10.0.0.1", "2001:db8::1", "224.0.1.1"] {
            assert_eq!(endpoint_address(good), Ok(()), "{good}");
        }
        for bad in
            ["0.0.0.0", "::", "127.0.0.1", "::1", "169.254.1.1", "fe80::1", "224.0.0.1", "ff02::1", "x"]
        {
            assert!(endpoint_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges() {
        let check = |text: &str, want: &str| {
            let got = canonical_cidr(text).map_or_else(|fault| fault, |r| format!("{}/{}", r.base, r.length));
            assert_eq!(got, want, "{text}");
        };
        check("10.9.8.0/24", "10.9.8.0/24");
        check("0.0.0.0/0", "0.0.0.0/0");
        check("::/0", "::/0");
        check("10.9.8.7/24", "must not have bits set beyond the prefix length");
        check("010.9.8.0/24", "must not have leading 0s in IP or prefix length");
        check("10.9.8.0/024", "must not have leading 0s in IP or prefix length");
        check("::ffff:1.2.3.4/128", "must not have an IPv4-mapped IPv6 address");
        check("2001:DB8::/64", "must be in canonical form (\"2001:db8::/64\")");
        for bad in
            ["", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/-1", "::/129", "a/8", "10.0.0.0/", "10.0.0.0/1111"]
        {
            check(bad, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
        }
        let range = |text| cidr(text).expect(text);
        assert!(range("10.0.0.0/8").contains(range("10.1.0.0/16")));
        assert!(!range("10.0.0.0/8").contains(range("11.0.0.0/8")));
        assert!(!range("::/0").contains(range("10.0.0.0/8")));
    }
}
