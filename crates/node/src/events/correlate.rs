//! Which events are written, and which only count up one that is there.
//!
//! As upstream's clients do it: what is the same but for its time is one object with a count, and something that goes
//! wrong without end is told of in a burst, then every five minutes.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Event;

/// Most events that are remembered; when there are more, the oldest are forgotten and would be written anew.
const MAX_KNOWN: usize = 4096;
/// How many events of one object are written at once.
const BURST: u32 = 25;
/// How long until the next one after that.
const REFILL: Duration = Duration::from_secs(300);

/// What tells an event from others.
type Key = (String, String, String, String);

#[derive(Debug)]
struct Known {
    event: Event,
    seen: Instant,
}

#[derive(Debug)]
struct Allowance {
    left: u32,
    since: Instant,
}

/// What to do with an event.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Write {
    /// It is new.
    Create(Event),
    /// It is this one again, counted.
    Again(Event),
    /// There have been too many.
    Nothing,
}

/// Remembers what was told.
#[derive(Debug, Default)]
pub(super) struct Correlator {
    known: HashMap<Key, Known>,
    allowances: HashMap<String, Allowance>,
}

impl Correlator {
    /// Decides about an event.
    pub(super) fn take(&mut self, event: Event, now: Instant) -> Write {
        self.forget(now);
        let object = event.involved_object.uid.clone().unwrap_or_default();
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let place = text(&event.involved_object.field_path);
        let key = (object.clone(), place, text(&event.reason), text(&event.message));
        let known = match self.known.get_mut(&key) {
            Some(known) => {
                known.seen = now;
                known.event.count = known.event.count.map(|count| count.saturating_add(1));
                known.event.last_timestamp = event.last_timestamp;
                Write::Again(known.event.clone())
            }
            None => {
                self.known.insert(key, Known { event: event.clone(), seen: now });
                Write::Create(event)
            }
        };
        if self.allow(object, now) { known } else { Write::Nothing }
    }

    fn allow(&mut self, object: String, now: Instant) -> bool {
        let allowance = self.allowances.entry(object).or_insert(Allowance { left: BURST, since: now });
        while allowance.left < BURST && now.duration_since(allowance.since) >= REFILL {
            allowance.left += 1;
            allowance.since += REFILL;
        }
        if allowance.left == BURST {
            allowance.since = now;
        }
        let allowed = allowance.left > 0;
        allowance.left = allowance.left.saturating_sub(1);
        allowed
    }

    fn forget(&mut self, now: Instant) {
        if self.known.len() < MAX_KNOWN {
            return;
        }
        let mut ages: Vec<Duration> = self.known.values().map(|k| now.duration_since(k.seen)).collect();
        ages.sort_unstable();
        let middle = ages.get(ages.len() / 2).copied().unwrap_or_default();
        self.known.retain(|_, known| now.duration_since(known.seen) < middle);
        let objects: std::collections::HashSet<&String> = self.known.keys().map(|key| &key.0).collect();
        self.allowances.retain(|object, _| objects.contains(object));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ObjectReference;

    fn event(uid: &str, message: &str) -> Event {
        Event {
            involved_object: ObjectReference { uid: Some(uid.into()), ..ObjectReference::default() },
            reason: Some("Unhealthy".into()),
            message: Some(message.into()),
            count: Some(1),
            ..Event::default()
        }
    }

    #[test]
    fn repetitions_are_counted() {
        let mut correlator = Correlator::default();
        let now = Instant::now();
        let check = |correlator: &mut Correlator, of: Event, want: Option<i32>| {
            let got = match correlator.take(of, now) {
                Write::Again(event) => event.count,
                Write::Create(_) => None,
                Write::Nothing => Some(0),
            };
            assert_eq!(got, want);
        };
        check(&mut correlator, event("a", "x"), None);
        check(&mut correlator, event("a", "x"), Some(2));
        check(&mut correlator, event("a", "y"), None);
        check(&mut correlator, event("b", "x"), None);
        check(&mut correlator, event("a", "x"), Some(3));
    }

    #[test]
    fn a_flood_is_held_back() {
        let mut correlator = Correlator::default();
        let begin = Instant::now();
        let written = |correlator: &mut Correlator, at: Instant| {
            (0..100).filter(|_| correlator.take(event("a", "x"), at) != Write::Nothing).count()
        };
        assert_eq!(written(&mut correlator, begin), 25);
        assert_eq!(written(&mut correlator, begin + REFILL), 1);
        assert_eq!(written(&mut correlator, begin + REFILL * 4), 3);
        // What was held back is in the count.
        let Write::Again(last) = correlator.take(event("a", "x"), begin + REFILL * 5) else {
            panic!("it is held back")
        };
        assert_eq!(last.count, Some(301));
    }

    #[test]
    fn memory_is_bounded() {
        let mut correlator = Correlator::default();
        let begin = Instant::now();
        for n in 0..3 * MAX_KNOWN {
            correlator.take(event(&n.to_string(), "x"), begin + Duration::from_millis(n as u64));
        }
        assert!(correlator.known.len() <= MAX_KNOWN && correlator.allowances.len() <= MAX_KNOWN);
    }
}
