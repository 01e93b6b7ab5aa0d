//! Namespaces: they stay until `spec.finalizers` is empty, which the namespace controller brings about.

use xebec_api::{Status, Value, meta};

use crate::registry::strategy::{Strategy, Write};

#[derive(Debug)]
pub(super) struct Namespaces;

impl Strategy for Namespaces {
    fn create(&self, _: &mut Write<'_>, namespace: &mut Value) -> Result<(), Status> {
        namespace.set(&["spec", "finalizers"], vec!["kubernetes"]);
        namespace.set(&["status", "phase"], "Active");
        Ok(())
    }

    fn holds(&self, namespace: &Value) -> bool {
        !namespace.array_at(&["spec", "finalizers"]).is_empty()
    }

    fn deleting(&self, namespace: &mut Value) {
        if meta::is_deleting(namespace) {
            namespace.set(&["status", "phase"], "Terminating");
        }
    }
}
