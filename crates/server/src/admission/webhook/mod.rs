//! Admission webhooks: servers of others that may change or refuse what is written (admission.k8s.io/v1, v1beta1).
//!
//! It owns which webhooks see a request, what they are told and what their answers mean. Configurations are read when they
//! change, so that a request that nobody wants to see costs a comparison of names; whoever writes one finds it in force with
//! the answer.
//!
//! ```text
//!  configurations ──read──▶ Hook ──rules, selectors, conditions──▶ Review ──call──▶ patch | denial | failure
//! ```
//!
//! Mutating webhooks are called one after the other, and those that want it once more when the object has changed after them;
//! validating ones all at once. Objects of webhooks and of admission policies are never shown, or a bad one could not be
//! mended.

mod call;
#[cfg(fuzzing)]
pub mod fuzzing;
mod hook;
mod review;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use xebec_api::{Cause, FieldPath, Status, Value, object, patch};
use xebec_store::{Key, Revision, Snapshot};

use self::call::Outcome;
use self::hook::{Hook, Kind};
use super::Attributes;
use super::configuration::prefix;
use super::expressions::condition_faults;
use super::subject::Subject;
use crate::core::Core;
use crate::registry::convert;
use crate::registry::table::Served;

/// The webhooks in force.
#[derive(Debug, Default)]
pub(crate) struct Webhooks {
    state: RwLock<Arc<State>>,
    /// Held by who makes the next state, so that a later one is of a later snapshot.
    changing: Mutex<()>,
}

/// All configurations at one revision.
#[derive(Debug, Default)]
struct State {
    mutating: Vec<Arc<Hook>>,
    validating: Vec<Arc<Hook>>,
    /// The hooks of each configuration, so that those that did not change need not be read again.
    made: Vec<(Key, Revision, Vec<Arc<Hook>>)>,
}

impl Webhooks {
    /// Takes the configurations that are stored.
    pub(crate) fn refresh(&self, core: &Core) {
        let _turn = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let next = State::read(&core.store.snapshot(), &self.state());
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
    }

    /// Whether there are mutating webhooks.
    pub(super) fn may_change(&self) -> bool {
        !self.state().mutating.is_empty()
    }

    /// Whether there are validating webhooks.
    pub(super) fn may_ask(&self) -> bool {
        !self.state().validating.is_empty()
    }

