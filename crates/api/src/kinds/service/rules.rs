//! Rules for services.
//!
//! What the server allocates (addresses, node ports) may still be absent here.

use std::collections::HashSet;

use super::{has_health_port, is_cluster, is_external, service_type};
use crate::kinds::address::{self, endpoint_address};
use crate::kinds::check::{Check, between, filled, is_set, number, text};
use crate::kinds::syntax::port_name;
use crate::kinds::warnings::{self, warned};
use crate::{Value, meta, names, object};

/// Longest time that a client stays with one endpoint, in seconds: a day.
const MAX_AFFINITY_SECONDS: i64 = 86_400;
const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const MODE: &str = "service.kubernetes.io/topology-mode";
const RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const ONLY_BALANCED: &str = "may only be used when `type` is 'LoadBalancer'";

/// Whether clients find the endpoints themselves.
pub(super) fn is_headless(spec: &Value) -> bool {
    service_type(spec) == "ClusterIP" && text(spec, "clusterIP") == "None"
}

/// Checks a service, new or changed from an old one.
pub(super) fn check(c: &mut Check, service: &Value, old: Option<&Value>) {
    let old_spec = old.and_then(|old| old.get("spec")).unwrap_or(&Value::Null);
    if let (Some(mode), Some(hints)) = (meta::annotation(service, MODE), meta::annotation(service, HINTS))
        && mode != hints
    {
        let detail = format!("must match annotations[{HINTS}] when both are specified");
        c.within("metadata", |c| c.at("annotations").key(MODE).invalid(mode, &detail));
    }
    c.field(service, "spec", |c, spec| {
        if spec.array_at(&["ports"]).is_empty() && is_cluster(spec) && !is_headless(spec) {
            c.at("ports").required("");
        }
        of_type(c, spec);
        let named = spec.array_at(&["ports"]).len() > 1;
        let mut seen = HashSet::new();
        c.each(spec, "ports", |c, port| port_rules(c, port, named, &mut seen));
        c.labels(spec, "selector");
        affinity(c, spec);
        super::update::addresses(c, spec, old_spec);
        external_addresses(c, spec, old_spec);
        c.require_one_of(spec, "type", &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]);
        distinct_ports(c, spec);
    });
    source_ranges(c, service, old_spec);
    c.field(service, "spec", |c, spec| {
        balancer(c, spec);
        traffic(c, spec);
    });
}

fn of_type(c: &mut Check, spec: &Value) {
    match service_type(spec) {
        ty @ ("LoadBalancer" | "NodePort") if text(spec, "clusterIP") == "None" => {
            let detail = format!("may not be set to 'None' for {ty} services");
            c.at("clusterIPs").index(0).invalid("None", &detail);
        }
        "ExternalName" => {
            for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                let given =
                    spec.get(field).is_some_and(|v| v.as_array().map_or(!v.is_null(), |a| !a.is_empty()));
                if given {
                    c.at(field).forbidden("may not be set for ExternalName services");
                }
            }
            let name = text(spec, "externalName");
            match name.strip_suffix('.').unwrap_or(name) {
                "" => c.at("externalName").required(""),
                name => c.at("externalName").obeys(name, names::dns_subdomain),
            }
        }
        _ => {}
    }
}

fn port_rules<'v>(c: &mut Check, port: &'v Value, named: bool, seen: &mut HashSet<&'v str>) {
    match filled(port, "name") {
        None if named => c.at("name").required(""),
        None => {}
        Some(name) => {
            c.at("name").obeys(name, names::dns_label);
            if !seen.insert(name) {
                c.at("name").duplicate(name);
            }
        }
    }
    port_number(c, port, "port");
    c.require_one_of(port, "protocol", &["SCTP", "TCP", "UDP"]);
    match port.get("targetPort") {
        Some(Value::String(name)) => c.at("targetPort").obeys(name, port_name),
        _ => port_number(c, port, "targetPort"),
    }
    if let Some(protocol) = port.str_at(&["appProtocol"]) {
        c.at("appProtocol").obeys(protocol, names::qualified);
    }
}

/// A port's number, which has to be there.
pub(in crate::kinds) fn port_number(c: &mut Check, object: &Value, name: &str) {
    let number = number(object, name).unwrap_or(0);
    if !(1..=65_535).contains(&number) {
        c.at(name).invalid(number, &between(1, 65_535));
    }
}

