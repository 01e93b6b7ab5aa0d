//! JSON patch, RFC 6902, with JSON pointers, RFC 6901.
//!
//! Where the library that Kubernetes uses is more lenient than the standard, so is this: a negative index counts from the
//! end, `replace` of an absent member adds it, `copy` of one adds null, `test` takes an absent member for null, a value
//! that is not given is null, and what stands before the first `/` of a pointer is ignored. Numbers are equal by value.
//!
//! A patch has at most [`MAX_OPERATIONS`] operations, copies at most [`MAX_COPIED`] bytes, nests nothing deeper than
//! [`MAX_DEPTH`], and moves at most [`MAX_STEPS`] values about.

#[cfg(test)]
mod tests;

use super::MAX_DEPTH;
use crate::error::{Reason, Status};
use crate::fields::order::same;
use crate::{Value, json};

/// How many operations a patch may have.
pub const MAX_OPERATIONS: usize = 10_000;
/// How much all `copy` operations of a patch may copy, in bytes of JSON.
pub const MAX_COPIED: usize = 3 * 1024 * 1024;
/// How many values all operations of a patch may shift or measure.
pub const MAX_STEPS: usize = 50_000_000;

/// Why a patch was not applied.
#[derive(Debug, thiserror::Error)]
pub enum JsonPatchError {
    /// The patch is no list.
    #[error("error decoding patch: a JSON patch is a list of operations, got {0}")]
    NotAList(&'static str),
    /// An operation is no object.
    #[error("error decoding patch: operation {index} must be an object, got {found}")]
    NotAnOperation {
        /// Which operation.
        index: usize,
        /// What it is.
        found: &'static str,
    },
    /// Too many operations.
    #[error("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {0}")]
    TooMany(usize),
    /// What comes out is no object.
    #[error("the patch makes the object a list")]
    NotAnObject,
    /// An operation does not apply.
    #[error("{fault} (operation {index})")]
    Operation {
        /// Which operation.
        index: usize,
        /// Why.
        fault: Fault,
    },
}

/// Why an operation does not apply.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// No such operation.
    #[error("Unexpected kind: {0}")]
    Kind(String),
    /// A member that the operation needs is missing or no string.
    #[error("{op} operation failed to decode {member}: missing value")]
    NoPointer {
        /// The operation.
        op: &'static str,
        /// `path` or `from`.
        member: &'static str,
    },
    /// The parent that a pointer names is not there.
    #[error("{op} operation does not apply: doc is missing {what}: {pointer:?}: missing value")]
    NoParent {
        /// The operation.
        op: &'static str,
        /// `path`, `from path` or `destination path`.
        what: &'static str,
        /// The pointer.
        pointer: String,
    },
    /// The element that a pointer names is not there.
    #[error("{op} operation does not apply: doc is missing key: {pointer}: missing value")]
    NoKey {
        /// The operation.
        op: &'static str,
        /// The pointer.
        pointer: String,
    },
    /// The last step of a pointer leads nowhere.
    #[error("error in {op} for path: '{pointer}': {fault}")]
    Step {
        /// The operation.
        op: &'static str,
        /// The pointer.
        pointer: String,
        /// Why.
        fault: StepFault,
    },
    /// The whole document can only be replaced by an object or a list.
    #[error("replace operation value must be object or array")]
    Root,
    /// A `test` failed.
    #[error("testing value {0} failed: test failed")]
    Test(String),
    /// The copies are too large.
    #[error(
        "Unable to complete the copy, the accumulated size increase of copy is {0}, exceeding the limit {MAX_COPIED}"
    )]
    Copied(usize),
    /// The document nests too deep.
    #[error("the value at {0:?} would nest deeper than {MAX_DEPTH} levels")]
    TooDeep(String),
    /// The patch takes too long.
    #[error("the patch shifts more than {MAX_STEPS} values; send it in smaller parts")]
    TooLong,
}

/// Why the last step of a pointer leads nowhere.
#[derive(Debug, thiserror::Error)]
pub enum StepFault {
    /// No such member.
    #[error("Unable to remove nonexistent key: {0}: missing value")]
    NoMember(String),
    /// No such element.
    #[error("Unable to access invalid index: {0}: invalid index referenced")]
    NoElement(i64),
    /// No index.
    #[error("value was not a proper array index: '{0}'")]
    NotAnIndex(String),
}

impl From<JsonPatchError> for Status {
    fn from(error: JsonPatchError) -> Self {
        match &error {
            JsonPatchError::NotAList(_) | JsonPatchError::NotAnOperation { .. } => {
                Self::bad_request(error.to_string())
            }
            JsonPatchError::TooMany(_) => {
                Self::new(Reason::RequestEntityTooLarge, format!("Request entity too large: {error}"))
            }
            JsonPatchError::NotAnObject | JsonPatchError::Operation { .. } => Self::new(
                Reason::Invalid,
                format!("the server rejected our request due to an error in our request: {error}"),
            ),
        }
    }
}

