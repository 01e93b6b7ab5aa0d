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
mod conditions;
#[cfg(fuzzing)]
pub mod fuzzing;
mod hook;
mod review;
mod subject;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio_util::sync::CancellationToken;
use xebec_api::structural::{self, Strictness};
use xebec_api::{Status, Value, patch};
use xebec_store::{Key, Prefix, Revision, Scope, Snapshot, StoreError, WatchError};

use self::call::Outcome;
pub(crate) use self::conditions::faults as condition_faults;
use self::hook::{Hook, Kind};
pub(crate) use self::subject::Subject;
use super::Attributes;
use crate::core::{Context, Core};
use crate::http::route::Target;
use crate::registry::convert;
use crate::registry::table::Served;

const ROOT: &str = "/registry/admissionregistration.k8s.io/";

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

fn prefix(resource: &str) -> Prefix {
    let path = if resource.is_empty() { ROOT.to_owned() } else { format!("{ROOT}{resource}/") };
    Prefix::new(path).expect("a short path without odd characters is a prefix")
}

/// How long it takes until a watch that failed begins anew.
const PAUSE: std::time::Duration = std::time::Duration::from_secs(1);

/// Takes configurations that others write, until `shutdown`.
pub(crate) async fn follow(core: Arc<Core>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            ended = keep_up(&core) => match ended {
                // There is nothing to follow any more.
                Ok(()) => return shutdown.cancelled().await,
                Err(error) => tracing::warn!(%error, "webhook configurations cannot be followed: all are read anew"),
            },
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

async fn keep_up(core: &Core) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let since = core.store.snapshot().revision();
    let mut watch = match core.store.watch(Scope::Prefix(prefix("")), since) {
        Err(StoreError::Closed) => return Ok(()),
        opened => opened?,
    };
    core.webhooks.refresh(core);
    loop {
        match watch.next().await {
            Ok(_) => core.webhooks.refresh(core),
            Err(WatchError::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
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
    /// Calls the webhooks that match; the object is in the version that writes work in. Whether there is to be another round, once what comes
    /// before webhooks has been done again.
    ///
    /// # Errors
    /// A webhook denies the write, or fails and may not.
    pub(crate) async fn run(
        &mut self,
        core: &Core,
        attributes: &Attributes<'_>,
        object: &mut Value,
        old: Option<&Value>,
    ) -> Result<bool, Status> {
        let second = self.left.is_some();
        let state = self.hooks.get_or_insert_with(|| core.webhooks.state()).clone();
        if state.mutating.is_empty() || attributes.is_internal() {
            return Ok(false);
        }
        let subject = Subject::of_write(core, attributes, object)?;
        if subject.is_exempt() {
            return Ok(false);
        }
        if self.left.as_ref().is_some_and(|left| *left != *object) {
            self.again.extend(self.called.drain());
        }
        let mut changed = false;
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
            subject.mutated(hook, (usize::from(second), index), patched);
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
    let row = &matched.row;
    if subject.shown.is_whole() {
        let strictness = if row.custom { Strictness::Custom } else { Strictness::BuiltIn };
        let decoded = structural::decode(&mut after, matched.version().root(), strictness);
        if !row.custom && !decoded.mistyped.is_empty() {
            let causes: Vec<String> = decoded.mistyped.iter().map(ToString::to_string).collect();
            return Err(Status::internal(format_args!(
                "admission webhook {:?} made an object that cannot be decoded: {}",
                hook.name,
                causes.join(", ")
            )));
        }
        (row.kind.defaults)(&mut after, &matched.version().name);
        structural::default(&mut after, matched.version().root());
    }
    if after == before {
        return Ok(false);
    }
    subject.take(object, after, matched).await?;
    Ok(true)
}

/// Asks the validating webhooks that match; of a deletion the object is `null`.
///
/// # Errors
/// A webhook denies the write, or fails and may not.
pub(crate) async fn validate(
    core: &Core,
    attributes: &Attributes<'_>,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    let state = core.webhooks.state();
    if state.validating.is_empty() || attributes.is_internal() {
        return Ok(());
    }
    let subject = Subject::of_write(core, attributes, object)?;
    ask_all(core, &state, &subject, object, old).await
}

async fn ask_all(
    core: &Core,
    state: &State,
    subject: &Subject<'_>,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    if subject.is_exempt() {
        return Ok(());
    }
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

/// Shows webhooks what is no write of an object: a connection, or what is posted to a subresource. Mutating ones may change
/// what is posted.
///
/// # Errors
/// As [`validate`].
pub(crate) async fn admit(core: &Core, subject: &Subject<'_>, object: &mut Value) -> Result<(), Status> {
    let state = core.webhooks.state();
    if subject.is_exempt() {
        return Ok(());
    }
    for (index, hook) in state.mutating.iter().enumerate() {
        let Some(matched) = hook.wants(subject, object, None).await? else { continue };
        let told = call::call(core, hook, subject, &matched, object, None).await;
        let patched = match call::settle(hook, subject, told, (0, index))? {
            Outcome::Passed => false,
            Outcome::Patch(operations) => apply(hook, subject, &matched, object, operations).await?,
        };
        subject.mutated(hook, (0, index), patched);
    }
    ask_all(core, &state, subject, object, None).await
}

/// Shows webhooks what is posted to a subresource, such as a binding.
///
/// # Errors
/// As [`validate`].
pub(crate) async fn posted(
    core: &Core,
    context: &Context,
    served: &Served,
    target: &Target,
    object: &mut Value,
) -> Result<(), Status> {
    let subject = Subject::below(core, context, served, target, "CREATE")?;
    admit(core, &subject, object).await
}
