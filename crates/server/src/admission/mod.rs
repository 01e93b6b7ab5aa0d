//! Admission: what the cluster's rules add to a write, or forbid.
//!
//! Mutating plugins run first, in order, then mutating policies and webhooks; validating ones after the object's own validation, then
//! validating policies and webhooks, and last [`quota`]. A plugin reads the store, never writes it; a quota's new status
//! becomes part of the write's own transaction.

pub(crate) mod configuration;
mod default_class;
mod defaults;
mod expressions;
mod lifecycle;
mod limit_ranger;
mod matching;
mod node_placement;
mod node_restriction;
mod pod_security;
pub(crate) mod policy;
pub mod quota;
mod runtime_class;
mod service_account;
mod storage;
mod subject;
pub(crate) mod webhook;

use std::time::Instant;

use xebec_api::{Status, Value, meta};

pub(crate) use self::subject::Subject;
use crate::core::{Context, Core};
use crate::http::route;
use crate::metrics::Step;
use crate::registry::table::Served;
use crate::registry::write::{Part, Target};
use crate::registry::{convert, read};

/// What happens to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// It is made.
    Create,
    /// It changes.
    Update,
    /// It goes.
    Delete,
}

/// What a plugin is told of a write.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    /// The request.
    pub context: &'a Context,
    /// The resource, namespace and subresource.
    pub target: Target<'a>,
    /// What happens.
    pub operation: Operation,
    /// Whether it is only tried, though the query does not say so.
    pub dry_run: bool,
}

impl<'a> Attributes<'a> {
    /// Describes a write.
    #[must_use]
    pub fn new(context: &'a Context, target: Target<'a>, operation: Operation) -> Self {
        Self { context, target, operation, dry_run: false }
    }

    /// Whether the server itself writes: what was asked of it has been shown to webhooks before.
    pub(crate) const fn is_internal(&self) -> bool {
        matches!(self.target.part, Part::Own(_))
    }

    /// Whether the write is about the main resource `resource` of `group`.
    #[must_use]
    pub fn is(&self, group: &str, resource: &str) -> bool {
        let row = &self.target.served.row;
        self.target.part.name().is_empty() && row.group() == group && row.resource() == resource
    }
}

impl Attributes<'_> {
    /// The refusal of the write by a plugin.
    pub(crate) fn refuse(&self, object: &Value, why: impl std::fmt::Display) -> Status {
        let row = &self.target.served.row;
        let generated = object.str_at(&["metadata", "generateName"]).unwrap_or_default();
        let names = [self.target.name, meta::name(object), generated, "Unknown"];
        let name = names.into_iter().find(|name| !name.is_empty()).unwrap_or_default();
        Status::forbidden(row.group(), row.resource(), name, why)
    }
}

/// An object that is stored.
///
/// # Errors
/// 404: there is none.
pub(crate) fn find(
    core: &Core,
    group: &str,
    resource: &str,
    namespace: &str,
    name: &str,
) -> Result<Value, Status> {
    let table = core.table.get();
    let row = table.row(group, resource).ok_or_else(Status::no_such_path)?;
    convert::stored_object(read::find(&core.store.snapshot(), row, namespace, name)?)
}

/// Runs the mutating plugins.
///
/// # Errors
/// A plugin forbids the write.
pub async fn mutate(
    core: &Core,
    attributes: &Attributes<'_>,
    object: &mut Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    let started = Instant::now();
    let outcome = run_mutating(core, attributes, object, old).await;
    core.metrics.admitted(attributes.operation, Step::Admit, outcome.is_err(), started.elapsed());
    outcome
}

async fn run_mutating(
    core: &Core,
    attributes: &Attributes<'_>,
    object: &mut Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    plugins(core, attributes, object, old)?;
    let served = attributes.target.served;
    if attributes.is_internal() || !(core.policies.may_change(served) || core.webhooks.may_change()) {
        return Ok(());
    }
    // What most requests have no need for takes no room in theirs.
    Box::pin(configured(core, attributes, object, old)).await
}

/// Mutating policies and webhooks, in one round or two.
async fn configured(
    core: &Core,
    attributes: &Attributes<'_>,
    object: &mut Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    let mut policies = policy::Mutation::default();
    let mut webhooks = webhook::Mutation::default();
    let again = policies.run(core, attributes, object, old).await?;
    if webhooks.run(core, attributes, object, old, again).await? {
        plugins(core, attributes, object, old)?;
        policies.run(core, attributes, object, old).await?;
        webhooks.run(core, attributes, object, old, false).await?;
    }
    Ok(())
}

/// The mutating plugins that are built in.
fn plugins(
    core: &Core,
    attributes: &Attributes<'_>,
    object: &mut Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    lifecycle::check(core, attributes)?;
    limit_ranger::mutate(core, attributes, object)?;
    service_account::mutate(core, attributes, object, old)?;
    node_restriction::check(core, attributes, object, old)?;
    defaults::mutate(core, attributes, object, old)?;
    default_class::mutate(core, attributes, object)?;
    storage::mutate(attributes, object);
    runtime_class::mutate(core, attributes, object)?;
    node_placement::mutate(core, attributes, object)
}

/// Runs the validating plugins; of a deletion the object is `null`.
///
/// # Errors
/// A plugin forbids the write.
pub async fn validate(
    core: &Core,
    attributes: &Attributes<'_>,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    let started = Instant::now();
    let outcome = run_validating(core, attributes, object, old).await;
    core.metrics.admitted(attributes.operation, Step::Validate, outcome.is_err(), started.elapsed());
    outcome
}

async fn run_validating(
    core: &Core,
    attributes: &Attributes<'_>,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    lifecycle::protect(attributes)?;
    if attributes.operation == Operation::Delete {
        node_restriction::check(core, attributes, object, old)?;
    }
    limit_ranger::validate(core, attributes, object, old)?;
    service_account::validate(core, attributes, object, old)?;
    pod_security::validate(core, attributes, object, old).await?;
    storage::validate(core, attributes, object, old)?;
    runtime_class::validate(core, attributes, object)?;
    if attributes.is_internal() {
        return Ok(());
    }
    let policies = core.policies.validating(attributes.target.served);
    if policies.is_empty() && !core.webhooks.may_ask() {
        return Ok(());
    }
    Box::pin(async move {
        let subject = Subject::of_write(core, attributes, object)?;
        policy::validate(&policies, &subject, object, old).await?;
        webhook::validate(core, &subject, object, old).await
    })
    .await
}

/// Shows webhooks and policies what is no write of an object: a connection, or what is posted to a subresource. Mutating ones
/// may change what is posted.
///
/// # Errors
/// One of them denies it, or fails and may not.
pub(crate) async fn admit(core: &Core, subject: &Subject<'_>, object: &mut Value) -> Result<(), Status> {
    Box::pin(async move {
        policy::change(&core.policies.mutating(subject.served), subject, object).await?;
        webhook::change(core, subject, object).await?;
        policy::validate(&core.policies.validating(subject.served), subject, object, None).await?;
        webhook::validate(core, subject, object, None).await
    })
    .await
}

/// Looks at what is posted to a subresource, such as a binding, and shows it to webhooks and policies.
///
/// # Errors
/// As [`admit`]; or a plugin forbids it.
pub(crate) async fn posted(
    core: &Core,
    context: &Context,
    served: &Served,
    target: &route::Target,
    object: &mut Value,
) -> Result<(), Status> {
    node_restriction::posted(core, context, served, target, object).await?;
    node_placement::posted(core, served, target, object)?;
    let subject = Subject::below(core, context, served, target, "CREATE")?;
    admit(core, &subject, object).await
}
