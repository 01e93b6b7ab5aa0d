//! The check of a policy's types: what its expressions would do wrong with the objects that its rules name.
//!
//! A policy is in force whatever is found; its status tells. Only what rules name in full is checked, since nothing is known
//! of a wildcard's types.

use std::collections::BTreeMap;
use std::sync::Arc;

use xebec_api::schema::{NodeId, SchemaRef, Type as Json};
use xebec_api::{Value, builtin, object};
use xebec_cel::Type;
use xebec_cel::schema::{Field, ListKind, ObjectSchema, Schema, SchemaKind, escape};

use super::definition::ParamKind;
use crate::admission::expressions::{Environment, Sees, Typed};
use crate::registry::table::{Served, Table};

/// How many types of one rule are checked.
const MAX_TYPES: usize = 10;
/// How many types of all rules are checked.
const MAX_ALL_TYPES: usize = 32;
/// How deep the objects of a type are looked into.
const MAX_DEPTH: usize = 64;
/// How many types are made of one kind at most; beyond, its fields may be anything.
const MAX_PARTS: usize = 100_000;

/// `status.typeChecking.expressionWarnings` of a policy.
pub(crate) fn warnings(policy: &Value, table: &Table) -> Vec<Value> {
    let Some(spec) = policy.get("spec") else { return Vec::new() };
    let checks = Checks::new(spec, table);
    let mut found = Vec::new();
    for (at, validation) in spec.array_at(&["validations"]).iter().enumerate() {
        for field in ["expression", "messageExpression"] {
            let text = validation.str_at(&[field]).unwrap_or_default();
            let warning = if text.is_empty() { String::new() } else { checks.of(text) };
            if !warning.is_empty() {
                let reference = format!("spec.validations[{at}].{field}");
                found.push(object!({"fieldRef": reference, "warning": warning}));
            }
        }
    }
    found
}

/// One environment for each type that the rules name.
struct Checks {
    /// By group, version and kind.
    environments: BTreeMap<(String, String, String), Environment>,
}

impl Checks {
    fn new(spec: &Value, table: &Table) -> Self {
        let kind = ParamKind::of_policy(spec);
        let params = kind.as_ref().and_then(|kind| kind.resolve(table)).and_then(|served| typed(&served));
        let sees = Sees { params: kind.is_some(), authorizer: true, patches: false };
        let mut environments = BTreeMap::new();
        for served in named(spec, table) {
            if environments.len() == MAX_ALL_TYPES {
                break;
            }
            let Some(object) = typed(&served) else { continue };
            let row = &served.row;
            let key = (row.group().to_owned(), served.version().name.to_string(), row.kind_name().to_owned());
            environments.entry(key).or_insert_with(|| {
                let types = Typed { object: Some(object), params: params.clone() };
                environment(spec, sees, &types)
            });
        }
        Self { environments }
    }

    /// What is wrong with an expression, for each type.
    fn of(&self, text: &str) -> String {
        let faults = self.environments.iter().filter_map(|((group, version, kind), environment)| {
            let why = environment.check(text).err()?;
            Some(format!("{group}/{version}, Kind={kind}: {why}\n"))
        });
        faults.collect::<Vec<_>>().join("\n")
    }
}

/// What expressions of the policy see; variables that are wrong may be anything.
fn environment(spec: &Value, sees: Sees, types: &Typed) -> Environment {
    let mut environment = Environment::typed(sees, types).with_variables();
    for variable in spec.array_at(&["variables"]) {
        let text = |field: &str| variable.str_at(&[field]).unwrap_or_default();
        let type_of = environment.check(text("expression")).unwrap_or(Type::Dyn);
        environment.add_type(text("name"), type_of);
    }
    environment
}

/// The resources that rules name in full, without subresources.
fn named(spec: &Value, table: &Table) -> Vec<Served> {
    let mut found = Vec::new();
    for rule in spec.array_at(&["matchConstraints", "resourceRules"]) {
        let texts =
            |field: &str| -> Vec<&str> { rule.array_at(&[field]).iter().filter_map(Value::as_str).collect() };
        let (groups, versions) = (texts("apiGroups"), texts("apiVersions"));
        if groups.iter().chain(&versions).any(|text| text.contains('*')) {
            continue;
        }
        let resources: Vec<&str> =
            texts("resources").into_iter().filter(|resource| !resource.contains(['*', '/'])).collect();
        let mut of_rule = Vec::new();
        for group in &groups {
            for version in &versions {
                let served =
                    resources.iter().filter_map(|resource| table.served(group, version, resource).ok());
                of_rule.extend(served.take(MAX_TYPES - of_rule.len().min(MAX_TYPES)));
            }
        }
        found.extend(of_rule);
    }
    found
}

/// The type of a resource's objects, if anything is known of it.
fn typed(served: &Served) -> Option<Arc<Schema>> {
    let mut declared = Declared { path: Vec::new(), parts: 0, custom: served.row.custom };
    let kind = served.row.kind_name();
    let schema = declared.schema(served.version().root(), kind, true);
    matches!(schema.kind, SchemaKind::Object(_)).then(|| Arc::new(schema))
}

/// Makes the types of expressions from those of objects.
struct Declared {
    /// The named types around, so that one that contains itself ends.
    path: Vec<String>,
    parts: usize,
    custom: bool,
}

