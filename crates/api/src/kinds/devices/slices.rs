//! Rules of slices: the devices that a driver has on a node, or for many.

use super::device::{self, counters, has_more};
use super::{by_name, flag, pool_name, set};
use crate::kinds::check::{Check, is_set, is_true, number, text};
use crate::kinds::pod::scheduling::node_selector;
use crate::kinds::pod::volumes::driver_name;
use crate::{Value, names};

const MAX_DEVICES: usize = 128;
const MAX_DEVICES_WITH_MORE: usize = 64;
const MAX_COUNTER_SETS: usize = 8;

/// Checks the specification of a slice, and what it may not change of the old one.
pub(super) fn check(c: &mut Check, spec: &Value, old: Option<&Value>) {
    driver_name(c, spec, "driver");
    c.field(spec, "pool", |c, pool| {
        pool_name(c, pool, "name");
        let count = number(pool, "resourceSliceCount").unwrap_or(0);
        if count <= 0 {
            c.at("resourceSliceCount").invalid(count, "must be greater than zero");
        }
        let generation = number(pool, "generation");
        if generation.is_some_and(|g| g < 0) {
            c.at("generation").invalid(generation, "must be greater than or equal to zero");
        }
    });
    if let Some(old) = old {
        let nothing = Value::Null;
        let [pool, before] = [spec, old].map(|spec| spec.get("pool").unwrap_or(&nothing));
        c.within("pool", |c| c.immutable(pool, before, "name"));
        c.immutable(spec, old, "driver");
        c.immutable(spec, old, "nodeName");
    }
    nodes(c, spec);
    if is_set(spec, "sharedCounters") && is_set(spec, "devices") {
        c.here().invalid("", "only one of `sharedCounters` or `devices` is allowed");
    }
    let devices = spec.array_at(&["devices"]);
    let max = if devices.iter().any(has_more) { MAX_DEVICES_WITH_MORE } else { MAX_DEVICES };
    let each_node = is_true(spec, "perDeviceNodeSelection");
    set(c, spec, "devices", max, by_name, |c, device| {
        let before = old.map(|old| old.array_at(&["devices"])).unwrap_or_default();
        let before = before.iter().find(|other| text(other, "name") == text(device, "name"));
        device::check(c, device, before, each_node);
    });
    set(c, spec, "sharedCounters", MAX_COUNTER_SETS, by_name, |c, set| {
        c.require_name(set, "name", names::dns_label);
        counters(c, set);
    });
}

/// The nodes that can use the devices of a slice are said in one of four ways.
fn nodes(c: &mut Check, spec: &Value) {
    const ONE: &str =
        "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    let mut ways = Vec::new();
    match spec.str_at(&["nodeName"]) {
        None => {}
        Some("") => c.at("nodeName").invalid("", "must be either unset or set to a non-empty string"),
        Some(name) => {
            ways.push("`nodeName`");
            c.at("nodeName").obeys(name, names::dns_subdomain);
        }
    }
    c.some(spec, "nodeSelector", |c, selector| {
        ways.push("`nodeSelector`");
        node_selector(c, selector);
        let terms = selector.array_at(&["nodeSelectorTerms"]);
        if terms.len() != 1 {
            c.at("nodeSelectorTerms").invalid(terms.to_vec(), "must have exactly one node selector term");
        }
    });
    for (field, shown) in [("allNodes", "`allNodes`"), ("perDeviceNodeSelection", "`perDeviceNodeSelection`")]
    {
        ways.extend(flag(c, spec, field).then_some(shown));
    }
    match ways.len() {
        0 => c.here().required(ONE),
        1 => {}
        _ => {
            let detail = format!("{ONE}, but multiple fields are set");
            c.here().invalid(format!("{{{}}}", ways.join(", ")), &detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::check::run;
    use crate::kinds::check::testing::{cases, json};

    fn base() -> Value {
        json(
            r#"{"driver": "d.e", "pool": {"name": "p", "resourceSliceCount": 1}, "nodeName": "n",
                "devices": [{"name": "a", "attributes": {"x": {"int": 1}}, "capacity": {"m": {"value": "8"}}}]}"#,
        )
    }

    #[test]
    fn slices() {
        cases(&base(), SLICES, |spec| run(|c| check(c, spec, None)));
        cases(&base(), CHANGES, |spec| run(|c| check(c, spec, Some(&base()))));
    }

    const SLICES: &str = r#"
= {"pool": {"generation": -1}}
! driver: Required value
! pool.name: Required value
! pool.resourceSliceCount: Invalid value: 0: must be greater than zero
! pool.generation: Invalid value: -1: must be greater than or equal to zero
! <root>: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required

nodeName = ""
allNodes = false
nodeSelector = {"nodeSelectorTerms": [{}, {}]}
! nodeName: Invalid value: "": must be either unset or set to a non-empty string
! nodeSelector.nodeSelectorTerms: Invalid value: [{},{}]: must have exactly one node selector term
! allNodes: Invalid value: false: must be either unset or set to true

allNodes = true
! <root>: Invalid value: "{`nodeName`, `allNodes`}": exactly one of `nodeName`, `nodeSelector`, `allNodes`,
  `perDeviceNodeSelection` is required, but multiple fields are set

devices =
sharedCounters = [{"name": "a", "counters": {"m": {"value": "1"}}}]

sharedCounters = [{}]
! <root>: Invalid value: "": only one of `sharedCounters` or `devices` is allowed
! sharedCounters[0].name: Required value
! sharedCounters[0].counters: Required value

devices.1 = {"name": "a", "attributes": {"d.e/f": {"strings": ["a"]}, "v": {"version": "1.2.3-rc.1+b"}}}
! devices[1]: Duplicate value: "a"
"#;

    const CHANGES: &str = r#"
pool.generation = 1

driver = "x"
pool.name = "q"
nodeName = "m"
! pool.name: Invalid value: "q": field is immutable
! driver: Invalid value: "x": field is immutable
! nodeName: Invalid value: "m": field is immutable
"#;
}
