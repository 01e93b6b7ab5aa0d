//! `format` of strings: the names that custom resources' schemas may give, and what they ask for.
//!
//! The list and what each name means are those of apiextensions.k8s.io in Kubernetes 1.36. A name that is not among them asks
//! for nothing; dashes in it do not count.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr as _;
use std::sync::LazyLock;

use xebec_cel::{Url, time};

use crate::Value;
use crate::schema::Pattern;

/// A name, without dashes, and whether a text is so.
type Format = (&'static str, fn(&str) -> bool);

static FORMATS: [Format; 26] = [
    ("bsonobjectid", |text| text.len() == 24 && text.bytes().all(|b| b.is_ascii_hexdigit())),
    ("byte", |text| BASE64.has(text)),
    ("cidr", is_cidr),
    ("creditcard", is_credit_card),
    ("date", is_date),
    ("datetime", is_date_time),
    ("duration", is_duration),
    ("email", is_email),
    ("hexcolor", |text| HEX_COLOR.has(text)),
    ("hostname", is_hostname),
    ("ipv4", |text| ip(text).is_some() && text.contains('.')),
    ("ipv6", |text| IpAddr::from_str(text).is_ok() && text.contains(':')),
    ("isbn", |text| is_isbn_10(text) || is_isbn_13(text)),
    ("isbn10", is_isbn_10),
    ("isbn13", is_isbn_13),
    ("k8slongname", |text| text.len() <= 253 && text.split('.').all(is_name)),
    ("k8sshortname", |text| text.len() <= 63 && is_name(text)),
    ("mac", is_mac),
    ("password", |_| true),
    ("rgbcolor", |text| RGB_COLOR.has(text)),
    ("ssn", |text| text.len() == 11 && SSN.has(text)),
    ("uri", |text| Url::parse(text).is_ok()),
    ("uuid", |text| UUID.has(text)),
    ("uuid3", |text| UUID_3.has(text)),
    ("uuid4", |text| UUID_4.has(text)),
    ("uuid5", |text| UUID_5.has(text)),
];

/// Whether a text has a format; whatever has a format that is not known.
pub(super) fn holds(format: &str, text: &str) -> bool {
    find(format).is_none_or(|is_so| is_so(text))
}

/// Whether a format asks for something in a schema of a type, which is empty if the schema has none.
pub(crate) fn is_known(format: &str, ty: &str) -> bool {
    match ty {
        "" | "string" => find(format).is_some(),
        "integer" => matches!(format, "int32" | "int64"),
        "number" => matches!(format, "float" | "double"),
        _ => false,
    }
}

/// The formats of a schema, and all below it, that ask for nothing.
pub(crate) fn unknown<'s>(schema: &'s Value, found: &mut Vec<&'s str>) {
    let text = |field: &str| schema.str_at(&[field]).unwrap_or_default();
    let format = text("format");
    if !format.is_empty() && !is_known(format, text("type")) {
        found.push(schema.str_at(&["format"]).unwrap_or_default());
    }
    for field in ["items", "additionalProperties", "not"] {
        schema.get(field).into_iter().for_each(|below| unknown(below, found));
    }
    for field in ["allOf", "anyOf", "oneOf"] {
        schema.array_at(&[field]).iter().for_each(|below| unknown(below, found));
    }
    let properties = schema.object_at(&["properties"]).into_iter().flat_map(crate::Map::values);
    properties.for_each(|below| unknown(below, found));
}

fn find(format: &str) -> Option<fn(&str) -> bool> {
    let plain: String = format.chars().filter(|c| *c != '-').collect();
    FORMATS.iter().find(|(name, _)| *name == plain).map(|(_, is_so)| *is_so)
}

/// A pattern of this file.
struct Known(LazyLock<Pattern>);

impl Known {
    fn has(&self, text: &str) -> bool {
        self.0.is_match(text) == Ok(true)
    }
}

macro_rules! known {
    ($($name:ident = $pattern:expr;)+) => {
        $(static $name: Known = Known(LazyLock::new(|| Pattern::new($pattern.to_owned())));)+
        #[cfg(test)]
        const PATTERNS: &[&Known] = &[$(&$name),+];
    };
}

