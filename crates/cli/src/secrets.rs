//! Encryption at rest: which resources, and `xebec secrets`, which changes the key.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use xebec_server::encryption::Coverage;

use crate::args::{Place, Secrets, SecretsCommand};
use crate::control::{self, Reply, Request};
use crate::layout::Layout;
use crate::output;

/// Options of encryption at rest.
#[derive(Clone, Debug, Args)]
pub(crate) struct EncryptionOptions {
    /// Encrypt on the disk, besides Secrets, what this EncryptionConfiguration says (apiserver.config.k8s.io/v1)
    #[arg(long = "encryption-config", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl EncryptionOptions {
    /// What is encrypted.
    ///
    /// # Errors
    /// The configuration cannot be read, or asks for what there is not.
    pub(crate) fn coverage(&self) -> Result<Coverage> {
        let Some(file) = &self.config else { return Ok(Coverage::default()) };
        let shown = file.display();
        let text = fs::read_to_string(file)
            .with_context(|| format!("reading the encryption configuration {shown}"))?;
        Coverage::read(&text).with_context(|| format!("the encryption configuration {shown} cannot be used"))
    }

    /// The same options for the server.
    ///
    /// # Errors
    /// Nobody knows in which directory this is.
    pub(crate) fn arguments(&self) -> Result<Vec<OsString>> {
        let Some(file) = &self.config else { return Ok(Vec::new()) };
        let file = std::path::absolute(file).with_context(|| format!("finding {}", file.display()))?;
        Ok(vec![OsString::from("--encryption-config"), file.into()])
    }
}

/// Does what the subcommand says.
pub(crate) fn run(place: &Place, options: &Secrets) -> Result<ExitCode> {
    let SecretsCommand::Rotate = options.command;
    let socket = Layout::find(place)?.control_socket();
    let Reply::Rotated { key, values, removed } =
        control::ask(&socket, &Request::RotateEncryption, |line| eprintln!("{line}"))?
    else {
        bail!("the cluster's server answers something else; is it of another version of Xebec?")
    };
    let (values, removed) = (counted(values, "value"), counted(removed, "older key"));
    output::print(&format!("key {key} seals now; {values} written again, {removed} removed"))?;
    Ok(ExitCode::SUCCESS)
}

fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}
