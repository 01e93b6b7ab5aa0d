//! The `nft` program, run inside the node's network namespace: one script is one transaction.

use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use crate::netns::{Netns, NetnsError};
use crate::program;
use crate::service::ruleset::Features;

/// How long one run may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// As much of the program's complaint as an error repeats, in bytes.
const MAX_COMPLAINT: usize = 600;

/// Why rules could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// The program is not installed.
    #[error(
        "nft is not installed, so service addresses don't work: install Debian's package nftables, or your system's"
    )]
    Missing,
    /// The node's namespace could not be used.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The program could not be started or talked to.
    #[error("cannot run {}: {source}", program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The program refused the rules, or the kernel did.
    #[error("nft ended with {status}: {complaint}")]
    Refused {
        /// How it ended.
        status: ExitStatus,
        /// What it said, shortened.
        complaint: String,
    },
    /// The program did not end; it was killed.
    #[error("nft did not finish in {}s", PATIENCE.as_secs())]
    TimedOut,
}

/// The program, and where to run it.
#[derive(Debug, Clone)]
pub struct Nft {
    program: PathBuf,
    node: Netns,
}

impl Nft {
    /// Finds the program.
    pub fn find(node: Netns) -> Result<Self, NftError> {
        let program = program::find("nft").ok_or(NftError::Missing)?;
        Ok(Self { program, node })
    }

    /// Applies `script` whole or not at all.
    pub async fn apply(&self, script: String) -> Result<(), NftError> {
        self.run(&["-f", "-"], script).await.map(drop)
    }

    /// Lists a table, with numbers for names; `None` when there is no such table.
    pub async fn list_table(&self, family: &str, table: &str) -> Result<Option<String>, NftError> {
        match self.run(&["--numeric", "list", "table", family, table], String::new()).await {
            Ok(listing) => Ok(Some(listing)),
            Err(NftError::Refused { complaint, .. }) if complaint.contains("No such file") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks the kernel for each feature, changing nothing.
    pub async fn probe(&self) -> Result<Features, NftError> {
        let accepts = async |rest: &str| -> Result<bool, NftError> {
            let script = format!("add table ip xebec-probe\nadd chain ip xebec-probe c\n{rest}\n");
            match self.run(&["--check", "-f", "-"], script).await {
                Ok(_) => Ok(true),
                Err(NftError::Refused { .. }) => Ok(false),
                Err(error) => Err(error),
            }
        };
        let random = "add rule ip xebec-probe c numgen random mod 2 vmap { 0 : accept, 1 : drop }";
        let dynamic = "add set ip xebec-probe s { type ipv4_addr; flags dynamic,timeout; size 16; }\n\
                       add rule ip xebec-probe c update @s { ip saddr timeout 1s }";
        Ok(Features { random: accepts(random).await?, dynamic_sets: accepts(dynamic).await? })
    }

    async fn run(&self, arguments: &[&str], input: String) -> Result<String, NftError> {
        let mut command = Command::new(&self.program);
        command.args(arguments).env_clear().env("LC_ALL", "C").kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let failed = |source| NftError::Run { program: self.program.clone(), source };
        let mut child = self.node.spawn(command).await?.map_err(failed)?;
        let mut stdin = child.stdin.take().expect("stdin was asked for");
        let talk = async {
            let write = async move {
                match stdin.write_all(input.as_bytes()).await {
                    // It ended early; what it said is the better error.
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                    outcome => outcome,
                }
            };
            tokio::try_join!(write, child.wait_with_output())
        };
        let ((), output) = timeout(PATIENCE, talk).await.map_err(|_| NftError::TimedOut)?.map_err(failed)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let complaint = String::from_utf8_lossy(&output.stderr);
        let shortened: String = complaint.trim().chars().take(MAX_COMPLAINT).collect();
        Err(NftError::Refused { status: output.status, complaint: shortened })
    }
}
