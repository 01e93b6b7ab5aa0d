//! What stands around messages: the envelope of an object, a list put together from its items, a watch's frames.
//!
//! ```text
//!   object  k8s\0 Unknown { typeMeta { apiVersion, kind }, raw: message, contentEncoding: "", contentType: "" }
//!   list    the same, its message being { metadata = 1, items = 2 … }
//!   frame   length (4 bytes, big-endian) WatchEvent { type, object { raw: object } }
//! ```

use super::decode::decode;
use super::encode::put_message;
use super::wire::{Reader, Wire, Writer};
use super::{DecodeError, Fault, Message};
use crate::Value;

const MAGIC: &[u8; 4] = b"k8s\0";
/// The two last fields of the envelope, both empty.
const TAIL: [u8; 4] = [0x1a, 0, 0x22, 0];
/// The content type of what is in an envelope.
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// An object's message, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// `apps/v1`; may be empty.
    pub api_version: &'a str,
    /// `Deployment`; may be empty.
    pub kind: &'a str,
    /// The message.
    pub raw: &'a [u8],
}

/// Opens an envelope.
///
/// # Errors
/// Bytes that are no envelope, or one of something other than a plain message.
pub fn open(bytes: &[u8]) -> Result<Envelope<'_>, DecodeError> {
    let mut reader = Reader::new(bytes.strip_prefix(MAGIC).ok_or(Fault::Magic)?);
    let mut envelope = Envelope { api_version: "", kind: "", raw: &[] };
    while let Some((number, wire)) = reader.tag()? {
        if !(1..=4).contains(&number) {
            reader.skip(wire)?;
            continue;
        }
        if wire != Wire::Bytes {
            return Err(Fault::WireType.into());
        }
        match number {
            1 => (envelope.api_version, envelope.kind) = type_meta(reader.bytes()?)?,
            2 => envelope.raw = reader.bytes()?,
            _ => match reader.text()? {
                "" => {}
                PROTOBUF if number == 4 => {}
                other => return Err(Fault::Content(other.chars().take(64).collect()).into()),
            },
        }
    }
    Ok(envelope)
}

fn type_meta(bytes: &[u8]) -> Result<(&str, &str), Fault> {
    let (mut api_version, mut kind) = ("", "");
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.tag()? {
        match (number, wire) {
            (1, Wire::Bytes) => api_version = reader.text()?,
            (2, Wire::Bytes) => kind = reader.text()?,
            (1 | 2, _) => return Err(Fault::WireType),
            _ => reader.skip(wire)?,
        }
    }
    Ok((api_version, kind))
}

/// Reads an enveloped object of a built-in kind, with its `apiVersion` and `kind`.
///
/// # Errors
/// As [`open`] and [`decode`]; a kind that has no protobuf form.
pub fn decode_object(bytes: &[u8]) -> Result<Value, DecodeError> {
    let Envelope { api_version, kind, raw } = open(bytes)?;
    let message = Message::of(api_version, kind)
        .ok_or_else(|| Fault::Kind { api_version: api_version.to_owned(), kind: kind.to_owned() })?;
    let mut object = decode(raw, message)?;
    object.set(&["apiVersion"], api_version);
    object.set(&["kind"], kind);
    Ok(object)
}

/// Writes an object of a built-in kind with its envelope. `None` if its kind has no protobuf form.
#[must_use]
pub fn encode_object(object: &Value) -> Option<Vec<u8>> {
    let (api_version, kind) = (object.str_at(&["apiVersion"])?, object.str_at(&["kind"])?);
    let message = Message::of(api_version, kind)?;
    let mut writer = Writer::new(1024);
    writer.put(&TAIL);
    let before = writer.len();
    put_message(&mut writer, message.0, object.as_object());
    put_head(&mut writer, api_version, kind, before);
    Some(writer.into_vec())
}

/// Puts a message into its envelope.
#[must_use]
pub fn seal(api_version: &str, kind: &str, message: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new(message.len() + api_version.len() + kind.len() + 64);
    writer.put(&TAIL);
    let before = writer.len();
    writer.put(message);
    put_head(&mut writer, api_version, kind, before);
    writer.into_vec()
}

/// Writes what stands before the message that was written since there were `before` bytes.
fn put_head(writer: &mut Writer, api_version: &str, kind: &str, before: usize) {
    writer.close(2, before);
    put_type(writer, api_version, kind);
}

fn put_type(writer: &mut Writer, api_version: &str, kind: &str) {
    let before = writer.len();
    writer.put_bytes(2, kind.as_bytes());
    writer.put_bytes(1, api_version.as_bytes());
    writer.close(1, before);
    writer.put(MAGIC);
}

/// A watch's frame: what happened to an object, which is in its envelope.
///
/// # Panics
/// The object has 4 GiB or more, which the limits on objects exclude.
#[must_use]
pub fn frame(change: &str, object: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new(object.len() + change.len() + 32);
    writer.put(object);
    writer.close(1, 0);
    writer.close(2, 0);
    writer.put_bytes(1, change.as_bytes());
    let len = u32::try_from(writer.len()).expect("an object is smaller than 4 GiB");
    writer.put(&len.to_be_bytes());
    writer.into_vec()
}

/// A list that is put together from the messages of its items: its head, then each item's head and message, then its
/// tail. The head tells the length of the whole, so the lengths of all items must be known first.
#[derive(Debug)]
pub struct List;

impl List {
    /// What stands before the items. `metadata` is a `ListMeta`; `items` are the lengths of the items' messages.
    #[must_use]
    pub fn head(
        api_version: &str,
        kind: &str,
        metadata: &Value,
        items: impl Iterator<Item = usize>,
    ) -> Vec<u8> {
        let total: usize = items.map(|len| Self::item(len).len() + len).sum();
        let mut writer = Writer::new(256);
        if let Some(message) = crate::builtin::definition(LIST_META).and_then(Message::of_node) {
            put_message(&mut writer, message.0, metadata.as_object());
        }
        writer.close(1, 0);
        let len = writer.len() + total;
        writer.put_varint(len as u64);
        writer.put_tag(2, Wire::Bytes);
        put_type(&mut writer, api_version, kind);
        writer.into_vec()
    }

    /// What stands before an item whose message has `len` bytes.
    #[must_use]
    pub fn item(len: usize) -> Vec<u8> {
        let mut writer = Writer::new(16);
        writer.put_varint(len as u64);
        writer.put_tag(2, Wire::Bytes);
        writer.into_vec()
    }

    /// What stands after the items.
    #[must_use]
    pub const fn tail() -> [u8; 4] {
        TAIL
    }
}

const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
