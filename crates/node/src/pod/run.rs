//! The actions of a plan, carried out. Each reports what came of it; none touches the pod's state.

mod end;
mod image;
mod sources;

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::api::Api;
use xebec_image::images::Record;
use xebec_image::progress::Silent;
use xebec_image::reference::Reference;
use xebec_image::store::Lease;
use xebec_network::ipam::PodId;
use xebec_sandbox::config::{
    ContainerConfig, ContainerId, Network, PodSandboxConfig, SandboxId, Signal, host_id,
};
use xebec_sandbox::sandbox::{EngineKind, ErrorKind, Sandbox, SandboxError};

use super::ask::Target;
use super::env::{Surroundings, environment};
use super::spec::{Ingredients, container_config};
use super::volumes::{Contents, Places};
use super::{etc, hook, policy, volumes};
use crate::events::Kind;
use crate::host::{Host, PodDir};

pub use self::end::{finish, kill, remove_sandbox, terminate};

/// The reason of a container whose program could not be run.
pub const START_ERROR: &str = "StartError";

/// A pod's sandbox with its place in the network.
pub struct Made {
    /// The sandbox.
    pub sandbox: Arc<dyn Sandbox>,
    /// The pod's address; none with the host's network.
    pub ip: Option<IpAddr>,
}

/// A container that runs.
#[derive(Debug)]
pub struct Started {
    /// Its id in the sandbox.
    pub id: String,
    /// The image it runs.
    pub image_id: String,
    /// Since when.
    pub since: SystemTime,
    /// What keeps the image's layers.
    pub image: Arc<Vec<Lease>>,
}

/// A container that could not be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The reason in its status.
    pub reason: &'static str,
    /// In words.
    pub message: String,
    /// It was the image, which is waited for on its own.
    pub pulling: bool,
}

impl Failure {
    fn new(reason: &'static str, message: impl std::fmt::Display) -> Self {
        Self { reason, message: message.to_string(), pulling: false }
    }
}

/// The pod's UID: the name of its sandbox and directory.
#[must_use]
pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

/// Labels by which a sandbox is known again after a restart.
fn labels(pod: &Pod) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("namespace".to_owned(), namespace(pod).to_owned()),
        ("name".to_owned(), name(pod).to_owned()),
        ("uid".to_owned(), uid(pod).to_owned()),
    ])
}

/// Makes the pod's namespaces and network.
///
/// # Errors
/// What failed, in words.
pub async fn create_sandbox(host: &Host, pod: &Pod) -> Result<Made, String> {
    if let Some(why) = policy::refusal(pod, host.dangers) {
        return Err(why);
    }
    let engine = engine(host, pod).await?;
    let engine = host.engine(engine).ok_or_else(|| format!("this node has no {engine} engine"))?;
    engine.available().map_err(|e| e.to_string())?;
    let id: SandboxId = uid(pod).parse().map_err(|e| format!("{e}"))?;
    let spec = pod.spec.as_ref();
    let mut config = PodSandboxConfig::new(id, etc::hostname(pod));
    config.labels = labels(pod);
    config.limits.pids = Some(host.pod_processes);
    config.share_process_namespace = spec.and_then(|s| s.share_process_namespace) == Some(true);
    if spec.and_then(|s| s.host_network) == Some(true) {
        config.network = Network::Host;
    }
    let sysctls = spec.and_then(|s| s.security_context.as_ref()).and_then(|s| s.sysctls.as_ref());
    config.sysctls = sysctls.into_iter().flatten().map(|s| (s.name.clone(), s.value.clone())).collect();
    let sandbox = engine.create(config).await.map_err(|e| format!("creating the sandbox: {}", chain(&e)))?;
    let connected = connect(host, pod, &*sandbox).await;
    if connected.is_err() {
        // What was made is taken down again, so that the next try starts from nothing.
        if let Err(error) = sandbox.remove().await {
            tracing::warn!(pod = name(pod), %error, "a half-made sandbox could not be removed");
        }
    }
    Ok(Made { ip: connected?, sandbox })
}

async fn connect(host: &Host, pod: &Pod, sandbox: &dyn Sandbox) -> Result<Option<IpAddr>, String> {
    let ip = match sandbox.netns_path() {
        None => None,
        Some(netns) => {
            let id = PodId::new(uid(pod)).map_err(|e| e.to_string())?;
            let network = host.links.attach(&id, netns).await;
            Some(network.map_err(|e| format!("connecting the pod: {}", chain(&e)))?.ip)
        }
    };
    etc::write(host, pod, &host.pod_dir(uid(pod)), ip).map_err(|e| chain(&e))?;
    Ok(ip)
}

/// An error with everything that caused it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = cause.source();
    }
    text
}

