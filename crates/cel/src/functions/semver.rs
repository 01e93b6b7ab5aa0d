//! `semver('1.2.3')` (upstream's library `kubernetes.Semver`): versions by semver.org 2.0, as upstream reads them.

use std::cmp::Ordering;

use super::{Args, Fun, Outcome};
use crate::error::{EvalError, fail, no_overload};
use crate::opaque::Opaque;
use crate::value::Value;

/// A version.
#[derive(Debug)]
pub struct Semver {
    numbers: [u64; 3],
    pre: Vec<Identifier>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Identifier {
    Number(u64),
    Text(String),
}

impl Semver {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("Version string empty".to_owned());
        }
        let mut parts = text.splitn(3, '.');
        let (Some(major), Some(minor), Some(patch)) = (parts.next(), parts.next(), parts.next()) else {
            return Err("No Major.Minor.Patch elements found".to_owned());
        };
        let (patch, build) = patch.split_once('+').map_or((patch, None), |(p, b)| (p, Some(b)));
        let (patch, pre) = patch.split_once('-').map_or((patch, None), |(p, b)| (p, Some(b)));
        let numbers = [number("Major", major)?, number("Minor", minor)?, number("Patch", patch)?];
        let pre = match pre {
            Some(pre) => pre.split('.').map(Identifier::parse).collect::<Result<_, _>>()?,
            None => Vec::new(),
        };
        for part in build.into_iter().flat_map(|build| build.split('.')) {
            if part.is_empty() {
                return Err("Build meta data is empty".to_owned());
            }
            if !part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
                return Err(format!("Invalid character(s) found in build meta data \"{part}\""));
            }
        }
        Ok(Self { numbers, pre })
    }

    /// Reads what people write: a `v` in front, leading zeros, missing parts.
    fn parse_leniently(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let mut parts: Vec<String> = text
            .splitn(3, '.')
            .map(|part| {
                let trimmed = part.trim_start_matches('0');
                match trimmed.chars().next() {
                    _ if part.len() <= 1 => part.to_owned(),
                    Some(c) if c.is_ascii_digit() => trimmed.to_owned(),
                    _ => format!("0{trimmed}"),
                }
            })
            .collect();
        if parts.len() < 3 && parts.last().is_some_and(|last| last.contains(['+', '-'])) {
            return Err("short version cannot contain PreRelease/Build meta data".to_owned());
        }
        parts.resize(3, "0".to_owned());
        Self::parse(&parts.join("."))
    }

    fn compare(&self, other: &Self) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => self.pre.cmp(&other.pre),
        })
    }

    pub(crate) fn same_precedence(&self, other: &Self) -> bool {
        self.compare(other) == Ordering::Equal
    }
}

impl Identifier {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("Prerelease is empty".to_owned());
        }
        if text.bytes().all(|b| b.is_ascii_digit()) {
            if text.len() > 1 && text.starts_with('0') {
                return Err(format!("Numeric PreRelease version must not contain leading zeroes \"{text}\""));
            }
            return text.parse().map(Self::Number).map_err(|_| out_of_range(text));
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err(format!("Invalid character(s) found in prerelease \"{text}\""));
        }
        Ok(Self::Text(text.to_owned()))
    }
}

fn out_of_range(text: &str) -> String {
    format!("strconv.ParseUint: parsing \"{text}\": value out of range")
}

fn number(name: &str, text: &str) -> Result<u64, String> {
    if text.is_empty() {
        return Err("strconv.ParseUint: parsing \"\": invalid syntax".to_owned());
    }
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("Invalid character(s) found in {} number \"{text}\"", name.to_lowercase()));
    }
    if text.len() > 1 && text.starts_with('0') {
        return Err(format!("{name} number must not contain leading zeroes \"{text}\""));
    }
    text.parse().map_err(|_| out_of_range(text))
}

pub(super) fn lookup(name: &str) -> Option<Fun> {
    Some(match name {
        "semver" => semver,
        "isSemver" => is_semver,
        "isGreaterThan" => is_greater,
        "isLessThan" => is_less,
        "compareTo" => compare_to,
        "major" => |args| part(args, 0),
        "minor" => |args| part(args, 1),
        "patch" => |args| part(args, 2),
        _ => return None,
    })
}

fn read(args: &Args<'_, '_>) -> Result<Result<Semver, String>, EvalError> {
    let text = args.str(0)?;
    let lenient = match args.len() {
        1 => false,
        _ => args.bool(1)?,
    };
    Ok(if lenient { Semver::parse_leniently(text) } else { Semver::parse(text) })
}

fn semver<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    match read(args)? {
        Ok(version) => Ok(Value::Opaque(Opaque::Semver(version.into()))),
        Err(message) => fail(message),
    }
}

fn is_semver<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    Ok(Value::Bool(read(args)?.is_ok()))
}

fn part<'a>(args: &mut Args<'_, 'a>, index: usize) -> Outcome<'a> {
    match args.get(0) {
        Value::Opaque(Opaque::Semver(version)) => match i64::try_from(version.numbers[index]) {
            Ok(number) => Ok(Value::Int(number)),
            Err(_) => fail("integer overflow"),
        },
        _ => no_overload(),
    }
}

/// How two versions, or two quantities, compare.
fn ordering(args: &Args<'_, '_>) -> Result<Ordering, EvalError> {
    match (args.get(0), args.get(1)) {
        (Value::Opaque(Opaque::Semver(a)), Value::Opaque(Opaque::Semver(b))) => Ok(a.compare(b)),
        (Value::Opaque(Opaque::Quantity(a)), Value::Opaque(Opaque::Quantity(b))) => Ok(a.cmp(b)),
        _ => no_overload(),
    }
}

fn is_greater<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    Ok(Value::Bool(ordering(args)? == Ordering::Greater))
}

fn is_less<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    Ok(Value::Bool(ordering(args)? == Ordering::Less))
}

fn compare_to<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    Ok(Value::Int(ordering(args)? as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let check = |text: &str, strict: bool, lenient: bool| {
            assert_eq!(Semver::parse(text).is_ok(), strict, "{text}");
            assert_eq!(Semver::parse_leniently(text).is_ok(), lenient, "{text}");
        };
        check("1.2.3", true, true);
        check("1.2.3-rc.1+build.5", true, true);
        check("v1.2.3", false, true);
        check("01.02.03", false, true);
        check("1.2", false, true);
        check("1", false, true);
        check("1.2-rc", false, false);
        check("1.2.3-", false, false);
        check("1.2.3-01", false, false);
        check("1.2.3+", false, false);
        check("1.2.3.4", false, false);
        check("", false, false);
        check("99999999999999999999.0.0", false, false);
    }

    #[test]
    fn versions_are_ordered() {
        let ordered = [
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1.0.0",
            "1.0.1",
            "1.10.0",
            "2.0.0",
        ];
        let read: Vec<Semver> = ordered.iter().map(|text| Semver::parse(text).expect(text)).collect();
        assert!(read.is_sorted_by(|a, b| a.compare(b) == Ordering::Less));
    }
}
