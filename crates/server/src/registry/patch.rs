//! PATCH: the four ways to say what changes.

use xebec_api::{Status, Value, fields, meta, patch};

use super::decode::{self, Expected};
use super::managed::{self, Known};
use super::table::Served;
use super::write::{Change, Target, Tracking};
use crate::core::Context;
use crate::http::body::{Document, Format, Repeated};
use crate::http::query::{FieldValidation, invalid_options};

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
    repeated: Repeated,
    target: Option<Target<'a>>,
    context: &'a Context,
}

impl<'a> Patch<'a> {
    /// Reads a patch of a resource.
    ///
    /// # Errors
    /// 400 for a body that is no such patch; 422 for options that do not go with its kind.
    pub fn read(
        kind: PatchKind,
        bytes: &[u8],
        target: Target<'a>,
        context: &'a Context,
    ) -> Result<Self, Status> {
        let mut patch = Self { target: Some(target), ..Self::read_scale(kind, bytes, context)? };
        if kind == PatchKind::Apply {
            // An applied configuration is an object of the kind, not a difference.
            let api_version = target.served.api_version();
            decode::check_identity(&mut patch.document, &Expected::of(target.served, &api_version))?;
        }
        Ok(patch)
    }

    /// Reads a patch of a `Scale`.
    ///
    /// # Errors
    /// As [`Patch::read`].
    pub fn read_scale(kind: PatchKind, bytes: &[u8], context: &'a Context) -> Result<Self, Status> {
        let manager = context.query.get("fieldManager").unwrap_or_default();
        let mut causes =
            fields::validate_patch_options(kind == PatchKind::Apply, manager, context.query.flag("force"));
        causes.extend(context.query.write_faults());
        if !causes.is_empty() {
            return Err(invalid_options("PatchOptions", causes));
        }
        let format = if kind == PatchKind::Apply { Format::Yaml } else { Format::Json };
        let Document { value, repeated } = format.parse(bytes)?;
        Ok(Self { kind, document: value, repeated, target: None, context })
    }

    /// Whether it says what its manager wants, not what is to change.
    #[must_use]
    pub fn is_apply(&self) -> bool {
        self.kind == PatchKind::Apply
    }

    /// The object that an apply makes where there is none.
    ///
    /// # Errors
    /// 400 and 422 for a configuration that cannot be applied.
    pub fn new_object(&self, target: Target<'_>) -> Result<Value, Status> {
        let mut config = self.document.clone();
        config.set(&["metadata", "name"], target.name);
        let nothing = managed::blank(&config, &target.served.row);
        self.applied(target, &nothing, &config, &mut Known::default())
    }

    /// The object that comes of applying `config`: members that its schema does not know have been refused.
    fn applied(
        &self,
        target: Target<'_>,
        live: &Value,
        config: &Value,
        versions: &mut Known,
    ) -> Result<Value, Status> {
        let object = managed::apply(self.context, target, live, config, versions)?;
        match (&self.repeated, FieldValidation::from_query(&self.context.query)) {
            (Repeated::None, _) | (_, FieldValidation::Ignore) => {}
            (repeated, validation) => {
                let faults = repeated.with_unknown(Vec::new()).join(", ");
                let text = format!("error converting YAML to JSON: {faults}");
                if validation == FieldValidation::Strict {
                    return Err(Status::bad_request(format!("error strict decoding YAML: {text}")));
                }
                self.context.warn(text);
            }
        }
        let api_version = target.served.api_version();
        let expected = Expected::of(target.served, &api_version);
        decode::tree(object, &Repeated::None, &expected, self.context)
    }
}

impl Change for Patch<'_> {
    fn apply(&mut self, old: &Value) -> Result<Value, Status> {
        self.apply_among(old, &mut Known::default())
    }

    fn apply_among(&mut self, old: &Value, versions: &mut Known) -> Result<Value, Status> {
        let Some(target) = self.target else { return self.difference(old, None) };
        if self.kind == PatchKind::Apply {
            return self.applied(target, old, &self.document, versions);
        }
        let new = self.difference(old, Some(target))?;
        let api_version = target.served.api_version();
        let expected = Expected::of(target.served, &api_version);
        decode::tree(new, &self.repeated, &expected, self.context)
    }

    fn tracking(&self) -> Tracking {
        if self.kind == PatchKind::Apply { Tracking::Applied } else { Tracking::ByChange }
    }

    fn may_retry(&self) -> bool {
        meta::resource_version(&self.document).is_empty()
    }
}

impl Patch<'_> {
    fn difference(&self, old: &Value, target: Option<Target<'_>>) -> Result<Value, Status> {
        let (old, document) = (old.clone(), self.document.clone());
        match (self.kind, target) {
            (PatchKind::Json, _) => Ok(patch::json_patch::apply(old, document)?),
            (PatchKind::Strategic, Some(target)) => {
                Ok(patch::strategic::apply(old, document, target.served.version().root())?)
            }
            // A `Scale` has no lists: a strategic merge is a merge.
            (PatchKind::Merge | PatchKind::Strategic, _) => Ok(patch::merge::apply(old, document)?),
            (PatchKind::Apply, _) => managed::apply_scale(self.context, &old, &document),
        }
    }
}
