//! The group `storage.k8s.io`.

use super::check::{Check, IMMUTABLE, NOT_NEGATIVE, filled, is_set, number, run, same, text};
use super::fill::{Given, Row, absent, each, fill};
use super::pod::defaults::SOURCES;
use super::pod::volumes::driver_name;
use super::warnings::{node_label, selected_labels, warned};
use super::{Kind, volumes};
use crate::quantity::Quantity;
use crate::{Map, Value, names};

const STORAGE: Kind = Kind { group: "storage.k8s.io", generation: false, ..Kind::DEFAULT };

pub(super) const STORAGE_CLASS: Kind = Kind {
    resource: "storageclasses",
    unconditional_update: true,
    defaults: |object, _| fill(object, CLASS),
    validate: |object| run(|c| storage_class(c, object)),
    validate_update: |object, old| {
        run(|c| {
            for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
                c.immutable(object, old, field);
            }
        })
    },
    warnings: |object, _| {
        warned(|c| {
            c.each(object, "allowedTopologies", |c, term| {
                c.each(term, "matchLabelExpressions", |c, expression| {
                    if let Some(message) = node_label(text(expression, "key")) {
                        c.at("key").warn(message);
                    }
                });
            });
        })
    },
    ..STORAGE
};

pub(super) const VOLUME_ATTRIBUTES_CLASS: Kind = Kind {
    resource: "volumeattributesclasses",
    unconditional_update: true,
    validate: |object| run(|c| attributes_class(c, object)),
    validate_update: |object, old| {
        run(|c| {
            for field in ["driverName", "parameters"] {
                if !same(object.get(field), old.get(field)) {
                    c.at(field).forbidden(&format!("updates to {field} are forbidden."));
                }
            }
            attributes_class(c, object);
        })
    },
    ..STORAGE
};

pub(super) const CSI_DRIVER: Kind = Kind {
    resource: "csidrivers",
    generation: true,
    defaults: |object, _| driver_defaults(object),
    validate: |object| run(|c| c.field(object, "spec", driver)),
    validate_update: |object, old| {
        let (spec, before) = (object.at(&["spec"]), old.at(&["spec"]));
        run(|c| {
            c.field(object, "spec", |c, spec| {
                driver(c, spec);
                let [now, then] = [spec.get("attachRequired"), before.and_then(|b| b.get("attachRequired"))];
                if !same(now, then) {
                    c.at(ATTACH).invalid(now.cloned().unwrap_or_default(), IMMUTABLE);
                }
            });
            if let (Some(spec), Some(before)) = (spec, before) {
                c.within("spec", |c| c.immutable(spec, before, "volumeLifecycleModes"));
            }
        })
    },
    warnings: driver_warnings,
    ..STORAGE
};

pub(super) const CSI_NODE: Kind = Kind {
    resource: "csinodes",
    validate: |object| run(|c| node_drivers(c, object)),
    validate_update: |object, old| {
        run(|c| {
            node_drivers(c, object);
            c.within("spec", |c| drivers_stay(c, object, old));
        })
    },
    ..STORAGE
};

pub(super) const CSI_STORAGE_CAPACITY: Kind = Kind {
    resource: "csistoragecapacities",
    validate: |object| run(|c| capacity(c, object)),
    validate_update: |object, old| {
        run(|c| {
            c.immutable(object, old, "nodeTopology");
            c.immutable(object, old, "storageClassName");
        })
    },
    warnings: |object, _| warned(|c| c.field(object, "nodeTopology", selected_labels)),
    ..STORAGE
};

pub(super) const VOLUME_ATTACHMENT: Kind = Kind {
    resource: "volumeattachments",
    defaults: |object, _| each(object, "spec.source.inlineVolumeSpec", &mut |spec| fill(spec, SOURCES)),
    validate: |object| run(|c| c.field(object, "spec", attachment)),
    validate_update: |object, old| {
        run(|c| {
            c.field(object, "spec", attachment);
            c.immutable(object, old, "spec");
        })
    },
    validate_status: |object, _| run(|c| c.field(object, "status", attached)),
    ..STORAGE
};

const CLASS: &[Row] =
    &[absent("reclaimPolicy", Given::Text("Delete")), absent("volumeBindingMode", Given::Text("Immediate"))];

const DRIVER: &[Row] = &[
    absent("spec!.attachRequired", Given::Bool(true)),
    absent("spec.podInfoOnMount", Given::Bool(false)),
    absent("spec.storageCapacity", Given::Bool(false)),
    absent("spec.fsGroupPolicy", Given::Text("ReadWriteOnceWithFSType")),
    absent("spec.requiresRepublish", Given::Bool(false)),
    absent("spec.seLinuxMount", Given::Bool(false)),
];

