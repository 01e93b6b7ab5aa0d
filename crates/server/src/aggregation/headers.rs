//! What a server behind this one is told of a request: who asks, and nothing by which a client could say that it is somebody
//! else.

use http::HeaderMap;
use http::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue, InvalidHeaderName, InvalidHeaderValue};

use crate::arrival::AUDIT_ID;
use crate::auth::User;
use crate::proxy;

/// How many bytes may say who asks.
const MAX_IDENTITY: usize = 64 * 1024;
const REMOTE: &str = "x-remote-";
const IMPERSONATE: &str = "impersonate-";

/// Why a server cannot be told who asks.
#[derive(Debug, thiserror::Error)]
pub(super) enum Untellable {
    #[error("the user's name, or something else that is known of them, cannot be put in a header")]
    Value(#[from] InvalidHeaderValue),
    #[error("a fact that is known of the user has a name that cannot be put in a header")]
    Name(#[from] InvalidHeaderName),
    #[error("what is known of the user is longer than {MAX_IDENTITY} bytes, which is the limit")]
    TooLong,
}

/// The headers of a request as it goes on; `id` names it in audit logs.
pub(super) fn outgoing(given: &HeaderMap, user: &User, id: &str) -> Result<HeaderMap, Untellable> {
    let mut headers = given.clone();
    proxy::strip(&mut headers);
    let of_client: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with(REMOTE) || name.as_str().starts_with(IMPERSONATE))
        .cloned()
        .collect();
    for name in of_client.into_iter().chain([AUTHORIZATION, HOST]) {
        headers.remove(name);
    }
    headers.insert(AUDIT_ID, HeaderValue::from_str(id)?);
    identify(&mut headers, user)?;
    Ok(headers)
}

/// Says who asks, as request-header authentication reads it.
pub(super) fn identify(headers: &mut HeaderMap, user: &User) -> Result<(), Untellable> {
    let mut room = MAX_IDENTITY;
    let mut say = |headers: &mut HeaderMap, name: HeaderName, value: &str| -> Result<(), Untellable> {
        room = room.checked_sub(name.as_str().len() + value.len()).ok_or(Untellable::TooLong)?;
        headers.append(name, HeaderValue::from_bytes(value.as_bytes())?);
        Ok(())
    };
    say(headers, HeaderName::from_static("x-remote-user"), &user.name)?;
    if !user.uid.is_empty() {
        say(headers, HeaderName::from_static("x-remote-uid"), &user.uid)?;
    }
    for group in &user.groups {
        say(headers, HeaderName::from_static("x-remote-group"), group)?;
    }
    for (key, values) in &user.extra {
        let name = HeaderName::from_bytes(format!("x-remote-extra-{}", escaped(key)).as_bytes())?;
        for value in values {
            say(headers, name.clone(), value)?;
        }
    }
    Ok(())
}

/// A key as part of a header's name: what no name may have, and `%`, is percent-encoded.
fn escaped(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'!' | b'#' | b'$' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|'
            | b'~' => {
                out.push(char::from(byte));
            }
            byte if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(of: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (name.parse::<HeaderName>().expect("a name"), value.parse().expect("a value"))
        };
        of.iter().map(pair).collect()
    }

    fn user() -> User {
        let mut user = User::authenticated("jane", ["devs".to_owned()]);
        user.uid = "u-1".into();
        user.extra.insert("example.com/scope".into(), vec!["a".into(), "b".into()]);
        user
    }

    #[test]
    fn nothing_that_a_client_says_of_itself_goes_on() {
        let given = headers(&[
            ("authorization", "Bearer x"),
            ("x-remote-user", "root"),
            ("x-remote-group", "system:masters"),
            ("x-remote-extra-scope", "all"),
            ("impersonate-user", "root"),
            ("host", "here"),
            ("connection", "keep-alive, x-hop"),
            ("x-hop", "1"),
            ("te", "trailers"),
            ("accept", "application/json"),
        ]);
        let out = outgoing(&given, &user(), "id-1").expect("can be told");
        let all =
            |name: &str| out.get_all(name).iter().map(|v| v.to_str().unwrap_or("?")).collect::<Vec<_>>();
        for (name, want) in [
            ("authorization", vec![]),
            ("impersonate-user", vec![]),
            ("host", vec![]),
            ("x-hop", vec![]),
            ("connection", vec![]),
            ("te", vec![]),
            ("x-remote-extra-scope", vec![]),
            ("x-remote-user", vec!["jane"]),
            ("x-remote-uid", vec!["u-1"]),
            ("x-remote-group", vec!["devs", "system:authenticated"]),
            ("x-remote-extra-example.com%2fscope", vec!["a", "b"]),
            ("accept", vec!["application/json"]),
            ("audit-id", vec!["id-1"]),
        ] {
            assert_eq!(all(name), want, "{name}");
        }
    }

    #[test]
    fn an_upgrade_goes_on() {
        let given = headers(&[("connection", "Upgrade, x-hop"), ("upgrade", "websocket"), ("x-hop", "1")]);
        let out = outgoing(&given, &user(), "id-1").expect("can be told");
        assert_eq!(out.get("upgrade").map(HeaderValue::as_bytes), Some(b"websocket".as_slice()));
        assert_eq!(out.get("connection").map(HeaderValue::as_bytes), Some(b"Upgrade".as_slice()));
        assert_eq!(out.get("x-hop"), None);
    }

    #[test]
    fn who_cannot_be_told_of_is_not() {
        let refused =
            |user: &User| outgoing(&HeaderMap::new(), user, "id-1").expect_err("refused").to_string();
        let named = |name: &str| User { name: name.into(), ..User::default() };
        assert!(refused(&named("a\nx-remote-group: system:masters")).contains("cannot be put in a header"));
        assert!(refused(&named(&"a".repeat(MAX_IDENTITY))).contains("the limit"));
        assert!(outgoing(&HeaderMap::new(), &named("jürgen"), "id-1").is_ok());
    }
}
