//! Rules of claims to devices, and of the classes they name. Whether expressions compile is the server's to say.

use super::{EFFECTS, bindings, by_name, device_of, few, itself, set};
use crate::kinds::check::{Check, filled, is_set, number, same, text};
use crate::kinds::pod::requirements::is_extended;
use crate::kinds::pod::scheduling::node_selector;
use crate::kinds::pod::volumes::driver_name;
use crate::kinds::policy::conditions;
use crate::kinds::{address, syntax};
use crate::names::Fault;
use crate::{Value, names};

const MAX_REQUESTS: usize = 32;
const MAX_ALTERNATIVES: usize = 8;
const MAX_CONSTRAINTS: usize = 32;
const MAX_CONFIGS: usize = 32;
const MAX_SELECTORS: usize = 32;
const MAX_EXPRESSION: usize = 10 << 10;
const MAX_PARAMETERS: usize = 10 << 10;
const MAX_CONSUMERS: usize = 256;
const MAX_CONDITIONS: usize = 8;
const MAX_ADDRESSES: usize = 16;
const MAX_INTERFACE: usize = 256;
const MAX_HARDWARE: usize = 128;
const WHOSE: &str =
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";

/// Checks the specification of a class.
pub(super) fn class(c: &mut Check, spec: &Value) {
    selectors(c, spec);
    few(c, spec, "config", MAX_CONFIGS, configuration);
    if let Some(name) = spec.str_at(&["extendedResourceName"])
        && !is_extended(name)
    {
        c.at("extendedResourceName").invalid(name, "must be a valid extended resource name");
    }
}

/// Checks the specification of a claim.
pub(super) fn check(c: &mut Check, spec: &Value) {
    c.field(spec, "devices", |c, claim| {
        set(c, claim, "requests", MAX_REQUESTS, by_name, request);
        few(c, claim, "constraints", MAX_CONSTRAINTS, |c, constraint| {
            request_names(c, constraint, claim);
            match ["matchAttribute", "distinctAttribute"].into_iter().find(|field| is_set(constraint, field)) {
                Some(field) => attribute_name(c, constraint, field),
                None => c.here().required(
                    "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set",
                ),
            }
        });
        few(c, claim, "config", MAX_CONFIGS, |c, config| {
            request_names(c, config, claim);
            configuration(c, config);
        });
    });
}

fn request(c: &mut Check, request: &Value) {
    const ONE: &str = "exactly one of `exactly` or `firstAvailable` is required";
    c.at("name").obeys(text(request, "name"), names::dns_label);
    match (is_set(request, "exactly"), !request.array_at(&["firstAvailable"]).is_empty()) {
        (false, false) => c.here().required(ONE),
        (true, true) => c.here().invalid(Value::Null, &format!("{ONE}, but multiple fields are set")),
        (true, false) => c.field(request, "exactly", wanted),
        (false, true) => set(c, request, "firstAvailable", MAX_ALTERNATIVES, by_name, |c, alternative| {
            c.at("name").obeys(text(alternative, "name"), names::dns_label);
            wanted(c, alternative);
        }),
    }
}

/// What is asked for, and how many of it.
fn wanted(c: &mut Check, request: &Value) {
    c.require_name(request, "deviceClassName", names::dns_subdomain);
    selectors(c, request);
    let count = number(request, "count").unwrap_or(0);
    match text(request, "allocationMode") {
        "All" if count != 0 => {
            c.at("count").invalid(count, "must not be specified when allocationMode is 'All'");
        }
        "All" => {}
        "ExactCount" if count <= 0 => c.at("count").invalid(count, "must be greater than zero"),
        "ExactCount" => {}
        other => c.at("allocationMode").not_supported(other, &["All", "ExactCount"]),
    }
    c.each(request, "tolerations", |c, toleration| {
        c.name(toleration, "key", names::qualified);
        let value = text(toleration, "value");
        match text(toleration, "operator") {
            "Exists" if !value.is_empty() => {
                c.at("value").invalid(value, "must be empty for operator `Exists`");
            }
            "Exists" => {}
            "Equal" => c.at("value").obeys(value, names::label_value),
            _ => c.require_one_of(toleration, "operator", &["Equal", "Exists"]),
        }
        if filled(toleration, "effect").is_some() {
            c.one_of(toleration, "effect", &EFFECTS);
        }
    });
}

