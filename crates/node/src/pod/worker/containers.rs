//! What happens to the containers of a pod: their ends, as the sandbox tells them, and what probes find.

use std::time::SystemTime;

use k8s_openapi::api::core::v1::{Container as Spec, Probe};
use xebec_sandbox::sandbox::{Change, ContainerState, Event, ExitStatus, SandboxError};

use super::restore::killed;
use super::{Worker, seconds};
use crate::events::Kind;
use crate::pod::probe::{self, Purpose, Report};
use crate::pod::state::{Container, Ended, Run};
use crate::pod::{message, plan, run};

impl Worker {
    /// Takes part in what happens in the sandbox, what has happened before included.
    pub(super) async fn follow_sandbox(&mut self) {
        let Some(sandbox) = self.sandbox.clone() else { return };
        match sandbox.events().await {
            Ok(events) => self.events = Some(events),
            Err(error) => return self.sandbox_lost(&error.to_string()),
        }
        match sandbox.list().await {
            Ok(containers) => {
                for info in containers {
                    if let ContainerState::Exited(status) = info.state {
                        self.exited(info.id.as_str(), status).await;
                    }
                }
            }
            Err(error) => self.sandbox_lost(&error.to_string()),
        }
    }

    pub(super) async fn sandbox_event(&mut self, event: Result<Option<Event>, SandboxError>) {
        match event {
            Ok(Some(event)) => {
                if let Change::Exited(status) = event.change {
                    self.exited(event.container.as_str(), status).await;
                }
            }
            Ok(None) => self.sandbox_lost("it ended"),
            // Cut off for being slow, or by accident: what has been missed is in the list.
            Err(error) => {
                tracing::warn!(pod = self.name(), %error, "events of the pod's sandbox were missed");
                self.follow_sandbox().await;
            }
        }
    }

    /// The shim is gone, and every container with it.
    pub(super) fn sandbox_lost(&mut self, why: &str) {
        tracing::warn!(pod = self.name(), why, "the pod's sandbox is gone");
        // Whatever it left is removed before there is a new one.
        self.begin_removal();
        let now = SystemTime::now();
        for container in self.state.containers.values_mut() {
            if let Run::Running { id, since } = &container.run {
                container.run = Run::Exited(killed(id.clone(), *since, now));
            }
            container.ready = false;
        }
        self.host.events.pod(
            &self.pod,
            None,
            Kind::Normal,
            "SandboxChanged",
            "Pod sandbox changed, it will be killed and re-created.",
        );
    }

    pub(super) async fn exited(&mut self, id: &str, status: ExitStatus) {
        let Some(name) = self.name_of(id) else { return };
        let Some(spec) = self.spec(&name) else { return };
        let restart = self.state.containers.get(&name).map_or(0, |c| c.restarts);
        let dir = self.host.pod_dir(run::uid(&self.pod));
        let message = message::of_end(&dir, &spec, (id, restart), status.code() != 0).await;
        let ended = Ended { id: id.to_owned(), status, message, reason: None };
        match self.state.containers.get_mut(&name) {
            Some(container) if matches!(container.run, Run::Starting) => container.early_end = Some(ended),
            _ => self.ended(&name, ended),
        }
    }

    /// A container's run is over.
    pub(super) fn ended(&mut self, name: &str, ended: Ended) {
        let well = ended.status.finished_at.duration_since(ended.status.started_at).unwrap_or_default();
        self.probes.remove(name);
        self.images.remove(name);
        let Some(container) = self.state.containers.get_mut(name) else { return };
        container.backoff.failed(SystemTime::now(), well, true);
        container.ready = false;
        container.started = false;
        container.run = Run::Exited(ended);
        let waits = !container.backoff.delay().is_zero() && self.state.stopping.is_none();
        if waits && plan::is_restarted(&self.pod, &self.state, name) {
            let (meta, uid) = (&self.pod.metadata, run::uid(&self.pod));
            let namespace = meta.namespace.as_deref().unwrap_or_default();
            let message = format!(
                "Back-off restarting failed container {name} in pod {}_{namespace}({uid})",
                self.name()
            );
            self.host.events.pod(&self.pod, Some(name), Kind::Warning, "BackOff", message);
        }
    }

    /// The container whose present run has this id.
    pub(super) fn name_of(&self, id: &str) -> Option<String> {
        let mine = |(name, container): &(&String, &Container)| match &container.run {
            Run::Running { id: running, .. } => running == id,
            Run::Starting => format!("{name}-{}", container.restarts) == id,
            _ => false,
        };
        self.state.containers.iter().find(mine).map(|(name, _)| name.clone())
    }

    pub(super) fn start_probes(&mut self, name: &str) {
        let (Some(spec), Some(target)) = (self.spec(name), self.target(name)) else { return };
        let Some(container) = self.state.containers.get(name) else { return };
        let probes = match (container.started, &spec.startup_probe) {
            (false, Some(startup)) => vec![(Purpose::Startup, startup.clone())],
            _ => [(Purpose::Liveness, spec.liveness_probe), (Purpose::Readiness, spec.readiness_probe)]
                .into_iter()
                .filter_map(|(purpose, probe)| Some((purpose, probe?)))
                .collect(),
        };
        let set = self.probes.entry(name.to_owned()).or_default();
        for (purpose, probe) in probes {
            set.spawn(probe::run(purpose, probe, target.clone(), self.reports.0.clone()));
        }
    }

    pub(super) fn report(&mut self, report: &Report) {
        let Some(spec) = self.spec(&report.container) else { return };
        let Some(container) = self.state.containers.get_mut(&report.container) else { return };
        if !matches!(&container.run, Run::Running { id, .. } if *id == report.id) || container.terminating {
            return;
        }
        let what = match report.purpose {
            Purpose::Startup => "Startup",
            Purpose::Liveness => "Liveness",
            Purpose::Readiness => "Readiness",
        };
        if let Err(why) = &report.result {
            let message = format!("{what} probe failed: {why}");
            self.host.events.pod(&self.pod, Some(&report.container), Kind::Warning, "Unhealthy", message);
        }
        match (report.purpose, report.verdict) {
            (_, None) | (Purpose::Liveness, Some(true)) => {}
            (Purpose::Readiness, Some(ready)) => container.ready = ready,
            (Purpose::Startup, Some(true)) => {
                container.started = true;
                container.ready = spec.readiness_probe.is_none();
                self.start_probes(&report.container);
            }
            (Purpose::Startup, Some(false)) => self.unhealthy(&spec, what, spec.startup_probe.as_ref()),
            (Purpose::Liveness, Some(false)) => self.unhealthy(&spec, what, spec.liveness_probe.as_ref()),
        }
    }

    /// Ends a container whose probe has failed for good.
    pub(super) fn unhealthy(&mut self, spec: &Spec, what: &str, probe: Option<&Probe>) {
        let message =
            format!("Container {} failed {} probe, will be restarted", spec.name, what.to_lowercase());
        self.host.events.pod(&self.pod, Some(&spec.name), Kind::Normal, "Killing", message);
        let own = probe.and_then(|p| p.termination_grace_period_seconds);
        self.begin_terminate(spec.name.clone(), own.map_or_else(|| self.grace(), seconds));
    }
}
