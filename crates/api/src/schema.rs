//! The shape of objects: one arena of nodes per schema set, the same type for built-in kinds and custom resources.
//!
//! Built-in schemas are static tables in read-only memory (`xtask codegen` makes them from the published OpenAPI
//! definitions of Kubernetes 1.36); those of a `CustomResourceDefinition` are built when it is created. A schema is
//! *structural*: every field has one type, which is all that pruning, defaulting, patching and field management need.
//! What only validation needs (bounds, patterns, rules) stands apart in [`Constraints`].
//!
//! ```
//! # use xebec_api::schema::*;
//! fn required_fields(schema: SchemaRef<'_>) -> Vec<&str> {
//!     schema.properties().filter(|p| p.required).map(|p| p.name.as_ref()).collect()
//! }
//! ```

use std::borrow::Cow;
use std::sync::OnceLock;

use crate::Value;

/// A node's place in its [`Schema`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NodeId(pub u32);

impl NodeId {
    /// The node every schema starts with: [`Type::Any`], nothing known.
    pub const ANY: Self = Self(0);
}

/// The JSON type of a field, with the formats that have a meaning of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Anything at all (`x-kubernetes-preserve-unknown-fields` at its root, `RawExtension`, JSON).
    Any,
    /// An object with named fields.
    Object,
    /// An object whose keys are data; [`Node::items`] is the type of its values.
    Map,
    /// An array; [`Node::items`] is the type of its elements.
    List,
    /// A string.
    String,
    /// A string that holds base64.
    Bytes,
    /// A string that holds an RFC 3339 time with seconds.
    Time,
    /// A string that holds an RFC 3339 time with microseconds.
    MicroTime,
    /// A string or a number: `resource.Quantity`.
    Quantity,
    /// An integer or a string: `IntOrString`.
    IntOrString,
    /// A 32-bit integer.
    Int32,
    /// A 64-bit integer.
    Int64,
    /// Any number.
    Number,
    /// A boolean.
    Boolean,
}

/// How server-side apply treats a list or a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// The field changes as one; the default for lists.
    Atomic,
    /// A list of scalars without order.
    Set,
    /// A list of objects told apart by [`Node::keys`].
    Keyed,
    /// Each member is owned for itself; the default for objects and maps.
    Granular,
}

/// How a strategic merge patch treats a field (`x-kubernetes-patch-strategy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchStrategy {
    /// The patch's value stands in the place of the old one.
    Replace,
    /// A list merges by [`Property::merge_key`], or as a set when it has none.
    Merge,
    /// Members that the patch does not name in `$retainKeys` go.
    RetainKeys,
    /// Both `merge` and `retainKeys`.
    MergeRetainKeys,
}

/// A type: of an object, or of one of its fields.
#[derive(Clone, Debug)]
pub struct Node {
    /// The published name of a definition, `io.k8s.api.core.v1.PodSpec`; empty for a type without a name.
    pub name: Cow<'static, str>,
    /// Its JSON type.
    pub ty: Type,
    /// First of its fields in [`Schema::props`].
    pub props_start: u32,
    /// How many fields it has; they are sorted by name.
    pub props_len: u32,
    /// The type of elements (list) or values (map, or an object's additional properties); [`NodeId::ANY`] if free.
    pub items: NodeId,
    /// How server-side apply merges it.
    pub merge: Merge,
    /// Of a keyed list: the fields that tell elements apart, in declared order.
    pub keys: Cow<'static, [Cow<'static, str>]>,
    /// Fields that are not declared stay (`x-kubernetes-preserve-unknown-fields`).
    pub preserve_unknown: bool,
    /// The object is a whole resource with `apiVersion`, `kind`, `metadata` (`x-kubernetes-embedded-resource`).
    pub embedded_resource: bool,
    /// `null` is a value of its own and stays.
    pub nullable: bool,
    /// What validation checks beyond the type: index into [`Schema::constraints`], or [`NO_CONSTRAINTS`].
    pub constraints: u32,
    /// What the type is for: index into the documentation table, or [`NO_DOC`].
    pub doc: u32,
}

/// A named field of an object.
#[derive(Clone, Debug)]
pub struct Property {
    /// Its JSON name.
    pub name: Cow<'static, str>,
    /// Its type.
    pub node: NodeId,
    /// An object without it is invalid.
    pub required: bool,
    /// How a strategic merge patch treats it.
    pub patch: PatchStrategy,
    /// Of a list merged by strategic merge patch: the field that tells elements apart. Empty: a list of scalars.
    pub merge_key: Cow<'static, str>,
    /// The value that an absent field gets.
    pub default: Option<DefaultValue>,
    /// What the field is for: index into the documentation table, or [`NO_DOC`].
    pub doc: u32,
}

