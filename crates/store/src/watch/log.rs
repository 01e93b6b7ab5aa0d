//! The recent events of one partition, oldest first, at stable positions.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::limits::WatchLimits;
use crate::{Event, Revision};

/// A place in a log. The first event ever has position 0; positions survive trimming.
pub(crate) type Position = u64;

#[derive(Debug)]
pub(crate) struct Log {
    entries: VecDeque<Entry>,
    /// The position of the oldest entry.
    first: Position,
    bytes: usize,
    /// Every event up to this revision may be missing; every later one is here.
    complete_after: Revision,
}

#[derive(Debug)]
struct Entry {
    event: Arc<Event>,
    at: Instant,
}

impl Log {
    pub(crate) fn new(complete_after: Revision) -> Self {
        Self { entries: VecDeque::new(), first: 0, bytes: 0, complete_after }
    }

    pub(crate) fn first(&self) -> Position {
        self.first
    }

    /// The position that the next event gets.
    pub(crate) fn end(&self) -> Position {
        self.first + self.entries.len() as u64
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn complete_after(&self) -> Revision {
        self.complete_after
    }

    pub(crate) fn append(&mut self, event: Arc<Event>, now: Instant) -> Position {
        let position = self.end();
        self.bytes += event.cost();
        self.entries.push_back(Entry { event, at: now });
        position
    }

    /// The position of the first event after `revision`.
    pub(crate) fn position_after(&self, revision: Revision) -> Position {
        self.first + self.entries.partition_point(|entry| entry.event.revision() <= revision) as u64
    }

    /// The events from `position` on, which is not before [`Self::first`].
    pub(crate) fn read(&self, position: Position) -> impl Iterator<Item = &Arc<Event>> {
        let offset = usize::try_from(position - self.first).unwrap_or(usize::MAX);
        self.entries.range(offset.min(self.entries.len())..).map(|entry| &entry.event)
    }

    /// Applies the limits of one log.
    pub(crate) fn trim(&mut self, limits: &WatchLimits, now: Instant, dropped: &mut Vec<Arc<Event>>) {
        let expired = |entry: &Entry| now.saturating_duration_since(entry.at) > limits.age;
        while self.entries.len() > limits.log_events || self.entries.front().is_some_and(expired) {
            dropped.extend(self.pop());
        }
    }

    /// Drops the events up to and with `revision`.
    pub(crate) fn drop_until(&mut self, revision: Revision, dropped: &mut Vec<Arc<Event>>) {
        while self.entries.front().is_some_and(|entry| entry.event.revision() <= revision) {
            dropped.extend(self.pop());
        }
        self.complete_after = self.complete_after.max(revision);
    }

    /// Drops everything, and leaves a gap at the end: whoever has read up to here has missed something. All events up to
    /// `revision` may be missing.
    pub(crate) fn reset(&mut self, revision: Revision, dropped: &mut Vec<Arc<Event>>) {
        while let Some(event) = self.pop() {
            dropped.push(event);
        }
        self.first += 1;
        self.complete_after = self.complete_after.max(revision);
    }

    pub(crate) fn pop(&mut self) -> Option<Arc<Event>> {
        let entry = self.entries.pop_front()?;
        self.first += 1;
        self.bytes -= entry.event.cost();
        self.complete_after = self.complete_after.max(entry.event.revision());
        Some(entry.event)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::Log;
    use crate::limits::WatchLimits;
    use crate::{Event, Key, Record, Revision, Value};

    fn event(revision: u64) -> Arc<Event> {
        let key = Key::new("/a").expect("key");
        let revision = Revision::new(revision);
        Arc::new(Event::put(Arc::new(Record::new(key, revision, revision, &Value::opaque("x"))), None))
    }

    fn revisions(log: &Log, position: u64) -> Vec<u64> {
        log.read(position).map(|event| event.revision().get()).collect()
    }

    /// Revisions 10, 20, …, 60, one per second.
    fn log(start: Instant) -> Log {
        let mut log = Log::new(Revision::new(7));
        for number in 1..=6 {
            let position = log.append(event(number * 10), start + Duration::from_secs(number));
            assert_eq!(position, number - 1);
        }
        log
    }

    #[test]
    fn positions_survive_trimming() {
        let start = Instant::now();
        let (mut log, mut dropped) = (log(start), Vec::new());
        let limits = WatchLimits { log_events: 4, ..WatchLimits::default() };
        log.trim(&limits, start, &mut dropped);
        assert_eq!((log.first(), log.end(), dropped.len()), (2, 6, 2));
        assert_eq!(log.complete_after(), Revision::new(20));
        assert_eq!(revisions(&log, 2), [30, 40, 50, 60]);
        assert_eq!(revisions(&log, 5), [60]);
        assert_eq!(revisions(&log, 6), [0; 0]);

        let limits = WatchLimits { age: Duration::from_secs(2), ..WatchLimits::default() };
        log.trim(&limits, start + Duration::from_secs(7), &mut dropped);
        assert_eq!(revisions(&log, log.first()), [50, 60]);
        log.drop_until(Revision::new(99), &mut dropped);
        assert!(log.is_empty());
        assert_eq!((log.bytes(), log.complete_after(), dropped.len()), (0, Revision::new(99), 6));
        assert_eq!(log.append(event(100), start), 6);
    }

    #[test]
    fn a_revision_finds_the_position_behind_it() {
        let log = log(Instant::now());
        for (revision, position) in [(0, 0), (9, 0), (10, 1), (15, 1), (59, 5), (60, 6), (99, 6)] {
            assert_eq!(log.position_after(Revision::new(revision)), position, "{revision}");
        }
    }
}
