//! What all pods of the node share: the way to the API, engines, images, network, directories.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kube::Client;
use xebec_image::ImageService;
use xebec_network::link::Links;
use xebec_network::netns::Netns;
use xebec_sandbox::sandbox::{Engine, EngineKind};

use crate::events::Recorder;
use crate::objects::Objects;
use crate::pod::policy::Dangers;
use crate::registration::read;

/// Most processes and threads of a pod, on a machine that has room for many pods.
const POD_PROCESSES: u64 = 4096;

/// How many processes and threads a pod may have: so few that several pods that fork without end leave the machine, and
/// the user who runs it, room.
#[must_use]
pub fn pod_processes() -> u64 {
    const SHARE: u64 = 8;
    let own = rustix::process::getrlimit(rustix::process::Resource::Nproc).current;
    let most = [kernel_processes(), own].into_iter().flatten().min();
    most.map_or(POD_PROCESSES, |most| (most / SHARE).clamp(1, POD_PROCESSES))
}

/// How many processes and threads the kernel has room for; `None` if it does not tell.
pub(crate) fn kernel_processes() -> Option<u64> {
    let limit = |name: &str| read(&format!("/proc/sys/kernel/{name}")).parse::<u64>().ok();
    [limit("pid_max"), limit("threads-max")].into_iter().flatten().min()
}

/// The node, as pods see it.
pub struct Host {
    /// The node's name.
    pub name: String,
    /// The API, as this node.
    pub client: Client,
    /// What can isolate a pod here, the default first.
    pub engines: Vec<Arc<dyn Engine>>,
    /// Images.
    pub images: ImageService,
    /// Pods' links.
    pub links: Links,
    /// The node's network namespace, from which pods are dialled.
    pub netns: Netns,
    /// Where pods' volumes and logs are kept.
    pub pods: PathBuf,
    /// The cluster's DNS server.
    pub dns: std::net::IpAddr,
    /// The cluster's domain.
    pub domain: String,
    /// Says what happens to pods.
    pub events: Recorder,
    /// ConfigMaps and Secrets in pods' volumes.
    pub objects: Objects,
    /// How many processes a pod may have.
    pub pod_processes: u64,
    /// What pods may do that is refused elsewhere.
    pub dangers: Dangers,
}

impl Host {
    /// The node's address as pods and the API see it.
    #[must_use]
    pub fn ip(&self) -> String {
        self.links.gateway().to_string()
    }

    /// The engine of a kind.
    #[must_use]
    pub fn engine(&self, kind: EngineKind) -> Option<&Arc<dyn Engine>> {
        self.engines.iter().find(|e| e.kind() == kind)
    }

    /// The directory of a pod.
    #[must_use]
    pub fn pod_dir(&self, uid: &str) -> PodDir {
        PodDir { root: self.pods.join(uid) }
    }
}

/// Where the files of one pod are.
#[derive(Clone, Debug)]
pub struct PodDir {
    root: PathBuf,
}

impl PodDir {
    /// All of it.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A volume.
    #[must_use]
    pub fn volume(&self, name: &str) -> PathBuf {
        self.root.join("volumes").join(name)
    }

    /// Files that every container gets: `/etc/hosts`, `/etc/hostname`, `/etc/resolv.conf`.
    #[must_use]
    pub fn etc(&self) -> PathBuf {
        self.root.join("etc")
    }

    /// The writable layer of a run of a container.
    #[must_use]
    pub fn writable(&self, id: &str) -> PathBuf {
        self.root.join("containers").join(id)
    }

    /// The log of a run of a container.
    #[must_use]
    pub fn log(&self, container: &str, restart: u32) -> PathBuf {
        self.root.join("logs").join(container).join(format!("{restart}.log"))
    }

    /// The termination message of a run of a container.
    #[must_use]
    pub fn termination_message(&self, id: &str) -> PathBuf {
        self.root.join("termination").join(id)
    }
}
