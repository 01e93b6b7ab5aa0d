use std::borrow::Cow;
use std::collections::HashSet;

use super::*;
use crate::resource::{Names, ScalePaths, Scope, Subresource, Verbs};
use crate::schema::{NodeId, Schema};
use crate::{json, object};

/// Rows with the definitions that made them.
pub(super) type Rows = Vec<(ResourceDef, Option<Value>)>;

pub(super) fn builtins() -> Rows {
    builtin::resources().into_iter().map(|row| (row, None)).collect()
}

pub(super) fn documents(rows: &Rows) -> Documents<'_> {
    let resources = rows.iter().map(|(row, definition)| Resource { row, definition: definition.as_ref() });
    Documents::new(resources.collect(), "v1.36.0")
}

fn read(document: &[u8]) -> Value {
    json::from_slice(document).expect("the document is JSON")
}

fn v3(documents: &Documents<'_>, key: &str, docs: &Docs) -> Value {
    read(&documents.v3(key, docs).unwrap_or_else(|| panic!("there is no {key}")))
}

fn text(value: Option<&Value>) -> String {
    String::from_utf8(json::to_vec(value.unwrap_or(&Value::Null))).expect("JSON is UTF-8")
}

/// A custom resource with both subresources.
pub(super) fn cron_tab(schema: Option<Value>) -> (ResourceDef, Option<Value>) {
    let own = |name: &'static str, kind: &'static str| Subresource {
        name: name.into(),
        group_version: None,
        kind: kind.into(),
        verbs: Verbs::GET.with(Verbs::PATCH).with(Verbs::UPDATE),
        scale: None,
    };
    let scale = Subresource {
        group_version: Some(("autoscaling".into(), "v1".into())),
        scale: Some(ScalePaths {
            spec_replicas: ".spec.replicas".into(),
            status_replicas: ".status.replicas".into(),
            selector: "".into(),
        }),
        ..own("scale", "Scale")
    };
    let version = Version {
        name: "v1".into(),
        served: true,
        schema: Arc::new(Schema {
            nodes: builtin::schema().nodes[..1].to_vec().into(),
            props: Cow::Borrowed(&[]),
            constraints: Vec::new(),
        }),
        root: NodeId::ANY,
        subresources: vec![own("status", "CronTab"), scale].into(),
        columns: Cow::Borrowed(&[]),
        selectable: vec!["spec.color".into()].into(),
        deprecation: "".into(),
        rules: None,
    };
    let hidden = Version { name: "v2".into(), served: false, ..version.clone() };
    let row = ResourceDef {
        group: "stable.example.com".into(),
        names: Names {
            plural: "crontabs".into(),
            singular: "crontab".into(),
            kind: "CronTab".into(),
            list_kind: "CronTabList".into(),
            short: Cow::Borrowed(&[]),
            categories: Cow::Borrowed(&[]),
        },
        scope: Scope::Namespaced,
        verbs: Verbs::ALL,
        versions: vec![version, hidden],
        storage_version: 0,
        stored_as: None,
    };
    let mut definition = object!({"spec": {"versions": [{"name": "v0"}, {"name": "v1"}]}});
    if let (Some(schema), Some(versions)) = (schema, definition.make(&["spec", "versions"]).as_array_mut()) {
        versions[1].set(&["schema", "openAPIV3Schema"], schema);
    }
    (row, Some(definition))
}

const CRON: &str = "com.example.stable.v1.CronTab";

#[test]
fn there_is_a_document_for_each_group_and_version() {
    let keys = documents(&builtins()).keys();
    for key in ["api", "api/v1", "apis", "apis/apps", "apis/apps/v1", "apis/autoscaling/v2", "version"] {
        assert!(keys.contains(key), "{key}");
    }
    assert_eq!(keys.len(), 22 + 20 + 3);
    let rows = vec![cron_tab(None)];
    let custom = documents(&rows);
    assert_eq!(
        custom.keys().into_iter().collect::<Vec<_>>(),
        ["apis", "apis/stable.example.com", "apis/stable.example.com/v1", "version"]
    );
    assert_eq!(custom.v3("apis/stable.example.com/v2", &Docs::unpack()), None);
}

