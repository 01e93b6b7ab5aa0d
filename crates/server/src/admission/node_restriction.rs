//! A node writes about itself and its own pods only (NodeRestriction).
//!
//! What a node may read, and which verbs it has, is decided before (the Node authorizer); here is looked at what it writes.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use xebec_api::{Map, Status, Value, meta};

use super::{Attributes, Operation, find};
use crate::auth::signing::CertificateRequest;
use crate::authz::Question;
use crate::authz::node::LEASES;
use crate::authz::node::references::{self, Kind, MIRROR};
use crate::core::{Context, Core};
use crate::http::route;
use crate::registry::table::Served;

/// Labels that a node may set on itself, and the domains of others that it may.
const OWN_LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];
const OWN_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];
/// Labels of this domain keep pods away from nodes that might be broken into.
const RESTRICTED_DOMAIN: &str = "node-restriction.kubernetes.io";
/// Signers of nodes' own certificates.
const NODE_SIGNERS: [&str; 2] =
    ["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"];

type Verdict = Result<(), String>;

fn no<T>(why: impl Into<String>) -> Result<T, String> {
    Err(why.into())
}

/// One write of one node.
struct Written<'a> {
    node: &'a str,
    attributes: &'a Attributes<'a>,
    object: &'a Value,
    old: &'a Value,
}

/// Looks at a write; of a deletion the object is `null`.
pub(super) fn check(
    core: &Core,
    attributes: &Attributes<'_>,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    let user = &attributes.context.user;
    // What the server itself writes has been looked at when it was asked for.
    let Some(node) = user.node().filter(|_| !attributes.is_internal()) else { return Ok(()) };
    if node.is_empty() {
        let why = format!("could not determine node from user {:?}", user.name);
        return Err(attributes.refuse(object, why));
    }
    let nothing = Value::Null;
    let written = Written { node, attributes, object, old: old.unwrap_or(&nothing) };
    let verdict = match (attributes.target.served.row.group(), attributes.target.served.row.resource()) {
        ("", "pods") => return written.pod(core),
        ("", "nodes") => written.node(),
        ("", "persistentvolumeclaims") => written.claim(),
        ("coordination.k8s.io", "leases") => written.lease(),
        ("storage.k8s.io", "csinodes") => written.own("CSINode"),
        ("resource.k8s.io", "resourceslices") => written.slice(),
        ("certificates.k8s.io", "certificatesigningrequests") => written.request(),
        _ => Ok(()),
    };
    verdict.map_err(|why| attributes.refuse(object, why))
}

