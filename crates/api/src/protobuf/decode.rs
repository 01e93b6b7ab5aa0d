//! From a message to the tree that Go's JSON has of it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::scalar::{Payload, check_depth, double, int_or_string, low_half, quantity, raw, time};
use super::table::{Field, Kind, Presence, Row, Shape, row};
use super::wire::{Reader, Wire};
use super::{DecodeError, Fault, Message};
use crate::generated::protobuf::SCHEMA;
use crate::{Key, Map, Value};

/// How deep a tree may be: as deep as JSON that is read may be, since that is how it is stored.
pub const MAX_DEPTH: usize = 127;
/// How many values a message may make besides one for each two of its bytes.
const SPARE_VALUES: usize = 1024;

/// Reads a message.
///
/// The tree has no `apiVersion` and `kind` of its own: they stand in the [envelope](super::open).
///
/// # Errors
/// Bytes that are no such message, with the path of the field at fault; a limit of this module.
pub fn decode(bytes: &[u8], message: Message) -> Result<Value, DecodeError> {
    let limit = bytes.len() / 2 + SPARE_VALUES;
    Decoder { left: limit, limit }.object(bytes, message.0, 1).map(Value::Object)
}

type Entries = Vec<(Key, Value)>;

struct Decoder {
    /// How many values may still be made.
    left: usize,
    limit: usize,
}

impl Decoder {
    fn spend(&mut self) -> Result<(), Fault> {
        self.left = self.left.checked_sub(1).ok_or(Fault::Values { limit: self.limit })?;
        Ok(())
    }

    fn object(&mut self, bytes: &[u8], row: &'static Row, depth: usize) -> Result<Map, DecodeError> {
        check_depth(depth)?;
        let mut entries = Entries::with_capacity(row.fields().len().min(8));
        self.fields(bytes, row, depth, &mut entries)?;
        Ok(Map::from_entries(entries, |_| ()))
    }

    /// Reads a message's fields into `entries`, to which an embedded message adds its own.
    fn fields(
        &mut self,
        bytes: &[u8],
        row: &'static Row,
        depth: usize,
        entries: &mut Entries,
    ) -> Result<(), DecodeError> {
        let fields = row.fields();
        let mut reader = Reader::new(bytes);
        let mut seen = Seen::default();
        let mut next = 0;
        while let Some((number, wire)) = reader.tag()? {
            let Some(index) = find(fields, number, next) else {
                reader.skip(wire)?;
                continue;
            };
            next = index + 1;
            let field = &fields[index];
            let again = seen.has(index);
            let payload = Payload { wire, reader: &mut reader };
            let result = match field.shape {
                Shape::One | Shape::Inline if again => Err(Fault::Twice.into()),
                Shape::One => self.one(field, payload, depth, entries),
                Shape::Inline => self.inline(field, payload, depth, entries),
                Shape::List | Shape::Map => {
                    if !again {
                        self.spend()?;
                        seen.slots[index] =
                            u8::try_from(entries.len()).expect("an object has fewer than 256 fields");
                        entries.push((Key::const_new(field.name), Value::Array(Vec::new())));
                    }
                    self.repeated(field, payload, depth, &mut entries[usize::from(seen.slots[index])].1)
                }
            };
            result.map_err(|e| match field.shape {
                Shape::Inline => e,
                _ => e.within(format_args!("{}", field.name)),
            })?;
            seen.bits |= 1 << index;
        }
        self.finish(row, &seen, depth, entries)
    }

    fn one(
        &mut self,
        field: &Field,
        payload: Payload<'_, '_>,
        depth: usize,
        entries: &mut Entries,
    ) -> Result<(), DecodeError> {
        let value = self.value(field.kind, payload, depth)?;
        let hidden = value.is_null() || field.presence == Presence::Dropped && is_zero(&value);
        if !hidden {
            entries.push((Key::const_new(field.name), value));
        }
        Ok(())
    }

    fn inline(
        &mut self,
        field: &Field,
        payload: Payload<'_, '_>,
        depth: usize,
        entries: &mut Entries,
    ) -> Result<(), DecodeError> {
        match field.kind {
            Kind::Message(message) => self.fields(payload.bytes()?, row(message), depth, entries),
            _ => Err(Fault::WireType.into()),
        }
    }

