//! Mutating policies change what is written.
//!
//! Which policies are about a write is told from the object as it came to them; each then sees what those before it made of
//! it. Like webhooks they come in two rounds: those that want to be asked again (`reinvocationPolicy: IfNeeded`) are, when
//! the object may have changed after them. What a policy changes is owned by nobody: it holds as long as the policy does.

use std::collections::HashSet;
use std::sync::Arc;

use xebec_api::error::Foreign;
use xebec_api::patch::json_patch::{self, Fault, JsonPatchError};
use xebec_api::schema::SchemaRef;
use xebec_api::{Reason, Status, Value, builtin, fields, json, meta, object};
use xebec_cel::{Budget, Value as CelValue};

use super::Bound;
use super::definition::{Binding, Change, Policy};
use super::made::{check_names, to_json};
use super::params;
use crate::admission::Attributes;
use crate::admission::expressions::{Asks, Evaluation, Seen};
use crate::admission::subject::{Shown, Subject};
use crate::core::Core;
use crate::registry::table::Served;

/// The mutating policies of one write.
#[derive(Default)]
pub(in crate::admission) struct Mutation {
    /// Those of the first round, which are those of the second.
    policies: Option<Vec<Arc<Bound>>>,
    /// Which want to be asked again when the object changes after them.
    asked: HashSet<Asked>,
    /// Which are to be asked again.
    again: HashSet<Asked>,
    /// Whether the first round is over.
    is_second: bool,
    /// What it made of the object, if somebody may be asked again.
    left: Option<Value>,
}

/// A policy, its binding, and the namespace and name of its parameters.
type Asked = (String, String, String, String);

/// A policy that is to be evaluated on a write.
struct Invocation<'p> {
    policy: &'p Policy,
    binding: &'p Binding,
    matched: Served,
    /// `null` if there are none.
    params: Value,
}

/// Why a policy, or one of its bindings, did not do what it should.
struct Failure {
    message: String,
    reason: &'static str,
}

impl Mutation {
    /// Lets policies change the object, which is in the version that writes work in. Whether there is to be another round,
    /// once what comes before policies has been done again.
    ///
    /// # Errors
    /// A policy fails and may not.
    pub(in crate::admission) async fn run(
        &mut self,
        core: &Core,
        attributes: &Attributes<'_>,
        object: &mut Value,
        old: Option<&Value>,
    ) -> Result<bool, Status> {
        let served = attributes.target.served;
        let policies = self.policies.get_or_insert_with(|| core.policies.mutating(served)).clone();
        if policies.is_empty() {
            return Ok(false);
        }
        let subject = Subject::of_write(core, attributes, object)?;
        self.round(&policies, &subject, object, old).await
    }

    async fn round(
        &mut self,
        policies: &[Arc<Bound>],
        subject: &Subject<'_>,
        object: &mut Value,
        old: Option<&Value>,
    ) -> Result<bool, Status> {
        if subject.is_exempt_from_policies() {
            return Ok(false);
        }
        let second = std::mem::replace(&mut self.is_second, true);
        if self.left.as_ref().is_some_and(|left| *left != *object) {
            self.again.extend(self.asked.drain());
        }
        let mut failures = Vec::new();
        let invocations = select(policies, subject, object, old, &mut failures).await;
        let mut done = false;
        for invocation in &invocations {
            if !self.is_wanted(invocation, subject, object, old, second, &mut failures).await? {
                continue;
            }
            // Others get their turn between evaluations, each of which is bounded by itself.
            tokio::task::consume_budget().await;
            let mut changed = false;
            for change in &invocation.policy.changes {
                match apply(invocation, change, subject, object, old).await {
                    Ok(Some(made)) => {
                        changed |= made;
                        done = true;
                    }
                    Ok(None) => {}
                    Err(Cancelled::Policy(why)) => invocation.fails(&why, &mut failures),
                    Err(Cancelled::Server(status)) => return Err(status),
                }
            }
            if changed {
                self.again.extend(self.asked.drain());
            }
            if invocation.policy.is_reinvocable {
                self.asked.insert(invocation.key());
            }
        }
        if done {
            self.again.extend(self.asked.drain());
        }
        if let Some(first) = failures.first() {
            return Err(refusal(first, &failures, subject));
        }
        if !second && !self.asked.is_empty() {
            self.left = Some(object.clone());
        }
        Ok(done && !second)
    }