impl Written<'_> {
    fn pod(&self, core: &Core) -> Result<(), Status> {
        let refuse = |why| self.attributes.refuse(self.object, why);
        match (self.attributes.target.part.name(), self.attributes.operation) {
            ("", Operation::Create) => {
                self.mirror().map_err(refuse)?;
                let node = find(core, "", "nodes", "", self.node)?;
                let owner = self.object.array_at(&["metadata", "ownerReferences"]);
                let said = owner.first().and_then(|owner| owner.str_at(&["uid"])).unwrap_or_default();
                if said != meta::uid(&node) {
                    let (node, uid) = (self.node, meta::uid(&node));
                    return Err(refuse(format!("node {node} UID mismatch: expected {said} got {uid}")));
                }
                references_nothing(self.node, self.object).map_err(refuse)
            }
            ("", Operation::Delete) => self.of_own_pod("can only delete pods").map_err(refuse),
            ("", Operation::Update) => Err(refuse(format!(
                "unexpected operation \"UPDATE\", node {:?} can only create and delete mirror pods",
                self.node
            ))),
            ("status", Operation::Update) => self.pod_status().map_err(refuse),
            (other, _) => Err(refuse(format!(
                "unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"
            ))),
        }
    }

    fn of_own_pod(&self, what: &str) -> Verdict {
        if self.old.str_at(&["spec", "nodeName"]) == Some(self.node) {
            return Ok(());
        }
        no(format!("node {:?} {what} with spec.nodeName set to itself", self.node))
    }

    /// A pod that the node shows of its own accord.
    fn mirror(&self) -> Verdict {
        let (node, pod) = (self.node, self.object);
        if meta::annotation(pod, MIRROR).is_none() {
            return no(format!(
                "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
            ));
        }
        if pod.str_at(&["spec", "nodeName"]) != Some(node) {
            return no(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
        }
        let owner = match pod.array_at(&["metadata", "ownerReferences"]) {
            [owner] => owner,
            [] => {
                return no(format!(
                    "node {node:?} can only create pods with an owner reference set to itself"
                ));
            }
            _ => {
                return no(format!(
                    "node {node:?} can only create pods with a single owner reference set to itself"
                ));
            }
        };
        let of = |field: &str| owner.str_at(&[field]).unwrap_or_default();
        if (of("apiVersion"), of("kind"), of("name")) != ("v1", "Node", node) {
            return no(format!("node {node:?} can only create pods with an owner reference set to itself"));
        }
        if owner.bool_at(&["controller"]) != Some(true) {
            return no(format!(
                "node {node:?} can only create pods with a controller owner reference set to itself"
            ));
        }
        if owner.bool_at(&["blockOwnerDeletion"]) == Some(true) {
            return no(format!("node {node:?} must not set blockOwnerDeletion on an owner reference"));
        }
        Ok(())
    }

    fn pod_status(&self) -> Verdict {
        self.of_own_pod("can only update pod status for pods")?;
        let node = self.node;
        if !changed_labels(self.object, self.old).is_empty() {
            return no(format!("node {node:?} cannot update labels through pod status"));
        }
        let claims = |pod: &Value| pod.array_at(&["status", "resourceClaimStatuses"]).to_vec();
        if claims(self.object) != claims(self.old) {
            return no(format!("node {node:?} cannot update resource claim statues"));
        }
        let extended = ["status", "extendedResourceClaimStatus"];
        if self.object.at(&extended) != self.old.at(&extended) {
            return no(format!("node {node:?} cannot update extended resource claim status"));
        }
        Ok(())
    }

    fn node(&self) -> Verdict {
        let (node, new, old) = (self.node, self.object, self.old);
        let target = self.attributes.target.name;
        let name = if target.is_empty() { meta::name(new) } else { target };
        if name != node {
            return no(format!("node {node:?} is not allowed to modify node {name:?}"));
        }
        let operation = self.attributes.operation;
        let source = |node: &Value| node.at(&["spec", "configSource"]).filter(|s| !s.is_null()).cloned();
        match operation {
            Operation::Create => {
                if source(new).is_some() {
                    return no(format!(
                        "node {node:?} is not allowed to create pods with a non-nil configSource"
                    ));
                }
                let labels = forbidden(changed_labels(new, old));
                if !labels.is_empty() {
                    let labels = labels.join(", ");
                    return no(format!("node {node:?} is not allowed to set the following labels: {labels}"));
                }
            }
            Operation::Update => {
                if source(new).is_some() && source(new) != source(old) {
                    return no(format!(
                        "node {node:?} is not allowed to update configSource to a new non-nil configSource"
                    ));
                }
                let differs = |path: &[&str]| new.array_at(path) != old.array_at(path);
                if differs(&["spec", "taints"]) {
                    return no(format!("node {node:?} is not allowed to modify taints"));
                }
                if differs(&["metadata", "ownerReferences"]) {
                    return no(format!("node {node:?} is not allowed to modify ownerReferences"));
                }
                let labels = forbidden(changed_labels(new, old));
                if !labels.is_empty() {
                    return no(format!("is not allowed to modify labels: {}", labels.join(", ")));
                }
            }
            Operation::Delete => {}
        }
        Ok(())
    }

    /// Of a claim a node tells how large its volume is, and how that goes.
    fn claim(&self) -> Verdict {
        match (self.attributes.target.part.name(), self.attributes.operation) {
            ("status", Operation::Update) => {}
            ("status", _) => return no("unexpected operation"),
            _ => return no("may only update PVC status"),
        }
        const TOLD: [&[&str]; 6] = [
            &["metadata", "resourceVersion"],
            &["metadata", "managedFields"],
            &["status", "capacity"],
            &["status", "conditions"],
            &["status", "allocatedResourceStatuses"],
            &["status", "allocatedResources"],
        ];
        let rest = |claim: &Value| {
            let mut claim = claim.clone();
            TOLD.iter().for_each(|path| drop(claim.remove_at(path)));
            claim
        };
        if rest(self.object) == rest(self.old) {
            return Ok(());
        }
        let node = self.node;
        no(format!(
            "node {node:?} is not allowed to update fields other than status.quantity and status.conditions"
        ))
    }

    fn lease(&self) -> Verdict {
        if self.attributes.target.namespace != LEASES {
            return no(format!("can only access leases in the {LEASES:?} system namespace"));
        }
        self.own("node lease")
    }

    /// What is called like the node.
    fn own(&self, what: &str) -> Verdict {
        let name = match self.attributes.operation {
            Operation::Create => meta::name(self.object),
            _ => self.attributes.target.name,
        };
        if name == self.node {
            return Ok(());
        }
        no(format!("can only access {what} with the same name as the requesting node"))
    }

    fn slice(&self) -> Verdict {
        let (what, slice) = match self.attributes.operation {
            Operation::Create => ("create", self.object),
            Operation::Delete => ("delete", self.old),
            Operation::Update => return Ok(()),
        };
        if slice.str_at(&["spec", "nodeName"]) == Some(self.node) {
            return Ok(());
        }
        no(format!("can only {what} ResourceSlice with the same NodeName as the requesting node"))
    }

    /// A node asks for certificates in its own name.
    fn request(&self) -> Verdict {
        let signer = self.object.str_at(&["spec", "signerName"]).unwrap_or_default();
        if self.attributes.operation != Operation::Create || !NODE_SIGNERS.contains(&signer) {
            return Ok(());
        }
        let text = self.object.str_at(&["spec", "request"]).unwrap_or_default();
        let pem = STANDARD.decode(text).map_err(|error| format!("unable to parse csr: {error}"))?;
        let asked =
            CertificateRequest::read(&pem).map_err(|error| format!("unable to parse csr: {error}"))?;
        let own = format!("system:node:{}", self.node);
        if asked.common_name() == own {
            Ok(())
        } else {
            no(format!("can only create a node CSR with CN={own}"))
        }
    }
}

