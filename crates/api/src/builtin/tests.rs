//! The facts of the 68 resources of Kubernetes 1.36, told once more and independently of the generator's table.

use super::*;
use crate::resource::Verbs;
use crate::schema::{NO_DOC, SchemaRef, Type};

/// Group and version, plural, scope (N or C), short names, subresources, categories.
const FACTS: &[(&str, &str, char, &str, &str, &str)] = &[
    ("v1", "bindings", 'N', "", "", ""),
    ("v1", "componentstatuses", 'C', "cs", "", ""),
    ("v1", "configmaps", 'N', "cm", "", ""),
    ("v1", "endpoints", 'N', "ep", "", ""),
    ("v1", "events", 'N', "ev", "", ""),
    ("v1", "limitranges", 'N', "limits", "", ""),
    ("v1", "namespaces", 'C', "ns", "finalize,status", ""),
    ("v1", "nodes", 'C', "no", "proxy,status", ""),
    ("v1", "persistentvolumeclaims", 'N', "pvc", "status", ""),
    ("v1", "persistentvolumes", 'C', "pv", "status", ""),
    (
        "v1",
        "pods",
        'N',
        "po",
        "attach,binding,ephemeralcontainers,eviction,exec,log,portforward,proxy,resize,status",
        "all",
    ),
    ("v1", "podtemplates", 'N', "", "", ""),
    ("v1", "replicationcontrollers", 'N', "rc", "scale,status", "all"),
    ("v1", "resourcequotas", 'N', "quota", "status", ""),
    ("v1", "secrets", 'N', "", "", ""),
    ("v1", "serviceaccounts", 'N', "sa", "token", ""),
    ("v1", "services", 'N', "svc", "proxy,status", "all"),
    ("apiregistration.k8s.io/v1", "apiservices", 'C', "", "status", "api-extensions"),
    ("apps/v1", "controllerrevisions", 'N', "", "", ""),
    ("apps/v1", "daemonsets", 'N', "ds", "status", "all"),
    ("apps/v1", "deployments", 'N', "deploy", "scale,status", "all"),
    ("apps/v1", "replicasets", 'N', "rs", "scale,status", "all"),
    ("apps/v1", "statefulsets", 'N', "sts", "scale,status", "all"),
    ("events.k8s.io/v1", "events", 'N', "ev", "", ""),
    ("authentication.k8s.io/v1", "selfsubjectreviews", 'C', "", "", ""),
    ("authentication.k8s.io/v1", "tokenreviews", 'C', "", "", ""),
    ("authorization.k8s.io/v1", "localsubjectaccessreviews", 'N', "", "", ""),
    ("authorization.k8s.io/v1", "selfsubjectaccessreviews", 'C', "", "", ""),
    ("authorization.k8s.io/v1", "selfsubjectrulesreviews", 'C', "", "", ""),
    ("authorization.k8s.io/v1", "subjectaccessreviews", 'C', "", "", ""),
    ("autoscaling/v2", "horizontalpodautoscalers", 'N', "hpa", "status", "all"),
    ("autoscaling/v1", "horizontalpodautoscalers", 'N', "hpa", "status", "all"),
    ("batch/v1", "cronjobs", 'N', "cj", "status", "all"),
    ("batch/v1", "jobs", 'N', "", "status", "all"),
    ("certificates.k8s.io/v1", "certificatesigningrequests", 'C', "csr", "approval,status", ""),
    ("networking.k8s.io/v1", "ingressclasses", 'C', "", "", ""),
    ("networking.k8s.io/v1", "ingresses", 'N', "ing", "status", ""),
    ("networking.k8s.io/v1", "ipaddresses", 'C', "ip", "", ""),
    ("networking.k8s.io/v1", "networkpolicies", 'N', "netpol", "", ""),
    ("networking.k8s.io/v1", "servicecidrs", 'C', "", "status", ""),
    ("policy/v1", "poddisruptionbudgets", 'N', "pdb", "status", ""),
    ("rbac.authorization.k8s.io/v1", "clusterrolebindings", 'C', "", "", ""),
    ("rbac.authorization.k8s.io/v1", "clusterroles", 'C', "", "", ""),
    ("rbac.authorization.k8s.io/v1", "rolebindings", 'N', "", "", ""),
    ("rbac.authorization.k8s.io/v1", "roles", 'N', "", "", ""),
    ("storage.k8s.io/v1", "csidrivers", 'C', "", "", ""),
    ("storage.k8s.io/v1", "csinodes", 'C', "", "", ""),
    ("storage.k8s.io/v1", "csistoragecapacities", 'N', "", "", ""),
    ("storage.k8s.io/v1", "storageclasses", 'C', "sc", "", ""),
    ("storage.k8s.io/v1", "volumeattachments", 'C', "", "status", ""),
    ("storage.k8s.io/v1", "volumeattributesclasses", 'C', "vac", "", ""),
    ("admissionregistration.k8s.io/v1", "mutatingadmissionpolicies", 'C', "", "", "api-extensions"),
    ("admissionregistration.k8s.io/v1", "mutatingadmissionpolicybindings", 'C', "", "", "api-extensions"),
    ("admissionregistration.k8s.io/v1", "mutatingwebhookconfigurations", 'C', "", "", "api-extensions"),
    ("admissionregistration.k8s.io/v1", "validatingadmissionpolicies", 'C', "", "status", "api-extensions"),
    ("admissionregistration.k8s.io/v1", "validatingadmissionpolicybindings", 'C', "", "", "api-extensions"),
    ("admissionregistration.k8s.io/v1", "validatingwebhookconfigurations", 'C', "", "", "api-extensions"),
    ("apiextensions.k8s.io/v1", "customresourcedefinitions", 'C', "crd,crds", "status", "api-extensions"),
    ("scheduling.k8s.io/v1", "priorityclasses", 'C', "pc", "", ""),
    ("coordination.k8s.io/v1", "leases", 'N', "", "", ""),
    ("node.k8s.io/v1", "runtimeclasses", 'C', "", "", ""),
    ("discovery.k8s.io/v1", "endpointslices", 'N', "", "", ""),
    ("resource.k8s.io/v1", "deviceclasses", 'C', "", "", ""),
    ("resource.k8s.io/v1", "resourceclaims", 'N', "", "status", ""),
    ("resource.k8s.io/v1", "resourceclaimtemplates", 'N', "", "", ""),
    ("resource.k8s.io/v1", "resourceslices", 'C', "", "", ""),
    ("flowcontrol.apiserver.k8s.io/v1", "flowschemas", 'C', "", "status", ""),
    ("flowcontrol.apiserver.k8s.io/v1", "prioritylevelconfigurations", 'C', "", "status", ""),
];

