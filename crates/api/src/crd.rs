//! `CustomResourceDefinition` (apiextensions.k8s.io/v1) to a row of the resource table.
//!
//! The structural schema of each version becomes an arena of the same [`Node`]s that built-in types are made of.

use std::borrow::Cow;
use std::sync::Arc;

use crate::error::Cause;
use crate::resource::{Column, Names, ResourceDef, ScalePaths, Scope, Subresource, Text, Verbs, Version};
use crate::rules::Rules;
use crate::schema::{
    Constraints, DefaultValue, Merge, NO_CONSTRAINTS, NO_DOC, Node, NodeId, PatchStrategy, Pattern, Property,
    Schema, Type,
};
use crate::{FieldPath, Value, builtin, table};

/// How many nodes a schema may have.
const MAX_NODES: usize = 100_000;

/// The row that a definition makes.
///
/// # Errors
/// What is wrong with a schema; everything else was checked when the definition was written.
pub fn resource(definition: &Value) -> Result<ResourceDef, Vec<Cause>> {
    let text = |path: &[&str]| -> Text { owned(definition.str_at(path).unwrap_or_default()) };
    let list = |path: &[&str]| -> Cow<'static, [Text]> {
        definition.array_at(path).iter().filter_map(Value::as_str).map(owned).collect::<Vec<_>>().into()
    };
    let kind = text(&["spec", "names", "kind"]);
    let or = |value: Text, other: String| if value.is_empty() { Cow::Owned(other) } else { value };
    let names = Names {
        plural: text(&["spec", "names", "plural"]),
        singular: or(text(&["spec", "names", "singular"]), kind.to_lowercase()),
        list_kind: or(text(&["spec", "names", "listKind"]), format!("{kind}List")),
        short: list(&["spec", "names", "shortNames"]),
        categories: list(&["spec", "names", "categories"]),
        kind,
    };
    let mut causes = Vec::new();
    let mut versions = Vec::new();
    let mut storage_version = 0;
    for (i, declared) in definition.array_at(&["spec", "versions"]).iter().enumerate() {
        let path = FieldPath::new("spec.versions").index(i);
        if declared.bool_at(&["storage"]) == Some(true) {
            storage_version = versions.len();
        }
        match version(declared, &names, definition, &path) {
            Ok(version) => versions.push(version),
            Err(found) => causes.extend(found),
        }
    }
    if versions.is_empty() && causes.is_empty() {
        causes.push(Cause::required(FieldPath::new("spec.versions"), "must have at least one version"));
    }
    if !causes.is_empty() {
        return Err(causes);
    }
    let scope = if text(&["spec", "scope"]) == "Cluster" { Scope::Cluster } else { Scope::Namespaced };
    let group = text(&["spec", "group"]);
    Ok(ResourceDef { group, names, scope, verbs: Verbs::ALL, versions, storage_version, stored_as: None })
}

fn owned(text: &str) -> Text {
    Cow::Owned(text.to_owned())
}

fn version(
    declared: &Value,
    names: &Names,
    definition: &Value,
    path: &FieldPath,
) -> Result<Version, Vec<Cause>> {
    let schema_value = declared.at(&["schema", "openAPIV3Schema"]);
    let preserve = definition.bool_at(&["spec", "preserveUnknownFields"]) == Some(true);
    let mut arena = Arena::new();
    let path = path.field("schema").field("openAPIV3Schema");
    let root = match schema_value {
        Some(value) => arena.node(value, &path, 0),
        None => NodeId::ANY,
    };
    if !arena.causes.is_empty() {
        return Err(arena.causes);
    }
    let root = arena.root(root, preserve);
    let columns: Vec<Column> = table::custom(declared.array_at(&["additionalPrinterColumns"]));
    let selectable = declared.array_at(&["selectableFields"]).iter().filter_map(|f| f.str_at(&["jsonPath"]));
    let deprecated = declared.bool_at(&["deprecated"]) == Some(true);
    let name = declared.str_at(&["name"]).unwrap_or_default();
    let group = definition.str_at(&["spec", "group"]).unwrap_or_default();
    let deprecation = match declared.str_at(&["deprecationWarning"]) {
        _ if !deprecated => Cow::Borrowed(""),
        Some(warning) => owned(warning),
        None => Cow::Owned(format!("{group}/{name} {} is deprecated", names.kind)),
    };
    Ok(Version {
        name: owned(name),
        served: declared.bool_at(&["served"]) == Some(true),
        schema: Arc::new(arena.schema),
        root,
        subresources: subresources(declared, names).into(),
        columns: columns.into(),
        selectable: selectable.map(|p| owned(p.trim_start_matches('.'))).collect::<Vec<_>>().into(),
        deprecation,
        rules: schema_value.and_then(Rules::of).map(Arc::new),
    })
}

