//! Cases for whole pods and templates.

mod updates;

use super::{POD, POD_TEMPLATE};
use crate::Value;
use crate::kinds::check::testing::{json, lines, with};

fn good() -> Value {
    let mut pod = json(
        r#"{
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"serviceAccountName": "default",
            "containers": [{"name": "a", "image": "a:1", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
            "volumes": [{"name": "v"}]}
    }"#,
    );
    (POD.defaults)(&mut pod, "v1");
    (POD.prepare_create)(&mut pod);
    pod
}

fn check(changes: &[(&str, &str)], want: &[&str]) {
    let mut pod = with(&good(), changes);
    (POD.defaults)(&mut pod, "v1");
    assert_eq!(lines(&(POD.validate)(&pod)), want, "{changes:?}");
}

#[test]
fn a_pod_in_order() {
    check(&[], &[]);
}

#[test]
fn fields_of_the_specification() {
    let spec = |field: &str, value: &str, want: &[&str]| check(&[(&format!("spec.{field}"), value)], want);
    spec("containers", "[]", &["spec.containers: Required value"]);
    spec(
        "restartPolicy",
        r#""x""#,
        &[r#"spec.restartPolicy: Unsupported value: "x": supported values: "Always", "OnFailure", "Never""#],
    );
    spec(
        "dnsPolicy",
        r#""x""#,
        &[
            r#"spec.dnsPolicy: Unsupported value: "x": supported values: "ClusterFirstWithHostNet", "ClusterFirst", "Default", "None""#,
        ],
    );
    spec(
        "dnsPolicy",
        r#""None""#,
        &["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"],
    );
    spec(
        "dnsConfig",
        r#"{"nameservers": ["1.1.1.1"], "searches": ["_tcp.a.b.", "."], "options": [{"name": "x"}]}"#,
        &[],
    );
    spec(
        "dnsConfig",
        r#"{"nameservers": ["x"], "searches": ["A"], "options": [{}]}"#,
        &[
            r#"spec.dnsConfig.nameservers[0]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"#,
            r#"spec.dnsConfig.searches[0]: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')"#,
            "spec.dnsConfig.options[0]: Required value: must not be empty",
        ],
    );
    spec(
        "dnsConfig",
        r#"{"nameservers": ["1.1.1.1", "1.1.1.1", "1.1.1.1", "1.1.1.1"]}"#,
        &[
            r#"spec.dnsConfig.nameservers: Invalid value: ["1.1.1.1","1.1.1.1","1.1.1.1","1.1.1.1"]: must not have more than 3 nameservers"#,
        ],
    );
}

#[test]
fn names_and_times() {
    let spec = |field: &str, value: &str, want: &[&str]| check(&[(&format!("spec.{field}"), value)], want);
    spec(
        "activeDeadlineSeconds",
        "0",
        &["spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive"],
    );
    spec("hostname", r#""ok""#, &[]);
    spec(
        "hostname",
        r#""-""#,
        &[&format!(
            r#"spec.hostname: Invalid value: "-": {}"#,
            crate::names::dns_label("-").expect_err("bad")
        )],
    );
    spec("hostnameOverride", r#""a.b""#, &[]);
    check(
        &[("spec.hostnameOverride", r#""a""#), ("spec.setHostnameAsFQDN", "true")],
        &["spec.hostnameOverride: Forbidden: may not be specified when setHostnameAsFQDN is true"],
    );
    spec("hostAliases", r#"[{"ip": "1.2.3.4", "hostnames": ["a.b"]}]"#, &[]);
    spec(
        "hostAliases",
        r#"[{"ip": "1.2.3"}]"#,
        &[
            r#"spec.hostAliases[0].ip: Invalid value: "1.2.3": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"#,
        ],
    );
    spec(
        "preemptionPolicy",
        r#""x""#,
        &[
            r#"spec.preemptionPolicy: Unsupported value: "x": supported values: "PreemptLowerPriority", "Never""#,
        ],
    );
}

#[test]
fn fields_that_depend_on_each_other() {
    let spec = |field: &str, value: &str, want: &[&str]| check(&[(&format!("spec.{field}"), value)], want);
    spec("os", r#"{"name": "linux"}"#, &[]);
    spec(
        "os",
        r#"{"name": "x"}"#,
        &[r#"spec.os: Unsupported value: "x": supported values: "linux", "windows""#],
    );
    check(
        &[("spec.os", r#"{"name": "windows"}"#), ("spec.securityContext", r#"{"runAsUser": 1}"#)],
        &["spec.securityContext.runAsUser: Forbidden: cannot be set for a windows pod"],
    );
    spec("resourceClaims", r#"[{"name": "a", "resourceClaimName": "b"}]"#, &[]);
    spec(
        "resourceClaims",
        r#"[{"name": "a"}]"#,
        &[
            r#"spec.resourceClaims[0]: Invalid value: {"name":"a"}: must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"#,
        ],
    );
    spec("overhead", r#"{"cpu": "1"}"#, &[]);
    spec(
        "overhead",
        r#"{"cpu": "-1"}"#,
        &[r#"spec.overhead.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0"#],
    );
    spec(
        "ephemeralContainers",
        r#"[{"name": "e", "image": "e"}]"#,
        &["spec.ephemeralContainers: Forbidden: cannot be set on create"],
    );
    check(
        &[("spec.nodeName", r#""n""#), ("spec.schedulingGates", r#"[{"name": "g"}]"#)],
        &["spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"],
    );
    check(
        &[
            ("spec.hostNetwork", "true"),
            ("spec.containers.0.ports", r#"[{"containerPort": 80, "hostPort": 81}]"#),
        ],
        &[
            "spec.containers[0].ports[0].hostPort: Invalid value: 81: must match `containerPort` when `hostNetwork` is true",
        ],
    );
    check(
        &[("spec.hostUsers", "false"), ("spec.hostPID", "true")],
        &["spec.HostPID: Forbidden: when `hostUsers` is false"],
    );
    check(
        &[
            ("spec.serviceAccountName", ""),
            ("spec.serviceAccount", ""),
            (
                "spec.volumes.1",
                r#"{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}"#,
            ),
        ],
        &[
            "spec.volumes[1].projected.sources[0].serviceAccountToken: Forbidden: must not be specified when serviceAccountName is not set",
        ],
    );
    check(&[("metadata.annotations", r#"{"controller.kubernetes.io/pod-deletion-cost": "10"}"#)], &[]);
    check(
        &[("metadata.annotations", r#"{"controller.kubernetes.io/pod-deletion-cost": "+1"}"#)],
        &[
            r#"metadata.annotations[controller.kubernetes.io/pod-deletion-cost]: Invalid value: "+1": must be a 32bit integer"#,
        ],
    );
}

#[test]
fn fields_of_containers() {
    let container = |field: &str, value: &str, want: &[&str]| {
        let want: Vec<String> = want.iter().map(|w| format!("spec.containers[0].{w}")).collect();
        let want: Vec<&str> = want.iter().map(String::as_str).collect();
        check(&[(&format!("spec.containers.0.{field}"), value)], &want);
    };
    container("name", "", &["name: Required value"]);
    container("image", "", &["image: Required value"]);
    container(
        "image",
        r#"" a""#,
        &[r#"image: Invalid value: " a": must not have leading or trailing whitespace"#],
    );
    container(
        "terminationMessagePolicy",
        r#""x""#,
        &[
            r#"terminationMessagePolicy: Unsupported value: "x": supported values: "File", "FallbackToLogsOnError""#,
        ],
    );
    container(
        "imagePullPolicy",
        r#""x""#,
        &[r#"imagePullPolicy: Unsupported value: "x": supported values: "Always", "IfNotPresent", "Never""#],
    );
    container("ports", r#"[{"name": "http", "containerPort": 80}, {"name": "b", "containerPort": 80}]"#, &[]);
    container(
        "ports",
        r#"[{"name": "HTTP", "containerPort": 0, "hostPort": 70000, "protocol": "x"}]"#,
        &[
            r#"ports[0].name: Invalid value: "HTTP": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"#,
            "ports[0].containerPort: Required value",
            "ports[0].hostPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            r#"ports[0].protocol: Unsupported value: "x": supported values: "SCTP", "TCP", "UDP""#,
        ],
    );
    container(
        "ports",
        r#"[{"name": "a", "containerPort": 1, "hostPort": 1}, {"name": "a", "containerPort": 2, "hostPort": 1}]"#,
        &[r#"ports[1].name: Duplicate value: "a""#, r#"ports[1].hostPort: Duplicate value: "TCP//1""#],
    );
    container(
        "volumeMounts",
        r#"[{"name": "x", "mountPath": "/x"}, {"name": "v", "mountPath": "/x", "subPath": "/y"}]"#,
        &[
            r#"volumeMounts[0].name: Not found: "x""#,
            r#"volumeMounts[1].mountPath: Invalid value: "/x": must be unique"#,
            r#"volumeMounts.subPath: Invalid value: "/y": must be a relative path"#,
        ],
    );
    container(
        "volumeMounts",
        r#"[{"name": "v", "mountPath": "/x", "mountPropagation": "Bidirectional", "recursiveReadOnly": "Enabled"}]"#,
        &[
            "volumeMounts.mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers",
            "volumeMounts.recursiveReadOnly: Forbidden: may only be specified when readOnly is true",
            "volumeMounts.recursiveReadOnly: Forbidden: may only be specified when mountPropagation is None or not specified",
        ],
    );
}

#[test]
fn further_fields_of_containers() {
    let container = |field: &str, value: &str, want: &[&str]| {
        let want: Vec<String> = want.iter().map(|w| format!("spec.containers[0].{w}")).collect();
        let want: Vec<&str> = want.iter().map(String::as_str).collect();
        check(&[(&format!("spec.containers.0.{field}"), value)], &want);
    };
    container(
        "volumeDevices",
        r#"[{"name": "v", "devicePath": "/dev/x"}]"#,
        &[
            r#"volumeMounts[0].name: Invalid value: "v": must not already exist in volumeDevices"#,
            r#"volumeDevices[0].name: Invalid value: "v": can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"#,
            r#"volumeDevices[0].name: Invalid value: "v": must not already exist in volumeMounts"#,
        ],
    );
    container("resizePolicy", r#"[{"resourceName": "cpu", "restartPolicy": "NotRequired"}]"#, &[]);
    container(
        "resizePolicy",
        r#"[{"resourceName": "x", "restartPolicy": ""}]"#,
        &[
            r#"resizePolicy: Unsupported value: "x": supported values: "cpu", "memory""#,
            "resizePolicy: Required value",
        ],
    );
    container(
        "restartPolicyRules",
        r#"[{"action": "Restart", "exitCodes": {"operator": "In", "values": [1]}}]"#,
        &["restartPolicy: Required value: must specify restartPolicy when restart rules are used"],
    );
    container(
        "restartPolicy",
        r#""x""#,
        &[r#"restartPolicy: Unsupported value: "x": supported values: "Always", "Never", "OnFailure""#],
    );
    container(
        "env",
        r#"[{"name": "A", "valueFrom": {"fileKeyRef": {"key": "K", "volumeName": "v", "path": "p"}}}]"#,
        &[],
    );
    container(
        "env",
        r#"[{"name": "A", "valueFrom": {"fileKeyRef": {"key": "K", "volumeName": "x", "path": "p"}}}]"#,
        &[r#"env[0].valueFrom.fileKeyRef.volumeName: Not found: "x""#],
    );
    check(
        &[("spec.containers.1", r#"{"name": "a", "image": "b"}"#)],
        &[r#"spec.containers[1].name: Duplicate value: "a""#],
    );
}

#[test]
fn probes_and_hooks() {
    let container = |field: &str, value: &str, want: &[&str]| {
        let want: Vec<String> = want.iter().map(|w| format!("spec.containers[0].{field}{w}")).collect();
        let want: Vec<&str> = want.iter().map(String::as_str).collect();
        check(&[(&format!("spec.containers.0.{field}"), value)], &want);
    };
    container("livenessProbe", r#"{"httpGet": {"port": "http", "httpHeaders": [{"name": "X-A"}]}}"#, &[]);
    container("livenessProbe", "{}", &[": Required value: must specify a handler type"]);
    container(
        "livenessProbe",
        r#"{"exec": {"command": ["x"]}, "tcpSocket": {"port": 1}}"#,
        &[".tcpSocket: Forbidden: may not specify more than 1 handler type"],
    );
    container(
        "livenessProbe",
        r#"{"exec": {}, "successThreshold": 2, "periodSeconds": -1, "terminationGracePeriodSeconds": 0}"#,
        &[
            ".exec.command: Required value",
            ".periodSeconds: Invalid value: -1: must be greater than or equal to 0",
            ".terminationGracePeriodSeconds: Invalid value: 0: must be greater than 0",
            ".successThreshold: Invalid value: 2: must be 1",
        ],
    );
    container("readinessProbe", r#"{"grpc": {"port": 1}, "successThreshold": 2}"#, &[]);
    container(
        "readinessProbe",
        r#"{"tcpSocket": {"port": 0}, "terminationGracePeriodSeconds": 1}"#,
        &[
            ".tcpSocket.port: Invalid value: 0: must be between 1 and 65535, inclusive",
            ".terminationGracePeriodSeconds: Invalid value: 1: must not be set for readinessProbes",
        ],
    );
    container(
        "startupProbe",
        r#"{"httpGet": {"port": "x_", "scheme": "x", "httpHeaders": [{"name": "X A"}]}}"#,
        &[
            r#".httpGet.port: Invalid value: "x_": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"#,
            r#".httpGet.scheme: Unsupported value: "x": supported values: "HTTP", "HTTPS""#,
            r#".httpGet.httpHeaders: Invalid value: "X A": a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')"#,
        ],
    );
    container("lifecycle", r#"{"preStop": {"sleep": {"seconds": 30}}}"#, &[]);
    container(
        "lifecycle",
        r#"{"preStop": {"sleep": {"seconds": 31}}}"#,
        &[
            ".preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)",
        ],
    );
}

#[test]
fn init_containers() {
    let init =
        |container: &str, want: &[&str]| check(&[("spec.initContainers", &format!("[{container}]"))], want);
    init(r#"{"name": "i", "image": "i"}"#, &[]);
    init(r#"{"name": "a", "image": "i"}"#, &[r#"spec.initContainers[0].name: Duplicate value: "a""#]);
    init(
        r#"{"name": "i", "image": "i", "readinessProbe": {"tcpSocket": {"port": 1}}}"#,
        &[
            "spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
        ],
    );
    init(
        r#"{"name": "i", "image": "i", "restartPolicy": "Always", "readinessProbe": {"tcpSocket": {"port": 1}}}"#,
        &[],
    );
}

#[test]
fn security_contexts() {
    let of_pod = |context: &str, want: &[&str]| check(&[("spec.securityContext", context)], want);
    of_pod(
        r#"{"runAsUser": 0, "fsGroup": 1, "supplementalGroups": [1], "seccompProfile": {"type": "RuntimeDefault"}}"#,
        &[],
    );
    of_pod(
        r#"{"runAsUser": -1, "supplementalGroups": [-1]}"#,
        &[
            "spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
            "spec.securityContext.supplementalGroups[0]: Invalid value: -1: must be between 0 and 2147483647, inclusive",
        ],
    );
    of_pod(
        r#"{"seccompProfile": {"type": "Localhost"}}"#,
        &[
            "spec.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
        ],
    );
    of_pod(
        r#"{"seccompProfile": {"type": "x"}}"#,
        &[
            r#"spec.securityContext.seccompProfile.type: Unsupported value: "x": supported values: "Localhost", "RuntimeDefault", "Unconfined""#,
        ],
    );
    of_pod(
        r#"{"appArmorProfile": {}}"#,
        &[
            "spec.securityContext.appArmorProfile.type: Required value: type is required when appArmorProfile is set",
        ],
    );
    of_pod(r#"{"sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}]}"#, &[]);
    of_pod(
        r#"{"sysctls": [{"name": "a"}, {"name": "a"}, {"name": "A"}]}"#,
        &[
            r#"spec.securityContext.sysctls[1].name: Duplicate value: "a""#,
            r#"spec.securityContext.sysctls[2].name: Invalid value: "A": must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"#,
        ],
    );
    check(
        &[("spec.hostIPC", "true"), ("spec.securityContext", r#"{"sysctls": [{"name": "kernel.shmmax"}]}"#)],
        &[
            r#"spec.securityContext.sysctls[0].name: Invalid value: "kernel.shmmax": may not be specified when 'hostIPC' is true"#,
        ],
    );
    let of_container =
        |context: &str, want: &[&str]| check(&[("spec.containers.0.securityContext", context)], want);
    of_container(r#"{"privileged": true, "capabilities": {"add": ["NET_ADMIN"]}}"#, &[]);
    of_container(
        r#"{"privileged": true, "allowPrivilegeEscalation": false}"#,
        &[
            r#"spec.containers[0].securityContext: Invalid value: {"allowPrivilegeEscalation":false,"privileged":true}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true"#,
        ],
    );
    of_container(
        r#"{"procMount": "Unmasked"}"#,
        &[
            r#"spec.containers[0].securityContext.procMount: Invalid value: "Unmasked": `hostUsers` must be false to use `Unmasked`"#,
        ],
    );
    check(
        &[
            ("metadata.annotations", r#"{"seccomp.security.alpha.kubernetes.io/pod": "unconfined"}"#),
            ("spec.securityContext", r#"{"seccompProfile": {"type": "RuntimeDefault"}}"#),
        ],
        &[
            "spec.securityContext.seccompProfile.type: Forbidden: seccomp type in annotation and field must match",
        ],
    );
}

#[test]
fn templates() {
    let check = |template: &str, want: &[&str]| {
        let mut object = json(&format!("{{\"template\": {template}}}"));
        (POD_TEMPLATE.defaults)(&mut object, "v1");
        assert_eq!(lines(&(POD_TEMPLATE.validate)(&object)), want, "{template}");
    };
    check(r#"{"spec": {"containers": [{"name": "a", "image": " a"}]}}"#, &[]);
    check(
        r#"{"metadata": {"labels": {"-": "b"}}, "spec": {"containers": []}}"#,
        &[
            &format!(
                r#"template.labels: Invalid value: "-": {}"#,
                crate::names::qualified("-").expect_err("bad")
            ),
            "template.spec.containers: Required value",
        ],
    );
    check(
        r#"{"spec": {"containers": [{"name": "a", "image": "a"}], "ephemeralContainers": [{"name": "e", "image": "e"}]}}"#,
        &["template.spec.ephemeralContainers: Forbidden: ephemeral containers not allowed in pod template"],
    );
}
