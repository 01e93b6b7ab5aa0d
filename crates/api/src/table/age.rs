//! Ages as people read them: the short spelling of durations.

use crate::time::Timestamp;

/// How long ago `time` was at `now`: `5m12s`. `<unknown>` for no time and for text that is none.
#[must_use]
pub fn since(time: Option<&str>, now: Timestamp) -> String {
    // What stands for no time at all: midnight of the first of January of the year 1.
    const ZERO: Timestamp = Timestamp::from_unix(-62_135_596_800);
    match time.and_then(Timestamp::parse) {
        Some(time) if time != ZERO => between(time, now),
        _ => "<unknown>".to_owned(),
    }
}

/// The time from `start` to `end`, in whole seconds rounded towards zero.
pub(super) fn between(start: Timestamp, end: Timestamp) -> String {
    // Durations of Go end at 292 years; so do ages.
    const LIMIT: u64 = i64::MAX as u64 / 1_000_000_000;
    let seconds = |later: Timestamp, earlier: Timestamp| {
        i64::try_from(later.since(earlier).as_secs().min(LIMIT)).expect("the limit is far below 63 bits")
    };
    human(if end >= start { seconds(end, start) } else { -seconds(start, end) })
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
        let now = Timestamp::parse("2024-03-01T00:00:00Z").expect("a time");
        let check = |time: &str, want: &str| assert_eq!(since(Some(time), now), want, "{time}");
        check("2024-02-29T23:59:58Z", "2s");
        check("2024-02-28T00:00:00Z", "2d");
        check("2024-03-01T02:00:00+02:00", "0s");
        check("2024-02-29T19:00:00-05:00", "0s");
        check("2024-02-29T23:59:58.000001Z", "1s");
        check("2024-03-01T00:00:01.5Z", "0s");
        check("2024-03-01T00:00:02Z", "<invalid>");
        check("1970-01-01T00:00:00Z", "54y");
        check("0001-01-02T00:00:00Z", "292y");
        check("0001-01-01T00:00:00Z", "<unknown>");
        assert_eq!(since(None, now), "<unknown>");
        assert_eq!(since(Some("yesterday"), now), "<unknown>");
    }
}
