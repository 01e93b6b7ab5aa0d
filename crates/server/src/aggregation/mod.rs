//! API servers of others behind this one (apiregistration.k8s.io/v1), and which server answers for a group and version.
//!
//! It owns what `APIService` objects mean: that requests of a group and version are passed on to a service, whether that is
//! available, what it offers, and in which order groups and versions are told of. It never decides whether a request is
//! allowed, which has been done before it is passed on; nothing that is passed on is admitted here.
//!
//! ```text
//!  APIServices ──read──▶ State ◀──── requests ask it ──▶ forward ──▶ the other server, which is told who asks
//!      ▲                   │
//!      ├── register: one for each group and version that is served here
//!      └── attend: is the service there, does it answer? ── offer ──▶ discovery and OpenAPI
//! ```
//!
//! Servers behind this one are shown a certificate of an authority that signs nothing else, and believe it who the user is;
//! the ConfigMap `extension-apiserver-authentication` tells them which authority that is.

mod attend;
pub(crate) mod forward;
#[cfg(fuzzing)]
pub mod fuzzing;
mod headers;
pub(crate) mod offer;
pub(crate) mod priority;
mod register;
mod service;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use xebec_api::{Value, object};
use xebec_store::{Prefix, Scope, Snapshot, StoreError, WatchError};

use self::offer::{Offer, Others};
pub(crate) use self::service::{Remote, Service};
use crate::auth::keys::{ClusterKeys, Credential, FRONT_PROXY, KeyError};
use crate::core::Core;
use crate::http::body::BoxError;

pub(crate) use self::attend::keep as attend;
pub(crate) use self::register::{built_in, keep as register, restored};

/// How many bytes the OpenAPI documents of version 2 of all API servers may have.
const MAX_DOCUMENTS: usize = 32 * 1024 * 1024;
pub(crate) const GROUP: &str = "apiregistration.k8s.io";
const ROOT: &str = "/registry/apiregistration.k8s.io/apiservices/";

/// How this server shows itself to others.
#[derive(Debug)]
pub(crate) struct FrontProxy {
    /// What it shows.
    identity: Credential,
    /// By which authority that is.
    ca_pem: String,
    /// The authority of clients' certificates.
    client_ca_pem: String,
}

impl FrontProxy {
    /// With a certificate made for this run.
    ///
    /// # Errors
    /// None can be made.
    pub(crate) fn new(keys: &ClusterKeys) -> Result<Self, KeyError> {
        Ok(Self {
            identity: keys.front_proxy_client()?,
            ca_pem: keys.front_proxy_ca_pem().to_owned(),
            client_ca_pem: keys.ca_pem().to_owned(),
        })
    }

    /// What others need to know in order to believe this server who asks.
    pub(crate) fn config_map(&self) -> Value {
        object!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"},
            "data": {
                "client-ca-file": (self.client_ca_pem.as_str()),
                "requestheader-allowed-names": (format!("[\"{FRONT_PROXY}\"]")),
                "requestheader-client-ca-file": (self.ca_pem.as_str()),
                "requestheader-extra-headers-prefix": "[\"X-Remote-Extra-\"]",
                "requestheader-group-headers": "[\"X-Remote-Group\"]",
                "requestheader-uid-headers": "[\"X-Remote-Uid\"]",
                "requestheader-username-headers": "[\"X-Remote-User\"]"
            }
        })
    }
}

/// The API services in force, and what is known of the servers behind them.
#[derive(Debug)]
pub(crate) struct Aggregation {
    front_proxy: FrontProxy,
    state: RwLock<Arc<State>>,
    /// Held by who makes the next state, so that a later one is of a later snapshot.
    changing: Mutex<()>,
    /// Told when API services, or what is served here, may have changed.
    changed: watch::Sender<()>,
    /// Told when a service behind an API service may have other endpoints.
    endpoints: watch::Sender<()>,
    /// What each server offers, by the name of the API service.
    offers: Mutex<HashMap<String, Arc<Offer>>>,
    /// Counts changes of what they have of OpenAPI's version 2.
    edition: AtomicU64,
}

/// All API services at one revision, by name.
#[derive(Debug, Default)]
pub(crate) struct State {
    services: Vec<Arc<Service>>,
    /// Those that other servers answer for, which are few.
    remote: Vec<Arc<Service>>,
}

impl Aggregation {
    pub(crate) fn new(front_proxy: FrontProxy) -> Self {
        Self {
            front_proxy,
            state: RwLock::default(),
            changing: Mutex::default(),
            changed: watch::Sender::new(()),
            endpoints: watch::Sender::new(()),
            offers: Mutex::default(),
            edition: AtomicU64::new(0),
        }
    }

    /// What this server shows to others.
    pub(crate) const fn front_proxy(&self) -> &FrontProxy {
        &self.front_proxy
    }

    /// Takes the API services that are stored.
    pub(crate) fn refresh(&self, core: &Core) {
        {
            let _turn = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
            let next = State::read(&core.store.snapshot(), &self.state(), &self.front_proxy.identity);
            let is_there = |name: &String, offer: &Offer| {
                next.named(name).is_some_and(|now| now.uid == offer.of && now.remote.is_some())
            };
            self.offers().retain(|name, offer| {
                let stays = is_there(name, offer);
                if !stays && offer.v2.is_some() {
                    self.edition.fetch_add(1, Ordering::Relaxed);
                }
                stays
            });
            *self.state.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        }
        self.changed.send_replace(());
    }

