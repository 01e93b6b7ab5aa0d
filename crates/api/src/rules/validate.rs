//! Evaluates the rules of a version on an object.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;

use xebec_cel::limits::MAX_MESSAGE;
use xebec_cel::{Budget, EvalError, Schema, Value as CelValue};

use super::compile::{Compiled, compile};
use super::declare::declare;
use crate::error::Cause;
use crate::path::PathStack;
use crate::schema::SchemaRef;
use crate::structural;
use crate::{FieldPath, Key, Map, Value, json};

/// How many causes, and how many warnings, are gathered before the walk ends.
const MAX_FINDINGS: usize = 64;
const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// The rules of a schema and of what is within it; parts without rules are left out.
#[derive(Debug)]
pub struct Rules {
    rules: Vec<Compiled>,
    /// How values are read.
    declared: Arc<Schema>,
    /// The JSON type, for messages.
    type_name: Key,
    items: Option<Box<Rules>>,
    additional: Option<Box<Rules>>,
    properties: Vec<(Key, Rules)>,
    /// Of a list whose elements have keys: these.
    keys: Option<Vec<Key>>,
}

/// What came of evaluating rules.
#[derive(Debug, Default)]
pub struct Findings {
    /// What is wrong.
    pub causes: Vec<Cause>,
    /// What is wrong as well, but was so before: to be warned of.
    pub warnings: Vec<String>,
}

impl Rules {
    /// Compiles the rules of a version's schema; `None` if it has none.
    #[must_use]
    pub fn of(schema: &Value) -> Option<Self> {
        Self::within(schema, declare(schema, "selfType", true).map(Arc::new))
    }

    fn within(schema: &Value, declared: Option<Arc<Schema>>) -> Option<Self> {
        use xebec_cel::schema::SchemaKind;
        let declared = declared?;
        let element = match &declared.kind {
            SchemaKind::List(element, _) | SchemaKind::Map(element) => Some(Arc::clone(element)),
            _ => None,
        };
        let part = |field: &str| schema.get(field).filter(|part| part.as_object().is_some());
        let below =
            |field: &str| part(field).and_then(|part| Self::within(part, element.clone())).map(Box::new);
        let declared_properties = schema.object_at(&["properties"]);
        let properties: Vec<(Key, Self)> = match &declared.kind {
            SchemaKind::Object(object) => declared_properties
                .into_iter()
                .flat_map(Map::iter)
                .filter_map(|(name, part)| {
                    let declared = match object.property(name) {
                        Some(field) => field.declared.then(|| field.schema.clone()),
                        // It can have no name in expressions, but rules of its own.
                        None => declare(part, &format!("{}.@{name}", object.name), false),
                    };
                    Some((name.into(), Self::within(part, declared.map(Arc::new))?))
                })
                .collect(),
            _ => Vec::new(),
        };
        let rules = compile(schema, &declared);
        let (items, additional) = (below("items"), below("additionalProperties"));
        if rules.is_empty() && items.is_none() && additional.is_none() && properties.is_empty() {
            return None;
        }
        let keyed = schema.str_at(&["x-kubernetes-list-type"]) == Some("map");
        let texts = |field: &str| {
            schema.array_at(&[field]).iter().filter_map(Value::as_str).map(Key::from).collect::<Vec<_>>()
        };
        Some(Self {
            rules,
            declared,
            type_name: schema.str_at(&["type"]).unwrap_or_default().into(),
            items,
            additional,
            properties,
            keys: keyed.then(|| texts("x-kubernetes-list-map-keys")),
        })
    }

    /// Evaluates the rules on a new object, or on a changed one: then rules about changes hold as well, and a part that did not
    /// change may go on breaking a rule. `schema` is the version's root; the object as a whole counts as changed.
    #[must_use]
    pub fn validate(&self, object: &Value, old: Option<&Value>, schema: SchemaRef<'_>) -> Findings {
        let mut walk =
            Walk { path: PathStack::default(), budget: Budget::per_object(), found: Findings::default() };
        let here = old
            .map(|old| Correlated { equal: Cell::new(Some(false)), ..Correlated::new(object, old, schema) });
        let same = Same { here: here.as_ref(), around: None };
        let _ended = walk.value(self, object, old, same);
        walk.found
    }
}

/// A value and what it was.
struct Correlated<'v> {
    new: &'v Value,
    old: &'v Value,
    schema: SchemaRef<'v>,
    equal: Cell<Option<bool>>,
}

impl<'v> Correlated<'v> {
    const fn new(new: &'v Value, old: &'v Value, schema: SchemaRef<'v>) -> Self {
        Self { new, old, schema, equal: Cell::new(None) }
    }

