//! Namespaces and Nodes.

use super::Kind;
use super::fill::{fill, text};
use crate::{Value, meta, names, object};

pub(super) const NAMESPACE: Kind = Kind {
    resource: "namespaces",
    name: names::dns_label,
    generation: false,
    unconditional_update: true,
    defaults: |object, _| namespace_defaults(object),
    prepare_create: namespace_create,
    prepare_update: |object, old| match old.at(&["spec", "finalizers"]) {
        Some(finalizers) if object.as_object().is_some() => {
            object.set(&["spec", "finalizers"], finalizers.clone());
        }
        _ => drop(object.remove_at(&["spec", "finalizers"])),
    },
    ..Kind::DEFAULT
};

pub(super) const NODE: Kind = Kind {
    resource: "nodes",
    generation: false,
    unconditional_update: true,
    status_on_create: true,
    defaults: |object, _| node_defaults(object),
    ..Kind::DEFAULT
};

/// The label that names a namespace to selectors.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// The finalizer that keeps a namespace until it is empty.
const FINALIZER: &str = "kubernetes";

/// Without a name yet (`generateName`) there is no label yet either: whoever gives the name gives defaults once more.
fn namespace_defaults(object: &mut Value) {
    let name = meta::name(object).to_owned();
    if !name.is_empty() {
        object.set(&["metadata", "labels", NAME_LABEL], name);
    }
    fill(object, &[text("status!.phase", "Active")]);
}

fn namespace_create(object: &mut Value) {
    if object.as_object().is_none() {
        return;
    }
    object.set(&["status"], object!({"phase": "Active"}));
    let finalizers = object.make(&["spec", "finalizers"]);
    match finalizers.as_array_mut() {
        Some(all) if all.iter().any(|f| f.as_str() == Some(FINALIZER)) => {}
        Some(all) => all.push(FINALIZER.into()),
        None => *finalizers = vec![FINALIZER].into(),
    }
}

fn node_defaults(object: &mut Value) {
    let capacity = object.object_at(&["status", "capacity"]).cloned();
    if let (None, Some(capacity)) = (object.at(&["status", "allocatable"]), capacity) {
        object.set(&["status", "allocatable"], capacity);
    }
    for list in ["status.capacity", "status.allocatable"] {
        super::fill::each(object, list, &mut super::pod::resources::round_list);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_namespace() {
        let mut ns = object!({"metadata": {"name": "a"}, "spec": {"finalizers": ["x"]}});
        namespace_defaults(&mut ns);
        namespace_create(&mut ns);
        let want = object!({
            "metadata": {"name": "a", "labels": {"kubernetes.io/metadata.name": "a"}},
            "spec": {"finalizers": ["x", "kubernetes"]},
            "status": {"phase": "Active"}
        });
        assert_eq!(ns, want);
        let mut changed = object!({"spec": {"finalizers": []}});
        (NAMESPACE.prepare_update)(&mut changed, &want);
        assert_eq!(changed.at(&["spec", "finalizers"]), want.at(&["spec", "finalizers"]));
    }

    #[test]
    fn what_a_node_has_it_can_give() {
        let mut node = object!({"status": {"capacity": {"cpu": "4"}}});
        node_defaults(&mut node);
        assert_eq!(node, object!({"status": {"capacity": {"cpu": "4"}, "allocatable": {"cpu": "4"}}}));
    }
}
