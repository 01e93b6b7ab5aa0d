//! `APIService`: which server answers for a group and version, which holds when its writer is answered.

use xebec_api::{Status, Value};

use crate::core::Core;
use crate::registry::strategy::{Strategy, Write};

#[derive(Debug)]
pub(super) struct ApiServices;

impl Strategy for ApiServices {
    fn create(&self, write: &mut Write<'_>, service: &mut Value) -> Result<(), Status> {
        let since = write.context.now.to_string();
        let conditions = service.get_mut("status").and_then(|status| status.get_mut("conditions"));
        let conditions = conditions.and_then(Value::as_array_mut);
        for condition in conditions.into_iter().flatten() {
            condition.set(&["lastTransitionTime"], since.as_str());
        }
        Ok(())
    }

    fn committed(&self, core: &Core) {
        core.aggregation.refresh(core);
    }
}
