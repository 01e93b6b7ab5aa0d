//! Pods of a RuntimeClass: what its class adds, and when they are refused.

use xebec_api::{Value, object};

use crate::client::{Call, Client};
use crate::cluster::Cluster;

const PODS: &str = "/api/v1/namespaces/default/pods";
const CLASSES: &str = "/apis/node.k8s.io/v1/runtimeclasses";

async fn made(client: &Client, path: &str, object: &Value) -> Value {
    client.send(Call::post(path, object)).await.expect(201).expect("made")
}

fn pod(class: Option<&str>, more: &Value) -> Value {
    let mut pod = object!({
        "metadata": {"generateName": "p-"}, "spec": {"containers": [{"name": "a", "image": "a"}]}
    });
    if let Some(class) = class {
        pod.set(&["spec", "runtimeClassName"], class);
    }
    for (name, value) in more.as_object().expect("an object").iter() {
        pod.set(&["spec", name], value.clone());
    }
    pod
}

#[tokio::test]
async fn a_class_adds_overhead_and_places_or_refuses() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let account = object!({"metadata": {"name": "default"}});
    made(&admin, "/api/v1/namespaces/default/serviceaccounts", &account).await;
    let toleration = || object!({"key": "vm", "operator": "Exists"});
    let class = object!({
        "metadata": {"name": "vm"}, "handler": "vm", "overhead": {"podFixed": {"memory": "64Mi"}},
        "scheduling": {"nodeSelector": {"kvm": "yes"}, "tolerations": [(toleration())]}
    });
    made(&admin, CLASSES, &class).await;
    made(&admin, CLASSES, &object!({"metadata": {"name": "plain"}, "handler": "plain"})).await;

    let placed = made(&admin, PODS, &pod(Some("vm"), &object!({"nodeSelector": {"disk": "ssd"}}))).await;
    assert_eq!(placed.at(&["spec", "overhead"]), Some(&object!({"memory": "64Mi"})));
    assert_eq!(placed.at(&["spec", "nodeSelector"]), Some(&object!({"disk": "ssd", "kvm": "yes"})));
    assert!(placed.array_at(&["spec", "tolerations"]).contains(&toleration()));
    made(&admin, PODS, &pod(Some("vm"), &object!({"overhead": {"memory": "65536Ki"}}))).await;
    made(&admin, PODS, &pod(Some("plain"), &object!({}))).await;

    let mismatch = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
    let without = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
    for (class, more, want) in [
        (Some("none"), object!({}), "pod rejected: RuntimeClass \"none\" not found"),
        (Some("vm"), object!({"overhead": {"memory": "1Mi"}}), mismatch),
        (Some("plain"), object!({"overhead": {"memory": "1Mi"}}), without),
        (None, object!({"overhead": {"memory": "1Mi"}}), without),
        (
            Some("vm"),
            object!({"nodeSelector": {"kvm": "no"}}),
            "conflict: runtimeClass.scheduling.nodeSelector[kvm] = yes; pod.spec.nodeSelector[kvm] = no",
        ),
    ] {
        let refused = admin.send(Call::post(PODS, &pod(class, &more))).await.refused(403, "Forbidden");
        let text = refused.expect("a refusal");
        assert!(text.ends_with(&format!("is forbidden: {want}")), "{text}");
    }
}
