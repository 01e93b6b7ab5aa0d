//! What classes give to what names none, what stays while it is used, what a node's place gives to its pods.

use xebec_api::{Value, meta, object};

use crate::client::{Call, Client, MERGE_PATCH};
use crate::cluster::Cluster;

const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";
const PODS: &str = "/api/v1/namespaces/default/pods";
const STORAGE: &str = "/apis/storage.k8s.io/v1";

async fn made(client: &Client, path: &str, object: &Value) -> Value {
    client.send(Call::post(path, object)).await.expect(201).unwrap_or_else(|why| panic!("{path}: {why}"))
}

async fn patch(client: &Client, path: &str, patch: &Value) -> crate::client::Answer {
    client.send(Call::patch(path, MERGE_PATCH, patch)).await
}

fn marked(name: &str, mark: &str, spec: Value) -> Value {
    let mut class = spec;
    class.set(&["metadata", "name"], name);
    class.set(&["metadata", "annotations", mark], "true");
    class
}

fn claim(name: &str, class: Option<&str>) -> Value {
    let mut claim = object!({"metadata": {"name": name}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}
    }});
    if let Some(class) = class {
        claim.set(&["spec", "storageClassName"], class);
    }
    claim
}

#[tokio::test]
async fn claims_and_ingresses_get_the_default_class() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let of = |claim: &Value| claim.str_at(&["spec", "storageClassName"]).map(str::to_owned);
    assert_eq!(of(&made(&admin, CLAIMS, &claim("before", None)).await), None);
    let mark = "storageclass.kubernetes.io/is-default-class";
    let class = marked("fast", mark, object!({"provisioner": "example.com/disk"}));
    made(&admin, &format!("{STORAGE}/storageclasses"), &class).await;
    assert_eq!(of(&made(&admin, CLAIMS, &claim("a", None)).await).as_deref(), Some("fast"));
    assert_eq!(of(&made(&admin, CLAIMS, &claim("b", Some(""))).await).as_deref(), Some(""));
    let ingresses = "/apis/networking.k8s.io/v1/namespaces/default/ingresses";
    let classes = "/apis/networking.k8s.io/v1/ingressclasses";
    let mark = "ingressclass.kubernetes.io/is-default-class";
    made(&admin, classes, &marked("door", mark, object!({"spec": {"controller": "example.com/door"}}))).await;
    let backend = object!({"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}});
    let ingress = |name: &str| object!({"metadata": {"name": name}, "spec": (backend.clone())});
    let got = made(&admin, ingresses, &ingress("a")).await;
    assert_eq!(got.str_at(&["spec", "ingressClassName"]), Some("door"));
    let mut former = ingress("b");
    former.set(&["metadata", "annotations", "kubernetes.io/ingress.class"], "old");
    assert_eq!(made(&admin, ingresses, &former).await.at(&["spec", "ingressClassName"]), None);
}

#[tokio::test]
async fn claims_grow_where_their_class_lets_them() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    for (name, grows) in [("rigid", false), ("elastic", true)] {
        let class = object!({
            "metadata": {"name": name}, "provisioner": "example.com/disk", "allowVolumeExpansion": grows
        });
        made(&admin, &format!("{STORAGE}/storageclasses"), &class).await;
        let got = made(&admin, CLAIMS, &claim(name, Some(name))).await;
        assert_eq!(meta::finalizers(&got).collect::<Vec<_>>(), ["kubernetes.io/pvc-protection"]);
    }
    let larger = object!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    let path = |name: &str| format!("{CLAIMS}/{name}");
    let unbound = patch(&admin, &path("elastic"), &larger).await;
    unbound.refused(422, "Invalid").expect("a claim that is not bound may not change at all");
    let bound = object!({"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}});
    for name in ["rigid", "elastic"] {
        patch(&admin, &format!("{}/status", path(name)), &bound).await.expect(200).expect("bound");
    }
    let refused =
        patch(&admin, &path("rigid"), &larger).await.refused(403, "Forbidden").expect("it is rigid");
    assert!(refused.contains("the storageclass that provisions the pvc must support resize"), "{refused}");
    patch(&admin, &path("elastic"), &larger).await.expect(200).expect("it grows");
    admin.send(Call::delete(path("rigid"))).await.expect(200).expect("deleted");
    let waiting = admin.get(&path("rigid")).await.expect(200).expect("it waits for its controller");
    assert!(meta::is_deleting(&waiting));
}

#[tokio::test]
async fn pods_say_where_they_are() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let account = object!({"metadata": {"name": "default"}});
    made(&admin, "/api/v1/namespaces/default/serviceaccounts", &account).await;
    let mut node = object!({"metadata": {"name": "n", "labels": {"topology.kubernetes.io/zone": "east"}}});
    node.set(&["metadata", "labels", "example.com/rack"], "7");
    made(&admin, "/api/v1/nodes", &node).await;
    let pod = |name: &str| object!({"metadata": {"name": name}, "spec": {"containers": [{"name": "a", "image": "a"}]}});
    let mut placed = pod("placed");
    placed.set(&["spec", "nodeName"], "n");
    let want = object!({"topology.kubernetes.io/zone": "east"});
    assert_eq!(made(&admin, PODS, &placed).await.at(&["metadata", "labels"]), Some(&want));
    made(&admin, PODS, &pod("bound")).await;
    let binding = object!({
        "metadata": {"name": "bound", "annotations": {"example.com/why": "it fits"}},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "n"}
    });
    admin.send(Call::post(format!("{PODS}/bound/binding"), &binding)).await.expect(201).expect("bound");
    let bound = admin.get(&format!("{PODS}/bound")).await.expect(200).expect("a pod");
    assert_eq!(bound.at(&["metadata", "labels"]), Some(&want));
    assert_eq!(meta::annotation(&bound, "example.com/why"), Some("it fits"));
}
