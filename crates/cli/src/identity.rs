//! Who may log in besides those whom the cluster knows: options of `up`, and what they come to.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Args;
use xebec_server::auth::oidc::{AuthenticationConfiguration, Issuers};
use xebec_server::config::Settings;

/// Options of `up` and of the server.
#[derive(Clone, Debug, Args)]
pub(crate) struct IdentityOptions {
    /// Take tokens of the issuers in this AuthenticationConfiguration (apiserver.config.k8s.io/v1)
    #[arg(long, value_name = "FILE")]
    authentication_config: Option<PathBuf>,
}

impl IdentityOptions {
    /// The settings with what the options say.
    ///
    /// # Errors
    /// A file cannot be read, or says what cannot be.
    pub(crate) fn apply(&self, mut settings: Settings) -> Result<Settings> {
        if let Some(file) = &self.authentication_config {
            let unusable = || format!("the authentication configuration {} cannot be used", file.display());
            let config = AuthenticationConfiguration::read(&read(file)?).with_context(unusable)?;
            Issuers::new(&config, &settings.issuers).with_context(unusable)?;
            settings.authentication = Arc::new(config);
        }
        Ok(settings)
    }

    /// The same options for the server.
    ///
    /// # Errors
    /// Nobody knows in which directory this is.
    pub(crate) fn arguments(&self) -> Result<Vec<OsString>> {
        let Some(file) = &self.authentication_config else { return Ok(Vec::new()) };
        let file = std::path::absolute(file).with_context(|| format!("finding {}", file.display()))?;
        Ok(vec![OsString::from("--authentication-config"), file.into()])
    }
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))
}