known! {
    BASE64 = r"^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})$";
    CARD = r"^(?:4\d{12}(?:\d{3})?|5[1-5]\d{14}|6(?:011|5\d\d)\d{12}|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11}|(?:2131|1800|35\d{3})\d{11})$";
    CLOCK = r"^([01]\d|2[0-3]):[0-5]\d:[0-5]\d(.\d+)?(z|([+-]\d{2}:\d{2}))$";
    HEX_COLOR = r"^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$";
    LETTER = r"^\p{L}$";
    SIGN = r"^[\p{S}\p{L}]$";
    RGB_COLOR = r"^rgb\(\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*\)$";
    SSN = r"^\d{3}[- ]?\d{2}[- ]?\d{4}$";
    UUID = "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$";
    UUID_3 = "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?3[0-9a-f]{3}-?[0-9a-f]{4}-?[0-9a-f]{12}$";
    UUID_4 = "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?4[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$";
    UUID_5 = "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?5[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$";
}

/// An address, whose numbers may begin with zeros.
fn ip(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        return Ipv6Addr::from_str(text).ok().map(IpAddr::from);
    }
    let parts: Vec<u8> = text.split('.').map(decimal).collect::<Option<_>>()?;
    let parts: [u8; 4] = parts.try_into().ok()?;
    Some(Ipv4Addr::from(parts).into())
}

/// A number of digits alone.
fn decimal(text: &str) -> Option<u8> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits
        .then(|| text.trim_start_matches('0'))
        .and_then(|rest| if rest.is_empty() { Some(0) } else { rest.parse().ok() })
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let most = if address.contains(':') { 128 } else { 32 };
    ip(address).is_some() && decimal(bits).is_some_and(|bits| bits <= most)
}

fn is_mac(text: &str) -> bool {
    let hex = |groups: std::str::Split<'_, char>, digits: usize, bytes: &[usize]| {
        let groups: Vec<&str> = groups.collect();
        bytes.contains(&(groups.len() * digits / 2))
            && groups.iter().all(|g| g.len() == digits && g.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    match text.find([':', '-', '.']).map(|at| text.as_bytes()[at]) {
        Some(b'.') => hex(text.split('.'), 4, &[6, 8, 20]),
        Some(separator) => hex(text.split(char::from(separator)), 2, &[6, 8, 20]),
        None => false,
    }
}

/// One label with at most one dash, after its first character; or several, the last of which is of letters.
fn is_hostname(text: &str) -> bool {
    let of = |known: &Known, c: char| known.has(c.encode_utf8(&mut [0; 4]));
    let sign = |c: char| c.is_ascii_alphanumeric() || of(&SIGN, c);
    let letter = |c: char| c.is_ascii_alphabetic() || (!c.is_ascii() && of(&LETTER, c));
    if text.len() > 255 || text.split('.').any(|label| label.len() > 63) {
        return false;
    }
    let Some((front, last)) = text.rsplit_once('.') else {
        let mut chars = text.chars();
        let begins = chars.next().is_some_and(sign);
        let rest = chars.as_str();
        return begins && rest.strip_prefix('-').unwrap_or(rest).chars().all(sign);
    };
    let label = |label: &str| {
        let ends = [label.chars().next(), label.chars().next_back()];
        ends.into_iter().all(|end| end.is_some_and(sign)) && label.chars().all(|c| c == '-' || sign(c))
    };
    front.split('.').all(label) && last.chars().count() >= 2 && last.chars().all(letter)
}

fn is_name(label: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = label.as_bytes();
    bytes.first().is_some_and(|b| inner(*b))
        && bytes.last().is_some_and(|b| inner(*b))
        && bytes.iter().all(|b| inner(*b) || *b == b'-')
}

fn is_date(text: &str) -> bool {
    time::Timestamp::parse_date(text).is_some()
}

fn is_date_time(text: &str) -> bool {
    let lower = text.to_lowercase();
    let mut parts = lower.split('t');
    let (date, clock) = (parts.next().unwrap_or_default(), parts.next());
    is_date(date) && clock.is_some_and(|clock| CLOCK.has(clock))
}

/// As Go reads durations, or with the names of units in words.
fn is_duration(text: &str) -> bool {
    const UNITS: [&[&str]; 8] = [
        &["ns", "nano"],
        &["us", "µs", "micro"],
        &["ms", "milli"],
        &["s", "sec"],
        &["m", "min"],
        &["h", "hr", "hour"],
        &["d", "day"],
        &["w", "wk", "week"],
    ];
    if time::parse_duration(text).is_some() {
        return true;
    }
    let is_unit = |unit: &str| {
        UNITS.iter().any(|names| {
            let longest = names.last().is_some_and(|name| unit.starts_with(name));
            longest || names.contains(&unit)
        })
    };
    let mut rest = text;
    let mut found = false;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        rest = &rest[start..];
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let after = rest[digits..].trim_start_matches([' ', '\t', '\n', '\r', '\u{c}']);
        let unit = after.find(|c: char| !c.is_ascii_alphabetic() && c != 'µ').unwrap_or(after.len());
        if unit > 0 {
            if rest[..digits].parse::<i64>().is_err() {
                return false;
            }
            found |= is_unit(&after[..unit].to_lowercase());
        }
        rest = &after[unit..];
    }
    found
}

