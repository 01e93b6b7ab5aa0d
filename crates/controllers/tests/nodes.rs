//! Node lifecycle against an API whose watches have gone quiet: lists and reads tell the truth, watches never answer.
//! Time is virtual.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use xebec_controllers::context::Context;
use xebec_controllers::node::lifecycle::NodeLifecycle;
use xebec_controllers::pod::PodRecord;
use xebec_controllers::runtime::clock::{Moves, TokioClock};
use xebec_controllers::runtime::events::Recorder;
use xebec_controllers::runtime::informer::Informers;
use xebec_controllers::runtime::rng::Rng;
use xebec_controllers::runtime::runner::Runner;
use xebec_controllers::runtime::writer::Requests;

/// One node, its lease, a pod, and what was asked of them.
struct Api {
    started: Instant,
    node: Value,
    /// When the node stops renewing its lease.
    dies_at: Duration,
    node_lists: Vec<u64>,
    pod_lists: Vec<u64>,
    /// When the node's status was patched, and how.
    patches: Vec<(u64, Value)>,
    /// When the node's pod was patched, and how.
    pod_patches: Vec<(u64, Value)>,
}

impl Api {
    fn seconds(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    fn lease(&self) -> Value {
        let renewals = i64::try_from(self.started.elapsed().min(self.dies_at).as_secs() / 10).unwrap();
        let time = Timestamp::from_second(1_000_000 + 10 * renewals).unwrap();
        json!({
            "metadata": {"name": "n", "namespace": "kube-node-lease", "resourceVersion": (100 + renewals).to_string()},
            "spec": {"holderIdentity": "n", "renewTime": format!("{time:.6}")},
        })
    }

    fn new(dies_at: Duration) -> Self {
        let node = json!({
            "metadata": {"name": "n", "uid": "u", "resourceVersion": "7"},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        });
        let (node_lists, pod_lists, patches, pod_patches) = <(Vec<_>, Vec<_>, Vec<_>, Vec<_>)>::default();
        Self { started: Instant::now(), node, dies_at, node_lists, pod_lists, patches, pod_patches }
    }

    /// The pod, ready only from the second list on.
    fn pod(&self) -> Value {
        let ready = if self.pod_lists.len() > 1 { "True" } else { "False" };
        json!({
            "metadata": {"name": "p", "namespace": "default", "uid": "v", "resourceVersion": self.pod_lists.len().to_string()},
            "spec": {"nodeName": "n", "containers": []},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]},
        })
    }

    /// The answer; none to a watch.
    fn answer(&mut self, method: &http::Method, path: &str, query: &str, body: &[u8]) -> Option<Value> {
        if query.contains("watch=") {
            return None;
        }
        let list = |items: Value| json!({"metadata": {"resourceVersion": "200"}, "items": items});
        Some(match (method.as_str(), path) {
            ("GET", "/api/v1/nodes") => {
                self.node_lists.push(self.seconds());
                list(json!([self.node]))
            }
            ("GET", "/api/v1/pods") => {
                self.pod_lists.push(self.seconds());
                list(json!([self.pod()]))
            }
            ("PATCH", "/api/v1/namespaces/default/pods/p/status") => {
                self.pod_patches.push((self.seconds(), serde_json::from_slice(body).unwrap()));
                let mut pod = self.pod();
                pod["metadata"]["resourceVersion"] = json!("300");
                pod
            }
            ("GET", "/apis/coordination.k8s.io/v1/leases") => list(json!([self.lease()])),
            ("GET", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n") => self.lease(),
            ("PATCH", "/api/v1/nodes/n/status") => {
                self.patches.push((self.seconds(), serde_json::from_slice(body).unwrap()));
                let mut node = self.node.clone();
                node["metadata"]["resourceVersion"] = json!("300");
                node
            }
            other => panic!("nobody should ask for {other:?}"),
        })
    }
}

