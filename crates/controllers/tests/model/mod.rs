//! A cluster of one Deployment, without an API server: objects in maps, changes in logs, controllers with views.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use xebec_controllers::deployment::limits::{Strategy, replicas};
use xebec_controllers::deployment::plan::{Observed, Plan, plan as plan_deployment};
use xebec_controllers::deployment::status::is_complete;
use xebec_controllers::pod::{Owner, Phase, PodRecord};
use xebec_controllers::replicas::ReplicaOwner;
use xebec_controllers::replicas::plan::{Desired, plan as plan_replicas};
use xebec_controllers::runtime::object::{Labels, Uid};
use xebec_controllers::runtime::rng::Rng;
use xebec_controllers::runtime::writer::{status_patch, to_value};

/// How much goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chaos {
    /// Pods only get better, the user waits for a rollout to end before changing the size, and every change is
    /// seen and acted on before the next. Availability is then exact, and checked against the pods themselves.
    Prompt,
    /// As `Prompt`, but everybody sees changes late.
    Calm,
    /// Pods fail, flap and are taken away; the user changes anything at any time.
    Stormy,
}

/// The changes of one resource, in order.
struct Log<T>(Vec<(String, Option<T>)>);

/// The truth of one resource, and its log.
struct Table<T> {
    objects: BTreeMap<String, T>,
    log: Log<T>,
}

impl<T: Clone> Table<T> {
    fn new() -> Self {
        Self { objects: BTreeMap::new(), log: Log(Vec::new()) }
    }

    fn put(&mut self, name: &str, object: T) {
        self.objects.insert(name.to_owned(), object.clone());
        self.log.0.push((name.to_owned(), Some(object)));
    }

    fn remove(&mut self, name: &str) {
        if self.objects.remove(name).is_some() {
            self.log.0.push((name.to_owned(), None));
        }
    }
}

/// What one controller has seen of one resource.
struct View<T> {
    seen: usize,
    /// Its own last write: it does not act before it has seen that.
    own: usize,
    objects: BTreeMap<String, T>,
}

impl<T: Clone> View<T> {
    fn new() -> Self {
        Self { seen: 0, own: 0, objects: BTreeMap::new() }
    }

    fn catch_up(&mut self, table: &Table<T>, rng: &Rng, fully: bool) {
        let least = self.own.max(self.seen);
        let slack = (table.log.0.len() - least) as u64;
        let to = if fully { table.log.0.len() } else { least + rng.below(slack + 1) as usize };
        for (name, object) in &table.log.0[self.seen..to] {
            match object {
                Some(object) => self.objects.insert(name.clone(), object.clone()),
                None => self.objects.remove(name),
            };
        }
        self.seen = to;
    }

    fn wrote(&mut self, table: &Table<T>) {
        self.own = table.log.0.len();
    }
}

pub(crate) struct World {
    rng: Rng,
    chaos: Chaos,
    seconds: i64,
    serial: u64,
    deployment: Table<Deployment>,
    sets: Table<ReplicaSet>,
    pods: Table<Arc<PodRecord>>,
    /// Of the Deployment controller.
    seen_deployment: View<Deployment>,
    seen_sets: View<ReplicaSet>,
    /// Of the ReplicaSet controller.
    owner_sets: View<ReplicaSet>,
    owner_pods: View<Arc<PodRecord>>,
    /// Whether every view is brought fully up to date before it is used.
    up_to_date: bool,
    settling: bool,
}

const NAME: &str = "web";

