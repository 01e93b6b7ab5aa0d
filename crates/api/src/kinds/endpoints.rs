//! Endpoints and EndpointSlices.

use std::collections::HashSet;

use super::Kind;
use super::address::{self, endpoint_address};
use super::check::{self, Check, is_set, same, text};
use super::fill::{Given, absent, fill, text as default_text};
use super::service::rules::port_number;
use super::warnings::{self, warned};
use crate::error::Cause;
use crate::names::{self, Fault};
use crate::{Value, meta};

pub(super) const ENDPOINTS: Kind = Kind {
    resource: "endpoints",
    generation: false,
    unconditional_update: true,
    create_on_update: true,
    defaults: |object, _| fill(object, &[default_text("subsets[*].ports[*].protocol", "TCP")]),
    validate: |object| check::run(|c| c.each(object, "subsets", subset)),
    validate_update: |object, old| unless_same(object, old, "subsets", ENDPOINTS.validate),
    warnings: |object, old| {
        warned(|c| {
            if old.is_none() {
                c.warn("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice");
            }
            c.each(object, "subsets", |c, subset| {
                for list in ["addresses", "notReadyAddresses"] {
                    c.each(subset, list, |c, at| warnings::address(c, at, "ip"));
                }
            });
        })
    },
    ..Kind::DEFAULT
};

pub(super) const ENDPOINT_SLICE: Kind = Kind {
    group: "discovery.k8s.io",
    resource: "endpointslices",
    unconditional_update: true,
    defaults: |object, _| {
        fill(
            object,
            &[absent("ports[*].name", Given::Text("")), absent("ports[*].protocol", Given::Text("TCP"))],
        );
    },
    prepare_create: |object| drop_topology(object, None),
    prepare_update: |object, old| {
        drop_topology(object, Some(old));
        count_labels(object, old);
    },
    validate: |object| {
        check::run(|c| {
            slice(c, object);
            slice_endpoints(c, object);
        })
    },
    validate_update: |object, old| {
        check::run(|c| {
            slice(c, object);
            if !same(object.get("endpoints"), old.get("endpoints")) {
                slice_endpoints(c, object);
            }
            c.immutable(object, old, "addressType");
        })
    },
    warnings: |object, old| {
        warned(|c| {
            if old.is_none() && text(object, "addressType") == "FQDN" {
                c.at("spec.addressType").warn("FQDN endpoints are deprecated");
            }
            c.each(object, "endpoints", |c, endpoint| {
                c.each(endpoint, "addresses", |c, at| {
                    warnings::address_here(c, at.as_str().unwrap_or_default());
                });
            });
        })
    },
    ..Kind::DEFAULT
};

const MAX_ENDPOINTS: usize = 1000;
const MAX_ADDRESSES: usize = 100;
const MAX_PORTS: usize = 20_000;
const MAX_HINTS: usize = 8;
const MAX_TOPOLOGY: usize = 16;

/// The rules of new objects, but not for a part that did not change: older rules let more pass.
fn unless_same(object: &Value, old: &Value, field: &str, rules: fn(&Value) -> Vec<Cause>) -> Vec<Cause> {
    if same(object.get(field), old.get(field)) { Vec::new() } else { rules(object) }
}

fn subset(c: &mut Check, subset: &Value) {
    let lists = ["addresses", "notReadyAddresses"];
    if lists.iter().all(|list| subset.array_at(&[list]).is_empty()) {
        c.here().required("must specify `addresses` or `notReadyAddresses`");
    }
    for list in lists {
        c.each(subset, list, |c, entry| {
            let ip = text(entry, "ip");
            c.at("ip").obeys(ip, |ip| address::ip(ip).map(|_| ()));
            c.name(entry, "hostname", names::dns_label);
            if let Some(node) = entry.str_at(&["nodeName"]) {
                c.at("nodeName").obeys(node, names::dns_subdomain);
            }
            c.at("ip").obeys(ip, endpoint_address);
        });
    }
    let named = subset.array_at(&["ports"]).len() > 1;
    c.each(subset, "ports", |c, port| {
        if named {
            c.require(port, "name");
        }
        c.name(port, "name", names::dns_label);
        port_number(c, port, "port");
        protocols(c, port);
    });
}

