//! The loop: events in, decisions out, bindings beside.
//!
//! One task owns the snapshot and the queue; watches only note which keys have changed, and bindings run beside it.

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod};
use kube::Client;
use serde_json::json;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tracing::{debug, info, warn};
use xebec_controllers::permissions::{EVENTS, READ, Role, allow};
use xebec_controllers::runtime::clock::{SharedClock, SystemClock, api_time, sleep_until};
use xebec_controllers::runtime::error::ReconcileError;
use xebec_controllers::runtime::events::{Note, Recorder, Severity};
use xebec_controllers::runtime::informer::{Informer, Informers};
use xebec_controllers::runtime::object::{ObjectKey, Uid};
use xebec_controllers::runtime::rng::Rng;
use xebec_controllers::runtime::runner::DRAIN_DEADLINE;
use xebec_controllers::runtime::tasks::{TaskLost, Tasks, guard, panic_text};
use xebec_controllers::runtime::writer::{Part, Requests, to_value};

use crate::framework::{ClusterEvent, Profile, Rejection};
use crate::plugins::default_profile;
use crate::pod::PodInfo;
use crate::queue::SchedulingQueue;
use crate::schedule::{Unschedulable, schedule};
use crate::snapshot::{ClusterSnapshot, NodeUpdate};

/// What the scheduler may do.
pub const SCHEDULER_ROLE: Role = Role {
    controller: "default-scheduler",
    permissions: &[
        allow("", &["nodes", "pods"], READ),
        allow("", &["pods/binding"], &["create"]),
        allow("", &["pods/status"], &["patch", "update"]),
        EVENTS,
    ],
};

/// How many pods are tried before events are looked at again.
const BATCH: usize = 64;
/// How many bindings and reports are under way at a time.
const IN_FLIGHT: usize = 256;

/// What the scheduler needs from outside.
#[derive(Debug)]
pub struct Config {
    /// The profiles, each under its own name.
    pub profiles: Vec<Profile>,
    /// The time of day.
    pub clock: SharedClock,
    /// The seed of all jitter.
    pub seed: u64,
    /// The name of this process in events.
    pub instance: String,
    /// Caches to share with others of this process, for whoever made them to stop; own ones when absent.
    pub informers: Option<Informers>,
}

impl Default for Config {
    /// The default profile on the machine's clock, with caches of its own.
    fn default() -> Self {
        Self {
            profiles: vec![default_profile()],
            clock: Arc::new(SystemClock),
            seed: 0,
            instance: "xebec".to_owned(),
            informers: None,
        }
    }
}

/// Schedules until `shutdown` ends, and then until the bindings under way have.
///
/// # Errors
/// A task without which nothing is scheduled was lost; the others have been stopped then.
pub async fn run(
    client: Client,
    config: Config,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), TaskLost> {
    let shared = config.informers.is_some();
    let rng = Arc::new(Rng::seeded(config.seed));
    let informers = config.informers.unwrap_or_else(|| Informers::new(client.clone(), rng));
    let requests = Requests::new(client.clone(), "xebec-events");
    let (recorder, events) = Recorder::new(requests, Arc::clone(&config.clock), config.instance);
    let (stop_events, events_stopping) = watch::channel(false);
    let mut writing = Tasks::default();
    writing.spawn("the writer of the scheduler's events", events.run(events_stopping));

    let requests = Requests::new(client, SCHEDULER_ROLE.controller);
    let recorder = recorder.of(SCHEDULER_ROLE.controller);
    let mut scheduler = Scheduler::new(&informers, config.profiles, requests, recorder, config.clock);
    let outcome = tokio::select! {
        biased;
        () = shutdown => Ok(()),
        lost = writing.lost() => Err(lost),
        lost = informers.lost() => Err(lost),
        lost = guard("the scheduling of pods", scheduler.work()) => Err(lost),
    };
    scheduler.drain().await;
    stop_events.send_replace(true);
    let outcome = outcome.and(writing.end().await);
    if !shared {
        informers.stop().await;
    }
    info!("scheduler stopped");
    outcome
}

