//! The built-in resources of Kubernetes 1.36 as rows of the resource table, and their types.
//!
//! Everything here is data that `cargo xtask codegen` made from published definitions; it lies in read-only memory, and
//! making the rows allocates little more than the rows. What a kind does differently from a custom resource is not here.

pub(crate) mod node;
pub(crate) mod row;

mod docs;

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

pub use docs::Docs;

use crate::generated::{resources::ROWS, schema};
use crate::resource::{Names, ResourceDef, ScalePaths, Subresource, Text, Version};
use crate::schema::{NodeId, Schema};
use crate::table;
use row::{Row, RowSubresource, RowVersion};

static SCHEMA: LazyLock<Arc<Schema>> = LazyLock::new(|| {
    Arc::new(Schema {
        nodes: Cow::Borrowed(&schema::NODES),
        props: Cow::Borrowed(&schema::PROPS),
        constraints: Vec::new(),
    })
});

/// The arena of all built-in types, the same for every caller.
#[must_use]
pub fn schema() -> Arc<Schema> {
    Arc::clone(&SCHEMA)
}

/// The built-in rows: groups in the order of discovery, resources of a group by name.
#[must_use]
pub fn resources() -> Vec<ResourceDef> {
    ROWS.iter().map(resource).collect()
}

/// The type with this published name, such as `io.k8s.api.core.v1.PodList`.
#[must_use]
pub fn definition(name: &str) -> Option<NodeId> {
    let definitions = &schema::NODES[1..=schema::DEFINITIONS];
    let index = definitions.binary_search_by(|n| n.name.as_ref().cmp(name)).ok()?;
    u32::try_from(index + 1).ok().map(NodeId)
}

/// The type of a kind, such as `autoscaling` `v1` `Scale`, for kinds that belong to one group and version.
#[must_use]
pub fn kind(group: &str, version: &str, kind: &str) -> Option<NodeId> {
    let index =
        schema::KINDS.binary_search_by(|(_, g, v, k)| (*g, *v, *k).cmp(&(group, version, kind))).ok()?;
    Some(NodeId(schema::KINDS[index].0))
}

/// The kinds that are types of the arena: node, group, version, kind, by group, version and kind.
pub fn kinds() -> impl ExactSizeIterator<Item = (NodeId, &'static str, &'static str, &'static str)> {
    schema::KINDS.iter().map(|(node, group, version, kind)| (NodeId(*node), *group, *version, *kind))
}

/// The type of the lists of a built-in resource: `PodList` for `pods`.
#[must_use]
pub fn list_kind(group: &str, plural: &str, version: &str) -> Option<NodeId> {
    let row = ROWS.iter().find(|r| r.group == group && r.plural == plural)?;
    row.versions.iter().find(|v| v.name == version)?.list.map(NodeId)
}

/// The fields that field selectors may name of a built-in resource, besides name and namespace.
#[must_use]
pub fn selectable(group: &str, plural: &str) -> Option<&'static [&'static str]> {
    ROWS.iter().find(|r| r.group == group && r.plural == plural).map(|r| r.selectable)
}

/// `x-kubernetes-unions` of a type, as JSON text.
#[must_use]
pub fn unions(node: NodeId) -> Option<&'static str> {
    schema::UNIONS.iter().find(|(id, _)| *id == node.0).map(|(_, text)| *text)
}

fn texts(texts: &'static [&'static str]) -> Cow<'static, [Text]> {
    texts.iter().map(|t| Cow::Borrowed(*t)).collect()
}

fn resource(row: &'static Row) -> ResourceDef {
    ResourceDef {
        group: row.group.into(),
        names: Names {
            plural: row.plural.into(),
            singular: row.kind.to_lowercase().into(),
            kind: row.kind.into(),
            list_kind: format!("{}List", row.kind).into(),
            short: texts(row.short),
            categories: texts(row.categories),
        },
        scope: row.scope,
        verbs: row.verbs,
        versions: row.versions.iter().map(|v| version(row, v)).collect(),
        storage_version: 0,
        stored_as: row.stored_as.map(|(group, resource)| crate::resource::GroupResource {
            group: group.into(),
            resource: resource.into(),
        }),
    }
}

fn version(row: &'static Row, version: &'static RowVersion) -> Version {
    Version {
        name: version.name.into(),
        served: true,
        schema: schema(),
        root: NodeId(version.root),
        subresources: row.subresources.iter().map(subresource).collect(),
        columns: Cow::Borrowed(table::builtin(row.group, row.plural).unwrap_or_default()),
        selectable: texts(row.selectable),
        deprecation: deprecation(row.group, row.plural).into(),
        rules: None,
    }
}

/// Endpoints and ComponentStatus are deprecated as a whole, and their users are warned.
fn deprecation(group: &str, plural: &str) -> &'static str {
    match (group, plural) {
        ("", "componentstatuses") => "v1 ComponentStatus is deprecated in v1.19+",
        ("", "endpoints") => "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
        _ => "",
    }
}

fn subresource(sub: &'static RowSubresource) -> Subresource {
    Subresource {
        name: sub.name.into(),
        group_version: sub.group_version.map(|(group, version)| (group.into(), version.into())),
        kind: sub.kind.into(),
        verbs: sub.verbs,
        scale: sub.scale.then(|| ScalePaths {
            spec_replicas: ".spec.replicas".into(),
            status_replicas: ".status.replicas".into(),
            selector: ".spec.selector".into(),
        }),
    }
}

#[cfg(test)]
mod tests;
