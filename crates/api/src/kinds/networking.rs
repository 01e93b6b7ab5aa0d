//! Network policies, and the addresses of services as objects.

use super::Kind;
use super::address::{self, Range};
use super::check::{Check, IMMUTABLE, is_set, number, run};
use super::fill::{Given, absent, fill};
use super::syntax::port_name;
use crate::error::Cause;
use crate::{Value, names};

pub(super) const NETWORKING: Kind =
    Kind { group: "networking.k8s.io", unconditional_update: true, ..Kind::DEFAULT };

pub(super) const NETWORK_POLICY: Kind = Kind {
    resource: "networkpolicies",
    defaults: |object, _| policy_defaults(object),
    validate: |object| run(|c| c.field(object, "spec", |c, spec| policy(c, spec, &[]))),
    validate_update: |object, old| {
        let known = ranges_of(old);
        run(|c| c.field(object, "spec", |c, spec| policy(c, spec, &known)))
    },
    ..NETWORKING
};

pub(super) const IP_ADDRESS: Kind = Kind {
    resource: "ipaddresses",
    name: |name| address::canonical_ip(name).map(|_| ()),
    generation: false,
    validate: |object| run(|c| c.field(object, "spec", parent)),
    validate_update: |object, old| {
        run(|c| {
            if let (Some(new), Some(old)) = (object.get("spec"), old.get("spec")) {
                c.within("spec", |c| c.immutable(new, old, "parentRef"));
            }
        })
    },
    ..NETWORKING
};

pub(super) const SERVICE_CIDR: Kind = Kind {
    resource: "servicecidrs",
    generation: false,
    validate: |object| run(|c| c.field(object, "spec", service_ranges)),
    validate_update: service_ranges_update,
    ..NETWORKING
};

fn policy_defaults(object: &mut Value) {
    fill(
        object,
        &[
            absent("spec.ingress[*].ports[*].protocol", Given::Text("TCP")),
            absent("spec.egress[*].ports[*].protocol", Given::Text("TCP")),
        ],
    );
    if object.as_object().is_some() && object.array_at(&["spec", "policyTypes"]).is_empty() {
        let mut types = vec!["Ingress"];
        if !object.array_at(&["spec", "egress"]).is_empty() {
            types.push("Egress");
        }
        object.set(&["spec", "policyTypes"], types);
    }
}

const SIDES: [(&str, &str); 2] = [("ingress", "from"), ("egress", "to")];

/// All ranges that a policy names.
fn ranges_of(policy: &Value) -> Vec<&str> {
    let peers = SIDES.iter().flat_map(|(side, peers)| {
        policy.array_at(&["spec", side]).iter().flat_map(|rule| rule.array_at(&[peers]))
    });
    peers
        .flat_map(|peer| {
            let except = peer.array_at(&["ipBlock", "except"]).iter().filter_map(Value::as_str);
            peer.str_at(&["ipBlock", "cidr"]).into_iter().chain(except)
        })
        .collect()
}

/// Checks a policy; ranges that were there before may be of older forms.
fn policy(c: &mut Check, spec: &Value, known: &[&str]) {
    c.selector(spec, "podSelector");
    for (side, peers) in SIDES {
        c.each(spec, side, |c, rule| {
            c.each(rule, "ports", policy_port);
            c.each(rule, peers, |c, peer| policy_peer(c, peer, known));
        });
    }
    let types = spec.array_at(&["policyTypes"]);
    if types.len() > 2 {
        return c.at("policyTypes").invalid(types.to_vec(), "may not specify more than two policyTypes");
    }
    c.each(spec, "policyTypes", |c, ty| {
        let ty = ty.as_str().unwrap_or_default();
        if !matches!(ty, "Ingress" | "Egress") {
            c.here().not_supported(ty, &["Ingress", "Egress"]);
        }
    });
}

fn policy_port(c: &mut Check, port: &Value) {
    c.one_of_if_set(port, "protocol", &["TCP", "UDP", "SCTP"]);
    let end = number(port, "endPort");
    let fault = match port.get("port").filter(|p| !p.is_null()) {
        None => "may not be specified when `port` is not specified",
        Some(Value::String(name)) => {
            if end.is_some() {
                c.at("endPort").invalid(end, "may not be specified when `port` is non-numeric");
            }
            return c.at("port").obeys(name, port_name);
        }
        Some(_) => {
            let start = number(port, "port");
            c.range(port, "port", 1, 65_535);
            if end.is_some() && end < start {
                c.at("endPort").invalid(start, "must be greater than or equal to `port`");
            }
            return c.range(port, "endPort", 1, 65_535);
        }
    };
    if end.is_some() {
        c.at("endPort").invalid(end, fault);
    }
}

