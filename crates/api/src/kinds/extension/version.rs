//! What a version says beside its schema: that it is old, subresources, columns, selectable fields.

use super::paths::follow;
use crate::Value;
use crate::kinds::check::{Check, Rules, is_true, text};

const MAX_SELECTABLE: usize = 8;

/// The parts, and their rules.
pub(super) const PARTS: [(&str, Rules); 3] = [
    ("subresources", subresources),
    ("additionalPrinterColumns", columns),
    ("selectableFields", selectable_fields),
];

/// Checks what is said of a version that is old.
pub(super) fn deprecation(c: &mut Check, version: &Value) {
    const FIELD: &str = "deprecationWarning";
    const MAX: usize = 256;
    let Some(warning) = version.str_at(&[FIELD]) else { return };
    if !is_true(version, "deprecated") {
        return c.at(FIELD).invalid(warning, "can only be set for deprecated versions");
    }
    if warning.len() > MAX {
        c.at(FIELD).invalid(warning, &format!("must be <= {MAX} characters long"));
    }
    if warning.is_empty() {
        c.at(FIELD).invalid(warning, "must not be an empty string");
    }
    let unprintable = |ch: char| ch.is_control() || (ch.is_whitespace() && ch != ' ');
    if let Some(i) = warning.find(unprintable) {
        let detail = format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {i}"
        );
        c.at(FIELD).invalid(warning, &detail);
    }
}

fn subresources(c: &mut Check, version: &Value) {
    c.field(version, "subresources", |c, subresources| {
        c.some(subresources, "scale", |c, scale| {
            scale_path(c, scale, "specReplicasPath", &["spec"], "should be a json path under .spec");
            scale_path(c, scale, "statusReplicasPath", &["status"], "should be a json path under .status");
            let detail = "should be a json path under either .spec or .status";
            scale_path(c, scale, "labelSelectorPath", &["spec", "status"], detail);
        });
    });
}

fn scale_path(c: &mut Check, scale: &Value, field: &str, roots: &[&str], detail: &str) {
    let path = text(scale, field);
    if path.is_empty() {
        if field != "labelSelectorPath" {
            c.at(field).required("");
        }
    } else if !path.starts_with('.') {
        c.at(field).invalid(path, "must be a simple json path starting with .");
    } else if !roots.iter().any(|root| path[1..].strip_prefix(root).is_some_and(|rest| rest.starts_with('.')))
    {
        c.at(field).invalid(path, detail);
    }
}

fn columns(c: &mut Check, version: &Value) {
    const TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
    const FORMATS: [&str; 8] = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
    c.each(version, "additionalPrinterColumns", |c, column| {
        c.require(column, "name");
        let one_of = |all: &[&str]| format!("must be one of {}", all.join(","));
        let ty = text(column, "type");
        if ty.is_empty() {
            c.at("type").required(&one_of(&TYPES));
        } else if !TYPES.contains(&ty) {
            c.at("type").invalid(ty, &one_of(&TYPES));
        }
        let format = text(column, "format");
        if !format.is_empty() && !FORMATS.contains(&format) {
            c.at("format").invalid(format, &one_of(&FORMATS));
        }
        let path = text(column, "jsonPath");
        if path.is_empty() {
            c.at("JSONPath").required("");
        } else if !path.starts_with('.') {
            c.at("JSONPath").invalid(path, "must be a simple json path starting with .");
        }
    });
}

