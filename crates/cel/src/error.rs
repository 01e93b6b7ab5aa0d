//! Why an evaluation gave no value.

/// Why an evaluation gave no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// The expression has none for these inputs, as when a key is missing.
    #[error("{0}")]
    Failed(Box<str>),
    /// It cost more than one evaluation may.
    #[error("operation cancelled: actual cost limit exceeded")]
    CostExceeded,
    /// All evaluations together cost more than the budget that they share.
    #[error("no budget is left for more evaluations")]
    BudgetExceeded,
}

/// The failure with this message.
pub(crate) fn fail<T>(message: impl Into<Box<str>>) -> Result<T, EvalError> {
    Err(EvalError::Failed(message.into()))
}

/// What an operation says of operands that it is not made for.
pub(crate) fn no_overload<T>() -> Result<T, EvalError> {
    fail("no such overload")
}
