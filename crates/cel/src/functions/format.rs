//! `'%s is %d'.format([a, b])`: cel-go's `string.format` of version 2 of its strings, in the locale `en_US`.

use super::{Args, Outcome, convert};
use crate::error::{EvalError, fail};
use crate::limits::{MAX_MADE, MAX_PRECISION};
use crate::value::{List, Map, Value};

/// A clause of a format string.
pub(crate) enum Clause {
    /// Text that stands for itself.
    Text(String),
    /// A place for an argument.
    Verb(Verb),
}

/// How an argument is to be shown.
#[derive(Clone, Copy)]
pub(crate) enum Verb {
    String,
    Decimal,
    Fixed(Option<usize>),
    Scientific(Option<usize>),
    Binary,
    Hex,
    UpperHex,
    Octal,
}

/// Splits a format string. `has` says whether there is an argument at an index, which is looked at before the clause is.
pub(crate) fn clauses(text: &str, has: impl Fn(usize) -> bool) -> Result<Vec<Clause>, String> {
    let mut found = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    let mut index = 0;
    while let Some(at) = rest.find('%') {
        plain.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            plain.push('%');
            rest = after;
            continue;
        }
        if !has(index) {
            return Err(format!("index {index} out of range"));
        }
        if rest.is_empty() {
            return Err("unexpected end of string".to_owned());
        }
        index += 1;
        found.push(Clause::Text(std::mem::take(&mut plain)));
        let (verb, after) = verb(rest).map_err(|why| format!("could not parse formatting clause: {why}"))?;
        found.push(Clause::Verb(verb));
        rest = after;
    }
    plain.push_str(rest);
    found.push(Clause::Text(plain));
    Ok(found)
}

fn verb(text: &str) -> Result<(Verb, &str), String> {
    let mut rest = text;
    let mut precision = None;
    if let Some(after) = text.strip_prefix('.') {
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        let wrong = |why: &str| format!("error while parsing precision: {why}");
        if digits == after.len() {
            return Err(wrong("could not find end of precision specifier"));
        }
        let number: usize = after[..digits].parse().map_err(|_| {
            wrong(&format!(
                "error while converting precision to integer: strconv.Atoi: parsing \"{}\": invalid syntax",
                &after[..digits]
            ))
        })?;
        if number > MAX_PRECISION {
            return Err(wrong(&format!("precision {number} is more than {MAX_PRECISION}")));
        }
        precision = Some(number);
        rest = &after[digits..];
    }
    let mut chars = rest.chars();
    let made = match chars.next() {
        Some('s') => Verb::String,
        Some('d') => Verb::Decimal,
        Some('f') => Verb::Fixed(precision),
        Some('e') => Verb::Scientific(precision),
        Some('b') => Verb::Binary,
        Some('x') => Verb::Hex,
        Some('X') => Verb::UpperHex,
        Some('o') => Verb::Octal,
        other => {
            return Err(format!("unrecognized formatting clause \"{}\"", other.unwrap_or_default()));
        }
    };
    Ok((made, chars.as_str()))
}

impl Verb {
    /// What is said when an argument of this type cannot be shown so.
    pub(crate) fn refusal(self, type_name: &str) -> String {
        let only = match self {
            Self::String => {
                "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps"
            }
            Self::Decimal => "decimal clause can only be used on integers",
            Self::Fixed(_) => "fixed-point clause can only be used on doubles",
            Self::Scientific(_) => "scientific clause can only be used on doubles",
            Self::Binary => "only integers and bools can be formatted as binary",
            Self::Hex | Self::UpperHex => "only integers, byte buffers, and strings can be formatted as hex",
            Self::Octal => "octal clause can only be used on integers",
        };
        format!("{only}, was given {type_name}")
    }

