//! Points in time and lengths of it: as Go's `time` reads, writes and adds them.

use std::cmp::Ordering;
use std::fmt::Write as _;

use crate::error::{EvalError, fail};

/// A point in time between the years 1 and 9999.
#[derive(Clone, Copy, Debug)]
pub struct Timestamp {
    /// Seconds since 1970, UTC.
    pub seconds: i64,
    /// Nanoseconds of the second.
    pub nanos: u32,
    /// The offset from UTC that it was written with, in seconds: it is shown with it.
    pub offset: i32,
}

const MIN_SECONDS: i64 = -62_135_596_800;
const MAX_SECONDS: i64 = 253_402_300_799;
const NANOS: i64 = 1_000_000_000;

impl PartialEq for Timestamp {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Timestamp {}

impl PartialOrd for Timestamp {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timestamp {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.seconds, self.nanos).cmp(&(other.seconds, other.nanos))
    }
}

/// The date and time that clocks show.
pub(crate) struct Civil {
    pub(crate) year: i64,
    /// From 1.
    pub(crate) month: i64,
    /// From 1.
    pub(crate) day: i64,
    /// From 0.
    pub(crate) day_of_year: i64,
    /// From 0, Sunday.
    pub(crate) weekday: i64,
    pub(crate) hour: i64,
    pub(crate) minute: i64,
    pub(crate) second: i64,
}

impl Timestamp {
    /// The point `seconds` after 1970.
    pub(crate) fn from_unix(seconds: i64) -> Result<Self, EvalError> {
        Self::at(seconds, 0, 0)
    }

    fn at(seconds: i64, nanos: u32, offset: i32) -> Result<Self, EvalError> {
        if !(MIN_SECONDS..=MAX_SECONDS).contains(&seconds) {
            return fail("timestamp overflow");
        }
        Ok(Self { seconds, nanos, offset })
    }

    /// Reads RFC 3339; `None` if it is not that, or no time between the years 1 and 9999.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::read(text)?.ok()
    }

    /// Reads RFC 3339: whether it is that, and whether it is in the range.
    pub(crate) fn read(text: &str) -> Option<Result<Self, EvalError>> {
        let (date, rest) = text.split_at_checked(10)?;
        let days = parse_days(date)?;
        let rest = rest.strip_prefix('T')?;
        let (clock, mut rest) = rest.split_at_checked(8)?;
        let bytes = clock.as_bytes();
        if bytes[2] != b':' || bytes[5] != b':' {
            return None;
        }
        let (hour, minute, second) = (two(&bytes[..2])?, two(&bytes[3..5])?, two(&bytes[6..])?);
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let mut nanos = 0;
        if let Some(fraction) = rest.strip_prefix(['.', ',']) {
            let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
            if digits == 0 {
                return None;
            }
            let shown = &fraction[..digits.min(9)];
            nanos = shown.parse::<u32>().ok()? * 10_u32.pow(u32::try_from(9 - shown.len()).ok()?);
            rest = &fraction[digits..];
        }
        let offset = parse_offset(rest)?;
        let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second - i64::from(offset);
        Some(Self::at(seconds, nanos, offset))
    }

    /// Reads `2026-01-31`.
    #[must_use]
    pub fn parse_date(text: &str) -> Option<Self> {
        Self::at(parse_days(text)? * 86_400, 0, 0).ok()
    }

    /// What clocks show at `offset` seconds east of UTC.
    pub(crate) fn civil(self, offset: i32) -> Civil {
        let local = self.seconds + i64::from(offset);
        let (days, second) = (local.div_euclid(86_400), local.rem_euclid(86_400));
        let (year, month, day) = date_of(days);
        Civil {
            year,
            month,
            day,
            day_of_year: days - days_of(year, 1, 1),
            weekday: (days + 4).rem_euclid(7),
            hour: second / 3_600,
            minute: second / 60 % 60,
            second: second % 60,
        }
    }

    pub(crate) fn plus(self, nanos: i64) -> Result<Self, EvalError> {
        let total = i64::from(self.nanos) + nanos.rem_euclid(NANOS);
        let seconds = self.seconds + nanos.div_euclid(NANOS) + total / NANOS;
        Self::at(seconds, u32::try_from(total % NANOS).unwrap_or(0), self.offset)
    }

    pub(crate) fn minus(self, other: Self) -> Result<i64, EvalError> {
        (self.seconds - other.seconds)
            .checked_mul(NANOS)
            .and_then(|seconds| seconds.checked_add(i64::from(self.nanos) - i64::from(other.nanos)))
            .map_or_else(|| fail("integer overflow"), Ok)
    }
}

