//! The server process: API server, controllers, scheduler and node agent, put together.

mod command;
mod local_node;
mod log;
mod notes;
mod progress;

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use xebec_control_plane::{self as control_plane, Components, client, roles, turns};
use xebec_controllers::runtime::informer::Informers;
use xebec_controllers::runtime::tasks::Tasks;
use xebec_image::ImageService;
use xebec_image::service::ServiceConfig;
use xebec_network::egress::{Egress, HostAddresses};
use xebec_network::netns::Netns;
use xebec_network::node::{NodeConfig, NodeNetwork};
use xebec_network::proxy::ports::Site;
use xebec_node::access::Access;
use xebec_node::events::Recorder;
use xebec_node::host::{Host, pod_processes};
use xebec_node::manager::{self, Pods};
use xebec_node::objects::Objects;
use xebec_node::registration::{self, Facts};
use xebec_node::services::{self, Network};
use xebec_node::streams::AgentService;
use xebec_sandbox::bootstrap::{EXIT_FATAL, KeeperInfo};
use xebec_sandbox::engines::{GvisorEngine, OciEngine, Runtime};
use xebec_sandbox::sandbox::Engine;
use xebec_server::ApiServer;
use xebec_server::auth::keys::ClusterKeys;
use xebec_server::config::Settings;
use xebec_server::core::SystemClock;
use xebec_server::discovery::KUBERNETES_VERSION;
use xebec_server::server::Parts;
use xebec_store::{Health as StoreHealth, Store};

use crate::args::{Place, Serve};
use crate::control::{Pids, Status};
use crate::kubeconfig;
use crate::layout::Layout;
use local_node::{LocalNode, PodNetwork};
use notes::{Notes, Topic};

/// How many threads the asynchronous runtime has.
const WORKERS: usize = 2;

/// How long streams to pods may take to end when the server stops.
const STREAMS_END: Duration = Duration::from_secs(5);

/// How long what ends when the server stops may take: what passes streams on, all parts together, the
/// controllers' caches, the store, and what blocks a thread. Together less than the keeper waits.
const TUNNELS_END: Duration = Duration::from_secs(6);
const PARTS_END: Duration = Duration::from_secs(15);
const CACHES_END: Duration = Duration::from_secs(1);
const STORE_END: Duration = Duration::from_secs(15);
const THREADS_END: Duration = Duration::from_secs(2);

/// How long the way out of the cluster rests before it is opened again.
const WAY_OUT_PAUSE: Duration = Duration::from_secs(1);

/// Serves until told to stop.
pub(crate) fn run(place: &Place, options: &Serve) -> Result<ExitCode> {
    let _last_lines = log::start().context("starting the log")?;
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let outcome = runtime.block_on(serve(place, options));
    // What still blocks, as a name that is looked up, has nobody waiting for it any more.
    runtime.shutdown_timeout(THREADS_END);
    match outcome {
        Ok(code) => Ok(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            // Whatever kept it from starting will keep it again: the keeper need not try.
            Ok(ExitCode::from(EXIT_FATAL))
        }
    }
}

/// Waits for something that was told to end, for so long; whether it did.
async fn ends(what: &str, limit: Duration, ending: impl Future<Output = ()>) -> bool {
    let ended = tokio::time::timeout(limit, ending).await.is_ok();
    if !ended {
        tracing::error!(what, ?limit, "something does not end in time and is cut off");
    }
    ended
}

/// Connections, watches and pods each take descriptors, and the usual soft limit of 1,024 is for programs that cannot
/// count further.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

