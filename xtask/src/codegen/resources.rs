//! What the packages do not say of the built-in resources: short names, categories, selectable fields, the order of
//! groups, the subresources that stream. The rest is said again, and checked against the packages.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use super::definitions::Definitions;
use super::lightkube::{Answer, Endpoint};

/// A group's resources; the order of groups is the order of discovery, that of versions puts the preferred one first.
pub(super) struct Group {
    pub(super) name: &'static str,
    pub(super) versions: &'static [&'static str],
    pub(super) resources: &'static [Resource],
}

/// One resource.
pub(super) struct Resource {
    pub(super) plural: &'static str,
    pub(super) kind: &'static str,
    pub(super) namespaced: bool,
    pub(super) short: &'static [&'static str],
    pub(super) categories: &'static [&'static str],
    pub(super) verbs: Verbs,
    pub(super) subresources: &'static [Subresource],
    pub(super) selectable: &'static [&'static str],
    /// Group and plural of the resource that it shares its objects with.
    pub(super) stored_as: Option<(&'static str, &'static str)>,
}

/// The sets of verbs that occur, each sorted as discovery gives them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Verbs {
    All,
    AllButDeleteCollection,
    Create,
    CreateGet,
    Get,
    GetList,
    GetPatchUpdate,
    Update,
    Proxy,
}

impl Verbs {
    pub(super) fn names(self) -> &'static [&'static str] {
        match self {
            Self::All => &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
            Self::AllButDeleteCollection => &["create", "delete", "get", "list", "patch", "update", "watch"],
            Self::Create => &["create"],
            Self::CreateGet => &["create", "get"],
            Self::Get => &["get"],
            Self::GetList => &["get", "list"],
            Self::GetPatchUpdate => &["get", "patch", "update"],
            Self::Update => &["update"],
            Self::Proxy => &["create", "delete", "get", "patch", "update"],
        }
    }
}

/// One subresource.
pub(super) struct Subresource {
    pub(super) name: &'static str,
    pub(super) verbs: Verbs,
    pub(super) speaks: Speaks,
}

/// The kind that a subresource speaks.
pub(super) enum Speaks {
    /// The resource's own.
    Own,
    /// Another one: group, version, kind.
    Other(&'static str, &'static str, &'static str),
    /// Options of a stream or of text, which are query parameters and no object: the kind of the options.
    Stream(&'static str),
    /// `autoscaling/v1` `Scale`; whether the selector is a `LabelSelector` or a plain map.
    Scale,
}

const fn own(name: &'static str, verbs: Verbs) -> Subresource {
    Subresource { name, verbs, speaks: Speaks::Own }
}

const fn stream(name: &'static str, kind: &'static str, verbs: Verbs) -> Subresource {
    Subresource { name, verbs, speaks: Speaks::Stream(kind) }
}

const fn post(name: &'static str, group: &'static str, kind: &'static str) -> Subresource {
    Subresource { name, verbs: Verbs::Create, speaks: Speaks::Other(group, "v1", kind) }
}

const STATUS: Subresource = own("status", Verbs::GetPatchUpdate);
const SCALE: Subresource = Subresource { name: "scale", verbs: Verbs::GetPatchUpdate, speaks: Speaks::Scale };

const fn resource(plural: &'static str, kind: &'static str, namespaced: bool) -> Resource {
    Resource {
        plural,
        kind,
        namespaced,
        short: &[],
        categories: &[],
        verbs: Verbs::All,
        subresources: &[],
        selectable: &[],
        stored_as: None,
    }
}

const fn namespaced(plural: &'static str, kind: &'static str) -> Resource {
    resource(plural, kind, true)
}

const fn cluster(plural: &'static str, kind: &'static str) -> Resource {
    resource(plural, kind, false)
}

impl Resource {
    const fn short(self, short: &'static [&'static str]) -> Self {
        Self { short, ..self }
    }

    const fn category(self, categories: &'static [&'static str]) -> Self {
        Self { categories, ..self }
    }

    const fn verbs(self, verbs: Verbs) -> Self {
        Self { verbs, ..self }
    }

    const fn sub(self, subresources: &'static [Subresource]) -> Self {
        Self { subresources, ..self }
    }

    const fn selectable(self, selectable: &'static [&'static str]) -> Self {
        Self { selectable, ..self }
    }

    const fn stored_as(self, group: &'static str, plural: &'static str) -> Self {
        Self { stored_as: Some((group, plural)), ..self }
    }
}

const fn group(name: &'static str, resources: &'static [Resource]) -> Group {
    Group { name, versions: &["v1"], resources }
}

const ALL: &[&str] = &["all"];
const EXTENSION: &[&str] = &["api-extensions"];

