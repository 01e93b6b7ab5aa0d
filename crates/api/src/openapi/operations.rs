//! The paths of a group and version, and what may be done at each: the same for both dialects.

use super::names::{identifier, trimmed};
use super::parameters::Parameter;
use super::routes::Routes;
use super::{Documents, Part};

/// A path with its operations.
#[derive(Debug)]
pub(super) struct Path {
    pub(super) path: String,
    /// What all operations take; sorted by name.
    pub(super) parameters: Vec<Parameter>,
    pub(super) operations: Vec<Operation>,
}

/// A method of a path.
#[derive(Debug)]
pub(super) struct Operation {
    /// `get`, `post`, ...
    pub(super) method: &'static str,
    pub(super) id: String,
    pub(super) tag: String,
    pub(super) description: String,
    /// `x-kubernetes-action`.
    pub(super) action: Option<&'static str>,
    /// `x-kubernetes-group-version-kind`: group, version, kind.
    pub(super) kind: Option<[String; 3]>,
    /// What it takes besides [`Path::parameters`]; sorted by name.
    pub(super) parameters: Vec<Parameter>,
    pub(super) body: Option<Body>,
    /// The type of the answer, and the codes that it comes with.
    pub(super) answer: Answer,
    pub(super) codes: &'static [(u16, &'static str)],
    pub(super) produces: &'static [&'static str],
}

/// What a request carries.
#[derive(Debug)]
pub(super) struct Body {
    /// The name of its type.
    pub(super) ty: String,
    pub(super) required: bool,
    pub(super) consumes: &'static [&'static str],
}

/// What comes back.
#[derive(Debug)]
pub(super) enum Answer {
    /// An object of the type with this name.
    Type(String),
    /// A stream or text.
    Text,
}

/// Encodings of objects of built-in types.
pub(super) const OBJECT: &[&str] = &["application/json", "application/yaml", PROTOBUF];
/// Encodings of custom resources: no `.proto` file describes them.
pub(super) const CUSTOM_OBJECT: &[&str] = &["application/json", "application/yaml"];
pub(super) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
pub(super) const OK: &[(u16, &str)] = &[(200, "OK")];
pub(super) const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// The paths of one document, sorted.
pub(super) fn paths(documents: &Documents<'_>, part: &Part) -> Vec<Path> {
    let mut paths = vec![discovery(part)];
    for (resource, version) in documents.served_in(part) {
        paths.extend(Routes::new(resource.row, version).paths());
    }
    paths.sort_by(|a, b| a.path.cmp(&b.path));
    paths
}

/// The path that tells what there is.
fn discovery(part: &Part) -> Path {
    let (id, tag, description, ty) = match part {
        Part::CoreVersions => {
            ("getCoreAPIVersions".to_owned(), "core".to_owned(), "get available API versions", "APIVersions")
        }
        Part::Groups => {
            ("getAPIVersions".to_owned(), "apis".to_owned(), "get available API versions", "APIGroupList")
        }
        Part::Group(group) => {
            let (id, tag) = (identifier(trimmed(group), true), identifier(trimmed(group), false));
            (format!("get{id}APIGroup"), tag, "get information of a group", "APIGroup")
        }
        Part::GroupVersion(group, version) => {
            let id = format!("{}{}", identifier(trimmed(group), true), identifier(version, true));
            let tag = format!("{}_{}", identifier(trimmed(group), false), identifier(version, false));
            (format!("get{id}APIResources"), tag, "get available resources", "APIResourceList")
        }
        Part::ServerVersion => (
            "getCodeVersion".to_owned(),
            "version".to_owned(),
            "get the version information for this server",
            "",
        ),
    };
    let ty = if ty.is_empty() {
        "io.k8s.apimachinery.pkg.version.Info".to_owned()
    } else {
        format!("{META}.{ty}")
    };
    let operation = Operation {
        method: "get",
        id,
        tag,
        description: description.to_owned(),
        action: None,
        kind: None,
        parameters: Vec::new(),
        body: None,
        answer: Answer::Type(ty),
        codes: OK,
        produces: if *part == Part::ServerVersion { &["application/json"] } else { OBJECT },
    };
    Path { path: format!("/{}/", part.key()), parameters: Vec::new(), operations: vec![operation] }
}