fn subresources(declared: &Value, names: &Names) -> Vec<Subresource> {
    let verbs = Verbs::GET.with(Verbs::UPDATE).with(Verbs::PATCH);
    let mut out = Vec::new();
    if let Some(scale) = declared.at(&["subresources", "scale"]).filter(|s| !s.is_null()) {
        let path = |field: &str| owned(scale.str_at(&[field]).unwrap_or_default());
        out.push(Subresource {
            name: "scale".into(),
            group_version: Some(("autoscaling".into(), "v1".into())),
            kind: "Scale".into(),
            verbs,
            scale: Some(ScalePaths {
                spec_replicas: path("specReplicasPath"),
                status_replicas: path("statusReplicasPath"),
                selector: path("labelSelectorPath"),
            }),
        });
    }
    if declared.at(&["subresources", "status"]).is_some_and(|s| !s.is_null()) {
        let kind = names.kind.clone();
        out.push(Subresource { name: "status".into(), group_version: None, kind, verbs, scale: None });
    }
    out
}

/// A schema in the making.
struct Arena {
    schema: Schema,
    causes: Vec<Cause>,
}

fn blank(ty: Type) -> Node {
    Node {
        name: "".into(),
        ty,
        props_start: 0,
        props_len: 0,
        items: NodeId::ANY,
        merge: if ty == Type::List { Merge::Atomic } else { Merge::Granular },
        keys: Cow::Borrowed(&[]),
        preserve_unknown: false,
        embedded_resource: false,
        nullable: false,
        constraints: NO_CONSTRAINTS,
        doc: NO_DOC,
    }
}

impl Arena {
    fn new() -> Self {
        let schema = Schema {
            nodes: vec![blank(Type::Any)].into(),
            props: Cow::Owned(Vec::new()),
            constraints: Vec::new(),
        };
        Self { schema, causes: Vec::new() }
    }

    fn push(&mut self, node: Node) -> NodeId {
        let id = u32::try_from(self.schema.nodes.len()).expect("bounded by MAX_NODES");
        self.schema.nodes.to_mut().push(node);
        NodeId(id)
    }

    fn push_props(&mut self, node: &mut Node, mut props: Vec<Property>) {
        props.sort_by(|a, b| a.name.cmp(&b.name));
        node.props_start = u32::try_from(self.schema.props.len()).expect("bounded by MAX_NODES");
        node.props_len = u32::try_from(props.len()).expect("bounded by MAX_NODES");
        self.schema.props.to_mut().extend(props);
    }

    /// The node of a declared schema and all below it.
    fn node(&mut self, value: &Value, path: &FieldPath, depth: usize) -> NodeId {
        if depth > 64 || self.schema.nodes.len() >= MAX_NODES {
            let detail = format!("a schema has at most 64 levels and {MAX_NODES} types");
            self.causes.push(Cause::forbidden(path.clone(), &detail));
            return NodeId::ANY;
        }
        let flag = |name: &str| value.bool_at(&[name]) == Some(true);
        let mut node = Node {
            preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
            embedded_resource: flag("x-kubernetes-embedded-resource"),
            nullable: flag("nullable"),
            ..blank(declared_type(value))
        };
        let additional = value.get("additionalProperties").filter(|a| a.as_object().is_some());
        match node.ty {
            Type::Object if value.get("properties").is_none() && additional.is_some() => node.ty = Type::Map,
            Type::Object
                if value.get("properties").is_none()
                    && value.bool_at(&["additionalProperties"]) == Some(true) =>
            {
                node.ty = Type::Map;
            }
            _ => {}
        }
        let items = match node.ty {
            Type::List => value.get("items").map(|items| (items, path.field("items"))),
            Type::Map => additional.map(|items| (items, path.field("additionalProperties"))),
            Type::Any if value.get("items").is_some() => value.get("items").map(|i| (i, path.field("items"))),
            Type::Any => additional.map(|items| (items, path.field("additionalProperties"))),
            _ => None,
        };
        if let Some((items, path)) = items {
            node.items = self.node(items, &path, depth + 1);
        }
        set_merge(&mut node, value);
        self.properties(&mut node, value, path, depth);
        node.constraints = self.constraints(value, path, depth);
        self.push(node)
    }

