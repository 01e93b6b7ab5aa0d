//! Pods that wait for a node. Pure: the time is passed in.
//!
//! ```text
//!             gates open                pop                    bound
//!   gated ───────────────▶ active ─────────────▶ in flight ──────────▶ (gone)
//!                            ▲  ▲                  │     │
//!             time is up     │  │ event that       │     │ bind failed
//!           ┌────────────────┘  │ could help,      │     ▼
//!        backing off ◀──────────┤ or too long   unschedulable
//!           ▲   too early to try└──── parked ◀─────┘     │
//!           └────────────────────────────────────────────┘
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use xebec_controllers::runtime::object::ObjectKey;

use crate::framework::{ClusterEvent, Hint, Profile, QueueSort};
use crate::pod::PodInfo;

/// How long a pod waits after its first failure; doubled with each further one.
pub const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// The longest that it waits.
pub const BACKOFF_LIMIT: Duration = Duration::from_secs(10);
/// After this a pod is tried again even if nothing has happened that could help.
pub const PARKED_LIMIT: Duration = Duration::from_secs(300);

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct SchedulingQueue {
    pods: HashMap<ObjectKey, Entry>,
    active: BTreeMap<(i64, u64), ObjectKey>,
    /// Pods that are backing off or parked, by when that ends.
    timed: BTreeSet<(Instant, u64, ObjectKey)>,
    arrivals: u64,
}

#[derive(Debug)]
struct Entry {
    pod: Arc<PodInfo>,
    nth: u64,
    failures: u32,
    /// When it may be tried again at the earliest.
    not_before: Option<Instant>,
    state: State,
}

#[derive(Debug)]
enum State {
    Gated,
    Active((i64, u64)),
    BackingOff(Instant),
    Parked { until: Instant, plugins: BTreeSet<&'static str> },
    InFlight,
}

impl SchedulingQueue {
    /// Takes in a pod that waits, or its new form. `gated` pods are kept and not tried.
    pub fn set(&mut self, pod: Arc<PodInfo>, gated: bool, sort: &dyn QueueSort, now: Instant) {
        let key = pod.key.clone();
        if self.pods.get(&key).is_some_and(|entry| entry.pod.uid != pod.uid) {
            self.remove(&key);
        }
        let Some(entry) = self.pods.get_mut(&key) else {
            self.arrivals += 1;
            let entry = Entry { pod, nth: self.arrivals, failures: 0, not_before: None, state: State::Gated };
            self.pods.insert(key.clone(), entry);
            if !gated {
                self.activate(&key, sort, now);
            }
            return;
        };
        let could_help = asks_otherwise(&entry.pod, &pod);
        entry.pod = pod;
        match entry.state {
            State::InFlight => {}
            State::Gated if gated => {}
            State::Gated => self.activate(&key, sort, now),
            _ if gated => self.move_to(&key, State::Gated),
            State::Parked { .. } if could_help => self.activate(&key, sort, now),
            // The priority may have changed.
            State::Active(_) => self.activate(&key, sort, now),
            State::Parked { .. } | State::BackingOff(_) => {}
        }
    }

    /// Forgets a pod.
    pub fn remove(&mut self, key: &ObjectKey) {
        if self.pods.contains_key(key) {
            self.move_to(key, State::InFlight);
            self.pods.remove(key);
        }
    }

    /// Takes the next pod to be tried. It is in flight until one of the other calls says otherwise.
    pub fn pop(&mut self, sort: &dyn QueueSort, now: Instant) -> Option<Arc<PodInfo>> {
        while let Some((at, _, key)) = self.timed.first().cloned()
            && at <= now
        {
            self.activate(&key, sort, now);
        }
        let (_, key) = self.active.pop_first()?;
        let entry = self.pods.get_mut(&key).expect("every active key has its entry");
        entry.state = State::InFlight;
        Some(Arc::clone(&entry.pod))
    }

    /// No node would do; `plugins` have said so, or there was no node for anybody to say something about.
    pub fn park(&mut self, key: &ObjectKey, plugins: BTreeSet<&'static str>, now: Instant) {
        if self.fail(key, now) {
            self.move_to(key, State::Parked { until: now + PARKED_LIMIT, plugins });
        }
    }

