//! The paths of one version of a resource.

use super::names::{identifier, list_type_name, trimmed, type_name, with_article};
use super::operations::{Answer, Body, CUSTOM_OBJECT, META, OBJECT, OK, Operation, PROTOBUF, Path};
use super::parameters::{self, Parameter};
use super::{Part, is_builtin};
use crate::builtin;
use crate::kinds;
use crate::resource::{ResourceDef, Subresource, Verbs, Version};

const ANY: &[&str] = &["*/*"];
/// Encodings of lists of built-in types, which may be watched.
const STREAM: &[&str] = &[
    "application/json",
    "application/yaml",
    PROTOBUF,
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
];
const LOG_TEXT: &[&str] = &["text/plain", "application/json", "application/yaml", PROTOBUF];
const PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];
/// A custom resource declares no merge keys, so it takes no strategic merge patch.
const CUSTOM_PATCHES: &[&str] =
    &["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];

const OK_CREATED: &[(u16, &str)] = &[(200, "OK"), (201, "Created")];
const OK_ACCEPTED: &[(u16, &str)] = &[(200, "OK"), (202, "Accepted")];
const OK_CREATED_ACCEPTED: &[(u16, &str)] = &[(200, "OK"), (201, "Created"), (202, "Accepted")];

/// Makes the paths of one version of a resource.
pub(super) struct Routes<'a> {
    row: &'a ResourceDef,
    version: &'a Version,
    /// `/apis/apps/v1`.
    root: String,
    /// `AppsV1`: what stands after the verb in operation ids.
    id: String,
    tag: String,
    ty: String,
    builtin: bool,
}

/// Where an operation is.
#[derive(Clone, Copy)]
struct Place<'a> {
    namespaced: bool,
    named: bool,
    subresource: Option<&'a Subresource>,
}

impl<'a> Routes<'a> {
    pub(super) fn new(row: &'a ResourceDef, version: &'a Version) -> Self {
        let part = Part::GroupVersion(row.group.to_string(), version.name.to_string());
        let group = trimmed(&row.group);
        Self {
            row,
            version,
            root: format!("/{}", part.key()),
            id: format!("{}{}", identifier(group, true), identifier(&version.name, true)),
            tag: format!("{}_{}", identifier(group, false), identifier(&version.name, false)),
            ty: type_name(row, version),
            builtin: is_builtin(version),
        }
    }