impl std::fmt::Display for Timestamp {
    /// RFC 3339 with as many digits after the second as are needed.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Civil { year, month, day, hour, minute, second, .. } = self.civil(self.offset);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if self.nanos > 0 {
            let digits = format!("{:09}", self.nanos);
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        if self.offset == 0 {
            return f.write_char('Z');
        }
        let minutes = self.offset.abs() / 60;
        let sign = if self.offset < 0 { '-' } else { '+' };
        write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    }
}

fn two(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0')))
}

fn parse_days(date: &str) -> Option<i64> {
    let bytes = date.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let (year, month, day) = (two(&bytes[..4])?, two(&bytes[5..7])?, two(&bytes[8..])?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    (1..=length).contains(&day).then(|| days_of(year, month, day))
}

fn parse_offset(text: &str) -> Option<i32> {
    if text == "Z" {
        return Some(0);
    }
    let bytes = text.as_bytes();
    let sign = match bytes.first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    if bytes.len() != 6 || bytes[3] != b':' {
        return None;
    }
    let (hours, minutes) = (two(&bytes[1..3])?, two(&bytes[4..])?);
    if hours > 24 || minutes > 60 {
        return None;
    }
    i32::try_from(sign * (hours * 3_600 + minutes * 60)).ok()
}

/// Days from 1970-01-01 in the Gregorian calendar.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year - era * 400;
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days - era * 146_097;
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

const UNITS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", NANOS),
    ("m", 60 * NANOS),
    ("h", 3_600 * NANOS),
];

/// Reads `1h30m` or `-1.5s` into nanoseconds.
#[must_use]
pub fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0_u64;
    while !rest.is_empty() {
        let whole = rest.bytes().take_while(u8::is_ascii_digit).count();
        let mut value: u64 = if whole > 0 { rest[..whole].parse().ok()? } else { 0 };
        let mut after = &rest[whole..];
        let mut fraction = "";
        if let Some(digits) = after.strip_prefix('.') {
            let count = digits.bytes().take_while(u8::is_ascii_digit).count();
            (fraction, after) = digits.split_at(count);
        }
        if whole == 0 && fraction.is_empty() {
            return None;
        }
        let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let unit = UNITS.iter().find(|(name, _)| *name == &after[..end])?.1.unsigned_abs();
        value = value.checked_mul(unit)?;
        if !fraction.is_empty() {
            value = value.checked_add(fraction_of(fraction, unit))?;
        }
        total = total.checked_add(value)?;
        rest = &after[end..];
    }
    if negative {
        return 0_i64.checked_sub_unsigned(total);
    }
    i64::try_from(total).ok()
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "Go rounds so: what is less than a nanosecond is cut off"
)]
fn fraction_of(digits: &str, unit: u64) -> u64 {
    let shown = &digits[..digits.len().min(18)];
    let value: u64 = shown.parse().unwrap_or(0);
    (value as f64 * (unit as f64 / 10_f64.powi(i32::try_from(shown.len()).unwrap_or(0)))) as u64
}

/// A duration as seconds, as in `90.5s`.
#[must_use]
pub fn show_duration(nanos: i64) -> String {
    let (seconds, rest) = (nanos / NANOS, (nanos % NANOS).unsigned_abs());
    let sign = if nanos < 0 && seconds == 0 { "-" } else { "" };
    if rest == 0 {
        return format!("{seconds}s");
    }
    let digits = format!("{rest:09}");
    format!("{sign}{seconds}.{}s", digits.trim_end_matches('0'))
}

