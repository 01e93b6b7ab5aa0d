//! Bearer tokens: whose is this? Each sort of token is asked in turn until one knows it.
//!
//! ```text
//! service account ─▶ bootstrap token ─▶ issuers of the configuration ─▶ nobody's
//! ```

use std::fmt;
use std::sync::Arc;

use http::HeaderValue;
use xebec_api::time::Timestamp;

use super::accounts::AccountError;
use super::{User, accounts, bootstrap_token, jwt};
use crate::core::Core;

/// Who holds a token.
#[derive(Clone, Debug)]
pub struct Holder {
    /// Who it is.
    pub user: Arc<User>,
    /// For whom of those who were asked for the token is meant.
    pub audiences: Vec<String>,
}

/// Nobody, and what those who looked at the token have to say about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rejected(Vec<String>);

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = ["invalid bearer token".to_owned()].into_iter().chain(self.0.iter().cloned());
        f.write_str(&crate::authz::together(&all.collect::<Vec<_>>()))
    }
}

/// The token in an `Authorization` header, if it is for this.
#[must_use]
pub fn from_header(header: &HeaderValue) -> Option<&str> {
    let (scheme, token) = header.to_str().ok()?.trim().split_once(' ')?;
    let token = token.trim_start();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && !token.contains(' ')).then_some(token)
}

/// Who holds the token, if it is meant for one of `audiences`.
///
/// # Errors
/// Nobody knows it, or who does does not take it.
pub async fn identify(
    core: &Core,
    token: &str,
    audiences: &[String],
    now: Timestamp,
) -> Result<Holder, Rejected> {
    if token.len() > jwt::MAX_TOKEN {
        return Err(Rejected(vec![format!("a token has at most {} bytes", jwt::MAX_TOKEN)]));
    }
    let mut faults = Vec::new();
    let seen = core.seen();
    let mut found = accounts::identify(core, token, audiences, now);
    // The token is ours. The account may be new, and made by another server.
    if found.as_ref().is_err_and(AccountError::is_about_objects) {
        match core.was_behind(seen).await {
            Ok(true) => found = accounts::identify(core, token, audiences, now),
            Ok(false) => {}
            Err(status) => faults.push(status.message.into_owned()),
        }
    }
    match found {
        Ok(Some((user, audiences))) => return Ok(Holder { user: Arc::new(user), audiences }),
        Ok(None) => {}
        Err(error) => faults.push(error.to_string()),
    }
    // What knows of no audiences is for the API alone.
    let own: Vec<String> =
        core.settings.audiences.iter().filter(|own| audiences.contains(own)).cloned().collect();
    if own.is_empty() {
        return Err(Rejected(faults));
    }
    if let Some(user) = bootstrap_token::identify(core, token, now) {
        return Ok(Holder { user: Arc::new(user), audiences: own });
    }
    match core.issuers.identify(token, now).await {
        Ok(Some(user)) => return Ok(Holder { user, audiences: own }),
        Ok(None) => {}
        Err(error) => faults.push(error),
    }
    Err(Rejected(faults))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_in_headers() {
        let check = |header: &'static str, want: Option<&str>| {
            assert_eq!(from_header(&HeaderValue::from_static(header)), want, "{header}");
        };
        check("Bearer abc", Some("abc"));
        check("bearer   abc ", Some("abc"));
        check("BEARER abc", Some("abc"));
        check("Bearer", None);
        check("Bearer ", None);
        check("Bearer a b", None);
        check("Basic abc", None);
    }

    #[test]
    fn what_is_said_of_a_token() {
        assert_eq!(Rejected::default().to_string(), "invalid bearer token");
        assert_eq!(Rejected(vec!["it is old".into()]).to_string(), "[invalid bearer token, it is old]");
    }
}