    fn properties(&mut self, node: &mut Node, value: &Value, path: &FieldPath, depth: usize) {
        let Some(declared) = value.object_at(&["properties"]) else { return };
        let required: Vec<&str> = value.array_at(&["required"]).iter().filter_map(Value::as_str).collect();
        let mut props = Vec::new();
        for (name, schema) in declared.iter() {
            let id = self.node(schema, &path.field("properties").key(name), depth + 1);
            props.push(property(name, id, required.contains(&name), schema.get("default").cloned()));
        }
        if node.embedded_resource {
            add_identity(&mut props, self);
        }
        self.push_props(node, props);
    }

    /// The type of whole objects: identity and metadata besides what is declared.
    fn root(&mut self, declared: NodeId, preserve: bool) -> NodeId {
        let mut root = self.schema.nodes[declared.0 as usize].clone();
        let start = root.props_start as usize;
        let mut props = self.schema.props[start..start + root.props_len as usize].to_vec();
        root.preserve_unknown |= preserve || root.ty == Type::Any;
        root.ty = Type::Object;
        root.nullable = false;
        props.retain(|p| !matches!(p.name.as_ref(), "apiVersion" | "kind" | "metadata"));
        add_identity(&mut props, self);
        self.push_props(&mut root, props);
        self.push(root)
    }

    fn constraints(&mut self, value: &Value, path: &FieldPath, depth: usize) -> u32 {
        let mut several = |name: &str| -> Vec<NodeId> {
            let schemas = value.array_at(&[name]).iter().enumerate();
            schemas.map(|(i, s)| self.node(s, &path.field(name).index(i), depth + 1)).collect()
        };
        let (all_of, any_of, one_of) = (several("allOf"), several("anyOf"), several("oneOf"));
        let not = value.get("not").map(|s| self.node(s, &path.field("not"), depth + 1));
        let number = |name: &str| match value.get(name) {
            #[expect(clippy::cast_precision_loss, reason = "JSON schema compares numbers as doubles")]
            Some(Value::Int(i)) => Some(*i as f64),
            Some(Value::Float(f)) => Some(*f),
            _ => None,
        };
        let count = |name: &str| value.i64_at(&[name]).and_then(|n| u64::try_from(n).ok());
        let flag = |name: &str| value.bool_at(&[name]) == Some(true);
        let text = |name: &str| value.str_at(&[name]).map(str::to_owned);
        let constraints = Constraints {
            allowed: value.array_at(&["enum"]).to_vec(),
            format: text("format"),
            pattern: text("pattern").map(Pattern::new),
            minimum: number("minimum").map(|n| (n, flag("exclusiveMinimum"))),
            maximum: number("maximum").map(|n| (n, flag("exclusiveMaximum"))),
            multiple_of: number("multipleOf"),
            length: (count("minLength"), count("maxLength")),
            items: (count("minItems"), count("maxItems")),
            properties: (count("minProperties"), count("maxProperties")),
            unique_items: flag("uniqueItems"),
            required: undeclared(value),
            all_of,
            any_of,
            one_of,
            not,
            rules: value.array_at(&["x-kubernetes-validations"]).to_vec(),
        };
        if constraints == Constraints::default() {
            return NO_CONSTRAINTS;
        }
        self.schema.constraints.push(constraints);
        u32::try_from(self.schema.constraints.len() - 1).expect("bounded by MAX_NODES")
    }
}

/// The required fields that are no properties.
fn undeclared(value: &Value) -> Vec<String> {
    let declared = |name: &str| value.object_at(&["properties"]).is_some_and(|all| all.contains(name));
    let required = value.array_at(&["required"]).iter().filter_map(Value::as_str);
    required.filter(|name| !declared(name)).map(str::to_owned).collect()
}

fn property(name: &str, node: NodeId, required: bool, default: Option<Value>) -> Property {
    Property {
        name: Cow::Owned(name.to_owned()),
        node,
        required,
        patch: PatchStrategy::Replace,
        merge_key: "".into(),
        default: default.map(DefaultValue::Value),
        doc: NO_DOC,
    }
}

