//! Resources: the table of what there is, and the one path that serves them all.
//!
//! A request finds its [`Row`] in the [`Table`] and goes through [`read`], [`watch`] or [`write`]; none of them names a
//! kind. What a kind does differently stands in its pure row ([`xebec_api::kinds`]) and, where it needs other objects, in
//! a [`Strategy`] of its own in `special/`.

pub mod conversion;
pub mod convert;
pub mod decode;
pub mod delete;
pub mod facts;
pub mod managed;
pub mod patch;
pub mod read;
pub mod special;
mod status;
pub mod strategy;
pub mod table;
mod unenforced;
pub mod watch;
pub mod write;

pub use strategy::Strategy;
pub use table::{Row, Table};
