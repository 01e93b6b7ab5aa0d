//! Flow schemas and priority levels.

use super::Kind;
use super::check::{Check, is_set, is_true, number, run, same, text};
use super::fill::{Given, Row, absent, empty, fill};
use crate::{Value, meta, names, object};

const FLOW: Kind =
    Kind { group: "flowcontrol.apiserver.k8s.io", unconditional_update: true, ..Kind::DEFAULT };

pub(super) const FLOW_SCHEMA: Kind = Kind {
    resource: "flowschemas",
    defaults: |object, _| fill(object, &[empty("spec!.matchingPrecedence", Given::Int(1000))]),
    validate: |object| run(|c| schema(c, object)),
    validate_update: |object, _| run(|c| schema(c, object)),
    validate_status: |object, _| run(|c| conditions(c, object)),
    ..FLOW
};

pub(super) const PRIORITY_LEVEL: Kind = Kind {
    resource: "prioritylevelconfigurations",
    defaults: |object, _| fill(object, LEVEL),
    validate: |object| run(|c| level(c, object)),
    validate_update: |object, _| run(|c| level(c, object)),
    validate_status: |object, _| run(|c| conditions(c, object)),
    ..FLOW
};

const LEVEL: &[Row] = &[
    absent("spec.exempt.nominalConcurrencyShares", Given::Int(0)),
    absent("spec.exempt.lendablePercent", Given::Int(0)),
    absent("spec.limited.nominalConcurrencyShares", Given::Int(30)),
    absent("spec.limited.lendablePercent", Given::Int(0)),
    empty("spec.limited.limitResponse.queuing.handSize", Given::Int(8)),
    empty("spec.limited.limitResponse.queuing.queues", Given::Int(64)),
    empty("spec.limited.limitResponse.queuing.queueLengthLimit", Given::Int(50)),
];

const EXEMPT: &str = "exempt";
const CATCH_ALL: &str = "catch-all";
const LOWEST: i64 = 10_000;
const MAX_QUEUES: i64 = 10_000_000;
const MAX_HASH_BITS: u32 = 60;
const POSITIVE: &str = "must be positive";

/// The specification that an object of this name always has.
fn fixed_schema(name: &str) -> Option<Value> {
    let (precedence, groups, distinguished) = match name {
        EXEMPT => (1, &["system:masters"][..], false),
        CATCH_ALL => (LOWEST, &["system:unauthenticated", "system:authenticated"][..], true),
        _ => return None,
    };
    let subjects: Vec<Value> =
        groups.iter().map(|group| object!({"kind": "Group", "group": {"name": (*group)}})).collect();
    let mut spec = object!({
        "priorityLevelConfiguration": {"name": (name)},
        "matchingPrecedence": (precedence),
        "rules": [{
            "subjects": (subjects),
            "resourceRules": [{
                "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": true
            }],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]
        }]
    });
    if distinguished {
        spec.set(&["distinguisherMethod", "type"], "ByUser");
    }
    Some(spec)
}

fn schema(c: &mut Check, object: &Value) {
    let name = meta::name(object);
    c.field(object, "spec", |c, spec| {
        precedence(c, spec, name);
        c.some(spec, "distinguisherMethod", |c, method| {
            if !["ByNamespace", "ByUser"].contains(&text(method, "type")) {
                c.at("type").not_supported(method.clone(), &["ByNamespace", "ByUser"]);
            }
        });
        c.field(spec, "priorityLevelConfiguration", |c, level| match text(level, "name") {
            "" => c.at("name").required("must reference a priority level"),
            name => c.at("name").obeys(name, names::dns_subdomain),
        });
        c.each(spec, "rules", rule);
        if fixed_schema(name).is_some_and(|fixed| !same(Some(&fixed), Some(spec))) {
            c.here().invalid(spec.clone(), &format!("spec of '{name}' must equal the fixed value"));
        }
    });
}