/// Which engine the pod's RuntimeClass names.
async fn engine(host: &Host, pod: &Pod) -> Result<EngineKind, String> {
    let Some(class) =
        pod.spec.as_ref().and_then(|s| s.runtime_class_name.as_deref()).filter(|c| !c.is_empty())
    else {
        return Ok(EngineKind::Oci);
    };
    let api: Api<RuntimeClass> = Api::all(host.client.clone());
    let found = api.get(class).await.map_err(|e| format!("RuntimeClass {class:?}: {e}"))?;
    match found.handler.as_str() {
        "oci" | "runc" | "crun" => Ok(EngineKind::Oci),
        "gvisor" | "runsc" => Ok(EngineKind::Gvisor),
        other => Err(format!(
            "RuntimeClass {class:?} asks for the handler {other:?}; this node has oci and gvisor"
        )),
    }
}

/// Fills the pod's volumes, or brings them up to date; with what they are to follow from now on.
///
/// # Errors
/// What failed, in words.
pub async fn set_up_volumes(
    host: &Host,
    pod: &Pod,
    around: &Surroundings,
    mut contents: Contents,
) -> (Contents, Result<Places, String>) {
    let filled = volumes::set_up(host, pod, around, &mut contents).await;
    (contents, filled.map_err(|e| format!("setting up the volumes failed: {}", chain(&e))))
}

/// What starting a container needs besides the pod.
pub struct Start {
    /// The pod's sandbox.
    pub sandbox: Arc<dyn Sandbox>,
    /// Where its volumes are.
    pub volumes: Places,
    /// Its around.
    pub around: Surroundings,
    /// The pod's address.
    pub ip: Option<IpAddr>,
    /// The run of the container whose processes it is to see.
    pub beside: Option<String>,
    /// How many runs came before.
    pub restart: u32,
}

/// Pulls the image if need be, makes the container and starts it.
///
/// # Errors
/// The reason and message for its status.
pub async fn start(host: &Host, pod: &Pod, container: &Container, start: Start) -> Result<Started, Failure> {
    if let Some(why) = policy::refusal_of(pod, container, host.dangers) {
        return Err(Failure::new("CreateContainerConfigError", why));
    }
    let record = image::image(host, pod, container).await.map_err(|f| Failure { pulling: true, ..f })?;
    let rootfs = host.images.ensure_snapshot(&record, Arc::new(Silent)).await;
    let rootfs = rootfs.map_err(|e| Failure { pulling: true, ..Failure::new("ErrImagePull", chain(&e)) })?;
    let config_error = |e: &dyn std::error::Error| Failure::new("CreateContainerConfigError", chain(e));
    let sources = sources::sources(host, pod, container, &rootfs.defaults.env).await?;
    let env = environment(container, pod, &sources, &start.around).map_err(|e| config_error(&e))?;
    let dir = host.pod_dir(uid(pod));
    let id = format!("{}-{}", container.name, start.restart);
    let container_id: ContainerId =
        id.parse().map_err(|e: xebec_sandbox::config::InvalidId| config_error(&e))?;
    prepare(&dir, container, &id, start.restart).map_err(|e| Failure::new("CreateContainerError", e))?;
    let beside = start.beside.as_deref().map(str::parse).transpose();
    let ingredients = Ingredients {
        pod,
        container,
        rootfs: &rootfs,
        env,
        volumes: &start.volumes,
        beside: beside.map_err(|e: xebec_sandbox::config::InvalidId| config_error(&e))?,
        dir: &dir,
        id: container_id.clone(),
        restart: start.restart,
    };
    let config = container_config(ingredients).map_err(|e| config_error(&e))?;
    warn_of_limits(host, pod, container, &*start.sandbox);
    let say = |reason, message| host.events.pod(pod, Some(&container.name), Kind::Normal, reason, message);
    create(&start, config).await.map_err(|e| refused(&e, "CreateContainerError"))?;
    say("Created", format!("Container created: {}", container.name));
    if let Err(error) = start.sandbox.start(&container_id).await {
        remove_run(&start, &container_id).await;
        return Err(refused(&error, "RunContainerError"));
    }
    say("Started", format!("Container started: {}", container.name));
    let since = SystemTime::now();
    retire(&dir, container, &start).await;
    run_post_start(host, pod, container, &start, &container_id).await;
    Ok(Started { id, image_id: image_id(&record), since, image: rootfs.leases.clone() })
}

/// Makes a container; one of the same id that an earlier server did not come to start makes room.
async fn create(start: &Start, config: ContainerConfig) -> Result<(), SandboxError> {
    let id = config.id.clone();
    match start.sandbox.create_container(config.clone()).await {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            start.sandbox.remove_container(&id).await?;
            start.sandbox.create_container(config).await
        }
        result => result,
    }
}

