//! CSI drivers, the nodes they are on, what they have room for, and what they attach.

use super::size;
use crate::kinds::check::{Check, IMMUTABLE, NOT_NEGATIVE, is_set, number, same, text};
use crate::kinds::fill::{Given, Row, absent, fill};
use crate::kinds::pod::volumes::driver_name;
use crate::kinds::volumes;
use crate::quantity::Quantity;
use crate::{Value, names};

const MAX_METADATA_SIZE: usize = 256 << 10;
const MAX_ERROR_SIZE: usize = 1024;
const MAX_NODE_ID: usize = 256;

const DRIVER: &[Row] = &[
    absent("spec!.attachRequired", Given::Bool(true)),
    absent("spec.podInfoOnMount", Given::Bool(false)),
    absent("spec.storageCapacity", Given::Bool(false)),
    absent("spec.fsGroupPolicy", Given::Text("ReadWriteOnceWithFSType")),
    absent("spec.requiresRepublish", Given::Bool(false)),
    absent("spec.seLinuxMount", Given::Bool(false)),
];

pub(super) fn driver_defaults(object: &mut Value) {
    fill(object, DRIVER);
    if object.object_at(&["spec"]).is_some() && object.array_at(&["spec", "volumeLifecycleModes"]).is_empty()
    {
        object.set(&["spec", "volumeLifecycleModes"], vec!["Persistent"]);
    }
}

/// Upstream reports `attachRequired` by this name.
pub(super) const ATTACH: &str = "attachedRequired";

pub(super) fn driver(c: &mut Check, spec: &Value) {
    for (field, reported) in [
        ("attachRequired", ATTACH),
        ("podInfoOnMount", "podInfoOnMount"),
        ("storageCapacity", "storageCapacity"),
    ] {
        if !is_set(spec, field) {
            c.at(reported).required("");
        }
    }
    c.one_of_if_set(spec, "fsGroupPolicy", &["File", "None", "ReadWriteOnceWithFSType"]);
    token_requests(c, spec);
    for mode in spec.array_at(&["volumeLifecycleModes"]) {
        let modes = ["Persistent", "Ephemeral"];
        if !mode.as_str().is_some_and(|m| modes.contains(&m)) {
            c.at("volumeLifecycleModes").not_supported(mode.clone(), &modes);
        }
    }
    if !is_set(spec, "seLinuxMount") {
        c.at("seLinuxMount").required("");
    }
    let period = number(spec, "nodeAllocatableUpdatePeriodSeconds");
    if period.is_some_and(|p| p < 10) {
        let detail = "must be greater than or equal to 10 seconds";
        c.at("nodeAllocatableUpdatePeriodSeconds").invalid(period, detail);
    }
    let field = "serviceAccountTokenInSecrets";
    if let Some(value) = spec.get(field).filter(|v| !v.is_null())
        && spec.array_at(&["tokenRequests"]).is_empty()
    {
        let detail = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        c.at(field).invalid(value.clone(), detail);
    }
}

fn token_requests(c: &mut Check, spec: &Value) {
    const SHORTEST: i64 = 600;
    const LONGEST: i64 = 1 << 32;
    let mut audiences = Vec::new();
    c.each(spec, "tokenRequests", |c, request| {
        let audience = text(request, "audience");
        if audiences.contains(&audience) {
            return c.at("audience").duplicate(audience);
        }
        audiences.push(audience);
        let seconds = number(request, "expirationSeconds");
        if seconds.is_some_and(|s| s < SHORTEST) {
            let detail = "may not specify a duration less than 10 minutes";
            c.at("expirationSeconds").invalid(seconds, detail);
        }
        if seconds.is_some_and(|s| s > LONGEST) {
            let detail = "may not specify a duration larger than 2^32 seconds";
            c.at("expirationSeconds").invalid(seconds, detail);
        }
    });
}

