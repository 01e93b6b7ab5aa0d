//! What the shim does when it is asked.

use std::io;
use std::time::SystemTime;

use rustix::process::Signal as RawSignal;

use super::Server;
use crate::complaint::complain;
use crate::config::{ContainerConfig, ContainerId, ExecConfig, Signal};
use crate::sandbox::{Change, ContainerState, ErrorKind, Outcome};
use crate::shim::connection::{Role, SessionKind};
use crate::shim::container::Container;
use crate::shim::process::{Owner, Process};
use crate::shim::refusal::{Refusal, cannot};
use crate::wire::{Request, Response};

/// Most containers of a pod, ended ones included.
const MAX_CONTAINERS: usize = 512;

/// Most processes of `exec` at once.
const MAX_EXECS: usize = 256;

impl Server {
    /// Carries a request out. `None` when the answer has been or will be given otherwise.
    pub(super) fn answer(&mut self, key: u64, request: Request) -> Result<Option<Response>, Refusal> {
        match request {
            Request::Info => Ok(Some(Response::Info(self.info.clone()))),
            Request::List => Ok(Some(Response::Containers(self.list()))),
            Request::Create(config) => self.create(*config).map(done),
            Request::Start(id) => self.start(&id).map(done),
            Request::Signal(id, signal) => self.signal(&id, signal).map(done),
            Request::Wait(id) => self.await_end(key, id),
            Request::Exec(id, config) => self.exec(key, &id, &config).map(|()| None),
            Request::Attach(id) => self.attach(key, &id).map(|()| None),
            Request::Stats(id) => {
                let stats = self.container(&id)?.stats(&self.pod)?;
                Ok(Some(Response::Stats(stats)))
            }
            Request::RemoveContainer(id) => self.remove_container(&id).map(done),
            Request::Events => {
                self.open_stream(key, Role::Events);
                Ok(None)
            }
            Request::Stop => self.stop().map(done),
            Request::Remove => {
                self.removal = Some(key);
                Ok(None)
            }
        }
    }

    fn container(&self, id: &ContainerId) -> Result<&Container, Refusal> {
        self.containers.get(id).ok_or_else(|| {
            Refusal::new(ErrorKind::NotFound, format!("there is no container {id} in pod {}", self.info.id))
        })
    }

    fn open_stream(&mut self, key: u64, role: Role) {
        if let Some(connection) = self.connections.get_mut(&key) {
            connection.respond(&Response::Stream);
            connection.role = role;
        }
    }

    fn create(&mut self, config: ContainerConfig) -> Result<(), Refusal> {
        let id = config.id.clone();
        if self.containers.contains_key(&id) {
            return Err(Refusal::new(
                ErrorKind::AlreadyExists,
                format!("there is a container {id} in pod {} already", self.info.id),
            ));
        }
        if self.containers.len() >= MAX_CONTAINERS {
            return Err(Refusal::new(
                ErrorKind::LimitReached,
                format!("pod {} has {MAX_CONTAINERS} containers, the most there can be", self.info.id),
            ));
        }
        let key = self.new_key();
        let beside = config.process_namespace_of.as_ref().map(|id| self.container(id)).transpose()?;
        let (container, started) = Container::create(&self.pod, config, key, beside)?;
        let owner = Owner::Container(id.clone());
        let process = match started {
            Some((pid, streams)) => Process::new(owner, pid, streams),
            None => Process::to_come(owner),
        };
        self.processes.insert(key, process);
        self.containers.insert(id.clone(), container);
        self.announce(&id, Change::Created);
        Ok(())
    }

    fn start(&mut self, id: &ContainerId) -> Result<(), Refusal> {
        self.container(id)?;
        if let Some(container) = self.containers.get_mut(id)
            && let Some((pid, streams)) = container.start(&self.pod)?
            && let Some(process) = self.processes.get_mut(&container.process)
        {
            process.begin(pid, streams);
        }
        self.announce(id, Change::Started);
        Ok(())
    }

