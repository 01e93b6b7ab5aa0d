//! What a request asks for, read from its method and path alone: the attributes that authorization and audit speak of.

use http::Method;
use percent_encoding::percent_decode_str;
use xebec_api::Status;

use super::query::Query;

/// The API's verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the API's own, described by it")]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    /// The word in RBAC rules.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }

    /// Whether it changes data.
    #[must_use]
    pub const fn is_write(self) -> bool {
        !matches!(self, Self::Get | Self::List | Self::Watch)
    }
}

/// A resource, or something below an object, that a request is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// The API group; empty for the core group.
    pub group: String,
    /// The version.
    pub version: String,
    /// The resource's plural name.
    pub resource: String,
    /// The path segment below the object, empty if there is none.
    pub subresource: String,
    /// The namespace in the path, empty if there is none.
    pub namespace: String,
    /// The object's name, empty for a collection.
    pub name: String,
    /// What follows the subresource, for proxies; starts with `/` if there is anything.
    pub rest: String,
}

impl Target {
    /// The namespace that a request is authorized in: a namespace itself stands in itself.
    #[must_use]
    pub fn authorized_in(&self) -> &str {
        if self.resource == "namespaces" && self.namespace.is_empty() { &self.name } else { &self.namespace }
    }
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// To a resource.
    Resource(Verb, Target),
    /// To a list of groups, versions or resources, health, metrics and the like: the path without a trailing `/`.
    Path(String),
}

impl Route {
    /// Reads method, path and query.
    ///
    /// # Errors
    /// 405: the method means nothing there, such as POST to an object, PUT to a collection, TRACE to anything.
    pub fn read(method: &Method, path: &str, query: &Query) -> Result<Self, Status> {
        let decoded = percent_decode_str(path).decode_utf8_lossy();
        let segments: Vec<&str> = decoded.split('/').filter(|s| !s.is_empty()).collect();
        let (group, version, mut rest) = match segments.as_slice() {
            ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
            ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
            _ => return Ok(Self::Path(format!("/{}", segments.join("/")))),
        };
        let legacy_watch = rest[0] == "watch" && rest.len() > 1;
        if legacy_watch {
            rest = &rest[1..];
        }
        let mut target = read_target(rest);
        target.group = group.to_owned();
        target.version = version.to_owned();
        let verb = verb(method, &target, query, legacy_watch).ok_or_else(|| {
            let word = method.as_str().to_ascii_lowercase();
            Status::method_not_allowed(&target.group, &target.resource, &word)
        })?;
        Ok(Self::Resource(verb, target))
    }
}

fn read_target(segments: &[&str]) -> Target {
    let (namespace, rest) = match segments {
        // Below a namespace there are resources, but also the namespace's own subresources.
        ["namespaces", ns, rest @ ..] if !rest.is_empty() && !is_namespace_subresource(rest) => (*ns, rest),
        _ => ("", segments),
    };
    let segment = |i: usize| rest.get(i).copied().unwrap_or_default().to_owned();
    let below = rest.get(3..).filter(|r| !r.is_empty()).map(|r| format!("/{}", r.join("/")));
    Target {
        resource: segment(0),
        name: segment(1),
        subresource: segment(2),
        namespace: namespace.to_owned(),
        rest: below.unwrap_or_default(),
        ..Target::default()
    }
}

fn is_namespace_subresource(rest: &[&str]) -> bool {
    matches!(rest, ["status" | "finalize"])
}