    fn is_equal(&self) -> bool {
        if let Some(known) = self.equal.get() {
            return known;
        }
        let equal = structural::is_unchanged(self.new, self.old, self.schema);
        self.equal.set(Some(equal));
        equal
    }
}

/// What a value is compared with to tell if it changed: what it was itself; if that is not known, what the value around it was.
#[derive(Clone, Copy)]
struct Same<'w, 'v> {
    here: Option<&'w Correlated<'v>>,
    around: Option<&'w Correlated<'v>>,
}

impl Same<'_, '_> {
    fn holds(self) -> bool {
        self.here.or(self.around).is_some_and(Correlated::is_equal)
    }
}

/// Rules are no longer evaluated.
struct Ended;

struct Walk {
    path: PathStack,
    budget: Budget,
    found: Findings,
}

impl Walk {
    fn value<'v>(
        &mut self,
        rules: &Rules,
        value: &'v Value,
        old: Option<&'v Value>,
        same: Same<'_, 'v>,
    ) -> Result<(), Ended> {
        if value.is_null() {
            return Ok(());
        }
        let old = old.filter(|old| !old.is_null());
        self.expressions(rules, value, old, same)?;
        match value {
            Value::Array(items) => self.list(rules, items, old, same),
            Value::Object(members) => self.members(rules, members, old, same),
            _ => Ok(()),
        }
    }

    fn members<'v>(
        &mut self,
        rules: &Rules,
        members: &'v Map,
        old: Option<&'v Value>,
        same: Same<'_, 'v>,
    ) -> Result<(), Ended> {
        let at_root = same.here.is_some() && same.around.is_none();
        if let Some(below) = &rules.additional {
            for (key, member) in members.iter() {
                let step = self.path.key(key);
                let before = old.and_then(|old| old.get(key));
                let known = before.zip(same.here.map(|here| here.schema.items()));
                self.below(below, member, before, same, known)?;
                self.path.back(step);
            }
        }
        for (name, below) in &rules.properties {
            let Some(member) = members.get(name) else { continue };
            let step = self.path.field(name);
            let before = old.and_then(|old| old.get(name));
            let identity = at_root && matches!(name.as_str(), "apiVersion" | "kind");
            let same = if identity { Same { here: None, around: None } } else { same };
            let known = before.zip(same.here.and_then(|here| here.schema.field(name)));
            self.below(below, member, before, same, known)?;
            self.path.back(step);
        }
        Ok(())
    }

    fn list<'v>(
        &mut self,
        rules: &Rules,
        items: &'v [Value],
        old: Option<&'v Value>,
        same: Same<'_, 'v>,
    ) -> Result<(), Ended> {
        let Some(below) = &rules.items else { return Ok(()) };
        let known = match (&rules.keys, old) {
            (Some(keys), Some(Value::Array(old))) => {
                old.iter().map(|item| (identity(item, keys), item)).collect()
            }
            _ => HashMap::new(),
        };
        for (index, item) in items.iter().enumerate() {
            let step = self.path.index(index);
            let before = rules.keys.as_ref().and_then(|keys| known.get(&identity(item, keys)).copied());
            let known = before.zip(same.here.map(|here| here.schema.items()));
            self.below(below, item, before, same, known)?;
            self.path.back(step);
        }
        Ok(())
    }

    /// Goes to a part: `known` is what it was, and its schema, if that tells whether it changed.
    fn below<'v>(
        &mut self,
        rules: &Rules,
        value: &'v Value,
        old: Option<&'v Value>,
        same: Same<'_, 'v>,
        known: Option<(&'v Value, SchemaRef<'v>)>,
    ) -> Result<(), Ended> {
        let Some(around) = same.here else { return self.value(rules, value, old, same) };
        let here = known.map(|(known, schema)| Correlated::new(value, known, schema));
        self.value(rules, value, old, Same { here: here.as_ref(), around: Some(around) })
    }

    fn fault(&mut self, rules: &Rules, detail: &str) {
        let cause = Cause::invalid(self.path.current(), rules.type_name.as_str(), detail);
        self.found.causes.push(cause);
    }

    fn expressions(
        &mut self,
        rules: &Rules,
        value: &Value,
        old: Option<&Value>,
        same: Same<'_, '_>,
    ) -> Result<(), Ended> {
        if rules.rules.is_empty() {
            return Ok(());
        }
        if self.budget.remaining() == 0 {
            self.fault(rules, OUT_OF_BUDGET);
            return Err(Ended);
        }
        let declared = Some(&*rules.declared);
        let new = CelValue::of_tree(value, declared);
        let old = old.map(|old| CelValue::of_tree(old, declared));
        for rule in &rules.rules {
            if rule.uses_old && old.is_none() && !rule.optional_old {
                continue;
            }
            let previous = match (&old, rule.optional_old) {
                (Some(Ok(old)), true) => Some(Ok(CelValue::some(old.clone()))),
                (None, true) => Some(Ok(CelValue::Optional(None))),
                (old, _) => old.clone(),
            };
            self.expression(rules, rule, value, &Variables(new.clone(), previous), same)?;
            if self.found.causes.len() >= MAX_FINDINGS {
                return Err(Ended);
            }
        }
        Ok(())
    }

    fn expression(
        &mut self,
        rules: &Rules,
        rule: &Compiled,
        value: &Value,
        variables: &Variables<'_>,
        same: Same<'_, '_>,
    ) -> Result<(), Ended> {
        let title = &rule.title;
        let program = match &rule.program {
            Ok(program) => program,
            Err(why) => {
                self.fault(rules, &format!("rule compile error: {why}"));
                return Ok(());
            }
        };
        match program.evaluate(variables, &mut self.budget) {
            Ok(CelValue::Bool(true)) => return Ok(()),
            Ok(_) => {}
            Err(EvalError::BudgetExceeded) => {
                self.fault(rules, OUT_OF_BUDGET);
                return Err(Ended);
            }
            Err(error @ EvalError::CostExceeded) => {
                let why = format!(
                    "'{error}': no further validation rules will be run due to call cost exceeds limit for rule: {title}"
                );
                self.fault(rules, &why);
                return Err(Ended);
            }
            Err(EvalError::Failed(why)) if why.starts_with("no such overload") => {
                let why = format!(
                    "'{why}': call arguments did not match a supported operator, function or macro signature for rule: {title}"
                );
                self.fault(rules, &why);
                return Ok(());
            }
            Err(EvalError::Failed(why)) => {
                self.fault(rules, &format!("{why} evaluating rule: {title}"));
                return Ok(());
            }
        }
        let mut path = self.path.current();
        if let Some(field) = &rule.field {
            path = path.field(field);
        }
        let (detail, ended) = self.detail(rule, variables);
        let shown = match &rules.type_name {
            whole if whole == "object" || whole == "array" => None,
            _ => Some(value),
        };
        let cause = if ended.is_err() {
            Cause::invalid(path, rules.type_name.as_str(), &detail)
        } else {
            broken(path, shown, &detail, rule.reason.as_deref())
        };
        if !rule.uses_old && same.holds() {
            if self.found.warnings.len() < MAX_FINDINGS {
                self.found.warnings.push(cause.to_string());
            }
        } else {
            self.found.causes.push(cause);
        }
        ended
    }

    /// What is said of a rule that does not hold.
    fn detail(&mut self, rule: &Compiled, variables: &Variables<'_>) -> (String, Result<(), Ended>) {
        let Some(Ok(program)) = &rule.message else { return (rule.detail.clone(), Ok(())) };
        let why = match program.evaluate(variables, &mut self.budget) {
            Ok(CelValue::String(text)) => {
                let text = text.trim();
                if !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n') {
                    return (text.to_owned(), Ok(()));
                }
                return (rule.detail.clone(), Ok(()));
            }
            Err(EvalError::BudgetExceeded) => {
                "messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run"
            }
            Err(EvalError::CostExceeded) => {
                "no further validation rules will be run due to call cost exceeds limit for messageExpression"
            }
            _ => return (rule.detail.clone(), Ok(())),
        };
        (why.to_owned(), Err(Ended))
    }
}

