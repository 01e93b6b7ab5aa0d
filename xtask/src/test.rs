//! `cargo xtask test`: everything, from nothing, on a fresh machine.

use std::process::Command;

use anyhow::Result;

use crate::command::{cargo, run, target};
use crate::{clients, fuzz, image, packages, tidy};

/// Runs all checks and tests.
///
/// # Errors
/// The first that fails.
pub(crate) fn run_checks() -> Result<()> {
    packages::for_tests()?;
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    tidy::run()?;
    run(cargo(&["clippy", "--workspace", "--all-targets"]).args(["--", "--deny", "warnings"]))?;
    fuzz::check()?;
    run(&mut cargo(&["test", "--workspace", "--exclude", "xebec-e2e"]))?;
    end_to_end()
}

/// The real program with real clients.
fn end_to_end() -> Result<()> {
    run(&mut cargo(&["build", "--package", "xebec"]))?;
    run(&mut with_programs(cargo(&["test", "--package", "xebec-e2e"]), "debug")?)
}

/// Measures what SPECIFICATION.md promises.
///
/// # Errors
/// Something fails; numbers never do.
pub(crate) fn run_benches() -> Result<()> {
    packages::for_tests()?;
    run(&mut cargo(&["build", "--release", "--package", "xebec"]))?;
    run(&mut with_programs(cargo(&["bench", "--package", "xebec-e2e", "--bench", "cluster"]), "release")?)
}

/// Tells a command where the programs are that the end-to-end tests need.
fn with_programs(mut command: Command, profile: &str) -> Result<Command> {
    let target = target()?;
    let fetched = target.join("clients");
    let archive = target.join("busybox.tar");
    image::write(&archive, crate::demo::IMAGE)?;
    command
        .env("XEBEC_BIN", target.join(profile).join("xebec"))
        .env("XEBEC_KUBECTL", clients::find("kubectl", &fetched)?)
        .env("XEBEC_HELM", clients::find("helm", &fetched)?)
        .env("XEBEC_PYTHON", clients::python(&fetched)?)
        .env("XEBEC_IMAGE", archive);
    Ok(command)
}