    fn show(self, value: &Value<'_>, out: &mut Limited) -> Result<(), EvalError> {
        let text = match (self, value) {
            (Self::String, _) => return show_string(value, out, 0),
            (Self::Decimal, Value::Int(value)) => value.to_string(),
            (Self::Decimal, Value::Uint(value)) => value.to_string(),
            (Self::Fixed(precision), value) if is_double(value) => {
                grouped(double(value), precision.unwrap_or(6))
            }
            (Self::Scientific(precision), value) if is_double(value) => {
                scientific(double(value), precision.unwrap_or(6))
            }
            (Self::Binary, Value::Int(value)) => signed(*value, |value| format!("{value:b}")),
            (Self::Binary, Value::Uint(value)) => format!("{value:b}"),
            (Self::Binary, Value::Bool(value)) => u8::from(*value).to_string(),
            (Self::Hex, Value::Int(value)) => signed(*value, |value| format!("{value:x}")),
            (Self::Hex, Value::Uint(value)) => format!("{value:x}"),
            (Self::UpperHex, Value::Int(value)) => signed(*value, |value| format!("{value:X}")),
            (Self::UpperHex, Value::Uint(value)) => format!("{value:X}"),
            (Self::Hex | Self::UpperHex, Value::String(text)) => return out.hex(text.as_bytes(), self),
            (Self::Hex | Self::UpperHex, Value::Bytes(bytes)) => return out.hex(bytes, self),
            (Self::Octal, Value::Int(value)) => signed(*value, |value| format!("{value:o}")),
            (Self::Octal, Value::Uint(value)) => format!("{value:o}"),
            _ => return fail(format!("error during formatting: {}", self.refusal(value.type_name()))),
        };
        out.push(&text)
    }
}

/// Text that grows up to a limit.
struct Limited {
    text: String,
}

impl Limited {
    fn push(&mut self, more: &str) -> Result<(), EvalError> {
        if self.text.len() + more.len() > MAX_MADE {
            return fail(format!("format: the result would have more than {MAX_MADE} bytes"));
        }
        self.text.push_str(more);
        Ok(())
    }

    fn hex(&mut self, bytes: &[u8], verb: Verb) -> Result<(), EvalError> {
        for byte in bytes {
            let digits =
                if matches!(verb, Verb::Hex) { format!("{byte:02x}") } else { format!("{byte:02X}") };
            self.push(&digits)?;
        }
        Ok(())
    }
}

fn signed(value: i64, show: impl Fn(u64) -> String) -> String {
    let sign = if value < 0 { "-" } else { "" };
    format!("{sign}{}", show(value.unsigned_abs()))
}

fn is_double(value: &Value<'_>) -> bool {
    match value {
        Value::Double(_) => true,
        Value::String(text) => matches!(&**text, "NaN" | "Infinity" | "-Infinity"),
        _ => false,
    }
}

fn double(value: &Value<'_>) -> f64 {
    match value {
        Value::Double(value) => *value,
        Value::String(text) if &**text == "Infinity" => f64::INFINITY,
        Value::String(text) if &**text == "-Infinity" => f64::NEG_INFINITY,
        _ => f64::NAN,
    }
}

fn special(value: f64) -> Option<&'static str> {
    if value.is_nan() {
        Some("NaN")
    } else if value.is_infinite() {
        Some(if value > 0.0 { "∞" } else { "-∞" })
    } else {
        None
    }
}

/// With commas between thousands.
fn grouped(value: f64, precision: usize) -> String {
    if let Some(text) = special(value) {
        return text.to_owned();
    }
    let shown = format!("{value:.precision$}");
    let (sign, shown) = shown.strip_prefix('-').map_or(("", &*shown), |rest| ("-", rest));
    let (whole, fraction) = shown.split_at(shown.find('.').unwrap_or(shown.len()));
    let mut text = String::from(sign);
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text + fraction
}

