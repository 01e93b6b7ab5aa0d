//! One partition: its log, and the watchers that read it.

use std::collections::HashMap;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::task::Waker;
use std::time::Instant;

use super::log::{Log, Position};
use super::scope::{Scope, first_segment};
use super::slot::Slot;
use crate::limits::WatchLimits;
use crate::{Event, Key, Revision};

/// Names a watch within its store.
pub(crate) type WatchId = u64;

#[derive(Debug)]
pub(crate) struct Partition {
    /// What all its keys start with.
    path: Box<str>,
    state: RwLock<State>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) log: Log,
    watchers: Watchers,
}

type Slots = HashMap<WatchId, Arc<Slot>>;

/// Watchers by how deep their scope reaches, so that an event wakes only those whose scope it may touch.
#[derive(Debug, Default)]
struct Watchers {
    whole: Slots,
    /// Scopes below the partition, by the first segment behind it: a namespace.
    by_segment: HashMap<Box<str>, Slots>,
    by_key: HashMap<Key, Slots>,
}

impl Partition {
    pub(crate) fn new(path: &str, complete_after: Revision) -> Self {
        let state = State { log: Log::new(complete_after), watchers: Watchers::default() };
        Self { path: path.into(), state: RwLock::new(state) }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().expect("nothing panics while it holds a partition")
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().expect("nothing panics while it holds a partition")
    }

    /// Appends events of one transaction, so that no reader sees a part of them, and marks the watchers they touch.
    pub(crate) fn append<'a>(
        &self,
        events: impl Iterator<Item = &'a Arc<Event>>,
        now: Instant,
        wakers: &mut Vec<Waker>,
    ) {
        let mut state = self.write();
        for event in events {
            let position = state.log.append(event.clone(), now);
            state.watchers.mark(&self.path, event.key(), position, wakers);
        }
    }

    /// Drops what the limits of one log forbid.
    pub(crate) fn trim(&self, limits: &WatchLimits, now: Instant, dropped: &mut Vec<Arc<Event>>) {
        self.write().log.trim(limits, now, dropped);
    }

    /// Forgets all events, and marks the gap for every watcher.
    pub(crate) fn reset(&self, revision: Revision, wakers: &mut Vec<Waker>, dropped: &mut Vec<Arc<Event>>) {
        let mut state = self.write();
        state.log.reset(revision, dropped);
        let gap = state.log.first() - 1;
        state.watchers.all().for_each(|slot| wakers.extend(slot.mark(gap)));
    }

    pub(crate) fn register(&self, state: &mut State, scope: &Scope, id: WatchId, slot: Arc<Slot>) {
        state.watchers.slots(&self.path, scope).insert(id, slot);
    }

    pub(crate) fn unregister(&self, scope: &Scope, id: WatchId) {
        self.write().watchers.remove(&self.path, scope, id);
    }

    pub(crate) fn close(&self, wakers: &mut Vec<Waker>) {
        self.read().watchers.all().for_each(|slot| wakers.extend(slot.close()));
    }
}

impl State {
    pub(crate) fn is_unused(&self) -> bool {
        self.log.is_empty() && self.watchers.all().next().is_none()
    }
}

impl Watchers {
    fn slots(&mut self, partition: &str, scope: &Scope) -> &mut Slots {
        match (scope, scope.below(partition)) {
            (Scope::Key(key), _) => self.by_key.entry(key.clone()).or_default(),
            (Scope::Prefix(_), "") => &mut self.whole,
            (Scope::Prefix(_), rest) => self.by_segment.entry(first_segment(rest).into()).or_default(),
        }
    }

    fn remove(&mut self, partition: &str, scope: &Scope, id: WatchId) {
        let slots = self.slots(partition, scope);
        slots.remove(&id);
        if slots.is_empty() {
            match (scope, scope.below(partition)) {
                (Scope::Key(key), _) => drop(self.by_key.remove(key)),
                (Scope::Prefix(_), rest) => drop(self.by_segment.remove(first_segment(rest))),
            }
        }
    }

    fn mark(&self, partition: &str, key: &Key, position: Position, wakers: &mut Vec<Waker>) {
        let rest = key.as_str().strip_prefix(partition).unwrap_or_default();
        let touched = [Some(&self.whole), self.by_segment.get(first_segment(rest)), self.by_key.get(key)];
        for slot in touched.into_iter().flatten().flat_map(Slots::values) {
            wakers.extend(slot.mark(position));
        }
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Slot>> {
        let deeper = self.by_segment.values().chain(self.by_key.values());
        std::iter::once(&self.whole).chain(deeper).flat_map(Slots::values)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::{Partition, Slot};
    use crate::watch::slot::Signal;
    use crate::{Event, Key, Prefix, Record, Revision, Scope, Value};

    fn event(key: &str) -> Arc<Event> {
        let key = Key::new(key).expect("key");
        Arc::new(Event::put(
            Arc::new(Record::new(key, Revision::FIRST, Revision::FIRST, &Value::opaque(""))),
            None,
        ))
    }

    #[test]
    fn an_event_marks_only_the_scopes_it_touches() {
        let prefix = |path: &str| Scope::Prefix(Prefix::new(path).expect("prefix"));
        let key = |path: &str| Scope::Key(Key::new(path).expect("key"));
        let scopes = [
            prefix("/r/core/pods/"),
            prefix("/r/core/pods/a/"),
            prefix("/r/core/pods/b/"),
            key("/r/core/pods/a/x"),
        ];
        let partition = Partition::new("/r/core/pods/", Revision::FIRST);
        let slots: Vec<_> = scopes.iter().map(|_| Arc::new(Slot::default())).collect();
        for (id, (scope, slot)) in scopes.iter().zip(&slots).enumerate() {
            partition.register(&mut partition.write(), scope, id as u64, slot.clone());
        }
        for (key, touched) in [
            ("/r/core/pods/a/x", [true, true, false, true]),
            ("/r/core/pods/a/xx", [true, true, false, false]),
            ("/r/core/pods/b/x", [true, false, true, false]),
            ("/r/core/pods/aa/x", [true, false, false, false]),
            ("/r/core/pods/b", [true, false, true, false]),
        ] {
            partition.append([&event(key)].into_iter(), Instant::now(), &mut Vec::new());
            let found: Vec<_> = slots.iter().map(|slot| slot.take() != Signal::Idle).collect();
            assert_eq!(found, touched, "{key}");
        }
        assert!(!partition.read().is_unused());
        for (id, scope) in scopes.iter().enumerate() {
            partition.unregister(scope, id as u64);
        }
        let state = partition.read();
        assert_eq!(state.watchers.all().count(), 0);
        assert!(state.watchers.by_segment.is_empty() && state.watchers.by_key.is_empty());
    }
}
