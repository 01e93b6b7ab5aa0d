//! Amounts of a resource: `500m`, `1Gi`, `1e3` (`resource.Quantity` of apimachinery).
//!
//! Exact in units of 10⁻⁹; smaller fractions round away from zero. The canonical text keeps the suffix family that the
//! amount was written in, no precision is lost and no fractional digits are left.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

const NANOS: i128 = 1_000_000_000;
/// Amounts are capped at ±2^63 − 1 whole units, as upstream caps them.
const CAP: i128 = i64::MAX as i128 * NANOS;
/// Longest text that is read, in bytes.
const MAX_TEXT: usize = 128;

const DECIMAL: [(&str, i128); 10] = [
    ("E", 1_000_000_000_000_000_000 * NANOS),
    ("P", 1_000_000_000_000_000 * NANOS),
    ("T", 1_000_000_000_000 * NANOS),
    ("G", 1_000_000_000 * NANOS),
    ("M", 1_000_000 * NANOS),
    ("k", 1_000 * NANOS),
    ("", NANOS),
    ("m", 1_000_000),
    ("u", 1_000),
    ("n", 1),
];
const BINARY: [(&str, i128); 6] = [
    ("Ei", (1 << 60) * NANOS),
    ("Pi", (1 << 50) * NANOS),
    ("Ti", (1 << 40) * NANOS),
    ("Gi", (1 << 30) * NANOS),
    ("Mi", (1 << 20) * NANOS),
    ("Ki", (1 << 10) * NANOS),
];

/// The suffix family an amount was written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Decimal,
    Binary,
    Exponent,
}

/// An amount. Compared by its number alone: `1Ki` equals `1024`.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// A text that is no quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
pub struct ParseError;

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self { nanos: 0, format: Format::Decimal };

    /// A whole number.
    #[must_use]
    pub fn from_units(units: i64) -> Self {
        Self { nanos: i128::from(units) * NANOS, format: Format::Decimal }
    }

    /// A number of thousandths, as CPU is counted.
    #[must_use]
    pub fn from_millis(millis: i64) -> Self {
        Self { nanos: i128::from(millis) * 1_000_000, format: Format::Decimal }
    }

    /// Whole units, rounded up.
    #[must_use]
    pub fn units(self) -> i64 {
        ceil_div(self.nanos, NANOS)
    }

    /// Thousandths, rounded up.
    #[must_use]
    pub fn millis(self) -> i64 {
        ceil_div(self.nanos, 1_000_000)
    }

    /// −1, 0 or 1.
    #[must_use]
    pub fn signum(self) -> i32 {
        match self.nanos.cmp(&0) {
            Ordering::Less => -1,
            Ordering::Equal => 0,
            Ordering::Greater => 1,
        }
    }

    /// The sum, in this amount's suffix family (or the other's, if this is zero).
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let format = if self.nanos == 0 { other.format } else { self.format };
        Self { nanos: (self.nanos + other.nanos).clamp(-CAP, CAP), format }
    }

    /// The difference, in this amount's suffix family (or the other's, if this is zero).
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        self.plus(Self { nanos: -other.nanos, format: other.format })
    }

    fn write_scaled(self, f: &mut fmt::Formatter<'_>, scales: &[(&str, i128)]) -> fmt::Result {
        let (suffix, scale) =
            scales.iter().find(|(_, scale)| self.nanos % scale == 0).copied().unwrap_or(("n", 1));
        write!(f, "{}{suffix}", self.nanos / scale)
    }

    fn write_exponent(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut exponent = -9;
        let mut mantissa = self.nanos;
        while mantissa != 0 && mantissa % 1000 == 0 {
            mantissa /= 1000;
            exponent += 3;
        }
        if exponent == 0 || mantissa == 0 {
            write!(f, "{mantissa}")
        } else {
            write!(f, "{mantissa}e{exponent}")
        }
    }
}