    /// What is served here may have changed.
    pub(crate) fn notify(&self) {
        self.changed.send_replace(());
    }

    /// The API services in force.
    pub(crate) fn state(&self) -> Arc<State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The API service by which another server answers for a group and version.
    pub(crate) fn behind(&self, group: &str, version: &str) -> Option<Arc<Service>> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.behind(group, version).cloned()
    }

    /// What the server behind an API service offers, as far as it is known.
    pub(crate) fn offer(&self, service: &Service) -> Option<Arc<Offer>> {
        self.offers().get(&service.name).filter(|offer| offer.of == service.uid).cloned()
    }

    fn offers(&self) -> MutexGuard<'_, HashMap<String, Arc<Offer>>> {
        self.offers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What other servers have of OpenAPI.
    pub(crate) fn others(&self) -> Others {
        let state = self.state();
        let mut services: Vec<&Arc<Service>> = state.remote.iter().collect();
        services.sort_by_key(|service| (Reverse(service.priority.group), Reverse(service.priority.version)));
        // The number comes first: what is made of newer documents under an older number is made again.
        let mut others = Others { edition: self.edition.load(Ordering::Relaxed), ..Others::default() };
        for offer in services.into_iter().filter_map(|service| self.offer(service)) {
            others.v2.extend(offer.v2.as_ref().map(|part| part.document.clone()));
            others.v3.extend(offer.v3.iter().map(|(key, hash)| (key.clone(), hash.clone())));
        }
        others
    }

    fn keep_offer(&self, service: &Service, mut offer: Offer) {
        // A service that has gone meanwhile offers nothing.
        if self.state().named(&service.name).is_none_or(|now| now.uid != service.uid) {
            return;
        }
        let mut offers = self.offers();
        let others = offers.iter().filter(|(name, _)| **name != service.name);
        let kept: usize = others.filter_map(|(_, offer)| Some(offer.v2.as_ref()?.size)).sum();
        if offer.v2.as_ref().is_some_and(|part| kept + part.size > MAX_DOCUMENTS) {
            tracing::warn!(
                name = service.name,
                limit = MAX_DOCUMENTS,
                "an OpenAPI document is left out, as those of all API servers have more bytes than the limit"
            );
            offer.v2 = None;
        }
        let document = |offer: &Offer| offer.v2.as_ref().map(|part| part.document.clone());
        let before = offers.get(&service.name).and_then(|offer| document(offer));
        if before != document(&offer) {
            self.edition.fetch_add(1, Ordering::Relaxed);
        }
        offers.insert(service.name.clone(), Arc::new(offer));
    }
}

impl State {
    fn read(snapshot: &Snapshot, last: &Self, identity: &Credential) -> Self {
        let mut state = Self::default();
        for record in snapshot.range(&prefix(), None) {
            let known = last.services.iter().find(|s| s.key == *record.key());
            let service = match known.filter(|s| s.revision == record.mod_revision()) {
                Some(service) => service.clone(),
                None => match Service::read(record, known.map(AsRef::as_ref), identity) {
                    Ok(service) => Arc::new(service),
                    Err(error) => {
                        tracing::error!(key = %record.key().as_str(), %error, "a stored APIService cannot be read");
                        continue;
                    }
                },
            };
            // This group is where API services are, and cannot be given away.
            if service.remote.is_some() && service.group != GROUP {
                state.remote.push(service.clone());
            }
            state.services.push(service);
        }
        state
    }

    /// All API services.
    pub(crate) fn services(&self) -> &[Arc<Service>] {
        &self.services
    }

    /// Those that other servers answer for.
    pub(crate) fn remote(&self) -> &[Arc<Service>] {
        &self.remote
    }

    pub(crate) fn named(&self, name: &str) -> Option<&Arc<Service>> {
        self.services.iter().find(|service| service.name == name)
    }

    fn behind(&self, group: &str, version: &str) -> Option<&Arc<Service>> {
        self.remote.iter().find(|service| service.group == group && service.version == version)
    }
}

fn prefix() -> Prefix {
    Prefix::new(ROOT.to_owned()).expect("a short path without odd characters is a prefix")
}

/// How long it takes until a watch that failed begins anew.
const PAUSE: Duration = Duration::from_secs(1);

/// Takes API services that others write, until `shutdown`.
pub(crate) async fn follow(core: Arc<Core>, shutdown: CancellationToken) {
    until_stopped(&shutdown, "API services", || keep_up(&core)).await;
}

/// Follows something again and again until `shutdown`.
async fn until_stopped<F>(shutdown: &CancellationToken, what: &str, follow: impl Fn() -> F)
where
    F: Future<Output = Result<(), BoxError>>,
{
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            ended = follow() => match ended {
                // There is nothing to follow any more.
                Ok(()) => return shutdown.cancelled().await,
                Err(error) => tracing::warn!(%error, "{what} cannot be followed: all are read anew"),
            },
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

async fn keep_up(core: &Core) -> Result<(), BoxError> {
    let since = core.store.snapshot().revision();
    let mut watch = match core.store.watch(Scope::Prefix(prefix()), since) {
        Err(StoreError::Closed) => return Ok(()),
        opened => opened?,
    };
    core.aggregation.refresh(core);
    loop {
        match watch.next().await {
            Ok(_) => core.aggregation.refresh(core),
            Err(WatchError::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
