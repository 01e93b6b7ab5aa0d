//! An etcd of one member, for one test: a process that ends with the value. It is in Debian's package `etcd-server`.

use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// The user that etcd runs as when the tests run as root.
const NOBODY: u32 = 65_534;

/// The largest request: the contract's largest value, and what is around it.
const LARGE: &str = "10485760";

/// An etcd on the loopback, with a directory of its own.
#[derive(Debug)]
pub struct EtcdProcess {
    directory: TempDir,
    client: u16,
    peer: u16,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl EtcdProcess {
    /// An etcd that takes the largest transactions of the contract.
    #[must_use]
    pub fn start() -> Self {
        Self::with(&["--max-request-bytes", LARGE])
    }

    /// One with these arguments.
    ///
    /// # Panics
    /// There is no etcd, or no room for it.
    #[must_use]
    pub fn with(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let (client, peer) = (free_port(), free_port());
        let arguments = arguments.iter().map(|text| (*text).to_owned()).collect();
        let mut cluster = Self { directory, client, peer, arguments, child: None };
        cluster.restart();
        cluster
    }

    /// Its address, for [`crate::EtcdOptions`].
    #[must_use]
    pub fn address(&self) -> String {
        format!("etcd://127.0.0.1:{}", self.client)
    }

    /// Where clients reach it.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.client
    }

    /// `kill -9`.
    ///
    /// # Panics
    /// It cannot be killed.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("kill");
            child.wait().expect("wait");
        }
    }

    /// Starts it again, on the same data.
    ///
    /// # Panics
    /// There is no etcd.
    pub fn restart(&mut self) {
        self.kill();
        let client = format!("{}://127.0.0.1:{}", self.scheme(), self.client);
        let peer = format!("http://127.0.0.1:{}", self.peer);
        let mut command = Command::new("etcd");
        command
            .args(["--data-dir", &self.directory.path().join("data").to_string_lossy()])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args([
                "--initial-cluster",
                &format!("default={peer}"),
                "--logger",
                "zap",
                "--log-level",
                "error",
            ])
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if rustix::process::geteuid().is_root() {
            chown(self.directory.path(), Some(NOBODY), Some(NOBODY)).expect("chown");
            command.uid(NOBODY).gid(NOBODY);
        }
        let child = command.spawn().expect("etcd runs: it is in Debian's package etcd-server");
        self.child = Some(child);
    }

    fn scheme(&self) -> &'static str {
        if self.arguments.iter().any(|text| text == "--cert-file") { "https" } else { "http" }
    }
}

impl Drop for EtcdProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}