impl World {
    pub(crate) fn new(seed: u64, chaos: Chaos) -> Self {
        let mut world = Self {
            rng: Rng::seeded(seed),
            chaos,
            seconds: 1_000_000,
            serial: 0,
            deployment: Table::new(),
            sets: Table::new(),
            pods: Table::new(),
            seen_deployment: View::new(),
            seen_sets: View::new(),
            owner_sets: View::new(),
            owner_pods: View::new(),
            up_to_date: false,
            settling: false,
        };
        let deployment = json!({
            "metadata": {"name": NAME, "namespace": "ns", "uid": "d", "generation": 1, "resourceVersion": "1"},
            "spec": {
                "replicas": 1 + world.below(8), "revisionHistoryLimit": world.below(3),
                "minReadySeconds": 3 * world.below(2), "progressDeadlineSeconds": 60,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}},
                             "spec": {"containers": [{"name": "c", "image": "v0"}]}},
                "strategy": world.strategy(),
            },
        });
        world.deployment.put(NAME, serde_json::from_value(deployment).unwrap());
        world
    }

    pub(crate) fn step(&mut self) {
        match self.below(100) {
            0..=24 => self.run_deployment_controller(),
            25..=59 => self.run_replica_controller(),
            60..=93 => self.run_node(),
            94..=96 => self.seconds += i64::try_from(self.below(5)).unwrap(),
            _ => self.run_user(),
        }
        if self.chaos == Chaos::Prompt {
            self.up_to_date = true;
            // Once to act, once to report.
            for _ in 0..2 {
                for name in self.sets.objects.keys().cloned().collect::<Vec<_>>() {
                    self.run_replica_controller_on(&name);
                }
            }
        }
    }

    /// Lets everything come to rest, and checks that it rests where it was asked to.
    pub(crate) fn settle(&mut self) {
        self.up_to_date = true;
        self.settling = true;
        self.edit(|spec| spec["paused"] = json!(false));
        for _ in 0..120 {
            self.seconds += 5;
            self.run_deployment_controller();
            for _ in 0..self.sets.objects.len() {
                self.run_replica_controller();
            }
            for _ in 0..self.pods.objects.len() + 4 {
                self.run_node();
            }
        }
        let deployment = self.deployment.objects[NAME].clone();
        let status = deployment.status.clone().unwrap_or_default();
        assert!(is_complete(&deployment, &status), "did not converge: {status:?}");
        let image = to_value(&deployment)["spec"]["template"]["spec"]["containers"][0]["image"].clone();
        for set in self.sets.objects.values() {
            let set = to_value(set);
            let is_new = set["spec"]["template"]["spec"]["containers"][0]["image"] == image;
            let size = set["spec"]["replicas"].as_i64().unwrap();
            assert_eq!(size, if is_new { i64::from(replicas(&deployment)) } else { 0 });
        }
        let limit = deployment.spec.as_ref().unwrap().revision_history_limit.unwrap();
        assert!(self.sets.objects.len() <= usize::try_from(limit).unwrap() + 1, "history beyond its limit");
        let writes = (self.deployment.log.0.len(), self.sets.log.0.len(), self.pods.log.0.len());
        self.run_deployment_controller();
        for _ in 0..self.sets.objects.len() {
            self.run_replica_controller();
        }
        let after = (self.deployment.log.0.len(), self.sets.log.0.len(), self.pods.log.0.len());
        assert_eq!(writes, after, "a settled cluster is not written to");
    }

    fn run_deployment_controller(&mut self) {
        self.seen_deployment.catch_up(&self.deployment, &self.rng, self.up_to_date);
        self.seen_sets.catch_up(&self.sets, &self.rng, self.up_to_date);
        let Some(deployment) = self.seen_deployment.objects.get(NAME).cloned() else { return };
        let sets: Vec<_> = self.seen_sets.objects.values().cloned().map(Arc::new).collect();
        let mut running: BTreeMap<Uid, usize> = BTreeMap::new();
        for pod in self.pods.objects.values().filter(|pod| !pod.is_finished()) {
            *running.entry(pod.controller.as_ref().unwrap().uid.clone()).or_default() += 1;
        }
        let observed = Observed { deployment: &deployment, sets: &sets, running: &running, now: self.now() };
        let plan = plan_deployment(&observed);
        self.check_surge(&deployment, &sets, &plan);
        check_availability(&deployment, &sets, &plan);
        if let Some(set) = plan.create {
            let name = set.metadata.name.clone().unwrap();
            assert!(!self.sets.objects.contains_key(&name), "{name} is made twice");
            let uid = format!("uid-{name}-{}", self.serial);
            self.write_set(
                &name,
                &to_value(&set),
                &json!({"metadata": {
                "uid": uid, "generation": 1, "creationTimestamp": self.now().to_string()}}),
            );
        }
        for (key, patch) in plan.patch {
            let set = to_value(&self.sets.objects[key.name()]);
            if set["metadata"]["resourceVersion"] != patch["metadata"]["resourceVersion"] {
                continue;
            }
            let bump = if patch.get("spec").is_some() { 1 } else { 0 };
            let generation = set["metadata"]["generation"].as_i64().unwrap() + bump;
            let mut patched = set;
            merge(&mut patched, &patch);
            self.write_set(key.name(), &patched, &json!({"metadata": {"generation": generation}}));
        }
        for (key, _) in plan.delete {
            self.sets.remove(key.name());
        }
        self.seen_sets.wrote(&self.sets);
        let status = json!({"status": to_value(&plan.status)});
        let mut updated = self.deployment.objects[NAME].clone();
        updated.status = serde_json::from_value(status["status"].clone()).unwrap();
        if let Some(revision) = plan.revision {
            let annotations = updated.metadata.annotations.get_or_insert_default();
            annotations.insert("deployment.kubernetes.io/revision".to_owned(), revision);
        }
        if updated != self.deployment.objects[NAME] {
            self.deployment.put(NAME, updated);
        }
        self.seen_deployment.wrote(&self.deployment);
    }

    /// A step never asks for more than replicas + surge, unless more was asked for before it.
    fn check_surge(&self, deployment: &Deployment, sets: &[Arc<ReplicaSet>], plan: &Plan) {
        let before: i32 = sets.iter().map(|set| set.replicas()).sum();
        let change: i32 = plan.scaled.iter().map(|scaling| scaling.to - scaling.from).sum();
        let limit = replicas(deployment) + Strategy::of(deployment).max_surge();
        assert!(
            before + change <= limit.max(before),
            "{before} {change:+} is above {limit}: {:?}",
            plan.scaled
        );
    }

    fn run_replica_controller(&mut self) {
        self.owner_sets.catch_up(&self.sets, &self.rng, self.up_to_date);
        self.owner_pods.catch_up(&self.pods, &self.rng, self.up_to_date);
        let names: Vec<_> = self.owner_sets.objects.keys().cloned().collect();
        if let Some(name) = self.pick(&names) {
            self.reconcile_set(&name);
        }
    }

    fn run_replica_controller_on(&mut self, name: &str) {
        self.owner_sets.catch_up(&self.sets, &self.rng, true);
        self.owner_pods.catch_up(&self.pods, &self.rng, true);
        self.reconcile_set(name);
    }

    fn reconcile_set(&mut self, name: &str) {
        let set = self.owner_sets.objects[name].clone();
        let uid = Uid::of(&set.metadata);
        let pods = self.owner_pods.objects.values();
        let owned: Vec<_> = pods.filter(|pod| pod.controller.as_ref().unwrap().uid == uid).cloned().collect();
        let related = || self.owner_pods.objects.values().cloned().collect();
        let desired = Desired {
            replicas: set.replicas(),
            min_ready: set.min_ready(),
            template_labels: Labels::default(),
            generation: set.metadata.generation,
            deleting: false,
            counts_terminating: true,
        };
        let last = set.last_status();
        let plan = plan_replicas(&desired, &last, &owned, related, self.now());
        for _ in 0..plan.create {
            self.create_pod(&set);
        }
        let active = self.pods.objects.values().filter(|pod| pod.is_active());
        let active = active.filter(|pod| pod.controller.as_ref().unwrap().uid == uid).count();
        assert!(plan.create == 0 || active <= set.replicas() as usize, "{name} has {active} pods");
        for victim in &plan.delete {
            self.delete_pod(victim.key.name());
        }
        self.owner_pods.wrote(&self.pods);
        let revision = set.metadata.resource_version.clone().unwrap();
        if let Some(patch) = status_patch(&last, &plan.status, uid.as_str(), &revision)
            && let Some(truth) = self.sets.objects.get(name)
            && truth.metadata.resource_version.as_ref() == Some(&revision)
        {
            let mut patched = to_value(truth);
            merge(&mut patched, &patch);
            self.write_set(name, &patched, &json!({}));
        }
        self.owner_sets.wrote(&self.sets);
    }

    fn create_pod(&mut self, set: &ReplicaSet) {
        let name = format!("pod-{}", self.next());
        let mut pod = PodRecord::of(&Pod::default());
        pod.key = xebec_controllers::runtime::object::ObjectKey::new("ns", &name);
        pod.uid = Uid::new(&name);
        pod.controller = Some(Owner {
            api_version: "apps/v1".into(),
            kind: "ReplicaSet".into(),
            name: set.metadata.name.as_deref().unwrap().into(),
            uid: Uid::of(&set.metadata),
        });
        pod.created = Some(self.now());
        pod.node = Some(format!("n{}", self.below(3)).into());
        self.pods.put(&name, Arc::new(pod));
    }

    fn delete_pod(&mut self, name: &str) {
        let Some(pod) = self.pods.objects.get(name).cloned() else { return };
        if pod.deleting.is_some() {
            return;
        }
        let available_before = self.available();
        self.change_pod(&pod, |pod, now| pod.deleting = Some(now));
        let deployment = &self.deployment.objects[NAME];
        let desired = replicas(deployment);
        let least = desired - Strategy::of(deployment).max_unavailable(desired);
        let is_rolling = matches!(Strategy::of(deployment), Strategy::Rolling { .. });
        if self.chaos == Chaos::Prompt && is_rolling && !self.resized() && self.available() < available_before
        {
            assert!(self.available() >= least, "{} of {least} are available", self.available());
        }
    }

    fn run_node(&mut self) {
        let names: Vec<_> = self.pods.objects.keys().cloned().collect();
        let Some(name) = self.pick(&names) else { return };
        let pod = Arc::clone(&self.pods.objects[&name]);
        let luck = self.below(100);
        let stormy = self.chaos == Chaos::Stormy && !self.settling;
        if pod.deleting.is_some() {
            self.pods.remove(&name);
        } else if stormy && luck < 6 {
            self.change_pod(&pod, |pod, _| pod.phase = Phase::Failed);
        } else if stormy && luck < 10 {
            self.pods.remove(&name);
        } else if stormy && luck < 18 && pod.ready.is_true {
            self.change_pod(&pod, |pod, now| {
                pod.ready.is_true = false;
                pod.ready.since = Some(now);
            });
        } else if pod.is_active() && !pod.ready.is_true {
            self.change_pod(&pod, |pod, now| {
                pod.phase = Phase::Running;
                pod.ready.is_true = true;
                pod.ready.since = Some(now);
            });
        }
    }

    fn change_pod(&mut self, pod: &Arc<PodRecord>, change: impl FnOnce(&mut PodRecord, Timestamp)) {
        let mut changed = (**pod).clone();
        change(&mut changed, self.now());
        let name = changed.key.name().to_owned();
        self.pods.put(&name, Arc::new(changed));
    }

    fn run_user(&mut self) {
        let (number, size, pace) = (self.below(4), self.below(9), self.strategy());
        let at_rest = self.chaos == Chaos::Stormy || self.at_rest();
        match self.below(10) {
            0..=4 => self.edit(|spec| {
                spec["template"]["spec"]["containers"][0]["image"] = json!(format!("v{number}"));
            }),
            5..=6 if at_rest => self.edit(|spec| spec["replicas"] = json!(size)),
            7 if at_rest => self.edit(|spec| spec["strategy"] = pace),
            8 => self.edit(|spec| spec["paused"] = json!(true)),
            _ => self.edit(|spec| spec["paused"] = json!(false)),
        }
    }

    fn edit(&mut self, change: impl FnOnce(&mut Value)) {
        let mut object = to_value(&self.deployment.objects[NAME]);
        change(&mut object["spec"]);
        let generation = object["metadata"]["generation"].as_i64().unwrap() + 1;
        object["metadata"]["generation"] = json!(generation);
        self.deployment.put(NAME, serde_json::from_value(object).unwrap());
    }

    fn strategy(&self) -> Value {
        if self.below(6) == 0 {
            return json!({"type": "Recreate"});
        }
        let pace = ["0", "1", "2", "25%", "50%"].map(|text| match text.parse::<i32>() {
            Ok(number) => json!(number),
            Err(_) => json!(text),
        });
        let (surge, unavailable) = (&pace[self.below(5) as usize], &pace[self.below(5) as usize]);
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}})
    }

    /// Whether the rollout is over, and known to be.
    fn at_rest(&self) -> bool {
        let deployment = &self.deployment.objects[NAME];
        deployment.status.as_ref().is_some_and(|status| is_complete(deployment, status))
            && self.pods.objects.values().all(|pod| pod.deleting.is_none())
    }

    /// Whether the ReplicaSets were sized for another size of the Deployment than it has now.
    fn resized(&self) -> bool {
        let deployment = &self.deployment.objects[NAME];
        let observed = deployment.status.as_ref().and_then(|status| status.observed_generation);
        let desired = replicas(deployment).to_string();
        let is_other = |set: &ReplicaSet| {
            let annotations = set.metadata.annotations.as_ref();
            let recorded = annotations.and_then(|all| all.get("deployment.kubernetes.io/desired-replicas"));
            recorded != Some(&desired)
        };
        observed != deployment.metadata.generation
            || self.sets.objects.values().any(is_other)
            || self.owner_sets.objects.values().any(is_other)
    }

    fn available(&self) -> i32 {
        let min_ready =
            to_value(&self.deployment.objects[NAME])["spec"]["minReadySeconds"].as_u64().unwrap_or(0);
        let min_ready = Duration::from_secs(min_ready);
        let pods = self.pods.objects.values().filter(|pod| pod.is_active());
        i32::try_from(pods.filter(|pod| pod.is_available(min_ready, self.now())).count()).unwrap()
    }

    fn write_set(&mut self, name: &str, set: &Value, change: &Value) {
        let mut set = set.clone();
        merge(&mut set, change);
        set["metadata"]["resourceVersion"] = json!(self.next().to_string());
        self.sets.put(name, serde_json::from_value(set).unwrap());
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.seconds).unwrap()
    }

    fn next(&mut self) -> u64 {
        self.serial += 1;
        self.serial + 1
    }

    fn below(&self, bound: u64) -> u64 {
        self.rng.below(bound)
    }

    fn pick(&self, names: &[String]) -> Option<String> {
        let at = usize::try_from(self.below(names.len() as u64)).unwrap();
        names.get(at).cloned()
    }
}

