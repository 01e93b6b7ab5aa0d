//! What field management costs: nanoseconds per write of a pod of 3.5 KB with three managers, and of a ConfigMap.
//!
//! `cargo bench -p xebec-api --bench fields`. Each line is the median of 101 rounds; the time to copy the object that a round
//! consumes is not in it.

use std::hint::black_box;
use std::time::{Duration, Instant};

use xebec_api::fields::{Force, OneShape, ResetFields, Target, apply, update};
use xebec_api::patch::{json_patch, merge, strategic};
use xebec_api::{Value, json};

// Named by `testing` through `super`.
use xebec_api::schema;

#[path = "../src/fields/testing.rs"]
mod testing;
use testing::{TestSchema, tree};

const META: &str = "{ name: string, namespace: string, uid: string, resourceVersion: string, generation: int,
    creationTimestamp: time, labels: map(string), annotations: map(string), finalizers: set(string) / merge,
    ownerReferences: keyed(uid; { apiVersion: string, kind: string, name: string, uid: string, controller: bool,
        blockOwnerDeletion: bool }) / merge uid,
    managedFields: list(any) }";

const CONFIG_MAP: &str =
    "{ apiVersion: string, kind: string, metadata: META, data: map(string), immutable: bool }";

const POD: &str = r#"{ apiVersion: string, kind: string, metadata: META,
    spec: { nodeName: string, restartPolicy: string, dnsPolicy: string, schedulerName: string, serviceAccount: string,
        serviceAccountName: string, priority: int, preemptionPolicy: string, enableServiceLinks: bool,
        terminationGracePeriodSeconds: int, securityContext: { runAsUser: int, fsGroup: int }, nodeSelector: atomic-map(string),
        tolerations: list({ key: string, operator: string, effect: string, tolerationSeconds: int }),
        volumes: keyed(name; { name: string, projected: { defaultMode: int, sources: list(any) },
            configMap: { name: string, defaultMode: int }, emptyDir: { medium: string } }) / merge-retain name,
        containers: keyed(name; { name: string, image: string, imagePullPolicy: string, command: list(string),
            args: list(string), terminationMessagePath: string, terminationMessagePolicy: string,
            env: keyed(name; { name: string, value: string, valueFrom: { fieldRef: atomic { apiVersion: string, fieldPath: string } } }) / merge name,
            ports: keyed(containerPort protocol; { containerPort: int, protocol ? "TCP": string, name: string }) / merge containerPort,
            resources: { limits: map(quantity), requests: map(quantity) },
            volumeMounts: keyed(mountPath; { mountPath: string, name: string, readOnly: bool }) / merge mountPath,
            livenessProbe: PROBE, readinessProbe: PROBE }) / merge name },
    status: { phase: string, hostIP: string, podIP: string, qosClass: string, startTime: time,
        podIPs: keyed(ip; { ip: string }) / merge ip, hostIPs: list({ ip: string }),
        conditions: keyed(type; { type: string, status: string, lastProbeTime: time, lastTransitionTime: time, reason: string, message: string }) / merge type,
        containerStatuses: list({ name: string, ready: bool, started: bool, restartCount: int, image: string, imageID: string,
            containerID: string, state: any, lastState: any }) } }"#;

const PROBE: &str =
    "{ httpGet: { path: string, port: int, scheme: string }, failureThreshold: int, periodSeconds: int,
    successThreshold: int, timeoutSeconds: int, initialDelaySeconds: int }";

/// What a workload controller creates, defaults filled in.
const CREATED: &str = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"shop-7c9d8b6f5-x2x4q","namespace":"market",
    "labels":{"app":"shop","tier":"front","pod-template-hash":"7c9d8b6f5"},"annotations":{"build":"4711"},
    "ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"shop-7c9d8b6f5","uid":"0b1f7c52-6a3e-4d7b-9a57-1df6d0a7e111","controller":true,"blockOwnerDeletion":true}]},
    "spec":{"restartPolicy":"Always","dnsPolicy":"ClusterFirst","schedulerName":"default-scheduler","serviceAccount":"shop",
    "serviceAccountName":"shop","priority":0,"preemptionPolicy":"PreemptLowerPriority","enableServiceLinks":true,
    "terminationGracePeriodSeconds":30,"securityContext":{},
    "tolerations":[{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoExecute","tolerationSeconds":300},
        {"key":"node.kubernetes.io/unreachable","operator":"Exists","effect":"NoExecute","tolerationSeconds":300}],
    "volumes":[{"name":"settings","configMap":{"name":"shop-settings","defaultMode":420}},
        {"name":"token","projected":{"defaultMode":420,"sources":[{"serviceAccountToken":{"expirationSeconds":3607,"path":"token"}},{"configMap":{"name":"kube-root-ca.crt"}}]}}],
    "containers":[{"name":"web","image":"registry.market.example/shop/web:2.14.1","imagePullPolicy":"IfNotPresent",
        "args":["--listen=:8080","--settings=/etc/shop/settings.yaml"],
        "env":[{"name":"POD_NAME","valueFrom":{"fieldRef":{"apiVersion":"v1","fieldPath":"metadata.name"}}},{"name":"MODE","value":"production"}],
        "ports":[{"name":"http","containerPort":8080,"protocol":"TCP"},{"name":"metrics","containerPort":9090,"protocol":"TCP"}],
        "resources":{"limits":{"memory":"256Mi"},"requests":{"cpu":"100m","memory":"128Mi"}},
        "livenessProbe":{"httpGet":{"path":"/live","port":8080,"scheme":"HTTP"},"failureThreshold":3,"periodSeconds":10,"successThreshold":1,"timeoutSeconds":1},
        "readinessProbe":{"httpGet":{"path":"/ready","port":8080,"scheme":"HTTP"},"failureThreshold":3,"periodSeconds":5,"successThreshold":1,"timeoutSeconds":1},
        "terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File",
        "volumeMounts":[{"mountPath":"/etc/shop","name":"settings","readOnly":true},{"mountPath":"/var/run/secrets/kubernetes.io/serviceaccount","name":"token","readOnly":true}]}]},
    "status":{"phase":"Pending","qosClass":"Burstable"}}"#;

