//! Authorization: may this user do this? A chain of authorizers is asked in order until one has an opinion; nothing that
//! none allows is allowed.
//!
//! ```text
//! member of system:masters? ─▶ node? ─▶ roles and bindings (rbac.authorization.k8s.io/v1) ─▶ refused
//! ```

mod bootstrap;
pub mod escalation;
pub(crate) mod node;
mod question;
mod rules;
mod state;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use xebec_api::Status;
use xebec_store::{Event, Prefix, Snapshot, Store, StoreError};

pub use bootstrap::{Role, bootstrap_objects};
pub use question::{Question, Selected};
pub use rules::Rule;
use state::{Grant, State};

use crate::auth::User;
use crate::auth::user::MASTERS;

/// Where in the store all roles and bindings stand.
#[must_use]
pub fn prefix() -> Prefix {
    state::prefix()
}

/// What an authorizer thinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The user may; nobody else is asked.
    Allow,
    /// The user may not, whatever others think.
    Deny,
    /// The next in the chain is asked; after the last, the user may not.
    NoOpinion,
}

/// What came of a question.
#[derive(Clone, Debug)]
pub struct Decision {
    /// Whether the user may.
    pub verdict: Verdict,
    /// Why; `Display` gives the text, which is empty if there is none.
    pub reason: Reason,
    /// What kept authorizers from an opinion; empty if nothing did.
    pub error: String,
}

/// Why somebody may, or may not.
#[derive(Clone, Debug, Default)]
pub struct Reason(Why);

#[derive(Clone, Debug, Default)]
enum Why {
    #[default]
    Unsaid,
    Granted(Grant),
    Text(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Why::Unsaid => Ok(()),
            Why::Granted(grant) => write!(f, "RBAC: allowed by {grant}"),
            Why::Text(text) => f.write_str(text),
        }
    }
}

impl Decision {
    const fn new(verdict: Verdict, why: Why) -> Self {
        Self { verdict, reason: Reason(why), error: String::new() }
    }

    /// Whether the user may.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.verdict == Verdict::Allow
    }
}

/// All rules that hold for a user.
#[derive(Debug, Default)]
pub struct Held {
    /// The rules.
    pub rules: Vec<Rule>,
    /// What is wrong with bindings that grant nothing.
    pub faults: Vec<String>,
    /// Whether the user may do more than the rules say.
    pub incomplete: bool,
}

/// Decides from what is in the store: what nodes' pods need, roles and bindings.
#[derive(Debug)]
pub struct Authorizer {
    state: RwLock<State>,
    nodes: node::Nodes,
}

impl Default for Authorizer {
    fn default() -> Self {
        Self { state: RwLock::default(), nodes: node::Nodes::new(bootstrap::rules("system:node")) }
    }
}

impl Authorizer {
    /// Follows what nodes' pods need from now on.
    ///
    /// # Errors
    /// The store cannot be watched.
    pub fn follow_nodes(&self, store: Arc<dyn Store>) -> Result<(), StoreError> {
        self.nodes.open(store)
    }

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

    /// Whether the user may.
    ///
    /// # Errors
    /// 403: they may not, and why.
    pub async fn authorize(&self, user: &User, question: &Question<'_>) -> Result<Decision, Status> {
        let decision = self.decide(user, question).await;
        if decision.is_allowed() {
            return Ok(decision);
        }
        Err(question.refusal(user, &decision.reason.to_string()))
    }

    /// Asks one after the other until one has an opinion.
    #[expect(clippy::unused_async, reason = "authorizers elsewhere are asked over the network")]
    pub async fn decide(&self, user: &User, question: &Question<'_>) -> Decision {
        self.decide_here(user, question)
    }

    /// What is decided without asking anybody elsewhere: for those who cannot wait.
    #[must_use]
    pub fn decide_here(&self, user: &User, question: &Question<'_>) -> Decision {
        if user.is_in(MASTERS) {
            return Decision::new(Verdict::Allow, Why::Unsaid);
        }
        let mut reasons = Vec::new();
        match user.node() {
            None => {}
            Some("") => reasons.push(format!("unknown node for user {:?}", user.name)),
            Some(node) => match self.nodes.decide(node, question) {
                Ok(()) => return Decision::new(Verdict::Allow, Why::Unsaid),
                Err(why) => reasons.push(why),
            },
        }
        let state = self.current();
        if let Some(grant) = state.granting(user, question) {
            return Decision::new(Verdict::Allow, Why::Granted(grant.clone()));
        }
        let faults = state.faults(user, question.namespace);
        if !faults.is_empty() {
            reasons.push(format!("RBAC: {}", together(&faults)));
        }
        reasons.retain(|reason| !reason.is_empty());
        let why = if reasons.is_empty() { Why::Unsaid } else { Why::Text(reasons.join("\n")) };
        Decision::new(Verdict::NoOpinion, why)
    }

    /// All rules that hold for the user: in the cluster, and in `namespace`.
    #[must_use]
    pub fn rules(&self, user: &User, namespace: &str) -> Held {
        let state = self.current();
        let mut seen: Vec<&Grant> = Vec::new();
        let mut rules = Vec::new();
        for grant in state.grants(user, namespace) {
            if !seen.iter().any(|other| other.is_of_binding(grant)) {
                rules.extend(state.rules_of(grant).iter().cloned());
                seen.push(grant);
            }
        }
        let mut faults = state.faults(user, namespace);
        let incomplete = user.node().is_some();
        if incomplete {
            faults.insert(0, "node authorizer does not support user rule resolution".into());
        }
        Held { rules, faults, incomplete }
    }

    /// Lets a user do what the rules say, everywhere.
    #[cfg(test)]
    pub(crate) fn trust(&self, user: &str, rules: &[Rule]) {
        self.state.write().unwrap_or_else(PoisonError::into_inner).trust(user, rules);
    }

    fn current(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Several errors as one: a single one is itself.
#[must_use]
pub fn together(errors: &[String]) -> String {
    match errors {
        [one] => one.clone(),
        all => format!("[{}]", all.join(", ")),
    }
}
