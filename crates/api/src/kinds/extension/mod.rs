//! What adds kinds to the API: CustomResourceDefinitions and APIServices.

mod definition;
mod expressions;
mod nested;
mod paths;
mod schema;
mod structural;
mod version;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Kind;
use super::check::{Check, is_set, is_true, number, run, text};
use super::fill::{Given, absent, each, fill, is_unset};
use crate::error::Cause;
use crate::structural::format;
use crate::{Value, conversion, meta, names, object};

pub(crate) use paths::spelled as schema_path;

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
    warnings: unknown_formats,
    validate: |object| definition_faults(object, None),
    validate_update: |object, old| definition_faults(object, Some(old)),
    validate_status: |object, _| run(|c| definition::accepted_names(c, object)),
    ..Kind::DEFAULT
};

pub(super) const API_SERVICE: Kind = Kind {
    group: "apiregistration.k8s.io",
    resource: "apiservices",
    name: names::path_segment,
    generation: false,
    defaults: |object, _| fill(object, &[absent("spec.service.port", Given::Int(443))]),
    prepare_create: service_create,
    validate: |object| run(|c| service(c, object)),
    validate_update: |object, _| run(|c| service(c, object)),
    validate_status: |object, _| {
        run(|c| {
            c.field(object, "status", |c, status| {
                c.each(status, "conditions", |c, condition| {
                    c.one_of(condition, "status", &["True", "False", "Unknown"]);
                });
            });
        })
    },
    ..Kind::DEFAULT
};

/// Tells of formats that ask for nothing, unless they were there before.
fn unknown_formats(object: &Value, old: Option<&Value>) -> Vec<String> {
    let of = |definition: &'_ Value| -> Vec<String> {
        let mut found = Vec::new();
        for version in definition.array_at(&["spec", "versions"]) {
            version
                .at(&["schema", "openAPIV3Schema"])
                .into_iter()
                .for_each(|s| format::unknown(s, &mut found));
        }
        found.into_iter().map(str::to_owned).collect()
    };
    let before = old.map(of).unwrap_or_default();
    let new = of(object).into_iter().filter(|format| !before.contains(format));
    new.map(|format| format!("unrecognized format {format:?}")).collect()
}

/// What is wrong with a definition; its conversion is tried when all else is right.
fn definition_faults(object: &Value, old: Option<&Value>) -> Vec<Cause> {
    let causes = run(|c| definition::check(c, object, old));
    if causes.is_empty() { conversion::faults(object, old) } else { causes }
}

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

fn service(c: &mut Check, object: &Value) {
    let [group, version] =
        ["group", "version"].map(|field| object.str_at(&["spec", field]).unwrap_or_default());
    let wanted = format!("{version}.{group}");
    let name = meta::name(object);
    if names::path_segment(name).is_ok() && name != wanted {
        let detail = format!("must be `spec.version+\".\"+spec.group`: {wanted:?}");
        c.at("metadata.name").invalid(name, &detail);
    }
    c.field(object, "spec", |c, spec| {
        if group.is_empty() && version != "v1" {
            c.at("group").required("only v1 may have an empty group and it better be legacy kube");
        }
        c.name(spec, "group", names::dns_subdomain);
        c.at("version").obeys(version, names::dns_1035_label);
        for (field, max) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1_000)] {
            let priority = number(spec, field).unwrap_or(0);
            if !(1..=max).contains(&priority) {
                c.at(field).invalid(priority, &format!("must be positive and less than {max}"));
            }
        }
        let bundle = text(spec, "caBundle");
        let insecure = is_true(spec, "insecureSkipTLSVerify");
        if !is_set(spec, "service") {
            if !bundle.is_empty() {
                let size = STANDARD.decode(bundle).map_or(0, |bytes| bytes.len());
                c.at("caBundle")
                    .invalid(format!("{size} bytes"), "local APIServices may not have a caBundle");
            }
            if insecure {
                let detail = "local APIServices may not have insecureSkipTLSVerify";
                c.at("insecureSkipTLSVerify").invalid(true, detail);
            }
            return;
        }
        c.field(spec, "service", |c, service| {
            c.require(service, "namespace");
            c.require(service, "name");
            let port = number(service, "port").unwrap_or(0);
            if !(1..=65_535).contains(&port) {
                let detail = "port is not valid: must be between 1 and 65535, inclusive";
                c.at("port").invalid(port, detail);
            }
        });
        if insecure && !bundle.is_empty() {
            c.at("insecureSkipTLSVerify").invalid(true, "may not be true if caBundle is present");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::check::testing::{cases, json};

    #[test]
    fn services() {
        let base = json(
            r#"{"metadata": {"name": "v1.a.b"}, "spec": {"group": "a.b", "version": "v1", "versionPriority": 1,
                "groupPriorityMinimum": 1, "service": {"name": "s", "namespace": "n", "port": 443}}}"#,
        );
        cases(&base, SERVICES, API_SERVICE.validate);
        let judge = |object: &Value| (API_SERVICE.validate_status)(object, &Value::Null);
        cases(&json("{}"), STATUSES, judge);
    }

    const SERVICES: &str = r#"
spec.caBundle = "YQ=="

spec = {"version": "v2"}
! metadata.name: Invalid value: "v1.a.b": must be `spec.version+"."+spec.group`: "v2."
! spec.group: Required value: only v1 may have an empty group and it better be legacy kube
! spec.groupPriorityMinimum: Invalid value: 0: must be positive and less than 20000
! spec.versionPriority: Invalid value: 0: must be positive and less than 1000

spec.service =
spec.caBundle = "YQ=="
spec.insecureSkipTLSVerify = true
! spec.caBundle: Invalid value: "1 bytes": local APIServices may not have a caBundle
! spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have insecureSkipTLSVerify

spec.service = {"port": 0}
spec.caBundle = "YQ=="
spec.insecureSkipTLSVerify = true
! spec.service.namespace: Required value
! spec.service.name: Required value
! spec.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive
! spec.insecureSkipTLSVerify: Invalid value: true: may not be true if caBundle is present
"#;

    const STATUSES: &str = r#"
status = {"conditions": [{"status": "True"}]}

status = {"conditions": [{"status": "x"}]}
! status.conditions[0].status: Unsupported value: "x": supported values: "True", "False", "Unknown"
"#;

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
