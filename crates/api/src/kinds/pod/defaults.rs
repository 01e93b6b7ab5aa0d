//! Defaults of pods and of everything that has a pod's specification inside.
//!
//! [`spec`] is for every `PodSpec`; what only a pod itself gets (requests from limits, host ports) is in [`pod`].

use super::resources;
use crate::Value;
use crate::kinds::fill::{Given, Row, absent, each, empty, fill, is_unset, text};

const SPEC: &[Row] = &[
    text("dnsPolicy", "ClusterFirst"),
    text("restartPolicy", "Always"),
    absent("securityContext", Given::Object),
    absent("terminationGracePeriodSeconds", Given::Int(30)),
    text("schedulerName", "default-scheduler"),
];

const CONTAINER: &[Row] = &[
    absent("resources", Given::Object),
    text("terminationMessagePath", "/dev/termination-log"),
    text("terminationMessagePolicy", "File"),
    text("ports[*].protocol", "TCP"),
    text("env[*].valueFrom.fieldRef.apiVersion", "v1"),
    absent("env[*].valueFrom.fileKeyRef.optional", Given::Bool(false)),
    text("lifecycle.postStart.httpGet.path", "/"),
    text("lifecycle.postStart.httpGet.scheme", "HTTP"),
    text("lifecycle.preStop.httpGet.path", "/"),
    text("lifecycle.preStop.httpGet.scheme", "HTTP"),
];

const PROBE: &[Row] = &[
    empty("timeoutSeconds", Given::Int(1)),
    empty("periodSeconds", Given::Int(10)),
    empty("successThreshold", Given::Int(1)),
    empty("failureThreshold", Given::Int(3)),
    text("httpGet.path", "/"),
    text("httpGet.scheme", "HTTP"),
    absent("grpc.service", Given::Text("")),
];

const VOLUME: &[Row] = &[
    absent("secret.defaultMode", Given::Int(0o644)),
    absent("configMap.defaultMode", Given::Int(0o644)),
    absent("downwardAPI.defaultMode", Given::Int(0o644)),
    text("downwardAPI.items[*].fieldRef.apiVersion", "v1"),
    absent("projected.defaultMode", Given::Int(0o644)),
    text("projected.sources[*].downwardAPI.items[*].fieldRef.apiVersion", "v1"),
    absent("projected.sources[*].serviceAccountToken.expirationSeconds", Given::Int(3600)),
    absent("ephemeral.volumeClaimTemplate.spec!.volumeMode", Given::Text("Filesystem")),
];

/// Sources that volumes of pods and persistent volumes share.
pub(in crate::kinds) const SOURCES: &[Row] = &[
    absent("hostPath.type", Given::Text("")),
    text("rbd.pool", "rbd"),
    text("rbd.user", "admin"),
    text("rbd.keyring", "/etc/ceph/keyring"),
    text("iscsi.iscsiInterface", "default"),
    absent("azureDisk.cachingMode", Given::Text("ReadWrite")),
    absent("azureDisk.fsType", Given::Text("ext4")),
    absent("azureDisk.readOnly", Given::Bool(false)),
    absent("azureDisk.kind", Given::Text("Shared")),
    text("scaleIO.storageMode", "ThinProvisioned"),
    text("scaleIO.fsType", "xfs"),
];

/// Defaults of every `PodSpec`.
pub(in crate::kinds) fn spec(spec: &mut Value) {
    fill(spec, SPEC);
    name_account(spec);
    each(spec, "volumes[*]", &mut volume);
    for list in ["initContainers[*]", "containers[*]", "ephemeralContainers[*]"] {
        each(spec, list, &mut container);
    }
    each(spec, "overhead", &mut resources::round_list);
    each(spec, "resources", &mut resources::round);
}

/// The account has two names, of which the newer counts.
fn name_account(spec: &mut Value) {
    const NAMES: [&str; 2] = ["serviceAccountName", "serviceAccount"];
    let given = NAMES.iter().find_map(|name| spec.str_at(&[name]).filter(|text| !text.is_empty()));
    if let Some(account) = given.map(str::to_owned) {
        NAMES.iter().for_each(|name| spec.set(&[name], account.as_str()));
    }
}

/// Defaults of the pod template at `path`, which is made if it is not there.
pub(in crate::kinds) fn template(object: &mut Value, path: &str) {
    each(object, path, &mut |template| each(template, "spec!", &mut spec));
}

/// Defaults of a pod.
pub(super) fn pod(pod: &mut Value) {
    each(pod, "spec!", &mut |s| {
        for list in ["containers[*].resources", "initContainers[*].resources"] {
            each(s, list, &mut resources::requests_from_limits);
        }
        resources::fill_pod_level(s);
        fill(s, &[absent("enableServiceLinks", Given::Bool(true))]);
        if s.bool_at(&["hostNetwork"]) == Some(true) {
            each(s, "containers[*].ports[*]", &mut host_port);
            each(s, "initContainers[*].ports[*]", &mut host_port);
        }
        spec(s);
    });
}

/// A port of a container on the host's network is the host's.
fn host_port(port: &mut Value) {
    if let (true, Some(number)) = (is_unset(port, "hostPort"), port.get("containerPort").cloned()) {
        port.set(&["hostPort"], number);
    }
}

