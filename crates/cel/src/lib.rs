//! The Common Expression Language (CEL), as Kubernetes 1.36 has it: cel-spec with the functions of Kubernetes' base environment,
//! types and messages of cel-go's checker, and Kubernetes' costs.
//!
//! It owns expressions: how they are read, what types they have, what they cost, what they give. It never does IO, holds no
//! state between evaluations and knows no object of the API; a host declares its own by [`Schema`]s and lends its trees.
//!
//! ```text
//!  text ──parse──▶ tree ──check──▶ types, overloads ──validate──▶ estimate ──plan──▶ Program
//!                                                                                     │
//!  host's trees, Activation ───────────────────────────────────────── evaluate ◀──────┘──▶ Value
//! ```
//!
//! 1. An [`Env`] declares variables, by a [`Type`] or by a [`Schema`], which is also how large values can be and how a tree is
//!    read: which fields there are, what is a timestamp, what a list means.
//! 2. [`Env::compile`] makes a [`Program`]: once, when a rule is written. It knows its [`Program::result_type`], its
//!    [`Program::estimated_cost`] and the variables that it [`Program::uses`].
//! 3. [`Program::evaluate`] takes an [`Activation`], the values of the variables in the order of their declaration, and a
//!    [`Budget`] that several programs may share. Values borrow from the host's [`Tree`]s; nothing is converted.
//!
//! ```
//! use xebec_cel::{Budget, Env, Type, Value};
//!
//! let env = Env::new().variable("replicas", Type::Int);
//! let program = env.compile("replicas > 0 && replicas <= 10").expect("a good expression");
//! assert_eq!(program.result_type(), &Type::Bool);
//! let value = program.evaluate(&[Value::Int(3)], &mut Budget::per_object()).expect("a value");
//! assert_eq!(value.as_bool(), Some(true));
//!
//! let refused = env.compile("replicas + 'a'").expect_err("the types do not fit");
//! assert!(refused.to_string().contains("found no matching overload for '_+_' applied to '(int, string)'"));
//! ```
//!
//! # What is bounded
//!
//! Every bound is in [`limits`]. Besides the cost, which is part of the API, an evaluation counts its real work, since some
//! operations cost far less than they do; no expression runs longer than some tenths of a second. Patterns run in linear
//! time. No input makes this crate panic.

mod ast;
pub mod authz;
mod check;
mod cost;
mod decls;
mod env;
mod error;
mod eval;
mod functions;
mod issues;
mod lexer;
pub mod limits;
mod macros;
mod meter;
mod opaque;
mod parser;
pub mod pattern;
mod plan;
mod program;
pub mod schema;
pub mod time;
mod tree;
mod types;
mod unescape;
mod unify;
mod validate;
pub mod value;

#[cfg(test)]
mod tests;

pub use cost::Range;
pub use env::Env;
pub use error::EvalError;
pub use functions::named::Format;
pub use functions::quantity::Quantity;
pub use functions::semver::Semver;
pub use functions::url::Url;
pub use issues::{Issue, Issues};
pub use opaque::Opaque;
pub use program::{Activation, Budget, CompileError, Program};
pub use schema::Schema;
pub use tree::{Items, Members, Tree, View};
pub use types::{Param, Parts, Type};
pub use value::Value;
