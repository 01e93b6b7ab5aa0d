//! Base64 as JSON has it for bytes: the standard alphabet with padding, line breaks passed over.

pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut value = Vec::with_capacity(text.len() / 4 * 3);
    let mut bits = 0_u32;
    let mut count = 0;
    let mut padding = 0;
    let mut digits = 0_usize;
    for byte in text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')) {
        digits += 1;
        if byte == b'=' {
            padding += 1;
            continue;
        }
        if padding > 0 {
            return None;
        }
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            value.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    (digits.is_multiple_of(4) && padding <= 2 && count == padding * 2).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn padded_text_only() {
        let check = |text: &str, want: Option<&[u8]>| assert_eq!(decode(text).as_deref(), want, "{text}");
        check("", Some(b""));
        check("YQ==", Some(b"a"));
        check("YWI=", Some(b"ab"));
        check("YWJj", Some(b"abc"));
        check("YW\nJj", Some(b"abc"));
        check("YQ=", None);
        check("YQ", None);
        check("Y===", None);
        check("Y Q=", None);
        check("=YQ=", None);
    }
}
