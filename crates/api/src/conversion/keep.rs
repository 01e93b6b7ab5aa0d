//! What the other version cannot hold: kept in an annotation of the object, and put back.

use xebec_cel::Budget;

use super::field::Field;
use super::{Bridge, ConvertError, DATA, Declaration, rule};
use crate::{Map, Value, json};

/// How much is kept of one object, in bytes: half of what annotations may take.
const MAX_KEPT: usize = 128 * 1024;

/// Takes what is kept of the object as one of `version` out of its annotation. What cannot be read is nothing.
pub(super) fn take(object: &mut Value, version: &str) -> Map {
    const ANNOTATIONS: [&str; 2] = ["metadata", "annotations"];
    let Some(text) = object.remove_at(&[ANNOTATIONS[0], ANNOTATIONS[1], DATA]) else { return Map::new() };
    let mut all = text.as_str().and_then(|text| json::from_slice(text.as_bytes()).ok()).unwrap_or_default();
    let own = match all.remove_at(&[version]) {
        Some(Value::Object(own)) => own,
        _ => Map::new(),
    };
    match all.as_object() {
        Some(others) if !others.is_empty() => write(object, &all),
        _ if object.object_at(&ANNOTATIONS).is_some_and(Map::is_empty) => {
            object.remove_at(&ANNOTATIONS);
        }
        _ => {}
    }
    own
}

fn write(object: &mut Value, all: &Value) {
    object.set(&["metadata", "annotations", DATA], String::from_utf8_lossy(&json::to_vec(all)).as_ref());
}

impl Declaration {
    /// Keeps what of `object` would be lost on the side `to`, where it is `converted`.
    pub(super) fn preserve(
        &self,
        bridge: &Bridge,
        to: usize,
        object: &Value,
        converted: &mut Value,
        budget: &mut Budget,
    ) -> Result<(), ConvertError> {
        let from = 1 - to;
        let there: Vec<(&Field, &Value)> =
            bridge.preserve[from].iter().filter_map(|field| Some((field, field.get(object)?))).collect();
        if there.is_empty() {
            return Ok(());
        }
        // What comes back by itself is not kept; if nothing does, all is.
        let mut back = self.follow(bridge, from, converted, budget).unwrap_or_default();
        rule::fill(&bridge.rules, from, &mut back);
        let lost = there.into_iter().filter(|(field, value)| field.get(&back) != Some(*value));
        let lost: Map = lost.map(|(field, value)| (field.to_string().into(), value.clone())).collect();
        if lost.is_empty() {
            return Ok(());
        }
        let text = converted.str_at(&["metadata", "annotations", DATA]).unwrap_or_default();
        let mut all: Value = json::from_slice(text.as_bytes()).unwrap_or_default();
        all.set(&[self.name(bridge.ends[from])], Value::Object(lost));
        if json::to_vec(&all).len() > MAX_KEPT {
            let version = self.name(bridge.ends[to]).to_owned();
            return Err(ConvertError::TooMuch { version, limit: MAX_KEPT });
        }
        write(converted, &all);
        Ok(())
    }

    /// Puts back into an object of the side `to` what was kept of it, as far as the other side sees no difference.
    pub(super) fn put_back(
        &self,
        bridge: &Bridge,
        to: usize,
        mut kept: Map,
        converted: &mut Value,
        budget: &mut Budget,
    ) -> Result<(), ConvertError> {
        let fields: Vec<(&Field, Value)> = bridge.preserve[to]
            .iter()
            .filter_map(|field| Some((field, kept.remove(&field.to_string())?)))
            .filter(|(field, value)| field.get(converted) != Some(value))
            .collect();
        if fields.is_empty() {
            return Ok(());
        }
        let from = 1 - to;
        let seen = self.follow(bridge, from, converted, budget)?;
        let with = |object: &Value, fields: &[(&Field, Value)]| {
            let mut object = object.clone();
            fields.iter().for_each(|(field, value)| field.set(&mut object, value.clone()));
            object
        };
        let mut looks_same = |candidate: &Value| {
            self.follow(bridge, from, candidate, budget).is_ok_and(|other| is_same(&other, &seen))
        };
        let all = with(converted, &fields);
        if looks_same(&all) {
            *converted = all;
            return Ok(());
        }
        for field in fields {
            let one = with(converted, std::slice::from_ref(&field));
            if looks_same(&one) {
                *converted = one;
            }
        }
        Ok(())
    }
}

/// Whether two objects say the same, their metadata aside; nothing within is the same as none.
fn is_same(a: &Value, b: &Value) -> bool {
    let content = |object: &Value| {
        let mut object = object.clone();
        object.make_object().remove("metadata");
        without_empty(object)
    };
    content(a) == content(b)
}

/// The tree without objects and lists that are empty.
pub(super) fn without_empty(value: Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Object(map) => {
            let members: Map = map
                .iter()
                .filter_map(|(key, member)| Some((key.into(), without_empty(member.clone())?)))
                .collect();
            (!members.is_empty()).then_some(Value::Object(members))
        }
        Value::Array(items) if items.is_empty() => None,
        Value::Array(items) => {
            let kept = |item: Value| without_empty(item).unwrap_or_default();
            Some(Value::Array(items.into_iter().map(kept).collect()))
        }
        scalar => Some(scalar),
    }
}
