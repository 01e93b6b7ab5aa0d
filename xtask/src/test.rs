//! `cargo xtask test`: everything, from nothing, on a fresh machine.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::command::{cargo, run};
use crate::{clients, image, packages, tidy};

/// Runs all checks and tests.
///
/// # Errors
/// The first that fails.
pub(crate) fn run_checks() -> Result<()> {
    packages::for_tests()?;
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    tidy::run()?;
    run(cargo(&["clippy", "--workspace", "--all-targets"]).args(["--", "--deny", "warnings"]))?;
    run(&mut cargo(&["test", "--workspace", "--exclude", "xebec-e2e"]))?;
    end_to_end()
}

/// The real program with real clients.
fn end_to_end() -> Result<()> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has a parent directory")?;
    let fetched = top.join("target/clients");
    let archive = top.join("target/busybox.tar");
    image::write(&archive, crate::demo::IMAGE)?;
    run(&mut cargo(&["build", "--package", "xebec"]))?;
    run(cargo(&["test", "--package", "xebec-e2e"])
        .env("XEBEC_BIN", top.join("target/debug/xebec"))
        .env("XEBEC_KUBECTL", clients::find("kubectl", &fetched)?)
        .env("XEBEC_HELM", clients::find("helm", &fetched)?)
        .env("XEBEC_IMAGE", archive))
}
