//! One pod: what is to be done for it, by whom, and what is told about it.
//!
//! ```text
//!   spec (watch) ─┐
//!   shim events ──┼──▶ worker (owns State) ──plan──▶ actions ──▶ outcomes ─┐
//!   probe results ┘         ▲   └──status──▶ API                           │
//!                           └──────────────────────────────────────────────┘
//! ```
//!
//! [`plan`] and [`status`] are pure functions of the specification, the [`State`] and the time. The worker is the only
//! one who changes the state; actions report their outcome to it and to nobody else.

pub mod ask;
pub mod backoff;
pub mod env;
mod etc;
mod hook;
mod message;
pub mod plan;
pub mod policy;
pub mod probe;
pub mod run;
pub mod spec;
pub mod state;
pub mod status;
mod unverified;
pub mod volumes;
pub mod worker;

pub use plan::{Action, Plan, plan};
pub use state::State;
