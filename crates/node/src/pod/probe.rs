//! Probes: asking a container whether it is started, alive, ready.
//!
//! A probe is a task of its own for as long as its container runs. It reports a change of verdict, never each result.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::sync::mpsc;
use xebec_network::netns::Netns;
use xebec_sandbox::config::{ContainerId, ExecConfig};
use xebec_sandbox::sandbox::Sandbox;

/// How much of an answer is read.
const MAX_OUTPUT: usize = 10 * 1024;

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

/// A change of verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The container's name.
    pub container: String,
    /// The run's id.
    pub id: String,
    /// Which probe.
    pub purpose: Purpose,
    /// `Err`: it fails, and why.
    pub verdict: Result<(), String>,
}

/// What a probe is asked through.
#[derive(Clone)]
pub struct Target {
    /// The container's name.
    pub container: String,
    /// The run's id.
    pub id: String,
    /// Where commands run.
    pub sandbox: Arc<dyn Sandbox>,
    /// The pod's address.
    pub ip: Option<IpAddr>,
    /// Where the pod is dialled from.
    pub netns: Netns,
    /// The container's named ports.
    pub ports: Vec<(String, u16)>,
}

impl Target {
    /// The named ports of a container.
    #[must_use]
    pub fn ports_of(container: &Container) -> Vec<(String, u16)> {
        let named = container.ports.iter().flatten();
        named.filter_map(|p| Some((p.name.clone()?, u16::try_from(p.container_port).ok()?))).collect()
    }
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
        if let Some(healthy) = counter.count(result.is_ok()) {
            let verdict = if healthy { Ok(()) } else { result.clone() };
            let report =
                Report { container: target.container.clone(), id: target.id.clone(), purpose, verdict };
            if reports.send(report).await.is_err() || purpose == Purpose::Startup {
                return;
            }
        }
        let young =
            counter.healthy.is_none() && result.is_err() && purpose != Purpose::Liveness && eager < period;
        if young {
            // Failures of this phase do not count: the thresholds are in periods.
            counter.streak = (true, 0);
            tokio::time::sleep(eager).await;
            eager *= 2;
        } else {
            tokio::time::sleep(period).await;
        }
    }
}

async fn ask(probe: &Probe, target: &Target) -> Result<(), String> {
    if let Some(exec) = &probe.exec {
        return ask_command(exec.command.clone().unwrap_or_default(), target).await;
    }
    if let Some(http) = &probe.http_get {
        return ask_http(http, target).await;
    }
    if let Some(tcp) = &probe.tcp_socket {
        return dial(&tcp.port, tcp.host.as_deref(), target).await.map(|_| ());
    }
    Err("this kind of probe is not supported by this node".into())
}

async fn ask_command(command: Vec<String>, target: &Target) -> Result<(), String> {
    let id: ContainerId = target.id.parse().map_err(|e: xebec_sandbox::config::InvalidId| e.to_string())?;
    let session = target.sandbox.exec(&id, ExecConfig::new(command)).await.map_err(|e| e.to_string())?;
    let collected = session.collect(MAX_OUTPUT).await.map_err(|e| e.to_string())?;
    match collected.exit {
        Some(exit) if exit.code() == 0 => Ok(()),
        Some(exit) => {
            let output = [collected.stdout, collected.stderr].concat();
            Err(format!("exit code {}: {}", exit.code(), String::from_utf8_lossy(&output)))
        }
        None => Err("the container ended".into()),
    }
}

async fn dial(
    port: &IntOrString,
    host: Option<&str>,
    target: &Target,
) -> Result<tokio::net::TcpStream, String> {
    let port = match port {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(name) => {
            let named = target.ports.iter().find(|(n, _)| n == name).map(|(_, p)| *p);
            named.or_else(|| name.parse().ok())
        }
    };
    let port = port.ok_or("the probe's port is none of the container's")?;
    let ip = match host.filter(|h| !h.is_empty()) {
        Some(host) => host.parse().map_err(|_| format!("the probe's host {host:?} is no address"))?,
        None => target.ip.ok_or("the pod has no address")?,
    };
    let connected = target.netns.tcp_connect(SocketAddr::new(ip, port), Duration::from_secs(60)).await;
    connected.map_err(|e| super::run::chain(&e))
}

async fn ask_http(action: &HTTPGetAction, target: &Target) -> Result<(), String> {
    if action.scheme.as_deref() == Some("HTTPS") {
        return Err("HTTPS probes are not supported by this node".into());
    }
    let stream = dial(&action.port, action.host.as_deref(), target).await?;
    let authority = stream.peer_addr().map_err(|e| e.to_string())?.to_string();
    let path = action.path.as_deref().filter(|p| !p.is_empty()).unwrap_or("/");
    let mut request = Request::get(path).header("user-agent", "kube-probe/1.36").header("accept", "*/*");
    let mut named_host = false;
    for header in action.http_headers.iter().flatten() {
        named_host |= header.name.eq_ignore_ascii_case("host");
        request = request.header(&header.name, &header.value);
    }
    if !named_host {
        request = request.header("host", authority);
    }
    let request = request.body(Empty::<bytes::Bytes>::new()).map_err(|e| e.to_string())?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    // The connection is only driven here; that it ended is told by the answer, which may have come just before.
    let drive = async {
        if let Err(error) = connection.await {
            tracing::trace!(%error, "a probe's connection ended early");
        }
        std::future::pending::<()>().await;
    };
    let response = tokio::select! {
        response = sender.send_request(request) => response.map_err(|e| e.to_string())?,
        () = drive => return Err("the connection was closed".into()),
    };
    let status = response.status();
    if status.is_success() || status.is_redirection() {
        Ok(())
    } else {
        Err(format!("HTTP probe failed with statuscode: {}", status.as_u16()))
    }
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
