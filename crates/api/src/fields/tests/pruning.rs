//! What goes when an applier no longer names it.

use super::{Desk, tree};

/// Applies two configurations of one manager, others in between, and expects a spec.
struct Case {
    desk: Desk,
}

impl Case {
    fn first(config: &str) -> Self {
        let mut desk = Desk::new();
        desk.apply("a", &spec(config));
        Self { desk }
    }

    fn updated(mut self, by: &str, object: &str) -> Self {
        self.desk.put(by, &spec(object));
        self
    }

    fn applied(mut self, by: &str, config: &str) -> Self {
        self.desk.force(by, &spec(config));
        self
    }

    #[track_caller]
    fn then(mut self, config: &str, want: &str) {
        self.desk.apply("a", &spec(config));
        assert_eq!(self.desk.spec(), tree(want), "{config}");
    }
}

fn spec(text: &str) -> String {
    format!(r#"{{"spec":{text}}}"#)
}

#[test]
fn own_fields_go() {
    Case::first(r#"{"replicas":1,"title":"t"}"#).then(r#"{"title":"t"}"#, r#"{"title":"t"}"#);
    Case::first(r#"{"colors":["r","g"],"limits":{"a":"1","b":"2"}}"#)
        .then(r#"{"colors":["g"],"limits":{"b":"2"}}"#, r#"{"colors":["g"],"limits":{"b":"2"}}"#);
    Case::first(r#"{"parts":[{"name":"p","image":"i","args":["x"]},{"name":"q"}],"ready":true}"#)
        .then(r#"{"parts":[{"name":"p","image":"i"}]}"#, r#"{"parts":[{"name":"p","image":"i"}]}"#);
    Case::first(r#"{"box":{"width":1,"height":1},"title":"t"}"#).then(r#"{"title":"t"}"#, r#"{"title":"t"}"#);
    Case::first(r#"{"free":{"a":{"b":1,"c":2}},"title":"t"}"#)
        .then(r#"{"free":{"a":{"b":1}},"title":"t"}"#, r#"{"free":{"a":{"b":1}},"title":"t"}"#);
}

#[test]
fn others_fields_stay() {
    Case::first(r#"{"replicas":1,"title":"t"}"#)
        .applied("b", r#"{"replicas":1}"#)
        .then(r#"{"title":"t"}"#, r#"{"replicas":1,"title":"t"}"#);
    Case::first(r#"{"replicas":1,"title":"t"}"#)
        .updated("b", r#"{"replicas":2,"title":"t"}"#)
        .then(r#"{"title":"t"}"#, r#"{"replicas":2,"title":"t"}"#);
    // An element goes with all in it, but for what another owns of it.
    Case::first(r#"{"parts":[{"name":"p","image":"i","args":["x"]}]}"#)
        .applied("b", r#"{"parts":[{"name":"p","image":"i"}]}"#)
        .then(r#"{"title":"t"}"#, r#"{"parts":[{"name":"p","image":"i"}],"title":"t"}"#);
    Case::first(r#"{"parts":[{"name":"p","args":["x"]}]}"#)
        .updated("b", r#"{"parts":[{"name":"p","args":["x"],"image":"i"}]}"#)
        .then(r#"{"title":"t"}"#, r#"{"title":"t"}"#);
    Case::first(r#"{"colors":["r","g"]}"#)
        .applied("b", r#"{"colors":["g","b"]}"#)
        .then(r#"{"title":"t"}"#, r#"{"colors":["g","b"],"title":"t"}"#);
}

#[test]
fn whole_objects_go_with_what_nobody_else_owns() {
    // What nobody owns in an object that the applier drops goes along: a default.
    let mut case = Case::first(r#"{"store":{"limit":1},"title":"t"}"#);
    case.desk.live.set(&["spec", "store", "medium"], "default");
    case.then(r#"{"title":"t"}"#, r#"{"title":"t"}"#);
    // But not where the object itself is somebody's.
    let mut case =
        Case::first(r#"{"store":{"limit":1},"title":"t"}"#).applied("b", r#"{"store":{"medium":"m"}}"#);
    case.desk.live.set(&["spec", "store", "extra"], "x");
    case.then(r#"{"title":"t"}"#, r#"{"store":{"extra":"x","medium":"m"},"title":"t"}"#);
    Case::first(r#"{"store":{"limit":1},"title":"t"}"#).then("{}", "{}");
}

#[test]
fn explicit_emptiness_stays() {
    Case::first(r#"{"store":{"limit":1},"title":"t"}"#)
        .then(r#"{"store":{},"title":"t"}"#, r#"{"store":{},"title":"t"}"#);
    Case::first(r#"{"maybe":{"medium":"m"},"title":"t"}"#)
        .then(r#"{"maybe":null,"title":"t"}"#, r#"{"maybe":null,"title":"t"}"#);
    Case::first(r#"{"store":{"limit":1},"title":"t"}"#)
        .then(r#"{"store":null,"title":"t"}"#, r#"{"title":"t"}"#);
}

#[test]
fn fields_of_a_list_that_became_atomic() {
    // Recorded when the box was owned member by member.
    let mut desk = Desk::new();
    desk.apply("a", &spec(r#"{"title":"t"}"#));
    desk.live.set(&["spec", "box"], tree(r#"{"width":1,"height":2}"#));
    let list = desk
        .live
        .get_mut("metadata")
        .and_then(|m| m.get_mut("managedFields"))
        .and_then(crate::Value::as_array_mut);
    list.expect("a list")[0]
        .set(&["fieldsV1"], tree(r#"{"f:spec":{"f:box":{"f:width":{},"f:height":{}},"f:title":{}}}"#));
    assert!(desk.conflict("b", &spec(r#"{"box":{"width":2}}"#)).ends_with(r#"conflict with "a": .spec.box"#));
    desk.put("u", &spec(r#"{"title":"t","box":{"width":3}}"#));
    desk.expect_owners(&["a Apply 01: .spec.title", "u Update 03: .spec.box"]);
}
