//! The selectors in `resourceAttributes`: written as text, or as requirements.
//!
//! What cannot be read is left out, so that more is asked for than was meant, and the answer says so.

use xebec_api::selector::{FieldRequirement, FieldSelector, Operator, Requirement, Selector};
use xebec_api::{Cause, FieldPath, Value, names};

use super::texts;
use crate::authz::Selected;

/// What could be read, and what the answer says of the rest.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) selected: Selected,
    pub(super) errors: Vec<String>,
}

/// Reads both selectors of resource attributes.
pub(super) fn read(attributes: &Value) -> Read {
    let mut errors = Vec::new();
    let mut told = |field: &str, part: Part, left: usize| match part {
        Part::Whole => {}
        Part::Some if left > 0 => {
            errors.push(format!("spec.resourceAttributes.{field} partially ignored due to parse error"));
        }
        Part::Some => errors.push(format!("spec.resourceAttributes.{field} ignored due to parse error")),
    };
    let (fields, part) = read_one(
        attributes,
        "fieldSelector",
        |text| FieldSelector::parse(text).ok().map(|selector| selector.requirements),
        field_requirement,
    );
    told("fieldSelector", part, fields.len());
    let (labels, part) = read_one(
        attributes,
        "labelSelector",
        |text| Selector::parse(text).ok().map(|selector| selector.requirements().to_vec()),
        label_requirement,
    );
    told("labelSelector", part, labels.len());
    Read { selected: Selected { fields, labels }, errors }
}

/// How much of a selector could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Whole,
    Some,
}

fn read_one<R>(
    attributes: &Value,
    field: &str,
    parse: impl Fn(&str) -> Option<Vec<R>>,
    requirement: impl Fn(&Value) -> Option<R>,
) -> (Vec<R>, Part) {
    let raw = attributes.str_at(&[field, "rawSelector"]).unwrap_or_default();
    if !raw.is_empty() {
        let parsed = parse(raw);
        let part = if parsed.is_some() { Part::Whole } else { Part::Some };
        return (parsed.unwrap_or_default(), part);
    }
    let written = attributes.array_at(&[field, "requirements"]);
    let read: Vec<R> = written.iter().filter_map(requirement).collect();
    let part = if read.len() == written.len() { Part::Whole } else { Part::Some };
    (read, part)
}

fn field_requirement(written: &Value) -> Option<FieldRequirement> {
    let equal = match written.str_at(&["operator"])? {
        "In" => true,
        "NotIn" => false,
        _ => return None,
    };
    let [value] = written.array_at(&["values"]) else { return None };
    Some(FieldRequirement {
        field: written.str_at(&["key"])?.to_owned(),
        value: value.as_str()?.to_owned(),
        equal,
    })
}

fn label_requirement(written: &Value) -> Option<Requirement> {
    let values = texts(written.array_at(&["values"]));
    let operator = match written.str_at(&["operator"])? {
        "In" if !values.is_empty() => Operator::In(values),
        "NotIn" if !values.is_empty() => Operator::NotIn(values),
        "Exists" if values.is_empty() => Operator::Exists,
        "DoesNotExist" if values.is_empty() => Operator::DoesNotExist,
        _ => return None,
    };
    Some(Requirement { key: written.str_at(&["key"])?.to_owned(), operator })
}

/// What is wrong with the selectors of resource attributes, which stand at `path`. Operators may be newer than this server.
pub(super) fn validate(attributes: &Value, path: &FieldPath) -> Vec<Cause> {
    let mut causes = Vec::new();
    for field in ["fieldSelector", "labelSelector"] {
        let Some(selector) = attributes.get(field).filter(|s| !s.is_null()) else { continue };
        let at = path.field(field);
        let raw = selector.str_at(&["rawSelector"]).unwrap_or_default();
        let requirements = selector.array_at(&["requirements"]);
        if !raw.is_empty() && !requirements.is_empty() {
            let detail = "may not specified at the same time as requirements";
            causes.push(Cause::invalid(at.field("rawSelector"), raw, detail));
        }
        if raw.is_empty() && requirements.is_empty() {
            let detail = format!("when {at} is specified, requirements or rawSelector is required");
            causes.push(Cause::required(at.field("requirements"), &detail));
        }
        for (i, requirement) in requirements.iter().enumerate() {
            let at = at.field("requirements").index(i);
            causes.extend(requirement_faults(requirement, field == "labelSelector", &at));
        }
    }
    causes
}

