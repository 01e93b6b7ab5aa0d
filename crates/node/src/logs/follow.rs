//! A log as a stream of bytes, for a response's body.

use std::io;

use bytes::Bytes;
use futures::Stream;
use futures::stream::try_unfold;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::files::LogFiles;
use super::reader::{Reader, Step};
use super::watch::Watch;
use super::{LogOptions, LogSource};

/// Reads a log. With `follow` the stream ends when the container has ended and everything is read, or when
/// `shutdown` is cancelled; without, when everything is read that was there at the beginning.
///
/// Files are read when the stream is polled, a block at a time, on threads that may block. Dropping it ends all.
///
/// # Errors
/// When the log cannot be watched; later errors are the stream's.
pub fn read(
    source: LogSource,
    options: LogOptions,
    shutdown: CancellationToken,
) -> io::Result<impl Stream<Item = io::Result<Bytes>> + Send + use<>> {
    // Before the first look at the files, so that no change is missed.
    let watch = if options.follow { Some(Watch::new(&source.path)?) } else { None };
    let follow = Follow {
        stage: Stage::Unopened(LogFiles::new(source.path), options),
        watch,
        ended: source.ended,
        shutdown,
    };
    Ok(try_unfold(follow, |mut follow| async move {
        let chunk = follow.next().await?;
        Ok(chunk.map(|chunk| (chunk, follow)))
    }))
}

struct Follow {
    stage: Stage,
    /// Gone when nothing more will be written.
    watch: Option<Watch>,
    ended: CancellationToken,
    shutdown: CancellationToken,
}

enum Stage {
    Unopened(LogFiles, LogOptions),
    Open(Box<Reader>),
    /// A read is under way, or failed.
    Busy,
    Finished,
}

impl Follow {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let mut reader = match std::mem::replace(&mut self.stage, Stage::Busy) {
                Stage::Unopened(files, options) => {
                    blocking(move || Reader::open(files, &options).map(Box::new)).await?
                }
                Stage::Open(reader) => reader,
                Stage::Busy | Stage::Finished => return Ok(None),
            };
            let (mut reader, step) = blocking(move || reader.step().map(|step| (reader, step))).await?;
            match step {
                Step::Text(text) => {
                    self.stage = Stage::Open(reader);
                    return Ok(Some(text.into()));
                }
                Step::AtEnd if self.wait().await? => self.stage = Stage::Open(reader),
                Step::AtEnd => {
                    self.stage = Stage::Finished;
                    let rest = reader.finish();
                    return Ok((!rest.is_empty()).then(|| rest.into()));
                }
                Step::Done => {
                    self.stage = Stage::Finished;
                    return Ok(None);
                }
            }
        }
    }

    /// Waits until there may be more; false when there will not.
    async fn wait(&mut self) -> io::Result<bool> {
        let Some(watch) = &mut self.watch else { return Ok(false) };
        tokio::select! {
            changed = watch.changed() => changed?,
            // What was written before that is read one last time.
            () = self.ended.cancelled() => self.watch = None,
            () = self.shutdown.cancelled() => return Ok(false),
        }
        Ok(true)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{StreamExt as _, TryStreamExt as _};
    use std::fs::{self, OpenOptions};
    use std::io::Write as _;
    use std::path::{Path, PathBuf};
    use std::pin::pin;

    fn append(path: &Path, text: &str) {
        let line = format!("2026-01-31T12:00:00.000000000Z stdout F {text}\n");
        let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }

    fn source(path: PathBuf) -> LogSource {
        LogSource { path, ended: CancellationToken::new() }
    }

    fn follow() -> LogOptions {
        LogOptions { follow: true, ..LogOptions::default() }
    }

    #[tokio::test]
    async fn a_log_is_followed_until_the_container_ends() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        let source = source(path.clone());
        let ended = source.ended.clone();
        let mut log = pin!(read(source, follow(), CancellationToken::new()).unwrap());
        for round in ["a", "b", "c"] {
            // The next line is written while the stream waits for it.
            let (chunk, ()) = tokio::join!(log.next(), async {
                tokio::task::yield_now().await;
                append(&path, round);
            });
            assert_eq!(chunk.unwrap().unwrap(), format!("{round}\n"));
            fs::rename(&path, directory.path().join("0.log.1")).unwrap();
        }
        append(&path, "last words");
        ended.cancel();
        let rest: Vec<Bytes> = log.try_collect().await.unwrap();
        assert_eq!(rest.concat(), b"last words\n");
    }

    /// A writer that rotates quickly, as a shim does, and a reader that must not lose or repeat anything.
    #[tokio::test]
    async fn nothing_is_lost_while_files_rotate() {
        const LINES: usize = 3_000;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        let source = source(path.clone());
        let ended = source.ended.clone();
        let log = read(source, follow(), CancellationToken::new()).unwrap();
        let writer = spawn_blocking(move || {
            let name = |number: usize| path.with_file_name(format!("0.log.{number}"));
            for number in 0..LINES {
                if number > 0 && number % 50 == 0 {
                    for older in (1..90).rev().filter(|older| name(*older).exists()) {
                        fs::rename(name(older), name(older + 1)).unwrap();
                    }
                    fs::rename(&path, name(1)).unwrap();
                }
                append(&path, &number.to_string());
            }
            ended.cancel();
        });
        let chunks: Vec<Bytes> = log.try_collect().await.unwrap();
        writer.await.unwrap();
        let text = String::from_utf8(chunks.concat()).unwrap();
        let expected: String = (0..LINES).map(|number| format!("{number}\n")).collect();
        assert!(text == expected, "{} of {} bytes", text.len(), expected.len());
    }

    #[tokio::test]
    async fn shutdown_ends_it() {
        let directory = tempfile::tempdir().unwrap();
        let shutdown = CancellationToken::new();
        let log = read(source(directory.path().join("0.log")), follow(), shutdown.clone()).unwrap();
        shutdown.cancel();
        assert_eq!(log.count().await, 0);
    }

    #[tokio::test]
    async fn a_missing_directory_is_said_at_once() {
        let missing = source("/nowhere/0.log".into());
        assert!(read(missing.clone(), follow(), CancellationToken::new()).is_err());
        assert_eq!(read(missing, LogOptions::default(), CancellationToken::new()).unwrap().count().await, 0);
    }
}
