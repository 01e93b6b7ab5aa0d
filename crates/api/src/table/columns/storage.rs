//! Volumes, claims, storage classes and CSI objects.

use super::{AGE, Entry, NAME, PLAIN, boolean, identifying, integer, text, wide};
use crate::Value;
use crate::resource::Column;
use crate::table::NAME_DESCRIPTION;
use crate::table::cell::{self, Printer, annotation, is_deleted, text_at};

pub(super) static ENTRIES: &[Entry] = &[
    ("", "persistentvolumes", &VOLUMES),
    ("", "persistentvolumeclaims", &CLAIMS),
    ("storage.k8s.io", "storageclasses", &CLASSES),
    ("storage.k8s.io", "volumeattributesclasses", &ATTRIBUTES_CLASSES),
    ("storage.k8s.io", "volumeattachments", &ATTACHMENTS),
    ("storage.k8s.io", "csinodes", &CSI_NODES),
    ("storage.k8s.io", "csidrivers", &CSI_DRIVERS),
    ("storage.k8s.io", "csistoragecapacities", &PLAIN),
];

const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

const ACCESS_MODES: &str = "How it can be mounted";
const CLASS: Column = text("StorageClass", "The class it is of", Printer::Call(class));
const ATTRIBUTES: Column = text(
    "VolumeAttributesClass",
    "The class of its attributes",
    Printer::Text("spec.volumeAttributesClassName", "<unset>"),
);
const MODE: Column =
    wide(text("VolumeMode", "File system or block", Printer::Text("spec.volumeMode", "<unset>")));

static VOLUMES: [Column; 11] = [
    NAME,
    text("Capacity", "Its size", Printer::Text("spec.capacity.storage", "0")),
    text("Access Modes", ACCESS_MODES, Printer::Call(|v| access_modes(v.array_at(&["spec", "accessModes"])))),
    text(
        "Reclaim Policy",
        "What becomes of it after its claim",
        Printer::Text("spec.persistentVolumeReclaimPolicy", ""),
    ),
    text("Status", "Whether it is free, bound or released", Printer::Call(phase)),
    text("Claim", "Who claims it", Printer::Call(claim)),
    CLASS,
    ATTRIBUTES,
    text("Reason", "Why it failed", Printer::Text("status.reason", "")),
    AGE,
    MODE,
];

static CLAIMS: [Column; 9] = [
    NAME,
    text("Status", "Whether it is bound", Printer::Call(phase)),
    text("Volume", "The volume it is bound to", Printer::Text("spec.volumeName", "")),
    text("Capacity", "The volume's size", Printer::Call(claimed_capacity)),
    text("Access Modes", ACCESS_MODES, Printer::Call(claimed_access_modes)),
    CLASS,
    ATTRIBUTES,
    AGE,
    MODE,
];

static CLASSES: [Column; 6] = [
    identifying("Name", NAME_DESCRIPTION, Printer::Call(class_name)),
    text("Provisioner", "Who makes the volumes", Printer::Text("provisioner", "")),
    text(
        "ReclaimPolicy",
        "What becomes of volumes after their claim",
        Printer::Text("reclaimPolicy", "Delete"),
    ),
    text("VolumeBindingMode", "When volumes are made", Printer::Text("volumeBindingMode", "Immediate")),
    text("AllowVolumeExpansion", "Whether volumes can grow", Printer::Boolean("allowVolumeExpansion", false)),
    AGE,
];

static ATTRIBUTES_CLASSES: [Column; 3] =
    [NAME, text("DriverName", "The driver it is for", Printer::Text("driverName", "")), AGE];

static ATTACHMENTS: [Column; 6] = [
    NAME,
    identifying("Attacher", "Who attaches the volume", Printer::Text("spec.attacher", "")),
    text("PV", "The volume", Printer::Text("spec.source.persistentVolumeName", "")),
    text("Node", "The node it is attached to", Printer::Text("spec.nodeName", "")),
    boolean("Attached", "Whether it is attached", Printer::Boolean("status.attached", false)),
    AGE,
];

static CSI_NODES: [Column; 3] =
    [NAME, integer("Drivers", "How many drivers the node has", Printer::Count("spec.drivers")), AGE];

static CSI_DRIVERS: [Column; 8] = [
    NAME,
    boolean("AttachRequired", "Whether volumes are attached", Printer::Boolean("spec.attachRequired", true)),
    boolean("PodInfoOnMount", "Whether it is told the pod", Printer::Boolean("spec.podInfoOnMount", false)),
    boolean(
        "StorageCapacity",
        "Whether it tells its capacity",
        Printer::Boolean("spec.storageCapacity", false),
    ),
    text("TokenRequests", "The audiences of the tokens it gets", Printer::Call(token_requests)),
    boolean(
        "RequiresRepublish",
        "Whether it is called again",
        Printer::Boolean("spec.requiresRepublish", false),
    ),
    text("Modes", "The life cycles of its volumes", Printer::List("spec.volumeLifecycleModes", "<none>")),
    AGE,
];

fn phase(object: &Value) -> String {
    if is_deleted(object) {
        return "Terminating".to_owned();
    }
    text_at(object, "status.phase").unwrap_or_default().to_owned()
}

fn claim(volume: &Value) -> String {
    let Some(claim) = volume.at(&["spec", "claimRef"]).filter(|c| !c.is_null()) else { return String::new() };
    let field = |name: &str| text_at(claim, name).unwrap_or_default();
    format!("{}/{}", field("namespace"), field("name"))
}

fn class(object: &Value) -> String {
    let old = annotation(object, CLASS_ANNOTATION);
    old.or_else(|| text_at(object, "spec.storageClassName")).unwrap_or_default().to_owned()
}

fn access_modes(modes: &[Value]) -> String {
    const SHORT: [(&str, &str); 4] = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let has = |mode: &str| modes.iter().any(|m| m.as_str() == Some(mode));
    SHORT.iter().filter(|(mode, _)| has(mode)).map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

fn claimed_capacity(claim: &Value) -> String {
    if text_at(claim, "spec.volumeName").is_none() {
        return String::new();
    }
    cell::text(claim.at(&["status", "capacity", "storage"])).unwrap_or_else(|| "0".to_owned())
}

fn claimed_access_modes(claim: &Value) -> String {
    if text_at(claim, "spec.volumeName").is_none() {
        return String::new();
    }
    access_modes(claim.array_at(&["status", "accessModes"]))
}

fn class_name(class: &Value) -> String {
    let names =
        ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
    let is_default = names.iter().any(|name| annotation(class, name) == Some("true"));
    format!(
        "{}{}",
        text_at(class, "metadata.name").unwrap_or_default(),
        if is_default { " (default)" } else { "" }
    )
}

fn token_requests(driver: &Value) -> String {
    let Some(requests) = driver.at(&["spec", "tokenRequests"]).and_then(Value::as_array) else {
        return "<unset>".to_owned();
    };
    requests.iter().map(|r| r.str_at(&["audience"]).unwrap_or_default()).collect::<Vec<_>>().join(",")
}