fn policy_peer(c: &mut Check, peer: &Value, known: &[&str]) {
    let selectors = ["podSelector", "namespaceSelector"];
    selectors.iter().for_each(|field| drop(c.selector(peer, field)));
    c.some(peer, "ipBlock", |c, block| ip_block(c, block, known));
    let selects = selectors.iter().any(|field| is_set(peer, field));
    match (selects, is_set(peer, "ipBlock")) {
        (false, false) => c.here().required("must specify a peer"),
        (true, true) => c.here().forbidden("may not specify both ipBlock and another peer"),
        _ => {}
    }
}

fn ip_block(c: &mut Check, block: &Value, known: &[&str]) {
    let read = |c: &mut Check, text: &str| -> Option<Range> {
        match address::cidr(text) {
            Ok(range) => Some(range),
            Err(fault) => {
                if !known.contains(&text) {
                    c.here().invalid(text, &fault);
                }
                None
            }
        }
    };
    let Some(text) = c.require(block, "cidr") else { return };
    let mut whole = None;
    c.within("cidr", |c| whole = read(c, text));
    c.each(block, "except", |c, except| {
        let text = except.as_str().unwrap_or_default();
        let part = read(c, text);
        if let (Some(whole), Some(part)) = (whole, part)
            && (!whole.contains(part) || whole.length >= part.length)
        {
            c.here().invalid(text, "must be a strict subset of `cidr`");
        }
    });
}

fn parent(c: &mut Check, spec: &Value) {
    if !is_set(spec, "parentRef") {
        return c.at("parentRef").required("");
    }
    c.field(spec, "parentRef", |c, parent| {
        c.name(parent, "group", names::dns_subdomain);
        c.require_name(parent, "resource", names::path_segment);
        c.require_name(parent, "name", names::path_segment);
        c.name(parent, "namespace", names::path_segment);
    });
}

fn service_ranges(c: &mut Check, spec: &Value) {
    let all = spec.array_at(&["cidrs"]);
    if all.is_empty() {
        return c.at("cidrs").required("at least one CIDR required");
    }
    if all.len() > 2 {
        return c.at("cidrs").invalid(spec.clone(), "may only hold up to 2 values");
    }
    let mut families = Vec::new();
    c.each(spec, "cidrs", |c, range| {
        let text = range.as_str().unwrap_or_default();
        match address::canonical_cidr(text) {
            Ok(range) => families.push(range.base.is_ipv4()),
            Err(fault) => c.here().invalid(text, &fault),
        }
    });
    if families.len() == 2 && families[0] == families[1] {
        let detail =
            "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        c.at("cidrs").invalid(all.to_vec(), detail);
    }
}

