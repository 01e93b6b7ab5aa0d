//! What is counted of every request.
//!
//! A request finds the counters of its kind by one look into a table; what it counts then is added without a lock. There
//! are so many kinds as resources, verbs and scopes that were used, and [`MAX_KINDS`] at most: what comes later is counted
//! together. Names that no resource has are not told apart, so that nobody fills the table with them.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::histogram::Histogram;
use super::text::{Kind, Label, Text};
use crate::http::route::{Route, Target, Verb};

/// How many kinds of requests are told apart.
const MAX_KINDS: usize = 10_000;

const DURATIONS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0,
    20.0, 30.0, 45.0, 60.0,
];

/// Paths that are no resources and are told apart.
const PATHS: [&str; 8] =
    ["/healthz", "/livez", "/metrics", "/metrics/slis", "/openapi/v2", "/openapi/v3", "/readyz", "/version"];

/// What kind of request it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct About<'a> {
    verb: &'static str,
    dry_run: &'static str,
    group: &'a str,
    version: &'a str,
    resource: &'a str,
    subresource: &'a str,
    scope: &'static str,
}

impl<'a> About<'a> {
    /// Describes a request; one that is going nowhere is no more than a verb.
    pub(crate) fn new(verb: &'static str, route: Option<&'a Route>, dry_run: bool) -> Self {
        match route {
            Some(Route::Resource(of, target)) => Self {
                verb,
                dry_run: if dry_run { "All" } else { "" },
                group: &target.group,
                version: &target.version,
                resource: &target.resource,
                subresource: &target.subresource,
                scope: scope(*of, target),
            },
            Some(Route::Path(path)) => {
                let known = PATHS.into_iter().find(|known| known == path).unwrap_or_default();
                Self { verb, subresource: known, ..Self::default() }
            }
            None => Self { verb, ..Self::default() },
        }
    }

    /// The same of a resource that there is not.
    const fn unknown(self) -> Self {
        let Self { verb, dry_run, scope, .. } = self;
        Self { verb, dry_run, scope, group: "", version: "", resource: "", subresource: "" }
    }
}

/// How much of the cluster a request is about.
fn scope(verb: Verb, target: &Target) -> &'static str {
    if !target.name.is_empty() || verb == Verb::Create {
        "resource"
    } else if target.namespace.is_empty() {
        "cluster"
    } else {
        "namespace"
    }
}

/// The counters of one kind of request.
#[derive(Debug)]
pub(crate) struct Counters {
    about: Owned,
    durations: Histogram,
    codes: RwLock<Vec<(u16, AtomicU64)>>,
    aborted: AtomicU64,
    long_running: AtomicI64,
    /// Events sent to those who watch.
    pub(crate) events: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Owned {
    verb: &'static str,
    dry_run: &'static str,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
}

impl Owned {
    fn as_about(&self) -> About<'_> {
        About {
            verb: self.verb,
            dry_run: self.dry_run,
            group: &self.group,
            version: &self.version,
            resource: &self.resource,
            subresource: &self.subresource,
            scope: self.scope,
        }
    }
}

impl Counters {
    fn new(about: About<'_>) -> Self {
        let about = Owned {
            verb: about.verb,
            dry_run: about.dry_run,
            group: about.group.to_owned(),
            version: about.version.to_owned(),
            resource: about.resource.to_owned(),
            subresource: about.subresource.to_owned(),
            scope: about.scope,
        };
        Self {
            about,
            durations: Histogram::new(DURATIONS),
            codes: RwLock::default(),
            aborted: AtomicU64::new(0),
            long_running: AtomicI64::new(0),
            events: Arc::default(),
        }
    }

    /// A request of this kind was answered.
    pub(crate) fn answered(&self, code: u16, took: Duration) {
        self.durations.observe(took);
        {
            let codes = self.codes.read().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, count)) = codes.iter().find(|(other, _)| *other == code) {
                count.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
        let mut codes = self.codes.write().unwrap_or_else(PoisonError::into_inner);
        match codes.iter().find(|(other, _)| *other == code) {
            Some((_, count)) => drop(count.fetch_add(1, Ordering::Relaxed)),
            None => codes.push((code, AtomicU64::new(1))),
        }
    }