/// The failure for a container that its sandbox does not make or start.
fn refused(error: &SandboxError, otherwise: &'static str) -> Failure {
    let reason = match error.kind() {
        ErrorKind::CommandNotFound | ErrorKind::CommandNotRunnable => START_ERROR,
        ErrorKind::InvalidConfig => "CreateContainerConfigError",
        _ => otherwise,
    };
    Failure::new(reason, chain(error))
}

/// Says so if the container's limits will not be held.
fn warn_of_limits(host: &Host, pod: &Pod, container: &Container, sandbox: &dyn Sandbox) {
    let Some(limits) = container.resources.as_ref().and_then(|r| r.limits.as_ref()) else { return };
    let held = sandbox.limits();
    let unheld: Vec<&str> = [("memory", held.memory), ("cpu", held.cpu)]
        .into_iter()
        .filter(|(name, held)| limits.contains_key(*name) && !held)
        .map(|(name, _)| name)
        .collect();
    if !unheld.is_empty() {
        let message = format!(
            "This node cannot hold container {} to its limit of {}: no control group (version 2) is delegated to the \
             user who runs it",
            container.name,
            unheld.join(" and ")
        );
        host.events.pod(pod, Some(&container.name), Kind::Warning, "LimitsNotEnforced", message);
    }
}

/// Runs the hook after the start; a container whose hook fails is killed, and restarted as its policy says.
async fn run_post_start(host: &Host, pod: &Pod, container: &Container, start: &Start, id: &ContainerId) {
    let hook = container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref());
    let Some(hook) = hook else { return };
    let target = Target {
        container: container.name.clone(),
        id: id.as_str().to_owned(),
        sandbox: start.sandbox.clone(),
        ip: start.ip,
        netns: host.netns.clone(),
        ports: Target::ports_of(container),
    };
    let Err(why) = hook::after_start(hook, &target).await else { return };
    let say = |kind, reason, message| host.events.pod(pod, Some(&container.name), kind, reason, message);
    say(Kind::Warning, "FailedPostStartHook", format!("PostStartHook failed: {why}"));
    say(Kind::Normal, "Killing", format!("FailedPostStartHook: container {} is killed", container.name));
    if let Err(error) = start.sandbox.signal(id, Signal::KILL).await {
        tracing::warn!(pod = name(pod), container = container.name, %error, "a container whose hook failed could not be killed");
    }
}

/// Forgets what of earlier runs nobody can ask for any more: all but the log and the message of the last one.
async fn retire(dir: &PodDir, container: &Container, start: &Start) {
    let Some(last) = start.restart.checked_sub(1) else { return };
    let id = |restart: u32| format!("{}-{restart}", container.name);
    if let Ok(run) = id(last).parse() {
        remove_run(start, &run).await;
    }
    let mut gone = vec![dir.writable(&id(last))];
    if let Some(before) = last.checked_sub(1) {
        gone.push(dir.termination_message(&id(before)));
        let log = dir.log(&container.name, before);
        gone.extend((1..5).map(|n| PathBuf::from(format!("{}.{n}", log.display()))));
        gone.push(log);
    }
    let removed = tokio::task::spawn_blocking(move || {
        for path in gone {
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            if let Err(error) = removed
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), %error, "what is left of an earlier run could not be removed");
            }
        }
    });
    if let Err(error) = removed.await {
        tracing::error!(%error, "removing what is left of an earlier run has failed");
    }
}

async fn remove_run(start: &Start, run: &ContainerId) {
    if let Err(error) = start.sandbox.remove_container(run).await {
        tracing::warn!(%run, %error, "an earlier run of a container could not be removed");
    }
}

/// What a container's status says its image is: where it can be had again, or its id if it comes from no registry.
fn image_id(record: &Record) -> String {
    record.digests.first().map_or_else(|| record.id.to_string(), Reference::to_string)
}

/// Directories and files that a run of a container needs.
fn prepare(dir: &PodDir, container: &Container, id: &str, restart: u32) -> Result<(), String> {
    let failed = |e: &dyn std::error::Error| chain(e);
    let logs = dir.log(&container.name, restart);
    for path in [dir.writable(id).as_path(), logs.parent().unwrap_or(dir.root())] {
        fs::create_dir_all(path).map_err(|e| format!("making {}: {e}", path.display()))?;
    }
    let message = dir.termination_message(id);
    let parent = message.parent().unwrap_or(dir.root());
    fs::create_dir_all(parent).map_err(|e| failed(&e))?;
    fs::write(&message, "").map_err(|e| failed(&e))?;
    std::os::unix::fs::chown(&message, host_id(0), host_id(0)).map_err(|e| failed(&e))?;
    fs::set_permissions(&message, std::os::unix::fs::PermissionsExt::from_mode(0o666)).map_err(|e| failed(&e))
}