    /// Adds to an array; a map is an array of keys and values until all are there.
    fn repeated(
        &mut self,
        field: &Field,
        payload: Payload<'_, '_>,
        depth: usize,
        array: &mut Value,
    ) -> Result<(), DecodeError> {
        let Value::Array(items) = array else { return Ok(()) };
        check_depth(depth + 1)?;
        if field.shape == Shape::Map {
            return self.entry(field.kind, payload.bytes()?, depth + 1, items);
        }
        let packed = matches!(field.kind, Kind::Int32 | Kind::Int64 | Kind::Bool | Kind::Double);
        if packed && payload.wire == Wire::Bytes {
            let wire = if field.kind == Kind::Double { Wire::Fixed64 } else { Wire::Varint };
            let mut reader = Reader::new(payload.reader.bytes()?);
            while !reader.is_empty() {
                items.push(self.value(field.kind, Payload { wire, reader: &mut reader }, depth + 1)?);
            }
            return Ok(());
        }
        let item = self
            .value(field.kind, payload, depth + 1)
            .map_err(|e| e.within(format_args!("[{}]", items.len())))?;
        items.push(item);
        Ok(())
    }

    /// A member of a map: its key, then its value.
    fn entry(
        &mut self,
        kind: Kind,
        bytes: &[u8],
        depth: usize,
        items: &mut Vec<Value>,
    ) -> Result<(), DecodeError> {
        let (mut key, mut value) = ("", None);
        let mut reader = Reader::new(bytes);
        while let Some((number, wire)) = reader.tag()? {
            let payload = Payload { wire, reader: &mut reader };
            match number {
                1 => key = payload.text()?,
                2 => {
                    value = Some(
                        self.value(kind, payload, depth).map_err(|e| e.within(format_args!("[{key}]")))?,
                    );
                }
                _ => reader.skip(wire)?,
            }
        }
        let value = match value {
            Some(value) => value,
            None => self.zero(kind, depth)?,
        };
        items.push(Value::from(key));
        items.push(value);
        Ok(())
    }

    /// One value. `null` is what JSON does not show: the zero time, nothing raw.
    fn value(&mut self, kind: Kind, payload: Payload<'_, '_>, depth: usize) -> Result<Value, DecodeError> {
        self.spend()?;
        let value = match kind {
            Kind::Text => payload.text()?.into(),
            Kind::Bytes => STANDARD.encode(payload.bytes()?).into(),
            Kind::Int32 => low_half(payload.varint()?).into(),
            Kind::Int64 => payload.varint()?.cast_signed().into(),
            Kind::Bool => (payload.varint()? != 0).into(),
            Kind::Double => double(payload.fixed64()?)?,
            Kind::Time => time(payload.bytes()?, false)?,
            Kind::MicroTime => time(payload.bytes()?, true)?,
            Kind::Quantity => quantity(payload.bytes()?)?,
            Kind::IntOrString => int_or_string(payload.bytes()?)?,
            Kind::Raw => raw(payload.bytes()?, depth)?,
            Kind::Texts => self.texts(payload.bytes()?, 1)?,
            Kind::SchemaOrArray => self.schema_or_array(payload.bytes()?, depth)?,
            Kind::SchemaOrBool => self.schema_or_bool(payload.bytes()?, depth)?,
            Kind::SchemaOrTexts => self.schema_or_texts(payload.bytes()?, depth)?,
            Kind::Message(message) => {
                Value::Object(self.object(payload.bytes()?, row(message), depth + 1)?)
            }
        };
        Ok(value)
    }

    /// The strings of field `number`.
    fn texts(&mut self, bytes: &[u8], number: u32) -> Result<Value, DecodeError> {
        let mut items = Vec::new();
        let mut reader = Reader::new(bytes);
        while let Some((found, wire)) = reader.tag()? {
            if found == number {
                self.spend()?;
                items.push(Payload { wire, reader: &mut reader }.text()?.into());
            } else {
                reader.skip(wire)?;
            }
        }
        Ok(Value::Array(items))
    }

    /// The schema in field `number`; of several the last.
    fn schema(&mut self, bytes: &[u8], number: u32, depth: usize) -> Result<Option<Value>, DecodeError> {
        let mut schema = None;
        let mut reader = Reader::new(bytes);
        while let Some((found, wire)) = reader.tag()? {
            if found == number {
                let payload = Payload { wire, reader: &mut reader };
                schema = Some(self.value(Kind::Message(SCHEMA), payload, depth)?);
            } else {
                reader.skip(wire)?;
            }
        }
        Ok(schema)
    }

    fn schema_or_array(&mut self, bytes: &[u8], depth: usize) -> Result<Value, DecodeError> {
        let mut items = Vec::new();
        let mut reader = Reader::new(bytes);
        while let Some((number, wire)) = reader.tag()? {
            if number == 2 {
                let payload = Payload { wire, reader: &mut reader };
                items.push(self.value(Kind::Message(SCHEMA), payload, depth + 1)?);
            } else {
                reader.skip(wire)?;
            }
        }
        if items.is_empty() {
            return Ok(self.schema(bytes, 1, depth)?.unwrap_or_default());
        }
        Ok(Value::Array(items))
    }

