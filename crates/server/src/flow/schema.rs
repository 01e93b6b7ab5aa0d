//! FlowSchemas and PriorityLevelConfigurations as they are read out of the store (flowcontrol.apiserver.k8s.io/v1), and
//! which requests a schema is about.
//!
//! What an object leaves out has upstream's default; numbers beyond what can be are taken as the nearest that can.

use http::HeaderValue;
use xebec_api::{Value, meta};

use super::queues::{MAX_HAND, Queuing};
use super::shares::Share;
use crate::auth::User;
use crate::authz::Question;

/// How many queues a level has at most.
const MAX_QUEUES: i64 = 1024;
/// How many requests wait in a queue at most.
const MAX_LENGTH: i64 = 1000;

/// What tells the flows of a schema apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Distinguisher {
    /// Nothing: there is one.
    None,
    ByUser,
    ByNamespace,
}

/// A FlowSchema.
#[derive(Clone, Debug)]
pub(super) struct Schema {
    pub(super) name: String,
    /// Says so in answers.
    pub(super) uid: HeaderValue,
    pub(super) precedence: i64,
    pub(super) level: String,
    pub(super) distinguisher: Distinguisher,
    rules: Vec<Rule>,
}

/// Some requests of somebody.
#[derive(Clone, Debug)]
struct Rule {
    subjects: Vec<Subject>,
    resources: Vec<ResourceRule>,
    paths: Vec<PathRule>,
}

#[derive(Clone, Debug)]
enum Subject {
    Everybody,
    User(String),
    Group(String),
    /// All service accounts whose user names begin so.
    Accounts(String),
}

#[derive(Clone, Debug)]
struct ResourceRule {
    verbs: Words,
    groups: Words,
    resources: Words,
    namespaces: Words,
    cluster: bool,
}

#[derive(Clone, Debug)]
struct PathRule {
    verbs: Words,
    urls: Words,
}

/// Words, or all of them.
#[derive(Clone, Debug)]
struct Words {
    all: bool,
    words: Vec<String>,
}

impl Words {
    fn read(value: &Value, field: &str) -> Self {
        let words = value.array_at(&[field]).iter().filter_map(Value::as_str).map(str::to_owned);
        let words: Vec<String> = words.collect();
        Self { all: words.iter().any(|word| word == "*"), words }
    }

    fn has(&self, word: &str) -> bool {
        self.all || self.words.iter().any(|one| one == word)
    }
}

impl Schema {
    /// Reads a FlowSchema.
    pub(super) fn read(object: &Value) -> Self {
        let distinguisher = match object.str_at(&["spec", "distinguisherMethod", "type"]) {
            Some("ByUser") => Distinguisher::ByUser,
            Some("ByNamespace") => Distinguisher::ByNamespace,
            _ => Distinguisher::None,
        };
        Self {
            name: meta::name(object).to_owned(),
            uid: uid(object),
            precedence: object.i64_at(&["spec", "matchingPrecedence"]).unwrap_or(1000),
            level: object
                .str_at(&["spec", "priorityLevelConfiguration", "name"])
                .unwrap_or_default()
                .to_owned(),
            distinguisher,
            rules: object.array_at(&["spec", "rules"]).iter().map(Rule::read).collect(),
        }
    }

    /// Whether it is about a request.
    pub(super) fn matches(&self, user: &User, question: &Question<'_>) -> bool {
        self.rules.iter().any(|rule| rule.matches(user, question))
    }
}

fn uid(object: &Value) -> HeaderValue {
    HeaderValue::from_str(meta::uid(object)).unwrap_or(HeaderValue::from_static(""))
}

impl Rule {
    fn read(rule: &Value) -> Self {
        let list = |name| rule.array_at(&[name]).iter();
        Self {
            subjects: list("subjects").filter_map(Subject::read).collect(),
            resources: list("resourceRules").map(ResourceRule::read).collect(),
            paths: list("nonResourceRules").map(PathRule::read).collect(),
        }
    }

