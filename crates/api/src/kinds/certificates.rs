//! CertificateSigningRequests.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Kind;
use super::changes;
use super::check::{Check, run, same, text};
use super::fill::each;
use crate::error::Cause;
use crate::{Value, names};

pub(super) const SIGNING_REQUEST: Kind = Kind {
    group: "certificates.k8s.io",
    resource: "certificatesigningrequests",
    name: |_| Ok(()),
    generation: false,
    unconditional_update: true,
    prepare_create: |object| each(object, "spec", &mut forget_requester),
    prepare_update: |object, old| {
        if object.as_object().is_some() {
            object.set(&["spec"], old.get("spec").cloned().unwrap_or_default());
        }
    },
    validate: |object| run(|c| request(c, object, None)),
    validate_update: |object, old| run(|c| update(c, object, old, Part::Object)),
    validate_status: |object, old| run(|c| update(c, object, old, Part::Status)),
    ..Kind::DEFAULT
};

/// Who asks is what the server knows of the request, never what the object says: it fills this in afterwards.
fn forget_requester(spec: &mut Value) {
    for field in ["username", "uid", "groups", "extra"] {
        drop(spec.remove_at(&[field]));
    }
}

/// What an update is of.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Object,
    Status,
    Approval,
}

/// What is wrong with an update of the subresource `approval` (first), given the old object (second).
#[must_use]
pub fn validate_approval(new: &Value, old: &Value) -> Vec<Cause> {
    run(|c| update(c, new, old, Part::Approval))
}

const APPROVED: &str = "Approved";
const DENIED: &str = "Denied";
const FAILED: &str = "Failed";
const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";
const SHORTEST: i64 = 600;
const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// Checks a request. What an old one (from before a rule) does not keep, its successor need not. That the request in it is
/// well signed is the server's to find out.
fn request(c: &mut Check, object: &Value, old: Option<&Value>) {
    let before = old.and_then(|old| old.get("spec"));
    c.field(object, "spec", |c, spec| {
        let pem = text(spec, "request");
        if blocks(pem).first().is_none_or(|label| label != "CERTIFICATE REQUEST") {
            c.at("request").invalid(pem, "PEM block type must be CERTIFICATE REQUEST");
        }
        usages(c, spec, before);
        if text(spec, "signerName") == LEGACY_SIGNER {
            if before.is_none_or(|before| text(before, "signerName") != LEGACY_SIGNER) {
                let detail = "the legacy signerName is not allowed via this API version";
                c.at("signerName").invalid(LEGACY_SIGNER, detail);
            }
        } else if let Some(name) = c.require(spec, "signerName") {
            signer_name(c, name);
        }
        let seconds = spec.i64_at(&["expirationSeconds"]);
        if seconds.is_some_and(|s| s < SHORTEST) {
            let detail = "may not specify a duration less than 600 seconds (10 minutes)";
            c.at("expirationSeconds").invalid(seconds, detail);
        }
    });
    c.within("status", |c| {
        conditions(c, object, old);
        let certificate = object.str_at(CERTIFICATE).unwrap_or_default();
        let is_kept = old.is_some_and(|old| {
            let before = old.str_at(CERTIFICATE).unwrap_or_default();
            before == certificate || certificate_fault(before).is_some()
        });
        if let Some(fault) = certificate_fault(certificate).filter(|_| !is_kept) {
            c.at("certificate").invalid("<certificate data>", &fault);
        }
    });
}

const CERTIFICATE: &[&str] = &["status", "certificate"];

fn usages(c: &mut Check, spec: &Value, before: Option<&Value>) {
    let list = |spec: &Value| -> Vec<String> {
        spec.array_at(&["usages"]).iter().map(|v| v.as_str().unwrap_or_default().to_owned()).collect()
    };
    let is_known = |usage: &String| USAGES.contains(&usage.as_str());
    let repeats = |all: &[String], i: usize| all[..i].contains(&all[i]);
    let (all, old) = (list(spec), before.map(list).unwrap_or_default());
    if all.is_empty() {
        c.at("usages").required("");
    }
    for (i, usage) in all.iter().enumerate() {
        if !is_known(usage) && old.iter().all(is_known) {
            c.at("usages").index(i).not_supported(usage.as_str(), &USAGES);
        }
    }
    for (i, usage) in all.iter().enumerate() {
        if repeats(&all, i) && !(0..old.len()).any(|i| repeats(&old, i)) {
            c.at("usages").index(i).duplicate(usage.as_str());
        }
    }
}