    fn state(&self) -> Arc<State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl State {
    fn read(snapshot: &Snapshot, last: &Self) -> Self {
        let mut state = Self::default();
        for kind in [Kind::Mutating, Kind::Validating] {
            for record in snapshot.range(&prefix(kind.resource()), None) {
                let (key, revision) = (record.key(), record.mod_revision());
                let known = last.made.iter().find(|(k, r, _)| k == key && *r == revision);
                let hooks = match known {
                    Some((_, _, hooks)) => hooks.clone(),
                    // Whoever cannot be read refuses nothing, which the log tells of.
                    None => {
                        convert::stored_object(record).map(|object| Hook::all(&object)).unwrap_or_default()
                    }
                };
                match kind {
                    Kind::Mutating => state.mutating.extend(hooks.iter().cloned()),
                    Kind::Validating => state.validating.extend(hooks.iter().cloned()),
                }
                state.made.push((key.clone(), revision, hooks));
            }
        }
        state
    }
}

/// What is wrong with the match conditions of a configuration's webhooks. Those that were there before may stay as they are.
pub(crate) fn faults(configuration: &Value, old: Option<&Value>) -> Vec<Cause> {
    let hooks = |configuration: Option<&Value>| {
        configuration.map(|c| c.array_at(&["webhooks"]).to_vec()).unwrap_or_default()
    };
    let before = hooks(old);
    let conditions = || before.iter().flat_map(|hook| hook.array_at(&["matchConditions"]));
    let known = |text: &str| conditions().any(|condition| condition.str_at(&["expression"]) == Some(text));
    let mut causes = Vec::new();
    for (at, hook) in configuration.array_at(&["webhooks"]).iter().enumerate() {
        let path = FieldPath::new("webhooks").index(at);
        causes.extend(condition_faults(hook, &path, hook::environment(), &known));
    }
    causes
}

/// The mutating webhooks of one write, which may be called in two rounds.
#[derive(Default)]
pub(crate) struct Mutation {
    /// The webhooks of the first round, which are those of the second.
    hooks: Option<Arc<State>>,
    /// Which want to be called again when the object changes after them.
    called: HashSet<usize>,
    /// Which are to be called again.
    again: HashSet<usize>,
    /// What the first round made of the object.
    left: Option<Value>,
}

impl Mutation {
    /// Calls the webhooks that match; the object is in the version that writes work in. Whether there is to be another round,
    /// once what comes before webhooks has been done again; `again` says that what came before already wants one.
    ///
    /// # Errors
    /// A webhook denies the write, or fails and may not.
    pub(crate) async fn run(
        &mut self,
        core: &Core,
        attributes: &Attributes<'_>,
        object: &mut Value,
        old: Option<&Value>,
        again: bool,
    ) -> Result<bool, Status> {
        let second = self.left.is_some();
        let state = self.hooks.get_or_insert_with(|| core.webhooks.state()).clone();
        if state.mutating.is_empty() {
            return Ok(again);
        }
        let subject = Subject::of_write(core, attributes, object)?;
        if subject.is_exempt_from_webhooks() {
            return Ok(again);
        }
        if self.left.as_ref().is_some_and(|left| *left != *object) {
            self.again.extend(self.called.drain());
        }
        let mut changed = again;
        for (index, hook) in state.mutating.iter().enumerate() {
            if second && !self.again.contains(&index) {
                continue;
            }
            let Some(matched) = hook.wants(&subject, object, old).await? else { continue };
            let told = call::call(core, hook, &subject, &matched, object, old).await;
            let patched = match call::settle(hook, &subject, told, (usize::from(second), index))? {
                Outcome::Passed => false,
                Outcome::Patch(operations) => apply(hook, &subject, &matched, object, operations).await?,
            };
            if patched {
                self.again.extend(self.called.drain());
                changed = true;
            }
            if hook.is_reinvocable {
                self.called.insert(index);
            }
            mutated(hook, &subject, (usize::from(second), index), patched);
        }
        if !changed || second {
            return Ok(false);
        }
        self.left = Some(object.clone());
        Ok(true)
    }
}

/// Applies a webhook's patch to the object in the version that the webhook saw; whether that changed it.
async fn apply(
    hook: &Hook,
    subject: &Subject<'_>,
    matched: &Served,
    object: &mut Value,
    operations: Value,
) -> Result<bool, Status> {
    let before = subject.show(object, matched).await?;
    if before.is_null() {
        return Err(Status::internal(format_args!(
            "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
            hook.name
        )));
    }
    let mut after = patch::json_patch::apply(before.clone(), operations).map_err(Status::internal)?;
    subject.complete(&mut after, matched).map_err(|why| {
        let name = &hook.name;
        Status::internal(format_args!(
            "admission webhook {name:?} made an object that cannot be decoded: {why}"
        ))
    })?;
    if after == before {
        return Ok(false);
    }
    subject.take(object, after, matched).await?;
    Ok(true)
}

/// Records for the audit log what a mutating webhook did.
fn mutated(hook: &Hook, subject: &Subject<'_>, (round, index): (usize, usize), mutated: bool) {
    let value = object!({
        "configuration": (hook.configuration.as_str()), "webhook": (hook.name.as_str()), "mutated": mutated
    });
    let text = String::from_utf8_lossy(&xebec_api::json::to_vec(&value)).into_owned();
    subject.context.annotate(&format!("mutation.webhook.admission.k8s.io/round_{round}_index_{index}"), text);
}

/// Asks the validating webhooks that match; of a deletion the object is `null`.
///
/// # Errors
/// A webhook denies the write, or fails and may not.
pub(super) async fn validate(
    core: &Core,
    subject: &Subject<'_>,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    if subject.is_exempt_from_webhooks() {
        return Ok(());
    }
    let state = core.webhooks.state();
    let mut wanted = Vec::new();
    for (index, hook) in state.validating.iter().enumerate() {
        if let Some(matched) = hook.wants(subject, object, old).await? {
            wanted.push((index, hook, matched));
        }
    }
    let mut calls = Vec::with_capacity(wanted.len());
    for (_, hook, matched) in &wanted {
        calls.push(call::call(core, hook, subject, matched, object, old));
    }
    let answers = futures::future::join_all(calls).await;
    for ((index, hook, _), told) in wanted.iter().zip(answers) {
        call::settle(hook, subject, told, (0, *index))?;
    }
    Ok(())
}

/// Shows mutating webhooks, once each, what is no write of an object. They may change what is posted.
///
/// # Errors
/// As [`validate`].
pub(super) async fn change(core: &Core, subject: &Subject<'_>, object: &mut Value) -> Result<(), Status> {
    if subject.is_exempt_from_webhooks() {
        return Ok(());
    }
    for (index, hook) in core.webhooks.state().mutating.iter().enumerate() {
        let Some(matched) = hook.wants(subject, object, None).await? else { continue };
        let told = call::call(core, hook, subject, &matched, object, None).await;
        let patched = match call::settle(hook, subject, told, (0, index))? {
            Outcome::Passed => false,
            Outcome::Patch(operations) => apply(hook, subject, &matched, object, operations).await?,
        };
        mutated(hook, subject, (0, index), patched);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_compile() {
        let check = |expression: &str, want: &str| {
            let hook = object!({"matchConditions": [{"name": "a", "expression": expression}]});
            let configuration = object!({"webhooks": [(hook)]});
            let found: Vec<String> = faults(&configuration, None).iter().map(ToString::to_string).collect();
            match want {
                "" => assert_eq!(found, [""; 0]),
                want => assert!(found.iter().any(|f| f.contains(want)), "{found:?}"),
            }
            assert!(faults(&configuration, Some(&configuration)).is_empty(), "what was there may stay");
        };
        check("request.operation == 'CREATE' && object.metadata.name != 'a'", "");
        check("!(request.resource.group == 'a' && request.dryRun)", "");
        check("authorizer.group('').resource('pods').check('get').allowed()", "");
        check(
            "... [] bad expression",
            "webhooks[0].matchConditions[0].expression: Invalid value: \"... [] bad",
        );
        check("... [] bad expression", "compilation failed");
        check("request.nothing == 1", "compilation failed");
        check("params == null", "undeclared reference to 'params'");
        check("'a'", "must evaluate to bool but got string");
    }
}
