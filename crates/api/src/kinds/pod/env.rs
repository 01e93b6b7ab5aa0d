//! Rules for environment variables, and for the fields of a pod that they and files can show.

use super::check::Pod;
use crate::Value;
use crate::kinds::check::{Check, Rules, filled, is_set, text};
use crate::kinds::syntax::{env_name, no_backsteps};
use crate::{Map, names};

/// Fields of a pod that a variable can hold.
const VARIABLE_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

const AMOUNTS: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// The sources of a variable's value.
const SOURCES: [(&str, Rules); 5] = [
    ("fieldRef", |c, r| field_reference(c, r, &VARIABLE_FIELDS)),
    ("resourceFieldRef", |c, r| resource_reference(c, r, false)),
    ("configMapKeyRef", key_reference),
    ("secretKeyRef", key_reference),
    ("fileKeyRef", file_reference),
];

/// Checks the variables of a container.
pub(super) fn check(c: &mut Check, container: &Value) {
    c.each(container, "env", |c, variable| {
        c.require_name(variable, "name", env_name);
        let value = text(variable, "value");
        c.some(variable, "valueFrom", |c, from| {
            let mut given = 0;
            for (name, rules) in SOURCES {
                c.some(from, name, |c, source| {
                    given += 1;
                    rules(c, source);
                });
            }
            let fault = match given {
                0 => {
                    "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or \
                     `fileKeyRef`"
                }
                _ if !value.is_empty() => "may not be specified when `value` is not empty",
                1 => return,
                _ => "may not have more than one field specified at a time",
            };
            c.here().invalid("", fault);
        });
    });
    for (i, source) in container.array_at(&["envFrom"]).iter().enumerate() {
        c.within("envFrom", |c| check_from(c, i, source));
    }
}

fn check_from(c: &mut Check, index: usize, source: &Value) {
    let kinds = ["configMapRef", "secretRef"];
    c.within_index(index, |c| {
        c.name(source, "prefix", env_name);
        for kind in kinds {
            c.some(source, kind, |c, r| c.require_name(r, "name", names::dns_subdomain));
        }
    });
    // Upstream names the list here, not its element.
    match kinds.iter().filter(|kind| is_set(source, kind)).count() {
        0 => c.here().invalid("", "must specify one of: `configMapRef` or `secretRef`"),
        1 => {}
        _ => c.here().invalid("", "may not have more than one field specified at a time"),
    }
}

fn key_reference(c: &mut Check, reference: &Value) {
    c.at("name").obeys(text(reference, "name"), names::dns_subdomain);
    c.require_name(reference, "key", names::config_key);
}

fn file_reference(c: &mut Check, reference: &Value) {
    c.require_name(reference, "key", env_name);
    c.require_name(reference, "volumeName", names::dns_label);
    c.require_name(reference, "path", no_backsteps);
}

/// A reference to a field of the pod, one of `fields` or a single label or annotation.
pub(super) fn field_reference(c: &mut Check, reference: &Value, fields: &[&str]) {
    let Some(version) = c.require(reference, "apiVersion") else { return };
    let Some(path) = c.require(reference, "fieldPath") else { return };
    let subscripted = path.strip_suffix("']").and_then(|p| p.split_once("['"));
    if version != "v1" {
        let fault = format!("error converting fieldPath: unsupported pod version: {version}");
        return c.at("fieldPath").invalid(path, &fault);
    }
    match subscripted {
        Some(("metadata.annotations", key)) => {
            c.here().obeys(&key.to_ascii_lowercase(), names::qualified);
        }
        Some(("metadata.labels", key)) => c.here().obeys(key, names::qualified),
        Some(_) => {
            let fault = format!("error converting fieldPath: field label does not support subscript: {path}");
            c.at("fieldPath").invalid(path, &fault);
        }
        None if is_field(path) => {
            if !fields.contains(&path) {
                c.at("fieldPath").not_supported(path, fields);
            }
        }
        None => {
            let fault = format!("error converting fieldPath: field label not supported: {path}");
            c.at("fieldPath").invalid(path, &fault);
        }
    }
}

/// Whether the name is that of a pod's field that can be shown anywhere.
fn is_field(name: &str) -> bool {
    const OTHERS: [&str; 5] = [
        "metadata.annotations",
        "metadata.labels",
        "spec.restartPolicy",
        "spec.schedulerName",
        "status.phase",
    ];
    VARIABLE_FIELDS.contains(&name) || OTHERS.contains(&name)
}

/// A reference to an amount of a container; files must say of which.
pub(super) fn resource_reference(c: &mut Check, reference: &Value, of_file: bool) {
    let resource = text(reference, "resource");
    let huge = ["limits.hugepages-", "requests.hugepages-"].iter().any(|p| resource.starts_with(p));
    if of_file && filled(reference, "containerName").is_none() {
        c.at("containerName").required("");
    } else if resource.is_empty() {
        c.at("resource").required("");
    } else if !AMOUNTS.contains(&resource) && !huge {
        c.at("resource").not_supported(resource, &AMOUNTS);
    }
    divisor(c, resource, text(reference, "divisor"), huge);
}

