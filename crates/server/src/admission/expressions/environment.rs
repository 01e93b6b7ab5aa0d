//! What expressions may refer to.

use std::sync::{Arc, OnceLock};

use xebec_cel::schema::{Field, ObjectSchema, SchemaKind};
use xebec_cel::{CompileError, Env, Program, Schema, Type, limits};

use super::Expression;

/// How deep expressions may nest through variables, which are evaluated within each other.
const MAX_DEPTH: usize = limits::MAX_TREE_DEPTH;
/// What passing from an expression to a variable's adds to the depth.
const STEP: usize = 4;

/// What expressions see besides `object`, `oldObject`, `namespaceObject` and `request`.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::admission) struct Sees {
    /// `params`.
    pub(in crate::admission) params: bool,
    /// `authorizer`, and `authorizer.requestResource`.
    pub(in crate::admission) authorizer: bool,
    /// What mutations are made of: `Object{…}`, `JSONPatch{…}`, `jsonpatch.escapeKey`.
    pub(in crate::admission) patches: bool,
}

/// What is known of types that are otherwise anything: for the check of types.
#[derive(Clone, Debug, Default)]
pub(in crate::admission) struct Typed {
    /// Of `object` and `oldObject`.
    pub(in crate::admission) object: Option<Arc<Schema>>,
    /// Of `params`.
    pub(in crate::admission) params: Option<Arc<Schema>>,
}

/// What a variable of an expression stands for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Input {
    Object,
    OldObject,
    Namespace,
    Request,
    Params,
    Authorizer,
    RequestResource,
    /// All variables of a policy, as one object.
    Variables,
    /// One of them.
    Variable(usize),
}

/// What expressions may refer to.
#[derive(Clone, Debug)]
pub(in crate::admission) struct Environment {
    env: Env,
    inputs: Arc<[Input]>,
    variables: Vec<Field>,
    /// How deep each variable nests.
    depths: Vec<usize>,
}

impl Environment {
    pub(in crate::admission) fn new(sees: Sees) -> Self {
        Self::typed(sees, &Typed::default())
    }

    /// As [`Environment::new`], with types of what is otherwise anything.
    pub(in crate::admission) fn typed(sees: Sees, types: &Typed) -> Self {
        let declare = |env: Env, name: &str, schema: Option<&Arc<Schema>>| match schema {
            Some(schema) => env.variable_of(name, schema),
            None => env.variable(name, Type::Dyn),
        };
        let mut inputs = vec![Input::Object, Input::OldObject, Input::Namespace, Input::Request];
        let mut env = declare(Env::new(), "object", types.object.as_ref());
        env = declare(env, "oldObject", types.object.as_ref())
            .variable_of("namespaceObject", namespace_schema())
            .variable_of("request", request_schema());
        if sees.params {
            env = declare(env, "params", types.params.as_ref());
            inputs.push(Input::Params);
        }
        if sees.authorizer {
            env = env.variable("authorizer", Type::object("kubernetes.authorization.Authorizer")).variable(
                "authorizer.requestResource",
                Type::object("kubernetes.authorization.ResourceCheck"),
            );
            inputs.extend([Input::Authorizer, Input::RequestResource]);
        }
        if sees.patches {
            env = env.with_mutations();
        }
        Self { env, inputs: inputs.into(), variables: Vec::new(), depths: Vec::new() }
    }

    /// The same with the object `variables`, to which [`Environment::add_variable`] adds.
    pub(in crate::admission) fn with_variables(mut self) -> Self {
        self.declare_variables(None);
        self
    }

    /// Declares a policy's next variable; what does not compile may be anything.
    pub(in crate::admission) fn add_variable(&mut self, name: &str, expression: &Expression) {
        let type_of = expression.program.as_ref().map_or(Type::Dyn, |program| program.result_type().clone());
        self.add_typed_variable(name, type_of, expression.depth);
    }

    fn add_typed_variable(&mut self, name: &str, type_of: Type, depth: usize) {
        let schema = Schema::new(SchemaKind::Any);
        self.variables.push(Field { name: name.into(), property: name.into(), schema, declared: true });
        self.depths.push(depth);
        self.declare_variables(Some((name, type_of)));
    }

