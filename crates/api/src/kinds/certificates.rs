//! CertificateSigningRequests.

use super::Kind;
use super::fill::each;
use crate::Value;

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
    ..Kind::DEFAULT
};

/// Who asks is what the server knows of the request, never what the object says: it fills this in afterwards.
fn forget_requester(spec: &mut Value) {
    for field in ["username", "uid", "groups", "extra"] {
        drop(spec.remove_at(&[field]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object;

    #[test]
    fn nobody_asks_in_anothers_name() {
        let mut request =
            object!({"spec": {"username": "admin", "groups": ["system:masters"], "signerName": "a/b"}});
        (SIGNING_REQUEST.prepare_create)(&mut request);
        assert_eq!(request, object!({"spec": {"signerName": "a/b"}}));
    }
}