/// Keys that have changed since they were last looked at.
#[derive(Debug, Default)]
struct Inbox {
    changed: Mutex<Changed>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Changed {
    nodes: BTreeSet<ObjectKey>,
    pods: BTreeSet<ObjectKey>,
}

impl Inbox {
    fn note(&self, change: impl FnOnce(&mut Changed)) {
        change(&mut self.changed.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify_one();
    }

    fn take(&self) -> Changed {
        std::mem::take(&mut self.changed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Scheduler {
    nodes: Informer<Node>,
    pods: Informer<PodInfo>,
    inbox: Arc<Inbox>,
    profiles: Arc<Vec<Profile>>,
    requests: Requests,
    recorder: Recorder,
    clock: SharedClock,
    snapshot: ClusterSnapshot,
    queue: SchedulingQueue,
    /// The incarnation last seen under each key.
    known: HashMap<ObjectKey, Uid>,
    /// Pods that are being bound, or are bound and not yet shown so.
    assumed: HashMap<Uid, Arc<str>>,
    in_flight: JoinSet<Option<Failed>>,
}

/// A binding that did not succeed.
struct Failed {
    pod: Arc<PodInfo>,
    error: ReconcileError,
}

impl Scheduler {
    fn new(
        informers: &Informers,
        profiles: Vec<Profile>,
        requests: Requests,
        recorder: Recorder,
        clock: SharedClock,
    ) -> Self {
        let inbox = Arc::new(Inbox::default());
        let (nodes, pods) = (informers.get::<Node>(), informers.get::<PodInfo>());
        let to = Arc::clone(&inbox);
        nodes.on_change(move |change| {
            let key = change.key.clone();
            to.note(|changed| {
                changed.nodes.insert(key);
            });
        });
        let to = Arc::clone(&inbox);
        pods.on_change(move |change| {
            let key = change.key.clone();
            to.note(|changed| {
                changed.pods.insert(key);
            });
        });
        Self {
            nodes,
            pods,
            inbox,
            profiles: Arc::new(profiles),
            requests,
            recorder,
            clock,
            snapshot: ClusterSnapshot::default(),
            queue: SchedulingQueue::default(),
            known: HashMap::new(),
            assumed: HashMap::new(),
            in_flight: JoinSet::new(),
        }
    }

    async fn work(&mut self) {
        self.nodes.synced().await;
        self.pods.synced().await;
        info!("scheduler started");
        loop {
            self.take_in();
            self.try_batch();
            if self.queue.has_active() && self.in_flight.len() < IN_FLIGHT {
                tokio::task::yield_now().await;
                continue;
            }
            self.wait().await;
        }
    }

    /// Waits until there is something to do.
    async fn wait(&mut self) {
        let due = self.queue.next_due();
        let clock = Arc::clone(&self.clock);
        let timer = async move {
            match due {
                Some(at) => sleep_until(&*clock, at).await,
                None => std::future::pending().await,
            }
        };
        let inbox = Arc::clone(&self.inbox);
        tokio::select! {
            biased;
            Some(ended) = self.in_flight.join_next() => self.bound(ended),
            () = inbox.wake.notified() => {}
            () = timer => {}
        }
    }

    async fn drain(&mut self) {
        let drained = tokio::time::timeout(DRAIN_DEADLINE, async {
            while self.in_flight.join_next().await.is_some() {}
        });
        if drained.await.is_err() {
            warn!(left = self.in_flight.len(), "bindings cut off at shutdown");
            self.in_flight.shutdown().await;
        }
    }

    /// Brings snapshot and queue up to date with the caches.
    fn take_in(&mut self) {
        let Changed { nodes, pods } = self.inbox.take();
        for key in nodes {
            self.take_in_node(&key);
        }
        for key in pods {
            self.take_in_pod(&key);
        }
        while let Some(ended) = self.in_flight.try_join_next() {
            self.bound(ended);
        }
    }

    fn take_in_node(&mut self, key: &ObjectKey) {
        let Some(node) = self.nodes.get(key) else {
            self.snapshot.remove_node(key.name());
            return;
        };
        let update = self.snapshot.set_node(&node);
        let info = self.snapshot.node(key.name()).expect("a node that was just set is there");
        let event = match update {
            NodeUpdate::Added => ClusterEvent::NodeAdded(info),
            NodeUpdate::Changed => ClusterEvent::NodeChanged(info),
            NodeUpdate::Same => return,
        };
        let now = self.clock.instant();
        self.profiles.iter().for_each(|profile| self.queue.wake(&event, profile, now));
    }

    fn take_in_pod(&mut self, key: &ObjectKey) {
        let pod = self.pods.get(key);
        let uid = pod.as_ref().map(|pod| pod.uid.clone());
        if let Some(known) = self.known.get(key).cloned()
            && Some(&known) != uid.as_ref()
        {
            self.known.remove(key);
            self.assumed.remove(&known);
            self.queue.remove(key);
            self.free(&known);
        }
        let Some(pod) = pod else { return };
        self.known.insert(key.clone(), pod.uid.clone());
        if pod.takes_room() {
            self.assumed.remove(&pod.uid);
            self.queue.remove(key);
            let node = pod.node.clone().expect("a pod that takes room has a node");
            self.snapshot.place_pod(pod, &node);
        } else if pod.waits() {
            if !self.assumed.contains_key(&pod.uid) {
                self.enqueue(pod);
            }
        } else {
            self.queue.remove(key);
            self.free(&pod.uid);
        }
    }

    fn enqueue(&mut self, pod: Arc<PodInfo>) {
        let Some(profile) = self.profiles.iter().find(|profile| profile.scheduler == pod.scheduler) else {
            return;
        };
        let gated = profile.pre_enqueue.iter().find_map(|plugin| plugin.pre_enqueue(&pod).err());
        if let Some(reason) = &gated {
            debug!(pod = %pod.key, %reason, "pod is held back");
        }
        self.queue.set(pod, gated.is_some(), &*profile.queue_sort, self.clock.instant());
    }

    /// A pod no longer takes room.
    fn free(&mut self, uid: &Uid) {
        let node = self.snapshot.node_of(uid).map(str::to_owned);
        let pod = node.as_deref().and_then(|node| self.snapshot.node(node)?.pods.get(uid).cloned());
        let now = self.clock.instant();
        if let (Some(node), Some(pod)) = (self.snapshot.remove_pod(uid), pod) {
            let event = ClusterEvent::PodGone(&pod, node);
            self.profiles.iter().for_each(|profile| self.queue.wake(&event, profile, now));
        }
    }

    fn try_batch(&mut self) {
        let profiles = Arc::clone(&self.profiles);
        for _ in 0..BATCH {
            if self.in_flight.len() >= IN_FLIGHT {
                return;
            }
            let now = self.clock.instant();
            // Each profile sorts its own pods; the queue is one, as in Kubernetes, where all profiles sort alike.
            let Some(first) = profiles.first() else { return };
            let Some(pod) = self.queue.pop(&*first.queue_sort, now) else { return };
            let Some(at) = profiles.iter().position(|profile| profile.scheduler == pod.scheduler) else {
                continue;
            };
            self.try_pod(&profiles, at, pod, now);
        }
    }

    fn try_pod(&mut self, profiles: &Arc<Vec<Profile>>, at: usize, pod: Arc<PodInfo>, now: Instant) {
        let profile = &profiles[at];
        let decision = match schedule(&self.snapshot, &pod, profile) {
            Ok(decision) => decision,
            Err(unschedulable) => {
                self.queue.park(&pod.key, unschedulable.plugins(), now);
                self.report(&pod, &unschedulable);
                return;
            }
        };
        if let Err(rejection) = reserve(profile, &pod, &decision.node) {
            self.queue.park(&pod.key, BTreeSet::from([rejection.plugin]), now);
            let nodes = self.snapshot.nodes().len();
            let rejections = vec![(Arc::clone(&decision.node), rejection)];
            self.report(&pod, &Unschedulable { nodes, rejections, ..Unschedulable::default() });
            return;
        }
        debug!(pod = %pod.key, node = %decision.node, feasible = decision.feasible, "node chosen");
        self.assumed.insert(pod.uid.clone(), Arc::clone(&decision.node));
        self.snapshot.place_pod(Arc::clone(&pod), &decision.node);
        let (profiles, requests, recorder) =
            (Arc::clone(profiles), self.requests.clone(), self.recorder.clone());
        self.in_flight.spawn(async move {
            let profile = &profiles[at];
            match bind(profile, &requests, &pod, &decision.node).await {
                Ok(()) => {
                    let text = format!("Successfully assigned {} to {}", pod.key, decision.node);
                    note(&recorder, &pod, Severity::Normal, "Scheduled", text);
                    None
                }
                Err(error) => {
                    profile.reserve.iter().for_each(|plugin| plugin.unreserve(&pod, &decision.node));
                    Some(Failed { pod, error })
                }
            }
        });
    }

    /// A binding has ended: a failed one is taken back.
    fn bound(&mut self, ended: Result<Option<Failed>, JoinError>) {
        // Of a binding whose task was lost nobody knows how far it came: the panic goes on here.
        let failed = ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        let Some(Failed { pod, error }) = failed else { return };
        // The watch may have shown meanwhile that it is bound after all, or gone.
        if self.assumed.remove(&pod.uid).is_none() {
            return;
        }
        self.free(&pod.uid);
        if matches!(&error, ReconcileError::Api(error) if error.is_not_found()) {
            self.queue.remove(&pod.key);
            return;
        }
        warn!(pod = %pod.key, %error, "binding failed, trying again");
        let text = match &error {
            ReconcileError::Api(error) => format!("binding rejected: {}", error.message()),
            ReconcileError::Unusable { .. } | ReconcileError::Panicked(_) => {
                format!("binding failed: {error}")
            }
        };
        note(&self.recorder, &pod, Severity::Warning, "FailedScheduling", text);
        self.queue.retry(&pod.key, self.clock.instant());
    }

    /// Tells the user why a pod waits.
    fn report(&mut self, pod: &Arc<PodInfo>, unschedulable: &Unschedulable) {
        let message = unschedulable.to_string();
        note(&self.recorder, pod, Severity::Warning, "FailedScheduling", message.clone());
        if pod.unschedulable_message.as_deref() == Some(&*message) {
            return;
        }
        let mut condition = json!({ "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message });
        if pod.unschedulable_message.is_none() {
            condition["lastTransitionTime"] = to_value(&api_time(self.clock.now()));
        }
        let patch =
            json!({ "metadata": { "uid": pod.uid.as_str() }, "status": { "conditions": [condition] } });
        let (requests, key) = (self.requests.clone(), pod.key.clone());
        self.in_flight.spawn(async move {
            if let Err(error) = requests.strategic::<Pod>(&key, Part::Status, &patch).await
                && !error.is_not_found()
            {
                warn!(pod = %key, %error, "cannot report why the pod waits");
            }
            None
        });
    }
}

/// Binds a pod; a panic of the plugin fails this binding and no other.
async fn bind(
    profile: &Profile,
    requests: &Requests,
    pod: &PodInfo,
    node: &str,
) -> Result<(), ReconcileError> {
    match AssertUnwindSafe(profile.bind.bind(requests, pod, node)).catch_unwind().await {
        Ok(bound) => bound.map_err(ReconcileError::Api),
        Err(panic) => Err(ReconcileError::Panicked(panic_text(&*panic))),
    }
}

fn reserve(profile: &Profile, pod: &PodInfo, node: &str) -> Result<(), Rejection> {
    for (booked, plugin) in profile.reserve.iter().enumerate() {
        if let Err(rejection) = plugin.reserve(pod, node) {
            profile.reserve[..booked].iter().for_each(|plugin| plugin.unreserve(pod, node));
            return Err(rejection);
        }
    }
    let permitted = profile.permit.iter().try_for_each(|plugin| plugin.permit(pod, node));
    if permitted.is_err() {
        profile.reserve.iter().for_each(|plugin| plugin.unreserve(pod, node));
    }
    permitted
}

fn note(recorder: &Recorder, pod: &PodInfo, severity: Severity, reason: &'static str, text: String) {
    let regarding = ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: Some(pod.key.namespace().to_owned()),
        name: Some(pod.key.name().to_owned()),
        uid: Some(pod.uid.to_string()),
        ..ObjectReference::default()
    };
    recorder.publish(Note { regarding, severity, reason, action: "Binding", text });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use futures::future::BoxFuture;
    use kube::client::Body;
    use xebec_controllers::runtime::error::ApiError;

    use crate::framework::Bind;
    use crate::tests::pod_info;

    /// A client whose every request panics.
    fn clumsy() -> Client {
        async fn answer(_: http::Request<Body>) -> std::io::Result<http::Response<Body>> {
            panic!("no such luck")
        }
        Client::new(tower::service_fn(answer), "default")
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_in_a_watch_ends_the_run_with_its_name() {
        let run = run(clumsy(), Config::default(), std::future::pending());
        let ended = tokio::time::timeout(Duration::from_mins(1), run).await.expect("the run ends");
        assert_eq!(ended.unwrap_err().to_string(), "the watch of nodes has panicked: no such luck");
    }

    struct Fumble;

    impl Bind for Fumble {
        fn bind<'a>(
            &'a self,
            _: &'a Requests,
            pod: &'a PodInfo,
            node: &'a str,
        ) -> BoxFuture<'a, Result<(), ApiError>> {
            async move { panic!("{} slipped off {node}", pod.key) }.boxed()
        }
    }

    #[tokio::test]
    async fn a_panic_in_a_binding_fails_the_binding() {
        let profile = Profile { bind: Box::new(Fumble), ..default_profile() };
        let pod = pod_info("web", json!({}), json!({}));
        let requests = Requests::new(clumsy(), "test");
        let bound = bind(&profile, &requests, &pod, "n1").await;
        assert_eq!(bound.unwrap_err().to_string(), "panicked: ns/web slipped off n1");
    }
}
