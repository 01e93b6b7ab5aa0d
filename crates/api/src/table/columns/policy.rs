//! Disruption budgets, roles and their bindings, certificates, priority of requests.

use super::{AGE, Entry, NAME, PLAIN, integer, text, wide};
use crate::Value;
use crate::resource::Column;
use crate::table::age::human;
use crate::table::cell::{Printer, condition, text_at};

pub(super) static ENTRIES: &[Entry] = &[
    ("policy", "poddisruptionbudgets", &DISRUPTION_BUDGETS),
    ("rbac.authorization.k8s.io", "roles", &PLAIN),
    ("rbac.authorization.k8s.io", "clusterroles", &PLAIN),
    ("rbac.authorization.k8s.io", "rolebindings", &BINDINGS),
    ("rbac.authorization.k8s.io", "clusterrolebindings", &BINDINGS),
    ("certificates.k8s.io", "certificatesigningrequests", &SIGNING_REQUESTS),
    ("flowcontrol.apiserver.k8s.io", "flowschemas", &FLOW_SCHEMAS),
    ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations", &PRIORITY_LEVELS),
];

static DISRUPTION_BUDGETS: [Column; 5] = [
    NAME,
    text("Min Available", "How many pods must stay", Printer::Text("spec.minAvailable", "N/A")),
    text("Max Unavailable", "How many pods may be missing", Printer::Text("spec.maxUnavailable", "N/A")),
    integer("Allowed Disruptions", "How many pods may go now", Printer::Integer("status.disruptionsAllowed")),
    AGE,
];

static BINDINGS: [Column; 6] = [
    NAME,
    text("Role", "What is granted", Printer::Call(role)),
    AGE,
    wide(text("Users", "The users that have the role", Printer::Call(|b| subjects(b, "User")))),
    wide(text("Groups", "The groups that have it", Printer::Call(|b| subjects(b, "Group")))),
    wide(text(
        "ServiceAccounts",
        "The accounts that have it",
        Printer::Call(|b| subjects(b, "ServiceAccount")),
    )),
];

static SIGNING_REQUESTS: [Column; 6] = [
    NAME,
    AGE,
    text("SignerName", "Who is to sign", Printer::Text("spec.signerName", "<none>")),
    text("Requestor", "Who asks", Printer::Text("spec.username", "")),
    text("RequestedDuration", "For how long", Printer::Call(requested_duration)),
    text("Condition", "Whether it is approved and issued", Printer::Call(signing_status)),
];

static FLOW_SCHEMAS: [Column; 6] = [
    NAME,
    text(
        "PriorityLevel",
        "The level that its requests get",
        Printer::Text("spec.priorityLevelConfiguration.name", ""),
    ),
    text("MatchingPrecedence", "Lower ones are tried first", Printer::Integer("spec.matchingPrecedence")),
    text(
        "DistinguisherMethod",
        "How flows are told apart",
        Printer::Text("spec.distinguisherMethod.type", "<none>"),
    ),
    AGE,
    text("MissingPL", "Whether its level is missing", Printer::Call(dangling)),
];

static PRIORITY_LEVELS: [Column; 7] = [
    NAME,
    text("Type", "Whether its requests are limited", Printer::Text("spec.type", "")),
    text(
        "NominalConcurrencyShares",
        "Its share of the server",
        Printer::Value(|p| number(p, "limited", &["nominalConcurrencyShares"])),
    ),
    text("Queues", "How many queues it has", Printer::Value(|p| number(p, "queuing", &["queues"]))),
    text(
        "HandSize",
        "How many queues a flow is dealt",
        Printer::Value(|p| number(p, "queuing", &["handSize"])),
    ),
    text(
        "QueueLengthLimit",
        "How long a queue may be",
        Printer::Value(|p| number(p, "queuing", &["queueLengthLimit"])),
    ),
    AGE,
];

fn role(binding: &Value) -> String {
    let field = |name: &str| binding.str_at(&["roleRef", name]).unwrap_or_default();
    format!("{}/{}", field("kind"), field("name"))
}

fn subjects(binding: &Value, kind: &str) -> String {
    let of_kind = binding.array_at(&["subjects"]).iter().filter(|s| s.str_at(&["kind"]) == Some(kind));
    let name = |subject: &Value| {
        let name = subject.str_at(&["name"]).unwrap_or_default();
        match kind {
            "ServiceAccount" => format!("{}/{name}", subject.str_at(&["namespace"]).unwrap_or_default()),
            _ => name.to_owned(),
        }
    };
    of_kind.map(name).collect::<Vec<_>>().join(", ")
}

fn requested_duration(request: &Value) -> String {
    request.i64_at(&["spec", "expirationSeconds"]).map_or_else(|| "<none>".to_owned(), human)
}

fn signing_status(request: &Value) -> String {
    let conditions = request.array_at(&["status", "conditions"]);
    let has = |ty: &str| conditions.iter().any(|c| c.str_at(&["type"]) == Some(ty));
    let decided = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (_, true) => "Approved",
        _ => "Pending",
    };
    let failed = if has("Failed") { ",Failed" } else { "" };
    let issued = if text_at(request, "status.certificate").is_some() { ",Issued" } else { "" };
    format!("{decided}{failed}{issued}")
}

fn dangling(schema: &Value) -> String {
    condition(schema.array_at(&["status", "conditions"]), "Dangling").unwrap_or("?").to_owned()
}

/// A number of a priority level's limits or of its queuing; 0 if it is left out, words if the whole part is.
fn number(level: &Value, part: &str, path: &[&str]) -> Value {
    let limited = level.at(&["spec", "limited"]);
    let part = match part {
        "queuing" => limited.and_then(|l| l.at(&["limitResponse", "queuing"])),
        _ => limited,
    };
    match part.filter(|p| !p.is_null()) {
        Some(part) => part.i64_at(path).unwrap_or_default().into(),
        None => "<none>".into(),
    }
}