/// Checks who is to sign: a domain, and a path of one element.
fn signer_name(c: &mut Check, name: &str) {
    const FIELD: &str = "signerName";
    const MAX_DOMAIN: usize = 253;
    const MAX: usize = MAX_DOMAIN + 1 + 253 + 1 + 63;
    let parts = name.split_once('/').filter(|(_, path)| !path.contains('/'));
    let Some((domain, path)) = parts else {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return c.at(FIELD).invalid(name, detail);
    };
    if domain.len() > MAX_DOMAIN {
        c.at(FIELD).too_long(MAX_DOMAIN);
    }
    let first_fault = |text: &str, rule: super::check::Rule| {
        text.split('.')
            .find_map(|label| rule(label).err().map(|fault| format!("validating label {label:?}: {fault}")))
    };
    if let Some(fault) = first_fault(domain, names::dns_label) {
        c.at(FIELD).invalid(domain, &fault);
    }
    if !domain.contains('.') {
        c.at(FIELD).invalid(domain, "should be a domain with at least two segments separated by dots");
    }
    if let Some(fault) = first_fault(path, names::dns_subdomain) {
        c.at(FIELD).invalid(path, &fault);
    }
    if name.len() > MAX {
        c.at(FIELD).too_long(MAX);
    }
}

fn of_type<'v>(object: &'v Value, ty: &str) -> Vec<&'v Value> {
    object.array_at(&["status", "conditions"]).iter().filter(|c| text(c, "type") == ty).collect()
}

fn conditions(c: &mut Check, object: &Value, old: Option<&Value>) {
    let all = object.array_at(&["status", "conditions"]);
    let before = old.map(|old| old.array_at(&["status", "conditions"])).unwrap_or_default();
    let repeats =
        |all: &[Value], i: usize| all[..i].iter().any(|other| text(other, "type") == text(&all[i], "type"));
    let tells = |all: &[Value], ty: &str| all.iter().any(|condition| text(condition, "type") == ty);
    let can_repeat = (0..before.len()).any(|i| repeats(before, i));
    let both = |all: &[Value]| tells(all, APPROVED) && tells(all, DENIED);
    for (i, condition) in all.iter().enumerate() {
        let ty = text(condition, "type");
        let contradicts = match ty {
            APPROVED => tells(&all[..i], DENIED),
            DENIED => tells(&all[..i], APPROVED),
            _ => false,
        };
        c.within("conditions", |c| {
            c.within_index(i, |c| {
                if ty.is_empty() && !tells(before, "") {
                    c.at("type").required("");
                }
                let allowed: &[&str] = match ty {
                    APPROVED | DENIED | FAILED => &["True"],
                    _ => &["False", "True", "Unknown"],
                };
                c.require_one_of(condition, "status", allowed);
            });
            if contradicts && !both(before) {
                c.here().invalid(ty, "Approved and Denied conditions are mutually exclusive");
            }
            if repeats(all, i) && !can_repeat {
                c.here().index(i).field("type").duplicate(ty);
            }
        });
    }
}

fn update(c: &mut Check, object: &Value, old: &Value, part: Part) {
    request(c, object, Some(old));
    let counts = |ty| (of_type(object, ty).len(), of_type(old, ty).len());
    c.within("status", |c| {
        for ty in [APPROVED, DENIED, FAILED] {
            let (now, before) = counts(ty);
            if now < before {
                let detail = format!("updates may not remove a condition of type {ty:?}");
                c.at("conditions").forbidden(&detail);
            }
        }
        if part != Part::Approval {
            for ty in [APPROVED, DENIED] {
                let list = |object| Value::Array(of_type(object, ty).into_iter().cloned().collect());
                let (now, before) = counts(ty);
                let (new, old) = (list(object), list(old));
                if now > before {
                    let detail = format!("updates may not add a condition of type {ty:?}");
                    c.at("conditions").forbidden(&detail);
                } else if now == before && !same(Some(&new), Some(&old)) {
                    let difference = changes::describe(&old, &new);
                    let detail = format!("updates may not modify a condition of type {ty:?}\n{difference}");
                    c.at("conditions").forbidden(&detail);
                }
            }
        }
        let before = old.str_at(CERTIFICATE).unwrap_or_default();
        if object.str_at(CERTIFICATE).unwrap_or_default() == before {
            return;
        }
        if part != Part::Status {
            c.at("certificate").forbidden("updates may not set certificate content");
        } else if !before.is_empty() {
            c.at("certificate").forbidden("updates may not modify existing certificate content");
        }
    });
}

/// The labels of the PEM blocks in what is base64 of text.
fn blocks(encoded: &str) -> Vec<String> {
    let bytes = STANDARD.decode(encoded).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let mut open: Option<&str> = None;
    let mut out = Vec::new();
    for line in text.lines().map(str::trim_end) {
        let label = |edge: &str| line.strip_prefix(edge).and_then(|rest| rest.strip_suffix("-----"));
        if let Some(name) = label("-----BEGIN ") {
            open = Some(name);
        } else if let Some(name) = label("-----END ")
            && open.take() == Some(name)
        {
            out.push(name.to_owned());
        }
    }
    out
}

