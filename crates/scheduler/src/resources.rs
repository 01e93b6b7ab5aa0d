//! Amounts of resources: what nodes have and pods ask for.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::quantity::{milli, units};

/// An amount of one resource. A quantity fits into 64 bits, the largest being what is too large for them; this has room
/// for the sum of as many of these as there can be pods, so that what is added and taken away again leaves no trace.
pub type Amount = i128;

/// Thousandths of a core.
pub(crate) const DEFAULT_MILLI_CPU: Amount = 100;
/// Bytes.
pub(crate) const DEFAULT_MEMORY: Amount = 200 * 1024 * 1024;

/// Amounts by resource.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resources {
    /// Thousandths of a core.
    pub milli_cpu: Amount,
    /// Bytes.
    pub memory: Amount,
    /// Bytes.
    pub ephemeral_storage: Amount,
    /// Everything else by name, in whole units: devices, huge pages.
    pub scalar: BTreeMap<Box<str>, Amount>,
}

/// What a pod asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Requests {
    /// What must be free on its node.
    pub asked: Resources,
    /// What it is weighed with: a container that asks for nothing counts with a little, so that many of them spread.
    pub weight: Weight,
}

/// CPU and memory alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Weight {
    /// Thousandths of a core.
    pub milli_cpu: Amount,
    /// Bytes.
    pub memory: Amount,
}

type Quantities = BTreeMap<String, Quantity>;

impl Resources {
    /// Reads a map of quantities; what cannot be read counts as nothing. `pods` is not one of them.
    pub fn read(quantities: Option<&Quantities>) -> Self {
        let mut resources = Self::default();
        for (name, quantity) in quantities.into_iter().flatten() {
            let amount = |read: fn(&str) -> Option<i64>| read(&quantity.0).map_or(0, Amount::from);
            match name.as_str() {
                "cpu" => resources.milli_cpu = amount(milli),
                "memory" => resources.memory = amount(units),
                "ephemeral-storage" => resources.ephemeral_storage = amount(units),
                "pods" => {}
                other => {
                    resources.scalar.insert(other.into(), amount(units));
                }
            }
        }
        resources
    }

    /// Adds `other`.
    pub fn add(&mut self, other: &Self) {
        self.milli_cpu += other.milli_cpu;
        self.memory += other.memory;
        self.ephemeral_storage += other.ephemeral_storage;
        for (name, amount) in &other.scalar {
            *self.scalar.entry(name.clone()).or_insert(0) += amount;
        }
    }

    /// Takes `other` away.
    pub fn subtract(&mut self, other: &Self) {
        self.milli_cpu -= other.milli_cpu;
        self.memory -= other.memory;
        self.ephemeral_storage -= other.ephemeral_storage;
        for (name, amount) in &other.scalar {
            if let Some(left) = self.scalar.get_mut(name) {
                *left -= amount;
            }
        }
    }

    /// Raises each amount to that of `other`.
    fn raise_to(&mut self, other: &Self) {
        self.milli_cpu = self.milli_cpu.max(other.milli_cpu);
        self.memory = self.memory.max(other.memory);
        self.ephemeral_storage = self.ephemeral_storage.max(other.ephemeral_storage);
        for (name, amount) in &other.scalar {
            let own = self.scalar.entry(name.clone()).or_insert(0);
            *own = (*own).max(*amount);
        }
    }
}

impl Weight {
    /// Adds `other`.
    pub fn add(&mut self, other: Self) {
        self.milli_cpu += other.milli_cpu;
        self.memory += other.memory;
    }

    /// Takes `other` away.
    pub fn subtract(&mut self, other: Self) {
        self.milli_cpu -= other.milli_cpu;
        self.memory -= other.memory;
    }
}

