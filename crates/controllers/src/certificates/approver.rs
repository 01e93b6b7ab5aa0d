//! Approves what nodes ask for themselves: their client certificates, where a role allows them `create` on
//! `certificatesigningrequests/selfnodeclient`, or whoever asks for them on `certificatesigningrequests/nodeclient`.

use std::sync::Arc;

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use kube::Resource as _;
use kube::api::PostParams;
use kube::core::Request;

use super::request::{Asked, fault, usages};
use super::{APPROVED, DENIED, KUBELET_CLIENT, has, is_issued};
use crate::context::Context;
use crate::permissions::{READ, Role, allow};
use crate::runtime::error::{ApiError, ReconcileError};
use crate::runtime::informer::Informer;
use crate::runtime::object::ObjectKey;
use crate::runtime::queue::WorkQueue;
use crate::runtime::runner::{Controller, Next};
use crate::runtime::writer::{Writes, api_error, gone_is_fine};

/// What the approver may do.
pub const APPROVER_ROLE: Role = Role {
    controller: "csrapproving",
    permissions: &[
        allow("certificates.k8s.io", &["certificatesigningrequests"], READ),
        allow("certificates.k8s.io", &["certificatesigningrequests/approval"], &["update"]),
        allow("certificates.k8s.io", &["signers"], &["approve"]),
        allow("authorization.k8s.io", &["subjectaccessreviews"], &["create"]),
    ],
};

/// A request that a node may be allowed to have approved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Recognized {
    /// The subresource that the asker needs the verb `create` on.
    subresource: &'static str,
    message: &'static str,
}

const SELF: Recognized = Recognized {
    subresource: "selfnodeclient",
    message: "Auto approving self kubelet client certificate after SubjectAccessReview.",
};
const OTHER: Recognized = Recognized {
    subresource: "nodeclient",
    message: "Auto approving kubelet client certificate after SubjectAccessReview.",
};

/// By what the request may be approved, in this order.
fn recognize(request: &CertificateSigningRequest) -> &'static [Recognized] {
    let is_open = !is_issued(request) && !has(request, APPROVED) && !has(request, DENIED);
    if !is_open || request.spec.signer_name != KUBELET_CLIENT {
        return &[];
    }
    let Some(asked) = Asked::read(&request.spec.request.0) else { return &[] };
    if fault(KUBELET_CLIENT, &asked, &usages(request)).is_some() {
        return &[];
    }
    let is_self = request.spec.username.as_deref() == Some(&asked.common_name);
    if is_self { &[SELF, OTHER] } else { &[OTHER] }
}

/// Approves requests of nodes.
pub struct Approver {
    requests: Informer<CertificateSigningRequest>,
    queue: Arc<WorkQueue<ObjectKey>>,
}

impl Approver {
    /// Wires the watch to the queue.
    pub fn new(context: &Context) -> Arc<Self> {
        let controller = Arc::new(Self { requests: context.informers.get(), queue: Arc::default() });
        super::watch(&controller.requests, &controller.queue);
        controller
    }
}

impl Controller for Approver {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        APPROVER_ROLE.controller
    }

    fn queue(&self) -> Arc<WorkQueue<ObjectKey>> {
        Arc::clone(&self.queue)
    }

    async fn synced(&self) {
        self.requests.synced().await;
    }

    async fn reconcile(&self, key: &ObjectKey, writes: &Writes) -> Result<Next, ReconcileError> {
        let Some(request) = self.requests.get(key) else { return Ok(Next::Wake) };
        for recognized in recognize(&request) {
            if may(&request, recognized.subresource, writes).await? {
                let approved = approved(&request, recognized.message);
                let written = writes.untracked().replace_subresource(key, "approval", &approved).await;
                gone_is_fine(written)?;
                break;
            }
        }
        Ok(Next::Wake)
    }
}

fn approved(request: &CertificateSigningRequest, message: &str) -> CertificateSigningRequest {
    let mut request = request.clone();
    let conditions = request.status.get_or_insert_default().conditions.get_or_insert_default();
    conditions.push(CertificateSigningRequestCondition {
        type_: APPROVED.to_owned(),
        status: "True".to_owned(),
        reason: Some("AutoApproved".to_owned()),
        message: Some(message.to_owned()),
        ..CertificateSigningRequestCondition::default()
    });
    request
}

/// Whether whoever sent the request may have it approved.
async fn may(
    request: &CertificateSigningRequest,
    subresource: &str,
    writes: &Writes,
) -> Result<bool, ApiError> {
    let spec = &request.spec;
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: spec.username.clone(),
            uid: spec.uid.clone(),
            groups: spec.groups.clone(),
            extra: spec.extra.clone(),
            resource_attributes: Some(ResourceAttributes {
                group: Some("certificates.k8s.io".to_owned()),
                resource: Some("certificatesigningrequests".to_owned()),
                subresource: Some(subresource.to_owned()),
                verb: Some("create".to_owned()),
                version: Some("*".to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let failed = |source| api_error("create", "subjectaccessreviews".into(), &subresource, source);
    let body = serde_json::to_vec(&review).map_err(|error| failed(kube::Error::SerdeError(error)))?;
    let path = Request::new(SubjectAccessReview::url_path(&(), None));
    let sent = path.create(&PostParams::default(), body);
    let sent = sent.map_err(|error| failed(kube::Error::BuildRequest(error)))?;
    let answer: SubjectAccessReview = writes.untracked().client().request(sent).await.map_err(failed)?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

#[cfg(test)]
mod tests {
    use super::super::request::testing::pem;
    use super::*;
    use serde_json::json;

    #[test]
    fn what_may_be_approved() {
        let request = |name: &str, username: &str, signer: &str, condition: Option<&str>| {
            let mut request: CertificateSigningRequest = serde_json::from_value(json!({
                "metadata": {"name": "a"},
                "spec": {
                    "request": "", "signerName": signer, "username": username,
                    "usages": ["digital signature", "client auth"]
                },
                "status": {"conditions": condition.map(|type_| json!([{"type": type_, "status": "True"}]))}
            }))
            .unwrap();
            request.spec.request.0 = pem(name, "system:nodes", &[]).into_bytes();
            request
        };
        let node = "system:node:a";
        let check = |request: &CertificateSigningRequest, want: &[Recognized]| {
            assert_eq!(recognize(request), want, "{request:?}");
        };
        check(&request(node, node, KUBELET_CLIENT, None), &[SELF, OTHER]);
        check(&request(node, "system:bootstrap:abcdef", KUBELET_CLIENT, None), &[OTHER]);
        check(&request("jane", "jane", KUBELET_CLIENT, None), &[]);
        check(&request(node, node, super::super::CLIENT, None), &[]);
        check(&request(node, node, KUBELET_CLIENT, Some(APPROVED)), &[]);
        check(&request(node, node, KUBELET_CLIENT, Some(DENIED)), &[]);
    }
}
