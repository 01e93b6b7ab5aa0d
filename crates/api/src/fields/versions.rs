//! Other versions of the object that managers wrote.

use crate::Value;
use crate::error::Status;
use crate::schema::SchemaRef;

/// How objects look in another version, seen from the version of the request.
#[derive(Clone, Copy, Debug)]
pub enum VersionShape<'a> {
    /// The version is not served any more: what its managers own is forgotten.
    Gone,
    /// The same fields mean the same.
    Same,
    /// Objects must be converted; this is their type then.
    Other(SchemaRef<'a>),
}

/// What field management has to know about the versions of a resource.
///
/// Managers' fields are spelled in the version that each wrote; a write in one version changes fields of all. Where the
/// shapes differ, the objects before and after are converted and compared in each version that a manager uses.
pub trait Versions<'a> {
    /// How objects look in `api_version`, `group/version`.
    fn shape(&self, api_version: &str) -> VersionShape<'a>;

    /// Converts an object of any served version.
    ///
    /// # Errors
    /// What the conversion answered.
    fn convert(&mut self, object: &Value, to: &str) -> Result<Value, Status>;
}

/// The versions of a resource whose versions all have the same fields, or that has only one.
#[derive(Clone, Copy, Debug)]
pub struct OneShape<'a>(pub &'a [&'a str]);

impl<'a> Versions<'a> for OneShape<'_> {
    fn shape(&self, api_version: &str) -> VersionShape<'a> {
        if self.0.contains(&api_version) { VersionShape::Same } else { VersionShape::Gone }
    }

    fn convert(&mut self, object: &Value, to: &str) -> Result<Value, Status> {
        let mut converted = object.clone();
        converted.set(&["apiVersion"], to);
        Ok(converted)
    }
}