fn affinity(c: &mut Check, spec: &Value) {
    c.require_one_of(spec, "sessionAffinity", &["ClientIP", "None"]);
    match text(spec, "sessionAffinity") {
        "ClientIP" => {
            let steps = ["sessionAffinityConfig", "clientIP", "timeoutSeconds"];
            let missing = (1..=3).find(|n| spec.at(&steps[..*n]).is_none_or(Value::is_null));
            if let Some(n) = missing {
                c.at(&steps[..n].join(".")).required("when session affinity type is ClientIP");
            }
            let seconds = spec.i64_at(&steps);
            if seconds.is_some_and(|s| !(1..=MAX_AFFINITY_SECONDS).contains(&s)) {
                let detail = format!("must be greater than 0 and less than {MAX_AFFINITY_SECONDS}");
                c.at(&steps.join(".")).invalid(seconds, &detail);
            }
        }
        "None" if is_set(spec, "sessionAffinityConfig") => {
            c.at("sessionAffinityConfig").forbidden("must not be set when session affinity is None");
        }
        _ => {}
    }
}

fn external_addresses(c: &mut Check, spec: &Value, old: &Value) {
    let before = old.array_at(&["externalIPs"]);
    c.each(spec, "externalIPs", |c, ip| {
        let text = ip.as_str().unwrap_or_default();
        match address::ip(text) {
            Err(fault) if !before.contains(ip) => c.here().invalid(text, &fault),
            _ => c.here().obeys(text, endpoint_address),
        }
    });
}

fn distinct_ports(c: &mut Check, spec: &Value) {
    let cluster = service_type(spec) == "ClusterIP";
    let node_port = |port: &Value| number(port, "nodePort").filter(|n| *n != 0);
    if cluster {
        c.each(spec, "ports", |c, port| {
            if node_port(port).is_some() {
                c.at("nodePort").forbidden("may not be used when `type` is 'ClusterIP'");
            }
        });
    }
    let mut seen = HashSet::new();
    c.each(spec, "ports", |c, port| {
        if let Some(number) = node_port(port).filter(|n| !seen.insert((text(port, "protocol"), *n))) {
            c.at("nodePort").duplicate(number);
        }
    });
    let mut seen = HashSet::new();
    c.each(spec, "ports", |c, port| {
        let (protocol, number) = (text(port, "protocol"), number(port, "port").unwrap_or(0));
        if !seen.insert((protocol, number)) {
            let shown = object!({
                "Name": "", "Protocol": (protocol), "AppProtocol": null, "Port": (number), "TargetPort": 0,
                "NodePort": 0
            });
            c.here().duplicate(shown);
        }
    });
}

fn source_ranges(c: &mut Check, service: &Value, old: &Value) {
    let spec = service.get("spec").unwrap_or(&Value::Null);
    let balanced = service_type(spec) == "LoadBalancer";
    let rule = |text: &str| address::cidr(text).map(|_| ());
    let ranges = spec.array_at(&["loadBalancerSourceRanges"]);
    if !ranges.is_empty() {
        // Upstream spells this path with a capital.
        c.within("spec.LoadBalancerSourceRanges", |c| {
            if !balanced {
                c.here().forbidden(ONLY_BALANCED);
            }
            let before = old.array_at(&["loadBalancerSourceRanges"]);
            for (i, range) in ranges.iter().enumerate().filter(|(_, range)| !before.contains(range)) {
                c.here().index(i).obeys(range.as_str().unwrap_or_default().trim(), rule);
            }
        });
    } else if let Some(ranges) = meta::annotation(service, RANGES) {
        c.within("metadata.annotations", |c| {
            c.within_key(RANGES, |c| {
                if !balanced {
                    c.here().forbidden(ONLY_BALANCED);
                }
                for range in ranges.split(',').map(str::trim).filter(|_| !ranges.trim().is_empty()) {
                    c.here().obeys(range, rule);
                }
            });
        });
    }
}

fn balancer(c: &mut Check, spec: &Value) {
    let balanced = service_type(spec) == "LoadBalancer";
    if is_set(spec, "allocateLoadBalancerNodePorts") && !balanced {
        c.at("allocateLoadBalancerNodePorts").forbidden(ONLY_BALANCED);
    }
    match spec.str_at(&["loadBalancerClass"]) {
        Some(class) if balanced => c.at("loadBalancerClass").obeys(class, names::qualified),
        Some(_) => c.at("loadBalancerClass").forbidden(ONLY_BALANCED),
        None => {}
    }
}