fn protocols(c: &mut Check, port: &Value) {
    c.require_one_of(port, "protocol", &["SCTP", "TCP", "UDP"]);
    if let Some(protocol) = port.str_at(&["appProtocol"]) {
        c.at("appProtocol").obeys(protocol, names::qualified);
    }
}

fn slice(c: &mut Check, slice: &Value) {
    c.require_one_of(slice, "addressType", &["FQDN", "IPv4", "IPv6"]);
    let ports = slice.array_at(&["ports"]).len();
    if ports > MAX_PORTS {
        return c.at("ports").too_many(ports, MAX_PORTS);
    }
    let mut seen = HashSet::new();
    c.each(slice, "ports", |c, port| {
        let name = text(port, "name");
        c.name(port, "name", names::dns_label);
        if !seen.insert(name) {
            c.at("name").duplicate(name);
        }
        protocols(c, port);
    });
}

fn slice_endpoints(c: &mut Check, slice: &Value) {
    let count = slice.array_at(&["endpoints"]).len();
    if count > MAX_ENDPOINTS {
        return c.at("endpoints").too_many(count, MAX_ENDPOINTS);
    }
    c.each(slice, "endpoints", |c, endpoint| {
        addresses(c, endpoint, text(slice, "addressType"));
        if let Some(node) = endpoint.str_at(&["nodeName"]) {
            c.at("nodeName").obeys(node, names::dns_subdomain);
        }
        let topology = endpoint.object_at(&["deprecatedTopology"]).map_or(0, crate::Map::len);
        if topology > MAX_TOPOLOGY {
            c.at("deprecatedTopology").too_many(topology, MAX_TOPOLOGY);
        }
        c.labels(endpoint, "deprecatedTopology");
        if let Some(name) = endpoint.str_at(&["hostname"]) {
            c.at("hostname").obeys(name, names::dns_label);
        }
        c.some(endpoint, "hints", |c, hints| {
            hint_names(c, hints, "forZones", names::label_value);
            hint_names(c, hints, "forNodes", names::dns_subdomain);
        });
    });
}

fn addresses(c: &mut Check, endpoint: &Value, family: &str) {
    let all = endpoint.array_at(&["addresses"]);
    if all.is_empty() {
        c.at("addresses").required("must contain at least 1 address");
    } else if all.len() > MAX_ADDRESSES {
        c.at("addresses").too_many(all.len(), MAX_ADDRESSES);
    }
    for (i, entry) in all.iter().enumerate() {
        let entry = entry.as_str().unwrap_or_default();
        let parsed = match family {
            "IPv4" => address::ip(entry),
            "IPv6" => address::canonical_ip(entry),
            "FQDN" => {
                c.at("addresses").index(i).obeys(entry, qualified_domain);
                continue;
            }
            _ => continue,
        };
        match parsed {
            Err(fault) => c.at("addresses").index(i).invalid(entry, &fault),
            Ok(ip) => {
                if ip.is_ipv4() != (family == "IPv4") {
                    let article = format!("must be an {family} address");
                    c.at("addresses").invalid(entry, &article);
                }
                c.at("addresses").index(i).obeys(entry, endpoint_address);
            }
        }
    }
}

/// A domain name of at least two labels, with or without the final dot.
fn qualified_domain(text: &str) -> Result<(), Fault> {
    let text = text.strip_suffix('.').unwrap_or(text);
    names::dns_subdomain(text)?;
    if !text.contains('.') {
        return Err("should be a domain with at least two segments separated by dots".into());
    }
    text.split('.').try_for_each(names::dns_label)
}

fn hint_names(c: &mut Check, hints: &Value, list: &str, rule: check::Rule) {
    let count = hints.array_at(&[list]).len();
    if count > MAX_HINTS {
        return c.at(list).too_many(count, MAX_HINTS);
    }
    let mut seen = HashSet::new();
    c.each(hints, list, |c, hint| {
        let name = text(hint, "name");
        if !seen.insert(name) {
            c.at("name").duplicate(name);
        }
        c.at("name").obeys(name, rule);
    });
}

/// Labels of nodes do not come into slices of this version; those that are there stay until the endpoints change.
fn drop_topology(object: &mut Value, old: Option<&Value>) {
    if old.is_some_and(|old| same(old.get("endpoints"), object.get("endpoints"))) {
        return;
    }
    super::fill::each(object, "endpoints[*]", &mut |endpoint| {
        drop(endpoint.remove_at(&["deprecatedTopology"]));
    });
}

