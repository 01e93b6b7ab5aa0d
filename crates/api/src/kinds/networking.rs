//! The group `networking.k8s.io`: Ingresses, network policies, address objects.

use super::Kind;
use super::fill::{Given, absent, fill};
use crate::Value;

const NETWORKING: Kind = Kind { group: "networking.k8s.io", unconditional_update: true, ..Kind::DEFAULT };

pub(super) const INGRESS: Kind = Kind { resource: "ingresses", ..NETWORKING };

pub(super) const INGRESS_CLASS: Kind = Kind {
    resource: "ingressclasses",
    defaults: |object, _| fill(object, &[absent("spec.parameters.scope", Given::Text("Cluster"))]),
    ..NETWORKING
};

pub(super) const NETWORK_POLICY: Kind =
    Kind { resource: "networkpolicies", defaults: |object, _| policy_defaults(object), ..NETWORKING };

pub(super) const IP_ADDRESS: Kind = Kind { resource: "ipaddresses", generation: false, ..NETWORKING };

pub(super) const SERVICE_CIDR: Kind = Kind { resource: "servicecidrs", generation: false, ..NETWORKING };

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

#[cfg(test)]
mod tests {
    use super::*;
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
}
