//! A real OCI registry, Debian's `docker-registry`, on the loopback.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};

use crate::{Cluster, PATIENCE, eventually, succeed};

/// A registry on a port of its own, ended with this value.
#[derive(Debug)]
pub struct Registry {
    process: Child,
    address: String,
    storage: PathBuf,
}

impl Registry {
    /// Starts one that keeps its blobs among the files of the test.
    ///
    /// # Errors
    /// It does not answer.
    pub fn start(cluster: &Cluster) -> Result<Self> {
        let address = format!("127.0.0.1:{}", TcpListener::bind("127.0.0.1:0")?.local_addr()?.port());
        let config = cluster.path("registry.yaml");
        let storage = cluster.path("registry");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{address}\"}}\n",
            storage.display()
        );
        std::fs::write(&config, text)?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
        let process =
            command.spawn().context("starting docker-registry (Debian package: docker-registry)")?;
        let registry = Self { process, address, storage };
        eventually(PATIENCE, || Ok(TcpStream::connect(&registry.address)?))?;
        Ok(registry)
    }

    /// `host:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Pushes the image of an OCI archive; its whole name.
    ///
    /// # Errors
    /// The registry refuses it.
    pub fn push(&self, archive: &Path, name: &str) -> Result<String> {
        let image = format!("{}/{name}", self.address);
        let from = format!("oci-archive:{}", archive.display());
        let to = format!("docker://{image}");
        succeed(Command::new("skopeo").args(["copy", "-q", "--dest-tls-verify=false", &from, &to]))?;
        Ok(image)
    }

    /// The file of a blob.
    #[must_use]
    pub fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        let blobs = self.storage.join("docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Err(error) = self.process.kill().and_then(|()| self.process.wait()) {
            eprintln!("the registry could not be ended: {error}");
        }
    }
}