fn selectors(c: &mut Check, owner: &Value) {
    few(c, owner, "selectors", MAX_SELECTORS, |c, selector| {
        if !is_set(selector, "cel") {
            return c.at("cel").required("");
        }
        if selector.str_at(&["cel", "expression"]).is_some_and(|e| e.len() > MAX_EXPRESSION) {
            c.at("cel").field("expression").too_long(MAX_EXPRESSION);
        }
    });
}

/// Checks that the requests that are named in `owner` are of the claim.
fn request_names(c: &mut Check, owner: &Value, claim: &Value) {
    set(c, owner, "requests", MAX_REQUESTS, itself, |c, name| {
        request_name(c, name.as_str().unwrap_or_default(), claim);
    });
}

fn request_name(c: &mut Check, name: &str, claim: &Value) {
    let mut parts = name.splitn(3, '/');
    let (first, second, third) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    if third.is_some() {
        return c.here().invalid(name, WHOSE);
    }
    for part in [Some(first), second].into_iter().flatten() {
        c.here().obeys(part, names::dns_label);
    }
    let request = claim.array_at(&["requests"]).iter().find(|request| text(request, "name") == first);
    let is_there = request.is_some_and(|request| match second {
        None => true,
        Some(second) => request.array_at(&["firstAvailable"]).iter().any(|r| text(r, "name") == second),
    });
    if !is_there {
        c.here().invalid(name, WHOSE);
    }
}

fn attribute_name(c: &mut Check, owner: &Value, field: &str) {
    let name = text(owner, field);
    qualified(c, field, name);
    if !name.contains('/') {
        let detail = "a fully qualified name must be a domain and a name separated by a slash";
        c.at(field).invalid(name, detail);
    }
}

/// Checks a name of an attribute, or one of a domain; reported at the member `field`.
pub(super) fn qualified(c: &mut Check, field: &str, name: &str) {
    const MAX_DOMAIN: usize = 63;
    const MAX_NAME: usize = 32;
    let identifier = |c: &mut Check, name: &str| {
        if name.len() > MAX_NAME {
            c.at(field).too_long(MAX_NAME);
        }
        c.at(field).obeys(name, syntax::c_identifier);
    };
    let parts: Vec<&str> = name.split('/').collect();
    match parts[..] {
        [name] => identifier(c, name),
        [domain, name] => {
            if domain.is_empty() {
                c.at(field).invalid("", "the domain must not be empty");
            } else {
                if domain.len() > MAX_DOMAIN {
                    c.at(field).too_long(MAX_DOMAIN);
                }
                c.at(field).obeys(domain, |domain| names::dns_subdomain(&domain.to_ascii_lowercase()));
            }
            if name.is_empty() {
                c.at(field).invalid("", "the name must not be empty");
            } else {
                identifier(c, name);
            }
        }
        // Upstream lets names with more slashes pass.
        _ => {}
    }
}

fn configuration(c: &mut Check, config: &Value) {
    if is_set(config, "opaque") {
        c.field(config, "opaque", |c, opaque| {
            driver_name(c, opaque, "driver");
            any_object(c, opaque, "parameters", MAX_PARAMETERS);
        });
    } else {
        c.at("opaque").required("");
    }
}

/// Checks a member that holds any object, but none that is too big.
fn any_object(c: &mut Check, owner: &Value, field: &str, max: usize) {
    match owner.get(field) {
        None | Some(Value::Null) => c.at(field).required(""),
        Some(value) if crate::json::to_vec(value).len() > max => c.at(field).too_long(max),
        Some(Value::Object(_)) => {}
        Some(_) => c.at(field).invalid("<value omitted>", "must be a valid JSON object"),
    }
}

/// Checks the status of a claim.
pub(super) fn status(c: &mut Check, object: &Value, old: &Value) {
    c.field(object, "status", |c, status| {
        let key = |consumer: &Value| text(consumer, "uid").to_owned();
        set(c, status, "reservedFor", MAX_CONSUMERS, key, |c, consumer| {
            for field in ["resource", "name", "uid"] {
                c.require(consumer, field);
            }
        });
        let allocated: Vec<String> =
            status.array_at(&["allocation", "devices", "results"]).iter().map(device_key).collect();
        set(c, status, "devices", usize::MAX, device_key, |c, device| device_status(c, device, &allocated));
        reservations(c, object, old);
        let before = old.at(&["status", "allocation"]).filter(|allocation| !allocation.is_null());
        c.some(status, "allocation", |c, allocation| match before {
            None => {
                let nothing = Value::Null;
                new_allocation(c, allocation, object.at(&["spec", "devices"]).unwrap_or(&nothing));
            }
            Some(before) if !same(Some(allocation), Some(before)) => {
                c.here().invalid(allocation.clone(), crate::kinds::check::IMMUTABLE);
            }
            Some(_) => {}
        });
    });
}