/// All groups.
pub(super) const GROUPS: &[Group] = &[
    group("", CORE),
    group(
        "apiregistration.k8s.io",
        &[cluster("apiservices", "APIService").category(EXTENSION).sub(&[STATUS])],
    ),
    group("apps", APPS),
    group(
        "events.k8s.io",
        &[namespaced("events", "Event").short(&["ev"]).stored_as("", "events").selectable(&[
            "reason",
            "regarding.apiVersion",
            "regarding.fieldPath",
            "regarding.kind",
            "regarding.name",
            "regarding.namespace",
            "regarding.resourceVersion",
            "regarding.uid",
            "reportingController",
            "type",
        ])],
    ),
    group(
        "authentication.k8s.io",
        &[
            cluster("selfsubjectreviews", "SelfSubjectReview").verbs(Verbs::Create),
            cluster("tokenreviews", "TokenReview").verbs(Verbs::Create),
        ],
    ),
    group(
        "authorization.k8s.io",
        &[
            namespaced("localsubjectaccessreviews", "LocalSubjectAccessReview").verbs(Verbs::Create),
            cluster("selfsubjectaccessreviews", "SelfSubjectAccessReview").verbs(Verbs::Create),
            cluster("selfsubjectrulesreviews", "SelfSubjectRulesReview").verbs(Verbs::Create),
            cluster("subjectaccessreviews", "SubjectAccessReview").verbs(Verbs::Create),
        ],
    ),
    Group {
        name: "autoscaling",
        versions: &["v2", "v1"],
        resources: &[namespaced("horizontalpodautoscalers", "HorizontalPodAutoscaler")
            .short(&["hpa"])
            .category(ALL)
            .sub(&[STATUS])],
    },
    group(
        "batch",
        &[
            namespaced("cronjobs", "CronJob").short(&["cj"]).category(ALL).sub(&[STATUS]),
            namespaced("jobs", "Job").category(ALL).sub(&[STATUS]).selectable(&["status.successful"]),
        ],
    ),
    group(
        "certificates.k8s.io",
        &[cluster("certificatesigningrequests", "CertificateSigningRequest")
            .short(&["csr"])
            .sub(&[own("approval", Verbs::GetPatchUpdate), STATUS])
            .selectable(&["spec.signerName"])],
    ),
    group(
        "networking.k8s.io",
        &[
            cluster("ingressclasses", "IngressClass"),
            namespaced("ingresses", "Ingress").short(&["ing"]).sub(&[STATUS]),
            cluster("ipaddresses", "IPAddress").short(&["ip"]),
            namespaced("networkpolicies", "NetworkPolicy").short(&["netpol"]),
            cluster("servicecidrs", "ServiceCIDR").sub(&[STATUS]),
        ],
    ),
    group(
        "policy",
        &[namespaced("poddisruptionbudgets", "PodDisruptionBudget").short(&["pdb"]).sub(&[STATUS])],
    ),
    group(
        "rbac.authorization.k8s.io",
        &[
            cluster("clusterrolebindings", "ClusterRoleBinding"),
            cluster("clusterroles", "ClusterRole"),
            namespaced("rolebindings", "RoleBinding"),
            namespaced("roles", "Role"),
        ],
    ),
    group(
        "storage.k8s.io",
        &[
            cluster("csidrivers", "CSIDriver"),
            cluster("csinodes", "CSINode"),
            namespaced("csistoragecapacities", "CSIStorageCapacity"),
            cluster("storageclasses", "StorageClass").short(&["sc"]),
            cluster("volumeattachments", "VolumeAttachment").sub(&[STATUS]),
            cluster("volumeattributesclasses", "VolumeAttributesClass").short(&["vac"]),
        ],
    ),
    group(
        "admissionregistration.k8s.io",
        &[
            cluster("mutatingadmissionpolicies", "MutatingAdmissionPolicy").category(EXTENSION),
            cluster("mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding").category(EXTENSION),
            cluster("mutatingwebhookconfigurations", "MutatingWebhookConfiguration").category(EXTENSION),
            cluster("validatingadmissionpolicies", "ValidatingAdmissionPolicy")
                .category(EXTENSION)
                .sub(&[STATUS]),
            cluster("validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding")
                .category(EXTENSION),
            cluster("validatingwebhookconfigurations", "ValidatingWebhookConfiguration").category(EXTENSION),
        ],
    ),
    group(
        "apiextensions.k8s.io",
        &[cluster("customresourcedefinitions", "CustomResourceDefinition")
            .short(&["crd", "crds"])
            .category(EXTENSION)
            .sub(&[STATUS])],
    ),
    group("scheduling.k8s.io", &[cluster("priorityclasses", "PriorityClass").short(&["pc"])]),
    group("coordination.k8s.io", &[namespaced("leases", "Lease")]),
    group("node.k8s.io", &[cluster("runtimeclasses", "RuntimeClass")]),
    group("discovery.k8s.io", &[namespaced("endpointslices", "EndpointSlice")]),
    group(
        "resource.k8s.io",
        &[
            cluster("deviceclasses", "DeviceClass"),
            namespaced("resourceclaims", "ResourceClaim").sub(&[STATUS]),
            namespaced("resourceclaimtemplates", "ResourceClaimTemplate"),
            cluster("resourceslices", "ResourceSlice").selectable(&["spec.driver", "spec.nodeName"]),
        ],
    ),
    group(
        "flowcontrol.apiserver.k8s.io",
        &[
            cluster("flowschemas", "FlowSchema").sub(&[STATUS]),
            cluster("prioritylevelconfigurations", "PriorityLevelConfiguration").sub(&[STATUS]),
        ],
    ),
];

