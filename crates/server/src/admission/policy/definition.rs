//! Policies and bindings as they are read: compiled, and what is wrong with their expressions.

use xebec_api::{Cause, FieldPath, Status, Value, meta};
use xebec_cel::Type;

use crate::admission::expressions::{Conditions, Environment, Expression, Sees, Variable, condition_faults};
use crate::admission::matching::Matcher;
use crate::admission::subject::Subject;
use crate::registry::table::{Row, Served, Table};

/// How many variables, validations, mutations or audit annotations a policy has at most, of each.
const MAX_EXPRESSIONS: usize = 1_000;

/// What policies do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// They refuse.
    Validating,
    /// They change what is written.
    Mutating,
}

impl Kind {
    /// Whether policies have a status.
    pub(crate) const fn has_status(self) -> bool {
        matches!(self, Self::Validating)
    }

    pub(crate) const fn policies(self) -> &'static str {
        match self {
            Self::Validating => "validatingadmissionpolicies",
            Self::Mutating => "mutatingadmissionpolicies",
        }
    }

    pub(crate) const fn bindings(self) -> &'static str {
        match self {
            Self::Validating => "validatingadmissionpolicybindings",
            Self::Mutating => "mutatingadmissionpolicybindings",
        }
    }
}

/// A policy.
#[derive(Debug)]
pub(super) struct Policy {
    pub(super) name: String,
    /// Whether a request goes on when the policy fails.
    pub(super) ignores_failure: bool,
    pub(super) params: Option<ParamKind>,
    pub(super) matcher: Matcher,
    pub(super) conditions: Conditions,
    pub(super) variables: Vec<Variable>,
    pub(super) validations: Vec<Validation>,
    pub(super) annotations: Vec<Annotation>,
    pub(super) changes: Vec<Change>,
    /// Whether it is asked again when the object may have changed after it.
    pub(super) is_reinvocable: bool,
    /// Whether an expression looks at the namespace.
    pub(super) uses_namespace: bool,
}

/// What must be true.
#[derive(Debug)]
pub(super) struct Validation {
    pub(super) expression: Expression,
    pub(super) message: String,
    pub(super) message_expression: Option<Expression>,
    /// The reason of a refusal.
    pub(super) reason: String,
}

/// What is recorded of a request in the audit log.
#[derive(Debug)]
pub(super) struct Annotation {
    pub(super) key: String,
    pub(super) expression: Expression,
}

/// What is to be changed.
#[derive(Debug)]
pub(super) enum Change {
    /// A configuration is laid over the object, as by server-side apply.
    Apply(Expression),
    /// A JSON patch is applied.
    Patch(Expression),
}

/// The kind of the objects that a policy's bindings give it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ParamKind {
    group: String,
    version: String,
    kind: String,
}

impl ParamKind {
    pub(super) fn of_policy(spec: &Value) -> Option<Self> {
        spec.get("paramKind").filter(|kind| !kind.is_null()).map(Self::read)
    }

    fn read(kind: &Value) -> Self {
        let api_version = kind.str_at(&["apiVersion"]).unwrap_or_default();
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let kind = kind.str_at(&["kind"]).unwrap_or_default();
        Self { group: group.into(), version: version.into(), kind: kind.into() }
    }

    /// The resource of the kind, in its version.
    pub(super) fn resolve(&self, table: &Table) -> Option<Served> {
        let is_it = |row: &&std::sync::Arc<Row>| row.group() == self.group && row.kind_name() == self.kind;
        let row = table.rows().find(is_it)?;
        let version = row.def.versions.iter().position(|v| v.name == self.version && v.served)?;
        Some(Served { row: row.clone(), version })
    }
}

impl std::fmt::Display for ParamKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}, Kind={}", self.group, self.version, self.kind)
    }
}

/// The plural name of the resource of a `paramKind`, if there is one.
pub(crate) fn param_resource(kind: &Value, table: &Table) -> Option<String> {
    ParamKind::read(kind).resolve(table).map(|served| served.row.resource().to_owned())
}

/// What puts a policy in force.
#[derive(Debug)]
pub(super) struct Binding {
    pub(super) name: String,
    /// The name of the policy.
    pub(super) policy: String,
    /// `None`: it is about everything that the policy is about.
    matcher: Option<Matcher>,
    /// Which objects the policy is given; `null` for none.
    pub(super) params: Value,
    /// What becomes of a request that fails.
    pub(super) actions: Vec<String>,
}

