//! Service accounts: whether a token's account, and the object it is bound to, are still there.

use std::collections::BTreeMap;

use xebec_api::{Value, meta};

use super::User;
use super::token::{BoundKind, Claims, TokenError};
use crate::core::Core;
use crate::registry::{convert, read};

/// Why a token is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// The token itself is not good.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// What it speaks of is gone, or another object of the same name.
    #[error("{kind} {name:?} that the token belongs to is gone")]
    Gone {
        /// The kind.
        kind: &'static str,
        /// Its name.
        name: String,
    },
}

/// Who holds the token, if it is meant for one of `audiences`.
///
/// # Errors
/// The token is not good, or what it is bound to is gone.
pub fn identify(core: &Core, token: &str, audiences: &[String]) -> Result<(User, Claims), AccountError> {
    let claims = core.tokens.verify(token, audiences, core.clock.now())?;
    let account = find(core, "serviceaccounts", &claims.namespace, &claims.name);
    check("serviceaccount", &claims.name, &claims.uid, account.as_ref())?;
    if let Some(bound) = &claims.bound {
        let (kind, resource, namespace) = match bound.kind {
            BoundKind::Pod => ("pod", "pods", claims.namespace.as_str()),
            BoundKind::Secret => ("secret", "secrets", claims.namespace.as_str()),
            BoundKind::Node => ("node", "nodes", ""),
        };
        check(kind, &bound.name, &bound.uid, find(core, resource, namespace, &bound.name).as_ref())?;
    }
    let user = user(&claims);
    Ok((user, claims))
}

fn find(core: &Core, resource: &str, namespace: &str, name: &str) -> Option<Value> {
    let table = core.table.get();
    let snapshot = core.store.snapshot();
    let record = read::find(&snapshot, table.row("", resource)?, namespace, name).ok()?;
    convert::stored_object(record).ok()
}

fn check(kind: &'static str, name: &str, uid: &str, object: Option<&Value>) -> Result<(), AccountError> {
    match object {
        Some(object) if meta::uid(object) == uid => Ok(()),
        _ => Err(AccountError::Gone { kind, name: name.to_owned() }),
    }
}

fn user(claims: &Claims) -> User {
    let name = format!("system:serviceaccount:{}:{}", claims.namespace, claims.name);
    let groups =
        ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{}", claims.namespace)];
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
    User { uid: claims.uid.clone(), extra, ..User::authenticated(name, groups) }
}
