//! Webhook configurations: their match conditions must be expressions, and they hold when their writer is answered.

use xebec_api::{Cause, Value};

use crate::admission::webhook;
use crate::core::Core;
use crate::registry::strategy::Strategy;

#[derive(Debug)]
pub(super) struct Configurations;

impl Strategy for Configurations {
    fn faults(&self, configuration: &Value, old: Option<&Value>) -> Vec<Cause> {
        webhook::faults(configuration, old)
    }

    fn committed(&self, core: &Core) {
        core.webhooks.refresh(core);
    }
}
