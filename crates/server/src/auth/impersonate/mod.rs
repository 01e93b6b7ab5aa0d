//! Acting as somebody else: the `Impersonate-*` headers, for those whom a role allows it.
//!
//! There are narrow ways and a wide one, tried in this order (as upstream's KEP 5284 has it). Who comes by a narrow way needs
//! the verb `impersonate-on:MODE:VERB` on what the request is about, and `impersonate:MODE` on whom they want to be; the wide
//! one, `impersonate`, lets them do all that the other may.
//!
//! | mode | who can be impersonated |
//! |---|---|
//! | `associated-node` | the node that the asking service account's token is bound to |
//! | `arbitrary-node` | any node |
//! | `serviceaccount` | service accounts |
//! | `user-info` | everybody else, with groups, UID and extra facts, but not `system:masters` |
//! | (wide) | everybody |

mod modes;

use http::HeaderMap;
use percent_encoding::percent_decode_str;
use xebec_api::{Reason, Status, names};

use self::modes::MODES;
use super::User;
use super::user::{AUTHENTICATED, UNAUTHENTICATED};
use crate::authz::{Authorizer, Question};

const USER: &str = "impersonate-user";
const UID: &str = "impersonate-uid";
const GROUP: &str = "impersonate-group";
const EXTRA: &str = "impersonate-extra-";

/// Who acts, by way of what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Impersonated {
    /// Who the request is of from here on.
    pub user: User,
    /// The verb that allowed it, `impersonate:user-info`; empty if it was `impersonate`.
    pub constraint: String,
}

/// The user that `asker` wants to be for a request, if there is one in the headers; every part of it must be allowed.
///
/// # Errors
/// A part is not allowed (403), or there are parts without a user (400).
pub(crate) async fn impersonated(
    authorizer: &Authorizer,
    asker: &User,
    headers: &HeaderMap,
    request: &Question<'_>,
) -> Result<Option<Impersonated>, Status> {
    if !headers.keys().any(|name| name.as_str().starts_with("impersonate-")) {
        return Ok(None);
    }
    let Some(wanted) = wanted(headers)? else { return Ok(None) };
    let mut refusal = None;
    for mode in &MODES {
        match mode.allow(authorizer, asker, &wanted, request).await {
            None => {}
            Some(Ok(user)) => return Ok(Some(Impersonated { user, constraint: mode.constraint() })),
            Some(Err(status)) => refusal = refusal.or(Some(status)),
        }
    }
    Err(refusal.unwrap_or_else(|| Status::internal("no mode of impersonation is for everybody")))
}

fn wanted(headers: &HeaderMap) -> Result<Option<User>, Status> {
    let mut user = User { name: text(headers, USER)?, uid: text(headers, UID)?, ..User::default() };
    for value in headers.get_all(GROUP) {
        user.groups.push(value.to_str().map_err(|_| unreadable(GROUP))?.to_owned());
    }
    for (name, value) in headers {
        let Some(key) = name.as_str().strip_prefix(EXTRA) else { continue };
        // What is no good UTF-8 when decoded is taken as it is.
        let decoded = percent_decode_str(key).decode_utf8().map_or_else(|_| key.to_owned(), Into::into);
        let value = value.to_str().map_err(|_| unreadable(name.as_str()))?;
        user.extra.entry(decoded).or_default().push(value.to_owned());
    }
    if !user.name.is_empty() {
        return Ok(Some(user));
    }
    if user == User::default() {
        return Ok(None);
    }
    let text = "requested groups, extra facts or a UID without impersonating a user name: set the header \
                Impersonate-User";
    Err(Status::new(Reason::BadRequest, text))
}

fn text(headers: &HeaderMap, name: &str) -> Result<String, Status> {
    let value = headers.get(name).map(|v| v.to_str().map_err(|_| unreadable(name))).transpose()?;
    Ok(value.unwrap_or_default().to_owned())
}

fn unreadable(header: &str) -> Status {
    Status::new(Reason::BadRequest, format!("the header {header} is not printable ASCII"))
}

/// The node whose agent has this name.
fn node(name: &str) -> Option<&str> {
    name.strip_prefix("system:node:").filter(|node| names::dns_subdomain(node).is_ok())
}

/// Namespace and name of the service account that has this name.
fn account(user: &User) -> Option<(&str, &str)> {
    let (namespace, name) = user.service_account()?;
    (names::dns_label(namespace).is_ok() && names::dns_subdomain(name).is_ok()).then_some((namespace, name))
}