impl Binding {
    pub(super) fn read(binding: &Value) -> Self {
        let spec = binding.get("spec").unwrap_or(&Value::Null);
        let actions = spec.array_at(&["validationActions"]).iter();
        Self {
            name: meta::name(binding).to_owned(),
            policy: spec.str_at(&["policyName"]).unwrap_or_default().to_owned(),
            matcher: spec.get("matchResources").filter(|r| !r.is_null()).map(Matcher::of_binding),
            params: spec.get("paramRef").cloned().unwrap_or_default(),
            actions: actions.filter_map(Value::as_str).map(str::to_owned).collect(),
        }
    }

    pub(super) fn matches(
        &self,
        subject: &Subject<'_>,
        object: &Value,
        old: Option<&Value>,
    ) -> Result<bool, Status> {
        match &self.matcher {
            None => Ok(true),
            Some(matcher) => Ok(matcher.matches(subject, object, old)?.is_some()),
        }
    }
}

/// Compiles the expressions of one policy.
struct Compiler {
    /// What expressions see.
    environment: Environment,
    /// What messages see, the same without `authorizer`; or mutations, the same with what they are made of.
    other: Environment,
    variables: Vec<Variable>,
}

impl Compiler {
    fn new(spec: &Value, kind: Kind) -> Self {
        let params = spec.get("paramKind").is_some_and(|kind| !kind.is_null());
        let environment = |authorizer, patches| {
            let environment = Environment::new(Sees { params, authorizer, patches });
            match spec.array_at(&["variables"]) {
                [] if kind == Kind::Validating => environment,
                _ => environment.with_variables(),
            }
        };
        let mutates = kind == Kind::Mutating;
        let mut compiler = Self {
            environment: environment(true, false),
            other: environment(mutates, mutates),
            variables: Vec::new(),
        };
        for variable in items(spec, "variables") {
            let name = text(variable, "name");
            let expression = compiler.environment.compile(text(variable, "expression"), &[]);
            compiler.environment.add_variable(name, &expression);
            compiler.other.add_variable(name, &expression);
            compiler.variables.push(Variable { name: name.to_owned(), expression });
        }
        compiler
    }

    fn validation(&self, validation: &Value) -> Validation {
        let message = text(validation, "messageExpression");
        let reason = text(validation, "reason");
        Validation {
            expression: self.environment.compile(text(validation, "expression"), &[Type::Bool]),
            message: text(validation, "message").trim().to_owned(),
            message_expression: (!message.is_empty()).then(|| self.other.compile(message, &[Type::String])),
            reason: if reason.is_empty() { "Invalid" } else { reason }.to_owned(),
        }
    }

    /// The change that a mutation makes; none, if it does not say how.
    fn change(&self, mutation: &Value) -> Option<Change> {
        let expression = |field: &str| mutation.str_at(&[field, "expression"]).unwrap_or_default().trim();
        let operations = Type::list(Type::object("JSONPatch"));
        match text(mutation, "patchType") {
            "ApplyConfiguration" => {
                let made = self.other.compile(expression("applyConfiguration"), &[Type::object("Object")]);
                Some(Change::Apply(made))
            }
            "JSONPatch" => Some(Change::Patch(self.other.compile(expression("jsonPatch"), &[operations]))),
            _ => None,
        }
    }

    fn annotation(&self, annotation: &Value) -> Annotation {
        let expression = text(annotation, "valueExpression").trim();
        Annotation {
            key: text(annotation, "key").to_owned(),
            expression: self.environment.compile(expression, &[Type::String, Type::Null]),
        }
    }
}

/// What match conditions see: no variables.
fn condition_environment(spec: &Value) -> Environment {
    let params = spec.get("paramKind").is_some_and(|kind| !kind.is_null());
    Environment::new(Sees { params, authorizer: true, patches: false })
}

fn text<'v>(owner: &'v Value, field: &str) -> &'v str {
    owner.str_at(&[field]).unwrap_or_default()
}

/// The items of a list, as many as there may be.
fn items<'v>(spec: &'v Value, field: &str) -> impl Iterator<Item = &'v Value> {
    spec.array_at(&[field]).iter().take(MAX_EXPRESSIONS)
}