/// An address as mail headers have it (RFC 5322), perhaps with a name in front.
fn is_email(text: &str) -> bool {
    let text = text.trim_matches([' ', '\t']);
    match text.strip_suffix('>') {
        None => is_address(text),
        Some(inner) => match inner.rsplit_once('<') {
            Some((name, address)) => is_phrase(name) && is_address(address),
            None => false,
        },
    }
}

fn is_phrase(name: &str) -> bool {
    let name = name.trim();
    let special = |c: char| c.is_control() || "()<>[]:;@\\,\"".contains(c);
    name.is_empty() || is_quoted(name) || !name.contains(special)
}

fn is_address(address: &str) -> bool {
    let Some((local, domain)) = address.rsplit_once('@') else { return false };
    let literal = domain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_domain = match literal {
        Some(literal) => IpAddr::from_str(literal.trim_start_matches("IPv6:")).is_ok(),
        None => is_dot_atom(domain),
    };
    is_domain && (is_dot_atom(local) || (local.len() > 2 && is_quoted(local)))
}

fn is_dot_atom(text: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || !c.is_ascii();
    text.split('.').all(|atom| !atom.is_empty() && atom.chars().all(part))
}

fn is_quoted(text: &str) -> bool {
    let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let Some(inner) = inner else { return false };
    let mut escaped = false;
    for c in inner.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return false,
            c if c.is_control() && c != '\t' => return false,
            _ => {}
        }
    }
    !escaped
}

fn is_credit_card(text: &str) -> bool {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let doubled = |digit: u32| if digit >= 5 { digit * 2 - 9 } else { digit * 2 };
    let from_the_end = digits.bytes().rev().map(|b| u32::from(b - b'0')).enumerate();
    let sum: u32 = from_the_end.map(|(at, digit)| if at % 2 == 1 { doubled(digit) } else { digit }).sum();
    CARD.has(&digits) && sum.is_multiple_of(10)
}

/// A book's number without spaces and dashes.
fn book(text: &str) -> Vec<u8> {
    text.chars().filter(|c| !c.is_whitespace() && *c != '-').map(|c| u8::try_from(c).unwrap_or(0)).collect()
}

fn is_isbn_10(text: &str) -> bool {
    let number = book(text);
    let Some(([digits @ .., last], true)) = Some((number.as_slice(), number.len() == 10)) else {
        return false;
    };
    if !digits.iter().all(u8::is_ascii_digit) || !(last.is_ascii_digit() || *last == b'X') {
        return false;
    }
    let last = if *last == b'X' { 10 } else { u32::from(last - b'0') };
    let sum: u32 = digits.iter().zip(1..).map(|(digit, weight)| weight * u32::from(digit - b'0')).sum();
    (sum + 10 * last).is_multiple_of(11)
}

