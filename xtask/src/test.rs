//! `cargo xtask test`: everything, from nothing, on a fresh machine.

use anyhow::Result;

use crate::command::{cargo, run};
use crate::{packages, tidy};

/// Runs all checks and tests.
///
/// # Errors
/// The first that fails.
pub(crate) fn run_checks() -> Result<()> {
    packages::for_tests()?;
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    tidy::run()?;
    run(cargo(&["clippy", "--workspace", "--all-targets"]).args(["--", "--deny", "warnings"]))?;
    run(&mut cargo(&["test", "--workspace"]))
}
