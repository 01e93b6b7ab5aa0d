//! What Services get, case by case.

#![allow(clippy::needless_pass_by_value, reason = "cases read better as literals")]

use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::backends::{backends, wanted};
use super::legacy;
use super::slices::{CAPACITY, Plan, plan};
use crate::pod::PodRecord;
use crate::pod::tests::pod_from;
use crate::runtime::writer::to_value;

fn service(spec: Value) -> Service {
    let mut whole = json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "s", "labels": {"team": "a"}},
        "spec": {"selector": {"app": "web"}, "clusterIP": "10.96.0.1", "ports": [{"port": 80}]},
    });
    for (key, value) in spec.as_object().unwrap() {
        whole["spec"][key] = value.clone();
    }
    serde_json::from_value(whole).unwrap()
}

/// `name` and flags: `n` not ready, `t` going, `f` finished, `-` no address, `6` both families, `o` other port,
/// `x` on a node that is gone, `h` with hostname.
fn pod(name: &str, flags: &str) -> Arc<PodRecord> {
    let has = |flag: char| flags.contains(flag);
    let ready = if has('n') { "False" } else { "True" };
    let ip = format!("10.0.0.{}", name.trim_start_matches(char::is_alphabetic));
    let mut status = json!({"phase": if has('f') { "Failed" } else { "Running" },
                            "conditions": [{"type": "Ready", "status": ready}]});
    if !has('-') {
        status["podIP"] = json!(ip);
    }
    if has('6') {
        status["podIPs"] = json!([{"ip": ip}, {"ip": format!("fd00::{name}")}]);
    }
    let mut metadata = json!({"name": name, "namespace": "ns", "uid": name, "labels": {"app": "web"}});
    if has('t') {
        metadata["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    let port = if has('o') { 9090 } else { 8080 };
    let mut spec = json!({"nodeName": if has('x') { "gone" } else { "n1" },
                          "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": port}]}]});
    if has('h') {
        spec["hostname"] = json!("first");
        spec["subdomain"] = json!("web");
    }
    Arc::new(PodRecord::of(&pod_from(json!({"metadata": metadata, "spec": spec, "status": status}))))
}

fn pods(list: &[&str]) -> Vec<Arc<PodRecord>> {
    let split = |text: &&str| {
        let (name, flags) = text.split_once(' ').unwrap_or((text, ""));
        pod(name, flags)
    };
    list.iter().map(split).collect()
}

fn zone_of(node: &str) -> Option<Option<String>> {
    (node == "n1").then(|| Some("z1".to_owned()))
}

fn plan_for(service: &Service, pods: &[Arc<PodRecord>], existing: &[Arc<EndpointSlice>]) -> Plan {
    plan(service, &backends(service, pods), &zone_of, existing)
}

/// As the server would hold them after the plan.
fn carried_out(plan: &Plan, existing: &[Arc<EndpointSlice>], serial: &mut u32) -> Vec<Arc<EndpointSlice>> {
    let mut slices: Vec<Value> = existing.iter().map(|slice| to_value(&**slice)).collect();
    slices.retain(|slice| !plan.delete.iter().any(|(key, _)| slice["metadata"]["name"] == key.name()));
    for (key, patch) in &plan.patch {
        let slice = slices.iter_mut().find(|slice| slice["metadata"]["name"] == key.name()).unwrap();
        for list in ["endpoints", "ports"] {
            if let Some(changed) = patch.get(list) {
                slice[list] = changed.clone();
            }
        }
    }
    for created in &plan.create {
        *serial += 1;
        let mut slice = to_value(created);
        slice["metadata"]["name"] = json!(format!("web-{serial}"));
        slices.push(slice);
    }
    slices.into_iter().map(|slice| Arc::new(serde_json::from_value(slice).unwrap())).collect()
}

