//! Just enough of DER (X.690) to write a certificate.

use xebec_api::time::Timestamp;

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// A value: its tag, its length, its content.
pub(super) fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let digits = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    let mut out = vec![tag];
    match digits {
        [] => out.push(0),
        [short @ 0..0x80] => out.push(*short),
        long => {
            out.push(0x80 | u8::try_from(long.len()).expect("a length has 8 bytes at most"));
            out.extend_from_slice(long);
        }
    }
    out.extend_from_slice(content);
    out
}

/// A sequence of values.
pub(super) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    value(SEQUENCE, &parts.concat())
}

/// A value in a tag of the place where it stands.
pub(super) fn explicit(number: u8, content: &[u8]) -> Vec<u8> {
    value(0xa0 | number, content)
}

/// An object identifier, from the bytes of its content.
pub(super) fn oid(content: &[u8]) -> Vec<u8> {
    value(OID, content)
}

/// The bits of a named bit list, without zeros at its end.
pub(super) fn bits(set: &[u8]) -> Vec<u8> {
    let Some(last) = set.iter().max() else { return value(BIT_STRING, &[0]) };
    let mut bytes = vec![0; usize::from(last / 8) + 1];
    for bit in set {
        bytes[usize::from(bit / 8)] |= 0x80 >> (bit % 8);
    }
    let unused = 7 - last % 8;
    value(BIT_STRING, &[&[unused], bytes.as_slice()].concat())
}

/// A time of a certificate: two digits of the year before 2050, four from then on (RFC 5280).
pub(super) fn time(time: Timestamp) -> Vec<u8> {
    let digits: String = time.to_string().chars().filter(char::is_ascii_digit).take(14).collect();
    let (tag, text) =
        if digits.as_str() < "2050" { (UTC_TIME, &digits[2..]) } else { (GENERALIZED_TIME, &*digits) };
    value(tag, format!("{text}Z").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_bits_and_times() {
        assert_eq!(value(4, &[]), [4, 0]);
        assert_eq!(value(4, &[7; 0x7f])[..3], [4, 0x7f, 7]);
        assert_eq!(value(4, &[7; 0x80])[..4], [4, 0x81, 0x80, 7]);
        assert_eq!(value(4, &[7; 0x1234])[..5], [4, 0x82, 0x12, 0x34, 7]);
        assert_eq!(bits(&[0]), [3, 2, 7, 0x80]);
        assert_eq!(bits(&[0, 2]), [3, 2, 5, 0xa0]);
        assert_eq!(bits(&[8]), [3, 3, 7, 0, 0x80]);
        let at = |text: &str| time(Timestamp::parse(text).expect("a time"));
        assert_eq!(at("2049-12-31T23:59:59Z"), value(UTC_TIME, b"491231235959Z"));
        assert_eq!(at("2050-01-01T00:00:00Z"), value(GENERALIZED_TIME, b"20500101000000Z"));
    }
}