impl Change {
    const fn expression(&self) -> &Expression {
        let (Self::Apply(expression) | Self::Patch(expression)) = self;
        expression
    }

    /// Where the expression stands in a mutation.
    const fn field(&self) -> &'static str {
        match self {
            Self::Apply(_) => "applyConfiguration",
            Self::Patch(_) => "jsonPatch",
        }
    }
}

impl Policy {
    pub(super) fn read(policy: &Value, kind: Kind) -> Self {
        let spec = policy.get("spec").unwrap_or(&Value::Null);
        let compiler = Compiler::new(spec, kind);
        let validations: Vec<_> = items(spec, "validations").map(|v| compiler.validation(v)).collect();
        let annotations: Vec<_> = items(spec, "auditAnnotations").map(|a| compiler.annotation(a)).collect();
        let changes: Vec<_> = items(spec, "mutations").filter_map(|m| compiler.change(m)).collect();
        let variables = compiler.variables;
        let messages = validations.iter().filter_map(|validation| validation.message_expression.as_ref());
        let uses_namespace = variables
            .iter()
            .map(|variable| &variable.expression)
            .chain(validations.iter().map(|validation| &validation.expression))
            .chain(messages)
            .chain(annotations.iter().map(|annotation| &annotation.expression))
            .chain(changes.iter().map(Change::expression))
            .any(|expression| expression.uses("namespaceObject"));
        Self {
            name: meta::name(policy).to_owned(),
            ignores_failure: spec.str_at(&["failurePolicy"]) == Some("Ignore"),
            params: ParamKind::of_policy(spec),
            matcher: Matcher::of_policy(spec.get("matchConstraints").unwrap_or(&Value::Null)),
            conditions: Conditions::read(spec, &condition_environment(spec)),
            variables,
            validations,
            annotations,
            changes,
            is_reinvocable: spec.str_at(&["reinvocationPolicy"]) == Some("IfNeeded"),
            uses_namespace,
        }
    }
}

/// What is wrong with the expressions of a policy. Match conditions that an update leaves as they were may stay so.
pub(crate) fn faults(policy: &Value, old: Option<&Value>, kind: Kind) -> Vec<Cause> {
    let Some(spec) = policy.get("spec") else { return Vec::new() };
    let mut causes = Vec::new();
    for list in ["variables", "validations", "mutations"] {
        let count = spec.array_at(&[list]).len();
        if count > MAX_EXPRESSIONS {
            causes.push(Cause::too_many(FieldPath::new("spec").field(list), count, MAX_EXPRESSIONS));
        }
    }
    let stays = |field: &str| old.is_some_and(|old| old.at(&["spec", field]) == spec.get(field));
    if !(stays("paramKind") && stays("matchConditions")) {
        let path = FieldPath::new("spec");
        causes.extend(condition_faults(spec, &path, &condition_environment(spec), &|_| false));
    }
    let compiler = Compiler::new(spec, kind);
    // Empty ones are refused as such.
    let report = |causes: &mut Vec<Cause>, expression: &Expression, list: &str, at: usize, field: &str| {
        if !expression.text.trim().is_empty() {
            causes.extend(expression.fault(FieldPath::new("spec").field(list).index(at).field(field)));
        }
    };
    for (at, variable) in compiler.variables.iter().enumerate() {
        report(&mut causes, &variable.expression, "variables", at, "expression");
    }
    for (at, validation) in items(spec, "validations").enumerate() {
        let validation = compiler.validation(validation);
        report(&mut causes, &validation.expression, "validations", at, "expression");
        if let Some(message) = &validation.message_expression {
            report(&mut causes, message, "validations", at, "messageExpression");
        }
    }
    for (at, annotation) in items(spec, "auditAnnotations").enumerate() {
        let annotation = compiler.annotation(annotation);
        report(&mut causes, &annotation.expression, "auditAnnotations", at, "valueExpression");
    }
    for (at, mutation) in items(spec, "mutations").enumerate() {
        let Some(change) = compiler.change(mutation) else { continue };
        let field = format!("{}.expression", change.field());
        report(&mut causes, change.expression(), "mutations", at, &field);
    }
    causes
}

#[cfg(test)]
mod tests {
    use super::*;
    use xebec_api::object;