fn device_key(device: &Value) -> String {
    let parts = ["driver", "pool", "device"].map(|field| text(device, field));
    let share = filled(device, "shareID").map(|share| format!("/{share}")).unwrap_or_default();
    format!("{}{share}", parts.join("/"))
}

fn reservations(c: &mut Check, object: &Value, old: &Value) {
    let list = |object| Value::array_at(object, &["status", "reservedFor"]);
    let consumers = list(object);
    if consumers.is_empty() {
        return;
    }
    if object.at(&["status", "allocation"]).is_none_or(Value::is_null) {
        c.at("reservedFor").forbidden("may not be specified when `allocated` is not set");
    } else if object.at(&["metadata", "deletionTimestamp"]).is_some()
        && consumers.iter().any(|consumer| !list(old).contains(consumer))
    {
        let detail =
            "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
        c.at("reservedFor").forbidden(detail);
    }
}

fn new_allocation(c: &mut Check, allocation: &Value, claim: &Value) {
    c.field(allocation, "devices", |c, devices| {
        few(c, devices, "results", MAX_REQUESTS, |c, result| {
            c.within("request", |c| request_name(c, text(result, "request"), claim));
            device_of(c, result);
            bindings(c, result);
            share(c, result);
        });
        few(c, devices, "config", 2 * MAX_CONFIGS, |c, config| {
            c.require_one_of(config, "source", &["FromClaim", "FromClass"]);
            request_names(c, config, claim);
            configuration(c, config);
        });
    });
    c.some(allocation, "nodeSelector", node_selector);
}

fn share(c: &mut Check, owner: &Value) {
    if let Some(share) = owner.str_at(&["shareID"]) {
        c.at("shareID").obeys(share, uid);
    }
}

fn uid(text: &str) -> Result<(), Fault> {
    const DASHES: [usize; 4] = [8, 13, 18, 23];
    let bytes = text.as_bytes();
    match bytes.len() {
        36 => {
            let fits =
                |(i, b): (usize, &u8)| if DASHES.contains(&i) { *b == b'-' } else { b.is_ascii_hexdigit() };
            if !bytes.iter().enumerate().all(fits) {
                return Err("error validating uid: invalid UUID format".into());
            }
        }
        32 | 38 | 45 => {}
        other => return Err(format!("error validating uid: invalid UUID length: {other}")),
    }
    if bytes.len() == 36 && !bytes.iter().any(u8::is_ascii_uppercase) {
        return Ok(());
    }
    Err("uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal \
         characters"
        .into())
}

fn device_status(c: &mut Check, device: &Value, allocated: &[String]) {
    device_of(c, device);
    share(c, device);
    let key = device_key(device);
    if !allocated.contains(&key) {
        c.here().invalid(key, "must be an allocated device in the claim");
    }
    let count = device.array_at(&["conditions"]).len();
    if count > MAX_CONDITIONS {
        c.at("conditions").too_many(count, MAX_CONDITIONS);
    }
    conditions(c, device);
    if is_set(device, "data") {
        any_object(c, device, "data", MAX_PARAMETERS);
    }
    c.some(device, "networkData", |c, network| {
        for (field, max) in [("interfaceName", MAX_INTERFACE), ("hardwareAddress", MAX_HARDWARE)] {
            if text(network, field).len() > max {
                c.at(field).too_long(max);
            }
        }
        set(c, network, "ips", MAX_ADDRESSES, itself, |c, ip| {
            c.here().obeys(ip.as_str().unwrap_or_default(), interface_address);
        });
    });
}

