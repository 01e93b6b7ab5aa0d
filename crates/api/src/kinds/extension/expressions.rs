//! Rules of the rules of a schema: that they can be compiled, what they may cost, and where they may be about a change.

use std::sync::Arc;

use super::schema::{EMBEDDED, LIST_TYPE, RULES};
use crate::kinds::check::{Check, is_true, text};
use crate::rules::{MAX_ESTIMATED, MAX_ESTIMATED_TOTAL, compile, declare, most_in_a_request};
use crate::{FieldPath, Value};

/// How many rules are named when all together cost too much.
const MOST_NAMED: usize = 4;

/// Checks the rules of a schema that has no other fault.
pub(super) fn check(c: &mut Check, schema: &Value) {
    let mut total = Total::default();
    walk(c, schema, &Place { is_root: true, most: Some(1), uncorrelatable: None }, &mut total);
    if total.cost <= MAX_ESTIMATED_TOTAL {
        return;
    }
    for (path, _) in &total.dearest {
        let detail =
            "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
        c.extend(vec![crate::error::Cause::forbidden(path.clone(), detail)]);
    }
    let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
    c.here().forbidden(&too_dear(what, total.cost, MAX_ESTIMATED_TOTAL));
}

/// What all rules cost.
#[derive(Default)]
struct Total {
    cost: u64,
    dearest: Vec<(FieldPath, u64)>,
}

impl Total {
    fn add(&mut self, path: FieldPath, cost: u64) {
        self.cost = self.cost.saturating_add(cost);
        if cost < MAX_ESTIMATED_TOTAL / 100 {
            return;
        }
        self.dearest.push((path, cost));
        self.dearest.sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
        self.dearest.truncate(MOST_NAMED);
    }
}

/// Where a schema stands.
#[derive(Clone)]
struct Place {
    is_root: bool,
    /// How often values of it can stand in one object; `None` if the schemas around do not say.
    most: Option<u64>,
    /// The schema around it whose parts have no old values.
    uncorrelatable: Option<FieldPath>,
}

fn walk(c: &mut Check, schema: &Value, place: &Place, total: &mut Total) {
    let most = place.most.and_then(|most| Some(most.saturating_mul(elements(schema)?)));
    let inner = Place { is_root: false, most, ..place.clone() };
    if schema.object_at(&["additionalProperties"]).is_some() {
        c.field(schema, "additionalProperties", |c, each| walk(c, each, &inner, total));
    }
    c.entries(schema, "properties", |c, _, property| walk(c, property, &inner, total));
    if schema.object_at(&["items"]).is_some() {
        let mut within = inner;
        if text(schema, LIST_TYPE) != "map" {
            within.uncorrelatable = within.uncorrelatable.or_else(|| Some(c.path()));
        }
        c.field(schema, "items", |c, items| walk(c, items, &within, total));
    }
    if !schema.array_at(&[RULES]).is_empty() {
        expressions(c, schema, place, total);
    }
}

/// How many parts a value of this schema can have.
fn elements(schema: &Value) -> Option<u64> {
    let count = |field: &str| schema.i64_at(&[field]).map(|count| u64::try_from(count).unwrap_or(0));
    match text(schema, "type") {
        "object" if schema.get("additionalProperties").is_some_and(|each| !each.is_null()) => {
            count("maxProperties")
        }
        "array" => count("maxItems"),
        _ => Some(1),
    }
}

fn expressions(c: &mut Check, schema: &Value, place: &Place, total: &mut Total) {
    let Some(declared) = declare(schema, "selfType", place.is_root || is_true(schema, EMBEDDED)) else {
        let why = "internal error: failed to construct type information for x-kubernetes-validations rules: unable to \
                   convert structural schema to CEL declarations";
        return c.at(RULES).report(|path| crate::error::Cause::internal(path, why));
    };
    let declared = Arc::new(declared);
    let times = place.most.unwrap_or_else(|| most_in_a_request(&declared));
    let rules = schema.array_at(&[RULES]);
    for (i, rule) in compile(schema, &declared).iter().enumerate() {
        let stated = rules[i].clone();
        let path = |field: &str, c: &Check| c.path().field(RULES).index(i).field(field);
        let cost = rule.estimate().saturating_mul(times);
        if cost > MAX_ESTIMATED {
            let detail = too_dear("estimated rule cost", cost, MAX_ESTIMATED);
            c.at(RULES).index(i).field("rule").forbidden(&detail);
        }
        total.add(path("rule", c), cost);
        if let Err(why) = &rule.program {
            c.at(RULES).index(i).field("rule").invalid(stated.clone(), why);
        }
        match &rule.message {
            Some(Err(why)) => c.at(RULES).index(i).field("messageExpression").invalid(stated, &why.0),
            Some(Ok(_)) => {
                let cost = rule.message_estimate();
                if cost > MAX_ESTIMATED {
                    let detail = too_dear("estimated messageExpression cost", cost, MAX_ESTIMATED);
                    c.at(RULES).index(i).field("messageExpression").forbidden(&detail);
                }
                total.add(path("messageExpression", c), cost);
            }
            None => {}
        }
        about_changes(c, &rules[i], i, rule.uses_old, place);
    }
}

