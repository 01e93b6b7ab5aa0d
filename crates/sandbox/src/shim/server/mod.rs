//! The shim's loop: requests, the input and output of processes, their ends.

mod requests;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::SystemTime;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal as RawSignal, WaitOptions, WaitStatus};
use serde::{Deserialize, Serialize};

use super::connection::{Connection, Role, SessionKind};
use super::container::{Container, Pod};
use super::group;
use super::log::Stream;
use super::process::{Owner, Process, ReadOutput};
use super::refusal::Refusal;
use crate::complaint::complain;
use crate::config::{ContainerId, Stdin};
use crate::sandbox::{Change, ContainerInfo, ContainerState, ErrorKind, Event, ExitStatus, Outcome};
use crate::sys::SignalFd;
use crate::wire::{Frame, Request, Response, SandboxInfo, Tag};

/// Most clients at once; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 1024;

/// What outlives the shim in the pod's directory.
#[derive(Debug)]
pub(super) struct State {
    directory: OwnedFd,
}

/// The content of the state file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) info: SandboxInfo,
    pub(crate) containers: Vec<ContainerInfo>,
}

/// The state file's name in the pod's directory.
pub(crate) const STATE: &str = "state.json";

impl State {
    pub(super) const fn new(directory: OwnedFd) -> Self {
        Self { directory }
    }

    fn save(&self, record: &Record) -> io::Result<()> {
        let path = |name: &str| format!("/proc/self/fd/{}/{name}", self.directory.as_raw_fd());
        let mut file = std::fs::File::create(path("state.new"))?;
        file.write_all(&serde_json::to_vec(record).map_err(io::Error::other)?)?;
        std::fs::rename(path("state.new"), path(STATE))
    }
}

pub(super) struct Server {
    info: SandboxInfo,
    pod: Pod,
    state: State,
    listener: UnixListener,
    signals: SignalFd,
    connections: BTreeMap<u64, Connection>,
    processes: BTreeMap<u64, Process>,
    containers: BTreeMap<ContainerId, Container>,
    next_key: u64,
    /// The client that asked for the pod's end.
    removal: Option<u64>,
}

/// What a polled descriptor belongs to.
#[derive(Debug, Clone, Copy)]
enum Source {
    Signals,
    Listener,
    Connection(u64),
    Output(u64, Stream),
    Input(u64),
}

impl Server {
    pub(super) fn new(
        info: SandboxInfo,
        pod: Pod,
        state: State,
        listener: UnixListener,
        signals: SignalFd,
    ) -> Self {
        Self {
            info,
            pod,
            state,
            listener,
            signals,
            connections: BTreeMap::new(),
            processes: BTreeMap::new(),
            containers: BTreeMap::new(),
            next_key: 0,
            removal: None,
        }
    }

    pub(super) const fn info(&self) -> &SandboxInfo {
        &self.info
    }

    /// Runs until the pod is removed, and gives the exit code.
    pub(super) fn run(mut self) -> i32 {
        self.save();
        while self.removal.is_none() {
            if let Err(error) = self.turn() {
                complain(format_args!("the process that holds pod {} cannot go on: {error}", self.info.id));
                self.tear_down();
                return 1;
            }
        }
        self.tear_down();
        if let Some(connection) = self.removal.and_then(|key| self.connections.get_mut(&key)) {
            // The client, if it still listens, sees the answer and then this process's end.
            connection.respond(&Response::Done);
        }
        0
    }

    fn turn(&mut self) -> io::Result<()> {
        for ready in self.wait()? {
            match ready {
                (Source::Signals, _) => self.take_signals()?,
                (Source::Listener, _) => self.accept()?,
                (Source::Connection(key), events) => self.serve(key, events),
                (Source::Output(key, stream), _) => {
                    self.pump(key, stream);
                }
                (Source::Input(key), _) => {
                    if let Some(process) = self.processes.get_mut(&key) {
                        process.flush_input();
                    }
                }
            }
        }
        self.settle_ended();
        self.forget_finished();
        Ok(())
    }

