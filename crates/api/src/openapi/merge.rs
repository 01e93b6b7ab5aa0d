//! Version 2 documents of several servers in one.
//!
//! Of a document those paths are taken that begin as is asked for, with what they lead to. Where two servers give a type the
//! same name, and mean something else by it, the later one's gets another; what both have alike they share.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Key, Map, Value};

/// Where named things stand.
const SECTIONS: [&str; 2] = ["definitions", "parameters"];
/// How many names are tried for a type whose name is taken.
const MAX_NAMES: usize = 100;

/// A named thing: its section, and its name.
type Name = (&'static str, String);

/// The paths of a version 2 document that begin with `prefix`, and the types and parameters that they lead to.
#[must_use]
pub fn part(document: &Value, prefix: &str) -> Value {
    let mut part = Value::object();
    let mut wanted: Vec<Name> = Vec::new();
    for (path, item) in document.object_at(&["paths"]).into_iter().flat_map(Map::iter) {
        if path.starts_with(prefix) {
            each_reference(item, &mut |name| wanted.push(name));
            part.set(&["paths", path], item.clone());
        }
    }
    let mut taken: BTreeSet<Name> = BTreeSet::new();
    while let Some(name) = wanted.pop() {
        let Some(found) = document.at(&[name.0, &name.1]) else { continue };
        if taken.insert(name.clone()) {
            each_reference(found, &mut |name| wanted.push(name));
            part.set(&[name.0, &name.1], found.clone());
        }
    }
    part
}

/// Adds to a version 2 document the [`part`] of another one. Paths that are there already stay as they are.
pub fn merge(document: &mut Value, mut part: Value) {
    let renamed = renamed(document, &part);
    if !renamed.is_empty() {
        rename(&mut part, &renamed);
    }
    for section in ["paths", "definitions", "parameters"] {
        let Some(Value::Object(items)) = part.remove_at(&[section]) else { continue };
        let there = document.make(&[section]).make_object();
        for (name, item) in items.iter() {
            let name = match SECTIONS.iter().find(|s| **s == section) {
                Some(section) => renamed.get(&(*section, name.to_owned())).map_or(name, String::as_str),
                None => name,
            };
            if there.get(name).is_none() {
                there.insert(Key::from(name), item.clone());
            }
        }
    }
}

/// The names in a part that mean something else in the document, and what they become.
fn renamed(document: &Value, part: &Value) -> BTreeMap<Name, String> {
    let mut renamed = BTreeMap::new();
    for section in SECTIONS {
        for (name, item) in part.object_at(&[section]).into_iter().flat_map(Map::iter) {
            match document.at(&[section, name]) {
                Some(other) if other != item => {}
                _ => continue,
            }
            let mut others = (2..MAX_NAMES).map(|n| format!("{name}_v{n}"));
            let free = |other: &String| match document.at(&[section, other]) {
                Some(there) => there == item,
                None => part.at(&[section, other]).is_none(),
            };
            if let Some(other) = others.find(free) {
                renamed.insert((section, name.to_owned()), other);
            }
        }
    }
    renamed
}

fn read_reference(text: &str) -> Option<Name> {
    let (section, name) = text.strip_prefix("#/")?.split_once('/')?;
    let section = SECTIONS.iter().find(|known| **known == section)?;
    Some((section, name.to_owned()))
}

fn each_reference(value: &Value, found: &mut impl FnMut(Name)) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| each_reference(item, found)),
        Value::Object(map) => {
            for (key, item) in map.iter() {
                match item.as_str().filter(|_| key == "$ref").and_then(read_reference) {
                    Some(name) => found(name),
                    None => each_reference(item, found),
                }
            }
        }
        _ => {}
    }
}

fn rename(value: &mut Value, renamed: &BTreeMap<Name, String>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, renamed)),
        Value::Object(map) => {
            for (key, item) in map.iter_mut() {
                let name = item.as_str().filter(|_| key == "$ref").and_then(read_reference);
                match name.and_then(|name| Some((name.0, renamed.get(&name)?))) {
                    Some((section, other)) => *item = format!("#/{section}/{other}").into(),
                    None => rename(item, renamed),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{json, object};

    fn reference(name: &str) -> Value {
        let mut out = Value::object();
        out.set(&["$ref"], format!("#/definitions/{name}"));
        out
    }

    fn other() -> Value {
        let mut document = object!({
            "definitions": {
                "Flunder": {"properties": {"spec": (reference("Spec")), "self": (reference("Flunder"))}},
                "Spec": {"type": "string"}, "Unused": {}
            },
            "parameters": {"pretty": {"in": "query"}, "unused": {}}
        });
        document.set(
            &["paths", "/apis/a/v1/flunders"],
            object!({
                "get": (reference("Flunder")), "parameters": [(object!({"$ref": "#/parameters/pretty"}))]
            }),
        );
        document.set(&["paths", "/apis/b/v1/others"], object!({"get": (reference("Unused"))}));
        document
    }

    #[test]
    fn a_part_is_closed_and_has_nothing_more() {
        let part = part(&other(), "/apis/a/v1/");
        let names = |section: &str| {
            part.object_at(&[section])
                .into_iter()
                .flat_map(Map::iter)
                .map(|(name, _)| name.to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(names("paths"), ["/apis/a/v1/flunders"]);
        assert_eq!(names("definitions"), ["Flunder", "Spec"]);
        assert_eq!(names("parameters"), ["pretty"]);
    }

    #[test]
    fn what_means_something_else_has_another_name() {
        let mut document =
            object!({"definitions": {"Spec": {"type": "integer"}, "Spec_v2": {"type": "null"}}, "paths": {}});
        merge(&mut document, part(&other(), "/apis/a/v1/"));
        assert_eq!(document.str_at(&["definitions", "Spec", "type"]), Some("integer"));
        assert_eq!(document.str_at(&["definitions", "Spec_v3", "type"]), Some("string"));
        let spec = ["definitions", "Flunder", "properties", "spec", "$ref"];
        assert_eq!(document.str_at(&spec), Some("#/definitions/Spec_v3"));
        let own = ["definitions", "Flunder", "properties", "self", "$ref"];
        assert_eq!(document.str_at(&own), Some("#/definitions/Flunder"));
    }

    #[test]
    fn what_means_the_same_is_shared() {
        let mut document = object!({"paths": {}});
        merge(&mut document, part(&other(), "/apis/a/v1/"));
        let before = json::to_vec(&document);
        merge(&mut document, part(&other(), "/apis/a/v1/"));
        assert_eq!(json::to_vec(&document), before);
    }

    #[test]
    fn what_is_no_document_has_no_part() {
        for odd in [Value::Null, object!([1]), object!({"paths": [], "definitions": 1})] {
            assert_eq!(part(&odd, "/"), Value::object());
        }
        let mut document = object!({"paths": {}});
        merge(&mut document, object!({"paths": 1, "definitions": []}));
        assert_eq!(document, object!({"paths": {}}));
    }
}