fn driver_defaults(object: &mut Value) {
    fill(object, DRIVER);
    if object.object_at(&["spec"]).is_some() && object.array_at(&["spec", "volumeLifecycleModes"]).is_empty()
    {
        object.set(&["spec", "volumeLifecycleModes"], vec!["Persistent"]);
    }
}

const MAX_PARAMETERS: usize = 512;
const MAX_PARAMETERS_SIZE: usize = 256 << 10;
const MAX_METADATA_SIZE: usize = 256 << 10;
const MAX_ERROR_SIZE: usize = 1024;
const MAX_NODE_ID: usize = 256;

fn storage_class(c: &mut Check, object: &Value) {
    provisioner(c, object, "provisioner");
    parameters(c, object);
    if filled(object, "reclaimPolicy").is_some() {
        c.one_of(object, "reclaimPolicy", &["Delete", "Retain"]);
    }
    if is_set(object, "volumeBindingMode") {
        c.one_of(object, "volumeBindingMode", &["Immediate", "WaitForFirstConsumer"]);
    } else {
        c.at("volumeBindingMode").required("");
    }
    topologies(c, object);
}

fn attributes_class(c: &mut Check, object: &Value) {
    provisioner(c, object, "driverName");
    parameters(c, object);
    if object.object_at(&["parameters"]).is_none_or(Map::is_empty) {
        c.at("parameters").required("must contain at least one key/value pair");
    }
}

fn provisioner(c: &mut Check, object: &Value, field: &str) {
    if let Some(name) = c.require(object, field) {
        let name = name.to_ascii_lowercase();
        c.at(field).obeys(&name, names::qualified);
    }
}

fn size(map: &Map) -> usize {
    map.iter().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum()
}

fn parameters(c: &mut Check, object: &Value) {
    let Some(all) = object.object_at(&["parameters"]) else { return };
    if all.len() > MAX_PARAMETERS {
        return c.at("parameters").too_long(MAX_PARAMETERS);
    }
    if all.contains("") {
        c.at("parameters").invalid("", "field can not be empty.");
    }
    if size(all) > MAX_PARAMETERS_SIZE {
        c.at("parameters").too_long(MAX_PARAMETERS_SIZE);
    }
}

fn topologies(c: &mut Check, object: &Value) {
    let terms = object.array_at(&["allowedTopologies"]);
    for (i, term) in terms.iter().enumerate() {
        c.within("allowedTopologies", |c| {
            c.within_index(i, |c| {
                topology(c, term);
                if means_all(term) || terms[..i].iter().any(|other| meaning(other) == meaning(term)) {
                    c.at("matchLabelExpressions").duplicate("");
                }
            });
        });
    }
}

fn topology(c: &mut Check, term: &Value) {
    let mut keys = Vec::new();
    c.each(term, "matchLabelExpressions", |c, expression| {
        let values = expression.array_at(&["values"]);
        if values.is_empty() {
            c.at("values").required("");
        }
        for (i, value) in values.iter().enumerate() {
            if values[..i].contains(value) {
                c.at("values").index(i).duplicate(value.clone());
            }
        }
        let key = text(expression, "key");
        c.at("key").obeys(key, names::qualified);
        if keys.contains(&key) {
            c.at("key").duplicate(key);
        }
        keys.push(key);
    });
}

/// A topology that names nothing is refused as one that is there already.
fn means_all(term: &Value) -> bool {
    term.array_at(&["matchLabelExpressions"]).is_empty()
}

/// The keys and values that a topology names, in an order of their own.
fn meaning(term: &Value) -> Vec<(&str, Vec<&str>)> {
    let mut all: Vec<_> = term
        .array_at(&["matchLabelExpressions"])
        .iter()
        .map(|expression| {
            let mut values: Vec<&str> =
                expression.array_at(&["values"]).iter().filter_map(Value::as_str).collect();
            values.sort_unstable();
            (text(expression, "key"), values)
        })
        .collect();
    all.sort_unstable();
    all
}

/// Upstream reports `attachRequired` by this name.
const ATTACH: &str = "attachedRequired";

