//! Webhook configurations, admission policies, custom resource definitions and API services.

use super::{AGE, Entry, NAME, PLAIN, integer, text};
use crate::Value;
use crate::resource::Column;
use crate::table::cell::{Printer, text_at};

pub(super) static ENTRIES: &[Entry] = &[
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations", &WEBHOOKS),
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations", &WEBHOOKS),
    ("admissionregistration.k8s.io", "validatingadmissionpolicies", &VALIDATING),
    ("admissionregistration.k8s.io", "validatingadmissionpolicybindings", &BINDINGS),
    ("admissionregistration.k8s.io", "mutatingadmissionpolicies", &MUTATING),
    ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings", &BINDINGS),
    ("apiextensions.k8s.io", "customresourcedefinitions", &PLAIN),
    ("apiregistration.k8s.io", "apiservices", &API_SERVICES),
];

const PARAM_KIND: Column = text("ParamKind", "The kind of its parameters", Printer::Call(param_kind));

static WEBHOOKS: [Column; 3] =
    [NAME, integer("Webhooks", "How many webhooks it has", Printer::Count("webhooks")), AGE];

static VALIDATING: [Column; 4] = [
    NAME,
    integer("Validations", "How many rules it has", Printer::Count("spec.validations")),
    PARAM_KIND,
    AGE,
];

static MUTATING: [Column; 4] = [
    NAME,
    integer("Mutations", "How many changes it makes", Printer::Count("spec.mutations")),
    PARAM_KIND,
    AGE,
];

static BINDINGS: [Column; 4] = [
    NAME,
    text("PolicyName", "The policy it puts in force", Printer::Text("spec.policyName", "")),
    text("ParamRef", "The parameters it gives", Printer::Call(param_ref)),
    AGE,
];

static API_SERVICES: [Column; 4] = [
    NAME,
    text("Service", "Who answers for the group", Printer::Call(service)),
    text("Available", "Whether it answers", Printer::Call(available)),
    AGE,
];

fn param_kind(policy: &Value) -> String {
    let Some(kind) = policy.at(&["spec", "paramKind"]).filter(|k| !k.is_null()) else {
        return "<unset>".to_owned();
    };
    let field = |name: &str| kind.str_at(&[name]).unwrap_or_default();
    format!("{}/{}", field("apiVersion"), field("kind"))
}

fn param_ref(binding: &Value) -> String {
    let Some(param) = binding.at(&["spec", "paramRef"]) else { return "<unset>".to_owned() };
    match (text_at(param, "name"), text_at(param, "namespace"), param.get("selector")) {
        (Some(name), Some(namespace), _) => format!("{namespace}/{name}"),
        (Some(name), None, _) => format!("*/{name}"),
        (None, _, Some(selector)) => crate::table::selector::label_selector_or_none(Some(selector)),
        (None, _, None) => "<unset>".to_owned(),
    }
}

fn service(api: &Value) -> String {
    let Some(service) = api.at(&["spec", "service"]).filter(|s| !s.is_null()) else {
        return "Local".to_owned();
    };
    let field = |name: &str| service.str_at(&[name]).unwrap_or_default();
    format!("{}/{}", field("namespace"), field("name"))
}

fn available(api: &Value) -> String {
    let conditions = api.array_at(&["status", "conditions"]);
    let Some(condition) = conditions.iter().find(|c| c.str_at(&["type"]) == Some("Available")) else {
        return "Unknown".to_owned();
    };
    let status = condition.str_at(&["status"]).unwrap_or_default();
    match text_at(condition, "reason") {
        Some(reason) if status != "True" => format!("{status} ({reason})"),
        _ => status.to_owned(),
    }
}