    /// Waits until something can be done. What is waited for follows from the state alone.
    fn wait(&self) -> io::Result<Vec<(Source, PollFlags)>> {
        let sources = self.sources();
        let mut watched: Vec<_> =
            sources.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        match poll(&mut watched, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let events = watched.iter().map(PollFd::revents);
        let ready = sources.iter().map(|(source, ..)| *source).zip(events);
        Ok(ready.filter(|(_, events)| !events.is_empty()).collect())
    }

    fn sources(&self) -> Vec<(Source, BorrowedFd<'_>, PollFlags)> {
        let mut sources = vec![(Source::Signals, self.signals.as_fd(), PollFlags::IN)];
        if self.connections.len() < MAX_CONNECTIONS {
            sources.push((Source::Listener, self.listener.as_fd(), PollFlags::IN));
        }
        for (key, connection) in &self.connections {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, self.reads_from(connection));
            flags.set(PollFlags::OUT, connection.has_unsent());
            sources.push((Source::Connection(*key), connection.stream().as_fd(), flags));
        }
        for (key, process) in &self.processes {
            for stream in Stream::BOTH {
                if let Some(fd) = process.output(stream)
                    && self.has_room(process)
                {
                    sources.push((Source::Output(*key, stream), fd, PollFlags::IN));
                }
            }
            if let Some(fd) = process.blocked_input() {
                sources.push((Source::Input(*key), fd, PollFlags::OUT));
            }
        }
        sources
    }

    /// Whether more is wanted from a client now.
    fn reads_from(&self, connection: &Connection) -> bool {
        if connection.has_ended() {
            return false;
        }
        match &connection.role {
            Role::New => true,
            Role::Session { process, .. } => self.processes.get(process).is_none_or(Process::takes_input),
            Role::Waiting(_) | Role::Events | Role::Closing => false,
        }
    }

    /// Whether the output of a process can be taken now: the client of an
    /// `exec` slows its process down, a container runs on whoever listens.
    fn has_room(&self, process: &Process) -> bool {
        match &process.owner {
            Owner::Container(_) => true,
            Owner::Exec { connection } => self.connections.get(connection).is_none_or(Connection::has_room),
        }
    }

    fn new_key(&mut self) -> u64 {
        self.next_key += 1;
        self.next_key
    }