/// Runs the controller for a while, and has pods listed once more in the middle of it.
async fn run(api: Api, length: Duration) -> Api {
    let api = Arc::new(Mutex::new(api));
    let served = Arc::clone(&api);
    let serve = move |request: http::Request<Body>| {
        let api = Arc::clone(&served);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect_bytes().await.unwrap();
            let (path, query) = (head.uri.path(), head.uri.query().unwrap_or_default());
            let answer = api.lock().unwrap().answer(&head.method, path, query, &body);
            let Some(answer) = answer else { return std::future::pending().await };
            Ok::<_, std::io::Error>(http::Response::new(Body::from(serde_json::to_vec(&answer).unwrap())))
        }
    };
    let client = Client::new(tower::service_fn(serve), "default");
    let (rng, clock) = (Arc::new(Rng::seeded(1)), Arc::new(TokioClock::starting_at(Timestamp::UNIX_EPOCH)));
    // Nobody writes the events.
    let (recorder, _events) =
        Recorder::new(Requests::new(client.clone(), "events"), clock.clone(), "test".to_owned());
    let informers = Informers::new(client.clone(), Arc::clone(&rng));
    let context = Context { client: client.clone(), informers, clock, rng: Arc::clone(&rng), recorder };
    let (stop, stopping) = watch::channel(false);
    let running = tokio::spawn(
        Runner::new(NodeLifecycle::new(&context), client, rng, Moves::default(), 1).run(stopping),
    );
    tokio::time::sleep(length / 2).await;
    context.informers.get::<PodRecord>().relist();
    tokio::time::sleep(length / 2).await;
    stop.send(true).unwrap();
    running.await.unwrap();
    context.informers.stop().await;
    drop(context);
    std::mem::replace(&mut *api.lock().unwrap(), Api::new(Duration::ZERO))
}

#[tokio::test(start_paused = true)]
async fn a_node_that_lives_is_not_given_up_because_a_watch_is_quiet() {
    let api = run(Api::new(Duration::MAX), Duration::from_hours(1)).await;
    assert_eq!(api.patches, []);
}

#[tokio::test(start_paused = true)]
async fn a_dead_node_is_given_up_as_it_was_looked_at() {
    let api = run(Api::new(Duration::from_secs(200)), Duration::from_secs(299)).await;
    let [(second, patch)] = &api.patches[..] else { panic!("{:?}", api.patches) };
    assert!((250..=300).contains(second), "the grace after the last heartbeat that anybody saw, at {second}");
    assert_eq!(patch["metadata"], json!({"uid": "u", "resourceVersion": "7"}));
    assert_eq!(patch["status"]["conditions"][0]["status"], "Unknown");
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_does_not_show_what_was_written_is_filled_anew() {
    let api = run(Api::new(Duration::ZERO), Duration::from_secs(360)).await;
    let [(written, _), ..] = &api.patches[..] else { panic!("{:?}", api.patches) };
    let [0, relisted] = api.node_lists[..] else { panic!("{:?}", api.node_lists) };
    assert!((written + 300..=written + 302).contains(&relisted), "{relisted} s, written at {written}");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_shown_as_ready_late_is_marked_too() {
    let mut api = Api::new(Duration::ZERO);
    let unknown = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"]
        .map(|type_| json!({"type": type_, "status": "Unknown"}));
    api.node["status"]["conditions"] = json!(unknown);
    api.node["spec"]["taints"] = json!([{"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"}]);
    let api = run(api, Duration::from_secs(200)).await;
    assert_eq!(api.patches, [], "all is said of the node");
    let [0, shown] = api.pod_lists[..] else { panic!("{:?}", api.pod_lists) };
    let [(marked, patch)] = &api.pod_patches[..] else { panic!("{:?}", api.pod_patches) };
    assert!((shown..=shown + 10).contains(marked), "marked at {marked}, shown at {shown}");
    assert_eq!(patch["metadata"], json!({"uid": "v"}));
    assert_eq!(patch["status"]["conditions"][0]["status"], "False");
}