fn declared_type(value: &Value) -> Type {
    let flag = |name: &str| value.bool_at(&[name]) == Some(true);
    if flag("x-kubernetes-int-or-string") {
        return Type::IntOrString;
    }
    match (value.str_at(&["type"]), value.str_at(&["format"])) {
        (Some("object"), _) => Type::Object,
        (Some("array"), _) => Type::List,
        (Some("string"), Some("byte")) => Type::Bytes,
        (Some("string"), _) => Type::String,
        (Some("integer"), Some("int32")) => Type::Int32,
        (Some("integer"), _) => Type::Int64,
        (Some("number"), _) => Type::Number,
        (Some("boolean"), _) => Type::Boolean,
        _ => Type::Any,
    }
}

fn set_merge(node: &mut Node, value: &Value) {
    let keys = || value.array_at(&["x-kubernetes-list-map-keys"]).iter().filter_map(Value::as_str).map(owned);
    match (value.str_at(&["x-kubernetes-list-type"]), value.str_at(&["x-kubernetes-map-type"])) {
        (Some("map"), _) => {
            node.merge = Merge::Keyed;
            node.keys = keys().collect::<Vec<_>>().into();
        }
        (Some("set"), _) => node.merge = Merge::Set,
        (Some("atomic"), _) | (_, Some("atomic")) => node.merge = Merge::Atomic,
        _ => {}
    }
}

/// `apiVersion`, `kind` and `metadata`, the latter with the type of built-in objects.
fn add_identity(props: &mut Vec<Property>, arena: &mut Arena) {
    let string = arena.push(blank(Type::String));
    for name in ["apiVersion", "kind"] {
        if !props.iter().any(|p| p.name == name) {
            props.push(property(name, string, false, None));
        }
    }
    let built_in = builtin::schema();
    if let Some(id) = builtin::definition("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta") {
        let metadata = copy(arena, &built_in, id, &mut Vec::new());
        props.retain(|p| p.name != "metadata");
        props.push(property("metadata", metadata, false, None));
    }
}

