//! What actions came to, taken into the pod's state.

use std::time::{Duration, SystemTime};

use xebec_sandbox::sandbox::{ExitStatus, Outcome as Exit};

use super::{Outcome, REFRESH_RETRY, Worker};
use crate::events::Kind;
use crate::pod::run::{self, Failure, Started};
use crate::pod::state::{Ended, Run, Stage};
use crate::pod::volumes::{Contents, Places};

impl Worker {
    pub(super) async fn outcome(&mut self, outcome: Outcome) {
        let now = SystemTime::now();
        match outcome {
            Outcome::Sandbox(Ok(made)) => {
                self.state.sandbox = Stage::Ready(made.ip);
                self.sandbox = Some(made.sandbox);
                self.follow_sandbox().await;
            }
            Outcome::Sandbox(Err(message)) => {
                self.warn("FailedCreatePodSandBox", message.clone());
                self.state.sandbox.fail(message, now);
            }
            Outcome::Volumes(contents, filled) => {
                self.contents = Some(contents);
                match filled {
                    Ok(places) => {
                        self.filled(places);
                        self.state.volumes = Stage::Ready(());
                    }
                    Err(message) => {
                        self.warn("FailedMount", message.clone());
                        self.state.volumes.fail(message, now);
                    }
                }
            }
            Outcome::Refreshed(contents, filled) => {
                self.contents = Some(contents);
                match filled {
                    Ok(places) => self.filled(places),
                    Err(message) => {
                        self.warn("FailedMount", message);
                        self.state.refresh = Some(now + REFRESH_RETRY);
                    }
                }
            }
            Outcome::Started(name, Ok(started)) => self.started(&name, started),
            Outcome::Started(name, Err(failure)) => self.not_started(&name, failure, now),
            Outcome::Terminated(name, result) => {
                if let Err(error) = result {
                    tracing::warn!(
                        pod = self.name(),
                        container = name,
                        error,
                        "a container could not be ended, trying again"
                    );
                    if let Some(container) = self.state.containers.get_mut(&name) {
                        container.terminating = false;
                        container.killed = false;
                    }
                }
            }
            Outcome::SandboxRemoved(_, Ok(())) => self.state.sandbox = Stage::Absent,
            Outcome::Finished(Ok(())) => self.state.finished = true,
            Outcome::SandboxRemoved(sandbox, Err(error)) => {
                self.sandbox = sandbox;
                self.not_removed(error, now);
            }
            Outcome::Finished(Err(error)) => self.not_removed(error, now),
        }
    }

    pub(super) fn not_removed(&mut self, error: String, now: SystemTime) {
        tracing::warn!(pod = self.name(), error, "the pod could not be taken down yet, trying again");
        self.state.cleanup.failed(now, Duration::ZERO, false);
        self.state.sandbox.fail(error, now);
    }

    pub(super) fn warn(&self, reason: &str, message: String) {
        self.host.events.pod(&self.pod, None, Kind::Warning, reason, message);
    }

    pub(super) fn filled(&mut self, places: Places) {
        self.places = places;
        let renewal = self.contents.as_ref().and_then(Contents::renew_at);
        self.state.refresh = [self.state.refresh, renewal].into_iter().flatten().min();
    }

    /// Something that the volumes show is not as it was.
    pub(super) fn contents_changed(&mut self) {
        match &self.state.volumes {
            Stage::Ready(()) => self.state.refresh = Some(SystemTime::now()),
            // It may have been what was missing.
            Stage::Failed { .. } => self.state.volumes = Stage::Absent,
            Stage::Absent | Stage::Busy(_) => {}
        }
    }

    pub(super) fn started(&mut self, name: &str, started: Started) {
        let spec = self.spec(name).unwrap_or_default();
        let Some(container) = self.state.containers.get_mut(name) else { return };
        container.image_id = started.image_id;
        container.pull.clear();
        self.images.insert(name.to_owned(), started.image);
        container.run = Run::Running { id: started.id, since: started.since };
        if let Some(ended) = container.early_end.take() {
            return self.ended(name, ended);
        }
        container.started = spec.startup_probe.is_none();
        container.ready = container.started && spec.readiness_probe.is_none();
        self.start_probes(name);
    }

    pub(super) fn not_started(&mut self, name: &str, failure: Failure, now: SystemTime) {
        if !failure.pulling {
            self.host.events.pod(
                &self.pod,
                Some(name),
                Kind::Warning,
                "Failed",
                format!("Error: {}", failure.message),
            );
        }
        let Some(container) = self.state.containers.get_mut(name) else { return };
        container.early_end = None;
        if failure.reason == run::START_ERROR {
            let status = ExitStatus {
                outcome: Exit::Exited(128),
                oom_killed: false,
                started_at: now,
                finished_at: now,
            };
            let id = format!("{name}-{}", container.restarts);
            let ended = Ended { id, status, message: failure.message, reason: Some(run::START_ERROR) };
            return self.ended(name, ended);
        }
        let backoff = if failure.pulling { &mut container.pull } else { &mut container.backoff };
        backoff.failed(now, Duration::ZERO, false);
        container.run = Run::Failed { reason: failure.reason, message: failure.message, since: now };
        if failure.reason == "ErrImagePull" {
            let image = self.spec(name).and_then(|s| s.image).unwrap_or_default();
            let message = format!("Back-off pulling image {image:?}");
            self.host.events.pod(&self.pod, Some(name), Kind::Normal, "BackOff", message);
        }
    }
}
