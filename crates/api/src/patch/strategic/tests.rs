//! Behaviour of strategic merge patches over a small kind of our own.

use super::apply;
use crate::error::Status;
use crate::fields::testing::{TestSchema, tree};

const GIZMO: &str = r#"{
    metadata: { labels: map(string), finalizers: set(string) / merge, owners: list({ uid: string, name: string }) / merge uid },
    spec: {
        replicas: int, args: list(string), colors: list(string) / merge, ports: list(int) / merge,
        parts: list(part = {
            name: string, image: string, tags: list(string) / merge, args: list(string),
            env: list({ name: string, value: string }) / merge name,
            mode: { kind: string, fast: { n: int }, slow: { n: int } } / retain
        }) / merge name,
        mode: { kind: string, fast: { n: int }, slow: { n: int } } / retain,
        volumes: list({ name: string, a: { x: int }, b: { x: int } }) / merge-retain name,
        rules: list({ host: string, paths: list(string) }), picker: { by: string, also: string } / replace, free: any,
        matrix: list(list(int)) / merge, things: list({ name: string }) / merge
    }
}"#;

fn patched(object: &str, patch: &str) -> Result<String, Status> {
    let schema = TestSchema::new(GIZMO);
    apply(tree(object), tree(patch), schema.root()).map(|v| format!("{v:?}")).map_err(Status::from)
}

