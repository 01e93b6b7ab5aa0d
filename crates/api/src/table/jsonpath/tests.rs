use super::*;
use crate::{json, object};

fn store() -> Value {
    object!({
        "name": "jsonpath",
        "book": [
            {"category": "reference", "title": "Sayings", "price": 8, "tags": ["a", "b"]},
            {"category": "fiction", "title": "Sword", "price": 12, "isbn": "x"},
            {"category": "fiction", "title": "Moby", "price": 9}
        ],
        "bicycle": {"color": "red", "gear": true},
        "labels": {"a.b/c": "dotted", "kubernetes.io/os": "linux"},
        "none": null
    })
}

fn check(path: &str, want: &str) {
    let object = store();
    let path_read = JsonPath::parse(path).unwrap_or_else(|e| panic!("{path} {e}"));
    let found: Vec<Value> = path_read.all(&object).into_iter().cloned().collect();
    assert_eq!(String::from_utf8_lossy(&json::to_vec(&Value::Array(found))), want, "{path}");
}

#[test]
fn finds_what_kubectl_finds() {
    check(".name", r#"["jsonpath"]"#);
    check("$.name", r#"["jsonpath"]"#);
    check("@.name", r#"["jsonpath"]"#);
    check("['name']", r#"["jsonpath"]"#);
    check(".missing", "[]");
    check(".name.deeper", "[]");
    check(".none", "[null]");
    check(".none.deeper", "[]");
    check(".book[0].title", r#"["Sayings"]"#);
    check(".book[-1].title", r#"["Moby"]"#);
    check(".book[0:2].price", "[8,12]");
    check(".book[1:].price", "[12,9]");
    check(".book[:-1].price", "[8,12]");
    check(".book[::2].price", "[8,9]");
    check(".book[*].price", "[8,12,9]");
    check(".book[0,2].price", "[8,9]");
    check(".book[0]['title','price']", r#"["Sayings",8]"#);
    check(".book[7].price", "[]");
    check(".name[0]", "[]");
    check(".bicycle.*", r#"["red",true]"#);
    check(".bicycle..color", r#"["red"]"#);
    check("..price", "[8,12,9]");
    check(".labels.kubernetes\\.io/os", r#"["linux"]"#);
    check(".labels['kubernetes\\.io/os']", r#"["linux"]"#);
    check(r#".book[?(@.category=="fiction")].title"#, r#"["Sword","Moby"]"#);
    check(".book[?(@.category=='fiction')].title", r#"["Sword","Moby"]"#);
    check(".book[?(@.category!='fiction')].title", r#"["Sayings"]"#);
    check(".book[?(@.price<9)].title", r#"["Sayings"]"#);
    check(".book[?(@.price<=9)].title", r#"["Sayings","Moby"]"#);
    check(".book[?(@.price>=9)].title", r#"["Sword","Moby"]"#);
    check(".book[?(@.isbn)].title", r#"["Sword"]"#);
    check(".book[?(@.isbn=='x')].title", r#"["Sword"]"#);
    check(".book[?(@.title=='a)b')].title", "[]");
    check(".book[?(@.title==@.title)].price", "[8,12,9]");
    check("word.field", "[]");
    check(".book[?(@.price=='8')].title", "[]");
}

#[test]
fn refuses_what_is_no_path() {
    let check = |path: &str, want: JsonPathError| assert_eq!(JsonPath::parse(path), Err(want), "{path}");
    check(".a[", JsonPathError::Unterminated("array"));
    check(".a[x]", JsonPathError::Index("x".into()));
    check(".a[]", JsonPathError::Index(String::new()));
    check(".a[1:2:3:4]", JsonPathError::Index("1:2:3:4".into()));
    check(".a[99999999999999999999]", JsonPathError::Index("99999999999999999999".into()));
    check(".a[?(@.b", JsonPathError::Unterminated("filter"));
    check(".a[?(@.b)x", JsonPathError::Unterminated("filter"));
    check(".a[?(@.b=='x')]~", JsonPathError::Character('~'));
    check(".a[?(@.b=1)]", JsonPathError::Operator("=".into()));
    check(".a[?(@.b=='x)]", JsonPathError::Unterminated("filter"));
    check("'open", JsonPathError::Unterminated("quoted string"));
    check("....a", JsonPathError::Recursive);
    check(".a}{.b", JsonPathError::Character('}'));
    check("1.2.3", JsonPathError::Number("1.2.3".into()));
    check(&format!(".{}", "a".repeat(MAX_LENGTH)), JsonPathError::TooLong);
}

#[test]
fn hostile_expressions_end() {
    // Each `..*` multiplies what it is given; without a bound this would take until the end of days.
    let mut deep = object!({"a": 1});
    for _ in 0..100 {
        deep = object!({"a": (deep.clone()), "b": (vec![deep]) });
        if json::to_vec(&deep).len() > 100_000 {
            break;
        }
    }
    for path in ["..[*]..[*]..[*]", "..a..a..a..a..a..a..a..a"] {
        let path = JsonPath::parse(path).expect(path);
        assert!(path.all(&deep).len() <= MAX_STEPS);
    }
}

#[test]
fn any_text_is_read_or_refused() {
    let object = store();
    // Every prefix and every single-character deletion of expressions that use all of the grammar.
    for path in [".a['b\\'c',1:2][?(@.x.y >= -1.5)]..z.*", r#"[?(@["q"]=='é')].ü[*][-1]"#] {
        let ends: Vec<usize> = path.char_indices().map(|(i, _)| i).collect();
        for (&cut, c) in ends.iter().zip(path.chars()) {
            let without = format!("{}{}", &path[..cut], &path[cut + c.len_utf8()..]);
            for text in [&path[..cut], &without] {
                if let Ok(path) = JsonPath::parse(text) {
                    assert!(path.all(&object).len() <= MAX_STEPS, "{text}");
                }
            }
        }
    }
}
