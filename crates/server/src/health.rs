//! How the server is: `/livez`, `/readyz` and `/healthz`, each by checks with names, upstream's where it has the same.
//!
//! | question | is answered by |
//! |---|---|
//! | `livez`: should it be started anew? | it answers, has started, and none of its own tasks is lost |
//! | `healthz` | the same, and that it can write |
//! | `readyz`: should it get requests? | the same, and that it is not about to stop |
//!
//! A store that takes no writes is no reason to start anew: reading goes on, and another start makes no room on the disk.
//!
//! Whoever asks for a question need not say who they are, and learns which checks fail; why is told to the log, and to who
//! may ask for a check by its name.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use http::StatusCode;
use xebec_api::Status;
use xebec_store::Health as StoreHealth;

use crate::core::Core;
use crate::http::query::Query;
use crate::http::reply::Reply;

/// What the server knows of itself.
#[derive(Debug, Default)]
pub struct Health {
    /// What every cluster has is written, and what is stored has been read.
    started: AtomicBool,
    /// A task of the server's own has ended too early.
    crippled: AtomicBool,
    /// The server is about to stop.
    draining: AtomicBool,
    /// How often each check was asked under each question, and failed.
    asked: [[Asked; CHECKS.len()]; Question::ALL.len()],
}

/// What came of a check.
#[derive(Debug, Default)]
struct Asked {
    passed: AtomicU64,
    failed: AtomicU64,
    fails_now: AtomicBool,
}

/// What the server is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    Live,
    Healthy,
    Ready,
}

impl Question {
    const ALL: [Self; 3] = [Self::Live, Self::Healthy, Self::Ready];

    /// The question that a path's first segment is.
    pub(crate) fn read(segment: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|question| question.as_str() == segment)
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "livez",
            Self::Healthy => "healthz",
            Self::Ready => "readyz",
        }
    }
}

/// One check.
struct Check {
    name: &'static str,
    questions: &'static [Question],
    /// Why it fails, if it does.
    fault: fn(&Core) -> Option<String>,
}

const ALL: &[Question] = &Question::ALL;
const CHECKS: [Check; 9] = [
    check("ping", ALL, |_| None),
    check("etcd", &[Question::Healthy, Question::Ready], store),
    check("etcd-readiness", &[Question::Ready], store),
    check("informer-sync", &[Question::Ready], started),
    check("tasks", ALL, tasks),
    check("poststarthook/crd-informer-synced", ALL, started),
    check("poststarthook/rbac/bootstrap-roles", ALL, started),
    check("poststarthook/scheduling/bootstrap-system-priority-classes", ALL, started),
    check("shutdown", &[Question::Ready], |core| {
        core.health.draining.load(Ordering::Relaxed).then(|| "process is shutting down".to_owned())
    }),
];

const fn check(
    name: &'static str,
    questions: &'static [Question],
    fault: fn(&Core) -> Option<String>,
) -> Check {
    Check { name, questions, fault }
}

fn store(core: &Core) -> Option<String> {
    match core.store.health() {
        StoreHealth::Writable => None,
        StoreHealth::ReadOnly { reason, .. } => Some(format!("the store takes no writes: {reason}")),
        StoreHealth::Closed => Some("the store is shut down".to_owned()),
    }
}

fn started(core: &Core) -> Option<String> {
    let started = core.health.started.load(Ordering::Relaxed);
    (!started).then(|| "the server has not started yet".to_owned())
}

fn tasks(core: &Core) -> Option<String> {
    let crippled = core.health.crippled.load(Ordering::Relaxed);
    crippled.then(|| "a task of the server is lost, which its log tells of".to_owned())
}

impl Health {
    /// The server has started.
    pub(crate) fn has_started(&self) {
        self.started.store(true, Ordering::Relaxed);
    }

    /// A task of the server's own is lost.
    pub(crate) fn is_crippled(&self) {
        self.crippled.store(true, Ordering::Relaxed);
    }

