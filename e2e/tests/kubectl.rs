//! The verbs of kubectl, each as somebody types it.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};
use xebec_e2e::converter::Converter;
use xebec_e2e::{Case, Cluster, PATIENCE, eventually};

const CASES: [Case; 17] = [
    ("api-resources and api-versions", api_resources),
    ("explain", explain),
    ("create, by generators", create),
    ("apply and diff, on the client and on the server", apply),
    ("get, in all its forms", get),
    ("label, annotate and patch", patch),
    ("edit", edit),
    ("describe", describe),
    ("run, wait and expose", run),
    ("scale and rollout", rollout),
    ("cordon, drain and taint", node),
    ("pod security", pod_security),
    ("a node reads what its pods refer to", node_authorizer),
    ("admission policies", admission_policies),
    ("custom resources are converted by a webhook", converted_by_webhook),
    ("custom resources are converted by declaration", converted_by_declaration),
    ("auth, delete and prune", delete),
];

fn main() -> ExitCode {
    xebec_e2e::run(&CASES)
}

/// Fails unless `text` has all of `wanted`.
fn has(text: &str, wanted: &[&str]) -> Result<()> {
    for part in wanted {
        ensure!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
    Ok(())
}

fn api_resources(cluster: &Cluster) -> Result<()> {
    let all = cluster.kubectl(&["api-resources"])?;
    has(&all, &["configmaps", "cm", "deployments", "apps/v1", "customresourcedefinitions", "StorageClass"])?;
    let namespaced = cluster.kubectl(&["api-resources", "--namespaced=false", "-o", "name"])?;
    has(&namespaced, &["nodes\n", "namespaces\n", "clusterroles.rbac.authorization.k8s.io\n"])?;
    ensure!(!namespaced.contains("pods\n"), "pods have a namespace:\n{namespaced}");
    let listed = cluster.kubectl(&["api-resources", "--verbs=list", "-o", "name"])?;
    ensure!(!listed.contains("tokenreviews"), "reviews cannot be listed:\n{listed}");
    has(&cluster.kubectl(&["api-versions"])?, &["v1\n", "apps/v1\n", "batch/v1\n"])
}

fn explain(cluster: &Cluster) -> Result<()> {
    let field = cluster.kubectl(&["explain", "deployment.spec.strategy.rollingUpdate"])?;
    has(&field, &["KIND:       Deployment", "maxSurge", "maxUnavailable", "<IntOrString>"])?;
    has(
        &cluster.kubectl(&["explain", "pods", "--recursive"])?,
        &["containers", "livenessProbe", "-required-"],
    )?;
    let missing = cluster.kubectl_fails(&["explain", "pods.spec.nothing"])?;
    has(&missing, &["field \"nothing\" does not exist"])
}

fn create(cluster: &Cluster) -> Result<()> {
    let made: [&[&str]; 12] = [
        &["namespace", "made"],
        &["configmap", "c", "--from-literal=a=b", "-n", "made"],
        &["secret", "generic", "s", "--from-literal=a=b", "-n", "made"],
        &["serviceaccount", "robot", "-n", "made"],
        &["role", "r", "--verb=get", "--resource=pods", "-n", "made"],
        &["rolebinding", "r", "--role=r", "--serviceaccount=made:robot", "-n", "made"],
        &["clusterrole", "made", "--verb=list", "--resource=nodes"],
        &["clusterrolebinding", "made", "--clusterrole=made", "--user=jane"],
        &["deployment", "d", "--image=xebec.local/busybox:demo", "--replicas=0", "-n", "made"],
        &["service", "clusterip", "s", "--tcp=80:8080", "-n", "made"],
        &["priorityclass", "p", "--value=7"],
        &["quota", "q", "--hard=pods=5", "-n", "made"],
    ];
    for arguments in made {
        let said = cluster.kubectl(&[&["create"], arguments].concat())?;
        has(&said, &[" created"])?;
    }
    let again = cluster.kubectl_fails(&["create", "configmap", "c", "-n", "made"])?;
    has(&again, &["configmaps \"c\" already exists"])?;
    let dry = cluster.kubectl(&["create", "configmap", "dry", "--dry-run=server", "-o", "yaml"])?;
    has(&dry, &["uid:", "name: dry"])?;
    has(&cluster.kubectl_fails(&["get", "configmap", "dry"])?, &["not found"])?;
    let named = "apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: many-}\n";
    let name = cluster.kubectl_with(&["create", "-o", "name", "-f", "-"], named)?;
    ensure!(name.trim().len() == "configmap/many-".len() + 5, "{name}");
    Ok(())
}

fn pod_security(cluster: &Cluster) -> Result<()> {
    const IMAGE: &str = "--image=xebec.local/busybox:demo";
    let privileged = r#"--overrides={"spec": {"hostPID": true}}"#;
    let run = |name: &'static str, namespace: &'static str| ["run", name, IMAGE, "-n", namespace];
    cluster.kubectl(&["create", "namespace", "guarded"])?;
    let refused = cluster.kubectl_fails(&[&run("host", "guarded")[..], &[privileged]].concat())?;
    has(
        &refused,
        &[
            r#"pods "host" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostPID=true)"#,
        ],
    )?;
    let warned = cluster.kubectl_command(&run("plain", "guarded")).output()?;
    has(
        &String::from_utf8_lossy(&warned.stderr),
        &[
            r#"Warning: would violate PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "plain""#,
        ],
    )?;
    let label = |value: &'static str| ["label", "--overwrite", "namespace", "guarded", value];
    cluster.kubectl(&label("pod-security.kubernetes.io/enforce=privileged"))?;
    cluster.kubectl(&[&run("host", "guarded")[..], &[privileged]].concat())?;
    let tightened =
        cluster.kubectl_command(&label("pod-security.kubernetes.io/enforce=baseline")).output()?;
    has(
        &String::from_utf8_lossy(&tightened.stderr),
        &[r#"Warning: existing pods in namespace "guarded" violate"#, "Warning: host: host namespaces"],
    )?;
    let bad = cluster.kubectl_fails(&label("pod-security.kubernetes.io/enforce=strict"))?;
    has(&bad, &["must be one of privileged, baseline, restricted"])?;
    cluster.kubectl(&["delete", "namespace", "guarded", "--wait=false"]).map(drop)
}

/// Deployments of the namespace `ruled` have more than one replica; who leaves out an owner is warned; a label is added.
const POLICIES: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: ruled}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: replicas.ruled.example.com}
spec:
  matchConstraints: RULES
  variables:
  - {name: replicas, expression: object.spec.replicas}
  validations:
  - {expression: variables.replicas > 1, messageExpression: "'wants more than one replica, got ' + string(variables.replicas)"}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: replicas.ruled.example.com}
