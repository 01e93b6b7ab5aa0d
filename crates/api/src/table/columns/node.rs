//! Nodes.

use std::collections::BTreeSet;

use super::{AGE, Entry, NAME, text, wide};
use crate::resource::Column;
use crate::table::cell::{Printer, condition, text_at};
use crate::{Map, Value};

pub(super) static ENTRIES: &[Entry] = &[("", "nodes", &NODES)];

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE: &str = "kubernetes.io/role";

static NODES: [Column; 10] = [
    NAME,
    text("Status", "Whether the node is ready and takes pods", Printer::Call(status)),
    text("Roles", "What the node is for", Printer::Call(roles)),
    AGE,
    text("Version", "The version of its agent", Printer::Text("status.nodeInfo.kubeletVersion", "")),
    wide(text("Internal-IP", "Its address inside the cluster", Printer::Call(|n| address(n, "InternalIP")))),
    wide(text("External-IP", "Its address outside", Printer::Call(|n| address(n, "ExternalIP")))),
    wide(text("OS-Image", "Its operating system", Printer::Text("status.nodeInfo.osImage", "<unknown>"))),
    wide(text("Kernel-Version", "Its kernel", Printer::Call(kernel))),
    wide(text(
        "Container-Runtime",
        "What runs its containers",
        Printer::Text("status.nodeInfo.containerRuntimeVersion", "<unknown>"),
    )),
];

fn status(node: &Value) -> String {
    let ready = match condition(node.array_at(&["status", "conditions"]), "Ready") {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let cordoned = node.bool_at(&["spec", "unschedulable"]) == Some(true);
    format!("{ready}{}", if cordoned { ",SchedulingDisabled" } else { "" })
}

fn roles(node: &Value) -> String {
    let labels = node.object_at(&["metadata", "labels"]).into_iter().flat_map(Map::iter);
    let role = |(key, value): (&str, &Value)| match key.strip_prefix(ROLE_PREFIX) {
        Some(role) => Some(role.to_owned()),
        None if key == ROLE => value.as_str().map(str::to_owned),
        None => None,
    };
    let roles: BTreeSet<String> = labels.filter_map(role).filter(|r| !r.is_empty()).collect();
    if roles.is_empty() {
        return "<none>".to_owned();
    }
    roles.into_iter().collect::<Vec<_>>().join(",")
}

fn address(node: &Value, ty: &str) -> String {
    let addresses = node.array_at(&["status", "addresses"]);
    let found = addresses.iter().find(|a| a.str_at(&["type"]) == Some(ty));
    found.and_then(|a| a.str_at(&["address"])).unwrap_or("<none>").to_owned()
}

fn kernel(node: &Value) -> String {
    let version = text_at(node, "status.nodeInfo.kernelVersion").unwrap_or("<unknown>");
    match text_at(node, "status.nodeInfo.architecture") {
        Some(architecture) => format!("{version} ({architecture})"),
        None => version.to_owned(),
    }
}
