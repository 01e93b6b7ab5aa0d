//! The resource table's rows.
//!
//! Everything the server knows of a resource stands in one [`ResourceDef`]: routes, discovery, OpenAPI, tables and RBAC
//! names derive from it. Built-in rows come from generated data, a `CustomResourceDefinition` makes one at run time; no
//! code can tell which is which.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::rules::Rules;
use crate::schema::{NodeId, Schema, SchemaRef};

/// Text that is static in built-in rows.
pub type Text = Cow<'static, str>;

/// An API group and a resource's plural name in it: `apps` `deployments`. The core group is empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupResource {
    /// The API group.
    pub group: Text,
    /// The plural name.
    pub resource: Text,
}

impl fmt::Display for GroupResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() {
            f.write_str(&self.resource)
        } else {
            write!(f, "{}.{}", self.resource, self.group)
        }
    }
}

/// Whether objects live in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Objects have a namespace.
    Namespaced,
    /// Objects belong to the whole cluster.
    Cluster,
}

/// The verbs of the API on a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verbs(u8);

impl Verbs {
    /// POST.
    pub const CREATE: Self = Self(1);
    /// GET of one object.
    pub const GET: Self = Self(1 << 1);
    /// GET of a collection.
    pub const LIST: Self = Self(1 << 2);
    /// A stream of changes.
    pub const WATCH: Self = Self(1 << 3);
    /// PUT.
    pub const UPDATE: Self = Self(1 << 4);
    /// PATCH.
    pub const PATCH: Self = Self(1 << 5);
    /// DELETE of one object.
    pub const DELETE: Self = Self(1 << 6);
    /// DELETE of a collection.
    pub const DELETE_COLLECTION: Self = Self(1 << 7);
    /// All of them: a stored resource.
    pub const ALL: Self = Self(u8::MAX);

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all verbs of `other` are in this set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The names, in the order that discovery gives them.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        const NAMES: [(Verbs, &str); 8] = [
            (Verbs::CREATE, "create"),
            (Verbs::DELETE, "delete"),
            (Verbs::DELETE_COLLECTION, "deletecollection"),
            (Verbs::GET, "get"),
            (Verbs::LIST, "list"),
            (Verbs::PATCH, "patch"),
            (Verbs::UPDATE, "update"),
            (Verbs::WATCH, "watch"),
        ];
        NAMES.into_iter().filter(move |(verb, _)| self.has(*verb)).map(|(_, name)| name)
    }
}

/// What a resource is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// `deployments`: the name in URLs and in RBAC rules.
    pub plural: Text,
    /// `deployment`.
    pub singular: Text,
    /// `Deployment`.
    pub kind: Text,
    /// `DeploymentList`.
    pub list_kind: Text,
    /// `deploy`.
    pub short: Cow<'static, [Text]>,
    /// `all`.
    pub categories: Cow<'static, [Text]>,
}

/// A path below an object: `status`, `scale`, `log`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subresource {
    /// The path segment.
    pub name: Text,
    /// The group and version of the kind it speaks, when it is not the resource's own.
    pub group_version: Option<(Text, Text)>,
    /// The kind it speaks: `Deployment` for `status`, `Scale` for `scale`.
    pub kind: Text,
    /// What may be done with it.
    pub verbs: Verbs,
    /// For `scale`: where the numbers stand in the object.
    pub scale: Option<ScalePaths>,
}

/// Where `scale` finds its numbers: JSON paths of fields, such as `.spec.replicas`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalePaths {
    /// The wanted number.
    pub spec_replicas: Text,
    /// The observed number.
    pub status_replicas: Text,
    /// The label selector as text, or a `LabelSelector`; empty if there is none.
    pub selector: Text,
}

/// A column of `kubectl get`.
#[derive(Clone, Debug)]
pub struct Column {
    /// Its heading.
    pub name: Text,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub ty: Text,
    /// `name` marks the column that identifies the row; else a hint such as `date-time`.
    pub format: Text,
    /// What it shows.
    pub description: Text,
    /// 0 is always shown, 1 only with `-o wide`.
    pub priority: i32,
    /// Where the value comes from.
    pub source: ColumnSource,
}

/// Where a column's value comes from.
#[derive(Clone, Debug)]
pub enum ColumnSource {
    /// A JSON path (kubectl's dialect), as in a custom resource's `additionalPrinterColumns`.
    JsonPath(Text),
    /// What the table printer knows of a built-in resource: a field with a stand-in, a function (a pod's `STATUS`).
    Printer(crate::table::Printer),
}

/// One served version of a resource.
#[derive(Clone, Debug)]
pub struct Version {
    /// `v1`.
    pub name: Text,
    /// Whether clients may use it.
    pub served: bool,
    /// The arena of its types.
    pub schema: Arc<Schema>,
    /// Its root type in the arena.
    pub root: NodeId,
    /// Paths below an object.
    pub subresources: Cow<'static, [Subresource]>,
    /// Columns of `kubectl get`, `Name` first; age included where it is shown.
    pub columns: Cow<'static, [Column]>,
    /// Fields that field selectors may name besides `metadata.name` and `metadata.namespace`: JSON paths without the
    /// leading dot.
    pub selectable: Cow<'static, [Text]>,
    /// The warning to give when a deprecated version is used; empty if it is not deprecated.
    pub deprecation: Text,
    /// The rules of a custom resource, if it has any.
    pub rules: Option<Arc<Rules>>,
}

impl Version {
    /// The root type.
    #[must_use]
    pub fn root(&self) -> SchemaRef<'_> {
        self.schema.at(self.root)
    }

    /// The subresource `name`.
    #[must_use]
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }
}

/// One row of the resource table.
#[derive(Clone, Debug)]
pub struct ResourceDef {
    /// The API group; empty for the core group.
    pub group: Text,
    /// What it is called.
    pub names: Names,
    /// Whether objects live in a namespace.
    pub scope: Scope,
    /// What may be done with it.
    pub verbs: Verbs,
    /// Versions, the preferred one first; never empty.
    pub versions: Vec<Version>,
    /// Index of the version that is stored.
    pub storage_version: usize,
    /// Where objects are stored, when another row's place is shared (`events` of two groups).
    pub stored_as: Option<GroupResource>,
}

impl ResourceDef {
    /// Group and plural name.
    #[must_use]
    pub fn group_resource(&self) -> GroupResource {
        GroupResource { group: self.group.clone(), resource: self.names.plural.clone() }
    }

    /// Group and plural name under which objects are stored.
    #[must_use]
    pub fn storage_resource(&self) -> GroupResource {
        self.stored_as.clone().unwrap_or_else(|| self.group_resource())
    }

    /// The version `name`, if it is served.
    #[must_use]
    pub fn served(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|v| v.name == name && v.served)
    }

    /// The version that is stored.
    #[must_use]
    pub fn storage(&self) -> &Version {
        &self.versions[self.storage_version]
    }

    /// Whether objects live in a namespace.
    #[must_use]
    pub fn is_namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }

    /// `apps/v1`, or `v1` for the core group.
    #[must_use]
    pub fn api_version(&self, version: &str) -> String {
        if self.group.is_empty() { version.to_owned() } else { format!("{}/{version}", self.group) }
    }
}
