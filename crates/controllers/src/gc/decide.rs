//! What becomes of one object, given how its owners stand. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::{Value, json};

use super::graph::{FOREGROUND, ORPHAN};
use crate::runtime::object::Uid;
use crate::runtime::writer::{Propagation, to_value};

/// How an owner stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnerState {
    /// It is there and stays.
    Solid,
    /// It is not there, or the reference means another object than the one with this uid.
    Dangling,
    /// It is being deleted and waits for its dependents.
    Waiting,
}

/// What to do with the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Leave it.
    Keep,
    /// Take these owners away from it; others hold it.
    DropOwners(Vec<Uid>),
    /// Delete it.
    Delete(Propagation),
    /// Let it block none of its owners any more, then delete it in the foreground. Else it and one of its dependents
    /// would wait for each other.
    UnblockAndDelete,
}

/// The dependents of the object in question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dependents {
    /// There are none.
    None,
    /// There are some, and none of them waits for dependents of its own.
    Some,
    /// One of them waits for dependents of its own, perhaps for this object.
    Waiting,
}

/// Decides about an object that is `live` on the server. `dependents` are only counted when they matter.
pub fn decide(
    live: &ObjectMeta,
    owners: &[(Uid, OwnerState)],
    dependents: impl FnOnce() -> Dependents,
) -> Verdict {
    let of = |wanted: OwnerState| owners.iter().any(|(_, state)| *state == wanted);
    if owners.is_empty() {
        return Verdict::Keep;
    }
    if of(OwnerState::Solid) {
        let gone = owners.iter().filter(|(_, state)| *state != OwnerState::Solid);
        let gone: Vec<_> = gone.map(|(uid, _)| uid.clone()).collect();
        return if gone.is_empty() { Verdict::Keep } else { Verdict::DropOwners(gone) };
    }
    if of(OwnerState::Waiting) {
        match dependents() {
            Dependents::Waiting => return Verdict::UnblockAndDelete,
            Dependents::Some => return Verdict::Delete(Propagation::Foreground),
            Dependents::None => {}
        }
    }
    let has = |name: &str| live.finalizers.iter().flatten().any(|finalizer| finalizer == name);
    Verdict::Delete(if has(ORPHAN) {
        Propagation::Orphan
    } else if has(FOREGROUND) {
        Propagation::Foreground
    } else {
        Propagation::Background
    })
}

/// The merge patch that takes `gone` out of the owners of `live`.
pub fn without_owners(live: &ObjectMeta, gone: &[Uid]) -> Value {
    let owners = live.owner_references.iter().flatten();
    let left: Vec<_> =
        owners.filter(|owner| !gone.iter().any(|uid| *uid.as_str() == owner.uid)).cloned().collect();
    owners_patch(live, &left)
}

/// The merge patch by which `live` blocks none of its owners.
pub fn unblocked(live: &ObjectMeta) -> Value {
    let owners = live.owner_references.iter().flatten().cloned();
    let owners: Vec<_> =
        owners.map(|owner| OwnerReference { block_owner_deletion: Some(false), ..owner }).collect();
    owners_patch(live, &owners)
}

/// The merge patch that takes a finalizer out of `live`; `None` when it is not there.
pub fn without_finalizer(live: &ObjectMeta, finalizer: &str) -> Option<Value> {
    let finalizers = live.finalizers.as_ref()?;
    let left: Vec<_> = finalizers.iter().filter(|name| *name != finalizer).collect();
    (left.len() < finalizers.len()).then(|| patch(live, "finalizers", json!(left)))
}

fn owners_patch(live: &ObjectMeta, owners: &[OwnerReference]) -> Value {
    patch(live, "ownerReferences", json!(owners.iter().map(to_value).collect::<Vec<_>>()))
}

/// Only for the incarnation and revision that was looked at.
fn patch(live: &ObjectMeta, field: &str, value: Value) -> Value {
    let mut patch = json!({ "metadata": { "uid": live.uid, "resourceVersion": live.resource_version } });
    patch["metadata"][field] = value;
    patch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_lives_as_long_as_one_owner() {
        use OwnerState::{Dangling, Solid, Waiting};
        let check = |owners: &[OwnerState], dependents, finalizers: &[&str], expected: Verdict| {
            let live = ObjectMeta {
                finalizers: Some(finalizers.iter().map(|name| (*name).to_owned()).collect()),
                ..ObjectMeta::default()
            };
            let owners: Vec<_> =
                owners.iter().enumerate().map(|(n, state)| (Uid::new(&n.to_string()), *state)).collect();
            assert_eq!(
                decide(&live, &owners, || dependents),
                expected,
                "{owners:?} {dependents:?} {finalizers:?}"
            );
        };
        let drop_owners = |uids: &[&str]| Verdict::DropOwners(uids.iter().map(|uid| Uid::new(uid)).collect());
        let delete = Verdict::Delete;
        check(&[], Dependents::None, &[], Verdict::Keep);
        check(&[Solid], Dependents::None, &[], Verdict::Keep);
        check(&[Solid, Dangling, Waiting], Dependents::Some, &[], drop_owners(&["1", "2"]));
        check(&[Dangling], Dependents::None, &[], delete(Propagation::Background));
        check(&[Dangling], Dependents::Some, &[FOREGROUND], delete(Propagation::Foreground));
        check(&[Dangling], Dependents::Some, &[ORPHAN, FOREGROUND], delete(Propagation::Orphan));
        check(&[Waiting], Dependents::None, &[], delete(Propagation::Background));
        check(&[Waiting, Dangling], Dependents::Some, &[], delete(Propagation::Foreground));
        check(&[Waiting], Dependents::Waiting, &[], Verdict::UnblockAndDelete);
    }

    #[test]
    fn patches_name_what_was_looked_at() {
        let live: ObjectMeta = serde_json::from_value(json!({
            "name": "a", "uid": "u", "resourceVersion": "9", "finalizers": ["x", FOREGROUND],
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "A", "name": "a", "uid": "1", "blockOwnerDeletion": true},
                {"apiVersion": "v1", "kind": "B", "name": "b", "uid": "2"},
            ],
        }))
        .unwrap();
        let patch = without_owners(&live, &[Uid::new("1")]);
        let left = json!([{"apiVersion": "v1", "kind": "B", "name": "b", "uid": "2"}]);
        assert_eq!(patch, json!({"metadata": {"uid": "u", "resourceVersion": "9", "ownerReferences": left}}));
        assert_eq!(unblocked(&live)["metadata"]["ownerReferences"][0]["blockOwnerDeletion"], json!(false));
        assert_eq!(without_finalizer(&live, FOREGROUND).unwrap()["metadata"]["finalizers"], json!(["x"]));
        assert_eq!(without_finalizer(&live, ORPHAN), None);
    }
}