    /// The client of a request of this kind has gone before its answer.
    pub(crate) fn was_aborted(&self) {
        self.aborted.fetch_add(1, Ordering::Relaxed);
    }

    /// So many more requests of this kind go on for as long as their clients like.
    pub(crate) fn long_running(&self, more: i64) {
        self.long_running.fetch_add(more, Ordering::Relaxed);
    }

    fn total(&self) -> u64 {
        let codes = self.codes.read().unwrap_or_else(PoisonError::into_inner);
        codes.iter().map(|(_, count)| count.load(Ordering::Relaxed)).sum()
    }
}

/// The counters of all kinds of requests.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    /// By what the kind hashes to; few have the same hash.
    kinds: RwLock<HashMap<u64, Vec<Arc<Counters>>>>,
    hasher: RandomState,
}

impl Requests {
    /// The counters of a kind of request; `exists` says whether there is such a resource.
    pub(crate) fn of(&self, about: About<'_>, exists: impl FnOnce() -> bool) -> Arc<Counters> {
        let hash = self.hasher.hash_one(about);
        let known = |kinds: &HashMap<u64, Vec<Arc<Counters>>>, hash: u64, about: About<'_>| {
            kinds.get(&hash)?.iter().find(|counters| counters.about.as_about() == about).cloned()
        };
        {
            let kinds = self.kinds.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(counters) = known(&kinds, hash, about) {
                return counters;
            }
        }
        let about = if exists() { about } else { about.unknown() };
        let mut kinds = self.kinds.write().unwrap_or_else(PoisonError::into_inner);
        let about = if kinds.len() < MAX_KINDS { about } else { About::default() };
        let hash = self.hasher.hash_one(about);
        known(&kinds, hash, about).unwrap_or_else(|| {
            let counters = Arc::new(Counters::new(about));
            kinds.entry(hash).or_default().push(counters.clone());
            counters
        })
    }

    /// Writes all families.
    pub(super) fn write(&self, out: &mut Text) {
        let mut all: Vec<Arc<Counters>> = {
            let kinds = self.kinds.read().unwrap_or_else(PoisonError::into_inner);
            kinds.values().flatten().cloned().collect()
        };
        all.sort_by(|a, b| labels(a).cmp(&labels(b)));
        out.family(
            "apiserver_request_total",
            Kind::Counter,
            "Requests answered, by verb, resource and status code",
        );
        for counters in &all {
            let mut codes: Vec<(u16, u64)> = {
                let codes = counters.codes.read().unwrap_or_else(PoisonError::into_inner);
                codes.iter().map(|(code, count)| (*code, count.load(Ordering::Relaxed))).collect()
            };
            codes.sort_unstable();
            for (code, count) in codes {
                let code = code.to_string();
                let mut all = vec![("code", code.as_str())];
                all.extend(labels(counters));
                out.sample(&all, count);
            }
        }
        out.family(
            "apiserver_request_duration_seconds",
            Kind::Histogram,
            "How long requests took until their answer was made; of watches and long lists, until they ended",
        );
        all.iter().filter(|c| c.total() > 0).for_each(|c| c.durations.write(&labels(c), out));
        let mut numbers = |name, kind, help, value: fn(&Counters) -> i64| {
            out.family(name, kind, help);
            for counters in all.iter().filter(|counters| value(counters) != 0) {
                let own: Vec<Label<'_>> =
                    labels(counters).into_iter().filter(|(name, _)| *name != "dry_run").collect();
                out.sample(&own, value(counters));
            }
        };
        numbers(
            "apiserver_longrunning_requests",
            Kind::Gauge,
            "Watches and lists whose clients read them now",
            |c| c.long_running.load(Ordering::Relaxed),
        );
        numbers(
            "apiserver_request_aborts_total",
            Kind::Counter,
            "Requests whose clients went before they were answered",
            |c| count(&c.aborted),
        );
        write_events(&all, out);
    }
}

