//! Namespaces and Nodes.

use std::collections::HashSet;

use super::Kind;
use super::address::{self, Range};
use super::check::{Check, filled, is_set, run, same, text};
use super::fill::{each, fill, text as default_text};
use super::pod::requirements::amount;
use super::pod::resources::round_list;
use super::pod::scheduling::taint_effect;
use crate::{Value, meta, names, object};

pub(super) const NAMESPACE: Kind = Kind {
    resource: "namespaces",
    name: names::dns_label,
    generation: false,
    unconditional_update: true,
    defaults: |object, _| namespace_defaults(object),
    prepare_create: namespace_create,
    prepare_update: |object, old| match old.at(&["spec", "finalizers"]) {
        Some(finalizers) if object.as_object().is_some() => {
            object.set(&["spec", "finalizers"], finalizers.clone());
        }
        _ => drop(object.remove_at(&["spec", "finalizers"])),
    },
    validate: |object| run(|c| c.field(object, "spec", namespace_finalizers)),
    validate_status: |object, _| run(|c| namespace_phase(c, object)),
    ..Kind::DEFAULT
};

pub(super) const NODE: Kind = Kind {
    resource: "nodes",
    generation: false,
    unconditional_update: true,
    status_on_create: true,
    defaults: |object, _| node_defaults(object),
    validate: |object| run(|c| node(c, object)),
    validate_update: |object, old| {
        run(|c| {
            node(c, object);
            node_update(c, object, old);
        })
    },
    validate_status: |object, _| run(|c| node_status(c, object)),
    warnings: |object, _| node_warnings(object),
    ..Kind::DEFAULT
};

/// The label that names a namespace to selectors.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// The finalizer that keeps a namespace until it is empty.
const FINALIZER: &str = "kubernetes";

/// Without a name yet (`generateName`) there is no label yet either: whoever gives the name gives defaults once more.
fn namespace_defaults(object: &mut Value) {
    let name = meta::name(object).to_owned();
    if !name.is_empty() {
        object.set(&["metadata", "labels", NAME_LABEL], name);
    }
    fill(object, &[default_text("status!.phase", "Active")]);
}

fn namespace_create(object: &mut Value) {
    if object.as_object().is_none() {
        return;
    }
    object.set(&["status"], object!({"phase": "Active"}));
    let finalizers = object.make(&["spec", "finalizers"]);
    match finalizers.as_array_mut() {
        Some(all) if all.iter().any(|f| f.as_str() == Some(FINALIZER)) => {}
        Some(all) => all.push(FINALIZER.into()),
        None => *finalizers = vec![FINALIZER].into(),
    }
}

fn node_defaults(object: &mut Value) {
    let capacity = object.object_at(&["status", "capacity"]).cloned();
    if let (None, Some(capacity)) = (object.at(&["status", "allocatable"]), capacity) {
        object.set(&["status", "allocatable"], capacity);
    }
    for list in ["status.capacity", "status.allocatable"] {
        each(object, list, &mut round_list);
    }
}

/// A name of a finalizer: qualified, or one of Kubernetes' own.
fn finalizer_name(c: &mut Check, name: &str) {
    c.here().obeys(name, names::qualified);
    let own = [FINALIZER, meta::ORPHAN_FINALIZER, meta::FOREGROUND_FINALIZER];
    if !name.contains('/') && !own.contains(&name) {
        let detail = "name is neither a standard finalizer name nor is it fully qualified";
        c.here().invalid(name, detail);
    }
}

fn namespace_finalizers(c: &mut Check, spec: &Value) {
    for name in spec.array_at(&["finalizers"]).iter().filter_map(Value::as_str) {
        c.within("finalizers", |c| finalizer_name(c, name));
    }
}

fn namespace_phase(c: &mut Check, object: &Value) {
    let (want, whether) =
        if meta::is_deleting(object) { ("Terminating", "is not empty") } else { ("Active", "is empty") };
    let phase = object.str_at(&["status", "phase"]).unwrap_or_default();
    if phase != want {
        let detail = format!("may only be '{want}' if `deletionTimestamp` {whether}");
        c.at("status.Phase").invalid(phase, &detail);
    }
}

