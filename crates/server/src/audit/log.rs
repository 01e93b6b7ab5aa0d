//! The file that events go to, written by a thread of its own.
//!
//! ```text
//!   event ──room?──▶ queue ──▶ audit.log ──longer than allowed──▶ audit-TIME.log, of which the oldest are removed
//!             └─no─▶ lost, counted, and said so; with `--audit-blocking` the request waits for room instead
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use xebec_api::time::Timestamp;

/// How many bytes of events wait to be written.
const WAITING: usize = 64 * 1024 * 1024;
/// How long the thread rests after it wrote, so that events come in groups.
const REST: Duration = Duration::from_millis(10);

/// Where events go, and how many are kept.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// The file.
    pub path: PathBuf,
    /// It is put aside when it has so many bytes.
    pub max_bytes: u64,
    /// How many of those put aside are kept.
    pub backups: usize,
    /// Whether a request waits until its events are written, instead of going on without.
    pub blocking: bool,
}

/// The way to the file.
#[derive(Debug)]
pub(super) struct Log {
    queue: mpsc::UnboundedSender<Message>,
    /// Bytes that there is room for, which is what bounds the queue.
    room: Arc<Semaphore>,
    lost: Arc<AtomicU64>,
    blocking: bool,
}

enum Message {
    Line { line: Vec<u8>, written: Option<oneshot::Sender<()>>, _room: OwnedSemaphorePermit },
    End(oneshot::Sender<()>),
}

impl Log {
    /// Opens the file, and starts its thread, which ends with the log.
    ///
    /// # Errors
    /// The file or its directory cannot be made.
    pub(super) fn open(settings: LogSettings) -> io::Result<(Self, JoinHandle<()>)> {
        let blocking = settings.blocking;
        let rest = if blocking { Duration::ZERO } else { REST };
        let lost = Arc::new(AtomicU64::new(0));
        let mut writer = Writer::open(settings, lost.clone())?;
        let (queue, waiting) = mpsc::unbounded_channel();
        let thread =
            std::thread::Builder::new().name("audit".into()).spawn(move || writer.run(waiting, rest))?;
        Ok((Self { queue, room: Arc::new(Semaphore::new(WAITING)), lost, blocking }, thread))
    }