/// A rule about a change needs an old value that is surely the same part's.
fn about_changes(c: &mut Check, rule: &Value, index: usize, uses_old: bool, place: &Place) {
    if uses_old {
        if let Some(path) = &place.uncorrelatable {
            let detail =
                format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {path}");
            c.at(RULES).index(index).field("rule").invalid(text(rule, "rule"), &detail);
        }
    } else if let Some(stated) = rule.bool_at(&["optionalOldSelf"]) {
        let detail = "may not be set if oldSelf is not used in rule";
        c.at(RULES).index(index).field("optionalOldSelf").invalid(stated, detail);
    }
}

#[expect(clippy::cast_precision_loss, reason = "a factor is told, not counted")]
fn too_dear(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = if factor > 100.0 {
        "more than 100x".to_owned()
    } else if factor < 1.5 {
        format!("{factor:.6}x")
    } else {
        format!("{factor:.1}x")
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and \
         maxLength where arrays, maps, and strings are declared)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::check::run;
    use crate::kinds::check::testing::{cases, json};

    #[test]
    fn rules_of_a_schema() {
        let base = json(
            r#"{"type": "object", "properties": {"spec": {"type": "object", "properties": {"x": {"type": "integer"},
                "s": {"type": "string"}, "l": {"type": "array", "maxItems": 3, "items":
                {"type": "string", "maxLength": 5}}}}}}"#,
        );
        cases(&base, CASES, |schema| run(|c| check(c, schema)));
    }

    #[test]
    fn mistakes_are_shown() {
        let check = |rule: &str, want: &str| {
            let rule = json(rule);
            let schema = crate::object!({"type": "object", "x-kubernetes-validations": [(rule)]});
            let found = run(|c| check(c, &schema)).iter().map(ToString::to_string).collect::<Vec<_>>();
            assert!(found.len() == 1 && found[0].contains(want), "{found:?}");
        };
        check(
            r#"{"rule": "self.z"}"#,
            "compilation failed: ERROR: <input>:1:5: undefined field 'z'\n | self.z\n | ....^",
        );
        check(
            r#"{"rule": "self = 1"}"#,
            "compilation failed: ERROR: <input>:1:6: Syntax error: token recognition error at: '= '",
        );
        check(
            r#"{"rule": "int('a') == 1"}"#,
            "program instantiation failed: type conversion error from 'string' to 'int'",
        );
        check(
            r#"{"rule": "true", "messageExpression": "a"}"#,
            "messageExpression compilation failed: ERROR: <input>:1:1: undeclared",
        );
    }

    const CASES: &str = r#"
properties.spec.x-kubernetes-validations = [{"rule": "self.x > 0", "messageExpression": "'x must be positive'"},
  {"rule": "!has(self.s) || self.s == oldSelf.s"}, {"rule": "oldSelf.hasValue() || self.x == 1", "optionalOldSelf": true}]

x-kubernetes-validations = [{"rule": "self.metadata.name.startsWith('a') && has(self.spec)"}]

properties.spec.x-kubernetes-validations = [{"rule": "self.x"}, {"rule": "true", "messageExpression": "1"}]
! properties[spec].x-kubernetes-validations[0].rule: Invalid value: {"rule":"self.x"}: cel expression must evaluate to a
  bool
! properties[spec].x-kubernetes-validations[1].messageExpression: Invalid value: {"messageExpression":"1","rule":"true"}:
  messageExpression must evaluate to a string

properties.spec.properties.l.items.x-kubernetes-validations = [{"rule": "self == oldSelf"}, {"rule": "true",
  "optionalOldSelf": true}]
! properties[spec].properties[l].items.x-kubernetes-validations[0].rule: Invalid value: "self == oldSelf": oldSelf cannot be
  used on the uncorrelatable portion of the schema within properties[spec].properties[l]
! properties[spec].properties[l].items.x-kubernetes-validations[1].optionalOldSelf: Invalid value: true: may not be set if
  oldSelf is not used in rule
"#;
}
