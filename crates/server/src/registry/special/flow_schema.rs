//! FlowSchemas and PriorityLevelConfigurations: they hold when their writer is answered. Whether the level of a schema is
//! there is said at once; when levels come and go, by flow control.

use xebec_api::{Status, Value};

use crate::core::Core;
use crate::flow::condition;
use crate::registry::strategy::{Strategy, Write};

#[derive(Debug)]
pub(super) struct FlowSchemas;

impl Strategy for FlowSchemas {
    fn create(&self, write: &mut Write<'_>, schema: &mut Value) -> Result<(), Status> {
        condition::set(schema, write.snapshot, write.context.now);
        Ok(())
    }

    fn update(&self, write: &mut Write<'_>, schema: &mut Value) -> Result<(), Status> {
        let level = |object: &Value| object.at(&["spec", "priorityLevelConfiguration", "name"]).cloned();
        if write.old.and_then(level) != level(schema) {
            condition::set(schema, write.snapshot, write.context.now);
        }
        Ok(())
    }

    fn committed(&self, core: &Core) {
        core.flow.reconfigure(&core.store.snapshot());
    }
}

#[derive(Debug)]
pub(super) struct Levels;

impl Strategy for Levels {
    fn committed(&self, core: &Core) {
        core.flow.reconfigure(&core.store.snapshot());
    }
}
