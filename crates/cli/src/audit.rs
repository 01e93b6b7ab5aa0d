//! Options of the audit log: what is recorded, and whether requests wait for it.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use xebec_server::audit::{AuditSettings, LogSettings, Policy};

use crate::layout::Layout;

/// The log is put aside at this size, and as many before it are kept.
const MAX_BYTES: u64 = 100 * 1024 * 1024;
const BACKUPS: usize = 10;

/// Options of the audit log.
#[derive(Clone, Debug, Args)]
pub(crate) struct AuditOptions {
    /// Record in DATA/audit what this policy says (audit.k8s.io/v1) [default: who changes what or has access to secrets]
    #[arg(long = "audit-policy", value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Let requests wait until they are recorded, instead of going on when the disk is too slow
    #[arg(long = "audit-blocking")]
    blocking: bool,
}

impl AuditOptions {
    /// What the server is to record, and where.
    ///
    /// # Errors
    /// The policy cannot be read, or is none.
    pub(crate) fn settings(&self, layout: &Layout) -> Result<AuditSettings> {
        let policy = match &self.policy {
            None => Policy::default(),
            Some(file) => {
                let text = fs::read_to_string(file)
                    .with_context(|| format!("reading the audit policy {}", file.display()))?;
                Policy::read(&text)
                    .with_context(|| format!("the audit policy {} cannot be used", file.display()))?
            }
        };
        let path = layout.audit().join("audit.log");
        let log = LogSettings { path, max_bytes: MAX_BYTES, backups: BACKUPS, blocking: self.blocking };
        Ok(AuditSettings { policy, log })
    }

    /// The same options for the server.
    ///
    /// # Errors
    /// Nobody knows in which directory this is.
    pub(crate) fn arguments(&self) -> Result<Vec<OsString>> {
        let mut arguments = Vec::new();
        if let Some(file) = &self.policy {
            let file = std::path::absolute(file).with_context(|| format!("finding {}", file.display()))?;
            arguments.extend([OsString::from("--audit-policy"), file.into()]);
        }
        arguments.extend(self.blocking.then(|| OsString::from("--audit-blocking")));
        Ok(arguments)
    }
}
