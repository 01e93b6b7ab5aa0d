//! Roles and their bindings: nobody gives away more than they hold, unless they may `escalate` the role or `bind` it.

use xebec_api::{Status, Value, meta};

use crate::authz::{Question, Rule, escalation};
use crate::registry::strategy::{Guard, Strategy, Write};
use crate::registry::write::Part;
use crate::registry::{convert, read};

const GROUP: &str = "rbac.authorization.k8s.io";

/// `roles` or `clusterroles`.
#[derive(Debug)]
pub(super) struct Roles(pub(super) &'static str);

/// `rolebindings` or `clusterrolebindings`.
#[derive(Debug)]
pub(super) struct Bindings(pub(super) &'static str);

impl Strategy for Roles {
    fn guard<'a>(&'a self, write: &'a Write<'a>, role: &'a Value, _: Part<'a>) -> Option<Guard<'a>> {
        Some(Box::pin(self.check(write, role)))
    }
}

impl Roles {
    async fn check(&self, write: &Write<'_>, role: &Value) -> Result<(), Status> {
        let name = write.old.map(meta::name).unwrap_or_default();
        let namespace = meta::namespace(role);
        let escalate = Question {
            verb: "escalate",
            group: GROUP,
            resource: self.0,
            namespace,
            name,
            ..Question::default()
        };
        if gives_nothing(write, role) || may(write, &escalate).await {
            return Ok(());
        }
        let forbidden = |why: &str| Status::forbidden(GROUP, self.0, meta::name(role), why);
        let rules: Vec<Rule> = role.array_at(&["rules"]).iter().map(Rule::from_value).collect();
        covered(write, namespace, &rules).map_err(|why| forbidden(&why))?;
        // What gathers the rules of others may come to hold anything.
        let gathers = |role: &Value| role.get("aggregationRule").is_some_and(|rule| !rule.is_null());
        if gathers(role) || write.old.is_some_and(gathers) {
            covered(write, namespace, &Rule::full_authority())
                .map_err(|_| forbidden("must have cluster-admin privileges to use the aggregationRule"))?;
        }
        Ok(())
    }
}

impl Strategy for Bindings {
    fn guard<'a>(&'a self, write: &'a Write<'a>, binding: &'a Value, _: Part<'a>) -> Option<Guard<'a>> {
        Some(Box::pin(self.check(write, binding)))
    }
}

impl Bindings {
    async fn check(&self, write: &Write<'_>, binding: &Value) -> Result<(), Status> {
        let namespace = meta::namespace(binding);
        let name = binding.str_at(&["roleRef", "name"]).unwrap_or_default();
        let (resource, home) = match binding.str_at(&["roleRef", "kind"]) {
            Some("ClusterRole") => ("clusterroles", ""),
            Some("Role") => ("roles", namespace),
            // Nothing can be bound; validation says what is wrong.
            _ => return Ok(()),
        };
        let bind = Question { verb: "bind", group: GROUP, resource, namespace, name, ..Question::default() };
        if gives_nothing(write, binding) || may(write, &bind).await {
            return Ok(());
        }
        let table = write.core.table.get();
        let row = table.row(GROUP, resource).ok_or_else(Status::no_such_path)?;
        let role = convert::stored_object(read::find(write.snapshot, row, home, name)?)?;
        let rules: Vec<Rule> = role.array_at(&["rules"]).iter().map(Rule::from_value).collect();
        covered(write, namespace, &rules)
            .map_err(|why| Status::forbidden(GROUP, self.0, meta::name(binding), why))
    }
}

async fn may(write: &Write<'_>, question: &Question<'_>) -> bool {
    write.core.authorizer.decide(&write.context.user, question).await.is_allowed()
}

/// Whether the user's own rules cover these; else the text of the refusal.
fn covered(write: &Write<'_>, namespace: &str, rules: &[Rule]) -> Result<(), String> {
    let user = &write.context.user;
    let held = write.core.authorizer.rules(user, namespace);
    let missing = escalation::missing(&held.rules, rules);
    if missing.is_empty() { Ok(()) } else { Err(escalation::refusal(user, &missing, &held.faults)) }
}

/// Whether an update only changes what the garbage collector needs to change.
fn gives_nothing(write: &Write<'_>, new: &Value) -> bool {
    let plain = |object: &Value| {
        let mut object = object.clone();
        for field in ["ownerReferences", "finalizers", "managedFields", "resourceVersion"] {
            object.remove_at(&["metadata", field]);
        }
        object
    };
    write.old.is_some_and(|old| plain(old) == plain(new))
}
