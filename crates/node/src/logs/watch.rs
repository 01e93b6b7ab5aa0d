//! Tells when a log's files change, by inotify: nobody has to look.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

/// Room for several events with the longest names.
const BUFFER_BYTES: usize = 4096;

/// A watch on the files of one log.
#[derive(Debug)]
pub(super) struct Watch {
    inotify: AsyncFd<OwnedFd>,
    name: Vec<u8>,
}

impl Watch {
    /// Watches the files whose names begin with that of `path`. Changes after this are noticed.
    #[expect(
        deprecated,
        reason = "what replaces `AsyncFd::new` is unsafe; an `OwnedFd` keeps what it demands"
    )]
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the log's path names no file"));
        };
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(too_many)?;
        let changes = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        inotify::add_watch(&inotify, directory, changes).map_err(too_many)?;
        Ok(Self { inotify: AsyncFd::new(inotify)?, name: name.as_encoded_bytes().to_vec() })
    }

    /// Waits for a change. May be dropped half-way.
    pub(super) async fn changed(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.inotify.readable().await?;
            let drained = ready.try_io(|inotify| drain(inotify.get_ref(), &self.name));
            match drained {
                Ok(Ok(true)) => return Ok(()),
                Ok(Ok(false)) => ready.clear_ready(),
                Ok(Err(error)) => return Err(error),
                // Not ready after all.
                Err(_) => {}
            }
        }
    }
}

/// Reads all events; whether one concerns the log.
fn drain(inotify: &OwnedFd, name: &[u8]) -> io::Result<bool> {
    let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
    let mut events = inotify::Reader::new(inotify, &mut buffer);
    let mut concerned = false;
    loop {
        match events.next() {
            Ok(event) => {
                // Lost events may have been about anything.
                let lost = event.events().contains(ReadFlags::QUEUE_OVERFLOW);
                let of_log = event.file_name().is_some_and(|file| file.to_bytes().starts_with(name));
                concerned |= lost || of_log;
            }
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(concerned),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The kernel's words for its own limits say nothing to anybody.
fn too_many(error: rustix::io::Errno) -> io::Error {
    let text = match error {
        rustix::io::Errno::MFILE => {
            "too many logs are followed at the same time (see the kernel's fs.inotify.max_user_instances)"
        }
        rustix::io::Errno::NOSPC => {
            "too many files are watched at the same time (see the kernel's fs.inotify.max_user_watches)"
        }
        other => return other.into(),
    };
    io::Error::other(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;
    use std::fs;

    #[tokio::test]
    async fn changes_of_the_log_are_noticed_and_no_others() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        let mut watch = Watch::new(&path).unwrap();
        fs::write(directory.path().join("1.log"), "another container's").unwrap();
        assert!(watch.changed().now_or_never().is_none());
        for change in [
            (|path| fs::write(path, "created")) as fn(&Path) -> io::Result<()>,
            |path| fs::write(path, "modified"),
            |path| fs::rename(path, path.with_file_name("0.log.1")),
        ] {
            change(&path).unwrap();
            watch.changed().await.unwrap();
            assert!(watch.changed().now_or_never().is_none());
        }
        assert!(Watch::new(Path::new("/nowhere/0.log")).is_err());
    }
}
