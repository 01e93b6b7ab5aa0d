//! Claims and ingresses that name no class get the one that is marked as the default, of several the newest
//! (DefaultStorageClass, DefaultIngressClass).

use xebec_api::{Status, Value, meta};

use super::{Attributes, Operation};
use crate::core::Core;
use crate::registry::convert;

pub(super) fn mutate(core: &Core, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
    if attributes.operation != Operation::Create {
        return Ok(());
    }
    let (group, resource, marks, field, former): (_, _, &[&str], _, _) =
        if attributes.is("", "persistentvolumeclaims") {
            (
                "storage.k8s.io",
                "storageclasses",
                &[
                    "storageclass.kubernetes.io/is-default-class",
                    "storageclass.beta.kubernetes.io/is-default-class",
                ],
                "storageClassName",
                "volume.beta.kubernetes.io/storage-class",
            )
        } else if attributes.is("networking.k8s.io", "ingresses") {
            (
                "networking.k8s.io",
                "ingressclasses",
                &["ingressclass.kubernetes.io/is-default-class"],
                "ingressClassName",
                "kubernetes.io/ingress.class",
            )
        } else {
            return Ok(());
        };
    let named = object.at(&["spec", field]).is_some_and(|class| !class.is_null());
    if named || meta::annotation(object, former).is_some() {
        return Ok(());
    }
    if let Some(class) = default(&all(core, group, resource)?, marks) {
        object.set(&["spec", field], class);
    }
    Ok(())
}

fn all(core: &Core, group: &str, resource: &str) -> Result<Vec<Value>, Status> {
    let prefix = core.table.get().row(group, resource).ok_or_else(Status::no_such_path)?.prefix("")?;
    core.store.snapshot().range(&prefix, None).map(|record| convert::stored_object(record)).collect()
}

/// The name of the default class: the newest, of those the first by name.
fn default<'a>(classes: &'a [Value], marks: &[&str]) -> Option<&'a str> {
    let is_marked = |class: &&Value| marks.iter().any(|mark| meta::annotation(class, mark) == Some("true"));
    let age = |class: &Value| class.str_at(&["metadata", "creationTimestamp"]).unwrap_or_default().to_owned();
    let marked = classes.iter().filter(is_marked);
    let newest = marked.min_by(|a, b| age(b).cmp(&age(a)).then_with(|| meta::name(a).cmp(meta::name(b))));
    newest.map(meta::name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use xebec_api::object;

    #[test]
    fn the_newest_default_counts() {
        let class = |name: &str, made: &str, mark: &str| {
            let mut class = object!({"metadata": {"name": name, "creationTimestamp": made}});
            class.set(&["metadata", "annotations", "default"], mark);
            class
        };
        let check =
            |classes: &[Value], want: Option<&str>| assert_eq!(default(classes, &["x", "default"]), want);
        let (old, new) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        check(&[class("a", old, "false"), class("b", old, "yes")], None);
        check(&[class("a", old, "true"), class("b", new, "true"), class("c", new, "true")], Some("b"));
        check(&[class("b", new, "true"), class("a", new, "true"), class("c", new, "false")], Some("a"));
    }
}
