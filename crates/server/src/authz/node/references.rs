//! What objects refer to that the node of their pods needs to read.

use xebec_api::{Value, meta};

/// A pod of a node's own, which gives its node nothing.
pub(crate) const MIRROR: &str = "kubernetes.io/config.mirror";

/// The kinds of what pods refer to in their namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    ServiceAccount,
    Secret,
    ConfigMap,
    Claim,
    ResourceClaim,
}

/// Something that a pod refers to.
pub(crate) type Reference = (Kind, String);

fn text<'a>(value: &'a Value, path: &[&str]) -> Option<&'a str> {
    value.str_at(path).filter(|text| !text.is_empty())
}

/// All containers of a pod.
fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .flat_map(|list| pod.array_at(&["spec", list]))
}

/// What a pod refers to, each once, in order.
pub(crate) fn of_pod(pod: &Value) -> Vec<Reference> {
    let mut all = secrets_and_maps(pod);
    all.extend(
        text(pod, &["spec", "serviceAccountName"]).map(|name| (Kind::ServiceAccount, name.to_owned())),
    );
    for volume in pod.array_at(&["spec", "volumes"]) {
        all.extend(claim(pod, volume).map(|name| (Kind::Claim, name)));
    }
    all.extend(resource_claims(pod).map(|name| (Kind::ResourceClaim, name.to_owned())));
    all.sort_unstable();
    all.dedup();
    all
}

/// The secrets and config maps that a pod refers to.
pub(crate) fn secrets_and_maps(pod: &Value) -> Vec<Reference> {
    let mut all = Vec::new();
    let mut add = |kind: Kind, name: Option<&str>| all.extend(name.map(|name| (kind, name.to_owned())));
    for pull in pod.array_at(&["spec", "imagePullSecrets"]) {
        add(Kind::Secret, text(pull, &["name"]));
    }
    for container in containers(pod) {
        for source in container.array_at(&["envFrom"]) {
            add(Kind::Secret, text(source, &["secretRef", "name"]));
            add(Kind::ConfigMap, text(source, &["configMapRef", "name"]));
        }
        for variable in container.array_at(&["env"]) {
            add(Kind::Secret, text(variable, &["valueFrom", "secretKeyRef", "name"]));
            add(Kind::ConfigMap, text(variable, &["valueFrom", "configMapKeyRef", "name"]));
        }
    }
    for volume in pod.array_at(&["spec", "volumes"]) {
        add(Kind::Secret, text(volume, &["secret", "secretName"]));
        add(Kind::ConfigMap, text(volume, &["configMap", "name"]));
        add(Kind::Secret, text(volume, &["azureFile", "secretName"]));
        add(Kind::Secret, text(volume, &["csi", "nodePublishSecretRef", "name"]));
        for source in ["cephfs", "cinder", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos"] {
            add(Kind::Secret, text(volume, &[source, "secretRef", "name"]));
        }
        for source in volume.array_at(&["projected", "sources"]) {
            add(Kind::Secret, text(source, &["secret", "name"]));
            add(Kind::ConfigMap, text(source, &["configMap", "name"]));
        }
    }
    all
}

/// The claim of a volume; one that is made for the pod is called after both.
fn claim(pod: &Value, volume: &Value) -> Option<String> {
    if let Some(name) = text(volume, &["persistentVolumeClaim", "claimName"]) {
        return Some(name.to_owned());
    }
    volume.get("ephemeral").filter(|made| !made.is_null())?;
    Some(format!("{}-{}", meta::name(pod), text(volume, &["name"])?))
}

fn resource_claims(pod: &Value) -> impl Iterator<Item = &str> {
    let made = |name: Option<&str>| {
        let statuses = pod.array_at(&["status", "resourceClaimStatuses"]).iter();
        statuses
            .filter(move |status| status.str_at(&["name"]) == name)
            .find_map(|s| text(s, &["resourceClaimName"]))
    };
    let claims = pod.array_at(&["spec", "resourceClaims"]).iter();
    let named = claims.filter_map(move |claim| match text(claim, &["resourceClaimName"]) {
        Some(name) => Some(name),
        None => made(claim.str_at(&["name"])),
    });
    named.chain(text(pod, &["status", "extendedResourceClaimStatus", "resourceClaimName"]))
}

