//! Which requests are recorded, and how much of them: `Policy` of audit.k8s.io/v1.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::auth::User;
use crate::authz::Question;

/// The policy of a cluster for which none was chosen.
const DEFAULT: &str = include_str!("default.yaml");
/// The longest policy, in bytes.
const MAX_POLICY: usize = 1024 * 1024;

/// How much of a request is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(super) enum Level {
    /// Nothing.
    None,
    /// Who asked for what, when, and the answer's code.
    Metadata,
    /// That, and the request's body.
    Request,
    /// That, and the answer's body.
    RequestResponse,
}

impl Level {
    /// Its name in policies and events.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Metadata => "Metadata",
            Self::Request => "Request",
            Self::RequestResponse => "RequestResponse",
        }
    }
}

/// When an event is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum Stage {
    /// The request has come.
    RequestReceived,
    /// A long answer begins.
    ResponseStarted,
    /// The answer is complete.
    ResponseComplete,
    /// The server has failed at it.
    Panic,
}

impl Stage {
    /// Its name in policies and events.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::RequestReceived => "RequestReceived",
            Self::ResponseStarted => "ResponseStarted",
            Self::ResponseComplete => "ResponseComplete",
            Self::Panic => "Panic",
        }
    }
}

/// A policy. Cheap to ask.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Policy {
    api_version: String,
    kind: String,
    #[serde(default)]
    #[expect(dead_code, reason = "it may be there, and says nothing")]
    metadata: Option<IgnoredAny>,
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<GroupResources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct GroupResources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

/// Why a policy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It is no policy.
    #[error("it cannot be read: {0}")]
    Unreadable(Box<serde_saphyr::Error>),
    /// It is longer than policies are.
    #[error("it has {0} bytes, the limit is {MAX_POLICY}")]
    Long(usize),
    /// It is something else.
    #[error("it is a {kind:?} of {api_version:?}, not a \"Policy\" of \"audit.k8s.io/v1\"")]
    Other {
        /// Its version.
        api_version: String,
        /// Its kind.
        kind: String,
    },
    /// A rule says what cannot be.
    #[error("rules[{rule}]: {why}")]
    Rule {
        /// Which one, from 0.
        rule: usize,
        /// What is wrong with it.
        why: String,
    },
}

/// What is recorded of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(super) level: Level,
    pub(super) omits: Stages,
    pub(super) omit_managed_fields: bool,
}

/// A set of stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stages(u8);

impl Stages {
    fn of(stages: &[Stage]) -> Self {
        Self(stages.iter().fold(0, |set, stage| set | 1 << *stage as u8))
    }

    pub(super) const fn has(self, stage: Stage) -> bool {
        self.0 & 1 << stage as u8 != 0
    }
}

impl Policy {
    /// Reads a policy in YAML or JSON.
    ///
    /// # Errors
    /// It is none, or contradicts itself.
    pub fn read(text: &str) -> Result<Self, PolicyError> {
        if text.len() > MAX_POLICY {
            return Err(PolicyError::Long(text.len()));
        }
        let policy: Self =
            serde_saphyr::from_str(text).map_err(|error| PolicyError::Unreadable(Box::new(error)))?;
        if (policy.api_version.as_str(), policy.kind.as_str()) != ("audit.k8s.io/v1", "Policy") {
            return Err(PolicyError::Other { api_version: policy.api_version, kind: policy.kind });
        }
        for (n, rule) in policy.rules.iter().enumerate() {
            rule.check().map_err(|why| PolicyError::Rule { rule: n, why })?;
        }
        Ok(policy)
    }

    /// What is recorded of a request.
    pub(crate) fn decide(&self, user: &User, question: &Question<'_>) -> Decision {
        match self.rules.iter().find(|rule| rule.matches(user, question)) {
            Some(rule) => Decision {
                level: rule.level,
                omits: Stages(Stages::of(&rule.omit_stages).0 | Stages::of(&self.omit_stages).0),
                omit_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields),
            },
            None => Decision { level: Level::None, omits: Stages::default(), omit_managed_fields: false },
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::read(DEFAULT).expect("a test reads the same text")
    }
}

