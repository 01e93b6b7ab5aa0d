//! Admission policies and their bindings: their expressions must compile, nobody uses objects as parameters that they may
//! not read, types are checked, and they hold when their writer is answered.

use xebec_api::{Cause, Status, Value, meta, object};

use crate::admission::policy::{self, Kind};
use crate::auth::user::MASTERS;
use crate::authz::Question;
use crate::core::Core;
use crate::registry::strategy::{Guard, Strategy, Write};
use crate::registry::write::Part;
use crate::registry::{convert, read};

const GROUP: &str = "admissionregistration.k8s.io";

/// Policies of a kind.
#[derive(Debug)]
pub(super) struct Policies(pub(super) Kind);

/// Bindings of policies of a kind.
#[derive(Debug)]
pub(super) struct Bindings(pub(super) Kind);

impl Strategy for Policies {
    fn create(&self, write: &mut Write<'_>, policy: &mut Value) -> Result<(), Status> {
        self.check_types(write, policy);
        Ok(())
    }

    fn update(&self, write: &mut Write<'_>, policy: &mut Value) -> Result<(), Status> {
        let spec = |policy: &Value| policy.get("spec").cloned();
        if write.old.and_then(spec) != spec(policy) {
            self.check_types(write, policy);
        }
        Ok(())
    }

    fn guard<'a>(&'a self, write: &'a Write<'a>, policy: &'a Value, _: Part<'a>) -> Option<Guard<'a>> {
        Some(Box::pin(self.may_read(write, policy)))
    }

    fn faults(&self, policy: &Value, old: Option<&Value>) -> Vec<Cause> {
        policy::faults(policy, old, self.0)
    }

    fn committed(&self, core: &Core) {
        core.policies.refresh(core);
    }
}

impl Policies {
    /// Tells in the status what is wrong with the types of the policy's expressions.
    fn check_types(&self, write: &Write<'_>, policy: &mut Value) {
        if !self.0.has_status() {
            return;
        }
        let warnings = policy::warnings(policy, &write.core.table.get());
        let generation = policy.i64_at(&["metadata", "generation"]).unwrap_or_default();
        let mut checking = object!({});
        if !warnings.is_empty() {
            checking.set(&["expressionWarnings"], warnings);
        }
        policy.set(&["status", "observedGeneration"], generation);
        policy.set(&["status", "typeChecking"], checking);
    }

    async fn may_read(&self, write: &Write<'_>, policy: &Value) -> Result<(), Status> {
        let kind = |policy: &Value| policy.at(&["spec", "paramKind"]).filter(|kind| !kind.is_null()).cloned();
        let Some(wanted) = kind(policy) else { return Ok(()) };
        if write.old.and_then(kind).as_ref() == Some(&wanted) || write.context.user.is_in(MASTERS) {
            return Ok(());
        }
        let resource = Parameters::of(write, Some(&wanted));
        let question = Question { verb: "get", namespace: "*", name: "*", ..resource.question() };
        let user = &write.context.user;
        if write.core.authorizer.decide(user, &question).await.is_allowed() {
            return Ok(());
        }
        let text = |field: &str| wanted.str_at(&[field]).unwrap_or_default();
        let why = format!(
            "user {} must have \"get\" permission on all objects of the referenced paramKind (kind={}, apiVersion={})",
            user.name,
            text("kind"),
            text("apiVersion")
        );
        Err(Status::forbidden(GROUP, self.0.policies(), meta::name(policy), why))
    }
}

impl Strategy for Bindings {
    fn guard<'a>(&'a self, write: &'a Write<'a>, binding: &'a Value, _: Part<'a>) -> Option<Guard<'a>> {
        Some(Box::pin(self.may_read(write, binding)))
    }

    fn committed(&self, core: &Core) {
        core.policies.refresh(core);
    }
}

impl Bindings {
    async fn may_read(&self, write: &Write<'_>, binding: &Value) -> Result<(), Status> {
        let reference = |binding: &Value| {
            binding.at(&["spec", "paramRef"]).filter(|reference| !reference.is_null()).cloned()
        };
        let named = |binding: &Value| binding.str_at(&["spec", "policyName"]).unwrap_or_default().to_owned();
        let Some(wanted) = reference(binding) else { return Ok(()) };
        let same = |old: &Value| reference(old).as_ref() == Some(&wanted) && named(old) == named(binding);
        if write.old.is_some_and(same) || write.context.user.is_in(MASTERS) {
            return Ok(());
        }
        let policy = self.policy(write, &named(binding));
        let kind = policy.as_ref().and_then(|policy| policy.at(&["spec", "paramKind"]));
        let parameters = Parameters::of(write, kind.filter(|kind| !kind.is_null()));
        let text = |field: &str| wanted.str_at(&[field]).unwrap_or_default();
        let verb = if text("name").is_empty() { "list" } else { "get" };
        let question =
            Question { verb, namespace: text("namespace"), name: text("name"), ..parameters.question() };
        let user = &write.context.user;
        if write.core.authorizer.decide(user, &question).await.is_allowed() {
            return Ok(());
        }
        let all = "permission for all groups, versions and resources";
        let why = if policy.is_none() {
            format!(
                "unable to get policy {} to determine minimum required permissions and user {} does not have \
                 {verb:?} {all}",
                named(binding),
                user.name
            )
        } else if kind.is_some() && parameters.resource == "*" {
            format!(
                "unable to resolve paramKind {} to determine minimum required permissions and user {} does not have \
                 {verb:?} {all}",
                kind.and_then(|kind| kind.str_at(&["kind"])).unwrap_or_default(),
                user.name
            )
        } else {
            format!(
                "user {} does not have {verb:?} permission on the object referenced by paramRef",
                user.name
            )
        };
        Err(Status::forbidden(GROUP, self.0.bindings(), meta::name(binding), why))
    }

    fn policy(&self, write: &Write<'_>, name: &str) -> Option<Value> {
        let table = write.core.table.get();
        let row = table.row(GROUP, self.0.policies())?;
        let record = read::find(write.snapshot, row, "", name).ok()?;
        convert::stored_object(record).ok()
    }
}

/// The resource of parameters; what is not known of it is all.
struct Parameters {
    group: String,
    version: String,
    resource: String,
}

impl Parameters {
    fn of(write: &Write<'_>, kind: Option<&Value>) -> Self {
        let all = || "*".to_owned();
        let Some(kind) = kind else { return Self { group: all(), version: all(), resource: all() } };
        let api_version = kind.str_at(&["apiVersion"]).unwrap_or_default();
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let resource = policy::param_resource(kind, &write.core.table.get());
        Self { group: group.to_owned(), version: version.to_owned(), resource: resource.unwrap_or_else(all) }
    }

    fn question(&self) -> Question<'_> {
        Question {
            group: &self.group,
            version: &self.version,
            resource: &self.resource,
            ..Question::default()
        }
    }
}