/// `family ports: address(conditions)...` of each slice, `R` ready, `S` serving, `T` terminating.
fn describe(slices: &[Arc<EndpointSlice>]) -> Vec<String> {
    let endpoint = |endpoint: &k8s_openapi::api::discovery::v1::Endpoint| {
        let conditions = endpoint.conditions.clone().unwrap();
        let flag = |set: Option<bool>, letter: &'static str| if set == Some(true) { letter } else { "" };
        let flags =
            [flag(conditions.ready, "R"), flag(conditions.serving, "S"), flag(conditions.terminating, "T")];
        format!("{}{}", endpoint.addresses.join("+"), flags.concat())
    };
    let slice = |slice: &Arc<EndpointSlice>| {
        let ports = slice.ports.iter().flatten().map(|port| port.port.unwrap().to_string());
        let endpoints = slice.endpoints.iter().flatten().map(endpoint);
        let (ports, endpoints) =
            (ports.collect::<Vec<_>>().join(","), endpoints.collect::<Vec<_>>().join(" "));
        format!("{} {ports}: {endpoints}", slice.address_type)
    };
    slices.iter().map(slice).collect()
}

#[test]
fn slices_hold_what_the_service_selects() {
    let check = |spec: Value, list: &[&str], expected: &[&str]| {
        let service = service(spec.clone());
        let plan = plan_for(&service, &pods(list), &[]);
        assert_eq!(describe(&carried_out(&plan, &[], &mut 0)), expected, "{spec} {list:?}");
    };
    let named = || json!({"ports": [{"name": "web", "port": 80, "targetPort": "http"}]});
    check(json!({}), &[], &["IPv4 : "]);
    check(json!({}), &["p1"], &["IPv4 80: 10.0.0.1RS"]);
    check(json!({"ports": [{"port": 80, "targetPort": 81}]}), &["p1"], &["IPv4 81: 10.0.0.1RS"]);
    check(
        json!({}),
        &["p1 n", "p2 t", "p3 nt", "p4 f", "p5 -", "p6 x"],
        &["IPv4 80: 10.0.0.1 10.0.0.2ST 10.0.0.3T"],
    );
    check(
        json!({"publishNotReadyAddresses": true}),
        &["p1 n", "p2 t", "p3 x"],
        &["IPv4 80: 10.0.0.1R 10.0.0.2RST 10.0.0.3RS"],
    );
    check(named(), &["p1", "p2 o"], &["IPv4 8080: 10.0.0.1RS", "IPv4 9090: 10.0.0.2RS"]);
    check(json!({"ports": [{"port": 80, "targetPort": "unknown"}]}), &["p1"], &["IPv4 : 10.0.0.1RS"]);
    check(json!({"clusterIP": "None", "ports": null}), &["p1"], &["IPv4 : 10.0.0.1RS"]);
    let both = json!({"ipFamilies": ["IPv4", "IPv6"]});
    check(both, &["p1 6", "p2"], &["IPv4 80: 10.0.0.1RS 10.0.0.2RS", "IPv6 80: fd00::p1RS"]);
    check(json!({"ipFamilies": ["IPv6"]}), &["p1"], &["IPv6 : "]);
}

#[test]
fn slices_say_whose_they_are() {
    let service = service(json!({"clusterIP": "None"}));
    let plan = plan_for(&service, &pods(&["p1 h"]), &[]);
    let slice = to_value(&plan.create[0]);
    assert_eq!(slice["metadata"]["generateName"], "web-");
    assert_eq!(
        slice["metadata"]["labels"],
        json!({"team": "a", "kubernetes.io/service-name": "web", "service.kubernetes.io/headless": "",
               "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"})
    );
    assert_eq!(slice["metadata"]["ownerReferences"][0]["uid"], "s");
    let endpoint = &slice["endpoints"][0];
    assert_eq!((&endpoint["hostname"], &endpoint["zone"]), (&json!("first"), &json!("z1")));
    assert_eq!(endpoint["targetRef"], json!({"kind": "Pod", "name": "p1", "namespace": "ns", "uid": "p1"}));
}

