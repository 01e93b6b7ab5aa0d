//! The fields of a manager as they stand in the object: a `FieldsV1` tree, worked on without reading it into a set.
//!
//! A write changes few fields, and most managers own none of them: one probe per changed field tells so, and their part
//! of the object stays untouched. The trees are canonical (see [`super::wire`]): what a client sent is rewritten before.

use super::set::{FieldSet, Node};
use crate::{Key, Map, Value};

/// What a set of changed fields has to do with a manager's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Touch {
    /// Nothing.
    None,
    /// Some are the same.
    Same,
    /// Some are the same, and the manager owns fields inside one that changed as a whole: the schema may have changed.
    Inside,
}

/// Up to how many changed fields of one object are looked up one by one.
const FEW: usize = 16;

/// How `fields` meets `changed`.
pub(super) fn touch(fields: &Map, changed: &FieldSet) -> Touch {
    probe(fields, changed, &mut String::new())
}

fn probe(fields: &Map, changed: &FieldSet, key: &mut String) -> Touch {
    let mut found = Touch::None;
    for node in &changed.nodes {
        key.clear();
        node.element.write_key(key);
        let Some(inside) = fields.get(key) else { continue };
        let inside = inside.as_object();
        if node.owned {
            let goes_on = inside.is_some_and(|map| !map.is_empty()) && node.below.is_empty();
            found = found.max(if goes_on { Touch::Inside } else { Touch::Same });
        }
        if let Some(map) = inside
            && !node.below.is_empty()
        {
            found = found.max(probe(map, &node.below, key));
        }
        if found == Touch::Inside {
            break;
        }
    }
    found
}

/// Takes the paths of `gone` out.
pub(super) fn remove(fields: &mut Map, gone: &FieldSet) {
    if gone.nodes.len() > FEW {
        let gone: Vec<(Key, &Node)> = sorted(gone);
        fields.retain(|key, value| {
            let found = gone.binary_search_by(|(k, _)| k.as_str().cmp(key));
            found.map_or(true, |at| remove_node(value, gone[at].1))
        });
        return;
    }
    let mut key = String::new();
    for node in &gone.nodes {
        key.clear();
        node.element.write_key(&mut key);
        if let Some(value) = fields.get_mut(&key)
            && !remove_node(value, node)
        {
            fields.remove(&key);
        }
    }
}

/// Takes paths out of one member; whether anything stays.
fn remove_node(value: &mut Value, gone: &Node) -> bool {
    let map = value.make_object();
    let mut owned = map.is_empty() || map.remove(".").is_some();
    owned &= !gone.owned;
    remove(map, &gone.below);
    let goes_on = !map.is_empty();
    if owned && goes_on {
        map.insert(".", Map::new());
    }
    owned || goes_on
}

/// Puts the paths of `more` in.
pub(super) fn insert(fields: &mut Map, more: &FieldSet) {
    let mut new = Vec::new();
    let mut key = String::new();
    for node in &more.nodes {
        key.clear();
        node.element.write_key(&mut key);
        match fields.get_mut(&key) {
            None => new.push((Key::from(key.as_str()), Value::Object(node.to_map()))),
            Some(value) => insert_node(value.make_object(), node),
        }
    }
    fields.extend(new);
}

fn insert_node(map: &mut Map, more: &Node) {
    let owned = more.owned || map.is_empty() || map.contains(".");
    insert(map, &more.below);
    if owned && !map.is_empty() {
        map.insert(".", Map::new());
    }
}

/// The paths of `wanted` that are in `fields`.
pub(super) fn intersection(fields: &Map, wanted: &FieldSet) -> FieldSet {
    let mut common = FieldSet::new();
    let mut key = String::new();
    for node in &wanted.nodes {
        key.clear();
        node.element.write_key(&mut key);
        let Some(value) = fields.get(&key) else { continue };
        let map = value.as_object();
        let owned = map.is_none_or(|map| map.is_empty() || map.contains("."));
        common.push(Node {
            element: node.element.clone(),
            owned: node.owned && owned,
            below: map.map(|map| intersection(map, &node.below)).unwrap_or_default(),
        });
    }
    common
}

fn sorted(set: &FieldSet) -> Vec<(Key, &Node)> {
    let mut keys: Vec<(Key, &Node)> = set.nodes.iter().map(|node| (node.element.to_key(), node)).collect();
    keys.sort_by(|a, b| a.0.cmp(&b.0));
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    fn set(text: &str) -> FieldSet {
        FieldSet::from_value(&json::from_slice(text.as_bytes()).expect(text)).expect(text)
    }

    const DOCUMENTS: &[&str] = &[
        "{}",
        r#"{"f:a":{}}"#,
        r#"{"f:a":{".":{},"f:b":{}}}"#,
        r#"{"f:a":{"f:b":{}}}"#,
        r#"{"f:a":{"f:b":{"f:c":{}},"f:d":{}},"f:e":{}}"#,
        r#"{"f:a":{".":{},"f:b":{".":{},"f:c":{}}},"f:z":{}}"#,
        r#"{"f:l":{"k:{\"name\":\"x\"}":{".":{},"f:name":{}},"k:{\"name\":\"y\"}":{"f:image":{}}}}"#,
        r#"{"f:l":{".":{},"k:{\"name\":\"y\"}":{}},"v:1":{},"v:10":{},"v:9":{}}"#,
    ];

    /// Each operation on trees gives what the same on sets gives.
    #[test]
    fn trees_and_sets_agree() {
        let many: String = (0..100).map(|i| format!(r#""v:{i}":{{}},"#)).collect();
        let many = format!("{{{}}}", many.trim_end_matches(','));
        let documents: Vec<&str> = DOCUMENTS.iter().copied().chain([many.as_str()]).collect();
        for (a, b) in documents.iter().flat_map(|a| documents.iter().map(move |b| (a, b))) {
            let (x, y) = (set(a), set(b));
            let mut left = x.to_map();
            remove(&mut left, &y);
            let mut want = x.clone();
            want.remove(&y);
            assert_eq!(Value::Object(left), want.to_value(), "{a} - {b}");

            let mut both = x.to_map();
            insert(&mut both, &y);
            let mut want = x.clone();
            want.add(y.clone());
            assert_eq!(Value::Object(both), want.to_value(), "{a} + {b}");

            assert_eq!(intersection(&x.to_map(), &y), x.intersection(&y), "{a} & {b}");
            if touch(&x.to_map(), &y) == Touch::None {
                assert!(x.intersection(&y).is_empty(), "{a} {b}");
            }
        }
    }

    #[test]
    fn touches() {
        let check = |fields: &str, changed: &str, want: Touch| {
            assert_eq!(touch(&set(fields).to_map(), &set(changed)), want, "{fields} {changed}");
        };
        check(r#"{"f:a":{"f:b":{}}}"#, r#"{"f:a":{"f:c":{}},"f:b":{}}"#, Touch::None);
        check(r#"{"f:a":{"f:b":{}}}"#, r#"{"f:a":{"f:b":{}}}"#, Touch::Same);
        check(r#"{"f:a":{"f:b":{}}}"#, r#"{"f:a":{}}"#, Touch::Inside);
        check(r#"{"f:a":{"f:b":{}}}"#, r#"{"f:a":{".":{},"f:c":{}}}"#, Touch::Same);
    }
}
