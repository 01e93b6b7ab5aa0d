//! The server's log: lines on standard error, written by a thread of their own.
//!
//! Whoever reads them may be slow or stopped, and the disk full: no task waits for that. Lines that find no room are lost,
//! and the next one that does says how many.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// How many lines wait to be written.
const WAITING: usize = 1024;
/// How long the last lines may take at the end.
const LAST: Duration = Duration::from_secs(1);

enum Message {
    Line(Vec<u8>),
    /// All before it is written: says so.
    End(SyncSender<()>),
}

/// Starts the log. What is logged until the answer is dropped is written, if that takes no longer than a moment.
pub(super) fn start() -> io::Result<Ending> {
    let filter = EnvFilter::try_from_env("XEBEC_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    let (lines, waiting) = sync_channel(WAITING);
    let lost = Arc::new(AtomicU64::new(0));
    let writer = Writer { lines: lines.clone(), lost: lost.clone() };
    std::thread::Builder::new().name("log".into()).spawn(move || write(&waiting, &lost, io::stderr()))?;
    // A line that cannot be written is lost; complaining of it on the same stream would panic.
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).log_internal_errors(false).init();
    Ok(Ending(lines))
}

/// Writes the last lines when it is dropped.
pub(super) struct Ending(SyncSender<Message>);

impl Drop for Ending {
    fn drop(&mut self) {
        let (written, wait) = sync_channel(1);
        if self.0.try_send(Message::End(written)).is_ok() {
            // Either way it is over: all is written, or nobody takes it.
            wait.recv_timeout(LAST).unwrap_or_default();
        }
    }
}

fn write(lines: &Receiver<Message>, lost: &AtomicU64, mut out: impl Write) {
    for message in lines {
        let count = lost.swap(0, Ordering::Relaxed);
        let told = if count == 0 { Ok(()) } else { writeln!(out, "{count} lines of the log were lost here") };
        let outcome = match message {
            Message::Line(line) => told.and_then(|()| out.write_all(&line)),
            // Nobody may wait for it any more.
            Message::End(written) => told.map(|()| written.try_send(()).unwrap_or_default()),
        };
        if outcome.is_err() {
            lost.fetch_add(count + 1, Ordering::Relaxed);
        }
    }
}

struct Writer {
    lines: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

/// One line, handed over when it is complete.
struct Line<'a> {
    writer: &'a Writer,
    text: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Writer {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { writer: self, text: Vec::new() }
    }
}

impl Write for Line<'_> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if self.writer.lines.try_send(Message::Line(std::mem::take(&mut self.text))).is_err() {
            self.writer.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_without_room_are_counted() {
        let (lines, waiting) = sync_channel(2);
        let lost = Arc::new(AtomicU64::new(0));
        let writer = Writer { lines: lines.clone(), lost: lost.clone() };
        for n in 0..5 {
            writeln!(writer.make_writer(), "line {n}").expect("it takes anything");
        }
        drop((writer, lines));
        let mut out = Vec::new();
        write(&waiting, &lost, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), "3 lines of the log were lost here\nline 0\nline 1\n");
    }

    #[test]
    fn the_end_is_written() {
        let (lines, waiting) = sync_channel(2);
        let lost = Arc::new(AtomicU64::new(0));
        lines.try_send(Message::Line(b"last\n".to_vec())).map_err(|_| ()).expect("there is room");
        let thread = std::thread::spawn(move || {
            let mut out = Vec::new();
            write(&waiting, &lost, &mut out);
            out
        });
        drop(Ending(lines));
        assert_eq!(thread.join().expect("it ends"), b"last\n");
    }
}
