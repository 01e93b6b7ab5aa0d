//! Points in time as the API writes them: RFC 3339 in UTC, with seconds (`Time`) or microseconds (`MicroTime`).

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A point in time, in microseconds since the Unix epoch. Years 0001 to 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    micros: i64,
}

const SECOND: i64 = 1_000_000;
const DAY_SECONDS: i64 = 86_400;
/// The first and last microsecond that have a year of four digits.
const RANGE: (i64, i64) = (-62_135_596_800 * SECOND, 253_402_300_800 * SECOND - 1);

impl Timestamp {
    /// The clock's time; what lies outside the years that the API can write is brought to its ends.
    #[must_use]
    pub fn from_system(time: SystemTime) -> Self {
        let micros = match time.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX),
        };
        Self::within(micros)
    }

    /// Seconds since the Unix epoch, brought to the ends of what the API can write.
    #[must_use]
    pub const fn from_unix(seconds: i64) -> Self {
        Self::within(seconds.saturating_mul(SECOND))
    }

    const fn within(micros: i64) -> Self {
        let (first, last) = RANGE;
        Self {
            micros: if micros < first {
                first
            } else if micros > last {
                last
            } else {
                micros
            },
        }
    }

    /// Seconds since the Unix epoch, fractions dropped.
    #[must_use]
    pub const fn unix(self) -> i64 {
        self.micros.div_euclid(SECOND)
    }

    /// The time `by` later, or the last one that the API can write.
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        Self::within(self.micros.saturating_add(by))
    }

    /// How long after `earlier` this is; zero if it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.micros.saturating_sub(earlier.micros)).unwrap_or(0))
    }

    /// Reads RFC 3339 with any offset and up to nine fractional digits (what is finer than a microsecond is dropped).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let number = |from: usize, len: usize| -> Option<i64> {
            let part = bytes.get(from..from + len)?;
            part.iter()
                .all(u8::is_ascii_digit)
                .then(|| part.iter().fold(0, |n, d| n * 10 + i64::from(d - b'0')))
        };
        let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
        if !separators.iter().all(|(at, want)| bytes.get(*at) == Some(want))
            || !matches!(bytes.get(10), Some(b'T' | b't'))
        {
            return None;
        }
        let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
        let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
        if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
            return None;
        }
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let (fraction, rest) = parse_fraction(&text[19..])?;
        let offset = parse_offset(rest)?;
        let seconds =
            days_from_civil(year, month, day) * DAY_SECONDS + hour * 3600 + minute * 60 + second - offset;
        Some(Self { micros: seconds * SECOND + fraction })
    }

    /// `2026-11-23T05:26:02.000123Z`: the form of `MicroTime`.
    #[must_use]
    pub fn micro(self) -> impl fmt::Display {
        fmt::from_fn(move |f| {
            self.write_seconds(f)?;
            write!(f, ".{:06}Z", self.micros.rem_euclid(SECOND))
        })
    }

    fn write_seconds(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.unix();
        let (year, month, day) = civil_from_days(seconds.div_euclid(DAY_SECONDS));
        let of_day = seconds.rem_euclid(DAY_SECONDS);
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
    }
}

impl fmt::Display for Timestamp {
    /// `2026-11-23T05:26:02Z`: the form of `Time`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_seconds(f)?;
        f.write_str("Z")
    }
}

/// Microseconds of `.123`, and what follows.
fn parse_fraction(text: &str) -> Option<(i64, &str)> {
    let Some(digits) = text.strip_prefix('.') else { return Some((0, text)) };
    let len = digits.bytes().take_while(u8::is_ascii_digit).count();
    if !(1..=9).contains(&len) {
        return None;
    }
    let micros =
        (0..6).fold(0, |n, i| n * 10 + digits.as_bytes()[..len].get(i).map_or(0, |d| i64::from(d - b'0')));
    Some((micros, &digits[len..]))
}

/// Seconds east of UTC of `Z` or `+01:00`.
fn parse_offset(text: &str) -> Option<i64> {
    if text == "Z" || text == "z" {
        return Some(0);
    }
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = text.get(1..)?.split_once(':')?;
    let two_digits =
        |t: &str| (t.len() == 2 && t.bytes().all(|b| b.is_ascii_digit())).then(|| t.parse::<i64>().ok())?;
    let (hours, minutes) = (two_digits(hours)?, two_digits(minutes)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar; years are counted from March so that leap days come last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes() {
        let check = |text: &str, want: Option<&str>| {
            assert_eq!(Timestamp::parse(text).map(|t| t.to_string()).as_deref(), want, "{text}");
        };
        check("1970-01-01T00:00:00Z", Some("1970-01-01T00:00:00Z"));
        check("2026-11-23T05:26:02Z", Some("2026-11-23T05:26:02Z"));
        check("2024-02-29T23:59:59+01:00", Some("2024-02-29T22:59:59Z"));
        check("2000-03-01T00:00:00-05:30", Some("2000-03-01T05:30:00Z"));
        check("0001-01-01T00:00:00Z", Some("0001-01-01T00:00:00Z"));
        check("9999-12-31T23:59:59.999999999Z", Some("9999-12-31T23:59:59Z"));
        for bad in [
            "",
            "2026-11-23",
            "2026-13-01T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2026-11-23T24:00:00Z",
            "2026-11-23T00:00:00",
            "2026-11-23T00:00:00.Z",
            "2026-11-23T00:00:00+1:00",
            "2026-11-23T00:00:00Zx",
            "2026-11-23 00:00:00Z",
            "2026-11-23T00:00:0éZ",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn no_time_has_a_year_of_five_digits() {
        let (first, last) = ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z");
        assert_eq!(Timestamp::from_unix(i64::MIN).to_string(), first);
        assert_eq!(Timestamp::from_unix(i64::MAX).to_string(), last);
        let now = Timestamp::parse("2026-11-23T00:00:00Z").expect("a time");
        assert_eq!(now.after(Duration::from_secs(300_000_000_000)).to_string(), last);
        assert_eq!(now.after(Duration::MAX).to_string(), last);
    }

    #[test]
    fn microseconds() {
        let time = Timestamp::parse("2026-11-23T05:26:02.000123999Z").expect("valid");
        assert_eq!(time.micro().to_string(), "2026-11-23T05:26:02.000123Z");
        let later = time.after(Duration::from_secs(90));
        assert_eq!(later.since(time), Duration::from_secs(90));
        assert_eq!(time.since(later), Duration::ZERO);
    }

    #[test]
    fn every_day_of_four_centuries_round_trips() {
        for day in -80_000..80_000 {
            let (y, m, d) = civil_from_days(day);
            assert_eq!(days_from_civil(y, m, d), day);
        }
    }
}
