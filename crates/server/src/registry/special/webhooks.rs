//! Webhook configurations: their match conditions must be expressions, and they hold when their writer is answered.

use xebec_api::{Status, Value, meta};

use crate::admission::webhook;
use crate::core::Core;
use crate::registry::strategy::{Strategy, Write};

/// The strategy of configurations of a kind.
#[derive(Debug)]
pub(super) struct Configurations(pub(super) &'static str);

impl Strategy for Configurations {
    fn create(&self, write: &mut Write<'_>, configuration: &mut Value) -> Result<(), Status> {
        self.check(write, configuration)
    }

    fn update(&self, write: &mut Write<'_>, configuration: &mut Value) -> Result<(), Status> {
        self.check(write, configuration)
    }

    fn committed(&self, core: &Core) {
        core.webhooks.refresh(core);
    }
}

impl Configurations {
    fn check(&self, write: &Write<'_>, configuration: &Value) -> Result<(), Status> {
        let causes = webhook::condition_faults(configuration, write.old);
        if causes.is_empty() {
            return Ok(());
        }
        Err(Status::invalid("admissionregistration.k8s.io", self.0, meta::name(configuration), causes))
    }
}
