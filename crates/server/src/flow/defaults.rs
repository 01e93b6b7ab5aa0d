//! The priority levels and flow schemas that every cluster has, as upstream's: two levels and two schemas that are always
//! there, and others that the operator may change.

use xebec_api::{Value, meta, object};

use crate::auth::user::{AUTHENTICATED, MASTERS, UNAUTHENTICATED};

const VERSION: &str = "flowcontrol.apiserver.k8s.io/v1";
/// Says `true` where a newer Xebec may put its own defaults in the place of those of an older one.
const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";
/// Objects that are always there, and as they are here.
pub(crate) const MANDATORY: [&str; 2] = ["exempt", "catch-all"];

/// Levels: name, shares, hundredths that others may borrow, queues, and how many of them a flow has. Without queues nothing
/// waits.
const LEVELS: [(&str, i64, i64, i64, i64); 7] = [
    ("system", 30, 33, 64, 6),
    ("node-high", 40, 25, 64, 6),
    ("leader-election", 10, 0, 16, 4),
    ("workload-high", 40, 50, 128, 6),
    ("workload-low", 100, 90, 128, 6),
    ("global-default", 20, 50, 128, 6),
    ("catch-all", 5, 0, 0, 0),
];
const QUEUE_LENGTH: i64 = 50;

const CONTROLLERS: Who = Who::User("system:kube-controller-manager");
const SCHEDULER: Who = Who::User("system:kube-scheduler");
const NODES: Who = Who::Group("system:nodes");
const EVERYBODY: [Who; 2] = [Who::Group(UNAUTHENTICATED), Who::Group(AUTHENTICATED)];

/// Somebody.
#[derive(Clone, Copy)]
enum Who {
    User(&'static str),
    Group(&'static str),
    /// All service accounts of `kube-system`.
    SystemAccounts,
}

/// What they ask for.
#[derive(Clone, Copy)]
enum What {
    Everything,
    /// How the server is.
    Health,
    Leases,
    /// What nodes say of themselves.
    Heartbeats,
}

/// Schemas: name, level, precedence, what tells flows apart, who, what.
type Row = (&'static str, &'static str, i64, &'static str, &'static [Who], What);

const SCHEMAS: [Row; 11] = [
    ("exempt", "exempt", 1, "", &[Who::Group(MASTERS)], What::Everything),
    ("probes", "exempt", 2, "", &EVERYBODY, What::Health),
    (
        "system-leader-election",
        "leader-election",
        100,
        "ByUser",
        &[CONTROLLERS, SCHEDULER, Who::SystemAccounts],
        What::Leases,
    ),
    ("system-node-high", "node-high", 400, "ByUser", &[NODES], What::Heartbeats),
    ("system-nodes", "system", 500, "ByUser", &[NODES], What::Everything),
    ("kube-controller-manager", "workload-high", 800, "ByNamespace", &[CONTROLLERS], What::Everything),
    ("kube-scheduler", "workload-high", 800, "ByNamespace", &[SCHEDULER], What::Everything),
    (
        "kube-system-service-accounts",
        "workload-high",
        900,
        "ByNamespace",
        &[Who::SystemAccounts],
        What::Everything,
    ),
    (
        "service-accounts",
        "workload-low",
        9000,
        "ByUser",
        &[Who::Group("system:serviceaccounts")],
        What::Everything,
    ),
    ("global-default", "global-default", 9900, "ByUser", &EVERYBODY, What::Everything),
    ("catch-all", "catch-all", 10000, "ByUser", &EVERYBODY, What::Everything),
];

/// All of them, levels first.
pub(crate) fn objects() -> Vec<Value> {
    let exempt = object!({
        "type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}
    });
    let mut objects = vec![named("PriorityLevelConfiguration", "exempt", exempt)];
    objects.extend(LEVELS.map(level));
    objects.extend(SCHEMAS.map(schema));
    objects
}

fn named(kind: &str, name: &str, spec: Value) -> Value {
    object!({
        "apiVersion": VERSION, "kind": kind,
        "metadata": {"name": name, "annotations": {"apf.kubernetes.io/autoupdate-spec": "true"}},
        "spec": (spec)
    })
}

/// What a stored object should be, given what it is by default: those that are mandatory are as they are here, but for what
/// an operator may choose of the level that is exempt; of others those that have not been taken over.
pub(crate) fn restored(old: &Value, wanted: &Value) -> Value {
    let mut new = old.clone();
    let mandatory = MANDATORY.contains(&meta::name(wanted));
    if !mandatory && meta::annotation(old, AUTO_UPDATE) != Some("true") {
        return new;
    }
    let mut spec = wanted.at(&["spec"]).cloned().unwrap_or_default();
    if let Some(exempt) = old.at(&["spec", "exempt"]).filter(|_| spec.get("exempt").is_some()) {
        spec.set(&["exempt"], exempt.clone());
    }
    new.set(&["spec"], spec);
    new
}

fn level((name, shares, lendable, queues, hand): (&str, i64, i64, i64, i64)) -> Value {
    let response = match queues {
        0 => object!({"type": "Reject"}),
        _ => object!({
            "type": "Queue",
            "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": QUEUE_LENGTH}
        }),
    };
    let spec = object!({
        "type": "Limited",
        "limited": {"nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": (response)}
    });
    named("PriorityLevelConfiguration", name, spec)
}

fn schema((name, level, precedence, distinguisher, who, what): Row) -> Value {
    let subjects: Vec<Value> = who.iter().map(|who| subject(*who)).collect();
    let mut rules = rules(what);
    rules.set(&["subjects"], subjects);
    let mut spec = object!({
        "priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence, "rules": [(rules)]
    });
    if !distinguisher.is_empty() {
        spec.set(&["distinguisherMethod"], object!({"type": distinguisher}));
    }
    named("FlowSchema", name, spec)
}

fn subject(who: Who) -> Value {
    match who {
        Who::User(name) => object!({"kind": "User", "user": {"name": name}}),
        Who::Group(name) => object!({"kind": "Group", "group": {"name": name}}),
        Who::SystemAccounts => {
            object!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": "*"}})
        }
    }
}

fn rules(what: What) -> Value {
    match what {
        What::Everything => object!({
            "resourceRules": [{
                "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": true
            }],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]
        }),
        What::Health => object!({
            "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]
        }),
        What::Leases => object!({
            "resourceRules": [{
                "verbs": ["get", "create", "update"], "apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
                "namespaces": ["*"]
            }]
        }),
        What::Heartbeats => object!({
            "resourceRules": [
                {
                    "verbs": ["*"], "apiGroups": [""], "resources": ["nodes", "nodes/status"], "namespaces": ["*"],
                    "clusterScope": true
                },
                {
                    "verbs": ["*"], "apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
                    "namespaces": ["*"]
                }
            ]
        }),
    }
}
