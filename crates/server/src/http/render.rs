//! Objects in the form that the client wants.

use xebec_api::table::{self, Renderer};
use xebec_api::time::Timestamp;
use xebec_api::{Status, Value, meta, object};

use super::accept::{Form, Rows};
use crate::registry::table::Served;

/// The version of tables and partial objects.
pub(super) const META_V1: &str = "meta.k8s.io/v1";

/// An object in the form wanted.
///
/// # Errors
/// 500: a row of the table cannot be made.
pub fn object(object: Value, form: Form, served: &Served) -> Result<Value, Status> {
    match form {
        Form::Whole => Ok(object),
        Form::Metadata => Ok(metadata_only(object)),
        Form::Table(rows) => Ok(table_of(object, rows, served)),
    }
}

/// A bookmark in the form wanted.
#[must_use]
pub fn bookmark(object: Value, form: Form) -> Value {
    match form {
        Form::Whole => object,
        Form::Metadata => metadata_only(object),
        Form::Table(_) => {
            let version = object.at(&["metadata", "resourceVersion"]).cloned().unwrap_or_default();
            object!({
                "apiVersion": META_V1, "kind": "Table", "columnDefinitions": [],
                "metadata": {"resourceVersion": (version)},
                "rows": [{"cells": [], "object": (metadata_only(object))}]
            })
        }
    }
}

/// The time that ages are counted to.
pub(super) fn now() -> Timestamp {
    Timestamp::from_system(std::time::SystemTime::now())
}

/// What of an object is the same for all kinds.
pub(super) fn metadata_only(mut object: Value) -> Value {
    let metadata = object.get_mut("metadata").map_or_else(Value::object, Value::take);
    object!({"apiVersion": META_V1, "kind": "PartialObjectMetadata", "metadata": (metadata)})
}

/// The row of a table that shows an object.
pub(super) fn row(
    renderer: &Renderer<'_>,
    object: Value,
    include: Rows,
    served: &Served,
    now: Timestamp,
) -> Value {
    let mut row = object!({"cells": (renderer.cells(&object, now))});
    let conditions = table::row_conditions(served.row.group(), served.row.kind_name(), &object);
    if !conditions.is_empty() {
        row.set(&["conditions"], conditions);
    }
    match include {
        Rows::Metadata => row.set(&["object"], metadata_only(object)),
        Rows::Object => row.set(&["object"], object),
        Rows::Nothing => {}
    }
    row
}

fn table_of(object: Value, include: Rows, served: &Served) -> Value {
    let renderer = Renderer::new(&served.version().columns);
    let version = meta::resource_version(&object).to_owned();
    let rows = vec![row(&renderer, object, include, served, now())];
    object!({
        "apiVersion": META_V1, "kind": "Table", "metadata": {"resourceVersion": (version)},
        "columnDefinitions": (renderer.definitions()),
        "rows": (rows)
    })
}
