//! `CertificateSigningRequest`: says who asked, and since when each condition holds. Who approves a request, or signs it, needs
//! the verb `approve`, or `sign`, on the signer: on `signers` of its name, or of `DOMAIN/*`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use xebec_api::{Cause, FieldPath, Key, Map, Status, Value, meta};

use crate::auth::signing::{CertificateRequest, RequestError};
use crate::auth::user::MASTERS;
use crate::authz::Question;
use crate::registry::strategy::{Guard, Strategy, Write};
use crate::registry::write::Part;

const GROUP: &str = "certificates.k8s.io";
const RESOURCE: &str = "certificatesigningrequests";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

#[derive(Debug)]
pub(super) struct SigningRequests;

impl Strategy for SigningRequests {
    /// Who asks is who sent the request, whatever the object says.
    fn create(&self, write: &mut Write<'_>, request: &mut Value) -> Result<(), Status> {
        let asked = read(request).map_err(|error| {
            let field = FieldPath::new("spec.request");
            let text = request.str_at(&["spec", "request"]).unwrap_or_default();
            let cause = Cause::invalid(field, text, &error.to_string());
            Status::invalid(GROUP, "CertificateSigningRequest", meta::name(request), vec![cause])
        })?;
        let signer = request.str_at(&["spec", "signerName"]);
        if signer == Some(CLIENT_SIGNER) && asked.organisations().iter().any(|group| group == MASTERS) {
            let why = format!("use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed");
            return Err(Status::forbidden(GROUP, RESOURCE, meta::name(request), why));
        }
        let user = &write.context.user;
        request.set(&["spec", "username"], user.name.as_str());
        if !user.uid.is_empty() {
            request.set(&["spec", "uid"], user.uid.as_str());
        }
        let texts = |list: &[String]| Value::from(list.iter().map(String::as_str).collect::<Vec<_>>());
        request.set(&["spec", "groups"], texts(&user.groups));
        if !user.extra.is_empty() {
            let extra = user.extra.iter().map(|(name, list)| (Key::from(name.as_str()), texts(list)));
            request.set(&["spec", "extra"], extra.collect::<Map>());
        }
        Ok(())
    }

    fn update(&self, write: &mut Write<'_>, request: &mut Value) -> Result<(), Status> {
        date_conditions(write, request);
        Ok(())
    }

    fn update_status(&self, write: &mut Write<'_>, request: &mut Value) -> Result<(), Status> {
        date_conditions(write, request);
        Ok(())
    }

    fn guard<'a>(&'a self, write: &'a Write<'a>, request: &'a Value, part: Part<'a>) -> Option<Guard<'a>> {
        let old = write.old?;
        let verb = match part {
            Part::Other("approval") => "approve",
            Part::Status if changes(old, request) => "sign",
            _ => return None,
        };
        Some(Box::pin(check_signer(write, old, verb)))
    }
}

/// The request in an object.
fn read(object: &Value) -> Result<CertificateRequest, RequestError> {
    let pem = object.str_at(&["spec", "request"]).and_then(|text| STANDARD.decode(text).ok());
    CertificateRequest::read(&pem.ok_or(RequestError::Pem)?)
}

/// Whether a new status says something else about the request.
fn changes(old: &Value, new: &Value) -> bool {
    ["certificate", "conditions"].iter().any(|field| old.at(&["status", field]) != new.at(&["status", field]))
}

async fn check_signer(write: &Write<'_>, old: &Value, verb: &str) -> Result<(), Status> {
    let signer = old.str_at(&["spec", "signerName"]).unwrap_or_default();
    let any = signer.split_once('/').map(|(domain, _)| format!("{domain}/*"));
    for name in [Some(signer), any.as_deref()].into_iter().flatten() {
        let question =
            Question { verb, group: GROUP, version: "*", resource: "signers", name, ..Question::default() };
        if write.core.authorizer.decide(&write.context.user, &question).await.is_allowed() {
            return Ok(());
        }
    }
    let why = format!("user not permitted to {verb} requests with signerName {signer:?}");
    Err(Status::forbidden(GROUP, RESOURCE, meta::name(old), why))
}

fn date_conditions(write: &Write<'_>, request: &mut Value) {
    let now = write.context.now.to_string();
    let before = write.old.map(|old| old.array_at(&["status", "conditions"])).unwrap_or_default();
    let conditions = request.at(&["status", "conditions"]).and_then(Value::as_array).unwrap_or_default();
    let dated: Vec<Value> = conditions.iter().map(|c| dated(c, before, &now)).collect();
    if !dated.is_empty() {
        request.set(&["status", "conditions"], dated);
    }
}

/// The condition with the times that the client left out.
fn dated(condition: &Value, before: &[Value], now: &str) -> Value {
    let mut condition = condition.clone();
    if condition.get("lastUpdateTime").is_none_or(Value::is_null) {
        condition.set(&["lastUpdateTime"], now);
    }
    if condition.get("lastTransitionTime").is_none_or(Value::is_null) {
        let same = |c: &&Value| ["type", "status"].iter().all(|field| c.get(field) == condition.get(field));
        let since = before.iter().find(same).and_then(|c| c.get("lastTransitionTime")).cloned();
        condition.set(&["lastTransitionTime"], since.unwrap_or_else(|| now.into()));
    }
    condition
}
