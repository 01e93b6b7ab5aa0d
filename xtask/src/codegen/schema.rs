//! Turns definitions into the arena of types: definitions first, in the order of their names, then the types of fields
//! that have no name, each once.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::definitions::{Definitions, Kind, reference};
use super::markers::{Defaults, join_name};
use super::resources;

/// The tables to be written.
pub(super) struct Arena {
    pub(super) nodes: Vec<Node>,
    /// Descriptions, each once.
    pub(super) docs: Vec<String>,
    /// Nodes of definitions by name.
    pub(super) definitions: BTreeMap<String, usize>,
    /// The kinds of definitions.
    pub(super) kinds: BTreeMap<Kind, usize>,
    /// `x-kubernetes-unions` of definitions, as JSON.
    pub(super) unions: BTreeMap<usize, String>,
}

/// A type, as in `xebec_api::schema::Node`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) ty: Ty,
    pub(super) props: Vec<Prop>,
    pub(super) items: usize,
    pub(super) merge: Merge,
    pub(super) keys: Vec<String>,
    pub(super) doc: Option<usize>,
}

/// A field, as in `xebec_api::schema::Property`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Prop {
    pub(super) name: String,
    pub(super) node: usize,
    pub(super) required: bool,
    pub(super) patch: &'static str,
    pub(super) merge_key: String,
    pub(super) default: Option<String>,
    pub(super) doc: Option<usize>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Ty {
    #[default]
    Any,
    Object,
    Map,
    List,
    String,
    Bytes,
    Time,
    MicroTime,
    Quantity,
    IntOrString,
    Int32,
    Int64,
    Number,
    Boolean,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Merge {
    Atomic,
    Set,
    Keyed,
    #[default]
    Granular,
}

/// Definitions whose JSON form their schema does not tell.
const SPECIAL: &[(&str, Ty, Merge)] = &[
    ("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON", Ty::Any, Merge::Granular),
    (
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray",
        Ty::Any,
        Merge::Granular,
    ),
    (
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool",
        Ty::Any,
        Merge::Granular,
    ),
    (
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray",
        Ty::Any,
        Merge::Granular,
    ),
    ("io.k8s.apimachinery.pkg.api.resource.Quantity", Ty::Quantity, Merge::Granular),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1", Ty::Any, Merge::Granular),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime", Ty::MicroTime, Merge::Granular),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.Patch", Ty::Any, Merge::Granular),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.Time", Ty::Time, Merge::Granular),
    ("io.k8s.apimachinery.pkg.runtime.RawExtension", Ty::Any, Merge::Atomic),
    ("io.k8s.apimachinery.pkg.util.intstr.IntOrString", Ty::IntOrString, Merge::Granular),
];

/// Builds the arena of everything that the built-in resources need.
pub(super) fn build(definitions: &Definitions, defaults: &Defaults) -> Result<Arena> {
    let names = definitions.closure(resources::roots(definitions)?)?;
    let by_name: BTreeMap<String, usize> = names.iter().cloned().zip(1..).collect();
    let mut builder = Builder {
        nodes: vec![Node::default(); 1 + by_name.len()],
        by_name,
        anonymous: HashMap::new(),
        docs: Vec::new(),
        doc_index: HashMap::new(),
        defaults,
        defaults_used: 0,
    };
    let (mut kinds, mut unions) = (BTreeMap::new(), BTreeMap::new());
    for name in &names {
        let definition = definitions.get(name)?;
        let id = builder.by_name[name];
        builder.nodes[id] = builder.definition(name, definition).with_context(|| format!("in {name}"))?;
        kinds.extend(definitions.kind_of(name).map(|kind| (kind, id)));
        if let Some(union) = definition.get("x-kubernetes-unions") {
            unions.insert(id, union.to_string());
        }
    }
    builder.complete_variants();
    ensure!(builder.defaults_used > 15, "only {} declared defaults were found", builder.defaults_used);
    let Builder { nodes, by_name, docs, .. } = builder;
    Ok(Arena { nodes, docs, definitions: by_name, kinds, unions })
}

struct Builder<'a> {
    nodes: Vec<Node>,
    by_name: BTreeMap<String, usize>,
    anonymous: HashMap<Node, usize>,
    docs: Vec<String>,
    doc_index: HashMap<String, usize>,
    defaults: &'a Defaults,
    defaults_used: usize,
}

