//! The named types of a document.

use std::collections::{BTreeMap, BTreeSet};

use super::names::{list_type_name, type_name};
use super::operations::{Answer, Path};
use super::writer::{Object, object};
use super::{Dialect, Documents, Part, custom, is_builtin};
use crate::builtin::{self, Docs};
use crate::json;
use crate::schema::{Merge, NodeId, PatchStrategy, Property, SchemaRef, Type};

/// What the writing of types needs to know.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) dialect: Dialect,
    pub(super) docs: &'a Docs,
    /// The groups and versions of the document, for the types that serve all of them.
    pub(super) group_versions: &'a BTreeSet<(String, String)>,
}

/// Types that belong to every group and version.
const EVERYWHERE: [&str; 2] = ["DeleteOptions", "WatchEvent"];
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";

/// Writes all types that `paths` name, and those that these refer to, sorted by name.
pub(super) fn write_all(
    out: &mut Object<'_>,
    documents: &Documents<'_>,
    parts: &[Part],
    paths: &[Path],
    context: Context<'_>,
) {
    let mut custom = BTreeMap::new();
    for (resource, version) in parts.iter().flat_map(|part| documents.served_in(part)) {
        if !is_builtin(version) {
            custom.insert(type_name(resource.row, version), (resource, version, false));
            custom.insert(list_type_name(resource.row, version), (resource, version, true));
        }
    }
    let mut named = referenced(paths);
    if !custom.is_empty() {
        named.extend(["ObjectMeta", "ListMeta"].map(|name| format!("{META}{name}")));
    }
    let builtin = closure(named.iter().filter_map(|name| builtin::definition(name)));
    let mut names: BTreeSet<&str> = builtin.keys().map(String::as_str).collect();
    names.extend(custom.keys().map(String::as_str));
    for name in names {
        match custom.get(name) {
            Some((resource, version, false)) => custom::write_type(out, name, *resource, version, context),
            Some((resource, version, true)) => custom::write_list(out, name, *resource, version, context),
            None => write_definition(out, name, builtin[name], context),
        }
    }
}

fn referenced(paths: &[Path]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for operation in paths.iter().flat_map(|p| &p.operations) {
        names.extend(operation.body.iter().map(|b| b.ty.clone()));
        if let Answer::Type(name) = &operation.answer {
            names.insert(name.clone());
        }
    }
    names
}

/// The named types among `roots` and all that they refer to.
fn closure(roots: impl Iterator<Item = NodeId>) -> BTreeMap<String, NodeId> {
    let schema = builtin::schema();
    let mut found = BTreeMap::new();
    let mut open: Vec<NodeId> = roots.collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = open.pop() {
        if !seen.insert(id.0) {
            continue;
        }
        let ty = schema.at(id);
        if let Some(definition) = builtin::definition(&ty.node.name) {
            // A field may hold a variant of a type; the document has the type itself.
            found.insert(ty.node.name.to_string(), definition);
        }
        open.extend(ty.properties().map(|p| p.node));
        open.push(ty.node.items);
    }
    found
}

fn write_definition(out: &mut Object<'_>, name: &str, id: NodeId, context: Context<'_>) {
    let schema = builtin::schema();
    let ty = schema.at(id);
    out.object(name, |out| {
        out.text_if_any("description", context.docs.get(ty.node.doc));
        write_type(out, ty, context);
        let required: Vec<&str> = ty.properties().filter(|p| p.required).map(|p| p.name.as_ref()).collect();
        if ty.node.props_len > 0 {
            out.object("properties", |out| {
                for property in ty.properties() {
                    out.object(&property.name, |out| write_property(out, ty, property, context));
                }
            });
        }
        if !required.is_empty() {
            out.texts("required", required);
        }
        write_kinds(out, name, id, context);
        if let Some(unions) = builtin::unions(id) {
            out.raw("x-kubernetes-unions", unions);
        }
    });
}

fn write_kinds(out: &mut Object<'_>, name: &str, id: NodeId, context: Context<'_>) {
    let everywhere = name.strip_prefix(META).filter(|kind| EVERYWHERE.contains(kind));
    let kinds: Vec<(&str, &str, &str)> = match everywhere {
        Some(kind) => context.group_versions.iter().map(|(g, v)| (g.as_str(), v.as_str(), kind)).collect(),
        None => builtin::kinds().filter(|(node, ..)| *node == id).map(|(_, g, v, k)| (g, v, k)).collect(),
    };
    if !kinds.is_empty() {
        out.array("x-kubernetes-group-version-kind", kinds, write_kind);
    }
}

/// `{"group": ..., "kind": ..., "version": ...}`.
pub(super) fn write_kind(out: &mut Vec<u8>, (group, version, kind): (&str, &str, &str)) {
    object(out, |out| {
        out.text("group", group);
        out.text("kind", kind);
        out.text("version", version);
    });
}