/// An address with the length of its network: `10.9.8.7/24`.
fn interface_address(text: &str) -> Result<(), Fault> {
    let parsed = text.split_once('/').and_then(|(host, length)| {
        let ip = address::ip(host).ok()?;
        let max = if ip.is_ipv4() { 32 } else { 128 };
        let length = length.parse::<u8>().ok().filter(|length| *length <= max)?;
        Some(format!("{ip}/{length}"))
    });
    match parsed {
        None => Err("must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)".into()),
        Some(canonical) if canonical == text => Ok(()),
        Some(canonical) => Err(format!("must be in canonical form ({canonical:?})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::check::run;
    use crate::kinds::check::testing::{cases, json, with};

    fn base() -> Value {
        json(
            r#"{"devices": {"requests": [
                {"name": "a", "exactly": {"deviceClassName": "c", "allocationMode": "ExactCount", "count": 1}},
                {"name": "b", "firstAvailable": [{"name": "x", "deviceClassName": "c", "allocationMode": "All"}]}]}}"#,
        )
    }

    #[test]
    fn claims() {
        cases(&base(), CLAIMS, |spec| run(|c| check(c, spec)));
        let mut big = base();
        big.set(&["devices", "requests"], vec![Value::object(); MAX_REQUESTS + 1]);
        assert_eq!(run(|c| check(c, &big)).len(), 1);
    }

    const CLAIMS: &str = r#"
devices.constraints = [{"requests": ["a", "b", "b/x"], "matchAttribute": "d.e/f"}]
devices.config = [{"requests": ["a"], "opaque": {"driver": "d.e", "parameters": {"k": "v"}}}]
devices.requests.0.exactly.tolerations = [{"operator": "Exists"}, {"key": "a", "operator": "Equal", "value": "b"}]

devices.requests = [{"name": "a"}, {"name": "a", "exactly": {}, "firstAvailable": [{}]}, {"name": "B", "exactly": {}}]
! devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required
! devices.requests[1]: Invalid value: null: exactly one of `exactly` or `firstAvailable` is required, but multiple fields
  are set
! devices.requests[2].name: Invalid value: "B": a lowercase RFC 1123 label must consist of lower case alphanumeric
  characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for
  validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
! devices.requests[2].exactly.deviceClassName: Required value
! devices.requests[2].exactly.allocationMode: Unsupported value: "": supported values: "All", "ExactCount"
! devices.requests[1]: Duplicate value: "a"

devices.requests.0.exactly = {"deviceClassName": "c", "allocationMode": "All", "count": 1, "selectors": [{}],
  "tolerations": [{}, {"operator": "x", "effect": "x"}, {"operator": "Exists", "value": "a"}]}
devices.requests.1.firstAvailable = [{"name": "x", "deviceClassName": "c", "allocationMode": "ExactCount"}]
! devices.requests[0].exactly.selectors[0].cel: Required value
! devices.requests[0].exactly.count: Invalid value: 1: must not be specified when allocationMode is 'All'
! devices.requests[0].exactly.tolerations[0].operator: Required value
! devices.requests[0].exactly.tolerations[1].operator: Unsupported value: "x": supported values: "Equal", "Exists"
! devices.requests[0].exactly.tolerations[1].effect: Unsupported value: "x": supported values: "NoExecute", "NoSchedule",
  "None"
! devices.requests[0].exactly.tolerations[2].value: Invalid value: "a": must be empty for operator `Exists`
! devices.requests[1].firstAvailable[0].count: Invalid value: 0: must be greater than zero

devices.constraints = [{}, {"requests": ["a/b/c", "c", "b/y", "a", "a"], "distinctAttribute": "a"}, {"matchAttribute":
  "/"}]
! devices.constraints[0]: Required value: exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple
  fields are set
! devices.constraints[1].requests[0]: Invalid value: "a/b/c": must be the name of a request in the claim or the name of a
  request and a subrequest separated by '/'
! devices.constraints[1].requests[1]: Invalid value: "c": must be the name of a request in the claim or the name of a
  request and a subrequest separated by '/'
! devices.constraints[1].requests[2]: Invalid value: "b/y": must be the name of a request in the claim or the name of a
  request and a subrequest separated by '/'
! devices.constraints[1].requests[4]: Duplicate value: "a"
! devices.constraints[1].distinctAttribute: Invalid value: "a": a fully qualified name must be a domain and a name
  separated by a slash
! devices.constraints[2].matchAttribute: Invalid value: "": the domain must not be empty
! devices.constraints[2].matchAttribute: Invalid value: "": the name must not be empty

devices.config = [{}, {"opaque": {}}, {"opaque": {"driver": "a", "parameters": 1}}]
! devices.config[0].opaque: Required value
! devices.config[1].opaque.driver: Required value
! devices.config[1].opaque.parameters: Required value
! devices.config[2].opaque.parameters: Invalid value: "<value omitted>": must be a valid JSON object
"#;

    #[test]
    fn classes() {
        let base =
            json(r#"{"selectors": [{"cel": {"expression": "true"}}], "extendedResourceName": "a.b/c"}"#);
        cases(&base, CLASSES, |spec| run(|c| class(c, spec)));
        let mut long = base;
        long.set(
            &["selectors"],
            vec![crate::object!({"cel": {"expression": ("x".repeat(MAX_EXPRESSION + 1))}})],
        );
        assert_eq!(run(|c| class(c, &long)).len(), 1);
    }

    const CLASSES: &str = r#"
config = [{"opaque": {"driver": "a.b", "parameters": {}}}]

extendedResourceName = "cpu"
selectors = [{}]
! selectors[0].cel: Required value
! extendedResourceName: Invalid value: "cpu": must be a valid extended resource name
"#;

    const ALLOCATION: &str = r#"{"devices": {"results": [{"request": "a", "driver": "d", "pool": "p/q", "device": "v",
        "shareID": "01234567-89ab-cdef-0123-456789abcdef"}]}}"#;

    #[test]
    fn statuses() {
        let base = crate::object!({"spec": (base()), "status": {}});
        cases(&base, STATUSES, |object| run(|c| status(c, object, &base)));
        let allocated = with(&base, &[("status.allocation", ALLOCATION)]);
        cases(&allocated, WHEN_ALLOCATED, |object| run(|c| status(c, object, &allocated)));
    }

    const STATUSES: &str = r#"
