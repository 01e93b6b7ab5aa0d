//! Conversion by what a definition declares, in this process.

use xebec_api::conversion::Declaration;
use xebec_api::{Value, meta};

use crate::registry::table::Row;

/// The declaration of one definition, or why it is none: it was valid when it was written.
#[derive(Debug)]
pub(crate) struct Declared(Result<Declaration, String>);

impl Declared {
    pub(super) fn read(definition: &Value) -> Self {
        let read = Declaration::read(definition).map_err(|faults| faults.join("; "));
        Self(read.and_then(|declaration| declaration.ok_or_else(|| "there is none".to_owned())))
    }

    /// Converts objects one by one, between which others have their turn.
    pub(super) async fn convert(
        &self,
        row: &Row,
        objects: Vec<Value>,
        to: &str,
    ) -> Result<Vec<Value>, String> {
        let declaration = self.0.as_ref().map_err(|why| {
            format!("the conversion that the definition of {} declares cannot be used: {why}", row.resource())
        })?;
        let mut converted = Vec::with_capacity(objects.len());
        for object in objects {
            let from = object.str_at(&["apiVersion"]).unwrap_or_default().to_owned();
            let name = meta::name(&object).to_owned();
            let object = declaration.convert(object, to).map_err(|error| {
                format!("conversion of {from}, Kind={} {name:?} to {to} failed: {error}", row.kind_name())
            })?;
            converted.push(object);
            tokio::task::yield_now().await;
        }
        Ok(converted)
    }
}