fn precedence(c: &mut Check, spec: &Value, name: &str) {
    const FIELD: &str = "matchingPrecedence";
    let precedence = number(spec, FIELD).unwrap_or(0);
    if precedence <= 0 {
        c.at(FIELD).invalid(precedence, "must be a positive value");
    }
    if precedence > LOWEST {
        c.at(FIELD).invalid(precedence, &format!("must not be greater than {LOWEST}"));
    }
    if precedence == 1 && name != EXEMPT {
        c.at(FIELD).invalid(precedence, "only the schema named 'exempt' may have matchingPrecedence 1");
    }
}

fn rule(c: &mut Check, rule: &Value) {
    if rule.array_at(&["subjects"]).is_empty() {
        c.at("subjects").required("subjects must contain at least one value");
    }
    c.each(rule, "subjects", subject);
    if ["resourceRules", "nonResourceRules"].iter().all(|list| rule.array_at(&[list]).is_empty()) {
        c.here().required("at least one of resourceRules and nonResourceRules has to be non-empty");
    }
    c.each(rule, "resourceRules", resource_rule);
    c.each(rule, "nonResourceRules", |c, rule| {
        verbs(c, rule);
        let url = |c: &mut Check, i: usize, path: &str| {
            if let Some(fault) = path_fault(path) {
                c.at("nonResourceURLs").index(i).invalid(path, fault);
            }
        };
        let absent = "nonResourceURLs must contain at least one value";
        list(c, rule, "nonResourceURLs", absent, "non-resource URLs", url);
    });
}

/// Checks a list that is not empty, and names either everything or some.
fn list(
    c: &mut Check,
    rule: &Value,
    field: &str,
    absent: &str,
    others: &str,
    each: impl Fn(&mut Check, usize, &str),
) {
    let all: Vec<&str> = rule.array_at(&[field]).iter().map(|v| v.as_str().unwrap_or_default()).collect();
    if all.is_empty() && !absent.is_empty() {
        c.at(field).required(absent);
    } else if !all.contains(&"*") {
        all.iter().enumerate().for_each(|(i, text)| each(c, i, text));
    } else if all.len() > 1 {
        c.at(field).invalid(all, &format!("if '*' is present, must not specify other {others}"));
    }
}

fn verbs(c: &mut Check, rule: &Value) {
    const VERBS: [&str; 9] =
        ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];
    list(c, rule, "verbs", "verbs must contain at least one value", "verbs", |_, _, _| ());
    let all = rule.array_at(&["verbs"]);
    let known = |verb: &Value| verb.as_str().is_some_and(|verb| verb == "*" || VERBS.contains(&verb));
    if !all.iter().any(|verb| verb.as_str() == Some("*")) && !all.iter().all(known) {
        c.at("verbs").not_supported(all.to_vec(), &VERBS);
    }
}

fn resource_rule(c: &mut Check, rule: &Value) {
    verbs(c, rule);
    let absent = "resource rules must supply at least one api group";
    list(c, rule, "apiGroups", absent, "api groups", |_, _, _| ());
    let absent = "resource rules must supply at least one resource";
    list(c, rule, "resources", absent, "resources", |_, _, _| ());
    let absent = if is_true(rule, "clusterScope") {
        ""
    } else {
        "resource rules that are not cluster scoped must supply at least one namespace"
    };
    list(c, rule, "namespaces", absent, "namespaces", |c, i, name| {
        if let Err(fault) = names::dns_label(name) {
            let detail = format!("each member of this list must be '*' or a DNS-1123 label; {fault}");
            c.at("namespaces").index(i).invalid(name, &detail);
        }
    });
}

/// What is wrong with a path, whose last element may be `*`.
fn path_fault(path: &str) -> Option<&'static str> {
    if path == "/" {
        None
    } else if path.is_empty() {
        Some("must not be empty")
    } else if !path.starts_with('/') {
        Some("must start with slash")
    } else if path.contains(' ') {
        Some("must not contain white-space")
    } else if path.contains("//") {
        Some("must not contain double slash")
    } else if path.strip_suffix("/*").unwrap_or(path).contains('*') {
        Some("wildcard can only do suffix matching")
    } else {
        None
    }
}

