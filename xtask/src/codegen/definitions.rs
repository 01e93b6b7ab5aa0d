//! Reads the published OpenAPI definitions, in the JSON schema form that `kubernetes-validate` packs them in.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// Group, version and kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) kind: String,
}

/// All definitions by their published name.
pub(super) struct Definitions {
    by_name: BTreeMap<String, Value>,
    by_kind: BTreeMap<Kind, String>,
}

/// Reads `_definitions.json`.
pub(super) fn read(path: &Path) -> Result<Definitions> {
    let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let mut document: Value =
        serde_json::from_slice(&bytes).with_context(|| format!("parse {}", path.display()))?;
    let Value::Object(defs) = document["$defs"].take() else {
        anyhow::bail!("{} has no $defs", path.display());
    };
    let by_name: BTreeMap<String, Value> = defs.into_iter().collect();
    let mut by_kind = BTreeMap::new();
    for (name, definition) in &by_name {
        // Types that serve every group (DeleteOptions, WatchEvent) list them all; they are found by name.
        if let [only] = kinds(definition).as_slice() {
            by_kind.insert(only.clone(), name.clone());
        }
    }
    Ok(Definitions { by_name, by_kind })
}

fn kinds(definition: &Value) -> Vec<Kind> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    definition["x-kubernetes-group-version-kind"]
        .as_array()
        .map(|all| {
            all.iter()
                .map(|k| Kind {
                    group: text(&k["group"]),
                    version: text(&k["version"]),
                    kind: text(&k["kind"]),
                })
                .collect()
        })
        .unwrap_or_default()
}

impl Definitions {
    pub(super) fn get(&self, name: &str) -> Result<&Value> {
        self.by_name.get(name).with_context(|| format!("there is no definition {name}"))
    }

    /// The name of the definition of a kind.
    pub(super) fn of_kind(&self, group: &str, version: &str, kind: &str) -> Result<&str> {
        let key = Kind { group: group.into(), version: version.into(), kind: kind.into() };
        self.by_kind
            .get(&key)
            .map(String::as_str)
            .with_context(|| format!("there is no definition of {key:?}"))
    }

    /// The one kind that a definition is, if it is one.
    pub(super) fn kind_of(&self, name: &str) -> Option<Kind> {
        match kinds(self.by_name.get(name)?).as_slice() {
            [only] => Some(only.clone()),
            _ => None,
        }
    }

    /// The names of `roots` and of all definitions that they refer to.
    pub(super) fn closure(&self, roots: impl IntoIterator<Item = String>) -> Result<BTreeSet<String>> {
        let mut seen = BTreeSet::new();
        let mut open: Vec<String> = roots.into_iter().collect();
        while let Some(name) = open.pop() {
            let definition = self.get(&name)?;
            if seen.insert(name) {
                collect_references(definition, &mut open);
            }
        }
        Ok(seen)
    }
}

/// The definition that a `$ref` names.
pub(super) fn reference(node: &Value) -> Option<&str> {
    node.get("$ref")?.as_str()?.strip_prefix("#/$defs/")
}

fn collect_references(node: &Value, out: &mut Vec<String>) {
    out.extend(reference(node).map(str::to_owned));
    match node {
        Value::Object(members) => members.values().for_each(|v| collect_references(v, out)),
        Value::Array(items) => items.iter().for_each(|v| collect_references(v, out)),
        _ => {}
    }
}
