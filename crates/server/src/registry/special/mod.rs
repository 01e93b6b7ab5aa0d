//! Kinds that do more with other objects than a custom resource does: one file each.

mod api_service;
mod components;
mod definition;
mod eviction;
mod flow_schema;
mod namespace;
mod pod;
mod policies;
mod reviews;
mod roles;
mod service;
mod signing;
mod token_request;
mod webhooks;

use xebec_api::Status;

use super::strategy::Strategy;
use super::table::Served;
use crate::admission::policy::Kind;
use crate::core::Core;
use crate::http::reply::Reply;
use crate::http::route::{Target, Verb};
use crate::serve::Incoming;

pub use definition::{follow as follow_definitions, refresh_table};

/// The strategy of a kind that has one of its own.
#[must_use]
pub fn strategy(group: &str, resource: &str) -> Option<&'static dyn Strategy> {
    Some(match (group, resource) {
        ("", "namespaces") => &namespace::Namespaces,
        ("", "pods") => &pod::Pods,
        ("", "services") => &service::Services,
        (
            "admissionregistration.k8s.io",
            "mutatingwebhookconfigurations" | "validatingwebhookconfigurations",
        ) => &webhooks::Configurations,
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies") => &policies::Policies(Kind::Mutating),
        ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings") => {
            &policies::Bindings(Kind::Mutating)
        }
        ("admissionregistration.k8s.io", "validatingadmissionpolicies") => {
            &policies::Policies(Kind::Validating)
        }
        ("admissionregistration.k8s.io", "validatingadmissionpolicybindings") => {
            &policies::Bindings(Kind::Validating)
        }
        ("apiregistration.k8s.io", "apiservices") => &api_service::ApiServices,
        ("certificates.k8s.io", "certificatesigningrequests") => &signing::SigningRequests,
        ("apiextensions.k8s.io", "customresourcedefinitions") => &definition::Definitions,
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => &flow_schema::FlowSchemas,
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => &flow_schema::Levels,
        ("rbac.authorization.k8s.io", "roles") => &roles::Roles("roles"),
        ("rbac.authorization.k8s.io", "clusterroles") => &roles::Roles("clusterroles"),
        ("rbac.authorization.k8s.io", "rolebindings") => &roles::Bindings("rolebindings"),
        ("rbac.authorization.k8s.io", "clusterrolebindings") => &roles::Bindings("clusterrolebindings"),
        _ => return None,
    })
}

/// Answers requests on resources that are not stored: reviews, bindings, component statuses. `None`: it is stored.
pub async fn instead(
    core: &Core,
    incoming: &mut Incoming,
    verb: Verb,
    target: &Target,
    served: &Served,
) -> Option<Result<Reply, Status>> {
    match (target.group.as_str(), target.resource.as_str()) {
        ("authentication.k8s.io" | "authorization.k8s.io", _) => {
            Some(reviews::create(core, incoming, target, served).await)
        }
        ("", "bindings") => Some(pod::bind_by_name(core, incoming, target).await),
        ("", "componentstatuses") => Some(components::status(core, &incoming.context, verb, target, served)),
        _ => None,
    }
}

pub(crate) use eviction::evict;
pub(crate) use pod::{bind, read_kind, set_condition};
pub(crate) use token_request::request_token;
