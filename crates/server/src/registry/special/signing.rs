//! `CertificateSigningRequest`: says who asked, and since when each condition holds.

use xebec_api::{Key, Map, Status, Value};

use crate::registry::strategy::{Strategy, Write};

#[derive(Debug)]
pub(super) struct SigningRequests;

impl Strategy for SigningRequests {
    /// Who asks is who sent the request, whatever the object says.
    fn create(&self, write: &mut Write<'_>, request: &mut Value) -> Result<(), Status> {
        let user = &write.context.user;
        request.set(&["spec", "username"], user.name.as_str());
        if !user.uid.is_empty() {
            request.set(&["spec", "uid"], user.uid.as_str());
        }
        let texts = |list: &[String]| Value::from(list.iter().map(String::as_str).collect::<Vec<_>>());
        request.set(&["spec", "groups"], texts(&user.groups));
        if !user.extra.is_empty() {
            let extra = user.extra.iter().map(|(name, list)| (Key::from(name.as_str()), texts(list)));
            request.set(&["spec", "extra"], extra.collect::<Map>());
        }
        Ok(())
    }

    fn update(&self, write: &mut Write<'_>, request: &mut Value) -> Result<(), Status> {
        let now = write.context.now.to_string();
        let before = write.old.map(|old| old.array_at(&["status", "conditions"])).unwrap_or_default();
        let conditions = request.at(&["status", "conditions"]).and_then(Value::as_array).unwrap_or_default();
        let dated: Vec<Value> = conditions.iter().map(|c| dated(c, before, &now)).collect();
        if !dated.is_empty() {
            request.set(&["status", "conditions"], dated);
        }
        Ok(())
    }
}

/// The condition with the times that the client left out.
fn dated(condition: &Value, before: &[Value], now: &str) -> Value {
    let mut condition = condition.clone();
    if condition.get("lastUpdateTime").is_none_or(Value::is_null) {
        condition.set(&["lastUpdateTime"], now);
    }
    if condition.get("lastTransitionTime").is_none_or(Value::is_null) {
        let same = |c: &&Value| ["type", "status"].iter().all(|field| c.get(field) == condition.get(field));
        let since = before.iter().find(same).and_then(|c| c.get("lastTransitionTime")).cloned();
        condition.set(&["lastTransitionTime"], since.unwrap_or_else(|| now.into()));
    }
    condition
}