/// The offset of a time zone from UTC at a time, in seconds: of `+01:30`, or of a name as `Europe/Oslo`.
pub(crate) fn zone_offset(zone: &str, at: Timestamp) -> Result<i32, EvalError> {
    if let Some((hours, minutes)) = zone.split_once(':') {
        let number = |text: &str| match text.parse::<i32>() {
            Ok(number) if number.abs() <= 10_000 => Ok(number),
            _ => fail(format!("strconv.Atoi: parsing \"{text}\": invalid syntax")),
        };
        let (hours, minutes) = (number(hours)?, number(minutes)?);
        let minutes = if zone.starts_with('-') { hours * 60 - minutes } else { hours * 60 + minutes };
        return Ok(minutes * 60);
    }
    if matches!(zone, "" | "UTC") {
        return Ok(0);
    }
    let unknown = || fail(format!("unknown time zone {zone}"));
    let Ok(found) = jiff::tz::TimeZone::get(zone) else { return unknown() };
    let Ok(instant) = jiff::Timestamp::from_second(at.seconds) else { return unknown() };
    Ok(found.to_offset(instant).seconds())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_read_and_written() {
        let check = |text: &str, want: Option<&str>| {
            assert_eq!(Timestamp::parse(text).map(|t| t.to_string()).as_deref(), want, "{text}");
        };
        check("2009-02-13T23:31:30Z", Some("2009-02-13T23:31:30Z"));
        check("2009-02-13T23:31:30.120000000-05:30", Some("2009-02-13T23:31:30.12-05:30"));
        check("0001-01-01T00:00:00Z", Some("0001-01-01T00:00:00Z"));
        check("9999-12-31T23:59:59.999999999Z", Some("9999-12-31T23:59:59.999999999Z"));
        check("2024-02-29T00:00:00+00:00", Some("2024-02-29T00:00:00Z"));
        check("2023-02-29T00:00:00Z", None);
        check("0000-12-31T00:00:00Z", None);
        check("2009-02-13t23:31:30Z", None);
        check("2009-02-13T24:00:00Z", None);
        check("2009-02-13T23:31:30", None);
        check("é009-02-13T23:31:30Z", None);
    }

    #[test]
    fn clocks_show_the_date() {
        let leap = Timestamp::parse("2024-12-31T23:59:59Z").expect("it is one");
        let civil = leap.civil(0);
        assert_eq!((civil.day_of_year, civil.weekday, civil.hour), (365, 2, 23));
        let next = leap.civil(3_600);
        assert_eq!((next.year, next.month, next.day, next.day_of_year), (2025, 1, 1, 0));
    }

    #[test]
    fn durations() {
        let check = |text: &str, want: Option<&str>| {
            assert_eq!(parse_duration(text).map(show_duration).as_deref(), want, "{text}");
        };
        check("1h30m", Some("5400s"));
        check("-1.5s", Some("-1.5s"));
        check("-0.5s", Some("-0.5s"));
        check("100ms", Some("0.1s"));
        check("1.s", Some("1s"));
        check(".5m", Some("30s"));
        check("0", Some("0s"));
        check("", None);
        check("1", None);
        check("1d", None);
        check("s", None);
        check("9223372036854775808ns", None);
        check("-9223372036854775808ns", Some("-9223372036.854775808s"));
    }

    #[test]
    fn zones() {
        let at = Timestamp::parse("2026-07-01T00:00:00Z").expect("it is one");
        assert_eq!(zone_offset("Europe/Oslo", at), Ok(7_200));
        assert_eq!(zone_offset("-02:30", at), Ok(-9_000));
        assert_eq!(zone_offset("UTC", at), Ok(0));
        assert!(zone_offset("Nowhere/Land", at).is_err());
        assert!(zone_offset("a:b", at).is_err());
    }
}
