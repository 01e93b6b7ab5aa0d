//! Bootstrap tokens, by which new nodes make themselves known: `ID.SECRET`, kept in secrets of the type
//! `bootstrap.kubernetes.io/token` in `kube-system`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use xebec_api::Value;
use xebec_api::time::Timestamp;

use super::User;
use crate::core::Core;
use crate::registry::{convert, read};

const NAMESPACE: &str = "kube-system";
const GROUP: &str = "system:bootstrappers";

/// Who holds the token. `None`: it is no such token, is unknown, or no longer good, which the log says.
#[must_use]
pub fn identify(core: &Core, token: &str, now: Timestamp) -> Option<User> {
    let (id, secret) = parse(token)?;
    let table = core.table.get();
    let snapshot = core.store.snapshot();
    let name = format!("bootstrap-token-{id}");
    let record = read::find(&snapshot, table.row("", "secrets")?, NAMESPACE, &name).ok()?;
    let object = convert::stored_object(record).ok()?;
    match holder(&object, id, secret, now) {
        Ok(user) => Some(user),
        Err(why) => {
            tracing::debug!(secret = name, why, "a bootstrap token is not taken");
            None
        }
    }
}

/// The two parts of a token: six characters, and sixteen.
fn parse(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let is_plain = |text: &str| text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    (id.len() == 6 && secret.len() == 16 && is_plain(id) && is_plain(secret)).then_some((id, secret))
}

fn holder(object: &Value, id: &str, secret: &str, now: Timestamp) -> Result<User, &'static str> {
    let text = |key: &str| {
        let bytes = STANDARD.decode(object.str_at(&["data", key])?).ok()?;
        String::from_utf8(bytes).ok()
    };
    if object.at(&["metadata", "deletionTimestamp"]).is_some() {
        return Err("it is being deleted");
    }
    if object.str_at(&["type"]) != Some("bootstrap.kubernetes.io/token") {
        return Err("its type is not bootstrap.kubernetes.io/token");
    }
    if !text("token-secret").is_some_and(|own| super::same_secret(own.as_bytes(), secret.as_bytes())) {
        return Err("token-secret is not that of the token");
    }
    if text("token-id").as_deref() != Some(id) {
        return Err("token-id is not that of the token");
    }
    if let Some(end) = text("expiration").filter(|end| !end.is_empty()) {
        // What cannot be read has ended, to be safe.
        match Timestamp::parse(&end) {
            Some(end) if end > now => {}
            Some(_) => return Err("it has expired"),
            None => return Err("expiration is no time"),
        }
    }
    if text("usage-bootstrap-authentication").as_deref() != Some("true") {
        return Err("it is not for usage-bootstrap-authentication");
    }
    let extra = text("auth-extra-groups").unwrap_or_default();
    let mut groups = vec![GROUP.to_owned()];
    for group in extra.split(',').map(str::trim).filter(|group| !group.is_empty()) {
        if !is_bootstrap_group(group) {
            return Err("auth-extra-groups has a group that is not below system:bootstrappers:");
        }
        groups.push(group.to_owned());
    }
    groups.sort();
    groups.dedup();
    Ok(User::authenticated(format!("system:bootstrap:{id}"), groups))
}

/// Whether a token may have the group: `system:bootstrappers:` and a name of letters, digits, `:` and `-`.
fn is_bootstrap_group(group: &str) -> bool {
    let Some(name) = group.strip_prefix("system:bootstrappers:") else { return false };
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b':' || c == b'-';
    let edge = |c: Option<u8>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    name.len() <= 256 && name.bytes().all(inner) && edge(name.bytes().next()) && edge(name.bytes().last())
}

#[cfg(test)]
mod tests {
    use super::*;
    use xebec_api::object;

    #[test]
    fn tokens_have_two_parts() {
        assert_eq!(parse("abcdef.0123456789abcdef"), Some(("abcdef", "0123456789abcdef")));
        for text in
            ["", "abcdef", "abcde.0123456789abcdef", "abcdef.0123456789abcde", "abcdeF.0123456789abcdef"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn who_holds_a_token() {
        let now = Timestamp::parse("2026-01-02T00:00:00Z").expect("a time");
        let check = |changes: &[(&str, &str)], want: Result<&[&str], &str>| {
            let mut secret = object!({"type": "bootstrap.kubernetes.io/token", "data": {}});
            let base = [
                ("token-id", "abcdef"),
                ("token-secret", "0123456789abcdef"),
                ("usage-bootstrap-authentication", "true"),
            ];
            for (key, value) in base.iter().chain(changes) {
                secret.set(&["data", key], STANDARD.encode(value));
            }
            let found = holder(&secret, "abcdef", "0123456789abcdef", now);
            let groups = found.as_ref().map(|user| user.groups.iter().map(String::as_str).collect());
            assert_eq!(groups.map_err(|why| *why), want.map(<[_]>::to_vec), "{changes:?}");
        };
        let plain = &[GROUP, "system:authenticated"][..];
        check(&[], Ok(plain));
        check(&[("expiration", "2026-01-02T00:00:01Z")], Ok(plain));
        check(&[("expiration", "2026-01-02T00:00:00Z")], Err("it has expired"));
        check(&[("expiration", "soon")], Err("expiration is no time"));
        check(&[("token-secret", "0123456789abcdeX")], Err("token-secret is not that of the token"));
        check(&[("token-id", "abcdeg")], Err("token-id is not that of the token"));
        check(
            &[("usage-bootstrap-authentication", "false")],
            Err("it is not for usage-bootstrap-authentication"),
        );
        check(
            &[("auth-extra-groups", "system:bootstrappers:b,system:bootstrappers:a:x")],
            Ok(&[GROUP, "system:bootstrappers:a:x", "system:bootstrappers:b", "system:authenticated"]),
        );
        check(
            &[("auth-extra-groups", "system:masters")],
            Err("auth-extra-groups has a group that is not below system:bootstrappers:"),
        );
    }
}
