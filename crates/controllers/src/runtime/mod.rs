//! What every controller stands on: caches, queues, writes, events.
//!
//! Owns: one list and watch per resource for the whole process ([`informer`]), the keyed work queue
//! ([`queue`]), the loop that turns keys into reconciles ([`runner`]), the record of own writes that a
//! cache has not shown yet ([`pending`]), typed writes ([`writer`]), the event recorder ([`events`]), and the
//! tasks that all of this runs in ([`tasks`]).
//! Never: a decision about a workload.
//!
//! ```text
//! watch ─▶ source ─▶ store (one per projection) ─▶ handlers ─▶ queue ─▶ reconcile ─▶ plan ─▶ writes
//!                      ▲                                          │                      │
//!                      └────────────── reads ─────────────────────┘                      ▼
//!                                                          held back until the cache shows them
//! ```
//!
//! Everything is level-triggered: a key says *look again*, never *what happened*.
//!
//! Determinism: wall time comes from a [`clock::Clock`], randomness from a seeded [`rng::Rng`], waiting from
//! tokio's timers, and no decision depends on the order of a hash map. On a current-thread runtime with tokio's
//! clock paused, a run is a function of the seed and of what the API answers.

pub mod clock;
pub mod discovery;
pub mod dynamic;
pub mod election;
pub mod error;
pub mod events;
pub mod informer;
pub mod kind;
pub mod object;
pub mod pending;
pub mod queue;
pub mod rng;
pub mod runner;
pub mod selector;
pub mod store;
pub mod tasks;
pub mod writer;