/// The values of `self` and `oldSelf`.
struct Variables<'v>(Result<CelValue<'v>, EvalError>, Option<Result<CelValue<'v>, EvalError>>);

impl<'v> xebec_cel::Activation<'v> for Variables<'v> {
    fn variable(&self, index: usize) -> Option<Result<CelValue<'v>, EvalError>> {
        match index {
            0 => Some(self.0.clone()),
            1 => self.1.clone(),
            _ => None,
        }
    }
}

fn broken(path: FieldPath, value: Option<&Value>, detail: &str, reason: Option<&str>) -> Cause {
    match reason {
        Some("FieldValueForbidden") => Cause::forbidden(path, detail),
        Some("FieldValueRequired") => Cause::required(path, detail),
        Some("FieldValueDuplicate") => match value {
            Some(value) => Cause::duplicate(path, value.clone()),
            None => Cause::duplicate_part(path),
        },
        _ => match value {
            Some(value) => Cause::invalid(path, value.clone(), detail),
            None => Cause::invalid_part(path, detail),
        },
    }
}

/// What tells an element of a list by its keys from the others.
fn identity(item: &Value, keys: &[Key]) -> Vec<u8> {
    let values: Vec<Value> = keys.iter().map(|key| item.get(key).cloned().unwrap_or_default()).collect();
    json::to_vec(&Value::Array(values))
}
