//! A cluster from its start to its end.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use kube::Client;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use xebec_control_plane::{Components, Options, kubeconfig, roles};
use xebec_controllers::runtime::informer::Informers;
use xebec_controllers::runtime::tasks::{Tasks, guard};
use xebec_server::ApiServer;
use xebec_server::audit::{AuditSettings, LogSettings};
use xebec_server::auth::User;
use xebec_server::auth::keys::ClusterKeys;
use xebec_server::config::Settings;
use xebec_server::nodes::NoNodes;
use xebec_server::server::Parts;
use xebec_store::Memory;
use xebec_store::limits::Limits;

use crate::builder::{Builder, Plan, Socket};
use crate::clock::{ClusterClock, MovedClock};
use crate::error::{StartError, StopError};
use crate::faults::{Faults, FaultyService};
use crate::node::{NodeBuilder, NodeInner};

/// The user of [`Cluster::client`].
const ADMIN: &str = "kubernetes-admin";
/// How large the audit log of a test may become, in bytes; of what is more the oldest half is lost.
const AUDIT_BYTES: u64 = 256 * 1024 * 1024;

/// The service account of pods that name none, in `default`.
const SERVICE_ACCOUNT: &str = "{apiVersion: v1, kind: ServiceAccount, metadata: {name: default}}";

