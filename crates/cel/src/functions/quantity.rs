//! `quantity('1.5Gi')` and what can be done with it (upstream's library `kubernetes.quantity`).

use std::fmt;

use super::{Args, Fun, Outcome};
use crate::error::{EvalError, fail, no_overload};
use crate::opaque::Opaque;
use crate::value::Value;

/// An amount in units of 10⁻⁹, as quantities are; smaller fractions round away from zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity(i128);

const NANOS: i128 = 1_000_000_000;
/// Larger amounts are all the same, and no integer.
const CAP: i128 = (i64::MAX as i128 + 1) * NANOS;
const FORMAT: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
const SUFFIX: &str = "unable to parse quantity's suffix";

impl fmt::Debug for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "quantity({}.{:09})", self.0 / NANOS, (self.0 % NANOS).abs())
    }
}

impl Quantity {
    fn capped(nanos: i128) -> Self {
        Self(nanos.clamp(-CAP, CAP))
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err("quantities must not be empty");
        }
        let (negative, rest) = match text.strip_prefix(['+', '-']) {
            Some(rest) => (text.starts_with('-'), rest),
            None => (false, text),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
            return Err(FORMAT);
        }
        let scale = Scale::parse(suffix)?;
        let nanos = scale.nanos(whole, fraction);
        Ok(Self::capped(if negative { -nanos } else { nanos }))
    }

    fn as_int(self) -> Option<i64> {
        (self.0 % NANOS == 0).then(|| i64::try_from(self.0 / NANOS).ok()).flatten()
    }
}

/// What a suffix multiplies by.
enum Scale {
    /// 10 to this.
    Ten(i32),
    /// 2 to this.
    Two(u32),
}

impl Scale {
    fn parse(suffix: &str) -> Result<Self, &'static str> {
        Ok(match suffix {
            "" => Self::Ten(0),
            "n" => Self::Ten(-9),
            "u" => Self::Ten(-6),
            "m" => Self::Ten(-3),
            "k" => Self::Ten(3),
            "M" => Self::Ten(6),
            "G" => Self::Ten(9),
            "T" => Self::Ten(12),
            "P" => Self::Ten(15),
            "E" => Self::Ten(18),
            "Ki" => Self::Two(10),
            "Mi" => Self::Two(20),
            "Gi" => Self::Two(30),
            "Ti" => Self::Two(40),
            "Pi" => Self::Two(50),
            "Ei" => Self::Two(60),
            _ => {
                if !suffix.chars().all(|c| c.is_ascii_digit() || "eEinumkKMGTP+-".contains(c)) {
                    return Err(FORMAT);
                }
                let power = suffix.strip_prefix(['e', 'E']).ok_or(SUFFIX)?;
                Self::Ten(power.parse::<i32>().map_err(|_| SUFFIX)?)
            }
        })
    }

    /// Units of 10⁻⁹, rounded up, at most a little more than the cap.
    fn nanos(&self, whole: &str, fraction: &str) -> i128 {
        let (power, factor) = match self {
            Self::Ten(power) => (*power, 1),
            Self::Two(power) => (0, 1_i128 << power),
        };
        let shown = format!("{whole}{fraction}");
        let mut value: i128 = 0;
        let mut cut = false;
        // 24 digits and a factor of 2^60 fit; more digits are below what is kept, or above the cap.
        let kept = shown.trim_start_matches('0');
        for (index, digit) in kept.bytes().enumerate() {
            if index < 18 {
                value = value * 10 + i128::from(digit - b'0');
            } else {
                cut |= digit != b'0';
            }
        }
        let dropped = i64::try_from(kept.len().saturating_sub(18)).unwrap_or(i64::MAX);
        let fraction = i64::try_from(fraction.len()).unwrap_or(i64::MAX);
        let shift = 9 + i64::from(power) - fraction + dropped;

        let mut value = value * factor;
        if shift >= 0 {
            for _ in 0..shift.min(40) {
                value = value.saturating_mul(10).min(2 * CAP);
            }
            return value + i128::from(cut);
        }
        for _ in 0..(-shift).min(60) {
            cut |= value % 10 != 0;
            value /= 10;
        }
        value + i128::from(cut)
    }
}

pub(super) fn lookup(name: &str) -> Option<Fun> {
    Some(match name {
        "quantity" => quantity,
        "isQuantity" => is_quantity,
        "sign" => sign,
        "asInteger" => as_integer,
        "isInteger" => is_integer,
        "asApproximateFloat" => as_float,
        "add" => add,
        "sub" => sub,
        _ => return None,
    })
}

fn quantity<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    match Quantity::parse(args.str(0)?) {
        Ok(quantity) => Ok(Value::Opaque(Opaque::Quantity(quantity))),
        Err(message) => fail(message),
    }
}

fn is_quantity<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    Ok(Value::Bool(Quantity::parse(args.str(0)?).is_ok()))
}

fn receiver(args: &Args<'_, '_>, index: usize) -> Result<Quantity, EvalError> {
    match args.get(index) {
        Value::Opaque(Opaque::Quantity(quantity)) => Ok(*quantity),
        _ => no_overload(),
    }
}

fn sign<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    Ok(Value::Int(i64::try_from(receiver(args, 0)?.0.signum()).unwrap_or(0)))
}

fn as_integer<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    match receiver(args, 0)?.as_int() {
        Some(value) => Ok(Value::Int(value)),
        None => fail("cannot convert value to integer"),
    }
}

fn is_integer<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    Ok(Value::Bool(receiver(args, 0)?.as_int().is_some()))
}

#[expect(clippy::cast_precision_loss, reason = "an approximation is asked for")]
fn as_float<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let Quantity(nanos) = receiver(args, 0)?;
    let value = if nanos % NANOS == 0 { (nanos / NANOS) as f64 } else { nanos as f64 / NANOS as f64 };
    Ok(Value::Double(value))
}

fn operand(args: &Args<'_, '_>) -> Result<i128, EvalError> {
    match args.get(1) {
        Value::Int(value) => Ok(i128::from(*value) * NANOS),
        _ => Ok(receiver(args, 1)?.0),
    }
}

fn add<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let sum = receiver(args, 0)?.0 + operand(args)?;
    Ok(Value::Opaque(Opaque::Quantity(Quantity::capped(sum))))
}

fn sub<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let difference = receiver(args, 0)?.0 - operand(args)?;
    Ok(Value::Opaque(Opaque::Quantity(Quantity::capped(difference))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_exact() {
        let check = |text: &str, want: Result<i128, &str>| {
            assert_eq!(Quantity::parse(text).map(|q| q.0), want, "{text}");
        };
        check("1", Ok(NANOS));
        check("-1.5", Ok(-1_500_000_000));
        check("1Ki", Ok(1024 * NANOS));
        check("0.5Gi", Ok((1 << 29) * NANOS));
        check("100m", Ok(100_000_000));
        check("1e3", Ok(1_000 * NANOS));
        check("1E", Ok(1_000_000_000_000_000_000 * NANOS));
        check("1E2", Ok(100 * NANOS));
        check("0.1n", Ok(1));
        check("-0.1n", Ok(-1));
        check("100E", Ok(CAP));
        check("1e-100", Ok(1));
        check("0000000000000000000000000000001", Ok(NANOS));
        check("12345678901234567890123", Ok(CAP));
        check("0.0000000000000000000000000000", Ok(0));
        check("", Err("quantities must not be empty"));
        check("1.2.3", Err(FORMAT));
        check("1x", Err(FORMAT));
        check("1Kim", Err(SUFFIX));
        check(".", Err(FORMAT));
        check("1e", Err(SUFFIX));
    }
}