    /// Something went wrong that time may cure.
    pub fn retry(&mut self, key: &ObjectKey, now: Instant) {
        if self.fail(key, now) {
            let until = self.pods[key].not_before.unwrap_or(now);
            self.move_to(key, State::BackingOff(until));
        }
    }

    /// Wakes the parked pods that `event` could help.
    pub fn wake(&mut self, event: &ClusterEvent<'_>, profile: &Profile, now: Instant) {
        let helps = |entry: &Entry| match &entry.state {
            State::Parked { plugins, .. } if entry.pod.scheduler == profile.scheduler => {
                let asked = profile.filters.iter().filter(|plugin| plugins.contains(plugin.name()));
                let mut hints = asked.map(|plugin| plugin.hint(&entry.pod, event));
                // Where nobody has said no, as without any node, nobody can say what would help: anything may.
                plugins.is_empty() || hints.any(|hint| hint == Hint::Queue)
            }
            _ => false,
        };
        let woken: Vec<_> = self
            .pods
            .iter()
            .filter(|(_, entry)| helps(entry))
            .map(|(key, entry)| (entry.nth, key.clone()))
            .collect();
        for (_, key) in woken {
            self.activate(&key, &*profile.queue_sort, now);
        }
    }

    /// When the next pod becomes active by time alone.
    pub fn next_due(&self) -> Option<Instant> {
        self.timed.first().map(|(at, ..)| *at)
    }

    /// Whether a pod could be popped.
    pub fn has_active(&self) -> bool {
        !self.active.is_empty()
    }

    /// Counts the failure and sets when the pod may be tried again; says whether the pod is still here.
    fn fail(&mut self, key: &ObjectKey, now: Instant) -> bool {
        let Some(entry) = self.pods.get_mut(key) else { return false };
        let factor = 1_u32.checked_shl(entry.failures).unwrap_or(u32::MAX);
        entry.failures = entry.failures.saturating_add(1);
        entry.not_before = Some(now + BACKOFF_FIRST.saturating_mul(factor).min(BACKOFF_LIMIT));
        true
    }

    /// Makes a pod active, or lets it back off until it may be.
    fn activate(&mut self, key: &ObjectKey, sort: &dyn QueueSort, now: Instant) {
        let entry = &self.pods[key];
        let state = match entry.not_before.filter(|at| *at > now) {
            Some(at) => State::BackingOff(at),
            None => State::Active(sort.place(&entry.pod, entry.nth)),
        };
        self.move_to(key, state);
    }

