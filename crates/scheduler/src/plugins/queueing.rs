//! Who may queue, and in which order.

use std::borrow::Cow;

use crate::framework::{PreEnqueue, QueueSort};
use crate::pod::PodInfo;

/// Holds pods back whose gates are not all open.
pub(super) struct SchedulingGates;

impl PreEnqueue for SchedulingGates {
    fn pre_enqueue(&self, pod: &PodInfo) -> Result<(), Cow<'static, str>> {
        if pod.gates.is_empty() {
            return Ok(());
        }
        Err(format!("waiting for scheduling gates: [{}]", pod.gates.join(" ")).into())
    }
}

/// The more important first, and then who came first.
pub(super) struct PrioritySort;

impl QueueSort for PrioritySort {
    fn place(&self, pod: &PodInfo, nth: u64) -> (i64, u64) {
        (-i64::from(pod.priority), nth)
    }
}