const CORE: &[Resource] = &[
    namespaced("bindings", "Binding").verbs(Verbs::Create),
    cluster("componentstatuses", "ComponentStatus").short(&["cs"]).verbs(Verbs::GetList),
    namespaced("configmaps", "ConfigMap").short(&["cm"]),
    namespaced("endpoints", "Endpoints").short(&["ep"]),
    namespaced("events", "Event").short(&["ev"]).selectable(&[
        "involvedObject.apiVersion",
        "involvedObject.fieldPath",
        "involvedObject.kind",
        "involvedObject.name",
        "involvedObject.namespace",
        "involvedObject.resourceVersion",
        "involvedObject.uid",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ]),
    namespaced("limitranges", "LimitRange").short(&["limits"]),
    cluster("namespaces", "Namespace")
        .short(&["ns"])
        .verbs(Verbs::AllButDeleteCollection)
        .sub(&[own("finalize", Verbs::Update), STATUS])
        .selectable(&["status.phase"]),
    cluster("nodes", "Node")
        .short(&["no"])
        .sub(&[stream("proxy", "NodeProxyOptions", Verbs::Proxy), STATUS])
        .selectable(&["spec.unschedulable"]),
    namespaced("persistentvolumeclaims", "PersistentVolumeClaim").short(&["pvc"]).sub(&[STATUS]),
    cluster("persistentvolumes", "PersistentVolume").short(&["pv"]).sub(&[STATUS]),
    namespaced("pods", "Pod")
        .short(&["po"])
        .category(ALL)
        .sub(&[
            stream("attach", "PodAttachOptions", Verbs::CreateGet),
            post("binding", "", "Binding"),
            own("ephemeralcontainers", Verbs::GetPatchUpdate),
            post("eviction", "policy", "Eviction"),
            stream("exec", "PodExecOptions", Verbs::CreateGet),
            stream("log", "Pod", Verbs::Get),
            stream("portforward", "PodPortForwardOptions", Verbs::CreateGet),
            stream("proxy", "PodProxyOptions", Verbs::Proxy),
            own("resize", Verbs::GetPatchUpdate),
            STATUS,
        ])
        .selectable(&[
            "spec.hostNetwork",
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "status.nominatedNodeName",
            "status.phase",
            "status.podIP",
            "status.podIPs",
        ]),
    namespaced("podtemplates", "PodTemplate"),
    namespaced("replicationcontrollers", "ReplicationController")
        .short(&["rc"])
        .category(ALL)
        .sub(&[SCALE, STATUS])
        .selectable(&["status.replicas"]),
    namespaced("resourcequotas", "ResourceQuota").short(&["quota"]).sub(&[STATUS]),
    namespaced("secrets", "Secret").selectable(&["type"]),
    namespaced("serviceaccounts", "ServiceAccount").short(&["sa"]).sub(&[post(
        "token",
        "authentication.k8s.io",
        "TokenRequest",
    )]),
    namespaced("services", "Service")
        .short(&["svc"])
        .category(ALL)
        .sub(&[stream("proxy", "ServiceProxyOptions", Verbs::Proxy), STATUS])
        .selectable(&["spec.clusterIP", "spec.type"]),
];

const APPS: &[Resource] = &[
    namespaced("controllerrevisions", "ControllerRevision"),
    namespaced("daemonsets", "DaemonSet").short(&["ds"]).category(ALL).sub(&[STATUS]),
    namespaced("deployments", "Deployment").short(&["deploy"]).category(ALL).sub(&[SCALE, STATUS]),
    namespaced("replicasets", "ReplicaSet")
        .short(&["rs"])
        .category(ALL)
        .sub(&[SCALE, STATUS])
        .selectable(&["status.replicas"]),
    namespaced("statefulsets", "StatefulSet").short(&["sts"]).category(ALL).sub(&[SCALE, STATUS]),
];

