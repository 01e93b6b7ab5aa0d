//! Between the stored version of an object and the one that a client speaks.
//!
//! A record keeps the version that it was written in. That is the row's storage version, unless a definition has changed
//! it since; the next write of the object brings it to the new one. So it is with schemas: a record that was written under
//! another one is made to follow the one in force whenever it is read. Versions of a custom resource differ by nothing but
//! their names and schemas: what the new version does not know is dropped, and what it has defaults for is filled in.

use std::borrow::Cow;

use bytes::Bytes;
use xebec_api::structural::{self, Strictness};
use xebec_api::{Status, Value, json, meta, protobuf};
use xebec_store::Record;

use super::table::{Row, Served};

/// The record's object in the version served.
///
/// # Errors
/// 500: the stored bytes are damaged, or cannot be converted.
pub fn object(record: &Record, served: &Served) -> Result<Value, Status> {
    from_storage(decoded(record, served)?, served).map_err(|error| damaged(record, &error))
}

/// The record's object as a write would store it today.
///
/// # Errors
/// As [`object`].
pub fn current(record: &Record, served: &Served) -> Result<Value, Status> {
    to_storage(decoded(record, served)?, served)
}

/// The record's object as it is stored, which follows the schema that is in force by now.
fn decoded(record: &Record, served: &Served) -> Result<Value, Status> {
    let object = stored_object(record)?;
    if !served.row.is_outdated(record) {
        return Ok(object);
    }
    let api_version = object.str_at(&["apiVersion"]).unwrap_or_default().to_owned();
    Ok(settle(object, &served.row, &api_version))
}

/// The record's object as it is stored: of a custom resource, in the version of its last write.
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
    if served.holds(record) {
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
    let mut object =
        xebec_api::convert::convert(object, served.row.kind_name(), to).map_err(Status::internal)?;
    if served.row.custom {
        return Ok(settle(object, &served.row, to));
    }
    show_zeros(&mut object, &served.row);
    Ok(object)
}

/// Gives an object of a built-in kind the members that it always has, and takes those that say nothing.
pub fn show_zeros(object: &mut Value, row: &Row) {
    meta::omit_empty(object);
    let api_version = object.str_at(&["apiVersion"]).unwrap_or_default();
    if !row.custom
        && let Some(message) = protobuf::Message::of(api_version, row.kind_name())
    {
        protobuf::settle(object, message);
    }
}

/// Makes a custom resource's object follow the schema of the version that it now has.
fn settle(mut object: Value, row: &Row, api_version: &str) -> Value {
    let of = |version: &&xebec_api::resource::Version| row.def.api_version(&version.name) == api_version;
    if let Some(version) = row.def.versions.iter().find(of) {
        // What is unknown is dropped without a word; what is of a wrong type is left for validation to find.
        structural::decode(&mut object, version.root(), Strictness::Custom);
        structural::default(&mut object, version.root());
    }
    object
}

fn damaged(record: &Record, error: &dyn std::fmt::Display) -> Status {
    tracing::error!(key = %record.key().as_str(), %error, "stored object cannot be read");
    Status::internal(format_args!("the stored object {} cannot be read", record.key().as_str()))
}