status.reservedFor = [{"resource": "pods", "name": "a", "uid": "b"}]
! status.reservedFor: Forbidden: may not be specified when `allocated` is not set

status.allocation = {"devices": {"results": [{"request": "a", "driver": "d", "pool": "p", "device": "v"}], "config":
  [{"source": "FromClass", "opaque": {"driver": "d", "parameters": {}}}]}}

status.allocation = {"devices": {"results": [{"request": "x", "shareID": "a", "bindingConditions": ["a", "a"]}], "config":
  [{}]}}
! status.allocation.devices.results[0].request: Invalid value: "x": must be the name of a request in the claim or the name
  of a request and a subrequest separated by '/'
! status.allocation.devices.results[0].driver: Required value
! status.allocation.devices.results[0].pool: Required value
! status.allocation.devices.results[0].device: Invalid value: "": a lowercase RFC 1123 label must consist of lower case
  alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc',
  regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
! status.allocation.devices.results[0].bindingConditions[1]: Duplicate value: "a"
! status.allocation.devices.results[0].bindingFailureConditions: Invalid value: null: bindingFailureConditions are
  required to use bindingConditions
! status.allocation.devices.results[0].shareID: Invalid value: "a": error validating uid: invalid UUID length: 1
! status.allocation.devices.config[0].source: Required value
! status.allocation.devices.config[0].opaque: Required value
"#;

    const WHEN_ALLOCATED: &str = r#"
status.allocation =

status.devices = [{"driver": "d", "pool": "p/q", "device": "v", "shareID": "01234567-89ab-cdef-0123-456789abcdef", "data":
  {}, "networkData": {"interfaceName": "eth0", "ips": ["10.0.0.1/24"]}}]
status.reservedFor = [{"resource": "pods", "name": "a", "uid": "b"}]

status.allocation.devices.results = []
! status.allocation: Invalid value: {"devices":{"results":[]}}: field is immutable

status.devices = [{"driver": "d", "pool": "p", "device": "v", "shareID": "01234567-89AB-cdef-0123-456789abcdef", "data":
  1, "networkData": {"ips": ["a", "::0/64"]}}]
! status.devices[0].shareID: Invalid value: "01234567-89AB-cdef-0123-456789abcdef": uid must be in RFC 4122 normalized
  form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal characters
! status.devices[0]: Invalid value: "d/p/v/01234567-89AB-cdef-0123-456789abcdef": must be an allocated device in the claim
! status.devices[0].data: Invalid value: "<value omitted>": must be a valid JSON object
! status.devices[0].networkData.ips[0]: Invalid value: "a": must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or
  2001:db8::1/64)
! status.devices[0].networkData.ips[1]: Invalid value: "::0/64": must be in canonical form ("::/64")

metadata.deletionTimestamp = "2026-01-01T00:00:00Z"
status.reservedFor = [{}]
! status.reservedFor[0].resource: Required value
! status.reservedFor[0].name: Required value
! status.reservedFor[0].uid: Required value
! status.reservedFor: Forbidden: new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set
"#;
}