fn certificate_fault(encoded: &str) -> Option<String> {
    if encoded.is_empty() {
        return None;
    }
    let labels = blocks(encoded);
    if labels.is_empty() {
        return Some("must contain at least one CERTIFICATE PEM block".into());
    }
    let other = labels.iter().find(|label| *label != "CERTIFICATE")?;
    Some(format!("only CERTIFICATE PEM blocks are allowed, found {other:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::check::testing::{cases, json, with};
    use crate::object;

    fn base() -> Value {
        let pem =
            |label: &str| STANDARD.encode(format!("-----BEGIN {label}-----\nAA==\n-----END {label}-----\n"));
        let mut base = json(
            r#"{"spec": {"usages": ["client auth"], "signerName": "a.b/c"}, "status": {"conditions": []}}"#,
        );
        base.set(&["spec", "request"], pem("CERTIFICATE REQUEST"));
        base.set(&["certificate"], pem("CERTIFICATE"));
        base.set(&["key"], pem("RSA PRIVATE KEY"));
        base
    }

    #[test]
    fn requests() {
        cases(&base(), REQUESTS, SIGNING_REQUEST.validate);
        let mut long = base();
        long.set(&["spec", "signerName"], format!("{}/b", "a.".repeat(300)));
        assert_eq!((SIGNING_REQUEST.validate)(&long).len(), 3);
    }

    const REQUESTS: &str = r#"
spec.expirationSeconds = 600

spec = {}
! spec.request: Invalid value: "": PEM block type must be CERTIFICATE REQUEST
! spec.usages: Required value
! spec.signerName: Required value

spec.usages = ["any", "any"]
spec.signerName = "kubernetes.io/legacy-unknown"
spec.expirationSeconds = 599
! spec.usages[1]: Duplicate value: "any"
! spec.signerName: Invalid value: "kubernetes.io/legacy-unknown": the legacy signerName is not allowed via this API version
! spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 600 seconds (10 minutes)

spec.usages = ["x"]
spec.signerName = "a"
! spec.usages[0]: Unsupported value: "x": supported values: "any", "cert sign", "client auth", "code signing", "content
  commitment", "crl sign", "data encipherment", "decipher only", "digital signature", "email protection", "encipher only",
  "ipsec end system", "ipsec tunnel", "ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc",
  "ocsp signing", "s/mime", "server auth", "signing", "timestamping"
! spec.signerName: Invalid value: "a": must be a fully qualified domain and path of the form 'example.com/signer-name'

spec.signerName = "A/b"
! spec.signerName: Invalid value: "A": validating label "A": a lowercase RFC 1123 label must consist of lower case
  alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc',
  regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
! spec.signerName: Invalid value: "A": should be a domain with at least two segments separated by dots
"#;

    #[test]
    fn updates() {
        let old = with(&base(), &[("status.conditions", r#"[{"type": "Approved", "status": "True"}]"#)]);
        cases(&old, UPDATES, |object| (SIGNING_REQUEST.validate_update)(object, &old));
        cases(&old, STATUSES, |object| (SIGNING_REQUEST.validate_status)(object, &old));
        cases(&base(), APPROVALS, |object| validate_approval(object, &base()));

        let changed = with(&old, &[("status.conditions.0.reason", "\"a\"")]);
        assert_eq!((SIGNING_REQUEST.validate_status)(&changed, &old).len(), 1);
        assert_eq!(validate_approval(&changed, &old), []);
        let mut signed = old.clone();
        signed.set(CERTIFICATE, base().get("certificate").cloned().unwrap_or_default());
        let status = |object: &Value, old: &Value| (SIGNING_REQUEST.validate_status)(object, old);
        assert_eq!(status(&signed, &old), []);
        assert_eq!(status(&old, &signed).len(), 1);
        let mut keyed = old.clone();
        keyed.set(CERTIFICATE, base().get("key").cloned().unwrap_or_default());
        assert_eq!(status(&keyed, &old).len(), 1);
        assert_eq!(status(&keyed, &keyed), []);
    }

    const UPDATES: &str = r#"
metadata = {"labels": {"a": "b"}}

status.certificate = "AA=="
! status.certificate: Invalid value: "<certificate data>": must contain at least one CERTIFICATE PEM block
! status.certificate: Forbidden: updates may not set certificate content
"#;

    const STATUSES: &str = r#"
status.conditions.1 = {"type": "Failed", "status": "True"}

status.conditions = [{"type": "Denied", "status": "True"}, {}, {"type": "x", "status": "x"}]
! status.conditions[1].type: Required value
! status.conditions[1].status: Required value
! status.conditions[2].status: Unsupported value: "x": supported values: "False", "True", "Unknown"
! status.conditions: Forbidden: updates may not remove a condition of type "Approved"
! status.conditions: Forbidden: updates may not add a condition of type "Denied"
"#;

    const APPROVALS: &str = r#"
status.conditions = [{"type": "Approved", "status": "True"}]

status.conditions = [{"type": "Approved", "status": "False"}, {"type": "Approved", "status": "True"}, {"type": "Denied",
  "status": "True"}]
! status.conditions[0].status: Unsupported value: "False": supported values: "True"
! status.conditions[1].type: Duplicate value: "Approved"
! status.conditions: Invalid value: "Denied": Approved and Denied conditions are mutually exclusive
"#;

    #[test]
    fn nobody_asks_in_anothers_name() {
        let mut request =
            object!({"spec": {"username": "admin", "groups": ["system:masters"], "signerName": "a/b"}});
        (SIGNING_REQUEST.prepare_create)(&mut request);
        assert_eq!(request, object!({"spec": {"signerName": "a/b"}}));
    }
}