/// A pod of the node's own needs nothing of the API.
fn references_nothing(node: &str, pod: &Value) -> Verdict {
    match referenced(pod) {
        Some(what) => no(format!("node {node:?} can not create pods that reference {what}")),
        None => Ok(()),
    }
}

/// The first sort of object that a pod refers to.
fn referenced(pod: &Value) -> Option<&'static str> {
    if !pod.str_at(&["spec", "serviceAccountName"]).unwrap_or_default().is_empty() {
        return Some("serviceaccounts");
    }
    let all = references::secrets_and_maps(pod);
    let has = |kind: Kind| all.iter().any(|(k, _)| *k == kind);
    if has(Kind::Secret) {
        return Some("secrets");
    }
    if has(Kind::ConfigMap) {
        return Some("configmaps");
    }
    if !pod.array_at(&["spec", "resourceClaims"]).is_empty() {
        return Some("resourceclaims");
    }
    pod.array_at(&["spec", "volumes"]).iter().find_map(referenced_by_volume)
}

fn referenced_by_volume(volume: &Value) -> Option<&'static str> {
    const SOURCES: [(&str, &str); 7] = [
        ("configMap", "configmaps (via configmap volumes)"),
        ("secret", "secrets (via secret volumes)"),
        ("csi", "csidrivers (via CSI volumes)"),
        ("glusterfs", "endpoints (via glusterFS volumes)"),
        ("persistentVolumeClaim", "persistentvolumeclaims"),
        ("ephemeral", "persistentvolumeclaims (via ephemeral volumes)"),
        ("azureFile", "secrets (via azureFile volumes)"),
    ];
    const PARTS: [(&str, &str); 5] = [
        ("configMap", "configmaps (via projected volumes)"),
        ("secret", "secrets (via projected volumes)"),
        ("serviceAccountToken", "serviceaccounts (via projected volumes)"),
        ("clusterTrustBundle", "clustertrustbundles"),
        ("podCertificate", "podcertificates"),
    ];
    let first = |sources: &[(&'static str, &'static str)], of: &Value| {
        let is = |source: &str| of.get(source).is_some_and(|source| !source.is_null());
        sources.iter().find(|(source, _)| is(source)).map(|(_, what)| *what)
    };
    let mut parts = volume.array_at(&["projected", "sources"]).iter();
    first(&SOURCES, volume).or_else(|| parts.find_map(|part| first(&PARTS, part)))
}

