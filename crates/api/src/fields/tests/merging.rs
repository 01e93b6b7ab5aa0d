//! How a configuration lies over the live object.

use super::{gadget, tree};
use crate::fields::merge::merge;
use crate::fields::remove::{remove, tidy};
use crate::fields::set::FieldSet;
use crate::fields::validate::faults;

fn merged(live: &str, config: &str) -> String {
    let schema = gadget();
    let mut object = tree(live);
    merge(&mut object, &tree(config), schema.root()).expect(config);
    format!("{object:?}")
}

#[test]
fn configurations_overlay() {
    let check =
        |live: &str, config: &str, want: &str| assert_eq!(merged(live, config), want, "{live} + {config}");
    check("{}", r#"{"spec":{"title":"a"}}"#, r#"{"spec":{"title":"a"}}"#);
    check(
        r#"{"spec":{"title":"a","ready":true}}"#,
        r#"{"spec":{"title":"b"}}"#,
        r#"{"spec":{"ready":true,"title":"b"}}"#,
    );
    check(r#"{"spec":{"title":"a"}}"#, r#"{"spec":{"title":null}}"#, r#"{"spec":{"title":null}}"#);
    // No opinion about what is inside.
    check(
        r#"{"spec":{"store":{"limit":1}}}"#,
        r#"{"spec":{"store":{}}}"#,
        r#"{"spec":{"store":{"limit":1}}}"#,
    );
    check(
        r#"{"spec":{"store":{"limit":1}}}"#,
        r#"{"spec":{"store":null}}"#,
        r#"{"spec":{"store":{"limit":1}}}"#,
    );
    check(r#"{"spec":{"store":{}}}"#, r#"{"spec":{"store":null}}"#, r#"{"spec":{"store":null}}"#);
    check(r#"{"spec":{"colors":["a"]}}"#, r#"{"spec":{"colors":[]}}"#, r#"{"spec":{"colors":["a"]}}"#);
    // Atomic ones are replaced.
    check(
        r#"{"spec":{"box":{"width":1,"height":1},"words":["a"],"frozen":{"a":"1"},"raw":{"a":1}}}"#,
        r#"{"spec":{"box":{"width":2},"words":[],"frozen":{"b":"2"},"raw":{"b":1}}}"#,
        r#"{"spec":{"box":{"width":2},"frozen":{"b":"2"},"raw":{"b":1},"words":[]}}"#,
    );
    check(
        r#"{"spec":{"free":{"a":{"x":1},"b":[1],"c":1}}}"#,
        r#"{"spec":{"free":{"a":{"y":2},"b":[2],"c":{"z":1}}}}"#,
        r#"{"spec":{"free":{"a":{"x":1,"y":2},"b":[2],"c":{"z":1}}}}"#,
    );
    check(r#"{"spec":{"free":{"a":1}}}"#, r#"{"spec":{"free":"x"}}"#, r#"{"spec":{"free":"x"}}"#);
    check(r#"{"spec":{"free":{"a":1}}}"#, r#"{"spec":{"free":null}}"#, r#"{"spec":{"free":{"a":1}}}"#);
    check(r#"{"spec":{"free":[1]}}"#, r#"{"spec":{"free":null}}"#, r#"{"spec":{"free":null}}"#);
    // A number keeps its spelling when its value stays.
    check(r#"{"spec":{"replicas":1}}"#, r#"{"spec":{"replicas":1.0}}"#, r#"{"spec":{"replicas":1}}"#);
}

#[test]
fn lists_keep_both_orders() {
    let check = |live: &str, config: &str, want: &str| {
        let list = |letters: &str| -> String {
            let items: Vec<String> = letters.chars().map(|c| format!("{:?}", c.to_string())).collect();
            format!(r#"{{"spec":{{"colors":[{}]}}}}"#, items.join(","))
        };
        assert_eq!(merged(&list(live), &list(config)), list(want), "{live} + {config}");
        let parts = |letters: &str| -> String {
            let items: Vec<String> =
                letters.chars().map(|c| format!(r#"{{"name":{:?}}}"#, c.to_string())).collect();
            format!(r#"{{"spec":{{"parts":[{}]}}}}"#, items.join(","))
        };
        let mut distinct: Vec<char> = live.chars().collect();
        distinct.sort_unstable();
        if distinct.windows(2).all(|w| w[0] != w[1]) {
            assert_eq!(merged(&parts(live), &parts(config)), parts(want), "parts {live} + {config}");
        }
    };
    let quote = |text: &str| text.to_owned();
    check(&quote(""), "abc", "abc");
    check("abc", "b", "abc");
    check("abc", "cb", "acb");
    check("abc", "ca", "bca");
    check("bc", "ab", "abc");
    check("abcd", "xd", "abcxd");
    check("ab", "xy", "abxy");
    check("abcdef", "fdb", "acefdb");
    check("cab", "abc", "abc");
    // A live element that comes twice is put in once when the configuration names it.
    check("aab", "a", "ab");
    check("abab", "b", "aba");
}

#[test]
fn elements_merge_by_their_keys() {
    assert_eq!(
        merged(
            r#"{"spec":{"parts":[{"name":"a","image":"1","opts":{"x":"1"}},{"name":"b","image":"1"}]}}"#,
            r#"{"spec":{"parts":[{"name":"b","image":"2"},{"name":"a","opts":{"y":"2"}}]}}"#,
        ),
        r#"{"spec":{"parts":[{"image":"2","name":"b"},{"image":"1","name":"a","opts":{"x":"1","y":"2"}}]}}"#
    );
    assert_eq!(
        merged(
            r#"{"spec":{"parts":[{"name":"a","ports":[{"port":1,"protocol":"TCP"},{"port":1,"protocol":"UDP"}]}]}}"#,
            r#"{"spec":{"parts":[{"name":"a","ports":[{"port":1,"alias":"x"}]}]}}"#,
        ),
        r#"{"spec":{"parts":[{"name":"a","ports":[{"alias":"x","port":1,"protocol":"TCP"},{"port":1,"protocol":"UDP"}]}]}}"#
    );
    let schema = gadget();
    let mut live = tree(r#"{"spec":{"parts":[{"image":"x"}]}}"#);
    let error = merge(&mut live, &tree(r#"{"spec":{"parts":[{"name":"a"}]}}"#), schema.root());
    assert!(
        error.expect_err("an element without a name").to_string().starts_with(".spec.parts: element 0: ")
    );
}

#[test]
fn fields_are_taken_out() {
    let schema = gadget();
    let check = |object: &str, gone: &str, want: &str| {
        let mut object = tree(object);
        remove(&mut object, &FieldSet::from_value(&tree(gone)).expect(gone), schema.root());
        assert_eq!(format!("{object:?}"), want, "- {gone}");
    };
    let all = r#"{"spec":{"colors":["a","b"],"parts":[{"image":"1","name":"x"},{"name":"y"}],"store":{"limit":1},"words":["w"]}}"#;
    check(all, "{}", all);
    check(
        all,
        r#"{"f:spec":{"f:colors":{"v:\"a\"":{}},"f:parts":{"k:{\"name\":\"x\"}":{"f:image":{}},"k:{\"name\":\"y\"}":{}},"f:words":{}}}"#,
        r#"{"spec":{"colors":["b"],"parts":[{"name":"x"}],"store":{"limit":1}}}"#,
    );
    // What is emptied becomes null; what was empty stays, and so does the inside of what is owned as one.
    check(
        r#"{"spec":{"store":{"limit":1},"title":"a"}}"#,
        r#"{"f:spec":{"f:store":{"f:limit":{}}}}"#,
        r#"{"spec":{"store":null,"title":"a"}}"#,
    );
    check(
        r#"{"spec":{"store":{},"colors":[]}}"#,
        r#"{"f:spec":{"f:store":{"f:limit":{}},"f:colors":{"v:1":{}}}}"#,
        r#"{"spec":{"colors":[],"store":{}}}"#,
    );
    check(
        r#"{"spec":{"box":{"width":1}}}"#,
        r#"{"f:spec":{"f:box":{"f:width":{}}}}"#,
        r#"{"spec":{"box":{"width":1}}}"#,
    );
    check(
        r#"{"spec":{"free":{"a":{"b":1},"c":1}}}"#,
        r#"{"f:spec":{"f:free":{"f:a":{"f:b":{}}}}}"#,
        r#"{"spec":{"free":{"a":null,"c":1}}}"#,
    );
}

#[test]
fn what_is_emptied_is_as_the_configuration_says() {
    let schema = gadget();
    let check = |object: &str, gone: &str, config: &str, want: &str| {
        let mut object = tree(object);
        let emptied = remove(&mut object, &FieldSet::from_value(&tree(gone)).expect(gone), schema.root());
        tidy(&mut object, &emptied, Some(&tree(config)), schema.root());
        assert_eq!(format!("{object:?}"), want, "{config}");
    };
    let all = r#"{"spec":{"colors":["a"],"maybe":{"medium":"m"},"store":{"limit":1},"title":null}}"#;
    let gone = r#"{"f:spec":{"f:colors":{"v:\"a\"":{}},"f:maybe":{"f:medium":{}},"f:store":{"f:limit":{}}}}"#;
    check(all, gone, "{}", r#"{"spec":{"title":null}}"#);
    check(
        all,
        gone,
        r#"{"spec":{"store":{},"colors":[],"maybe":null}}"#,
        r#"{"spec":{"colors":[],"maybe":null,"store":{},"title":null}}"#,
    );
    check(all, gone, r#"{"spec":{"store":null,"colors":null}}"#, r#"{"spec":{"title":null}}"#);
    check(
        r#"{"spec":{"parts":[{"name":"b","tune":{"low":1}},{"name":"a","tune":{"low":1}}]}}"#,
        r#"{"f:spec":{"f:parts":{"k:{\"name\":\"a\"}":{"f:tune":{"f:low":{}}},"k:{\"name\":\"b\"}":{"f:tune":{"f:low":{}}}}}}"#,
        r#"{"spec":{"parts":[{"name":"a","tune":{}},{"name":"c","tune":{}}]}}"#,
        r#"{"spec":{"parts":[{"name":"b"},{"name":"a","tune":{}}]}}"#,
    );
}

#[test]
fn configurations_must_have_the_shape_of_the_type() {
    let schema = gadget();
    let check =
        |config: &str, want: &[&str]| assert_eq!(faults(&tree(config), schema.root()), want, "{config}");
    check(r#"{"spec":{"replicas":null,"free":{"a":[{}]},"open":{"x":1},"size":5,"words":[]}}"#, &[]);
    check(
        r#"{"spec":{"replica":1},"x":2}"#,
        &[".spec.replica: field not declared in schema", ".x: field not declared in schema"],
    );
    check(r#"{"spec":{"replicas":"1"}}"#, &[r#".spec.replicas: expected numeric (int or float), got "1""#]);
    check(
        r#"{"spec":{"title":7,"ready":"yes","size":{}}}"#,
        &[
            r#".spec.ready: expected boolean, got "yes""#,
            ".spec.size: expected any scalar, got {}",
            ".spec.title: expected string, got 7",
        ],
    );
    check(
        r#"{"spec":{"words":"a","store":[1]}}"#,
        &[".spec.store: expected map, got [1]", r#".spec.words: expected list, got "a""#],
    );
    check(r#"{"spec":{"words":["a",1]}}"#, &[".spec.words[1]: expected string, got 1"]);
    check(
        r#"{"spec":{"parts":[{"name":"a"},{"name":"a","imag":"x"}],"colors":["r","r"]}}"#,
        &[
            r#".spec.colors: duplicate entries for key [="r"]"#,
            r#".spec.parts: duplicate entries for key [name="a"]"#,
            r#".spec.parts[name="a"].imag: field not declared in schema"#,
        ],
    );
    check(
        r#"{"spec":{"parts":[{}]}}"#,
        &[
            r#".spec.parts: element 0: associative list with keys has an element that omits all key fields ["name"] (and doesn't have default values for any key fields)"#,
        ],
    );
    let many: Vec<String> = (0..100).map(|i| format!(r#""x{i}":1"#)).collect();
    assert_eq!(faults(&tree(&format!("{{{}}}", many.join(","))), schema.root()).len(), 32);
}