/// Types outside the resources that clients and the server speak; roots of the tables besides the resources' kinds.
pub(super) const META: &[&str] = &[
    "io.k8s.apimachinery.pkg.apis.meta.v1.APIGroup",
    "io.k8s.apimachinery.pkg.apis.meta.v1.APIGroupList",
    "io.k8s.apimachinery.pkg.apis.meta.v1.APIResourceList",
    "io.k8s.apimachinery.pkg.apis.meta.v1.APIVersions",
    "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Patch",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Status",
    "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent",
    "io.k8s.apimachinery.pkg.version.Info",
];

/// The names of all definitions that the tables must have, before what these refer to.
pub(super) fn roots(definitions: &Definitions) -> Result<Vec<String>> {
    let mut roots: Vec<String> = META.iter().map(|&m| m.to_owned()).collect();
    for (group, version, resource) in each() {
        let name = definitions.of_kind(group.name, version, resource.kind)?;
        if resource.verbs.names().contains(&"list") {
            roots.push(format!("{name}List"));
        }
        roots.push(name.to_owned());
        for sub in resource.subresources {
            match sub.speaks {
                Speaks::Other(g, v, k) => roots.push(definitions.of_kind(g, v, k)?.to_owned()),
                Speaks::Scale => roots.push(definitions.of_kind("autoscaling", "v1", "Scale")?.to_owned()),
                Speaks::Own | Speaks::Stream(_) => {}
            }
        }
    }
    Ok(roots)
}

/// All resources with their group and version.
fn each() -> impl Iterator<Item = (&'static Group, &'static str, &'static Resource)> {
    GROUPS.iter().flat_map(|g| {
        g.versions.iter().flat_map(move |&version| g.resources.iter().map(move |r| (g, version, r)))
    })
}

/// Checks every row against the packages, and that no GA resource of theirs is missing here.
pub(super) fn check(definitions: &Definitions, paths: &BTreeMap<Endpoint, Answer>) -> Result<()> {
    let mut expected: BTreeMap<Endpoint, Answer> = BTreeMap::new();
    for (group, version, resource) in each() {
        definitions.of_kind(group.name, version, resource.kind)?;
        for (endpoint, answer) in endpoints(group, version, resource) {
            expected.insert(endpoint, answer);
        }
    }
    for (endpoint, want) in &expected {
        let have = paths.get(endpoint);
        let same = have.is_some_and(|have| {
            (have.namespaced, &have.kind, &have.verbs) == (want.namespaced, &want.kind, &want.verbs)
        });
        ensure!(same, "{endpoint:?} is {want:?} here, but {have:?} in the package");
    }
    let stable = |version: &str| !version.contains("alpha") && !version.contains("beta");
    for endpoint in paths.keys().filter(|e| stable(&e.version)) {
        let known = expected.contains_key(endpoint) || is_stream(endpoint);
        ensure!(known, "{endpoint:?} is in the package, but no row here has it");
    }
    Ok(())
}

fn is_stream(endpoint: &Endpoint) -> bool {
    each().filter(|(g, _, r)| (g.name, r.plural) == (&endpoint.group, &endpoint.plural)).any(|(_, _, r)| {
        r.subresources.iter().any(|s| s.name == endpoint.subresource && matches!(s.speaks, Speaks::Stream(_)))
    })
}

/// The paths of one resource that carry objects.
fn endpoints(group: &Group, version: &str, resource: &Resource) -> Vec<(Endpoint, Answer)> {
    let kind = |group: &str, version: &str, kind: &str| super::definitions::Kind {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
    };
    let endpoint = |subresource: &str| Endpoint {
        group: group.name.to_owned(),
        version: version.to_owned(),
        plural: resource.plural.to_owned(),
        subresource: subresource.to_owned(),
    };
    let mut verbs = resource.verbs.names().to_vec();
    if resource.verbs == Verbs::GetList {
        // The package lists the path below /watch, which is there but is no verb of the resource.
        verbs.push("watch");
    }
    let namespaced = resource.namespaced;
    let own = Answer { namespaced, kind: kind(group.name, version, resource.kind), verbs };
    let mut all = vec![(endpoint(""), own)];
    for sub in resource.subresources {
        let kind = match sub.speaks {
            Speaks::Own => kind(group.name, version, resource.kind),
            Speaks::Other(g, v, k) => kind(g, v, k),
            Speaks::Scale => kind("autoscaling", "v1", "Scale"),
            Speaks::Stream(_) => continue,
        };
        let verbs = sub.verbs.names().to_vec();
        all.push((endpoint(sub.name), Answer { namespaced, kind, verbs }));
    }
    all
}
