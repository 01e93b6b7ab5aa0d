//! Addresses as names: spelled backwards under `arpa` (RFC 1035 §3.5, RFC 3596 §2.5), and as labels.

use std::net::IpAddr;

use crate::dns::name::Name;

/// An address as a label: it names an endpoint that has no host name, and a pod.
pub(crate) fn dashed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string().replace('.', "-"),
        // In full, because a label may not start or end with a hyphen.
        IpAddr::V6(ip) => ip.segments().map(|part| format!("{part:x}")).join("-"),
    }
}

/// The name under which an address is looked up backwards.
pub(crate) fn reverse(ip: IpAddr) -> Name {
    let (labels, suffix): (Vec<String>, _) = match ip {
        IpAddr::V4(ip) => (ip.octets().iter().rev().map(u8::to_string).collect(), "in-addr"),
        IpAddr::V6(ip) => {
            let nibbles = ip.octets().into_iter().rev().flat_map(|byte| [byte & 0xf, byte >> 4]);
            (nibbles.map(|nibble| format!("{nibble:x}")).collect(), "ip6")
        }
    };
    let labels = labels.iter().map(String::as_str).chain([suffix, "arpa"]);
    Name::from_labels(labels.map(str::as_bytes)).expect("an address spelled backwards is a short name")
}

/// Whether a name is an address spelled backwards, whole.
pub(crate) fn is_reverse(name: &Name) -> bool {
    parse_reverse(name).is_some()
}

/// The address that a name spells backwards.
pub(crate) fn parse_reverse(name: &Name) -> Option<IpAddr> {
    let labels: Option<Vec<&str>> = name.labels().map(|label| std::str::from_utf8(label).ok()).collect();
    let labels = labels?;
    let (digits, suffix) = labels.split_at(labels.len().checked_sub(2)?);
    let suffix_is =
        |first: &str| suffix[0].eq_ignore_ascii_case(first) && suffix[1].eq_ignore_ascii_case("arpa");
    if suffix_is("in-addr") && digits.len() == 4 {
        let octets: Vec<u8> = digits.iter().rev().map_while(|digit| digit.parse().ok()).collect();
        return octets.first_chunk::<4>().map(|octets| IpAddr::from(*octets));
    }
    if suffix_is("ip6") && digits.len() == 32 {
        let nibbles = digits
            .iter()
            .rev()
            .map_while(|digit| (digit.len() == 1).then(|| u128::from_str_radix(digit, 16).ok()).flatten());
        let nibbles: Vec<u128> = nibbles.collect();
        let address = nibbles.iter().fold(0_u128, |address, nibble| address << 4 | nibble);
        return (nibbles.len() == 32).then(|| IpAddr::from(address.to_be_bytes()));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backwards_and_back() {
        let check = |ip: &str, name: &str| {
            let (ip, name) = (ip.parse().unwrap(), Name::parse(name).unwrap());
            assert_eq!(reverse(ip), name);
            assert_eq!(parse_reverse(&name), Some(ip));
        };
        check("10.43.0.5", "5.0.43.10.in-addr.arpa");
        check("10.43.0.5", "5.0.43.10.IN-ADDR.Arpa");
        check("fd00:43::6", "6.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.3.4.0.0.0.0.d.f.ip6.arpa");
        let short = format!("{}ip6.arpa", "0.".repeat(31));
        let wide = format!("00.{}ip6.arpa", "0.".repeat(31));
        for other in
            ["arpa", ".", "0.43.10.in-addr.arpa", "1.2.3.256.in-addr.arpa", "1.2.3.4.arpa", &short, &wide]
        {
            assert_eq!(parse_reverse(&Name::parse(other).unwrap()), None, "{other}");
        }
    }

    #[test]
    fn as_labels() {
        assert_eq!(dashed("10.42.0.5".parse().unwrap()), "10-42-0-5");
        assert_eq!(dashed("fd00::5".parse().unwrap()), "fd00-0-0-0-0-0-0-5");
        assert_eq!(dashed("::".parse().unwrap()), "0-0-0-0-0-0-0-0");
    }
}
