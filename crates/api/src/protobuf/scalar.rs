//! Values that are no messages of the table: scalars, and the messages that JSON has other forms of.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::wire::{Reader, Wire};
use super::{Fault, MAX_DEPTH};
use crate::quantity::Quantity;
use crate::time::Timestamp;
use crate::{Value, json};

/// The seconds of years 0001 to 9999.
const TIME_RANGE: RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// A field's payload, to be read as the field's type wants it.
pub(super) struct Payload<'r, 'a> {
    pub(super) wire: Wire,
    pub(super) reader: &'r mut Reader<'a>,
}

impl<'a> Payload<'_, 'a> {
    fn expect(&self, wire: Wire) -> Result<(), Fault> {
        if self.wire == wire { Ok(()) } else { Err(Fault::WireType) }
    }

    pub(super) fn varint(self) -> Result<u64, Fault> {
        self.expect(Wire::Varint)?;
        self.reader.varint()
    }

    pub(super) fn fixed64(self) -> Result<u64, Fault> {
        self.expect(Wire::Fixed64)?;
        self.reader.fixed64()
    }

    pub(super) fn bytes(self) -> Result<&'a [u8], Fault> {
        self.expect(Wire::Bytes)?;
        self.reader.bytes()
    }

    pub(super) fn text(self) -> Result<&'a str, Fault> {
        self.expect(Wire::Bytes)?;
        self.reader.text()
    }
}

/// A varint as the 32-bit integer that it stands for.
#[expect(clippy::cast_possible_truncation, reason = "negative ones are written in 64 bits")]
pub(super) fn low_half(varint: u64) -> i32 {
    varint as i32
}

/// A number without a fraction is an integer, as it is in JSON.
pub(super) fn double(bits: u64) -> Result<Value, Fault> {
    let float = f64::from_bits(bits);
    if !float.is_finite() {
        return Err(Fault::NotFinite);
    }
    Ok(Value::Float(float).as_i64().map_or(Value::Float(float), Value::Int))
}

/// `Time` ignores fractions of seconds, as Kubernetes does; the zero time is written as an empty message.
pub(super) fn time(bytes: &[u8], micro: bool) -> Result<Value, Fault> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let (mut seconds, mut nanos) = (0, 0);
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.tag()? {
        let payload = Payload { wire, reader: &mut reader };
        match number {
            1 => seconds = payload.varint()?.cast_signed(),
            2 => nanos = low_half(payload.varint()?),
            _ => reader.skip(wire)?,
        }
    }
    if !TIME_RANGE.contains(&seconds) {
        return Err(Fault::Time);
    }
    if seconds == *TIME_RANGE.start() && (nanos == 0 || !micro) {
        return Ok(Value::Null);
    }
    let time = Timestamp::from_unix(seconds);
    if !micro {
        return Ok(time.to_string().into());
    }
    let fraction = u64::try_from(nanos).ok().filter(|n| *n < 1_000_000_000).ok_or(Fault::Time)?;
    Ok(time.after(Duration::from_nanos(fraction)).micro().to_string().into())
}

pub(super) fn quantity(bytes: &[u8]) -> Result<Value, Fault> {
    let mut text = "0";
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.tag()? {
        match number {
            1 => text = Payload { wire, reader: &mut reader }.text()?,
            _ => reader.skip(wire)?,
        }
    }
    let quantity: Quantity = text.parse().map_err(|_| Fault::Quantity(text.chars().take(64).collect()))?;
    Ok(quantity.to_string().into())
}

pub(super) fn int_or_string(bytes: &[u8]) -> Result<Value, Fault> {
    let (mut ty, mut int, mut text) = (0, 0, "");
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.tag()? {
        let payload = Payload { wire, reader: &mut reader };
        match number {
            1 => ty = payload.varint()?,
            2 => int = low_half(payload.varint()?),
            3 => text = payload.text()?,
            _ => reader.skip(wire)?,
        }
    }
    match ty {
        0 => Ok(int.into()),
        1 => Ok(text.into()),
        other => Err(Fault::IntOrString(other)),
    }
}

pub(super) fn raw(bytes: &[u8], depth: usize) -> Result<Value, Fault> {
    let mut text: &[u8] = &[];
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.tag()? {
        match number {
            1 => text = Payload { wire, reader: &mut reader }.bytes()?,
            _ => reader.skip(wire)?,
        }
    }
    if text.is_empty() {
        return Ok(Value::Null);
    }
    let value = json::from_slice(text).map_err(|e| Fault::Json(e.to_string()))?;
    check_depth(depth + depth_of(&value))?;
    Ok(value)
}

fn depth_of(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth_of).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth_of).max().unwrap_or(0),
        _ => 0,
    }
}

pub(super) fn check_depth(depth: usize) -> Result<(), Fault> {
    if depth > MAX_DEPTH { Err(Fault::Depth) } else { Ok(()) }
}