/// Applies a patch.
///
/// # Errors
/// See [`JsonPatchError`]; a patch applies as a whole or not at all.
pub fn apply(object: Value, patch: Value) -> Result<Value, JsonPatchError> {
    let operations = match patch {
        Value::Array(operations) => operations,
        Value::Null => Vec::new(),
        other => return Err(JsonPatchError::NotAList(other.type_name())),
    };
    let is_operation = |op: &Value| matches!(op, Value::Object(_) | Value::Null);
    if let Some(index) = operations.iter().position(|op| !is_operation(op)) {
        return Err(JsonPatchError::NotAnOperation { index, found: operations[index].type_name() });
    }
    if operations.len() > MAX_OPERATIONS {
        return Err(JsonPatchError::TooMany(operations.len()));
    }
    let mut document = Document { root: object, copied: 0, steps: 0 };
    for (index, operation) in operations.into_iter().enumerate() {
        document.run(operation).map_err(|fault| JsonPatchError::Operation { index, fault })?;
    }
    if document.root.as_object().is_none() {
        return Err(JsonPatchError::NotAnObject);
    }
    Ok(document.root)
}

/// A pointer's text and its steps, unescaped.
struct Pointer {
    text: String,
    steps: Vec<String>,
}

impl Pointer {
    fn read(operation: &Value, op: &'static str, member: &'static str) -> Result<Self, Fault> {
        let text = operation.str_at(&[member]).ok_or(Fault::NoPointer { op, member })?;
        let steps = text.split('/').skip(1).map(unescape).collect();
        Ok(Self { text: text.to_owned(), steps })
    }

    fn no_parent(&self, op: &'static str, what: &'static str) -> Fault {
        Fault::NoParent { op, what, pointer: self.text.clone() }
    }

    fn step(&self, op: &'static str, fault: StepFault) -> Fault {
        Fault::Step { op, pointer: self.text.clone(), fault }
    }
}

/// `~1` is `/` and `~0` is `~`; any other `~` is itself.
fn unescape(step: &str) -> String {
    let mut out = String::with_capacity(step.len());
    let mut rest = step;
    while let Some(at) = rest.find('~') {
        out.push_str(&rest[..at]);
        let (char, len) = match rest.as_bytes().get(at + 1) {
            Some(b'1') => ('/', 2),
            Some(b'0') => ('~', 2),
            _ => ('~', 1),
        };
        out.push(char);
        rest = &rest[at + len..];
    }
    out.push_str(rest);
    out
}

struct Document {
    root: Value,
    copied: usize,
    steps: usize,
}

impl Document {
    fn run(&mut self, mut operation: Value) -> Result<(), Fault> {
        match operation.str_at(&["op"]).unwrap_or("unknown") {
            "add" => {
                let path = Pointer::read(&operation, "add", "path")?;
                self.add("add", "path", &path, value_of(&mut operation))
            }
            "remove" => {
                let path = Pointer::read(&operation, "remove", "path")?;
                self.remove("remove", "path", &path).map(drop)
            }
            "replace" => {
                let path = Pointer::read(&operation, "replace", "path")?;
                self.replace(&path, value_of(&mut operation))
            }
            "move" => {
                let from = Pointer::read(&operation, "move", "from")?;
                let value = self.remove("move", "from path", &from)?;
                let path = Pointer::read(&operation, "move", "path")?;
                self.add("move", "destination path", &path, value)
            }
            "copy" => {
                let from = Pointer::read(&operation, "copy", "from")?;
                let value = self.copy(&from)?;
                let path = Pointer::read(&operation, "copy", "path")?;
                self.add("copy", "destination path", &path, value)
            }
            "test" => {
                let path = Pointer::read(&operation, "test", "path")?;
                self.test(&path, &value_of(&mut operation))
            }
            other => Err(Fault::Kind(other.to_owned())),
        }
    }

    /// Counts work; the limit is far above what a patch of honest size needs.
    fn spend(&mut self, steps: usize) -> Result<(), Fault> {
        self.steps += steps;
        if self.steps > MAX_STEPS { Err(Fault::TooLong) } else { Ok(()) }
    }

    /// Refuses a value that would nest too deep where it goes.
    fn measure(&mut self, path: &Pointer, value: &Value) -> Result<(), Fault> {
        let mut visited = 0;
        if path.steps.len() + height(value, &mut visited) > MAX_DEPTH {
            return Err(Fault::TooDeep(path.text.clone()));
        }
        self.spend(visited)
    }

    fn add(
        &mut self,
        op: &'static str,
        what: &'static str,
        path: &Pointer,
        value: Value,
    ) -> Result<(), Fault> {
        self.measure(path, &value)?;
        let (parent, key) = parent_mut(&mut self.root, path).ok_or_else(|| path.no_parent(op, what))?;
        let shifted = match parent {
            Container::Object(map) => {
                map.insert(key, value);
                map.len()
            }
            Container::Array(items) if key == "-" => {
                items.push(value);
                1
            }
            Container::Array(items) => {
                let at = index(key, items.len() + 1).map_err(|fault| path.step(op, fault))?;
                items.insert(at, value);
                items.len() - at
            }
        };
        self.spend(shifted)
    }

