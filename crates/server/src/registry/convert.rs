//! Between the stored version of an object and the one that a client speaks.
//!
//! A record keeps the version that it was written in. That is the row's storage version, unless a definition has changed
//! it since; the next write of the object brings it to the new one. So it is with schemas: a record that was written under
//! another one is made to follow the one in force whenever it is read. Versions of a custom resource differ by nothing but
//! their names and schemas, unless its definition names somebody who converts between them ([`conversion`](super::conversion)):
//! what the new version does not know is dropped, and what it has defaults for is filled in.
//!
//! ```text
//!  client ──served──▶ working ──(admission, validation)──▶ stored ──▶ the store
//! ```
//!
//! Writes of a custom resource work in the version of the request, those of a built-in kind in the stored one
//! ([`Served::working`]).

use std::borrow::Cow;

use bytes::Bytes;
use xebec_api::structural::{self, Strictness};
use xebec_api::{Status, Value, json, meta, protobuf};
use xebec_store::Record;

use super::conversion::Ready;
use super::table::{Row, Served};
use crate::core::Core;

/// The record's object in the version served.
///
/// # Errors
/// 500: the stored bytes are damaged, or cannot be converted.
pub async fn object(core: &Core, record: &Record, served: &Served) -> Result<Value, Status> {
    match &served.row.converter {
        None => object_of(record, served, &Ready::default()),
        Some(_) => json::from_slice(&bytes(core, record, served).await?).map_err(Status::internal),
    }
}

/// The record's bytes in the version served; shared, not copied, when it is stored so.
///
/// # Errors
/// As [`object`].
pub async fn bytes(core: &Core, record: &Record, served: &Served) -> Result<Bytes, Status> {
    let ready = Ready::of(core, served, [record]).await?;
    bytes_of(record, served, &ready)
}

/// The record's object in the version that writes work in.
///
/// # Errors
/// As [`object`].
pub async fn current(core: &Core, record: &Record, served: &Served) -> Result<Value, Status> {
    if served.row.custom {
        return object(core, record, served).await;
    }
    to_working(core, stored_object(record)?, served).await
}

/// As [`object`], of a record for which `ready` has what is to be converted.
///
/// # Errors
/// 500: the stored bytes are damaged.
pub(crate) fn object_of(record: &Record, served: &Served, ready: &Ready) -> Result<Value, Status> {
    if let Some(bytes) = ready.get(record) {
        return json::from_slice(bytes).map_err(Status::internal);
    }
    let object = settled(record, served)?;
    rename(object, served, &served.api_version()).map_err(|error| damaged(record, &error))
}

/// As [`bytes`], of a record for which `ready` has what is to be converted.
///
/// # Errors
/// As [`object_of`].
pub(crate) fn bytes_of(record: &Record, served: &Served, ready: &Ready) -> Result<Bytes, Status> {
    if served.holds(record) {
        return Ok(record.bytes());
    }
    match ready.get(record) {
        Some(bytes) => Ok(bytes.clone()),
        None => object_of(record, served, ready).map(|o| json::to_vec(&o).into()),
    }
}

/// The record's object as it is stored, which follows the schema that is in force by now.
///
/// # Errors
/// 500: the stored bytes are damaged.
pub(crate) fn settled(record: &Record, served: &Served) -> Result<Value, Status> {
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

/// An object of any version in the version served.
///
/// # Errors
/// 500: it cannot be converted.
pub async fn to_served(core: &Core, object: Value, served: &Served) -> Result<Value, Status> {
    let to = served.api_version();
    turn(core, object, served, &to).await
}

/// A client's object in the version that writes work in.
///
/// # Errors
/// 500: it cannot be converted.
pub async fn to_working(core: &Core, object: Value, served: &Served) -> Result<Value, Status> {
    if served.row.custom {
        to_served(core, object, served).await
    } else {
        to_stored(core, object, served).await
    }
}

/// An object in the version that is stored.
///
/// # Errors
/// 500: it cannot be converted.
pub async fn to_stored(core: &Core, object: Value, served: &Served) -> Result<Value, Status> {
    let def = &served.row.def;
    let to: Cow<'_, str> = match &def.stored_as {
        Some(place) if place.group.is_empty() => def.storage().name.clone(),
        Some(place) => format!("{}/{}", place.group, def.storage().name).into(),
        None => def.api_version(&def.storage().name).into(),
    };
    turn(core, object, served, &to).await
}

async fn turn(core: &Core, object: Value, served: &Served, to: &str) -> Result<Value, Status> {
    match &served.row.converter {
        None => rename(object, served, to),
        Some(converter) => converter.convert_one(core, &served.row, object, to).await,
    }
}

/// Between versions that nobody converts between.
fn rename(object: Value, served: &Served, to: &str) -> Result<Value, Status> {
    if object.str_at(&["apiVersion"]) == Some(to) {
        return Ok(object);
    }
    if served.row.converter.is_some() {
        return Err(Status::internal("an object is read that has not been converted"));
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
fn settle(object: Value, row: &Row, api_version: &str) -> Value {
    let mut object = prune(object, row, api_version);
    if let Some(version) = version(row, api_version) {
        structural::default(&mut object, version.root());
    }
    object
}

/// Drops from a custom resource's object, without a word, what the schema of its version does not know. What is of a wrong
/// type is left for validation to find.
pub(crate) fn prune(mut object: Value, row: &Row, api_version: &str) -> Value {
    if let Some(version) = version(row, api_version) {
        structural::decode(&mut object, version.root(), Strictness::Custom);
    }
    object
}

fn version<'a>(row: &'a Row, api_version: &str) -> Option<&'a xebec_api::resource::Version> {
    row.def.versions.iter().find(|version| row.def.api_version(&version.name) == api_version)
}

fn damaged(record: &Record, error: &dyn std::fmt::Display) -> Status {
    tracing::error!(key = %record.key().as_str(), %error, "stored object cannot be read");
    Status::internal(format_args!("the stored object {} cannot be read", record.key().as_str()))
}