fn node(c: &mut Check, object: &Value) {
    c.field(object, "spec", pod_ranges);
    let spec = object.get("spec").unwrap_or(&Value::Null);
    // Upstream names this list below the metadata.
    c.within("metadata", |c| taints(c, spec));
    node_amounts(c, object);
}

fn taints(c: &mut Check, spec: &Value) {
    let mut seen = HashSet::new();
    c.each(spec, "taints", |c, taint| {
        let (key, effect) = (text(taint, "key"), text(taint, "effect"));
        c.at("key").obeys(key, names::qualified);
        c.at("value").obeys(text(taint, "value"), names::label_value);
        if effect.is_empty() {
            c.at("effect").required("");
        } else {
            taint_effect(c, taint);
        }
        if !seen.insert((effect, key)) {
            c.here().duplicate_of(taint.clone(), "taints must be unique by key and effect pair");
        }
    });
}

fn pod_ranges(c: &mut Check, spec: &Value) {
    let all = spec.array_at(&["podCIDRs"]);
    let mut ranges: Vec<Range> = Vec::new();
    for (i, range) in all.iter().enumerate() {
        let text = range.as_str().unwrap_or_default();
        match address::cidr(text) {
            Ok(range) => ranges.push(range),
            Err(fault) => c.at("podCIDRs").index(i).invalid(text, &fault),
        }
    }
    let same_family = ranges.windows(2).any(|pair| pair[0].base.is_ipv4() == pair[1].base.is_ipv4());
    if all.len() > 2 || same_family {
        c.at("podCIDRs").invalid(all.to_vec(), "may specify no more than one CIDR for each IP family");
    }
}

fn node_amounts(c: &mut Check, object: &Value) {
    for list in ["capacity", "allocatable"] {
        for (name, value) in object.object_at(&["status", list]).into_iter().flat_map(crate::Map::iter) {
            c.within("status", |c| c.within(list, |c| c.within(name, |c| amount(c, name, value))));
        }
    }
}

fn node_update(c: &mut Check, object: &Value, old: &Value) {
    let (Some(new), Some(old)) = (object.get("spec"), old.get("spec")) else { return };
    c.within("spec", |c| {
        for (field, shown) in [("podCIDRs", "podCIDR"), ("providerID", "providerID")] {
            let was_set = filled(old, field).is_some() || !old.array_at(&[field]).is_empty();
            if was_set && !same(new.get(field), old.get(field)) {
                let detail = format!("node updates may not change {shown} except from \"\" to valid");
                c.at(field).forbidden(&detail);
            }
        }
        if !same(new.get("externalID"), old.get("externalID")) {
            c.at("externalID").forbidden("may not be updated");
        }
    });
}

fn node_status(c: &mut Check, object: &Value) {
    node_amounts(c, object);
    c.field(object, "status", |c, status| {
        let all = status.array_at(&["addresses"]);
        for (i, address) in all.iter().enumerate().filter(|(i, address)| all[..*i].contains(address)) {
            c.at("addresses").index(i).duplicate(address.clone());
        }
    });
}

