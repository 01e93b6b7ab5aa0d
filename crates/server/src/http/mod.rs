//! HTTP: listening, what a request asks for, reading bodies, writing answers.

pub mod body;
pub mod query;
pub mod route;