/// The labels that two objects do not have in common, in order.
fn changed_labels(new: &Value, old: &Value) -> BTreeSet<String> {
    let mut changed = BTreeSet::new();
    for (one, other) in [(new, old), (old, new)] {
        let other = meta::labels(other);
        for (key, value) in meta::labels(one).into_iter().flat_map(Map::iter) {
            if other.and_then(|labels| labels.get(key)) != Some(value) {
                changed.insert(key.to_owned());
            }
        }
    }
    changed
}

/// The labels that a node may not change on itself.
fn forbidden(changed: BTreeSet<String>) -> Vec<String> {
    let within =
        |domain: &str, of: &str| domain == of || domain.strip_suffix(of).is_some_and(|d| d.ends_with('.'));
    let is_forbidden = |label: &str| {
        let domain = label.split_once('/').map(|(domain, _)| domain).unwrap_or_default();
        let is_own = OWN_LABELS.contains(&label) || OWN_DOMAINS.iter().any(|own| within(domain, own));
        let is_kubernetes = within(domain, "kubernetes.io") || within(domain, "k8s.io");
        within(domain, RESTRICTED_DOMAIN) || (is_kubernetes && !is_own)
    };
    changed.into_iter().filter(|label| is_forbidden(label)).collect()
}

/// Looks at what a node posts to a subresource: it evicts its own pods, and has tokens for them.
pub(super) async fn posted(
    core: &Core,
    context: &Context,
    served: &Served,
    target: &route::Target,
    object: &Value,
) -> Result<(), Status> {
    let Some(node) = context.user.node() else { return Ok(()) };
    let row = &served.row;
    let refuse = |why: String| Status::forbidden(row.group(), row.resource(), &target.name, why);
    if node.is_empty() {
        return Err(refuse(format!("could not determine node from user {:?}", context.user.name)));
    }
    match (row.group(), row.resource(), target.subresource.as_str()) {
        ("", "pods", "eviction") => {
            let pod = find(core, "", "pods", &target.namespace, &target.name)?;
            if pod.str_at(&["spec", "nodeName"]) == Some(node) {
                return Ok(());
            }
            Err(refuse(format!("node {node} can only evict pods with spec.nodeName set to itself")))
        }
        ("", "pods", other) => Err(refuse(format!(
            "unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"
        ))),
        ("", "serviceaccounts", "token") => {
            let pod = bound_pod(core, node, target, object).map_err(|refused| match refused {
                Refused::Because(why) => refuse(why),
                Refused::Status(status) => status,
            })?;
            may_have_audience(core, context, target, object, &pod).await.map_err(refuse)
        }
        _ => Ok(()),
    }
}

enum Refused {
    Because(String),
    Status(Status),
}

/// The pod of the node that a token is to be bound to.
fn bound_pod(core: &Core, node: &str, target: &route::Target, request: &Value) -> Result<Value, Refused> {
    let because = |why: String| Err(Refused::Because(why));
    let of = |field: &str| request.str_at(&["spec", "boundObjectRef", field]).unwrap_or_default();
    if (of("apiVersion"), of("kind")) != ("v1", "Pod") || of("name").is_empty() {
        return because("node requested token not bound to a pod".into());
    }
    if of("uid").is_empty() {
        return because("node requested token with a pod binding without a uid".into());
    }
    let pod = find(core, "", "pods", &target.namespace, of("name")).map_err(Refused::Status)?;
    if of("uid") != meta::uid(&pod) {
        return because(format!(
            "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted \
             and then recreated",
            of("uid")
        ));
    }
    if pod.str_at(&["spec", "nodeName"]) != Some(node) {
        return because("node requested token bound to a pod scheduled on a different node".into());
    }
    Ok(pod)
}

/// A node has tokens for those whom the pod, or a driver of its volumes, means; for others a role has to allow it.
async fn may_have_audience(
    core: &Core,
    context: &Context,
    target: &route::Target,
    request: &Value,
    pod: &Value,
) -> Verdict {
    let audience = match request.array_at(&["spec", "audiences"]) {
        [] => "",
        [one] => one.as_str().unwrap_or_default(),
        _ => return no("node may only request 0 or 1 audiences"),
    };
    if pod_names(core, pod, audience) {
        return Ok(());
    }
    let question = Question {
        verb: "request-serviceaccounts-token-audience",
        version: "v1",
        resource: audience,
        namespace: &target.namespace,
        name: &target.name,
        ..Question::default()
    };
    if core.authorizer.decide(&context.user, &question).await.is_allowed() {
        return Ok(());
    }
    let user = &context.user.name;
    no(format!(
        "audience {audience:?} not found in pod spec volume, {user} is not authorized to request tokens for this audience"
    ))
}

