//! Quantities (`500m`, `2Gi`, `1e3`) in thousandths, exact or rounded up.
//!
//! Private and small: to be replaced by the object model's own once the scheduler shares it.
//! Grammar: Kubernetes API, `resource.Quantity`.

/// The value of `text` in thousandths, rounded up; `None` when it is no quantity. Values beyond the range count as
/// the largest.
pub(crate) fn milli(text: &str) -> Option<i64> {
    let text = text.trim();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = digits.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(digits.len());
    let (number, suffix) = digits.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let scale = scale(suffix)?;
    let significant = format!("{whole}{fraction}");
    let mantissa: i128 = if significant.is_empty() { 0 } else { significant.parse().ok()? };
    let decimals = i32::try_from(fraction.len()).ok()?;
    let value = match scale {
        Scale::Ten(exponent) => times_ten_to(mantissa, exponent + 3 - decimals)?,
        Scale::Two(exponent) => {
            let scaled = mantissa.checked_mul(1000)?.checked_mul(1_i128.checked_shl(exponent)?);
            times_ten_to(scaled.unwrap_or(i128::MAX), -decimals)?
        }
    };
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    Some(if negative { -value } else { value })
}

/// The value of `text` in whole units, rounded up.
pub(crate) fn units(text: &str) -> Option<i64> {
    milli(text).map(|milli| milli.div_euclid(1000) + i64::from(milli.rem_euclid(1000) > 0))
}

enum Scale {
    Ten(i32),
    Two(u32),
}

fn scale(suffix: &str) -> Option<Scale> {
    Some(match suffix {
        "n" => Scale::Ten(-9),
        "u" => Scale::Ten(-6),
        "m" => Scale::Ten(-3),
        "" => Scale::Ten(0),
        "k" => Scale::Ten(3),
        "M" => Scale::Ten(6),
        "G" => Scale::Ten(9),
        "T" => Scale::Ten(12),
        "P" => Scale::Ten(15),
        "E" => Scale::Ten(18),
        "Ki" => Scale::Two(10),
        "Mi" => Scale::Two(20),
        "Gi" => Scale::Two(30),
        "Ti" => Scale::Two(40),
        "Pi" => Scale::Two(50),
        "Ei" => Scale::Two(60),
        _ => Scale::Ten(suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    })
}

/// Rounded up; saturates far above any quantity.
fn times_ten_to(mantissa: i128, exponent: i32) -> Option<i128> {
    let power = 10_i128.checked_pow(exponent.unsigned_abs());
    Some(match (exponent >= 0, power) {
        (_, None) if mantissa == 0 => 0,
        (true, Some(power)) => mantissa.saturating_mul(power),
        (true, None) => i128::MAX,
        (false, Some(power)) => mantissa.div_euclid(power) + i128::from(mantissa.rem_euclid(power) > 0),
        // Less than the smallest part still counts as one.
        (false, None) => 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_form() {
        let check = |text: &str, expected: Option<i64>| assert_eq!(milli(text), expected, "{text:?}");
        check("1", Some(1000));
        check("500m", Some(500));
        check("0.1", Some(100));
        check("1.5", Some(1500));
        check(".5", Some(500));
        check("2.", Some(2000));
        check("1k", Some(1_000_000));
        check("1Ki", Some(1_024_000));
        check("1.5Gi", Some(1_610_612_736_000));
        check("1e3", Some(1_000_000));
        check("1E3", Some(1_000_000));
        check("1E", Some(i64::MAX));
        check("25e-1", Some(2500));
        check("1n", Some(1));
        check("1500u", Some(2));
        check("-1", Some(-1000));
        check("+1", Some(1000));
        check("0", Some(0));
        check("100Ei", Some(i64::MAX));
        for bad in ["", "m", "1x", "1.2.3", "--1", "1 Gi", "Ki", "1ei", "."] {
            check(bad, None);
        }
        assert_eq!((units("1500m"), units("2Gi"), units("x")), (Some(2), Some(2 << 30), None));
    }
}