fn traffic(c: &mut Check, spec: &Value) {
    if is_external(spec) {
        c.require_one_of(spec, "externalTrafficPolicy", &["Cluster", "Local"]);
    } else if let Some(policy) = filled(spec, "externalTrafficPolicy") {
        let detail = "may only be set for externally-accessible services";
        c.at("externalTrafficPolicy").invalid(policy, detail);
    }
    let health = number(spec, "healthCheckNodePort").filter(|n| *n != 0);
    if has_health_port(spec) {
        if health.is_some() {
            c.range(spec, "healthCheckNodePort", 1, 65_535);
        }
    } else if health.is_some() {
        let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        c.at("healthCheckNodePort").invalid(health, detail);
    }
    if matches!(service_type(spec), "NodePort" | "LoadBalancer" | "ClusterIP")
        && !is_set(spec, "internalTrafficPolicy")
    {
        c.at("internalTrafficPolicy").required("");
    }
    c.one_of_if_set(spec, "internalTrafficPolicy", &["Cluster", "Local"]);
    c.one_of_if_set(spec, "trafficDistribution", &["PreferClose", "PreferSameZone", "PreferSameNode"]);
}

/// Checks what a load balancer says of itself.
pub(super) fn status(c: &mut Check, service: &Value, old: &Value) {
    let balanced = service.str_at(&["spec", "type"]) == Some("LoadBalancer");
    c.field(service, "status", |c, status| {
        c.field(status, "loadBalancer", |c, balancer| {
            let before = old.array_at(&["status", "loadBalancer", "ingress"]);
            if !balanced && !balancer.array_at(&["ingress"]).is_empty() {
                return c.at("ingress").forbidden("may only be used when `spec.type` is 'LoadBalancer'");
            }
            c.each(balancer, "ingress", |c, ingress| ingress_rules(c, ingress, before));
        });
    });
}

/// One address of a load balancer; those that were there before may be of older forms.
fn ingress_rules(c: &mut Check, ingress: &Value, before: &[Value]) {
    match (filled(ingress, "ip"), ingress.str_at(&["ipMode"])) {
        (Some(_), None) => c.at("ipMode").required("must be specified when `ip` is set"),
        (None, Some(_)) => c.at("ipMode").forbidden("may not be specified when `ip` is not set"),
        (Some(_), Some(_)) => c.one_of(ingress, "ipMode", &["Proxy", "VIP"]),
        (None, None) => {}
    }
    ingress_names(c, ingress, before);
}

/// The address or name at which something is reached from outside.
pub(in crate::kinds) fn ingress_names(c: &mut Check, ingress: &Value, before: &[Value]) {
    if let Some(ip) = filled(ingress, "ip").filter(|ip| !before.iter().any(|old| text(old, "ip") == *ip)) {
        c.at("ip").obeys(ip, |ip| address::ip(ip).map(|_| ()));
    }
    if let Some(name) = filled(ingress, "hostname") {
        c.at("hostname").obeys(name, names::dns_subdomain);
        if address::ip(name).is_ok() {
            c.at("hostname").invalid(name, "must be a DNS name, not an IP address");
        }
    }
}

