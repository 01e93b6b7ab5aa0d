//! Authorization: may this user do this? Role-based access control (rbac.authorization.k8s.io/v1); nothing that no role
//! allows is allowed.

mod bootstrap;
pub mod escalation;
mod rules;
mod state;

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use xebec_store::{Event, Prefix, Snapshot};

pub use bootstrap::{Role, bootstrap_objects};
pub use rules::Rule;
use state::State;

use crate::auth::User;
use crate::auth::user::MASTERS;
use crate::http::route::Target;

/// What is asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Question<'a> {
    /// `get`, `create`, …
    pub verb: &'a str,
    /// The API group of a resource.
    pub group: &'a str,
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
}

impl<'a> Question<'a> {
    /// Whether `verb` may be done to what a request is about.
    #[must_use]
    pub fn about(verb: &'a str, target: &'a Target) -> Self {
        Self {
            verb,
            group: &target.group,
            resource: &target.resource,
            subresource: &target.subresource,
            namespace: target.authorized_in(),
            name: &target.name,
            path: "",
        }
    }
}

impl std::fmt::Display for Question<'_> {
    /// The words of a refusal: `cannot list resource "pods" in API group "" in the namespace "a"`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.resource.is_empty() {
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

/// Where in the store all roles and bindings stand.
#[must_use]
pub fn prefix() -> Prefix {
    state::prefix()
}

/// Decides from the roles and bindings in the store.
#[derive(Debug, Default)]
pub struct Authorizer {
    state: RwLock<State>,
}

impl Authorizer {
    /// Takes the roles and bindings of a snapshot.
    pub fn refresh(&self, snapshot: &Snapshot) {
        let state = State::read(snapshot);
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// Takes what happened to roles and bindings since.
    pub fn follow(&self, events: &[Arc<Event>]) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        events.iter().for_each(|event| state.follow(event));
    }

    /// Whether the user may; `Err` says why not.
    ///
    /// # Errors
    /// No role allows it: the text for people.
    pub fn check(&self, user: &User, question: &Question<'_>) -> Result<(), String> {
        if self.allows(user, question) {
            return Ok(());
        }
        Err(format!("User {:?} {question}", user.name))
    }

    /// Whether the user may.
    #[must_use]
    pub fn allows(&self, user: &User, question: &Question<'_>) -> bool {
        user.is_in(MASTERS) || self.current().allows(user, question)
    }

    /// All rules that hold for the user: in the cluster, and in `namespace`.
    #[must_use]
    pub fn rules(&self, user: &User, namespace: &str) -> Vec<Rule> {
        let mut rules = if user.is_in(MASTERS) { vec![Rule::everything()] } else { Vec::new() };
        rules.extend(self.current().rules_for(user, namespace).cloned());
        rules
    }

    fn current(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}
