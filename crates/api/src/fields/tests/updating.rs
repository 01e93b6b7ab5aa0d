//! Who owns what after creates, updates and patches.

use super::{Desk, VERSION, fields, gadget, tree, typed};
use crate::fields::{Filter, OneShape, Step, Target, TrackError, keep_times, update};
use crate::{Value, object};

#[test]
fn changed_fields_move_to_who_changed_them() {
    let mut desk = Desk::new();
    desk.put("a", r#"{"metadata":{"name":"x","labels":{"k":"1"}},"spec":{"replicas":1,"title":"t"}}"#);
    desk.expect_owners(&[
        "a Update 01: .spec .metadata.labels .metadata.labels.k .spec.replicas .spec.title",
    ]);
    desk.put("b", r#"{"metadata":{"name":"x","labels":{"k":"2"}},"spec":{"replicas":1}}"#);
    desk.expect_owners(&[
        "a Update 01: .spec .metadata.labels .spec.replicas",
        "b Update 02: .metadata.labels.k",
    ]);
    // What somebody writes as it was stays with its owner.
    desk.put("c", r#"{"metadata":{"name":"x","labels":{"k":"2"}},"spec":{"replicas":1}}"#);
    desk.expect_owners(&[
        "a Update 01: .spec .metadata.labels .spec.replicas",
        "b Update 02: .metadata.labels.k",
    ]);
    // Removing gives nobody anything.
    desk.put("c", r#"{"metadata":{"name":"x"},"spec":{"replicas":1}}"#);
    desk.expect_owners(&["a Update 01: .spec .spec.replicas"]);
    desk.put("a", r#"{"metadata":{"name":"x"},"spec":{"replicas":1,"ready":true}}"#);
    desk.expect_owners(&["a Update 05: .spec .spec.ready .spec.replicas"]);
}

#[test]
fn elements_have_owners_of_their_own() {
    let mut desk = Desk::new();
    desk.put("a", r#"{"spec":{"parts":[{"name":"p","image":"1"},{"name":"q","image":"1"}],"colors":["r"]}}"#);
    desk.put(
        "b",
        r#"{"spec":{"parts":[{"name":"q","image":"2"},{"name":"p","image":"1"}],"colors":["g","r"]}}"#,
    );
    desk.expect_owners(&[
        r#"a Update 01: .spec .spec.colors .spec.parts .spec.colors[="r"] .spec.parts[name="p"] .spec.parts[name="q"] .spec.parts[name="p"].image .spec.parts[name="p"].name .spec.parts[name="q"].name"#,
        r#"b Update 02: .spec.colors[="g"] .spec.parts[name="q"].image"#,
    ]);
    desk.put("c", r#"{"spec":{"parts":[{"name":"p","image":"1"}],"colors":["g"]}}"#);
    desk.expect_owners(&[
        r#"a Update 01: .spec .spec.colors .spec.parts .spec.parts[name="p"] .spec.parts[name="p"].image .spec.parts[name="p"].name"#,
        r#"b Update 02: .spec.colors[="g"]"#,
    ]);
}

#[test]
fn what_the_server_gives_is_nobodys() {
    let mut desk = Desk::new();
    desk.put(
        "a",
        r#"{"metadata":{"name":"x","namespace":"n","uid":"u","resourceVersion":"1","generation":3,
            "creationTimestamp":"2026-01-01T00:00:00Z"}}"#,
    );
    desk.expect_owners(&[]);
    assert!(desk.live.at(&["metadata", "managedFields"]).is_none());
}

#[test]
fn objects_without_managers_stay_untracked() {
    let mut desk = Desk::new();
    desk.store(typed(r#"{"spec":{"title":"a"}}"#));
    desk.put("a", r#"{"spec":{"title":"b"}}"#);
    desk.expect_owners(&[]);
    // Applying starts the tracking: what was there before has an owner too.
    desk.apply("b", r#"{"spec":{"ready":true}}"#);
    desk.expect_owners(&["b Apply 02: .spec.ready", "before-first-apply Update 02: .spec .spec.title"]);
}

#[test]
fn clients_may_edit_the_managers() {
    let entry = r#"{"manager":"x","operation":"Update","apiVersion":"things.dev/v1","fieldsType":"FieldsV1","fieldsV1":{"f:spec":{"f:title":{}}},"time":"2025-12-31T23:00:00-01:00"}"#;
    let check = |list: &str, want: &[&str]| {
        let mut desk = Desk::new();
        desk.put("a", r#"{"spec":{"title":"t"}}"#);
        desk.put("b", &format!(r#"{{"metadata":{{"managedFields":{list}}},"spec":{{"title":"t"}}}}"#));
        assert_eq!(desk.owners(), want, "{list}");
    };
    let kept = ["a Update 01: .spec .spec.title"];
    check(&format!("[{entry}]"), &["x Update 00: .spec.title"]);
    // One manager's last entry counts.
    check(&format!("[{entry},{}]", entry.replace("title", "ready")), &["x Update 00: .spec.ready"]);
    check("[]", &[]);
    check("[{}]", &[]);
    // What cannot be read is as if it were not there.
    for bad in [
        "null",
        "7",
        "[7]",
        &entry.replace("Update", "Patch"),
        &entry.replace("things.dev/v1", ""),
        &entry.replace("FieldsV1", "FieldsV2"),
        &entry.replace(r#""fieldsType":"FieldsV1","#, ""),
        &entry.replace("f:title", "title"),
        &entry.replace("{}}}", "3}}"),
        &entry.replace("2025-12-31T23:00:00-01:00", "yesterday"),
        &entry.replace(r#""x""#, "[]"),
    ] {
        let list = if bad.starts_with('{') { format!("[{bad}]") } else { bad.to_owned() };
        check(&list, &kept);
    }
    // Fields are written as they should have been.
    let mut desk = Desk::new();
    desk.put(
        "b",
        &format!(
            r#"{{"metadata":{{"managedFields":[{}]}}}}"#,
            entry.replace(r#"{"f:title":{}}"#, r#"{"f:parts":{"k: {\"name\":\"p\"}":{".":{}}},"z:new":{}}"#)
        ),
    );
    let list = desk.live.at(&["metadata", "managedFields"]).expect("tracked");
    assert_eq!(
        list.as_array().expect("a list")[0].get("fieldsV1"),
        Some(&tree(r#"{"f:spec":{"f:parts":{"k:{\"name\":\"p\"}":{}}}}"#))
    );
    assert_eq!(list.as_array().expect("a list")[0].str_at(&["time"]), Some("2026-01-01T00:00:00Z"));
}

#[test]
fn subresources_have_entries_of_their_own() {
    let mut desk = Desk::new();
    let status = || Filter::Exclude(fields(&["spec", "metadata.labels"]));
    desk.put("a", r#"{"spec":{"title":"t"}}"#);
    desk.subresource = "status";
    desk.reset = vec![(VERSION.into(), status())];
    // The managers cannot be edited through a subresource, and fields that it resets are not taken.
    desk.put("a", r#"{"metadata":{"labels":{"l":"1"},"managedFields":[{}]},"spec":{"title":"other"},"status":{"phase":"up"}}"#);
    desk.expect_owners(&["a Update 01: .spec .spec.title", "a Update/status 02: .status .status.phase"]);
    desk.reset = vec![(
        VERSION.into(),
        Filter::Include(vec![vec![
            Step::Field("spec".into()),
            Step::Field("parts".into()),
            Step::Any,
            Step::Field("args".into()),
        ]]),
    )];
    desk.put("b", r#"{"spec":{"title":"mine","parts":[{"name":"p","args":["x"],"image":"i"}]},"status":{"phase":"up"}}"#);
    desk.expect_owners(&[
        "a Update 01: .spec .spec.title",
        "a Update/status 02: .status .status.phase",
        r#"b Update/status 03: .spec.parts .spec.parts[name="p"] .spec.parts[name="p"].args"#,
    ]);
}

#[test]
fn the_oldest_updaters_are_merged() {
    let mut desk = Desk::new();
    let mut object = typed(r#"{"spec":{"limits":{}}}"#);
    for i in 0..12 {
        object.set(&["spec", "limits", &format!("l{i:02}")], "1");
        desk.put_tree(&format!("m{i:02}"), &mut object.clone());
    }
    let owners = desk.owners();
    assert_eq!(owners.len(), 10);
    assert_eq!(
        owners[0],
        "ancient-changes Update 03: .spec .spec.limits .spec.limits.l00 .spec.limits.l01 .spec.limits.l02"
    );
    assert_eq!(owners[1], "m03 Update 04: .spec.limits.l03");
    // Appliers do not count, and the bucket is filled further.
    desk.apply("applier", r#"{"spec":{"title":"a"}}"#);
    object.set(&["spec", "title"], "a");
    object.set(&["spec", "limits", "l12"], "1");
    desk.put_tree("m12", &mut object);
    let owners = desk.owners();
    assert_eq!(owners.len(), 11);
    assert!(owners[1].starts_with("ancient-changes Update 04: "), "{owners:?}");
}

#[test]
fn a_nameless_writer_is_unknown() {
    let mut desk = Desk::new();
    desk.put("", r#"{"spec":{"title":"t"}}"#);
    desk.expect_owners(&["unknown Update 01: .spec .spec.title"]);
}

/// An object that cannot be told is stored without managers.
#[test]
fn what_cannot_be_told_is_not_tracked() {
    let schema = gadget();
    let target = Target {
        schema: schema.root(),
        api_version: VERSION,
        kind: "Gadget",
        subresource: "",
        reset: &[],
        manager: "a",
        now: "2026-01-01T00:00:00Z",
    };
    let mut new = typed(r#"{"metadata":{"managedFields":[]},"spec":{"colors":[{"no":"scalar"}]}}"#);
    let error = update(&target, &Value::object(), &mut new, &mut OneShape(&[VERSION]));
    assert!(matches!(error, Err(TrackError::Compare(_))), "{error:?}");
    assert_eq!(new, typed(r#"{"metadata":{},"spec":{"colors":[{"no":"scalar"}]}}"#));
}

#[test]
fn times_alone_are_no_change() {
    let entry = |time: &str, field: &str| {
        object!({"manager": "a", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
            "fieldsV1": (tree(&format!(r#"{{"f:{field}":{{}}}}"#))), "time": time})
    };
    let check = |old: Value, new: Value, is_same: bool| {
        let mut got = new.clone();
        keep_times(&old, &mut got);
        let mut want = if is_same { old } else { new.clone() };
        if is_same {
            want.set(&["metadata", "resourceVersion"], new.at(&["metadata", "resourceVersion"]).cloned());
        }
        assert_eq!(got, want);
    };
    let object = |version: &str, time: &str, field: &str, n: i64| object!({"metadata": {"resourceVersion": version, "managedFields": [(entry(time, field))]}, "spec": {"n": n}});
    check(object("1", "t1", "a", 1), object("2", "t2", "a", 1), true);
    check(object("1", "t1", "a", 1), object("2", "t2", "a", 2), false);
    check(object("1", "t1", "a", 1), object("2", "t2", "b", 1), false);
    check(object("1", "t1", "a", 1), object("2", "t1", "a", 2), false);
    check(object!({"metadata": {}}), object!({"metadata": {}}), false);
}