fn driver(c: &mut Check, spec: &Value) {
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

fn driver_warnings(object: &Value, old: Option<&Value>) -> Vec<String> {
    let requests = ["spec", "tokenRequests"];
    let asks = !object.array_at(&requests).is_empty()
        && object.at(&["spec", "serviceAccountTokenInSecrets"]).is_none_or(Value::is_null);
    let is_new = old.is_none_or(|old| !same(old.at(&requests), object.at(&requests)));
    if asks && is_new { vec![TOKENS.into()] } else { Vec::new() }
}

const TOKENS: &str = "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes";

fn node_drivers(c: &mut Check, object: &Value) {
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
fn drivers_stay(c: &mut Check, object: &Value, old: &Value) {
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

fn capacity(c: &mut Check, object: &Value) {
    c.selector(object, "nodeTopology");
    c.at("storageClassName").obeys(text(object, "storageClassName"), names::dns_subdomain);
    let amount = text(object, "capacity");
    if amount.parse().is_ok_and(|q: Quantity| q.signum() < 0) {
        c.at("capacity").invalid(amount, NOT_NEGATIVE);
    }
}

fn attachment(c: &mut Check, spec: &Value) {
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

fn attached(c: &mut Check, status: &Value) {
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
    use super::*;
    use crate::kinds::check::testing::{cases, json};

    #[test]
    fn classes() {
        let base = json(r#"{"provisioner": "a.b/c", "volumeBindingMode": "Immediate"}"#);
        cases(&base, CLASSES, STORAGE_CLASS.validate);
        cases(&base, CLASS_CHANGES, |object| (STORAGE_CLASS.validate_update)(object, &base));
        let base = json(r#"{"driverName": "a.b", "parameters": {"a": "b"}}"#);
        cases(&base, ATTRIBUTES, VOLUME_ATTRIBUTES_CLASS.validate);
        cases(&base, ATTRIBUTE_CHANGES, |object| (VOLUME_ATTRIBUTES_CLASS.validate_update)(object, &base));
        let mut big = base;
        big.set(&["parameters", "a"], "x".repeat(MAX_PARAMETERS_SIZE));
        assert_eq!((VOLUME_ATTRIBUTES_CLASS.validate)(&big).len(), 1);
        let many = (0..=MAX_PARAMETERS).map(|i| (i.to_string().into(), "".into()));
        big.set(&["parameters"], Value::Object(many.collect()));
        assert_eq!((VOLUME_ATTRIBUTES_CLASS.validate)(&big).len(), 1);
    }

    const CLASSES: &str = r#"
reclaimPolicy = "Retain"
allowedTopologies = [{"matchLabelExpressions": [{"key": "a", "values": ["b"]}]}]

provisioner = ""
volumeBindingMode =
reclaimPolicy = "Recycle"
parameters = {"": "a"}
! provisioner: Required value
! parameters: Invalid value: "": field can not be empty.
! reclaimPolicy: Unsupported value: "Recycle": supported values: "Delete", "Retain"
! volumeBindingMode: Required value

volumeBindingMode = "x"
! volumeBindingMode: Unsupported value: "x": supported values: "Immediate", "WaitForFirstConsumer"

allowedTopologies = [{"matchLabelExpressions": [{"key": "a", "values": ["b", "b"]}, {"key": "a", "values": []}]}]
! allowedTopologies[0].matchLabelExpressions[0].values[1]: Duplicate value: "b"
! allowedTopologies[0].matchLabelExpressions[1].values: Required value
! allowedTopologies[0].matchLabelExpressions[1].key: Duplicate value: "a"

allowedTopologies = [{"matchLabelExpressions": [{"key": "a", "values": ["b", "c"]}]},
  {"matchLabelExpressions": [{"key": "a", "values": ["c", "b"]}]}]
! allowedTopologies[1].matchLabelExpressions: Duplicate value: ""
"#;

    const CLASS_CHANGES: &str = r#"
allowVolumeExpansion = true
parameters = {}

provisioner = "x"
reclaimPolicy = "Retain"
parameters = {"a": "b"}
volumeBindingMode = "WaitForFirstConsumer"
! parameters: Invalid value: {"a":"b"}: field is immutable
! provisioner: Invalid value: "x": field is immutable
! reclaimPolicy: Invalid value: "Retain": field is immutable
! volumeBindingMode: Invalid value: "WaitForFirstConsumer": field is immutable
"#;

    const ATTRIBUTES: &str = r#"
driverName = "A.B"

driverName =
parameters =
! driverName: Required value
! parameters: Required value: must contain at least one key/value pair
"#;

    const ATTRIBUTE_CHANGES: &str = r#"
metadata = {"labels": {"a": "b"}}

driverName = "x"
parameters = {"a": "c"}
! driverName: Forbidden: updates to driverName are forbidden.
! parameters: Forbidden: updates to parameters are forbidden.
"#;

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
