//! The audit log: who did what, when, and what came of it (audit.k8s.io/v1).
//!
//! ```text
//!   request ──policy──▶ Record, filled on its way ──stages──▶ lines of JSON ──▶ queue ──▶ file
//! ```
//!
//! The policy decides for each request once. A request of which nothing is recorded pays for that decision only. The
//! bodies of lists are not recorded, whatever the level.

mod event;
mod log;
mod policy;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use xebec_api::time::Timestamp;

pub(crate) use event::{Begin, Outcome, Record};
use log::Log;
pub use log::LogSettings;
use policy::Level;
pub(crate) use policy::Stage;
pub use policy::{Policy, PolicyError};

use crate::auth::User;
use crate::metrics::text::{Kind, Text};

/// What is recorded, and where.
#[derive(Clone, Debug)]
pub struct AuditSettings {
    /// Which requests are recorded.
    pub policy: Policy,
    /// Where to.
    pub log: LogSettings,
}

/// The audit log of one server.
#[derive(Debug)]
pub(crate) struct Audit {
    policy: Policy,
    log: Log,
    events: AtomicU64,
    levels: [AtomicU64; 4],
}

impl Audit {
    /// Opens the log; its thread ends with it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn open(settings: AuditSettings) -> io::Result<Self> {
        // The thread ends when nobody can queue anything any more; at the end of a server it is waited for by `flush`.
        let (log, _thread) = Log::open(settings.log)?;
        Ok(Self { policy: settings.policy, log, events: AtomicU64::new(0), levels: Default::default() })
    }

    /// What is recorded of a request, if anything is.
    pub(crate) fn begin(&self, begin: &Begin<'_>) -> Option<Box<Record>> {
        let nobody = User::default();
        let decision = self.policy.decide(begin.user.map_or(&nobody, Arc::as_ref), begin.question);
        self.levels[decision.level as usize].fetch_add(1, Ordering::Relaxed);
        (decision.level > Level::None).then(|| Box::new(Record::new(begin, decision)))
    }

    /// Records a stage; waits until it is written, if that is what was chosen.
    pub(crate) async fn tell(&self, record: &Record, stage: Stage, outcome: Outcome<'_>, now: Timestamp) {
        if record.has(stage) {
            self.events.fetch_add(1, Ordering::Relaxed);
            self.log.write(record.line(stage, outcome, now)).await;
        }
    }

    /// Records a stage where nobody can wait.
    pub(crate) fn tell_soon(&self, record: &Record, stage: Stage, outcome: Outcome<'_>, now: Timestamp) {
        if record.has(stage) {
            self.events.fetch_add(1, Ordering::Relaxed);
            self.log.offer(record.line(stage, outcome, now));
        }
    }

    /// Waits until all is written.
    pub(crate) async fn flush(&self) {
        self.log.flush().await;
    }

    /// Writes its metrics.
    pub(crate) fn write(&self, out: &mut Text) {
        out.family("apiserver_audit_event_total", Kind::Counter, "Audit events that were to be written");
        out.sample(&[], self.events.load(Ordering::Relaxed));
        out.family("apiserver_audit_error_total", Kind::Counter, "Audit events that are lost");
        out.sample(&[("plugin", "log")], self.log.lost());
        out.family("apiserver_audit_level_total", Kind::Counter, "Requests by how much of them is recorded");
        let levels = [Level::None, Level::Metadata, Level::Request, Level::RequestResponse];
        for (level, count) in levels.iter().zip(&self.levels) {
            out.sample(&[("level", level.as_str())], count.load(Ordering::Relaxed));
        }
    }
}
