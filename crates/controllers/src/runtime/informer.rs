//! Shared caches: one list and watch per resource, any number of projections on top.
//!
//! A *source* runs the watch of one resource and feeds *sinks*, one per projection; an [`Informer`] is the handle
//! on a sink. A projection that is asked for while the watch runs makes the source list once more, which costs the
//! other sinks nothing: a list changes only what differs.
//!
//! Order of one event: every store takes it in, then the source's [`Progress`] moves, then handlers run. So who is
//! woken by a handler finds the store and the progress that the event made.

use std::any::{Any, TypeId};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::runtime::watcher;
use kube::{Api, Client, Resource as _};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::kind::{Index, Kind, Watched};
use super::object::{ObjectKey, Revision, Uid};
use super::queue::Backoff;
use super::rng::Rng;
use super::store::{Change, Store};
use super::tasks::{TaskLost, guard};

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const WATCH_BACKOFF: Backoff = Backoff { first: Duration::from_millis(200), limit: Duration::from_secs(30) };

/// All caches of a process. Cheap to clone; the watches end with [`Informers::stop`] or with the last clone.
#[derive(Clone)]
pub struct Informers {
    inner: Arc<Registry>,
}

struct Registry {
    client: Client,
    rng: Arc<Rng>,
    state: Mutex<RegistryState>,
    /// The first watch that has ended untold.
    lost: watch::Sender<Option<TaskLost>>,
}

#[derive(Default)]
struct RegistryState {
    /// `Arc<Source<R>>` by the type of `R`.
    sources: HashMap<TypeId, Box<dyn Any + Send + Sync>>,
    /// `Informer<K>` by the type of `K`.
    informers: HashMap<TypeId, Box<dyn Any + Send + Sync>>,
    /// Take the handlers off each cache: they hold on to each other's caches.
    closers: Vec<Box<dyn Fn() + Send + Sync>>,
    tasks: JoinSet<()>,
}

impl Informers {
    /// Caches that read through `client`. `rng` spreads reconnects.
    pub fn new(client: Client, rng: Arc<Rng>) -> Self {
        Self {
            inner: Arc::new(Registry {
                client,
                rng,
                state: Mutex::default(),
                lost: watch::Sender::default(),
            }),
        }
    }

    /// The cache of `K`, whose watch starts with the first call. Must run inside a tokio runtime.
    pub fn get<K: Kind>(&self) -> Informer<K> {
        let mut state = lock(&self.inner.state);
        if let Some(informer) = state.informers.get(&TypeId::of::<K>()) {
            return informer
                .downcast_ref::<Informer<K>>()
                .expect("informers are filed under their type")
                .clone();
        }
        let source = self.source::<K::Raw>(&mut state);
        let informer = Informer::attach(&source);
        let cache = Arc::downgrade(&informer.cache);
        state.closers.push(Box::new(move || {
            if let Some(cache) = cache.upgrade() {
                lock(&cache.dispatcher).handlers.clear();
            }
        }));
        state.informers.insert(TypeId::of::<K>(), Box::new(informer.clone()));
        informer
    }

    /// Waits for a watch, or a handler on it, to panic: its caches stand still from then on. Any number may wait.
    pub async fn lost(&self) -> TaskLost {
        let mut lost = self.inner.lost.subscribe();
        let lost = lost.wait_for(Option::is_some).await.map(|lost| lost.clone());
        lost.ok().flatten().expect("its sender is in here, and was waited for to say so")
    }

    /// Ends every watch, waits until they have ended, and takes the handlers off the caches.
    pub async fn stop(&self) {
        let mut tasks = std::mem::take(&mut lock(&self.inner.state).tasks);
        tasks.shutdown().await;
        lock(&self.inner.state).closers.drain(..).for_each(|close| close());
    }

    fn source<R: Watched>(&self, state: &mut RegistryState) -> Arc<Source<R>> {
        if let Some(source) = state.sources.get(&TypeId::of::<R>()) {
            return source
                .downcast_ref::<Arc<Source<R>>>()
                .expect("sources are filed under their type")
                .clone();
        }
        let source = Arc::new(Source::<R>::default());
        state.sources.insert(TypeId::of::<R>(), Box::new(Arc::clone(&source)));
        let (client, rng) = (self.inner.client.clone(), Arc::clone(&self.inner.rng));
        let running = Arc::clone(&source);
        let lost = self.inner.lost.clone();
        state.tasks.spawn(async move {
            let how = guard(format!("the watch of {}", R::plural(&())), running.run(&client, &rng)).await;
            lost.send_if_modified(|lost| {
                let is_first = lost.is_none();
                lost.get_or_insert(how);
                is_first
            });
        });
        source
    }
}

