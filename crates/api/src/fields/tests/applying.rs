//! Server-side apply: conflicts, force, and what is refused.

use super::{Desk, VERSION, apply, gadget, tree, typed};
use crate::Value;
use crate::fields::{ApplyError, Force, OneShape, Target};

#[test]
fn an_applied_object() {
    let mut desk = Desk::new();
    desk.apply("a", r#"{"metadata":{"name":"x","labels":{"k":"1"}},"spec":{"replicas":1,"parts":[{"name":"p","image":"i"}]}}"#);
    desk.expect_owners(&[
        r#"a Apply 01: .metadata.labels.k .spec.replicas .spec.parts[name="p"] .spec.parts[name="p"].image .spec.parts[name="p"].name"#,
    ]);
    // Others can apply what does not collide, or has the same value.
    desk.apply("b", r#"{"metadata":{"labels":{"l":"2"}},"spec":{"replicas":1,"title":"t"}}"#);
    desk.expect_owners(&[
        r#"a Apply 01: .metadata.labels.k .spec.replicas .spec.parts[name="p"] .spec.parts[name="p"].image .spec.parts[name="p"].name"#,
        "b Apply 02: .metadata.labels.l .spec.replicas .spec.title",
    ]);
    assert_eq!(desk.spec(), tree(r#"{"parts":[{"image":"i","name":"p"}],"replicas":1,"title":"t"}"#));
}

#[test]
fn an_apply_that_changes_nothing_is_none() {
    let config = r#"{"metadata":{"labels":{"k":"1"}},"spec":{"replicas":1,"colors":["r","g"],"parts":[{"name":"p","ports":[{"port":1}]}]}}"#;
    let mut desk = Desk::new();
    desk.apply("a", config);
    desk.put("b", r#"{"metadata":{"labels":{"k":"1"}},"spec":{"replicas":1,"title":"t","colors":["b","r","g"],"parts":[{"name":"p","ports":[{"port":1,"protocol":"TCP"}]}]}}"#);
    let before = crate::json::to_vec(&desk.live);
    for _ in 0..3 {
        desk.apply("a", config);
        assert_eq!(crate::json::to_vec(&desk.live), before);
    }
    // Another applier of the same gets an entry, without a time: it changed nothing.
    desk.apply("c", r#"{"spec":{"replicas":1}}"#);
    assert_eq!(desk.owners()[0], "c Apply --: .spec.replicas");
}

#[test]
fn conflicts_are_told() {
    let mut desk = Desk::new();
    desk.put("kube \"x\"", r#"{"spec":{"replicas":1,"title":"t"}}"#);
    desk.apply("other", r#"{"spec":{"colors":["r"],"box":{"width":1}}}"#);
    desk.subresource = "status";
    desk.put(
        "writer",
        r#"{"spec":{"replicas":1,"title":"t","colors":["r"],"box":{"width":1}},"status":{"phase":"up"}}"#,
    );
    desk.subresource = "";
    assert_eq!(
        desk.conflict("a", r#"{"spec":{"replicas":2}}"#),
        r#"Apply failed with 1 conflict: conflict with "kube \"x\"" using things.dev/v1: .spec.replicas"#
    );
    assert_eq!(
        desk.conflict(
            "a",
            r#"{"spec":{"replicas":2,"title":"u","box":{"width":2}},"status":{"phase":"down"}}"#
        ),
        "Apply failed with 4 conflicts: conflicts with \"kube \\\"x\\\"\" using things.dev/v1:\n- .spec.replicas\n- .spec.title\n\
         conflicts with \"other\":\n- .spec.box\n\
         conflicts with \"writer\" with subresource \"status\" using things.dev/v1:\n- .status.phase"
    );
    let config = typed(r#"{"spec":{"title":"u"}}"#);
    let error = desk.write("a", |t, live| apply(t, live, &config, Force::No, &mut OneShape(&[VERSION])));
    let status = error.expect_err("a conflict").status().to_value();
    assert_eq!(status.i64_at(&["code"]), Some(409));
    assert_eq!(status.str_at(&["reason"]), Some("Conflict"));
    assert_eq!(
        status.at(&["details"]),
        Some(&tree(
            r#"{"causes":[{"reason":"FieldManagerConflict","message":"conflict with \"kube \\\"x\\\"\" using things.dev/v1","field":".spec.title"}]}"#
        ))
    );
}

#[test]
fn force_takes_fields() {
    let mut desk = Desk::new();
    desk.apply("a", r#"{"spec":{"replicas":1,"title":"t"}}"#);
    desk.force("b", r#"{"spec":{"replicas":2}}"#);
    desk.expect_owners(&["a Apply 01: .spec.title", "b Apply 02: .spec.replicas"]);
    desk.conflict("a", r#"{"spec":{"replicas":1,"title":"t"}}"#);
    // Giving in leaves the other's value.
    desk.apply("a", r#"{"spec":{"title":"t"}}"#);
    assert_eq!(desk.spec(), tree(r#"{"replicas":2,"title":"t"}"#));
    desk.force("b", r#"{"spec":{"replicas":2,"title":"u"}}"#);
    desk.expect_owners(&["b Apply 05: .spec.replicas .spec.title"]);
}

#[test]
fn one_manager_may_update_and_apply() {
    let mut desk = Desk::new();
    desk.apply("a", r#"{"spec":{"replicas":1}}"#);
    desk.put("a", r#"{"spec":{"replicas":2}}"#);
    desk.expect_owners(&["a Update 02: .spec.replicas"]);
    assert_eq!(
        desk.conflict("a", r#"{"spec":{"replicas":3}}"#),
        r#"Apply failed with 1 conflict: conflict with "a" using things.dev/v1: .spec.replicas"#
    );
}

#[test]
fn what_is_refused() {
    let schema = gadget();
    let check = |config: &str, code: u16, want: &str| {
        let target = Target {
            schema: schema.root(),
            api_version: VERSION,
            kind: "Gadget",
            subresource: "",
            reset: &[],
            manager: "a",
            now: "2026-01-01T00:00:00Z",
        };
        let error = apply(&target, &Value::object(), &tree(config), Force::Yes, &mut OneShape(&[VERSION]));
        let status = error.expect_err(want).status();
        assert_eq!((status.code(), status.message.as_ref()), (code, want));
    };
    let gadget = |rest: &str| format!(r#"{{"apiVersion":"things.dev/v1","kind":"Gadget",{rest}}}"#);
    check(
        r#"{"apiVersion":"things.dev/v2","kind":"Gadget"}"#,
        400,
        "invalid object type: things.dev/v2, Kind=Gadget",
    );
    check(r#"{"apiVersion":"v1","kind":"Pod"}"#, 400, "invalid object type: /v1, Kind=Pod");
    check("{}", 400, "invalid object type: /, Kind=");
    check("[]", 400, "invalid object type: /, Kind=");
    check(&gadget(r#""metadata":{"managedFields":[]}"#), 400, "metadata.managedFields must be nil");
    check(
        &gadget(r#""metadata":{"name":"x","namespace":"n"},"spec":{"sice":1}"#),
        500,
        "failed to create typed patch object (n/x; things.dev/v1, Kind=Gadget): .spec.sice: field not declared in schema",
    );
    check(
        &gadget(r#""spec":{"parts":[{"name":"p"},{"name":"p"}],"title":1}"#),
        500,
        "failed to create typed patch object (/; things.dev/v1, Kind=Gadget): errors:\n  .spec.parts: duplicate entries for key [name=\"p\"]\n  .spec.title: expected string, got 1",
    );
}

#[test]
fn live_objects_that_cannot_be_applied_to() {
    let mut desk = Desk::new();
    desk.store(typed(r#"{"metadata":{"managedFields":[{"manager":"x"}]}}"#));
    let error = desk.try_apply("a", r#"{"spec":{"title":"t"}}"#, Force::No).expect_err("unreadable managers");
    assert_eq!(error.status().code(), 500);
    assert!(error.to_string().contains("operation must be `Apply` or `Update`"), "{error}");
    desk.put("a", r#"{"metadata":{"managedFields":[{}]}}"#);
    desk.store(typed(r#"{"spec":{"parts":[{"image":"no name"}]}}"#));
    let error = desk.try_apply("a", r#"{"spec":{"parts":[{"name":"p"}]}}"#, Force::No);
    assert!(matches!(error, Err(ApplyError::Track(_))), "{error:?}");
}

#[test]
fn fields_that_a_write_resets_are_not_owned() {
    let mut desk = Desk::new();
    desk.reset = vec![(VERSION.into(), crate::fields::Filter::Exclude(super::fields(&["status"])))];
    desk.apply("a", r#"{"spec":{"title":"t"},"status":{"phase":"up"}}"#);
    desk.expect_owners(&["a Apply 01: .spec.title"]);
}

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

fn annotated(config: &str, live: &str) -> String {
    let mut object = typed(live);
    let text = String::from_utf8(crate::json::to_vec(&typed(config))).expect("JSON is UTF-8");
    object.set(&["metadata", "annotations", ANNOTATION], text);
    format!("{object:?}")
}

#[test]
fn client_side_apply_is_taken_over() {
    let created =
        annotated(r#"{"spec":{"replicas":1,"title":"t"}}"#, r#"{"spec":{"replicas":1,"title":"t"}}"#);
    let next = r#"{"spec":{"replicas":2,"title":"<t>"}}"#;
    let mut desk = Desk::new();
    desk.put("kubectl-client-side-apply", &created);
    // Only the manager kubectl may.
    desk.conflict("kube", next);
    desk.apply("kubectl", next);
    assert_eq!(desk.spec(), tree(r#"{"replicas":2,"title":"<t>"}"#));
    assert_eq!(
        desk.live.str_at(&["metadata", "annotations", ANNOTATION]),
        Some(
            "{\"apiVersion\":\"things.dev/v1\",\"kind\":\"Gadget\",\"spec\":{\"replicas\":2,\"title\":\"\\u003ct\\u003e\"}}\n"
        )
    );
    // A field that somebody changed since is not the client's any more.
    let mut desk = Desk::new();
    desk.put("kubectl-client-side-apply", &created);
    let scaled =
        annotated(r#"{"spec":{"replicas":1,"title":"t"}}"#, r#"{"spec":{"replicas":5,"title":"t"}}"#);
    desk.put("autoscaler", &scaled);
    assert_eq!(
        desk.conflict("kubectl", r#"{"spec":{"replicas":2,"title":"u"}}"#),
        r#"Apply failed with 1 conflict: conflict with "autoscaler" using things.dev/v1: .spec.replicas"#
    );
}

#[test]
fn annotations_that_help_nothing() {
    for last in [
        "",
        "{",
        "[]",
        r#"{"apiVersion":"things.dev/v0","kind":"Gadget","spec":{"replicas":1}}"#,
        r#"{"apiVersion":"things.dev/v1","spec":{"replicas":1,"x":1}}"#,
    ] {
        let mut object = typed(r#"{"spec":{"replicas":1}}"#);
        object.set(&["metadata", "annotations", ANNOTATION], last);
        let mut desk = Desk::new();
        desk.put("kubectl-client-side-apply", &format!("{object:?}"));
        desk.conflict("kubectl", r#"{"spec":{"replicas":2}}"#);
        assert_eq!(desk.live.str_at(&["metadata", "annotations", ANNOTATION]), Some(last));
        desk.force("kubectl", r#"{"spec":{"replicas":2}}"#);
        let now = desk.live.str_at(&["metadata", "annotations", ANNOTATION]);
        assert_eq!(now.is_some_and(|text| text.contains(r#""replicas":2"#)), !last.is_empty());
    }
}

#[test]
fn annotations_are_kept_within_their_limit() {
    let mut desk = Desk::new();
    desk.put("kubectl-client-side-apply", &annotated("{}", r#"{"spec":{"title":"t"}}"#));
    let long = format!(r#"{{"metadata":{{"annotations":{{"note":"{}"}}}}}}"#, "x".repeat(140 * 1024));
    desk.apply("kubectl", &long);
    let annotations = desk.live.object_at(&["metadata", "annotations"]).expect("annotations");
    assert_eq!(annotations.keys().collect::<Vec<_>>(), ["note"]);
}