spec: {policyName: replicas.ruled.example.com, validationActions: [Deny]}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: owner.ruled.example.com}
spec:
  matchConstraints: RULES
  validations:
  - {expression: "has(object.metadata.labels) && 'owner' in object.metadata.labels", message: has no owner}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: owner.ruled.example.com}
spec: {policyName: owner.ruled.example.com, validationActions: [Warn]}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: label.ruled.example.com}
spec:
  matchConstraints: RULES
  reinvocationPolicy: Never
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration: {expression: "Object{metadata: Object.metadata{labels: {'ruled': 'yes'}}}"}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: label.ruled.example.com}
spec: {policyName: label.ruled.example.com}
"#;

/// What the policies are about.
const RULES: &str = "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ruled}}, resourceRules: [{apiGroups: [apps], \
                     apiVersions: [v1], operations: [CREATE, UPDATE], resources: [deployments]}]}";

fn admission_policies(cluster: &Cluster) -> Result<()> {
    let made = cluster.kubectl_with(&["apply", "-f", "-"], &POLICIES.replace("RULES", RULES))?;
    ensure!(made.matches(" created").count() == 7, "{made}");
    let create = |replicas: &'static str| {
        ["create", "deployment", "d", "--image=xebec.local/busybox:demo", replicas, "-n", "ruled"]
    };
    let refused = cluster.kubectl_fails(&create("--replicas=1"))?;
    has(
        &refused,
        &[
            "deployments.apps \"d\" is forbidden: ValidatingAdmissionPolicy 'replicas.ruled.example.com' with binding \
             'replicas.ruled.example.com' denied request: wants more than one replica, got 1",
        ],
    )?;
    let warned = cluster.kubectl_command(&create("--replicas=2")).output()?;
    has(&String::from_utf8_lossy(&warned.stdout), &["deployment.apps/d created"])?;
    has(
        &String::from_utf8_lossy(&warned.stderr),
        &["Warning: Validation failed for ValidatingAdmissionPolicy 'owner.ruled.example.com' with binding \
             'owner.ruled.example.com': has no owner"],
    )?;
    let label = cluster.kubectl(&[
        "get",
        "deployment",
        "d",
        "-n",
        "ruled",
        "-o",
        "jsonpath={.metadata.labels.ruled}",
    ])?;
    ensure!(label == "yes", "{label}");
    let checked = [
        "get",
        "validatingadmissionpolicy",
        "replicas.ruled.example.com",
        "-o",
        "jsonpath={.status.observedGeneration}{.status.typeChecking}",
    ];
    ensure!(cluster.kubectl(&checked)? == "1{}", "its types are checked, and right");
    cluster.kubectl(&["delete", "namespace", "ruled", "--wait=false"])?;
    cluster.kubectl(&["delete", "validatingadmissionpolicies,validatingadmissionpolicybindings", "--all"])?;
    cluster
        .kubectl(&["delete", "mutatingadmissionpolicies,mutatingadmissionpolicybindings", "--all"])
        .map(drop)
}

