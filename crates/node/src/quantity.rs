//! Amounts of resources, as far as the node needs them. The full grammar is checked by the API server.

/// Thousandths of a quantity's text; `None` if it is no quantity.
#[must_use]
pub(crate) fn millis(text: &str) -> Option<i128> {
    let end =
        text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '-' | '+'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let negative = whole.starts_with('-');
    let digits = format!("{}{fraction}", whole.trim_start_matches(['-', '+']));
    let value: i128 = digits.parse().ok()?;
    let value = if negative { -value } else { value };
    let scale: i128 = match suffix {
        "m" => 1,
        "" => 1000,
        "k" => 1_000_000,
        "M" => 1_000_000_000,
        "G" => 1_000_000_000_000,
        "T" => 1_000_000_000_000_000,
        "P" => 1_000_000_000_000_000_000,
        "E" => 1_000_000_000_000_000_000_000,
        "Ki" => 1000 << 10,
        "Mi" => 1000 << 20,
        "Gi" => 1000 << 30,
        "Ti" => 1000 << 40,
        "Pi" => 1000 << 50,
        "Ei" => 1000 << 60,
        other => {
            let exponent = other.strip_prefix(['e', 'E'])?.parse().ok()?;
            10_i128.checked_pow(exponent)?.checked_mul(1000)?
        }
    };
    let divisor = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    Some(value.checked_mul(scale)?.div_euclid(divisor))
}

/// Whole units of a quantity's text, rounded up.
#[must_use]
pub(crate) fn units(text: &str) -> Option<u64> {
    u64::try_from(millis(text)?.max(0)).ok().map(|m| m.div_ceil(1000))
}

#[cfg(test)]
mod tests {
    #[test]
    fn amounts() {
        for (text, want) in [
            ("1", 1000),
            ("500m", 500),
            ("0.5", 500),
            ("1Ki", 1_024_000),
            ("2G", 2_000_000_000_000),
            ("1e3", 1_000_000),
            ("1E", 1_000_000_000_000_000_000_000),
            ("1Ei", 1_152_921_504_606_846_976_000),
            ("-1", -1000),
        ] {
            assert_eq!(super::millis(text), Some(want), "{text}");
        }
        assert_eq!(super::millis("x"), None);
        assert_eq!(super::millis("1e38"), None);
        assert_eq!(super::units("1500m"), Some(2));
    }
}
