//! EndpointSlices for Endpoints that a user keeps for a Service without a selector. Pure.
//!
//! Addresses of one family that serve the same ports stand in one slice, at most [`CAPACITY`] of them; those beyond, and
//! what is no address, are left out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointSlice};

use super::backends::{ResolvedPort, wanted};
use super::legacy::OVER_CAPACITY;
use super::slices::{Contents, Family, MANAGED_BY_LABEL, Owner, Plan, ports_of};
use crate::kinds::SERVICE_NAME_LABEL;
use crate::ownership::controller_reference;
use crate::runtime::object::is_deleting;

/// The value of [`MANAGED_BY_LABEL`] on mirrored slices.
pub const MANAGED_BY: &str = "endpointslicemirroring-controller.k8s.io";
/// The label by which Endpoints are kept from being mirrored.
pub const SKIP_LABEL: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Endpoints that some programs elect a leader with.
const LEADER_ANNOTATION: &str = "control-plane.alpha.kubernetes.io/leader";
/// Annotations that are about the Endpoints object itself.
const OWN_ANNOTATIONS: [&str; 3] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "endpoints.kubernetes.io/last-change-trigger-time",
    OVER_CAPACITY,
];
/// The most endpoints in one slice.
pub const CAPACITY: usize = 1000;

/// Plans the slices that mirror `endpoints`; `existing` are those that do by now.
pub fn plan(
    service: Option<&Service>,
    endpoints: Option<&Endpoints>,
    existing: &[Arc<EndpointSlice>],
) -> Plan {
    let existing = existing.iter().filter(|slice| !is_deleting(&slice.metadata));
    let mut plan = Plan::default();
    let Some(endpoints) = endpoints.filter(|e| service.is_some_and(is_mirrored) && may_be_mirrored(e)) else {
        existing.for_each(|slice| plan.delete(slice));
        return plan;
    };
    let mut desired = contents(endpoints);
    let owner = owner(endpoints);
    let mut spare = Vec::new();
    for slice in existing {
        let key = (slice.address_type.clone(), ports_of(slice));
        match desired.remove(&key) {
            Some(contents) => plan.patch(&owner, slice, &contents),
            None => spare.push(slice),
        }
    }
    plan.create.extend(desired.into_values().map(|contents| owner.build(&contents)));
    spare.into_iter().for_each(|slice| plan.delete(slice));
    plan
}

/// Whether nobody but its Endpoints says what stands behind a Service.
fn is_mirrored(service: &Service) -> bool {
    let external = service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("ExternalName");
    !is_deleting(&service.metadata) && !external && wanted(service).is_none()
}

fn may_be_mirrored(endpoints: &Endpoints) -> bool {
    let meta = &endpoints.metadata;
    let skipped = meta.labels.as_ref().and_then(|labels| labels.get(SKIP_LABEL)).is_some_and(|v| v == "true");
    let elects =
        meta.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(LEADER_ANNOTATION));
    !is_deleting(meta) && !skipped && !elects
}

fn owner(endpoints: &Endpoints) -> Owner<'_> {
    let meta = &endpoints.metadata;
    let mut labels = meta.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME_LABEL.to_owned(), meta.name.clone().unwrap_or_default());
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
    let mut annotations = meta.annotations.clone().unwrap_or_default();
    annotations.retain(|name, _| !OWN_ANNOTATIONS.contains(&name.as_str()));
    Owner { meta, labels, annotations: Some(annotations), reference: controller_reference(endpoints) }
}

type ByPorts = BTreeMap<(String, Vec<ResolvedPort>), Contents>;

fn contents(endpoints: &Endpoints) -> ByPorts {
    let mut all = ByPorts::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ports = ports(subset);
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let not_ready = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
        for (address, ready) in ready.chain(not_ready) {
            if address.ip.parse::<IpAddr>().is_err() {
                continue;
            }
            let family = Family::of(&address.ip);
            let slice = all.entry((family.name().to_owned(), ports.clone())).or_insert_with(|| Contents {
                family,
                ports: ports.clone(),
                endpoints: Vec::new(),
            });
            if slice.endpoints.len() < CAPACITY {
                slice.endpoints.push(endpoint(address, ready));
            }
        }
    }
    all
}

