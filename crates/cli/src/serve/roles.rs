//! What Xebec's own components may do: each acts under a name of its own, with no more than it needs.

use xebec_controllers::permissions::Permission;
use xebec_server::auth::User;
use xebec_server::authz::{Role, Rule};

const CONTROLLERS: &str = "system:kube-controller-manager";
const SCHEDULER: &str = "system:kube-scheduler";
const NODES: &str = "system:nodes";

/// The controllers.
pub(crate) fn controllers() -> User {
    User::component(CONTROLLERS, &[])
}

/// The scheduler.
pub(crate) fn scheduler() -> User {
    User::component(SCHEDULER, &[])
}

/// The agent of a node.
pub(crate) fn node(name: &str) -> User {
    User::component(&format!("system:node:{name}"), &[NODES])
}

/// The roles of all components.
pub(crate) fn all() -> Vec<Role> {
    let rules = |permissions: &[Permission]| permissions.iter().map(rule).collect::<Vec<_>>();
    let every =
        xebec_controllers::ROLES.iter().flat_map(|role| rules(role.permissions)).chain([lease()]).collect();
    let scheduling =
        rules(xebec_scheduler::SCHEDULER_ROLE.permissions).into_iter().chain([lease()]).collect();
    vec![
        role(CONTROLLERS, every, "User", CONTROLLERS),
        role(SCHEDULER, scheduling, "User", SCHEDULER),
        role("system:node", node_rules(), "Group", NODES),
    ]
}

fn role(name: &str, rules: Vec<Rule>, subject_kind: &'static str, subject: &str) -> Role {
    Role { name: name.into(), rules, subject_kind, subject: subject.into() }
}

/// The lease that says in which of several servers a component acts.
fn lease() -> Rule {
    Rule::on("create get update", "coordination.k8s.io", "leases")
}

fn rule(permission: &Permission) -> Rule {
    Rule::on(&permission.verbs.join(" "), permission.group, &permission.resources.join(" "))
}

fn node_rules() -> Vec<Rule> {
    const READ: &str = "get list watch";
    const WRITE: &str = "create patch update";
    vec![
        Rule::on(READ, "", "configmaps nodes pods secrets serviceaccounts services"),
        Rule::on(WRITE, "", "events nodes nodes/status"),
        Rule::on("delete", "", "pods"),
        Rule::on("patch update", "", "pods/status"),
        Rule::on("create", "", "pods/eviction serviceaccounts/token"),
        Rule::on("create get patch update", "coordination.k8s.io", "leases"),
        Rule::on(READ, "discovery.k8s.io", "endpointslices"),
        Rule::on(READ, "node.k8s.io", "runtimeclasses"),
    ]
}