    /// The server is about to stop: it is no longer ready.
    pub(crate) fn drains(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// What has come of the checks: question, check, passed, failed, and whether it failed the last time.
    pub(crate) fn outcomes(&self) -> impl Iterator<Item = (&'static str, &'static str, u64, u64, bool)> {
        Question::ALL.into_iter().flat_map(move |question| {
            let here = move |check: &(usize, &Check)| check.1.questions.contains(&question);
            CHECKS.iter().enumerate().filter(here).map(move |(n, check)| {
                let asked = &self.asked[question as usize][n];
                let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
                let fails = asked.fails_now.load(Ordering::Relaxed);
                (question.as_str(), check.name, count(&asked.passed), count(&asked.failed), fails)
            })
        })
    }

    fn note(&self, question: Question, check: usize, fails: bool) {
        let asked = &self.asked[question as usize][check];
        let counter = if fails { &asked.failed } else { &asked.passed };
        counter.fetch_add(1, Ordering::Relaxed);
        asked.fails_now.store(fails, Ordering::Relaxed);
    }
}

/// Answers a question: all checks, or the one that the rest of the path names.
///
/// # Errors
/// 404: there is no such check.
pub(crate) fn answer(core: &Core, question: Question, rest: &[&str], query: &Query) -> Result<Reply, Status> {
    let checks = || CHECKS.iter().enumerate().filter(|(_, check)| check.questions.contains(&question));
    if rest.is_empty() {
        return Ok(all(core, question, checks(), query));
    }
    let name = rest.join("/");
    let (n, check) = checks().find(|(_, check)| check.name == name).ok_or_else(Status::no_such_path)?;
    let fault = (check.fault)(core);
    core.health.note(question, n, fault.is_some());
    Ok(match fault {
        None => Reply::Text(StatusCode::OK, "ok".into()),
        Some(why) => failed(format!("internal server error: {why}\n")),
    })
}

fn all(
    core: &Core,
    question: Question,
    checks: impl Iterator<Item = (usize, &'static Check)>,
    query: &Query,
) -> Reply {
    let mut excluded: Vec<&str> = query.all("exclude").collect();
    excluded.sort_unstable();
    excluded.dedup();
    let mut unknown = excluded.clone();
    let (mut text, mut fails) = (String::new(), false);
    for (n, Check { name, fault, .. }) in checks {
        if excluded.contains(name) {
            unknown.retain(|other| other != name);
            text.push_str(&format!("[+]{name} excluded: ok\n"));
            continue;
        }
        let fault = fault(core);
        core.health.note(question, n, fault.is_some());
        match fault {
            None => text.push_str(&format!("[+]{name} ok\n")),
            Some(why) => {
                fails = true;
                text.push_str(&format!("[-]{name} failed: reason withheld\n"));
                tracing::warn!(question = question.as_str(), check = name, why, "the server is not well");
            }
        }
    }
    if !unknown.is_empty() {
        let names: Vec<String> = unknown.iter().map(|name| format!("{name:?}")).collect();
        let names = names.join(",");
        text.push_str(&format!("warn: some health checks cannot be excluded: no matches for {names}\n"));
    }
    let question = question.as_str();
    if fails {
        return failed(format!("{text}{question} check failed\n"));
    }
    let verbose = query.all("verbose").next().is_some();
    let text = if verbose { format!("{text}{question} check passed\n") } else { "ok".into() };
    Reply::Text(StatusCode::OK, text)
}

fn failed(text: String) -> Reply {
    Reply::Text(StatusCode::INTERNAL_SERVER_ERROR, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tests::server;

    fn ask(core: &Core, path: &str) -> (u16, String) {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let segments: Vec<&str> = path.split('/').collect();
        let question = Question::read(segments[0]).expect("a question");
        match answer(core, question, &segments[1..], &Query::parse(query)) {
            Ok(Reply::Text(code, text)) => (code.as_u16(), text),
            Ok(_) => panic!("no text"),
            Err(status) => (status.code(), String::new()),
        }
    }

    #[tokio::test]
    async fn questions_differ() {
        let (server, _dir) = server();
        let core = server.core();
        let codes = |core| ["livez", "healthz", "readyz"].map(|question| ask(core, question).0);
        assert_eq!(codes(core), [500; 3], "it has not started");
        core.health.has_started();
        assert_eq!(codes(core), [200; 3]);
        core.health.drains();
        assert_eq!(codes(core), [200, 200, 500], "it goes");
        core.store.shutdown().await;
        assert_eq!(codes(core), [200, 500, 500], "it cannot write");
        core.health.is_crippled();
        assert_eq!(codes(core), [500; 3], "it should be started anew");
    }

    #[tokio::test]
    async fn checks_are_told_apart() {
        let (server, _dir) = server();
        let core = server.core();
        core.health.has_started();
        let check = |path: &str, want: u16, text: &str| {
            let (code, found) = ask(core, path);
            assert_eq!(code, want, "{path}: {found}");
            assert!(found.contains(text), "{path}: {found}");
        };
        check("readyz", 200, "ok");
        check("readyz?verbose", 200, "[+]ping ok\n[+]etcd ok\n[+]etcd-readiness ok\n");
        check("readyz?verbose", 200, "[+]shutdown ok\nreadyz check passed\n");
        check("readyz/ping", 200, "ok");
        check("readyz/poststarthook/rbac/bootstrap-roles", 200, "ok");
        check("readyz/nonsense", 404, "");
        check("livez/shutdown", 404, "");
        core.health.drains();
        check("readyz", 500, "[+]ping ok\n");
        check("readyz", 500, "[-]shutdown failed: reason withheld\nreadyz check failed\n");
        check("readyz/shutdown", 500, "internal server error: process is shutting down\n");
        check("readyz?exclude=shutdown", 200, "ok");
        check("readyz?exclude=shutdown&verbose", 200, "[+]shutdown excluded: ok\n");
        let unknown = "warn: some health checks cannot be excluded: no matches for \"a\",\"b\"\n";
        check("readyz?exclude=shutdown&exclude=b&exclude=a&verbose", 200, unknown);
        let asked = core
            .health
            .outcomes()
            .find(|(question, check, ..)| (*question, *check) == ("readyz", "shutdown"));
        assert_eq!(asked, Some(("readyz", "shutdown", 3, 3, true)));
    }
}