fn write_events(all: &[Arc<Counters>], out: &mut Text) {
    out.family("apiserver_watch_events_total", Kind::Counter, "Events sent to those who watch");
    let mut events: HashMap<[Label<'_>; 3], i64> = HashMap::new();
    for counters in all {
        let Owned { group, version, resource, .. } = &counters.about;
        let labels = [("group", &**group), ("resource", &**resource), ("version", &**version)];
        *events.entry(labels).or_default() += count(&counters.events);
    }
    let mut events: Vec<_> = events.into_iter().filter(|(_, count)| *count > 0).collect();
    events.sort_unstable();
    events.iter().for_each(|(labels, count)| out.sample(labels, count));
}

fn count(counter: &AtomicU64) -> i64 {
    i64::try_from(counter.load(Ordering::Relaxed)).unwrap_or(i64::MAX)
}

fn labels(counters: &Counters) -> [Label<'_>; 8] {
    let about = &counters.about;
    let component = if about.verb.is_empty() { "" } else { "apiserver" };
    [
        ("component", component),
        ("dry_run", about.dry_run),
        ("group", &about.group),
        ("resource", &about.resource),
        ("scope", about.scope),
        ("subresource", &about.subresource),
        ("verb", about.verb),
        ("version", &about.version),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(resource: &str) -> Route {
        let target =
            Target { version: "v1".into(), resource: resource.into(), name: "a".into(), ..Target::default() };
        Route::Resource(Verb::Get, target)
    }

    fn text(requests: &Requests) -> String {
        let mut text = Text::default();
        requests.write(&mut text);
        text.finish()
    }

    #[test]
    fn kinds_are_told_apart() {
        let requests = Requests::default();
        let pods = get("pods");
        let of = |route: &Route, verb, exists| requests.of(About::new(verb, Some(route), false), || exists);
        for code in [200, 404, 200] {
            of(&pods, "GET", true).answered(code, Duration::from_millis(1));
        }
        assert!(Arc::ptr_eq(&of(&pods, "GET", true), &of(&pods, "GET", true)));
        of(&get("nonsense"), "GET", false).answered(404, Duration::ZERO);
        assert!(Arc::ptr_eq(&of(&get("x"), "GET", false), &of(&get("y"), "GET", false)));
        let watch = of(&pods, "WATCH", true);
        watch.long_running(1);
        watch.events.fetch_add(3, Ordering::Relaxed);
        let text = text(&requests);
        let pods = r#"component="apiserver",dry_run="",group="",resource="pods",scope="resource",subresource="",verb="GET",version="v1""#;
        let none = r#"component="apiserver",dry_run="",group="",resource="",scope="resource",subresource="",verb="GET",version="""#;
        for line in [
            format!(r#"apiserver_request_total{{code="200",{pods}}} 2"#),
            format!(r#"apiserver_request_total{{code="404",{pods}}} 1"#),
            format!(r#"apiserver_request_total{{code="404",{none}}} 1"#),
            format!(r#"apiserver_request_duration_seconds_bucket{{{pods},le="0.005"}} 3"#),
            r#"apiserver_watch_events_total{group="",resource="pods",version="v1"} 3"#.to_owned(),
            r#"apiserver_longrunning_requests{component="apiserver",group="",resource="pods",scope="resource",subresource="",verb="WATCH",version="v1"} 1"#.to_owned(),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }

    #[test]
    fn kinds_are_bounded() {
        let requests = Requests::default();
        for n in 0..MAX_KINDS + 10 {
            requests.of(About::new("GET", Some(&get(&format!("r{n}"))), false), || true);
        }
        assert_eq!(requests.kinds.read().expect("unpoisoned").len(), MAX_KINDS + 1);
    }
}