fn container(container: &mut Value) {
    if container.as_object().is_none() {
        return;
    }
    if is_unset(container, "imagePullPolicy") {
        let image = container.str_at(&["image"]).unwrap_or_default();
        container.set(&["imagePullPolicy"], pull_policy(image));
    }
    fill(container, CONTAINER);
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        each(container, probe, &mut |p| fill(p, PROBE));
    }
    each(container, "resources", &mut resources::round);
}

fn volume(volume: &mut Value) {
    let Some(map) = volume.as_object_mut() else { return };
    if map.iter().all(|(name, value)| name == "name" || value.is_null()) {
        map.insert("emptyDir", Value::object());
    }
    fill(volume, SOURCES);
    fill(volume, VOLUME);
    each(volume, "image", &mut |image| {
        if image.as_object().is_some() && is_unset(image, "pullPolicy") {
            let policy = pull_policy(image.str_at(&["reference"]).unwrap_or_default());
            image.set(&["pullPolicy"], policy);
        }
    });
    each(volume, "ephemeral.volumeClaimTemplate.spec.resources", &mut resources::round);
}

/// An image whose tag moves is pulled each time; any other only when it is not there.
fn pull_policy(image: &str) -> &'static str {
    if tag(image) == Some("latest") { "Always" } else { "IfNotPresent" }
}

/// The tag of an image reference: `latest` if it names neither a tag nor a digest, `None` if it names only a digest or is
/// no reference.
pub(in crate::kinds) fn tag(image: &str) -> Option<&str> {
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (name, None),
    };
    // Only a registry's host name may have upper-case letters.
    let repository =
        path.split_once('/').filter(|(host, _)| host.contains(['.', ':'])).map_or(path, |(_, r)| r);
    let is_name =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-' | b'/');
    if repository.is_empty() || !repository.bytes().all(is_name) {
        return None;
    }
    match (tag, digest) {
        (Some(tag), _) => Some(tag),
        (None, Some(_)) => None,
        (None, None) => Some("latest"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object;

    #[test]
    fn pull_policies() {
        let check = |image: &str, want: &str| assert_eq!(pull_policy(image), want, "{image}");
        check("nginx", "Always");
        check("nginx:latest", "Always");
        check("nginx:1.27", "IfNotPresent");
        check("localhost:5000/a/b", "Always");
        check("localhost:5000/a/b:v1", "IfNotPresent");
        check("Registry.Example.com/a", "Always");
        check("a@sha256:0123", "IfNotPresent");
        check("a:latest@sha256:0123", "Always");
        check("", "IfNotPresent");
        check("NGINX", "IfNotPresent");
    }

    #[test]
    fn a_pod_gets_what_upstream_gives() {
        let mut got = object!({"spec": {
            "hostNetwork": true,
            "containers": [{
                "name": "a", "image": "a:1",
                "ports": [{"containerPort": 80}],
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100u"}},
                "livenessProbe": {"httpGet": {"port": 80}},
                "readinessProbe": {"grpc": {"port": 80}, "periodSeconds": 3},
                "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
            }],
            "volumes": [{"name": "v"}, {"name": "c", "configMap": {"name": "c"}}, {"name": "h", "hostPath": {"path": "/"}}]
        }});
        pod(&mut got);
        let want = object!({"spec": {
            "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "securityContext": {},
            "terminationGracePeriodSeconds": 30, "schedulerName": "default-scheduler",
            "enableServiceLinks": true, "hostNetwork": true,
            "containers": [{
                "name": "a", "image": "a:1", "imagePullPolicy": "IfNotPresent",
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                "ports": [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}],
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1m", "memory": "1Gi"}},
                "livenessProbe": {
                    "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
                    "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3
                },
                "readinessProbe": {
                    "grpc": {"port": 80, "service": ""},
                    "timeoutSeconds": 1, "periodSeconds": 3, "successThreshold": 1, "failureThreshold": 3
                },
                "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name", "apiVersion": "v1"}}}]
            }],
            "volumes": [
                {"name": "v", "emptyDir": {}},
                {"name": "c", "configMap": {"name": "c", "defaultMode": 420}},
                {"name": "h", "hostPath": {"path": "/", "type": ""}}
            ]
        }});
        assert_eq!(got, want);
    }

    #[test]
    fn templates_keep_requests_apart_from_limits() {
        let mut got = object!({"spec": {"template": {"spec": {"hostNetwork": true, "containers": [
            {"image": "a:1", "ports": [{"containerPort": 80}], "resources": {"limits": {"cpu": "1"}}}
        ]}}}});
        template(&mut got, "spec!.template!");
        let container = &got.array_at(&["spec", "template", "spec", "containers"])[0];
        assert_eq!(container.at(&["resources"]), Some(&object!({"limits": {"cpu": "1"}})));
        assert_eq!(container.array_at(&["ports"])[0], object!({"containerPort": 80, "protocol": "TCP"}));
        assert_eq!(got.at(&["spec", "template", "spec", "enableServiceLinks"]), None);
    }
}
