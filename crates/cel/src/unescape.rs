//! Literals to their values. The lexer has seen that their form is right.

pub(crate) fn int(sign: &str, text: &str) -> Option<i64> {
    match text.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(&format!("{sign}{hex}"), 16).ok(),
        None => format!("{sign}{text}").parse().ok(),
    }
}

pub(crate) fn uint(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(['u', 'U']);
    match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => digits.parse().ok(),
    }
}

/// The value of a string literal.
pub(crate) fn string(text: &str) -> Result<String, &'static str> {
    let (inner, raw) = unquote(text);
    let inner = newlines(inner);
    if raw || !inner.contains('\\') {
        return Ok(inner);
    }
    let mut value = String::with_capacity(inner.len());
    let mut rest = inner.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            value.push(c);
            continue;
        }
        match escape(&mut rest)? {
            Escape::Char(c) => value.push(c),
            Escape::Octet(code) | Escape::Unicode(code) => {
                value.push(char::from_u32(code).ok_or("invalid unicode code point")?);
            }
        }
    }
    Ok(value)
}

/// The value of a bytes literal.
pub(crate) fn bytes(text: &str) -> Result<Vec<u8>, &'static str> {
    let (inner, raw) = unquote(&text[1..]);
    let inner = newlines(inner);
    if raw {
        return Ok(inner.into_bytes());
    }
    let mut value = Vec::with_capacity(inner.len());
    let mut rest = inner.chars();
    while let Some(c) = rest.next() {
        let c = if c == '\\' {
            match escape(&mut rest)? {
                Escape::Char(c) => c,
                Escape::Octet(code) => {
                    value.push(u8::try_from(code).map_err(|_| "unable to unescape string")?);
                    continue;
                }
                Escape::Unicode(_) => return Err("unable to unescape string"),
            }
        } else {
            c
        };
        value.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Ok(value)
}

enum Escape {
    Char(char),
    /// One byte in bytes, one code point in strings.
    Octet(u32),
    Unicode(u32),
}

fn escape(rest: &mut std::str::Chars<'_>) -> Result<Escape, &'static str> {
    const BAD: &str = "unable to unescape string";
    let c = rest.next().ok_or(BAD)?;
    let mut digits = |count: usize, radix: u32, mut value: u32| -> Result<u32, &'static str> {
        for _ in 0..count {
            let digit = rest.next().and_then(|c| c.to_digit(radix)).ok_or(BAD)?;
            value = value.checked_mul(radix).and_then(|v| v.checked_add(digit)).ok_or(BAD)?;
        }
        Ok(value)
    };
    Ok(match c {
        'a' => Escape::Char('\u{7}'),
        'b' => Escape::Char('\u{8}'),
        'f' => Escape::Char('\u{c}'),
        'n' => Escape::Char('\n'),
        'r' => Escape::Char('\r'),
        't' => Escape::Char('\t'),
        'v' => Escape::Char('\u{b}'),
        '\\' | '\'' | '"' | '`' | '?' => Escape::Char(c),
        'x' | 'X' => Escape::Octet(digits(2, 16, 0)?),
        'u' => Escape::Unicode(digits(4, 16, 0)?),
        'U' => Escape::Unicode(digits(8, 16, 0)?),
        '0'..='3' => Escape::Octet(digits(2, 8, c.to_digit(8).ok_or(BAD)?)?),
        _ => return Err(BAD),
    })
}

/// What stands between the quotes, and whether it is meant as it stands.
fn unquote(text: &str) -> (&str, bool) {
    let (text, raw) = match text.strip_prefix(['r', 'R']) {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    for quote in ["\"\"\"", "'''", "\"", "'"] {
        if text.len() >= 2 * quote.len()
            && let Some(inner) = text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote))
        {
            return (inner, raw);
        }
    }
    (text, raw)
}

fn newlines(text: &str) -> String {
    if text.contains('\r') { text.replace("\r\n", "\n").replace('\r', "\n") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings() {
        let check = |text: &str, want: Result<&str, &str>| {
            assert_eq!(string(text).as_deref(), want.as_ref().map(|w| *w), "{text}");
        };
        check("'a\\n\\x41\\u00e9\\U0001F600\\101\\?\\`'", Ok("a\nAé😀A?`"));
        check("r'a\\n'", Ok("a\\n"));
        check("'''a'b''c'''", Ok("a'b''c"));
        check("''", Ok(""));
        check("R\"\"\"a\\\"\"\"", Ok("a\\"));
        check("'\\ud800'", Err("invalid unicode code point"));
        check("\"\"\"a\r\nb\rc\"\"\"", Ok("a\nb\nc"));
    }

    #[test]
    fn byte_strings() {
        assert_eq!(bytes("b'\\xff\\377a\u{e9}'"), Ok(vec![0xff, 0xff, b'a', 0xc3, 0xa9]));
        assert_eq!(bytes("b'\\u0041'"), Err("unable to unescape string"));
        assert_eq!(bytes("br'\\x'"), Ok(b"\\x".to_vec()));
    }

    #[test]
    fn numbers() {
        assert_eq!(int("-", "9223372036854775808"), Some(i64::MIN));
        assert_eq!(int("", "9223372036854775808"), None);
        assert_eq!(int("-", "0x10"), Some(-16));
        assert_eq!(uint("0xFFu"), Some(255));
        assert_eq!(uint("18446744073709551616u"), None);
    }
}
