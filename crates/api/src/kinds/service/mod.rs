//! Services.

pub(super) mod rules;
mod update;

use super::Kind;
use super::check::run;
use super::fill::{Given, Row, absent, each, fill, is_unset, text};
use crate::{Value, names, object};

pub(super) const SERVICE: Kind = Kind {
    resource: "services",
    returned_when_deleted: true,
    name: names::dns_label,
    generation: false,
    unconditional_update: true,
    create_on_update: true,
    defaults: |service, _| defaults(service),
    prepare_create,
    prepare_update,
    validate: |service| run(|c| rules::check(c, service, None)),
    validate_update: |service, old| {
        run(|c| {
            update::check(c, service, old);
            rules::check(c, service, Some(old));
        })
    },
    validate_status: |service, old| run(|c| rules::status(c, service, old)),
    warnings: |service, _| rules::warnings(service),
    ..Kind::DEFAULT
};

const ALWAYS: &[Row] = &[
    text("spec!.sessionAffinity", "None"),
    text("spec!.type", "ClusterIP"),
    text("spec.ports[*].protocol", "TCP"),
];

fn defaults(service: &mut Value) {
    fill(service, ALWAYS);
    each(service, "spec", &mut |spec| {
        let affinity = spec.str_at(&["sessionAffinity"]).unwrap_or_default().to_owned();
        match affinity.as_str() {
            "None" => drop(spec.remove_at(&["sessionAffinityConfig"])),
            "ClientIP" if spec.i64_at(&["sessionAffinityConfig", "clientIP", "timeoutSeconds"]).is_none() => {
                spec.set(&["sessionAffinityConfig"], object!({"clientIP": {"timeoutSeconds": 10_800}}));
            }
            _ => {}
        }
        each(spec, "ports[*]", &mut target_port);
        if is_external(spec) {
            fill(spec, &[text("externalTrafficPolicy", "Cluster")]);
        }
        if matches!(service_type(spec), "NodePort" | "LoadBalancer" | "ClusterIP") {
            fill(spec, &[absent("internalTrafficPolicy", Given::Text("Cluster"))]);
        }
        if service_type(spec) == "LoadBalancer" {
            fill(spec, &[absent("allocateLoadBalancerNodePorts", Given::Bool(true))]);
        }
    });
    if service.str_at(&["spec", "type"]) == Some("LoadBalancer") {
        each(service, "status.loadBalancer.ingress[*]", &mut |ingress| {
            if !is_unset(ingress, "ip") {
                fill(ingress, &[absent("ipMode", Given::Text("VIP"))]);
            }
        });
    }
}

fn target_port(port: &mut Value) {
    if let (true, Some(number)) = (is_unset(port, "targetPort"), port.get("port").cloned()) {
        port.set(&["targetPort"], number);
    }
}

fn service_type(spec: &Value) -> &str {
    spec.str_at(&["type"]).unwrap_or_default()
}

/// Whether traffic from outside the cluster reaches it by its own doing.
fn is_external(spec: &Value) -> bool {
    match service_type(spec) {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => !spec.array_at(&["externalIPs"]).is_empty(),
        _ => false,
    }
}

fn has_node_ports(spec: &Value) -> bool {
    matches!(service_type(spec), "NodePort" | "LoadBalancer")
}

fn has_health_port(spec: &Value) -> bool {
    service_type(spec) == "LoadBalancer" && spec.str_at(&["externalTrafficPolicy"]) == Some("Local")
}

fn is_cluster(spec: &Value) -> bool {
    service_type(spec) != "ExternalName"
}

fn prepare_create(service: &mut Value) {
    if service.as_object().is_none() {
        return;
    }
    service.set(&["status"], object!({"loadBalancer": {}}));
    each(service, "spec", &mut |spec| {
        if !is_unset(spec, "clusterIP") && spec.array_at(&["clusterIPs"]).is_empty() {
            let address = spec.get("clusterIP").cloned().unwrap_or_default();
            spec.set(&["clusterIPs"], vec![address]);
        }
    });
}

fn prepare_update(service: &mut Value, old: &Value) {
    let (Some(new), Some(old)) = (service.get_mut("spec"), old.get("spec")) else { return };
    if new.as_object().is_none() {
        return;
    }
    keep_allocated(new, old);
    pair_cluster_addresses(new, old);
    drop_of_other_type(new, old);
    if service_type(new) != "LoadBalancer" && service.get("status").is_some() {
        service.set(&["status", "loadBalancer"], Value::object());
    }
}

/// Carries over what was allocated and the client left out.
fn keep_allocated(new: &mut Value, old: &Value) {
    if is_cluster(old) && is_cluster(new) {
        if is_unset(new, "clusterIP") {
            copy(new, old, "clusterIP");
        }
        if new.array_at(&["clusterIPs"]).is_empty() {
            copy(new, old, "clusterIPs");
        }
    }
    if has_node_ports(old) && has_node_ports(new) {
        let used: Vec<i64> = node_ports(new).collect();
        each(new, "ports[*]", &mut |port| {
            let same_name = |other: &&Value| {
                let name = |v: &Value| v.str_at(&["name"]).unwrap_or_default().to_owned();
                name(other) == name(port)
            };
            let before =
                old.array_at(&["ports"]).iter().find(same_name).and_then(|p| p.i64_at(&["nodePort"]));
            let kept = before.filter(|n| !used.contains(n) && is_unset(port, "nodePort"));
            if let (Some(number), Some(port)) = (kept, port.as_object_mut()) {
                port.insert("nodePort", number);
            }
        });
    }
    if has_health_port(old) && has_health_port(new) && is_unset(new, "healthCheckNodePort") {
        copy(new, old, "healthCheckNodePort");
    }
}