fn node_warnings(object: &Value) -> Vec<String> {
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let mut out = Vec::new();
    if is_set(spec, "configSource") {
        out.push("spec.configSource: the feature is removed".to_owned());
    }
    if filled(spec, "externalID").is_some() {
        out.push("spec.externalID: this field is deprecated, and is unused by Kubernetes".to_owned());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::check::testing::cases;

    #[test]
    fn a_new_namespace() {
        let mut ns = object!({"metadata": {"name": "a"}, "spec": {"finalizers": ["x"]}});
        namespace_defaults(&mut ns);
        namespace_create(&mut ns);
        let want = object!({
            "metadata": {"name": "a", "labels": {"kubernetes.io/metadata.name": "a"}},
            "spec": {"finalizers": ["x", "kubernetes"]},
            "status": {"phase": "Active"}
        });
        assert_eq!(ns, want);
        let mut changed = object!({"spec": {"finalizers": []}});
        (NAMESPACE.prepare_update)(&mut changed, &want);
        assert_eq!(changed.at(&["spec", "finalizers"]), want.at(&["spec", "finalizers"]));
    }

    #[test]
    fn what_a_node_has_it_can_give() {
        let mut node = object!({"status": {"capacity": {"cpu": "4"}}});
        node_defaults(&mut node);
        assert_eq!(node, object!({"status": {"capacity": {"cpu": "4"}, "allocatable": {"cpu": "4"}}}));
    }

    #[test]
    fn namespaces_end_by_being_deleted() {
        cases(&object!({}), FINALIZERS, NAMESPACE.validate);
        cases(&object!({"status": {"phase": "Active"}}), PHASES, |o| {
            (NAMESPACE.validate_status)(o, &Value::Null)
        });
    }

    const FINALIZERS: &str = r#"
spec = {"finalizers": ["kubernetes", "a.b/c"]}

spec = {"finalizers": ["x"]}
! spec.finalizers: Invalid value: "x": name is neither a standard finalizer name nor is it fully qualified
"#;

    const PHASES: &str = r#"
status.phase = "Active"

status.phase = "Terminating"
! status.Phase: Invalid value: "Terminating": may only be 'Active' if `deletionTimestamp` is empty

metadata = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
! status.Phase: Invalid value: "Active": may only be 'Terminating' if `deletionTimestamp` is not empty
"#;

    #[test]
    fn nodes() {
        cases(&object!({}), NODES, NODE.validate);
        let old = object!({"spec": {"podCIDRs": ["10.0.0.0/24"], "providerID": "a"}});
        cases(&old, CHANGED_NODES, |object| (NODE.validate_update)(object, &old));
        cases(&object!({}), NODE_STATUSES, |object| (NODE.validate_status)(object, &Value::Null));
        assert_eq!(
            (NODE.warnings)(&object!({"spec": {"externalID": "x", "configSource": {}}}), None).len(),
            2
        );
    }

    const NODES: &str = r#"
spec = {"podCIDRs": ["10.0.0.0/24", "fd00::/64"], "taints": [{"key": "a", "effect": "NoSchedule"}]}
status = {"capacity": {"cpu": "4"}}

spec = {"podCIDRs": ["x"]}
! spec.podCIDRs[0]: Invalid value: "x": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)

spec = {"podCIDRs": ["10.0.0.0/24", "10.1.0.0/24"]}
! spec.podCIDRs: Invalid value: ["10.0.0.0/24","10.1.0.0/24"]: may specify no more than one CIDR for each IP family

spec = {"taints": [{"key": "a"}, {"key": "a", "effect": "x"}]}
! metadata.taints[0].effect: Required value
! metadata.taints[1].effect: Unsupported value: "x": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"

spec = {"taints": [{"key": "a", "effect": "NoExecute"}, {"key": "a", "effect": "NoExecute"}]}
! metadata.taints[1]: Duplicate value: {"effect":"NoExecute","key":"a"}: taints must be unique by key and effect pair

status = {"capacity": {"cpu": "-1"}}
! status.capacity.cpu: Invalid value: "-1": must be greater than or equal to 0
"#;

    const CHANGED_NODES: &str = r#"
spec.unschedulable = true

spec.podCIDRs = ["10.1.0.0/24"]
! spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid

spec.providerID = "b"
! spec.providerID: Forbidden: node updates may not change providerID except from "" to valid

spec.externalID = "b"
! spec.externalID: Forbidden: may not be updated
"#;

    const NODE_STATUSES: &str = r#"
status = {"addresses": [{"type": "InternalIP", "address": "a"}, {"type": "Hostname", "address": "a"}]}

status = {"addresses": [{"type": "Hostname", "address": "a"}, {"type": "Hostname", "address": "a"}]}
! status.addresses[1]: Duplicate value: {"address":"a","type":"Hostname"}
"#;
}