/// No step of a rolling update takes what is reported available below the least, were it not there already.
fn check_availability(deployment: &Deployment, sets: &[Arc<ReplicaSet>], plan: &Plan) {
    let desired = replicas(deployment);
    let strategy = Strategy::of(deployment);
    let scaled_down = |set: &ReplicaSet| {
        let annotations = set.metadata.annotations.as_ref();
        let recorded = annotations.and_then(|all| all.get("deployment.kubernetes.io/desired-replicas"));
        set.replicas() > 0 && recorded != Some(&desired.to_string())
    };
    let paused = deployment.spec.as_ref().and_then(|spec| spec.paused).unwrap_or(false);
    if strategy == Strategy::Recreate || paused || sets.iter().any(|set| scaled_down(set)) {
        return;
    }
    let available = |set: &ReplicaSet, size: i32| set.last_status().available.min(size);
    let before: i32 = sets.iter().map(|set| available(set, set.replicas())).sum();
    let planned = |set: &ReplicaSet| {
        let scaling = plan.scaled.iter().find(|scaling| Some(&scaling.name) == set.metadata.name.as_ref());
        scaling.map_or(set.replicas(), |scaling| scaling.to)
    };
    let after: i32 = sets.iter().map(|set| available(set, planned(set))).sum();
    let least = desired - strategy.max_unavailable(desired);
    assert!(after >= before.min(least), "{before} to {after} of at least {least}: {:?}", plan.scaled);
}

/// Applies a JSON merge patch.
fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            into.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut into[key], value);
        }
    }
}