    fn move_to(&mut self, key: &ObjectKey, state: State) {
        let entry = self.pods.get_mut(key).expect("only pods that are here are moved");
        match &entry.state {
            State::Active(place) => {
                self.active.remove(place);
            }
            State::BackingOff(until) | State::Parked { until, .. } => {
                self.timed.remove(&(*until, entry.nth, key.clone()));
            }
            State::Gated | State::InFlight => {}
        }
        match &state {
            State::Active(place) => {
                self.active.insert(*place, key.clone());
            }
            State::BackingOff(until) | State::Parked { until, .. } => {
                self.timed.insert((*until, entry.nth, key.clone()));
            }
            State::Gated | State::InFlight => {}
        }
        entry.state = state;
    }
}

/// Whether a pod asks for something else than before. Its status, which the scheduler itself writes, does not count.
fn asks_otherwise(old: &PodInfo, new: &PodInfo) -> bool {
    old.gates != new.gates
        || old.tolerations != new.tolerations
        || old.requests != new.requests
        || old.selector != new.selector
        || old.priority != new.priority
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::tests::node;
    use crate::plugins::default_profile;
    use crate::schedule::schedule;
    use crate::snapshot::ClusterSnapshot;
    use crate::tests::pod_info;
    use serde_json::{Value, json};

    struct Script {
        queue: SchedulingQueue,
        profile: Profile,
        start: Instant,
    }

    impl Script {
        fn new() -> Self {
            Self { queue: SchedulingQueue::default(), profile: default_profile(), start: Instant::now() }
        }

        fn at(&self, seconds: u64) -> Instant {
            self.start + Duration::from_secs(seconds)
        }

        fn set(&mut self, name: &str, spec: Value, second: u64) {
            let pod = pod_info(name, json!({"requests": {"cpu": "1"}}), spec);
            let (gated, now) = (!pod.gates.is_empty(), self.at(second));
            self.queue.set(pod, gated, &*self.profile.queue_sort, now);
        }

        fn pop(&mut self, second: u64) -> Option<String> {
            let now = self.at(second);
            self.queue.pop(&*self.profile.queue_sort, now).map(|pod| pod.key.name().to_owned())
        }

        fn park(&mut self, name: &str, plugin: &'static str, second: u64) {
            let now = self.at(second);
            self.queue.park(&ObjectKey::new("ns", name), BTreeSet::from([plugin]), now);
        }

        fn node_added(&mut self, cpu: &str, second: u64) {
            let status = json!({"allocatable": {"cpu": cpu, "memory": "1Gi", "pods": "10"}});
            let (node, now) = (node("n", json!({}), json!({}), status), self.at(second));
            self.queue.wake(&ClusterEvent::NodeAdded(&node), &self.profile, now);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_important_come_first_and_then_who_came_first() {
        let mut script = Script::new();
        script.set("first", json!({}), 0);
        script.set("second", json!({}), 0);
        script.set("vip", json!({"priority": 1000}), 0);
        script.set("first", json!({}), 0);
        assert_eq!(
            [script.pop(0), script.pop(0), script.pop(0)].map(Option::unwrap),
            ["vip", "first", "second"]
        );
        assert_eq!(script.pop(0), None);
    }

    #[tokio::test(start_paused = true)]
    async fn gates_hold_back() {
        let mut script = Script::new();
        script.set("a", json!({"schedulingGates": [{"name": "wait"}]}), 0);
        assert_eq!(script.pop(1), None);
        script.set("a", json!({}), 2);
        assert_eq!(script.pop(2).as_deref(), Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_could_help_wakes_and_not_too_soon() {
        let mut script = Script::new();
        script.set("a", json!({}), 0);
        assert_eq!(script.pop(0).as_deref(), Some("a"));
        script.park("a", "NodeResourcesFit", 0);
        script.node_added("500m", 5);
        assert_eq!(script.pop(5), None, "a node that is too small does not help");
        script.node_added("2", 5);
        assert_eq!(script.pop(5).as_deref(), Some("a"));
        script.park("a", "NodeResourcesFit", 5);
        script.node_added("2", 6);
        assert_eq!(
            (script.pop(6), script.pop(7).as_deref()),
            (None, Some("a")),
            "the second wait is two seconds"
        );
        script.park("a", "NodePorts", 7);
        script.park("gone", "NodePorts", 7);
        assert_eq!(
            (script.pop(306), script.pop(307).as_deref()),
            (None, Some("a")),
            "at last it is tried anyway"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_node_wakes_who_waited_without_any() {
        let mut script = Script::new();
        script.set("a", json!({}), 0);
        assert_eq!(script.pop(0).as_deref(), Some("a"));
        let (none, profile) = (ClusterSnapshot::default(), default_profile());
        let refused = schedule(&none, &pod_info("a", json!({}), json!({})), &profile).unwrap_err();
        script.queue.park(&ObjectKey::new("ns", "a"), refused.plugins(), script.at(0));
        assert_eq!(script.pop(5), None);
        script.node_added("2", 5);
        assert_eq!(script.pop(5).as_deref(), Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_request_is_tried_again_and_a_changed_status_is_not() {
        let mut script = Script::new();
        script.set("a", json!({}), 0);
        script.pop(0);
        script.park("a", "TaintToleration", 0);
        script.set("a", json!({}), 20);
        assert_eq!(script.pop(20), None);
        script.set("a", json!({"tolerations": [{"operator": "Exists"}]}), 21);
        assert_eq!(script.pop(21).as_deref(), Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_back_off_and_removed_pods_are_gone() {
        let mut script = Script::new();
        let key = ObjectKey::new("ns", "a");
        script.set("a", json!({}), 0);
        let mut tried = Vec::new();
        for second in 0..60 {
            if script.pop(second).is_some() {
                tried.push(second);
                let now = script.at(second);
                script.queue.retry(&key, now);
            }
        }
        assert_eq!(tried, [0, 1, 3, 7, 15, 25, 35, 45, 55]);
        script.queue.remove(&key);
        assert_eq!((script.pop(100), script.queue.next_due()), (None, None));
    }
}
