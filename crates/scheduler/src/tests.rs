//! Decisions, case by case.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::node::tests::raw_node;
use crate::plugins::default_profile;
use crate::pod::PodInfo;
use crate::schedule::{Unschedulable, schedule};
use crate::snapshot::ClusterSnapshot;

/// A pod with one container: `container` has its `requests` and `hostPort`, `spec` is merged into the pod's.
pub(crate) fn pod_info(name: &str, container: Value, mut spec: Value) -> Arc<PodInfo> {
    let port = container.get("hostPort").cloned();
    let ports = port.map_or(json!([]), |port| json!([{"containerPort": 1, "hostPort": port}]));
    spec["containers"] =
        json!([{"name": "c", "ports": ports, "resources": {"requests": container.get("requests")}}]);
    let pod =
        json!({"metadata": {"name": name, "namespace": "ns", "uid": format!("uid-{name}")}, "spec": spec});
    Arc::new(PodInfo::of(&serde_json::from_value(pod).unwrap()))
}

struct World(ClusterSnapshot);

impl World {
    fn of(nodes: &[(&str, Value, Value)]) -> Self {
        let mut snapshot = ClusterSnapshot::default();
        for (name, metadata, spec) in nodes {
            snapshot.set_node(&raw_node(name, metadata.clone(), spec.clone(), json!({})));
        }
        Self(snapshot)
    }

    fn plain(names: &[&str]) -> Self {
        let nodes: Vec<_> = names.iter().map(|name| (*name, json!({}), json!({}))).collect();
        Self::of(&nodes)
    }

    fn run(&mut self, node: &str, pod: &Arc<PodInfo>) {
        self.0.place_pod(Arc::clone(pod), node);
    }

    fn choose(&self, container: Value, spec: Value) -> Result<String, Unschedulable> {
        let pod = pod_info("new", container, spec);
        schedule(&self.0, &pod, &default_profile()).map(|decision| decision.node.to_string())
    }

    fn refused(&self, container: Value, spec: Value) -> String {
        self.choose(container, spec).expect_err("no node should do").to_string()
    }
}

fn cpu(amount: &str) -> Value {
    json!({"requests": {"cpu": amount, "memory": "1Mi"}})
}

#[test]
fn refusals_count_reasons_as_kubectl_shows_them() {
    let taint = json!({"taints": [{"key": "dedicated", "value": "db", "effect": "NoSchedule"}]});
    let mut world = World::of(&[
        ("n1", json!({}), json!({})),
        ("n2", json!({}), json!({"unschedulable": true})),
        ("n3", json!({}), taint),
    ]);
    world.run("n1", &pod_info("old", cpu("3500m"), json!({})));
    assert_eq!(
        world.refused(cpu("1"), json!({})),
        "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s), \
         1 node(s) were unschedulable."
    );
    let both =
        world.refused(json!({"requests": {"cpu": "5", "memory": "9Gi", "example.com/gpu": "1"}}), json!({}));
    assert!(
        both.contains("1 Insufficient cpu, 1 Insufficient example.com/gpu, 1 Insufficient memory"),
        "{both}"
    );
    let selected = world
        .refused(cpu("1"), json!({"nodeSelector": {"disk": "ssd"}, "tolerations": [{"operator": "Exists"}]}));
    assert_eq!(selected, "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector.");
    assert_eq!(World::plain(&[]).refused(cpu("1"), json!({})), "no nodes available to schedule pods");
}

#[test]
fn nodes_are_filtered_by_what_the_pod_asks() {
    let world = World::of(&[
        ("n1", json!({"labels": {"disk": "hdd"}}), json!({"unschedulable": true})),
        ("n2", json!({"labels": {"disk": "ssd"}}), json!({})),
        ("n3", json!({"labels": {"disk": "hdd"}}), json!({"taints": [{"key": "a", "effect": "NoExecute"}]})),
    ]);
    let check = |spec: Value, expected: &str| {
        assert_eq!(world.choose(cpu("1"), spec.clone()).unwrap(), expected, "{spec}");
    };
    check(json!({}), "n2");
    check(
        json!({"nodeSelector": {"disk": "hdd"}, "tolerations": [{"key": "a", "operator": "Exists"}]}),
        "n3",
    );
    let cordon = json!([{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]);
    check(json!({"nodeSelector": {"disk": "hdd"}, "tolerations": cordon}), "n1");
    let by_name = |name: &str| {
        let term = json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]});
        let required = json!({"nodeSelectorTerms": [term]});
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}},
               "tolerations": [{"operator": "Exists"}]})
    };
    check(by_name("n3"), "n3");
    let missing = world.refused(cpu("1"), by_name("n9"));
    assert_eq!(missing, "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector.");
}

