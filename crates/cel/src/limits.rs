//! What an expression may cost its reader: every bound of this crate.

/// Longest expression, in code points.
pub const MAX_EXPRESSION: usize = 100_000;
/// Deepest nesting of an expression, by each of the grammar's rules and of operands in a chain.
pub const MAX_DEPTH: usize = 250;
/// Most nodes of an expression once its macros are expanded; `optMap` copies its target, so a chain doubles at each step.
pub const MAX_NODES: usize = 200_000;
/// Deepest tree once macros are expanded: an expression that nests within [`MAX_DEPTH`] can be expanded to a deeper tree.
pub const MAX_TREE_DEPTH: usize = 400;
/// Most parts of a type: the type of `{x: x}` doubles that of `x`.
pub const MAX_TYPE_PARTS: u32 = 4_096;
/// Most errors that are reported of one expression.
pub const MAX_ERRORS: usize = 100;
/// Longest source line that an error shows, in bytes.
pub const MAX_SNIPPET: usize = 16_384;
/// Largest compiled regular expression, in bytes.
pub const MAX_REGEX_SIZE: usize = 1 << 20;
/// Deepest nesting of a regular expression.
pub const MAX_REGEX_DEPTH: u32 = 100;
/// Longest list that `lists.range` makes, and longest text that `format` and `replace` make: what no cost bounds.
pub const MAX_MADE: usize = 4 << 20;
/// Most digits after the point that `format` writes.
pub const MAX_PRECISION: usize = 1_000;
/// What one evaluation may cost (upstream: `PerCallLimit`).
pub const PER_CALL: u64 = 1_000_000;
/// What all rules of one object, or of one policy binding, may cost (upstream: `RuntimeCELCostBudget`).
pub const PER_OBJECT: u64 = 10_000_000;
/// What the match conditions of one webhook or policy may cost (upstream: `RuntimeCELCostBudgetMatchConditions`).
pub const MATCH_CONDITIONS: u64 = 2_500_000;
/// Largest request, in bytes, that sizes are estimated for.
pub const MAX_REQUEST: u64 = 3 * 1024 * 1024;
/// Longest text that a message expression may give, in bytes.
pub const MAX_MESSAGE: usize = 5 * 1024;