/// A default declared in the schema.
#[derive(Clone, Debug)]
pub enum DefaultValue {
    /// As in the static tables: JSON text.
    Json(&'static str),
    /// As a custom resource's schema gives it.
    Value(Value),
}

impl DefaultValue {
    /// The value as a tree.
    #[must_use]
    pub fn to_value(&self) -> Value {
        match self {
            Self::Json(text) => {
                crate::json::from_slice(text.as_bytes()).expect("generated defaults are JSON")
            }
            Self::Value(value) => value.clone(),
        }
    }
}

/// [`Node::constraints`] of a node without any.
pub const NO_CONSTRAINTS: u32 = u32::MAX;
/// [`Node::doc`] or [`Property::doc`] without text.
pub const NO_DOC: u32 = u32::MAX;

/// What validation checks beyond the type (JSON schema's value validations and `x-kubernetes-validations`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Constraints {
    /// `enum`: the allowed values.
    pub allowed: Vec<Value>,
    /// `format`.
    pub format: Option<String>,
    /// `pattern`.
    pub pattern: Option<Pattern>,
    /// `minimum` and whether it is exclusive.
    pub minimum: Option<(f64, bool)>,
    /// `maximum` and whether it is exclusive.
    pub maximum: Option<(f64, bool)>,
    /// `multipleOf`.
    pub multiple_of: Option<f64>,
    /// `minLength`, `maxLength` in Unicode code points.
    pub length: (Option<u64>, Option<u64>),
    /// `minItems`, `maxItems`.
    pub items: (Option<u64>, Option<u64>),
    /// `minProperties`, `maxProperties`.
    pub properties: (Option<u64>, Option<u64>),
    /// `uniqueItems`.
    pub unique_items: bool,
    /// `required`: fields that the type itself does not declare.
    pub required: Vec<String>,
    /// `allOf`, `anyOf`, `oneOf`: value validations, in schemas that add no fields and have no type.
    pub all_of: Vec<NodeId>,
    /// See [`Constraints::all_of`].
    pub any_of: Vec<NodeId>,
    /// See [`Constraints::all_of`].
    pub one_of: Vec<NodeId>,
    /// `not`.
    pub not: Option<NodeId>,
    /// `x-kubernetes-validations`, as declared.
    pub rules: Vec<Value>,
}

/// A regular expression, by Go's syntax, as upstream reads them. It is compiled when it is first asked for.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// As it is declared.
    pub text: String,
    compiled: OnceLock<Result<xebec_cel::pattern::Pattern, String>>,
}

impl Pattern {
    /// A pattern.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self { text, compiled: OnceLock::new() }
    }

    /// Whether it is found in a text.
    ///
    /// # Errors
    /// It is no regular expression, and why.
    pub fn is_match(&self, text: &str) -> Result<bool, &str> {
        let compile = || xebec_cel::pattern::Pattern::compile(&self.text).map_err(|error| error.to_string());
        match self.compiled.get_or_init(compile) {
            Ok(pattern) => Ok(pattern.is_match(text)),
            Err(why) => Err(why),
        }
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// An arena of types. Node 0 is always [`Type::Any`].
#[derive(Clone, Debug)]
pub struct Schema {
    /// All types.
    pub nodes: Cow<'static, [Node]>,
    /// All fields; those of one node stand together, sorted by name.
    pub props: Cow<'static, [Property]>,
    /// Value validations, for custom resources.
    pub constraints: Vec<Constraints>,
}

impl Schema {
    /// The type at `id`.
    #[must_use]
    pub fn at(&self, id: NodeId) -> SchemaRef<'_> {
        SchemaRef { schema: self, node: &self.nodes[id.0 as usize] }
    }

    /// The named definition, found by a scan: for start-up and tests, not for the request path.
    #[must_use]
    pub fn definition(&self, name: &str) -> Option<NodeId> {
        let index = self.nodes.iter().position(|n| n.name == name)?;
        u32::try_from(index).ok().map(NodeId)
    }
}

/// A type together with the arena it lives in; cheap to copy, the way to walk a schema.
#[derive(Clone, Copy, Debug)]
pub struct SchemaRef<'a> {
    schema: &'a Schema,
    /// The type itself.
    pub node: &'a Node,
}

impl<'a> SchemaRef<'a> {
    /// The JSON type.
    #[must_use]
    pub fn ty(self) -> Type {
        self.node.ty
    }

    /// The fields, sorted by name.
    pub fn properties(self) -> impl ExactSizeIterator<Item = &'a Property> {
        let start = self.node.props_start as usize;
        self.schema.props[start..start + self.node.props_len as usize].iter()
    }

    /// The field `name`.
    #[must_use]
    pub fn property(self, name: &str) -> Option<&'a Property> {
        let start = self.node.props_start as usize;
        let props = &self.schema.props[start..start + self.node.props_len as usize];
        props.binary_search_by(|p| p.name.as_ref().cmp(name)).ok().map(|i| &props[i])
    }

    /// Another type of the same arena.
    #[must_use]
    pub fn go(self, id: NodeId) -> Self {
        self.schema.at(id)
    }

    /// The type of the field `name`; of a map or an open object, the type of its values. `None`: not declared.
    #[must_use]
    pub fn field(self, name: &str) -> Option<Self> {
        if let Some(property) = self.property(name) {
            return Some(self.go(property.node));
        }
        match self.node.ty {
            Type::Map | Type::Any => Some(self.items()),
            Type::Object if self.node.items != NodeId::ANY => Some(self.items()),
            _ if self.node.preserve_unknown => Some(self.go(NodeId::ANY)),
            _ => None,
        }
    }

    /// The type of elements or values.
    #[must_use]
    pub fn items(self) -> Self {
        self.go(self.node.items)
    }

    /// Follows fields along `path`.
    #[must_use]
    pub fn walk(self, path: &[&str]) -> Option<Self> {
        path.iter().try_fold(self, |s, name| s.field(name))
    }

    /// Whether undeclared fields stay.
    #[must_use]
    pub fn is_open(self) -> bool {
        self.node.preserve_unknown || matches!(self.node.ty, Type::Any | Type::Map)
    }

    /// The value validations, if there are any.
    #[must_use]
    pub fn constraints(self) -> Option<&'a Constraints> {
        self.schema.constraints.get(self.node.constraints as usize)
    }
}
