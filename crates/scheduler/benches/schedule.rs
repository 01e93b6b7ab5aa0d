//! How many pods a second one core schedules onto 1,000 fake nodes: decisions with their bookkeeping, without the API.
//!
//! `cargo bench -p xebec-scheduler`

use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};
use xebec_scheduler::PodInfo;
use xebec_scheduler::plugins::default_profile;
use xebec_scheduler::schedule::schedule;
use xebec_scheduler::snapshot::ClusterSnapshot;

const NODES: usize = 1_000;
const PODS: usize = 10_000;

fn main() {
    run("requests only", |_| json!({}));
    run("with a node selector", |n| json!({"nodeSelector": {"zone": format!("z{}", n % 4)}}));
    run("with preferences and tolerations", |n| {
        let term = json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": [format!("z{}", n % 4)]}]});
        json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution":
                   [{"weight": 10, "preference": term}]}},
               "tolerations": [{"key": "spot", "operator": "Exists"}]})
    });
    refusals();
}

fn run(name: &str, spec: impl Fn(usize) -> Value) {
    let mut snapshot = cluster();
    let profile = default_profile();
    let pods: Vec<_> = (0..PODS).map(|n| pod(n, "100m", spec(n))).collect();
    let started = Instant::now();
    for pod in pods {
        match schedule(&snapshot, &pod, &profile) {
            Ok(decision) => snapshot.place_pod(pod, &decision.node),
            Err(unschedulable) => panic!("{unschedulable}"),
        }
    }
    report(name, PODS, started);
}

fn refusals() {
    let (snapshot, profile) = (cluster(), default_profile());
    let pods: Vec<_> = (0..PODS / 10).map(|n| pod(n, "500", json!({}))).collect();
    let started = Instant::now();
    for pod in &pods {
        assert!(schedule(&snapshot, pod, &profile).is_err(), "no node is that large");
    }
    report("refused by every node", pods.len(), started);
}

fn report(name: &str, pods: usize, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    println!("{name}: {:.0} pods/s on {NODES} nodes", pods as f64 / seconds);
}

fn cluster() -> ClusterSnapshot {
    let mut snapshot = ClusterSnapshot::default();
    for n in 0..NODES {
        let node = json!({
            "metadata": {"name": format!("node-{n}"), "labels": {"zone": format!("z{}", n % 4)}},
            "spec": {},
            "status": {"allocatable": {"cpu": "32", "memory": "128Gi", "pods": "110"}},
        });
        let node: Node = serde_json::from_value(node).expect("a node");
        snapshot.set_node(&node);
    }
    snapshot
}

fn pod(n: usize, cpu: &str, mut spec: Value) -> Arc<PodInfo> {
    let requests = json!({"cpu": cpu, "memory": "128Mi"});
    spec["containers"] = json!([{"name": "c", "resources": {"requests": requests}}]);
    let pod = json!({"metadata": {"name": format!("p{n}"), "namespace": "ns", "uid": format!("uid-{n}")}, "spec": spec});
    let pod: Pod = serde_json::from_value(pod).expect("a pod");
    Arc::new(PodInfo::of(&pod))
}
