//! What the host's values look like: their types for the checker, their sizes for the costs, and how a tree is to be read.
//!
//! A host makes a [`Schema`] of each type that it declares: of a custom resource's structural schema, of an OpenAPI document.

use std::sync::Arc;

use crate::limits::MAX_REQUEST;
use crate::types::Type;

/// The shape of a value of the host's.
#[derive(Clone, Debug, PartialEq)]
pub struct Schema {
    /// What it is.
    pub kind: SchemaKind,
    /// Whether it may be null. A null that may not be is an error when it is read.
    pub nullable: bool,
    /// Most elements, members, code points or bytes; 0 for what has none.
    pub max_elements: u64,
    /// Shortest JSON of it, in bytes.
    pub min_serialized: u64,
}

/// What a value of the host's is.
#[derive(Clone, Debug, PartialEq)]
pub enum SchemaKind {
    /// Anything; read as the tree has it.
    Any,
    /// Anything, which expressions may compare but not look into (`x-kubernetes-preserve-unknown-fields` without a type).
    Opaque,
    /// A string or an integer (`x-kubernetes-int-or-string`).
    IntOrString,
    /// `bool`.
    Bool,
    /// `int`.
    Int,
    /// `double`; integers of the tree are converted.
    Double,
    /// `string`.
    String,
    /// `bytes`, base64 in the tree.
    Bytes,
    /// `duration`, as `1h30m` in the tree.
    Duration,
    /// `timestamp`, as `2026-01-31` in the tree.
    Date,
    /// `timestamp`, by RFC 3339 in the tree.
    DateTime,
    /// A list and what lists of this kind mean.
    List(Arc<Schema>, ListKind),
    /// A map from strings.
    Map(Arc<Schema>),
    /// An object with declared fields.
    Object(Arc<ObjectSchema>),
}

/// What is equal, and what is added, in a list (`x-kubernetes-list-type`).
#[derive(Clone, Debug, PartialEq)]
pub enum ListKind {
    /// Elements in order.
    Atomic,
    /// Elements once, in any order.
    Set,
    /// Elements once by these keys, in any order.
    Map(Arc<[Arc<str>]>),
}

/// The declared fields of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectSchema {
    /// The name of its type. It must not read like a variable and its fields, which it would hide: `selfType.spec`, not
    /// `self.spec`.
    pub name: Arc<str>,
    /// The fields, sorted by their names in expressions.
    fields: Vec<Field>,
    /// Whether properties that are not declared can exist (`x-kubernetes-preserve-unknown-fields`); expressions see none of
    /// them, but equality does.
    pub open: bool,
}

/// A field of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Its name in expressions: [`escape`]d.
    pub name: Arc<str>,
    /// Its name in the tree.
    pub property: Arc<str>,
    /// What it is.
    pub schema: Schema,
    /// Whether the type checker knows it. Fields whose type cannot be expressed stay readable through `dyn` only.
    pub declared: bool,
}

impl ObjectSchema {
    /// An object with these fields.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, mut fields: Vec<Field>) -> Self {
        fields.sort_by(|a, b| a.name.cmp(&b.name));
        Self { name: name.into(), fields, open: false }
    }

    /// The field of this name in expressions.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.binary_search_by(|field| (*field.name).cmp(name)).ok().map(|at| &self.fields[at])
    }

    /// All fields, by their names in expressions.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The field of this name in the tree.
    #[must_use]
    pub fn property(&self, property: &str) -> Option<&Field> {
        match self.field(property) {
            Some(field) if &*field.property == property => Some(field),
            _ => self.fields.iter().find(|field| &*field.property == property),
        }
    }
}

impl Schema {
    /// A shape of this kind with the sizes that values of it have when nothing else is said.
    #[must_use]
    pub fn new(kind: SchemaKind) -> Self {
        let (max_elements, min_serialized) = match &kind {
            SchemaKind::Any | SchemaKind::Opaque => (0, 1),
            SchemaKind::IntOrString => (MAX_REQUEST - 2, 1),
            SchemaKind::Bool => (0, 4),
            SchemaKind::Int | SchemaKind::Double => (0, 1),
            SchemaKind::String | SchemaKind::Bytes => (MAX_REQUEST - 2, 2),
            SchemaKind::Duration => (32, 3),
            SchemaKind::Date => (12, 12),
            SchemaKind::DateTime => (32, 21),
            SchemaKind::List(element, _) => ((MAX_REQUEST - 2) / (element.min_serialized + 1), 2),
            SchemaKind::Map(value) => ((MAX_REQUEST - 2) / (value.min_serialized + 6), 2),
            SchemaKind::Object(_) => (0, 2),
        };
        Self { kind, nullable: false, max_elements, min_serialized }
    }

