//! Bootstrap tokens: signs `cluster-info` with those that are for it, and deletes those that have expired.
//!
//! A signature is a detached JSON Web Signature (RFC 7515, appendix F) of the kubeconfig, by HMAC with the token's secret:
//! whoever holds the token knows that the kubeconfig is the cluster's, without knowing the cluster.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::jiff::Timestamp;
use ring::hmac;
use serde_json::{Value, json};

use super::{BootstrapSecret, ClusterInfo, text};
use crate::context::Context;
use crate::permissions::{READ, Role, allow};
use crate::runtime::clock::{SharedClock, until};
use crate::runtime::error::ReconcileError;
use crate::runtime::informer::Informer;
use crate::runtime::object::{ObjectKey, Uid, is_deleting};
use crate::runtime::queue::WorkQueue;
use crate::runtime::runner::{Controller, Next};
use crate::runtime::writer::{Deletion, Part, Writes, gone_is_fine};

/// What the signer of `cluster-info` may do.
pub const BOOTSTRAP_SIGNER_ROLE: Role = Role {
    controller: "bootstrap-signer",
    permissions: &[
        allow("", &["secrets"], READ),
        allow("", &["configmaps"], &["get", "list", "watch", "patch"]),
    ],
};

/// What the cleaner of tokens may do.
pub const TOKEN_CLEANER_ROLE: Role = Role {
    controller: "token-cleaner",
    permissions: &[allow("", &["secrets"], &["get", "list", "watch", "delete"])],
};

const PREFIX: &str = "jws-kubeconfig-";

/// A token that is for signing: its id and its secret.
fn signing_token(secret: &BootstrapSecret, now: Timestamp) -> Option<(&str, &str)> {
    let data = secret.0.data.as_ref();
    let id = text(data, "token-id")?;
    let is_named = secret.0.metadata.name.as_deref() == Some(&format!("bootstrap-token-{id}"));
    let is_for_signing = text(data, "usage-bootstrap-signing") == Some("true");
    let is_over = expiration(secret).is_some_and(|end| end <= now);
    (is_named && is_for_signing && !is_over && !is_deleting(&secret.0.metadata))
        .then_some((id, text(data, "token-secret")?))
}

/// When a token ends. What cannot be read has ended.
fn expiration(secret: &BootstrapSecret) -> Option<Timestamp> {
    let end = text(secret.0.data.as_ref(), "expiration")?;
    Some(end.parse().unwrap_or(Timestamp::UNIX_EPOCH))
}

/// The detached signature of `content` by a token.
fn sign(content: &str, id: &str, secret: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(json!({"alg": "HS256", "kid": id}).to_string());
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = hmac::sign(&key, format!("{header}.{}", URL_SAFE_NO_PAD.encode(content)).as_bytes());
    format!("{header}..{}", URL_SAFE_NO_PAD.encode(signature))
}

/// The merge patch that puts the signatures right; `None`: they are.
fn correction(info: &BTreeMap<String, String>, tokens: &[(&str, &str)]) -> Option<Value> {
    let kubeconfig = info.get("kubeconfig")?;
    let wanted: BTreeMap<String, String> =
        tokens.iter().map(|(id, secret)| (format!("{PREFIX}{id}"), sign(kubeconfig, id, secret))).collect();
    let stale = info.keys().filter(|key| key.starts_with(PREFIX) && !wanted.contains_key(*key));
    let mut patch: serde_json::Map<String, Value> = stale.map(|key| (key.clone(), Value::Null)).collect();
    let missing = wanted.iter().filter(|(key, signature)| info.get(*key) != Some(*signature));
    patch.extend(missing.map(|(key, signature)| (key.clone(), json!(signature))));
    (!patch.is_empty()).then(|| json!({ "data": patch }))
}

/// The only key that there is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Info;

impl fmt::Display for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("kube-public/cluster-info")
    }
}

/// Signs `cluster-info`.
pub struct BootstrapSigner {
    clock: SharedClock,
    secrets: Informer<BootstrapSecret>,
    infos: Informer<ClusterInfo>,
    queue: Arc<WorkQueue<Info>>,
}

impl BootstrapSigner {
    /// Wires the watches to the queue.
    pub fn new(context: &Context) -> Arc<Self> {
        let (secrets, infos) = (context.informers.get(), context.informers.get());
        let controller =
            Arc::new(Self { clock: Arc::clone(&context.clock), secrets, infos, queue: Arc::default() });
        let queue = Arc::clone(&controller.queue);
        controller.secrets.on_change(move |_| queue.add(Info));
        let queue = Arc::clone(&controller.queue);
        controller.infos.on_change(move |_| queue.add(Info));
        controller
    }
}

impl Controller for BootstrapSigner {
    type Key = Info;

