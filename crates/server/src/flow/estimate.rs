//! How many seats a request takes: one, and more for lists by how many objects they go through.
//!
//! Objects are counted when somebody lists them, and the count is good for a while: it need not be exact.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::core::Core;
use crate::http::query::Query;
use crate::http::route::{Route, Target, Verb};

/// So many objects are worth a seat.
const OBJECTS_PER_SEAT: usize = 100;
/// The widest request.
const MAX_SEATS: usize = 10;
/// How long a count is good.
const GOOD_FOR: Duration = Duration::from_secs(10);

/// How many objects there were of a resource, by group and name.
#[derive(Debug, Default)]
pub(crate) struct Estimate {
    groups: Mutex<HashMap<String, Counts>>,
}

/// How many there were of each resource of a group, and when.
type Counts = HashMap<String, (usize, Instant)>;

impl Estimate {
    /// The seats of a request; `named` if its selectors leave one object only.
    pub(crate) fn seats(&self, core: &Core, route: &Route, query: &Query, named: bool) -> u64 {
        let Route::Resource(verb, target) = route else { return 1 };
        let lists = match verb {
            Verb::List | Verb::DeleteCollection => true,
            Verb::Watch => begins_with_objects(query),
            _ => false,
        };
        if !lists || named {
            return 1;
        }
        let count = self.count(core, target);
        let selects = query.get("labelSelector").or_else(|| query.get("fieldSelector")).is_some();
        let limit = query.get("limit").and_then(|text| text.parse().ok()).filter(|limit| *limit > 0);
        seats(count, if selects { None } else { limit })
    }

    /// Objects of a resource, in all namespaces: those of one are no more.
    fn count(&self, core: &Core, target: &Target) -> usize {
        let known = self.groups().get(&target.group).and_then(|group| group.get(&target.resource)).copied();
        if let Some((count, at)) = known
            && at.elapsed() < GOOD_FOR
        {
            return count;
        }
        let table = core.table.get();
        // What is no resource is not remembered.
        let Some(row) = table.row(&target.group, &target.resource) else { return 0 };
        let Ok(prefix) = row.prefix("") else { return 0 };
        let count = core.store.snapshot().count(&prefix);
        let mut groups = self.groups();
        let group = groups.entry(target.group.clone()).or_default();
        group.insert(target.resource.clone(), (count, Instant::now()));
        count
    }

    fn groups(&self) -> MutexGuard<'_, HashMap<String, Counts>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a watch tells of what is there before it tells of changes.
fn begins_with_objects(query: &Query) -> bool {
    let from_now = matches!(query.get("resourceVersion"), None | Some("0"));
    query.flag("sendInitialEvents") == Some(true) || from_now
}

fn seats(count: usize, limit: Option<usize>) -> u64 {
    let goes_through = limit.map_or(count, |limit| limit.min(count));
    goes_through.div_ceil(OBJECTS_PER_SEAT).clamp(1, MAX_SEATS) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_by_objects() {
        for (count, limit, want) in [
            (0, None, 1),
            (100, None, 1),
            (101, None, 2),
            (500, None, 5),
            (100_000, None, 10),
            (100_000, Some(500), 5),
            (100_000, Some(1), 1),
            (150, Some(500), 2),
        ] {
            assert_eq!(seats(count, limit), want, "{count} {limit:?}");
        }
    }

    #[test]
    fn watches_that_begin_with_objects() {
        for (query, want) in [
            ("", true),
            ("resourceVersion=0", true),
            ("resourceVersion=7", false),
            ("resourceVersion=7&sendInitialEvents=true", true),
        ] {
            assert_eq!(begins_with_objects(&Query::parse(query)), want, "{query}");
        }
    }
}