/// What a node reports.
const STATUS: &str = r#"{"phase":"Running","qosClass":"Burstable","hostIP":"10.1.0.4","podIP":"10.244.1.17","startTime":"2026-02-03T09:00:01Z",
    "podIPs":[{"ip":"10.244.1.17"}],"hostIPs":[{"ip":"10.1.0.4"}],
    "conditions":[{"type":"PodScheduled","status":"True","lastProbeTime":null,"lastTransitionTime":"2026-02-03T09:00:00Z"},
        {"type":"Initialized","status":"True","lastProbeTime":null,"lastTransitionTime":"2026-02-03T09:00:01Z"},
        {"type":"ContainersReady","status":"False","lastProbeTime":null,"lastTransitionTime":"2026-02-03T09:00:01Z","reason":"ContainersNotReady","message":"containers with unready status: [web]"},
        {"type":"Ready","status":"False","lastProbeTime":null,"lastTransitionTime":"2026-02-03T09:00:01Z","reason":"ContainersNotReady","message":"containers with unready status: [web]"}],
    "containerStatuses":[{"name":"web","ready":false,"started":false,"restartCount":0,"image":"registry.market.example/shop/web:2.14.1",
        "imageID":"registry.market.example/shop/web@sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
        "containerID":"oci://9f2c1d9f6f4d4c54b0c5a4f3a6c3d9bb6a7a0d3f4f3d8e1c2b5a6978f0e1d2c3","state":{"running":{"startedAt":"2026-02-03T09:00:02Z"}},"lastState":{}}]}"#;

fn main() {
    let expand = |text: &str| text.replace("META", META).replace("PROBE", PROBE);
    let (pods, maps) = (TestSchema::new(&expand(POD)), TestSchema::new(&expand(CONFIG_MAP)));
    pod(&pods);
    config_map(&maps);
    patches(&pods);
}

fn target<'a>(
    schema: &'a TestSchema,
    kind: &'a str,
    subresource: &'a str,
    manager: &'a str,
    now: &'a str,
) -> Target<'a> {
    let reset: &ResetFields = &[];
    Target { schema: schema.root(), api_version: "v1", kind, subresource, reset, manager, now }
}

fn written(target: &Target<'_>, live: &Value, new: &Value) -> Value {
    let mut new = new.clone();
    update(target, live, &mut new, &mut OneShape(&["v1"])).expect("tracked");
    new
}

/// The pod as created, scheduled and reported: three managers.
fn running_pod(pods: &TestSchema) -> Value {
    let mut pod = written(
        &target(pods, "Pod", "", "kube-controller-manager", "2026-02-03T09:00:00Z"),
        &Value::object(),
        &tree(CREATED),
    );
    pod.set(&["metadata", "uid"], "4e1c9a35-3c55-4a58-8f0f-cc8b2d7f0a01");
    let mut scheduled = pod.clone();
    scheduled.set(&["spec", "nodeName"], "node-4");
    let pod = written(&target(pods, "Pod", "", "kube-scheduler", "2026-02-03T09:00:01Z"), &pod, &scheduled);
    let mut reported = pod.clone();
    reported.set(&["status"], tree(STATUS));
    written(&target(pods, "Pod", "status", "kubelet", "2026-02-03T09:00:02Z"), &pod, &reported)
}