#[test]
fn every_resource_is_there_and_called_as_it_should() {
    assert_eq!(FACTS.len(), 68);
    let rows = resources();
    let served: usize = rows.iter().map(|r| r.versions.len()).sum();
    assert_eq!(served, FACTS.len());
    for &(group_version, plural, scope, short, subresources, categories) in FACTS {
        let (group, version) = group_version.rsplit_once('/').unwrap_or(("", group_version));
        let row = rows.iter().find(|r| r.group == group && r.names.plural == plural);
        let row = row.unwrap_or_else(|| panic!("{group_version} {plural} is missing"));
        let version = row.served(version).unwrap_or_else(|| panic!("{plural} lacks {version}"));
        let subs: Vec<&str> = version.subresources.iter().map(|s| s.name.as_ref()).collect();
        assert_eq!(row.is_namespaced(), scope == 'N', "{plural}");
        assert_eq!(row.names.short.join(","), short, "{plural}");
        assert_eq!(row.names.categories.join(","), categories, "{plural}");
        assert_eq!(subs.join(","), subresources, "{plural}");
    }
}

#[test]
fn groups_come_in_the_order_of_discovery() {
    let mut got: Vec<String> =
        resources().iter().flat_map(|r| r.versions.iter().map(|v| r.api_version(&v.name))).collect();
    got.dedup();
    let mut want: Vec<&str> = FACTS.iter().map(|f| f.0).collect();
    want.dedup();
    assert_eq!(want.len(), 22);
    assert_eq!(got, want);
}

#[test]
fn verbs() {
    let rows = resources();
    let check = |plural: &str, subresource: &str, want: &str| {
        let row = rows.iter().find(|r| r.names.plural == plural).expect(plural);
        let verbs = match subresource {
            "" => row.verbs,
            sub => row.versions[0].subresource(sub).expect(sub).verbs,
        };
        assert_eq!(verbs.names().collect::<Vec<_>>().join(","), want, "{plural}/{subresource}");
    };
    let all = "create,delete,deletecollection,get,list,patch,update,watch";
    check("pods", "", all);
    check("services", "", all);
    check("namespaces", "", "create,delete,get,list,patch,update,watch");
    check("namespaces", "finalize", "update");
    check("componentstatuses", "", "get,list");
    check("pods", "status", "get,patch,update");
    check("pods", "exec", "create,get");
    check("pods", "log", "get");
    check("pods", "proxy", "create,delete,get,patch,update");
    check("pods", "eviction", "create");
    check("serviceaccounts", "token", "create");
    check("deployments", "scale", "get,patch,update");
    check("certificatesigningrequests", "approval", "get,patch,update");
    for plural in [
        "bindings",
        "tokenreviews",
        "selfsubjectreviews",
        "subjectaccessreviews",
        "selfsubjectaccessreviews",
        "selfsubjectrulesreviews",
        "localsubjectaccessreviews",
    ] {
        check(plural, "", "create");
    }
    let odd = rows.iter().filter(|r| r.verbs != Verbs::ALL).count();
    assert_eq!(odd, 9);
}

