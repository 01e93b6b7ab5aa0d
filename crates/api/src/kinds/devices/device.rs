//! Rules of one device: what it is, how much of it there is, and who can use it.

use super::capacity::request_policy;
use super::claims::qualified;
use super::{EFFECTS, bindings, few, flag, set};
use crate::kinds::check::{Check, filled, is_set, is_true, same, text};
use crate::kinds::pod::requirements::is_native;
use crate::kinds::pod::scheduling::node_selector;
use crate::kinds::volumes::quantity;
use crate::names::Fault;
use crate::{Map, Value, names};

const MAX_COUNTERS: usize = 32;
const MAX_CONSUMPTIONS: usize = 2;
const MAX_PROPERTIES: usize = 32;
const MAX_VALUES: usize = 48;
const MAX_VALUE: usize = 64;
const MAX_TAINTS: usize = 16;
const SHOWN_KEY: usize = 63 + 1 + 32;
const SHOWN_COUNTER: usize = 63;

const LISTS: [&str; 4] = ["bools", "ints", "strings", "versions"];

fn attributes(device: &Value) -> impl Iterator<Item = &Value> {
    device.object_at(&["attributes"]).into_iter().flat_map(Map::values)
}

/// Whether a device has what makes it take more of the room for devices.
pub(super) fn has_more(device: &Value) -> bool {
    let has = |list: &str| !device.array_at(&[list]).is_empty();
    has("taints")
        || has("consumesCounters")
        || attributes(device).any(|attribute| LISTS.iter().any(|list| is_set(attribute, list)))
}

/// Checks a device, given the one of its name in the old slice, and whether each device says where it is.
pub(super) fn check(c: &mut Check, device: &Value, before: Option<&Value>, each_node: bool) {
    c.at("name").obeys(text(device, "name"), names::dns_label);
    let count = |map: &str| device.object_at(&[map]).map_or(0, Map::len);
    let properties = count("attributes") + count("capacity");
    if properties > MAX_PROPERTIES {
        let detail =
            format!("the total number of attributes and capacities must not exceed {MAX_PROPERTIES}");
        c.here().invalid(count_of(properties), &detail);
    }
    let values = attributes(device).map(|attribute| {
        let listed: usize = LISTS.iter().map(|list| attribute.array_at(&[list]).len()).sum();
        listed.max(1)
    });
    let values: usize = values.sum();
    if values > MAX_VALUES {
        c.here().invalid(
            count_of(values),
            &format!("the total number of attribute values must not exceed {MAX_VALUES}"),
        );
    }
    keyed(c, device, "attributes", SHOWN_KEY, |c, key| qualified(c, "attributes", key), attribute);
    let many = is_true(device, "allowMultipleAllocations");
    keyed(
        c,
        device,
        "capacity",
        SHOWN_KEY,
        |c, key| qualified(c, "capacity", key),
        |c, capacity| {
            c.some(capacity, "requestPolicy", |c, policy| {
                if many {
                    request_policy(c, policy, capacity.get("value"));
                } else {
                    c.here().forbidden("allowMultipleAllocations must be true");
                }
            });
        },
    );
    if before.is_none_or(|before| !same(before.get("taints"), device.get("taints"))) {
        few(c, device, "taints", MAX_TAINTS, taint);
    }
    let key = |consumption: &Value| text(consumption, "counterSet").to_owned();
    set(c, device, "consumesCounters", MAX_CONSUMPTIONS, key, |c, consumption| {
        c.require_name(consumption, "counterSet", names::dns_label);
        counters(c, consumption);
    });
    device_nodes(c, device, each_node);
    bindings(c, device);
    node_resources(c, device);
}