fn subject(c: &mut Check, subject: &Value) {
    const KINDS: [(&str, &str); 3] =
        [("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")];
    let kind = text(subject, "kind");
    let Some((_, mine)) = KINDS.iter().find(|(name, _)| *name == kind) else {
        return c.at("kind").not_supported(kind, &["Group", "ServiceAccount", "User"]);
    };
    if is_set(subject, mine) {
        c.field(subject, mine, |c, who| {
            if let Some(name) = c.require(who, "name")
                && kind == "ServiceAccount"
                && name != "*"
            {
                c.at("name").obeys(name, names::dns_subdomain);
            }
            if kind == "ServiceAccount" {
                match text(who, "namespace") {
                    "" => c.at("namespace").required("must specify namespace for service account"),
                    name => c.at("namespace").obeys(name, names::dns_label),
                }
            }
        });
    } else {
        c.at(mine).required(&format!("{mine} is required when subject kind is '{kind}'"));
    }
    for (other, field) in KINDS {
        if other != kind && is_set(subject, field) {
            c.at(field).forbidden(&format!("{field} is forbidden when subject kind is not '{other}'"));
        }
    }
}

fn conditions(c: &mut Check, object: &Value) {
    let mut seen = Vec::new();
    c.field(object, "status", |c, status| {
        c.each(status, "conditions", |c, condition| {
            let ty = text(condition, "type");
            if seen.contains(&ty) {
                c.at("type").duplicate(ty);
            }
            seen.push(ty);
            c.require(condition, "type");
        });
    });
}

fn level(c: &mut Check, object: &Value) {
    const ANNOTATION: &str = "flowcontrol.k8s.io/v1beta3-preserve-zero-concurrency-shares";
    let name = meta::name(object);
    if meta::annotation(object, ANNOTATION).is_some() {
        c.at("metadata.annotations").forbidden(&format!("annotation '{ANNOTATION}' is forbidden"));
    }
    c.field(object, "spec", |c, spec| {
        let ty = text(spec, "type");
        if (name == EXEMPT) != (ty == "Exempt") {
            c.at("type").invalid(ty, "must be 'Exempt' if and only if `name` is 'exempt'");
        }
        match ty {
            "Exempt" => {
                if is_set(spec, "limited") {
                    c.at("limited").forbidden("must be nil if the type is not Limited");
                }
                c.some(spec, "exempt", shares);
            }
            "Limited" => {
                if is_set(spec, "exempt") {
                    c.at("exempt").forbidden("must be nil if the type is Limited");
                }
                if is_set(spec, "limited") {
                    c.field(spec, "limited", limited);
                } else {
                    c.at("limited").required("must not be empty when type is Limited");
                }
            }
            _ => c.at("type").not_supported(ty, &["Exempt", "Limited"]),
        }
        fixed_level(c, spec, name);
    });
}

fn fixed_level(c: &mut Check, spec: &Value, name: &str) {
    if name == EXEMPT {
        let mut rest = spec.clone();
        drop(rest.remove_at(&["exempt"]));
        if !same(Some(&rest), Some(&object!({"type": "Exempt"}))) {
            let detail =
                format!("spec of '{name}' except the 'spec.exempt' field must equal the fixed value");
            c.here().invalid(spec.clone(), &detail);
        }
    } else if name == CATCH_ALL {
        let fixed = object!({
            "type": "Limited",
            "limited": {
                "nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": {"type": "Reject"}
            }
        });
        if !same(Some(spec), Some(&fixed)) {
            c.here().invalid(spec.clone(), &format!("spec of '{name}' must equal the fixed value"));
        }
    }
}

fn shares(c: &mut Check, level: &Value) {
    let shares = number(level, "nominalConcurrencyShares");
    if shares.is_some_and(|n| n < 0) {
        c.at("nominalConcurrencyShares").invalid(shares, "must be a non-negative integer");
    }
    c.range(level, "lendablePercent", 0, 100);
}

