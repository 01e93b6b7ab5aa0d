//! How far a pull is, in lines for a person.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::mpsc;
use xebec_image::Digest;
use xebec_image::progress::{Event, Progress};

use crate::image::size;

/// How many lines a layer gets on its way, at the most.
const STEPS: u64 = 4;

/// Tells what happens to somebody who may be slow, or gone.
pub(crate) struct PullProgress {
    lines: mpsc::Sender<String>,
    /// The steps that were told of each blob.
    told: Mutex<HashMap<Digest, u64>>,
}

impl PullProgress {
    /// Tells it to `lines`.
    pub(crate) fn new(lines: mpsc::Sender<String>) -> Self {
        Self { lines, told: Mutex::default() }
    }

    /// Whether a blob has come a step further than was told.
    fn advances(&self, blob: &Digest, done: u64, total: u64) -> bool {
        let step = u128::from(done) * u128::from(STEPS) / u128::from(total.max(1));
        let step = u64::try_from(step).unwrap_or(STEPS);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let before = told.entry(blob.clone()).or_default();
        std::mem::replace(before, step.max(*before)) < step && step < STEPS
    }
}

impl Progress for PullProgress {
    fn report(&self, event: Event<'_>) {
        let line = match event {
            Event::Resolved { layers, total, .. } => format!("{layers} layers, {}", size(total)),
            Event::Transferred { blob, done, total } if self.advances(blob, done, total) => {
                format!("{}  {} of {}", blob.short(), size(done), size(total))
            }
            Event::Complete { blob, reused: true } => format!("{}  is here already", blob.short()),
            Event::Complete { blob, reused: false } => format!("{}  complete", blob.short()),
            Event::Retrying { error, .. } => format!("trying again: {error}"),
            _ => return,
        };
        // A client that does not keep up misses some lines; waiting for it would hold up the pull.
        drop(self.lines.try_send(line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_gets_a_few_lines() {
        let (lines, mut told) = mpsc::channel(64);
        let progress = PullProgress::new(lines);
        let blob = Digest::sha256(b"");
        for done in (0..=1000).chain([500, 1000]) {
            progress.report(Event::Transferred { blob: &blob, done: done * 1000, total: 1_000_000 });
        }
        progress.report(Event::Complete { blob: &blob, reused: false });
        drop(progress);
        let told: Vec<_> = std::iter::from_fn(|| told.try_recv().ok()).collect();
        let line = |text: &str| format!("{}  {text}", blob.short());
        let steps = ["250.0 kB of 1.0 MB", "500.0 kB of 1.0 MB", "750.0 kB of 1.0 MB", "complete"];
        assert_eq!(told, steps.map(line));
    }

    #[test]
    fn nobody_waits_for_a_client() {
        let (lines, told) = mpsc::channel(1);
        let progress = PullProgress::new(lines);
        for _ in 0..3 {
            progress.report(Event::Retrying { what: "x", attempt: 1, error: "it broke" });
        }
        assert_eq!(told.len(), 1);
    }
}
