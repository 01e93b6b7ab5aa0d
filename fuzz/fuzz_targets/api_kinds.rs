//! Objects of every built-in kind through what a write and a read do to them: decoding, defaults, validation of a new and
//! of a changed object, warnings, tables, conversion, protobuf.
//!
//! Decoding and defaulting twice is the same as once.
#![no_main]

use std::sync::LazyLock;

use xebec_api::builtin;
use xebec_api::kinds::{self, Kind};
use xebec_api::resource::{ResourceDef, Version};
use xebec_api::structural::{self, Strictness};
use xebec_api::table::{self, Renderer};
use xebec_api::time::Timestamp;
use xebec_api::{Value, convert, json, meta, protobuf, selectable};
use xebec_fuzz::{Choices, generate, target};

static ROWS: LazyLock<Vec<ResourceDef>> = LazyLock::new(builtin::resources);

fn seeds() -> Vec<Vec<u8>> {
    (0..ROWS.len())
        .flat_map(|row| [(row, 7), (row, 29)])
        .map(|(row, step)| {
            let noise = (0..500_usize).map(|at| (at * step + at * at / 3 + row) as u8);
            [row as u8, 0].into_iter().chain(noise).collect()
        })
        .collect()
}

/// An object as it comes out of decoding and defaulting; `None` if it is refused.
fn read(choices: &mut Choices<'_>, def: &ResourceDef, version: &Version, kind: &Kind) -> Option<Value> {
    let mut object = generate::object(choices, version.root());
    object.set(&["apiVersion"], def.api_version(&version.name));
    object.set(&["kind"], def.names.kind.as_ref());
    if !matches!(object.get("metadata"), Some(Value::Object(_))) {
        object.set(&["metadata"], Value::object());
    }
    let found = structural::decode(&mut object, version.root(), Strictness::BuiltIn);
    if !found.mistyped.is_empty() {
        return None;
    }
    let mut again = object.clone();
    let second = structural::decode(&mut again, version.root(), Strictness::BuiltIn);
    assert!(second.unknown.is_empty() && second.mistyped.is_empty(), "{second:?}");
    assert_eq!(object, again, "decoding twice differs");
    default(&mut object, version, kind);
    let mut again = object.clone();
    default(&mut again, version, kind);
    assert_eq!(object, again, "defaulting twice differs");
    Some(object)
}

fn default(object: &mut Value, version: &Version, kind: &Kind) {
    (kind.defaults)(object, &version.name);
    structural::default(object, version.root());
}

fn show(object: &Value, def: &ResourceDef, version: &Version) {
    let now = Timestamp::from_unix(1_790_000_000);
    drop(Renderer::new(&version.columns).cells(object, now));
    drop(table::row_conditions(&def.group, &def.names.kind, object));
    for field in selectable::fields(def) {
        drop(selectable::value(&def.storage_resource(), &field, object));
    }
    if let Some(bytes) = protobuf::encode_object(object) {
        drop(protobuf::decode_object(&bytes));
    }
    for other in &def.versions {
        let to = def.api_version(&other.name);
        if let Ok(converted) = convert::convert(object.clone(), &def.names.kind, &to) {
            assert_eq!(converted.str_at(&["apiVersion"]), Some(to.as_str()));
        }
    }
    let text = json::to_vec(object);
    json::from_slice(&text).expect("a stored object can be read");
}

target!("api_kinds", seeds(), |data| {
    let mut choices = Choices::new(data);
    let def = choices.pick(&ROWS);
    let version = choices.pick(&def.versions);
    let kind = kinds::of(&def.group, &def.names.plural);
    let Some(mut new) = read(&mut choices, def, version, kind) else { return };
    meta::omit_empty(&mut new);
    (kind.prepare_create)(&mut new);
    drop(meta::validate(&new, def.is_namespaced(), kind.name));
    drop((kind.validate)(&new));
    drop((kind.warnings)(&new, None));
    show(&new, def, version);
    let Some(mut changed) = read(&mut choices, def, version, kind) else { return };
    drop((kind.validate_status)(&changed, &new));
    (kind.prepare_update)(&mut changed, &new);
    drop(meta::validate_update(&changed, &new, def.is_namespaced()));
    drop((kind.validate_update)(&changed, &new));
    drop((kind.warnings)(&changed, Some(&new)));
    if def.names.kind == "Pod" {
        drop(kinds::validate_ephemeral_containers(&changed, &new));
    }
    if def.names.kind == "CertificateSigningRequest" {
        drop(kinds::validate_approval(&changed, &new));
    }
    show(&changed, def, version);
});