async fn serve(place: &Place, options: &Serve) -> Result<ExitCode> {
    let layout = Layout::find(place)?;
    let _lock = layout.try_lock()?.context("another xebec is using the data directory")?;
    let keeper = KeeperInfo::load(&layout.run()).context("reading what the keeper recorded")?;
    let keys = Arc::new(ClusterKeys::open(&options.store.pki(&layout), &ring::rand::SystemRandom::new())?);
    let url = format!("https://{}", options.bind);
    let nodes = Arc::new(LocalNode::default());
    let settings = Settings {
        url: url.clone(),
        audit: Some(options.audit.settings(&layout)?),
        component_roles: roles::all(),
        pod_security: options.pod_security_default.policy(),
        shutdown_delay: Duration::from_secs(options.shutdown_delay),
        ..Settings::default()
    };
    let encryption = keys.encryption().covering(options.encryption.coverage()?);
    let settings = options.identity.apply(settings)?;
    let store = options.store.open(&layout, &keys, encryption.encryption()).await?;
    let server = api_server(store, &keys, settings, nodes.clone())?;
    server.start().await?;
    let listener =
        TcpListener::bind(options.bind).await.with_context(|| format!("listening on {}", options.bind))?;
    let mut cluster = Cluster::default();
    let (images, api) = Box::pin(cluster.start_node(&layout, &keeper, &server, &nodes, options)).await?;
    cluster.start_api(&server, &keys, listener, api, options.bind.ip())?;
    if options.store.is_shared() {
        cluster.elect(&server, &keys, options)?;
    } else {
        cluster.start_controllers(&server, &keys);
    }
    kubeconfig::write(&layout, &keys, &url)?;
    let control = control_socket(&layout)?;
    let health = Health {
        server: url,
        kubeconfig: layout.kubeconfig(),
        keeper: keeper.host_pid,
        notes: cluster.notes.clone(),
        store: server.core().store.clone(),
    };
    let shutdown = cluster.shutdown.clone();
    cluster.parts.spawn(
        "the control socket",
        command::serve(
            control,
            command::Parts { health, images, server: server.clone(), encryption },
            shutdown,
        ),
    );
    let code = tokio::select! {
        asked = stop_signal() => {
            asked?;
            server.drain().await;
            ExitCode::SUCCESS
        }
        lost = cluster.parts.lost() => start_over(&lost.to_string()),
        lost = server.lost() => start_over(&lost),
    };
    tracing::info!("stopping");
    cluster.stop(&server).await;
    Ok(code)
}

/// Half a server helps nobody: the keeper starts a whole one.
fn start_over(lost: &str) -> ExitCode {
    tracing::error!("{lost}; the server ends, to be started again");
    ExitCode::FAILURE
}

fn control_socket(layout: &Layout) -> Result<UnixListener> {
    let socket = layout.control_socket();
    match std::fs::remove_file(&socket) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(e).context("removing the old control socket");
        }
        _ => {}
    }
    UnixListener::bind(&socket).with_context(|| format!("listening on {}", socket.display()))
}

fn api_server(
    store: Arc<dyn Store>,
    keys: &ClusterKeys,
    settings: Settings,
    nodes: Arc<LocalNode>,
) -> Result<ApiServer> {
    let parts = Parts { store, nodes, clock: Arc::new(SystemClock), settings };
    Ok(ApiServer::new(parts, keys)?)
}

