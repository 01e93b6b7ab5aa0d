//! ResourceQuota (core/v1, Kubernetes 1.36): what an object uses, which quotas it is charged to, and whether they have
//! room. Pure; the server charges writes, the quota controller counts what there is.
//!
//! ```text
//!  object ──▶ Evaluator::usage ──▶ amounts ─┐
//!  quota ──▶ Evaluator::concerns ───────────┴─▶ charge ──▶ the quota's new `status.used`, or why not
//! ```
//!
//! Every resource is counted as `count/RESOURCE.GROUP`. Pods, Services, claims for storage and claims for devices use more
//! than that; scopes confine a quota to some pods, or to some claims.

mod charge;
mod claims;
mod pods;
mod scopes;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::quantity::Quantity;
use crate::time::Timestamp;
use crate::{Key, Value};

pub use charge::{Denied, charge};
pub use pods::specified;

/// Amounts by the name that quotas have for them.
pub type Amounts = BTreeMap<Key, Quantity>;

/// What happens to an object that a quota may be charged for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event<'a> {
    /// It is made.
    Create,
    /// It was this before; the name is that of the subresource through which it changes, if any.
    Update(&'a Value, &'a str),
}

/// Knows what the objects of one resource use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluator {
    kind: Kind,
    /// `count/deployments.apps`, `count/pods`.
    count: Key,
    /// The name by which some resources of the core group are counted too.
    alias: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Pods,
    Services,
    StorageClaims,
    DeviceClaims,
    Other,
}

/// Resources that are counted by their own name besides.
const ALIASES: [&str; 4] = ["configmaps", "resourcequotas", "replicationcontrollers", "secrets"];

impl Evaluator {
    /// The evaluator of a resource.
    #[must_use]
    pub fn of(group: &str, resource: &str) -> Self {
        let kind = match (group, resource) {
            ("", "pods") => Kind::Pods,
            ("", "services") => Kind::Services,
            ("", "persistentvolumeclaims") => Kind::StorageClaims,
            ("resource.k8s.io", "resourceclaims") => Kind::DeviceClaims,
            _ => Kind::Other,
        };
        let count =
            if group.is_empty() { format!("count/{resource}") } else { format!("count/{resource}.{group}") };
        let alias = ALIASES.into_iter().find(|alias| group.is_empty() && *alias == resource);
        Self { kind, count: count.as_str().into(), alias }
    }

    /// Whether a quota's resource `name` is one that objects of this resource use.
    #[must_use]
    pub fn knows(&self, name: &str) -> bool {
        name == &*self.count
            || self.alias == Some(name)
            || match self.kind {
                Kind::Pods => pods::knows(name),
                Kind::Services => {
                    matches!(name, "services" | "services.nodeports" | "services.loadbalancers")
                }
                Kind::StorageClaims => claims::is_of_storage(name),
                Kind::DeviceClaims => claims::is_of_devices(name),
                Kind::Other => false,
            }
    }

    /// Whether such an event may change what is used at all.
    #[must_use]
    pub fn handles(&self, event: Event<'_>, new: &Value) -> bool {
        match (self.kind, event) {
            (_, Event::Create) => true,
            (Kind::Pods, Event::Update(old, "")) => {
                scopes::is_terminating(old) != scopes::is_terminating(new)
            }
            (Kind::Pods, Event::Update(_, "resize"))
            | (Kind::Services | Kind::StorageClaims, Event::Update(_, ""))
            | (Kind::DeviceClaims, Event::Update(..)) => true,
            _ => false,
        }
    }

    /// What an object uses. A pod that has ended, or should have by `now`, counts as an object only.
    #[must_use]
    pub fn usage(&self, object: &Value, now: Timestamp) -> Amounts {
        let mut used = match self.kind {
            Kind::Pods => pods::usage(object, now),
            Kind::Services => of_service(object),
            Kind::StorageClaims => claims::of_storage(object),
            Kind::DeviceClaims => claims::of_devices(object),
            Kind::Other => Amounts::new(),
        };
        let one = Quantity::from_units(1);
        used.insert(self.count.clone(), one);
        used.extend(self.alias.map(|alias| (alias.into(), one)));
        used
    }

    /// Whether an object is within a quota's scopes, and uses something that the quota limits: of its specification with
    /// [`Limits::Wanted`], of its status with [`Limits::InForce`].
    #[must_use]
    pub fn concerns(&self, quota: &Value, limits: Limits, object: &Value) -> bool {
        limits.names(quota).any(|name| self.knows(name)) && self.in_scopes(quota, object)
    }

    fn in_scopes(&self, quota: &Value, object: &Value) -> bool {
        scopes::of(quota).all(|scope| match self.kind {
            Kind::Pods => scopes::has_pod(&scope, object),
            Kind::StorageClaims => scopes::has_claim(&scope, object),
            Kind::Services | Kind::DeviceClaims | Kind::Other => false,
        })
    }

    /// What a quota on these names wants said by a pod's containers and is not: CPU and memory must be asked for where they
    /// are limited.
    #[must_use]
    fn unsaid(&self, names: &[&str], object: &Value) -> Option<String> {
        if self.kind == Kind::Pods { pods::unsaid(names, object) } else { None }
    }
}

/// Which of a quota's limits are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limits {
    /// `spec.hard`.
    Wanted,
    /// `status.hard`.
    InForce,
}

impl Limits {
    /// The names of what is limited.
    pub fn names(self, quota: &Value) -> impl Iterator<Item = &str> {
        let part = match self {
            Self::Wanted => "spec",
            Self::InForce => "status",
        };
        quota.object_at(&[part, "hard"]).into_iter().flat_map(crate::Map::iter).map(|(name, _)| name)
    }
}

/// The amounts in an object of texts.
#[must_use]
pub fn amounts(value: Option<&Value>) -> Amounts {
    let members = value.and_then(Value::as_object).into_iter().flat_map(crate::Map::iter);
    members.filter_map(|(name, value)| Some((name.into(), quantity(value)?))).collect()
}

/// Amounts as an object of texts.
#[must_use]
pub fn to_value(amounts: &Amounts) -> Value {
    let mut out = Value::object();
    for (name, amount) in amounts {
        out.make_object().insert(&**name, amount.to_string());
    }
    out
}

/// Adds amounts to others.
pub fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = to.get(name).map_or(*amount, |have| have.plus(*amount));
        to.insert(name.clone(), sum);
    }
}

fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Int(number) => Some(Quantity::from_units(*number)),
        _ => None,
    }
}

fn of_service(service: &Value) -> Amounts {
    let ports = service.array_at(&["spec", "ports"]);
    let count = |n: usize| Quantity::from_units(i64::try_from(n).unwrap_or(i64::MAX));
    let mut used = Amounts::from([("services".into(), count(1))]);
    match service.str_at(&["spec", "type"]) {
        Some("NodePort") => {
            used.insert("services.nodeports".into(), count(ports.len()));
        }
        Some("LoadBalancer") => {
            let all = service.bool_at(&["spec", "allocateLoadBalancerNodePorts"]) != Some(false);
            let has_port = |port: &&Value| all || port.i64_at(&["nodePort"]).unwrap_or(0) != 0;
            used.insert("services.nodeports".into(), count(ports.iter().filter(has_port).count()));
            used.insert("services.loadbalancers".into(), count(1));
        }
        _ => {}
    }
    used
}
