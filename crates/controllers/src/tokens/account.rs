//! Fills secrets of the type `kubernetes.io/service-account-token`, and deletes those whose account is gone.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::ServiceAccount;
use serde_json::{Value, json};

use super::{AccountSecret, text};
use crate::context::Context;
use crate::permissions::{Role, allow};
use crate::runtime::error::ReconcileError;
use crate::runtime::informer::Informer;
use crate::runtime::object::{ObjectKey, Uid, is_deleting};
use crate::runtime::queue::WorkQueue;
use crate::runtime::runner::{Controller, Next};
use crate::runtime::writer::{Deletion, Part, Writes, gone_is_fine};

/// What the controller of tokens may do.
pub const ACCOUNT_TOKEN_ROLE: Role = Role {
    controller: "serviceaccount-token-controller",
    permissions: &[
        allow("", &["secrets"], &["get", "list", "watch", "patch", "delete"]),
        allow("", &["serviceaccounts"], &["get", "list", "watch"]),
    ],
};

const ACCOUNT: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";

/// The key of service-account tokens, wherever it is.
pub trait Minter: Send + Sync + std::fmt::Debug {
    /// The token of an account that stands in a secret of its namespace.
    ///
    /// # Errors
    /// Why there is none.
    fn mint(&self, namespace: &str, account: &str, uid: &str, secret: &str) -> Result<String, String>;
}

/// Keeps the secrets of service accounts.
pub struct AccountTokens {
    minter: Arc<dyn Minter>,
    root_ca_pem: String,
    accounts: Informer<ServiceAccount>,
    secrets: Informer<AccountSecret>,
    queue: Arc<WorkQueue<ObjectKey>>,
}

impl AccountTokens {
    /// Wires the watches to the queue.
    pub fn new(context: &Context, minter: Arc<dyn Minter>, root_ca_pem: String) -> Arc<Self> {
        let (accounts, secrets) = (context.informers.get(), context.informers.get());
        let controller = Arc::new(Self { minter, root_ca_pem, accounts, secrets, queue: Arc::default() });
        let queue = Arc::clone(&controller.queue);
        controller.secrets.on_change(move |change| queue.add(change.key.clone()));
        let (queue, secrets) = (Arc::clone(&controller.queue), controller.secrets.clone());
        controller.accounts.on_change(move |change| {
            // It came or went; what else changes is none of a token's business.
            if change.old.is_some() == change.new.is_some() {
                return;
            }
            for secret in secrets.in_namespace(change.key.namespace()) {
                if account_of(&secret) == Some(change.key.name()) {
                    queue.add(ObjectKey::of(&secret.0.metadata));
                }
            }
        });
        controller
    }
}

fn annotation<'a>(secret: &'a AccountSecret, name: &str) -> Option<&'a str> {
    secret.0.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

fn account_of(secret: &AccountSecret) -> Option<&str> {
    annotation(secret, ACCOUNT)
}

/// Whether the account is the one that the secret is for.
fn is_of(secret: &AccountSecret, account: &ServiceAccount) -> bool {
    let wanted = annotation(secret, ACCOUNT_UID).filter(|uid| !uid.is_empty());
    wanted.is_none_or(|uid| account.metadata.uid.as_deref() == Some(uid))
}

/// The merge patch that completes a secret; `None`: nothing is missing.
fn completion(
    secret: &AccountSecret,
    account: &ServiceAccount,
    root_ca_pem: &str,
    mint: impl FnOnce() -> Result<String, String>,
) -> Result<Option<Value>, String> {
    let data = secret.0.data.as_ref();
    let mut missing = serde_json::Map::new();
    let mut put = |key: &str, value: &str| {
        missing.insert(key.to_owned(), json!(STANDARD.encode(value)));
    };
    if text(data, "ca.crt") != Some(root_ca_pem) && !root_ca_pem.is_empty() {
        put("ca.crt", root_ca_pem);
    }
    if text(data, "namespace").is_none() {
        put("namespace", secret.0.metadata.namespace.as_deref().unwrap_or_default());
    }
    if text(data, "token").is_none() {
        put("token", &mint()?);
    }
    if missing.is_empty() {
        return Ok(None);
    }
    let meta = &secret.0.metadata;
    Ok(Some(json!({
        "metadata": {
            "uid": meta.uid, "resourceVersion": meta.resource_version,
            "annotations": {ACCOUNT_UID: account.metadata.uid}
        },
        "data": missing
    })))
}

