//! Pods of a RuntimeClass get what it adds: overhead, the labels of nodes that have it, tolerations (RuntimeClass).

use xebec_api::quota::amounts;
use xebec_api::{Map, Status, Value, meta};

use super::{Attributes, Operation};
use crate::core::Core;
use crate::registry::{convert, read};

const MISMATCH: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

pub(super) fn mutate(core: &Core, attributes: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
    let Some(class) = class_of(core, attributes, pod)? else { return Ok(()) };
    if let Some(overhead) = overhead(&class) {
        let own = pod.at(&["spec", "overhead"]);
        if own.and_then(Value::as_object).is_some_and(|own| !own.is_empty())
            && amounts(own) != amounts(Some(overhead))
        {
            return Err(forbidden(pod, MISMATCH));
        }
        pod.set(&["spec", "overhead"], overhead.clone());
    }
    add_labels(pod, &class)?;
    add_tolerations(pod, &class);
    Ok(())
}

pub(super) fn validate(core: &Core, attributes: &Attributes<'_>, pod: &Value) -> Result<(), Status> {
    if attributes.operation != Operation::Create || !attributes.is("", "pods") {
        return Ok(());
    }
    let class = class_of(core, attributes, pod)?;
    let own = pod.at(&["spec", "overhead"]).filter(|own| !own.is_null());
    match (class.as_ref().and_then(overhead), own) {
        (Some(overhead), own) if amounts(own) != amounts(Some(overhead)) => Err(forbidden(pod, MISMATCH)),
        (None, Some(_)) => {
            let why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
            Err(forbidden(pod, why))
        }
        _ => Ok(()),
    }
}

fn forbidden(pod: &Value, why: impl std::fmt::Display) -> Status {
    Status::forbidden("", "pods", meta::name(pod), why)
}

/// The class that a new pod names.
fn class_of(core: &Core, attributes: &Attributes<'_>, pod: &Value) -> Result<Option<Value>, Status> {
    if attributes.operation != Operation::Create || !attributes.is("", "pods") {
        return Ok(None);
    }
    let Some(name) = pod.str_at(&["spec", "runtimeClassName"]) else { return Ok(None) };
    let table = core.table.get();
    let row = table.row("node.k8s.io", "runtimeclasses").ok_or_else(Status::no_such_path)?;
    let snapshot = core.store.snapshot();
    let record = read::find(&snapshot, row, "", name);
    let record =
        record.map_err(|_| forbidden(pod, format_args!("pod rejected: RuntimeClass {name:?} not found")))?;
    convert::stored_object(record).map(Some)
}

fn overhead(class: &Value) -> Option<&Value> {
    class.at(&["overhead"]).filter(|overhead| !overhead.is_null()).map(|overhead| {
        static NOTHING: Value = Value::Null;
        overhead.get("podFixed").unwrap_or(&NOTHING)
    })
}

fn add_labels(pod: &mut Value, class: &Value) -> Result<(), Status> {
    for (key, value) in class.object_at(&["scheduling", "nodeSelector"]).into_iter().flat_map(Map::iter) {
        let own = pod.at(&["spec", "nodeSelector"]).and_then(|labels| labels.str_at(&[key]));
        let wanted = value.as_str().unwrap_or_default();
        if let Some(own) = own.filter(|own| *own != wanted) {
            let why = format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {wanted}; pod.spec.nodeSelector[{key}] = {own}"
            );
            return Err(forbidden(pod, why));
        }
        pod.make(&["spec", "nodeSelector"]).make_object().insert(key, wanted);
    }
    Ok(())
}

fn add_tolerations(pod: &mut Value, class: &Value) {
    for toleration in class.array_at(&["scheduling", "tolerations"]) {
        if pod.array_at(&["spec", "tolerations"]).contains(toleration) {
            continue;
        }
        let list = pod.make(&["spec", "tolerations"]);
        match list.as_array_mut() {
            Some(list) => list.push(toleration.clone()),
            None => *list = Value::Array(vec![toleration.clone()]),
        }
    }
}
