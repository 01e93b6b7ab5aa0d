//! What expressions of mutations give, as JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use xebec_api::{Map, Value, patch};
use xebec_cel::time::show_duration;
use xebec_cel::value::Object;
use xebec_cel::{Tree, Value as CelValue, View};

/// How much one expression may make, in bytes of JSON: as much as a request may bring. What its variables share between
/// them counts wherever it stands.
const MAX_MADE: usize = 3 * 1024 * 1024;
/// How deep it may nest: as deep as JSON may.
const MAX_DEPTH: usize = patch::MAX_DEPTH;

/// A value as JSON.
///
/// # Errors
/// It has none, or is too large or too deep.
pub(super) fn to_json(value: &CelValue<'_>) -> Result<Value, String> {
    Made { left: MAX_MADE }.value(value, 0)
}

struct Made {
    left: usize,
}

impl Made {
    fn pay(&mut self, bytes: usize) -> Result<(), String> {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(format!("the expression makes more than {MAX_MADE} bytes")),
        }
    }

    fn deeper(depth: usize) -> Result<usize, String> {
        if depth < MAX_DEPTH {
            Ok(depth + 1)
        } else {
            Err(format!("the expression makes what nests deeper than {MAX_DEPTH} levels"))
        }
    }

    fn value(&mut self, value: &CelValue<'_>, depth: usize) -> Result<Value, String> {
        self.pay(1)?;
        Ok(match value {
            CelValue::Null => Value::Null,
            CelValue::Bool(value) => Value::Bool(*value),
            CelValue::Int(value) => Value::Int(*value),
            CelValue::Uint(value) => match i64::try_from(*value) {
                Ok(value) => Value::Int(value),
                Err(_) => return Err(format!("{value} is larger than JSON's integers may be")),
            },
            CelValue::Double(value) if value.is_finite() => Value::Float(*value),
            CelValue::String(text) => self.text(text)?,
            CelValue::Bytes(bytes) => self.text(&STANDARD.encode(&**bytes))?,
            CelValue::Timestamp(at) => self.text(&at.to_string())?,
            CelValue::Duration(nanos) => self.text(&show_duration(*nanos))?,
            CelValue::List(list) => {
                let depth = Self::deeper(depth)?;
                let mut items = Vec::new();
                for item in list.iter() {
                    items.push(self.value(&item.map_err(|error| error.to_string())?, depth)?);
                }
                Value::Array(items)
            }
            CelValue::Map(map) => {
                let depth = Self::deeper(depth)?;
                let mut members = Map::default();
                for key in map.keys() {
                    let Some(name) = key.as_str() else {
                        return Err(format!("map key {key:?} is of type {}, not string", key.type_name()));
                    };
                    self.pay(name.len())?;
                    let member = map.find(&key).map_err(|error| error.to_string())?;
                    members.insert(name, self.value(&member.unwrap_or(CelValue::Null), depth)?);
                }
                Value::Object(members)
            }
            CelValue::Object(object) => {
                let depth = Self::deeper(depth)?;
                let mut members = Map::default();
                for (name, field) in &object.fields {
                    self.pay(name.len())?;
                    members.insert(&**name, self.value(field, depth)?);
                }
                Value::Object(members)
            }
            CelValue::Preserved(tree) => self.tree(*tree, depth)?,
            other => return Err(format!("a value of type {} cannot stand in JSON", other.type_name())),
        })
    }

    fn text(&mut self, text: &str) -> Result<Value, String> {
        self.pay(text.len())?;
        Ok(Value::from(text))
    }

    fn tree(&mut self, tree: &dyn Tree, depth: usize) -> Result<Value, String> {
        self.pay(1)?;
        Ok(match tree.view() {
            View::Null => Value::Null,
            View::Bool(value) => Value::Bool(value),
            View::Int(value) => Value::Int(value),
            View::Double(value) => Value::Float(value),
            View::String(text) => self.text(text)?,
            View::List(list) => {
                let depth = Self::deeper(depth)?;
                let items = (0..list.len()).filter_map(|at| list.at(at));
                Value::Array(items.map(|item| self.tree(item, depth)).collect::<Result<_, _>>()?)
            }
            View::Map(map) => {
                let depth = Self::deeper(depth)?;
                let mut members = Map::default();
                for (name, member) in (0..map.len()).filter_map(|at| map.at(at)) {
                    self.pay(name.len())?;
                    members.insert(name, self.tree(member, depth)?);
                }
                Value::Object(members)
            }
        })
    }
}

