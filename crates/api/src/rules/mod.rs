//! The rules of custom resources (`x-kubernetes-validations`): compiled once with the definition, evaluated on every write.
//!
//! ```text
//! schema ─declare─▶ what expressions see ─compile─▶ Rules, a tree like the schema's ─validate(new, old)─▶ causes
//! ```
//!
//! It owns what upstream's `apiserver/schema/cel` does: which old value a new one is compared with, what a transition rule is
//! skipped for, whether a rule that an unchanged value breaks is only warned of (ratcheting), the texts, and the budget.
//! Expressions themselves are [`xebec_cel`]'s.

mod compile;
mod declare;
mod tree;
mod validate;

pub use compile::{MAX_ESTIMATED, MAX_ESTIMATED_TOTAL};
pub(crate) use compile::{compile, most_in_a_request};
pub(crate) use declare::declare;
pub use validate::{Findings, Rules};

/// Where the rules of a schema stand.
pub(crate) const RULES: &str = "x-kubernetes-validations";

#[cfg(test)]
mod tests;
