//! Probes: asking a container whether it is started, alive, ready.
//!
//! A probe is a task of its own for as long as its container runs. It reports failures, and changes of its verdict.

use std::time::Duration;

use k8s_openapi::api::core::v1::Probe;
use tokio::sync::mpsc;

use super::ask::Target;

/// What a probe decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Whether the container has started; the others begin afterwards.
    Startup,
    /// Whether it lives; if not it is killed.
    Liveness,
    /// Whether it may be sent work.
    Readiness,
}

/// What came of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The container's name.
    pub container: String,
    /// The run's id.
    pub id: String,
    /// Which probe.
    pub purpose: Purpose,
    /// `Err`: it failed, and why.
    pub result: Result<(), String>,
    /// The verdict, if it has changed.
    pub verdict: Option<bool>,
}

/// Counts results; `Some` when the verdict changes.
#[derive(Debug)]
struct Counter {
    healthy: Option<bool>,
    streak: (bool, i32),
    success: i32,
    failure: i32,
}

impl Counter {
    fn new(probe: &Probe) -> Self {
        Self {
            healthy: None,
            streak: (true, 0),
            success: probe.success_threshold.unwrap_or(1).max(1),
            failure: probe.failure_threshold.unwrap_or(3).max(1),
        }
    }

    fn count(&mut self, ok: bool) -> Option<bool> {
        self.streak = if self.streak.0 == ok { (ok, self.streak.1.saturating_add(1)) } else { (ok, 1) };
        let needed = if ok { self.success } else { self.failure };
        if self.streak.1 < needed || self.healthy == Some(ok) {
            return None;
        }
        self.healthy = Some(ok);
        Some(ok)
    }
}

/// Probes until the task is ended, or for a startup probe until it has its verdict.
pub async fn run(purpose: Purpose, probe: Probe, target: Target, reports: mpsc::Sender<Report>) {
    let seconds = |value: Option<i32>, default: u64| {
        Duration::from_secs(value.and_then(|v| u64::try_from(v).ok()).filter(|v| *v > 0).unwrap_or(default))
    };
    let period = seconds(probe.period_seconds, 10);
    let timeout = seconds(probe.timeout_seconds, 1);
    let delay = probe.initial_delay_seconds.and_then(|d| u64::try_from(d).ok()).unwrap_or(0);
    tokio::time::sleep(Duration::from_secs(delay)).await;
    let mut counter = Counter::new(&probe);
    // A container that is not ready yet is asked more often at first: most are ready within a fraction of a period.
    let mut eager = Duration::from_millis(20);
    loop {
        let result = tokio::time::timeout(timeout, ask(&probe, &target)).await;
        let result = result.unwrap_or_else(|_| Err(format!("no answer within {} s", timeout.as_secs())));
        let failed = result.is_err();
        // Failures of this phase do not count: the thresholds are in periods.
        let young = counter.healthy.is_none() && failed && purpose != Purpose::Liveness && eager < period;
        let verdict = if young { None } else { counter.count(!failed) };
        if verdict.is_some() || (failed && !young) {
            let (container, id) = (target.container.clone(), target.id.clone());
            let report = Report { container, id, purpose, result, verdict };
            let decided = verdict.is_some() && purpose == Purpose::Startup;
            if reports.send(report).await.is_err() || decided {
                return;
            }
        }
        if young {
            tokio::time::sleep(eager).await;
            eager *= 2;
        } else {
            tokio::time::sleep(period).await;
        }
    }
}

async fn ask(probe: &Probe, target: &Target) -> Result<(), String> {
    if let Some(exec) = &probe.exec {
        return target.run(exec.command.clone().unwrap_or_default()).await;
    }
    if let Some(http) = &probe.http_get {
        return target.get(http).await;
    }
    if let Some(tcp) = &probe.tcp_socket {
        return target.dial(&tcp.port, tcp.host.as_deref()).await.map(drop);
    }
    if let Some(grpc) = &probe.grpc {
        return target.health(grpc).await;
    }
    Err("the probe says nothing to ask".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_need_their_thresholds() {
        let probe = Probe { success_threshold: Some(2), failure_threshold: Some(3), ..Probe::default() };
        let mut counter = Counter::new(&probe);
        let verdicts: Vec<Option<bool>> =
            [true, true, true, false, false, true, false, false, false, false, true, true]
                .map(|ok| counter.count(ok))
                .into();
        let (t, f) = (Some(true), Some(false));
        assert_eq!(verdicts, [None, t, None, None, None, None, None, None, f, None, None, t]);
    }
}
