//! Objects of a kind, made from decisions along its schema.
//!
//! What comes out is mostly of the right shape, with values from a list of good and bad ones, so that it gets past
//! decoding and into defaults and validation, where bytes at random never come.

use xebec_api::schema::{SchemaRef, Type};
use xebec_api::{Key, Map, Value};

use crate::Choices;

const MAX_DEPTH: usize = 12;

/// Texts that mean something to some rule, and texts that break one.
const TEXTS: &[&str] = &[
    "", "a", "web", "tcp", "TCP", "UDP", "Always", "Never", "OnFailure", "IfNotPresent", "ClusterIP", "NodePort", "LoadBalancer",
    "ExternalName", "None", "In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt", "Equal", "RollingUpdate", "Recreate", "OnDelete",
    "Resource", "Pods", "Object", "External", "ContainerResource", "Utilization", "Value", "AverageValue", "NoSchedule", "NoExecute",
    "80", "http", "25%", "100%", "101%", "-1%", "10.0.0.1", "10.0.0.0/8", "::1", "fd00::/8", "300.1.1.1", "0.0.0.0",
    "localhost/profile", "RuntimeDefault", "Localhost", "Unconfined", "/tmp", "../x", "/a/../b", "a/b", "a//b", "kubernetes.io/x",
    "1Gi", "-1", "1e100", "0.5", "100m", "2026-01-31T09:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z",
    "*/5 * * * *", "@daily", "60 24 32 13 8", "TZ=UTC * * * * *", "NonIndexed", "Indexed", "Count", "FailJob", "Ignore", "0-3,5",
    "metadata.name", "metadata.labels['x']", "limits.cpu", "status.podIP", "cpu", "memory", "ephemeral-storage", "hugepages-2Mi",
    "nvidia.com/gpu", "ReadWriteOnce", "ReadWriteOncePod", "Filesystem", "Block", "Retain", "Delete", "WaitForFirstConsumer",
    "app", "spec", "Namespaced", "Cluster", "v1", "v1beta1", "object", "string", "integer", "array", "boolean", "date-time",
    "x-kubernetes", "apiGroup", "rbac.authorization.k8s.io", "User", "Group", "ServiceAccount", "*", "get", "system:masters",
    "é", "a\u{0}b", "\u{10FFFF}", "$(X)", "{}", "[0]", ".spec.x", "sha256:0", "Ingress", "Egress", "Prefix", "Exact",
    "ImplementationSpecific", "*.example.com", "example.com", "UPPER", "under_score", "-dash", "dash-", "a.b.c", "kube-system",
    "ClientIP", "Local", "SingleStack", "PreferDualStack", "RequireDualStack", "IPv4", "IPv6", "Memory", "File", "HTTP", "HTTPS",
    "Opaque", "kubernetes.io/tls", "kubernetes.io/dockerconfigjson", "kubernetes.io/service-account-token", "eyJhIjoxfQ==", "YQ==", "!",
];

const NUMBERS: &[i64] = &[
    0, 1, 2, 3, 80, 443, 1000, 8080, 30_000, 32_768, 65_535, 65_536, -1, -2, 100, 101, 300, 3600, i32::MAX as i64,
    i32::MIN as i64, i32::MAX as i64 + 1, i64::MAX, i64::MIN, 1 << 53,
];

const FLOATS: &[f64] = &[0.5, -0.0, 1e300, -1e300, 5e-324, 1e21, 9.3e18, 1.5];

/// An object of the type `schema`.
#[must_use]
pub fn object(choices: &mut Choices<'_>, schema: SchemaRef<'_>) -> Value {
    value(choices, schema, 0)
}

/// A text.
#[must_use]
pub fn text(choices: &mut Choices<'_>) -> Key {
    match choices.byte() {
        250..=251 => TEXTS[choices.below(TEXTS.len())].repeat(64).into(),
        252..=255 => String::from_utf8_lossy(choices.some()).as_ref().into(),
        byte => TEXTS[usize::from(byte) % TEXTS.len()].into(),
    }
}

/// Any tree.
#[must_use]
pub fn any(choices: &mut Choices<'_>, depth: usize) -> Value {
    let kinds = if depth < MAX_DEPTH { 8 } else { 6 };
    match choices.below(kinds) {
        0 => Value::Null,
        1 => Value::Bool(choices.once_in(2)),
        2 => Value::Int(*choices.pick(NUMBERS)),
        3 => Value::Float(*choices.pick(FLOATS)),
        4 | 5 => Value::String(text(choices)),
        6 => Value::Array((0..choices.below(4)).map(|_| any(choices, depth + 1)).collect()),
        _ => map((0..choices.below(4)).map(|_| (text(choices), any(choices, depth + 1))).collect()),
    }
}

fn value(choices: &mut Choices<'_>, schema: SchemaRef<'_>, depth: usize) -> Value {
    if choices.once_in(64) {
        return any(choices, depth);
    }
    match schema.ty() {
        Type::Any => any(choices, depth),
        Type::Object | Type::Map | Type::List if depth >= MAX_DEPTH => Value::Null,
        Type::Object => fields(choices, schema, depth),
        Type::Map => {
            let count = choices.below(4);
            map((0..count).map(|_| (text(choices), value(choices, schema.items(), depth + 1))).collect())
        }
        Type::List => {
            let count = choices.below(4);
            Value::Array((0..count).map(|_| value(choices, schema.items(), depth + 1)).collect())
        }
        Type::IntOrString if choices.once_in(2) => Value::Int(*choices.pick(NUMBERS)),
        Type::Quantity if choices.once_in(4) => Value::Int(*choices.pick(NUMBERS)),
        Type::String | Type::Bytes | Type::Time | Type::MicroTime | Type::Quantity | Type::IntOrString => {
            Value::String(text(choices))
        }
        Type::Int32 | Type::Int64 => Value::Int(*choices.pick(NUMBERS)),
        Type::Number if choices.once_in(2) => Value::Float(*choices.pick(FLOATS)),
        Type::Number => Value::Int(*choices.pick(NUMBERS)),
        Type::Boolean => Value::Bool(choices.once_in(2)),
    }
}

/// An object with its required fields, mostly, and some of the others.
fn fields(choices: &mut Choices<'_>, schema: SchemaRef<'_>, depth: usize) -> Value {
    let mut entries = Vec::new();
    let names: Vec<_> = schema.properties().collect();
    for property in names.iter().filter(|property| property.required) {
        if !choices.once_in(16) {
            entries.push((property.name.as_ref().into(), value(choices, schema.go(property.node), depth + 1)));
        }
    }
    if !names.is_empty() {
        for _ in 0..choices.below(6) {
            let property = choices.pick(&names);
            entries.push((property.name.as_ref().into(), value(choices, schema.go(property.node), depth + 1)));
        }
    }
    if choices.once_in(16) {
        entries.push((text(choices), any(choices, depth + 1)));
    }
    map(entries)
}

fn map(entries: Vec<(Key, Value)>) -> Value {
    Value::Object(Map::from_entries(entries, |_| ()))
}
