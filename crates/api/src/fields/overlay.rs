//! A configuration is laid over an object as by server-side apply, but nobody comes to own anything: what a mutating
//! admission policy does with what its expression gives.

use super::listed;
use super::merge::merge;
use super::shape::{self, Shape, shape_of};
use super::validate::faults;
use super::walk::WalkError;
use crate::Value;
use crate::schema::{Merge, SchemaRef, Type};

/// Why a configuration was not laid over an object. The texts are upstream's.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// It is not as its type says.
    #[error("failed to convert patch object to typed object: {}", listed(.0))]
    Shape(Vec<String>),
    /// It would replace lists or objects as a whole, in which others may have fields that it does not name.
    #[error("invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {}", .0.join(", "))]
    Atomic(Vec<String>),
    /// An element of the object's list cannot be told from others.
    #[error("failed to merge patch: {0}")]
    Merge(#[from] WalkError),
}

/// Lays `config` over `live`, both of the type `schema`; what `config` does not name stays.
///
/// # Errors
/// See [`OverlayError`]; `live` is undefined then.
pub fn overlay(live: &mut Value, config: &Value, schema: SchemaRef<'_>) -> Result<(), OverlayError> {
    let faults = faults(config, schema);
    if !faults.is_empty() {
        return Err(OverlayError::Shape(faults));
    }
    let mut atomic = Vec::new();
    find_atomic(config, schema, &mut String::new(), &mut atomic);
    if !atomic.is_empty() {
        return Err(OverlayError::Atomic(atomic));
    }
    Ok(merge(live, config, schema)?)
}

/// How many places are told at most.
const MAX_TOLD: usize = 32;

/// Where lists and objects stand that are owned as one.
fn find_atomic(value: &Value, schema: SchemaRef<'_>, path: &mut String, found: &mut Vec<String>) {
    let begin = path.len();
    match value {
        Value::Object(members) => {
            if matches!(shape_of(schema), Shape::Leaf) && found.len() < MAX_TOLD {
                found.push(path.clone());
            }
            for (name, below) in members.iter() {
                let (node, declared) = shape::member(schema, name);
                if declared {
                    path.push('.');
                    path.push_str(name);
                    find_atomic(below, node, path, found);
                    path.truncate(begin);
                }
            }
        }
        Value::Array(items) => {
            let atomic = match schema.ty() {
                Type::List => schema.node.merge == Merge::Atomic,
                _ => true,
            };
            if atomic && found.len() < MAX_TOLD {
                found.push(path.clone());
            }
            for (at, item) in items.iter().enumerate() {
                path.push_str(&format!("[{at}]"));
                find_atomic(item, schema.items(), path, found);
                path.truncate(begin);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{builtin, json};

    fn tree(text: &str) -> Value {
        json::from_slice(text.as_bytes()).expect(text)
    }

    fn overlaid(live: &str, config: &str) -> Result<Value, String> {
        let schema = builtin::schema();
        let deployment = builtin::kind("apps", "v1", "Deployment").expect("a kind");
        let mut live = tree(live);
        overlay(&mut live, &tree(config), schema.at(deployment)).map_err(|error| error.to_string())?;
        Ok(live)
    }

    #[test]
    fn configurations_are_laid_over_objects() {
        let check = |live: &str, config: &str, want: &str| {
            assert_eq!(overlaid(live, config), Ok(tree(want)), "{config}");
        };
        check(
            r#"{"metadata": {"annotations": {"a": "1"}}, "spec": {"replicas": 1, "paused": true}}"#,
            r#"{"metadata": {"annotations": {"b": "2"}}, "spec": {"replicas": 3}}"#,
            r#"{"metadata": {"annotations": {"a": "1", "b": "2"}}, "spec": {"replicas": 3, "paused": true}}"#,
        );
        check(
            r#"{"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b"}]}}}}"#,
            r#"{"spec": {"template": {"spec": {"containers": [{"name": "b", "image": "y"}, {"name": "c"}]}}}}"#,
            r#"{"spec": {"template": {"spec": {"containers":
                [{"name": "a", "image": "x"}, {"name": "b", "image": "y"}, {"name": "c"}]}}}}"#,
        );
    }

    #[test]
    fn what_cannot_be_laid_over_is_refused() {
        let check = |config: &str, want: &str| {
            let error = overlaid("{}", config).expect_err(config);
            assert!(error.contains(want), "{error}");
        };
        check(
            r#"{"spec": {"template": {"spec": {"containers": [{"name": "a", "command": ["x"]}]}}}}"#,
            "may not mutate atomic arrays, maps or structs: .spec.template.spec.containers[0].command",
        );
        check(
            r#"{"spec": {"selector": {"matchLabels": {"a": "b"}}}}"#,
            "may not mutate atomic arrays, maps or structs: .spec.selector",
        );
        check(r#"{"spec": {"nothing": 1}}"#, ".spec.nothing: field not declared in schema");
        check(
            r#"{"spec": {"template": {"spec": {"containers": [{"image": "a"}]}}}}"#,
            "failed to convert patch",
        );
    }
}
