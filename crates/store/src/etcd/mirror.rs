//! From what etcd tells to states and events: pure, in memory.

use std::sync::Arc;

use imbl::OrdMap;

use super::messages::{Change, KeyValue, WatchSaid};
use super::names::{Name, Names};
use super::value::{self, ValueError};
use crate::live::Step;
use crate::{Encryption, Event, Key, KeyError, Record, Revision, Snapshot};

/// How what etcd holds is read.
#[derive(Clone, Debug)]
pub(super) struct Codec {
    pub(super) names: Names,
    pub(super) encryption: Option<Encryption>,
}

/// Why something in etcd is no record.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum RecordError {
    /// Its name is no key.
    #[error("etcd holds something under xebec's prefix that is not xebec's")]
    Key(#[from] KeyError),
    /// Its value is none.
    #[error(transparent)]
    Value(#[from] ValueError),
}

impl Codec {
    /// The record, or none when the name is none of a record.
    pub(super) fn record(&self, found: &KeyValue<'_>) -> Result<Option<Arc<Record>>, RecordError> {
        match self.names.read(found.key)? {
            Name::Passed => Ok(None),
            Name::Record(key) => {
                let value = value::decode(self.encryption.as_ref(), &key, found.value)?;
                Ok(Some(Arc::new(Record::new(key, found.create_revision, found.mod_revision, &value))))
            }
        }
    }
}

/// The newest state that is known, and what is still to come of the next one.
#[derive(Debug)]
pub(super) struct Mirror {
    codec: Arc<Codec>,
    snapshot: Snapshot,
    /// A transaction whose events may not all be here yet; its state is `snapshot`.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    revision: Revision,
    events: Vec<Arc<Event>>,
}

/// What a whole read of etcd is put together of.
#[derive(Debug, Default)]
pub(super) struct Load {
    records: OrdMap<Key, Arc<Record>>,
}

impl Load {
    pub(super) fn add(&mut self, codec: &Codec, found: &[KeyValue<'_>]) -> Result<(), RecordError> {
        for found in found {
            if let Some(record) = codec.record(found)? {
                self.records.insert(record.key().clone(), record);
            }
        }
        Ok(())
    }

    pub(super) fn finish(self, revision: Revision) -> Snapshot {
        Snapshot::new(revision, self.records)
    }
}

impl Mirror {
    pub(super) fn new(codec: Arc<Codec>, snapshot: Snapshot) -> Self {
        Self { codec, snapshot, open: None }
    }

    /// From which revision on a watch has to tell what happened.
    pub(super) fn wants(&self) -> Revision {
        self.open.as_ref().map_or(self.snapshot.revision(), |open| open.revision).next()
    }

    /// Forgets what has come of a transaction that is not whole: the next watch begins with it.
    pub(super) fn interrupted(&mut self, complete: Snapshot) {
        self.snapshot = complete;
        self.open = None;
    }

    /// The transactions that are whole now. What can be read of none of the events is told to the log: such a key
    /// counts as absent.
    pub(super) fn take(&mut self, said: &WatchSaid<'_>) -> Vec<Step> {
        let mut steps = Vec::new();
        for change in &said.events {
            self.change(change, &mut steps);
        }
        if !said.fragment {
            steps.extend(self.close());
        }
        let idle = said.events.is_empty() && !said.created && !said.canceled && self.open.is_none();
        if idle && said.revision > self.snapshot.revision() {
            self.snapshot = self.snapshot.clone().seen_at(said.revision);
            steps.push(Step { snapshot: self.snapshot.clone(), events: Vec::new() });
        }
        steps
    }

    fn change(&mut self, change: &Change<'_>, steps: &mut Vec<Step>) {
        let revision = change.key_value.mod_revision;
        if self.open.as_ref().is_some_and(|open| open.revision != revision) {
            steps.extend(self.close());
        }
        if self.open.is_none() && revision <= self.snapshot.revision() {
            return;
        }
        let event = self.event(change, revision);
        let open = self.open.get_or_insert_with(|| Open { revision, events: Vec::new() });
        if let Some(event) = event {
            let event = Arc::new(event);
            self.snapshot.apply(revision, &event);
            open.events.push(event);
        }
    }

    fn event(&self, change: &Change<'_>, revision: Revision) -> Option<Event> {
        let previous = |key: &Key| self.snapshot.get(key).cloned();
        let deleted = |key: &Key| Some(Event::delete(previous(key)?, revision));
        let key = match self.codec.names.read(change.key_value.key) {
            Ok(Name::Record(key)) => key,
            Ok(Name::Passed) => return None,
            Err(error) => {
                tracing::error!(%error, %revision, "something else writes under the prefix in etcd");
                return None;
            }
        };
        if change.deleted {
            return deleted(&key);
        }
        match self.codec.record(&change.key_value) {
            Ok(record) => record.map(|record| Event::put(record, previous(&key))),
            Err(error) => {
                tracing::error!(%error, %key, %revision, "a record in etcd cannot be read, and counts as absent");
                deleted(&key)
            }
        }
    }

    fn close(&mut self) -> Option<Step> {
        let Open { revision, events } = self.open.take()?;
        self.snapshot = self.snapshot.clone().seen_at(revision);
        Some(Step { snapshot: self.snapshot.clone(), events })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use imbl::OrdMap;

    use super::super::messages::{Change, KeyValue, WatchSaid};
    use super::super::names::Names;
    use super::{Codec, Mirror};
    use crate::live::Step;
    use crate::{EventKind, Key, Revision, Snapshot};

    const PUT: &[u8] = &[1, 0, 1, 0, 0, 0, b'<', b'>'];

    fn at(revision: u64) -> Revision {
        Revision::new(revision)
    }

    fn mirror() -> Mirror {
        let names = Names::new(Key::new("/x").expect("key"));
        let codec = Codec { names, encryption: None };
        Mirror::new(Arc::new(codec), Snapshot::new(at(5), OrdMap::new()))
    }

    fn put(key: &'static str, created: u64, revision: u64) -> Change<'static> {
        let (create_revision, mod_revision) = (at(created), at(revision));
        let key_value = KeyValue { key: key.as_bytes(), create_revision, mod_revision, value: PUT };
        Change { deleted: false, key_value }
    }

    fn delete(key: &'static str, revision: u64) -> Change<'static> {
        let mod_revision = at(revision);
        let key_value = KeyValue { key: key.as_bytes(), mod_revision, ..KeyValue::default() };
        Change { deleted: true, key_value }
    }

    fn said(revision: u64, events: Vec<Change<'_>>) -> WatchSaid<'_> {
        WatchSaid { revision: at(revision), events, ..WatchSaid::default() }
    }

    /// Revision, live records, and what happened.
    type Shown = (u64, usize, Vec<(EventKind, &'static str)>);

    fn shown(steps: &[Step]) -> Vec<Shown> {
        let name = |key: &Key| if key.as_str() == "/a" { "/a" } else { "/b" };
        let event = |event: &Arc<crate::Event>| (event.kind(), name(event.key()));
        let show = |step: &Step| {
            (step.revision().get(), step.snapshot.len(), step.events.iter().map(event).collect())
        };
        steps.iter().map(show).collect()
    }

    #[test]
    fn events_of_a_revision_are_one_step() {
        use EventKind::{Created, Deleted, Modified};
        let mut mirror = mirror();
        let steps = mirror.take(&said(9, vec![put("/x/a", 6, 6), put("/x/b", 6, 6), put("/x/a", 6, 8)]));
        let all = [(6, 2, vec![(Created, "/a"), (Created, "/b")]), (8, 2, vec![(Modified, "/a")])];
        assert_eq!(shown(&steps), all, "not 9: more may come up to it");
        assert_eq!(steps[1].events[0].record().as_slice(), b"<8>");
        // What comes again is known; what nobody had cannot go.
        assert!(mirror.take(&said(9, vec![put("/x/a", 6, 8)])).is_empty());
        let steps = mirror.take(&said(12, vec![delete("/x/a", 10), delete("/x/none", 11)]));
        assert_eq!(shown(&steps), [(10, 1, vec![(Deleted, "/a")]), (11, 1, vec![])]);
        assert_eq!(steps[0].events[0].record().as_slice(), b"<10>");
    }

    #[test]
    fn a_fragment_waits_for_the_rest() {
        use EventKind::Created;
        let mut mirror = mirror();
        let first = WatchSaid { fragment: true, ..said(9, vec![put("/x/a", 6, 6), put("/x/a", 7, 7)]) };
        assert_eq!(shown(&mirror.take(&first)), [(6, 1, vec![(Created, "/a")])]);
        assert_eq!(mirror.wants(), at(8));
        assert!(mirror.take(&WatchSaid { fragment: true, ..said(9, vec![put("/x/b", 7, 7)]) }).is_empty());
        let steps = mirror.take(&said(9, vec![put("/x/b", 7, 9)]));
        assert_eq!(
            steps.iter().map(|step| (step.revision().get(), step.events.len())).collect::<Vec<_>>(),
            [(7, 2), (9, 1)]
        );
    }

    #[test]
    fn revisions_pass_without_events() {
        let mut mirror = mirror();
        let created = WatchSaid { created: true, ..said(9, Vec::new()) };
        assert!(mirror.take(&created).is_empty(), "events up to 9 may follow");
        assert_eq!(shown(&mirror.take(&said(9, Vec::new()))), [(9, 0, vec![])]);
        assert!(mirror.take(&said(9, Vec::new())).is_empty());
        assert!(mirror.take(&said(7, Vec::new())).is_empty());
        let passed = mirror.take(&said(10, vec![put("/x//passed", 10, 10)]));
        assert_eq!(shown(&passed), [(10, 0, vec![])]);
        assert_eq!(mirror.wants(), at(11));
    }

    #[test]
    fn what_cannot_be_read_counts_as_absent() {
        let mut mirror = mirror();
        mirror.take(&said(6, vec![put("/x/a", 6, 6)]));
        let mut broken = put("/x/a", 6, 7);
        broken.key_value.value = b"{}";
        assert_eq!(shown(&mirror.take(&said(7, vec![broken]))), [(7, 0, vec![(EventKind::Deleted, "/a")])]);
        assert_eq!(shown(&mirror.take(&said(8, vec![put("/x/a//b", 8, 8)]))), [(8, 0, vec![])]);
    }
}