#[test]
fn ports_are_taken_per_address() {
    let mut world = World::plain(&["n1"]);
    let listening = json!({"requests": {"cpu": "1"}, "hostPort": 80});
    assert_eq!(world.choose(listening.clone(), json!({})).unwrap(), "n1");
    world.run("n1", &pod_info("old", listening.clone(), json!({})));
    let refused = world.refused(listening, json!({}));
    assert_eq!(
        refused,
        "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports."
    );
    assert_eq!(world.choose(json!({"hostPort": 81}), json!({})).unwrap(), "n1");
}

#[test]
fn scores_prefer_free_even_and_liked_nodes() {
    let disliked = json!({"taints": [{"key": "spot", "effect": "PreferNoSchedule"}]});
    let mut world =
        World::of(&[("n1", json!({"labels": {"zone": "a"}}), json!({})), ("n2", json!({}), disliked)]);
    assert_eq!(world.choose(cpu("100m"), json!({})).unwrap(), "n1");
    let tolerant = json!({"tolerations": [{"key": "spot", "operator": "Exists"}]});
    world.run("n1", &pod_info("old", cpu("2"), json!({})));
    assert_eq!(world.choose(cpu("100m"), tolerant.clone()).unwrap(), "n2", "the other has more room");
    let mut wanting = tolerant;
    let term = json!({"matchExpressions": [{"key": "zone", "operator": "Exists"}]});
    wanting["affinity"] = json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution":
        [{"weight": 100, "preference": term}]}});
    assert_eq!(world.choose(cpu("100m"), wanting).unwrap(), "n1", "a preference outweighs room");
}

#[test]
fn equal_pods_spread_over_equal_nodes() {
    let names: Vec<String> = (0..10).map(|n| format!("n{n}")).collect();
    let mut world = World::plain(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let profile = default_profile();
    for n in 0..100 {
        let pod = pod_info(&format!("p{n}"), cpu("100m"), json!({}));
        let decision = schedule(&world.0, &pod, &profile).unwrap();
        assert_eq!(
            schedule(&world.0, &pod, &profile).unwrap(),
            decision,
            "the same question, the same answer"
        );
        world.run(&decision.node, &pod);
    }
    assert!(world.0.nodes().iter().all(|node| node.pods.len() == 10));
}

#[test]
fn a_node_takes_only_so_many_pods() {
    let mut snapshot = ClusterSnapshot::default();
    let status = json!({"allocatable": {"cpu": "4", "memory": "1Gi", "pods": "1"}});
    snapshot.set_node(&raw_node("n1", json!({}), json!({}), status));
    let mut world = World(snapshot);
    world.run("n1", &pod_info("old", json!({}), json!({})));
    assert_eq!(world.refused(json!({}), json!({})), "0/1 nodes are available: 1 Too many pods.");
}

#[test]
fn no_amount_is_so_large_that_it_fits() {
    let large = || json!({"requests": {"cpu": "9E", "memory": "9E", "ephemeral-storage": "9E", "example.com/gpu": "9E"}});
    let small = || json!({"requests": {"cpu": "1", "memory": "1Gi"}});
    let mut world = World::plain(&["n1"]);
    let refused =
        world.refused(large(), json!({"overhead": {"cpu": "1", "memory": "1", "ephemeral-storage": "1"}}));
    assert_eq!(
        refused,
        "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient ephemeral-storage, \
         1 Insufficient example.com/gpu, 1 Insufficient memory."
    );
    // Placed all the same, as a pod that names its node is: what it takes is counted, and given back whole.
    let (first, second) = (pod_info("first", large(), json!({})), pod_info("second", large(), json!({})));
    world.run("n1", &pod_info("old", json!({"requests": {"cpu": "3500m"}}), json!({})));
    world.run("n1", &first);
    world.run("n1", &second);
    assert!(world.refused(small(), json!({})).contains("Insufficient cpu, 1 Insufficient memory"));
    assert_eq!(world.choose(json!({}), json!({})).unwrap(), "n1", "who asks for nothing still fits");
    world.0.remove_pod(&first.uid);
    world.0.remove_pod(&second.uid);
    assert_eq!(world.choose(json!({"requests": {"cpu": "500m"}}), json!({})).unwrap(), "n1");
    assert!(world.refused(small(), json!({})).contains("1 Insufficient cpu"));
}