    fn name(&self) -> &'static str {
        BOOTSTRAP_SIGNER_ROLE.controller
    }

    fn queue(&self) -> Arc<WorkQueue<Info>> {
        Arc::clone(&self.queue)
    }

    async fn synced(&self) {
        self.secrets.synced().await;
        self.infos.synced().await;
    }

    async fn reconcile(&self, _: &Info, writes: &Writes) -> Result<Next, ReconcileError> {
        let key = ObjectKey::new("kube-public", "cluster-info");
        let Some(info) = self.infos.get(&key) else { return Ok(Next::Wake) };
        let now = self.clock.now();
        let secrets = self.secrets.list();
        let tokens: Vec<_> = secrets.iter().filter_map(|secret| signing_token(secret, now)).collect();
        let patch = info.0.data.as_ref().and_then(|data| correction(data, &tokens));
        if let Some(patch) = patch {
            gone_is_fine(writes.merge(&self.infos, &key, Part::Main, &patch).await)?;
        }
        let next = secrets.iter().filter_map(|secret| expiration(secret)).filter(|end| *end > now).min();
        Ok(Next::after(next.map(|end| until(now, end))))
    }
}

/// Deletes tokens that have expired.
pub struct TokenCleaner {
    clock: SharedClock,
    secrets: Informer<BootstrapSecret>,
    queue: Arc<WorkQueue<ObjectKey>>,
}

impl TokenCleaner {
    /// Wires the watch to the queue.
    pub fn new(context: &Context) -> Arc<Self> {
        let secrets = context.informers.get();
        let controller = Arc::new(Self { clock: Arc::clone(&context.clock), secrets, queue: Arc::default() });
        let queue = Arc::clone(&controller.queue);
        controller.secrets.on_change(move |change| queue.add(change.key.clone()));
        controller
    }
}

impl Controller for TokenCleaner {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        TOKEN_CLEANER_ROLE.controller
    }

    fn queue(&self) -> Arc<WorkQueue<ObjectKey>> {
        Arc::clone(&self.queue)
    }

    async fn synced(&self) {
        self.secrets.synced().await;
    }

    async fn reconcile(&self, key: &ObjectKey, writes: &Writes) -> Result<Next, ReconcileError> {
        let Some(secret) = self.secrets.get(key) else { return Ok(Next::Wake) };
        let Some(end) = expiration(&secret) else { return Ok(Next::Wake) };
        let now = self.clock.now();
        if end > now {
            return Ok(Next::After(until(now, end)));
        }
        writes.delete(&self.secrets, key, &Uid::of(&secret.0.metadata), Deletion::default()).await?;
        Ok(Next::Wake)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;

    fn secret(data: &[(&str, &str)]) -> BootstrapSecret {
        let base = [
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-signing", "true"),
        ];
        let data: BTreeMap<&str, String> =
            base.iter().chain(data).map(|(key, value)| (*key, STANDARD.encode(value))).collect();
        serde_json::from_value(json!({"metadata": {"name": "bootstrap-token-abcdef"}, "data": data})).unwrap()
    }

    #[test]
    fn which_tokens_sign() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        let check = |data: &[(&str, &str)], signs: bool| {
            assert_eq!(signing_token(&secret(data), now).is_some(), signs, "{data:?}");
        };
        check(&[], true);
        check(&[("expiration", "2026-01-02T00:00:01Z")], true);
        check(&[("expiration", "2026-01-02T00:00:00Z")], false);
        check(&[("expiration", "soon")], false);
        check(&[("usage-bootstrap-signing", "false")], false);
        check(&[("token-id", "abcdeg")], false);
        check(&[("token-secret", "")], false);
    }

    #[test]
    fn signatures_are_those_that_kubeadm_computes() {
        // Made with another implementation of HMAC.
        let signature =
            "eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9..vH_kT4yiol-nrAWgjfCYqvum5wsKETXe0S7OOp1VgnE";
        assert_eq!(sign("apiVersion: v1\nkind: Config\n", "abcdef", "0123456789abcdef"), signature);
    }

    #[test]
    fn signatures_are_put_right() {
        let tokens = [("abcdef", "0123456789abcdef")];
        let good = sign("kc", "abcdef", "0123456789abcdef");
        let check = |info: Value, want: Option<Value>| {
            let info: BTreeMap<String, String> = serde_json::from_value(info).unwrap();
            assert_eq!(correction(&info, &tokens).map(|patch| patch["data"].clone()), want, "{info:?}");
        };
        check(json!({}), None);
        check(json!({"kubeconfig": "kc"}), Some(json!({"jws-kubeconfig-abcdef": good})));
        check(json!({"kubeconfig": "kc", "jws-kubeconfig-abcdef": good}), None);
        check(
            json!({"kubeconfig": "kc", "jws-kubeconfig-abcdef": good, "jws-kubeconfig-gone": "x"}),
            Some(json!({"jws-kubeconfig-gone": null})),
        );
        check(
            json!({"kubeconfig": "kc", "jws-kubeconfig-abcdef": "old"}),
            Some(json!({"jws-kubeconfig-abcdef": good})),
        );
    }
}