/// Ranges stay; a second one may be added.
fn service_ranges_update(object: &Value, old: &Value) -> Vec<Cause> {
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let (now, then) = (spec.array_at(&["cidrs"]), old.array_at(&["spec", "cidrs"]));
    run(|c| {
        let grows = then.len() == 1 && now.len() == 2;
        if now.len() != then.len() && !grows {
            return c.at("spec.cidrs").invalid(now.to_vec(), IMMUTABLE);
        }
        for (i, (now, _)) in now.iter().zip(then).enumerate().filter(|(_, (now, then))| now != then) {
            c.at("spec.cidrs").index(i).invalid(now.clone(), IMMUTABLE);
        }
        if grows {
            c.within("spec", |c| service_ranges(c, spec));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::check::testing::{cases, json};
    use crate::object;

    #[test]
    fn a_policy_says_what_it_is_about() {
        let check = |mut policy: Value, want: Value| {
            policy_defaults(&mut policy);
            assert_eq!(policy, want);
        };
        check(object!({}), object!({"spec": {"policyTypes": ["Ingress"]}}));
        check(
            object!({"spec": {"egress": [{"ports": [{"port": 80}]}]}}),
            object!({"spec": {
                "egress": [{"ports": [{"port": 80, "protocol": "TCP"}]}], "policyTypes": ["Ingress", "Egress"]
            }}),
        );
        check(object!({"spec": {"policyTypes": ["Egress"]}}), object!({"spec": {"policyTypes": ["Egress"]}}));
    }

    #[test]
    fn policies() {
        cases(&object!({"spec": {"podSelector": {}}}), POLICIES, NETWORK_POLICY.validate);
        let old = json(r#"{"spec": {"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.1/8"}}]}]}}"#);
        assert_eq!((NETWORK_POLICY.validate_update)(&old, &old), []);
    }

    const POLICIES: &str = r#"
spec.ingress = [{"ports": [{"protocol": "TCP", "port": 80, "endPort": 90}, {"port": "http"}], "from": [{"podSelector": {}}]}]
spec.policyTypes = ["Ingress", "Egress"]

spec.egress = [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]}]

spec.ingress = [{"ports": [{"protocol": "x", "port": 80, "endPort": 70}]}]
! spec.ingress[0].ports[0].protocol: Unsupported value: "x": supported values: "TCP", "UDP", "SCTP"
! spec.ingress[0].ports[0].endPort: Invalid value: 80: must be greater than or equal to `port`

spec.ingress = [{"ports": [{"port": "http", "endPort": 70}, {"endPort": 70}, {"port": 0}]}]
! spec.ingress[0].ports[0].endPort: Invalid value: 70: may not be specified when `port` is non-numeric
! spec.ingress[0].ports[1].endPort: Invalid value: 70: may not be specified when `port` is not specified
! spec.ingress[0].ports[2].port: Invalid value: 0: must be between 1 and 65535, inclusive

spec.egress = [{"to": [{}, {"podSelector": {}, "ipBlock": {}}]}]
! spec.egress[0].to[0]: Required value: must specify a peer
! spec.egress[0].to[1].ipBlock.cidr: Required value
! spec.egress[0].to[1]: Forbidden: may not specify both ipBlock and another peer

spec.egress = [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16", "10.0.0.0/8", "x"]}}]}]
! spec.egress[0].to[0].ipBlock.except[0]: Invalid value: "11.0.0.0/16": must be a strict subset of `cidr`
! spec.egress[0].to[0].ipBlock.except[1]: Invalid value: "10.0.0.0/8": must be a strict subset of `cidr`
! spec.egress[0].to[0].ipBlock.except[2]: Invalid value: "x": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)

spec.policyTypes = ["x"]
! spec.policyTypes[0]: Unsupported value: "x": supported values: "Ingress", "Egress"

spec.policyTypes = ["Ingress", "Egress", "Ingress"]
! spec.policyTypes: Invalid value: ["Ingress","Egress","Ingress"]: may not specify more than two policyTypes
"#;

    #[test]
    fn addresses() {
        cases(&object!({}), ADDRESSES, IP_ADDRESS.validate);
        assert!((IP_ADDRESS.name)("10.0.0.1").is_ok() && (IP_ADDRESS.name)("a").is_err());
        let old = json(r#"{"spec": {"parentRef": {"resource": "services", "name": "a"}}}"#);
        assert_eq!((IP_ADDRESS.validate_update)(&object!({"spec": {"parentRef": {}}}), &old).len(), 1);
        cases(&object!({}), SERVICE_RANGES, SERVICE_CIDR.validate);
        let old = object!({"spec": {"cidrs": ["10.0.0.0/24"]}});
        cases(&old, CHANGED_RANGES, |object| (SERVICE_CIDR.validate_update)(object, &old));
    }

    const ADDRESSES: &str = r#"
spec = {"parentRef": {"resource": "services", "name": "a", "namespace": "b"}}

spec = {}
! spec.parentRef: Required value

spec = {"parentRef": {"group": "A"}}
! spec.parentRef.group: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric
  characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for
  validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
! spec.parentRef.resource: Required value
! spec.parentRef.name: Required value
"#;

    const SERVICE_RANGES: &str = r#"
spec = {"cidrs": ["10.0.0.0/24", "fd00::/64"]}

spec = {}
! spec.cidrs: Required value: at least one CIDR required

spec = {"cidrs": ["10.0.0.1/24"]}
! spec.cidrs[0]: Invalid value: "10.0.0.1/24": must not have bits set beyond the prefix length

spec = {"cidrs": ["10.0.0.0/24", "10.1.0.0/24"]}
! spec.cidrs: Invalid value: ["10.0.0.0/24","10.1.0.0/24"]: may specify no more than one IP for each IP family, i.e
  192.168.0.0/24 and 2001:db8::/64
"#;

    const CHANGED_RANGES: &str = r#"
spec.cidrs = ["10.0.0.0/24", "fd00::/64"]

spec.cidrs = ["10.1.0.0/24"]
! spec.cidrs[0]: Invalid value: "10.1.0.0/24": field is immutable

spec.cidrs = []
! spec.cidrs: Invalid value: []: field is immutable
"#;
}