/// Checks that each object stands where its type says, as `Object.spec` in the field `spec` of an `Object`; lists and maps
/// between them do not count.
///
/// # Errors
/// Which do not.
pub(super) fn check_names(object: &Object<'_>) -> Result<(), String> {
    let mut faults = Vec::new();
    let mut names = Names { path: object.name.to_string(), left: MAX_MADE, faults: &mut faults };
    names.object(object);
    if faults.is_empty() { Ok(()) } else { Err(format!("type mismatch: {}", faults.join("\n"))) }
}

/// How many objects are told of that stand in the wrong place.
const MAX_FAULTS: usize = 32;

struct Names<'f> {
    path: String,
    /// How many values are looked at yet; what is larger is refused when it becomes JSON.
    left: usize,
    faults: &'f mut Vec<String>,
}

impl Names<'_> {
    fn object(&mut self, object: &Object<'_>) {
        if *object.name != *self.path && self.faults.len() < MAX_FAULTS {
            self.faults.push(format!(
                "unexpected type name {:?}, expected {:?}, which matches field name path from root Object type",
                &*object.name, self.path
            ));
        }
        let begin = self.path.len();
        for (name, field) in &object.fields {
            self.path.push('.');
            self.path.push_str(name);
            self.value(field);
            self.path.truncate(begin);
        }
    }

    fn value(&mut self, value: &CelValue<'_>) {
        let Some(left) = self.left.checked_sub(1) else { return };
        self.left = left;
        match value {
            CelValue::Object(object) => self.object(object),
            CelValue::List(list) => list.iter().flatten().for_each(|item| self.value(&item)),
            CelValue::Map(map) => {
                let members = map.keys().into_iter().filter_map(|key| map.find(&key).ok().flatten());
                members.for_each(|member| self.value(&member));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xebec_api::json;
    use xebec_cel::{Budget, Env};

    fn made(expression: &str) -> Result<Value, String> {
        let program = Env::new().with_mutations().compile(expression).expect(expression);
        let value = program.evaluate(&[] as &[CelValue<'_>], &mut Budget::per_object()).expect(expression);
        if let CelValue::Object(object) = &value {
            check_names(object)?;
        }
        to_json(&value)
    }

    #[test]
    fn values_become_json() {
        let check = |expression: &str, want: &str| {
            let want: Value = json::from_slice(want.as_bytes()).expect(want);
            assert_eq!(made(expression), Ok(want), "{expression}");
        };
        check(
            "Object{spec: Object.spec{replicas: 3, paused: true, list: [Object.spec.list{a: 'b'}]}}",
            r#"{"spec": {"replicas": 3, "paused": true, "list": [{"a": "b"}]}}"#,
        );
        check(
            "Object{metadata: Object.metadata{labels: {'a': 'b'}}}",
            r#"{"metadata": {"labels": {"a": "b"}}}"#,
        );
        check(
            "[dyn(b'hi'), dyn(duration('90s')), dyn(timestamp('2026-01-01T00:00:00Z'))]",
            r#"["aGk=", "90s", "2026-01-01T00:00:00Z"]"#,
        );
        check("[dyn(null), dyn(1u), dyn(2.5)]", "[null, 1, 2.5]");
    }

    #[test]
    fn what_is_no_json_is_refused() {
        let check = |expression: &str, want: &str| {
            let error = made(expression).expect_err(expression);
            assert!(error.contains(want), "{error}");
        };
        check("{1: 'a'}", "map key 1 is of type int, not string");
        check("optional.of(1)", "a value of type optional_type cannot stand in JSON");
        check("0.0 / 0.0", "a value of type double cannot stand in JSON");
        check(
            "Object{spec: Object.wrong{a: 1}}",
            "type mismatch: unexpected type name \"Object.wrong\", expected \"Object.spec\", which matches field name path",
        );
        let large = (0..7).fold("'a'".to_owned(), |inner, n| {
            let nine = vec![format!("v{n}"); 9].join(", ");
            format!("[{inner}].map(v{n}, [{nine}])")
        });
        check(&large, "the expression makes more than 3145728 bytes");
    }
}