    fn signal(&mut self, id: &ContainerId, signal: Signal) -> Result<(), Refusal> {
        let container = self.container(id)?;
        let key = container.process;
        let Some(process) = self.processes.get(&key).filter(|process| process.end.is_none()) else {
            return Ok(());
        };
        match process.pid {
            // It is this one's child and not yet waited for, so its id is still its own.
            Some(pid) => container.signal(&self.pod, pid, signal),
            None if signal == Signal::KILL => self.kill_and_settle(&[key]),
            None => {
                Err(Refusal::new(ErrorKind::InvalidState, format!("container {id} has not been started")))
            }
        }
    }

    fn await_end(&mut self, key: u64, id: ContainerId) -> Result<Option<Response>, Refusal> {
        if let ContainerState::Exited(status) = &self.container(&id)?.state {
            return Ok(Some(Response::Exited(status.clone())));
        }
        if let Some(connection) = self.connections.get_mut(&key) {
            connection.role = Role::Waiting(id);
        }
        Ok(None)
    }

    fn exec(&mut self, connection: u64, id: &ContainerId, config: &ExecConfig) -> Result<(), Refusal> {
        let execs = self.processes.values().filter(|p| matches!(p.owner, Owner::Exec { .. })).count();
        if execs >= MAX_EXECS {
            return Err(Refusal::new(
                ErrorKind::LimitReached,
                format!("{MAX_EXECS} commands are being run in pod {}, the most at once", self.info.id),
            ));
        }
        self.container(id)?;
        let Some(container) = self.containers.get_mut(id) else { return Ok(()) };
        let (pid, streams) = container.exec(&self.pod, config)?;
        let key = self.new_key();
        self.processes.insert(key, Process::new(Owner::Exec { connection }, pid, streams));
        self.open_stream(connection, Role::Session { process: key, kind: SessionKind::Exec });
        Ok(())
    }

    fn attach(&mut self, connection: u64, id: &ContainerId) -> Result<(), Refusal> {
        let container = self.container(id)?;
        if let ContainerState::Exited(_) = container.state {
            return Err(Refusal::new(ErrorKind::InvalidState, format!("container {id} has ended")));
        }
        let role = Role::Session { process: container.process, kind: SessionKind::Attach };
        self.open_stream(connection, role);
        Ok(())
    }

    fn remove_container(&mut self, id: &ContainerId) -> Result<(), Refusal> {
        let Some(container) = self.containers.get(id) else { return Ok(()) };
        let key = container.process;
        self.kill_and_settle(&[key])?;
        self.containers.remove(id);
        self.announce(id, Change::Removed);
        Ok(())
    }

    fn stop(&mut self) -> Result<(), Refusal> {
        let running: Vec<_> = self.processes.keys().copied().collect();
        self.kill_and_settle(&running)
    }

    /// Kills processes and waits until they have ended.
    fn kill_and_settle(&mut self, keys: &[u64]) -> Result<(), Refusal> {
        for key in keys {
            let Some(process) = self.processes.get_mut(key) else { continue };
            match process.pid {
                Some(pid) if process.end.is_none() => {
                    rustix::process::kill_process(pid, RawSignal::KILL)
                        .map_err(cannot("kill a container's process"))?;
                    self.reap_until(pid).map_err(cannot("wait for a killed process"))?;
                }
                Some(_) => {}
                None => process.end = Some((Outcome::Signaled(RawSignal::KILL.as_raw()), SystemTime::now())),
            }
            // What a slow client of an `exec` has not read is lost with it.
            self.drain(*key);
            self.finish(*key);
        }
        Ok(())
    }

    /// Ends the pod: no process, mount or namespace of it is left afterwards.
    pub(super) fn tear_down(&mut self) {
        if let Err(refusal) = self.stop() {
            complain(format_args!("{refusal}"));
        }
        self.containers.clear();
        if let Some(reaper) = self.pod.namespaces.shared_pid.as_ref().map(|shared| shared.reaper) {
            // Its end takes whatever else is in the process namespace with it.
            let killed = rustix::process::kill_process(reaper, RawSignal::KILL)
                .map_err(io::Error::from)
                .and_then(|()| self.reap_until(reaper));
            if let Err(error) = killed {
                complain(format_args!("cannot end the reaper of pod {}: {error}", self.info.id));
            }
        }
        if let Some(group) = &self.pod.group {
            group.remove();
        }
    }
}

const fn done((): ()) -> Option<Response> {
    Some(Response::Done)
}
