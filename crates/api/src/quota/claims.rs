//! What claims use: of storage by its class, of devices by theirs.

use super::{Amounts, add, quantity};
use crate::quantity::Quantity;
use crate::{Key, Value};

const STORAGE_CLASS: &str = ".storageclass.storage.k8s.io/";
const DEVICE_CLASS: &str = ".deviceclass.resource.k8s.io/devices";
/// How many devices a request for all of them counts as: as many as a claim can be given.
const ALL_DEVICES: i64 = 32;

pub(super) fn is_of_storage(name: &str) -> bool {
    let own = |name: &str| matches!(name, "persistentvolumeclaims" | "requests.storage");
    own(name) || name.split_once(STORAGE_CLASS).is_some_and(|(_, rest)| own(rest))
}

pub(super) fn of_storage(claim: &Value) -> Amounts {
    let one = Quantity::from_units(1);
    let request = |path: &[&str]| claim.at(path).and_then(quantity);
    let wanted = request(&["spec", "resources", "requests", "storage"]);
    let storage = wanted.max(request(&["status", "allocatedResources", "storage"]));
    let mut used = Amounts::from([("persistentvolumeclaims".into(), one)]);
    used.extend(storage.map(|storage| ("requests.storage".into(), storage)));
    let annotated = claim.str_at(&["metadata", "annotations", "volume.beta.kubernetes.io/storage-class"]);
    let class = annotated.or_else(|| claim.str_at(&["spec", "storageClassName"])).filter(|c| !c.is_empty());
    if let Some(class) = class {
        let of_class = |what: &str| Key::from(format!("{class}{STORAGE_CLASS}{what}").as_str());
        used.insert(of_class("persistentvolumeclaims"), one);
        used.extend(storage.map(|storage| (of_class("requests.storage"), storage)));
    }
    used
}

pub(super) fn is_of_devices(name: &str) -> bool {
    name.ends_with(DEVICE_CLASS)
}

pub(super) fn of_devices(claim: &Value) -> Amounts {
    let mut used = Amounts::new();
    for request in claim.array_at(&["spec", "devices", "requests"]) {
        let mut wanted = Amounts::new();
        if let Some(exactly) = request.get("exactly") {
            count(exactly, &mut wanted);
        }
        // Of alternatives the largest counts, for each class.
        for alternative in request.array_at(&["firstAvailable"]) {
            let mut other = Amounts::new();
            count(alternative, &mut other);
            for (name, amount) in other {
                let most = wanted.get(&name).map_or(amount, |have| (*have).max(amount));
                wanted.insert(name, most);
            }
        }
        add(&mut used, &wanted);
    }
    used
}

fn count(request: &Value, wanted: &mut Amounts) {
    let Some(class) = request.str_at(&["deviceClassName"]) else { return };
    let devices = match request.str_at(&["allocationMode"]) {
        Some("All") => ALL_DEVICES,
        _ => request.i64_at(&["count"]).unwrap_or(1),
    };
    let name = Key::from(format!("{class}{DEVICE_CLASS}").as_str());
    add(wanted, &Amounts::from([(name, Quantity::from_units(devices))]));
}