    fn matches(&self, user: &User, question: &Question<'_>) -> bool {
        if question.path.is_empty() {
            self.resources.iter().any(|rule| rule.matches(question)) && self.is_of(user)
        } else {
            self.paths.iter().any(|rule| rule.matches(question)) && self.is_of(user)
        }
    }

    fn is_of(&self, user: &User) -> bool {
        self.subjects.iter().any(|subject| subject.is(user))
    }
}

impl Subject {
    fn read(subject: &Value) -> Option<Self> {
        Some(match subject.str_at(&["kind"])? {
            "User" => match subject.str_at(&["user", "name"])? {
                "*" => Self::Everybody,
                name => Self::User(name.to_owned()),
            },
            "Group" => match subject.str_at(&["group", "name"])? {
                "*" => Self::Everybody,
                name => Self::Group(name.to_owned()),
            },
            "ServiceAccount" => {
                let namespace = subject.str_at(&["serviceAccount", "namespace"])?;
                match subject.str_at(&["serviceAccount", "name"])? {
                    "*" => Self::Accounts(format!("system:serviceaccount:{namespace}:")),
                    name => Self::User(format!("system:serviceaccount:{namespace}:{name}")),
                }
            }
            _ => return None,
        })
    }

    fn is(&self, user: &User) -> bool {
        match self {
            Self::Everybody => true,
            Self::User(name) => *name == user.name,
            Self::Group(name) => user.is_in(name),
            Self::Accounts(prefix) => user.name.starts_with(prefix.as_str()),
        }
    }
}

impl ResourceRule {
    fn read(rule: &Value) -> Self {
        Self {
            verbs: Words::read(rule, "verbs"),
            groups: Words::read(rule, "apiGroups"),
            resources: Words::read(rule, "resources"),
            namespaces: Words::read(rule, "namespaces"),
            cluster: rule.get("clusterScope").and_then(Value::as_bool).unwrap_or_default(),
        }
    }

    fn matches(&self, question: &Question<'_>) -> bool {
        let here = match question.namespace {
            "" => self.cluster,
            namespace => self.namespaces.has(namespace),
        };
        here && self.verbs.has(question.verb) && self.groups.has(question.group) && self.is_about(question)
    }

    fn is_about(&self, question: &Question<'_>) -> bool {
        if question.subresource.is_empty() {
            return self.resources.has(question.resource);
        }
        let is_this = |word: &String| word.split_once('/') == Some((question.resource, question.subresource));
        self.resources.all || self.resources.words.iter().any(is_this)
    }
}

impl PathRule {
    fn read(rule: &Value) -> Self {
        Self { verbs: Words::read(rule, "verbs"), urls: Words::read(rule, "nonResourceURLs") }
    }

    fn matches(&self, question: &Question<'_>) -> bool {
        let is_below = |url: &String| {
            url == question.path
                || url.strip_suffix('*').is_some_and(|start| question.path.starts_with(start))
        };
        self.verbs.has(question.verb) && (self.urls.all || self.urls.words.iter().any(is_below))
    }
}

/// A PriorityLevelConfiguration.
#[derive(Clone, Debug)]
pub(super) struct LevelSpec {
    pub(super) name: String,
    /// Says so in answers.
    pub(super) uid: HeaderValue,
    pub(super) exempt: bool,
    pub(super) share: Share,
    pub(super) queuing: Queuing,
}

impl LevelSpec {
    /// Reads a PriorityLevelConfiguration.
    pub(super) fn read(object: &Value) -> Self {
        let exempt = object.str_at(&["spec", "type"]) == Some("Exempt");
        let part = if exempt { "exempt" } else { "limited" };
        let number =
            |name, default| object.i64_at(&["spec", part, name]).unwrap_or(default).max(0).unsigned_abs();
        let share = Share {
            shares: number("nominalConcurrencyShares", if exempt { 0 } else { 30 }),
            lendable: number("lendablePercent", 0),
            borrowing: object
                .i64_at(&["spec", part, "borrowingLimitPercent"])
                .map(|percent| percent.max(0).unsigned_abs()),
        };
        Self {
            name: meta::name(object).to_owned(),
            uid: uid(object),
            exempt,
            share,
            queuing: queuing(object),
        }
    }
}