impl fmt::Debug for Informers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Informers").field("kinds", &lock(&self.inner.state).informers.len()).finish()
    }
}

/// How far a source has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Every change up to this revision is in the stores.
    pub seen: Revision,
    /// Lists begun so far.
    pub lists_begun: u64,
    /// The number of the last list that came in whole.
    pub lists_done: u64,
}

/// Feeds the sinks of one resource.
struct Source<R> {
    sinks: Mutex<Vec<Arc<dyn Sink<R>>>>,
    progress: watch::Sender<Progress>,
    relist: Arc<Notify>,
}

impl<R> Default for Source<R> {
    fn default() -> Self {
        Self { sinks: Mutex::default(), progress: watch::Sender::default(), relist: Arc::default() }
    }
}

impl<R: Watched> Source<R> {
    async fn run(&self, client: &Client, rng: &Rng) {
        let restriction = R::restriction();
        loop {
            let stream = watcher(Api::<R>::all(client.clone()), restriction.watcher_config());
            tokio::select! {
                biased;
                () = self.relist.notified() => {}
                () = self.follow(stream, rng) => {}
            }
        }
    }

    /// Takes in events until the stream ends, waiting longer after each error in a row.
    async fn follow(&self, stream: impl Stream<Item = watcher::Result<watcher::Event<R>>>, rng: &Rng) {
        let mut stream = std::pin::pin!(stream);
        let mut listed = Revision::default();
        let mut failures = 0;
        while let Some(event) = stream.next().await {
            match event {
                Ok(event) => {
                    // The beginning of a list is announced before the server was asked.
                    if !matches!(event, watcher::Event::Init) {
                        failures = 0;
                    }
                    self.take_in(event, &mut listed);
                }
                Err(error) => {
                    failures += 1;
                    report_watch_error(&R::kind(&()), failures, &error);
                    tokio::time::sleep(WATCH_BACKOFF.delay(failures, rng)).await;
                }
            }
        }
    }

    fn take_in(&self, event: watcher::Event<R>, listed: &mut Revision) {
        let sinks = lock(&self.sinks).clone();
        let step = Step::from(event);
        for sink in &sinks {
            sink.take_in(&step);
        }
        self.progress.send_modify(|progress| match &step {
            Step::ListBegins => {
                progress.lists_begun += 1;
                *listed = progress.seen;
            }
            // A list comes in key order, so it shows a revision only when it is whole.
            Step::Listed(object) => *listed = (*listed).max(Revision::of(object.meta())),
            Step::ListEnds => {
                progress.lists_done = progress.lists_begun;
                progress.seen = progress.seen.max(*listed);
            }
            Step::Applied(object) | Step::Deleted(object) => {
                progress.seen = progress.seen.max(Revision::of(object.meta()));
            }
        });
        for sink in &sinks {
            sink.dispatch();
        }
    }
}

fn report_watch_error(kind: &str, failures: u32, error: &watcher::Error) {
    if failures == 1 {
        warn!(kind, %error, "watch failed, retrying");
    } else {
        debug!(kind, failures, %error, "watch still fails");
    }
}

/// A watch event with its object made ready for sharing.
enum Step<R> {
    ListBegins,
    Listed(Arc<R>),
    ListEnds,
    Applied(Arc<R>),
    Deleted(Arc<R>),
}

impl<R: Watched> From<watcher::Event<R>> for Step<R> {
    fn from(event: watcher::Event<R>) -> Self {
        match event {
            watcher::Event::Init => Self::ListBegins,
            watcher::Event::InitApply(object) => Self::Listed(slim(object)),
            watcher::Event::InitDone => Self::ListEnds,
            watcher::Event::Apply(object) => Self::Applied(slim(object)),
            watcher::Event::Delete(object) => Self::Deleted(slim(object)),
        }
    }
}

/// Drops what no controller reads: often more than half of an object.
fn slim<R: Watched>(mut object: R) -> Arc<R> {
    let meta = object.meta_mut();
    meta.managed_fields = None;
    if let Some(annotations) = &mut meta.annotations {
        annotations.remove(LAST_APPLIED);
        if annotations.is_empty() {
            meta.annotations = None;
        }
    }
    Arc::new(object)
}

trait Sink<R>: Send + Sync {
    /// Brings the store up to date.
    fn take_in(&self, step: &Step<R>);
    /// Runs the handlers over what the last step changed.
    fn dispatch(&self);
}

type Handler<K> = Box<dyn Fn(&Change<K>) + Send + Sync>;

struct Cache<K: Kind> {
    store: RwLock<Store<K>>,
    /// Held while handlers run, so that a new handler sees each object once.
    dispatcher: Mutex<Dispatcher<K>>,
}