fn is_isbn_13(text: &str) -> bool {
    let number = book(text);
    let digits = number.len() == 13 && number.iter().all(u8::is_ascii_digit);
    let weights = [1, 3].into_iter().cycle();
    digits
        && number
            .iter()
            .zip(weights)
            .map(|(digit, weight)| weight * u32::from(digit - b'0'))
            .sum::<u32>()
            .is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object;

    #[test]
    fn patterns_are_patterns() {
        for known in PATTERNS {
            assert!(known.0.is_match("").is_ok(), "{}", known.0.text);
        }
    }

    #[test]
    fn texts_have_formats() {
        let check = |format: &str, good: &[&str], bad: &[&str]| {
            assert!(is_known(format, "string"), "{format}");
            good.iter().for_each(|text| assert!(holds(format, text), "{format} {text:?}"));
            bad.iter().for_each(|text| assert!(!holds(format, text), "{format} {text:?}"));
        };
        check("bsonobjectid", &["507f1f77bcf86cd799439011"], &["507f1f77bcf86cd79943901", "x"]);
        check("byte", &["aGk=", "aGkh"], &["", "aGk", "a_k="]);
        check(
            "cidr",
            &["10.0.0.0/8", "010.0.0.1/32", "fd00::/8"],
            &["10.0.0.0", "10.0.0.0/33", "fd00::/129", "x/8"],
        );
        check("creditcard", &["4111 1111 1111 1111"], &["4111 1111 1111 1112", "1"]);
        check("date", &["2024-02-29"], &["2023-02-29", "2024-2-1", ""]);
        check(
            "date-time",
            &["2024-02-29T23:59:59Z", "2024-02-29t00:00:00.5+01:00"],
            &["2024-02-29", "2024-02-29T24:00:00Z", "2024-02-29T23:59:60Z"],
        );
        check(
            "duration",
            &["1h30m", "-5ms", "22 ns", "3 hours", "1 Day"],
            &["", "1", "x", "5 years", "99999999999999999999 days"],
        );
        check(
            "email",
            &["a@b.c", "\"a b\"@c", "A B <a@b>", "a@[127.0.0.1]"],
            &["a", "@b", "a@", "a@b@", "a..b@c", "A <a>"],
        );
        check("hexcolor", &["#fff", "FFFFFF"], &["#ffff", "g00"]);
        check("hostname", &["a", "a-b", "a.ex-ample.com", "1a", "é.example.com"], &["", "-a", "a_b", "a..b"]);
        check("ipv4", &["1.2.3.4", "01.2.3.4", "::ffff:1.2.3.4"], &["1.2.3", "1.2.3.256", "::1", "a"]);
        check("ipv6", &["::1", "fd00::1"], &["1.2.3.4", "fe80::1%eth0", ""]);
        check("isbn", &["0321751043", "978-0321751041", "0-8044-2957-X"], &["0321751044", "978-0321751042"]);
        check("isbn10", &["0321751043"], &["978-0321751041"]);
        check("isbn13", &["978-0321751041"], &["0321751043"]);
        check("k8s-short-name", &["a-1"], &["a.b", "A", "-a", &"a".repeat(64)]);
        check("k8s-long-name", &["a.b-1", &"a".repeat(64)], &["a..b", "A", ""]);
        check(
            "mac",
            &["00:00:5e:00:53:01", "0000.5e00.5301", "02-00-5e-10-00-00-00-01"],
            &["00:00:5e:00:53", "00:00:5e-00:53:01", "x"],
        );
        check("password", &["", "x"], &[]);
        check("rgbcolor", &["rgb(0, 128,255)"], &["rgb(0,128,256)", "rgb(0,0)"]);
        check("ssn", &["123-45-6789"], &["123456789", "12-345-6789"]);
        check("uri", &["https://a/b?c", "/a"], &["a b", ""]);
        check("uuid", &["9B2D7D8C-2f3e-4b5a-8c6d-7e8f9a0b1c2d"], &["9b2d7d8c", ""]);
        check("uuid3", &["9b2d7d8c-2f3e-3b5a-8c6d-7e8f9a0b1c2d"], &["9b2d7d8c-2f3e-4b5a-8c6d-7e8f9a0b1c2d"]);
        check("uuid4", &["9b2d7d8c-2f3e-4b5a-8c6d-7e8f9a0b1c2d"], &["9b2d7d8c-2f3e-4b5a-0c6d-7e8f9a0b1c2d"]);
        check("uuid5", &["9b2d7d8c2f3e5b5a8c6d7e8f9a0b1c2d"], &["9b2d7d8c-2f3e-4b5a-8c6d-7e8f9a0b1c2d"]);
    }

    #[test]
    fn what_is_not_known_asks_for_nothing() {
        assert!(holds("no-such-format", "anything"));
        let schema = object!({"type": "object", "format": "x", "properties": {
            "a": {"type": "string", "format": "date-time"}, "b": {"type": "string", "format": "int32"},
            "c": {"type": "array", "items": {"type": "integer", "format": "int32"}},
            "d": {"type": "number", "format": "float", "anyOf": [{"format": "uri"}, {"format": "y"}]}
        }});
        let mut found = Vec::new();
        unknown(&schema, &mut found);
        assert_eq!(found, ["x", "int32", "y"]);
    }
}
