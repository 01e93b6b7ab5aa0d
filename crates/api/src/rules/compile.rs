//! One rule, from its declaration to programs.

use std::sync::Arc;

use xebec_cel::limits::MAX_REQUEST;
use xebec_cel::{CompileError, Env, Program, Schema, Type};

use crate::Value;
use crate::kinds::schema_path;

/// What one rule may be estimated to cost, with how often it can be evaluated for one object.
pub const MAX_ESTIMATED: u64 = 10_000_000;
/// What all rules of a schema may be estimated to cost.
pub const MAX_ESTIMATED_TOTAL: u64 = 100_000_000;

/// The names of the two variables, and their places.
pub(super) const SELF: &str = "self";
const OLD_SELF: &str = "oldSelf";

/// A rule.
#[derive(Debug)]
pub(crate) struct Compiled {
    /// The expression, or why it is none.
    pub(crate) program: Result<Program, String>,
    /// The expression that tells what is wrong, or why it is none.
    pub(crate) message: Option<Result<Program, MessageError>>,
    /// Whether it is about a change.
    pub(crate) uses_old: bool,
    /// Whether it is also evaluated when there is nothing old.
    pub(super) optional_old: bool,
    /// What is said when it does not hold.
    pub(super) detail: String,
    /// What errors call it by.
    pub(super) title: String,
    /// Why the value is wrong, in the API's words.
    pub(super) reason: Option<String>,
    /// The field below that is wrong.
    pub(super) field: Option<String>,
}

/// Why a message expression is none.
#[derive(Clone, Debug)]
pub(crate) struct MessageError(pub(crate) String);

impl Compiled {
    /// What an evaluation is estimated to cost at most.
    pub(crate) fn estimate(&self) -> u64 {
        self.program.as_ref().map_or(0, |program| program.estimated_cost().max)
    }

    /// What an evaluation of its message is estimated to cost at most.
    pub(crate) fn message_estimate(&self) -> u64 {
        match &self.message {
            Some(Ok(program)) => program.estimated_cost().max,
            _ => 0,
        }
    }
}

/// Compiles the rules of a schema, which declares what they see.
pub(crate) fn compile(schema: &Value, declared: &Arc<Schema>) -> Vec<Compiled> {
    let base = || Env::new().variable_of(SELF, declared);
    let (mut plain, mut optional) = (None, None);
    let rules = schema.array_at(&[super::RULES]).iter();
    rules
        .map(|rule| {
            let optional_old = rule.bool_at(&["optionalOldSelf"]) == Some(true);
            let env = if optional_old {
                optional.get_or_insert_with(|| base().optional_variable_of(OLD_SELF, declared))
            } else {
                plain.get_or_insert_with(|| base().variable_of(OLD_SELF, declared))
            };
            compile_one(env, rule, schema, optional_old)
        })
        .collect()
}

fn compile_one(env: &Env, rule: &Value, schema: &Value, optional_old: bool) -> Compiled {
    let text = |field: &str| rule.str_at(&[field]).unwrap_or_default();
    let program = expression(env, text("rule"), &Type::Bool).map_err(|fault| match fault {
        Fault::Mistakes(issues) => format!("compilation failed: {issues}"),
        Fault::Constant(why) => format!("program instantiation failed: {why}"),
        Fault::Result => "cel expression must evaluate to a bool".to_owned(),
    });
    let message = Some(text("messageExpression")).filter(|text| !text.is_empty() && program.is_ok());
    let message = message.map(|text| {
        expression(env, text, &Type::String).map_err(|fault| {
            MessageError(match fault {
                Fault::Mistakes(issues) => format!("messageExpression compilation failed: {issues}"),
                Fault::Constant(why) => format!("messageExpression instantiation failed: {why}"),
                Fault::Result => "messageExpression must evaluate to a string".to_owned(),
            })
        })
    });
    let stated = text("message").trim();
    let title = if text("message").is_empty() { text("rule").trim() } else { stated };
    Compiled {
        uses_old: program.as_ref().is_ok_and(|program| program.uses(OLD_SELF)),
        program,
        message,
        optional_old,
        detail: if text("message").is_empty() { format!("failed rule: {title}") } else { stated.to_owned() },
        title: title.to_owned(),
        reason: rule.str_at(&["reason"]).map(str::to_owned),
        field: schema_path(schema, text("fieldPath")),
    }
}

enum Fault {
    Mistakes(String),
    Constant(String),
    /// It has a value of another type.
    Result,
}

fn expression(env: &Env, text: &str, wanted: &Type) -> Result<Program, Fault> {
    let program = env.compile(text).map_err(|error| match error {
        CompileError::Issues(issues) => Fault::Mistakes(issues.to_string()),
        CompileError::Program(why) => Fault::Constant(why),
    })?;
    if program.result_type() == wanted { Ok(program) } else { Err(Fault::Result) }
}

/// How often values of this schema can stand in one request.
pub(crate) const fn most_in_a_request(declared: &Schema) -> u64 {
    MAX_REQUEST / (declared.min_serialized + 1)
}