/// Patches `spec`, and expects a `spec`.
#[track_caller]
fn check(spec: &str, patch: &str, want: &str) {
    let wrap = |text: &str| format!(r#"{{"spec":{text}}}"#);
    let got = patched(&wrap(spec), &wrap(patch)).unwrap_or_else(|e| panic!("{patch}: {e}"));
    assert_eq!(got, format!("{:?}", tree(&wrap(want))), "{spec} + {patch}");
}

#[test]
fn objects_merge_and_lists_are_replaced() {
    check(r#"{"replicas":1}"#, r#"{"replicas":2}"#, r#"{"replicas":2}"#);
    check(r#"{"replicas":1,"args":["a"]}"#, r#"{"replicas":null,"nothing":null}"#, r#"{"args":["a"]}"#);
    check(r#"{"args":["a","b"]}"#, r#"{"args":["c"]}"#, r#"{"args":["c"]}"#);
    check(
        r#"{"rules":[{"host":"a","paths":["/"]}]}"#,
        r#"{"rules":[{"host":"b","paths":null}]}"#,
        r#"{"rules":[{"host":"b"}]}"#,
    );
    check(
        r#"{"free":{"a":{"b":1},"l":[1]}}"#,
        r#"{"free":{"a":{"c":2},"l":[2]}}"#,
        r#"{"free":{"a":{"b":1,"c":2},"l":[2]}}"#,
    );
    check(r#"{"picker":{"by":"a","also":"b"}}"#, r#"{"picker":{"by":"c"}}"#, r#"{"picker":{"by":"c"}}"#);
    check(r#"{"replicas":1}"#, r#"{"replicas":{"x":null,"y":1}}"#, r#"{"replicas":{"y":1}}"#);
    check("{}", r#"{"mode":{"kind":"a","fast":null}}"#, r#"{"mode":{"kind":"a"}}"#);
    assert_eq!(
        patched(
            r#"{"metadata":{"labels":{"a":"1","b":"2"}}}"#,
            r#"{"metadata":{"labels":{"a":null,"c":"3"}}}"#
        )
        .expect("valid"),
        r#"{"metadata":{"labels":{"b":"2","c":"3"}}}"#
    );
}

#[test]
fn lists_of_scalars_merge_as_sets() {
    check(r#"{"colors":["a","b"]}"#, r#"{"colors":["c","a"]}"#, r#"{"colors":["c","a","b"]}"#);
    check(r#"{"colors":["a","b"]}"#, r#"{"colors":["b","d"]}"#, r#"{"colors":["a","b","d"]}"#);
    check(r#"{"colors":["a","b","a"]}"#, r#"{"colors":["b"]}"#, r#"{"colors":["a","b"]}"#);
    check(r#"{"ports":[1,2]}"#, r#"{"ports":[3]}"#, r#"{"ports":[3,1,2]}"#);
    check(r#"{"colors":["a"]}"#, r#"{"colors":[]}"#, r#"{"colors":["a"]}"#);
    check(r#"{"colors":[]}"#, r#"{"colors":[]}"#, r#"{"colors":[]}"#);
    check(
        r#"{"colors":["a","b","c"]}"#,
        r#"{"$deleteFromPrimitiveList/colors":["b","z"]}"#,
        r#"{"colors":["a","c"]}"#,
    );
    check(
        r#"{"colors":["a","b","c"]}"#,
        r#"{"$deleteFromPrimitiveList/colors":["b"],"colors":["d"]}"#,
        r#"{"colors":["d","a","c"]}"#,
    );
    check(r#"{"args":["a","b"]}"#, r#"{"$deleteFromPrimitiveList/args":["a"]}"#, r#"{"args":["b"]}"#);
    check(r#"{"colors":["a"]}"#, r#"{"$deleteFromPrimitiveList/colors":null}"#, "{}");
    check(
        r#"{"replicas":1}"#,
        r#"{"$deleteFromPrimitiveList/colors":["a"],"$deleteFromPrimitiveList/replicas":["a"]}"#,
        r#"{"replicas":1}"#,
    );
}

#[test]
fn lists_of_objects_merge_by_key() {
    let two =
        r#"{"parts":[{"name":"a","image":"1","env":[{"name":"x","value":"1"}]},{"name":"b","image":"1"}]}"#;
    check(
        two,
        r#"{"parts":[{"name":"b","image":"2"},{"name":"a","env":[{"name":"x","value":"2"},{"name":"y"}]}]}"#,
        r#"{"parts":[{"name":"b","image":"2"},{"name":"a","image":"1","env":[{"name":"x","value":"2"},{"name":"y"}]}]}"#,
    );
    check(
        two,
        r#"{"parts":[{"name":"c","image":null}]}"#,
        r#"{"parts":[{"name":"c"},{"name":"a","image":"1","env":[{"name":"x","value":"1"}]},{"name":"b","image":"1"}]}"#,
    );
    check(
        two,
        r#"{"parts":[{"name":"a","$patch":"delete"},{"name":"z","$patch":"delete"}]}"#,
        r#"{"parts":[{"name":"b","image":"1"}]}"#,
    );
    check(two, r#"{"parts":[{"$patch":"replace"},{"name":"c"}]}"#, r#"{"parts":[{"name":"c"}]}"#);
    check(two, r#"{"parts":[{"$patch":"replace"}]}"#, r#"{"parts":[]}"#);
    check(two, r#"{"parts":[{"name":"a","$patch":"replace"}]}"#, r#"{"parts":[]}"#);
    check(
        two,
        r#"{"parts":[{"name":"c","image":"1"},{"name":"c","tags":["t"]},{"name":"a","$patch":"delete"}]}"#,
        r#"{"parts":[{"name":"c","image":"1","tags":["t"]},{"name":"b","image":"1"}]}"#,
    );
    check("{}", r#"{"parts":[{"name":"c","$patch":"delete"},{"name":"d"}]}"#, r#"{"parts":[{"name":"d"}]}"#);
    // Elements that come twice in the object: the first merges, a delete takes all.
    let twice = r#"{"parts":[{"name":"a","image":"1"},{"name":"a","image":"2"},{"name":"b"}]}"#;
    check(
        twice,
        r#"{"parts":[{"name":"a","image":"3"}]}"#,
        r#"{"parts":[{"name":"a","image":"3"},{"name":"a","image":"2"},{"name":"b"}]}"#,
    );
    check(twice, r#"{"parts":[{"name":"a","$patch":"delete"}]}"#, r#"{"parts":[{"name":"b"}]}"#);
}

#[test]
fn directives_of_objects() {
    check(
        r#"{"mode":{"kind":"a","fast":{"n":1}}}"#,
        r#"{"mode":{"$patch":"replace","kind":"b"}}"#,
        r#"{"mode":{"kind":"b"}}"#,
    );
    check(r#"{"mode":{"kind":"a"}}"#, r#"{"mode":{"$patch":"delete"}}"#, r#"{"mode":{}}"#);
    check(r#"{"picker":{"by":"a"}}"#, r#"{"picker":{"$patch":"delete"}}"#, r#"{"picker":{}}"#);
    check(
        r#"{"replicas":1}"#,
        r#"{"$patch":"replace","$deleteFromPrimitiveList/args":["a"],"args":["b"],"mode":null}"#,
        r#"{"args":["b"]}"#,
    );
    // Of an object that is not there nothing is made.
    check("{}", r#"{"mode":{"$patch":"replace","kind":"b"}}"#, "{}");
    check(r#"{"mode":3}"#, r#"{"mode":{"$patch":"delete"}}"#, "{}");
    check(
        r#"{"mode":{"kind":"fast","fast":{"n":1}}}"#,
        r#"{"mode":{"$retainKeys":["kind","slow"],"kind":"slow","slow":{"n":2}}}"#,
        r#"{"mode":{"kind":"slow","slow":{"n":2}}}"#,
    );
    check(
        r#"{"mode":{"kind":"a","fast":{"n":1}}}"#,
        r#"{"mode":{"$retainKeys":["kind"],"fast":null}}"#,
        r#"{"mode":{"kind":"a"}}"#,
    );
    check("{}", r#"{"mode":{"$retainKeys":["kind"],"kind":"x"}}"#, r#"{"mode":{"kind":"x"}}"#);
    check(
        r#"{"volumes":[{"name":"v","a":{"x":1}},{"name":"w","b":{"x":1}}]}"#,
        r#"{"volumes":[{"name":"v","$retainKeys":["name","b"],"b":{"x":2}}]}"#,
        r#"{"volumes":[{"name":"v","b":{"x":2}},{"name":"w","b":{"x":1}}]}"#,
    );
}

#[test]
fn elements_can_be_ordered() {
    let parts = |names: &str| -> String {
        let items: Vec<String> = names.chars().map(|c| format!(r#"{{"name":"{c}"}}"#)).collect();
        format!("[{}]", items.join(","))
    };
    let ordered = |live: &str, patch: Option<&str>, order: &str, want: &str| {
        let patch = patch.map_or(String::new(), |names| format!(r#","parts":{}"#, parts(names)));
        let patch = format!(r#"{{"$setElementOrder/parts":{}{patch}}}"#, parts(order));
        check(&format!(r#"{{"parts":{}}}"#, parts(live)), &patch, &format!(r#"{{"parts":{}}}"#, parts(want)));
    };
    ordered("abc", None, "cba", "cba");
    ordered("abc", Some("d"), "dabc", "dabc");
    ordered("abc", Some("d"), "adbc", "adbc");
    ordered("abcx", Some("d"), "cdba", "cdbax");
    ordered("xayb", None, "ba", "xyba");
    ordered("abc", Some("b"), "", "abc");
    check(
        r#"{"colors":["a","b","c"]}"#,
        r#"{"$setElementOrder/colors":["c","d","a"],"colors":["d"],"$deleteFromPrimitiveList/colors":["b"]}"#,
        r#"{"colors":["c","d","a"]}"#,
    );
    check(
        "{}",
        r#"{"$setElementOrder/parts":[{"name":"a"}],"parts":[{"name":"a","image":"1"}]}"#,
        r#"{"parts":[{"name":"a","image":"1"}]}"#,
    );
    check(r#"{"replicas":1}"#, r#"{"$setElementOrder/parts":[{"name":"a"}]}"#, r#"{"replicas":1}"#);
    check(r#"{"parts":[]}"#, r#"{"$setElementOrder/parts":[{"name":"a"}]}"#, r#"{"parts":[]}"#);
    check(
        r#"{"parts":[{"name":"a","image":"1"},{"name":"b"}]}"#,
        r#"{"$setElementOrder/parts":[{"name":"b"}],"parts":[{"name":"a","$patch":"delete"}]}"#,
        r#"{"parts":[{"name":"b"}]}"#,
    );
    check(
        r#"{"args":["a","b"]}"#,
        r#"{"$setElementOrder/args":["y","x"],"args":["y"]}"#,
        r#"{"args":["y"]}"#,
    );
}

#[track_caller]
fn refused(object: &str, patch: &str, code: u16, want: &str) {
    let wrap = |text: &str| format!(r#"{{"spec":{text}}}"#);
    let status = patched(&wrap(object), &wrap(patch)).expect_err(want);
    assert_eq!((status.code(), status.message.as_ref()), (code, want));
}

const PART: &str = r#"{"parts":[{"name":"a"}]}"#;

#[test]
fn elements_that_are_wrong() {
    refused(
        r#"{"mode":{}}"#,
        r#"{"mode":{"$patch":"melt","kind":"x"}}"#,
        400,
        r#"unknown patch type: melt in map: {"kind":"x"} (at spec.mode)"#,
    );
    refused(
        r#"{"mode":{}}"#,
        r#"{"mode":{"$patch":"merge"}}"#,
        400,
        "unknown patch type: merge in map: {} (at spec.mode)",
    );
    refused(
        r#"{"mode":{}}"#,
        r#"{"mode":{"$patch":3}}"#,
        400,
        "unknown patch type: 3 in map: {} (at spec.mode)",
    );
    refused(
        PART,
        r#"{"parts":[{"name":"a","$patch":"merge"}]}"#,
        400,
        "merging lists cannot yet be specified in the patch (at spec.parts)",
    );
    refused(
        PART,
        r#"{"parts":[{"$patch":"x"}]}"#,
        400,
        r#"unknown patch type: x in map: {"$patch":"x"} (at spec.parts)"#,
    );
    refused(
        PART,
        r#"{"parts":[{"image":"1"}]}"#,
        400,
        r#"map: {"image":"1"} does not contain declared merge key: name (at spec.parts)"#,
    );
    refused(
        PART,
        r#"{"parts":[{"$patch":"delete"}]}"#,
        400,
        r#"map: {"$patch":"delete"} does not contain declared merge key: name (at spec.parts)"#,
    );
    refused(
        r#"{"parts":[{"image":"1"}]}"#,
        r#"{"parts":[{"name":"a"}]}"#,
        400,
        r#"map: {"image":"1"} does not contain declared merge key: name (at spec.parts)"#,
    );
    refused(
        PART,
        r#"{"parts":[{"name":["x"]}]}"#,
        400,
        r#"merge key must be a scalar, got ["x"] (at spec.parts)"#,
    );
    refused(
        PART,
        r#"{"parts":["a"]}"#,
        400,
        "list element types are not identical: object and string (at spec.parts)",
    );
    refused(
        PART,
        r#"{"parts":[null]}"#,
        400,
        "list element types are not identical: object and null (at spec.parts)",
    );
    refused(
        r#"{"things":[{"name":"a"}]}"#,
        r#"{"things":[{"name":"a"}]}"#,
        400,
        "cannot merge lists without merge key (at spec.things)",
    );
    refused(
        r#"{"matrix":[[1]]}"#,
        r#"{"matrix":[[2]]}"#,
        422,
        "lists of lists are not supported (at spec.matrix)",
    );
    refused(
        r#"{"parts":[{"name":"a","env":[{"name":"x"}]}]}"#,
        r#"{"parts":[{"name":"a","env":[{"value":"1"}]}]}"#,
        400,
        r#"map: {"value":"1"} does not contain declared merge key: name (at spec.parts[0].env)"#,
    );
}

#[test]
fn directives_that_are_wrong() {
    refused(
        "{}",
        r#"{"$deleteFromPrimitiveList":["a"]}"#,
        400,
        "invalid patch format of primitive list (at spec)",
    );
    refused(
        r#"{"colors":["a"]}"#,
        r#"{"$deleteFromPrimitiveList/colors":[1]}"#,
        400,
        "list element types are not identical: string and integer (at spec.colors)",
    );
    refused(
        "{}",
        r#"{"$setElementOrder":["a"]}"#,
        400,
        "invalid patch format of setElementOrder list (at spec)",
    );
    refused(
        PART,
        r#"{"$setElementOrder/parts":"a"}"#,
        400,
        "expected a list, but received a string (at spec.parts)",
    );
    refused(
        r#"{"parts":1}"#,
        r#"{"$setElementOrder/parts":[]}"#,
        400,
        "expected a list, but received a integer (at spec.parts)",
    );
    refused(
        PART,
        r#"{"$setElementOrder/parts":[{"name":"b"},{"name":"a"}],"parts":[{"name":"a"},{"name":"b"}]}"#,
        400,
        "The order in patch list:\n[{\"name\":\"a\"},{\"name\":\"b\"}]\n doesn't match $setElementOrder list:\n[{\"name\":\"b\"},{\"name\":\"a\"}]\n (at spec.parts)",
    );
    refused(
        PART,
        r#"{"$setElementOrder/parts":[{"nam":"b"}]}"#,
        400,
        r#"map: {"nam":"b"} does not contain declared merge key: name (at spec.parts)"#,
    );
    refused(
        r#"{"mode":{}}"#,
        r#"{"mode":{"$retainKeys":["kind"],"fast":{"n":1}}}"#,
        400,
        "invalid patch format of retainKeys (at spec.mode)",
    );
    refused(
        r#"{"mode":{}}"#,
        r#"{"mode":{"$retainKeys":"kind"}}"#,
        400,
        "invalid patch format of retainKeys (at spec.mode)",
    );
    let status = patched("{}", "[]").expect_err("no object");
    assert_eq!(status.message, "expected a object, but received a array (at <root>)");
}