struct Dispatcher<K> {
    handlers: Vec<Handler<K>>,
    changes: Vec<Change<K>>,
    /// Keys seen by the list that is under way.
    listed: Option<HashSet<ObjectKey>>,
}

impl<K: Kind> Sink<K::Raw> for Cache<K> {
    fn take_in(&self, step: &Step<K::Raw>) {
        let mut dispatcher = lock(&self.dispatcher);
        let Dispatcher { changes, listed, .. } = &mut *dispatcher;
        match step {
            Step::ListBegins => *listed = Some(HashSet::new()),
            Step::Listed(raw) => {
                let key = self.upsert(raw, changes);
                if let Some(listed) = listed {
                    listed.insert(key);
                }
            }
            Step::ListEnds => {
                if let Some(listed) = listed.take() {
                    self.retain(&listed, changes);
                }
            }
            Step::Applied(raw) => {
                self.upsert(raw, changes);
            }
            Step::Deleted(raw) => write(&self.store).remove(&ObjectKey::of(raw.meta()), changes),
        }
    }

    fn dispatch(&self) {
        let mut dispatcher = lock(&self.dispatcher);
        let changes = std::mem::take(&mut dispatcher.changes);
        for change in &changes {
            for handler in &dispatcher.handlers {
                handler(change);
            }
        }
    }
}

impl<K: Kind> Cache<K> {
    fn upsert(&self, raw: &Arc<K::Raw>, changes: &mut Vec<Change<K>>) -> ObjectKey {
        let meta = raw.meta();
        let key = ObjectKey::of(meta);
        let (uid, revision) = (Uid::of(meta), Revision::of(meta));
        let object = K::project(raw);
        write(&self.store).upsert(key.clone(), uid, revision, object, changes);
        key
    }

    fn retain(&self, listed: &HashSet<ObjectKey>, changes: &mut Vec<Change<K>>) {
        let mut store = write(&self.store);
        let gone: Vec<_> = store.keys().filter(|key| !listed.contains(*key)).cloned().collect();
        for key in gone {
            store.remove(&key, changes);
        }
    }
}

/// A handle on the cache of one projection.
pub struct Informer<K: Kind> {
    cache: Arc<Cache<K>>,
    progress: watch::Receiver<Progress>,
    relist: Arc<Notify>,
    /// The cache is whole once a later list than this one is done.
    attached_at: u64,
}

impl<K: Kind> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self {
            cache: Arc::clone(&self.cache),
            progress: self.progress.clone(),
            relist: Arc::clone(&self.relist),
            attached_at: self.attached_at,
        }
    }
}

impl<K: Kind> fmt::Debug for Informer<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let progress = *self.progress.borrow();
        f.debug_struct("Informer")
            .field("objects", &read(&self.cache.store).len())
            .field("at", &progress)
            .finish()
    }
}

impl<K: Kind> Informer<K> {
    fn attach(source: &Source<K::Raw>) -> Self {
        let dispatcher = Dispatcher { handlers: Vec::new(), changes: Vec::new(), listed: None };
        let cache = Arc::new(Cache { store: RwLock::default(), dispatcher: Mutex::new(dispatcher) });
        let mut sinks = lock(&source.sinks);
        let attached_at = source.progress.borrow().lists_begun;
        sinks.push(Arc::clone(&cache) as Arc<dyn Sink<K::Raw>>);
        drop(sinks);
        if attached_at > 0 {
            source.relist.notify_one();
        }
        Self { cache, progress: source.progress.subscribe(), relist: Arc::clone(&source.relist), attached_at }
    }

    /// Has the watch begin again with a list, soon.
    pub fn relist(&self) {
        self.relist.notify_one();
    }

    /// Waits until the cache has been filled once. Pends for ever once the watches have been stopped.
    pub async fn synced(&self) {
        let attached_at = self.attached_at;
        let mut progress = self.progress.clone();
        if progress.wait_for(|progress| progress.lists_done > attached_at).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Calls `handler` for every object that is here and then for every change, in order. It runs on the watch's
    /// task and must be quick: file a key, wake somebody.
    pub fn on_change(&self, handler: impl Fn(&Change<K>) + Send + Sync + 'static) {
        let mut dispatcher = lock(&self.cache.dispatcher);
        let present: Vec<_> = {
            let store = self.read();
            store.keys().cloned().zip(store.iter().cloned()).collect()
        };
        for (key, object) in present {
            handler(&Change { key, old: None, new: Some(object) });
        }
        dispatcher.handlers.push(Box::new(handler));
    }

    /// Looks into the cache. The guard holds up the watch: take what is needed and let go, never across an await.
    pub fn read(&self) -> RwLockReadGuard<'_, Store<K>> {
        read(&self.cache.store)
    }

