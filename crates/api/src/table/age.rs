//! Ages as people read them: times of RFC 3339 and the short spelling of durations.

use std::time::{Duration, SystemTime};

/// A point in time: nanoseconds since 1970, negative before. Ages are differences of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(i128);

const NANOS: i128 = 1_000_000_000;
/// Midnight of the first of January of the year 1, the time that stands for no time.
const ZERO: Moment = Moment(-62_135_596_800 * NANOS);

impl Moment {
    /// Whether the time stands for no time at all.
    fn is_zero(self) -> bool {
        self == ZERO
    }

    /// How long after `earlier` this is, in whole seconds rounded towards zero.
    fn seconds_since(self, earlier: Self) -> i64 {
        // Durations of Go end at 292 years; so do ages.
        const LIMIT: i128 = i64::MAX as i128 / NANOS;
        let seconds = (self.0 - earlier.0) / NANOS;
        i64::try_from(seconds.clamp(-LIMIT, LIMIT)).expect("clamped to fewer than 64 bits")
    }

    /// Reads a time of RFC 3339, with or without fractions of a second.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let number = |from: usize, to: usize| -> Option<i64> {
            let digits = bytes.get(from..to)?;
            digits.iter().all(u8::is_ascii_digit).then_some(())?;
            text.get(from..to)?.parse().ok()
        };
        let is = |at: usize, wanted: &[u8]| bytes.get(at).is_some_and(|b| wanted.contains(b));
        let marks = is(4, b"-") && is(7, b"-") && is(10, b"Tt") && is(13, b":") && is(16, b":");
        marks.then_some(())?;
        let days = days_since_1970(number(0, 4)?, number(5, 7)?, number(8, 10)?)?;
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        (hour < 24 && minute < 60 && second < 60).then_some(())?;
        let (nanos, zone) = fraction(text.get(19..)?)?;
        let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second - offset_seconds(zone)?;
        Some(Self(i128::from(seconds) * NANOS + nanos))
    }
}

impl From<SystemTime> for Moment {
    fn from(time: SystemTime) -> Self {
        let nanos = |d: Duration| i128::try_from(d.as_nanos()).unwrap_or(i128::MAX);
        Self(match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => nanos(after),
            Err(before) => -nanos(before.duration()),
        })
    }
}

/// Days from the first of January 1970 to a date of the Gregorian calendar; `None` if there is no such date.
fn days_since_1970(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let before = usize::try_from(month - 1).ok()?;
    ((1..=*lengths.get(before)?).contains(&day)).then_some(())?;
    let past = year - 1;
    let leap_days = past.div_euclid(4) - past.div_euclid(100) + past.div_euclid(400);
    let month_days: i64 = lengths[..before].iter().sum();
    // 719,162 days lie between the first of January of the year 1 and that of 1970.
    Some(past * 365 + leap_days + month_days + day - 1 - 719_162)
}

/// `.25Z` → 250,000,000 and `Z`. Digits after the ninth are dropped.
fn fraction(rest: &str) -> Option<(i128, &str)> {
    let Some(after) = rest.strip_prefix('.') else { return Some((0, rest)) };
    let end = after.bytes().position(|b| !b.is_ascii_digit())?;
    let digits = &after[..end.min(9)];
    (!digits.is_empty()).then_some(())?;
    let nanos: i128 = digits.parse().ok()?;
    Some((nanos * 10_i128.pow(9 - u32::try_from(digits.len()).ok()?), &after[end..]))
}

/// `Z`, `+02:00`.
fn offset_seconds(zone: &str) -> Option<i64> {
    if matches!(zone, "Z" | "z") {
        return Some(0);
    }
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let (hours, minutes): (u8, u8) = (two_digits(hours)?, two_digits(minutes)?);
    let seconds = i64::from(hours) * 3_600 + i64::from(minutes) * 60;
    match zone.as_bytes()[0] {
        b'+' => Some(seconds),
        b'-' => Some(-seconds),
        _ => None,
    }
}

