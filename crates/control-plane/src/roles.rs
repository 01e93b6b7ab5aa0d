//! What Xebec's own components may do: each acts under a name of its own, with no more than it needs.

use xebec_controllers::permissions::Permission;
use xebec_server::auth::User;
use xebec_server::auth::user::NODES;
use xebec_server::authz::{Role, Rule};

const CONTROLLERS: &str = "system:kube-controller-manager";
const SCHEDULER: &str = "system:kube-scheduler";
const PROXY: &str = "system:kube-proxy";

/// The controllers.
#[must_use]
pub fn controllers() -> User {
    User::component(CONTROLLERS, &[])
}

/// The scheduler.
#[must_use]
pub fn scheduler() -> User {
    User::component(SCHEDULER, &[])
}

/// The agent of a node.
#[must_use]
pub fn node(name: &str) -> User {
    User::component(&format!("system:node:{name}"), &[NODES])
}

/// The agent of a node's services: what stands behind addresses, and its DNS.
#[must_use]
pub fn proxy() -> User {
    User::component(PROXY, &[])
}

/// The roles of all components. Nodes have none: what their pods refer to decides what they read, and the services' agent has
/// the one that every cluster begins with.
#[must_use]
pub fn all() -> Vec<Role> {
    let rules = |permissions: &[Permission]| permissions.iter().map(rule).collect::<Vec<_>>();
    let every =
        xebec_controllers::ROLES.iter().flat_map(|role| rules(role.permissions)).chain([lease()]).collect();
    let scheduling =
        rules(xebec_scheduler::SCHEDULER_ROLE.permissions).into_iter().chain([lease()]).collect();
    vec![role(CONTROLLERS, every, "User", CONTROLLERS), role(SCHEDULER, scheduling, "User", SCHEDULER)]
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
