//! From a request's body to an object of the kind that the path names.

use xebec_api::schema::SchemaRef;
use xebec_api::structural::{self, Decoded, Strictness};
use xebec_api::{Status, Value};

use super::table::Served;
use crate::core::Context;
use crate::http::body::{CUSTOM_TYPES, Document, Format, Repeated};
use crate::http::query::FieldValidation;

/// What a body must be.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// `apps/v1`.
    pub api_version: &'a str,
    /// `Deployment`.
    pub kind: &'a str,
    /// Its shape.
    pub schema: SchemaRef<'a>,
    /// Whose rules say what a wrong type is.
    pub strictness: Strictness,
}

impl<'a> Expected<'a> {
    /// An object of the resource itself.
    #[must_use]
    pub fn of(served: &'a Served, api_version: &'a str) -> Self {
        Self {
            api_version,
            kind: served.row.kind_name(),
            schema: served.version().root(),
            strictness: if served.row.custom { Strictness::Custom } else { Strictness::BuiltIn },
        }
    }
}

/// Reads an object from a body.
///
/// # Errors
/// 400: no such document, another kind, a field of the wrong type, or under strict validation an unknown or duplicate
/// field. 415: a custom resource as protobuf. 422: a custom resource's field of the wrong type.
pub fn body(
    bytes: &[u8],
    format: Format,
    expected: &Expected<'_>,
    context: &Context,
) -> Result<Value, Status> {
    if format == Format::Protobuf && expected.strictness == Strictness::Custom {
        return Err(Status::unsupported_media_type(&CUSTOM_TYPES));
    }
    let Document { value, repeated } = format.parse(bytes)?;
    tree(value, &repeated, expected, context)
}

/// Makes an object of the expected kind out of a tree; `repeated` members were found while it was read.
///
/// # Errors
/// As [`body`].
pub fn tree(
    mut object: Value,
    repeated: &Repeated,
    expected: &Expected<'_>,
    context: &Context,
) -> Result<Value, Status> {
    check_identity(&mut object, expected)?;
    let validation = FieldValidation::from_query(&context.query);
    let Decoded { unknown, mistyped } = structural::decode(&mut object, expected.schema, expected.strictness);
    if !mistyped.is_empty() {
        return Err(mistyped_status(&object, mistyped, expected));
    }
    let unknown = unknown.iter().map(|path| format!("unknown field \"{path}\"")).collect();
    let faults = repeated.with_unknown(unknown);
    match validation {
        FieldValidation::Ignore => {}
        FieldValidation::Warn => faults.into_iter().for_each(|fault| context.warn(fault)),
        FieldValidation::Strict if faults.is_empty() => {}
        FieldValidation::Strict => {
            let (version, kind) = (expected.version(), expected.kind);
            return Err(Status::bad_request(format!(
                "{kind} in version {version:?} cannot be handled as a {kind}: strict decoding error: {}",
                faults.join(", ")
            )));
        }
    }
    Ok(object)
}

impl Expected<'_> {
    fn version(&self) -> &str {
        self.api_version.rsplit('/').next().unwrap_or_default()
    }
}

/// The object must be of the kind that the path names; what it leaves out is filled in.
pub(super) fn check_identity(object: &mut Value, expected: &Expected<'_>) -> Result<(), Status> {
    if object.as_object().is_none() {
        return Err(Status::bad_request(format!(
            "the object provided is unrecognized: expected an object, got {}",
            object.type_name()
        )));
    }
    let text = |key: &str| object.str_at(&[key]).unwrap_or_default().to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    if !api_version.is_empty() && api_version != expected.api_version {
        return Err(Status::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({})",
            expected.api_version
        )));
    }
    if !kind.is_empty() && kind != expected.kind {
        return Err(Status::bad_request(format!(
            "{kind} in version {:?} cannot be handled as a {}: the kind in the data does not match the resource",
            expected.version(),
            expected.kind
        )));
    }
    object.set(&["apiVersion"], expected.api_version);
    object.set(&["kind"], expected.kind);
    if object.get("metadata").is_none_or(Value::is_null) {
        object.set(&["metadata"], Value::object());
    }
    Ok(())
}

fn mistyped_status(object: &Value, causes: Vec<xebec_api::Cause>, expected: &Expected<'_>) -> Status {
    match expected.strictness {
        Strictness::Custom => {
            let group = expected.api_version.split_once('/').map_or("", |(group, _)| group);
            Status::invalid(group, expected.kind, xebec_api::meta::name(object), causes)
        }
        Strictness::BuiltIn => {
            let (kind, version) = (expected.kind, expected.version());
            // Decoding ends at the first value that does not fit.
            let why = causes.into_iter().next().map(|cause| cause.message).unwrap_or_default();
            Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {why}"))
        }
    }
}
