//! Kinds that set bounds for others: disruption budgets, priority and runtime classes.

use super::Kind;
use super::fill::{Given, absent, fill};

pub(super) const POD_DISRUPTION_BUDGET: Kind =
    Kind { group: "policy", resource: "poddisruptionbudgets", ..Kind::DEFAULT };

pub(super) const PRIORITY_CLASS: Kind = Kind {
    group: "scheduling.k8s.io",
    resource: "priorityclasses",
    unconditional_update: true,
    defaults: |object, _| {
        fill(object, &[absent("preemptionPolicy", Given::Text("PreemptLowerPriority"))]);
    },
    ..Kind::DEFAULT
};

pub(super) const RUNTIME_CLASS: Kind = Kind {
    group: "node.k8s.io",
    resource: "runtimeclasses",
    generation: false,
    create_on_update: true,
    ..Kind::DEFAULT
};
