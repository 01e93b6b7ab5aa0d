//! What adds kinds to the API: CustomResourceDefinitions and APIServices.

use super::Kind;
use super::fill::{Given, absent, each, fill, is_unset};
use crate::{Value, names, object};

pub(super) const CUSTOM_RESOURCE_DEFINITION: Kind = Kind {
    group: "apiextensions.k8s.io",
    resource: "customresourcedefinitions",
    defaults: |object, _| definition_defaults(object),
    prepare_create: |object| {
        if object.as_object().is_some() {
            object.set(&["status"], Value::object());
            add_stored_version(object);
        }
    },
    prepare_update: |object, _| add_stored_version(object),
    ..Kind::DEFAULT
};

pub(super) const API_SERVICE: Kind = Kind {
    group: "apiregistration.k8s.io",
    resource: "apiservices",
    name: names::path_segment,
    generation: false,
    defaults: |object, _| fill(object, &[absent("spec.service.port", Given::Int(443))]),
    prepare_create: service_create,
    ..Kind::DEFAULT
};

fn definition_defaults(object: &mut Value) {
    each(object, "spec!.names!", &mut |given| {
        let kind = given.str_at(&["kind"]).unwrap_or_default().to_owned();
        if kind.is_empty() {
            return;
        }
        if is_unset(given, "singular") {
            given.set(&["singular"], kind.to_lowercase());
        }
        if is_unset(given, "listKind") {
            given.set(&["listKind"], format!("{kind}List"));
        }
    });
    each(object, "spec", &mut |spec| {
        if spec.as_object().is_some() && spec.get("conversion").is_none_or(Value::is_null) {
            spec.set(&["conversion"], object!({"strategy": "None"}));
        }
        fill(spec, &[absent("conversion.webhook.clientConfig.service.port", Given::Int(443))]);
    });
    if object.array_at(&["status", "storedVersions"]).is_empty() {
        add_stored_version(object);
    }
}

/// Notes the version that is stored from now on among those that may be in the store.
fn add_stored_version(object: &mut Value) {
    let is_stored = |version: &&Value| version.bool_at(&["storage"]) == Some(true);
    let stored = object.array_at(&["spec", "versions"]).iter().find(is_stored);
    let Some(name) = stored.and_then(|v| v.get("name")).cloned() else { return };
    let known = object.make(&["status", "storedVersions"]);
    match known.as_array_mut() {
        Some(all) if all.contains(&name) => {}
        Some(all) => all.push(name),
        None => *known = vec![name].into(),
    }
}

/// A service that this server itself answers is there from the start.
fn service_create(object: &mut Value) {
    if object.as_object().is_none() {
        return;
    }
    object.set(&["status"], Value::object());
    if object.object_at(&["spec", "service"]).is_none() {
        let condition = object!({
            "type": "Available",
            "status": "True",
            "reason": "Local",
            "message": "Local APIServices are always available"
        });
        object.set(&["status", "conditions"], vec![condition]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_is_completed() {
        let mut got = object!({"spec": {
            "names": {"kind": "Widget", "plural": "widgets"},
            "versions": [{"name": "v1", "storage": false}, {"name": "v2", "storage": true}]
        }});
        definition_defaults(&mut got);
        let want = object!({
            "spec": {
                "names": {"kind": "Widget", "plural": "widgets", "singular": "widget", "listKind": "WidgetList"},
                "versions": [{"name": "v1", "storage": false}, {"name": "v2", "storage": true}],
                "conversion": {"strategy": "None"}
            },
            "status": {"storedVersions": ["v2"]}
        });
        assert_eq!(got, want);
        got.set(&["spec", "versions"], vec![object!({"name": "v3", "storage": true})]);
        add_stored_version(&mut got);
        add_stored_version(&mut got);
        assert_eq!(got.at(&["status", "storedVersions"]), Some(&object!(["v2", "v3"])));
    }
}
