//! Match conditions: expressions (CEL) that must hold for a request to be shown to a webhook.

use std::sync::{Arc, OnceLock};

use xebec_api::{Cause, FieldPath, Value};
use xebec_cel::authz::{AccessRequest, AccessTarget, Authority, Authorizer, Decision};
use xebec_cel::schema::{Field, ObjectSchema, SchemaKind};
use xebec_cel::{
    Budget, CompileError, Env, EvalError, Opaque, Program, Schema, Type, Value as CelValue, limits,
};

use super::review;
use super::subject::Subject;
use crate::auth::User;
use crate::authz::Question;
use crate::registry::table::Served;

/// The conditions of one webhook.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    /// Each one's program, or why it is none.
    programs: Vec<Result<Program, String>>,
}

/// What is wrong with the conditions of a configuration's webhooks. Those that were there before may stay as they are.
pub(crate) fn faults(configuration: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let expressions = |configuration: &Value| {
        let hooks = configuration.array_at(&["webhooks"]).iter();
        let all = hooks.flat_map(|hook| hook.array_at(&["matchConditions"]).iter());
        all.filter_map(|c| c.str_at(&["expression"]).map(str::to_owned)).collect::<Vec<_>>()
    };
    let known = old.map(expressions).unwrap_or_default();
    for (at, hook) in configuration.array_at(&["webhooks"]).iter().enumerate() {
        for (n, condition) in hook.array_at(&["matchConditions"]).iter().enumerate() {
            let text = condition.str_at(&["expression"]).unwrap_or_default();
            // An empty one is refused as such.
            if text.trim().is_empty() || known.iter().any(|known| known == text) {
                continue;
            }
            if let Err(why) = compile(text) {
                let path = FieldPath::new("webhooks")
                    .index(at)
                    .field("matchConditions")
                    .index(n)
                    .field("expression");
                causes.push(Cause::invalid(path, text, &why));
            }
        }
    }
    causes
}

fn compile(text: &str) -> Result<Program, String> {
    let program = environment().compile(text).map_err(|error| match error {
        CompileError::Issues(issues) => format!("compilation failed: {issues}"),
        CompileError::Program(why) => format!("program instantiation failed: {why}"),
    })?;
    let is_bool = *program.result_type() == Type::Bool;
    if is_bool { Ok(program) } else { Err("must evaluate to bool".into()) }
}

/// `object`, `oldObject`, `request` and `authorizer`, in this order.
fn environment() -> &'static Env {
    static ENVIRONMENT: OnceLock<Env> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| {
        Env::new()
            .variable("object", Type::Dyn)
            .variable("oldObject", Type::Dyn)
            .variable_of("request", request_schema())
            .variable("authorizer", Type::object("kubernetes.authorization.Authorizer"))
    })
}

/// The fields of an admission request; its objects are variables of their own.
fn request_schema() -> &'static Arc<Schema> {
    static SCHEMA: OnceLock<Arc<Schema>> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let text = || Schema::new(SchemaKind::String);
        let object = |name: &str, fields: Vec<(&str, Schema)>| {
            let fields = fields.into_iter().map(|(name, schema)| Field {
                name: name.into(),
                property: name.into(),
                schema,
                declared: true,
            });
            Schema::object(ObjectSchema::new(name, fields.collect()))
        };
        let kind = || {
            let fields = vec![("group", text()), ("version", text()), ("kind", text())];
            object("kubernetes.GroupVersionKind", fields)
        };
        let resource = || {
            let fields = vec![("group", text()), ("version", text()), ("resource", text())];
            object("kubernetes.GroupVersionResource", fields)
        };
        let user = vec![
            ("username", text()),
            ("uid", text()),
            ("groups", Schema::list(text())),
            ("extra", Schema::map(Schema::list(text()))),
        ];
        let request = vec![
            ("kind", kind()),
            ("resource", resource()),
            ("subResource", text()),
            ("requestKind", kind()),
            ("requestResource", resource()),
            ("requestSubResource", text()),
            ("name", text()),
            ("namespace", text()),
            ("operation", text()),
            ("userInfo", object("kubernetes.UserInfo", user)),
            ("dryRun", Schema::new(SchemaKind::Bool)),
            ("options", Schema::new(SchemaKind::Any)),
        ];
        Arc::new(object("kubernetes.AdmissionRequest", request))
    })
}