/// Copies a type and all below it from another arena.
fn copy(arena: &mut Arena, from: &Schema, id: NodeId, known: &mut Vec<(NodeId, NodeId)>) -> NodeId {
    if id == NodeId::ANY {
        return id;
    }
    if let Some((_, there)) = known.iter().find(|(here, _)| *here == id) {
        return *there;
    }
    let source = from.at(id);
    let there = arena.push(source.node.clone());
    known.push((id, there));
    let items = copy(arena, from, source.node.items, known);
    let props: Vec<Property> = source
        .properties()
        .map(|p| Property { node: copy(arena, from, p.node, known), doc: NO_DOC, ..p.clone() })
        .collect();
    let mut node = Node { items, doc: NO_DOC, ..source.node.clone() };
    arena.push_props(&mut node, props);
    arena.schema.nodes.to_mut()[there.0 as usize] = node;
    there
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::structural::{Strictness, decode, default, validate};
    use crate::{json, object};

    fn definition() -> Value {
        object!({
            "spec": {
                "group": "example.com", "scope": "Namespaced",
                "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wd"]},
                "versions": [{
                    "name": "v1", "served": true, "storage": true,
                    "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}},
                    "schema": {"openAPIV3Schema": {
                        "type": "object",
                        "required": ["spec"],
                        "properties": {
                            "spec": {
                                "type": "object",
                                "required": ["size"],
                                "properties": {
                                    "size": {"type": "string", "enum": ["S", "L"]},
                                    "replicas": {"type": "integer", "default": 1, "minimum": 0},
                                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                                    "labels": {"type": "object", "additionalProperties": {"type": "string"}}
                                }
                            },
                            "status": {"type": "object", "properties": {"replicas": {"type": "integer"}}}
                        }
                    }}
                }]
            }
        })
    }

    /// What is wrong with a specification under a schema for it.
    fn faults(schema: &str, spec: &str) -> Vec<String> {
        let mut definition = definition();
        let tree = |text: &str| json::from_slice(text.as_bytes()).expect(text);
        let versions = definition.make(&["spec", "versions"]).as_array_mut().expect("a list");
        let whole = object!({"type": "object", "properties": {"spec": (tree(schema))}});
        versions[0].set(&["schema", "openAPIV3Schema"], whole);
        let row = resource(&definition).expect(schema);
        let object = object!({"apiVersion": "example.com/v1", "kind": "Widget", "spec": (tree(spec))});
        validate(&object, row.storage().root()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn alternatives_are_about_values_of_any_type() {
        let check = |branches: &str, spec: &str, want: &[&str]| {
            let schema = format!(
                r#"{{"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties":
                    {{"a": {{"type": "string"}}, "b": {{"type": "string"}}, "l": {{"type": "array", "items":
                    {{"type": "string"}}}}}}, {branches}}}"#
            );
            assert_eq!(faults(&schema, spec), want, "{branches} of {spec}");
        };
        let one = r#""oneOf": [{"required": ["a"]}, {"required": ["b"]}]"#;
        const NIL: &str = r#"<nil>: Invalid value: "": "spec" must"#;
        check(one, r#"{"a": "x"}"#, &[]);
        let found = |what: &str| format!("{NIL} validate one and only one schema (oneOf). Found {what}");
        check(one, "{}", &[&found("none valid"), "spec.a: Required value"]);
        check(one, r#"{"a": "x", "b": "y"}"#, &[&found("2 valid alternatives")]);
        let any =
            r#""anyOf": [{"required": ["a"]}, {"properties": {"b": {"enum": ["y"]}}, "required": ["b"]}]"#;
        check(any, r#"{"b": "y"}"#, &[]);
        let none = format!("{NIL} validate at least one schema (anyOf)");
        let enumerated = r#"spec.b: Unsupported value: "x": supported values: "y""#;
        check(any, r#"{"b": "x"}"#, &[&none, enumerated]);
        let all = r#""allOf": [{"required": ["a"]}, {"properties": {"l": {"minItems": 1, "items": {"maxLength": 1}}}}]"#;
        check(all, r#"{"a": "x", "l": ["y"]}"#, &[]);
        let not_all = format!("{NIL} validate all the schemas (allOf)");
        let long = r#"spec.l[0]: Too long: may not be more than 1 bytes"#;
        check(all, r#"{"a": "x", "l": ["yy"]}"#, &[long, &not_all]);
        let not = r#""not": {"required": ["a", "b"]}"#;
        check(not, r#"{"a": "x"}"#, &[]);
        check(not, r#"{"a": "x", "b": "y"}"#, &[&format!("{NIL} not validate the schema (not)")]);
        // Whether a pattern matches is not known, so neither is that too much matches.
        let pattern = r#""oneOf": [{"properties": {"a": {"pattern": "^x"}}}, {"properties": {"a": {"pattern": "^y"}}}]"#;
        check(pattern, r#"{"a": "x"}"#, &[]);
        check(r#""not": {"properties": {"a": {"pattern": "^y"}}}"#, r#"{"a": "x"}"#, &[]);
    }

    #[test]
    fn required_fields_need_no_declaration() {
        let schema = r#"{"type": "object", "x-kubernetes-preserve-unknown-fields": true, "required": ["z"]}"#;
        assert_eq!(faults(schema, "{}"), ["spec.z: Required value"]);
        assert_eq!(faults(schema, r#"{"z": 1}"#), [""; 0]);
    }

    #[test]
    fn a_definition_becomes_a_row() {
        let row = resource(&definition()).expect("a good definition");
        assert_eq!((row.names.singular.as_ref(), row.names.list_kind.as_ref()), ("widget", "WidgetList"));
        let version = row.storage();
        let names: Vec<&str> = version.subresources.iter().map(|s| s.name.as_ref()).collect();
        assert_eq!(names, ["scale", "status"]);
    }

    #[test]
    fn objects_follow_the_schema() {
        let row = resource(&definition()).expect("a good definition");
        let root = row.storage().root();
        let mut object = object!({
            "apiVersion": "example.com/v1", "kind": "Widget",
            "metadata": {"name": "a", "labels": {"x": "y"}, "odd": 1},
            "spec": {"size": "M", "free": {"any": {"thing": 1}}, "labels": {"k": "v"}, "odd": 2}
        });
        let found = decode(&mut object, root, Strictness::Custom);
        let unknown: Vec<&str> = found.unknown.iter().map(FieldPath::as_str).collect();
        assert_eq!(unknown, ["metadata.odd", "spec.odd"]);
        assert_eq!(found.mistyped, []);
        default(&mut object, root);
        assert_eq!(
            String::from_utf8_lossy(&json::to_vec(object.get("spec").expect("there"))),
            r#"{"free":{"any":{"thing":1}},"labels":{"k":"v"},"replicas":1,"size":"M"}"#
        );
        let causes: Vec<String> = validate(&object, root).iter().map(ToString::to_string).collect();
        assert_eq!(causes, [r#"spec.size: Unsupported value: "M": supported values: "S", "L""#]);
    }
}
