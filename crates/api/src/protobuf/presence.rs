//! What JSON shows of zero values, as Go's types have it: the same for every object, however its client wrote it.
//!
//! A struct that is no pointer is always there (`status: {}`), and so is a number, a text or a list whose zero is not left
//! out (`replicas: 0`, `rules: null`); an empty list or map of any other field is not. Objects are brought to this form
//! before their fields get owners and before they are stored, so that what is read back does not depend on the writer.

use super::Message;
use super::decode::is_zero;
use super::table::{self, Field, Kind, Presence, Row, Shape};
use crate::{Key, Map, Value};

/// Gives an object of the type the members that JSON always shows, and takes those that it never does. What is not of the
/// type is left as it is.
pub fn settle(object: &mut Value, message: Message) {
    if let Value::Object(map) = object {
        members(map, message.0);
    }
}

fn members(map: &mut Map, row: &'static Row) {
    map.retain(|name, value| find(row, name).is_none_or(|field| member(value, field)));
    for field in row.fields().iter().filter(|field| field.presence == Presence::Kept) {
        match (field.shape, field.kind) {
            (Shape::Inline, Kind::Message(message)) => members(map, table::row(message)),
            _ if map.contains(field.name) => {}
            _ => drop(map.insert(Key::const_new(field.name), zero(field))),
        }
    }
}

/// The field of this name; those of a message that is written inline are its own.
fn find(row: &'static Row, name: &str) -> Option<&'static Field> {
    row.field(name).filter(|field| field.shape != Shape::Inline)
}

/// Settles a value; whether it is shown.
fn member(value: &mut Value, field: &'static Field) -> bool {
    if let Kind::Message(message) = field.kind {
        let row = table::row(message);
        match value {
            Value::Object(map) if field.shape == Shape::One => members(map, row),
            Value::Object(map) => map.iter_mut().for_each(|(_, item)| nested(item, row)),
            Value::Array(items) => items.iter_mut().for_each(|item| nested(item, row)),
            _ => {}
        }
    }
    match (field.presence, &*value) {
        (Presence::Dropped, Value::Object(map)) => field.shape != Shape::Map || !map.is_empty(),
        (Presence::Dropped, other) => !is_zero(other),
        (Presence::Kept, Value::Null) => {
            *value = zero(field);
            true
        }
        (Presence::Kept, _) => true,
        // What is free may be `null`, and mean it.
        (Presence::Optional, value) => !value.is_null() || field.kind == Kind::Raw,
    }
}

fn nested(value: &mut Value, row: &'static Row) {
    if let Value::Object(map) = value {
        members(map, row);
    }
}

/// What JSON shows of a field that is not there.
fn zero(field: &'static Field) -> Value {
    match (field.shape, field.kind) {
        (Shape::List | Shape::Map, _) => Value::Null,
        (Shape::One | Shape::Inline, Kind::Message(message)) => {
            let mut map = Map::new();
            members(&mut map, table::row(message));
            Value::Object(map)
        }
        (_, Kind::Text) => "".into(),
        (_, Kind::Int32 | Kind::Int64 | Kind::Double | Kind::IntOrString) => 0.into(),
        (_, Kind::Bool | Kind::SchemaOrBool) => false.into(),
        (_, Kind::Quantity) => "0".into(),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object;

    fn check(api_version: &str, kind: &str, mut object: Value, want: &Value) {
        settle(&mut object, Message::of(api_version, kind).expect("a built-in kind"));
        assert_eq!(&object, want, "{kind}");
        let again = object.clone();
        settle(&mut object, Message::of(api_version, kind).expect("a built-in kind"));
        assert_eq!(object, again, "{kind}, again");
    }

    #[test]
    fn structs_are_there_and_empty_lists_are_not() {
        check(
            "apps/v1",
            "ReplicaSet",
            object!({"metadata": {"labels": {}}, "spec": {"selector": {"matchExpressions": []}, "replicas": 0}}),
            &object!({
                "metadata": {},
                "spec": {
                    "replicas": 0, "selector": {},
                    "template": {"metadata": {}, "spec": {"containers": null}}
                },
                "status": {"replicas": 0}
            }),
        );
    }

    #[test]
    fn zeros_that_are_shown() {
        let role = "rbac.authorization.k8s.io/v1";
        check(role, "Role", object!({}), &object!({"metadata": {}, "rules": null}));
        check(role, "Role", object!({"rules": []}), &object!({"metadata": {}, "rules": []}));
        check(
            "v1",
            "Pod",
            object!({"spec": {"containers": [{"name": "a", "image": "", "ports": [{"hostPort": 0}]}]}}),
            &object!({
                "metadata": {},
                "spec": {"containers": [{"name": "a", "ports": [{"containerPort": 0}], "resources": {}}]},
                "status": {}
            }),
        );
    }

    #[test]
    fn elements_keep_their_key_by_default() {
        use crate::{builtin, fields};
        let (schema, pod) = (builtin::schema(), builtin::kind("", "v1", "Pod").expect("a built-in kind"));
        let mut object = object!({"spec": {"containers": [], "imagePullSecrets": [{"name": ""}]}});
        settle(&mut object, Message::of("v1", "Pod").expect("a built-in kind"));
        assert_eq!(object.at(&["spec", "imagePullSecrets"]), Some(&object!([{}])));
        assert!(fields::owned(&object, schema.at(pod)).is_ok());
    }

    #[test]
    fn what_is_written_inline() {
        check(
            "v1",
            "PodTemplate",
            object!({"template": {"spec": {"volumes": [{"name": "a", "emptyDir": {}}]}}}),
            &object!({
                "metadata": {},
                "template": {
                    "metadata": {},
                    "spec": {"containers": null, "volumes": [{"name": "a", "emptyDir": {}}]}
                }
            }),
        );
    }
}
