//! API priority and fairness (flowcontrol.apiserver.k8s.io/v1): which requests are worked on when not all can be at once.
//!
//! ```text
//!   request ──the first FlowSchema that matches──▶ its priority level ──seats free──▶ work
//!                                                       │                              ▲
//!                                                       ├──waits in a queue of its flow┘
//!                                                       └──no room, or waited for too long: 429
//! ```
//!
//! | file | what it is |
//! |---|---|
//! | `schema` | the objects as they are read, and what a schema matches |
//! | `queues` | who runs next: pure |
//! | `shares` | how seats are divided and lent among levels: pure |
//! | `level` | a level at run time: the lock, and those who wait |
//! | `estimate` | how many seats a request takes |
//! | `defaults`, `follow`, `condition` | the objects that every cluster has; keeping up with the store |
//! | `dump` | how it stands, for metrics and people |
//!
//! A configuration is made once for each change of the objects. What a request pays when nobody waits is a look at the
//! schemas, and one short lock of its level.

pub(crate) mod condition;
mod defaults;
mod dump;
mod estimate;
mod follow;
mod level;
mod queues;
mod schema;
mod shares;

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue};
use xebec_api::{Status, Value, json, meta};
use xebec_store::{Prefix, Revision, Snapshot};

pub(crate) use defaults::{objects, restored};
pub(crate) use dump::dump;
pub(crate) use estimate::Estimate;
pub(crate) use follow::follow;
pub(crate) use level::Seat;

use self::level::{Counters, Flow, Level};
use self::schema::{Distinguisher, LevelSpec, Schema};
use self::shares::{Entitlement, entitle, lend};
use crate::auth::User;
use crate::authz::Question;
use crate::bounds::too_many;

/// Where the objects stand in the store.
const ROOT: &str = "/registry/flowcontrol.apiserver.k8s.io/";
const SCHEMA_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const LEVEL_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");
/// What is left of a level's demand a second later.
const DECAY: f64 = 0.9;

/// The flow control of one server.
#[derive(Debug)]
pub(crate) struct FlowControl {
    /// All seats.
    seats: u64,
    /// How long a request waits at most.
    patience: Duration,
    begun: Instant,
    hasher: RandomState,
    config: RwLock<Arc<Config>>,
    /// Of which revision the configuration is; held while there is made another one.
    configured: Mutex<Option<Revision>>,
    /// How many seats each level has wanted lately.
    demands: Mutex<HashMap<String, f64>>,
    estimate: Estimate,
}

/// What the objects say together.
#[derive(Debug, Default)]
struct Config {
    /// In the order in which they are asked.
    schemas: Vec<Arc<Entry>>,
    /// By name.
    levels: Vec<Arc<LevelEntry>>,
}

/// A schema whose level there is.
#[derive(Debug)]
struct Entry {
    schema: Schema,
    level: Arc<LevelEntry>,
    counters: Arc<Counters>,
}

#[derive(Debug)]
struct LevelEntry {
    spec: LevelSpec,
    entitlement: Entitlement,
    level: Arc<Level>,
}

/// Where a request belongs.
#[derive(Clone, Debug)]
pub(crate) struct Class {
    entry: Arc<Entry>,
    flow: String,
    hash: u64,
}

impl Class {
    /// Whether its level bounds nothing.
    pub(crate) fn is_exempt(&self) -> bool {
        self.entry.level.spec.exempt
    }

    /// Says in an answer where the request belonged.
    pub(crate) fn mark(&self, headers: &mut HeaderMap<HeaderValue>) {
        headers.insert(SCHEMA_UID, self.entry.schema.uid.clone());
        headers.insert(LEVEL_UID, self.entry.level.spec.uid.clone());
    }
}

/// Where all objects stand.
fn prefix() -> Prefix {
    Prefix::new(ROOT).expect("a short path without odd characters is a prefix")
}

impl FlowControl {
    /// Divides so many seats; a request waits so long at most. Before [`FlowControl::configure`] there are the defaults.
    pub(crate) fn new(seats: usize, patience: Duration) -> Self {
        let control = Self {
            seats: seats as u64,
            patience,
            begun: Instant::now(),
            hasher: RandomState::new(),
            config: RwLock::default(),
            configured: Mutex::default(),
            demands: Mutex::default(),
            estimate: Estimate::default(),
        };
        control.take(&objects());
        control
    }

    /// Takes the objects of a snapshot, unless those of a newer one have been taken.
    pub(crate) fn configure(&self, snapshot: &Snapshot) {
        let mut configured = self.configured.lock().unwrap_or_else(PoisonError::into_inner);
        if configured.is_some_and(|revision| revision >= snapshot.revision()) {
            return;
        }
        *configured = Some(snapshot.revision());
        let mut found = Vec::new();
        for record in snapshot.range(&prefix(), None) {
            match json::from_slice(record.as_slice()) {
                Ok(object) => found.push(object),
                Err(error) => {
                    tracing::error!(key = record.key().as_str(), %error, "stored object cannot be read and sorts no requests");
                }
            }
        }
        // What must be there and is not, or not yet.
        for wanted in objects().into_iter().filter(|o| defaults::MANDATORY.contains(&meta::name(o))) {
            let same =
                |o: &Value| meta::name(o) == meta::name(&wanted) && o.get("kind") == wanted.get("kind");
            if !found.iter().any(same) {
                found.push(wanted);
            }
        }
        self.take(&found);
    }

