//! The administrator's kubeconfig.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use xebec_server::auth::keys::{ClusterKeys, write_file};

use crate::args::Place;
use crate::layout::Layout;
use crate::output;

/// Prints it.
pub(crate) fn print(place: &Place) -> Result<ExitCode> {
    let path = Layout::find(place)?.kubeconfig();
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!(
            "reading {}: a cluster that was started here has one; start it with: xebec up",
            path.display()
        )
    })?;
    output::print(text.trim_end())?;
    Ok(ExitCode::SUCCESS)
}

/// Writes it, with mode 0600, for the server at `url`.
pub(crate) fn write(layout: &Layout, keys: &ClusterKeys, url: &str) -> Result<()> {
    let text = xebec_control_plane::kubeconfig::administrator(keys, url)?;
    write_file(&layout.kubeconfig(), text.as_bytes())?;
    Ok(())
}
