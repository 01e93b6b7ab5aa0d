//! The watch over all nodes: when each was last heard of, and whether pods may be driven out of them. Pure.
//!
//! Times are moments of a clock that nobody sets and that stands still while the machine sleeps. Whoever was away all
//! the same, because the process was stopped, notices by being late for a look: the time that nobody listened is not
//! held against a node. That is told by the process's own clock, which no test moves (see [`Now`]).

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

use super::health::{GRACE, Pace, Renewal, Seen, grace, last_report, pace, zone};
use super::taints::{DriveOut, Standing, standing};
use crate::runtime::object::ObjectKey;

/// How often a node is looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How late a look may be without anybody having been away.
const LATE: Duration = Duration::from_secs(2);

/// See the module's documentation. Bounded by the nodes and zones that there are.
#[derive(Debug, Default)]
pub struct Vigil {
    nodes: HashMap<ObjectKey, Listening>,
    /// When the next node of a zone may be given up.
    paced_until: HashMap<String, Instant>,
    /// Whether every node was lost at the last look.
    all_lost: bool,
    /// Until when nobody is driven out, after every node was lost.
    calm_until: Option<Instant>,
}

/// The present moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// By the clock that nodes are heard on, which tests move.
    pub heard: Instant,
    /// By the clock that the process runs on. The same but for moves.
    pub awake: Instant,
}

/// A node among all nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    key: ObjectKey,
    zone: String,
    is_ready: bool,
}

impl Neighbour {
    /// What counts of a node for the others.
    pub fn of(node: &Node) -> Self {
        let is_ready = standing(node) == Standing::Ready;
        Self { key: ObjectKey::of(&node.metadata), zone: zone(node), is_ready }
    }
}

#[derive(Debug)]
struct Listening {
    seen: Seen,
    /// When the next look is due, by the process's clock.
    due: Instant,
}

impl Vigil {
    /// Takes in a sign of life of a node that is known.
    pub fn hear(
        &mut self,
        key: &ObjectKey,
        renewed: Option<&Renewal>,
        reported: Option<Timestamp>,
        now: Instant,
    ) {
        if let Some(Listening { seen, .. }) = self.nodes.get_mut(key) {
            seen.update(renewed, reported, now);
        }
    }

    /// Takes in a node and its lease as the caches show them; gives when it counts as lost unless it is heard of
    /// before. A node that is new here counts as seen now. Called at least every [`LOOK_EVERY`].
    pub fn listen(
        &mut self,
        key: &ObjectKey,
        node: &Node,
        renewed: Option<&Renewal>,
        Now { heard: now, awake }: Now,
    ) -> Instant {
        let seen = || Seen { at: now, renewed: renewed.cloned(), reported: last_report(node) };
        let fresh = || Listening { seen: seen(), due: awake };
        let Listening { seen, due } = self.nodes.entry(key.clone()).or_insert_with(fresh);
        let away = awake.saturating_duration_since(*due);
        if away > LATE && standing(node) != Standing::Lost {
            seen.at = (seen.at + away).min(now);
        }
        seen.update(renewed, last_report(node), now);
        let silent_at = seen.at + grace(node);
        let left = silent_at.saturating_duration_since(now);
        *due = awake + if left.is_zero() { LOOK_EVERY } else { left.min(LOOK_EVERY) };
        silent_at
    }

    /// Whether pods may be driven out of a node of `zone` that is not ready, given every node that there is, and when to
    /// ask again. The pace is used up only by a node that would change.
    pub fn drive_out(
        &mut self,
        zone: &str,
        nodes: &[Neighbour],
        would_change: bool,
        now: Instant,
    ) -> (DriveOut, Option<Instant>) {
        self.keep_only(nodes);
        let Some(pace) = pace(zone, nodes.iter().map(|node| (node.zone.as_str(), node.is_ready))) else {
            self.all_lost = true;
            return (DriveOut::No, None);
        };
        if std::mem::take(&mut self.all_lost) {
            // Somebody is back: it was us, and everybody gets their time again.
            self.nodes.values_mut().for_each(|node| node.seen.at = now);
            self.calm_until = Some(now + GRACE);
        }
        self.calm_until = self.calm_until.filter(|until| now < *until);
        if self.calm_until.is_some() {
            return (DriveOut::No, self.calm_until);
        }
        let Pace::Every(interval) = pace else { return (DriveOut::Wait, None) };
        if !would_change {
            return (DriveOut::Wait, None);
        }
        if let Some(until) = self.paced_until.get(zone).filter(|until| now < **until) {
            return (DriveOut::Wait, Some(*until));
        }
        self.paced_until.insert(zone.to_owned(), now + interval);
        (DriveOut::Yes, None)
    }

