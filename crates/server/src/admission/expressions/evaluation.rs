//! Expressions are evaluated on a request.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::sync::{Arc, OnceLock};

use xebec_api::{Status, Value};
use xebec_cel::authz::{
    AccessRequest, AccessTarget, Authority, Authorizer, Decision, Resource, ResourceCheck,
};
use xebec_cel::{Activation, Budget, EvalError, Opaque, Value as CelValue, limits};

use super::Expression;
use super::environment::{Input, namespace_schema, request_schema};
use crate::admission::subject::Subject;
use crate::auth::User;
use crate::authz::Question;
use crate::registry::table::Served;

/// A request, with its objects in one version.
pub(in crate::admission) struct Seen<'a> {
    subject: &'a Subject<'a>,
    matched: Served,
    object: Cow<'a, Value>,
    old: Cow<'a, Value>,
    request: OnceLock<Value>,
}

impl<'a> Seen<'a> {
    /// Of a request that is shown in the version `matched`.
    ///
    /// # Errors
    /// The server cannot show it so.
    pub(in crate::admission) async fn new(
        subject: &'a Subject<'a>,
        matched: Served,
        object: &'a Value,
        old: Option<&'a Value>,
    ) -> Result<Self, Status> {
        let shown = subject.see(object, &matched).await?;
        let old = match old {
            Some(old) => subject.see(old, &matched).await?,
            None => Cow::Owned(Value::Null),
        };
        Ok(Self { subject, matched, object: shown, old, request: OnceLock::new() })
    }

    fn request(&self) -> &Value {
        self.request.get_or_init(|| self.subject.request(&self.matched, &self.object))
    }
}

/// A variable of a policy.
#[derive(Debug)]
pub(in crate::admission) struct Variable {
    pub(in crate::admission) name: String,
    pub(in crate::admission) expression: Expression,
}

/// Why an expression gives nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::admission) enum Failure {
    /// It has no value for this request.
    Expression(String),
    /// The expressions together cost more than they may; no further one is evaluated.
    Budget,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Expression(why) => f.write_str(why),
            Self::Budget => f.write_str(
                "validation failed due to running out of cost budget, no further validation rules will be run",
            ),
        }
    }
}

/// What expressions are evaluated on, and what their variables gave.
pub(in crate::admission) struct Evaluation<'a> {
    seen: &'a Seen<'a>,
    authority: Authority<'a>,
    /// `null` if there is none.
    params: Option<&'a Value>,
    /// `null` for what is in none.
    namespace: Option<&'a Value>,
    variables: &'a [Variable],
    known: RefCell<Vec<Option<Result<CelValue<'a>, EvalError>>>>,
    /// What variables have cost since an expression was last paid for.
    spent: Cell<u64>,
}

impl<'a> Evaluation<'a> {
    pub(in crate::admission) fn new(seen: &'a Seen<'a>, asks: &'a Asks<'a>) -> Self {
        Self {
            seen,
            authority: Authority { authorizer: asks, service_account: None },
            params: None,
            namespace: None,
            variables: &[],
            known: RefCell::default(),
            spent: Cell::new(0),
        }
    }

    /// With what expressions of policies see besides.
    pub(in crate::admission) fn with(
        self,
        params: Option<&'a Value>,
        namespace: Option<&'a Value>,
        variables: &'a [Variable],
    ) -> Self {
        Self { params, namespace, variables, known: RefCell::new(vec![None; variables.len()]), ..self }
    }

