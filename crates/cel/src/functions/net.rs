//! `ip('10.0.0.1')` and `cidr('10.0.0.0/8')` (upstream's libraries `kubernetes.net.ip` and `kubernetes.net.cidr`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Args, Fun, Outcome};
use crate::error::{EvalError, fail, no_overload};
use crate::opaque::Opaque;
use crate::value::Value;

pub(super) fn lookup(name: &str) -> Option<Fun> {
    Some(match name {
        "ip" => ip,
        "cidr" => cidr,
        "isIP" => |args| Ok(Value::Bool(parse_ip(args.str(0)?).is_ok())),
        "isCIDR" => |args| Ok(Value::Bool(parse_cidr(args.str(0)?).is_ok())),
        "ip.isCanonical" => is_canonical,
        "family" => |args| Ok(Value::Int(if address(args, 0)?.is_ipv4() { 4 } else { 6 })),
        "isUnspecified" => |args| Ok(Value::Bool(address(args, 0)?.is_unspecified())),
        "isLoopback" => |args| Ok(Value::Bool(address(args, 0)?.is_loopback())),
        "isLinkLocalMulticast" => |args| Ok(Value::Bool(is_local_multicast(address(args, 0)?))),
        "isLinkLocalUnicast" => |args| Ok(Value::Bool(is_local_unicast(address(args, 0)?))),
        "isGlobalUnicast" => |args| Ok(Value::Bool(is_global_unicast(address(args, 0)?))),
        "containsIP" => contains_ip,
        "containsCIDR" => contains_cidr,
        "prefixLength" => |args| Ok(Value::Int(i64::from(prefix(args, 0)?.1))),
        "masked" => masked,
        _ => return None,
    })
}

fn parse_ip(text: &str) -> Result<IpAddr, String> {
    if let Some((address, zone)) = text.split_once('%')
        && !zone.is_empty()
        && address.parse::<Ipv6Addr>().is_ok()
    {
        return Err(format!("IP address {text:?} with zone value is not allowed"));
    }
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) if address.to_ipv4_mapped().is_some() => {
            Err(format!("IPv4-mapped IPv6 address {text:?} is not allowed"))
        }
        Ok(address) => Ok(address),
        Err(_) => Err(format!(
            "IP Address {text:?} parse error during conversion from string: ParseAddr({text:?}): unable to parse IP"
        )),
    }
}

fn parse_cidr(text: &str) -> Result<(IpAddr, u8), String> {
    let wrong = |why: &str| {
        format!(
            "network address parse error during conversion from string: netip.ParsePrefix({text:?}): {why}"
        )
    };
    let Some((address, bits)) = text.rsplit_once('/') else { return Err(wrong("no '/'")) };
    if address.contains('%') {
        return Err(wrong("IPv6 zones cannot be present in a prefix"));
    }
    let Ok(parsed) = address.parse::<IpAddr>() else {
        return Err(wrong(&format!("ParseAddr({address:?}): unable to parse IP")));
    };
    let plain = bits.bytes().all(|b| b.is_ascii_digit()) && (bits.len() == 1 || !bits.starts_with('0'));
    let length = match bits.parse::<u8>() {
        Ok(length) if plain => length,
        _ => return Err(wrong(&format!("bad bits after slash: {bits:?}"))),
    };
    if length > width(parsed) {
        return Err(wrong("prefix length out of range"));
    }
    match parsed {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            Err(format!("IPv4-mapped IPv6 address {text:?} is not allowed"))
        }
        address => Ok((address, length)),
    }
}

const fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)) << 96,
        IpAddr::V6(address) => u128::from(address),
    }
}

fn mask(address: IpAddr, length: u8) -> u128 {
    let kept = if length == 0 { 0 } else { u128::MAX << (128 - u32::from(length)) };
    bits(address) & kept
}

fn within(inner: IpAddr, (outer, length): (IpAddr, u8)) -> bool {
    inner.is_ipv4() == outer.is_ipv4() && mask(inner, length) == mask(outer, length)
}

fn is_local_multicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => matches!(address.octets(), [224, 0, 0, _]),
        IpAddr::V6(address) => address.segments()[0] & 0xff0f == 0xff02,
    }
}

fn is_local_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.segments()[0] & 0xffc0 == 0xfe80,
    }
}

fn is_global_unicast(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(Ipv4Addr::BROADCAST));
    !broadcast
        && !address.is_unspecified()
        && !address.is_loopback()
        && !address.is_multicast()
        && !is_local_unicast(address)
}

fn address(args: &Args<'_, '_>, index: usize) -> Result<IpAddr, EvalError> {
    match args.get(index) {
        Value::Opaque(Opaque::Ip(address)) => Ok(*address),
        _ => no_overload(),
    }
}

fn prefix(args: &Args<'_, '_>, index: usize) -> Result<(IpAddr, u8), EvalError> {
    match args.get(index) {
        Value::Opaque(Opaque::Cidr(address, length)) => Ok((*address, *length)),
        _ => no_overload(),
    }
}

/// The address that a text, or a prefix, has.
fn ip<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let address = match args.get(0) {
        Value::Opaque(Opaque::Cidr(address, _)) => *address,
        _ => parse_ip(args.str(0)?).or_else(fail)?,
    };
    Ok(Value::Opaque(Opaque::Ip(address)))
}

fn cidr<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let (address, length) = text_prefix(args.str(0)?)?;
    Ok(Value::Opaque(Opaque::Cidr(address, length)))
}

fn text_prefix(text: &str) -> Result<(IpAddr, u8), EvalError> {
    parse_cidr(text)
        .or_else(|why| fail(format!("network address parse error during conversion from string: {why}")))
}

fn is_canonical<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let text = args.str(0)?;
    let address = parse_ip(text).or_else(fail)?;
    Ok(Value::Bool(address.to_string() == text))
}

fn contains_ip<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let outer = prefix(args, 0)?;
    let inner = match args.get(1) {
        Value::String(text) => parse_ip(text).or_else(fail)?,
        _ => address(args, 1)?,
    };
    Ok(Value::Bool(within(inner, outer)))
}

fn contains_cidr<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let outer = prefix(args, 0)?;
    let (inner, length) = match args.get(1) {
        Value::String(text) => text_prefix(text)?,
        _ => prefix(args, 1)?,
    };
    Ok(Value::Bool(within(inner, outer) && outer.1 <= length))
}

fn masked<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let (address, length) = prefix(args, 0)?;
    let kept = mask(address, length);
    let address = match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from(u32::try_from(kept >> 96).unwrap_or(0))),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(kept)),
    };
    Ok(Value::Opaque(Opaque::Cidr(address, length)))
}