    /// A list in order.
    #[must_use]
    pub fn list(element: Self) -> Self {
        Self::new(SchemaKind::List(Arc::new(element), ListKind::Atomic))
    }

    /// A map from strings.
    #[must_use]
    pub fn map(value: Self) -> Self {
        Self::new(SchemaKind::Map(Arc::new(value)))
    }

    /// An object with declared fields.
    #[must_use]
    pub fn object(object: ObjectSchema) -> Self {
        Self::new(SchemaKind::Object(Arc::new(object)))
    }

    /// The type that the checker sees.
    #[must_use]
    pub fn type_of(&self) -> Type {
        match &self.kind {
            SchemaKind::Any | SchemaKind::Opaque | SchemaKind::IntOrString => Type::Dyn,
            SchemaKind::Bool => Type::Bool,
            SchemaKind::Int => Type::Int,
            SchemaKind::Double => Type::Double,
            SchemaKind::String => Type::String,
            SchemaKind::Bytes => Type::Bytes,
            SchemaKind::Duration => Type::Duration,
            SchemaKind::Date | SchemaKind::DateTime => Type::Timestamp,
            SchemaKind::List(element, _) => Type::list(element.type_of()),
            SchemaKind::Map(value) => Type::map(Type::String, value.type_of()),
            SchemaKind::Object(object) => Type::Object(Arc::clone(&object.name)),
        }
    }

    /// Every object in it.
    pub(crate) fn objects(&self, visit: &mut dyn FnMut(&Arc<ObjectSchema>)) {
        match &self.kind {
            SchemaKind::List(below, _) | SchemaKind::Map(below) => below.objects(visit),
            SchemaKind::Object(object) => {
                visit(object);
                for field in &object.fields {
                    field.schema.objects(visit);
                }
            }
            _ => {}
        }
    }
}

const KEYWORDS: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];
const ESCAPES: [(&str, &str); 4] =
    [("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__")];

/// The name that a property has in expressions; `None` if it can have none.
#[must_use]
pub fn escape(property: &str) -> Option<String> {
    if property.is_empty() || property.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if KEYWORDS.contains(&property) {
        return Some(format!("__{property}__"));
    }
    let mut name = String::with_capacity(property.len());
    let mut rest = property;
    while let Some(c) = rest.chars().next() {
        if let Some((plain, escaped)) = ESCAPES.iter().find(|(plain, _)| rest.starts_with(plain)) {
            name.push_str(escaped);
            rest = &rest[plain.len()..];
        } else if c.is_ascii_alphanumeric() || c == '_' {
            name.push(c);
            rest = &rest[1..];
        } else {
            return None;
        }
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped() {
        let check = |property: &str, want: Option<&str>| {
            assert_eq!(escape(property).as_deref(), want, "{property}");
        };
        check("a", Some("a"));
        check("namespace", Some("__namespace__"));
        check("a.b-c/d", Some("a__dot__b__dash__c__slash__d"));
        check("a__b", Some("a__underscores__b"));
        check("a___b", Some("a__underscores___b"));
        check("a____b", Some("a__underscores____underscores__b"));
        check("1a", None);
        check("", None);
        check("a b", None);
        check("é", None);
    }

    #[test]
    fn fields_are_found_by_either_name() {
        let field = |name: &str, property: &str| Field {
            name: name.into(),
            property: property.into(),
            schema: Schema::new(SchemaKind::Int),
            declared: true,
        };
        let object = ObjectSchema::new("o", vec![field("b", "b"), field("a__dash__c", "a-c")]);
        assert_eq!(object.field("a__dash__c").map(|f| &*f.property), Some("a-c"));
        assert_eq!(object.property("a-c").map(|f| &*f.name), Some("a__dash__c"));
        assert_eq!(object.field("a-c"), None);
    }
}
