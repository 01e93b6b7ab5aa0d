//! Match conditions: expressions that must hold for a request to be shown to a webhook, or to be subject to a policy.

use xebec_api::{Cause, FieldPath, Value};
use xebec_cel::{Budget, Type, limits};

use super::environment::Environment;
use super::evaluation::Evaluation;
use super::{Expression, Failure};
use crate::authz::together;

/// The conditions of one webhook or policy.
#[derive(Debug, Default)]
pub(in crate::admission) struct Conditions {
    expressions: Vec<Expression>,
}

/// What is wrong with an owner's match conditions. Expressions that are `known` may stay as they are.
pub(in crate::admission) fn condition_faults(
    owner: &Value,
    path: &FieldPath,
    environment: &Environment,
    known: &dyn Fn(&str) -> bool,
) -> Vec<Cause> {
    let mut causes = Vec::new();
    for (n, condition) in owner.array_at(&["matchConditions"]).iter().enumerate() {
        let text = condition.str_at(&["expression"]).unwrap_or_default();
        // An empty one is refused as such.
        if text.trim().is_empty() || known(text) {
            continue;
        }
        let path = path.clone().field("matchConditions").index(n).field("expression");
        causes.extend(environment.compile(text.trim(), &[Type::Bool]).fault(path));
    }
    causes
}

impl Conditions {
    pub(in crate::admission) fn read(owner: &Value, environment: &Environment) -> Self {
        let conditions = owner.array_at(&["matchConditions"]).iter();
        let text = |condition: &Value| condition.str_at(&["expression"]).unwrap_or_default().to_owned();
        Self { expressions: conditions.map(|c| environment.compile(&text(c), &[Type::Bool])).collect() }
    }

    pub(in crate::admission) fn is_empty(&self) -> bool {
        self.expressions.is_empty()
    }

    /// Whether all hold: one that does not decides, whatever fails besides; else what fails.
    pub(in crate::admission) fn hold<'a>(&'a self, evaluation: &Evaluation<'a>) -> Result<bool, String> {
        let mut budget = Budget::new(limits::MATCH_CONDITIONS);
        let mut errors = Vec::new();
        for expression in &self.expressions {
            match evaluation.evaluate(expression, &mut budget).map(|value| value.as_bool()) {
                Ok(Some(true)) => {}
                Ok(Some(false)) => return Ok(false),
                Ok(None) => errors.push("must evaluate to bool".into()),
                Err(Failure::Budget) => return Err(Failure::Budget.to_string()),
                Err(Failure::Expression(why)) => errors.push(why),
            }
        }
        if errors.is_empty() { Ok(true) } else { Err(together(&errors)) }
    }
}