/// Namespace and name of the secrets that the node of a volume needs.
pub(crate) fn secrets_of_volume(volume: &Value) -> Vec<(String, String)> {
    let home = text(volume, &["spec", "claimRef", "namespace"]).unwrap_or_default();
    let mut all = Vec::new();
    let mut add = |namespace: Option<&str>, name: Option<&str>| {
        let name = name.map(|name| (namespace.unwrap_or(home).to_owned(), name.to_owned()));
        all.extend(name);
    };
    let of = |source: &str, field: &str| text(volume, &["spec", source, field]);
    add(of("azureFile", "secretNamespace"), of("azureFile", "secretName"));
    for source in ["cephfs", "cinder", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos"] {
        let of = |field: &str| text(volume, &["spec", source, "secretRef", field]);
        add(of("namespace"), of("name"));
    }
    for reference in ["nodePublishSecretRef", "nodeStageSecretRef", "nodeExpandSecretRef"] {
        let of = |field: &str| text(volume, &["spec", "csi", reference, field]);
        add(of("namespace"), of("name"));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use xebec_api::object;

    #[test]
    fn what_a_pod_refers_to() {
        let pod = object!({
            "metadata": {"name": "p"},
            "spec": {
                "serviceAccountName": "robot", "imagePullSecrets": [{"name": "pull"}, {}],
                "containers": [{"envFrom": [{"secretRef": {"name": "from"}}, {"configMapRef": {"name": "map"}}]}],
                "initContainers": [{"env": [
                    {"valueFrom": {"secretKeyRef": {"name": "key"}}}, {"valueFrom": {"configMapKeyRef": {"name": "map"}}}
                ]}],
                "ephemeralContainers": [{"envFrom": [{"secretRef": {"name": "late"}}]}],
                "volumes": [
                    {"name": "a", "secret": {"secretName": "volume"}}, {"name": "b", "ephemeral": {}},
                    {"name": "c", "persistentVolumeClaim": {"claimName": "claim"}},
                    {"name": "d", "projected": {"sources": [{"secret": {"name": "part"}}, {"configMap": {"name": "bit"}}]}},
                    {"name": "e", "csi": {"nodePublishSecretRef": {"name": "driver"}}},
                    {"name": "f", "configMap": {"name": "files"}}, {"name": "g", "rbd": {"secretRef": {"name": "disk"}}}
                ],
                "resourceClaims": [{"name": "x", "resourceClaimName": "own"}, {"name": "y"}, {"name": "z"}]
            },
            "status": {"resourceClaimStatuses": [{"name": "y", "resourceClaimName": "made"}, {"name": "z"}]}
        });
        let found = of_pod(&pod);
        let names = |kind: Kind| {
            let names: Vec<&str> =
                found.iter().filter(|(k, _)| *k == kind).map(|(_, n)| n.as_str()).collect();
            names.join(" ")
        };
        assert_eq!(names(Kind::ServiceAccount), "robot");
        assert_eq!(names(Kind::Secret), "disk driver from key late part pull volume");
        assert_eq!(names(Kind::ConfigMap), "bit files map");
        assert_eq!(names(Kind::Claim), "claim p-b");
        assert_eq!(names(Kind::ResourceClaim), "made own");
    }

    #[test]
    fn secrets_of_volumes_that_nodes_need() {
        let volume = object!({"spec": {
            "claimRef": {"namespace": "home"}, "cephfs": {"secretRef": {"name": "ceph"}},
            "csi": {"nodeStageSecretRef": {"namespace": "a", "name": "stage"},
                "controllerExpandSecretRef": {"namespace": "a", "name": "controller"}}
        }});
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(secrets_of_volume(&volume), [pair("home", "ceph"), pair("a", "stage")]);
    }
}