fn count_of(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Walks a map whose keys have rules, which are reported where it stands.
fn keyed<'v>(
    c: &mut Check,
    owner: &'v Value,
    field: &str,
    shown: usize,
    key_rules: impl Fn(&mut Check, &str),
    mut walk: impl FnMut(&mut Check, &'v Value),
) {
    for (key, value) in owner.object_at(&[field]).into_iter().flat_map(Map::iter) {
        key_rules(c, key);
        c.within(field, |c| c.within_key(&shortened(key, shown), |c| walk(c, value)));
    }
}

/// A text of at most `max` bytes, with dots for its middle if it must be cut.
fn shortened(text: &str, max: usize) -> String {
    const DOTS: &str = "...";
    if text.len() <= max {
        return text.to_owned();
    }
    let room = max - DOTS.len();
    let head = text.floor_char_boundary(room.div_ceil(2));
    let tail = text.ceil_char_boundary(text.len() - room / 2);
    format!("{}{DOTS}{}", &text[..head], &text[tail..])
}

/// Checks counters and their names.
pub(super) fn counters(c: &mut Check, owner: &Value) {
    let count = owner.object_at(&["counters"]).map_or(0, Map::len);
    if count == 0 {
        return c.at("counters").required("");
    }
    if count > MAX_COUNTERS {
        return c.at("counters").too_many(count, MAX_COUNTERS);
    }
    let rule = |c: &mut Check, key: &str| c.at("counters").obeys(key, names::dns_label);
    keyed(c, owner, "counters", SHOWN_COUNTER, rule, |_, _| ());
}

fn attribute(c: &mut Check, attribute: &Value) {
    const ONE: &str = "exactly one value must be specified";
    let mut count = 0;
    for field in ["bool", "int", "string", "version"] {
        c.some(attribute, field, |c, value| {
            count += 1;
            attribute_value(c, field, value);
        });
    }
    for (list, of) in LISTS.into_iter().zip(["bool", "int", "string", "version"]) {
        if !is_set(attribute, list) {
            continue;
        }
        count += 1;
        if attribute.array_at(&[list]).is_empty() {
            c.at(list).invalid(Value::from(Vec::<Value>::new()), "must not be empty if specified");
        }
        c.each(attribute, list, |c, value| attribute_value(c, of, value));
    }
    match count {
        0 => c.here().invalid("", ONE),
        1 => {}
        _ => c.here().invalid(attribute.clone(), ONE),
    }
}

fn attribute_value(c: &mut Check, ty: &str, value: &Value) {
    let text = value.as_str().unwrap_or_default();
    if ty == "version" {
        c.here().obeys(text, semantic_version);
    }
    if text.len() > MAX_VALUE {
        c.here().too_long(MAX_VALUE);
    }
}

/// A version as semver.org has it: `1.2.3-alpha.1+build`.
fn semantic_version(text: &str) -> Result<(), Fault> {
    let (rest, build) = text.split_once('+').map_or((text, None), |(rest, build)| (rest, Some(build)));
    let (core, pre) = rest.split_once('-').map_or((rest, None), |(core, pre)| (core, Some(pre)));
    let word = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    let plain = |t: &str| !digits(t) || t == "0" || !t.starts_with('0');
    let ok = core.split('.').count() == 3
        && core.split('.').all(|t| word(t) && digits(t) && plain(t))
        && pre.is_none_or(|pre| pre.split('.').all(|t| word(t) && plain(t)))
        && build.is_none_or(|build| build.split('.').all(word));
    ok.then_some(()).ok_or_else(|| "must be a string compatible with semver.org spec 2.0.0".into())
}

fn taint(c: &mut Check, taint: &Value) {
    c.at("key").obeys(text(taint, "key"), names::qualified);
    c.name(taint, "value", names::label_value);
    c.require_one_of(taint, "effect", &EFFECTS);
}

fn device_nodes(c: &mut Check, device: &Value, each_node: bool) {
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when \
                       `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    if !each_node {
        if ["nodeName", "nodeSelector", "allNodes"].iter().any(|field| is_set(device, field)) {
            let detail = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to \
                          true in the ResourceSlice spec";
            c.here().invalid(Value::Null, detail);
        }
        return;
    }
    let mut ways = Vec::new();
    match device.str_at(&["nodeName"]) {
        None => {}
        Some("") => c.at("nodeName").invalid("", "must not be empty"),
        Some(name) => {
            ways.push("`nodeName`");
            c.at("nodeName").obeys(name, names::dns_subdomain);
        }
    }
    c.some(device, "nodeSelector", |c, selector| {
        ways.push("`nodeSelector`");
        node_selector(c, selector);
    });
    ways.extend(flag(c, device, "allNodes").then_some("`allNodes`"));
    match ways.len() {
        0 => c.here().required(ONE),
        1 => {}
        _ => c.here().invalid(format!("{{{}}}", ways.join(", ")), ONE),
    }
}

fn node_resources(c: &mut Check, device: &Value) {
    c.entries(device, "nodeAllocatableResourceMappings", |c, name, mapping| {
        if !is_native(name) {
            c.here().invalid(name, "must be a node allocatable resource name");
        }
        let multiplier = quantity(mapping.get("allocationMultiplier"));
        if multiplier.is_none() && !is_set(mapping, "capacityKey") {
            return c.here().invalid("", "at least one of allocationMultiplier or capacityKey must be set");
        }
        if let Some(multiplier) = multiplier.filter(|m| m.signum() <= 0) {
            c.at("allocationMultiplier").invalid(multiplier.to_string(), "must be positive");
        }
        if is_set(mapping, "capacityKey") {
            match filled(mapping, "capacityKey") {
                None => c.at("capacityKey").invalid("", "capacityKey must not be an empty string"),
                Some(key) if device.at(&["capacity", key]).is_none() => c.at("capacityKey").not_found(key),
                Some(_) => {}
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::check::run;
    use crate::kinds::check::testing::{cases, json};

    #[test]
    fn devices() {
        let base = json(r#"{"name": "a"}"#);
        cases(&base, DEVICES, |object| run(|c| check(c, object, None, false)));
        cases(&base, ON_NODES, |object| run(|c| check(c, object, None, true)));
        let many =
            |n: usize| -> Map { (0..n).map(|i| (format!("a{i}").into(), json(r#"{"int": 1}"#))).collect() };
        let mut full = base.clone();
        full.set(&["attributes"], Value::Object(many(MAX_PROPERTIES + 1)));
        assert_eq!(run(|c| check(c, &full, None, false)).len(), 1);
        full.set(&["attributes"], crate::object!({"a": {"ints": (vec![1; MAX_VALUES + 1])}}));
        assert_eq!(run(|c| check(c, &full, None, false)).len(), 1);
        let mut set = json(r#"{"counters": {}}"#);
        set.set(&["counters"], Value::Object(many(MAX_COUNTERS + 1)));
        assert_eq!(run(|c| counters(c, &set)).len(), 1);
        let mut long = base;
        long.set(&["attributes", &"x".repeat(200)], Value::object());
        let causes = run(|c| check(c, &long, None, false));
        assert_eq!(causes[1].field.as_str().len(), "attributes[]".len() + SHOWN_KEY);
    }

    const DEVICES: &str = r#"
taints = [{"key": "a", "value": "b", "effect": "None"}]
consumesCounters = [{"counterSet": "a", "counters": {"m": {"value": "1"}}}]
bindingConditions = ["a"]
bindingFailureConditions = ["b"]
capacity = {"m": {"value": "8"}}
nodeAllocatableResourceMappings = {"memory": {"capacityKey": "m", "allocationMultiplier": "1"}}

name = "A"
attributes = {"a": {}, "b": {"int": 1, "bool": true}, "c": {"ints": []}, "d": {"version": "01.0.0"}}
! name: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must
  start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is
  '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
! attributes[a]: Invalid value: "": exactly one value must be specified
! attributes[b]: Invalid value: {"bool":true,"int":1}: exactly one value must be specified
! attributes[c].ints: Invalid value: []: must not be empty if specified
! attributes[d].version: Invalid value: "01.0.0": must be a string compatible with semver.org spec 2.0.0

capacity = {"m": {"value": "8", "requestPolicy": {}}}
taints = [{"key": "a"}, {"key": "a", "effect": "x"}]
consumesCounters = [{}, {"counters": {"a": {}}}]
nodeName = "n"
! capacity[m].requestPolicy: Forbidden: allowMultipleAllocations must be true
! taints[0].effect: Required value
! taints[1].effect: Unsupported value: "x": supported values: "NoExecute", "NoSchedule", "None"
! consumesCounters[0].counterSet: Required value
! consumesCounters[0].counters: Required value
! consumesCounters[1].counterSet: Required value
! consumesCounters[1]: Duplicate value: ""
! <root>: Invalid value: null: `nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is
  set to true in the ResourceSlice spec

bindingConditions = ["a"]
bindingFailureConditions = ["a", "a"]
! bindingFailureConditions[0]: Invalid value: "a": bindingFailureConditions must not overlap with bindingConditions
! bindingFailureConditions[1]: Duplicate value: "a"
! bindingFailureConditions[1]: Invalid value: "a": bindingFailureConditions must not overlap with bindingConditions

bindingFailureConditions = ["a"]
! bindingConditions: Invalid value: null: bindingConditions are required to use bindingFailureConditions

nodeAllocatableResourceMappings = {"a.b/c": {}, "cpu": {"allocationMultiplier": "0", "capacityKey": ""}, "memory":
  {"capacityKey": "x"}}
! nodeAllocatableResourceMappings[a.b/c]: Invalid value: "a.b/c": must be a node allocatable resource name
! nodeAllocatableResourceMappings[a.b/c]: Invalid value: "": at least one of allocationMultiplier or capacityKey must be
  set
! nodeAllocatableResourceMappings[cpu].allocationMultiplier: Invalid value: "0": must be positive
! nodeAllocatableResourceMappings[cpu].capacityKey: Invalid value: "": capacityKey must not be an empty string
! nodeAllocatableResourceMappings[memory].capacityKey: Not found: "x"
"#;

    const ON_NODES: &str = r#"
nodeName = "n"

nodeName = ""
allNodes = false
! nodeName: Invalid value: "": must not be empty
! allNodes: Invalid value: false: must be either unset or set to true
! <root>: Required value: exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when
  `perDeviceNodeSelection` is set to true in the ResourceSlice spec

nodeName = "n"
allNodes = true
! <root>: Invalid value: "{`nodeName`, `allNodes`}": exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required
  when `perDeviceNodeSelection` is set to true in the ResourceSlice spec
"#;
}
