//! The control socket: how the command talks to the server process of its cluster.
//!
//! One request per connection: a line of JSON. The answer is lines of JSON: any number of [`Reply::Progress`], then one
//! other. The socket is readable by the cluster's user alone, which is all the authentication there is.

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

/// The longest line, in bytes.
pub(crate) const MAX_LINE: usize = 1024 * 1024;

/// How long a server may take to say how it is.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// What is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(crate) enum Request {
    /// How the cluster is.
    Status,
    /// Bring in the images of an archive.
    ImportImage {
        /// Absolute.
        archive: PathBuf,
        /// A name for the image.
        name: Option<String>,
    },
    /// Fetch an image.
    PullImage {
        /// Its name.
        image: String,
    },
    /// List images.
    ListImages,
    /// Seal what is encrypted at rest with a new key.
    RotateEncryption,
    /// Remove an image.
    RemoveImage {
        /// Its name or digest.
        image: String,
    },
}

/// What is answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    /// Something to show while it goes on.
    Progress(String),
    /// The state of the cluster.
    Status(Status),
    /// Images.
    Images(Vec<Image>),
    /// What is encrypted at rest is sealed with a new key.
    Rotated {
        /// The number of the key.
        key: u32,
        /// How many values were written again.
        values: usize,
        /// How many keys were removed.
        removed: usize,
    },
    /// It did not work.
    Error(String),
}

/// The state of a cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    /// Whether the API answers and the node takes pods.
    pub(crate) ready: bool,
    /// Where the API is.
    pub(crate) server: String,
    /// Which file holds the administrator's credentials.
    pub(crate) kubeconfig: PathBuf,
    /// The processes, as the host numbers them.
    pub(crate) pids: Pids,
    /// The version of Xebec.
    pub(crate) version: String,
    /// What is not as it could be on this machine, and why.
    pub(crate) notes: Vec<String>,
}

/// Process ids on the host.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Pids {
    /// The process that holds the namespaces.
    pub(crate) keeper: u32,
    /// The server; it does not know the host's number of itself, so the command looks it up.
    pub(crate) server: Option<u32>,
}

/// An image in the cluster's store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Image {
    /// Its name.
    pub(crate) name: String,
    /// The digest of its manifest.
    pub(crate) digest: String,
    /// The bytes of its layers as stored.
    pub(crate) size: u64,
}

/// Asks, and hands every progress line to `progress`.
///
/// # Errors
/// No server listens; it answers with an error.
pub(crate) fn ask(socket: &Path, request: &Request, progress: impl FnMut(&str)) -> Result<Reply> {
    let stream = connect(socket)?.with_context(|| {
        format!("no cluster runs here (nobody listens on {}); start one with: xebec up", socket.display())
    })?;
    talk(stream, request, progress)
}

/// A connection to the server; `None` when there is no server.
fn connect(socket: &Path) -> Result<Option<UnixStream>> {
    match UnixStream::connect(socket) {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("connecting to {}", socket.display())),
    }
}

fn talk(mut stream: UnixStream, request: &Request, mut progress: impl FnMut(&str)) -> Result<Reply> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    for line in BufReader::new(stream).lines() {
        match serde_json::from_str(&line?)? {
            Reply::Progress(text) => progress(&text),
            Reply::Error(text) => bail!(text),
            reply => return Ok(reply),
        }
    }
    bail!("the cluster's server ended before it answered")
}

/// The state of the cluster, if one runs.
///
/// # Errors
/// One runs, but cannot be asked, or does not answer.
pub(crate) fn status(socket: &Path) -> Result<Option<Status>> {
    let Some(stream) = connect(socket)? else { return Ok(None) };
    stream.set_read_timeout(Some(ANSWERS_WITHIN))?;
    let reply = talk(stream, &Request::Status, |_| ()).with_context(|| {
        format!("the cluster's server does not answer ({}); end it with: xebec down", socket.display())
    })?;
    let Reply::Status(mut status) = reply else {
        bail!("the cluster's server answers something else; is it of another version of Xebec?")
    };
    status.pids.server = server_of(status.pids.keeper);
    Ok(Some(status))
}

/// The keeper's child that serves.
fn server_of(keeper: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).ok()?;
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(|pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|b| *b == 0).nth(1) == Some(b"serve")
    })
}

/// Waits until the cluster is ready, or `gone` says why it never will be.
///
/// # Errors
/// What `gone` says; it takes longer than `limit`.
pub(crate) fn wait_ready(
    socket: &Path,
    limit: Duration,
    mut gone: impl FnMut() -> Option<anyhow::Error>,
) -> Result<Status> {
    let deadline = Instant::now() + limit;
    // The server makes the socket when it is ready to answer; nothing else announces it to a process outside.
    let mut pause = Duration::from_millis(1);
    loop {
        let asked = status(socket);
        if let Ok(Some(status)) = &asked
            && status.ready
        {
            return Ok(status.clone());
        }
        if let Some(error) = gone() {
            return Err(error);
        }
        if Instant::now() >= deadline {
            let late = format!("the cluster is not ready after {} seconds", limit.as_secs());
            return Err(asked
                .err()
                .map_or_else(|| anyhow!(late.clone()), |error| error.context(late.clone())));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}