/// Waits for the keeper to ask for the end.
async fn stop_signal() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("watching for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("watching for signals")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// What `xebec status` is made of.
#[derive(Clone)]
struct Health {
    server: String,
    kubeconfig: PathBuf,
    keeper: u32,
    notes: Notes,
    store: Arc<dyn Store>,
}

impl Health {
    /// As it is now.
    fn status(&self) -> Status {
        match self.store.health() {
            StoreHealth::ReadOnly { fault, .. } => {
                self.notes.set(Topic::Store, format!("the store is read only: {fault}"));
            }
            _ => self.notes.clear(Topic::Store),
        }
        Status {
            ready: true,
            server: self.server.clone(),
            kubeconfig: self.kubeconfig.clone(),
            pids: Pids { keeper: self.keeper, server: None },
            version: env!("CARGO_PKG_VERSION").into(),
            notes: self.notes.list(),
        }
    }
}

#[derive(Default)]
struct Cluster {
    parts: Tasks,
    shutdown: CancellationToken,
    notes: Notes,
    /// The caches of all controllers.
    informers: Option<Informers>,
}

impl Cluster {
    async fn start_node(
        &mut self,
        layout: &Layout,
        keeper: &KeeperInfo,
        server: &ApiServer,
        nodes: &LocalNode,
        options: &Serve,
    ) -> Result<(ImageService, TcpListener)> {
        let config = NodeConfig::new(keeper.node_netns.clone());
        let NodeNetwork { node, links, rules, host: addresses, ports, dns, api } =
            NodeNetwork::start(&config).await.context("starting the pods' network")?;
        let ranges = [config.link.cluster_range, config.link.service_range];
        nodes.opens(PodNetwork { netns: node.clone(), ranges });
        let rules = match rules {
            Ok(rules) => Some(rules),
            Err(error) => {
                self.notes.set(Topic::Services, format!("service addresses do not work: {error}"));
                None
            }
        };
        self.open_way_out(node.clone()).await;
        let images =
            ImageService::open(ServiceConfig::new(layout.images())).await.context("opening the images")?;
        if !keeper.limits.memory {
            self.notes.set(
                Topic::Limits,
                "memory limits are not enforced: no control group (version 2) is delegated to this user; on systems \
                 with systemd, start it as: systemd-run --user --scope -p Delegate=yes xebec up",
            );
        }
        let name = node_name(options);
        let client = client(server, roles::node(&name));
        let runtime = || Runtime {
            run_dir: layout.run(),
            shim_args: vec![OsString::from("shim")],
            limits: keeper.limits,
        };
        let engines: Vec<Arc<dyn Engine>> =
            vec![Arc::new(OciEngine::new(runtime())), Arc::new(GvisorEngine::new(runtime()))];
        let (events, writing) = Recorder::new(client.clone(), name.clone(), self.shutdown.clone());
        let gateway = links.gateway();
        let host = Arc::new(Host {
            name: name.clone(),
            client: client.clone(),
            engines,
            images: images.clone(),
            links,
            netns: node,
            pods: layout.pods(),
            dns: config.dns,
            domain: config.domain.clone(),
            events,
            objects: Objects::new(client.clone()),
            pod_processes: pod_processes(),
            dangers: options.dangers(),
        });
        let facts = Facts {
            name: name.clone(),
            ip: gateway.to_string(),
            pod_cidr: config.link.pod_range.to_string(),
            version: KUBERNETES_VERSION.into(),
            disk: layout.root().to_owned(),
        };
        registration::register(&client, &facts).await.context("registering this node")?;
        let network = Network {
            rules,
            host: self.follow_host(addresses),
            ports,
            places: vec![(Site::Host, IpAddr::V4(Ipv4Addr::LOCALHOST)), (Site::Node, gateway)],
            dns,
            config,
            node: name,
        };
        self.parts.spawn("the writer of events", writing);
        let beats = registration::keep_alive(client.clone(), facts, self.shutdown.clone());
        self.parts.spawn("the node's heartbeat", beats);
        let pods = Arc::new(Pods::default());
        let access = Access::new(host.clone(), pods.clone(), self.shutdown.clone());
        let agent = AgentService::new(Arc::new(access));
        nodes.set(host.name.clone(), agent.clone());
        let shutdown = self.shutdown.clone();
        self.parts.spawn("streams to pods", async move {
            shutdown.cancelled().await;
            if !agent.shutdown(STREAMS_END).await {
                tracing::warn!("streams to pods are cut off");
            }
        });
        self.parts.spawn("the node's pods", manager::run(host, pods, self.shutdown.clone()));
        let client = self::client(server, roles::proxy());
        self.parts.spawn("the node's services", services::run(client, network, self.shutdown.clone()));
        Ok((images, api))
    }

    /// Follows the host's addresses; if they cannot be followed any more, the server starts over.
    fn follow_host(&mut self, addresses: HostAddresses) -> watch::Receiver<Vec<IpAddr>> {
        let (tell, told) = watch::channel(Vec::new());
        self.parts.spawn("the follower of the host's addresses", async move {
            if let Err(error) = addresses.follow(tell).await {
                tracing::error!(%error, "the host's addresses, from which pods are kept away, cannot be followed");
            }
        });
        told
    }

    /// Lets pods out of the cluster where that can be had. When the way is lost, it is opened again, until that fails.
    async fn open_way_out(&mut self, node: Netns) {
        let mut egress = Egress::start(&node).await;
        let (notes, shutdown) = (self.notes.clone(), self.shutdown.clone());
        if let Egress::Unavailable { reason } = &egress {
            return notes.set(Topic::Egress, reason.clone());
        }
        let keeping = async move {
            while let Egress::Available(way) = &egress {
                let outcome = way.lost().await;
                tracing::warn!(?outcome, "the way out of the cluster is lost, it is opened again");
                tokio::time::sleep(WAY_OUT_PAUSE).await;
                egress = Egress::start(&node).await;
            }
            if let Egress::Unavailable { reason } = egress {
                notes.set(Topic::Egress, reason);
            }
            std::future::pending::<()>().await;
        };
        self.parts.spawn("the way out of the cluster", async move {
            shutdown.run_until_cancelled(keeping).await;
        });
    }

    /// Ends everything, in the order in which it depends on each other.
    async fn stop(mut self, server: &ApiServer) {
        self.shutdown.cancel();
        ends("what passes streams on", TUNNELS_END, server.stop()).await;
        let parts = async {
            self.parts.failures().await.iter().for_each(|failure| tracing::error!("{failure}"));
        };
        if !ends("the parts of the server", PARTS_END, parts).await {
            tracing::error!(parts = ?self.parts.running(), "these do not end");
        }
        if let Some(informers) = self.informers {
            ends("the controllers' caches", CACHES_END, informers.stop()).await;
        }
        ends("the store", STORE_END, server.core().store.shutdown()).await;
    }

    fn start_api(
        &mut self,
        server: &ApiServer,
        keys: &ClusterKeys,
        listener: TcpListener,
        inside: TcpListener,
        bind: IpAddr,
    ) -> Result<()> {
        let names = [
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ];
        let addresses = [bind, IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V4(Ipv4Addr::new(10, 43, 0, 1))];
        let credential = Arc::new(keys.serving(&names, &addresses)?);
        for listener in [listener, inside] {
            let (server, credential) = (server.clone(), credential.clone());
            self.parts.spawn("the API's listener", async move {
                if let Err(error) = server.serve(listener, &credential).await {
                    tracing::error!(%error, "the API cannot be served");
                }
            });
        }
        Ok(())
    }

    /// Runs controllers and scheduler while this server leads.
    fn elect(&mut self, server: &ApiServer, keys: &Arc<ClusterKeys>, options: &Serve) -> Result<()> {
        let identity =
            format!("{}_{}", node_name(options), server.core().new_uid().map_err(|s| anyhow!(s.message))?);
        let controllers =
            turns::controllers(server.clone(), keys.clone(), identity.clone(), self.shutdown.clone());
        self.parts.spawn("the controllers", controllers);
        let scheduler = turns::scheduler(server.clone(), identity, self.shutdown.clone());
        self.parts.spawn("the scheduler", scheduler);
        Ok(())
    }

    fn start_controllers(&mut self, server: &ApiServer, keys: &Arc<ClusterKeys>) {
        let components = Components::new(server, keys, control_plane::Options::default());
        self.informers = Some(components.informers());
        self.parts.spawn("the controllers", turns::tell(components.controllers(self.shutdown.clone())));
        self.parts.spawn("the scheduler", turns::tell(components.scheduler(self.shutdown.clone())));
    }
}

/// What the node is called.
fn node_name(options: &Serve) -> String {
    options.store.node_name().map_or_else(hostname, str::to_owned)
}

/// The machine's name, as a node may be called.
fn hostname() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    let clean: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c } else { '-' })
        .collect();
    let trimmed = clean.trim_matches(['-', '.']);
    if trimmed.is_empty() { "node".into() } else { trimmed.to_owned() }
}
