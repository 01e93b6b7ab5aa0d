//! What the protobuf encoding costs beside JSON: nanoseconds to read and to write a pod of 3.5 KB.
//!
//! `cargo bench -p xebec-api --bench protobuf`. Each line is the median of 101 rounds.

use std::hint::black_box;
use std::time::{Duration, Instant};

use xebec_api::schema::SchemaRef;
use xebec_api::structural::{self, Strictness};
use xebec_api::{Value, builtin, json, protobuf};

const POD: &str = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"annotations":{"build":"4711"},"creationTimestamp":"2026-02-03T09:00:00Z",
"generateName":"shop-7c9d8b6f5-","labels":{"app":"shop","pod-template-hash":"7c9d8b6f5","tier":"front"},"managedFields":[
{"apiVersion":"v1","fieldsType":"FieldsV1","manager":"kubelet","operation":"Update","subresource":"status","time":"2026-02-03T09:00:02Z",
"fieldsV1":{"f:status":{"f:conditions":{"k:{\"type\":\"Ready\"}":{".":{},"f:status":{},"f:type":{}}},"f:containerStatuses":{},"f:hostIP":{},"f:phase":{},"f:podIP":{}}}}],
"name":"shop-7c9d8b6f5-x2x4q","namespace":"market","resourceVersion":"81723","uid":"4e1c9a35-3c55-4a58-8f0f-cc8b2d7f0a01",
"ownerReferences":[{"apiVersion":"apps/v1","blockOwnerDeletion":true,"controller":true,"kind":"ReplicaSet","name":"shop-7c9d8b6f5","uid":"0b1f7c52-6a3e-4d7b-9a57-1df6d0a7e111"}]},
"spec":{"containers":[{"args":["--listen=:8080","--settings=/etc/shop/settings.yaml"],
"env":[{"name":"POD_NAME","valueFrom":{"fieldRef":{"apiVersion":"v1","fieldPath":"metadata.name"}}},{"name":"MODE","value":"production"}],
"image":"images.market.example/shop/web:2.14.1","imagePullPolicy":"IfNotPresent",
"livenessProbe":{"failureThreshold":3,"httpGet":{"path":"/live","port":8080,"scheme":"HTTP"},"periodSeconds":10,"successThreshold":1,"timeoutSeconds":1},
"name":"web","ports":[{"containerPort":8080,"name":"http","protocol":"TCP"},{"containerPort":9090,"name":"metrics","protocol":"TCP"}],
"readinessProbe":{"failureThreshold":3,"httpGet":{"path":"/ready","port":8080,"scheme":"HTTP"},"periodSeconds":5,"successThreshold":1,"timeoutSeconds":1},
"resources":{"limits":{"memory":"256Mi"},"requests":{"cpu":"100m","memory":"128Mi"}},
"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File",
"volumeMounts":[{"mountPath":"/etc/shop","name":"settings","readOnly":true},{"mountPath":"/var/run/secrets/kubernetes.io/serviceaccount","name":"token","readOnly":true}]}],
"dnsPolicy":"ClusterFirst","enableServiceLinks":true,"nodeName":"node-4","preemptionPolicy":"PreemptLowerPriority","priority":0,"restartPolicy":"Always",
"schedulerName":"default-scheduler","securityContext":{},"serviceAccount":"shop","serviceAccountName":"shop","terminationGracePeriodSeconds":30,
"tolerations":[{"effect":"NoExecute","key":"node.kubernetes.io/not-ready","operator":"Exists","tolerationSeconds":300},
{"effect":"NoExecute","key":"node.kubernetes.io/unreachable","operator":"Exists","tolerationSeconds":300}],
"volumes":[{"configMap":{"defaultMode":420,"name":"shop-settings"},"name":"settings"},{"name":"token","projected":{"defaultMode":420,
"sources":[{"serviceAccountToken":{"expirationSeconds":3607,"path":"token"}},{"configMap":{"items":[{"key":"ca.crt","path":"ca.crt"}],"name":"kube-root-ca.crt"}}]}}]},
"status":{"conditions":[{"lastTransitionTime":"2026-02-03T09:00:00Z","status":"True","type":"PodScheduled"},
{"lastTransitionTime":"2026-02-03T09:00:01Z","status":"True","type":"Initialized"},{"lastTransitionTime":"2026-02-03T09:00:04Z","status":"True","type":"Ready"},
{"lastTransitionTime":"2026-02-03T09:00:04Z","status":"True","type":"ContainersReady"}],
"containerStatuses":[{"containerID":"oci://9f2c1d9f6f4d4c54b0c5a4f3a6c3d9bb6a7a0d3f4f3d8e1c2b5a6978f0e1d2c3","image":"images.market.example/shop/web:2.14.1",
"imageID":"images.market.example/shop/web@sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef","lastState":{},"name":"web","ready":true,
"restartCount":0,"started":true,"state":{"running":{"startedAt":"2026-02-03T09:00:02Z"}}}],
"hostIP":"10.1.0.4","hostIPs":[{"ip":"10.1.0.4"}],"phase":"Running","podIP":"10.244.1.17","podIPs":[{"ip":"10.244.1.17"}],"qosClass":"Burstable","startTime":"2026-02-03T09:00:01Z"}}"#;

fn main() {
    let pod = json::from_slice(POD.as_bytes()).expect("JSON");
    let text = json::to_vec(&pod);
    let message = protobuf::Message::of("v1", "Pod").expect("a built-in kind");
    let bytes = protobuf::encode(&pod, message);
    println!("a pod of {} bytes as JSON, {} as protobuf", text.len(), bytes.len());
    let schema = builtin::schema();
    let root = schema.at(builtin::kind("", "v1", "Pod").expect("a built-in kind"));
    measure("JSON: read", || json::from_slice(&text));
    measure("JSON: read, prune and check by the schema", || checked(json::from_slice(&text).ok(), root));
    measure("protobuf: read", || protobuf::decode(&bytes, message));
    measure("protobuf: read, prune and check by the schema", || {
        checked(protobuf::decode(&bytes, message).ok(), root)
    });
    measure("JSON: write", || json::to_vec(&pod));
    measure("protobuf: write", || protobuf::encode(&pod, message));
}

fn checked(object: Option<Value>, schema: SchemaRef<'_>) -> Option<Value> {
    let mut object = object?;
    structural::decode(&mut object, schema, Strictness::BuiltIn);
    Some(object)
}

/// Prints the median cost of `run`.
fn measure<T>(what: &str, run: impl Fn() -> T) {
    const ROUNDS: usize = 101;
    const RUNS: usize = 64;
    let mut rounds: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..RUNS {
                black_box(run());
            }
            start.elapsed()
        })
        .collect();
    rounds.sort_unstable();
    println!("{what:<48} {:>7} ns", rounds[ROUNDS / 2].as_nanos() / RUNS as u128);
}