    /// Declares a policy's next variable, of which only the type matters.
    pub(in crate::admission) fn add_type(&mut self, name: &str, type_of: Type) {
        self.add_typed_variable(name, type_of, 0);
    }

    /// A variable is one of its own, so that its type can be any; the object of all tells which there are.
    fn declare_variables(&mut self, added: Option<(&str, Type)>) {
        let object = ObjectSchema::new("kubernetes.variables", self.variables.clone());
        let mut inputs = self.inputs.to_vec();
        let mut env = std::mem::take(&mut self.env);
        env = env.variable_of("variables", &Arc::new(Schema::object(object)));
        inputs.push(Input::Variables);
        if let Some((name, type_of)) = added {
            env = env.variable(format!("variables.{name}"), type_of);
            inputs.push(Input::Variable(self.variables.len() - 1));
        }
        self.env = env;
        self.inputs = inputs.into();
    }

    /// Compiles an expression, which must give one of these types; any, if there are none.
    pub(in crate::admission) fn compile(&self, text: &str, wanted: &[Type]) -> Expression {
        let mut depth = 0;
        let program = self.program(text, wanted).and_then(|program| {
            depth = self.depth(&program);
            if depth > MAX_DEPTH {
                return Err(format!(
                    "the expression nests {depth} levels deep with the variables that it uses; {MAX_DEPTH} are allowed"
                ));
            }
            Ok(program)
        });
        Expression { text: text.to_owned(), program, inputs: Arc::clone(&self.inputs), depth }
    }

    fn program(&self, text: &str, wanted: &[Type]) -> Result<Program, String> {
        let program = self.env.compile(text).map_err(|error| match error {
            CompileError::Issues(issues) => format!("compilation failed: {issues}"),
            CompileError::Program(why) => format!("program instantiation failed: {why}"),
        })?;
        let gives = program.result_type();
        match wanted {
            [] => Ok(program),
            _ if wanted.contains(gives) => Ok(program),
            [one] => {
                Err(format!("must evaluate to {} but got {}", one.declared_name(), gives.declared_name()))
            }
            several => {
                let names: Vec<String> = several.iter().map(Type::declared_name).collect();
                Err(format!(
                    "must evaluate to one of [{}] but got {}",
                    names.join(" "),
                    gives.declared_name()
                ))
            }
        }
    }

    fn depth(&self, program: &Program) -> usize {
        let below = program.used().filter_map(|place| match self.inputs.get(place)? {
            Input::Variable(index) => self.depths.get(*index).copied(),
            Input::Variables => self.depths.iter().max().copied(),
            _ => None,
        });
        program.depth() + below.max().map_or(0, |below| below + STEP)
    }

    /// The type of what an expression gives.
    ///
    /// # Errors
    /// What is wrong with its types.
    pub(in crate::admission) fn check(&self, text: &str) -> Result<Type, String> {
        match self.env.compile(text) {
            Ok(program) => Ok(program.result_type().clone()),
            Err(CompileError::Issues(issues)) => Err(issues.to_string()),
            // Its types are right.
            Err(CompileError::Program(_)) => Ok(Type::Dyn),
        }
    }
}

fn text() -> Schema {
    Schema::new(SchemaKind::String)
}

fn object<const N: usize>(name: &str, fields: [(&str, Schema); N]) -> Schema {
    let fields = fields.into_iter().map(|(name, schema)| Field {
        name: name.into(),
        property: name.into(),
        schema,
        declared: true,
    });
    Schema::object(ObjectSchema::new(name, fields.collect()))
}