impl Controller for AccountTokens {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        ACCOUNT_TOKEN_ROLE.controller
    }

    fn queue(&self) -> Arc<WorkQueue<ObjectKey>> {
        Arc::clone(&self.queue)
    }

    async fn synced(&self) {
        self.accounts.synced().await;
        self.secrets.synced().await;
    }

    async fn reconcile(&self, key: &ObjectKey, writes: &Writes) -> Result<Next, ReconcileError> {
        let Some(secret) = self.secrets.get(key).filter(|s| !is_deleting(&s.0.metadata)) else {
            return Ok(Next::Wake);
        };
        let Some(name) = account_of(&secret) else { return Ok(Next::Wake) };
        let home = ObjectKey::new(key.namespace(), name);
        let mut account = self.accounts.get(&home).filter(|account| is_of(&secret, account));
        if account.is_none() {
            // The cache may not have it yet, and what is deleted does not come back.
            let live = writes.untracked().get::<ServiceAccount>(&home).await?;
            account = live.filter(|account| is_of(&secret, account)).map(Arc::new);
        }
        let Some(account) = account else {
            writes.delete(&self.secrets, key, &Uid::of(&secret.0.metadata), Deletion::default()).await?;
            return Ok(Next::Wake);
        };
        let uid = account.metadata.uid.clone().unwrap_or_default();
        let mint = || self.minter.mint(key.namespace(), name, &uid, key.name());
        let patch = completion(&secret, &account, &self.root_ca_pem, mint);
        let patch =
            patch.map_err(|problem| ReconcileError::Unusable { object: format!("secret {key}"), problem })?;
        if let Some(patch) = patch {
            gone_is_fine(writes.merge(&self.secrets, key, Part::Main, &patch).await)?;
        }
        Ok(Next::Wake)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(annotations: &Value, data: &Value) -> AccountSecret {
        let object = json!({
            "metadata": {"name": "t", "namespace": "n", "uid": "s1", "resourceVersion": "7", "annotations": annotations},
            "data": data
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn what_secrets_lack() {
        let account: ServiceAccount =
            serde_json::from_value(json!({"metadata": {"name": "a", "uid": "u1"}})).unwrap();
        let encoded = |text: &str| STANDARD.encode(text);
        let check = |data: Value, want: Option<Value>| {
            let secret = secret(&json!({ACCOUNT: "a"}), &data);
            let patch = completion(&secret, &account, "PEM", || Ok("TOKEN".to_owned())).unwrap();
            assert_eq!(patch.as_ref().map(|patch| &patch["data"]), want.as_ref());
            if let Some(patch) = patch {
                assert_eq!(patch["metadata"]["annotations"], json!({ACCOUNT_UID: "u1"}));
                assert_eq!(patch["metadata"]["resourceVersion"], "7", "as it was seen");
            }
        };
        let whole = json!({"ca.crt": encoded("PEM"), "namespace": encoded("n"), "token": encoded("TOKEN")});
        check(json!({}), Some(whole.clone()));
        check(whole.clone(), None);
        let mut old = whole;
        old["ca.crt"] = json!(encoded("OLD"));
        check(old, Some(json!({"ca.crt": encoded("PEM")})));
        let failed =
            completion(&secret(&json!({}), &json!({})), &account, "PEM", || Err("no key".to_owned()));
        assert_eq!(failed, Err("no key".to_owned()));
    }

    #[test]
    fn another_account_of_the_name_is_another() {
        let account: ServiceAccount =
            serde_json::from_value(json!({"metadata": {"name": "a", "uid": "u1"}})).unwrap();
        for (uid, want) in
            [(json!({}), true), (json!({ACCOUNT_UID: "u1"}), true), (json!({ACCOUNT_UID: "u0"}), false)]
        {
            assert_eq!(is_of(&secret(&uid, &json!({})), &account), want, "{uid}");
        }
    }
}
