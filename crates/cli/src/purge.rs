//! `xebec down --purge`: nothing is left of a cluster.
//!
//! Files of pods and images belong to subordinate ids, which only a user namespace has power over: the data is removed by
//! this program as a server of a keeper that lives for nothing else.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use xebec_sandbox::bootstrap::{Keeper, KeeperConfig, Lifetime, ServerCommand, preflight};

use crate::args::Place;
use crate::layout::Layout;

/// Removes the data of a cluster that does not run.
///
/// # Errors
/// The directory is not one of Xebec's, somebody uses it, or something in it cannot be removed.
pub(crate) fn run(layout: &Layout) -> Result<()> {
    let shown = layout.root().display();
    let mut entries = match fs::read_dir(layout.root()) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| format!("reading {shown}"))?,
    };
    if entries.next().is_none() {
        return Ok(());
    }
    if !layout.is_marked() {
        bail!(
            "{shown} is not a data directory of Xebec (there is no file called version in it): nothing is removed"
        );
    }
    if layout.try_lock()?.is_none() {
        bail!("another xebec is using {shown}: nothing is removed");
    }
    let arguments = [OsString::from("purge"), "--data-dir".into(), layout.root().into()];
    let config = KeeperConfig {
        run_dir: layout.run(),
        keeper_args: vec!["keeper".into()],
        server: ServerCommand { args: arguments.into(), env: Vec::new() },
        lifetime: Lifetime::Foreground,
        stop_grace: Duration::from_secs(1),
    };
    let keeper = Keeper::spawn(&preflight().map_err(|f| anyhow!(f))?, &config)?;
    let end = keeper.supervise()?;
    if end.code != 0 {
        bail!("{shown} could not be removed");
    }
    // What the keeper itself stood on.
    remove(&layout.run())?;
    for file in layout.markers() {
        remove(&file)?;
    }
    match fs::remove_dir(layout.root()) {
        // Somebody else's files, or somebody else's directory around it: then an empty one stays.
        Err(e) if matches!(e.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::PermissionDenied) => Ok(()),
        other => other.with_context(|| format!("removing {shown}")),
    }
}

/// The part inside of the user namespace.
pub(crate) fn inside(place: &Place) -> Result<ExitCode> {
    let layout = Layout::find(place)?;
    let parts = layout.contents();
    parts.iter().try_for_each(|path: &PathBuf| remove(path))?;
    Ok(ExitCode::SUCCESS)
}

/// Removes a file or directory that may not be there.
fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(e) if e.kind() != ErrorKind::NotFound => {
            Err(e).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}
