//! ConfigMaps and Secrets that running pods have in their volumes: one watch for each, shared by all pods that use it.
//!
//! Only what is asked for is watched, and only as long as somebody holds an [`Interest`]. What is known is the data as
//! the API has it now; nobody is told of every step between.

use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::Api;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// How long the first answer about an object may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What an object holds, by key.
pub type Data = BTreeMap<String, Vec<u8>>;

/// The kinds of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A `ConfigMap`.
    ConfigMap,
    /// A `Secret`.
    Secret,
}

impl Kind {
    /// As messages name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConfigMap => "configmap",
            Self::Secret => "secret",
        }
    }
}

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What is known of an object.
#[derive(Clone, Debug)]
enum Seen {
    Unknown,
    Absent,
    Present(Arc<Data>),
}

/// An object cannot be looked at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {name:?} was not seen within {seconds} s; the server's log says why", kind = .0.kind.as_str(), name = .0.name, seconds = PATIENCE.as_secs())]
pub struct Unseen(Key);

struct Watched {
    seen: watch::Receiver<Seen>,
    /// The watch ends with the last interest.
    _task: AbortOnDropHandle<()>,
}

/// The objects that are watched.
#[derive(Clone)]
pub struct Objects {
    client: Client,
    watched: Arc<Mutex<HashMap<Key, Weak<Watched>>>>,
}

/// Somebody's interest in an object.
pub struct Interest {
    seen: watch::Receiver<Seen>,
    key: Key,
    _watched: Arc<Watched>,
}

impl Objects {
    /// Watches nothing yet.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, watched: Arc::default() }
    }

    /// Watches an object, if nobody does yet.
    #[must_use]
    pub fn watch(&self, key: Key) -> Interest {
        let mut all = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let watched = all.get(&key).and_then(Weak::upgrade).unwrap_or_else(|| {
            all.retain(|_, watched| watched.strong_count() > 0);
            let watched = Arc::new(self.begin(&key));
            all.insert(key.clone(), Arc::downgrade(&watched));
            watched
        });
        Interest { seen: watched.seen.clone(), key, _watched: watched }
    }

    fn begin(&self, key: &Key) -> Watched {
        let (tell, seen) = watch::channel(Seen::Unknown);
        let (client, key) = (self.client.clone(), key.clone());
        let task = tokio::spawn(async move {
            match key.kind {
                Kind::ConfigMap => {
                    follow(Api::namespaced(client, &key.namespace), &key, &tell, config_map).await;
                }
                Kind::Secret => follow(Api::namespaced(client, &key.namespace), &key, &tell, secret).await,
            }
        });
        Watched { seen, _task: AbortOnDropHandle::new(task) }
    }
}

impl Interest {
    /// The object's data now; `None` if there is no such object.
    ///
    /// # Errors
    /// The API has not told anything about it yet, and does not within some seconds.
    pub async fn data(&mut self) -> Result<Option<Arc<Data>>, Unseen> {
        let known = self.seen.wait_for(|seen| !matches!(seen, Seen::Unknown));
        match tokio::time::timeout(PATIENCE, known).await {
            Ok(Ok(seen)) => Ok(match &*seen {
                Seen::Present(data) => Some(data.clone()),
                Seen::Absent | Seen::Unknown => None,
            }),
            Ok(Err(_)) | Err(_) => Err(Unseen(self.key.clone())),
        }
    }

    /// Returns when the object is not as `data` last gave it.
    pub async fn changed(&mut self) {
        if self.seen.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The data of a ConfigMap.
#[must_use]
pub fn config_map(map: ConfigMap) -> Data {
    let mut data: Data = map.binary_data.into_iter().flatten().map(|(k, v)| (k, v.0)).collect();
    data.extend(map.data.into_iter().flatten().map(|(k, v)| (k, v.into_bytes())));
    data
}

/// The data of a Secret.
#[must_use]
pub fn secret(secret: Secret) -> Data {
    secret.data.into_iter().flatten().map(|(k, v)| (k, v.0)).collect()
}

async fn follow<K>(api: Api<K>, key: &Key, tell: &watch::Sender<Seen>, data: fn(K) -> Data)
where
    K: Resource + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    let config = watcher::Config::default().fields(&format!("metadata.name={}", key.name));
    let mut events = pin!(watcher::watcher(api, config).default_backoff());
    let mut listed = false;
    let say = |new: Seen| {
        tell.send_if_modified(|old| {
            let same = match (&*old, &new) {
                (Seen::Absent, Seen::Absent) => true,
                (Seen::Present(old), Seen::Present(new)) => old == new,
                _ => false,
            };
            *old = new;
            !same
        });
    };
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed = false,
            Ok(Event::InitApply(object)) => {
                listed = true;
                say(Seen::Present(Arc::new(data(object))));
            }
            Ok(Event::InitDone) if listed => {}
            Ok(Event::InitDone | Event::Delete(_)) => say(Seen::Absent),
            Ok(Event::Apply(object)) => say(Seen::Present(Arc::new(data(object)))),
            Err(error) => {
                let kind = key.kind.as_str();
                tracing::warn!(kind, namespace = key.namespace, name = key.name, %error, "the watch on an object of a volume broke, trying again");
            }
        }
    }
}