    /// How many events were lost so far.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Queues a line if there is room for it.
    pub(super) fn offer(&self, line: Vec<u8>) {
        match self.room.clone().try_acquire_many_owned(size(&line)) {
            Ok(room) => self.queue(Message::Line { line, written: None, _room: room }),
            Err(_) => drop(self.lost.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// Queues a line; waits until it is written, if that is what was chosen.
    pub(super) async fn write(&self, line: Vec<u8>) {
        if !self.blocking {
            return self.offer(line);
        }
        let Ok(room) = self.room.clone().acquire_many_owned(size(&line)).await else { return };
        let (written, wait) = oneshot::channel();
        self.queue(Message::Line { line, written: Some(written), _room: room });
        // What is lost is counted by whoever loses it.
        wait.await.unwrap_or_default();
    }

    /// Waits until all that was queued is written.
    pub(super) async fn flush(&self) {
        let (written, wait) = oneshot::channel();
        self.queue(Message::End(written));
        wait.await.unwrap_or_default();
    }

    fn queue(&self, message: Message) {
        if self.queue.send(message).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// How much room a line takes; one that is longer than all takes all.
fn size(line: &[u8]) -> u32 {
    u32::try_from(line.len().min(WAITING)).unwrap_or(u32::MAX)
}

struct Writer {
    settings: LogSettings,
    file: BufWriter<File>,
    length: u64,
    lost: Arc<AtomicU64>,
    told: u64,
}

impl Writer {
    fn open(settings: LogSettings, lost: Arc<AtomicU64>) -> io::Result<Self> {
        if let Some(directory) = settings.path.parent() {
            fs::create_dir_all(directory)?;
        }
        let (file, length) = append(&settings.path)?;
        Ok(Self { settings, file, length, lost, told: 0 })
    }

    fn run(&mut self, mut waiting: mpsc::UnboundedReceiver<Message>, rest: Duration) {
        while let Some(first) = waiting.blocking_recv() {
            let mut done = Vec::new();
            let mut next = Some(first);
            let mut ends = false;
            while let Some(message) = next {
                match message {
                    Message::Line { line, written, _room } => {
                        self.line(&line);
                        done.extend(written);
                    }
                    Message::End(written) => {
                        ends = true;
                        done.push(written);
                    }
                }
                next = waiting.try_recv().ok();
            }
            if let Err(error) = self.file.flush() {
                self.failed(&error);
            }
            // Nobody may wait any more.
            done.into_iter().for_each(|written| written.send(()).unwrap_or_default());
            self.tell();
            if !ends {
                std::thread::sleep(rest);
            }
        }
    }

    fn line(&mut self, line: &[u8]) {
        if self.length > 0 && self.length + line.len() as u64 > self.settings.max_bytes {
            match self.rotate() {
                Ok(()) => {}
                Err(error) => tracing::error!(%error, "the audit log cannot be put aside, and grows on"),
            }
        }
        match self.file.write_all(line) {
            Ok(()) => self.length += line.len() as u64,
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&self, error: &io::Error) {
        if self.lost.fetch_add(1, Ordering::Relaxed) == self.told {
            tracing::error!(%error, path = %self.settings.path.display(), "audit events cannot be written");
        }
    }

    /// Says how many events are lost.
    fn tell(&mut self) {
        let lost = self.lost.load(Ordering::Relaxed);
        if lost > self.told {
            tracing::error!(events = lost - self.told, "audit events are lost");
            self.told = lost;
        }
    }

    /// Puts the file aside under the time, and begins another one.
    fn rotate(&mut self) -> io::Result<()> {
        self.file.flush()?;
        let path = &self.settings.path;
        let time = Timestamp::from_system(SystemTime::now()).micro().to_string().replace(':', "-");
        fs::rename(path, path.with_file_name(format!("{}{time}.log", aside(path))))?;
        (self.file, self.length) = append(path)?;
        let mut kept = put_aside(path)?;
        kept.sort();
        let surplus = kept.len().saturating_sub(self.settings.backups);
        kept.iter().take(surplus).try_for_each(fs::remove_file)
    }
}

fn append(path: &Path) -> io::Result<(BufWriter<File>, u64)> {
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    let length = file.metadata()?.len();
    Ok((BufWriter::new(file), length))
}

/// What names of files that were put aside begin with.
fn aside(path: &Path) -> String {
    format!("{}-", path.file_stem().unwrap_or_default().to_string_lossy())
}

/// The files that were put aside.
fn put_aside(path: &Path) -> io::Result<Vec<PathBuf>> {
    let start = aside(path);
    let mut found = Vec::new();
    for entry in fs::read_dir(path.parent().unwrap_or(Path::new(".")))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(&start) && name.ends_with(".log") {
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(directory: &Path, max_bytes: u64, blocking: bool) -> LogSettings {
        LogSettings { path: directory.join("a/audit.log"), max_bytes, backups: 2, blocking }
    }

    #[tokio::test]
    async fn lines_come_in_order_and_are_appended() {
        let directory = tempfile::tempdir().expect("a directory");
        for (n, blocking) in [false, true].into_iter().enumerate() {
            let settings = settings(directory.path(), 1000, blocking);
            let path = settings.path.clone();
            let (log, thread) = Log::open(settings).expect("a log");
            log.write(b"one\n".to_vec()).await;
            log.write(b"two\n".to_vec()).await;
            if !blocking {
                log.flush().await;
            }
            assert_eq!(fs::read_to_string(&path).expect("a file"), "one\ntwo\n".repeat(n + 1));
            drop(log);
            thread.join().expect("it ends with its log");
        }
    }

    #[tokio::test]
    async fn so_many_files_of_some_size_are_kept() {
        let directory = tempfile::tempdir().expect("a directory");
        let settings = settings(directory.path(), 10, true);
        let path = settings.path.clone();
        let (log, _thread) = Log::open(settings).expect("a log");
        for n in 0..10 {
            log.write(format!("line {n}\n").into_bytes()).await;
        }
        assert_eq!(fs::read_to_string(&path).expect("a file"), "line 9\n");
        let mut kept = put_aside(&path).expect("a directory");
        kept.sort();
        let texts: Vec<_> = kept.iter().map(|path| fs::read_to_string(path).expect("a file")).collect();
        assert_eq!(texts, ["line 7\n", "line 8\n"]);
        assert_eq!(log.lost(), 0);
    }

    #[tokio::test]
    async fn what_finds_no_room_is_counted() {
        let directory = tempfile::tempdir().expect("a directory");
        let (mut log, _thread) = Log::open(settings(directory.path(), 100, false)).expect("a log");
        log.room = Arc::new(Semaphore::new(5));
        log.offer(b"long line\n".to_vec());
        log.offer(b"four".to_vec());
        assert_eq!(log.lost(), 1);
        log.flush().await;
        let text = fs::read_to_string(directory.path().join("a/audit.log")).expect("a file");
        assert_eq!(text, "four");
    }
}
