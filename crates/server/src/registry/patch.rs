//! PATCH: the four ways to say what changes.

use xebec_api::json::Parsed;
use xebec_api::{Reason, Status, Value, meta};

use super::decode::{self, Expected};
use super::table::Served;
use super::write::Change;
use crate::core::Context;
use crate::http::body::Format;

/// The kind of a patch, by its content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Strategic merge: lists merge by keys.
    Strategic,
    /// Server-side apply.
    Apply,
}

const BUILT_IN_TYPES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];
const CUSTOM_TYPES: [&str; 3] =
    ["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];

impl PatchKind {
    /// The kind that a `Content-Type` header names.
    ///
    /// # Errors
    /// 415 with the types that the resource takes.
    pub fn from_content_type(value: Option<&str>, served: &Served) -> Result<Self, Status> {
        match value.unwrap_or_default().split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" if !served.row.custom => Ok(Self::Strategic),
            "application/apply-patch+yaml" => Ok(Self::Apply),
            _ if served.row.custom => Err(Status::unsupported_media_type(&CUSTOM_TYPES)),
            _ => Err(Status::unsupported_media_type(&BUILT_IN_TYPES)),
        }
    }
}

/// A patch, ready to be applied to an object.
#[derive(Debug)]
pub struct Patch<'a> {
    kind: PatchKind,
    document: Value,
    duplicates: Vec<String>,
    served: Option<&'a Served>,
    context: &'a Context,
}

impl<'a> Patch<'a> {
    /// Reads a patch of a resource.
    ///
    /// # Errors
    /// 400 for a body that is no such patch.
    pub fn read(
        kind: PatchKind,
        bytes: &[u8],
        served: &'a Served,
        context: &'a Context,
    ) -> Result<Self, Status> {
        Ok(Self { served: Some(served), ..Self::read_scale(kind, bytes, context)? })
    }

    /// Reads a patch of a `Scale`.
    ///
    /// # Errors
    /// 400 for a body that is no such patch.
    pub fn read_scale(kind: PatchKind, bytes: &[u8], context: &'a Context) -> Result<Self, Status> {
        let format = if kind == PatchKind::Apply { Format::Yaml } else { Format::Json };
        let Parsed { value, duplicates } = format.parse(bytes)?;
        let duplicates = duplicates.iter().map(|path| format!("duplicate field {path:?}")).collect();
        Ok(Self { kind, document: value, duplicates, served: None, context })
    }
}

impl Change for Patch<'_> {
    fn apply(&mut self, old: &Value) -> Result<Value, Status> {
        let mut new = old.clone();
        match self.kind {
            PatchKind::Merge => merge(&mut new, &self.document),
            _ => return Err(Status::new(Reason::NotImplemented, "this patch type is not implemented")),
        }
        let Some(served) = self.served else { return Ok(new) };
        let api_version = served.api_version();
        decode::tree(new, self.duplicates.clone(), &Expected::of(served, &api_version), self.context)
    }

    fn expects(&self, _: &Value) -> String {
        meta::resource_version(&self.document).to_owned()
    }

    fn may_retry(&self) -> bool {
        meta::resource_version(&self.document).is_empty()
    }
}

fn merge(target: &mut Value, patch: &Value) {
    let Some(members) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    for (name, value) in members.iter() {
        if value.is_null() {
            target.make_object().remove(name);
        } else {
            merge(target.entry(name), value);
        }
    }
}
