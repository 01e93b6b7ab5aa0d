//! The identity that a request carries through the pipeline.

use std::collections::BTreeMap;

use xebec_api::{Key, Map, Value};

/// Every authenticated user is in this group.
pub const AUTHENTICATED: &str = "system:authenticated";
/// Who has not said who they are is in this group.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// Members may do everything; no rule can bar them.
pub const MASTERS: &str = "system:masters";

/// Members who are called as nodes are those.
pub const NODES: &str = "system:nodes";

/// Somebody who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// `jane`, `system:serviceaccount:default:web`, `system:node:n1`.
    pub name: String,
    /// Tells users of the same name apart over time; empty if there is nothing such.
    pub uid: String,
    /// Groups, in the order of the credential.
    pub groups: Vec<String>,
    /// Further facts of the credential, such as the pod that a token is bound to.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// Nobody in particular.
    #[must_use]
    pub fn anonymous() -> Self {
        Self { name: "system:anonymous".into(), groups: vec![UNAUTHENTICATED.into()], ..Self::default() }
    }

    /// A user whose credential was verified; joins the group of all authenticated users.
    #[must_use]
    pub fn authenticated(name: impl Into<String>, groups: impl IntoIterator<Item = String>) -> Self {
        let mut groups: Vec<String> = groups.into_iter().collect();
        if !groups.iter().any(|g| g == AUTHENTICATED) {
            groups.push(AUTHENTICATED.into());
        }
        Self { name: name.into(), groups, ..Self::default() }
    }

    /// A component of Xebec itself, named as upstream names it (`system:kube-scheduler`).
    #[must_use]
    pub fn component(name: &str, groups: &[&str]) -> Self {
        Self::authenticated(name, groups.iter().map(ToString::to_string))
    }

    /// Whether the user is in a group.
    #[must_use]
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// Whether nobody knows who it is.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.is_in(UNAUTHENTICATED)
    }

    /// Namespace and name, if the user is a service account.
    #[must_use]
    pub fn service_account(&self) -> Option<(&str, &str)> {
        self.name.strip_prefix("system:serviceaccount:")?.split_once(':')
    }

    /// The name of the node, if the user is one; empty if nobody knows which.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        self.name.strip_prefix("system:node:").filter(|_| self.is_in(NODES))
    }

    /// `UserInfo` of authentication.k8s.io/v1.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut out = Value::object();
        out.set(&["username"], self.name.as_str());
        if !self.uid.is_empty() {
            out.set(&["uid"], self.uid.as_str());
        }
        out.set(&["groups"], self.groups.iter().map(String::as_str).collect::<Vec<_>>());
        if !self.extra.is_empty() {
            let texts = |v: &Vec<String>| Value::from(v.iter().map(String::as_str).collect::<Vec<_>>());
            let extra: Map = self.extra.iter().map(|(k, v)| (Key::from(k.as_str()), texts(v))).collect();
            out.set(&["extra"], extra);
        }
        out
    }
}