fn ports(subset: &EndpointSubset) -> Vec<ResolvedPort> {
    let ports = subset.ports.iter().flatten().map(|port| ResolvedPort {
        name: port.name.clone().unwrap_or_default(),
        number: port.port,
        protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
        app_protocol: port.app_protocol.clone(),
    });
    let mut ports: Vec<_> = ports.collect();
    ports.sort();
    ports
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone().filter(|name| !name.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ServiceSpec;
    use serde_json::json;

    use super::*;

    fn service(selector: &[(&str, &str)]) -> Service {
        let selector = selector.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let spec = ServiceSpec { selector: Some(selector), ..ServiceSpec::default() };
        Service { spec: Some(spec), ..Service::default() }
    }

    fn endpoints(text: serde_json::Value) -> Endpoints {
        let mut endpoints: Endpoints = serde_json::from_value(text).expect("Endpoints");
        endpoints.metadata.name = Some("db".into());
        endpoints.metadata.uid = Some("u".into());
        endpoints
    }

    fn simple(ip: &str, port: i32) -> Endpoints {
        endpoints(json!({"subsets": [{"addresses": [{"ip": ip}], "ports": [{"port": port}]}]}))
    }

    fn stored(plan: Plan) -> Vec<Arc<EndpointSlice>> {
        plan.create.into_iter().map(Arc::new).collect()
    }

    #[test]
    fn slices_say_what_the_endpoints_say() {
        let both = endpoints(json!({
            "metadata": {"labels": {"a": "b"}, "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": "{}", "c": "d"
            }},
            "subsets": [
                {"addresses": [{"ip": "10.0.0.1", "hostname": "one"}, {"ip": "fd00::1"}, {"ip": "none"}],
                 "notReadyAddresses": [{"ip": "10.0.0.2"}], "ports": [{"port": 80, "name": "http"}]},
                {"addresses": [{"ip": "10.0.0.3"}], "ports": [{"port": 80, "name": "http", "protocol": "TCP"}]},
            ]
        }));
        let slices = plan(Some(&service(&[])), Some(&both), &[]).create;
        let [v4, v6] = slices.as_slice() else { panic!("{slices:?}") };
        let meta = serde_json::to_value(&v4.metadata).expect("metadata");
        assert_eq!(
            meta["labels"],
            json!({
                "a": "b", "kubernetes.io/service-name": "db",
                "endpointslice.kubernetes.io/managed-by": "endpointslicemirroring-controller.k8s.io"
            })
        );
        assert_eq!(meta["annotations"], json!({"c": "d"}));
        assert_eq!(meta["ownerReferences"][0]["kind"], "Endpoints");
        assert_eq!((v4.address_type.as_str(), v6.address_type.as_str()), ("IPv4", "IPv6"));
        let seen: Vec<_> = v4
            .endpoints
            .iter()
            .flatten()
            .map(|endpoint| {
                let ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready);
                (endpoint.addresses[0].as_str(), ready, endpoint.hostname.as_deref())
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("10.0.0.1", Some(true), Some("one")),
                ("10.0.0.2", Some(false), None),
                ("10.0.0.3", Some(true), None)
            ]
        );
    }

    #[test]
    fn slices_follow_and_go() {
        let none = service(&[]);
        let first = stored(plan(Some(&none), Some(&simple("10.0.0.1", 80)), &[]));
        let same = plan(Some(&none), Some(&simple("10.0.0.1", 80)), &first);
        assert!(same.create.is_empty() && same.patch.is_empty() && same.delete.is_empty(), "{same:?}");
        let moved = plan(Some(&none), Some(&simple("10.0.0.2", 80)), &first);
        assert_eq!((moved.create.len(), moved.patch.len(), moved.delete.len()), (0, 1, 0));
        assert_eq!(moved.patch[0].1["endpoints"][0]["addresses"], json!(["10.0.0.2"]));
        let other_port = plan(Some(&none), Some(&simple("10.0.0.1", 81)), &first);
        assert_eq!((other_port.create.len(), other_port.patch.len(), other_port.delete.len()), (1, 0, 1));
        let mut skipped = simple("10.0.0.1", 80);
        skipped.metadata.labels = Some([(SKIP_LABEL.to_owned(), "true".to_owned())].into());
        let chosen = service(&[("app", "db")]);
        for (what, service, endpoints) in [
            ("no Service", None, Some(simple("10.0.0.1", 80))),
            ("no Endpoints", Some(&none), None),
            ("a Service that finds its pods", Some(&chosen), Some(simple("10.0.0.1", 80))),
            ("Endpoints that are not to be mirrored", Some(&none), Some(skipped)),
        ] {
            let gone = plan(service, endpoints.as_ref(), &first);
            assert_eq!((gone.create.len(), gone.patch.len(), gone.delete.len()), (0, 0, 1), "{what}");
        }
    }
}