impl Declared {
    fn schema(&mut self, node: SchemaRef<'_>, name: &str, is_root: bool) -> Schema {
        self.parts += 1;
        let plain = |kind| Schema::new(kind);
        match node.ty() {
            Json::Any | Json::Quantity => plain(SchemaKind::Any),
            Json::IntOrString => plain(SchemaKind::IntOrString),
            Json::String => match node.constraints().and_then(|c| c.format.as_deref()) {
                Some("date") => plain(SchemaKind::Date),
                Some("date-time") => plain(SchemaKind::DateTime),
                Some("duration") => plain(SchemaKind::Duration),
                _ => plain(SchemaKind::String),
            },
            Json::Bytes => plain(SchemaKind::Bytes),
            Json::Time | Json::MicroTime => plain(SchemaKind::DateTime),
            Json::Int32 | Json::Int64 => plain(SchemaKind::Int),
            Json::Number => plain(SchemaKind::Double),
            Json::Boolean => plain(SchemaKind::Bool),
            Json::List => {
                let element = self.below(node.items(), &format!("{name}.@idx"), false);
                plain(SchemaKind::List(Arc::new(element), ListKind::Atomic))
            }
            Json::Map => Schema::map(self.below(node.items(), &format!("{name}.@elem"), false)),
            Json::Object if node.node.items != NodeId::ANY && node.properties().len() == 0 => {
                Schema::map(self.below(node.items(), &format!("{name}.@elem"), false))
            }
            Json::Object => self.object(node, name, is_root || node.node.embedded_resource),
        }
    }

    fn below(&mut self, node: SchemaRef<'_>, name: &str, is_root: bool) -> Schema {
        let known = node.node.name.to_string();
        let recurs = !known.is_empty() && self.path.contains(&known);
        if recurs || self.path.len() >= MAX_DEPTH || self.parts >= MAX_PARTS {
            return Schema::new(SchemaKind::Any);
        }
        self.path.push(known);
        let schema = self.schema(node, name, is_root);
        self.path.pop();
        schema
    }

    fn object(&mut self, node: SchemaRef<'_>, name: &str, is_resource: bool) -> Schema {
        let mut fields = BTreeMap::new();
        for property in node.properties() {
            let Some(escaped) = escape(&property.name) else { continue };
            let schema = self.below(node.go(property.node), &format!("{name}.{escaped}"), false);
            fields.insert(property.name.to_string(), (escaped, schema));
        }
        // Definitions of custom resources say nothing of what all resources have.
        if is_resource && self.custom {
            for field in ["apiVersion", "kind"] {
                fields.insert(field.to_owned(), (field.to_owned(), Schema::new(SchemaKind::String)));
            }
            let schema = builtin::schema();
            if let Some(metadata) = builtin::definition("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta") {
                let metadata = self.below(schema.at(metadata), &format!("{name}.metadata"), false);
                fields.insert("metadata".to_owned(), ("metadata".to_owned(), metadata));
            }
        }
        let fields = fields.into_iter().map(|(property, (escaped, schema))| Field {
            name: escaped.into(),
            property: property.into(),
            schema,
            declared: true,
        });
        Schema::object(ObjectSchema::new(name, fields.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(validations: Value, variables: Value, want: &[(&str, &str)]) {
        let policy = object!({"spec": {
            "matchConstraints": {"resourceRules": [{
                "apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["*"],
                "resources": ["deployments", "deployments/scale"]
            }]},
            "variables": (variables), "validations": (validations)
        }});
        let found = warnings(&policy, &Table::built_in());
        assert_eq!(found.len(), want.len(), "{found:?}");
        for (found, (field, text)) in found.iter().zip(want) {
            assert_eq!(found.str_at(&["fieldRef"]), Some(*field));
            let warning = found.str_at(&["warning"]).unwrap_or_default();
            assert!(warning.starts_with("apps/v1, Kind=Deployment: ERROR: <input>:1:"), "{warning}");
            assert!(warning.contains(text), "{warning}");
        }
    }

    #[test]
    fn types_are_checked() {
        check(object!([{"expression": "object.spec.replicas > 1"}]), Value::Null, &[]);
        check(
            object!([{
                "expression": "object.spec.replicas > '1'",
                "messageExpression": "'wants replicas > 1, got ' + object.spec.replicas"
            }]),
            Value::Null,
            &[
                (
                    "spec.validations[0].expression",
                    "found no matching overload for '_>_' applied to '(int, string)'",
                ),
                (
                    "spec.validations[0].messageExpression",
                    "found no matching overload for '_+_' applied to '(string, int)'",
                ),
            ],
        );
        check(
            object!([
                {"expression": "object.metadata.labels['a'] == 'b' && object.spec.maxUnavailable == 1"},
                {"expression": "object.spec.template.spec.containers.all(c, has(c.resources.limits))"},
                {"expression": "variables.count == 'a'"}
            ]),
            object!([{"name": "count", "expression": "object.spec.template.spec.containers.size()"}]),
            &[
                ("spec.validations[0].expression", "undefined field 'maxUnavailable'"),
                ("spec.validations[2].expression", "'_==_' applied to '(int, string)'"),
            ],
        );
    }

    #[test]
    fn wildcards_are_not_checked() {
        let policy = object!({"spec": {
            "matchConstraints": {"resourceRules": [{
                "apiGroups": ["*"], "apiVersions": ["v1"], "operations": ["*"], "resources": ["deployments"]
            }]},
            "validations": [{"expression": "object.nothing == 1"}]
        }});
        assert_eq!(warnings(&policy, &Table::built_in()), []);
    }

    #[test]
    fn every_kind_has_a_type() {
        for row in Table::built_in().rows() {
            for version in 0..row.def.versions.len() {
                let served = Served { row: row.clone(), version };
                assert!(typed(&served).is_some(), "{}", row.resource());
            }
        }
    }
}
