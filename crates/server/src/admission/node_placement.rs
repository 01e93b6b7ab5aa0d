//! Pods say in which zone and region their node is (PodTopologyLabels).

use xebec_api::{Map, Status, Value, meta};

use super::{Attributes, Operation, find};
use crate::core::Core;
use crate::http::route;
use crate::registry::table::Served;

const TOPOLOGY: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

pub(super) fn mutate(core: &Core, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
    if attributes.operation != Operation::Create {
        return Ok(());
    }
    if attributes.is("", "pods") {
        let node = object.str_at(&["spec", "nodeName"]).unwrap_or_default().to_owned();
        return label(core, &node, object);
    }
    Ok(())
}

/// Gives the binding of a pod to a node the labels of the node's place.
pub(super) fn posted(
    core: &Core,
    served: &Served,
    target: &route::Target,
    binding: &mut Value,
) -> Result<(), Status> {
    let row = &served.row;
    let is_binding = (row.group(), row.resource(), target.subresource.as_str()) == ("", "pods", "binding");
    if !is_binding || binding.str_at(&["target", "kind"]) != Some("Node") {
        return Ok(());
    }
    let node = binding.str_at(&["target", "name"]).unwrap_or_default().to_owned();
    label(core, &node, binding)
}

/// Gives a pod that is on a node, or the binding of one, the labels of the node's place.
fn label(core: &Core, node: &str, object: &mut Value) -> Result<(), Status> {
    if node.is_empty() {
        return Ok(());
    }
    let node = match find(core, "", "nodes", "", node) {
        Err(status) if status.code() == 404 => return Ok(()),
        found => found?,
    };
    for (key, value) in
        meta::labels(&node).into_iter().flat_map(Map::iter).filter(|(key, _)| TOPOLOGY.contains(key))
    {
        object.set(&["metadata", "labels", key], value.clone());
    }
    Ok(())
}
