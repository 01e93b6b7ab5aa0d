//! Rules of slices: the devices that a driver has on a node, or for many.

use super::claims::qualified;
use super::{EFFECTS, bindings, by_name, few, pool_name, set};
use crate::kinds::check::{Check, filled, is_set, is_true, number, same, text};
use crate::kinds::pod::requirements::is_native;
use crate::kinds::pod::scheduling::node_selector;
use crate::kinds::pod::volumes::driver_name;
use crate::kinds::volumes::quantity;
use crate::names::Fault;
use crate::quantity::Quantity;
use crate::{Map, Value, names};

const MAX_DEVICES: usize = 128;
const MAX_DEVICES_WITH_MORE: usize = 64;
const MAX_COUNTER_SETS: usize = 8;
const MAX_COUNTERS: usize = 32;
const MAX_CONSUMPTIONS: usize = 2;
const MAX_PROPERTIES: usize = 32;
const MAX_VALUES: usize = 48;
const MAX_VALUE: usize = 64;
const MAX_TAINTS: usize = 16;
const MAX_OPTIONS: usize = 10;
const SHOWN_KEY: usize = 63 + 1 + 32;
const SHOWN_COUNTER: usize = 63;
const TRUE_OR_UNSET: &str = "must be either unset or set to true";

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
        self::device(c, device, before, each_node);
    });
    set(c, spec, "sharedCounters", MAX_COUNTER_SETS, by_name, |c, counters| {
        c.require_name(counters, "name", names::dns_label);
        self::counters(c, counters);
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

/// A flag that is either set or absent; whether it is set.
fn flag(c: &mut Check, owner: &Value, field: &str) -> bool {
    if owner.bool_at(&[field]) == Some(false) {
        c.at(field).invalid(false, TRUE_OR_UNSET);
    }
    is_true(owner, field)
}

const LISTS: [&str; 4] = ["bools", "ints", "strings", "versions"];

fn attributes(device: &Value) -> impl Iterator<Item = &Value> {
    device.object_at(&["attributes"]).into_iter().flat_map(Map::values)
}

/// Whether a device has what makes it take more of the room for devices.
fn has_more(device: &Value) -> bool {
    let has = |list: &str| !device.array_at(&[list]).is_empty();
    has("taints")
        || has("consumesCounters")
        || attributes(device).any(|attribute| LISTS.iter().any(|list| is_set(attribute, list)))
}

fn device(c: &mut Check, device: &Value, before: Option<&Value>, each_node: bool) {
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
                    request_policy(c, policy, amount(capacity.get("value")));
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

fn counters(c: &mut Check, owner: &Value) {
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

/// An amount; what is none counts as nothing.
fn amount(value: Option<&Value>) -> Quantity {
    quantity(value).unwrap_or_else(|| Quantity::from_units(0))
}

/// How much of a capacity one claim can ask for.
fn request_policy(c: &mut Check, policy: &Value, capacity: Quantity) {
    let values = policy.array_at(&["validValues"]);
    let range = policy.get("validRange").filter(|range| !range.is_null());
    let default = quantity(policy.get("default"));
    match (values.is_empty(), range) {
        (false, Some(_)) => {
            let detail = "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the \
                          same time";
            c.here().forbidden(detail);
        }
        (true, None) => {}
        (false, None) => match default {
            None => c.at("default").required("required when validValues is defined"),
            Some(default) => valid_values(c, policy, default, capacity),
        },
        (true, Some(range)) => match default {
            None => c.at("default").required("required when validRange is defined"),
            Some(default) => c.within("validRange", |c| valid_range(c, range, default, capacity)),
        },
    }
}

fn valid_values(c: &mut Check, policy: &Value, default: Quantity, capacity: Quantity) {
    const FIELD: &str = "validValues";
    let values: Vec<Quantity> =
        policy.array_at(&[FIELD]).iter().filter_map(|value| quantity(Some(value))).collect();
    for (i, pair) in values.windows(2).enumerate() {
        if pair[0] > pair[1] {
            c.at(FIELD).index(i + 1).invalid(pair[1].to_string(), "values must be sorted in ascending order");
        }
    }
    let key = |value: &Value| amount(Some(value)).units().to_string();
    set(c, policy, FIELD, MAX_OPTIONS, key, |c, value| {
        if quantity(Some(value)).is_some_and(|value| value > capacity) {
            let detail = format!("option is larger than capacity value: {capacity}");
            c.here().invalid(value.clone(), &detail);
        }
    });
    if !values.contains(&default) {
        let detail = "default value is not valid according to the requestPolicy";
        c.at(FIELD).invalid(default.to_string(), detail);
    }
}

fn valid_range(c: &mut Check, range: &Value, default: Quantity, capacity: Quantity) {
    let Some(min) = quantity(range.get("min")) else {
        return c.at("min").required("required when validRange is defined");
    };
    let max = quantity(range.get("max"));
    let mut refuse = |wrong: bool, field: &str, value: Quantity, detail: String| {
        if wrong {
            c.at(field).invalid(value.to_string(), &detail);
        }
    };
    refuse(min > capacity, "min", min, format!("min is larger than capacity value: {capacity}"));
    refuse(default < min, "min", default, format!("default is less than min: {min}"));
    if let Some(max) = max {
        refuse(min > max, "max", min, format!("min is larger than max: {max}"));
        refuse(max > capacity, "max", max, format!("max is larger than capacity value: {capacity}"));
        refuse(default > max, "max", default, format!("default is more than max: {max}"));
    }
    if let Some(step) = quantity(range.get("step")) {
        let next = min.plus(step);
        let detail = format!("one step {next} is larger than capacity value: {capacity}");
        refuse(next > capacity, "step", step, detail);
        for value in [Some(default), max].into_iter().flatten() {
            let away = i128::from(value.units()) - i128::from(min.units());
            let misses = away.checked_rem(step.units().into()) != Some(0);
            let detail = format!("value is not a multiple of a given step ({step}) from ({min})");
            refuse(misses, "step", value, detail);
        }
    }
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

    #[test]
    fn devices() {
        let base = json(r#"{"name": "a"}"#);
        cases(&base, DEVICES, |object| run(|c| device(c, object, None, false)));
        cases(&base, ON_NODES, |object| run(|c| device(c, object, None, true)));
        let many =
            |n: usize| -> Map { (0..n).map(|i| (format!("a{i}").into(), json(r#"{"int": 1}"#))).collect() };
        let mut full = base.clone();
        full.set(&["attributes"], Value::Object(many(MAX_PROPERTIES + 1)));
        assert_eq!(run(|c| device(c, &full, None, false)).len(), 1);
        full.set(&["attributes"], crate::object!({"a": {"ints": (vec![1; MAX_VALUES + 1])}}));
        assert_eq!(run(|c| device(c, &full, None, false)).len(), 1);
        let mut set = json(r#"{"counters": {}}"#);
        set.set(&["counters"], Value::Object(many(MAX_COUNTERS + 1)));
        assert_eq!(run(|c| counters(c, &set)).len(), 1);
        let mut long = base;
        long.set(&["attributes", &"x".repeat(200)], Value::object());
        let causes = run(|c| device(c, &long, None, false));
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

    #[test]
    fn policies() {
        let capacity = Quantity::from_units(8);
        cases(&json("{}"), POLICIES, |object| run(|c| request_policy(c, object, capacity)));
    }

    const POLICIES: &str = r#"
= {"default": "1", "validValues": ["1", "2"]}

= {"default": "2", "validRange": {"min": "1", "max": "4", "step": "1"}}

= {"validValues": ["1"], "validRange": {}}
! <root>: Forbidden: exactly one policy can be specified, cannot specify "validValues" and "validRange" at the same time

= {"validValues": ["1"]}
! default: Required value: required when validValues is defined

= {"validRange": {}}
! default: Required value: required when validRange is defined

= {"default": "3", "validValues": ["9", "1", "1"]}
! validValues[1]: Invalid value: "1": values must be sorted in ascending order
! validValues[0]: Invalid value: "9": option is larger than capacity value: 8
! validValues[2]: Duplicate value: "1"
! validValues: Invalid value: "3": default value is not valid according to the requestPolicy

= {"default": "1", "validRange": {}}
! validRange.min: Required value: required when validRange is defined

= {"default": "1", "validRange": {"min": "9"}}
! validRange.min: Invalid value: "9": min is larger than capacity value: 8
! validRange.min: Invalid value: "1": default is less than min: 9

= {"default": "10", "validRange": {"min": "9", "max": "8", "step": "0"}}
! validRange.min: Invalid value: "9": min is larger than capacity value: 8
! validRange.max: Invalid value: "9": min is larger than max: 8
! validRange.max: Invalid value: "10": default is more than max: 8
! validRange.step: Invalid value: "0": one step 9 is larger than capacity value: 8
! validRange.step: Invalid value: "10": value is not a multiple of a given step (0) from (9)
! validRange.step: Invalid value: "8": value is not a multiple of a given step (0) from (9)

= {"default": "2", "validRange": {"min": "1", "max": "9", "step": "2"}}
! validRange.max: Invalid value: "9": max is larger than capacity value: 8
! validRange.step: Invalid value: "2": value is not a multiple of a given step (2) from (1)
"#;
}