    fn accept(&mut self) -> io::Result<()> {
        match self.listener.accept() {
            Ok((stream, _)) => {
                let key = self.new_key();
                self.connections.insert(key, Connection::new(stream)?);
                Ok(())
            }
            Err(error)
                if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionAborted) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn take_signals(&mut self) -> io::Result<()> {
        // Only the end of a child means anything here: the pod ends when the
        // server asks for it, or with the keeper.
        while self.signals.next()?.is_some() {}
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => self.note_end(pid, status),
                Err(rustix::io::Errno::INTR) => {}
                Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reaps children until a killed one is among them. Not that one alone: the
    /// first process of a process namespace only ends when all others there
    /// have been reaped, and some of them are this process's children.
    fn reap_until(&mut self, wanted: Pid) -> io::Result<()> {
        loop {
            match rustix::process::wait(WaitOptions::empty()) {
                Ok(Some((pid, status))) => {
                    self.note_end(pid, status);
                    if pid == wanted {
                        return Ok(());
                    }
                }
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn note_end(&mut self, pid: Pid, status: WaitStatus) {
        let outcome = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Outcome::Exited(code),
            (None, Some(signal)) => Outcome::Signaled(signal),
            (None, None) => return,
        };
        // Helpers that only prepared something are nobody's process.
        if let Some(process) =
            self.processes.values_mut().find(|process| process.pid == Some(pid) && process.end.is_none())
        {
            process.end = Some((outcome, SystemTime::now()));
        }
    }

    /// Takes what a process has written, once. Says whether there may be more now.
    fn pump(&mut self, key: u64, stream: Stream) -> bool {
        let Some(process) = self.processes.get_mut(&key) else { return false };
        let ReadOutput::Bytes(bytes) = process.read(stream) else { return false };
        let tag = match stream {
            Stream::Stdout => Tag::Stdout,
            Stream::Stderr => Tag::Stderr,
        };
        if let Owner::Container(id) = &process.owner
            && let Some(log) = self.containers.get_mut(id).and_then(|container| container.log.as_mut())
        {
            log.write(stream, &bytes, SystemTime::now());
        }
        for connection in self.connections.values_mut() {
            match connection.role {
                Role::Session { process, kind } if process == key => {
                    connection.send_bytes(tag, &bytes);
                    if kind == SessionKind::Attach {
                        connection.check_overrun();
                    }
                }
                _ => {}
            }
        }
        true
    }

    /// Finishes processes that have ended and whose output has been taken.
    fn settle_ended(&mut self) {
        let ended: Vec<_> =
            self.processes.iter().filter(|(_, process)| process.end.is_some()).map(|(key, _)| *key).collect();
        for key in ended {
            if self.drain(key) {
                self.finish(key);
            }
        }
    }

    /// Takes all there is of an ended process's output, as far as its client
    /// has room. Its children may live on and write without end: what no pipe
    /// can have held when it ended is not waited for.
    fn drain(&mut self, key: u64) -> bool {
        const MAX_READS: usize = 128;
        for stream in Stream::BOTH {
            for _ in 0..MAX_READS {
                let Some(process) = self.processes.get(&key) else { return false };
                if process.output(stream).is_some() && !self.has_room(process) {
                    return false;
                }
                if !self.pump(key, stream) {
                    break;
                }
            }
        }
        true
    }

    fn finish(&mut self, key: u64) {
        let Some(process) = self.processes.remove(&key) else { return };
        let Some((outcome, finished_at)) = process.end else { return };
        let mut status =
            ExitStatus { outcome, oom_killed: false, started_at: process.started_at, finished_at };
        if let Owner::Container(id) = &process.owner {
            status = self.finish_container(id, status);
        }
        for connection in self.connections.values_mut() {
            if matches!(connection.role, Role::Session { process, .. } if process == key) {
                connection.send(Tag::Exit, &status);
                connection.role = Role::Closing;
            }
        }
    }

    fn finish_container(&mut self, id: &ContainerId, mut status: ExitStatus) -> ExitStatus {
        let Some(container) = self.containers.get_mut(id) else { return status };
        if let Err(error) = container.kill_rest() {
            complain(format_args!("cannot end what is left of container {id}: {error}"));
        }
        if let Some(log) = &mut container.log {
            log.finish(status.finished_at);
        }
        status.started_at = match container.state {
            ContainerState::Running { started_at } => started_at,
            ContainerState::Created | ContainerState::Exited(_) => status.finished_at,
        };
        if let Some(group) = &self.pod.group {
            status.oom_killed = group::oom_killed(&group.container_directory(id));
            group.remove_container(id);
        }
        container.state = ContainerState::Exited(status.clone());
        self.announce(id, Change::Exited(status.clone()));
        for connection in self.connections.values_mut() {
            if matches!(&connection.role, Role::Waiting(waited) if waited == id) {
                connection.finish(&Response::Exited(status.clone()));
            }
        }
        status
    }

    /// Records a change and tells everybody who listens.
    fn announce(&mut self, container: &ContainerId, change: Change) {
        self.save();
        let event = Event { container: container.clone(), change };
        for connection in self.connections.values_mut().filter(|c| c.role == Role::Events) {
            connection.send(Tag::Event, &event);
            connection.check_overrun();
        }
    }

    fn save(&self) {
        let record = Record { info: self.info.clone(), containers: self.list() };
        if let Err(error) = self.state.save(&record) {
            complain(format_args!("cannot record the state of pod {}: {error}", self.info.id));
        }
    }

    fn list(&self) -> Vec<ContainerInfo> {
        let living = |key: &u64| self.processes.get(key).filter(|process| process.end.is_none());
        let pid = |container: &Container| living(&container.process).and_then(|process| process.pid);
        self.containers.values().map(|container| container.info(pid(container))).collect()
    }

    /// Lets go of clients that are gone or have been told everything.
    fn forget_finished(&mut self) {
        let finished: Vec<_> =
            self.connections.iter().filter(|(_, c)| c.is_finished()).map(|(key, _)| *key).collect();
        for key in finished {
            let Some(connection) = self.connections.remove(&key) else { continue };
            match connection.role {
                Role::Session { process, kind: SessionKind::Exec } => self.kill_session(process),
                Role::Session { process, kind: SessionKind::Attach } => self.leave(process),
                Role::New | Role::Waiting(_) | Role::Events | Role::Closing => {}
            }
        }
    }

    /// Nobody is left to see what an `exec` does.
    fn kill_session(&self, key: u64) {
        let Some(process) = self.processes.get(&key).filter(|process| process.end.is_none()) else { return };
        if let Some(pid) = process.pid {
            // It leads a session and group of its own; it may just be ending.
            rustix::process::kill_process_group(pid, RawSignal::KILL).unwrap_or_default();
        }
    }

    fn leave(&mut self, key: u64) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        if let Owner::Container(id) = &process.owner
            && self.containers.get(id).is_some_and(|c| c.config.stdin == Stdin::Once && c.input_used)
        {
            process.end_input();
        }
    }

    fn serve(&mut self, key: u64, events: PollFlags) {
        let Some(connection) = self.connections.get_mut(&key) else { return };
        if events.contains(PollFlags::OUT) {
            connection.flush();
        }
        if events.contains(PollFlags::IN) {
            connection.receive();
        }
        if events.intersects(PollFlags::HUP | PollFlags::ERR) && !events.contains(PollFlags::IN) {
            connection.hung_up();
        }
        self.take_frames(key);
    }

    fn take_frames(&mut self, key: u64) {
        while let Some(connection) = self.connections.get_mut(&key) {
            match connection.next_frame() {
                Ok(Some(frame)) => self.take_frame(key, &frame),
                Ok(None) => break,
                Err(error) => {
                    let message = format!("the request is {error}");
                    connection.finish(&Refusal::new(ErrorKind::Internal, message).into());
                    return;
                }
            }
        }
        if let Some(connection) = self.connections.get_mut(&key)
            && connection.has_ended()
        {
            match connection.role {
                // It will never ask.
                Role::New => connection.role = Role::Closing,
                Role::Session { process, kind } => self.end_input(process, kind),
                Role::Waiting(_) | Role::Events | Role::Closing => {}
            }
        }
    }

    fn take_frame(&mut self, key: u64, frame: &Frame) {
        let Some(connection) = self.connections.get_mut(&key) else { return };
        match (&connection.role, frame.tag) {
            (Role::New, Tag::Request) => {
                let response = match frame.parse::<Request>() {
                    Ok(request) => self.answer(key, request),
                    Err(error) => Err(Refusal::new(ErrorKind::Internal, format!("the request is {error}"))),
                };
                let Some(connection) = self.connections.get_mut(&key) else { return };
                match response {
                    Ok(Some(response)) => connection.finish(&response),
                    Ok(None) => {}
                    Err(refusal) => connection.finish(&refusal.into()),
                }
            }
            (Role::Session { process, kind }, tag) => {
                let (process, kind) = (*process, *kind);
                self.session_frame(process, kind, tag, frame);
            }
            _ => connection.hung_up(),
        }
    }

    fn session_frame(&mut self, key: u64, kind: SessionKind, tag: Tag, frame: &Frame) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        match tag {
            Tag::Stdin => {
                if let Owner::Container(id) = &process.owner
                    && let Some(container) = self.containers.get_mut(id)
                {
                    container.input_used = true;
                }
                process.write_input(&frame.payload);
            }
            Tag::StdinEnd => self.end_input(key, kind),
            Tag::Resize => {
                // A size that cannot be read changes nothing.
                if let Ok(size) = frame.parse() {
                    process.resize(size);
                }
            }
            _ => {}
        }
    }

    /// A client has no more input: that ends an `exec`'s, and a container's if it said so.
    fn end_input(&mut self, key: u64, kind: SessionKind) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        let ends = match (&process.owner, kind) {
            (Owner::Exec { .. }, _) => true,
            (Owner::Container(id), _) => {
                self.containers.get(id).is_some_and(|container| container.config.stdin == Stdin::Once)
            }
        };
        if ends {
            process.end_input();
        }
    }
}