/// Whether a volume of a pod wants tokens for an audience.
fn pod_names(core: &Core, pod: &Value, audience: &str) -> bool {
    let is = |of: &Value| of.str_at(&["audience"]).unwrap_or_default() == audience;
    pod.array_at(&["spec", "volumes"]).iter().any(|volume| {
        let mut tokens =
            volume.array_at(&["projected", "sources"]).iter().filter_map(|s| s.get("serviceAccountToken"));
        if tokens.any(|token| !token.is_null() && is(token)) {
            return true;
        }
        let driver = driver(core, pod, volume);
        let driver = driver.and_then(|name| find(core, "storage.k8s.io", "csidrivers", "", &name).ok());
        driver.is_some_and(|driver| driver.array_at(&["spec", "tokenRequests"]).iter().any(is))
    })
}

/// The driver of a volume, which a claim may lead to.
fn driver(core: &Core, pod: &Value, volume: &Value) -> Option<String> {
    if let Some(driver) = volume.str_at(&["csi", "driver"]) {
        return Some(driver.to_owned());
    }
    let claimed = volume.str_at(&["persistentVolumeClaim", "claimName"]).map(str::to_owned);
    let name = claimed.or_else(|| {
        volume.get("ephemeral").filter(|made| !made.is_null())?;
        Some(format!("{}-{}", meta::name(pod), volume.str_at(&["name"])?))
    })?;
    let claim = find(core, "", "persistentvolumeclaims", meta::namespace(pod), &name).ok()?;
    let volume = find(core, "", "persistentvolumes", "", claim.str_at(&["spec", "volumeName"])?).ok()?;
    volume.str_at(&["spec", "csi", "driver"]).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use xebec_api::object;

    #[test]
    fn labels_that_a_node_may_not_change() {
        let labels = |list: &[(&str, &str)]| {
            let mut node = object!({"metadata": {"labels": {}}});
            list.iter().for_each(|(key, value)| node.set(&["metadata", "labels", key], *value));
            node
        };
        let old = labels(&[("kubernetes.io/role", "a"), ("gone.k8s.io/x", "b"), ("mine", "c")]);
        let new = labels(&[
            ("kubernetes.io/role", "b"),
            ("mine", "d"),
            ("kubernetes.io/hostname", "n"),
            ("node.kubernetes.io/disk", "ssd"),
            ("x.kubelet.kubernetes.io/y", "z"),
            ("node-restriction.kubernetes.io/fips", "true"),
            ("a.node-restriction.kubernetes.io/fips", "true"),
            ("notkubernetes.io/x", "y"),
            ("example.com/x", "y"),
        ]);
        assert_eq!(
            forbidden(changed_labels(&new, &old)),
            [
                "a.node-restriction.kubernetes.io/fips",
                "gone.k8s.io/x",
                "kubernetes.io/role",
                "node-restriction.kubernetes.io/fips"
            ]
        );
        assert_eq!(forbidden(changed_labels(&old, &old)), [""; 0]);
    }

    #[test]
    fn what_a_pod_of_a_node_may_not_refer_to() {
        let check = |spec: Value, want: Option<&str>| {
            assert_eq!(referenced(&object!({"spec": (spec.clone())})), want, "{spec:?}");
        };
        check(object!({"volumes": [{"hostPath": {}}, {"emptyDir": {}}]}), None);
        check(object!({"volumes": [{"projected": {"sources": [{"downwardAPI": {}}]}}]}), None);
        check(object!({"serviceAccountName": "a"}), Some("serviceaccounts"));
        check(object!({"imagePullSecrets": [{"name": "a"}]}), Some("secrets"));
        check(object!({"volumes": [{"configMap": {"name": "a"}}]}), Some("configmaps"));
        check(object!({"resourceClaims": [{"name": "a"}]}), Some("resourceclaims"));
        let claim = object!({"volumes": [{"persistentVolumeClaim": {"claimName": "a"}}]});
        check(claim, Some("persistentvolumeclaims"));
        let token = object!({"volumes": [{"projected": {"sources": [{"serviceAccountToken": {}}]}}]});
        check(token, Some("serviceaccounts (via projected volumes)"));
    }
}
