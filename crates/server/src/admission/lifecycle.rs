//! Namespaces: nothing is made in one that is not there or is going, and three of them never go (NamespaceLifecycle).

use xebec_api::{Status, meta};

use super::{Attributes, Operation};
use crate::core::Core;
use crate::registry::convert;

/// Namespaces that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// A new object needs a namespace that is there to stay.
pub(super) fn check(core: &Core, attributes: &Attributes<'_>) -> Result<(), Status> {
    let target = attributes.target;
    let row = &target.served.row;
    if attributes.operation != Operation::Create || !row.def.is_namespaced() {
        return Ok(());
    }
    let table = core.table.get();
    let namespaces = table.row("", "namespaces").ok_or_else(Status::no_such_path)?;
    let snapshot = core.store.snapshot();
    let record = crate::registry::read::find(&snapshot, namespaces, "", target.namespace)?;
    let namespace = convert::stored_object(record)?;
    // Reviews are no objects: they may be asked for while a namespace goes.
    if meta::is_deleting(&namespace) && row.def.verbs.has(xebec_api::resource::Verbs::DELETE) {
        let why = format!(
            "unable to create new content in namespace {} because it is being terminated",
            target.namespace
        );
        let mut status = Status::forbidden(row.group(), row.resource(), target.name, why);
        if let Some(details) = &mut status.details {
            let path = xebec_api::FieldPath::new("metadata.namespace");
            details.causes.push(xebec_api::Cause::terminating(path, target.namespace));
        }
        return Err(status);
    }
    Ok(())
}

/// Some namespaces stay.
pub(super) fn protect(attributes: &Attributes<'_>) -> Result<(), Status> {
    let name = attributes.target.name;
    if attributes.operation == Operation::Delete
        && attributes.is("", "namespaces")
        && IMMORTAL.contains(&name)
    {
        return Err(Status::forbidden("", "namespaces", name, "this namespace may not be deleted"));
    }
    Ok(())
}