fn requirement_faults(requirement: &Value, of_labels: bool, at: &FieldPath) -> Vec<Cause> {
    let mut causes = Vec::new();
    let key = requirement.str_at(&["key"]).unwrap_or_default();
    if !of_labels && key.is_empty() {
        causes.push(Cause::required(at.field("key"), "must be specified"));
    }
    let values = texts(requirement.array_at(&["values"]));
    match requirement.str_at(&["operator"]) {
        Some("In" | "NotIn") if values.is_empty() => {
            let detail = "must be specified when `operator` is 'In' or 'NotIn'";
            causes.push(Cause::required(at.field("values"), detail));
        }
        Some("Exists" | "DoesNotExist") if !values.is_empty() => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            causes.push(Cause::forbidden(at.field("values"), detail));
        }
        _ => {}
    }
    if of_labels {
        if let Err(fault) = names::qualified(key) {
            causes.push(Cause::invalid(at.field("key"), key, &fault));
        }
        for (i, value) in values.iter().enumerate() {
            if let Err(fault) = names::label_value(value) {
                causes.push(Cause::invalid(at.field("values").index(i), value.as_str(), &fault));
            }
        }
    }
    causes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn yaml(text: &str) -> Value {
        serde_saphyr::from_str(text).expect("YAML")
    }

    #[test]
    fn what_can_be_read() {
        let check = |attributes: &str, fields: usize, labels: usize, errors: &[&str]| {
            let read = read(&yaml(attributes));
            let found = (read.selected.fields.len(), read.selected.labels.len());
            assert_eq!(
                (found, &*read.errors),
                ((fields, labels), &*errors.iter().map(ToString::to_string).collect::<Vec<_>>()),
                "{attributes}"
            );
        };
        check("{}", 0, 0, &[]);
        check(
            "{fieldSelector: {rawSelector: 'a=b,c!=d'}, labelSelector: {rawSelector: 'a,b in (c)'}}",
            2,
            2,
            &[],
        );
        let ignored = |field: &str| format!("spec.resourceAttributes.{field} ignored due to parse error");
        check(
            "{fieldSelector: {rawSelector: 'a'}, labelSelector: {rawSelector: '&'}}",
            0,
            0,
            &[&ignored("fieldSelector"), &ignored("labelSelector")],
        );
        check(
            "{fieldSelector: {requirements: [{key: a, operator: In, values: [b]}, {key: a, operator: In, values: [b, c]}]}}",
            1,
            0,
            &["spec.resourceAttributes.fieldSelector partially ignored due to parse error"],
        );
        check(
            "{labelSelector: {requirements: [{key: a, operator: Exists}, {key: b, operator: Later}]}}",
            0,
            1,
            &["spec.resourceAttributes.labelSelector partially ignored due to parse error"],
        );
    }

    #[test]
    fn faults() {
        let check = |attributes: &str, want: &[&str]| {
            let found = validate(&yaml(attributes), &FieldPath::new("spec.resourceAttributes"));
            assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), want, "{attributes}");
        };
        check("{fieldSelector: null}", &[]);
        check(
            "{fieldSelector: {}}",
            &[
                "spec.resourceAttributes.fieldSelector.requirements: Required value: when spec.resourceAttributes.fieldSelector is specified, requirements or rawSelector is required",
            ],
        );
        check(
            "{labelSelector: {rawSelector: a, requirements: [{key: '', operator: Later, values: ['-']}]}}",
            &[
                r#"spec.resourceAttributes.labelSelector.rawSelector: Invalid value: "a": may not specified at the same time as requirements"#,
                "spec.resourceAttributes.labelSelector.requirements[0].key: Invalid value: \"\": name part must be non-empty",
                "spec.resourceAttributes.labelSelector.requirements[0].values[0]: Invalid value: \"-\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
            ],
        );
        check(
            "{fieldSelector: {requirements: [{key: '', operator: In}, {key: a, operator: Exists, values: [b]}]}}",
            &[
                "spec.resourceAttributes.fieldSelector.requirements[0].key: Required value: must be specified",
                "spec.resourceAttributes.fieldSelector.requirements[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
                "spec.resourceAttributes.fieldSelector.requirements[1].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            ],
        );
    }
}