/// What the client should be warned of.
pub(super) fn warnings(service: &Value) -> Vec<String> {
    const OTHER: &str = "\"ExternalName\"";
    let spec = service.get("spec").unwrap_or(&Value::Null);
    let external = !spec.array_at(&["externalIPs"]).is_empty();
    warned(|c| {
        if meta::annotation(service, HINTS).is_some() {
            c.warn(format!("annotation {HINTS} is deprecated, please use {MODE} instead"));
        }
        if is_cluster(spec) && !is_headless(spec) {
            c.within("spec", |c| each_address(c, spec, "clusterIPs"));
        }
        if is_headless(spec) {
            for (given, field) in [
                (filled(spec, "loadBalancerIP").is_some(), "loadBalancerIP"),
                (external, "externalIPs"),
                (text(spec, "sessionAffinity") != "None", "SessionAffinity"),
            ] {
                if given {
                    c.warn(format!("spec.{field} is ignored for headless services"));
                }
            }
        }
        c.within("spec", |c| each_address(c, spec, "externalIPs"));
        if external && is_cluster(spec) && !is_headless(spec) {
            c.warn("spec.externalIPs is deprecated and may no longer be implemented in some clusters");
        }
        c.within("spec", |c| {
            warnings::address(c, spec, "loadBalancerIP");
            c.each(spec, "loadBalancerSourceRanges", |c, range| {
                warnings::range_here(c, range.as_str().unwrap_or_default());
            });
        });
        if external && !is_cluster(spec) {
            c.warn(format!("spec.externalIPs is ignored when spec.type is {OTHER}"));
        }
        if is_cluster(spec) && filled(spec, "externalName").is_some() {
            c.warn(format!("spec.externalName is ignored when spec.type is not {OTHER}"));
        }
        if text(spec, "trafficDistribution") == "PreferClose" {
            c.at("spec.trafficDistribution").warn("\"PreferClose\" is deprecated; use \"PreferSameZone\"");
        }
    })
}

fn each_address(c: &mut Check, spec: &Value, list: &str) {
    c.each(spec, list, |c, ip| warnings::address_here(c, ip.as_str().unwrap_or_default()));
}

#[cfg(test)]
mod tests {
    use crate::Value;
    use crate::kinds::check::testing::{json, lines, with};
    use crate::kinds::service::SERVICE;

    fn check(spec: &str, want: &[&str]) {
        let mut service = json(&format!("{{\"spec\": {spec}}}"));
        (SERVICE.defaults)(&mut service, "v1");
        (SERVICE.prepare_create)(&mut service);
        assert_eq!(lines(&(SERVICE.validate)(&service)), want, "{spec}");
    }

