//! Leases, priorities, runtimes and devices.

use super::{AGE, Entry, NAME, NAME_AND_AGE, boolean, integer, text};
use crate::Value;
use crate::resource::Column;
use crate::table::cell::{Printer, is_deleted};

pub(super) static ENTRIES: &[Entry] = &[
    ("coordination.k8s.io", "leases", &LEASES),
    ("scheduling.k8s.io", "priorityclasses", &PRIORITY_CLASSES),
    ("node.k8s.io", "runtimeclasses", &RUNTIME_CLASSES),
    ("resource.k8s.io", "deviceclasses", &NAME_AND_AGE),
    ("resource.k8s.io", "resourceclaims", &CLAIMS),
    ("resource.k8s.io", "resourceclaimtemplates", &NAME_AND_AGE),
    ("resource.k8s.io", "resourceslices", &SLICES),
];

static LEASES: [Column; 3] =
    [NAME, text("Holder", "Who holds it", Printer::Text("spec.holderIdentity", "")), AGE];

static PRIORITY_CLASSES: [Column; 5] = [
    NAME,
    integer("Value", "Higher ones go first", Printer::Integer("value")),
    boolean(
        "Global-Default",
        "Whether pods without a class get it",
        Printer::Boolean("globalDefault", false),
    ),
    AGE,
    text("PreemptionPolicy", "Whether its pods drive others out", Printer::Text("preemptionPolicy", "")),
];

static RUNTIME_CLASSES: [Column; 3] =
    [NAME, text("Handler", "What runs the pods", Printer::Text("handler", "")), AGE];

static CLAIMS: [Column; 3] =
    [NAME, text("State", "Whether devices are allocated", Printer::Call(claim_state)), AGE];

static SLICES: [Column; 5] = [
    NAME,
    text("Node", "The node that has the devices", Printer::Text("spec.nodeName", "")),
    text("Driver", "Who manages them", Printer::Text("spec.driver", "")),
    text("Pool", "The pool they are in", Printer::Text("spec.pool.name", "")),
    AGE,
];

fn claim_state(claim: &Value) -> String {
    let deleted = is_deleted(claim);
    let allocated = claim.at(&["status", "allocation"]).is_some_and(|a| !a.is_null());
    let reserved = !claim.array_at(&["status", "reservedFor"]).is_empty();
    let states = [
        (deleted, "deleted"),
        (!allocated && !deleted, "pending"),
        (allocated, "allocated"),
        (allocated && reserved, "reserved"),
    ];
    states.iter().filter(|(holds, _)| *holds).map(|(_, word)| *word).collect::<Vec<_>>().join(",")
}