fn scientific(value: f64, precision: usize) -> String {
    if let Some(text) = special(value) {
        return text.to_owned();
    }
    let shown = format!("{value:.precision$e}");
    let (digits, exponent) = shown.split_once('e').unwrap_or((&shown, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if exponent < 0 { '-' } else { '+' };
    let raised: String = format!("{:02}", exponent.abs())
        .chars()
        .map(|c| match c {
            '1' => '¹',
            '2' => '²',
            '3' => '³',
            '0' => '⁰',
            other => char::from_u32(0x2070 + other.to_digit(10).unwrap_or(0)).unwrap_or(other),
        })
        .collect();
    let sign = if sign == '-' { "⁻" } else { "" };
    format!("{digits}×10{sign}{raised}")
}

const MAX_NESTING: usize = 128;

fn show_string(value: &Value<'_>, out: &mut Limited, depth: usize) -> Result<(), EvalError> {
    match value {
        Value::List(list) => show_list(list, out, depth),
        Value::Map(map) => show_map(map, out, depth),
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => out.push(text),
            Err(_) => fail(
                "error during formatting: could not convert argument \"invalid UTF-8 in bytes, cannot convert to string\" to string",
            ),
        },
        _ => match convert::show(value) {
            Some(text) => out.push(&text),
            None => fail(format!("error during formatting: {}", Verb::String.refusal(value.type_name()))),
        },
    }
}

fn show_list(list: &List<'_>, out: &mut Limited, depth: usize) -> Result<(), EvalError> {
    out.push("[")?;
    for (index, element) in list.iter().enumerate() {
        if index > 0 {
            out.push(", ")?;
        }
        show_inner(&element?, out, depth + 1)?;
    }
    out.push("]")
}

fn show_map(map: &Map<'_>, out: &mut Limited, depth: usize) -> Result<(), EvalError> {
    let mut members = Vec::with_capacity(map.len());
    for key in map.keys() {
        let mut shown = Limited { text: String::new() };
        match &key {
            Value::String(_) | Value::Bool(_) | Value::Int(_) | Value::Uint(_) => {
                show_inner(&key, &mut shown, depth + 1)?;
            }
            other => {
                let name = other.type_name();
                return fail(format!(
                    "error during formatting: no formatting function for map key of type {name}"
                ));
            }
        }
        members.push((shown.text, map.find(&key)?.unwrap_or(Value::Null)));
    }
    members.sort_by(|(a, _), (b, _)| a.cmp(b));
    out.push("{")?;
    for (index, (key, value)) in members.iter().enumerate() {
        if index > 0 {
            out.push(", ")?;
        }
        out.push(key)?;
        out.push(":")?;
        show_inner(value, out, depth + 1)?;
    }
    out.push("}")
}

/// What stands within a list or a map: quoted, so that it can be told from what is around it.
fn show_inner(value: &Value<'_>, out: &mut Limited, depth: usize) -> Result<(), EvalError> {
    if depth > MAX_NESTING {
        return fail(format!("error during formatting: nested deeper than {MAX_NESTING}"));
    }
    match value {
        Value::String(text) => out.push(&quoted(text)),
        Value::Bytes(bytes) => out.push(&format!("b{}", quoted(&String::from_utf8_lossy(bytes)))),
        Value::Double(value) if value.is_nan() => out.push("\"NaN\""),
        Value::Double(value) if value.is_infinite() => {
            out.push(if *value > 0.0 { "\"+Inf\"" } else { "\"-Inf\"" })
        }
        Value::Double(value) => out.push(&format!("{value:.6}")),
        Value::Timestamp(at) => out.push(&format!("timestamp(\"{at}\")")),
        Value::Duration(nanos) => out.push(&format!("duration(\"{}\")", crate::time::show_duration(*nanos))),
        other => match other {
            Value::List(_)
            | Value::Map(_)
            | Value::Null
            | Value::Bool(_)
            | Value::Int(_)
            | Value::Uint(_)
            | Value::Type(_) => show_string(other, out, depth),
            _ => {
                let name = other.type_name();
                fail(format!("error during formatting: no formatting function for {name}"))
            }
        },
    }
}

/// As Go's `%q`.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' || c == '\u{7f}' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

pub(super) fn format<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let (text, list) = (args.str(0)?, args.list(1)?);
    args.meter.work(text.len())?;
    let clauses = clauses(text, |index| index < list.len()).or_else(fail)?;
    let mut out = Limited { text: String::new() };
    let mut index = 0;
    for clause in clauses {
        match clause {
            Clause::Text(text) => out.push(&text)?,
            Clause::Verb(verb) => {
                if let Some(value) = list.get(index)? {
                    verb.show(&value, &mut out)?;
                }
                index += 1;
            }
        }
    }
    args.meter.work(out.text.len())?;
    Ok(Value::from(out.text))
}
