//! `xebec crd`: what a definition declares of conversion, without a cluster.

use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow, bail};
use xebec_api::conversion::{ANNOTATION, Declaration};
use xebec_api::{Value, yaml};

use crate::args::CrdCommand;
use crate::output;

/// How much is read of a file: a request's bound.
const MAX_FILE: u64 = 3 * 1024 * 1024;

/// Does what the subcommand says.
pub(crate) fn run(command: &CrdCommand) -> Result<ExitCode> {
    match command {
        CrdCommand::Convert { file, crd, to } => convert(file, crd, to),
        CrdCommand::Test { crd } => test(crd),
    }
}

fn convert(file: &Path, crd: &Path, to: &str) -> Result<ExitCode> {
    let definition = read(crd)?;
    let declaration = declaration(&definition, crd)?;
    let object = read(file)?;
    let group = definition.str_at(&["spec", "group"]).unwrap_or_default();
    let converted = declaration
        .convert(object, &format!("{group}/{to}"))
        .with_context(|| format!("converting {} to {to}", file.display()))?;
    output::print(yaml::to_string(&converted)?.trim_end())?;
    Ok(ExitCode::SUCCESS)
}

fn test(crd: &Path) -> Result<ExitCode> {
    let definition = read(crd)?;
    let proof = declaration(&definition, crd)?.prove().map_err(|why| anyhow!("{why}"))?;
    if proof.losses.is_empty() {
        output::print(&format!("{} conversions there and back: nothing is lost", proof.trips))?;
        return Ok(ExitCode::SUCCESS);
    }
    let lines: Vec<String> = proof.losses.iter().map(|loss| format!("- {loss}")).collect();
    output::print(&lines.join("\n"))?;
    bail!(
        "{} of {} conversions there and back are enough to see that something is lost",
        lines.len(),
        proof.trips
    )
}

fn declaration(definition: &Value, file: &Path) -> Result<Declaration> {
    let read = Declaration::read(definition);
    let read = read.map_err(|faults| anyhow!("{}: {}", file.display(), faults.join("\n  ")))?;
    read.ok_or_else(|| anyhow!("{} has no annotation {ANNOTATION}", file.display()))
}

fn read(path: &Path) -> Result<Value> {
    let mut text = String::new();
    let shown = path.display();
    let length = if path == Path::new("-") {
        std::io::stdin().take(MAX_FILE + 1).read_to_string(&mut text)
    } else {
        let file = std::fs::File::open(path).with_context(|| format!("opening {shown}"))?;
        file.take(MAX_FILE + 1).read_to_string(&mut text)
    };
    if length.with_context(|| format!("reading {shown}"))? as u64 > MAX_FILE {
        bail!("{shown} is longer than {MAX_FILE} bytes, which is the limit");
    }
    Ok(yaml::parse(&text).with_context(|| format!("{shown} is no YAML"))?.value)
}
