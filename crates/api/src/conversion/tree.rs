//! From values of expressions to trees.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use xebec_cel::value::Map as CelMap;
use xebec_cel::{Items, Members, Value as CelValue, View};

use crate::{Map, Value};

/// How deep a computed value may nest: with what is around it an object stays within JSON's 128 levels.
const MAX_DEPTH: usize = 64;

/// The tree of a value; `None`: it is an optional one that is not there.
///
/// # Errors
/// JSON cannot hold it.
pub(super) fn of(value: &CelValue<'_>) -> Result<Option<Value>, String> {
    match value {
        CelValue::Optional(None) => Ok(None),
        CelValue::Optional(Some(value)) => of(value),
        value => within(value, 0).map(Some),
    }
}

fn within(value: &CelValue<'_>, depth: usize) -> Result<Value, String> {
    if depth > MAX_DEPTH {
        return Err(format!("the value has more than {MAX_DEPTH} levels, which is the limit"));
    }
    Ok(match value {
        CelValue::Null => Value::Null,
        CelValue::Bool(value) => Value::Bool(*value),
        CelValue::Int(value) => Value::Int(*value),
        CelValue::Uint(value) => {
            Value::Int(i64::try_from(*value).map_err(|_| format!("{value} fits no 64 signed bits"))?)
        }
        CelValue::Double(value) if value.is_finite() => Value::Float(*value),
        CelValue::Double(value) => return Err(format!("{value} is no number that JSON can hold")),
        CelValue::String(text) => Value::from(&**text),
        CelValue::Bytes(bytes) => Value::from(STANDARD.encode(&**bytes)),
        CelValue::List(list) => {
            let mut items = Vec::with_capacity(list.len().min(1024));
            for item in list.iter() {
                items.push(within(&item.map_err(|error| error.to_string())?, depth + 1)?);
            }
            Value::Array(items)
        }
        // Fields of a tree are called otherwise in expressions.
        CelValue::Map(CelMap::Tree { members, .. }) => object(*members, depth)?,
        CelValue::Map(map) => {
            let mut made = Map::new();
            for key in map.keys() {
                let Some(name) = key.as_str() else {
                    return Err("the key of a member must be a string".into());
                };
                let member = map.find(&key).map_err(|error| error.to_string())?.unwrap_or(CelValue::Null);
                made.insert(name, within(&member, depth + 1)?);
            }
            Value::Object(made)
        }
        CelValue::Preserved(tree) => view(tree.view(), depth)?,
        other => return Err(format!("a value of the type {} cannot be written", other.type_name())),
    })
}

fn view(view: View<'_>, depth: usize) -> Result<Value, String> {
    if depth > 2 * MAX_DEPTH {
        return Err(format!("the value has more than {} levels, which is the limit", 2 * MAX_DEPTH));
    }
    Ok(match view {
        View::Null => Value::Null,
        View::Bool(value) => Value::Bool(value),
        View::Int(value) => Value::Int(value),
        View::Double(value) => Value::Float(value),
        View::String(text) => Value::from(text),
        View::List(items) => list(items, depth)?,
        View::Map(members) => object(members, depth)?,
    })
}

fn list(items: &dyn Items, depth: usize) -> Result<Value, String> {
    let all = (0..items.len()).filter_map(|at| items.at(at));
    all.map(|item| view(item.view(), depth + 1)).collect::<Result<Vec<_>, _>>().map(Value::Array)
}

fn object(members: &dyn Members, depth: usize) -> Result<Value, String> {
    let mut made = Map::new();
    for (name, member) in (0..members.len()).filter_map(|at| members.at(at)) {
        made.insert(name, view(member.view(), depth + 1)?);
    }
    Ok(Value::Object(made))
}