fn pod(pods: &TestSchema) {
    let live = running_pod(pods);
    let mut bare = live.clone();
    let list = bare.remove_at(&["metadata", "managedFields"]).expect("tracked");
    println!(
        "pod: {} bytes, and {} of managedFields by {} managers",
        json::to_vec(&bare).len(),
        json::to_vec(&list).len(),
        list.as_array().map_or(0, <[Value]>::len)
    );
    let kubelet = target(pods, "Pod", "status", "kubelet", "2026-02-03T09:00:05Z");
    let mut ready = live.clone();
    let conditions = ready.make(&["status", "conditions"]).as_array_mut().expect("a list");
    for condition in &mut conditions[2..] {
        condition.set(&["status"], "True");
        condition.set(&["lastTransitionTime"], "2026-02-03T09:00:04Z");
        condition.remove_at(&["reason"]);
        condition.remove_at(&["message"]);
    }
    measure("pod: status update", &ready, |new| update(&kubelet, &live, new, &mut OneShape(&["v1"])));
    let other = target(pods, "Pod", "", "labeller", "2026-02-03T09:00:05Z");
    let mut labelled = live.clone();
    labelled.set(&["metadata", "labels", "zone"], "b");
    measure("pod: new label by a fourth manager", &labelled, |new| {
        update(&other, &live, new, &mut OneShape(&["v1"]))
    });
    measure("pod: update without a change", &live, |new| update(&other, &live, new, &mut OneShape(&["v1"])));
    let creator = target(pods, "Pod", "", "kube-controller-manager", "2026-02-03T09:00:00Z");
    let nothing = Value::object();
    measure("pod: create", &tree(CREATED), |new| update(&creator, &nothing, new, &mut OneShape(&["v1"])));

    let applier = target(pods, "Pod", "", "flux", "2026-02-03T09:00:05Z");
    let config = tree(
        r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"shop","labels":{"app":"shop","tier":"front"}},"spec":{"containers":[
            {"name":"web","image":"registry.market.example/shop/web:2.14.1","ports":[{"name":"http","containerPort":8080}],
             "env":[{"name":"MODE","value":"production"}],"resources":{"limits":{"memory":"256Mi"}}}]}}"#,
    );
    let run =
        |live: &Value, config: &Value| apply(&applier, live, config, Force::Yes, &mut OneShape(&["v1"]));
    let applied = run(&live, &config).expect("applied");
    measure("pod: apply that changes nothing", &applied, |live| run(live, &config));
    let mut next = config;
    next.set(&["metadata", "labels"], tree(r#"{"app":"shop","shelf":"3"}"#));
    measure("pod: apply that drops a label and adds one", &applied, |live| run(live, &next));
}

fn config_map(maps: &TestSchema) {
    let data: String = (0..8).map(|i| format!(r#""key-{i}":"{}","#, "value ".repeat(12))).collect();
    let created = tree(&format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"settings","namespace":"market","labels":{{"app":"shop"}}}},"data":{{{}}}}}"#,
        data.trim_end_matches(',')
    ));
    println!("config map: {} bytes", json::to_vec(&created).len());
    let creator = target(maps, "ConfigMap", "", "kubectl", "2026-02-03T09:00:00Z");
    let nothing = Value::object();
    measure("config map: create", &created, |new| update(&creator, &nothing, new, &mut OneShape(&["v1"])));
    let mut live = written(&creator, &nothing, &created);
    live.set(&["metadata", "uid"], "u");
    let mut changed = live.clone();
    changed.set(&["data", "key-3"], "other");
    measure("config map: one value by its creator", &changed, |new| {
        update(&creator, &live, new, &mut OneShape(&["v1"]))
    });
    let other = Target { manager: "controller", ..creator };
    measure("config map: one value by another", &changed, |new| {
        update(&other, &live, new, &mut OneShape(&["v1"]))
    });
}

fn patches(pods: &TestSchema) {
    let live = running_pod(pods);
    let label = tree(r#"{"metadata":{"labels":{"zone":"b"}}}"#);
    measure("merge patch: a label", &live, |pod| merge::apply(pod.take(), label.clone()));
    let image = tree(
        r#"{"spec":{"containers":[{"name":"web","image":"other"}]},"metadata":{"labels":{"zone":"b"}}}"#,
    );
    measure("strategic patch: an image and a label", &live, |pod| {
        strategic::apply(pod.take(), image.clone(), pods.root())
    });
    let operations = tree(
        r#"[{"op":"test","path":"/spec/containers/0/name","value":"web"},{"op":"replace","path":"/spec/containers/0/image","value":"other"}]"#,
    );
    measure("JSON patch: a test and an image", &live, |pod| {
        json_patch::apply(pod.take(), operations.clone())
    });
}

/// Prints the median cost of `run` on a fresh copy of `input`.
fn measure<T>(what: &str, input: &Value, mut run: impl FnMut(&mut Value) -> T) {
    const ROUNDS: usize = 101;
    const RUNS: usize = 32;
    let mut rounds: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let mut copies = vec![input.clone(); RUNS];
            let mut results = Vec::with_capacity(RUNS);
            let start = Instant::now();
            for copy in &mut copies {
                results.push(run(black_box(copy)));
            }
            let took = start.elapsed();
            black_box(results);
            took
        })
        .collect();
    rounds.sort_unstable();
    let nanos = rounds[ROUNDS / 2].as_nanos() / RUNS as u128;
    println!("{what:<45} {nanos:>7} ns");
}