fn node_authorizer(cluster: &Cluster) -> Result<()> {
    let named = cluster.kubectl(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"])?;
    for secret in ["own", "foreign"] {
        cluster.kubectl(&["create", "secret", "generic", secret, "--from-literal=a=b"])?;
    }
    let overrides = r#"--overrides={"spec": {"volumes": [{"name": "s", "secret": {"secretName": "own"}}]}}"#;
    let run = ["run", "holder", "--image=xebec.local/busybox:demo", overrides, "--", "sleep", "3600"];
    cluster.kubectl(&run)?;
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/holder", "--timeout=60s"])?;
    let user = |node: &str| [format!("--as=system:node:{node}"), "--as-group=system:nodes".to_owned()];
    let get = |node: &str, what: &[&'static str]| {
        let user = user(node);
        let mut arguments = vec!["get"];
        arguments.extend(what);
        arguments.extend(user.iter().map(String::as_str));
        cluster.kubectl(&arguments).map_err(|error| format!("{error:#}"))
    };
    let refused = |told: Result<String, String>, why: &str| match told {
        Ok(text) => bail!("it was told {text}"),
        Err(error) => has(&error, &["Forbidden", why]),
    };
    get(&named, &["secret", "own", "-o", "name"]).map_err(anyhow::Error::msg)?;
    refused(get(&named, &["secret", "foreign"]), "no relationship found between node")?;
    refused(get("other", &["secret", "own"]), "no relationship found between node 'other' and this object")?;
    refused(get(&named, &["secrets"]), "cannot list resource \"secrets\"")?;
    cluster.kubectl(&["delete", "pod", "holder", "--now"])?;
    refused(get(&named, &["secret", "own"]), "no relationship found between node")
}

fn apply(cluster: &Cluster) -> Result<()> {
    let first = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: applied}\ndata: {a: \"1\", b: \"2\"}\n";
    let second = first.replace(", b: \"2\"", "");
    has(&cluster.kubectl_with(&["apply", "-f", "-"], first)?, &["created"])?;
    has(&cluster.kubectl_with(&["apply", "-f", "-"], first)?, &["unchanged"])?;
    has(&cluster.kubectl_with(&["apply", "-f", "-"], &second)?, &["configured"])?;
    let data = cluster.get(&["configmap", "applied"])?["data"].clone();
    ensure!(data == serde_json::json!({"a": "1"}), "what is no longer applied stays: {data}");
    let owned = second.replace("applied", "owned");
    let other = owned.replace("a: \"1\"", "a: \"3\"");
    let server_side = ["apply", "--server-side", "-f", "-", "--field-manager"];
    cluster.kubectl_with(&[&server_side[..], &["one"]].concat(), &owned)?;
    let conflict = cluster.kubectl_with(&[&server_side[..], &["two"]].concat(), &other);
    let conflict = format!("{:#}", conflict.err().context("another manager's field is taken")?);
    has(&conflict, &["conflict with \"one\"", ".data.a"])?;
    cluster.kubectl_with(&[&server_side[..], &["two", "--force-conflicts"]].concat(), &other)?;
    let shown = cluster.kubectl(&["get", "configmap", "owned", "-o", "yaml", "--show-managed-fields"])?;
    has(&shown, &["manager: two", "operation: Apply", "f:a: {}"])?;
    let file = cluster.path("changed.yaml");
    std::fs::write(&file, other.replace('3', "4"))?;
    let output = cluster.kubectl_command(&["diff", "-f"]).arg(&file).output()?;
    ensure!(output.status.code() == Some(1), "{output:?}");
    has(&String::from_utf8_lossy(&output.stdout), &["-  a: \"3\"", "+  a: \"4\""])
}

fn get(cluster: &Cluster) -> Result<()> {
    has(&cluster.kubectl(&["get", "all", "-n", "made"])?, &["deployment.apps/d", "service/s"])?;
    let table = cluster.kubectl(&["get", "deployments", "-n", "made", "-o", "wide"])?;
    has(&table, &["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "CONTAINERS", "0/0"])?;
    let path = "jsonpath={.items[*].metadata.name}";
    let names = cluster.kubectl(&["get", "roles,configmaps", "-n", "made", "-o", path])?;
    has(&names, &["r", "c", "kube-root-ca.crt"])?;
    let columns = "custom-columns=WHO:.metadata.name,KIND:.kind";
    let table = cluster.kubectl(&["get", "-n", "made", "secret", "s", "-o", columns])?;
    has(&table, &["WHO", "Secret"])?;
    let one =
        cluster.kubectl(&["get", "cm", "-n", "made", "--field-selector=metadata.name=c", "-o", "name"])?;
    ensure!(one == "configmap/c\n", "{one}");
    let sorted = cluster.kubectl(&["get", "ns", "--sort-by=.metadata.creationTimestamp", "-o", "name"])?;
    ensure!(sorted.trim_end().ends_with("namespace/made"), "{sorted}");
    let pages = cluster.kubectl(&["get", "cm", "-A", "--chunk-size=1", "-o", "name"])?;
    has(&pages, &["configmap/c\n", "configmap/applied\n"])?;
    let raw = cluster.kubectl(&["get", "--raw", "/readyz?verbose"])?;
    has(&raw, &["readyz check passed"])?;
    has(&cluster.kubectl(&["cluster-info"])?, &["Kubernetes control plane", "is running at"])
}

fn patch(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["label", "deployment/d", "-n", "made", "tier=web"])?;
    let refused = cluster.kubectl_fails(&["label", "deployment/d", "-n", "made", "tier=other"])?;
    has(&refused, &["already has a value (web)"])?;
    cluster.kubectl(&["label", "deployment/d", "-n", "made", "tier=other", "--overwrite"])?;
    cluster.kubectl(&["annotate", "deployment/d", "-n", "made", "note=x", "--overwrite"])?;
    let listed = cluster.kubectl(&["get", "deploy", "-n", "made", "-l", "tier in (other)", "-o", "name"])?;
    ensure!(listed == "deployment.apps/d\n", "{listed}");
    let kinds = [
        ("merge", r#"{"spec":{"minReadySeconds":1}}"#),
        ("json", r#"[{"op":"replace","path":"/spec/minReadySeconds","value":2}]"#),
        (
            "strategic",
            r#"{"spec":{"template":{"spec":{"containers":[{"name":"busybox","env":[{"name":"A","value":"1"}]}]}}}}"#,
        ),
    ];
    for (kind, text) in kinds {
        let said = cluster.kubectl(&["patch", "deploy/d", "-n", "made", "--type", kind, "-p", text])?;
        has(&said, &["patched"])?;
    }
    let deployment = cluster.get(&["deploy/d", "-n", "made"])?;
    ensure!(deployment["spec"]["minReadySeconds"] == 2, "{deployment}");
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    ensure!(container["env"][0]["name"] == "A" && container["image"].is_string(), "{container}");
    Ok(())
}

/// An editor that changes a value stands in for a person.
fn edit(cluster: &Cluster) -> Result<()> {
    let output = cluster
        .kubectl_command(&["edit", "configmap", "c", "-n", "made"])
        .env("KUBE_EDITOR", "sed -i s/a:.b/a:\\ edited/")
        .output()?;
    ensure!(output.status.success(), "{output:?}");
    let data = cluster.get(&["configmap", "c", "-n", "made"])?["data"].clone();
    ensure!(data["a"] == "edited", "{data}");
    Ok(())
}

fn describe(cluster: &Cluster) -> Result<()> {
    let deployment = cluster.kubectl(&["describe", "deployment", "d", "-n", "made"])?;
    has(&deployment, &["Replicas:", "StrategyType:", "RollingUpdate", "Image:"])?;
    let node = cluster.kubectl(&["describe", "nodes"])?;
    has(&node, &["Capacity:", "Allocatable:", "Ready", "Container Runtime Version:"])?;
    has(&cluster.kubectl(&["describe", "service", "s", "-n", "made"])?, &["IP:", "Port:", "Endpoints:"])?;
    has(&cluster.kubectl(&["describe", "clusterrole", "made"])?, &["nodes", "[list]"])?;
    has(&cluster.kubectl(&["describe", "ns", "made"])?, &["Active", "Resource Quotas"])
}

fn run(cluster: &Cluster) -> Result<()> {
    cluster.xebec(&["image", "import", &cluster.path("image.tar").display().to_string()])?;
    let image = "--image=xebec.local/busybox:demo";
    let arguments =
        ["run", "web", image, "--port=8080", "--labels=app=web", "--image-pull-policy=IfNotPresent"];
    cluster.kubectl(&[&arguments[..], &["--", "httpd", "-f", "-p", "8080"]].concat())?;
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"])?;
    let described = cluster.kubectl(&["describe", "pod", "web"])?;
    has(&described, &["Status:           Running", "Container ID:", "Scheduled", "Started", "QoS Class:"])?;
    cluster.kubectl(&["expose", "pod", "web", "--port=80", "--target-port=8080"])?;
    eventually(PATIENCE, || {
        let slices = cluster.kubectl(&["get", "endpointslices", "-l", "kubernetes.io/service-name=web"])?;
        has(&slices, &["8080"])
    })?;
    let once = ["run", "once", image, "--restart=Never", "--rm", "-i", "--image-pull-policy=IfNotPresent"];
    let said = cluster.kubectl(&[&once[..], &["--", "echo", "said in a pod"]].concat())?;
    has(&said, &["said in a pod"])?;
    let phase = "jsonpath={.status.phase}=Running";
    cluster.kubectl(&["wait", &format!("--for={phase}"), "pod/web", "--timeout=10s"])?;
    cluster.kubectl(&["delete", "pod/web", "service/web", "--now"])?;
    has(&cluster.kubectl_fails(&["get", "pod", "web"])?, &["not found"])
}

fn rollout(cluster: &Cluster) -> Result<()> {
    let arguments = ["create", "deployment", "roll", "--image=xebec.local/busybox:demo", "--replicas=2"];
    cluster.kubectl(&[&arguments[..], &["--", "sh", "-c", "trap exit TERM; sleep 1000 & wait"]].concat())?;
    cluster.kubectl(&["rollout", "status", "deployment/roll", "--timeout=60s"])?;
    cluster.kubectl(&["rollout", "pause", "deployment/roll"])?;
    cluster.kubectl(&["set", "env", "deployment/roll", "A=1"])?;
    cluster.kubectl(&["rollout", "resume", "deployment/roll"])?;
    cluster.kubectl(&["rollout", "restart", "deployment/roll"])?;
    cluster.kubectl(&["rollout", "status", "deployment/roll", "--timeout=60s"])?;
    has(&cluster.kubectl(&["rollout", "history", "deployment/roll", "--revision=1"])?, &["sleep"])?;
    cluster.kubectl(&["rollout", "undo", "deployment/roll", "--to-revision=1"])?;
    cluster.kubectl(&["scale", "deployment/roll", "--replicas=1"])?;
    cluster.kubectl(&[
        "wait",
        "deployment/roll",
        "--for=jsonpath={.status.readyReplicas}=1",
        "--timeout=60s",
    ])?;
    let wrong =
        cluster.kubectl_fails(&["scale", "deployment/roll", "--replicas=2", "--current-replicas=5"])?;
    has(&wrong, &["Expected replicas to be 5"])?;
    cluster.kubectl(&["delete", "deployment", "roll"]).map(drop)
}

fn node(cluster: &Cluster) -> Result<()> {
    let node = cluster.kubectl(&["get", "nodes", "-o", "name"])?;
    let node = node.trim();
    let name = node.strip_prefix("node/").context("a node")?;
    let agent = format!("/api/v1/nodes/{name}/proxy");
    let told = |path: &str| cluster.kubectl(&["get", "--raw", &format!("{agent}/{path}")]);
    has(&told("healthz")?, &["ok"])?;
    has(&told("pods")?, &["PodList"])?;
    has(&told("configz")?, &["maxPods"])?;
    has(
        &cluster.kubectl_fails(&["get", "--raw", &format!("{agent}/exec/a/b/c")])?,
        &["NotFound", "subresources"],
    )?;
    cluster.kubectl(&["cordon", name])?;
    has(&cluster.kubectl(&["get", node])?, &["SchedulingDisabled"])?;
    cluster.kubectl(&["create", "deployment", "stuck", "--image=xebec.local/busybox:demo"])?;
    eventually(PATIENCE, || {
        let events = cluster.kubectl(&["get", "events", "--field-selector=reason=FailedScheduling"])?;
        has(&events, &["unschedulable"])
    })?;
    cluster.kubectl(&["delete", "deployment", "stuck"])?;
    cluster.kubectl(&["drain", name, "--ignore-daemonsets", "--force", "--timeout=30s"])?;
    cluster.kubectl(&["uncordon", name])?;
    cluster.kubectl(&["taint", "nodes", name, "k=v:NoSchedule"])?;
    has(&cluster.kubectl(&["describe", node])?, &["k=v:NoSchedule"])?;
    cluster.kubectl(&["taint", "nodes", name, "k-"]).map(drop)
}

fn delete(cluster: &Cluster) -> Result<()> {
    let robot = "--as=system:serviceaccount:made:robot";
    has(&cluster.kubectl(&["auth", "can-i", "get", "pods", "-n", "made", robot])?, &["yes"])?;
    let output =
        cluster.kubectl_command(&["auth", "can-i", "delete", "pods", "-n", "made", robot]).output()?;
    has(&String::from_utf8_lossy(&output.stdout), &["no"])?;
    has(&cluster.kubectl(&["auth", "whoami"])?, &["system:masters"])?;
    cluster.kubectl(&["delete", "configmap", "--all", "-n", "made"])?;
    has(
        &cluster.kubectl(&["delete", "deploy", "d", "-n", "made", "--dry-run=server"])?,
        &["(server dry run)"],
    )?;
    cluster.kubectl(&["get", "deploy", "d", "-n", "made"])?;
    cluster.kubectl(&["delete", "deploy", "d", "-n", "made", "--cascade=orphan"])?;
    eventually(PATIENCE, || {
        let sets = cluster.get(&["replicasets", "-n", "made"])?;
        let set = sets["items"].as_array().and_then(|i| i.first()).context("the replica set is kept")?;
        ensure!(set["metadata"]["ownerReferences"].is_null(), "still owned: {set}");
        Ok(())
    })?;
    cluster.kubectl(&["delete", "namespace", "made", "--timeout=60s"])?;
    cluster
        .kubectl(&[
            "delete",
            "clusterrole,clusterrolebinding,priorityclass",
            "made",
            "p",
            "--ignore-not-found",
        ])
        .map(drop)
}

fn converted_by_webhook(cluster: &Cluster) -> Result<()> {
    let converter = Converter::start()?;
    let definition = |stored: &str| {
        let version = |name: &str, fields: &str| {
            format!(
                "  - name: {name}
    served: true
    storage: {}
    schema: {{openAPIV3Schema: {{type: object, properties: {{{fields}}}}}}}
",
                name == stored
            )
        };
        format!(
            "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: hosts.stable.example.com}}
spec:
  group: stable.example.com
  scope: Namespaced
  names: {{plural: hosts, singular: host, kind: Host, listKind: HostList}}
  conversion: {{strategy: Webhook, webhook: {{conversionReviewVersions: [v1, v1beta1], clientConfig: {}}}}}
  versions:
{}{}",
            converter.client_config(),
            version("v1", "hostPort: {type: string}"),
            version("v2", "host: {type: string}, port: {type: string}")
        )
    };
    let host = |name: &str| {
        format!(
            "apiVersion: stable.example.com/v1\nkind: Host\nmetadata: {{name: {name}}}\nhostPort: localhost:8080\n"
        )
    };
    cluster.kubectl_with(&["apply", "-f", "-"], &definition("v1"))?;
    cluster.kubectl(&[
        "wait",
        "--for=condition=Established",
        "crd/hosts.stable.example.com",
        "--timeout=30s",
    ])?;
    cluster.kubectl_with(&["apply", "--server-side", "-f", "-"], &host("one"))?;
    cluster.kubectl_with(&["apply", "-f", "-"], &definition("v2"))?;
    cluster.kubectl_with(&["apply", "-f", "-"], &host("two"))?;
    let show = |version: &str, fields: &str| {
        let resource = format!("hosts.{version}.stable.example.com");
        cluster.kubectl(&["get", &resource, "-o", &format!("jsonpath={{range .items[*]}}{fields};{{end}}")])
    };
    let first = show("v1", "{.metadata.name} {.hostPort}")?;
    ensure!(first == "one localhost:8080;two localhost:8080;", "{first}");
    let second = show("v2", "{.metadata.name} {.host} {.port}")?;
    ensure!(second == "one localhost 8080;two localhost 8080;", "{second}");
    let port = ["patch", "hosts.v2.stable.example.com", "one", "--type=merge", "-p", r#"{"port": "9090"}"#];
    cluster.kubectl(&port)?;
    let first = show("v1", "{.hostPort}")?;
    ensure!(first == "localhost:9090;localhost:8080;", "{first}");
    drop(converter);
    cluster.kubectl(&["delete", "crd", "hosts.stable.example.com", "--wait=false"]).map(drop)
}

fn converted_by_declaration(cluster: &Cluster) -> Result<()> {
    let example = |name: &str| -> Result<String> {
        let from = format!("{}/../examples/conversion/{name}", env!("CARGO_MANIFEST_DIR"));
        let to = cluster.path(name);
        std::fs::copy(&from, &to).with_context(|| format!("copying {from}"))?;
        Ok(to.display().to_string())
    };
    let (workers, worker) = (example("workers.yaml")?, example("worker.yaml")?);
    has(&cluster.xebec(&["crd", "test", &workers])?, &["nothing is lost"])?;
    let offline = cluster.xebec(&["crd", "convert", &worker, "--crd", &workers, "--to", "v1"])?;
    has(&offline, &["apiVersion: example.com/v1\n", "timeoutSeconds: 90", "mode: Enabled", "path: /data"])?;
    let declared = std::fs::read_to_string(&workers)?;
    let lossy = declared.replace("v1: [spec.images, spec.labels]", "v1: [spec.images]");
    let refused = cluster.kubectl_with(&["create", "-f", "-"], &lossy);
    let refused = format!("{:#}", refused.err().context("what loses a field is taken")?);
    has(&refused, &["spec.labels of v1 is lost on the way to v1alpha1 and back"])?;
    cluster.kubectl(&["create", "-f", &workers])?;
    cluster.kubectl(&["wait", "--for=condition=Established", "crd/workers.example.com", "--timeout=30s"])?;
    cluster.kubectl(&["apply", "-f", &worker])?;
    let show = |version: &str, fields: &str| {
        let resource = format!("workers.{version}.example.com");
        cluster.kubectl(&["get", &resource, "old", "-o", &format!("jsonpath={fields}")])
    };
    let new = show("v1", "{.spec.endpoint.host} {.spec.endpoint.port} {.spec.images} {.spec.replicas}")?;
    ensure!(new == r#"db.example.com 5432 ["registry.example.com/worker:1"] 1"#, "{new}");
    let labels = r#"{"spec": {"labels": {"a": "b"}}}"#;
    cluster.kubectl(&["patch", "workers.v1.example.com", "old", "--type=merge", "-p", labels])?;
    let size = r#"{"spec": {"size": 4}}"#;
    cluster.kubectl(&["patch", "workers.v1alpha1.example.com", "old", "--type=merge", "-p", size])?;
    let new = show("v1", "{.spec.capacity.size} {.spec.labels.a}")?;
    ensure!(new == "4 b", "what the older version cannot hold stays: {new}");
    cluster.kubectl(&["delete", "crd", "workers.example.com", "--timeout=30s"]).map(drop)
}
