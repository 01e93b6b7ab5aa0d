//! The ways of impersonation.

use xebec_api::Status;

use super::{account, complete_groups, node};
use crate::auth::User;
use crate::auth::user::MASTERS;
use crate::authz::{Authorizer, Question};

/// The group of what can be impersonated and is no object; in narrow modes, of everything.
const AUTHENTICATION: &str = "authentication.k8s.io";
/// From how many checks on it is asked first whether all are allowed at once.
const MANY: usize = 4;

/// A way of impersonation.
pub(super) struct Mode {
    /// Its name in verbs; empty for the wide one.
    name: &'static str,
    /// Whether it is for this user, asked for by that one.
    fits: fn(wanted: &User, asker: &User) -> bool,
}

/// All ways, in the order in which they are tried.
pub(super) const MODES: [Mode; 5] = [
    Mode {
        name: "associated-node",
        fits: |wanted, asker| is_only_named(wanted) && is_of_node(asker, wanted),
    },
    Mode { name: "arbitrary-node", fits: |wanted, _| is_only_named(wanted) && node(&wanted.name).is_some() },
    Mode { name: "serviceaccount", fits: |wanted, _| is_only_named(wanted) && account(wanted).is_some() },
    Mode { name: "user-info", fits: |wanted, _| node(&wanted.name).is_none() && account(wanted).is_none() },
    Mode { name: "", fits: |_, _| true },
];

fn is_only_named(user: &User) -> bool {
    user.uid.is_empty() && user.groups.is_empty() && user.extra.is_empty()
}

/// Whether the asker is a service account whose token is bound to the node.
fn is_of_node(asker: &User, wanted: &User) -> bool {
    let of = asker.extra.get("authentication.kubernetes.io/node-name").map(Vec::as_slice);
    match (of, node(&wanted.name)) {
        (Some([own]), Some(node)) => own == node && account(asker).is_some(),
        _ => false,
    }
}

impl Mode {
    fn is_narrow(&self) -> bool {
        !self.name.is_empty()
    }

    /// The verb that whoever comes this way needs on whom they want to be; empty for the wide one.
    pub(super) fn constraint(&self) -> String {
        if self.is_narrow() { format!("impersonate:{}", self.name) } else { String::new() }
    }

    /// Whom the asker may be in this way. `None`: it is not for this user.
    pub(super) async fn allow(
        &self,
        authorizer: &Authorizer,
        asker: &User,
        wanted: &User,
        request: &Question<'_>,
    ) -> Option<Result<User, Status>> {
        if !(self.fits)(wanted, asker) {
            return None;
        }
        let verb = if self.is_narrow() { self.constraint() } else { "impersonate".to_owned() };
        let asking = Asking {
            authorizer,
            asker,
            verb: &verb,
            narrow: self.is_narrow(),
            any_node: self.name == "associated-node",
        };
        Some(self.allow_fitting(&asking, wanted, request).await)
    }

    async fn allow_fitting(
        &self,
        asking: &Asking<'_>,
        wanted: &User,
        request: &Question<'_>,
    ) -> Result<User, Status> {
        if self.is_narrow() {
            let verb = format!("impersonate-on:{}:{}", self.name, request.verb);
            asking.ask(&Question { verb: &verb, ..*request }).await?;
        }
        let mut user = wanted.clone();
        asking.name(&mut user).await?;
        asking.uid(wanted).await?;
        asking.groups(wanted).await?;
        asking.extra(wanted).await?;
        complete_groups(&mut user);
        Ok(user)
    }
}

/// One asker in one mode.
struct Asking<'a> {
    authorizer: &'a Authorizer,
    asker: &'a User,
    verb: &'a str,
    narrow: bool,
    /// Whether the asker needs the right for all nodes, since which one it is was seen already.
    any_node: bool,
}

impl Asking<'_> {
    async fn ask(&self, question: &Question<'_>) -> Result<(), Status> {
        self.authorizer.authorize(self.asker, question).await.map(drop)
    }

    fn about<'a>(&'a self, resource: &'a str, name: &'a str) -> Question<'a> {
        let group = if self.narrow { AUTHENTICATION } else { "" };
        Question { verb: self.verb, group, version: "v1", resource, name, ..Question::default() }
    }

    /// By the name; nodes and service accounts have the groups that go with it.
    async fn name(&self, user: &mut User) -> Result<(), Status> {
        let name = user.name.clone();
        if let Some(node) = node(&name).filter(|_| self.narrow) {
            user.groups = vec!["system:nodes".into()];
            return self.ask(&self.about("nodes", if self.any_node { "*" } else { node })).await;
        }
        if let Some((namespace, account)) = account(&user.clone()) {
            if user.groups.is_empty() {
                user.groups =
                    vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")];
            }
            let question = Question { namespace, ..self.about("serviceaccounts", account) };
            return self.ask(&question).await;
        }
        self.ask(&self.about("users", &name)).await
    }

    async fn uid(&self, wanted: &User) -> Result<(), Status> {
        if wanted.uid.is_empty() {
            return Ok(());
        }
        self.ask(&Question { group: AUTHENTICATION, ..self.about("uids", &wanted.uid) }).await
    }

    async fn groups(&self, wanted: &User) -> Result<(), Status> {
        if self.narrow && !wanted.groups.is_empty() {
            let refuse = |name, why| Err(self.about("groups", name).refusal(self.asker, why));
            if wanted.groups.iter().any(String::is_empty) {
                return refuse("", "impersonating the empty string group is not allowed");
            }
            if wanted.is_in(MASTERS) {
                return refuse(MASTERS, "impersonating the system:masters group is not allowed");
            }
            if wanted.groups.len() >= MANY && self.ask(&self.about("groups", "*")).await.is_ok() {
                return Ok(());
            }
        }
        for group in &wanted.groups {
            self.ask(&self.about("groups", group)).await?;
        }
        Ok(())
    }

    async fn extra(&self, wanted: &User) -> Result<(), Status> {
        let question = |subresource, name| Question {
            group: AUTHENTICATION,
            subresource,
            ..self.about("userextras", name)
        };
        if self.narrow {
            if let Some(fault) = extra_fault(wanted) {
                return Err(question("", "").refusal(self.asker, &fault));
            }
            let many = wanted.extra.values().map(Vec::len).sum::<usize>() >= MANY;
            if many && self.ask(&question("*", "*")).await.is_ok() {
                return Ok(());
            }
        }
        for (key, values) in &wanted.extra {
            for value in values {
                self.ask(&question(key, value)).await?;
            }
        }
        Ok(())
    }
}

/// What the narrow modes do not take of extra facts.
fn extra_fault(wanted: &User) -> Option<String> {
    wanted.extra.iter().find_map(|(key, values)| {
        if key.is_empty() {
            return Some("impersonating the empty string key in extra is not allowed".to_owned());
        }
        let domain = key.split_once('/').filter(|(_, path)| !path.is_empty());
        if domain.is_none_or(|(domain, _)| xebec_api::names::dns_subdomain(domain).is_err()) {
            return Some(format!(
                "impersonating an invalid key in extra is not allowed: {key:?} must be a domain-prefixed path (such as \
                 \"acme.io/foo\")"
            ));
        }
        let empty = values.iter().any(String::is_empty);
        empty.then(|| "impersonating the empty string value in extra is not allowed".to_owned())
    })
}
