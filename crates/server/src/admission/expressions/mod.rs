//! Expressions (CEL) of webhooks and policies about requests: what they may refer to, and how they are evaluated.
//!
//! ```text
//!  Environment ──compile──▶ Expression ┐
//!  Seen: the request in one version    ├──evaluate──▶ value, or why there is none
//!  Evaluation: params, variables, cost ┘
//! ```
//!
//! What an evaluation is not asked for is not made: the request as an object, the namespace, a policy's variables. Variables
//! are expressions themselves, which may refer to those before them; what one gives is kept for all expressions of an
//! evaluation, and counts once. How deep expressions nest through their variables is bounded when they are compiled.

mod conditions;
mod environment;
mod evaluation;

pub(super) use conditions::{Conditions, condition_faults};
pub(super) use environment::{Environment, Sees, Typed};
pub(super) use evaluation::{Asks, Evaluation, Failure, Seen, Variable};

use std::sync::Arc;

use xebec_api::{Cause, FieldPath};
use xebec_cel::Program;

use self::environment::Input;

/// A compiled expression.
#[derive(Debug)]
pub(super) struct Expression {
    /// As it is written.
    pub(super) text: String,
    /// What it was compiled to, or why it could not be.
    pub(super) program: Result<Program, String>,
    /// What its variables stand for.
    inputs: Arc<[Input]>,
    /// How deep it nests, with the variables that it uses.
    depth: usize,
}

impl Expression {
    /// What is wrong with it, if there is anything.
    pub(super) fn fault(&self, path: FieldPath) -> Option<Cause> {
        let why = self.program.as_ref().err()?;
        Some(Cause::invalid(path, self.text.as_str(), why))
    }

    /// Whether it refers to a variable.
    pub(super) fn uses(&self, variable: &str) -> bool {
        self.program.as_ref().is_ok_and(|program| program.uses(variable))
    }
}