/// Changed labels count as a change of a slice: services find their slices by them.
fn count_labels(object: &mut Value, old: &Value) {
    const GENERATION: [&str; 2] = ["metadata", "generation"];
    let before = old.i64_at(&GENERATION).unwrap_or(0);
    let counted = object.i64_at(&GENERATION).is_some_and(|now| now > before);
    if !counted && is_set(object, "metadata") && meta::labels(object) != meta::labels(old) {
        object.set(&GENERATION, before.saturating_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::check::testing::{json, lines};

    #[test]
    fn subsets() {
        let check = |text: &str, want: &[&str]| {
            let object = json(&format!("{{\"subsets\": [{text}]}}"));
            assert_eq!(lines(&(ENDPOINTS.validate)(&object)), want, "{text}");
        };
        check(r#"{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80, "protocol": "TCP"}]}"#, &[]);
        check("{}", &["subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"]);
        check(
            r#"{"addresses": [{"ip": "127.0.0.1", "hostname": "a"}]}"#,
            &[
                r#"subsets[0].addresses[0].ip: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)"#,
            ],
        );
        check(
            r#"{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"name": "a", "port": 80, "protocol": "x"}, {"port": 0, "protocol": "TCP"}]}"#,
            &[
                r#"subsets[0].ports[0].protocol: Unsupported value: "x": supported values: "SCTP", "TCP", "UDP""#,
                "subsets[0].ports[1].name: Required value",
                "subsets[0].ports[1].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            ],
        );
        let old = json(r#"{"subsets": [{}]}"#);
        assert_eq!((ENDPOINTS.validate_update)(&old, &old), []);
    }

    #[test]
    fn slices() {
        let check = |text: &str, want: &[&str]| {
            let mut object = json(text);
            (ENDPOINT_SLICE.defaults)(&mut object, "v1");
            assert_eq!(lines(&(ENDPOINT_SLICE.validate)(&object)), want, "{text}");
        };
        check(
            r#"{"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]}"#,
            &[],
        );
        check(r#"{"addressType": "FQDN", "endpoints": [{"addresses": ["a.b."]}]}"#, &[]);
        check("{}", &["addressType: Required value"]);
        check(
            r#"{"addressType": "x"}"#,
            &[r#"addressType: Unsupported value: "x": supported values: "FQDN", "IPv4", "IPv6""#],
        );
        check(
            r#"{"addressType": "IPv4", "endpoints": [{}, {"addresses": ["fd00::1"]}], "ports": [{}, {}]}"#,
            &[
                r#"ports[1].name: Duplicate value: """#,
                "endpoints[0].addresses: Required value: must contain at least 1 address",
                r#"endpoints[1].addresses: Invalid value: "fd00::1": must be an IPv4 address"#,
            ],
        );
        check(
            r#"{"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"], "hints": {"forZones": [{"name": "a"}, {"name": "a"}]}}]}"#,
            &[r#"endpoints[0].hints.forZones[1].name: Duplicate value: "a""#],
        );
        let many = ["{\"name\": \"x\"}"; 9].join(",");
        check(
            &format!(
                r#"{{"addressType": "IPv4", "endpoints": [{{"addresses": ["10.0.0.1"], "hints": {{"forNodes": [{many}]}}}}]}}"#
            ),
            &["endpoints[0].hints.forNodes: Too many: 9: must have at most 8 items"],
        );
        let old = json(r#"{"addressType": "IPv4"}"#);
        assert_eq!(
            lines(&(ENDPOINT_SLICE.validate_update)(&json(r#"{"addressType": "IPv6"}"#), &old)),
            [r#"addressType: Invalid value: "IPv6": field is immutable"#,]
        );
    }

    #[test]
    fn labels_count() {
        let old = json(r#"{"metadata": {"generation": 1, "labels": {"a": "b"}}}"#);
        let mut new = json(
            r#"{"metadata": {"generation": 1, "labels": {"a": "c"}}, "endpoints": [{"deprecatedTopology": {"x": "y"}}]}"#,
        );
        (ENDPOINT_SLICE.prepare_update)(&mut new, &old);
        assert_eq!(new.i64_at(&["metadata", "generation"]), Some(2));
        assert_eq!(new.array_at(&["endpoints"]), [Value::object()]);
    }
}
