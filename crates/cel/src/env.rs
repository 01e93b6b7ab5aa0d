//! What an expression may refer to, and how it becomes a program.

use std::collections::HashMap;
use std::sync::Arc;

use crate::check;
use crate::cost;
use crate::decls::{FUNCTIONS, Overload, PATCH_FUNCTIONS};
use crate::parser;
use crate::plan;
use crate::program::{CompileError, Program};
use crate::schema::{ObjectSchema, Schema};
use crate::types::Type;
use crate::validate;

/// What an expression may refer to: variables, the objects that they are made of, and functions.
///
/// Functions are those of Kubernetes 1.36's base environment. An environment is made once and used for many expressions.
#[derive(Clone, Debug, Default)]
pub struct Env {
    variables: Vec<Variable>,
    objects: HashMap<Arc<str>, Arc<ObjectSchema>>,
    mutations: bool,
}

/// A variable of an environment.
#[derive(Clone, Debug)]
pub(crate) struct Variable {
    pub(crate) name: Arc<str>,
    pub(crate) type_of: Type,
    /// What its sizes are estimated by.
    pub(crate) schema: Option<Arc<Schema>>,
}

/// The types that are known by name.
const TYPES: [(&str, Type); 10] = [
    ("bool", Type::Bool),
    ("bytes", Type::Bytes),
    ("double", Type::Double),
    ("google.protobuf.Duration", Type::Duration),
    ("google.protobuf.Timestamp", Type::Timestamp),
    ("int", Type::Int),
    ("null_type", Type::Null),
    ("string", Type::String),
    ("type", Type::Type(None)),
    ("uint", Type::Uint),
];

/// What a name stands for.
pub(crate) enum Ident {
    Variable(usize, Type),
    /// A type as a value, and the type of that.
    Type(Arc<str>, Type),
}

impl Env {
    /// An environment without variables.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Declares a variable. A name may be qualified, as `variables.foo`. Values are found by the order of declarations.
    #[must_use]
    pub fn variable(mut self, name: impl Into<Arc<str>>, type_of: Type) -> Self {
        self.variables.push(Variable { name: name.into(), type_of, schema: None });
        self
    }

    /// Declares a variable by its schema, which knows how large its parts can be; the objects in it become known.
    #[must_use]
    pub fn variable_of(self, name: impl Into<Arc<str>>, schema: &Arc<Schema>) -> Self {
        let type_of = schema.type_of();
        self.variable_with(name, type_of, schema)
    }

    /// Declares a variable that may be missing.
    #[must_use]
    pub fn optional_variable_of(self, name: impl Into<Arc<str>>, schema: &Arc<Schema>) -> Self {
        let type_of = Type::optional(schema.type_of());
        self.variable_with(name, type_of, schema)
    }

    fn variable_with(mut self, name: impl Into<Arc<str>>, type_of: Type, schema: &Arc<Schema>) -> Self {
        schema.objects(&mut |object| {
            self.objects.insert(Arc::clone(&object.name), Arc::clone(object));
        });
        self.variables.push(Variable { name: name.into(), type_of, schema: Some(Arc::clone(schema)) });
        self
    }

    /// Allows what mutating admission policies have besides: the types `Object`, with any fields, and `JSONPatch`, and
    /// `jsonpatch.escapeKey`.
    #[must_use]
    pub fn with_mutations(mut self) -> Self {
        self.mutations = true;
        self
    }

    /// Makes a program of an expression.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn compile(&self, expression: &str) -> Result<Program, CompileError> {
        let mut parsed = parser::parse(expression)?;
        let checked = check::check(self, &mut parsed)?;
        validate::validate(&parsed, &checked)?;
        let estimate = cost::estimate(self, &parsed.root, &checked);
        plan::plan(self, &parsed, &checked, estimate)
    }

    pub(crate) fn variables(&self) -> &[Variable] {
        &self.variables
    }

    pub(crate) fn ident(&self, name: &str) -> Option<Ident> {
        let name = name.strip_prefix('.').unwrap_or(name);
        if let Some(index) = self.variables.iter().rposition(|variable| &*variable.name == name) {
            return Some(Ident::Variable(index, self.variables[index].type_of.clone()));
        }
        self.named_type(name).map(|named| {
            let runtime: Arc<str> = named.runtime_name().into();
            let of = if matches!(named, Type::Type(None)) { named } else { Type::type_of(named) };
            Ident::Type(runtime, of)
        })
    }

    fn named_type(&self, name: &str) -> Option<Type> {
        use crate::types::Param;
        if let Some((_, found)) = TYPES.iter().find(|(known, _)| *known == name) {
            return Some(found.clone());
        }
        match name {
            "list" => return Some(Type::list(Type::Param(Param::Declared("A")))),
            "map" => {
                return Some(Type::map(Type::Param(Param::Declared("A")), Type::Param(Param::Declared("B"))));
            }
            "optional_type" | "net.IP" | "net.CIDR" => return Some(Type::opaque(name, Vec::new())),
            _ => {}
        }
        (self.objects.contains_key(name) || self.makes(name)).then(|| Type::object(name))
    }

    /// Whether an object of this type can be made by an expression.
    pub(crate) fn makes(&self, name: &str) -> bool {
        self.mutations && (name == "JSONPatch" || name == "Object" || name.starts_with("Object."))
    }

    /// The type of a field of an object; `None` within if there is no such field, `None` if there is no such object.
    pub(crate) fn field(&self, object: &str, field: &str) -> Option<Option<Type>> {
        if let Some(found) = self.objects.get(object) {
            return Some(
                found.field(field).filter(|field| field.declared).map(|field| field.schema.type_of()),
            );
        }
        if !self.makes(object) {
            return None;
        }
        if object == "JSONPatch" {
            return Some(match field {
                "op" | "path" | "from" => Some(Type::String),
                "value" => Some(Type::Dyn),
                _ => None,
            });
        }
        Some(Some(Type::Dyn))
    }

    /// The overloads of a function.
    pub(crate) fn function(&self, name: &str) -> Option<(&'static str, &'static [Overload])> {
        let name = name.strip_prefix('.').unwrap_or(name);
        let found = FUNCTIONS
            .get_key_value(name)
            .or_else(|| self.mutations.then(|| PATCH_FUNCTIONS.get_key_value(name)).flatten());
        found.map(|(name, overloads)| (*name, overloads.as_slice()))
    }
}
