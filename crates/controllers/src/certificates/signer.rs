//! Signs what was approved, for the signers of `kubernetes.io/`.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};

use super::request::{Asked, fault, usages};
use super::{APPROVED, CLIENT, FAILED, KUBELET_CLIENT, KUBELET_SERVING, LEGACY, has, is_issued};
use crate::context::Context;
use crate::permissions::{READ, Role, allow};
use crate::runtime::clock::SharedClock;
use crate::runtime::error::ReconcileError;
use crate::runtime::informer::Informer;
use crate::runtime::object::ObjectKey;
use crate::runtime::queue::WorkQueue;
use crate::runtime::runner::{Controller, Next};
use crate::runtime::writer::{Writes, gone_is_fine};

/// What the signer may do.
pub const SIGNER_ROLE: Role = Role {
    controller: "csrsigning",
    permissions: &[
        allow("certificates.k8s.io", &["certificatesigningrequests"], READ),
        allow("certificates.k8s.io", &["certificatesigningrequests/status"], &["update"]),
        allow("certificates.k8s.io", &["signers"], &["sign"]),
    ],
};

/// How long a certificate lasts whose request does not say, and how long it lasts at most.
const LONGEST: Duration = Duration::from_hours(24 * 365);
/// How long it lasts at least.
const SHORTEST: Duration = Duration::from_mins(10);

/// The authority's key, wherever it is.
pub trait Signer: Send + Sync + std::fmt::Debug {
    /// The certificate, PEM, for a request, PEM, with these usages.
    ///
    /// # Errors
    /// Why there is none.
    fn sign(
        &self,
        request: &[u8],
        usages: &[String],
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<String, String>;
}

/// Signs approved requests.
pub struct SigningController {
    signer: Arc<dyn Signer>,
    clock: SharedClock,
    requests: Informer<CertificateSigningRequest>,
    queue: Arc<WorkQueue<ObjectKey>>,
}

impl SigningController {
    /// Wires the watch to the queue.
    pub fn new(context: &Context, signer: Arc<dyn Signer>) -> Arc<Self> {
        let (requests, clock) = (context.informers.get(), Arc::clone(&context.clock));
        let controller = Arc::new(Self { signer, clock, requests, queue: Arc::default() });
        super::watch(&controller.requests, &controller.queue);
        controller
    }
}

/// What is to become of a request.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    /// It is not ours, not approved, or done.
    Nothing,
    /// The signer does not take it: why.
    Fail(String),
    /// It is signed for this time.
    Sign(Duration),
}

fn plan(request: &CertificateSigningRequest) -> Plan {
    let spec = &request.spec;
    let is_ours = [CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY].contains(&spec.signer_name.as_str());
    if !is_ours || !has(request, APPROVED) || has(request, FAILED) || is_issued(request) {
        return Plan::Nothing;
    }
    let Some(asked) = Asked::read(&spec.request.0) else {
        return Plan::Fail(
            "the certificate request cannot be read, or its subject has no common name".to_owned(),
        );
    };
    match fault(&spec.signer_name, &asked, &usages(request)) {
        Some(why) => Plan::Fail(why),
        None => Plan::Sign(lifetime(spec.expiration_seconds)),
    }
}

fn lifetime(seconds: Option<i32>) -> Duration {
    let asked = seconds.map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or_default()));
    asked.unwrap_or(LONGEST).clamp(SHORTEST, LONGEST)
}

impl Controller for SigningController {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        SIGNER_ROLE.controller
    }

    fn queue(&self) -> Arc<WorkQueue<ObjectKey>> {
        Arc::clone(&self.queue)
    }

    async fn synced(&self) {
        self.requests.synced().await;
    }

    async fn reconcile(&self, key: &ObjectKey, writes: &Writes) -> Result<Next, ReconcileError> {
        let Some(request) = self.requests.get(key) else { return Ok(Next::Wake) };
        let mut done = CertificateSigningRequest::clone(&request);
        let status = done.status.get_or_insert_default();
        match plan(&request) {
            Plan::Nothing => return Ok(Next::Wake),
            Plan::Fail(why) => status.conditions.get_or_insert_default().push(failed(why)),
            Plan::Sign(lifetime) => {
                let (usages, now) = (usages(&request), self.clock.now().into());
                let signed = self.signer.sign(&request.spec.request.0, &usages, lifetime, now);
                let certificate = signed.map_err(|problem| ReconcileError::Unusable {
                    object: format!("certificate signing request {key}"),
                    problem,
                })?;
                status.certificate = Some(ByteString(certificate.into_bytes()));
            }
        }
        gone_is_fine(writes.untracked().replace_subresource(key, "status", &done).await)?;
        Ok(Next::Wake)
    }
}

fn failed(message: String) -> CertificateSigningRequestCondition {
    CertificateSigningRequestCondition {
        type_: FAILED.to_owned(),
        status: "True".to_owned(),
        reason: Some("SignerValidationFailure".to_owned()),
        message: Some(message),
        ..CertificateSigningRequestCondition::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::DENIED;
    use super::super::request::testing::pem;
    use super::*;
    use serde_json::json;

    #[test]
    fn what_becomes_of_requests() {
        let check = |signer: &str, conditions: &[&str], seconds: Option<i32>, usages: &[&str], want: Plan| {
            let conditions: Vec<_> =
                conditions.iter().map(|type_| json!({"type": type_, "status": "True"})).collect();
            let mut request: CertificateSigningRequest = serde_json::from_value(json!({
                "metadata": {"name": "a"},
                "spec": {"request": "", "signerName": signer, "usages": usages, "expirationSeconds": seconds},
                "status": {"conditions": conditions}
            }))
            .unwrap();
            request.spec.request.0 = pem("jane", "dev", &[]).into_bytes();
            assert_eq!(plan(&request), want, "{request:?}");
        };
        let client = &["client auth"][..];
        check(CLIENT, &[], None, client, Plan::Nothing);
        check(CLIENT, &[DENIED], None, client, Plan::Nothing);
        check(CLIENT, &[APPROVED], None, client, Plan::Sign(LONGEST));
        check(CLIENT, &[APPROVED], Some(3600), client, Plan::Sign(Duration::from_hours(1)));
        check(CLIENT, &[APPROVED], Some(1), client, Plan::Sign(SHORTEST));
        check(CLIENT, &[APPROVED], Some(i32::MAX), client, Plan::Sign(LONGEST));
        check(CLIENT, &[APPROVED, FAILED], None, client, Plan::Nothing);
        check("example.com/a", &[APPROVED], None, client, Plan::Nothing);
        let why = "subject organization is not system:nodes".to_owned();
        check(KUBELET_CLIENT, &[APPROVED], None, client, Plan::Fail(why));
        check(LEGACY, &[APPROVED], None, &["server auth"], Plan::Sign(LONGEST));
    }
}