fn two_digits(text: &str) -> Option<u8> {
    (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

/// How long ago `time` was at `now`: `5m12s`. `<unknown>` for no time and for text that is none.
#[must_use]
pub fn since(time: Option<&str>, now: Moment) -> String {
    match time.and_then(Moment::parse) {
        Some(time) if !time.is_zero() => human(now.seconds_since(time)),
        _ => "<unknown>".to_owned(),
    }
}

/// The time from `start` to `end`.
pub(super) fn between(start: Moment, end: Moment) -> String {
    human(end.seconds_since(start))
}

/// A duration of whole seconds with two or three significant figures, as kubectl shows ages.
#[must_use]
pub fn human(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3_600);
    let (days, years) = (hours / 24, hours / 24 / 365);
    let two = |big: i64, unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{big}{unit}"),
        _ => format!("{big}{unit}{small}{small_unit}"),
    };
    match seconds {
        // Clocks may differ a little; by more than that the time is wrong.
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        _ if seconds < 120 => format!("{seconds}s"),
        _ if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if days < 8 => two(days, "d", hours % 24, "h"),
        _ if years < 2 => format!("{days}d"),
        _ if years < 8 => two(years, "y", days % 365, "d"),
        _ => format!("{years}y"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_spelt_as_kubectl_spells_them() {
        let check = |seconds: i64, want: &str| assert_eq!(human(seconds), want, "{seconds}");
        const M: i64 = 60;
        const H: i64 = 3_600;
        const D: i64 = 24 * H;
        const Y: i64 = 365 * D;
        check(-2, "<invalid>");
        check(-1, "0s");
        check(0, "0s");
        check(1, "1s");
        check(2 * M - 1, "119s");
        check(2 * M, "2m");
        check(2 * M + 1, "2m1s");
        check(10 * M - 1, "9m59s");
        check(10 * M + 1, "10m");
        check(3 * H - 1, "179m");
        check(3 * H, "3h");
        check(3 * H + M, "3h1m");
        check(8 * H - 1, "7h59m");
        check(8 * H + 59 * M, "8h");
        check(2 * D - 1, "47h");
        check(2 * D, "2d");
        check(2 * D + H, "2d1h");
        check(8 * D - 1, "7d23h");
        check(8 * D + 23 * H, "8d");
        check(2 * Y - 1, "729d");
        check(2 * Y + D - 1, "2y");
        check(2 * Y + D, "2y1d");
        check(8 * Y - 1, "7y364d");
        check(8 * Y + 364 * D, "8y");
    }

    #[test]
    fn times_are_read_and_differences_cut() {
        let now = Moment::parse("2024-03-01T00:00:00Z").expect("a time");
        let check = |time: &str, want: &str| assert_eq!(since(Some(time), now), want, "{time}");
        check("2024-02-29T23:59:58Z", "2s");
        check("2024-02-28T00:00:00Z", "2d");
        check("2024-03-01T02:00:00+02:00", "0s");
        check("2024-02-29T19:00:00-05:00", "0s");
        check("2024-02-29T23:59:58.000000001Z", "1s");
        check("2024-03-01T00:00:01.5Z", "0s");
        check("2024-03-01T00:00:02Z", "<invalid>");
        check("1970-01-01T00:00:00Z", "54y");
        check("0001-01-02T00:00:00Z", "292y");
        check("0001-01-01T00:00:00Z", "<unknown>");
        assert_eq!(Moment::parse("1970-01-01T00:00:00Z"), Some(SystemTime::UNIX_EPOCH.into()));
        assert_eq!(since(None, now), "<unknown>");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        let check = |text: &str| assert_eq!(Moment::parse(text), None, "{text}");
        for text in [
            "",
            "now",
            "2024-02-30T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-00-01T00:00:00Z",
            "2024-01-00T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01 00:00:00Z",
            "2024-01-01T00:00:00",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00+0200",
            "2024-01-01T00:00:00+",
            "2024-01-01T00:00:00é",
            "+024-01-01T00:00:00Z",
        ] {
            check(text);
        }
    }
}