    fn told(spec: Value) -> Vec<String> {
        let policy = object!({"metadata": {"name": "p"}, "spec": (spec)});
        faults(&policy, None, Kind::Validating).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn expressions_of_policies_compile() {
        let check = |spec: Value, want: &[&str]| {
            let found = told(spec);
            assert_eq!(found.len(), want.len(), "{found:?}");
            for (found, want) in found.iter().zip(want) {
                assert!(found.contains(want), "{found}");
            }
        };
        check(
            object!({
                "variables": [{"name": "a", "expression": "object.spec.replicas"},
                    {"name": "b", "expression": "variables.a % 2 == 1"}],
                "validations": [{"expression": "variables.b", "messageExpression": "'wants ' + variables.a"}],
                "auditAnnotations": [{"key": "k", "valueExpression": "variables.b ? 'x' : null"}]
            }),
            &["spec.auditAnnotations[0].valueExpression: Invalid value"],
        );
        check(
            object!({
                "variables": [{"name": "b", "expression": "variables.a"}, {"name": "a", "expression": "1"}],
                "validations": [{"expression": "variables.a"}, {"expression": ""},
                    {"expression": "params.x == 1"}, {"expression": "true", "messageExpression": "1"}],
                "matchConditions": [{"name": "n", "expression": "variables.a"}]
            }),
            &[
                "spec.matchConditions[0].expression: Invalid value: \"variables.a\": compilation failed",
                "spec.variables[0].expression: Invalid value: \"variables.a\": compilation failed: ERROR: \
                 <input>:1:10: undefined field 'a'",
                "spec.validations[0].expression: Invalid value: \"variables.a\": must evaluate to bool but got int",
                "spec.validations[2].expression: Invalid value: \"params.x == 1\": compilation failed",
                "spec.validations[3].messageExpression: Invalid value: \"1\": must evaluate to string but got int",
            ],
        );
        let quiet = "authorizer.path('/').check('get').reason()";
        check(
            object!({"validations": [{"expression": "true", "messageExpression": quiet}],
                "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
                "matchConditions": [{"name": "n", "expression": "params == null"}]}),
            &["spec.validations[0].messageExpression"],
        );
        let many: Vec<Value> = (0..=MAX_EXPRESSIONS).map(|_| object!({"expression": "true"})).collect();
        check(
            object!({"validations": many}),
            &["spec.validations: Too many: 1001: must have at most 1000 items"],
        );
    }

    #[test]
    fn expressions_of_mutations_compile() {
        let check = |mutation: Value, want: &str| {
            let spec = object!({"variables": [{"name": "a", "expression": "1"}], "mutations": [(mutation)]});
            let policy = object!({"metadata": {"name": "p"}, "spec": (spec)});
            let found: Vec<String> =
                faults(&policy, None, Kind::Mutating).iter().map(ToString::to_string).collect();
            match want {
                "" => assert_eq!(found, [""; 0]),
                want => assert!(found.len() == 1 && found[0].contains(want), "{found:?}"),
            }
        };
        let apply = |text: &str| object!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": text}});
        let patch = |text: &str| object!({"patchType": "JSONPatch", "jsonPatch": {"expression": text}});
        check(apply("Object{spec: Object.spec{replicas: variables.a}}"), "");
        check(
            patch("[JSONPatch{op: 'add', path: '/a/' + jsonpatch.escapeKey('b/c'), value: variables.a}]"),
            "",
        );
        check(patch("object.x == 1 ? [JSONPatch{op: 'remove', path: '/a'}] : []"), "");
        check(
            apply("Object.spec{replicas: 1}"),
            "spec.mutations[0].applyConfiguration.expression: Invalid value: \"Object.spec{replicas: 1}\": must evaluate \
             to Object but got Object.spec",
        );
        check(
            patch("['a']"),
            "spec.mutations[0].jsonPatch.expression: Invalid value: \"['a']\": must evaluate to list(JSONPatch) but got \
             list(string)",
        );
        check(apply("Object{spec: variables.b}"), "undefined field 'b'");
    }

    #[test]
    fn conditions_may_stay() {
        let policy = object!({"spec": {"matchConditions": [{"name": "n", "expression": "nothing"}]}});
        assert_eq!(faults(&policy, None, Kind::Validating).len(), 1);
        assert_eq!(faults(&policy, Some(&policy), Kind::Validating), []);
    }
}
