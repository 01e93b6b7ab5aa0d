//! Which fields a configuration owns, and which a write changes.

use super::{gadget, paths, tree};
use crate::fields::walk::{compare, owned};

#[test]
fn what_a_configuration_owns() {
    let schema = gadget();
    let check = |config: &str, want: &[&str]| {
        let set = owned(&tree(config), schema.root()).expect(config);
        assert_eq!(paths(&set), want, "{config}");
    };
    check(
        r#"{"spec":{"replicas":3,"title":"x","ready":true,"size":"1Gi"}}"#,
        &[".spec.ready", ".spec.replicas", ".spec.size", ".spec.title"],
    );
    // A null is an opinion; an object is not owned itself unless it is empty.
    check(r#"{"spec":{"replicas":null,"store":{}}}"#, &[".spec.replicas", ".spec.store"]);
    check(r#"{"spec":{"store":{"limit":1}},"status":null}"#, &[".status", ".spec.store.limit"]);
    check(
        r#"{"spec":{"box":{"width":1},"words":["a"],"frozen":{"a":"b"}}}"#,
        &[".spec.box", ".spec.frozen", ".spec.words"],
    );
    check(r#"{"spec":{"words":[],"colors":[],"parts":[]}}"#, &[".spec.words"]);
    check(
        r#"{"metadata":{"labels":{"a":"1","b.c/d":""}}}"#,
        &[".metadata.labels.a", ".metadata.labels.b.c/d"],
    );
    check(r#"{"spec":{"colors":["red","blue"]}}"#, &[r#".spec.colors[="blue"]"#, r#".spec.colors[="red"]"#]);
    check(
        r#"{"spec":{"parts":[{"name":"a","args":["x"],"tune":{"low":1}},{"name":"b"}]}}"#,
        &[
            r#".spec.parts[name="a"]"#,
            r#".spec.parts[name="b"]"#,
            r#".spec.parts[name="a"].args"#,
            r#".spec.parts[name="a"].name"#,
            r#".spec.parts[name="a"].tune.low"#,
            r#".spec.parts[name="b"].name"#,
        ],
    );
    // A key field that is absent has its default; the field itself is not owned.
    check(
        r#"{"spec":{"parts":[{"name":"a","ports":[{"port":80}]}]}}"#,
        &[
            r#".spec.parts[name="a"]"#,
            r#".spec.parts[name="a"].name"#,
            r#".spec.parts[name="a"].ports[port=80,protocol="TCP"]"#,
            r#".spec.parts[name="a"].ports[port=80,protocol="TCP"].port"#,
        ],
    );
    // What comes twice is owned as one.
    check(
        r#"{"spec":{"colors":["red","red"],"parts":[{"name":"a","image":"x"},{"name":"a"}]}}"#,
        &[r#".spec.colors[="red"]"#, r#".spec.parts[name="a"]"#],
    );
    // A free object is owned by member, its lists as one; an atomic one as one.
    check(
        r#"{"spec":{"free":{"a":{"b":1,"c":[{"d":1}]},"e":{}},"raw":{"a":1}}}"#,
        &[".spec.raw", ".spec.free.a", ".spec.free.e", ".spec.free.a.b", ".spec.free.a.c"],
    );
    check(r#"{"spec":{"free":[1,2]}}"#, &[".spec.free"]);
    check(
        r#"{"spec":{"open":{"known":1,"other":{"x":1}}}}"#,
        &[".spec.open.known", ".spec.open.other", ".spec.open.other.x"],
    );
}

#[test]
fn what_a_write_changes() {
    let schema = gadget();
    let check = |old: &str, new: &str, written: &[&str], removed: &[&str]| {
        let changes = compare(&tree(old), &tree(new), schema.root()).expect(new);
        assert_eq!(paths(&changes.written), written, "written: {old} -> {new}");
        assert_eq!(paths(&changes.removed), removed, "removed: {old} -> {new}");
    };
    let same = |text: &str| check(text, text, &[], &[]);
    same("{}");
    same(r#"{"spec":{"parts":[{"name":"a"},{"name":"a"}],"colors":["x","x"],"words":[null]}}"#);
    check(r#"{"spec":{"replicas":1}}"#, r#"{"spec":{"replicas":2}}"#, &[".spec.replicas"], &[]);
    check(r#"{"spec":{"replicas":1}}"#, r#"{"spec":{"replicas":1.0}}"#, &[], &[]);
    // What comes or goes counts together with the objects around it.
    check("{}", r#"{"spec":{"store":{"limit":1}}}"#, &[".spec", ".spec.store", ".spec.store.limit"], &[]);
    check(r#"{"spec":{"title":"a","ready":true}}"#, r#"{"spec":{"title":"a"}}"#, &[], &[".spec.ready"]);
    check(r#"{"spec":{"title":"a"}}"#, "{}", &[], &[".spec", ".spec.title"]);
    check(r#"{"spec":{}}"#, r#"{"spec":null}"#, &[".spec"], &[]);
    check(r#"{"spec":null}"#, r#"{"spec":{"title":"a"}}"#, &[".spec.title"], &[]);
    check(
        r#"{"metadata":{"labels":{"a":"1","b":"2"}}}"#,
        r#"{"metadata":{"labels":{"b":"3","c":"4"}}}"#,
        &[".metadata.labels.b", ".metadata.labels.c"],
        &[".metadata.labels.a"],
    );
    // Atomic ones change as one.
    check(
        r#"{"spec":{"box":{"width":1},"words":["a"],"raw":{"a":1}}}"#,
        r#"{"spec":{"box":{"width":2},"words":["a","b"],"raw":{"a":2}}}"#,
        &[".spec.box", ".spec.raw", ".spec.words"],
        &[],
    );
}

#[test]
fn how_lists_change() {
    let schema = gadget();
    let check = |old: &str, new: &str, written: &[&str], removed: &[&str]| {
        let wrap = |list: &str| tree(&format!(r#"{{"spec":{{{list}}}}}"#));
        let changes = compare(&wrap(old), &wrap(new), schema.root()).expect(new);
        let short = |set| paths(set).iter().map(|p| p.replace(".spec", "")).collect::<Vec<_>>();
        assert_eq!(short(&changes.written), written, "written: {old} -> {new}");
        assert_eq!(short(&changes.removed), removed, "removed: {old} -> {new}");
    };
    // Order alone is no change of a field.
    check(r#""colors":["a","b"]"#, r#""colors":["b","a"]"#, &[], &[]);
    check(r#""colors":["a","b"]"#, r#""colors":["c","a"]"#, &[r#".colors[="c"]"#], &[r#".colors[="b"]"#]);
    check(r#""colors":["a"]"#, r#""colors":[]"#, &[], &[r#".colors[="a"]"#]);
    check(r#""colors":[]"#, r#""colors":null"#, &[".colors"], &[]);
    check(r#""parts":[{"name":"a"},{"name":"b"}]"#, r#""parts":[{"name":"b"},{"name":"a"}]"#, &[], &[]);
    check(
        r#""parts":[{"name":"a","image":"1"},{"name":"b","image":"1"}]"#,
        r#""parts":[{"name":"a","image":"1"},{"name":"b","image":"2","args":[]}]"#,
        &[r#".parts[name="b"].args"#, r#".parts[name="b"].image"#],
        &[],
    );
    check(
        r#""parts":[{"name":"b","image":"1"}]"#,
        r#""parts":[{"name":"a"},{"name":"b"}]"#,
        &[r#".parts[name="a"]"#, r#".parts[name="a"].name"#],
        &[r#".parts[name="b"].image"#],
    );
    // An absent key field is the one with the default.
    check(
        r#""parts":[{"name":"a","ports":[{"port":1}]}]"#,
        r#""parts":[{"name":"a","ports":[{"port":1,"protocol":"TCP"}]}]"#,
        &[r#".parts[name="a"].ports[port=1,protocol="TCP"].protocol"#],
        &[],
    );
    // What comes twice is one field, whatever is in it.
    let two = r#""parts":[{"name":"a","image":"1"},{"name":"a","image":"2"}]"#;
    let one = r#""parts":[{"name":"a","image":"1"}]"#;
    let a = r#".parts[name="a"]"#;
    let inside = [a.to_owned(), format!("{a}.image"), format!("{a}.name")];
    let inside: Vec<&str> = inside.iter().map(String::as_str).collect();
    check(two, two, &[], &[]);
    check(two, r#""parts":[{"name":"a","image":"1"},{"name":"a","image":"3"}]"#, &[a], &[]);
    check(two, one, &inside, &[a]);
    check(one, two, &[a], &inside);
    check(two, r#""parts":[]"#, &[], &[a]);
    check(r#""parts":[{"name":"b"}]"#, r#""parts":[{"name":"b"},{"name":"a"},{"name":"a"}]"#, &[a], &[]);
    check(r#""colors":["a","a"]"#, r#""colors":["a"]"#, &[r#".colors[="a"]"#], &[r#".colors[="a"]"#]);
}

#[test]
fn how_free_values_change() {
    let schema = gadget();
    let check = |old: &str, new: &str, written: &[&str], removed: &[&str]| {
        let wrap = |value: &str| tree(&format!(r#"{{"spec":{{"free":{value}}}}}"#));
        let changes = compare(&wrap(old), &wrap(new), schema.root()).expect(new);
        let short = |set| paths(set).iter().map(|p| p.replace(".spec.free", "$")).collect::<Vec<_>>();
        assert_eq!(short(&changes.written), written, "written: {old} -> {new}");
        assert_eq!(short(&changes.removed), removed, "removed: {old} -> {new}");
    };
    check(r#"{"a":{"b":1}}"#, r#"{"a":{"b":2,"c":3}}"#, &["$.a.b", "$.a.c"], &[]);
    check(r#"{"a":[1]}"#, r#"{"a":[1,2]}"#, &["$.a"], &[]);
    check("1", r#"{"a":1}"#, &["$", "$.a"], &[]);
    check(r#"{"a":1}"#, "1", &["$"], &["$.a"]);
    check(r#"{"a":1}"#, "null", &[], &["$.a"]);
    check("null", r#"{"a":1}"#, &["$.a"], &[]);
    check("null", "{}", &["$"], &[]);
    check("[1]", r#"{"a":1}"#, &["$", "$.a"], &[]);
    check(r#"{"a":1}"#, "{}", &[], &["$.a"]);
    check(r#""x""#, "7", &["$"], &[]);
}

#[test]
fn elements_that_cannot_be_told() {
    let schema = gadget();
    let check = |new: &str, want: &str| {
        let error = compare(&tree("{}"), &tree(new), schema.root()).expect_err(new);
        assert_eq!(error.to_string(), want);
        assert_eq!(owned(&tree(new), schema.root()).expect_err(new).to_string(), want);
    };
    check(
        r#"{"spec":{"parts":[{"name":"a"},{"image":"x"}]}}"#,
        r#".spec.parts: element 1: associative list with keys has an element that omits all key fields ["name"] (and doesn't have default values for any key fields)"#,
    );
    check(
        r#"{"spec":{"parts":[null]}}"#,
        ".spec.parts: element 0: associative list with keys may not have a null element",
    );
    check(
        r#"{"spec":{"parts":["a"]}}"#,
        ".spec.parts: element 0: associative list with keys may not have non-map elements",
    );
    check(
        r#"{"spec":{"colors":[{}]}}"#,
        ".spec.colors: element 0: associative list without keys has an element that's a map type",
    );
    check(
        r#"{"spec":{"colors":[[]]}}"#,
        ".spec.colors: element 0: not supported: associative list with lists as elements",
    );
    check(
        r#"{"spec":{"parts":[{"name":"a","ports":[null]}]}}"#,
        r#".spec.parts[name="a"].ports: element 0: associative list with keys may not have a null element"#,
    );
    check(
        r#"{"spec":{"colors":[null]}}"#,
        ".spec.colors: element 0: associative list without keys has an element that's an explicit null",
    );
}
