//! Acting as somebody else: the `Impersonate-*` headers, for those whom a role allows the verb `impersonate`.

use http::HeaderMap;
use percent_encoding::percent_decode_str;
use xebec_api::{Reason, Status};

use super::User;
use super::user::{AUTHENTICATED, UNAUTHENTICATED};
use crate::authz::{Authorizer, Question};

const USER: &str = "impersonate-user";
const UID: &str = "impersonate-uid";
const GROUP: &str = "impersonate-group";
const EXTRA: &str = "impersonate-extra-";

/// The group of what can be impersonated and is no object: extra facts and UIDs.
const AUTHENTICATION: &str = "authentication.k8s.io";

/// The user that `asker` wants to be, if there is one in the headers; every part of it must be allowed.
///
/// # Errors
/// A part is not allowed (403), or there are parts without a user (400).
pub(crate) fn impersonated(
    authorizer: &Authorizer,
    asker: &User,
    headers: &HeaderMap,
) -> Result<Option<User>, Status> {
    let wanted = wanted(headers)?;
    let Some(mut user) = wanted else { return Ok(None) };
    let ask = |question: Question<'_>| {
        let question = Question { verb: "impersonate", ..question };
        authorizer
            .check(asker, &question)
            .map_err(|why| Status::forbidden(question.group, question.resource, question.name, why))
    };
    match user.service_account() {
        Some((namespace, name)) => {
            ask(Question { resource: "serviceaccounts", namespace, name, ..Question::default() })?;
        }
        None => ask(Question { resource: "users", name: &user.name, ..Question::default() })?,
    }
    for group in &user.groups {
        ask(Question { resource: "groups", name: group, ..Question::default() })?;
    }
    for (key, values) in &user.extra {
        for name in values {
            let (group, subresource) = (AUTHENTICATION, key.as_str());
            ask(Question { group, resource: "userextras", subresource, name, ..Question::default() })?;
        }
    }
    if !user.uid.is_empty() {
        ask(Question { group: AUTHENTICATION, resource: "uids", name: &user.uid, ..Question::default() })?;
    }
    complete_groups(&mut user);
    Ok(Some(user))
}

fn wanted(headers: &HeaderMap) -> Result<Option<User>, Status> {
    let mut user = User { name: text(headers, USER)?, uid: text(headers, UID)?, ..User::default() };
    for value in headers.get_all(GROUP) {
        user.groups.push(value.to_str().map_err(|_| unreadable(GROUP))?.to_owned());
    }
    for (name, value) in headers {
        let Some(key) = name.as_str().strip_prefix(EXTRA) else { continue };
        let key = percent_decode_str(key).decode_utf8().map_err(|_| unreadable(name.as_str()))?;
        let value = value.to_str().map_err(|_| unreadable(name.as_str()))?;
        user.extra.entry(key.into_owned()).or_default().push(value.to_owned());
    }
    if !user.name.is_empty() {
        return Ok(Some(user));
    }
    if user == User::default() {
        return Ok(None);
    }
    let text =
        "groups, extra facts or a UID are impersonated without a user: set the header Impersonate-User";
    Err(Status::new(Reason::BadRequest, text))
}

fn text(headers: &HeaderMap, name: &str) -> Result<String, Status> {
    let value = headers.get(name).map(|v| v.to_str().map_err(|_| unreadable(name))).transpose()?;
    Ok(value.unwrap_or_default().to_owned())
}

fn unreadable(header: &str) -> Status {
    Status::new(Reason::BadRequest, format!("the header {header} is not printable ASCII"))
}

/// Whoever is not named with groups gets those of a service account; and everybody is known, or is not.
fn complete_groups(user: &mut User) {
    if user.groups.is_empty() {
        let namespace = user.service_account().map(|(namespace, _)| namespace.to_owned());
        if let Some(namespace) = namespace {
            user.groups.push("system:serviceaccounts".into());
            user.groups.push(format!("system:serviceaccounts:{namespace}"));
        }
    }
    let missing = if user.name == User::anonymous().name { UNAUTHENTICATED } else { AUTHENTICATED };
    if !user.is_in(AUTHENTICATED) && !user.is_in(UNAUTHENTICATED) {
        user.groups.push(missing.into());
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::auth::user::MASTERS;

    fn check(asker: &User, headers: &[(&str, &str)]) -> Result<Option<User>, String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = HeaderName::try_from(*name).expect("a header's name");
            map.append(name, HeaderValue::try_from(*value).expect("a header's value"));
        }
        impersonated(&Authorizer::default(), asker, &map).map_err(|s| s.message.into_owned())
    }

    fn master() -> User {
        User::authenticated("root", [MASTERS.to_owned()])
    }

    #[test]
    fn nobody_is_impersonated_without_headers() {
        assert_eq!(check(&User::anonymous(), &[("accept", "*/*")]), Ok(None));
    }

    #[test]
    fn groups_are_completed() {
        for (name, given, groups) in [
            ("jane", &[][..], &[AUTHENTICATED][..]),
            ("jane", &["a", "b"], &["a", "b", AUTHENTICATED]),
            ("system:anonymous", &[], &[UNAUTHENTICATED]),
            (
                "system:serviceaccount:n:s",
                &[],
                &["system:serviceaccounts", "system:serviceaccounts:n", AUTHENTICATED],
            ),
            ("system:serviceaccount:n:s", &["a"], &["a", AUTHENTICATED]),
        ] {
            let mut headers = vec![("impersonate-user", name)];
            headers.extend(given.iter().map(|g| ("impersonate-group", *g)));
            let user = check(&master(), &headers).expect("allowed").expect("a user");
            assert_eq!(
                (user.name.as_str(), user.groups),
                (name, groups.iter().map(ToString::to_string).collect())
            );
        }
    }

    #[test]
    fn extra_keys_are_decoded_and_kept_apart() {
        let headers = [
            ("impersonate-user", "jane"),
            ("impersonate-uid", "7"),
            ("impersonate-extra-acme.com%2fproject", "a"),
            ("impersonate-extra-acme.com%2fproject", "b"),
        ];
        let user = check(&master(), &headers).expect("allowed").expect("a user");
        assert_eq!(user.uid, "7");
        assert_eq!(user.extra["acme.com/project"], ["a", "b"]);
    }

    #[test]
    fn every_part_must_be_allowed() {
        let jane = User::authenticated("jane", []);
        for (headers, want) in [
            (
                &[("impersonate-user", "root")][..],
                "cannot impersonate resource \"users\" in API group \"\" at the cluster scope",
            ),
            (
                &[("impersonate-user", "system:serviceaccount:n:s")],
                "resource \"serviceaccounts\" in API group \"\" in the namespace \"n\"",
            ),
            (&[("impersonate-group", "system:masters")], "without a user"),
        ] {
            let refused = check(&jane, headers).expect_err("refused");
            assert!(refused.contains(want), "{refused}");
        }
    }
}
