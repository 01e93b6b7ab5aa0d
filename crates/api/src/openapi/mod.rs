//! OpenAPI documents (2.0 and 3.0) of the resource table, as kubectl, Helm and the generated clients read them.
//!
//! A document is made from rows and their types alone, straight into bytes: version 3 has one per group and version,
//! found through [`index`], whose links carry each document's hash so that clients may keep it for ever; version 2
//! has one for everything. Paths, operation ids, parameters and extensions are those of Kubernetes 1.36; what a client
//! never reads (the zero values that Go declares as defaults) is left out. Nothing is kept here: documents are large and
//! seldom asked for, so the caller makes them when they are, and decides what to keep.

mod custom;
mod gnostic;
pub mod merge;
mod names;
mod operations;
mod parameters;
mod routes;
mod types;
mod v2;
mod v3;
mod writer;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::builtin::Docs;
use crate::resource::{ResourceDef, Version};
use crate::{Map, Value, builtin, json};
use writer::Object;

/// A row to publish.
#[derive(Clone, Copy, Debug)]
pub struct Resource<'a> {
    /// The row.
    pub row: &'a ResourceDef,
    /// The `CustomResourceDefinition` that made the row; `None` for a built-in one. A version without a schema in it
    /// takes anything.
    pub definition: Option<&'a Value>,
}

impl<'a> Resource<'a> {
    /// The `openAPIV3Schema` of a version.
    fn schema(&self, version: &str) -> Option<&'a Map> {
        let versions = self.definition?.array_at(&["spec", "versions"]);
        let version = versions.iter().find(|v| v.str_at(&["name"]) == Some(version))?;
        version.object_at(&["schema", "openAPIV3Schema"])
    }
}

/// The rows that documents are made of.
#[derive(Clone, Debug)]
pub struct Documents<'a> {
    resources: Vec<Resource<'a>>,
    version: String,
}

/// The two forms of OpenAPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    V2,
    V3,
}

impl Dialect {
    /// Where named types stand.
    const fn prefix(self) -> &'static str {
        match self {
            Self::V2 => "#/definitions/",
            Self::V3 => "#/components/schemas/",
        }
    }
}

/// What one document is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// `api`: the versions of the core group.
    CoreVersions,
    /// `apis`: all other groups.
    Groups,
    /// `apis/GROUP`.
    Group(String),
    /// `api/VERSION`, `apis/GROUP/VERSION`; the core group is empty.
    GroupVersion(String, String),
    /// `version`: of the server.
    ServerVersion,
}

impl Part {
    /// The path of the document below `/openapi/v3/`.
    fn key(&self) -> String {
        match self {
            Self::CoreVersions => "api".to_owned(),
            Self::Groups => "apis".to_owned(),
            Self::Group(group) => format!("apis/{group}"),
            Self::GroupVersion(group, version) if group.is_empty() => format!("api/{version}"),
            Self::GroupVersion(group, version) => format!("apis/{group}/{version}"),
            Self::ServerVersion => "version".to_owned(),
        }
    }
}

impl<'a> Documents<'a> {
    /// The documents of `resources`, for a server of `version` (`v1.36.0`). Versions that are not served are left out.
    #[must_use]
    pub fn new(resources: Vec<Resource<'a>>, version: impl Into<String>) -> Self {
        Self { resources, version: version.into() }
    }

    /// The paths of the version 3 documents below `/openapi/v3/`, sorted: `api/v1`, `apis/apps/v1`.
    #[must_use]
    pub fn keys(&self) -> BTreeSet<String> {
        self.parts().iter().map(Part::key).collect()
    }

    /// The version 3 document at one of [`Documents::keys`]; `None` for any other path. `docs` are the texts of the
    /// built-in types, to be shared by all documents that are made at a time.
    #[must_use]
    pub fn v3(&self, key: &str, docs: &Docs) -> Option<Vec<u8>> {
        let part = self.parts().into_iter().find(|p| p.key() == key)?;
        Some(v3::document(self, &part, docs))
    }

    /// The version 2 document.
    #[must_use]
    pub fn v2(&self, docs: &Docs) -> Vec<u8> {
        v2::document(self, docs)
    }

    /// The version 2 document as protobuf: what [`Documents::v2`] has, in the message of gnostic.
    #[must_use]
    pub fn v2_protobuf(&self, docs: &Docs) -> Vec<u8> {
        let document = json::from_slice(&self.v2(docs)).expect("the document that was just written is JSON");
        to_protobuf(&document)
    }

    fn parts(&self) -> BTreeSet<Part> {
        let mut parts = BTreeSet::from([Part::Groups, Part::ServerVersion]);
        for (row, version) in self.served() {
            let group = row.row.group.to_string();
            parts.insert(if group.is_empty() { Part::CoreVersions } else { Part::Group(group.clone()) });
            parts.insert(Part::GroupVersion(group, version.name.to_string()));
        }
        parts
    }

    fn served(&self) -> impl Iterator<Item = (Resource<'a>, &'a Version)> {
        self.resources.iter().flat_map(|r| r.row.versions.iter().filter(|v| v.served).map(move |v| (*r, v)))
    }

    fn served_in(&self, part: &Part) -> Vec<(Resource<'a>, &'a Version)> {
        let here = |row: &Resource<'_>, version: &Version| {
            *part == Part::GroupVersion(row.row.group.to_string(), version.name.to_string())
        };
        self.served().filter(|(row, version)| here(row, version)).collect()
    }

    fn info(&self, out: &mut Object<'_>) {
        out.object("info", |info| {
            info.text("title", "Kubernetes");
            info.text("version", &self.version);
        });
    }
}

/// A version 2 document in the message of gnostic.
#[must_use]
pub fn to_protobuf(document: &Value) -> Vec<u8> {
    gnostic::encode(document)
}

/// The index of the version 3 documents, `/openapi/v3`: keys and their documents' hashes, which upstream writes as SHA-512
/// in upper-case hexadecimal digits.
#[must_use]
pub fn index<'a>(documents: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    writer::document(|out| {
        out.object("paths", |paths| {
            for (key, hash) in documents {
                paths.object(key, |path| {
                    path.text("serverRelativeURL", &format!("/openapi/v3/{key}?hash={hash}"));
                });
            }
        });
    })
}

/// The security scheme that all documents name.
fn bearer_token(out: &mut Object<'_>) {
    out.object("BearerToken", |scheme| {
        scheme.text("description", "Bearer Token authentication");
        scheme.text("in", "header");
        scheme.text("name", "authorization");
        scheme.text("type", "apiKey");
    });
}

/// Whether a version's types are in the built-in arena.
fn is_builtin(version: &Version) -> bool {
    Arc::ptr_eq(&version.schema, &builtin::schema())
}

#[cfg(test)]
mod tests;
