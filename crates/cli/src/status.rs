//! `xebec status`.

use std::process::ExitCode;

use anyhow::Result;

use crate::args::{Output, Place, Status as Options};
use crate::control;
use crate::layout::Layout;

/// Shows how the cluster is; fails when none runs.
pub(crate) fn run(place: &Place, options: &Options) -> Result<ExitCode> {
    let layout = Layout::find(place)?;
    let status = control::status(&layout.control_socket());
    match (options.output, &status) {
        (Output::Json, Some(status)) => println!("{}", serde_json::to_string_pretty(status)?),
        (Output::Json, None) => {
            println!("{}", serde_json::json!({"ready": false, "data_dir": layout.root()}));
        }
        (Output::Text, Some(status)) => {
            println!("{}", if status.ready { "ready" } else { "starting" });
            println!("  server      {}", status.server);
            println!("  kubeconfig  {}", status.kubeconfig.display());
            let server = status.pids.server.map_or("unknown".to_owned(), |pid| pid.to_string());
            println!("  processes   keeper {}, server {server}", status.pids.keeper);
            println!("  version     {}", status.version);
            for note in &status.notes {
                println!("  note        {note}");
            }
        }
        (Output::Text, None) => {
            println!("no cluster runs in {}; start one with: xebec up", layout.root().display());
        }
    }
    Ok(if status.is_some_and(|s| s.ready) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