impl Rule {
    fn check(&self) -> Result<(), String> {
        let on_resources = !self.resources.is_empty() || !self.namespaces.is_empty();
        if on_resources && !self.non_resource_urls.is_empty() {
            return Err("a rule is about resources or about nonResourceURLs, not about both".into());
        }
        for url in self.non_resource_urls.iter().filter(|url| *url != "*") {
            let stars = url.strip_suffix('*').unwrap_or(url);
            if !url.starts_with('/') {
                return Err(format!("nonResourceURLs: {url:?} does not begin with a '/' character"));
            }
            if stars.contains('*') {
                return Err(format!("nonResourceURLs: in {url:?} a '*' is not the last character"));
            }
        }
        for resources in &self.resources {
            if resources.group.contains('/') {
                return Err(format!("resources: {:?} is a version, not a group", resources.group));
            }
            if resources.resources.is_empty() && !resources.resource_names.is_empty() {
                return Err("using resourceNames requires at least one resource".into());
            }
        }
        Ok(())
    }

    fn matches(&self, user: &User, question: &Question<'_>) -> bool {
        let has = |list: &[String], value: &str| list.iter().any(|one| one == value);
        if !(self.users.is_empty() || has(&self.users, &user.name)) {
            return false;
        }
        if !(self.user_groups.is_empty() || user.groups.iter().any(|group| has(&self.user_groups, group))) {
            return false;
        }
        if !(self.verbs.is_empty() || has(&self.verbs, question.verb)) {
            return false;
        }
        let is_resource = question.path.is_empty();
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return is_resource
                && (self.namespaces.is_empty() || has(&self.namespaces, question.namespace))
                && (self.resources.is_empty() || self.resources.iter().any(|r| r.matches(question)));
        }
        self.non_resource_urls.is_empty()
            || !is_resource && self.non_resource_urls.iter().any(|url| is_below(question.path, url))
    }
}

fn is_below(path: &str, url: &str) -> bool {
    url == path || url.strip_suffix('*').is_some_and(|start| path.starts_with(start))
}

impl GroupResources {
    fn matches(&self, question: &Question<'_>) -> bool {
        if self.group != "*" && self.group != question.group {
            return false;
        }
        let named = self.resource_names.is_empty() || self.resource_names.iter().any(|n| n == question.name);
        let is_this = |pattern: &String| match pattern.split_once('/') {
            None => pattern == "*" || pattern == question.resource && question.subresource.is_empty(),
            Some(("*", subresource)) => {
                !question.subresource.is_empty() && subresource == question.subresource
            }
            Some((resource, "*")) => resource == question.resource,
            Some((resource, subresource)) => {
                (resource, subresource) == (question.resource, question.subresource)
            }
        };
        self.resources.is_empty() || named && self.resources.iter().any(is_this)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question<'a>(verb: &'a str, group: &'a str, resource: &'a str, namespace: &'a str) -> Question<'a> {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Question { verb, group, resource, subresource, namespace, name: "a", ..Question::default() }
    }

    fn level(policy: &Policy, user: &User, question: &Question<'_>) -> Level {
        policy.decide(user, question).level
    }

    #[test]
    fn the_first_rule_that_holds_decides() {
        let policy = |rules: &str| {
            Policy::read(&format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{rules}]"))
                .expect("a policy")
        };
        let check = |rule: &str, user: &User, question: &Question<'_>, want: bool| {
            let policy = policy(&format!("{{level: Request, {rule}}}, {{level: Metadata}}"));
            let want = if want { Level::Request } else { Level::Metadata };
            assert_eq!(level(&policy, user, question), want, "{rule} of {question}");
        };
        let jane = User::authenticated("jane", ["dev".to_owned()]);
        let pods = question("get", "", "pods", "n");
        let status = question("update", "", "pods/status", "n");
        let deployments = question("create", "apps", "deployments", "");
        let path = Question { verb: "get", path: "/logs/a", ..Question::default() };
        check("users: [bob]", &jane, &pods, false);
        check("users: [bob, jane]", &jane, &pods, true);
        check("userGroups: [ops]", &jane, &pods, false);
        check("userGroups: [dev]", &jane, &pods, true);
        check("verbs: [get]", &jane, &pods, true);
        check("verbs: [get]", &jane, &status, false);
        check("namespaces: [n]", &jane, &pods, true);
        check("namespaces: ['']", &jane, &pods, false);
        check("namespaces: ['']", &jane, &deployments, true);
        check("namespaces: [n]", &jane, &path, false);
        check("resources: [{group: ''}]", &jane, &pods, true);
        check("resources: [{group: ''}]", &jane, &deployments, false);
        check("resources: [{group: '*', resources: ['*']}]", &jane, &status, true);
        check("resources: [{group: '', resources: [pods]}]", &jane, &status, false);
        check("resources: [{group: '', resources: [pods/status]}]", &jane, &status, true);
        check("resources: [{group: '', resources: [pods/*]}]", &jane, &status, true);
        check("resources: [{group: '', resources: ['*/status']}]", &jane, &status, true);
        check("resources: [{group: '', resources: ['*/status']}]", &jane, &pods, false);
        check("resources: [{group: '', resources: [pods], resourceNames: [b]}]", &jane, &pods, false);
        check("resources: [{group: '', resources: [pods], resourceNames: [a, b]}]", &jane, &pods, true);
        check("nonResourceURLs: ['/logs*']", &jane, &path, true);
        check("nonResourceURLs: ['/logs']", &jane, &path, false);
        check("nonResourceURLs: ['*']", &jane, &path, true);
        check("nonResourceURLs: ['*']", &jane, &pods, false);
    }