#[test]
fn the_index_links_by_hash() {
    let got = index([("api/v1", "AB"), ("apis/apps/v1", "CD")]);
    assert_eq!(
        String::from_utf8_lossy(&got),
        r#"{"paths":{"api/v1":{"serverRelativeURL":"/openapi/v3/api/v1?hash=AB"},"apis/apps/v1":{"serverRelativeURL":"/openapi/v3/apis/apps/v1?hash=CD"}}}"#
    );
}

/// What `kubectl explain` does: from the resource to a path, from its GET to the kind, from the kind to the type.
fn explained<'a>(document: &'a Value, row: &ResourceDef, version: &str) -> Option<&'a Value> {
    let root = format!(
        "{}/{version}",
        if row.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", row.group) }
    );
    let paths = document.object_at(&["paths"])?;
    let plural = &row.names.plural;
    let path = [
        format!("{root}/namespaces/{{namespace}}/{plural}/{{name}}"),
        format!("{root}/{plural}/{{name}}"),
        format!("{root}/namespaces/{{namespace}}/{plural}"),
        format!("{root}/{plural}"),
    ]
    .into_iter()
    .find_map(|path| paths.get(&path))?;
    let operation = path.as_object()?.values().find(|o| o.get("operationId").is_some())?;
    let kind = operation.get("x-kubernetes-group-version-kind")?;
    let types =
        document.object_at(&["components", "schemas"]).or_else(|| document.object_at(&["definitions"]))?;
    types.values().find(|ty| ty.array_at(&["x-kubernetes-group-version-kind"]).contains(kind))
}

#[test]
fn every_resource_can_be_explained() {
    let mut rows = builtins();
    rows.push(cron_tab(Some(object!({"type": "object", "properties": {"spec": {"type": "object"}}}))));
    let (documents, docs) = (documents(&rows), Docs::unpack());
    let v2 = read(&documents.v2(&docs));
    for (row, version) in rows.iter().flat_map(|(row, _)| row.versions.iter().map(move |v| (row, v))) {
        if !version.served {
            continue;
        }
        let key = Part::GroupVersion(row.group.to_string(), version.name.to_string()).key();
        for document in [&v3(&documents, &key, &docs), &v2] {
            let ty = explained(document, row, &version.name);
            let ty = ty.unwrap_or_else(|| panic!("{} of {key}", row.names.plural));
            let metadata = ty.at(&["properties", "metadata"]);
            let reviews = row.verbs == Verbs::CREATE;
            assert!(metadata.is_some() || reviews, "{} of {key} has no metadata", row.names.plural);
        }
    }
}

/// Calls `visit` with each object inside `value` under each name.
fn each_member<'a>(value: &'a Value, visit: &mut impl FnMut(&'a str, &'a Value)) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| each_member(item, visit)),
        Value::Object(members) => members.iter().for_each(|(name, member)| {
            visit(name, member);
            each_member(member, visit);
        }),
        _ => {}
    }
}

#[test]
fn documents_hold_together() {
    let mut rows = builtins();
    rows.push(cron_tab(None));
    let (documents, docs) = (documents(&rows), Docs::unpack());
    let mut all = vec![read(&documents.v2(&docs))];
    all.extend(documents.keys().iter().map(|key| v3(&documents, key, &docs)));
    for document in &all {
        let mut ids = HashSet::new();
        each_member(document, &mut |name, member| {
            if let ("$ref", Some(target)) = (name, member.as_str()) {
                let path: Vec<&str> = target.trim_start_matches("#/").split('/').collect();
                assert!(document.at(&path).is_some(), "{target} is not there");
            }
            if let ("operationId", Some(id)) = (name, member.as_str()) {
                assert!(ids.insert(id), "{id} is there twice");
            }
        });
        for (path, item) in document.object_at(&["paths"]).into_iter().flat_map(Map::iter) {
            let declared: Vec<&str> = item
                .array_at(&["parameters"])
                .iter()
                .filter(|p| p.str_at(&["in"]) == Some("path"))
                .filter_map(|p| p.str_at(&["name"]))
                .collect();
            let mut used: Vec<&str> =
                path.split('/').filter_map(|s| s.strip_prefix('{')?.strip_suffix('}')).collect();
            used.sort_unstable();
            assert_eq!(declared, used, "{path}");
        }
    }
}