fn copy(new: &mut Value, old: &Value, field: &str) {
    if let Some(value) = old.get(field) {
        new.set(&[field], value.clone());
    }
}

fn node_ports(spec: &Value) -> impl Iterator<Item = i64> {
    spec.array_at(&["ports"]).iter().filter_map(|p| p.i64_at(&["nodePort"])).filter(|n| *n != 0)
}

/// Lets `clusterIPs` follow a `clusterIP` that a client changed alone.
fn pair_cluster_addresses(new: &mut Value, old: &Value) {
    let text = |spec: &Value| spec.str_at(&["clusterIP"]).unwrap_or_default().to_owned();
    if text(new) == text(old) || new.get("clusterIPs") != old.get("clusterIPs") {
        return;
    }
    match text(new) {
        address if address.is_empty() => drop(new.remove_at(&["clusterIPs"])),
        address => new.set(&["clusterIPs"], vec![address]),
    }
}

/// Drops what a service of another type had and the client left as it was.
fn drop_of_other_type(new: &mut Value, old: &Value) {
    let left = |had: fn(&Value) -> bool, new: &Value| had(old) && !had(new);
    let is_balanced: fn(&Value) -> bool = |spec| service_type(spec) == "LoadBalancer";
    let mut gone: Vec<&str> = Vec::new();
    if left(is_cluster, new) {
        gone.extend(["ipFamilies", "ipFamilyPolicy"]);
        if ["clusterIP", "clusterIPs"].iter().all(|f| new.get(f) == old.get(f)) {
            gone.extend(["clusterIP", "clusterIPs"]);
        }
    }
    if left(has_health_port, new) {
        gone.push("healthCheckNodePort");
    }
    if left(is_balanced, new) {
        gone.extend(["allocateLoadBalancerNodePorts", "loadBalancerClass"]);
    }
    if left(is_external, new) {
        gone.push("externalTrafficPolicy");
    }
    if left(has_node_ports, new) && node_ports(new).all(|n| node_ports(old).any(|o| o == n)) {
        each(new, "ports[*]", &mut |port| drop(port.remove_at(&["nodePort"])));
    }
    for field in gone {
        if new.get(field) == old.get(field) {
            drop(new.remove_at(&[field]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_follow_the_type() {
        let check = |spec: Value, want: Value| {
            let mut service = object!({"spec": (spec)});
            defaults(&mut service);
            assert_eq!(service.get("spec"), Some(&want));
        };
        check(
            object!({"ports": [{"port": 80}]}),
            object!({
                "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
                "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}]
            }),
        );
        check(
            object!({"type": "LoadBalancer", "sessionAffinity": "ClientIP"}),
            object!({
                "type": "LoadBalancer", "sessionAffinity": "ClientIP", "internalTrafficPolicy": "Cluster",
                "externalTrafficPolicy": "Cluster", "allocateLoadBalancerNodePorts": true,
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10_800}}
            }),
        );
        check(
            object!({"type": "ExternalName", "externalName": "a.b", "sessionAffinityConfig": {}}),
            object!({"type": "ExternalName", "externalName": "a.b", "sessionAffinity": "None"}),
        );
    }

    #[test]
    fn updates_keep_what_was_allocated() {
        let check = |new: Value, old: Value, want: Value| {
            let mut service = object!({"spec": (new)});
            prepare_update(&mut service, &object!({"spec": (old)}));
            assert_eq!(service.get("spec"), Some(&want));
        };
        let node_port = object!({
            "type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
            "externalTrafficPolicy": "Cluster", "ports": [{"port": 80, "nodePort": 30_080}]
        });
        check(
            object!({"type": "NodePort", "externalTrafficPolicy": "Cluster", "ports": [{"port": 80}]}),
            node_port.clone(),
            node_port.clone(),
        );
        let mut to_cluster = node_port.clone();
        to_cluster.set(&["type"], "ClusterIP");
        check(
            to_cluster,
            node_port.clone(),
            object!({"type": "ClusterIP", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ports": [{"port": 80}]}),
        );
        let mut to_name = node_port.clone();
        to_name.set(&["type"], "ExternalName");
        check(to_name, node_port.clone(), object!({"type": "ExternalName", "ports": [{"port": 80}]}));
        let mut moved = node_port.clone();
        moved.set(&["clusterIP"], "10.0.0.2");
        prepare_update(&mut object!({"spec": 1}), &object!({"spec": {}}));
        let mut want = moved.clone();
        want.set(&["clusterIPs"], vec!["10.0.0.2"]);
        check(moved, node_port, want);
    }
}