pub(super) fn driver_warnings(object: &Value, old: Option<&Value>) -> Vec<String> {
    let requests = ["spec", "tokenRequests"];
    let asks = !object.array_at(&requests).is_empty()
        && object.at(&["spec", "serviceAccountTokenInSecrets"]).is_none_or(Value::is_null);
    let is_new = old.is_none_or(|old| !same(old.at(&requests), object.at(&requests)));
    if asks && is_new { vec![TOKENS.into()] } else { Vec::new() }
}

const TOKENS: &str = "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes";

pub(super) fn node_drivers(c: &mut Check, object: &Value) {
    let mut seen = Vec::new();
    c.field(object, "spec", |c, spec| {
        c.each(spec, "drivers", |c, driver| {
            driver_name(c, driver, "name");
            let id = c.require(driver, "nodeID").unwrap_or_default();
            if id.len() > MAX_NODE_ID {
                c.at("nodeID").invalid(id, &format!("must be {MAX_NODE_ID} characters or less"));
            }
            c.some(driver, "allocatable", |c, allocatable| c.non_negative(allocatable, "count"));
            let name = text(driver, "name");
            if seen.contains(&name) {
                c.at("name").duplicate(name);
            }
            seen.push(name);
            topology_keys(c, driver);
        });
    });
}

/// What is wrong with a key is reported at its driver.
fn topology_keys(c: &mut Check, driver: &Value) {
    let keys = driver.array_at(&["topologyKeys"]);
    for (i, key) in keys.iter().enumerate() {
        let text = key.as_str().unwrap_or_default();
        if text.is_empty() {
            c.here().required("");
        }
        if keys[..i].contains(key) {
            c.here().duplicate(text);
        }
        c.here().obeys(text, names::qualified);
    }
}

/// A driver that is still there is as it was, but for how much it can hold.
pub(super) fn drivers_stay(c: &mut Check, object: &Value, old: &Value) {
    let path = ["spec", "drivers"];
    let lasting = |driver: &Value| {
        let mut driver = driver.clone();
        drop(driver.remove_at(&["allocatable"]));
        driver
    };
    for before in old.array_at(&path) {
        let name = |driver: &&Value| text(driver, "name") == text(before, "name");
        for driver in object.array_at(&path).iter().filter(name) {
            let [now, then] = [driver, before].map(lasting);
            if !same(Some(&now), Some(&then)) {
                c.at("drivers").invalid(now, IMMUTABLE);
            }
        }
    }
}

pub(super) fn capacity(c: &mut Check, object: &Value) {
    c.selector(object, "nodeTopology");
    c.at("storageClassName").obeys(text(object, "storageClassName"), names::dns_subdomain);
    let amount = text(object, "capacity");
    if amount.parse().is_ok_and(|q: Quantity| q.signum() < 0) {
        c.at("capacity").invalid(amount, NOT_NEGATIVE);
    }
}

pub(super) fn attachment(c: &mut Check, spec: &Value) {
    const ONE: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    driver_name(c, spec, "attacher");
    c.field(spec, "source", |c, source| {
        let volume = source.str_at(&["persistentVolumeName"]);
        match (is_set(source, "inlineVolumeSpec"), volume) {
            (false, None) => c.here().required(ONE),
            (true, Some(_)) => c.here().forbidden(ONE),
            (true, None) => c.field(source, "inlineVolumeSpec", volumes::inline_spec),
            (false, Some("")) => {
                c.at("persistentVolumeName").required("must specify non empty persistentVolumeName");
            }
            (false, Some(_)) => {}
        }
    });
    c.at("nodeName").obeys(text(spec, "nodeName"), names::dns_subdomain);
    if let Some(volume) = spec.str_at(&["source", "persistentVolumeName"]) {
        c.at("source").field("persistentVolumeName").obeys(volume, names::dns_subdomain);
    }
}

