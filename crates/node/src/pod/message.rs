//! What a container says about its end: its termination message.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Container;
use tokio_util::sync::CancellationToken;

use crate::host::PodDir;
use crate::logs::{self, LogOptions, LogSource};

/// How much of a message is kept, in bytes.
const MAX_MESSAGE: usize = 4096;
/// How much of the end of a log stands for a message, in bytes and lines.
const MAX_LOG: usize = 2048;
const MAX_LINES: u64 = 80;

/// What the run `(id, restart)` left in its file; when it `failed` without a word, and its policy says so, the end of
/// its log. What cannot be read is no message.
pub(super) async fn of_end(
    dir: &PodDir,
    container: &Container,
    (id, restart): (&str, u32),
    failed: bool,
) -> String {
    let path = dir.termination_message(id);
    let end = {
        let path = path.clone();
        tokio::task::spawn_blocking(move || end_of_file(&path, MAX_MESSAGE as u64)).await
    };
    let written = match end.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
        Ok(bytes) => bytes,
        Err(error) => {
            tracing::debug!(%error, path = %path.display(), "no termination message");
            Vec::new()
        }
    };
    let fallback = container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
    if !written.is_empty() || !failed || !fallback {
        return text(&written);
    }
    let log = end_of_log(dir, container, restart).await;
    text(&log[log.len().saturating_sub(MAX_LOG)..])
}

/// The last bytes of a file, which its container can make as large as it likes.
fn end_of_file(path: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(limit)))?;
    let mut end = Vec::new();
    file.take(limit).read_to_end(&mut end)?;
    Ok(end)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn end_of_log(dir: &PodDir, container: &Container, restart: u32) -> Vec<u8> {
    let ended = CancellationToken::new();
    ended.cancel();
    let source = LogSource { path: dir.log(&container.name, restart), ended };
    let options = LogOptions { tail_lines: Some(MAX_LINES), ..LogOptions::default() };
    let mut out = Vec::new();
    let stream = match logs::read(source, options, CancellationToken::new()) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!(%error, container = container.name, "the log cannot be read for a termination message");
            return out;
        }
    };
    let mut stream = std::pin::pin!(stream);
    while let Some(chunk) = stream.next().await {
        match chunk {
            Ok(bytes) => out.extend_from_slice(&bytes),
            Err(error) => {
                tracing::warn!(%error, container = container.name, "the log ends early for a termination message");
                break;
            }
        }
        // Lines may be long: what is far from the end is not kept.
        let excess = out.len().saturating_sub(MAX_LOG);
        out.drain(..excess);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_the_end_of_its_file() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        for (written, want) in [("", ""), ("abc", "abc"), ("abcdef", "cdef")] {
            std::fs::write(file.path(), written).expect("written");
            assert_eq!(end_of_file(file.path(), 4).expect("read"), want.as_bytes());
        }
        // As large as a file can be made, without taking any room.
        file.as_file().set_len(1 << 40).expect("a large file");
        assert_eq!(end_of_file(file.path(), 4).expect("read"), [0; 4]);
    }
}
