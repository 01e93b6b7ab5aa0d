//! The vocabulary of the generated table of messages: constructors that the compiler evaluates, so that the table is
//! data in read-only memory.

use crate::generated::protobuf::{BY_NAME, FIELDS, MESSAGES};

/// A message.
#[derive(Debug)]
pub(crate) struct Row {
    /// The node of its definition in the arena of types; 0 if it has none.
    pub(crate) node: u16,
    start: u16,
    len: u8,
    /// Bits of the fields that JSON shows also when the message does not have them.
    pub(crate) shown: u64,
    /// Bits of the fields that are maps.
    pub(crate) maps: u64,
}

/// A message's field.
#[derive(Debug)]
pub(crate) struct Field {
    /// Its JSON name.
    pub(crate) name: &'static str,
    pub(crate) number: u16,
    pub(crate) shape: Shape,
    pub(crate) kind: Kind,
    pub(crate) presence: Presence,
}

/// How often a field comes, and how it stands in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// At most once.
    One,
    /// Once per element of an array.
    List,
    /// Once per member of an object, as a message of key and value.
    Map,
    /// Once; its fields are members of the object around it.
    Inline,
}

/// What a field, an element or a map's value holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A string.
    Text,
    /// Bytes, base64 in JSON.
    Bytes,
    /// A varint.
    Int32,
    /// A varint.
    Int64,
    /// A varint.
    Bool,
    /// Eight bytes.
    Double,
    /// A message of seconds and nanoseconds, which are ignored.
    Time,
    /// A message of seconds and nanoseconds.
    MicroTime,
    /// A message of a string.
    Quantity,
    /// A message of type, integer and string.
    IntOrString,
    /// A message of bytes that are JSON.
    Raw,
    /// A message of strings: an array of strings in JSON.
    Texts,
    /// `JSONSchemaPropsOrArray`.
    SchemaOrArray,
    /// `JSONSchemaPropsOrBool`.
    SchemaOrBool,
    /// `JSONSchemaPropsOrStringArray`.
    SchemaOrTexts,
    /// A message of this table.
    Message(u16),
}

/// What Go's type says of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// A pointer: it may be absent, and what it points to may be zero.
    Optional,
    /// A value whose zero JSON shows.
    Kept,
    /// A value whose zero JSON leaves out.
    Dropped,
}

/// A message.
pub(crate) const fn m(node: u16, (start, len): (u16, u8), shown: u64, maps: u64) -> Row {
    Row { node, start, len, shown, maps }
}

/// A field.
pub(crate) const fn f(
    number: u16,
    name: &'static str,
    shape: Shape,
    kind: Kind,
    presence: Presence,
) -> Field {
    Field { name, number, shape, kind, presence }
}

/// The message with this number.
pub(crate) fn row(message: u16) -> &'static Row {
    &MESSAGES[usize::from(message)]
}

impl Row {
    /// The fields, sorted by number; at most 64.
    pub(crate) fn fields(&self) -> &'static [Field] {
        &FIELDS[self.range()]
    }

    /// The places of the fields in [`Row::fields`], in the order of their names.
    pub(crate) fn by_name(&self) -> impl Iterator<Item = usize> {
        BY_NAME[self.range()].iter().map(|place| usize::from(*place))
    }

    /// The field of this JSON name.
    pub(crate) fn field(&self, name: &str) -> Option<&'static Field> {
        let (fields, places) = (self.fields(), &BY_NAME[self.range()]);
        let found = places.binary_search_by(|place| fields[usize::from(*place)].name.cmp(name)).ok()?;
        Some(&fields[usize::from(places[found])])
    }

    fn range(&self) -> std::ops::Range<usize> {
        let start = usize::from(self.start);
        start..start + usize::from(self.len)
    }
}
