//! One cell: what a column makes of an object.

use crate::table::age::since;
use crate::table::jsonpath::JsonPath;
use crate::time::Timestamp;
use crate::{Map, Value, json};

/// How a column of a built-in resource gets its cell. Paths are field names between dots.
#[derive(Clone, Copy, Debug)]
pub enum Printer {
    /// The text, number or quantity at a path as text; the second text when it is absent or empty.
    Text(&'static str, &'static str),
    /// The integer at a path; 0 when absent.
    Integer(&'static str),
    /// The boolean at a path; the second when absent.
    Boolean(&'static str, bool),
    /// How many members or elements there are at a path.
    Count(&'static str),
    /// The labels at a path.
    Labels(&'static str),
    /// The label selector at a path.
    Selector(&'static str),
    /// The texts of the list at a path between commas; the second text when there are none.
    List(&'static str, &'static str),
    /// The names of the containers of the pod template at a path.
    Containers(&'static str),
    /// Their images.
    Images(&'static str),
    /// How long ago the time at a path was; the second text when it is absent.
    Age(&'static str, &'static str),
    /// What a function makes of the object.
    Call(fn(&Value) -> String),
    /// What a function makes of the object at a time.
    CallAt(fn(&Value, Timestamp) -> String),
    /// A number or a text.
    Value(fn(&Value) -> Value),
}

impl Printer {
    /// The cell of an object.
    pub(super) fn cell(self, object: &Value, now: Timestamp) -> Value {
        match self {
            Self::Text(path, absent) => text(at(object, path)).unwrap_or_else(|| absent.to_owned()).into(),
            Self::Integer(path) => at(object, path).and_then(Value::as_i64).unwrap_or_default().into(),
            Self::Boolean(path, absent) => at(object, path).and_then(Value::as_bool).unwrap_or(absent).into(),
            Self::Count(path) => count(at(object, path)).into(),
            Self::Labels(path) => super::selector::labels(at(object, path).and_then(Value::as_object)).into(),
            Self::Selector(path) => super::selector::label_selector_or_none(at(object, path)).into(),
            Self::List(path, absent) => list(at(object, path), absent).into(),
            Self::Containers(path) => of_containers(at(object, path), "name").into(),
            Self::Images(path) => of_containers(at(object, path), "image").into(),
            Self::Age(path, absent) => match at(object, path) {
                None | Some(Value::Null) => absent.into(),
                Some(time) => since(time.as_str(), now).into(),
            },
            Self::Call(function) => function(object).into(),
            Self::CallAt(function) => function(object, now).into(),
            Self::Value(function) => function(object),
        }
    }
}

/// Follows field names between dots.
pub(super) fn at<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(object, |value, name| value.get(name))
}

/// The text at a path, if it is there and not empty.
pub(super) fn text_at<'a>(object: &'a Value, path: &str) -> Option<&'a str> {
    at(object, path)?.as_str().filter(|t| !t.is_empty())
}

/// A scalar as text: quantities and ports may be numbers or strings.
pub(super) fn text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) if !text.is_empty() => Some(text.to_string()),
        Value::Int(number) => Some(number.to_string()),
        Value::Float(number) => Some(float(*number)),
        _ => None,
    }
}

fn count(value: Option<&Value>) -> i64 {
    let len = match value {
        Some(Value::Array(items)) => items.len(),
        Some(Value::Object(members)) => members.len(),
        _ => 0,
    };
    i64::try_from(len).unwrap_or(i64::MAX)
}

fn list(value: Option<&Value>, absent: &str) -> String {
    let items = value.and_then(Value::as_array).unwrap_or_default();
    let texts: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
    if texts.is_empty() { absent.to_owned() } else { texts.join(",") }
}

fn of_containers(template: Option<&Value>, field: &str) -> String {
    let containers = template.map(|t| t.array_at(&["spec", "containers"])).unwrap_or_default();
    containers.iter().map(|c| c.str_at(&[field]).unwrap_or_default()).collect::<Vec<_>>().join(",")
}

/// At most `max` texts, then how many more there are; the last text when there are none.
pub(super) fn shortened(texts: &[String], max: usize, none: &str) -> String {
    match texts.len() {
        0 => none.to_owned(),
        len if len > max => format!("{} + {} more...", texts[..max].join(","), len - max),
        _ => texts.join(","),
    }
}

/// The cell of a custom resource's column; `null` where there is nothing, or nothing of the column's type.
pub(super) fn of_path(path: &JsonPath, ty: &str, object: &Value, now: Timestamp) -> Value {
    let Some(value) = path.first(object) else { return Value::Null };
    match (ty, value) {
        ("string", value) => printed(value).into(),
        ("integer", Value::Int(_))
        | ("number", Value::Int(_) | Value::Float(_))
        | ("boolean", Value::Bool(_)) => value.clone(),
        #[expect(
            clippy::cast_possible_truncation,
            reason = "an integer column cuts fractions, as upstream's does"
        )]
        ("integer", Value::Float(number)) => (*number as i64).into(),
        ("date", Value::String(time)) => date(time, now).into(),
        _ => Value::Null,
    }
}

fn date(time: &str, now: Timestamp) -> String {
    match time {
        "" | "null" => since(None, now),
        _ if Timestamp::parse(time).is_none() => "<invalid>".to_owned(),
        _ => since(Some(time), now),
    }
}

/// A value as Go prints it.
fn printed(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::Bool(boolean) => boolean.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => float(*number),
        Value::String(text) => text.to_string(),
        Value::Array(_) | Value::Object(_) => {
            // Go escapes what HTML gives a meaning to.
            let text = String::from_utf8(json::to_vec(value)).expect("JSON is UTF-8");
            text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
        }
    }
}

/// A float as Go's `%v` writes it: the shortest digits, with an exponent for large and small ones.
fn float(number: f64) -> String {
    let magnitude = number.abs();
    if magnitude == 0.0 || (1e-4..1e21).contains(&magnitude) {
        return number.to_string();
    }
    let text = format!("{number:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
    format!("{digits}e{sign}{exponent:0>2}")
}

/// The value of an annotation.
pub(super) fn annotation<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object.object_at(&["metadata", "annotations"]).and_then(|a: &Map| a.get(name)).and_then(Value::as_str)
}

/// Whether the object is being deleted.
pub(super) fn is_deleted(object: &Value) -> bool {
    text_at(object, "metadata.deletionTimestamp").is_some()
}

/// The `status` of the condition of a type.
pub(super) fn condition<'a>(conditions: &'a [Value], ty: &str) -> Option<&'a str> {
    conditions.iter().find(|c| c.str_at(&["type"]) == Some(ty))?.str_at(&["status"])
}