fn verb(method: &Method, target: &Target, query: &Query, legacy_watch: bool) -> Option<Verb> {
    let collection = target.name.is_empty();
    let watch = legacy_watch || query.flag("watch") == Some(true);
    Some(match *method {
        Method::GET | Method::HEAD if legacy_watch || (collection && watch) => Verb::Watch,
        _ if legacy_watch => return None,
        Method::GET | Method::HEAD if collection => Verb::List,
        Method::GET | Method::HEAD => Verb::Get,
        // What is made at the path of an object would be authorized under a name that the body need not have.
        Method::POST if collection || !target.subresource.is_empty() => Verb::Create,
        Method::PUT if !collection => Verb::Update,
        Method::PATCH if !collection => Verb::Patch,
        Method::DELETE if collection => Verb::DeleteCollection,
        Method::DELETE => Verb::Delete,
        // What is behind a proxy may be asked what it can do by whoever may ask it to do something.
        Method::OPTIONS if target.subresource == "proxy" => Verb::Create,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_read(method: &str, uri: &str) -> Result<Route, u16> {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        Route::read(&method.parse().expect("a method"), path, &Query::parse(query)).map_err(|e| e.code())
    }

    fn read(method: &str, uri: &str) -> Route {
        try_read(method, uri).expect("a method that means something")
    }

    #[test]
    fn methods_that_mean_nothing() {
        for (method, uri) in [
            ("POST", "/api/v1/namespaces/a/pods/p"),
            ("POST", "/api/v1/namespaces/a"),
            ("PUT", "/api/v1/namespaces/a/pods"),
            ("PATCH", "/api/v1/namespaces/a/pods"),
            ("POST", "/api/v1/watch/namespaces/a/pods"),
            ("DELETE", "/api/v1/watch/namespaces/a/pods/p"),
            ("TRACE", "/api/v1/pods"),
            ("get", "/api/v1/pods"),
        ] {
            assert_eq!(try_read(method, uri), Err(405), "{method} {uri}");
        }
    }

    #[test]
    fn resources() {
        let check = |method: &str, uri: &str, verb: &str, want: [&str; 7]| {
            let Route::Resource(got, t) = read(method, uri) else { panic!("{uri} is no resource") };
            assert_eq!(got.as_str(), verb, "{uri}");
            assert_eq!(
                [t.group, t.version, t.namespace, t.resource, t.name, t.subresource, t.rest],
                want,
                "{uri}"
            );
        };
        check("GET", "/api/v1/pods", "list", ["", "v1", "", "pods", "", "", ""]);
        check("GET", "/api/v1/pods?watch=true", "watch", ["", "v1", "", "pods", "", "", ""]);
        check("GET", "/api/v1/watch/pods", "watch", ["", "v1", "", "pods", "", "", ""]);
        check("GET", "/api/v1/namespaces", "list", ["", "v1", "", "namespaces", "", "", ""]);
        check("DELETE", "/api/v1/namespaces/a", "delete", ["", "v1", "", "namespaces", "a", "", ""]);
        check(
            "PUT",
            "/api/v1/namespaces/a/finalize",
            "update",
            ["", "v1", "", "namespaces", "a", "finalize", ""],
        );
        check("GET", "/api/v1/namespaces/a/status", "get", ["", "v1", "", "namespaces", "a", "status", ""]);
        check(
            "DELETE",
            "/api/v1/namespaces/a/namespaces/b",
            "delete",
            ["", "v1", "a", "namespaces", "b", "", ""],
        );
        check("POST", "/api/v1/namespaces/a/pods", "create", ["", "v1", "a", "pods", "", "", ""]);
        check("GET", "/api/v1/namespaces/a/pods/p/log", "get", ["", "v1", "a", "pods", "p", "log", ""]);
        check(
            "GET",
            "/api/v1/namespaces/a/services/s:80/proxy/x/y",
            "get",
            ["", "v1", "a", "services", "s:80", "proxy", "/x/y"],
        );
        check(
            "PATCH",
            "/apis/apps/v1/namespaces/a/deployments/d/scale",
            "patch",
            ["apps", "v1", "a", "deployments", "d", "scale", ""],
        );
        check(
            "DELETE",
            "/apis/apps/v1/namespaces/a/deployments",
            "deletecollection",
            ["apps", "v1", "a", "deployments", "", "", ""],
        );
        check("GET", "/api/v1/namespaces/a/pods/x%20y", "get", ["", "v1", "a", "pods", "x y", "", ""]);
    }

    #[test]
    fn a_namespace_is_authorized_in_itself() {
        for (uri, want) in [
            ("/api/v1/namespaces/a", "a"),
            ("/api/v1/namespaces/a/status", "a"),
            ("/api/v1/namespaces", ""),
            ("/api/v1/namespaces/a/namespaces/b", "a"),
            ("/api/v1/namespaces/a/pods/b", "a"),
            ("/api/v1/nodes/b", ""),
        ] {
            let Route::Resource(_, target) = read("GET", uri) else { panic!("{uri} is no resource") };
            assert_eq!(target.authorized_in(), want, "{uri}");
        }
    }

    #[test]
    fn other_paths() {
        for (uri, want) in [
            ("/", "/"),
            ("/api", "/api"),
            ("/api/v1/", "/api/v1"),
            ("/apis/apps/v1", "/apis/apps/v1"),
            ("/healthz", "/healthz"),
        ] {
            assert_eq!(read("GET", uri), Route::Path(want.into()));
        }
    }
}
