//! The vocabulary of the generated schema table: constructors that the compiler evaluates, so that the table is data.

pub(crate) use std::borrow::Cow;

pub(crate) use crate::resource::Text;
pub(crate) use crate::schema::Merge::{self, Atomic, Granular, Keyed, Set};
pub(crate) use crate::schema::PatchStrategy::{self, Merge as Patch, MergeRetainKeys, Replace, RetainKeys};
pub(crate) use crate::schema::Type::{self, *};
pub(crate) use crate::schema::{DefaultValue, NO_DOC, Node, Property};
use crate::schema::{NO_CONSTRAINTS, NodeId};

/// A field that must be there.
pub(crate) const REQUIRED: bool = true;
/// A field that may be absent.
pub(crate) const OPTIONAL: bool = false;

/// A text of the table.
pub(crate) const fn text(text: &'static str) -> Text {
    Cow::Borrowed(text)
}

/// A type.
pub(crate) const fn n(
    name: &'static str,
    ty: Type,
    (props_start, props_len): (u32, u32),
    items: u32,
    merge: Merge,
    keys: &'static [Text],
    doc: u32,
) -> Node {
    Node {
        name: text(name),
        ty,
        props_start,
        props_len,
        items: NodeId(items),
        merge,
        keys: Cow::Borrowed(keys),
        preserve_unknown: false,
        embedded_resource: false,
        nullable: false,
        constraints: NO_CONSTRAINTS,
        doc,
    }
}

/// A field.
pub(crate) const fn p(
    name: &'static str,
    node: u32,
    required: bool,
    patch: PatchStrategy,
    doc: u32,
) -> Property {
    q(name, node, required, patch, "", None, doc)
}

/// A field with a merge key or a default.
pub(crate) const fn q(
    name: &'static str,
    node: u32,
    required: bool,
    patch: PatchStrategy,
    merge_key: &'static str,
    default: Option<DefaultValue>,
    doc: u32,
) -> Property {
    Property {
        name: text(name),
        node: NodeId(node),
        required,
        patch,
        merge_key: text(merge_key),
        default,
        doc,
    }
}

/// A default as JSON text.
pub(crate) const fn json(text: &'static str) -> Option<DefaultValue> {
    Some(DefaultValue::Json(text))
}
