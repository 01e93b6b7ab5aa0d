//! Pods are held to the standard of their namespace, and who makes pods or workloads is warned of another (PodSecurity).
//!
//! ```text
//!  labels of the namespace, or the server's default ─▶ enforce ─▶ pods that violate it are refused
//!                                                   ├▶ audit   ─▶ the audit log says what violates it
//!                                                   └▶ warn    ─▶ the answer warns of what violates it
//! ```
//!
//! Templates of workloads are never refused: the pods made of them are. The checks stand in [`xebec_api::pod_security`].

use std::time::{Duration, Instant};

use xebec_api::pod_security::{self, Level, PREFIX, Policy, Standard, Survey, Violation};
use xebec_api::{Cause, Status, Value, meta};

use super::{Attributes, Operation};
use crate::core::Core;
use crate::registry::{convert, read};

/// Here the cluster's own parts run, which may do anything unless labels say otherwise.
const SYSTEM: &str = "kube-system";
/// How many pods are looked at when a namespace's standard is tightened, for how long, and how many at a time.
const MAX_PODS: usize = 3000;
const MAX_TIME: Duration = Duration::from_secs(1);
const AT_A_TIME: usize = 32;

pub(super) async fn validate(
    core: &Core,
    attributes: &Attributes<'_>,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    if attributes.operation == Operation::Delete {
        return Ok(());
    }
    let row = &attributes.target.served.row;
    let below = attributes.target.part.name();
    match (row.group(), row.resource(), below) {
        ("", "namespaces", "") => check_namespace(core, attributes, object, old).await,
        ("", "pods", "" | "resize" | "ephemeralcontainers") => {
            if old.is_some_and(|old| !pod_security::is_significant(object, old)) {
                return Ok(());
            }
            check_pod(core, attributes, object)
        }
        (group, resource, "") => match template(group, resource, object) {
            Some(template) => check_template(core, attributes, template),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

/// The template of the pods that a workload makes.
fn template<'a>(group: &str, resource: &str, object: &'a Value) -> Option<&'a Value> {
    let path: &[&str] = match (group, resource) {
        ("", "podtemplates") => &["template"],
        ("batch", "cronjobs") => &["spec", "jobTemplate", "spec", "template"],
        ("", "replicationcontrollers")
        | ("apps", "replicasets" | "deployments" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => &["spec", "template"],
        _ => return None,
    };
    object.at(path).filter(|template| !template.is_null())
}

/// What holds in a namespace unless its labels say otherwise.
fn default(core: &Core, namespace: &str) -> Policy {
    match namespace {
        SYSTEM => Policy::latest(Level::Privileged, Level::Privileged, Level::Privileged),
        _ => core.settings.pod_security,
    }
}

/// What holds in a namespace that is stored, and what is wrong with its labels.
fn policy(core: &Core, name: &str) -> Result<(Policy, Vec<Cause>), Status> {
    let table = core.table.get();
    let row = table.row("", "namespaces").ok_or_else(Status::no_such_path)?;
    let namespace = convert::stored_object(read::find(&core.store.snapshot(), row, "", name)?)?;
    Ok(Policy::of_labels(meta::labels(&namespace), default(core, name)))
}

fn annotate(attributes: &Attributes<'_>, key: &str, value: impl Into<String>) {
    attributes.context.annotate(&format!("{PREFIX}{key}"), value);
}

fn check_pod(core: &Core, attributes: &Attributes<'_>, pod: &Value) -> Result<(), Status> {
    let (policy, causes) = policy(core, attributes.target.namespace)?;
    annotate(attributes, "enforce-policy", policy.enforce.to_string());
    if causes.is_empty() && policy.is_privileged() {
        return Ok(());
    }
    let mut checked = Checked::default();
    let refused = checked.violations(policy.enforce, pod);
    tell(attributes, &policy, &causes, &mut checked, pod, refused.is_empty());
    if refused.is_empty() {
        return Ok(());
    }
    let why = format!("violates PodSecurity \"{}\": {}", policy.enforce, pod_security::together(&refused));
    Err(Status::forbidden("", "pods", meta::name(pod), why))
}

fn check_template(core: &Core, attributes: &Attributes<'_>, template: &Value) -> Result<(), Status> {
    let (policy, causes) = policy(core, attributes.target.namespace)?;
    tell(attributes, &policy, &causes, &mut Checked::default(), template, true);
    Ok(())
}

/// Tells the audit log, and if `warns` the client, what violates the standards that are only looked at.
fn tell(
    attributes: &Attributes<'_>,
    policy: &Policy,
    causes: &[Cause],
    checked: &mut Checked,
    pod: &Value,
    warns: bool,
) {
    if !causes.is_empty() {
        let texts: Vec<String> = causes.iter().map(ToString::to_string).collect();
        let texts = crate::authz::together(&texts);
        annotate(attributes, "error", format!("Failed to parse policy: {texts}"));
    }
    let would = |standard: Standard, violations: &[Violation]| {
        format!("would violate PodSecurity \"{standard}\": {}", pod_security::together(violations))
    };
    let found = checked.violations(policy.audit, pod);
    if !found.is_empty() {
        annotate(attributes, "audit-violations", would(policy.audit, &found));
    }
    if !warns {
        return;
    }
    let found = checked.violations(policy.warn, pod);
    if !found.is_empty() {
        attributes.context.warn(would(policy.warn, &found));
    }
}

/// What has been found about one pod, so that modes of the same standard need not look again.
#[derive(Default)]
struct Checked(Vec<(Standard, Vec<Violation>)>);

impl Checked {
    fn violations(&mut self, standard: Standard, pod: &Value) -> Vec<Violation> {
        if let Some((_, known)) = self.0.iter().find(|(known, _)| *known == standard) {
            return known.clone();
        }
        let found = pod_security::evaluate(standard, pod);
        self.0.push((standard, found.clone()));
        found
    }
}

/// Labels that come must be right, and who tightens the standard is told which pods violate it.
async fn check_namespace(
    core: &Core,
    attributes: &Attributes<'_>,
    namespace: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    let name = meta::name(namespace);
    let of = |namespace: &Value| Policy::of_labels(meta::labels(namespace), default(core, name));
    let (policy, causes) = of(namespace);
    let before = old.map(of);
    let were = before.as_ref().map(|(_, causes)| causes.as_slice()).unwrap_or_default();
    if !causes.is_empty() && causes != were {
        return Err(Status::invalid("", "Namespace", name, causes));
    }
    if before.is_some_and(|(before, _)| policy.tightens(&before)) {
        for warning in survey(core, name, policy.enforce).await? {
            attributes.context.warn(warning);
        }
    }
    Ok(())
}

/// Looks at the pods of a namespace, and lets others work meanwhile.
async fn survey(core: &Core, namespace: &str, standard: Standard) -> Result<Vec<String>, Status> {
    let prefix = core.table.get().row("", "pods").ok_or_else(Status::no_such_path)?.prefix(namespace)?;
    let snapshot = core.store.snapshot();
    let until = Instant::now() + MAX_TIME.min(core.settings.request_timeout / 2);
    let mut survey = Survey::new(standard);
    let records: Vec<_> = snapshot.range(&prefix, None).take(MAX_PODS).cloned().collect();
    for some in records.chunks(AT_A_TIME) {
        for record in some {
            survey.add(&convert::stored_object(record)?);
        }
        if Instant::now() > until {
            break;
        }
        tokio::task::yield_now().await;
    }
    Ok(survey.warnings(namespace, snapshot.count(&prefix)))
}
