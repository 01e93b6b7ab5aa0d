//! A process that the shim holds: its input, its output, its end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::SystemTime;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;
use rustix::termios::Winsize;

use super::launch::ChildStreams;
use super::log::Stream;
use super::refusal::{Refusal, cannot};
use crate::config::{ContainerId, TerminalSize};
use crate::sandbox::Outcome;

/// Most input that is kept for a process that does not read.
const MAX_PENDING_INPUT: usize = 64 << 10;

/// Most output read at once.
const READ_BYTES: usize = 16 << 10;

/// The shim's ends of a process's standard streams.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
    /// `stdin` and `stdout` are the same terminal.
    pub(crate) terminal: bool,
}

impl Streams {
    /// Makes pipes, and gives the process's ends too. Without input, it is `/dev/null`.
    pub(crate) fn pipes(input: bool, owner: (u32, u32)) -> Result<(Self, ChildStreams), Refusal> {
        let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(cannot("make a pipe"));
        let (stdout, child_stdout) = pipe()?;
        let (stderr, child_stderr) = pipe()?;
        let (child_stdin, stdin) = if input {
            let (child_stdin, stdin) = pipe()?;
            (child_stdin, Some(stdin))
        } else {
            let null = std::fs::File::open("/dev/null").map_err(cannot("open /dev/null"))?;
            (null.into(), None)
        };
        for fd in [&stdout, &stderr].into_iter().chain(&stdin) {
            rustix::io::ioctl_fionbio(fd, true).map_err(cannot("prepare a pipe"))?;
        }
        let (uid, gid) = owner;
        let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
        // The process may open /dev/stdout, which asks for permission anew.
        let owned = [&child_stdout, &child_stderr].into_iter().chain(input.then_some(&child_stdin));
        for fd in owned {
            rustix::fs::fchown(fd, Some(uid), Some(gid)).map_err(cannot("give a pipe to its user"))?;
        }
        let streams = Self { stdin, stdout: Some(stdout), stderr: Some(stderr), terminal: false };
        Ok((streams, ChildStreams { stdin: child_stdin, stdout: child_stdout, stderr: child_stderr }))
    }

    /// Uses a terminal's controlling side.
    pub(crate) fn terminal(master: OwnedFd) -> Result<Self, Refusal> {
        rustix::io::ioctl_fionbio(&master, true).map_err(cannot("prepare a terminal"))?;
        let stdin = rustix::io::fcntl_dupfd_cloexec(&master, 3).map_err(cannot("prepare a terminal"))?;
        Ok(Self { stdin: Some(stdin), stdout: Some(master), stderr: None, terminal: true })
    }
}

/// For whom a process runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Owner {
    Container(ContainerId),
    /// The connection that asked for it.
    Exec {
        connection: u64,
    },
}

/// A process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) owner: Owner,
    /// `None` before it is started, where nothing runs until then.
    pub(super) pid: Option<Pid>,
    pub(super) started_at: SystemTime,
    /// How and when it ended; its output may not have been read yet.
    pub(super) end: Option<(Outcome, SystemTime)>,
    streams: Streams,
    pending_input: Vec<u8>,
    input_ends: bool,
}

/// What reading an output gave.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReadOutput {
    Bytes(Vec<u8>),
    NothingNow,
    Ended,
}

impl Process {
    pub(super) fn new(owner: Owner, pid: Pid, streams: Streams) -> Self {
        Self { pid: Some(pid), streams, ..Self::to_come(owner) }
    }

    /// A process that does not run yet. Its input is kept.
    pub(super) fn to_come(owner: Owner) -> Self {
        Self {
            owner,
            pid: None,
            started_at: SystemTime::now(),
            end: None,
            streams: Streams::default(),
            pending_input: Vec::new(),
            input_ends: false,
        }
    }

    /// The process runs now.
    pub(super) fn begin(&mut self, pid: Pid, streams: Streams) {
        self.pid = Some(pid);
        self.streams = streams;
        self.flush_input();
    }

    /// The descriptor of an output that has not ended.
    pub(super) fn output(&self, stream: Stream) -> Option<BorrowedFd<'_>> {
        match stream {
            Stream::Stdout => self.streams.stdout.as_ref(),
            Stream::Stderr => self.streams.stderr.as_ref(),
        }
        .map(AsFd::as_fd)
    }

    /// The input's descriptor while something waits to be written to it.
    pub(super) fn blocked_input(&self) -> Option<BorrowedFd<'_>> {
        if self.pending_input.is_empty() { None } else { self.streams.stdin.as_ref().map(AsFd::as_fd) }
    }

    pub(super) fn takes_input(&self) -> bool {
        self.pending_input.len() < MAX_PENDING_INPUT
    }

    /// Reads once from an output.
    pub(super) fn read(&mut self, stream: Stream) -> ReadOutput {
        let slot = match stream {
            Stream::Stdout => &mut self.streams.stdout,
            Stream::Stderr => &mut self.streams.stderr,
        };
        let Some(fd) = slot else { return ReadOutput::Ended };
        let mut bytes = vec![0; READ_BYTES];
        match rustix::io::read(&*fd, &mut bytes) {
            Ok(count) if count > 0 => {
                bytes.truncate(count);
                ReadOutput::Bytes(bytes)
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => ReadOutput::NothingNow,
            // A terminal that nobody holds any more gives EIO.
            Ok(_) | Err(_) => {
                *slot = None;
                ReadOutput::Ended
            }
        }
    }

    /// Takes input; what cannot be written now is kept.
    pub(super) fn write_input(&mut self, bytes: &[u8]) {
        if (self.streams.stdin.is_some() || self.pid.is_none()) && !self.input_ends {
            self.pending_input.extend_from_slice(bytes);
            self.flush_input();
        }
    }

    /// No more input comes.
    pub(super) fn end_input(&mut self) {
        if self.streams.terminal && !self.input_ends && self.end.is_none() {
            const END_OF_TRANSMISSION: u8 = 4;
            self.pending_input.push(END_OF_TRANSMISSION);
        }
        self.input_ends = true;
        self.flush_input();
    }

    /// Writes kept input as far as the process reads it.
    pub(super) fn flush_input(&mut self) {
        let mut written = 0;
        let mut closed = false;
        if let Some(fd) = &self.streams.stdin {
            while written < self.pending_input.len() {
                match rustix::io::write(fd, &self.pending_input[written..]) {
                    Ok(count) => written += count,
                    Err(rustix::io::Errno::INTR) => {}
                    Err(rustix::io::Errno::AGAIN) => break,
                    // The process closed its input.
                    Err(_) => {
                        closed = true;
                        break;
                    }
                }
            }
        }
        self.pending_input.drain(..written);
        if closed {
            self.pending_input.clear();
        }
        // A terminal's descriptor stays: its output side is the same thing.
        if closed || self.input_ends && self.pending_input.is_empty() && !self.streams.terminal {
            self.streams.stdin = None;
        }
    }

    pub(super) fn resize(&self, size: TerminalSize) {
        if self.streams.terminal
            && let Some(terminal) = &self.streams.stdout
        {
            // A terminal that is just going away needs no size.
            set_size(terminal, size).unwrap_or_default();
        }
    }
}

/// Sets the size of a terminal.
pub(crate) fn set_size(terminal: &impl AsFd, size: TerminalSize) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(terminal, size)?)
}