impl Conditions {
    pub(super) fn read(hook: &Value) -> Self {
        let conditions = hook.array_at(&["matchConditions"]).iter();
        let text = |condition: &Value| condition.str_at(&["expression"]).unwrap_or_default().to_owned();
        Self { programs: conditions.map(|condition| compile(&text(condition))).collect() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.programs.is_empty()
    }

    /// Whether all hold: one that does not decides, whatever fails besides. The objects are as the webhook would see them.
    ///
    /// # Errors
    /// What fails.
    pub(super) fn hold(
        &self,
        subject: &Subject<'_>,
        matched: &Served,
        shown: &Value,
        old: &Value,
    ) -> Result<bool, String> {
        let request = review::request(subject, matched, shown);
        let asks = Asks { subject };
        let authority = Authority { authorizer: &asks, service_account: None };
        let inputs = || -> Result<[CelValue<'_>; 4], EvalError> {
            Ok([
                CelValue::of_tree(shown, None)?,
                CelValue::of_tree(old, None)?,
                CelValue::of_tree(&request, Some(request_schema()))?,
                CelValue::Opaque(Opaque::Authorizer(authority.clone())),
            ])
        };
        let inputs = match inputs() {
            Ok(inputs) => inputs,
            Err(error) => return Err(error.to_string()),
        };
        let mut budget = Budget::new(limits::MATCH_CONDITIONS);
        let mut errors = Vec::new();
        for program in &self.programs {
            let program = match program {
                Ok(program) => program,
                Err(why) => {
                    errors.push(why.clone());
                    continue;
                }
            };
            match program.evaluate(&inputs, &mut budget).map(|value| value.as_bool()) {
                Ok(Some(true)) => {}
                Ok(Some(false)) => return Ok(false),
                Ok(None) => errors.push("must evaluate to bool".into()),
                Err(error) => errors.push(error.to_string()),
            }
        }
        if errors.is_empty() { Ok(true) } else { Err(errors.join(", ")) }
    }
}

/// Answers what expressions ask of authorization.
struct Asks<'a> {
    subject: &'a Subject<'a>,
}

impl Authorizer for Asks<'_> {
    fn authorize(&self, request: &AccessRequest<'_>) -> Decision {
        let account = request.service_account.map(|(namespace, name)| {
            let groups = ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
            User::authenticated(format!("system:serviceaccount:{namespace}:{name}"), groups)
        });
        let user = account.as_ref().unwrap_or(&self.subject.context.user);
        let question = match &request.target {
            AccessTarget::Path(path) => Question { verb: request.verb, path, ..Question::default() },
            AccessTarget::Resource(resource) => Question {
                verb: request.verb,
                group: &resource.group,
                version: "*",
                resource: &resource.resource,
                subresource: &resource.subresource,
                namespace: &resource.namespace,
                name: &resource.name,
                ..Question::default()
            },
        };
        let decision = self.subject.core.authorizer.decide_here(user, &question);
        Decision { allowed: decision.is_allowed(), reason: decision.reason.to_string(), error: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xebec_api::object;

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
        check("oldObject == null || request.userInfo.groups.exists(g, g == 'x')", "");
        check("!(request.resource.group == 'a' && request.dryRun)", "");
        check("authorizer.group('').resource('pods').check('get').allowed()", "");
        check(
            "... [] bad expression",
            "webhooks[0].matchConditions[0].expression: Invalid value: \"... [] bad",
        );
        check("... [] bad expression", "compilation failed");
        check("request.nothing == 1", "compilation failed");
        check("'a'", "must evaluate to bool");
    }
}