/// Everybody is known, or is not.
fn complete_groups(user: &mut User) {
    let missing = match () {
        () if user.name == User::anonymous().name => UNAUTHENTICATED,
        () if user.is_in(UNAUTHENTICATED) => return,
        () => AUTHENTICATED,
    };
    if !user.is_in(missing) {
        user.groups.push(missing.into());
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::auth::user::MASTERS;
    use crate::authz::Rule;

    fn check(asker: &User, headers: &[(&str, &str)]) -> Result<Option<User>, String> {
        check_by(&Authorizer::default(), asker, headers).map(|found| found.map(|found| found.user))
    }

    /// `list pods` in the namespace `n`.
    fn check_by(
        authorizer: &Authorizer,
        asker: &User,
        headers: &[(&str, &str)],
    ) -> Result<Option<Impersonated>, String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = HeaderName::try_from(*name).expect("a header's name");
            map.append(name, HeaderValue::try_from(*value).expect("a header's value"));
        }
        let request = Question { verb: "list", resource: "pods", namespace: "n", ..Question::default() };
        let answer = impersonated(authorizer, asker, &map, &request);
        answer.now_or_never().expect("nobody elsewhere is asked").map_err(|s| s.message.into_owned())
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
                "cannot impersonate-on:user-info:list resource \"pods\" in API group \"\" in the namespace \"n\"",
            ),
            (
                &[("impersonate-user", "system:serviceaccount:n:s")],
                "cannot impersonate-on:serviceaccount:list resource \"pods\"",
            ),
            (
                &[("impersonate-user", "system:node:a")],
                "cannot impersonate-on:arbitrary-node:list resource \"pods\"",
            ),
            (&[("impersonate-group", "system:masters")], "without impersonating a user"),
        ] {
            let refused = check(&jane, headers).expect_err("refused");
            assert!(refused.contains(want), "{refused}");
        }
    }

    /// Lets jane do what the rules say.
    fn authorizer(rules: &[Rule]) -> Authorizer {
        let authorizer = Authorizer::default();
        authorizer.trust("jane", rules);
        authorizer
    }

    #[test]
    fn the_narrow_ways() {
        let authentication = "authentication.k8s.io";
        let on = |mode: &str| Rule::on(&format!("impersonate-on:{mode}:list"), "", "pods");
        let check = |rules: &[Rule], asker: &User, headers: &[(&str, &str)], want: Result<&str, &str>| match (
            check_by(&authorizer(rules), asker, headers),
            want,
        ) {
            (Ok(Some(found)), Ok(want)) => assert_eq!(found.constraint, want, "{headers:?}"),
            (Err(found), Err(want)) => assert!(found.contains(want), "{found}, not {want}"),
            (found, want) => panic!("{found:?} instead of {want:?} with {headers:?}"),
        };
        let jane = User::authenticated("jane", []);
        let bob = [("impersonate-user", "bob"), ("impersonate-group", "dev")];
        let users = Rule::on("impersonate:user-info", authentication, "users");
        let groups = Rule::on("impersonate:user-info", authentication, "groups");
        let wide = Rule::on("impersonate", "", "users groups");
        check(&[on("user-info"), users.clone(), groups.clone()], &jane, &bob, Ok("impersonate:user-info"));
        check(
            &[on("user-info"), users.clone()],
            &jane,
            &bob,
            Err(
                "groups.authentication.k8s.io \"dev\" is forbidden: User \"jane\" cannot impersonate:user-info",
            ),
        );
        check(&[users.clone(), groups.clone(), wide], &jane, &bob, Ok(""));
        let masters = [("impersonate-user", "bob"), ("impersonate-group", "system:masters")];
        check(
            &[on("user-info"), users, groups],
            &jane,
            &masters,
            Err("impersonating the system:masters group is not allowed"),
        );
        let node = [("impersonate-user", "system:node:n1")];
        let nodes = Rule::on("impersonate:arbitrary-node", authentication, "nodes");
        check(&[on("arbitrary-node"), nodes], &jane, &node, Ok("impersonate:arbitrary-node"));
        let account = [("impersonate-user", "system:serviceaccount:n:s")];
        let accounts = Rule::on("impersonate:serviceaccount", authentication, "serviceaccounts");
        check(&[on("serviceaccount"), accounts], &jane, &account, Ok("impersonate:serviceaccount"));
    }

    #[test]
    fn an_agent_of_a_node_is_its_node() {
        let authorizer = Authorizer::default();
        let name = "system:serviceaccount:n:agent";
        let any = Rule {
            names: vec!["*".into()],
            ..Rule::on("impersonate:associated-node", "authentication.k8s.io", "nodes")
        };
        authorizer.trust(name, &[Rule::on("impersonate-on:associated-node:list", "", "pods"), any]);
        let mut agent = User::authenticated(name, []);
        let fact = "authentication.kubernetes.io/node-name".to_owned();
        agent.extra.insert(fact, vec!["n1".into()]);
        let ask = |node| check_by(&authorizer, &agent, &[("impersonate-user", node)]);
        let found = ask("system:node:n1").expect("allowed").expect("a user");
        assert_eq!(found.constraint, "impersonate:associated-node");
        assert_eq!(found.user.groups, ["system:nodes", AUTHENTICATED]);
        ask("system:node:n2").expect_err("another node");
    }
}