#[test]
fn subresources_speak_the_kinds_of_upstream() {
    let rows = resources();
    let check = |plural: &str, subresource: &str, group_version: Option<(&str, &str)>, want: &str| {
        let row = rows.iter().find(|r| r.names.plural == plural).expect(plural);
        let sub = row.versions[0].subresource(subresource).expect(subresource);
        let got = sub.group_version.as_ref().map(|(g, v)| (g.as_ref(), v.as_ref()));
        assert_eq!((got, sub.kind.as_ref()), (group_version, want), "{plural}/{subresource}");
    };
    check("pods", "eviction", Some(("policy", "v1")), "Eviction");
    check("pods", "binding", Some(("", "v1")), "Binding");
    check("pods", "attach", None, "PodAttachOptions");
    check("pods", "log", None, "Pod");
    check("nodes", "proxy", None, "NodeProxyOptions");
    check("services", "proxy", None, "ServiceProxyOptions");
    check("serviceaccounts", "token", Some(("authentication.k8s.io", "v1")), "TokenRequest");
    check("replicationcontrollers", "scale", Some(("autoscaling", "v1")), "Scale");
    check("deployments", "status", None, "Deployment");
}

#[test]
fn events_of_both_groups_share_one_place_and_hpas_are_stored_as_v2() {
    let rows = resources();
    let find = |group: &str, plural: &str| {
        rows.iter().find(|r| r.group == group && r.names.plural == plural).expect(plural)
    };
    assert_eq!(find("", "events").storage_resource(), find("events.k8s.io", "events").storage_resource());
    let hpa = find("autoscaling", "horizontalpodautoscalers");
    assert_eq!(hpa.storage().name, "v2");
    assert_eq!(hpa.versions.iter().map(|v| v.name.as_ref()).collect::<Vec<_>>(), ["v2", "v1"]);
}

#[test]
fn roots_are_the_kinds_and_lists_the_lists() {
    for row in resources() {
        for version in &row.versions {
            let root = version.root();
            let last = root.node.name.rsplit('.').next();
            assert_eq!(last, Some(row.names.kind.as_ref()));
            assert_eq!(kind(&row.group, &version.name, &row.names.kind), Some(version.root));
            assert_eq!(definition(&root.node.name), Some(version.root));
            let list = list_kind(&row.group, &row.names.plural, &version.name);
            assert_eq!(list.is_some(), row.verbs.has(Verbs::LIST), "{}", row.names.plural);
            if let Some(list) = list {
                let items = schema().at(list).walk(&["items"]).map(|s| s.items().node.name.clone());
                assert_eq!(items, Some(root.node.name.clone()));
            }
        }
    }
}

#[test]
fn the_arena_is_sound() {
    let schema = schema();
    let docs = Docs::unpack();
    let doc_exists = |doc: u32| doc == NO_DOC || !docs.get(doc).is_empty();
    assert_eq!(schema.nodes[0].ty, Type::Any);
    let mut next = 0;
    for node in schema.nodes.iter() {
        assert!((node.items.0 as usize) < schema.nodes.len());
        assert!(doc_exists(node.doc), "{}", node.name);
        assert_eq!(node.keys.is_empty(), node.merge != crate::schema::Merge::Keyed, "{}", node.name);
        if node.props_len > 0 {
            assert_eq!(node.props_start, next, "{}", node.name);
            next += node.props_len;
        }
        let range = node.props_start as usize..(node.props_start + node.props_len) as usize;
        assert!(schema.props[range].is_sorted_by(|a, b| a.name < b.name), "{}", node.name);
    }
    assert_eq!(next as usize, schema.props.len());
    for property in schema.props.iter() {
        assert!((property.node.0 as usize) < schema.nodes.len() && doc_exists(property.doc));
        if let Some(default) = &property.default {
            assert!(!default.to_value().is_null());
        }
    }
}