    pub(super) fn paths(&self) -> Vec<Path> {
        let plural = &self.row.names.plural;
        let namespaced = self.row.is_namespaced();
        let collection = Place { namespaced, named: false, subresource: None };
        let object = Place { named: true, ..collection };
        let scope = if namespaced { "/namespaces/{namespace}" } else { "" };
        let mut paths = Vec::new();
        let mut add = |path: String, place: Place<'_>, operations: Vec<Operation>| {
            if !operations.is_empty() {
                paths.push(self.path(path, place, operations));
            }
        };
        let base = format!("{}{scope}/{plural}", self.root);
        add(base.clone(), collection, self.collection());
        add(format!("{base}/{{name}}"), object, self.object());
        for sub in self.version.subresources.iter() {
            let place = Place { subresource: Some(sub), ..object };
            let path = format!("{base}/{{name}}/{}", sub.name);
            if is_stream(sub) && sub.verbs.has(Verbs::UPDATE) {
                add(format!("{path}/{{path}}"), place, self.stream(sub, "WithPath"));
            }
            add(path, place, self.subresource(sub));
        }
        let anywhere = Place { namespaced: false, ..collection };
        if namespaced && self.row.verbs.has(Verbs::LIST) {
            add(format!("{}/{plural}", self.root), anywhere, vec![self.list(false)]);
        }
        if self.builtin && self.row.verbs.has(Verbs::WATCH) {
            let watched = format!("{}/watch{scope}/{plural}", self.root);
            add(watched.clone(), collection, vec![self.watch(collection)]);
            add(format!("{watched}/{{name}}"), object, vec![self.watch(object)]);
            if namespaced {
                add(format!("{}/watch/{plural}", self.root), anywhere, vec![self.watch(anywhere)]);
            }
        }
        paths
    }

    /// Puts what all operations take beside them.
    fn path(&self, path: String, place: Place<'_>, mut operations: Vec<Operation>) -> Path {
        let mut parameters = Vec::new();
        if place.named {
            // A stream's object is called by its options' kind, as upstream has it.
            let kind = place.subresource.map_or(&self.row.names.kind, |s| &s.kind);
            parameters.push(Parameter::path("name", format!("name of the {kind}")));
        }
        if place.namespaced {
            parameters.push(Parameter::path(
                "namespace",
                "object name and auth scope, such as for teams and projects",
            ));
        }
        if path.ends_with("/{path}") {
            parameters.push(Parameter::path("path", "path to the resource"));
        }
        if !operations.iter().any(|o| o.action == Some("connect")) {
            parameters.push(Parameter::query("pretty"));
        }
        let shared: Vec<Parameter> = match operations.split_first() {
            Some((first, rest)) => {
                let everywhere = |p: &&Parameter| rest.iter().all(|o| o.parameters.contains(p));
                first.parameters.iter().filter(everywhere).cloned().collect()
            }
            None => Vec::new(),
        };
        for operation in &mut operations {
            operation.parameters.retain(|p| !shared.contains(p));
        }
        parameters.extend(shared);
        parameters.sort_by_key(|p| p.name);
        operations.sort_by_key(|o| o.method);
        Path { path, parameters, operations }
    }

    /// `DeploymentScale`, in ids preceded by `Namespaced`.
    fn subject(&self, namespaced: bool, sub: Option<&Subresource>) -> String {
        let prefix = if namespaced { "Namespaced" } else { "" };
        let sub = sub.map(|s| identifier(&s.name, true)).unwrap_or_default();
        format!("{prefix}{}{sub}", self.row.names.kind)
    }

    fn operation(&self, method: &'static str, verb: &str, action: &'static str, subject: &str) -> Operation {
        Operation {
            method,
            id: format!("{verb}{}{subject}", self.id),
            tag: self.tag.clone(),
            description: String::new(),
            action: Some(action),
            kind: Some([
                self.row.group.to_string(),
                self.version.name.to_string(),
                self.row.names.kind.to_string(),
            ]),
            parameters: Vec::new(),
            body: None,
            answer: Answer::Type(self.ty.clone()),
            codes: OK,
            produces: if self.builtin { OBJECT } else { CUSTOM_OBJECT },
        }
    }

    fn streams(&self) -> &'static [&'static str] {
        if self.builtin { STREAM } else { CUSTOM_OBJECT }
    }

    fn collection(&self) -> Vec<Operation> {
        let verbs = self.row.verbs;
        let mut operations = Vec::new();
        if verbs.has(Verbs::LIST) {
            operations.push(self.list(self.row.is_namespaced()));
        }
        if verbs.has(Verbs::CREATE) {
            operations.push(self.create(None));
        }
        if verbs.has(Verbs::DELETE_COLLECTION) {
            let subject = format!("Collection{}", self.subject(self.row.is_namespaced(), None));
            operations.push(Operation {
                description: format!("delete collection of {}", self.row.names.kind),
                parameters: queries(parameters::DELETE_COLLECTION),
                body: Some(delete_options()),
                answer: Answer::Type(format!("{META}.Status")),
                ..self.operation("delete", "delete", "deletecollection", &subject)
            });
        }
        operations
    }

    fn object(&self) -> Vec<Operation> {
        let verbs = self.row.verbs;
        let mut operations = self.read_and_change(verbs, None);
        if verbs.has(Verbs::DELETE) {
            let kind = &self.row.names.kind;
            let returned = kinds::of(&self.row.group, &self.row.names.plural).returned_when_deleted;
            let answer = if returned { self.ty.clone() } else { format!("{META}.Status") };
            operations.push(Operation {
                description: format!("delete{}", with_article(kind)),
                parameters: queries(parameters::DELETE),
                body: Some(delete_options()),
                answer: Answer::Type(answer),
                codes: OK_ACCEPTED,
                ..self.operation("delete", "delete", "delete", &self.subject(self.row.is_namespaced(), None))
            });
        }
        operations
    }

    fn list(&self, namespaced: bool) -> Operation {
        let subject = self.subject(namespaced, None);
        let everywhere = if self.row.is_namespaced() && !namespaced { "ForAllNamespaces" } else { "" };
        let or_watch = if self.builtin && self.row.verbs.has(Verbs::WATCH) { " or watch" } else { "" };
        Operation {
            description: format!("list{or_watch} objects of kind {}", self.row.names.kind),
            parameters: queries(parameters::LIST),
            answer: Answer::Type(list_type_name(self.row, self.version)),
            produces: self.streams(),
            ..self.operation("get", "list", "list", &format!("{subject}{everywhere}"))
        }
    }

    /// The old paths below `watch`, for clients that still use them.
    fn watch(&self, place: Place<'_>) -> Operation {
        let kind = &self.row.names.kind;
        let subject = self.subject(place.namespaced, None);
        let (suffix, action, what) = match (place.named, self.row.is_namespaced() && !place.namespaced) {
            (true, _) => ("", "watch", format!("changes to an object of kind {kind}")),
            (false, false) => ("List", "watchlist", format!("individual changes to a list of {kind}")),
            (false, true) => {
                ("ListForAllNamespaces", "watchlist", format!("individual changes to a list of {kind}"))
            }
        };
        Operation {
            description: format!(
                "watch {what}. deprecated: use the 'watch' parameter with a list operation instead"
            ),
            parameters: queries(parameters::LIST),
            answer: Answer::Type(format!("{META}.WatchEvent")),
            produces: self.streams(),
            ..self.operation("get", "watch", action, &format!("{subject}{suffix}"))
        }
    }

    fn create(&self, sub: Option<&Subresource>) -> Operation {
        let kind = with_article(&self.row.names.kind);
        let ty = self.type_of(sub);
        Operation {
            description: sub
                .map_or_else(|| format!("create{kind}"), |s| format!("create {} of{kind}", s.name)),
            parameters: queries(parameters::CHANGE),
            body: Some(Body { ty: ty.clone(), required: true, consumes: ANY }),
            answer: Answer::Type(ty),
            codes: OK_CREATED_ACCEPTED,
            kind: self.kind_of(sub),
            ..self.operation("post", "create", "post", &self.subject(self.row.is_namespaced(), sub))
        }
    }

    fn read_and_change(&self, verbs: Verbs, sub: Option<&Subresource>) -> Vec<Operation> {
        let kind = &self.row.names.kind;
        let of = sub.map(|s| format!(" {} of", s.name)).unwrap_or_default();
        let subject = self.subject(self.row.is_namespaced(), sub);
        let ty = self.type_of(sub);
        let base = |method, verb, action| Operation {
            kind: self.kind_of(sub),
            answer: Answer::Type(ty.clone()),
            ..self.operation(method, verb, action, &subject)
        };
        let mut operations = Vec::new();
        if verbs.has(Verbs::GET) {
            let description = format!("read{of} the specified {kind}");
            operations.push(Operation { description, ..base("get", "read", "get") });
        }
        if verbs.has(Verbs::UPDATE) {
            operations.push(Operation {
                description: format!("replace{of} the specified {kind}"),
                parameters: queries(parameters::CHANGE),
                body: Some(Body { ty: ty.clone(), required: true, consumes: ANY }),
                codes: OK_CREATED,
                ..base("put", "replace", "put")
            });
        }
        if verbs.has(Verbs::PATCH) {
            let consumes = if self.builtin { PATCHES } else { CUSTOM_PATCHES };
            operations.push(Operation {
                description: format!("partially update{of} the specified {kind}"),
                parameters: queries(parameters::PATCH),
                body: Some(Body { ty: format!("{META}.Patch"), required: true, consumes }),
                codes: OK_CREATED,
                ..base("patch", "patch", "patch")
            });
        }
        operations
    }

    fn subresource(&self, sub: &Subresource) -> Vec<Operation> {
        if is_stream(sub) {
            return self.stream(sub, "");
        }
        if sub.name == "log" && sub.verbs == Verbs::GET {
            let subject = self.subject(self.row.is_namespaced(), Some(sub));
            return vec![Operation {
                description: format!("read log of the specified {}", self.row.names.kind),
                parameters: queries(parameters::LOG),
                answer: Answer::Text,
                produces: LOG_TEXT,
                ..self.operation("get", "read", "get", &subject)
            }];
        }
        let mut operations = self.read_and_change(sub.verbs, Some(sub));
        if sub.verbs.has(Verbs::CREATE) {
            operations.push(self.create(Some(sub)));
        }
        operations
    }

    /// Every method that a stream takes; `suffix` tells the path with a rest from that without.
    fn stream(&self, sub: &Subresource, suffix: &str) -> Vec<Operation> {
        let methods: &[(&str, &str)] = if sub.verbs.has(Verbs::UPDATE) {
            &[
                ("delete", "Delete"),
                ("get", "Get"),
                ("head", "Head"),
                ("options", "Options"),
                ("patch", "Patch"),
                ("post", "Post"),
                ("put", "Put"),
            ]
        } else {
            &[("get", "Get"), ("post", "Post")]
        };
        let subject = self.subject(self.row.is_namespaced(), Some(sub));
        let operation = |(method, word): &(&'static str, &str)| Operation {
            description: format!(
                "connect {} requests to {} of {}",
                method.to_uppercase(),
                sub.name,
                self.row.names.kind
            ),
            parameters: queries(parameters::of_options(&sub.kind)),
            answer: Answer::Text,
            produces: ANY,
            kind: self.kind_of(Some(sub)),
            id: format!("connect{}{word}{subject}{suffix}", self.id),
            ..self.operation(method, "connect", "connect", &subject)
        };
        methods.iter().map(operation).collect()
    }

    /// The type that a subresource speaks, or the resource's own.
    fn type_of(&self, sub: Option<&Subresource>) -> String {
        let foreign = sub.and_then(|s| Some((s.group_version.as_ref()?, &s.kind)));
        let Some(((group, version), kind)) = foreign else { return self.ty.clone() };
        let node =
            builtin::kind(group, version, kind).map(|id| builtin::schema().at(id).node.name.to_string());
        node.unwrap_or_else(|| self.ty.clone())
    }

    fn kind_of(&self, sub: Option<&Subresource>) -> Option<[String; 3]> {
        let own = (self.row.group.clone(), self.version.name.clone());
        let (group, version) = sub.and_then(|s| s.group_version.clone()).unwrap_or(own);
        let kind = sub.map_or(&self.row.names.kind, |s| &s.kind);
        Some([group.to_string(), version.to_string(), kind.to_string()])
    }
}

/// Whether a subresource's kind is that of its options: there is no object to read or to send.
fn is_stream(sub: &Subresource) -> bool {
    sub.kind.ends_with("Options")
}

fn queries(names: &[&str]) -> Vec<Parameter> {
    names.iter().map(|name| Parameter::query(name)).collect()
}

fn delete_options() -> Body {
    Body { ty: format!("{META}.DeleteOptions"), required: false, consumes: ANY }
}