#[test]
fn kubectl_finds_field_validation_at_each_patch() {
    let rows = builtins();
    let (documents, docs) = (documents(&rows), Docs::unpack());
    let mut patches = 0;
    for key in documents.keys() {
        let document = v3(&documents, &key, &docs);
        for (path, item) in document.object_at(&["paths"]).into_iter().flat_map(Map::iter) {
            let Some(patch) = item.get("patch") else { continue };
            if patch.str_at(&["x-kubernetes-action"]) == Some("connect") {
                continue;
            }
            patches += 1;
            let all = item.array_at(&["parameters"]).iter().chain(patch.array_at(&["parameters"]));
            let names: Vec<&str> = all.filter_map(|p| p.str_at(&["name"])).collect();
            for name in ["dryRun", "fieldManager", "fieldValidation", "force", "pretty"] {
                assert!(names.contains(&name), "{path} lacks {name}");
            }
        }
    }
    assert!(patches > 90, "{patches}");
}

#[test]
fn types_in_both_dialects() {
    let rows = builtins();
    let (documents, docs) = (documents(&rows), Docs::unpack());
    let (core, v2) = (v3(&documents, "api/v1", &docs), read(&documents.v2(&docs)));
    let strip = |value: &Value| {
        let mut value = value.clone();
        value.as_object_mut().expect("a type is an object").remove("description");
        value
    };
    let check = |name: &str, fields: &[&str], want_v3: &str, want_v2: &str| {
        let path: Vec<&str> =
            [name].into_iter().chain(fields.iter().flat_map(|f| ["properties", f])).collect();
        for (root, want) in
            [(core.at(&["components", "schemas"]), want_v3), (v2.at(&["definitions"]), want_v2)]
        {
            let found = root.and_then(|r| r.at(&path)).unwrap_or_else(|| panic!("{path:?} is missing"));
            assert_eq!(text(Some(&strip(found))), want, "{path:?}");
        }
    };
    const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
    check(
        "io.k8s.apimachinery.pkg.api.resource.Quantity",
        &[],
        r#"{"oneOf":[{"type":"string"},{"type":"number"}]}"#,
        r#"{"type":"string"}"#,
    );
    check(
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
        &[],
        r#"{"format":"int-or-string","oneOf":[{"type":"integer"},{"type":"string"}]}"#,
        r#"{"format":"int-or-string","type":"string"}"#,
    );
    let time = r#"{"format":"date-time","type":"string"}"#;
    check(&format!("{META}.Time"), &[], time, time);
    check(&format!("{META}.FieldsV1"), &[], r#"{"type":"object"}"#, r#"{"type":"object"}"#);
    let ports = r##"{"items":{"$ref":"PREFIXio.k8s.api.core.v1.ContainerPort"},"type":"array","x-kubernetes-list-map-keys":["containerPort","protocol"],"x-kubernetes-list-type":"map","x-kubernetes-patch-merge-key":"containerPort","x-kubernetes-patch-strategy":"merge"}"##;
    check(
        "io.k8s.api.core.v1.Container",
        &["ports"],
        &ports.replace("PREFIX", "#/components/schemas/"),
        &ports.replace("PREFIX", "#/definitions/"),
    );
    check(
        "io.k8s.api.core.v1.ContainerPort",
        &["protocol"],
        r#"{"default":"TCP","type":"string"}"#,
        r#"{"type":"string"}"#,
    );
    check(
        "io.k8s.api.core.v1.Pod",
        &["spec"],
        r##"{"allOf":[{"$ref":"#/components/schemas/io.k8s.api.core.v1.PodSpec"}]}"##,
        r##"{"$ref":"#/definitions/io.k8s.api.core.v1.PodSpec"}"##,
    );
    let bytes = r#"{"additionalProperties":{"format":"byte","type":"string"},"type":"object"}"#;
    check("io.k8s.api.core.v1.Secret", &["data"], bytes, bytes);
    let atomic =
        r#"{"additionalProperties":{"type":"string"},"type":"object","x-kubernetes-map-type":"atomic"}"#;
    check("io.k8s.api.core.v1.PodSpec", &["nodeSelector"], atomic, atomic);
    let options =
        v2.at(&["definitions", &format!("{META}.DeleteOptions"), "x-kubernetes-group-version-kind"]);
    assert_eq!(options.and_then(Value::as_array).map(<[Value]>::len), Some(22));
}

#[test]
fn descriptions_come_along() {
    let rows = builtins();
    let (documents, docs) = (documents(&rows), Docs::unpack());
    let core = v3(&documents, "api/v1", &docs);
    let described = |path: &[&str]| {
        let full: Vec<&str> = ["components", "schemas"].iter().chain(path).copied().collect();
        core.at(&full).and_then(|ty| ty.str_at(&["description"])).is_some_and(|d| d.len() > 20)
    };
    assert!(described(&["io.k8s.api.core.v1.Pod"]));
    assert!(described(&["io.k8s.api.core.v1.PodSpec", "properties", "containers"]));
    assert!(described(&["io.k8s.api.core.v1.Pod", "properties", "spec"]));
}

#[test]
fn custom_resources() {
    let schema = object!({
        "type": "object",
        "description": "A table of jobs.",
        "properties": {
            "spec": {
                "type": "object",
                "required": ["cron"],
                "properties": {
                    "cron": {"type": "string", "pattern": "^a", "default": "a"},
                    "any": {"x-kubernetes-preserve-unknown-fields": true, "type": "object", "properties": {"a": {"type": "string"}}},
                    "pod": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}
                }
            }
        }
    });
    let rows = vec![cron_tab(Some(schema))];
    let (documents, docs) = (documents(&rows), Docs::unpack());
    let document = v3(&documents, "apis/stable.example.com/v1", &docs);
    let at = |path: &[&str]| {
        let full: Vec<&str> = ["components", "schemas", CRON].iter().chain(path).copied().collect();
        document.at(&full)
    };
    assert_eq!(text(at(&["description"])), r#""A table of jobs.""#);
    assert_eq!(
        text(at(&["properties", "spec", "properties", "cron"])),
        r#"{"default":"a","pattern":"^a","type":"string"}"#
    );
    assert_eq!(
        text(at(&["properties", "metadata", "allOf"])),
        r##"[{"$ref":"#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}]"##
    );
    assert_eq!(
        text(at(&["properties", "spec", "properties", "pod", "required"])),
        r#"["kind","apiVersion"]"#
    );
    assert_eq!(
        text(at(&["x-kubernetes-group-version-kind"])),
        r#"[{"group":"stable.example.com","kind":"CronTab","version":"v1"}]"#
    );
    assert_eq!(text(at(&["x-kubernetes-selectable-fields"])), r#"[{"fieldPath":"spec.color"}]"#);
    let v2 = read(&documents.v2(&docs));
    let spec = v2.at(&["definitions", CRON, "properties", "spec", "properties"]);
    assert_eq!(text(spec.and_then(|s| s.get("cron"))), r#"{"pattern":"^a","type":"string"}"#);
    assert_eq!(text(spec.and_then(|s| s.get("any"))), r#"{"x-kubernetes-preserve-unknown-fields":true}"#);
    let list = v2.at(&["definitions", &format!("{CRON}List"), "properties", "items", "items", "$ref"]);
    assert_eq!(text(list), format!("\"#/definitions/{CRON}\""));
}

#[test]
fn paths_of_custom_resources() {
    let rows = vec![cron_tab(None)];
    let (documents, docs) = (documents(&rows), Docs::unpack());
    let document = v3(&documents, "apis/stable.example.com/v1", &docs);
    let root = "/apis/stable.example.com/v1";
    let paths: Vec<&str> = document.object_at(&["paths"]).into_iter().flat_map(Map::keys).collect();
    let item = format!("{root}/namespaces/{{namespace}}/crontabs/{{name}}");
    let want = [
        format!("{root}/"),
        format!("{root}/crontabs"),
        format!("{root}/namespaces/{{namespace}}/crontabs"),
        item.clone(),
        format!("{item}/scale"),
        format!("{item}/status"),
    ];
    assert_eq!(paths, want);
    let operation =
        |path: &str, method: &str, field: &str| text(document.at(&["paths", path, method, field]));
    assert_eq!(operation(&item, "patch", "operationId"), r#""patchStableExampleComV1NamespacedCronTab""#);
    assert_eq!(operation(&item, "patch", "tags"), r#"["stableExampleCom_v1"]"#);
    let content = operation(&item, "patch", "requestBody");
    assert!(!content.contains("strategic-merge-patch") && content.contains("apply-patch+yaml"), "{content}");
    assert_eq!(
        operation(&format!("{item}/scale"), "get", "x-kubernetes-group-version-kind"),
        r#"{"group":"autoscaling","kind":"Scale","version":"v1"}"#
    );
    // A type without a schema declares no fields: kubectl would refuse all others.
    let ty = document.at(&["components", "schemas", CRON]).expect("the type is there");
    assert_eq!((ty.str_at(&["type"]), ty.get("properties")), (Some("object"), None));
}

#[test]
fn operation_ids_are_upstreams() {
    let rows = builtins();
    let (documents, docs) = (documents(&rows), Docs::unpack());
    let v2 = read(&documents.v2(&docs));
    let check = |path: &str, method: &str, want: &str| {
        assert_eq!(
            v2.at(&["paths", path, method]).and_then(|o| o.str_at(&["operationId"])),
            Some(want),
            "{path}"
        );
    };
    let deployments = "/apis/apps/v1/namespaces/{namespace}/deployments";
    let pod = "/api/v1/namespaces/{namespace}/pods/{name}";
    check("/apis/apps/v1/deployments", "get", "listAppsV1DeploymentForAllNamespaces");
    check(deployments, "get", "listAppsV1NamespacedDeployment");
    check(deployments, "delete", "deleteAppsV1CollectionNamespacedDeployment");
    check(&format!("{deployments}/{{name}}/scale"), "put", "replaceAppsV1NamespacedDeploymentScale");
    check("/api/v1/namespaces/{name}", "get", "readCoreV1Namespace");
    check("/api/v1/namespaces/{name}/finalize", "put", "replaceCoreV1NamespaceFinalize");
    check("/api/v1/watch/namespaces", "get", "watchCoreV1NamespaceList");
    check("/api/v1/watch/pods", "get", "watchCoreV1PodListForAllNamespaces");
    check(&format!("{pod}/exec"), "post", "connectCoreV1PostNamespacedPodExec");
    check(&format!("{pod}/log"), "get", "readCoreV1NamespacedPodLog");
    check(&format!("{pod}/proxy/{{path}}"), "head", "connectCoreV1HeadNamespacedPodProxyWithPath");
    check(&format!("{pod}/eviction"), "post", "createCoreV1NamespacedPodEviction");
    check("/apis/rbac.authorization.k8s.io/v1/roles", "get", "listRbacAuthorizationV1RoleForAllNamespaces");
    check("/apis/apps/", "get", "getAppsAPIGroup");
    check("/apis/", "get", "getAPIVersions");
}