fn limited(c: &mut Check, level: &Value) {
    shares(c, level);
    c.field(level, "limitResponse", |c, response| match text(response, "type") {
        "Reject" => {
            if is_set(response, "queuing") {
                c.at("queuing").forbidden("must be nil if limited.limitResponse.type is not Limited");
            }
        }
        "Queue" if is_set(response, "queuing") => c.field(response, "queuing", queuing),
        "Queue" => c.at("queuing").required("must not be empty if limited.limitResponse.type is Limited"),
        other => c.at("type").not_supported(other, &["Queue", "Reject"]),
    });
    let percent = number(level, "borrowingLimitPercent");
    if percent.is_some_and(|p| p < 0) {
        c.at("borrowingLimitPercent").invalid(percent, "if specified, must be a non-negative integer");
    }
}

fn queuing(c: &mut Check, queuing: &Value) {
    let [length, queues, hand] =
        ["queueLengthLimit", "queues", "handSize"].map(|field| number(queuing, field).unwrap_or(0));
    if length <= 0 {
        c.at("queueLengthLimit").invalid(length, POSITIVE);
    }
    if queues <= 0 {
        c.at("queues").invalid(queues, POSITIVE);
    } else if queues > MAX_QUEUES {
        c.at("queues").invalid(queues, &format!("must not be greater than {MAX_QUEUES}"));
    }
    if hand <= 0 {
        c.at("handSize").invalid(hand, POSITIVE);
    } else if hand > queues {
        c.at("handSize").invalid(hand, &format!("should not be greater than queues ({queues})"));
    } else if hash_is_short(queues, hand) {
        let detail = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {MAX_HASH_BITS}"
        );
        c.at("handSize").invalid(hand, &detail);
    }
}

/// Whether a hash has too few bits to draw `hand` times one of `deck` cards.
fn hash_is_short(deck: i64, hand: i64) -> bool {
    let ways = u32::try_from(hand).ok().and_then(|hand| deck.unsigned_abs().checked_pow(hand));
    ways.is_none_or(|ways| ways > 1 << MAX_HASH_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::check::testing::{cases, json};

    #[test]
    fn schemas() {
        let base = json(
            r#"{"metadata": {"name": "a"}, "spec": {"matchingPrecedence": 10, "priorityLevelConfiguration": {"name": "b"},
                "rules": [{"subjects": [{"kind": "User", "user": {"name": "u"}}], "nonResourceRules":
                  [{"verbs": ["get"], "nonResourceURLs": ["/a/*"]}]}]}}"#,
        );
        cases(&base, SCHEMAS, FLOW_SCHEMA.validate);
        for name in [EXEMPT, CATCH_ALL] {
            let fixed =
                object!({"metadata": {"name": (name)}, "spec": (fixed_schema(name).unwrap_or_default())});
            assert_eq!((FLOW_SCHEMA.validate)(&fixed), []);
            let mut changed = fixed;
            changed.set(&["spec", "matchingPrecedence"], 7);
            assert_eq!((FLOW_SCHEMA.validate)(&changed).len(), 1);
        }
        cases(&json("{}"), STATUSES, |object| (FLOW_SCHEMA.validate_status)(object, &Value::Null));
    }

    const SCHEMAS: &str = r#"
spec.distinguisherMethod = {"type": "ByUser"}
spec.rules.0.resourceRules = [{"verbs": ["*"], "apiGroups": [""], "resources": ["pods"], "clusterScope": true}]
spec.rules.0.subjects = [{"kind": "ServiceAccount", "serviceAccount": {"name": "*", "namespace": "n"}}]

spec = {"rules": [{}]}
! spec.matchingPrecedence: Invalid value: 0: must be a positive value
! spec.priorityLevelConfiguration.name: Required value: must reference a priority level
! spec.rules[0].subjects: Required value: subjects must contain at least one value
! spec.rules[0]: Required value: at least one of resourceRules and nonResourceRules has to be non-empty

spec.matchingPrecedence = 10001
spec.distinguisherMethod = {"type": "x"}
! spec.matchingPrecedence: Invalid value: 10001: must not be greater than 10000
! spec.distinguisherMethod.type: Unsupported value: {"type":"x"}: supported values: "ByNamespace", "ByUser"