impl Builder<'_> {
    fn definition(&mut self, name: &str, definition: &Value) -> Result<Node> {
        let doc = self.doc(definition);
        if let Some((_, ty, merge)) = SPECIAL.iter().find(|(n, ..)| *n == name) {
            return Ok(Node { name: name.into(), ty: *ty, merge: *merge, doc, ..Node::default() });
        }
        ensure!(type_of(definition)? == "object", "a definition that is no object, and not known as special");
        let required: Vec<&str> =
            definition["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut props = Vec::new();
        // serde_json keeps members sorted, as the arena needs them.
        for (field, schema) in definition["properties"].as_object().into_iter().flatten() {
            let prop = self.property(name, field, schema, required.contains(&field.as_str()));
            props.push(prop.with_context(|| format!("in the field {field}"))?);
        }
        ensure!(props.is_sorted_by(|a, b| a.name < b.name), "fields are not sorted");
        let merge = map_type(definition)?.unwrap_or_default();
        Ok(Node { name: name.into(), ty: Ty::Object, props, merge, doc, ..Node::default() })
    }

    fn property(&mut self, definition: &str, field: &str, schema: &Value, required: bool) -> Result<Prop> {
        let default = self.defaults.get(&(join_name(definition), join_name(field))).cloned();
        self.defaults_used += usize::from(default.is_some());
        let merge_key = schema["x-kubernetes-patch-merge-key"].as_str().unwrap_or_default().to_owned();
        Ok(Prop {
            name: field.to_owned(),
            node: self.field_type(schema)?,
            required,
            patch: patch_strategy(schema)?,
            merge_key,
            default,
            doc: self.doc(schema),
        })
    }

    /// The type of a field, of a list's elements, or of a map's values.
    fn field_type(&mut self, schema: &Value) -> Result<usize> {
        if let Some(name) = reference(schema) {
            let id = *self.by_name.get(name).with_context(|| format!("{name} is not in the closure"))?;
            return Ok(match map_type(schema)? {
                Some(merge) => self.variant(name, merge),
                None => id,
            });
        }
        let node = match type_of(schema)? {
            "array" => self.list(schema)?,
            "object" => {
                ensure!(schema.get("properties").is_none(), "an object without a name has fields");
                let values =
                    schema.get("additionalProperties").context("an object without fields is a map")?;
                Node {
                    ty: Ty::Map,
                    items: self.field_type(values)?,
                    merge: map_type(schema)?.unwrap_or_default(),
                    ..Node::default()
                }
            }
            scalar => Node { ty: scalar_type(scalar, schema)?, ..Node::default() },
        };
        Ok(self.intern(node))
    }

    fn list(&mut self, schema: &Value) -> Result<Node> {
        let items = self.field_type(&schema["items"])?;
        let keys = schema["x-kubernetes-list-map-keys"].as_array();
        let keys: Vec<String> =
            keys.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        let merge = match schema["x-kubernetes-list-type"].as_str() {
            None | Some("atomic") => Merge::Atomic,
            Some("set") => Merge::Set,
            Some("map") => Merge::Keyed,
            Some(other) => bail!("list type {other}"),
        };
        ensure!(
            (merge == Merge::Keyed) != keys.is_empty(),
            "a list of type {merge:?} with the keys {keys:?}"
        );
        Ok(Node { ty: Ty::List, items, merge, keys, ..Node::default() })
    }

    /// A field may say that the definition it refers to merges differently there.
    fn variant(&mut self, name: &str, merge: Merge) -> usize {
        // Its definition may come later, so `complete_variants` adds the fields at the end.
        self.intern(Node { name: name.to_owned(), ty: Ty::Object, merge, ..Node::default() })
    }

    fn complete_variants(&mut self) {
        for id in self.by_name.len() + 1..self.nodes.len() {
            if let Some(of) = self.by_name.get(&self.nodes[id].name) {
                self.nodes[id] = Node { merge: self.nodes[id].merge, ..self.nodes[*of].clone() };
            }
        }
    }

    fn intern(&mut self, node: Node) -> usize {
        if let Some(id) = self.anonymous.get(&node) {
            return *id;
        }
        let id = self.nodes.len();
        self.anonymous.insert(node.clone(), id);
        self.nodes.push(node);
        id
    }

    fn doc(&mut self, schema: &Value) -> Option<usize> {
        let text = schema.get("description")?.as_str()?;
        if let Some(index) = self.doc_index.get(text) {
            return Some(*index);
        }
        let index = self.docs.len();
        self.docs.push(text.to_owned());
        self.doc_index.insert(text.to_owned(), index);
        Some(index)
    }
}

/// The JSON type; the package writes optional fields as nullable, which says nothing about Kubernetes.
fn type_of(schema: &Value) -> Result<&str> {
    match &schema["type"] {
        Value::String(ty) => Ok(ty),
        Value::Array(types) => match types.as_slice() {
            [Value::String(ty), Value::String(null)] if null == "null" => Ok(ty),
            other => bail!("the types {other:?}"),
        },
        other => bail!("the type {other}"),
    }
}

fn scalar_type(ty: &str, schema: &Value) -> Result<Ty> {
    Ok(match (ty, schema["format"].as_str()) {
        ("string", None) => Ty::String,
        ("string", Some("byte")) => Ty::Bytes,
        ("boolean", None) => Ty::Boolean,
        ("integer", Some("int32")) => Ty::Int32,
        ("integer", Some("int64")) => Ty::Int64,
        ("number", Some("double")) => Ty::Number,
        (ty, format) => bail!("the type {ty} with the format {format:?}"),
    })
}

fn map_type(schema: &Value) -> Result<Option<Merge>> {
    match schema["x-kubernetes-map-type"].as_str() {
        None => Ok(None),
        Some("granular") => Ok(Some(Merge::Granular)),
        Some("atomic") => Ok(Some(Merge::Atomic)),
        Some(other) => bail!("map type {other}"),
    }
}

/// Without a declared strategy a strategic merge patch replaces lists and merges objects.
fn patch_strategy(schema: &Value) -> Result<&'static str> {
    let object = schema.get("$ref").is_some() || type_of(schema)? == "object";
    Ok(match schema["x-kubernetes-patch-strategy"].as_str() {
        None if object => "Patch",
        None | Some("replace") => "Replace",
        Some("merge") => "Patch",
        Some("retainKeys") => "RetainKeys",
        Some("merge,retainKeys") => "MergeRetainKeys",
        Some(other) => bail!("patch strategy {other}"),
    })
}
