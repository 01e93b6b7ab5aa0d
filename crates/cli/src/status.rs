//! `xebec status`.

use std::process::ExitCode;

use anyhow::Result;

use crate::args::{Output, Place, Status as Options};
use crate::control::{self, Status};
use crate::layout::Layout;
use crate::output;

/// Shows how the cluster is; fails when none runs.
pub(crate) fn run(place: &Place, options: &Options) -> Result<ExitCode> {
    let layout = Layout::find(place)?;
    let status = control::status(&layout.control_socket())?;
    output::print(&match (options.output, &status) {
        (Output::Json, Some(status)) => serde_json::to_string_pretty(status)?,
        (Output::Json, None) => serde_json::json!({"ready": false, "data_dir": layout.root()}).to_string(),
        (Output::Text, Some(status)) => describe(status),
        (Output::Text, None) => {
            format!("no cluster runs in {}; start one with: xebec up", layout.root().display())
        }
    })?;
    Ok(if status.is_some_and(|s| s.ready) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn describe(status: &Status) -> String {
    let server = status.pids.server.map_or("unknown".to_owned(), |pid| pid.to_string());
    let mut lines = vec![
        if status.ready { "ready" } else { "starting" }.to_owned(),
        format!("  server      {}", status.server),
        format!("  kubeconfig  {}", status.kubeconfig.display()),
        format!("  processes   keeper {}, server {server}", status.pids.keeper),
        format!("  version     {}", status.version),
    ];
    lines.extend(status.notes.iter().map(|note| format!("  note        {note}")));
    lines.join("\n")
}
