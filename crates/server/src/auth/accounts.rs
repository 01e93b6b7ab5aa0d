//! Service accounts: whether a token's account, and the object it is bound to, are still there. It is asked at each
//! request, of what is kept beside the stored objects.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use xebec_api::time::Timestamp;

use super::User;
use super::token::{BoundKind, Claims, TokenError};
use crate::core::Core;
use crate::registry::facts::{self, Life};
use crate::registry::read;

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

/// How long after its end an object that is being deleted still vouches for a token, as upstream has it.
const LINGER: Duration = Duration::from_mins(1);

/// Who holds the token, if it is meant for one of `audiences`.
///
/// # Errors
/// The token is not good, or what it is bound to is gone.
pub fn identify(core: &Core, token: &str, audiences: &[String]) -> Result<(User, Arc<Claims>), AccountError> {
    let now = core.clock.now();
    let claims = core.tokens.verify(token, audiences, now)?;
    let (table, snapshot) = (core.table.get(), core.store.snapshot());
    let check = |kind: &'static str, resource: &str, namespace: &str, name: &str, uid: &str| {
        let row = table.row("", resource);
        let record = row.and_then(|row| read::find(&snapshot, row, namespace, name).ok());
        match record.map(|record| facts::life(record)) {
            Some(life) if life.uid == uid && !is_over(life, now) => Ok(()),
            _ => Err(AccountError::Gone { kind, name: name.to_owned() }),
        }
    };
    check("serviceaccount", "serviceaccounts", &claims.namespace, &claims.name, &claims.uid)?;
    if let Some(bound) = &claims.bound {
        let (kind, resource, namespace) = match bound.kind {
            BoundKind::Pod => ("pod", "pods", claims.namespace.as_str()),
            BoundKind::Secret => ("secret", "secrets", claims.namespace.as_str()),
            BoundKind::Node => ("node", "nodes", ""),
        };
        check(kind, resource, namespace, &bound.name, &bound.uid)?;
    }
    let user = user(&claims);
    Ok((user, claims))
}

/// Whether the object was to be gone by now, whatever holds it: finalizers, or a node that does not answer.
fn is_over(life: &Life, now: Timestamp) -> bool {
    life.ends.is_some_and(|ends| ends.after(LINGER) < now)
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