fn selectable_fields(c: &mut Check, version: &Value) {
    const FIELD: &str = "selectableFields";
    const TYPES: &str = "must point to a field of type string, boolean or integer. Enum string fields and strings with \
                         formats are allowed.";
    let Some(root) = version.at(&["schema", "openAPIV3Schema"]) else { return };
    let mut seen = Vec::new();
    c.each(version, FIELD, |c, field| {
        let Some(path) = c.require(field, "jsonPath") else { return };
        let (steps, found) = match follow(root, path, false) {
            Ok(found) => found,
            Err(fault) => return c.at("jsonPath").invalid(path, &format!("is an invalid path: {fault}")),
        };
        if steps.first().is_some_and(|step| step == "metadata") {
            c.at("jsonPath").invalid(path, "must not point to fields in metadata");
        }
        if !["string", "boolean", "integer"].contains(&text(found, "type")) {
            c.at("jsonPath").invalid(path, TYPES);
        }
        if seen.contains(&steps) {
            c.at("jsonPath").duplicate(path);
        } else {
            seen.push(steps);
        }
    });
    if seen.len() > MAX_SELECTABLE {
        c.at(FIELD).too_many(seen.len(), MAX_SELECTABLE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::check::run;
    use crate::kinds::check::testing::{cases, json};
    use crate::kinds::extension::definition::check;
    use crate::kinds::extension::definition::tests::base;

    #[test]
    fn versions() {
        cases(&base(), VERSIONS, |object| run(|c| check(c, object, None)));
    }

    const VERSIONS: &str = r#"
spec.versions.0.deprecated = true
spec.versions.0.deprecationWarning = "use another"
spec.versions.0.subresources = {"status": {}, "scale": {"specReplicasPath": ".spec.s", "statusReplicasPath":
  ".status.r", "labelSelectorPath": ".status.l"}}
spec.versions.0.additionalPrinterColumns = [{"name": "S", "type": "string", "jsonPath": ".spec.s", "format": "byte"}]
spec.versions.0.selectableFields = [{"jsonPath": ".spec.s"}]

spec.versions.0.schema =
! spec.versions[0].schema.openAPIV3Schema: Required value

spec.versions.0.schema.openAPIV3Schema.type =
! spec.validation.openAPIV3Schema.type: Required value: must not be empty at the root

spec.versions.1 = {"name": "v2", "schema": {"openAPIV3Schema": {}}}
! spec.versions[1].schema.openAPIV3Schema.type: Required value: must not be empty at the root

spec.versions.0.deprecationWarning = "a"
! spec.versions[0].deprecationWarning: Invalid value: "a": can only be set for deprecated versions

spec.versions.0.deprecated = true
spec.versions.0.deprecationWarning = ""
! spec.versions[0].deprecationWarning: Invalid value: "": must not be an empty string

spec.versions.0.deprecated = true
spec.versions.0.deprecationWarning = "a\nb"
! spec.versions[0].deprecationWarning: Invalid value: "a\nb": must only contain printable UTF-8 characters; non-printable
  character found at index 1

spec.versions = [{"name": "V", "schema": {"openAPIV3Schema": {"type": "object"}}}, {"name": "V", "schema":
  {"openAPIV3Schema": {"type": "object"}}}]
status.storedVersions = ["V"]
! spec.versions[0].name: Invalid value: "V": a DNS-1035 label must consist of lower case alphanumeric characters or '-',
  start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used
  for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
! spec.versions[1].name: Invalid value: "V": a DNS-1035 label must consist of lower case alphanumeric characters or '-',
  start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used
  for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
! spec.versions: Invalid value: [{"name":"V","schema":{"openAPIV3Schema":{"type":"object"}}},{"name":"V","schema":{"openAPIV3Schema":{"type":"object"}}}]:
  must contain unique version names
! spec.versions: Invalid value: [{"name":"V","schema":{"openAPIV3Schema":{"type":"object"}}},{"name":"V","schema":{"openAPIV3Schema":{"type":"object"}}}]:
  must have exactly one version marked as storage version
! spec.version: Invalid value: "V": a DNS-1035 label must consist of lower case alphanumeric characters or '-',
  start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used
  for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')

spec.versions.0.subresources = {"scale": {"labelSelectorPath": ".x"}}
! spec.subresources.scale.specReplicasPath: Required value
! spec.subresources.scale.statusReplicasPath: Required value
! spec.subresources.scale.labelSelectorPath: Invalid value: ".x": should be a json path under either .spec or .status

spec.versions.0.subresources = {"scale": {"specReplicasPath": "spec.a", "statusReplicasPath": ".spec.a"}}
! spec.subresources.scale.specReplicasPath: Invalid value: "spec.a": must be a simple json path starting with .
! spec.subresources.scale.statusReplicasPath: Invalid value: ".spec.a": should be a json path under .status

spec.versions.0.additionalPrinterColumns = [{}, {"name": "a", "type": "x", "format": "x", "jsonPath": "a"}]
! spec.additionalPrinterColumns[0].name: Required value
! spec.additionalPrinterColumns[0].type: Required value: must be one of boolean,date,integer,number,string
! spec.additionalPrinterColumns[0].JSONPath: Required value
! spec.additionalPrinterColumns[1].type: Invalid value: "x": must be one of boolean,date,integer,number,string
! spec.additionalPrinterColumns[1].format: Invalid value: "x": must be one of
  byte,date,date-time,double,float,int32,int64,password
! spec.additionalPrinterColumns[1].JSONPath: Invalid value: "a": must be a simple json path starting with .

spec.versions.1 = {"name": "v2", "schema": {"openAPIV3Schema": {"type": "object"}}}
spec.versions.0.additionalPrinterColumns = [{"name": "a", "type": "date"}]
! spec.versions[0].additionalPrinterColumns[0].JSONPath: Required value

spec.versions.0.selectableFields = [{}, {"jsonPath": ".x"}, {"jsonPath": ".spec"}, {"jsonPath": ".spec.s"}, {"jsonPath":
  ".spec.s"}]
! spec.selectableFields[0].jsonPath: Required value
! spec.selectableFields[1].jsonPath: Invalid value: ".x": is an invalid path: does not refer to a valid field
! spec.selectableFields[2].jsonPath: Invalid value: ".spec": must point to a field of type string, boolean or integer.
  Enum string fields and strings with formats are allowed.
! spec.selectableFields[4].jsonPath: Duplicate value: ".spec.s"

spec.versions.0.schema.openAPIV3Schema.properties.metadata = {"type": "object", "properties": {"name": {"type":
  "string"}}}
spec.versions.0.selectableFields = [{"jsonPath": ".metadata.name"}]
! spec.selectableFields[0].jsonPath: Invalid value: ".metadata.name": must not point to fields in metadata
"#;

    #[test]
    fn selectable_fields_are_few() {
        let names: Vec<String> = (0..=MAX_SELECTABLE).map(|i| format!("f{i}")).collect();
        let properties: crate::Map =
            names.iter().map(|name| (name.as_str().into(), json(r#"{"type": "string"}"#))).collect();
        let mut version = base().array_at(&["spec", "versions"])[0].clone();
        version.set(&["schema", "openAPIV3Schema", "properties"], Value::Object(properties));
        let fields: Vec<Value> =
            names.iter().map(|name| crate::object!({"jsonPath": (format!(".{name}"))})).collect();
        version.set(&["selectableFields"], fields);
        let mut object = base();
        object.set(&["spec", "versions"], vec![version]);
        assert_eq!(run(|c| check(c, &object, None)).len(), 1);
    }
}
