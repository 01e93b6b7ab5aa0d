//! What operations do, what they refuse, and the limits of a patch.

use super::*;

fn tree(text: &str) -> Value {
    json::from_slice(text.as_bytes()).expect(text)
}

#[test]
fn operations() {
    let check = |object: &str, patch: &str, want: &str| {
        let got = apply(tree(object), tree(patch)).unwrap_or_else(|e| panic!("{patch}: {e}"));
        assert_eq!(got, tree(want), "{object} + {patch}");
    };
    check(
        r#"{"a":1}"#,
        r#"[{"op":"add","path":"/b","value":{"c":[]}},{"op":"add","path":"/b/c/-","value":2}]"#,
        r#"{"a":1,"b":{"c":[2]}}"#,
    );
    check(
        r#"{"a":[1,3]}"#,
        r#"[{"op":"add","path":"/a/1","value":2},{"op":"add","path":"/a/0","value":0}]"#,
        r#"{"a":[0,1,2,3]}"#,
    );
    check(r#"{"a":[1]}"#, r#"[{"op":"add","path":"/a/1","value":2}]"#, r#"{"a":[1,2]}"#);
    check(r#"{"a":1,"b":2}"#, r#"[{"op":"remove","path":"/a"}]"#, r#"{"b":2}"#);
    check(r#"{"a":[1,2,3]}"#, r#"[{"op":"remove","path":"/a/1"}]"#, r#"{"a":[1,3]}"#);
    check(r#"{"a":{"b":1}}"#, r#"[{"op":"replace","path":"/a/b","value":[2]}]"#, r#"{"a":{"b":[2]}}"#);
    check(r#"{"a":1}"#, r#"[{"op":"replace","path":"","value":{"b":2}}]"#, r#"{"b":2}"#);
    check(
        r#"{"a":{"b":1},"c":{}}"#,
        r#"[{"op":"move","from":"/a/b","path":"/c/d"}]"#,
        r#"{"a":{},"c":{"d":1}}"#,
    );
    check(r#"{"a":[1,2,3]}"#, r#"[{"op":"move","from":"/a/0","path":"/a/2"}]"#, r#"{"a":[2,3,1]}"#);
    check(
        r#"{"a":{"b":1}}"#,
        r#"[{"op":"copy","from":"/a","path":"/c"},{"op":"add","path":"/c/b","value":2}]"#,
        r#"{"a":{"b":1},"c":{"b":2}}"#,
    );
    check(
        r#"{"a":{"b":[1,"x",null]}}"#,
        r#"[{"op":"test","path":"/a","value":{"b":[1.0,"x",null]}}]"#,
        r#"{"a":{"b":[1,"x",null]}}"#,
    );
    check(r#"{"a":1}"#, r#"[{"op":"test","path":"","value":{"a":1}}]"#, r#"{"a":1}"#);
    check(r#"{"a":1}"#, "[]", r#"{"a":1}"#);
    check(r#"{"a":1}"#, "null", r#"{"a":1}"#);
}

#[test]
fn pointers_are_unescaped() {
    let object = r#"{"a/b":{"m~n":1},"":{"":2},"~1":3,"é":{"x y":4}}"#;
    for (pointer, want) in [("/a~1b/m~0n", 1), ("//", 2), ("/~01", 3), ("/é/x y", 4)] {
        let patch = format!(r#"[{{"op":"test","path":"{pointer}","value":{want}}}]"#);
        assert_eq!(apply(tree(object), tree(&patch)).expect(pointer), tree(object));
    }
    assert_eq!(unescape("a~2b~"), "a~2b~");
}

#[test]
fn leniencies() {
    let check = |object: &str, patch: &str, want: &str| {
        let got = apply(tree(object), tree(patch)).unwrap_or_else(|e| panic!("{patch}: {e}"));
        assert_eq!(got, tree(want), "{object} + {patch}");
    };
    check(
        r#"{"a":[1,2,3]}"#,
        r#"[{"op":"remove","path":"/a/-1"},{"op":"replace","path":"/a/-2","value":9}]"#,
        r#"{"a":[9,2]}"#,
    );
    check(
        r#"{"a":[1]}"#,
        r#"[{"op":"add","path":"/a/-1","value":2},{"op":"add","path":"/a/-3","value":0}]"#,
        r#"{"a":[0,1,2]}"#,
    );
    check("{}", r#"[{"op":"replace","path":"/a","value":1}]"#, r#"{"a":1}"#);
    check("{}", r#"[{"op":"copy","from":"/a","path":"/b"}]"#, r#"{"b":null}"#);
    check("{}", r#"[{"op":"test","path":"/a","value":null},{"op":"test","path":"/a"}]"#, "{}");
    check("{}", r#"[{"op":"add","path":"/a"}]"#, r#"{"a":null}"#);
    check(r#"{"a":1}"#, r#"[{"op":"remove","path":"ignored/a"}]"#, "{}");
    check(r#"{"a":[1,2]}"#, r#"[{"op":"test","path":"/a/+01","value":2}]"#, r#"{"a":[1,2]}"#);
}

#[test]
fn operations_that_do_not_apply() {
    let check = |patch: &str, want: &str| {
        let object = tree(r#"{"a":{"b":[1,2]},"n":null,"s":"x"}"#);
        let status = Status::from(apply(object, tree(patch)).expect_err(patch));
        assert_eq!(status.code(), 422, "{patch}");
        let text =
            status.message.strip_prefix("the server rejected our request due to an error in our request: ");
        assert_eq!(text, Some(want), "{patch}");
    };
    check(
        r#"[{"op":"remove","path":"/a/x"}]"#,
        "error in remove for path: '/a/x': Unable to remove nonexistent key: x: missing value (operation 0)",
    );
    check(
        r#"[{"op":"remove","path":"/a/b/2"}]"#,
        "error in remove for path: '/a/b/2': Unable to access invalid index: 2: invalid index referenced (operation 0)",
    );
    check(
        r#"[{"op":"remove","path":"/a/b/-3"}]"#,
        "error in remove for path: '/a/b/-3': Unable to access invalid index: -3: invalid index referenced (operation 0)",
    );
    check(
        r#"[{"op":"remove","path":"/a/b/x"}]"#,
        "error in remove for path: '/a/b/x': value was not a proper array index: 'x' (operation 0)",
    );
    check(
        r#"[{"op":"remove","path":""}]"#,
        r#"remove operation does not apply: doc is missing path: "": missing value (operation 0)"#,
    );
    check(
        r#"[{"op":"add","path":"/x/y","value":1}]"#,
        r#"add operation does not apply: doc is missing path: "/x/y": missing value (operation 0)"#,
    );
    check(
        r#"[{"op":"add","path":"/n/y","value":1}]"#,
        r#"add operation does not apply: doc is missing path: "/n/y": missing value (operation 0)"#,
    );
    check(
        r#"[{"op":"add","path":"/s/y","value":1}]"#,
        r#"add operation does not apply: doc is missing path: "/s/y": missing value (operation 0)"#,
    );
    check(
        r#"[{"op":"add","path":"/a/b/3","value":1}]"#,
        "error in add for path: '/a/b/3': Unable to access invalid index: 3: invalid index referenced (operation 0)",
    );
    check(
        r#"[{"op":"add","path":"/a/b/99999999999999999999","value":1}]"#,
        "error in add for path: '/a/b/99999999999999999999': value was not a proper array index: '99999999999999999999' (operation 0)",
    );
    check(
        r#"[{"op":"replace","path":"/a/b/2","value":1}]"#,
        "replace operation does not apply: doc is missing key: /a/b/2: missing value (operation 0)",
    );
    check(
        r#"[{"op":"replace","path":"","value":1}]"#,
        "replace operation value must be object or array (operation 0)",
    );
    check(r#"[{"op":"replace","path":"","value":[]}]"#, "the patch makes the object a list");
    check(
        r#"[{"op":"move","from":"/x","path":"/y"}]"#,
        "error in move for path: '/x': Unable to remove nonexistent key: x: missing value (operation 0)",
    );
    check(
        r#"[{"op":"move","from":"/a","path":"/a/c"}]"#,
        r#"move operation does not apply: doc is missing destination path: "/a/c": missing value (operation 0)"#,
    );
    check(
        r#"[{"op":"copy","from":"/x/y","path":"/y"}]"#,
        r#"copy operation does not apply: doc is missing from path: "/x/y": missing value (operation 0)"#,
    );
    check(
        r#"[{"op":"add","path":"/k","value":1},{"op":"test","path":"/k","value":2}]"#,
        "testing value /k failed: test failed (operation 1)",
    );
    check(
        r#"[{"op":"test","path":"/a/b","value":[1]}]"#,
        "testing value /a/b failed: test failed (operation 0)",
    );
    check(r#"[{"op":"patch","path":"/a"}]"#, "Unexpected kind: patch (operation 0)");
    check(r#"[{"op":7}]"#, "Unexpected kind: unknown (operation 0)");
    check("[null]", "Unexpected kind: unknown (operation 0)");
    check(r#"[{"op":"add","value":1}]"#, "add operation failed to decode path: missing value (operation 0)");
    check(
        r#"[{"op":"move","path":"/a","from":3}]"#,
        "move operation failed to decode from: missing value (operation 0)",
    );
}

#[test]
fn patches_that_are_none() {
    let check = |patch: &str, code: u16, want: &str| {
        let status = Status::from(apply(tree("{}"), tree(patch)).expect_err(want));
        assert_eq!((status.code(), status.message.as_ref()), (code, want));
    };
    check("{}", 400, "error decoding patch: a JSON patch is a list of operations, got object");
    check(
        r#"[{"op":"add","path":"/a"},"x"]"#,
        400,
        "error decoding patch: operation 1 must be an object, got string",
    );
    let many = vec![r#"{"op":"test","path":"/a","value":null}"#; MAX_OPERATIONS + 1].join(",");
    check(
        &format!("[{many}]"),
        413,
        "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001",
    );
}

#[test]
fn limits() {
    let run = |object: Value, operation: &str, times: usize| {
        let patch = Value::Array(vec![tree(operation); times]);
        apply(object, patch).map_err(|e| e.to_string())
    };
    // Copies that double the document.
    let big = tree(&format!(r#"{{"a":"{}"}}"#, "x".repeat(MAX_COPIED / 2)));
    let error = run(big, r#"{"op":"copy","from":"/a","path":"/b"}"#, 2).expect_err("too much");
    assert!(
        error.starts_with("Unable to complete the copy, the accumulated size increase of copy is 3145732"),
        "{error}"
    );
    // Nesting that grows with each operation.
    let nest = r#"[{"op":"add","path":"/b","value":{}},{"op":"move","from":"/a","path":"/b/x"},{"op":"move","from":"/b","path":"/a"}]"#;
    let operations =
        std::iter::repeat_n(tree(nest), 200).flat_map(|list| list.as_array().map(<[Value]>::to_vec));
    let operations: Vec<Value> = operations.flatten().collect();
    let error = apply(tree(r#"{"a":{}}"#), Value::Array(operations)).expect_err("too deep").to_string();
    assert!(error.contains("would nest deeper than 128 levels"), "{error}");
    // Shifting a long list over and over.
    let long = Value::from(crate::Map::from_iter([("a".into(), Value::Array(vec![Value::Null; 100_000]))]));
    let error = run(long, r#"{"op":"add","path":"/a/0","value":1}"#, 1000).expect_err("too long");
    assert!(error.contains("the patch shifts more than 50000000 values"), "{error}");
}
