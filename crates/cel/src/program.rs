//! A compiled expression.

use std::fmt;
use std::sync::Arc;

use crate::cost::Range;
use crate::error::EvalError;
use crate::eval::Frame;
use crate::issues::Issues;
use crate::limits;
use crate::meter::Meter;
use crate::plan::Node;
use crate::types::Type;
use crate::value::Value;

/// Why an expression is no program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// It has mistakes.
    #[error(transparent)]
    Issues(#[from] Issues),
    /// A part of it that depends on nothing fails, as `int('a')` does.
    #[error("{0}")]
    Program(String),
}

/// A compiled expression: checked, costed, ready to be evaluated any number of times, by any number of threads.
pub struct Program {
    pub(crate) root: Node,
    pub(crate) result: Type,
    pub(crate) estimate: Range,
    pub(crate) names: Vec<Arc<str>>,
    pub(crate) used: Vec<bool>,
    pub(crate) depth: usize,
}

/// What all evaluations that share it may cost.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    remaining: u64,
}

impl Budget {
    /// A budget of this cost.
    #[must_use]
    pub const fn new(cost: u64) -> Self {
        Self { remaining: cost }
    }

    /// What all rules of one object, or of one binding of a policy, may cost.
    #[must_use]
    pub const fn per_object() -> Self {
        Self::new(limits::PER_OBJECT)
    }

    /// What is left.
    #[must_use]
    pub const fn remaining(&self) -> u64 {
        self.remaining
    }

    const fn spend(&mut self, cost: u64) -> Result<(), EvalError> {
        match self.remaining.checked_sub(cost) {
            Some(rest) => {
                self.remaining = rest;
                Ok(())
            }
            None => {
                self.remaining = 0;
                Err(EvalError::BudgetExceeded)
            }
        }
    }
}

/// The values of variables.
pub trait Activation<'a> {
    /// The value of the variable at `index`, in the order in which the environment declares them. It is asked for when the
    /// evaluation first needs it, and each time again. `None` if it has no value.
    fn variable(&self, index: usize) -> Option<Result<Value<'a>, EvalError>>;
}

impl<'a> Activation<'a> for [Value<'a>] {
    fn variable(&self, index: usize) -> Option<Result<Value<'a>, EvalError>> {
        self.get(index).cloned().map(Ok)
    }
}

impl<'a, const N: usize> Activation<'a> for [Value<'a>; N] {
    fn variable(&self, index: usize) -> Option<Result<Value<'a>, EvalError>> {
        self.as_slice().variable(index)
    }
}

impl<'a> Activation<'a> for Vec<Value<'a>> {
    fn variable(&self, index: usize) -> Option<Result<Value<'a>, EvalError>> {
        self.as_slice().variable(index)
    }
}

impl Program {
    /// The type of its value.
    #[must_use]
    pub const fn result_type(&self) -> &Type {
        &self.result
    }

    /// What an evaluation is estimated to cost, at least and at most.
    #[must_use]
    pub const fn estimated_cost(&self) -> Range {
        self.estimate
    }

    /// Whether it refers to a variable anywhere.
    #[must_use]
    pub fn uses(&self, variable: &str) -> bool {
        self.names.iter().zip(&self.used).any(|(name, used)| *used && &**name == variable)
    }

    /// The variables that it refers to, by their places in the environment.
    pub fn used(&self) -> impl Iterator<Item = usize> {
        self.used.iter().enumerate().filter_map(|(at, used)| used.then_some(at))
    }

    /// How deep it nests once its macros are expanded, [`limits::MAX_TREE_DEPTH`] at most. A host whose variables are
    /// expressions themselves bounds by it how deep they nest together.
    #[must_use]
    pub const fn depth(&self) -> usize {
        self.depth
    }

    /// Evaluates the expression, and takes what that costs out of the budget.
    ///
    /// # Errors
    /// It has no value for these inputs, or it costs more than one evaluation may, or than is left.
    pub fn evaluate<'a>(
        &'a self,
        activation: &(impl Activation<'a> + ?Sized),
        budget: &mut Budget,
    ) -> Result<Value<'a>, EvalError> {
        let (result, cost) = self.evaluate_within(activation, limits::PER_CALL);
        let spent = budget.spend(cost);
        if matches!(result, Err(EvalError::CostExceeded)) {
            return result;
        }
        spent.and(result)
    }

    /// Evaluates the expression within a limit of its own; also gives what it cost.
    pub fn evaluate_within<'a>(
        &'a self,
        activation: &(impl Activation<'a> + ?Sized),
        limit: u64,
    ) -> (Result<Value<'a>, EvalError>, u64) {
        let lookup = |index: usize| activation.variable(index);
        let mut frame = Frame::new(&lookup, &self.names, Meter::new(limit));
        let result = frame.eval(&self.root);
        (result, frame.cost())
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("result", &self.result).field("estimate", &self.estimate).finish()
    }
}
