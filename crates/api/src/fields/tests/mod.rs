//! Behaviour of field management over a small kind of our own.

mod applying;
mod hostile;
mod merging;
mod properties;
mod pruning;
mod updating;
mod versions;
mod walking;

use super::element::PathText;
use super::testing::{TestSchema, tree};
use super::{ApplyError, FieldSet, Force, OneShape, ResetFields, Target, apply, update};
use crate::Value;

/// A kind that has everything field management tells apart.
const GADGET: &str = r#"{
    apiVersion: string, kind: string,
    metadata: {
        name: string, namespace: string, uid: string, resourceVersion: string, generation: int, creationTimestamp: time,
        labels: map(string), annotations: map(string), finalizers: set(string) / merge,
        managedFields: list(any)
    },
    spec: {
        replicas: int, title: string, ready: bool, size: quantity,
        box: atomic { width: int, height: int }, words: list(string), limits: map(quantity), frozen: atomic-map(string),
        colors: set(string),
        parts: keyed(name; {
            name: string, image: string, args: list(string), opts: map(string), tune: { low: int, high: int },
            ports: keyed(port protocol; { port: int, protocol ? "TCP": string, alias: string })
        }),
        free: any, raw: atomic-any, open: { known: int } +, store: { medium: string, limit: int }, maybe: null { medium: string }
    },
    status: { phase: string, conditions: keyed(type; { type: string, status: string, at: time }) }
}"#;

const VERSION: &str = "things.dev/v1";

fn gadget() -> TestSchema {
    TestSchema::new(GADGET)
}

/// The paths of a set in the order of [`FieldSet::for_each`].
fn paths(set: &FieldSet) -> Vec<String> {
    let mut out = Vec::new();
    set.for_each(&mut |path| out.push(PathText(path).to_string()));
    out
}

/// A set from paths of plain fields, `spec.replicas`.
fn fields(paths: &[&str]) -> FieldSet {
    let split: Vec<Vec<&str>> = paths.iter().map(|p| p.split('.').collect()).collect();
    FieldSet::of(&split.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// One object that managers write, as the server would, minute by minute.
struct Desk {
    schema: TestSchema,
    live: Value,
    minute: u32,
    reset: Vec<(std::borrow::Cow<'static, str>, super::Filter)>,
    subresource: &'static str,
}

impl Desk {
    fn new() -> Self {
        Self { schema: gadget(), live: Value::object(), minute: 0, reset: Vec::new(), subresource: "" }
    }

    fn write<T>(&mut self, manager: &str, run: impl FnOnce(&Target<'_>, &Value) -> T) -> T {
        self.minute += 1;
        let now = format!("2026-01-01T00:{:02}:00Z", self.minute);
        let reset: &ResetFields = &self.reset;
        let target = Target {
            schema: self.schema.root(),
            api_version: VERSION,
            kind: "Gadget",
            subresource: self.subresource,
            reset,
            manager,
            now: &now,
        };
        run(&target, &self.live)
    }

    /// Creates or replaces the object; it carries the live object's entries unless it says something else.
    fn put(&mut self, manager: &str, text: &str) {
        let mut new = typed(text);
        self.put_tree(manager, &mut new);
    }

    fn put_tree(&mut self, manager: &str, new: &mut Value) {
        if new.at(&["metadata", "managedFields"]).is_none()
            && let Some(list) = self.live.at(&["metadata", "managedFields"])
        {
            new.set(&["metadata", "managedFields"], list.clone());
        }
        self.write(manager, |target, live| update(target, live, new, &mut OneShape(&[VERSION])))
            .expect("tracked");
        self.store(new.clone());
    }

    fn try_apply(&mut self, manager: &str, text: &str, force: Force) -> Result<(), ApplyError> {
        let config = typed(text);
        let applied = self
            .write(manager, |target, live| apply(target, live, &config, force, &mut OneShape(&[VERSION])))?;
        self.store(applied);
        Ok(())
    }

    fn apply(&mut self, manager: &str, text: &str) {
        self.try_apply(manager, text, Force::No).unwrap_or_else(|e| panic!("{manager}: {e}"));
    }

    fn force(&mut self, manager: &str, text: &str) {
        self.try_apply(manager, text, Force::Yes).unwrap_or_else(|e| panic!("{manager}: {e}"));
    }

    /// The text of the conflict that an apply gives.
    fn conflict(&mut self, manager: &str, text: &str) -> String {
        match self.try_apply(manager, text, Force::No) {
            Err(ApplyError::Conflicts(conflicts)) => conflicts.to_string(),
            other => panic!("{manager} should have met a conflict: {other:?}"),
        }
    }

    fn store(&mut self, mut object: Value) {
        object.set(&["metadata", "uid"], "u-1");
        self.live = object;
    }

    fn spec(&self) -> Value {
        self.live.get("spec").cloned().unwrap_or_default()
    }

    /// Who owns what: `name operation[/subresource] minute: paths`.
    fn owners(&self) -> Vec<String> {
        let line = |entry: &Value| {
            let text = |field: &str| entry.str_at(&[field]).unwrap_or_default().to_owned();
            let slash = if text("subresource").is_empty() { "" } else { "/" };
            let minute = text("time").get(14..16).unwrap_or("--").to_owned();
            let set =
                FieldSet::from_value(entry.get("fieldsV1").expect("an entry has fields")).expect("readable");
            let paths = paths(&set).join(" ");
            format!(
                "{} {}{slash}{} {minute}: {paths}",
                text("manager"),
                text("operation"),
                text("subresource")
            )
        };
        self.live.array_at(&["metadata", "managedFields"]).iter().map(line).collect()
    }

    #[track_caller]
    fn expect_owners(&self, want: &[&str]) {
        assert_eq!(self.owners(), want);
    }
}

/// A gadget with the type written in.
fn typed(text: &str) -> Value {
    let mut object = tree(text);
    object.set(&["apiVersion"], VERSION);
    object.set(&["kind"], "Gadget");
    object
}