fn divisor(c: &mut Check, resource: &str, divisor: &str, huge: bool) {
    const BYTES: [&str; 13] =
        ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    const CPUS: [&str; 2] = ["1m", "1"];
    if matches!(divisor, "" | "0") {
        return;
    }
    let (allowed, shown, what) = match resource.split_once('.').map(|(_, name)| name) {
        Some("cpu") => (&CPUS[..], "1m and 1".to_owned(), "cpu"),
        Some("memory") => (&BYTES[..], BYTES.join(", "), "memory"),
        Some("ephemeral-storage") => (&BYTES[..], BYTES.join(", "), "local ephemeral storage"),
        _ if huge => (&BYTES[..], BYTES.join(", "), "hugepages"),
        _ => return,
    };
    if !allowed.contains(&divisor) {
        let detail = format!("only divisor's values {shown} are supported with the {what} resource");
        c.at("divisor").invalid(resource, &detail);
    }
}

/// Variables from files: the volume is there and is an `emptyDir`.
pub(super) fn file_volumes(c: &mut Check, pod: &Pod<'_>, container: &Value) {
    c.each(container, "env", |c, variable| {
        let Some(name) = variable.str_at(&["valueFrom", "fileKeyRef", "volumeName"]) else { return };
        let volumes = pod.spec.array_at(&["volumes"]);
        let spot = c.at("valueFrom").field("fileKeyRef").field("volumeName");
        match volumes.iter().find(|v| text(v, "name") == name).and_then(Value::as_object) {
            None => spot.not_found(name),
            Some(volume) if !Map::contains(volume, "emptyDir") => {
                spot.invalid(name, "referenced volume must be of type emptyDir");
            }
            Some(_) => spot.leave(),
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::check::run;
    use crate::kinds::check::testing::{json, lines};

    #[test]
    fn variables() {
        let check_env = |list: &str, text: &str, want: &[&str]| {
            let container = json(&format!("{{\"{list}\": [{text}]}}"));
            assert_eq!(lines(&run(|c| check(c, &container))), want, "{text}");
        };
        let env = |text: &str, want: &[&str]| check_env("env", text, want);
        env(r#"{"name": "A", "value": "b"}"#, &[]);
        env(r#"{"value": "b"}"#, &["env[0].name: Required value"]);
        env(
            r#"{"name": "a=b"}"#,
            &[
                r#"env[0].name: Invalid value: "a=b": a valid environment variable name must consist only of printable ASCII characters other than '='"#,
            ],
        );
        env(
            r#"{"name": "A", "valueFrom": {}}"#,
            &[
                r#"env[0].valueFrom: Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"#,
            ],
        );
        let field = |path: &str, want: &[&str]| {
            let text = format!(
                r#"{{"name": "A", "valueFrom": {{"fieldRef": {{"apiVersion": "v1", "fieldPath": "{path}"}}}}}}"#
            );
            check_env("env", &text, want);
        };
        field("status.podIP", &[]);
        field("metadata.labels['a/b']", &[]);
        field(
            "metadata.labels",
            &[
                r#"env[0].valueFrom.fieldRef.fieldPath: Unsupported value: "metadata.labels": supported values: "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs""#,
            ],
        );
        field(
            "spec.x",
            &[
                r#"env[0].valueFrom.fieldRef.fieldPath: Invalid value: "spec.x": error converting fieldPath: field label not supported: spec.x"#,
            ],
        );
        env(r#"{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}"#, &[]);
        env(
            r#"{"name": "A", "value": "x", "valueFrom": {"secretKeyRef": {"name": "s"}}}"#,
            &[
                "env[0].valueFrom.secretKeyRef.key: Required value",
                r#"env[0].valueFrom: Invalid value: "": may not be specified when `value` is not empty"#,
            ],
        );
        env(
            r#"{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}}"#,
            &[],
        );
        env(
            r#"{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "2"}}}"#,
            &[
                r#"env[0].valueFrom.resourceFieldRef.divisor: Invalid value: "limits.cpu": only divisor's values 1m and 1 are supported with the cpu resource"#,
            ],
        );
        check_env("envFrom", r#"{"prefix": "P", "configMapRef": {"name": "c"}}"#, &[]);
        check_env("envFrom", r#"{"configMapRef": {}}"#, &["envFrom[0].configMapRef.name: Required value"]);
        check_env(
            "envFrom",
            "{}",
            &[r#"envFrom: Invalid value: "": must specify one of: `configMapRef` or `secretRef`"#],
        );
    }
}
