//! Which objects belong to a controlling owner: adoption of orphans and release of what no longer matches.
//!
//! An owner holds the objects that refer to it as controller *and* match its selector. An orphan that matches is
//! adopted, an owned object that no longer matches is released, and nobody else's object is ever touched. Both go
//! by the uid, so that an owner of the same name does not inherit by accident.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::{Value, json};

use crate::runtime::kind::Watched;
use crate::runtime::object::{Uid, controller_of, is_deleting};
use crate::runtime::selector::{Labelled, Selector};

/// What to do about an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// It is the owner's.
    Owned,
    /// It should become the owner's.
    Adopt,
    /// It should stop being the owner's.
    Release,
    /// It is none of the owner's business.
    Foreign,
}

/// Who claims.
#[derive(Debug, Clone, Copy)]
pub struct Claimant<'a> {
    /// The owner's uid.
    pub uid: &'a Uid,
    /// Whether the owner is being deleted: it then neither adopts nor releases.
    pub deleting: bool,
    /// What it selects.
    pub selector: &'a Selector,
}

impl Claimant<'_> {
    /// Decides about one object by its controller, its labels and whether it is being deleted.
    pub fn claim(&self, controller: Option<&str>, labels: &impl Labelled, deleting: bool) -> Claim {
        let matches = self.selector.matches(labels);
        match controller {
            Some(uid) if uid != self.uid.as_str() => Claim::Foreign,
            Some(_) if matches => Claim::Owned,
            Some(_) if self.deleting => Claim::Foreign,
            Some(_) => Claim::Release,
            None if matches && !self.deleting && !deleting => Claim::Adopt,
            None => Claim::Foreign,
        }
    }

    /// Decides about an object by its metadata.
    pub fn claim_object(&self, meta: &ObjectMeta) -> Claim {
        let controller = controller_of(meta).map(|owner| owner.uid.as_str());
        self.claim(controller, &meta.labels, is_deleting(meta))
    }
}

/// The reference that an owner's objects carry.
pub fn controller_reference<R: Watched>(owner: &R) -> OwnerReference {
    let meta = owner.meta();
    OwnerReference {
        api_version: R::api_version(&()).into_owned(),
        kind: R::kind(&()).into_owned(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The strategic merge patch that makes `owner` the controller of the incarnation `uid`.
pub fn adoption(owner: &OwnerReference, uid: &str) -> Value {
    json!({ "metadata": { "uid": uid, "ownerReferences": [owner] } })
}

/// The strategic merge patch that takes `owner` away from the incarnation `uid`.
pub fn release(owner: &Uid, uid: &str) -> Value {
    json!({ "metadata": { "uid": uid, "ownerReferences": [{ "$patch": "delete", "uid": owner.as_str() }] } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn claims_follow_controller_selector_and_deletion() {
        let selector = Selector::from_map(&BTreeMap::from([("app".to_owned(), "web".to_owned())]));
        let uid = Uid::new("me");
        let check = |owner_deleting, controller: Option<&str>, app: &str, deleting, expected| {
            let claimant = Claimant { uid: &uid, deleting: owner_deleting, selector: &selector };
            let labels = BTreeMap::from([("app".to_owned(), app.to_owned())]);
            let claim = claimant.claim(controller, &labels, deleting);
            assert_eq!(claim, expected, "owner deleting {owner_deleting}, {controller:?}, {app}, {deleting}");
        };
        check(false, Some("me"), "web", false, Claim::Owned);
        check(false, Some("me"), "web", true, Claim::Owned);
        check(false, Some("me"), "api", false, Claim::Release);
        check(true, Some("me"), "api", false, Claim::Foreign);
        check(true, Some("me"), "web", false, Claim::Owned);
        check(false, Some("other"), "web", false, Claim::Foreign);
        check(false, None, "web", false, Claim::Adopt);
        check(false, None, "web", true, Claim::Foreign);
        check(true, None, "web", false, Claim::Foreign);
        check(false, None, "api", false, Claim::Foreign);
    }
}
