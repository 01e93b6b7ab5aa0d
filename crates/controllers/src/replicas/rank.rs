//! Which pods go first when there are too many.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use crate::pod::{Phase, PodRecord};
use crate::runtime::object::Uid;

/// The place of a pod in the order of deletion: smaller goes first. Field by field:
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// Pods without a node before those with one.
    on_a_node: bool,
    /// Pending, then unknown, then running.
    phase: Phase,
    /// Not ready before ready.
    ready: bool,
    /// Cheap before dear.
    cost: i32,
    /// Ready for less than `minReadySeconds` before available.
    available: bool,
    /// Where many pods of the same workload are before where few are.
    crowd: Reverse<usize>,
    /// Ready for a short time before ready for long, in powers of two.
    ready_for: i32,
    /// Restarted often before restarted seldom.
    restarts: Reverse<i32>,
    /// Young before old, in powers of two.
    age: i32,
    /// Else by uid, which is as good as by lot, and the same every time.
    uid: Uid,
}

/// Picks `count` of `pods` to delete. `related` are the pods of the whole workload, which tell how crowded a node
/// is. Differs from Kubernetes 1.36 in two points: a ready pod that is not available yet goes before one that is,
/// since a rollout that sheds unavailable pods counts on that; and between pods that have been ready for about as
/// long, the number of restarts decides before the uid does.
pub fn choose_victims(
    pods: &[Arc<PodRecord>],
    related: &[Arc<PodRecord>],
    count: usize,
    min_ready: Duration,
    now: Timestamp,
) -> Vec<Arc<PodRecord>> {
    if count >= pods.len() {
        return pods.to_vec();
    }
    let mut crowds: HashMap<Option<&str>, usize> = HashMap::new();
    for pod in related.iter().filter(|pod| pod.is_active()) {
        *crowds.entry(pod.node.as_deref()).or_insert(0) += 1;
    }
    let mut ranked: Vec<_> = pods.to_vec();
    ranked.sort_by_cached_key(|pod| {
        let crowd = crowds.get(&pod.node.as_deref()).copied().unwrap_or(0);
        place(pod, crowd, min_ready, now)
    });
    ranked.truncate(count);
    ranked
}

fn place(pod: &PodRecord, crowd: usize, min_ready: Duration, now: Timestamp) -> Place {
    Place {
        on_a_node: pod.node.is_some(),
        phase: pod.phase,
        ready: pod.ready.is_true,
        cost: pod.deletion_cost,
        available: pod.is_available(min_ready, now),
        crowd: Reverse(crowd),
        ready_for: if pod.ready.is_true { magnitude(pod.ready.since, now) } else { 0 },
        restarts: Reverse(pod.restarts),
        age: magnitude(pod.created, now),
        uid: pod.uid.clone(),
    }
}

/// The power of two of a time span, so that pods of about the same age are chosen among by lot; an unknown time
/// counts as the shortest.
fn magnitude(since: Option<Timestamp>, now: Timestamp) -> i32 {
    let Some(since) = since else { return i32::MIN };
    let nanoseconds = now.duration_since(since).as_nanos();
    u128::try_from(nanoseconds).ok().and_then(u128::checked_ilog2).map_or(-1, u32::cast_signed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::tests::pod;

    const NOW: i64 = 2_000_000;

    fn record(name: &str, change: impl FnOnce(&mut PodRecord)) -> Arc<PodRecord> {
        let mut record = PodRecord::of(&pod("ns", name));
        record.node = Some("n1".into());
        record.phase = Phase::Running;
        record.ready.is_true = true;
        record.ready.since = Some(seconds_ago(1000));
        record.created = Some(seconds_ago(1000));
        change(&mut record);
        Arc::new(record)
    }

    fn seconds_ago(seconds: i64) -> Timestamp {
        Timestamp::from_second(NOW - seconds).unwrap()
    }

    fn first_of(one: &Arc<PodRecord>, other: &Arc<PodRecord>, related: &[Arc<PodRecord>]) -> String {
        let now = Timestamp::from_second(NOW).unwrap();
        // The order in which pods are listed must not matter.
        let ways = [[one, other], [other, one]].map(|pods| {
            let pods: Vec<_> = pods.into_iter().cloned().collect();
            choose_victims(&pods, related, 1, Duration::from_secs(60), now)[0].key.name().to_owned()
        });
        assert_eq!(ways[0], ways[1]);
        ways[0].clone()
    }

    #[test]
    fn the_less_useful_pod_goes_first() {
        type Change = fn(&mut PodRecord);
        let check = |what: &str, worse: Change, better: Change| {
            // The names would decide the other way round.
            let (worse, better) = (record("z-worse", worse), record("a-better", better));
            assert_eq!(first_of(&worse, &better, &[]), "z-worse", "{what}");
        };
        check("unscheduled", |p| p.node = None, |p| p.ready.is_true = false);
        check("pending", |p| p.phase = Phase::Pending, |p| p.ready.is_true = false);
        check("unknown", |p| p.phase = Phase::Unknown, |p| p.deletion_cost = -9);
        check("not ready", |p| p.ready.is_true = false, |p| p.deletion_cost = -9);
        check("cheap", |p| p.deletion_cost = -1, |p| p.restarts = 9);
        check("not available", |p| p.ready.since = Some(seconds_ago(50)), |p| p.restarts = 9);
        check("ready for short", |p| p.ready.since = Some(seconds_ago(100)), |p| p.restarts = 9);
        check("restarted", |p| p.restarts = 2, |p| p.created = Some(seconds_ago(1)));
        check("young", |p| p.created = Some(seconds_ago(10)), |_| {});
    }

    #[test]
    fn crowded_nodes_lose_first_and_about_the_same_age_is_by_uid() {
        let lonely = record("a-lonely", |p| p.node = Some("n2".into()));
        let crowded = record("z-crowded", |_| {});
        let neighbour = record("neighbour", |_| {});
        let related = [lonely.clone(), crowded.clone(), neighbour];
        assert_eq!(first_of(&lonely, &crowded, &related), "z-crowded");

        let older = record("a", |p| p.created = Some(seconds_ago(1010)));
        let younger = record("b", |p| p.created = Some(seconds_ago(1000)));
        assert_eq!(first_of(&older, &younger, &[]), "a");
    }
}
