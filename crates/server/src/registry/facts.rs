//! What is derived from a record and kept beside it: what selectors ask of it, its protobuf form, and what a converter made of
//! it.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use bytes::Bytes;
use xebec_api::protobuf::{self, Message};
use xebec_api::resource::Text;
use xebec_api::selector::{FieldSelector, Selector};
use xebec_api::time::Timestamp;
use xebec_api::{Key, Map, Status, Value, json, meta, selectable};
use xebec_store::Record;

use super::conversion::{Converter, Hold, Ready};
use super::convert;
use super::table::{Row, Served};

/// What is derived from one record, each part when it is first wanted. Rows that share their records derive the same.
#[derive(Debug, Default)]
struct Facts {
    selected: OnceLock<Selected>,
    message: OnceLock<Bytes>,
    life: OnceLock<Life>,
    converted: OnceLock<Box<Mutex<Vec<Converted>>>>,
}

/// An object in another version.
#[derive(Debug)]
struct Converted {
    /// Who made it, which keeps nothing of them but their identity.
    by: Weak<Converter>,
    /// Which version it is, of the row's.
    version: usize,
    bytes: Bytes,
    _hold: Hold,
}

/// What a converter that is in force has made of a record, if it is kept.
#[must_use]
pub(crate) fn converted(record: &Record, by: &Arc<Converter>, version: usize) -> Option<Bytes> {
    let facts: &Facts = record.memo(|_| Facts::default());
    let all = facts.converted.get()?.lock().unwrap_or_else(PoisonError::into_inner);
    let is_it = |one: &&Converted| one.version == version && std::ptr::eq(one.by.as_ptr(), Arc::as_ptr(by));
    all.iter().find(is_it).map(|one| one.bytes.clone())
}

/// Keeps what a converter has made of a record; what others made of it is let go of.
pub(crate) fn keep_converted(
    record: &Record,
    by: &Arc<Converter>,
    version: usize,
    bytes: &Bytes,
    hold: Hold,
) {
    let facts: &Facts = record.memo(|_| Facts::default());
    let mut all = facts.converted.get_or_init(Box::default).lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|one| std::ptr::eq(one.by.as_ptr(), Arc::as_ptr(by)) && one.version != version);
    all.push(Converted { by: Arc::downgrade(by), version, bytes: bytes.clone(), _hold: hold });
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
    /// Those fields: a definition may come to have others.
    of: Arc<[Text]>,
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
            of: row.selectable.clone(),
            labels: match object.remove_at(&["metadata", "labels"]) {
                Some(Value::Object(labels)) => Some(labels),
                _ => None,
            },
        }
    }

    /// Whether the row's fields are the ones that were read.
    fn is_for(&self, row: &Row) -> bool {
        self.of == row.selectable
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

/// Which objects a list or watch wants.
#[derive(Clone, Debug, Default)]
pub struct Want {
    /// By label.
    pub labels: Selector,
    /// By field.
    pub fields: FieldSelector,
}

impl Want {
    /// Whether it takes more than an object's name and namespace to tell.
    #[must_use]
    pub fn looks_inside(&self) -> bool {
        let inside = |field: &str| !matches!(field, "metadata.name" | "metadata.namespace");
        !self.labels.is_empty() || self.fields.requirements.iter().any(|r| inside(&r.field))
    }

    /// Whether the record is wanted: of a resource that has a converter as it is in the version served.
    ///
    /// # Errors
    /// 500: the stored bytes are damaged.
    pub(crate) fn matches_in(&self, record: &Record, served: &Served, ready: &Ready) -> Result<bool, Status> {
        let row = &served.row;
        let as_stored = served.is_stored() && served.speaks(record);
        if row.converter.is_none() || as_stored || !self.looks_inside() {
            return Ok(self.matches(record, row));
        }
        let object = convert::object_of(record, served, ready)?;
        let resource = row.def.group_resource();
        let field = |path: &str| match path {
            "metadata.name" => Some(Key::from(meta::name(&object))),
            "metadata.namespace" => Some(Key::from(meta::namespace(&object))),
            path => selectable::value(&resource, path, &object),
        };
        let fields: Vec<(&str, Option<Key>)> =
            self.fields.requirements.iter().map(|r| (&*r.field, field(&r.field))).collect();
        let value =
            |path: &str| fields.iter().find(|(name, _)| *name == path).and_then(|(_, v)| v.as_deref());
        Ok(self.labels.matches_labels(meta::labels(&object)) && self.fields.matches(value))
    }

    /// Whether the record is wanted, as it is stored.
    #[must_use]
    pub fn matches(&self, record: &Record, row: &Row) -> bool {
        if self.labels.is_empty() && self.fields.requirements.is_empty() {
            return true;
        }
        let (kept, own);
        kept = Selected::of(record, row);
        let selected = if kept.is_for(row) {
            kept
        } else {
            own = Selected::read(record, row);
            &own
        };
        self.labels.matches_labels(selected.labels.as_ref())
            && self.fields.matches(|path| selected.field(path, row))
    }
}

#[cfg(test)]
mod tests {
    use xebec_api::{crd, object};
    use xebec_store::{Key as StoreKey, Revision, Txn};

    use super::*;
    use crate::registry::write;
    use crate::server::tests::server;

    /// The row of a definition with these selectable fields and this label, at some revision.
    fn row(fields: &[&str], label: &str, revision: u64) -> Row {
        let paths: Vec<Value> = fields.iter().map(|path| object!({"jsonPath": (*path)})).collect();
        let text = || object!({"type": "string"});
        let definition = object!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "things.example.com", "labels": {"a": label}},
            "spec": {
                "group": "example.com", "scope": "Namespaced",
                "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"},
                "versions": [{
                    "name": "v1", "served": true, "storage": true, "selectableFields": (Value::Array(paths)),
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                        "spec": {"type": "object", "properties": {"a": (text()), "b": (text())}}
                    }}}
                }]
            }
        });
        let def = crd::resource(&definition).expect("a good definition");
        let key = StoreKey::new("/registry/things").expect("a key");
        Row::custom(def, definition, (key, Revision::new(revision)), None, Revision::ZERO)
    }

    #[tokio::test]
    async fn what_was_read_holds_until_other_fields_are_selectable() {
        let (server, _dir) = server();
        let store = &server.core().store;
        let first = row(&[".spec.a"], "x", 1);
        let mut thing = object!({
            "apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "t", "namespace": "n"},
            "spec": {"a": "1", "b": "2"}
        });
        let key = first.key("n", "t").expect("a key");
        let committed = store.commit(Txn::default().put(key.clone(), write::stored(&mut thing))).await;
        committed.expect("committed");
        let snapshot = store.snapshot();
        let record = snapshot.get(&key).expect("there");
        let same = row(&[".spec.a"], "y", 2);
        let other = row(&[".spec.b"], "y", 3);
        for (what, row, kept, wanted, unwanted) in [
            ("the first", &first, true, "spec.a=1", "spec.a=2"),
            ("another label", &same, true, "spec.a=1", "spec.a=2"),
            ("another field", &other, false, "spec.b=2", "spec.b=1"),
        ] {
            let matches = |text: &str| {
                let fields = FieldSelector::parse(text).expect("a selector");
                Want { fields, ..Want::default() }.matches(record, row)
            };
            assert!(matches(wanted), "{what}");
            assert!(!matches(unwanted), "{what}");
            assert_eq!(Selected::of(record, row).is_for(row), kept, "{what}");
        }
    }
}