    #[test]
    fn stages_and_managed_fields() {
        let policy = Policy::read(
            "{apiVersion: audit.k8s.io/v1, kind: Policy, metadata: {name: a}, omitStages: [Panic], omitManagedFields: true, \
             rules: [{level: Metadata, verbs: [get], omitStages: [RequestReceived], omitManagedFields: false}, \
             {level: Request, verbs: [list]}]}",
        )
        .expect("a policy");
        let decide = |verb| policy.decide(&User::anonymous(), &question(verb, "", "pods", ""));
        let got = decide("get");
        assert!(got.omits.has(Stage::Panic) && got.omits.has(Stage::RequestReceived));
        assert!(!got.omits.has(Stage::ResponseComplete) && !got.omit_managed_fields);
        assert!(decide("list").omit_managed_fields && !decide("list").omits.has(Stage::RequestReceived));
        assert_eq!(decide("create").level, Level::None, "no rule holds");
    }

    #[test]
    fn what_is_no_policy() {
        let check = |text: &str, want: &str| {
            let error = Policy::read(text).expect_err("no policy").to_string();
            assert!(error.contains(want), "{text}: {error}");
        };
        let rule = |rule: &str| format!("{{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{rule}]}}");
        check("a: [", "it cannot be read");
        check("{apiVersion: v1, kind: Pod}", "not a \"Policy\" of \"audit.k8s.io/v1\"");
        check(&rule("{level: Some}"), "it cannot be read");
        check(&rule("{level: None, verb: [get]}"), "unknown field");
        check(
            &rule("{level: None}, {level: None, nonResourceURLs: ['a']}"),
            "rules[1]: nonResourceURLs: \"a\"",
        );
        check(&rule("{level: None, nonResourceURLs: ['/*a']}"), "is not the last character");
        check(&rule("{level: None, namespaces: [a], nonResourceURLs: ['/a']}"), "not about both");
        check(&rule("{level: None, resources: [{group: apps/v1}]}"), "is a version");
        check(&rule("{level: None, resources: [{resourceNames: [a]}]}"), "at least one resource");
        check(&" ".repeat(MAX_POLICY + 1), "the limit is");
    }

    #[test]
    fn by_default_changes_and_secrets_are_recorded() {
        let policy = Policy::default();
        let check = |name: &str, group: &str, verb: &str, resource: &str, want: Level| {
            let user = User::component(name, &[group]);
            let (api_group, resource) = resource.rsplit_once(':').unwrap_or(("", resource));
            let got = level(&policy, &user, &question(verb, api_group, resource, "n"));
            assert_eq!(got, want, "{name}: {verb} {resource}");
        };
        check("jane", "dev", "get", "pods", Level::None);
        check("jane", "dev", "create", "pods", Level::Metadata);
        check("jane", "dev", "delete", "pods", Level::Metadata);
        check("jane", "dev", "get", "secrets", Level::Metadata);
        check("jane", "dev", "watch", "secrets", Level::Metadata);
        check("jane", "dev", "update", "coordination.k8s.io:leases", Level::Metadata);
        check("system:kube-scheduler", "", "get", "secrets", Level::None);
        check("system:kube-scheduler", "", "create", "pods/binding", Level::Metadata);
        check("system:node:a", "system:nodes", "get", "secrets", Level::None);
        check("system:node:a", "system:nodes", "update", "coordination.k8s.io:leases", Level::None);
        check("system:node:a", "system:nodes", "create", "events", Level::None);
        check("system:node:a", "system:nodes", "create", "serviceaccounts/token", Level::Metadata);
        let user = User::anonymous();
        for (verb, path, want) in [
            ("get", "/livez", Level::None),
            ("get", "/apis/apps/v1", Level::None),
            ("post", "/x", Level::Metadata),
        ] {
            let question = Question { verb, path, ..Question::default() };
            assert_eq!(level(&policy, &user, &question), want, "{path}");
        }
        let secrets = policy.decide(&user, &question("watch", "", "secrets", "n"));
        assert!(secrets.omits.has(Stage::RequestReceived) && secrets.omits.has(Stage::ResponseStarted));
    }
}
