//! From an object to what the store keeps, and from what the store says to an answer.

use std::sync::Arc;

use xebec_api::{Status, Value, json, meta, object};
use xebec_store::{CommitError, Condition, Key, Op, Txn};

use super::Written;
use crate::core::Core;
use crate::registry::convert;
use crate::registry::table::Served;

/// The object as the store keeps it: canonical, with a place for the revision.
pub(crate) fn stored(object: &mut Value) -> xebec_store::Value {
    object.set(&["metadata", "resourceVersion"], "");
    let mut out = Vec::with_capacity(1024);
    let mut revision_at = 0;
    let empty = xebec_api::Map::new();
    write_members(object.as_object().unwrap_or(&empty), &mut out, |name, value, out| {
        let Some(metadata) = value.as_object().filter(|_| name == "metadata") else {
            json::write(value, out);
            return;
        };
        write_members(metadata, out, |name, value, out| {
            json::write(value, out);
            if name == "resourceVersion" {
                // Inside the quotes.
                revision_at = out.len() - 1;
            }
        });
    });
    xebec_store::Value::revised(out, revision_at)
}

fn write_members(
    map: &xebec_api::Map,
    out: &mut Vec<u8>,
    mut member: impl FnMut(&str, &Value, &mut Vec<u8>),
) {
    out.push(b'{');
    for (i, (name, value)) in map.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        json::write_str(name, out);
        out.push(b':');
        member(name, value, out);
    }
    out.push(b'}');
}

pub(super) async fn written_dry(
    core: &Core,
    object: Value,
    served: &Served,
    created: bool,
) -> Result<Written, Status> {
    let object = convert::to_served(core, object, served).await?;
    Ok(Written { bytes: json::to_vec(&object).into(), created })
}

/// What the commit made of the object; its other hooks run now.
pub(in crate::registry) async fn finish(
    core: &Core,
    served: &Served,
    events: &[Arc<xebec_store::Event>],
    key: &Key,
    created: bool,
) -> Result<Written, Status> {
    served.row.strategy.committed(core);
    let event = events.iter().find(|e| e.key() == key);
    let record = event.ok_or_else(|| Status::internal("the store lost the event of a commit"))?.record();
    Ok(Written { bytes: convert::bytes(core, record, served).await?, created })
}

/// The answer when the store did not take a write.
pub(in crate::registry) fn commit_status(error: &CommitError) -> Status {
    match error {
        CommitError::Conflict(conflict) => Status::new(
            xebec_api::Reason::Conflict,
            format!("{} was changed by somebody else", conflict.expected.key().as_str()),
        ),
        CommitError::Invalid(fault) => {
            Status::new(xebec_api::Reason::RequestEntityTooLarge, fault.to_string())
        }
        CommitError::Storage { .. } => {
            tracing::error!(error = error as &dyn std::error::Error, "the store cannot write");
            Status::new(xebec_api::Reason::ServiceUnavailable, error.to_string())
        }
        CommitError::Unknown { .. } => {
            tracing::warn!(error = error as &dyn std::error::Error, "the outcome of a write is not known");
            Status::new(xebec_api::Reason::Timeout, error.to_string())
        }
        CommitError::Unanswered | CommitError::Closed => {
            Status::new(xebec_api::Reason::ServiceUnavailable, error.to_string())
        }
    }
}

/// A key that only one object may hold, such as an address: made with the object, gone with it.
#[must_use]
pub fn claim(txn: Txn, key: Key, owner: &Value) -> Txn {
    let holder = object!({"namespace": (meta::namespace(owner)), "name": (meta::name(owner)), "uid": (meta::uid(owner))});
    txn.when(Condition::Absent(key.clone())).put(key, xebec_store::Value::opaque(json::to_vec(&holder)))
}

/// Gives a claimed key back.
#[must_use]
pub fn release(mut txn: Txn, key: Key) -> Txn {
    txn.ops.push(Op::Delete(key));
    txn
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_revision_has_its_place() {
        let mut object = object!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "data": {"resourceVersion": ""},
            "metadata": {"name": "a", "uid": "u"}
        });
        let value = stored(&mut object);
        let at = value.revision_at.expect("a place");
        let text = std::str::from_utf8(&value.bytes).expect("JSON is UTF-8");
        assert_eq!(
            format!("{}7{}", &text[..at], &text[at..]),
            r#"{"apiVersion":"v1","data":{"resourceVersion":""},"kind":"ConfigMap","metadata":{"name":"a","resourceVersion":"7","uid":"u"}}"#
        );
    }
}