fn write_property(out: &mut Object<'_>, of: SchemaRef<'_>, property: &Property, context: Context<'_>) {
    let ty = of.go(property.node);
    let is_named = !ty.node.name.is_empty();
    let doc = context.docs.get(property.doc);
    let strategy = strategy(property, ty.ty());
    let has_more = !doc.is_empty() || !strategy.is_empty() || property.default.is_some();
    if is_named && has_more && context.dialect == Dialect::V3 {
        // In version 3 what stands beside a reference is lost.
        out.array("allOf", [ty], |out, ty| object(out, |out| write_reference(out, &ty.node.name, context)));
    } else {
        write_type_or_reference(out, ty, context);
    }
    if let (Some(default), Dialect::V3) = (&property.default, context.dialect) {
        out.value("default", &default.to_value());
    }
    out.text_if_any("description", doc);
    if is_named && builtin::definition(&ty.node.name) != Some(property.node) {
        // A variant of the type differs from it in this.
        out.text("x-kubernetes-map-type", if ty.node.merge == Merge::Atomic { "atomic" } else { "granular" });
    }
    out.text_if_any("x-kubernetes-patch-merge-key", &property.merge_key);
    out.text_if_any("x-kubernetes-patch-strategy", strategy);
}

/// The strategy to publish: only what differs from the rule that objects merge and lists are replaced.
fn strategy(property: &Property, ty: Type) -> &'static str {
    match (property.patch, ty) {
        (PatchStrategy::Merge, Type::List) => "merge",
        (PatchStrategy::MergeRetainKeys, _) => "merge,retainKeys",
        (PatchStrategy::RetainKeys, _) => "retainKeys",
        (PatchStrategy::Replace, Type::Object | Type::Map) => "replace",
        (PatchStrategy::Merge | PatchStrategy::Replace, _) => "",
    }
}

/// Writes a `$ref` to a named type.
pub(super) fn write_reference(out: &mut Object<'_>, name: &str, context: Context<'_>) {
    out.text("$ref", &format!("{}{name}", context.dialect.prefix()));
}

fn write_type_or_reference(out: &mut Object<'_>, ty: SchemaRef<'_>, context: Context<'_>) {
    if ty.node.name.is_empty() {
        write_type(out, ty, context);
    } else {
        write_reference(out, &ty.node.name, context);
    }
}

fn write_type(out: &mut Object<'_>, ty: SchemaRef<'_>, context: Context<'_>) {
    let (name, format) = match ty.ty() {
        // What can be anything at all has no type; what can be any object is one.
        Type::Any if ty.node.merge == Merge::Atomic => return,
        Type::Any | Type::Object | Type::Map => ("object", ""),
        Type::List => ("array", ""),
        Type::String => ("string", ""),
        Type::Bytes => ("string", "byte"),
        Type::Time | Type::MicroTime => ("string", "date-time"),
        Type::Int32 => ("integer", "int32"),
        Type::Int64 => ("integer", "int64"),
        Type::Number => ("number", "double"),
        Type::Boolean => ("boolean", ""),
        Type::Quantity => return write_either(out, "", ["string", "number"], context),
        Type::IntOrString => return write_either(out, "int-or-string", ["integer", "string"], context),
    };
    out.text("type", name);
    out.text_if_any("format", format);
    match ty.ty() {
        Type::Map => {
            write_member_type(out, "additionalProperties", ty.items(), context);
            write_map_type(out, ty);
        }
        Type::Object => write_map_type(out, ty),
        Type::List => {
            write_member_type(out, "items", ty.items(), context);
            if !ty.node.keys.is_empty() {
                out.texts("x-kubernetes-list-map-keys", ty.node.keys.iter().map(AsRef::as_ref));
            }
            let merge = match ty.node.merge {
                Merge::Set => "set",
                Merge::Keyed => "map",
                Merge::Atomic | Merge::Granular => "atomic",
            };
            out.text("x-kubernetes-list-type", merge);
        }
        _ => {}
    }
}

fn write_member_type(out: &mut Object<'_>, name: &str, ty: SchemaRef<'_>, context: Context<'_>) {
    out.object(name, |out| write_type_or_reference(out, ty, context));
}

fn write_map_type(out: &mut Object<'_>, ty: SchemaRef<'_>) {
    if ty.node.merge == Merge::Atomic {
        out.text("x-kubernetes-map-type", "atomic");
    }
}

/// One of two types, for which version 2 has no words.
fn write_either(out: &mut Object<'_>, format: &str, types: [&str; 2], context: Context<'_>) {
    out.text_if_any("format", format);
    match context.dialect {
        Dialect::V2 => out.text("type", "string"),
        Dialect::V3 => out.array("oneOf", types, |out, ty| {
            json::write(&crate::object!({"type": ty}), out);
        }),
    }
}