#[test]
fn changes_are_few_and_lead_to_rest() {
    let service = service(json!({}));
    let mut serial = 0;
    let mut slices = Vec::new();
    let mut step = |pods: &[Arc<PodRecord>], create: usize, patch: usize, delete: usize| {
        let plan = plan_for(&service, pods, &slices);
        let counts = (plan.create.len(), plan.patch.len(), plan.delete.len());
        assert_eq!(counts, (create, patch, delete), "for {} pods", pods.len());
        slices = carried_out(&plan, &slices, &mut serial);
        let sizes: Vec<_> = slices.iter().map(|slice| slice.endpoints.iter().flatten().count()).collect();
        assert_eq!(sizes.iter().sum::<usize>(), pods.len());
        assert!(sizes.iter().all(|size| *size <= CAPACITY));
        let again = plan_for(&service, pods, &slices);
        assert!(again.create.is_empty() && again.patch.is_empty() && again.delete.is_empty(), "no rest");
    };
    let many: Vec<_> = (1..=250).map(|index| pod(&format!("p{index}"), "")).collect();
    step(&[], 1, 0, 0);
    step(&many[..1], 0, 1, 0);
    step(&many[..100], 0, 1, 0);
    step(&many[..250], 2, 0, 0);
    step(&many[1..250], 0, 1, 0);
    step(&many[..250], 0, 1, 0);
    let mut one_unready = many.clone();
    one_unready[120] = pod("p121", "n");
    step(&one_unready, 0, 1, 0);
    step(&[], 0, 1, 2);
}

#[test]
fn some_services_are_left_alone() {
    let check = |spec: Value, kept: bool| {
        assert_eq!(wanted(&service(spec.clone())).is_some(), kept, "{spec}");
    };
    check(json!({}), true);
    check(json!({"selector": null}), false);
    check(json!({"selector": {}}), false);
    check(json!({"type": "ExternalName"}), false);
}

#[test]
fn endpoints_group_addresses_by_port() {
    let check = |spec: Value, list: &[&str], expected: &[&str]| {
        let service = service(spec.clone());
        let endpoints = legacy::desired(&service, &backends(&service, &pods(list)));
        let ips = |addresses: &Option<Vec<k8s_openapi::api::core::v1::EndpointAddress>>| {
            addresses.iter().flatten().map(|address| address.ip.clone()).collect::<Vec<_>>().join(",")
        };
        let described: Vec<_> = endpoints
            .subsets
            .iter()
            .flatten()
            .map(|subset| {
                let ports = subset
                    .ports
                    .iter()
                    .flatten()
                    .map(|port| port.port.to_string())
                    .collect::<Vec<_>>()
                    .join(",");
                format!("{ports}: {} not {}", ips(&subset.addresses), ips(&subset.not_ready_addresses))
            })
            .collect();
        assert_eq!(described, expected, "{spec} {list:?}");
        assert!(legacy::is_current(&endpoints, &endpoints));
    };
    check(json!({}), &[], &[]);
    check(json!({}), &["p1", "p2 n", "p3 t", "p4 x"], &["80: 10.0.0.1,10.0.0.4 not 10.0.0.2"]);
    check(json!({"publishNotReadyAddresses": true}), &["p2 n", "p3 t"], &["80: 10.0.0.2,10.0.0.3 not "]);
    let named =
        json!({"ports": [{"name": "a", "port": 80, "targetPort": "http"}, {"name": "b", "port": 81}]});
    let expected = ["8080: 10.0.0.1 not ", "81: 10.0.0.1,10.0.0.2 not ", "9090: 10.0.0.2 not "];
    check(named, &["p1", "p2 o"], &expected);
    check(json!({"clusterIP": "None", "ports": null}), &["p1"], &[": 10.0.0.1 not "]);
}