    /// Forgets a node that is gone.
    pub fn forget(&mut self, key: &ObjectKey) {
        self.nodes.remove(key);
    }

    /// Forgets what is there no more: zones, and nodes that a look under way took up again while they went.
    fn keep_only(&mut self, nodes: &[Neighbour]) {
        let zones: HashSet<_> = nodes.iter().map(|node| node.zone.as_str()).collect();
        let keys: HashSet<_> = nodes.iter().map(|node| &node.key).collect();
        self.paced_until.retain(|zone, _| zones.contains(zone.as_str()));
        self.nodes.retain(|key, _| keys.contains(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::object::Revision;
    use crate::runtime::rng::Rng;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
    use serde_json::json;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn node(ready: &str) -> Node {
        let conditions = json!([{"type": "Ready", "status": ready}]);
        serde_json::from_value(json!({"metadata": {"name": "n"}, "status": {"conditions": conditions}}))
            .unwrap()
    }

    fn at_both(moment: Instant) -> Now {
        Now { heard: moment, awake: moment }
    }

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("", name)
    }

    /// Nodes by name, zone and readiness.
    fn neighbours<'a>(nodes: impl IntoIterator<Item = ((&'a str, &'a str), bool)>) -> Vec<Neighbour> {
        let neighbour = |((name, zone), is_ready): ((&str, &str), bool)| Neighbour {
            key: key(name),
            zone: zone.to_owned(),
            is_ready,
        };
        nodes.into_iter().map(neighbour).collect()
    }

    #[test]
    fn everybody_gets_their_time_after_an_outage_of_all() {
        let start = Instant::now();
        let at = |second| start + seconds(second);
        let mut vigil = Vigil::default();
        let mut check = |ready: [bool; 3], second, drive_out, again: Option<u64>| {
            let nodes = neighbours(["a", "b", "c"].map(|name| (name, "/")).into_iter().zip(ready));
            let found = vigil.drive_out("/", &nodes, true, at(second));
            assert_eq!(found, (drive_out, again.map(at)), "{ready:?} at {second}");
        };
        let none = [false; 3];
        check(none, 0, DriveOut::No, None);
        check(none, 500, DriveOut::No, None);
        // One is back. The others, whoever asks first, get their grace.
        let some = [true, false, false];
        check(some, 600, DriveOut::No, Some(650));
        check(some, 600, DriveOut::No, Some(650));
        check(some, 649, DriveOut::No, Some(650));
        check(some, 650, DriveOut::Yes, None);
        check(some, 651, DriveOut::Wait, Some(660));
        check(some, 660, DriveOut::Yes, None);
        // Once more.
        check(none, 700, DriveOut::No, None);
        check(some, 710, DriveOut::No, Some(760));
        check(some, 760, DriveOut::Yes, None);
    }

    #[test]
    fn a_node_that_would_not_change_uses_up_no_pace() {
        let now = Instant::now();
        let mut vigil = Vigil::default();
        let nodes = neighbours([(("a", "/"), true), (("b", "/"), false)]);
        assert_eq!(vigil.drive_out("/", &nodes, false, now), (DriveOut::Wait, None));
        assert_eq!(vigil.drive_out("/", &nodes, true, now), (DriveOut::Yes, None));
    }

    #[test]
    fn nodes_and_zones_that_are_gone_are_forgotten() {
        let now = Instant::now();
        let mut vigil = Vigil::default();
        let check = |vigil: &Vigil, names: &[&str], zones: &[&str]| {
            let found: HashSet<_> = vigil.nodes.keys().map(ObjectKey::name).collect();
            assert_eq!(found, names.iter().copied().collect());
            let found: HashSet<_> = vigil.paced_until.keys().map(String::as_str).collect();
            assert_eq!(found, zones.iter().copied().collect());
        };
        for name in ["a", "b", "c"] {
            vigil.listen(&key(name), &node("Unknown"), None, at_both(now));
        }
        let nodes = neighbours([(("a", "/x"), true), (("b", "/y"), false), (("c", "/x"), false)]);
        for zone in ["/x", "/y"] {
            assert_eq!(vigil.drive_out(zone, &nodes, true, now), (DriveOut::Yes, None));
        }
        check(&vigil, &["a", "b", "c"], &["/x", "/y"]);
        // A look at the node was under way when it went.
        vigil.forget(&key("b"));
        vigil.listen(&key("b"), &node("Unknown"), None, at_both(now));
        let left: Vec<_> = nodes.into_iter().filter(|node| node.zone == "/x").collect();
        assert_eq!(vigil.drive_out("/x", &left, false, now), (DriveOut::Wait, None));
        check(&vigil, &["a", "c"], &["/x"]);
    }

    #[test]
    fn time_that_nobody_listened_is_not_held_against_a_node() {
        let start = Instant::now();
        let at = |second| start + seconds(second);
        let (ready, lost) = (node("True"), node("Unknown"));
        let check = |node: &Node, looks: &[u64], silent_at: u64| {
            let mut vigil = Vigil::default();
            let last =
                looks.iter().map(|second| vigil.listen(&key("n"), node, None, at_both(at(*second)))).last();
            assert_eq!(last, Some(at(silent_at)), "{looks:?}");
        };
        check(&ready, &[0], 50);
        check(&ready, &[0, 10, 20, 30, 40, 50], 50);
        check(&ready, &[0, 3, 12, 20, 31, 40, 52], 50);
        check(&ready, &[0, 10, 65], 95);
        check(&ready, &[0, 10, 20, 30, 40, 50, 55], 50);
        check(&ready, &[0, 10, 30_000], 30_030);
        check(&ready, &[0, 10, 110, 300], 320);
        check(&lost, &[0, 10, 65], 50);
    }

    #[test]
    fn a_clock_that_is_moved_is_held_against_a_node() {
        let start = Instant::now();
        let (ready, mut vigil) = (node("True"), Vigil::default());
        let mut check = |heard, awake, silent_at| {
            let now = Now { heard: start + seconds(heard), awake: start + seconds(awake) };
            assert_eq!(vigil.listen(&key("n"), &ready, None, now), start + seconds(silent_at));
        };
        check(0, 0, 50);
        check(60, 1, 50);
        check(1060, 31, 70);
    }

    /// Nodes that live and die, a cache of their leases that lags, and a machine that stands still for a while: a node
    /// that lives is never given up, and a dead one is in the end.
    #[test]
    fn only_the_dead_are_given_up() {
        for seed in 0..300 {
            simulate(&Rng::seeded(seed), seed);
        }
    }

    fn simulate(rng: &Rng, seed: u64) {
        let start = Instant::now();
        let (ready, key) = (node("True"), key("n"));
        let dies_at = 300 + rng.below(600);
        let mut vigil = Vigil::default();
        let (mut renewals, mut cached, mut stuck, mut frozen) = (0, 0, false, 0);
        let mut look_at = start;
        let mut beat_at = 0;
        for second in 0..5_000 {
            if rng.below(200) == 0 {
                frozen = rng.below(400);
            }
            if frozen > 0 {
                // Neither the node nor the controller runs, and time goes by.
                frozen -= 1;
                continue;
            }
            let now = start + seconds(second);
            stuck = if stuck { rng.below(300) != 0 } else { rng.below(60) == 0 };
            // Its agent is not always the first to go on.
            if second >= beat_at && second < dies_at && rng.below(3) == 0 {
                (renewals, beat_at) = (renewals + 1, second + 10);
            }
            let lease = |number: u32| Renewal {
                revision: Revision(number.into()),
                time: MicroTime(Timestamp::from_second(number.into()).unwrap()),
            };
            if !stuck && cached != renewals {
                cached = renewals;
                vigil.hear(&key, Some(&lease(cached)), None, now);
            }
            if now < look_at {
                continue;
            }
            let mut silent_at = vigil.listen(&key, &ready, Some(&lease(cached)), at_both(now));
            if silent_at <= now {
                vigil.hear(&key, Some(&lease(renewals)), None, now);
                silent_at = vigil.listen(&key, &ready, Some(&lease(cached)), at_both(now));
            }
            look_at = silent_at.min(now + LOOK_EVERY);
            if silent_at <= now {
                assert!(second >= dies_at, "seed {seed}: given up at {second}, dies at {dies_at}");
                return;
            }
        }
        panic!("seed {seed}: a node that died at {dies_at} is never given up");
    }
}
