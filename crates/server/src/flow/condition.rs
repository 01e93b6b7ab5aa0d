//! The condition of a FlowSchema that says whether its level is there.

use xebec_api::time::Timestamp;
use xebec_api::{Value, object};
use xebec_store::Snapshot;

use super::ROOT;

const DANGLING: &str = "Dangling";

/// Says in a schema whether its level is there; whether that was something new.
pub(crate) fn set(schema: &mut Value, snapshot: &Snapshot, now: Timestamp) -> bool {
    let level = schema.str_at(&["spec", "priorityLevelConfiguration", "name"]).unwrap_or_default();
    let mut wanted = dangling(level, exists(snapshot, level));
    let mut conditions = schema.array_at(&["status", "conditions"]).to_vec();
    let place = conditions.iter().position(|condition| condition.str_at(&["type"]) == Some(DANGLING));
    let found = place.map(|place| conditions.remove(place));
    let same = |field: &str| found.as_ref().and_then(|c| c.str_at(&[field])) == wanted.str_at(&[field]);
    if same("status") && same("reason") && same("message") {
        return false;
    }
    let since = found.as_ref().filter(|_| same("status")).and_then(|c| c.str_at(&["lastTransitionTime"]));
    wanted.set(&["lastTransitionTime"], since.map_or_else(|| now.to_string(), str::to_owned));
    conditions.push(wanted);
    schema.set(&["status", "conditions"], conditions);
    true
}

fn exists(snapshot: &Snapshot, level: &str) -> bool {
    let key = xebec_store::Key::new(format!("{ROOT}prioritylevelconfigurations/{level}"));
    key.is_ok_and(|key| snapshot.get(&key).is_some())
}

fn dangling(level: &str, exists: bool) -> Value {
    let (status, reason, what) = match exists {
        true => ("False", "Found", "and it exists"),
        false => ("True", "NotFound", "but there is no such object"),
    };
    let message =
        format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?} {what}");
    object!({"type": DANGLING, "status": status, "reason": reason, "message": message})
}