/// The fields of an admission request; its objects are variables of their own.
pub(super) fn request_schema() -> &'static Arc<Schema> {
    static SCHEMA: OnceLock<Arc<Schema>> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let names = |last: &'static str| [("group", text()), ("version", text()), (last, text())];
        let kind = || object("kubernetes.GroupVersionKind", names("kind"));
        let resource = || object("kubernetes.GroupVersionResource", names("resource"));
        let user = [
            ("username", text()),
            ("uid", text()),
            ("groups", Schema::list(text())),
            ("extra", Schema::map(Schema::list(text()))),
        ];
        let request = [
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

/// The fields of a namespace that expressions see.
pub(super) fn namespace_schema() -> &'static Arc<Schema> {
    static SCHEMA: OnceLock<Arc<Schema>> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let time = || Schema::new(SchemaKind::DateTime);
        let number = || Schema::new(SchemaKind::Int);
        let metadata = [
            ("name", text()),
            ("generateName", text()),
            ("namespace", text()),
            ("labels", Schema::map(text())),
            ("annotations", Schema::map(text())),
            ("UID", text()),
            ("creationTimestamp", time()),
            ("deletionGracePeriodSeconds", number()),
            ("deletionTimestamp", time()),
            ("generation", number()),
            ("resourceVersion", text()),
            ("finalizers", Schema::list(text())),
        ];
        let condition = [
            ("status", text()),
            ("type", text()),
            ("lastTransitionTime", time()),
            ("message", text()),
            ("reason", text()),
        ];
        let conditions = Schema::list(object("kubernetes.NamespaceCondition", condition));
        let namespace = [
            ("metadata", object("kubernetes.NamespaceMetadata", metadata)),
            ("spec", object("kubernetes.NamespaceSpec", [("finalizers", Schema::list(text()))])),
            ("status", object("kubernetes.NamespaceStatus", [("conditions", conditions), ("phase", text())])),
        ];
        Arc::new(object("kubernetes.Namespace", namespace))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(authorizer: bool) -> Environment {
        Environment::new(Sees { params: true, authorizer, patches: false })
    }

    #[test]
    fn what_expressions_may_refer_to() {
        let check = |expression: &str, want: &str| {
            let compiled = environment(true).compile(expression, &[Type::Bool]);
            match (&compiled.program, want) {
                (Ok(_), "") => {}
                (Err(why), want) if !want.is_empty() => assert!(why.contains(want), "{expression}: {why}"),
                (found, _) => panic!("{expression}: {found:?}"),
            }
        };
        check("request.operation == 'CREATE' && object.metadata.name != 'a'", "");
        check("oldObject == null || request.userInfo.groups.exists(g, g == 'x')", "");
        check("namespaceObject.metadata.labels['a'] == params.data.a", "");
        check("authorizer.group('').resource('pods').check('get').allowed()", "");
        check("authorizer.requestResource.check('get').allowed()", "");
        check("namespaceObject.spec.nothing == 1", "undefined field 'nothing'");
        check("variables.a", "undeclared reference to 'variables'");
        check("object.spec.replicas", "must evaluate to bool but got dyn");
        check("[1]", "must evaluate to bool but got list(int)");
        let audit = environment(false).compile("1", &[Type::String, Type::Null]);
        assert_eq!(
            audit.program.expect_err("refused"),
            "must evaluate to one of [string null_type] but got int"
        );
        let blind = environment(false).compile("authorizer.path('/').check('get').allowed()", &[Type::Bool]);
        assert!(blind.program.is_err());
    }

    #[test]
    fn variables_have_types_and_depth() {
        let mut environment = environment(true).with_variables();
        let first = environment.compile("object.spec.replicas > 1 ? 'a' : 'b'", &[]);
        environment.add_variable("first", &first);
        let fits = environment.compile("variables.first.startsWith('a')", &[Type::Bool]);
        assert!(fits.program.is_ok(), "{fits:?}");
        let mistyped = environment.compile("variables.first > 1", &[Type::Bool]);
        assert!(mistyped.program.expect_err("refused").contains("'_>_' applied to '(string, int)'"));
        let unknown = environment.compile("variables.second", &[]);
        assert!(unknown.program.expect_err("refused").contains("undefined field 'second'"));

        let mut last = "variables.first".to_owned();
        let deep = (0..MAX_DEPTH).find(|n| {
            let expression = environment.compile(&last, &[]);
            let name = format!("v{n}");
            environment.add_variable(&name, &expression);
            last = format!("variables.{name}");
            expression.program.is_err_and(|why| why.contains("levels deep with the variables"))
        });
        assert!(deep.is_some_and(|n| n > 40), "{deep:?}");
    }
}
