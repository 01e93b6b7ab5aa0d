//! The objects that a binding gives its policy.

use std::sync::Arc;

use xebec_api::selector::{FieldSelector, Selector};
use xebec_api::{FieldPath, Value};
use xebec_store::Record;

use super::definition::{Binding, Policy};
use crate::admission::subject::Subject;
use crate::registry::conversion::Ready;
use crate::registry::convert;
use crate::registry::facts::Want;
use crate::registry::read;
use crate::registry::table::Served;

/// How many objects a binding may select; the policy is evaluated once for each.
const MAX_SELECTED: usize = 1_000;

/// The objects; `null` for a policy that wants none, or a binding that gives none. No object at all means that there is
/// nothing to evaluate.
///
/// # Errors
/// What is wrong with the binding.
pub(super) async fn collect(
    policy: &Policy,
    kind: Option<&Served>,
    binding: &Binding,
    subject: &Subject<'_>,
) -> Result<Vec<Value>, String> {
    let (Some(served), false) = (kind.filter(|_| policy.params.is_some()), binding.params.is_null()) else {
        return Ok(vec![Value::Null]);
    };
    let reference = &binding.params;
    let text = |field: &str| reference.str_at(&[field]).unwrap_or_default();
    let namespace = match (served.row.def.is_namespaced(), text("namespace")) {
        (true, "") if subject.namespace.is_empty() => {
            let why =
                "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources";
            return Err(why.into());
        }
        (true, "") => subject.namespace,
        (true, namespace) => namespace,
        (false, "") => "",
        (false, _) => {
            return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".into());
        }
    };
    let found = match (text("name"), reference.get("selector").filter(|s| !s.is_null())) {
        ("", Some(selector)) => selected(subject, served, namespace, selector).await?,
        ("", None) => return Err("one of name or selector must be provided".into()),
        (_, Some(_)) => return Err("paramRef.name and paramRef.selector are mutually exclusive".into()),
        (name, None) => named(subject, served, namespace, name).await?,
    };
    if found.is_empty() && text("parameterNotFoundAction") == "Deny" {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".into());
    }
    Ok(found)
}

async fn named(
    subject: &Subject<'_>,
    served: &Served,
    namespace: &str,
    name: &str,
) -> Result<Vec<Value>, String> {
    let snapshot = subject.core.store.snapshot();
    let Ok(record) = read::find(&snapshot, &served.row, namespace, name) else { return Ok(Vec::new()) };
    let object = convert::object(subject.core, record, served).await;
    object.map(|object| vec![object]).map_err(|error| error.to_string())
}

async fn selected(
    subject: &Subject<'_>,
    served: &Served,
    namespace: &str,
    selector: &Value,
) -> Result<Vec<Value>, String> {
    let labels = Selector::from_object(selector, &FieldPath::new("selector"))
        .map_err(|causes| causes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))?;
    let want = Want { labels, fields: FieldSelector::default() };
    let snapshot = subject.core.store.snapshot();
    let prefix = served.row.prefix(namespace).map_err(|error| error.to_string())?;
    let mut selected = snapshot.range(&prefix, None).filter(|record| want.matches(record, &served.row));
    let records: Vec<Arc<Record>> = selected.by_ref().take(MAX_SELECTED).cloned().collect();
    if selected.next().is_some() {
        return Err(format!("paramRef.selector selects more than {MAX_SELECTED} objects; select fewer"));
    }
    let ready = Ready::of(subject.core, served, records.iter().map(AsRef::as_ref)).await;
    let ready = ready.map_err(|error| error.to_string())?;
    let objects = records.iter().map(|record| convert::object_of(record, served, &ready));
    objects.collect::<Result<_, _>>().map_err(|error| error.to_string())
}