impl Requests {
    /// What a pod asks for: its containers together, or the most that its initialisation needs at a time if that is
    /// more, with the sidecars that are already running then; plus the overhead of its sandbox. Requests of the pod
    /// as a whole replace those of its containers.
    pub fn of(spec: &PodSpec) -> Self {
        let mut asked = effective(spec, |container| Resources::read(requests(container.resources.as_ref())));
        let weighed = effective(spec, weighed);
        let mut weight = Weight { milli_cpu: weighed.milli_cpu, memory: weighed.memory };
        if let Some(whole) = requests(spec.resources.as_ref()) {
            let whole_pod = Resources::read(Some(whole));
            if whole.contains_key("cpu") {
                (asked.milli_cpu, weight.milli_cpu) = (whole_pod.milli_cpu, whole_pod.milli_cpu);
            }
            if whole.contains_key("memory") {
                (asked.memory, weight.memory) = (whole_pod.memory, whole_pod.memory);
            }
            asked.scalar.extend(whole_pod.scalar);
        }
        let overhead = Resources::read(spec.overhead.as_ref());
        weight.add(Weight { milli_cpu: overhead.milli_cpu, memory: overhead.memory });
        asked.add(&overhead);
        Self { asked, weight }
    }
}

fn effective(spec: &PodSpec, amount: impl Fn(&Container) -> Resources) -> Resources {
    let mut running = Resources::default();
    for container in &spec.containers {
        running.add(&amount(container));
    }
    let mut sidecars = Resources::default();
    let mut starting = Resources::default();
    for container in spec.init_containers.iter().flatten() {
        let own = amount(container);
        if container.restart_policy.as_deref() == Some("Always") {
            running.add(&own);
            sidecars.add(&own);
            starting.raise_to(&sidecars);
        } else {
            let mut at_a_time = sidecars.clone();
            at_a_time.add(&own);
            starting.raise_to(&at_a_time);
        }
    }
    running.raise_to(&starting);
    running
}

fn weighed(container: &Container) -> Resources {
    let requests = requests(container.resources.as_ref());
    let mut own = Resources::read(requests);
    let names = |name: &str| requests.is_some_and(|requests| requests.contains_key(name));
    if !names("cpu") {
        own.milli_cpu = DEFAULT_MILLI_CPU;
    }
    if !names("memory") {
        own.memory = DEFAULT_MEMORY;
    }
    own
}

fn requests(resources: Option<&ResourceRequirements>) -> Option<&Quantities> {
    resources?.requests.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn container(requests: Value) -> Value {
        json!({"name": "c", "resources": {"requests": requests}})
    }

    #[test]
    fn a_pod_asks_for_what_it_needs_at_its_busiest() {
        let check = |spec: Value, milli_cpu, memory, weight| {
            let parsed: PodSpec = serde_json::from_value(spec.clone()).unwrap();
            let requests = Requests::of(&parsed);
            let amounts = (requests.asked.milli_cpu, requests.asked.memory, requests.weight.milli_cpu);
            assert_eq!(amounts, (milli_cpu, memory, weight), "{spec}");
        };
        let cpu = |cpu: &str| container(json!({ "cpu": cpu }));
        let side = |cpu: &str| json!({"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": cpu}}});
        check(json!({"containers": [cpu("100m"), cpu("200m")]}), 300, 0, 300);
        check(json!({"containers": [container(json!({"memory": "1Ki"}))]}), 0, 1024, 100);
        check(json!({"containers": [cpu("100m")], "initContainers": [cpu("1"), cpu("2")]}), 2000, 0, 2000);
        check(json!({"containers": [cpu("100m")], "initContainers": [side("50m")]}), 150, 0, 150);
        check(json!({"containers": [cpu("100m")], "initContainers": [side("50m"), cpu("1")]}), 1050, 0, 1050);
        check(json!({"containers": [cpu("100m")], "initContainers": [cpu("1"), side("50m")]}), 1000, 0, 1000);
        check(json!({"containers": [cpu("100m")], "overhead": {"cpu": "10m"}}), 110, 0, 110);
        check(json!({"containers": [cpu("1")], "resources": {"requests": {"cpu": "300m"}}}), 300, 0, 300);
    }

    #[test]
    fn other_resources_go_by_name() {
        let spec: PodSpec = serde_json::from_value(
            json!({"containers": [container(json!({"example.com/gpu": "2", "pods": "9"}))]}),
        )
        .unwrap();
        let asked = Requests::of(&spec).asked;
        assert_eq!(asked.scalar, BTreeMap::from([("example.com/gpu".into(), 2)]));
    }
}
