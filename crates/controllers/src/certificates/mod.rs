//! Certificate signing requests (certificates.k8s.io/v1): approved where a role says so, signed, and cleaned away.
//!
//! Owns: the approval of requests of nodes for their own client certificates; the certificates of the four signers of
//! `kubernetes.io/`; the deletion of requests that are done with.
//! Guarantees: nothing is signed that nobody approved, nor more than the signer's policy and the authority's own end allow.
//! What a signer does not take is marked as failed, with the reason.
//! Caveats: the key of the authority is not here. Whoever runs the controllers gives them a [`Signer`]; without one, nothing is
//! signed. Requests for `kubernetes.io/kubelet-serving` are approved by people, as upstream has it.
//!
//! Behaviour follows Kubernetes 1.36.

mod approver;
mod cleaner;
mod request;
mod signer;

use std::sync::Arc;

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;

pub use approver::{APPROVER_ROLE, Approver};
pub use cleaner::{CLEANER_ROLE, Cleaner};
pub use signer::{SIGNER_ROLE, Signer, SigningController};

use crate::runtime::informer::Informer;
use crate::runtime::object::ObjectKey;
use crate::runtime::queue::WorkQueue;

const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
const LEGACY: &str = "kubernetes.io/legacy-unknown";

const APPROVED: &str = "Approved";
const DENIED: &str = "Denied";
const FAILED: &str = "Failed";

/// Puts the key of every request that changes into the queue.
fn watch(requests: &Informer<CertificateSigningRequest>, queue: &Arc<WorkQueue<ObjectKey>>) {
    let queue = Arc::clone(queue);
    requests.on_change(move |change| queue.add(change.key.clone()));
}

/// Whether the request has a condition, whatever its value: they are all true, or are not there.
fn has(request: &CertificateSigningRequest, condition: &str) -> bool {
    let conditions = request.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|c| c.type_ == condition && c.status == "True")
}

fn is_issued(request: &CertificateSigningRequest) -> bool {
    let certificate = request.status.as_ref().and_then(|status| status.certificate.as_ref());
    certificate.is_some_and(|bytes| !bytes.0.is_empty())
}
