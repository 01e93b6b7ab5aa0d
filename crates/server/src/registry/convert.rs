//! Between the stored version of an object and the one that a client speaks.

use std::borrow::Cow;

use bytes::Bytes;
use xebec_api::{Status, Value, json};
use xebec_store::Record;

use super::table::Served;

/// The record's object in the version served.
///
/// # Errors
/// 500: the stored bytes are damaged, or cannot be converted.
pub fn object(record: &Record, served: &Served) -> Result<Value, Status> {
    from_storage(stored_object(record)?, served)
}

/// The record's object as it is stored.
///
/// # Errors
/// 500: the stored bytes are damaged.
pub fn stored_object(record: &Record) -> Result<Value, Status> {
    json::from_slice(record.as_slice()).map_err(|e| damaged(record, &e))
}

/// The record's bytes in the version served; shared, not copied, when it is stored so.
///
/// # Errors
/// As [`object`].
pub fn bytes(record: &Record, served: &Served) -> Result<Bytes, Status> {
    if served.is_stored() {
        Ok(record.bytes())
    } else {
        object(record, served).map(|o| json::to_vec(&o).into())
    }
}

/// A stored object in the version served.
///
/// # Errors
/// 500: there is no way between the versions.
pub fn from_storage(object: Value, served: &Served) -> Result<Value, Status> {
    let to = served.api_version();
    turn(object, served, &to)
}

/// A client's object in the version that is stored.
///
/// # Errors
/// 500: there is no way between the versions.
pub fn to_storage(object: Value, served: &Served) -> Result<Value, Status> {
    let def = &served.row.def;
    let to: Cow<'_, str> = match &def.stored_as {
        Some(place) if place.group.is_empty() => def.storage().name.clone(),
        Some(place) => format!("{}/{}", place.group, def.storage().name).into(),
        None => def.api_version(&def.storage().name).into(),
    };
    turn(object, served, &to)
}

fn turn(object: Value, served: &Served, to: &str) -> Result<Value, Status> {
    if object.str_at(&["apiVersion"]) == Some(to) {
        return Ok(object);
    }
    xebec_api::convert::convert(object, served.row.kind_name(), to).map_err(Status::internal)
}

fn damaged(record: &Record, error: &dyn std::fmt::Display) -> Status {
    tracing::error!(key = %record.key().as_str(), %error, "stored object cannot be read");
    Status::internal(format_args!("the stored object {} cannot be read", record.key().as_str()))
}
