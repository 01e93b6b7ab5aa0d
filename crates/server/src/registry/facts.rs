//! What is derived from a record and kept beside it: what selectors ask of it, and its protobuf form.

use std::sync::OnceLock;

use bytes::Bytes;
use xebec_api::protobuf::{self, Message};
use xebec_api::selector::{FieldSelector, Selector};
use xebec_api::time::Timestamp;
use xebec_api::{Key, Map, Status, Value, json, meta, selectable};
use xebec_store::{Record, Revision};

use super::convert;
use super::table::{Row, Served};

/// What is derived from one record, each part when it is first wanted. Rows that share their records derive the same.
#[derive(Debug, Default)]
struct Facts {
    selected: OnceLock<Selected>,
    message: OnceLock<Bytes>,
    life: OnceLock<Life>,
}

/// Which object a record is of, and whether it is to end. Of bytes that cannot be read: none.
#[derive(Debug, Default)]
pub struct Life {
    /// Its UID.
    pub uid: String,
    /// When it is to be gone, if it is being deleted.
    pub ends: Option<Timestamp>,
}

/// What authentication asks of a record.
#[must_use]
pub fn life(record: &Record) -> &Life {
    let facts: &Facts = record.memo(|_| Facts::default());
    facts.life.get_or_init(|| {
        let object = convert::stored_object(record).unwrap_or_default();
        let ends = object.str_at(&["metadata", "deletionTimestamp"]).and_then(Timestamp::parse);
        Life { uid: meta::uid(&object).to_owned(), ends }
    })
}

/// The protobuf message of a record's object in the version that is stored, without an envelope.
///
/// # Errors
/// 500: the stored bytes are damaged, or the kind has no protobuf form.
pub fn message(record: &Record, served: &Served) -> Result<Bytes, Status> {
    let facts: &Facts = record.memo(|_| Facts::default());
    if let Some(message) = facts.message.get() {
        return Ok(message.clone());
    }
    let message = Message::of_node(served.version().root)
        .ok_or_else(|| Status::internal(format_args!("{} has no protobuf form", served.row.kind_name())))?;
    let object = convert::stored_object(record)?;
    Ok(facts.message.get_or_init(|| protobuf::encode(&object, message).into()).clone())
}

/// Labels and selectable fields of one record.
#[derive(Debug)]
struct Selected {
    labels: Option<Map>,
    name: Key,
    namespace: Key,
    /// In the order of the row's selectable fields.
    fields: Vec<Option<Key>>,
    /// The state of the definition that made the row; another one may select by other fields. Built-in rows have none.
    of: Option<Revision>,
}

impl Selected {
    fn of<'a>(record: &'a Record, row: &Row) -> &'a Self {
        let facts: &Facts = record.memo(|_| Facts::default());
        facts.selected.get_or_init(|| Self::read(record, row))
    }

    fn read(record: &Record, row: &Row) -> Self {
        let mut object = json::from_slice(record.as_slice()).unwrap_or_default();
        let stored = row.def.storage_resource();
        Self {
            fields: row.selectable.iter().map(|field| selectable::value(&stored, field, &object)).collect(),
            name: meta::name(&object).into(),
            namespace: meta::namespace(&object).into(),
            of: state(row),
            labels: match object.remove_at(&["metadata", "labels"]) {
                Some(Value::Object(labels)) => Some(labels),
                _ => None,
            },
        }
    }

    fn field(&self, path: &str, row: &Row) -> Option<&str> {
        match path {
            "metadata.name" => Some(&self.name),
            "metadata.namespace" => Some(&self.namespace),
            _ => {
                let name = selectable::stored_name(&row.def, path);
                let at = row.selectable.iter().position(|field| *field == name)?;
                self.fields.get(at)?.as_deref()
            }
        }
    }
}

fn state(row: &Row) -> Option<Revision> {
    row.origin.as_ref().map(|(_, revision)| *revision)
}

/// Which objects a list or watch wants.
#[derive(Clone, Debug, Default)]
pub struct Want {
    /// By label.
    pub labels: Selector,
    /// By field.
    pub fields: FieldSelector,
}

impl Want {
    /// Whether the record is wanted.
    #[must_use]
    pub fn matches(&self, record: &Record, row: &Row) -> bool {
        if self.labels.is_empty() && self.fields.requirements.is_empty() {
            return true;
        }
        let (kept, own);
        kept = Selected::of(record, row);
        let selected = if kept.of == state(row) {
            kept
        } else {
            own = Selected::read(record, row);
            &own
        };
        self.labels.matches_labels(selected.labels.as_ref())
            && self.fields.matches(|path| selected.field(path, row))
    }
}
