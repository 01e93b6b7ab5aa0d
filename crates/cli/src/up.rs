//! `xebec up` and `xebec down`: the life of the keeper.

use std::io::IsTerminal as _;
use std::net::TcpListener;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::ValueEnum;
use xebec_sandbox::bootstrap::{
    Keeper, KeeperConfig, Lifetime, Preflight, PreflightFailure, ServerCommand, preflight,
};

use xebec_server::config::Settings;

use crate::args::{Down, MAX_SHUTDOWN_DELAY, Place, Up};
use crate::control::{self, Status};
use crate::layout::Layout;
use crate::purge;

/// How long a cluster may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long the server may take to stop, besides the time for which it is told to go on.
const STOP_GRACE: Duration = Duration::from_secs(40);

/// Starts a cluster.
pub(crate) fn up(place: &Place, options: &Up) -> Result<ExitCode> {
    let begun = Instant::now();
    let preflight = preflight().map_err(explain)?;
    let layout = Layout::find(place)?;
    layout.prepare()?;
    check_free(&layout, options)?;
    // Said here, where it is seen.
    options.audit.settings(&layout)?;
    options.encryption.coverage()?;
    options.store.check()?;
    options.identity.apply(Settings::default())?;
    say("starting", &format!("data in {}", layout.root().display()));
    let keeper = spawn(&preflight, &layout, options)?;
    let socket = layout.control_socket();
    let mut keeper = Some(keeper);
    let status = control::wait_ready(&socket, READY_WITHIN, || ended(&mut keeper, &layout))?;
    announce(&status, begun.elapsed(), options.detach);
    let Some(keeper) = keeper else { bail!("the cluster ended as soon as it was ready") };
    if options.detach {
        return Ok(ExitCode::SUCCESS);
    }
    let end = keeper.supervise()?;
    Ok(u8::try_from(end.code).map_or(ExitCode::FAILURE, ExitCode::from))
}

fn explain(failure: PreflightFailure) -> anyhow::Error {
    anyhow!(failure).context("this machine cannot run a cluster yet")
}

/// One cluster per data directory, one program per port: said before anything is started.
fn check_free(layout: &Layout, options: &Up) -> Result<()> {
    if let Some(status) = control::status(&layout.control_socket())? {
        bail!(
            "a cluster runs in {} already, at {} (process {}); stop it with: xebec down",
            layout.root().display(),
            status.server,
            status.pids.keeper
        );
    }
    if layout.try_lock()?.is_none() {
        bail!(
            "another xebec is using {}; wait for it to end, or use another --data-dir",
            layout.root().display()
        );
    }
    TcpListener::bind(options.bind)
        .map(drop)
        .with_context(|| format!("the address {} cannot be used; choose another with --bind", options.bind))
}

fn spawn(preflight: &Preflight, layout: &Layout, options: &Up) -> Result<Keeper> {
    let text = |t: &str| std::ffi::OsString::from(t);
    let mut args = vec![
        text("serve"),
        text("--data-dir"),
        layout.root().as_os_str().to_owned(),
        text("--bind"),
        text(&options.bind.to_string()),
        text("--shutdown-delay"),
        text(&options.shutdown_delay.to_string()),
    ];
    for danger in options.danger_allow.iter().filter_map(ValueEnum::to_possible_value) {
        args.extend([text("--danger-allow"), text(danger.get_name())]);
    }
    if let Some(level) = options.pod_security_default.to_possible_value() {
        args.extend([text("--pod-security-default"), text(level.get_name())]);
    }
    args.extend(options.audit.arguments()?);
    args.extend(options.encryption.arguments()?);
    args.extend(options.store.arguments()?);
    args.extend(options.identity.arguments()?);
    let server = ServerCommand {
        args,
        env: std::env::var_os("XEBEC_LOG").map(|level| (text("XEBEC_LOG"), level)).into_iter().collect(),
    };
    let lifetime =
        if options.detach { Lifetime::Detached { log: layout.log() } } else { Lifetime::Foreground };
    let config = KeeperConfig {
        run_dir: layout.run(),
        keeper_args: vec![text("keeper")],
        server,
        lifetime,
        stop_grace: STOP_GRACE + Duration::from_secs(options.shutdown_delay),
    };
    Keeper::spawn(preflight, &config).context("the cluster's namespaces cannot be made")
}

/// Whether the keeper has ended, and what that means.
fn ended(keeper: &mut Option<Keeper>, layout: &Layout) -> Option<anyhow::Error> {
    let running = keeper.take()?;
    match running.try_wait() {
        Ok(Err(running)) => {
            *keeper = Some(running);
            None
        }
        Ok(Ok(end)) => Some(anyhow!(
            "the cluster could not start (exit code {}); {} says more",
            end.code,
            layout.log().display()
        )),
        Err(error) => Some(error.into()),
    }
}

fn say(what: &str, detail: &str) {
    let (bold, plain) = if std::io::stderr().is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    eprintln!("{bold}{what:>10}{plain}  {detail}");
}

fn announce(status: &Status, took: Duration, detached: bool) {
    say("ready", &format!("{} after {} ms", status.server, took.as_millis()));
    for note in &status.notes {
        say("note", note);
    }
    let stop = if detached { "stop it with: xebec down" } else { "stop it with: Ctrl-C" };
    say("next", &format!("export KUBECONFIG={}", status.kubeconfig.display()));
    say("", &format!("kubectl get pods --all-namespaces    ({stop})"));
}

/// Stops a cluster.
pub(crate) fn down(place: &Place, options: &Down) -> Result<ExitCode> {
    let layout = Layout::find(place)?;
    let longest = STOP_GRACE + Duration::from_secs(MAX_SHUTDOWN_DELAY + 10);
    let stopped =
        xebec_sandbox::bootstrap::stop(&layout.run(), longest).context("the cluster could not be stopped")?;
    let shown = layout.root().display();
    if options.purge {
        purge::run(&layout)?;
        say("removed", &format!("everything in {shown}"));
    } else if stopped {
        say("stopped", &format!("data stays in {shown}"));
    } else {
        say("stopped", "no cluster was running");
    }
    Ok(ExitCode::SUCCESS)
}
