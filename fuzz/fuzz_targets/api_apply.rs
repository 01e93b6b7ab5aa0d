//! Server-side apply: two managers and an updater on one object of a built-in kind.
//!
//! Applying the same twice changes nothing; what managers own is written and read as the same set; a forced apply meets
//! no conflict.
#![no_main]

use std::sync::LazyLock;

use xebec_api::fields::{self, ApplyError, FieldSet, Force, OneShape, Target};
use xebec_api::resource::ResourceDef;
use xebec_api::structural::{self, Strictness};
use xebec_api::{Value, builtin};
use xebec_fuzz::{Choices, generate, target};

static ROWS: LazyLock<Vec<ResourceDef>> = LazyLock::new(builtin::resources);

fn seeds() -> Vec<Vec<u8>> {
    (0..ROWS.len())
        .map(|row| {
            let noise = (0..700_usize).map(|at| (at * 31 + at * at / 5 + row) as u8);
            [row as u8, 0].into_iter().chain(noise).collect()
        })
        .collect()
}

fn config(choices: &mut Choices<'_>, target: &Target<'_>) -> Option<Value> {
    let mut object = generate::object(choices, target.schema);
    object.set(&["apiVersion"], target.api_version);
    object.set(&["kind"], target.kind);
    if !matches!(object.get("metadata"), Some(Value::Object(_))) {
        object.set(&["metadata"], Value::object());
    }
    object.remove_at(&["metadata", "managedFields"]);
    let found = structural::decode(&mut object, target.schema, Strictness::BuiltIn);
    found.mistyped.is_empty().then_some(object)
}

fn check_entries(object: &Value) {
    for entry in object.array_at(&["metadata", "managedFields"]) {
        let Some(fields) = entry.get("fieldsV1") else { continue };
        let set = FieldSet::from_value(fields).expect("what was written can be read");
        assert_eq!(&set.to_value(), fields, "a field set reads as another one");
    }
    fields::check_entries(object).expect("what was written is accepted");
}

fn apply(target: &Target<'_>, live: &Value, config: &Value, force: Force) -> Option<Value> {
    let versions = &mut OneShape(&[target.api_version]);
    match fields::apply(target, live, config, force, versions) {
        Ok(object) => {
            check_entries(&object);
            // A configuration that owns nothing leaves no entry, and the next apply then records what was there before.
            if object.array_at(&["metadata", "managedFields"]).is_empty() {
                return Some(object);
            }
            let again = fields::apply(target, &object, config, Force::No, versions);
            assert_eq!(again.expect("an apply that succeeded can be repeated"), object, "applied twice differs");
            Some(object)
        }
        Err(ApplyError::Conflicts(conflicts)) => {
            assert!(force == Force::No && !conflicts.is_empty(), "{conflicts:?}");
            None
        }
        Err(_) => None,
    }
}

target!("api_apply", seeds(), |data| {
    let mut choices = Choices::new(data);
    let def = choices.pick(&ROWS);
    let version = choices.pick(&def.versions);
    let api_version = def.api_version(&version.name);
    let first = Target {
        schema: version.root(),
        api_version: &api_version,
        kind: &def.names.kind,
        subresource: "",
        reset: &[],
        manager: "first",
        now: "2026-01-31T09:00:00Z",
    };
    let second = Target { manager: "second", ..first };
    let Some(one) = config(&mut choices, &first) else { return };
    let Some(mut live) = apply(&first, &Value::object(), &one, Force::No) else { return };
    live.set(&["metadata", "uid"], "u");
    let Some(two) = config(&mut choices, &second) else { return };
    let forced = apply(&second, &live, &two, Force::Yes);
    if let Some(unforced) = apply(&second, &live, &two, Force::No) {
        assert_eq!(Some(unforced), forced, "without a conflict force changes nothing");
    }
    let Some(mut new) = config(&mut choices, &second) else { return };
    new.set(&["metadata", "uid"], "u");
    if fields::update(&second, &live, &mut new, &mut OneShape(&[&api_version])).is_ok() {
        check_entries(&new);
        apply(&first, &new, &one, Force::Yes);
    }
});