    /// The object under `key`.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.read().get(key).cloned()
    }

    /// Every object, in key order.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.read().iter().cloned().collect()
    }

    /// The objects of a namespace.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.read().in_namespace(namespace).cloned().collect()
    }

    /// The objects that stand under `value` in `index`.
    pub fn indexed(&self, index: Index, value: &str) -> Vec<Arc<K>> {
        self.read().indexed(index, value).cloned().collect()
    }

    /// How far the watch behind this cache has come.
    pub fn progress(&self) -> Progress {
        *self.progress.borrow()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A handler that panicked has filed nothing half: the data stay whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::PodRecord;
    use crate::pod::tests::pod;
    use futures::FutureExt;
    use k8s_openapi::api::core::v1::Pod;
    use kube::runtime::watcher::Event;

    fn at(name: &str, revision: u64) -> Pod {
        let mut pod = pod("ns", name);
        pod.metadata.resource_version = Some(revision.to_string());
        pod
    }

    /// Notes each change as `name old>new` with revisions.
    fn watch_changes(informer: &Informer<PodRecord>) -> Arc<Mutex<Vec<String>>> {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&seen);
        informer.on_change(move |change: &Change<PodRecord>| {
            let revision = |pod: &Option<Arc<PodRecord>>| pod.as_ref().map_or(0, |pod| pod.revision.0);
            let note = format!("{} {}>{}", change.key.name(), revision(&change.old), revision(&change.new));
            lock(&notes).push(note);
        });
        seen
    }

    async fn feed(source: &Source<Pod>, events: Vec<watcher::Result<Event<Pod>>>) {
        source.follow(futures::stream::iter(events), &Rng::seeded(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn lists_sweep_and_progress_never_runs_ahead_of_the_store() {
        let source = Source::<Pod>::default();
        let informer = Informer::<PodRecord>::attach(&source);
        let seen = watch_changes(&informer);
        feed(
            &source,
            vec![Ok(Event::Init), Ok(Event::InitApply(at("a", 7))), Ok(Event::InitApply(at("b", 3)))],
        )
        .await;
        assert!(informer.synced().now_or_never().is_none(), "half a list is no cache");
        assert_eq!(informer.progress().seen, Revision(0), "half a list shows no revision");
        feed(
            &source,
            vec![Ok(Event::InitDone), Ok(Event::Apply(at("b", 9))), Ok(Event::Delete(at("a", 11)))],
        )
        .await;
        informer.synced().now_or_never().expect("a whole list fills the cache");
        assert_eq!(informer.progress().seen, Revision(11));
        let relist = vec![
            Ok(Event::Init),
            Ok(Event::InitApply(at("c", 12))),
            Ok(Event::InitApply(at("d", 8))),
            Ok(Event::InitDone),
        ];
        feed(&source, relist).await;
        assert_eq!(informer.progress(), Progress { seen: Revision(12), lists_begun: 2, lists_done: 2 });
        assert_eq!(*lock(&seen), ["a 0>7", "b 0>3", "b 3>9", "a 7>0", "c 0>12", "d 0>8", "b 9>0"]);
    }

    #[tokio::test(start_paused = true)]
    async fn late_projections_and_handlers_see_everything_once() {
        let source = Source::<Pod>::default();
        let early = Informer::<PodRecord>::attach(&source);
        let list = || vec![Ok(Event::Init), Ok(Event::InitApply(at("a", 1))), Ok(Event::InitDone)];
        feed(&source, list()).await;
        let late = Informer::<PodRecord>::attach(&source);
        assert!(late.synced().now_or_never().is_none());
        source.relist.notified().now_or_never().expect("a late projection asks for a list");
        let seen = watch_changes(&early);
        feed(&source, list()).await;
        late.synced().now_or_never().expect("the next list fills it");
        assert_eq!(late.list().len(), 1);
        assert_eq!(*lock(&seen), ["a 0>1"], "a handler is shown what is there, and a relist changes nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn errors_in_a_row_wait_longer() {
        let source = Source::<Pod>::default();
        let started = tokio::time::Instant::now();
        let failing = || vec![Ok(Event::Init), Err(watcher::Error::NoResourceVersion)];
        feed(&source, failing().into_iter().chain(failing()).chain(failing()).collect()).await;
        let waited = started.elapsed().as_millis();
        assert!((1050..=1400).contains(&waited), "200, 400 and 800 ms less their jitter, got {waited}");
    }

    #[test]
    fn slim_drops_what_nobody_reads() {
        let mut raw = at("a", 1);
        raw.metadata.managed_fields = Some(Vec::new());
        raw.metadata.annotations = Some([(LAST_APPLIED.to_owned(), "{}".to_owned())].into());
        let slimmed = slim(raw);
        assert!(slimmed.metadata.managed_fields.is_none() && slimmed.metadata.annotations.is_none());
    }
}