    #[test]
    fn ports() {
        check(r#"{"ports": [{"port": 80}]}"#, &[]);
        check(r#"{"ports": [{"port": 80, "targetPort": "http"}]}"#, &[]);
        check("{}", &["spec.ports: Required value"]);
        check(
            r#"{"ports": [{"port": 80, "name": "a"}, {"port": 81}]}"#,
            &["spec.ports[1].name: Required value"],
        );
        check(
            r#"{"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "a"}]}"#,
            &[r#"spec.ports[1].name: Duplicate value: "a""#],
        );
        check(
            r#"{"ports": [{"port": 80, "name": "a"}, {"port": 80, "name": "b"}]}"#,
            &[
                r#"spec.ports[1]: Duplicate value: {"AppProtocol":null,"Name":"","NodePort":0,"Port":80,"Protocol":"TCP","TargetPort":0}"#,
            ],
        );
        check(
            r#"{"ports": [{"port": 0, "targetPort": "A", "protocol": "x", "nodePort": 1}]}"#,
            &[
                "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                r#"spec.ports[0].protocol: Unsupported value: "x": supported values: "SCTP", "TCP", "UDP""#,
                r#"spec.ports[0].targetPort: Invalid value: "A": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"#,
                "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
            ],
        );
        check(
            r#"{"type": "NodePort", "ports": [{"name": "a", "port": 80, "nodePort": 30080}, {"name": "b", "port": 81, "nodePort": 30080}]}"#,
            &["spec.ports[1].nodePort: Duplicate value: 30080"],
        );
    }

    #[test]
    fn types() {
        check(r#"{"clusterIP": "None"}"#, &[]);
        check(
            r#"{"type": "x", "ports": [{"port": 80}]}"#,
            &[
                r#"spec.type: Unsupported value: "x": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort""#,
            ],
        );
        check(r#"{"type": "ExternalName", "externalName": "a.b."}"#, &[]);
        check(
            r#"{"type": "ExternalName", "ipFamilies": ["IPv4"]}"#,
            &[
                "spec.ipFamilies: Forbidden: may not be set for ExternalName services",
                "spec.externalName: Required value",
            ],
        );
        check(
            r#"{"type": "NodePort", "clusterIP": "None", "ports": [{"port": 80}]}"#,
            &[r#"spec.clusterIPs[0]: Invalid value: "None": may not be set to 'None' for NodePort services"#],
        );
        check(
            r#"{"externalTrafficPolicy": "Local", "ports": [{"port": 80}]}"#,
            &[
                r#"spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services"#,
            ],
        );
        check(
            r#"{"type": "LoadBalancer", "loadBalancerClass": "a.b/c", "loadBalancerSourceRanges": ["10.0.0.0/8 "], "ports": [{"port": 80}]}"#,
            &[],
        );
        check(
            r#"{"loadBalancerClass": "a", "loadBalancerSourceRanges": ["x"], "allocateLoadBalancerNodePorts": true, "ports": [{"port": 80}]}"#,
            &[
                "spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
                r#"spec.LoadBalancerSourceRanges[0]: Invalid value: "x": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"#,
                "spec.allocateLoadBalancerNodePorts: Forbidden: may only be used when `type` is 'LoadBalancer'",
                "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'",
            ],
        );
        check(
            r#"{"healthCheckNodePort": 30000, "ports": [{"port": 80}]}"#,
            &[
                "spec.healthCheckNodePort: Invalid value: 30000: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
            ],
        );
        check(
            r#"{"trafficDistribution": "x", "internalTrafficPolicy": "y", "ports": [{"port": 80}]}"#,
            &[
                r#"spec.internalTrafficPolicy: Unsupported value: "y": supported values: "Cluster", "Local""#,
                r#"spec.trafficDistribution: Unsupported value: "x": supported values: "PreferClose", "PreferSameZone", "PreferSameNode""#,
            ],
        );
    }

    #[test]
    fn affinity() {
        check(r#"{"sessionAffinity": "ClientIP", "ports": [{"port": 80}]}"#, &[]);
        check(
            r#"{"sessionAffinity": "x", "ports": [{"port": 80}]}"#,
            &[r#"spec.sessionAffinity: Unsupported value: "x": supported values: "ClientIP", "None""#],
        );
        check(
            r#"{"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86401}}, "ports": [{"port": 80}]}"#,
            &[
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 86401: must be greater than 0 and less than 86400",
            ],
        );
    }

    #[test]
    fn external_addresses() {
        check(r#"{"externalIPs": ["1.2.3.4"], "ports": [{"port": 80}]}"#, &[]);
        check(
            r#"{"externalIPs": ["127.0.0.1", "01.2.3.4"], "ports": [{"port": 80}]}"#,
            &[
                r#"spec.externalIPs[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)"#,
                r#"spec.externalIPs[1]: Invalid value: "01.2.3.4": must not have leading 0s"#,
            ],
        );
    }

    #[test]
    fn load_balancers_report() {
        let base = json(
            r#"{"spec": {"type": "LoadBalancer"}, "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4", "ipMode": "VIP"}]}}}"#,
        );
        let check = |changes: &[(&str, &str)], want: &[&str]| {
            let service = with(&base, changes);
            assert_eq!(lines(&(SERVICE.validate_status)(&service, &Value::Null)), want, "{changes:?}");
        };
        let ingress = "status.loadBalancer.ingress.0";
        check(&[], &[]);
        check(&[(ingress, r#"{"hostname": "a.b"}"#)], &[]);
        check(
            &[(ingress, r#"{"ip": "x", "hostname": "1.2.3.4"}"#)],
            &[
                "status.loadBalancer.ingress[0].ipMode: Required value: must be specified when `ip` is set",
                r#"status.loadBalancer.ingress[0].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"#,
                r#"status.loadBalancer.ingress[0].hostname: Invalid value: "1.2.3.4": must be a DNS name, not an IP address"#,
            ],
        );
        check(
            &[("spec.type", r#""NodePort""#)],
            &["status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'"],
        );
    }

    #[test]
    fn warned_of() {
        let check = |spec: &str, want: &[&str]| {
            assert_eq!((SERVICE.warnings)(&json(&format!("{{\"spec\": {spec}}}")), None), want, "{spec}");
        };
        check(r#"{"type": "ClusterIP", "sessionAffinity": "None"}"#, &[]);
        check(
            r#"{"type": "ClusterIP", "clusterIP": "None", "sessionAffinity": "ClientIP"}"#,
            &["spec.SessionAffinity is ignored for headless services"],
        );
        check(
            r#"{"type": "ClusterIP", "externalName": "a", "trafficDistribution": "PreferClose"}"#,
            &[
                "spec.externalName is ignored when spec.type is not \"ExternalName\"",
                "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"",
            ],
        );
    }
}