pub(super) fn attached(c: &mut Check, status: &Value) {
    if status.object_at(&["attachmentMetadata"]).is_some_and(|m| size(m) > MAX_METADATA_SIZE) {
        c.at("attachmentMetadata").too_long(MAX_METADATA_SIZE);
    }
    for field in ["attachError", "detachError"] {
        c.some(status, field, |c, error| {
            if text(error, "message").len() > MAX_ERROR_SIZE {
                c.at("message").too_long(MAX_METADATA_SIZE);
            }
            let code = number(error, "errorCode");
            if code.is_some_and(|code| code < 0) {
                c.range(error, "errorCode", 0, i32::MAX.into());
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CSI_DRIVER, CSI_NODE, CSI_STORAGE_CAPACITY, VOLUME_ATTACHMENT};
    use super::*;
    use crate::kinds::check::testing::{cases, json};

    #[test]
    fn drivers() {
        let mut base = json(r#"{"spec": {"tokenRequests": [{"audience": "a"}]}}"#);
        driver_defaults(&mut base);
        cases(&base, DRIVERS, CSI_DRIVER.validate);
        cases(&base, DRIVER_CHANGES, |object| (CSI_DRIVER.validate_update)(object, &base));
        assert_eq!((CSI_DRIVER.warnings)(&base, None), [TOKENS]);
        assert!((CSI_DRIVER.warnings)(&base, Some(&base)).is_empty());
    }

    const DRIVERS: &str = r#"
spec.fsGroupPolicy = "File"
spec.serviceAccountTokenInSecrets = true
spec.nodeAllocatableUpdatePeriodSeconds = 10

spec = {"fsGroupPolicy": "x", "volumeLifecycleModes": ["x"], "nodeAllocatableUpdatePeriodSeconds": 9,
  "serviceAccountTokenInSecrets": false}
! spec.attachedRequired: Required value
! spec.podInfoOnMount: Required value
! spec.storageCapacity: Required value
! spec.fsGroupPolicy: Unsupported value: "x": supported values: "File", "None", "ReadWriteOnceWithFSType"
! spec.volumeLifecycleModes: Unsupported value: "x": supported values: "Persistent", "Ephemeral"
! spec.seLinuxMount: Required value
! spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 9: must be greater than or equal to 10 seconds
! spec.serviceAccountTokenInSecrets: Invalid value: false: serviceAccountTokenInSecrets is set but no tokenRequests are
  specified

spec.tokenRequests = [{"audience": "a", "expirationSeconds": 599}, {"audience": "a"}, {"expirationSeconds": 4294967297}]
! spec.tokenRequests[0].expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes
! spec.tokenRequests[1].audience: Duplicate value: "a"
! spec.tokenRequests[2].expirationSeconds: Invalid value: 4294967297: may not specify a duration larger than 2^32 seconds
"#;

    const DRIVER_CHANGES: &str = r#"
spec.podInfoOnMount = true

spec.attachRequired = false
spec.volumeLifecycleModes = ["Ephemeral"]
! spec.attachedRequired: Invalid value: false: field is immutable
! spec.volumeLifecycleModes: Invalid value: ["Ephemeral"]: field is immutable
"#;

    #[test]
    fn nodes_and_capacities() {
        let base = json(r#"{"spec": {"drivers": [{"name": "a", "nodeID": "b", "topologyKeys": ["c"]}]}}"#);
        cases(&base, NODES, CSI_NODE.validate);
        cases(&base, NODE_CHANGES, |object| (CSI_NODE.validate_update)(object, &base));
        let base = json(r#"{"storageClassName": "a"}"#);
        cases(&base, CAPACITIES, CSI_STORAGE_CAPACITY.validate);
        cases(&base, CAPACITY_CHANGES, |object| (CSI_STORAGE_CAPACITY.validate_update)(object, &base));
    }

    const NODES: &str = r#"
spec.drivers.0.allocatable = {"count": 1}

spec.drivers = [{"name": "a", "topologyKeys": ["b", "b", "a b"]}, {"name": "a", "nodeID": "b", "allocatable":
  {"count": -1}}]
! spec.drivers[0].nodeID: Required value
! spec.drivers[0]: Duplicate value: "b"
! spec.drivers[0]: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must
  start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is
  '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
! spec.drivers[1].allocatable.count: Invalid value: -1: must be greater than or equal to 0
! spec.drivers[1].name: Duplicate value: "a"
"#;

    const NODE_CHANGES: &str = r#"
spec.drivers.0.allocatable = {"count": 1}

spec.drivers.0 = {"name": "b", "nodeID": "c"}

spec.drivers.0.nodeID = "c"
! spec.drivers: Invalid value: {"name":"a","nodeID":"c","topologyKeys":["c"]}: field is immutable
"#;

    const CAPACITIES: &str = r#"
capacity = "1Gi"

capacity = "-1"
nodeTopology = {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "a", "operator": "x"}]}
! nodeTopology.matchExpressions[0].operator: Invalid value: "x": not a valid selector operator
! capacity: Invalid value: "-1": must be greater than or equal to 0
"#;

    const CAPACITY_CHANGES: &str = r#"
capacity = "2Gi"

storageClassName = "b"
nodeTopology = {"matchLabels": {"a": "b"}}
! nodeTopology: Invalid value: {"matchLabels":{"a":"b"}}: field is immutable
! storageClassName: Invalid value: "b": field is immutable
"#;

    #[test]
    fn attachments() {
        let base =
            json(r#"{"spec": {"attacher": "a", "nodeName": "n", "source": {"persistentVolumeName": "v"}}}"#);
        cases(&base, ATTACHMENTS, VOLUME_ATTACHMENT.validate);
        let changed =
            json(r#"{"spec": {"attacher": "b", "nodeName": "n", "source": {"persistentVolumeName": "v"}}}"#);
        assert_eq!((VOLUME_ATTACHMENT.validate_update)(&base, &base), []);
        assert_eq!((VOLUME_ATTACHMENT.validate_update)(&changed, &base).len(), 1);
        cases(&json("{}"), ATTACHED, |object| (VOLUME_ATTACHMENT.validate_status)(object, &Value::Null));
        let mut long = json(r#"{"status": {"attachError": {}}}"#);
        long.set(&["status", "attachError", "message"], "x".repeat(MAX_ERROR_SIZE + 1));
        assert_eq!((VOLUME_ATTACHMENT.validate_status)(&long, &Value::Null).len(), 1);
    }

    const ATTACHMENTS: &str = r#"
spec.attacher = "A"

spec.source = {"inlineVolumeSpec": {"accessModes": ["ReadWriteOnce"], "csi": {"driver": "a", "volumeHandle": "b"}}}

spec = {"nodeName": "n"}
! spec.attacher: Required value
! spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName

spec.source.inlineVolumeSpec = {}
! spec.source: Forbidden: must specify exactly one of inlineVolumeSpec and persistentVolumeName

spec.source = {"inlineVolumeSpec": {"claimRef": {}, "capacity": {"storage": "1"}, "nfs": {"server": "a", "path": "/"},
  "persistentVolumeReclaimPolicy": "Delete", "nodeAffinity": {}, "storageClassName": "a", "volumeMode": "Block"}}
! spec.source.inlineVolumeSpec.claimRef: Forbidden: may not be specified in the context of inline volumes
! spec.source.inlineVolumeSpec.capacity: Forbidden: may not be specified in the context of inline volumes
! spec.source.inlineVolumeSpec.csi: Required value: has to be specified in the context of inline volumes
! spec.source.inlineVolumeSpec.accessModes: Required value
! spec.source.inlineVolumeSpec.persistentVolumeReclaimPolicy: Forbidden: may only be Retain in the context of inline
  volumes
! spec.source.inlineVolumeSpec.nodeAffinity: Forbidden: may not be specified in the context of inline volumes
! spec.source.inlineVolumeSpec.storageClassName: Forbidden: may not be specified in the context of inline volumes
! spec.source.inlineVolumeSpec.volumeMode: Forbidden: may not specify volumeMode other than Filesystem in the context of
  inline volumes
"#;

    const ATTACHED: &str = r#"
status = {"attached": true, "attachError": {"errorCode": 1}}

status = {"detachError": {"errorCode": -1}}
! status.detachError.errorCode: Invalid value: -1: must be between 0 and 2147483647, inclusive
"#;
}