    fn schema_or_bool(&mut self, bytes: &[u8], depth: usize) -> Result<Value, DecodeError> {
        let mut allows = false;
        let mut reader = Reader::new(bytes);
        while let Some((number, wire)) = reader.tag()? {
            if number == 1 {
                allows = Payload { wire, reader: &mut reader }.varint()? != 0;
            } else {
                reader.skip(wire)?;
            }
        }
        Ok(self.schema(bytes, 2, depth)?.unwrap_or(Value::Bool(allows)))
    }

    fn schema_or_texts(&mut self, bytes: &[u8], depth: usize) -> Result<Value, DecodeError> {
        match self.texts(bytes, 2)? {
            Value::Array(texts) if texts.is_empty() => Ok(self.schema(bytes, 1, depth)?.unwrap_or_default()),
            texts => Ok(texts),
        }
    }

    /// Turns maps into objects, and adds what JSON shows of fields that did not come.
    fn finish(
        &mut self,
        row: &'static Row,
        seen: &Seen,
        depth: usize,
        entries: &mut Entries,
    ) -> Result<(), DecodeError> {
        for index in bits(row.maps & seen.bits) {
            let place = &mut entries[usize::from(seen.slots[index])].1;
            *place = Value::Object(members(place.take()));
        }
        for index in bits(row.shown & !seen.bits) {
            self.show(&row.fields()[index], depth, entries)?;
        }
        Ok(())
    }

    fn show(&mut self, field: &Field, depth: usize, entries: &mut Entries) -> Result<(), DecodeError> {
        let value = match (field.shape, field.kind) {
            (Shape::Inline, Kind::Message(message)) => {
                return self.finish(row(message), &Seen::default(), depth, entries);
            }
            (Shape::List, _) => Value::Array(Vec::new()),
            (Shape::Map, _) => Value::object(),
            (Shape::One | Shape::Inline, kind) => self.zero(kind, depth)?,
        };
        entries.push((Key::const_new(field.name), value));
        Ok(())
    }

    /// What JSON shows of a value that did not come.
    fn zero(&mut self, kind: Kind, depth: usize) -> Result<Value, DecodeError> {
        self.spend()?;
        Ok(match kind {
            Kind::Text | Kind::Bytes => "".into(),
            Kind::Int32 | Kind::Int64 | Kind::Double | Kind::IntOrString => 0.into(),
            Kind::Bool | Kind::SchemaOrBool => false.into(),
            Kind::Quantity => "0".into(),
            Kind::Texts => Value::Array(Vec::new()),
            Kind::Time | Kind::MicroTime | Kind::Raw | Kind::SchemaOrArray | Kind::SchemaOrTexts => {
                Value::Null
            }
            Kind::Message(message) => Value::Object(self.object(&[], row(message), depth + 1)?),
        })
    }
}

/// Which fields came, and where the repeated ones stand among the entries.
struct Seen {
    bits: u64,
    slots: [u8; 64],
}

impl Default for Seen {
    fn default() -> Self {
        Self { bits: 0, slots: [0; 64] }
    }
}

impl Seen {
    const fn has(&self, index: usize) -> bool {
        self.bits & 1 << index != 0
    }
}

fn bits(mut set: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (set != 0).then(|| set.trailing_zeros() as usize)?;
        set &= set - 1;
        Some(bit)
    })
}

/// The field with this number; fields mostly come in order, so that `next` is the likely one.
fn find(fields: &[Field], number: u32, next: usize) -> Option<usize> {
    let is = |field: &Field| u32::from(field.number) == number;
    match (fields.get(next), next.checked_sub(1).map(|last| &fields[last])) {
        (Some(field), _) if is(field) => Some(next),
        (_, Some(field)) if is(field) => Some(next - 1),
        _ => fields.binary_search_by_key(&number, |f| f.number.into()).ok(),
    }
}

/// An object out of an array of keys and values; of equal keys the last stands.
fn members(array: Value) -> Map {
    let Value::Array(items) = array else { return Map::new() };
    let mut entries = Vec::with_capacity(items.len() / 2);
    let mut items = items.into_iter();
    while let (Some(Value::String(key)), Some(value)) = (items.next(), items.next()) {
        entries.push((key, value));
    }
    Map::from_entries(entries, |_| ())
}

pub(super) fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Int(i) => *i == 0,
        Value::Float(f) => *f == 0.0,
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Object(_) => false,
    }
}