    /// The value of an expression, which is paid for out of the budget, with the variables that it was the first to ask for.
    pub(in crate::admission) fn evaluate(
        &self,
        expression: &'a Expression,
        budget: &mut Budget,
    ) -> Result<CelValue<'a>, Failure> {
        let program = match &expression.program {
            Ok(program) => program,
            Err(why) => return Err(Failure::Expression(format!("compilation error: {why}"))),
        };
        let scope = Scope { evaluation: self, inputs: &expression.inputs };
        let (value, cost) = program.evaluate_within(&scope, limits::PER_CALL);
        let cost = cost.saturating_add(self.spent.take());
        let rest = budget.remaining().checked_sub(cost).ok_or(Failure::Budget)?;
        *budget = Budget::new(rest);
        value.map_err(|error| {
            Failure::Expression(format!("expression '{}' resulted in error: {error}", expression.text))
        })
    }

    fn spend(&self, cost: u64) {
        self.spent.set(self.spent.get().saturating_add(cost));
    }

    fn variable(&self, index: usize) -> Result<CelValue<'a>, EvalError> {
        // What the selection from all variables costs besides.
        self.spend(1);
        let known = self.known.borrow()[index].clone();
        if let Some(known) = known {
            return known;
        }
        let found = self.find(&self.variables[index]);
        self.known.borrow_mut()[index] = Some(found.clone());
        found
    }

    fn find(&self, variable: &'a Variable) -> Result<CelValue<'a>, EvalError> {
        let Variable { name, expression } = variable;
        let failed = |what: &str, why: &dyn std::fmt::Display| {
            EvalError::Failed(format!("composited variable {name:?} fails to {what}: {why}").into())
        };
        let program = expression.program.as_ref().map_err(|why| failed("compile", why))?;
        let scope = Scope { evaluation: self, inputs: &expression.inputs };
        let (value, cost) = program.evaluate_within(&scope, limits::PER_CALL);
        self.spend(cost);
        value.map_err(|error| failed("evaluate", &error))
    }

    /// The object of all variables, which only `has` and optional selections ask for.
    fn variables(&self) -> Result<CelValue<'a>, EvalError> {
        let mut members = std::collections::BTreeMap::new();
        for (index, variable) in self.variables.iter().enumerate() {
            let key = xebec_cel::value::Key::String(xebec_cel::value::Str::Borrowed(&variable.name));
            members.insert(key, self.variable(index)?);
        }
        Ok(CelValue::Map(xebec_cel::value::Map::Made(Arc::new(members))))
    }

    fn request_resource(&self) -> CelValue<'a> {
        let subject = self.seen.subject;
        let resource = Resource {
            group: subject.served.row.group().to_owned(),
            resource: subject.served.row.resource().to_owned(),
            subresource: subject.subresource.to_owned(),
            namespace: subject.namespace.to_owned(),
            name: subject.name.clone(),
            ..Resource::default()
        };
        let check = ResourceCheck { authority: self.authority.clone(), resource };
        CelValue::Opaque(Opaque::ResourceCheck(Arc::new(check)))
    }
}

/// The variables of one expression.
struct Scope<'e, 'a> {
    evaluation: &'e Evaluation<'a>,
    inputs: &'e [Input],
}

impl<'a> Activation<'a> for Scope<'_, 'a> {
    fn variable(&self, index: usize) -> Option<Result<CelValue<'a>, EvalError>> {
        let evaluation = self.evaluation;
        let seen = evaluation.seen;
        let input = self.inputs.get(index)?;
        Some(match *input {
            Input::Object => CelValue::of_tree(&*seen.object, None),
            Input::OldObject => CelValue::of_tree(&*seen.old, None),
            Input::Namespace => match evaluation.namespace {
                Some(namespace) => CelValue::of_tree(namespace, Some(namespace_schema())),
                None => Ok(CelValue::Null),
            },
            Input::Request => CelValue::of_tree(seen.request(), Some(request_schema())),
            Input::Params => evaluation.params.map_or(Ok(CelValue::Null), |p| CelValue::of_tree(p, None)),
            Input::Authorizer => Ok(CelValue::Opaque(Opaque::Authorizer(evaluation.authority.clone()))),
            Input::RequestResource => Ok(evaluation.request_resource()),
            Input::Variables => evaluation.variables(),
            Input::Variable(index) => evaluation.variable(index),
        })
    }
}

/// Answers what expressions ask of authorization.
pub(in crate::admission) struct Asks<'a> {
    pub(in crate::admission) subject: &'a Subject<'a>,
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
