//! Pods get the priority of their class (Priority), and tolerate for a while that their node is lost
//! (DefaultTolerationSeconds).

use xebec_api::{Status, Value, object};

use super::{Attributes, Operation};
use crate::core::Core;
use crate::registry::convert;

/// How long a pod stays on a node that is lost, unless it says otherwise.
const TOLERATION_SECONDS: i64 = 300;

pub(super) fn mutate(
    core: &Core,
    attributes: &Attributes<'_>,
    object: &mut Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    if !attributes.is("", "pods") {
        return Ok(());
    }
    match attributes.operation {
        Operation::Create => {
            set_priority(core, object)?;
            tolerate(object);
        }
        Operation::Update => {
            for field in ["priority", "preemptionPolicy"] {
                if let (None, Some(value)) =
                    (object.at(&["spec", field]), old.and_then(|o| o.at(&["spec", field])))
                {
                    object.set(&["spec", field], value.clone());
                }
            }
        }
        Operation::Delete => {}
    }
    Ok(())
}

fn set_priority(core: &Core, pod: &mut Value) -> Result<(), Status> {
    let named = pod.str_at(&["spec", "priorityClassName"]).unwrap_or_default().to_owned();
    let class = match named.as_str() {
        "" => default_class(core)?,
        name => Some(find_class(core, name)?),
    };
    let value = class.as_ref().and_then(|c| c.i64_at(&["value"])).unwrap_or(0);
    if pod.i64_at(&["spec", "priority"]).is_some_and(|p| p != value) {
        let why = format!(
            "the integer value of priority ({}) must not be provided in pod spec; priority admission \
                           controller computed {value} from the given PriorityClass name",
            pod.i64_at(&["spec", "priority"]).unwrap_or(0)
        );
        return Err(Status::forbidden("", "pods", xebec_api::meta::name(pod), why));
    }
    pod.set(&["spec", "priority"], value);
    if let Some(class) = class {
        pod.set(&["spec", "priorityClassName"], xebec_api::meta::name(&class));
        if pod.at(&["spec", "preemptionPolicy"]).is_none()
            && let Some(policy) = class.str_at(&["preemptionPolicy"])
        {
            pod.set(&["spec", "preemptionPolicy"], policy);
        }
    }
    if pod.at(&["spec", "preemptionPolicy"]).is_none() {
        pod.set(&["spec", "preemptionPolicy"], "PreemptLowerPriority");
    }
    Ok(())
}

fn find_class(core: &Core, name: &str) -> Result<Value, Status> {
    let table = core.table.get();
    let row = table.row("scheduling.k8s.io", "priorityclasses").ok_or_else(Status::no_such_path)?;
    let snapshot = core.store.snapshot();
    let record = crate::registry::read::find(&snapshot, row, "", name).map_err(|_| {
        Status::forbidden("", "pods", "", format!("no PriorityClass with name {name} was found"))
    })?;
    convert::stored_object(record)
}

/// The class marked as the default; of several the one with the lowest value.
fn default_class(core: &Core) -> Result<Option<Value>, Status> {
    let table = core.table.get();
    let row = table.row("scheduling.k8s.io", "priorityclasses").ok_or_else(Status::no_such_path)?;
    let snapshot = core.store.snapshot();
    let mut classes = Vec::new();
    for record in snapshot.range(&row.prefix("")?, None) {
        let class = convert::stored_object(record)?;
        if class.bool_at(&["globalDefault"]) == Some(true) {
            classes.push(class);
        }
    }
    Ok(classes.into_iter().min_by_key(|c| c.i64_at(&["value"])))
}

fn tolerate(pod: &mut Value) {
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let covers = |t: &Value| {
            let text = |field: &str| t.str_at(&[field]).unwrap_or_default();
            (text("key").is_empty() || text("key") == key) && matches!(text("effect"), "" | "NoExecute")
        };
        if pod.array_at(&["spec", "tolerations"]).iter().any(covers) {
            continue;
        }
        let toleration = object!({
            "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATION_SECONDS
        });
        let list = pod.make(&["spec", "tolerations"]);
        match list.as_array_mut() {
            Some(list) => list.push(toleration),
            None => *list = Value::Array(vec![toleration]),
        }
    }
}