    /// The same when one of the objects has changed. Before the start they are taken once, when the first are all there.
    pub(crate) fn reconfigure(&self, snapshot: &Snapshot) {
        let is_configured = self.configured.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if is_configured {
            self.configure(snapshot);
        }
    }

    fn take(&self, objects: &[Value]) {
        let of = |kind| objects.iter().filter(move |object| object.str_at(&["kind"]) == Some(kind));
        let mut specs: Vec<LevelSpec> = of("PriorityLevelConfiguration").map(LevelSpec::read).collect();
        specs.sort_by(|a, b| a.name.cmp(&b.name));
        let shares: Vec<_> = specs.iter().map(|spec| spec.share).collect();
        let entitlements = entitle(self.seats, &shares);
        let before = self.config();
        let levels: Vec<Arc<LevelEntry>> = specs
            .into_iter()
            .zip(entitlements)
            .map(|(spec, entitlement)| {
                let same = before.levels.iter().find(|other| other.spec.name == spec.name);
                let level = same.map_or_else(
                    || Arc::new(Level::new(self.begun, spec.queuing, entitlement.nominal)),
                    |other| other.level.clone(),
                );
                Arc::new(LevelEntry { spec, entitlement, level })
            })
            .collect();
        for entry in &levels {
            entry.level.set(entry.spec.queuing, entry.entitlement.nominal);
        }
        let mut schemas: Vec<Arc<Entry>> = of("FlowSchema")
            .map(Schema::read)
            .filter_map(|schema| {
                // A schema without a level sorts nothing.
                let level = levels.iter().find(|level| level.spec.name == schema.level)?.clone();
                let same = |other: &&Arc<Entry>| {
                    (&other.schema.name, &other.schema.level) == (&schema.name, &schema.level)
                };
                let counters =
                    before.schemas.iter().find(same).map(|e| e.counters.clone()).unwrap_or_default();
                Some(Arc::new(Entry { schema, level, counters }))
            })
            .collect();
        schemas.sort_by(|a, b| {
            let key = |entry: &Arc<Entry>| (entry.schema.precedence, entry.schema.name.clone());
            key(a).cmp(&key(b))
        });
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Config { schemas, levels });
    }

    /// Where a request belongs. There is a place for everything, since the last schema is about all.
    pub(crate) fn classify(&self, user: &User, question: &Question<'_>) -> Option<Class> {
        let config = self.config();
        let entry = config.schemas.iter().find(|entry| entry.schema.matches(user, question))?;
        let flow = match entry.schema.distinguisher {
            Distinguisher::None => "",
            Distinguisher::ByUser => &user.name,
            Distinguisher::ByNamespace => question.namespace,
        };
        let hash = self.hasher.hash_one((&entry.schema.name, flow));
        Some(Class { entry: entry.clone(), flow: flow.to_owned(), hash })
    }

    /// Waits for seats.
    ///
    /// # Errors
    /// 429: there are none in time, or too many wait for them.
    pub(crate) async fn enter(&self, class: &Class, seats: u64) -> Result<Seat, Status> {
        let Class { entry, flow, hash } = class;
        if entry.level.spec.exempt {
            return Ok(Seat::new(None, entry.counters.clone()));
        }
        let widest = entry.level.entitlement.nominal.div_ceil(7).max(1);
        let flow = Flow { hash: *hash, schema: &entry.schema.name, name: flow, counters: &entry.counters };
        entry.level.level.enter(flow, seats.min(widest), self.patience).await.map_err(|why| {
            let level = &entry.level.spec.name;
            too_many(&format!(
                "too many requests are under way in priority level {level:?} ({})",
                why.as_str()
            ))
        })
    }

    /// How many seats a request takes.
    pub(crate) const fn estimate(&self) -> &Estimate {
        &self.estimate
    }

    /// Lends seats that some levels do not use to others that want more. To be called every second.
    pub(crate) fn lend(&self) {
        let config = self.config();
        let mut demands = self.demands.lock().unwrap_or_else(PoisonError::into_inner);
        let mut wants = Vec::with_capacity(config.levels.len());
        for entry in &config.levels {
            let now = entry.level.take_demand() as f64;
            let before = demands.get(&entry.spec.name).copied().unwrap_or_default();
            wants.push((entry.spec.name.clone(), now.max(before * DECAY)));
        }
        let levels: Vec<(Entitlement, u64)> = config
            .levels
            .iter()
            .zip(&wants)
            .map(|(entry, (_, want))| (entry.entitlement, want.ceil() as u64))
            .collect();
        *demands = wants.into_iter().collect();
        drop(demands);
        for (entry, limit) in config.levels.iter().zip(lend(&levels)) {
            if entry.level.limit() != limit {
                entry.level.set_limit(limit);
            }
        }
    }

    fn config(&self) -> Arc<Config> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
