//! The process that owns one pod.
pub(crate) mod finish;
pub(crate) mod launch;
pub(crate) mod pod;
mod reaper;
pub(crate) mod refusal;
pub(crate) mod root;
pub(crate) mod spec;
pub(crate) mod user;
