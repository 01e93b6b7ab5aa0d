//! Admission policies (admissionregistration.k8s.io/v1): expressions of the cluster's own that refuse writes
//! (`ValidatingAdmissionPolicy`) or change them (`MutatingAdmissionPolicy`), where a binding puts them in force.
//!
//! ```text
//!  policies, bindings ──read──▶ Policies ──by resource──▶ candidates ──rules, selectors──▶ bindings ──▶ params
//!                                                                                                      │
//!            refusal, warning, audit annotation ◀── decisions ◀── conditions, validations ◀────────────┤
//!                                                   object ◀──── conditions, mutations ◀──────────────┘
//! ```
//!
//! Policies are compiled once, when they are stored, and whoever writes one finds it in force with the answer. They are
//! found by the resources that their rules name, so that a request that none is about costs a look-up. Objects of policies
//! and bindings are subject to none, or a bad one could not be mended.

mod definition;
mod made;
mod mutate;
mod params;
mod types;
mod validate;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use xebec_api::Value;
use xebec_store::{Key, Revision, Snapshot};

use self::definition::{Binding, Policy};
pub(crate) use self::definition::{Kind, faults, param_resource};
pub(super) use self::mutate::{Mutation, change};
pub(crate) use self::types::warnings;
pub(super) use self::validate::validate;
use super::configuration::prefix;
use super::matching::Resources;
use crate::core::Core;
use crate::registry::convert;
use crate::registry::table::Served;

/// The policies in force.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    state: RwLock<Arc<State>>,
    /// Held by who makes the next state, so that a later one is of a later snapshot.
    changing: Mutex<()>,
}

/// All policies and bindings at one revision.
#[derive(Debug, Default)]
struct State {
    validating: Index,
    mutating: Index,
    /// Those that were read, so that what did not change need not be compiled again.
    made: HashMap<Key, (Revision, Made)>,
}

#[derive(Clone, Debug)]
enum Made {
    Policy(Arc<Policy>),
    Binding(Arc<Binding>),
    /// Whoever cannot be read says nothing, which the log tells of.
    Unreadable,
}

/// A policy with the bindings that put it in force.
#[derive(Debug)]
pub(super) struct Bound {
    policy: Arc<Policy>,
    bindings: Vec<Arc<Binding>>,
}

/// Policies by the resources that they may be about.
#[derive(Debug, Default)]
struct Index {
    all: Vec<Arc<Bound>>,
    /// By the plural name of a resource, in whatever group; in order.
    named: HashMap<String, Vec<usize>>,
    /// Those that are about any resource.
    open: Vec<usize>,
}

impl Policies {
    /// Takes the policies and bindings that are stored.
    pub(crate) fn refresh(&self, core: &Core) {
        let _turn = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let next = State::read(&core.store.snapshot(), &self.state());
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
    }

    fn state(&self) -> Arc<State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The validating policies that may be about a resource, in the order of their names.
    pub(super) fn validating(&self, served: &Served) -> Vec<Arc<Bound>> {
        self.state().validating.about(served.row.resource())
    }

    /// Whether mutating policies may be about a resource.
    pub(super) fn may_change(&self, served: &Served) -> bool {
        let state = self.state();
        !state.mutating.open.is_empty() || state.mutating.named.contains_key(served.row.resource())
    }

    /// The mutating policies that may be about a resource, in the order of their names.
    pub(super) fn mutating(&self, served: &Served) -> Vec<Arc<Bound>> {
        self.state().mutating.about(served.row.resource())
    }
}

impl State {
    fn read(snapshot: &Snapshot, last: &Self) -> Self {
        let mut state = Self::default();
        state.validating = state.read_kind(snapshot, last, Kind::Validating);
        state.mutating = state.read_kind(snapshot, last, Kind::Mutating);
        state
    }

    fn read_kind(&mut self, snapshot: &Snapshot, last: &Self, kind: Kind) -> Index {
        let binding = |binding: &Value| Made::Binding(Arc::new(Binding::read(binding)));
        let bindings = self.read_all(snapshot, last, kind.bindings(), binding);
        let policy = |policy: &Value| Made::Policy(Arc::new(Policy::read(policy, kind)));
        let policies = self.read_all(snapshot, last, kind.policies(), policy);
        Index::of(policies, &bindings)
    }

    /// Reads the objects of a resource; those that did not change are as they were.
    fn read_all(
        &mut self,
        snapshot: &Snapshot,
        last: &Self,
        resource: &str,
        make: impl Fn(&Value) -> Made,
    ) -> Vec<Made> {
        let mut all = Vec::new();
        for record in snapshot.range(&prefix(resource), None) {
            let (key, revision) = (record.key(), record.mod_revision());
            let made = match last.made.get(key) {
                Some((known, made)) if *known == revision => made.clone(),
                _ => convert::stored_object(record).map_or(Made::Unreadable, |object| make(&object)),
            };
            self.made.insert(key.clone(), (revision, made.clone()));
            all.push(made);
        }
        all
    }
}

impl Index {
    /// Of the policies that have bindings; others are about nothing.
    fn of(policies: Vec<Made>, bindings: &[Made]) -> Self {
        let mut of: HashMap<&str, Vec<Arc<Binding>>> = HashMap::new();
        for made in bindings {
            if let Made::Binding(binding) = made {
                of.entry(&binding.policy).or_default().push(Arc::clone(binding));
            }
        }
        let mut index = Self::default();
        for made in policies {
            let Made::Policy(policy) = made else { continue };
            let Some(bindings) = of.remove(policy.name.as_str()) else { continue };
            let place = index.all.len();
            match policy.matcher.resources() {
                Resources::All => index.open.push(place),
                Resources::Named(names) => {
                    names.into_iter().for_each(|name| index.named.entry(name).or_default().push(place));
                }
            }
            index.all.push(Arc::new(Bound { policy, bindings }));
        }
        index
    }

    fn about(&self, resource: &str) -> Vec<Arc<Bound>> {
        let named = self.named.get(resource).map(Vec::as_slice).unwrap_or_default();
        let mut places: Vec<usize> = named.iter().chain(&self.open).copied().collect();
        places.sort_unstable();
        places.into_iter().map(|place| Arc::clone(&self.all[place])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xebec_api::object;

    #[test]
    fn policies_are_found_by_resource() {
        let policy = |name: &str, resources: &[&str]| {
            let rules = object!([{"resources": (resources.to_vec())}]);
            let policy = object!({
                "metadata": {"name": name}, "spec": {"matchConstraints": {"resourceRules": (rules)}}
            });
            Made::Policy(Arc::new(Policy::read(&policy, Kind::Validating)))
        };
        let binding =
            |name: &str| Made::Binding(Arc::new(Binding::read(&object!({"spec": {"policyName": name}}))));
        let policies = vec![
            policy("a", &["pods", "pods/status"]),
            policy("b", &["*"]),
            policy("c", &["pods", "nodes"]),
            policy("unbound", &["*"]),
        ];
        let index = Index::of(policies, &[binding("a"), binding("b"), binding("c"), binding("b")]);
        let check = |resource: &str, want: &[&str]| {
            let found = index.about(resource);
            let names: Vec<&str> = found.iter().map(|bound| bound.policy.name.as_str()).collect();
            assert_eq!(names, want, "{resource}");
        };
        check("pods", &["a", "b", "c"]);
        check("nodes", &["b", "c"]);
        check("secrets", &["b"]);
        assert_eq!(index.all[1].bindings.len(), 2);
    }
}