    /// Whether a policy's conditions hold, and it is its turn.
    async fn is_wanted(
        &self,
        invocation: &Invocation<'_>,
        subject: &Subject<'_>,
        object: &Value,
        old: Option<&Value>,
        second: bool,
        failures: &mut Vec<Failure>,
    ) -> Result<bool, Status> {
        if second && !self.again.contains(&invocation.key()) {
            return Ok(false);
        }
        let policy = invocation.policy;
        if policy.conditions.is_empty() {
            return Ok(true);
        }
        let seen = Seen::new(subject, invocation.matched.clone(), object, old).await?;
        let asks = Asks { subject };
        let holds =
            policy.conditions.hold(&Evaluation::new(&seen, &asks).with(invocation.params(), None, &[]));
        match holds {
            Ok(holds) => Ok(holds),
            Err(why) => {
                invocation.fails(&why, failures);
                Ok(false)
            }
        }
    }
}

/// Lets policies change, once each, what is no write of an object.
///
/// # Errors
/// As [`Mutation::run`].
pub(in crate::admission) async fn change(
    policies: &[Arc<Bound>],
    subject: &Subject<'_>,
    object: &mut Value,
) -> Result<(), Status> {
    if policies.is_empty() {
        return Ok(());
    }
    let mut mutation = Mutation::default();
    mutation.round(policies, subject, object, None).await.map(drop)
}

impl Invocation<'_> {
    fn key(&self) -> Asked {
        let params = (meta::namespace(&self.params).to_owned(), meta::name(&self.params).to_owned());
        (self.policy.name.clone(), self.binding.name.clone(), params.0, params.1)
    }

    fn params(&self) -> Option<&Value> {
        (!self.params.is_null()).then_some(&self.params)
    }

    fn fails(&self, why: &str, failures: &mut Vec<Failure>) {
        fail(self.policy, Some(self.binding), why, "Invalid", failures);
    }
}

/// Takes note of a failure, unless the policy may fail.
fn fail(
    policy: &Policy,
    binding: Option<&Binding>,
    why: &str,
    reason: &'static str,
    failures: &mut Vec<Failure>,
) {
    if policy.ignores_failure {
        return;
    }
    let name = &policy.name;
    let message = match binding {
        Some(binding) => format!("policy '{name}' with binding '{}' denied request: {why}", binding.name),
        None => format!("policy {name:?} denied request: {why}"),
    };
    failures.push(Failure { message, reason });
}

/// What is to be evaluated on a request.
async fn select<'p>(
    policies: &'p [Arc<Bound>],
    subject: &Subject<'_>,
    object: &Value,
    old: Option<&Value>,
    failures: &mut Vec<Failure>,
) -> Vec<Invocation<'p>> {
    let mut found = Vec::new();
    for bound in policies {
        let policy = &*bound.policy;
        let mut misconfigured = |binding: Option<&Binding>, why: &str| {
            let what = if binding.is_some() { "binding" } else { "policy" };
            let why = format!("failed to configure {what}: {why}");
            fail(policy, binding, &why, "Forbidden", failures);
        };
        let matched = match policy.matcher.matches(subject, object, old) {
            Ok(Some(matched)) => matched,
            Ok(None) => continue,
            Err(error) => {
                misconfigured(None, &error.message);
                continue;
            }
        };
        let kind = policy.params.as_ref().map(|kind| (kind, kind.resolve(&subject.core.table.get())));
        if let Some((kind, None)) = kind {
            misconfigured(None, &format!("failed to find resource referenced by paramKind: '{kind}'"));
            continue;
        }
        let kind = kind.and_then(|(_, served)| served);
        for binding in &bound.bindings {
            match binding.matches(subject, object, old) {
                Ok(true) => {}
                Ok(false) => continue,
                Err(error) => {
                    misconfigured(Some(binding), &error.message);
                    continue;
                }
            }
            match params::collect(policy, kind.as_ref(), binding, subject).await {
                Ok(params) => found.extend(params.into_iter().map(|params| Invocation {
                    policy,
                    binding,
                    matched: matched.clone(),
                    params,
                })),
                Err(why) => misconfigured(Some(binding), &why),
            }
        }
    }
    found
}

/// Why a change was not made.
enum Cancelled {
    /// The policy's failure policy decides.
    Policy(String),
    /// The request ends with this.
    Server(Status),
}

impl From<String> for Cancelled {
    fn from(why: String) -> Self {
        Self::Policy(why)
    }
}

impl From<Status> for Cancelled {
    fn from(status: Status) -> Self {
        Self::Server(status)
    }
}