spec.matchingPrecedence = 1
! spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1

spec.rules.0.subjects = [{"kind": "x"}, {"kind": "User", "group": {}, "serviceAccount": {}}, {"kind": "Group", "group":
  {}, "user": {}}, {"kind": "ServiceAccount", "serviceAccount": {}}]
! spec.rules[0].subjects[0].kind: Unsupported value: "x": supported values: "Group", "ServiceAccount", "User"
! spec.rules[0].subjects[1].user: Required value: user is required when subject kind is 'User'
! spec.rules[0].subjects[1].serviceAccount: Forbidden: serviceAccount is forbidden when subject kind is not
  'ServiceAccount'
! spec.rules[0].subjects[1].group: Forbidden: group is forbidden when subject kind is not 'Group'
! spec.rules[0].subjects[2].group.name: Required value
! spec.rules[0].subjects[2].user: Forbidden: user is forbidden when subject kind is not 'User'
! spec.rules[0].subjects[3].serviceAccount.name: Required value
! spec.rules[0].subjects[3].serviceAccount.namespace: Required value: must specify namespace for service account

spec.rules.0.nonResourceRules = [{}, {"verbs": ["x"], "nonResourceURLs": ["", "/", "a", "/a b", "//", "/*a"]},
  {"verbs": ["*", "get"], "nonResourceURLs": ["*", "/"]}]
! spec.rules[0].nonResourceRules[0].verbs: Required value: verbs must contain at least one value
! spec.rules[0].nonResourceRules[0].nonResourceURLs: Required value: nonResourceURLs must contain at least one value
! spec.rules[0].nonResourceRules[1].verbs: Unsupported value: ["x"]: supported values: "create", "delete",
  "deletecollection", "get", "list", "patch", "proxy", "update", "watch"
! spec.rules[0].nonResourceRules[1].nonResourceURLs[0]: Invalid value: "": must not be empty
! spec.rules[0].nonResourceRules[1].nonResourceURLs[2]: Invalid value: "a": must start with slash
! spec.rules[0].nonResourceRules[1].nonResourceURLs[3]: Invalid value: "/a b": must not contain white-space
! spec.rules[0].nonResourceRules[1].nonResourceURLs[4]: Invalid value: "//": must not contain double slash
! spec.rules[0].nonResourceRules[1].nonResourceURLs[5]: Invalid value: "/*a": wildcard can only do suffix matching
! spec.rules[0].nonResourceRules[2].verbs: Invalid value: ["*","get"]: if '*' is present, must not specify other verbs
! spec.rules[0].nonResourceRules[2].nonResourceURLs: Invalid value: ["*","/"]: if '*' is present, must not specify other
  non-resource URLs

spec.rules.0.resourceRules = [{}, {"verbs": ["*"], "apiGroups": ["*", ""], "resources": ["*", "a"], "namespaces": ["A"]}]
! spec.rules[0].resourceRules[0].verbs: Required value: verbs must contain at least one value
! spec.rules[0].resourceRules[0].apiGroups: Required value: resource rules must supply at least one api group
! spec.rules[0].resourceRules[0].resources: Required value: resource rules must supply at least one resource
! spec.rules[0].resourceRules[0].namespaces: Required value: resource rules that are not cluster scoped must supply at
  least one namespace
! spec.rules[0].resourceRules[1].apiGroups: Invalid value: ["*",""]: if '*' is present, must not specify other api groups
! spec.rules[0].resourceRules[1].resources: Invalid value: ["*","a"]: if '*' is present, must not specify other resources
! spec.rules[0].resourceRules[1].namespaces[0]: Invalid value: "A": each member of this list must be '*' or a DNS-1123
  label; a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with
  an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is
  '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
"#;

    const STATUSES: &str = r#"
status = {"conditions": [{"type": "Dangling", "status": "False"}]}

