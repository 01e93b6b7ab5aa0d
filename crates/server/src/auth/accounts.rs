//! Service accounts: whether a token's account, and the object it is bound to, are still there. It is asked at each
//! request, of what is kept beside the stored objects.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use xebec_api::time::Timestamp;
use xebec_store::Snapshot;

use super::User;
use super::token::{BoundKind, Claims, SecretClaims, Signed, TokenError};
use crate::core::Core;
use crate::registry::facts::{self, Life};
use crate::registry::{Table, convert, read};

/// Why a token is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum AccountError {
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("serviceaccounts {0:?} not found")]
    NoAccount(String),
    #[error("service account {0} has been deleted")]
    Deleted(String),
    #[error("{kind} UID ({found}) does not match {}claim ({claimed})", if *.kind == "service account" { "" } else { "service account's " })]
    Other { kind: &'static str, found: String, claimed: String },
    #[error("service account token has been invalidated")]
    Invalidated,
    #[error("Token does not match server's copy")]
    NotTheCopy,
    #[error(
        "the token in secret {0} has been marked invalid. Use tokens from the TokenRequest API or manually created \
         secret-based tokens, or remove the '{INVALID_SINCE}' label from the secret to temporarily allow use of this token"
    )]
    MarkedInvalid(String),
}

impl AccountError {
    /// Whether the token itself is good, so that it is what is stored that speaks against it.
    pub(super) fn is_about_objects(&self) -> bool {
        !matches!(self, Self::Token(_))
    }
}

/// How long after its end an object that is being deleted still vouches for a token, as upstream has it.
const LINGER: std::time::Duration = std::time::Duration::from_mins(1);

/// The label of secrets whose token is no longer taken.
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

/// Who holds the token, and for whom of `audiences` it is meant. `None`: it is no token of a service account.
///
/// # Errors
/// The token is not good, or what it is bound to is gone.
pub fn identify(
    core: &Core,
    token: &str,
    audiences: &[String],
    now: Timestamp,
) -> Result<Option<(User, Vec<String>)>, AccountError> {
    let Some(signed) = core.tokens.verify(token, audiences, now)? else { return Ok(None) };
    let (table, snapshot) = (core.table.get(), core.store.snapshot());
    let objects = Objects { table: &table, snapshot: &snapshot, now };
    let (user, meant) = match &*signed {
        Signed::Bound(claims) => {
            objects.check_bound(claims)?;
            (user(claims), claims.audiences.as_slice())
        }
        Signed::Secret(claims) => {
            objects.check_secret(claims, token)?;
            let user = account(&claims.namespace, &claims.name, &claims.uid);
            (user, core.tokens.default_audiences())
        }
    };
    let shared = meant.iter().filter(|audience| audiences.contains(audience));
    Ok(Some((user, shared.cloned().collect())))
}

struct Objects<'a> {
    table: &'a Table,
    snapshot: &'a Snapshot,
    now: Timestamp,
}

impl Objects<'_> {
    fn check_bound(&self, claims: &Claims) -> Result<(), AccountError> {
        self.check_account(&claims.namespace, &claims.name, &claims.uid, |life| {
            life.ends.is_some_and(|ends| ends.after(LINGER) < self.now)
        })?;
        let Some(bound) = &claims.bound else { return Ok(()) };
        let (kind, resource, namespace) = match bound.kind {
            BoundKind::Pod => ("pod", "pods", claims.namespace.as_str()),
            BoundKind::Secret => ("secret", "secrets", claims.namespace.as_str()),
            BoundKind::Node => ("node", "nodes", ""),
        };
        let life = self.life(resource, namespace, &bound.name).ok_or(AccountError::Invalidated)?;
        if life.uid != bound.uid {
            return Err(AccountError::Other { kind, found: life.uid.clone(), claimed: bound.uid.clone() });
        }
        // It was to be gone by now, whatever holds it: finalizers, or a node that does not answer.
        if life.ends.is_some_and(|ends| ends.after(LINGER) < self.now) {
            return Err(AccountError::Invalidated);
        }
        Ok(())
    }

    /// A token in a secret lives as long as that, and no longer than the account's.
    fn check_secret(&self, claims: &SecretClaims, token: &str) -> Result<(), AccountError> {
        let found = self.table.row("", "secrets").and_then(|row| {
            let record = read::find(self.snapshot, row, &claims.namespace, &claims.secret).ok()?;
            convert::stored_object(record).ok()
        });
        let secret = found.ok_or(AccountError::Invalidated)?;
        if secret.at(&["metadata", "deletionTimestamp"]).is_some() {
            return Err(AccountError::Invalidated);
        }
        let copy = secret.str_at(&["data", "token"]).and_then(|text| STANDARD.decode(text).ok());
        let is_copy = copy.is_some_and(|copy| super::same_secret(&copy, token.as_bytes()));
        if !is_copy {
            return Err(AccountError::NotTheCopy);
        }
        self.check_account(&claims.namespace, &claims.name, &claims.uid, |life| life.ends.is_some())?;
        let labels = secret.object_at(&["metadata", "labels"]);
        if labels.and_then(|labels| labels.get(INVALID_SINCE)).is_some() {
            let (namespace, secret, account) = (&claims.namespace, &claims.secret, &claims.name);
            let which = format!("{namespace}/{secret} for service account {namespace}/{account}");
            return Err(AccountError::MarkedInvalid(which));
        }
        Ok(())
    }

    fn check_account(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
        is_over: impl Fn(&Life) -> bool,
    ) -> Result<(), AccountError> {
        let life = self.life("serviceaccounts", namespace, name);
        let life = life.ok_or_else(|| AccountError::NoAccount(name.to_owned()))?;
        if life.uid != uid {
            let (found, claimed) = (life.uid.clone(), uid.to_owned());
            return Err(AccountError::Other { kind: "service account", found, claimed });
        }
        if is_over(life) {
            return Err(AccountError::Deleted(format!("{namespace}/{name}")));
        }
        Ok(())
    }

    fn life(&self, resource: &str, namespace: &str, name: &str) -> Option<&Life> {
        let row = self.table.row("", resource)?;
        Some(facts::life(read::find(self.snapshot, row, namespace, name).ok()?))
    }
}

fn account(namespace: &str, name: &str, uid: &str) -> User {
    let groups = ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
    let user = User::authenticated(format!("system:serviceaccount:{namespace}:{name}"), groups);
    User { uid: uid.to_owned(), ..user }
}

fn user(claims: &Claims) -> User {
    let mut extra = BTreeMap::new();
    let mut fact = |name: &str, value: &str| {
        extra.insert(format!("authentication.kubernetes.io/{name}"), vec![value.to_owned()]);
    };
    fact("credential-id", &format!("JTI={}", claims.id));
    match &claims.bound {
        Some(bound) if bound.kind == BoundKind::Pod => {
            fact("pod-name", &bound.name);
            fact("pod-uid", &bound.uid);
        }
        Some(bound) if bound.kind == BoundKind::Node => {
            fact("node-name", &bound.name);
            fact("node-uid", &bound.uid);
        }
        _ => {}
    }
    if let Some((name, uid)) = &claims.node {
        fact("node-name", name);
        fact("node-uid", uid);
    }
    User { extra, ..account(&claims.namespace, &claims.name, &claims.uid) }
}
