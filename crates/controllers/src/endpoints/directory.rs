//! Which Services select which pods, kept up to date change by change. Pure.
//!
//! A Service is filed under one of the labels that it asks for, the one that the fewest others are filed under. A pod
//! is held against the Services under its own labels only, and a Service knows its pods without looking for them.
//!
//! Bounded by the Services that there are, and the pods that they select.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::runtime::object::{Labels, ObjectKey};
use crate::runtime::selector::Selector;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Directory {
    services: HashMap<ObjectKey, Entry>,
    /// Services by a label that they ask for.
    by_label: HashMap<Filing, BTreeSet<ObjectKey>>,
}

#[derive(Debug)]
struct Entry {
    selector: Selector,
    filing: Filing,
    pods: BTreeSet<ObjectKey>,
}

/// A label in a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Filing(Box<str>);

impl Filing {
    fn new(namespace: &str, key: &str, value: &str) -> Self {
        // No name of a namespace or label has these characters.
        Self(format!("{namespace}\n{key}\n{value}").into())
    }
}

impl Directory {
    /// Takes in which pods a Service wants; `None` when it is gone or wants none. `pods` are all of its namespace.
    pub(super) fn set_service<'a>(
        &mut self,
        service: &ObjectKey,
        wanted: Option<&BTreeMap<String, String>>,
        pods: impl Iterator<Item = (&'a ObjectKey, &'a Labels)>,
    ) {
        let selector = wanted.map(Selector::from_map);
        let standing = self.services.get(service).map(|entry| &entry.selector);
        if standing == selector.as_ref() {
            return;
        }
        if let Some(entry) = self.services.remove(service)
            && let Some(others) = self.by_label.get_mut(&entry.filing)
        {
            others.remove(service);
            if others.is_empty() {
                self.by_label.remove(&entry.filing);
            }
        }
        let (Some(selector), Some(wanted)) = (selector, wanted) else { return };
        let filings = wanted.iter().map(|(key, value)| Filing::new(service.namespace(), key, value));
        let crowd = |filing: &Filing| self.by_label.get(filing).map_or(0, BTreeSet::len);
        let Some(filing) = filings.min_by_key(crowd) else { return };
        let pods = pods.filter(|(_, labels)| selector.matches(*labels)).map(|(key, _)| key.clone()).collect();
        self.by_label.entry(filing.clone()).or_default().insert(service.clone());
        self.services.insert(service.clone(), Entry { selector, filing, pods });
    }

    /// Takes in a pod's labels as they were and as they are; gives the Services that either concerns.
    pub(super) fn change_pod(
        &mut self,
        pod: &ObjectKey,
        old: Option<&Labels>,
        new: Option<&Labels>,
    ) -> BTreeSet<ObjectKey> {
        let find = |labels: Option<&Labels>| {
            labels.map(|labels| self.selecting(pod.namespace(), labels)).unwrap_or_default()
        };
        let (mut before, after) = (find(old), find(new));
        for service in &before {
            if let Some(entry) = self.services.get_mut(service) {
                entry.pods.remove(pod);
            }
        }
        for service in &after {
            if let Some(entry) = self.services.get_mut(service) {
                entry.pods.insert(pod.clone());
            }
        }
        before.extend(after);
        before
    }

    /// The Services of a namespace that select pods with `labels`.
    pub(super) fn selecting(&self, namespace: &str, labels: &Labels) -> BTreeSet<ObjectKey> {
        let filed = labels.iter().filter_map(|(key, value)| {
            let services = self.by_label.get(&Filing::new(namespace, key, value))?;
            Some(services.iter().filter(|service| self.services[*service].selector.matches(labels)))
        });
        filed.flatten().cloned().collect()
    }

    /// The pods that a Service with `selector` selects; `None` when it is filed under another one, or not yet.
    pub(super) fn pods(&self, service: &ObjectKey, selector: &Selector) -> Option<&BTreeSet<ObjectKey>> {
        let entry = self.services.get(service).filter(|entry| entry.selector == *selector)?;
        Some(&entry.pods)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::rng::Rng;

    type Map = BTreeMap<String, String>;

    /// Some of the labels a to d, each 0 or 1.
    fn labels(rng: &Rng, at_least: usize) -> Map {
        loop {
            let pairs = ["a", "b", "c", "d"].into_iter().filter(|_| rng.below(2) == 0);
            let pairs: Map = pairs.map(|key| (key.to_owned(), rng.below(2).to_string())).collect();
            if pairs.len() >= at_least {
                return pairs;
            }
        }
    }

    fn key(rng: &Rng, kind: &str) -> ObjectKey {
        ObjectKey::new(["x", "y"][rng.below(2) as usize], &format!("{kind}{}", rng.below(6)))
    }

    /// Whatever happens in whatever order, it says what a look at everything would say.
    #[test]
    fn it_knows_what_a_search_would_find() {
        for seed in 0..200 {
            let rng = Rng::seeded(seed);
            let mut directory = Directory::default();
            let (mut services, mut pods) = (BTreeMap::<ObjectKey, Map>::new(), BTreeMap::<_, Labels>::new());
            for _ in 0..100 {
                if rng.below(3) == 0 {
                    let service = key(&rng, "s");
                    let wanted = (rng.below(4) > 0).then(|| labels(&rng, 1));
                    let near = pods
                        .iter()
                        .filter(|(pod, _): &(&ObjectKey, _)| pod.namespace() == service.namespace());
                    directory.set_service(&service, wanted.as_ref(), near);
                    match wanted {
                        Some(wanted) => drop(services.insert(service, wanted)),
                        None => drop(services.remove(&service)),
                    }
                } else {
                    let pod = key(&rng, "p");
                    let new = (rng.below(4) > 0).then(|| Labels::from(&labels(&rng, 0)));
                    let old = match &new {
                        Some(new) => pods.insert(pod.clone(), new.clone()),
                        None => pods.remove(&pod),
                    };
                    let concerned = directory.change_pod(&pod, old.as_ref(), new.as_ref());
                    let selects = |(service, wanted): &(&ObjectKey, &Map)| {
                        let selector = Selector::from_map(wanted);
                        service.namespace() == pod.namespace()
                            && [&old, &new].into_iter().flatten().any(|labels| selector.matches(labels))
                    };
                    let expected: BTreeSet<_> =
                        services.iter().filter(selects).map(|(service, _)| service.clone()).collect();
                    assert_eq!(concerned, expected, "seed {seed}");
                }
                check(&directory, &services, &pods, seed);
            }
        }
    }

    fn check(
        directory: &Directory,
        services: &BTreeMap<ObjectKey, Map>,
        pods: &BTreeMap<ObjectKey, Labels>,
        seed: u64,
    ) {
        for (service, wanted) in services {
            let selector = Selector::from_map(wanted);
            let selected = pods
                .iter()
                .filter(|(pod, labels)| pod.namespace() == service.namespace() && selector.matches(*labels));
            let selected: BTreeSet<_> = selected.map(|(pod, _)| pod.clone()).collect();
            assert_eq!(directory.pods(service, &selector), Some(&selected), "seed {seed}");
            assert_eq!(directory.pods(service, &Selector::default()), None);
        }
        assert_eq!(directory.services.len(), services.len());
        assert_eq!(directory.by_label.values().map(BTreeSet::len).sum::<usize>(), services.len());
    }
}