status = {"conditions": [{}, {}]}
! status.conditions[0].type: Required value
! status.conditions[1].type: Duplicate value: ""
! status.conditions[1].type: Required value
"#;

    #[test]
    fn levels() {
        let base = json(
            r#"{"metadata": {"name": "a"}, "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 1,
                "limitResponse": {"type": "Queue", "queuing": {"queues": 64, "handSize": 8, "queueLengthLimit": 50}}}}}"#,
        );
        cases(&base, LEVELS, PRIORITY_LEVEL.validate);
        assert_eq!(
            [(64, 8), (1, 1), (1024, 6), (1025, 6)].map(|(d, h)| hash_is_short(d, h)),
            [false, false, false, true]
        );
    }

    const LEVELS: &str = r#"
spec.limited.limitResponse = {"type": "Reject"}

metadata.name = "exempt"
spec = {"type": "Exempt", "exempt": {"nominalConcurrencyShares": 1, "lendablePercent": 50}}

metadata.name = "catch-all"
spec = {"type": "Limited", "limited": {"nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": {"type":
  "Reject"}}}

metadata.name = "catch-all"
spec = {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}
! spec: Invalid value: {"limited":{"limitResponse":{"type":"Reject"}},"type":"Limited"}: spec of 'catch-all' must equal
  the fixed value

metadata.annotations = {"flowcontrol.k8s.io/v1beta3-preserve-zero-concurrency-shares": ""}
spec = {}
! metadata.annotations: Forbidden: annotation 'flowcontrol.k8s.io/v1beta3-preserve-zero-concurrency-shares' is forbidden
! spec.type: Unsupported value: "": supported values: "Exempt", "Limited"

metadata.name = "exempt"
spec = {"type": "Exempt", "exempt": {"nominalConcurrencyShares": -1, "lendablePercent": 101}, "limited": {"x": 1}}
! spec.limited: Forbidden: must be nil if the type is not Limited
! spec.exempt.nominalConcurrencyShares: Invalid value: -1: must be a non-negative integer
! spec.exempt.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive
! spec: Invalid value:
  {"exempt":{"lendablePercent":101,"nominalConcurrencyShares":-1},"limited":{"x":1},"type":"Exempt"}: spec of 'exempt'
  except the 'spec.exempt' field must equal the fixed value

spec = {"type": "Limited", "exempt": {}}
! spec.exempt: Forbidden: must be nil if the type is Limited
! spec.limited: Required value: must not be empty when type is Limited

spec.type = "Exempt"
spec.limited =
! spec.type: Invalid value: "Exempt": must be 'Exempt' if and only if `name` is 'exempt'

spec.limited = {"borrowingLimitPercent": -1, "limitResponse": {"type": "Reject", "queuing": {}}}
! spec.limited.limitResponse.queuing: Forbidden: must be nil if limited.limitResponse.type is not Limited
! spec.limited.borrowingLimitPercent: Invalid value: -1: if specified, must be a non-negative integer

spec.limited.limitResponse.queuing =
! spec.limited.limitResponse.queuing: Required value: must not be empty if limited.limitResponse.type is Limited

spec.limited.limitResponse.type = "x"
! spec.limited.limitResponse.type: Unsupported value: "x": supported values: "Queue", "Reject"

spec.limited.limitResponse.queuing = {}
! spec.limited.limitResponse.queuing.queueLengthLimit: Invalid value: 0: must be positive
! spec.limited.limitResponse.queuing.queues: Invalid value: 0: must be positive
! spec.limited.limitResponse.queuing.handSize: Invalid value: 0: must be positive

spec.limited.limitResponse.queuing = {"queueLengthLimit": 1, "queues": 10000001, "handSize": 3}
! spec.limited.limitResponse.queuing.queues: Invalid value: 10000001: must not be greater than 10000000
! spec.limited.limitResponse.queuing.handSize: Invalid value: 3: required entropy bits of deckSize 10000001 and handSize 3
  should not be greater than 60

spec.limited.limitResponse.queuing = {"queueLengthLimit": 1, "queues": 2, "handSize": 3}
! spec.limited.limitResponse.queuing.handSize: Invalid value: 3: should not be greater than queues (2)
"#;
}
