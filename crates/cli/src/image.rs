//! `xebec image`: asks the server, which has the store.

use std::process::ExitCode;

use anyhow::Result;

use crate::args::{Image as Options, ImageCommand, Output, Place};
use crate::control::{self, Image, Reply, Request};
use crate::layout::Layout;
use crate::output;

/// Does what the subcommand says.
pub(crate) fn run(place: &Place, options: &Options) -> Result<ExitCode> {
    let socket = Layout::find(place)?.control_socket();
    let (request, output) = match &options.command {
        ImageCommand::Import { archive, name } => (
            Request::ImportImage { archive: std::path::absolute(archive)?, name: name.clone() },
            Output::Text,
        ),
        ImageCommand::Pull { image } => (Request::PullImage { image: image.clone() }, Output::Text),
        ImageCommand::Ls { output } => (Request::ListImages, *output),
        ImageCommand::Rm { image } => (Request::RemoveImage { image: image.clone() }, Output::Text),
    };
    let reply = control::ask(&socket, &request, |line| eprintln!("{line}"))?;
    if let Reply::Images(images) = reply {
        match output {
            Output::Json => output::print(&serde_json::to_string_pretty(&images)?)?,
            Output::Text => output::print(&table(&images))?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn table(images: &[Image]) -> String {
    let width = images.iter().map(|i| i.name.len()).max().unwrap_or(0).max(4);
    let mut lines = vec![format!("{:width$}  {:12}  {:>9}", "NAME", "DIGEST", "SIZE")];
    lines.extend(images.iter().map(|image| {
        let digest = image.digest.rsplit(':').next().unwrap_or_default();
        let short = digest.get(..12).unwrap_or(digest);
        format!("{:width$}  {short:12}  {:>9}", image.name, size(image.size))
    }));
    lines.join("\n")
}

/// `1.2 MB`.
pub(crate) fn size(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit after the point")]
    let mut number = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if number < 1000.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{number:.1} {unit}") };
        }
        number /= 1000.0;
    }
    format!("{number:.1} TB")
}