#[test]
fn types_are_read_right() {
    let schema = schema();
    let at = |name: &str, path: &[&str]| -> SchemaRef<'_> {
        let id = definition(name).unwrap_or_else(|| panic!("{name} is missing"));
        schema.at(id).walk(path).unwrap_or_else(|| panic!("{name} has no {path:?}"))
    };
    let check =
        |name: &str, path: &[&str], want: Type| assert_eq!(at(name, path).ty(), want, "{name} {path:?}");
    const POD: &str = "io.k8s.api.core.v1.Pod";
    const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
    const CRD: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1";
    check(POD, &["metadata", "creationTimestamp"], Type::Time);
    check(POD, &["metadata", "labels", "any"], Type::String);
    check(POD, &["metadata", "generation"], Type::Int64);
    check(POD, &["spec", "priority"], Type::Int32);
    check("io.k8s.api.core.v1.ResourceRequirements", &["limits", "cpu"], Type::Quantity);
    check("io.k8s.api.core.v1.ServicePort", &["targetPort"], Type::IntOrString);
    check("io.k8s.api.core.v1.Secret", &["data", "key"], Type::Bytes);
    check("io.k8s.api.coordination.v1.Lease", &["spec", "renewTime"], Type::MicroTime);
    check("io.k8s.api.apps.v1.ControllerRevision", &["data"], Type::Any);
    check(&format!("{META}.ManagedFieldsEntry"), &["fieldsV1"], Type::Any);
    check(&format!("{CRD}.JSONSchemaProps"), &["default"], Type::Any);
    check(&format!("{CRD}.JSONSchemaProps"), &["not", "not", "maximum"], Type::Number);
    check(&format!("{CRD}.CustomResourceSubresourceStatus"), &[], Type::Object);
}

#[test]
fn merging_is_read_right() {
    use crate::schema::{Merge, PatchStrategy};
    let schema = schema();
    let check = |name: &str, field: &str, merge: Merge, keys: &str, patch: PatchStrategy, merge_key: &str| {
        let object = schema.at(definition(&format!("io.k8s.api.{name}")).expect(name));
        let property = object.property(field).expect(field);
        let node = object.go(property.node).node;
        let got = (node.merge, node.keys.join(","), property.patch, property.merge_key.as_ref());
        assert_eq!(got, (merge, keys.to_owned(), patch, merge_key), "{name} {field}");
    };
    let merge = PatchStrategy::Merge;
    check("core.v1.PodSpec", "containers", Merge::Keyed, "name", merge, "name");
    check("core.v1.PodSpec", "volumes", Merge::Keyed, "name", PatchStrategy::MergeRetainKeys, "name");
    check("core.v1.PodSpec", "nodeSelector", Merge::Atomic, "", merge, "");
    check("core.v1.PodSpec", "tolerations", Merge::Atomic, "", PatchStrategy::Replace, "");
    check("core.v1.Container", "ports", Merge::Keyed, "containerPort,protocol", merge, "containerPort");
    check("core.v1.Container", "args", Merge::Atomic, "", PatchStrategy::Replace, "");
    check("core.v1.ServiceSpec", "ports", Merge::Keyed, "port,protocol", merge, "port");
    check("core.v1.PersistentVolumeSpec", "claimRef", Merge::Granular, "", merge, "");
    check("core.v1.Event", "involvedObject", Merge::Atomic, "", merge, "");
    check("core.v1.PodSpec", "securityContext", Merge::Granular, "", merge, "");
    check("apps.v1.DeploymentSpec", "strategy", Merge::Granular, "", PatchStrategy::RetainKeys, "");
    check("apps.v1.DeploymentSpec", "selector", Merge::Atomic, "", merge, "");
    check("policy.v1.PodDisruptionBudgetSpec", "selector", Merge::Atomic, "", PatchStrategy::Replace, "");
}

#[test]
fn declared_defaults() {
    let schema = schema();
    let check = |name: &str, field: &str, want: &str| {
        let object = schema.at(definition(&format!("io.k8s.api.{name}")).expect(name));
        let default =
            object.property(field).expect(field).default.as_ref().map(crate::schema::DefaultValue::to_value);
        let text = default.map(|d| String::from_utf8(crate::json::to_vec(&d)).expect("JSON is UTF-8"));
        assert_eq!(text.as_deref().unwrap_or("none"), want, "{name} {field}");
    };
    check("core.v1.ContainerPort", "protocol", r#""TCP""#);
    check("core.v1.ServicePort", "protocol", r#""TCP""#);
    check("core.v1.ReplicationControllerSpec", "replicas", "1");
    check("core.v1.AzureDiskVolumeSource", "cachingMode", r#""ReadWrite""#);
    check("core.v1.GRPCAction", "service", r#""""#);
    check("core.v1.LocalObjectReference", "name", r#""""#);
}
