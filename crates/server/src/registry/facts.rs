//! What selectors ask of an object, read once per record and kept beside it.

use xebec_api::selector::{FieldSelector, Selector};
use xebec_api::{Key, Map, Value, json, meta};
use xebec_store::Record;

use super::table::Row;

/// Labels and selectable fields of one record.
#[derive(Debug)]
pub struct Facts {
    labels: Option<Map>,
    name: Key,
    namespace: Key,
    /// In the order of the version's selectable fields.
    fields: Vec<Option<Key>>,
}

impl Facts {
    fn read(record: &Record, row: &Row) -> Self {
        let mut object = json::from_slice(record.as_slice()).unwrap_or_default();
        let text = |value: &Value| match value {
            Value::Null => None,
            Value::String(s) => Some(s.clone()),
            other => Some(String::from_utf8_lossy(&json::to_vec(other)).into()),
        };
        let at = |path: &str| object.at(&path.split('.').collect::<Vec<_>>()).and_then(text);
        Self {
            fields: row.def.storage().selectable.iter().map(|path| at(path)).collect(),
            name: meta::name(&object).into(),
            namespace: meta::namespace(&object).into(),
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
                let at = row.def.storage().selectable.iter().position(|p| p == path)?;
                self.fields[at].as_deref()
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
    /// Whether the record is wanted.
    #[must_use]
    pub fn matches(&self, record: &Record, row: &Row) -> bool {
        if self.labels.is_empty() && self.fields.requirements.is_empty() {
            return true;
        }
        let facts: &Facts = record.memo(|record| Facts::read(record, row));
        self.labels.matches_labels(facts.labels.as_ref())
            && self.fields.matches(|path| facts.field(path, row))
    }
}