/// A control plane in this process. It ends with [`Cluster::stop`], or when it is dropped.
///
/// Clusters share nothing: any number run beside each other.
pub struct Cluster {
    server: ApiServer,
    keys: Arc<ClusterKeys>,
    clock: Arc<MovedClock>,
    faults: Faults,
    tasks: Tasks,
    informers: Option<Informers>,
    shutdown: CancellationToken,
    /// The first part that failed.
    lost: watch::Sender<Option<String>>,
    nodes: Mutex<BTreeMap<String, Arc<NodeInner>>>,
    kubeconfig: Option<String>,
    audit: Option<TempDir>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("tasks", &self.tasks.running()).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Starts a cluster with all controllers and the scheduler, without nodes. Must run inside a tokio runtime with its
    /// timers on.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub async fn start() -> Result<Self, StartError> {
        Self::builder().start().await
    }

    /// A cluster with other choices.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) async fn start_as(plan: Plan) -> Result<Self, StartError> {
        let keys = Arc::new(ClusterKeys::ephemeral(&ring::rand::SystemRandom::new())?);
        let clock = Arc::new(MovedClock::default());
        let listener = match plan.socket {
            Socket::None => None,
            Socket::Loopback => Some(listen().await?),
        };
        let audit = plan.audit.map(audit).transpose().map_err(StartError::Audit)?;
        let (audit, directory) = audit.unzip();
        let mut settings = Settings { audit, component_roles: roles::all(), ..Settings::default() };
        if let Some((_, url)) = &listener {
            settings.url.clone_from(url);
        }
        let parts = Parts {
            store: Arc::new(Memory::new(&Limits::default())),
            nodes: Arc::new(NoNodes),
            clock: clock.clone(),
            settings,
        };
        let server = ApiServer::new(parts, &keys)?;
        server.start().await?;
        let mut cluster = Self {
            server,
            keys,
            clock,
            faults: Faults::default(),
            tasks: Tasks::default(),
            informers: None,
            shutdown: CancellationToken::new(),
            lost: watch::Sender::default(),
            nodes: Mutex::default(),
            kubeconfig: None,
            audit: directory,
        };
        cluster.follow_server();
        if let Some((listener, url)) = listener {
            cluster.serve(listener, &url)?;
        }
        // Without it there is no pod in the namespace; in others the controller makes it.
        cluster.apply(SERVICE_ACCOUNT).await?;
        cluster.run_components(plan.controllers, plan.scheduler);
        for manifest in plan.manifests {
            cluster.apply(&manifest).await?;
        }
        Ok(cluster)
    }

    fn run_components(&mut self, controllers: xebec_controllers::Chosen, scheduler: bool) {
        let options = Options { clock: self.clock.clone(), controllers };
        let components = Components::new(&self.server, &self.keys, options);
        self.informers = Some(components.informers());
        let run = components.controllers(self.shutdown.clone());
        let lost = self.lost.clone();
        self.tasks.spawn("the controllers", async move { run.await.unwrap_or_else(|e| lose(&lost, e)) });
        if scheduler {
            let run = components.scheduler(self.shutdown.clone());
            let lost = self.lost.clone();
            self.tasks.spawn("the scheduler", async move { run.await.unwrap_or_else(|e| lose(&lost, e)) });
        }
    }

    fn follow_server(&mut self) {
        let (server, lost, shutdown) = (self.server.clone(), self.lost.clone(), self.shutdown.clone());
        self.tasks.spawn("the follower of the server", async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                how = server.lost() => lose(&lost, how),
            }
        });
    }

    fn serve(&mut self, listener: TcpListener, url: &str) -> Result<(), StartError> {
        let credential = self.keys.serving(&["localhost"], &[IpAddr::V4(Ipv4Addr::LOCALHOST)])?;
        self.kubeconfig = Some(kubeconfig::administrator(&self.keys, url)?);
        let (server, lost) = (self.server.clone(), self.lost.clone());
        self.tasks.spawn("the API's listener", async move {
            server.serve(listener, &credential).await.unwrap_or_else(|error| lose(&lost, error));
        });
        Ok(())
    }

    /// A client that may do everything (`kubernetes-admin`, of `system:masters`); its namespace is `default`.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client_of(User::component(ADMIN, &["system:masters"]))
    }

    /// A client that acts as another user, who may do what RBAC allows; nothing by default. For a service account use its user
    /// name, `system:serviceaccount:NAMESPACE:NAME`, and the groups `system:serviceaccounts` and
    /// `system:serviceaccounts:NAMESPACE`.
    #[must_use]
    pub fn user(&self, name: &str, groups: &[&str]) -> Client {
        self.client_of(User::component(name, groups))
    }

    fn client_of(&self, user: User) -> Client {
        let (faults, ended) = (self.faults.clone(), self.shutdown.clone());
        Client::new(FaultyService::new(self.server.local(user), faults, ended), "default")
    }

    /// A client that no fault befalls.
    pub(crate) fn steady_client(&self) -> Client {
        self.steady_client_of(User::component(ADMIN, &["system:masters"]))
    }

    pub(crate) fn steady_client_of(&self, user: User) -> Client {
        xebec_control_plane::client(&self.server, user)
    }

    /// The cluster's clock, which the test can move.
    #[must_use]
    pub fn clock(&self) -> ClusterClock<'_> {
        ClusterClock { cluster: self }
    }

    /// What goes wrong between the cluster and the clients of [`Cluster::client`] and [`Cluster::user`], also those made
    /// before. The cluster's own parts, and whoever comes by the socket, are spared.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// A simulated node, which [`NodeBuilder::ready`] makes: pods that are bound to it run, or do what the test says.
    pub fn node(&self, name: &str) -> NodeBuilder<'_> {
        NodeBuilder::new(self, name)
    }

    /// The text of a kubeconfig for kubectl and other processes, if the cluster was built with [`Builder::serve_tls`]. It
    /// makes them administrators.
    #[must_use]
    pub fn kubeconfig(&self) -> Option<&str> {
        self.kubeconfig.as_deref()
    }

    /// The events of the audit log so far (`audit.k8s.io/v1`), oldest first, if the cluster was built with
    /// [`Builder::audit`]; none otherwise.
    ///
    /// # Errors
    /// The temporary file cannot be read.
    pub async fn audit_events(&self) -> std::io::Result<Vec<serde_json::Value>> {
        let Some(directory) = &self.audit else { return Ok(Vec::new()) };
        self.server.flush_audit().await;
        let text = tokio::fs::read_to_string(audit_path(directory)).await?;
        let events = text.lines().map(serde_json::from_str).collect::<Result<_, _>>();
        events.map_err(std::io::Error::other)
    }

    /// Waits until a part of the cluster fails, and says which and how.
    pub async fn lost(&self) -> StopError {
        let mut lost = self.lost.subscribe();
        let told = lost.wait_for(Option::is_some).await;
        let lost = told.expect("its sender is in here").clone().expect("it was waited for");
        StopError { lost }
    }

    /// Ends everything, and waits for it: when this returns no task of the cluster is left. Clients that the test still has
    /// are refused from then on.
    ///
    /// # Errors
    /// A part had failed before; which one, and how.
    pub async fn stop(mut self) -> Result<(), StopError> {
        self.shutdown.cancel();
        self.server.stop().await;
        for failure in self.tasks.failures().await {
            lose(&self.lost, failure);
        }
        if let Some(informers) = self.informers.take() {
            informers.stop().await;
        }
        self.server.core().store.shutdown().await;
        let lost = self.lost.borrow().clone();
        lost.map_or(Ok(()), |lost| Err(StopError { lost }))
    }

    pub(crate) fn moved_clock(&self) -> &Arc<MovedClock> {
        &self.clock
    }

    pub(crate) fn server(&self) -> &ApiServer {
        &self.server
    }

    /// Runs something until the cluster ends; that it should end before, or panic, counts as a loss.
    pub(crate) fn run_beside(&self, name: String, work: impl Future<Output = ()> + Send + 'static) {
        let (shutdown, lost) = (self.shutdown.clone(), self.lost.clone());
        self.server.core().tasks.spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                how = guard(name, work) => lose(&lost, how),
            }
        });
    }

    pub(crate) fn nodes(&self) -> &Mutex<BTreeMap<String, Arc<NodeInner>>> {
        &self.nodes
    }

    /// The simulated nodes that are not silent.
    pub(crate) fn speaking_nodes(&self) -> Vec<Arc<NodeInner>> {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.values().filter(|node| node.speaks()).cloned().collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The tasks of the server end by themselves then; all others are aborted with `tasks` and the caches.
        self.shutdown.cancel();
        self.server.begin_stop();
    }
}

/// Notes the first part that failed.
pub(crate) fn lose(lost: &watch::Sender<Option<String>>, how: impl fmt::Display) {
    lost.send_if_modified(|first| {
        let is_first = first.is_none();
        first.get_or_insert_with(|| how.to_string());
        is_first
    });
}

async fn listen() -> Result<(TcpListener, String), StartError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(StartError::Listen)?;
    let address = listener.local_addr().map_err(StartError::Listen)?;
    Ok((listener, format!("https://{address}")))
}

fn audit(policy: xebec_server::audit::Policy) -> std::io::Result<(AuditSettings, TempDir)> {
    let directory = tempfile::tempdir()?;
    let log =
        LogSettings { path: audit_path(&directory), max_bytes: AUDIT_BYTES, backups: 0, blocking: true };
    Ok((AuditSettings { policy, log }, directory))
}

fn audit_path(directory: &TempDir) -> PathBuf {
    directory.path().join("audit.log")
}