    fn remove(&mut self, op: &'static str, what: &'static str, path: &Pointer) -> Result<Value, Fault> {
        let (parent, key) = parent_mut(&mut self.root, path).ok_or_else(|| path.no_parent(op, what))?;
        let (value, shifted) = match parent {
            Container::Object(map) => {
                let gone =
                    map.remove(key).ok_or_else(|| path.step(op, StepFault::NoMember(key.to_owned())))?;
                (gone, map.len())
            }
            Container::Array(items) => {
                let at = index(key, items.len()).map_err(|fault| path.step(op, fault))?;
                (items.remove(at), items.len() - at)
            }
        };
        self.spend(shifted)?;
        Ok(value)
    }

    fn replace(&mut self, path: &Pointer, value: Value) -> Result<(), Fault> {
        if path.text.is_empty() {
            if !matches!(value, Value::Object(_) | Value::Array(_)) {
                return Err(Fault::Root);
            }
            self.root = value;
            return Ok(());
        }
        self.measure(path, &value)?;
        let (parent, key) =
            parent_mut(&mut self.root, path).ok_or_else(|| path.no_parent("replace", "path"))?;
        let place = match parent {
            Container::Object(map) => map.entry(key),
            Container::Array(items) => {
                let no_key = |_| Fault::NoKey { op: "replace", pointer: path.text.clone() };
                let at = index(key, items.len()).map_err(no_key)?;
                &mut items[at]
            }
        };
        *place = value;
        Ok(())
    }

    fn copy(&mut self, from: &Pointer) -> Result<Value, Fault> {
        let (parent, key) =
            parent_mut(&mut self.root, from).ok_or_else(|| from.no_parent("copy", "from path"))?;
        let value = match parent {
            Container::Object(map) => map.get(key).cloned().unwrap_or_default(),
            Container::Array(items) => {
                items[index(key, items.len()).map_err(|fault| from.step("copy", fault))?].clone()
            }
        };
        self.copied += json::to_vec(&value).len();
        if self.copied > MAX_COPIED { Err(Fault::Copied(self.copied)) } else { Ok(value) }
    }

    fn test(&mut self, path: &Pointer, wanted: &Value) -> Result<(), Fault> {
        let is = if path.text.is_empty() {
            same(&self.root, wanted)
        } else {
            let (parent, key) =
                parent_mut(&mut self.root, path).ok_or_else(|| path.no_parent("test", "path"))?;
            match parent {
                Container::Object(map) => same(map.get(key).unwrap_or(&Value::Null), wanted),
                Container::Array(items) => {
                    same(&items[index(key, items.len()).map_err(|fault| path.step("test", fault))?], wanted)
                }
            }
        };
        if is { Ok(()) } else { Err(Fault::Test(path.text.clone())) }
    }
}

fn value_of(operation: &mut Value) -> Value {
    operation.remove_at(&["value"]).unwrap_or_default()
}

enum Container<'a> {
    Object(&'a mut crate::Map),
    Array(&'a mut Vec<Value>),
}

/// What holds the last step of a pointer, and that step.
fn parent_mut<'a, 'p>(root: &'a mut Value, path: &'p Pointer) -> Option<(Container<'a>, &'p str)> {
    let (last, steps) = path.steps.split_last()?;
    let mut at = root;
    for step in steps {
        at = match at {
            Value::Object(map) => map.get_mut(step)?,
            Value::Array(items) => {
                // A step that is no index leads nowhere, as a member that is not there.
                let index = index(step, items.len()).ok()?;
                &mut items[index]
            }
            _ => return None,
        };
    }
    match at {
        Value::Object(map) => Some((Container::Object(map), last)),
        Value::Array(items) => Some((Container::Array(items), last)),
        _ => None,
    }
}

/// The place that a step names among `len`; from the end if it is negative.
fn index(step: &str, len: usize) -> Result<usize, StepFault> {
    let wanted: i64 = step.parse().map_err(|_| StepFault::NotAnIndex(step.to_owned()))?;
    let place = if wanted < 0 {
        i64::try_from(len).ok().and_then(|len| len.checked_add(wanted))
    } else {
        Some(wanted)
    };
    let place = place.and_then(|place| usize::try_from(place).ok()).filter(|place| *place < len);
    place.ok_or(StepFault::NoElement(wanted))
}

/// How deep a value nests; counts the values in it.
fn height(value: &Value, visited: &mut usize) -> usize {
    *visited += 1;
    let below = |deepest: usize, inner: &Value, visited: &mut usize| deepest.max(height(inner, visited));
    match value {
        Value::Array(items) => 1 + items.iter().fold(0, |deepest, inner| below(deepest, inner, visited)),
        Value::Object(map) => 1 + map.values().fold(0, |deepest, inner| below(deepest, inner, visited)),
        _ => 0,
    }
}