fn ceil_div(value: i128, by: i128) -> i64 {
    let up = i128::from(value % by > 0);
    i64::try_from(value / by + up).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

impl fmt::Display for Quantity {
    /// The canonical text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.format {
            _ if self.nanos == 0 => f.write_str("0"),
            Format::Exponent => self.write_exponent(f),
            Format::Binary if self.nanos.abs() >= 1024 * NANOS && self.nanos % NANOS == 0 => {
                let whole = [("", NANOS)];
                let scale = BINARY.iter().chain(&whole).find(|(_, s)| self.nanos % s == 0);
                let (suffix, scale) = scale.copied().unwrap_or(("", NANOS));
                write!(f, "{}{suffix}", self.nanos / scale)
            }
            Format::Binary | Format::Decimal => self.write_scaled(f, &DECIMAL),
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl FromStr for Quantity {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.len() > MAX_TEXT {
            return Err(ParseError);
        }
        let (negative, rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.len() + fraction.len() == 0 || fraction.contains('.') {
            return Err(ParseError);
        }
        let (format, scale) = parse_suffix(suffix)?;
        let nanos = scaled(whole, fraction, scale);
        Ok(Self { nanos: if negative { -nanos } else { nanos }, format })
    }
}

/// A scale of `numerator / denominator` nanos.
#[derive(Clone, Copy)]
struct Scale {
    numerator: i128,
    denominator_exp: u32,
}

fn parse_suffix(suffix: &str) -> Result<(Format, Scale), ParseError> {
    let exact = |format, numerator| Ok((format, Scale { numerator, denominator_exp: 0 }));
    if let Some((_, scale)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return exact(Format::Decimal, *scale);
    }
    if let Some((_, scale)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        return exact(Format::Binary, *scale);
    }
    let exponent = suffix.strip_prefix(['e', 'E']).ok_or(ParseError)?;
    let exponent: i32 = exponent.parse().map_err(|_| ParseError)?;
    let scale = match exponent.clamp(-64, 27) + 9 {
        up @ 0.. => Scale { numerator: 10_i128.pow(up.unsigned_abs()), denominator_exp: 0 },
        down => Scale { numerator: 1, denominator_exp: down.unsigned_abs() },
    };
    Ok((Format::Exponent, scale))
}

/// `whole.fraction` times the scale in nanos, rounded up, capped.
fn scaled(whole: &str, fraction: &str, scale: Scale) -> i128 {
    let mut total: i128 = 0;
    for digit in whole.bytes() {
        let product = i128::from(digit - b'0').saturating_mul(scale.numerator);
        total = total.saturating_mul(10).saturating_add(product).min(CAP.saturating_mul(1_000_000));
    }
    // Each further digit is worth a tenth of the one before; what falls below one nano is kept as "some remainder".
    let mut unit = scale.numerator;
    let mut carried: i128 = 0;
    let mut divisor: i128 = 1;
    let mut inexact = false;
    for digit in fraction.bytes() {
        let Some(next) = divisor.checked_mul(10).filter(|d| *d <= 10_i128.pow(9)) else {
            inexact |= digit != b'0';
            continue;
        };
        divisor = next;
        if unit.checked_mul(1000).is_some() {
            carried = carried
                .saturating_mul(10)
                .saturating_add(i128::from(digit - b'0').saturating_mul(scale.numerator));
        } else {
            unit /= 10;
            total = total.saturating_add(unit.saturating_mul(i128::from(digit - b'0')));
        }
    }
    total = total.saturating_add(carried / divisor);
    inexact |= carried % divisor != 0;
    if scale.denominator_exp > 0 {
        let by = 10_i128.checked_pow(scale.denominator_exp).unwrap_or(i128::MAX);
        inexact |= total % by != 0;
        total /= by;
    }
    total.saturating_add(i128::from(inexact)).min(CAP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_text() {
        let check = |text: &str, want: &str| {
            assert_eq!(text.parse::<Quantity>().expect(text).to_string(), want, "{text}");
        };
        check("0", "0");
        check("1000m", "1");
        check("1500m", "1500m");
        check("0.5", "500m");
        check(".5", "500m");
        check("5.", "5");
        check("1Gi", "1Gi");
        check("1024Mi", "1Gi");
        check("1.5Gi", "1536Mi");
        check("0.5Ki", "512");
        check("0.1Mi", "104857600m");
        check("1e3", "1e3");
        check("12e6", "12e6");
        check("1e-3", "1e-3");
        check("100000", "100k");
        check("1234567", "1234567");
        check("-1.5", "-1500m");
        check("+3k", "3k");
        check("1n", "1n");
        check("0.1n", "1n");
        check("9223372036854775807", "9223372036854775807");
        check("99999999999E", "9223372036854775807");
        check("100m", "100m");
        check("2500M", "2500M");
        check("1.0", "1");
    }

    #[test]
    fn numbers() {
        let parse = |text: &str| text.parse::<Quantity>().expect(text);
        assert_eq!(parse("250m").millis(), 250);
        assert_eq!(parse("1.0001").millis(), 1001);
        assert_eq!(parse("1Ki").units(), 1024);
        assert_eq!(parse("1Ki"), parse("1024"));
        assert!(parse("1Mi") > parse("1M"));
        assert_eq!(parse("1Gi").plus(parse("1Gi")).to_string(), "2Gi");
        assert_eq!(parse("1").minus(parse("250m")).to_string(), "750m");
        assert_eq!(Quantity::ZERO.plus(parse("64Mi")).to_string(), "64Mi");
        assert_eq!((parse("-1").signum(), parse("0").signum(), parse("2").signum()), (-1, 0, 1));
    }

    #[test]
    fn refuses_what_is_no_quantity() {
        for text in ["", "a", "1x", "1.2.3", "1 Gi", "--1", "1ki", "1e", "1e1.5", ".", "Gi", &"1".repeat(200)]
        {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
    }
}