/// Makes one change of a policy; whether the object is another one after it. `None` if there is no object.
async fn apply(
    invocation: &Invocation<'_>,
    change: &Change,
    subject: &Subject<'_>,
    object: &mut Value,
    old: Option<&Value>,
) -> Result<Option<bool>, Cancelled> {
    if object.is_null() {
        return Ok(None);
    }
    let matched = &invocation.matched;
    let in_none = subject.namespace.is_empty() || subject.is_namespace();
    let namespace = match invocation.policy.uses_namespace && !in_none {
        true => Some(subject.find_namespace()?),
        false => None,
    };
    let seen = Seen::new(subject, matched.clone(), object, old).await?;
    let asks = Asks { subject };
    let given = evaluate(invocation, change, &seen, &asks, namespace.as_ref())?;
    drop(seen);
    let before = subject.show(object, matched).await?;
    let mut after = match change {
        Change::Apply(_) => configured(&before, given, subject, matched)?,
        Change::Patch(_) => match json_patch::apply(before.clone(), given) {
            Ok(after) => after,
            // A test that fails keeps the patch from being applied, no more.
            Err(JsonPatchError::Operation { fault: Fault::Test(_), .. }) => return Ok(Some(false)),
            Err(error) => return Err(Cancelled::Policy(format!("JSON Patch: {error}"))),
        },
    };
    subject.complete(&mut after, matched)?;
    if after == before {
        return Ok(Some(false));
    }
    subject.take(object, after, matched).await?;
    Ok(Some(true))
}

/// What the expression of a change gives.
fn evaluate(
    invocation: &Invocation<'_>,
    change: &Change,
    seen: &Seen<'_>,
    asks: &Asks<'_>,
    namespace: Option<&Value>,
) -> Result<Value, String> {
    let policy = invocation.policy;
    let (Change::Apply(expression) | Change::Patch(expression)) = change;
    if let Err(why) = &expression.program {
        return Err(why.clone());
    }
    let evaluation = Evaluation::new(seen, asks).with(invocation.params(), namespace, &policy.variables);
    let value = evaluation.evaluate(expression, &mut Budget::per_object()).map_err(|why| why.to_string())?;
    match (change, &value) {
        (Change::Apply(_), CelValue::Object(object)) => check_names(object)?,
        (Change::Patch(_), CelValue::List(list)) => {
            for operation in list.iter() {
                if let Ok(CelValue::Object(operation)) = operation
                    && let Some(CelValue::Object(object)) = operation.fields.get("value")
                {
                    check_names(object)?;
                }
            }
        }
        (Change::Apply(_), other) => {
            let found = other.type_name();
            return Err(format!("unsupported return type from ApplyConfiguration expression: {found}"));
        }
        (Change::Patch(_), _) => {
            return Err("type mismatch: JSONPatchType.expression should evaluate to array".into());
        }
    }
    to_json(&value)
}

/// The object with a configuration laid over it.
fn configured(
    before: &Value,
    mut configuration: Value,
    subject: &Subject<'_>,
    matched: &Served,
) -> Result<Value, String> {
    for field in ["apiVersion", "kind"] {
        if let Some(text) = before.str_at(&[field]) {
            configuration.set(&[field], text);
        }
    }
    let mut after = before.clone();
    let lay = |after: &mut Value, schema: SchemaRef<'_>| {
        fields::overlay(after, &configuration, schema).map_err(|why| format!("error applying patch: {why}"))
    };
    if matches!(subject.shown, Shown::Whole) {
        lay(&mut after, matched.version().root())?;
        return Ok(after);
    }
    let (group, version, kind) = subject.kind(matched);
    let Some(node) = builtin::kind(&group, &version, &kind) else {
        return Err(format!(
            "error applying patch: nothing is known of the fields of {group}/{version}, Kind={kind}"
        ));
    };
    lay(&mut after, builtin::schema().at(node))?;
    Ok(after)
}

fn refusal(first: &Failure, all: &[Failure], subject: &Subject<'_>) -> Status {
    let row = &subject.served.row;
    let causes: Vec<Value> =
        all.iter().map(|failure| object!({"message": (failure.message.as_str())})).collect();
    let mut details = object!({"kind": (row.resource()), "causes": causes});
    for (field, text) in [("name", subject.name.as_str()), ("group", row.group())] {
        if !text.is_empty() {
            details.set(&[field], text);
        }
    }
    let foreign = Foreign {
        code: Reason::Forbidden.code(),
        reason: first.reason.to_owned(),
        details: json::to_vec(&details),
    };
    Status::foreign(foreign, first.message.clone())
}
