//! An API server in this process: real keys, real store, a real socket, and a clock that tests can move.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use xebec_api::object;
use xebec_api::time::Timestamp;
use xebec_server::auth::keys::{ClusterKeys, Credential};
use xebec_server::config::Settings;
use xebec_server::core::Clock;
use xebec_server::nodes::{NoNodes, NodeConnector};
use xebec_server::server::{ApiServer, Parts};
use xebec_store::{Embedded, EmbeddedOptions, Store};

use crate::client::{self, Call, Client};

/// The machine's clock, and how far tests have moved it.
#[derive(Debug, Default)]
pub(crate) struct MovedClock {
    seconds: AtomicU64,
    broken: AtomicBool,
}

impl MovedClock {
    pub(crate) fn advance(&self, by: Duration) {
        self.seconds.fetch_add(by.as_secs(), Ordering::Relaxed);
    }

    /// Panics when it is looked at next.
    pub(crate) fn breaks_once(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }
}

impl Clock for MovedClock {
    fn now(&self) -> Timestamp {
        assert!(!self.broken.swap(false, Ordering::Relaxed), "the clock is broken, as the test wants");
        let ahead = Duration::from_secs(self.seconds.load(Ordering::Relaxed));
        Timestamp::from_system(SystemTime::now() + ahead)
    }
}

/// An API server that listens on the loopback until it is dropped.
pub(crate) struct Cluster {
    pub(crate) server: ApiServer,
    pub(crate) keys: ClusterKeys,
    pub(crate) clock: Arc<MovedClock>,
    address: SocketAddr,
    serving: JoinHandle<()>,
    dir: TempDir,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::start_with(Settings::default()).await
    }

    pub(crate) async fn start_with(settings: Settings) -> Self {
        Self::start_among(settings, Arc::new(NoNodes)).await
    }

    /// A server whose pods and services are reached over a network of the test's own.
    pub(crate) async fn start_among(settings: Settings, nodes: Arc<dyn NodeConnector>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let store =
            Embedded::open(&dir.path().join("store"), EmbeddedOptions::default()).expect("an empty store");
        Self::start_with_all(Arc::new(store), dir, settings, nodes).await
    }

    /// A server on a store, with the keys in `dir`, which are made when there are none.
    pub(crate) async fn start_on(store: Arc<dyn Store>, dir: TempDir, settings: Settings) -> Self {
        Self::start_with_all(store, dir, settings, Arc::new(NoNodes)).await
    }

    async fn start_with_all(
        store: Arc<dyn Store>,
        dir: TempDir,
        settings: Settings,
        nodes: Arc<dyn NodeConnector>,
    ) -> Self {
        let keys =
            ClusterKeys::open(&dir.path().join("pki"), &ring::rand::SystemRandom::new()).expect("keys");
        let clock = Arc::new(MovedClock::default());
        let parts = Parts { store, nodes, clock: clock.clone(), settings };
        let server = ApiServer::new(parts, &keys).expect("usable keys");
        server.start().await.expect("an empty store takes the first objects");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let credential = keys.serving(&["localhost"], &[address.ip()]).expect("a certificate");
        let serving = tokio::spawn({
            let server = server.clone();
            async move { server.serve(listener, &credential).await.expect("a usable certificate") }
        });
        Self { server, keys, clock, address, serving, dir }
    }

    /// A client with the certificate of a member of `system:masters`.
    pub(crate) async fn admin(&self) -> Client {
        self.user("admin", Some("system:masters")).await
    }

    /// A client with a certificate of the cluster's.
    pub(crate) async fn user(&self, name: &str, group: Option<&str>) -> Client {
        let credential = self.keys.client(name, group).expect("a certificate");
        self.connect(Some(&credential)).await
    }

    /// A client with any certificate, or none.
    pub(crate) async fn connect(&self, credential: Option<&Credential>) -> Client {
        Client::connect(self.address, self.keys.ca_pem(), credential).await
    }

    /// A connection of a member of `system:masters` that speaks another protocol after an upgrade.
    pub(crate) async fn upgrade(&self, protocol: &str, path: &str) -> Result<TokioIo<Upgraded>, String> {
        let credential = self.keys.client("admin", Some("system:masters")).expect("a certificate");
        client::upgrade(self.address, self.keys.ca_pem(), &credential, protocol, path).await
    }

    /// Where the cluster's keys are.
    pub(crate) fn pki(&self) -> std::path::PathBuf {
        Path::new(self.dir.path()).join("pki")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Lets a user, who may do nothing yet, do everything in the namespace `default`.
pub(crate) async fn trust(admin: &Client, user: &Client, name: &str) {
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    let group = "rbac.authorization.k8s.io";
    let role = object!({
        "metadata": {"name": name}, "rules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]
    });
    let binding = object!({
        "metadata": {"name": name}, "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
        "subjects": [{"apiGroup": group, "kind": "User", "name": name}]
    });
    for (path, object) in [("roles", role), ("rolebindings", binding)] {
        let answer = admin.send(Call::post(format!("{rbac}/{path}"), &object)).await;
        assert_eq!(answer.code, 201, "{}", answer.text());
    }
    settle(user, "/api/v1/namespaces/default/configmaps").await;
}

/// Waits until the server has taken note of the roles: until `path` may be read.
pub(crate) async fn settle(client: &Client, path: &str) {
    let noted = async {
        while client.get(path).await.code == 403 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), noted).await.expect("roles hold soon");
}
