//! What is asked of authorization, and its words.

use std::fmt;

use xebec_api::Status;
use xebec_api::selector::{FieldRequirement, FieldSelector, Requirement, Selector};

use crate::auth::User;
use crate::http::query::Query;
use crate::http::route::{Target, Verb};

/// What is asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Question<'a> {
    /// `get`, `create`, …
    pub verb: &'a str,
    /// The API group of a resource.
    pub group: &'a str,
    /// The version of the group; `*` if it does not matter. Webhooks are told.
    pub version: &'a str,
    /// The resource's plural name; empty for other paths.
    pub resource: &'a str,
    /// The subresource; empty if there is none.
    pub subresource: &'a str,
    /// The namespace; empty for all, or for cluster-scoped resources.
    pub namespace: &'a str,
    /// The object's name; empty for collections.
    pub name: &'a str,
    /// The path, for what is no resource.
    pub path: &'a str,
    /// What a collection is confined to; roles do not look at it.
    pub selected: Option<&'a Selected>,
}

impl<'a> Question<'a> {
    /// Whether `verb` may be done to what a request is about.
    #[must_use]
    pub fn about(verb: &'a str, target: &'a Target) -> Self {
        Self {
            verb,
            group: &target.group,
            version: &target.version,
            resource: &target.resource,
            subresource: &target.subresource,
            namespace: target.authorized_in(),
            name: &target.name,
            ..Self::default()
        }
    }

    /// Whether it is about a resource, and not about another path.
    #[must_use]
    pub const fn is_resource(&self) -> bool {
        !self.resource.is_empty()
    }

    /// The refusal of the user, with what is to be said about it; empty if there is nothing.
    #[must_use]
    pub fn refusal(&self, user: &User, reason: &str) -> Status {
        // Browsers must not take what a stranger typed for HTML.
        let mut text = format!("User {:?} {self}", user.name);
        if text.contains(['&', '<', '>']) {
            text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        }
        if !reason.is_empty() {
            text.push_str(": ");
            text.push_str(reason);
        }
        Status::forbidden(self.group, self.resource, self.name, text)
    }
}

impl fmt::Display for Question<'_> {
    /// The words of a refusal: `cannot list resource "pods" in API group "" in the namespace "a"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_resource() {
            return write!(f, "cannot {} path {:?}", self.verb, self.path);
        }
        let slash = if self.subresource.is_empty() { "" } else { "/" };
        write!(
            f,
            "cannot {} resource \"{}{slash}{}\" in API group {:?}",
            self.verb, self.resource, self.subresource, self.group
        )?;
        if self.namespace.is_empty() {
            f.write_str(" at the cluster scope")
        } else {
            write!(f, " in the namespace {:?}", self.namespace)
        }
    }
}

/// The objects of a collection that a request is confined to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selected {
    /// By fields.
    pub fields: Vec<FieldRequirement>,
    /// By labels.
    pub labels: Vec<Requirement>,
}

impl Selected {
    /// What a request on a collection is confined to, if it is. A selector that cannot be read confines nothing, so that more
    /// is asked for than was meant; the request itself is refused for it later.
    #[must_use]
    pub fn of_request(verb: Verb, target: &Target, query: &Query) -> Option<Self> {
        if !matches!(verb, Verb::List | Verb::Watch | Verb::DeleteCollection) || !target.name.is_empty() {
            return None;
        }
        let fields = query.get("fieldSelector").and_then(|text| FieldSelector::parse(text).ok());
        let labels = query.get("labelSelector").and_then(|text| Selector::parse(text).ok());
        if fields.is_none() && labels.is_none() {
            return None;
        }
        Some(Self {
            fields: fields.unwrap_or_default().requirements,
            labels: labels.map(|selector| selector.requirements().to_vec()).unwrap_or_default(),
        })
    }

    /// The one name that is left, if it can stand in a path: a role that names the object allows the request.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        let named = |r: &&FieldRequirement| r.equal && r.field == "metadata.name";
        let name = self.fields.iter().find(named)?.value.as_str();
        let is_segment = !matches!(name, "" | "." | "..") && !name.contains(['/', '%']);
        is_segment.then_some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_collection_is_confined_to() {
        let check = |verb, name: &str, query: &str, want: Option<(usize, usize, Option<&str>)>| {
            let target = Target { resource: "pods".into(), name: name.into(), ..Target::default() };
            let selected = Selected::of_request(verb, &target, &Query::parse(query));
            let found = selected.as_ref().map(|s| (s.fields.len(), s.labels.len(), s.name()));
            assert_eq!(found, want, "{query}");
        };
        check(Verb::List, "", "", None);
        check(Verb::List, "", "fieldSelector=metadata.name%3Da", Some((1, 0, Some("a"))));
        check(Verb::Watch, "", "fieldSelector=metadata.name!%3Da", Some((1, 0, None)));
        check(Verb::Watch, "", "fieldSelector=metadata.name%3D..", Some((1, 0, None)));
        check(Verb::DeleteCollection, "", "labelSelector=a%3Db,c", Some((0, 2, None)));
        check(Verb::List, "", "labelSelector=a%3D%3D%3D", None);
        check(Verb::Get, "a", "labelSelector=a", None);
        check(Verb::Create, "", "labelSelector=a", None);
    }

    #[test]
    fn a_refusal_is_no_html() {
        let user = User { name: "<b>".into(), ..User::default() };
        let question = Question { verb: "get", path: "/a&b", ..Question::default() };
        let refused = question.refusal(&user, "because <i>");
        assert_eq!(
            refused.message,
            "forbidden: User \"&lt;b&gt;\" cannot get path \"/a&amp;b\": because <i>"
        );
    }
}
