//! Times of entries: RFC 3339 with seconds, as `metav1.Time` writes them.

use crate::Key;

/// Seconds since 1970 of an RFC 3339 time; fractions are cut off.
pub(super) fn seconds(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() < 20
        || !text.is_ascii()
        || bytes[4] != b'-'
        || bytes[7] != b'-'
        || bytes[13] != b':'
        || bytes[16] != b':'
    {
        return None;
    }
    if !matches!(bytes[10], b'T' | b't') {
        return None;
    }
    let number = |from: usize, to: usize, range: std::ops::RangeInclusive<i64>| -> Option<i64> {
        let digits = &text[from..to];
        let all_digits = digits.bytes().all(|b| b.is_ascii_digit());
        all_digits.then(|| digits.parse().ok())?.filter(|n| range.contains(n))
    };
    let days = days_from_civil(number(0, 4, 0..=9999)?, number(5, 7, 1..=12)?, number(8, 10, 1..=31)?)?;
    let time = number(11, 13, 0..=23)? * 3600 + number(14, 16, 0..=59)? * 60 + number(17, 19, 0..=60)?;
    let rest = text[19..]
        .strip_prefix('.')
        .map_or(&text[19..], |r| r.trim_start_matches(|c: char| c.is_ascii_digit()));
    let offset = match rest.as_bytes() {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let start = text.len() - 5;
            let away = number(start, start + 2, 0..=23)? * 3600 + number(start + 3, start + 5, 0..=59)? * 60;
            if *sign == b'+' { away } else { -away }
        }
        _ => return None,
    };
    Some(days * 86_400 + time - offset)
}

/// The time in UTC.
pub(super) fn text(seconds: i64) -> Key {
    let (days, time) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil_from_days(days);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    compact_str::format_compact!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Days since 1970 in the Gregorian calendar; years start in March, so that the leap day is the last.
fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    let shifted = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (shifted.div_euclid(400), shifted.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    // A day that the month does not have comes back as another one.
    (civil_from_days(days) == (year, month, day)).then_some(days)
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written_in_utc() {
        let check = |input: &str, want: Option<(i64, &str)>| {
            let got = seconds(input);
            assert_eq!(got, want.map(|w| w.0), "{input}");
            if let Some((at, utc)) = want {
                assert_eq!(text(at), utc);
            }
        };
        check("1970-01-01T00:00:00Z", Some((0, "1970-01-01T00:00:00Z")));
        check("2024-02-29T12:30:45Z", Some((1_709_209_845, "2024-02-29T12:30:45Z")));
        check("2024-02-29T12:30:45.123456+02:00", Some((1_709_202_645, "2024-02-29T10:30:45Z")));
        check("1999-12-31T23:59:59-00:30", Some((946_686_599, "2000-01-01T00:29:59Z")));
        check("1900-03-01T00:00:00Z", Some((-2_203_891_200, "1900-03-01T00:00:00Z")));
        for bad in [
            "",
            "2024-02-30T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-01-01 00:00:00Z",
            "2024-01-01T00:00:00",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:00:00+2:00",
            "2024-01-01T00:00:00+02:000",
            "+024-01-01T00:00:00Z",
            "2024-01-01T00:00:00é",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn every_day_comes_back() {
        for days in (-800_000..3_000_000).step_by(97) {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day), Some(days));
        }
    }
}