fn queuing(object: &Value) -> Queuing {
    let response = ["spec", "limited", "limitResponse"];
    if object.str_at(&[response[0], response[1], response[2], "type"]) != Some("Queue") {
        return Queuing { queues: 0, hand: 1, length: 0 };
    }
    let number = |name, default: i64, most: i64| {
        let found = object.i64_at(&[response[0], response[1], response[2], "queuing", name]);
        usize::try_from(found.unwrap_or(default).clamp(1, most)).unwrap_or(1)
    };
    Queuing {
        queues: number("queues", 64, MAX_QUEUES),
        hand: number("handSize", 8, MAX_HAND as i64),
        length: number("queueLengthLimit", 50, MAX_LENGTH),
    }
}

#[cfg(test)]
mod tests {
    use xebec_api::object;

    use super::super::defaults;
    use super::*;

    fn about<'a>(verb: &'a str, group: &'a str, resource: &'a str, namespace: &'a str) -> Question<'a> {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Question { verb, group, resource, subresource, namespace, ..Question::default() }
    }

    #[test]
    fn what_a_schema_is_about() {
        let check = |subject: Value, rule: Value, user: &str, question: &Question<'_>, want: bool| {
            let field = if question.path.is_empty() { "resourceRules" } else { "nonResourceRules" };
            let mut rules = object!({"subjects": [(subject.clone())]});
            rules.set(&[field], vec![rule.clone()]);
            let schema = object!({"metadata": {"name": "a", "uid": "u"}, "spec": {"rules": [(rules)]}});
            let user = User::authenticated(user, ["dev".to_owned()]);
            let found = Schema::read(&schema).matches(&user, question);
            assert_eq!(found, want, "{subject:?} {rule:?} {}: {question}", user.name);
        };
        let user = |name: &str| object!({"kind": "User", "user": {"name": name}});
        let group = |name: &str| object!({"kind": "Group", "group": {"name": name}});
        let account = |name: &str| object!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "n", "name": name}});
        let all = || object!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": true});
        let pods = about("get", "", "pods", "n");
        check(user("jane"), all(), "jane", &pods, true);
        check(user("jane"), all(), "bob", &pods, false);
        check(user("*"), all(), "bob", &pods, true);
        check(group("dev"), all(), "bob", &pods, true);
        check(group("ops"), all(), "bob", &pods, false);
        check(group("*"), all(), "bob", &pods, true);
        check(account("*"), all(), "system:serviceaccount:n:a", &pods, true);
        check(account("*"), all(), "system:serviceaccount:nn:a", &pods, false);
        check(account("a"), all(), "system:serviceaccount:n:a", &pods, true);
        check(account("b"), all(), "system:serviceaccount:n:a", &pods, false);
        check(object!({"kind": "Robot"}), all(), "bob", &pods, false);
        let rule = |verb: &str, group: &str, resource: &str, namespace: &str, cluster: bool| {
            object!({
                "verbs": [verb], "apiGroups": [group], "resources": [resource], "namespaces": [namespace],
                "clusterScope": cluster
            })
        };
        let everybody = || user("*");
        check(everybody(), rule("get", "", "pods", "n", false), "a", &pods, true);
        check(everybody(), rule("list", "", "pods", "n", false), "a", &pods, false);
        check(everybody(), rule("get", "apps", "pods", "n", false), "a", &pods, false);
        check(everybody(), rule("get", "", "services", "n", false), "a", &pods, false);
        check(everybody(), rule("get", "", "pods", "m", false), "a", &pods, false);
        let status = about("update", "", "pods/status", "n");
        check(everybody(), rule("*", "", "pods", "*", false), "a", &status, false);
        check(everybody(), rule("*", "", "pods/status", "*", false), "a", &status, true);
        let nodes = about("get", "", "nodes", "");
        check(everybody(), rule("*", "", "*", "*", false), "a", &nodes, false);
        check(everybody(), rule("*", "", "*", "*", true), "a", &nodes, true);
        let path = |verb: &str, url: &str| object!({"verbs": [verb], "nonResourceURLs": [url]});
        let version = Question { verb: "get", path: "/version", ..Question::default() };
        check(everybody(), path("get", "/version"), "a", &version, true);
        check(everybody(), path("get", "*"), "a", &version, true);
        check(everybody(), path("get", "/ver*"), "a", &version, true);
        check(everybody(), path("post", "*"), "a", &version, false);
        check(everybody(), path("get", "/healthz"), "a", &version, false);
    }

    #[test]
    fn defaults_are_as_upstream() {
        let mut schemas: Vec<Schema> = defaults::objects()
            .iter()
            .filter(|object| object.str_at(&["kind"]) == Some("FlowSchema"))
            .map(Schema::read)
            .collect();
        schemas.sort_by(|a, b| (a.precedence, &a.name).cmp(&(b.precedence, &b.name)));
        let check = |name: &str, groups: &[&str], question: &Question<'_>, want: &str| {
            let user = User::component(name, groups);
            let found =
                schemas.iter().find(|schema| schema.matches(&user, question)).expect("all are matched");
            assert_eq!(found.name, want, "{name}: {question}");
        };
        let pods = about("list", "", "pods", "");
        let lease = about("update", "coordination.k8s.io", "leases", "n");
        let health = Question { verb: "get", path: "/readyz", ..Question::default() };
        check("admin", &["system:masters"], &pods, "exempt");
        check("jane", &[], &health, "probes");
        check("system:kube-scheduler", &[], &lease, "system-leader-election");
        check("system:kube-scheduler", &[], &pods, "kube-scheduler");
        check("system:kube-controller-manager", &[], &pods, "kube-controller-manager");
        check("system:node:a", &["system:nodes"], &lease, "system-node-high");
        check(
            "system:node:a",
            &["system:nodes"],
            &about("patch", "", "nodes/status", ""),
            "system-node-high",
        );
        check("system:node:a", &["system:nodes"], &pods, "system-nodes");
        let accounts = &["system:serviceaccounts"];
        check("system:serviceaccount:kube-system:dns", accounts, &pods, "kube-system-service-accounts");
        check("system:serviceaccount:a:b", accounts, &pods, "service-accounts");
        check("jane", &[], &pods, "global-default");
    }

    #[test]
    fn levels_have_defaults_and_bounds() {
        let check = |spec: Value, exempt: bool, shares: u64, queues: (usize, usize, usize)| {
            let level = LevelSpec::read(&object!({"metadata": {"name": "a"}, "spec": (spec.clone())}));
            let Queuing { queues: n, hand, length } = level.queuing;
            assert_eq!(
                (level.exempt, level.share.shares, (n, hand, length)),
                (exempt, shares, queues),
                "{spec:?}"
            );
        };
        check(object!({"type": "Exempt"}), true, 0, (0, 1, 0));
        check(object!({"type": "Limited"}), false, 30, (0, 1, 0));
        check(
            object!({"type": "Limited", "limited": {"limitResponse": {"type": "Queue"}}}),
            false,
            30,
            (64, 8, 50),
        );
        let odd = object!({"queues": (-1), "handSize": 99, "queueLengthLimit": 9_999_999});
        let limited =
            object!({"nominalConcurrencyShares": (-5), "limitResponse": {"type": "Queue", "queuing": (odd)}});
        check(object!({"type": "Limited", "limited": (limited)}), false, 0, (1, 10, 1000));
    }
}
