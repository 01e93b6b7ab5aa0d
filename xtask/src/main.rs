//! The project's only task runner: `cargo xtask <task>`.
fn main() {}
