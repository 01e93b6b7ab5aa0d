//! What nodes may: read what their pods refer to, write about themselves.

use xebec_api::{Value, object};

use crate::client::{Call, Client, MERGE_PATCH};
use crate::cluster::Cluster;

const DEFAULT: &str = "/api/v1/namespaces/default";
const NODES: &str = "/api/v1/nodes";

async fn made(client: &Client, path: &str, object: &Value) -> Value {
    client.send(Call::post(path, object)).await.expect(201).unwrap_or_else(|why| panic!("{path}: {why}"))
}

fn pod(name: &str, node: &str, secret: &str) -> Value {
    object!({"metadata": {"name": name}, "spec": {
        "nodeName": node, "containers": [{"name": "a", "image": "a", "envFrom": [{"secretRef": {"name": secret}}]}]
    }})
}

/// A cluster with a secret and a pod for each of two nodes.
async fn two_nodes() -> (Cluster, Client, Client) {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    for account in ["default", "other"] {
        made(&admin, &format!("{DEFAULT}/serviceaccounts"), &object!({"metadata": {"name": account}})).await;
    }
    for n in ["1", "2"] {
        let secret = object!({"metadata": {"name": (format!("s{n}"))}});
        made(&admin, &format!("{DEFAULT}/secrets"), &secret).await;
        made(&admin, &format!("{DEFAULT}/pods"), &pod(&format!("p{n}"), &format!("n{n}"), &format!("s{n}")))
            .await;
    }
    let node = cluster.user("system:node:n1", Some("system:nodes")).await;
    (cluster, admin, node)
}

#[tokio::test]
async fn a_node_reads_what_its_pods_refer_to() {
    let (cluster, admin, node) = two_nodes().await;
    let get = async |path: &str| node.get(&format!("{DEFAULT}/{path}")).await;
    get("secrets/s1").await.expect(200).expect("its pod's");
    let refused = get("secrets/s2").await.refused(403, "Forbidden").expect("another node's");
    let why = "no relationship found between node 'n1' and this object";
    let want = format!(
        "secrets \"s2\" is forbidden: User \"system:node:n1\" cannot get resource \"secrets\" in API group \"\" in the \
         namespace \"default\": {why}"
    );
    assert_eq!(refused, want);
    get("secrets").await.refused(403, "Forbidden").expect("not all");
    get("secrets?fieldSelector=metadata.name%3Ds1").await.expect(200).expect("one");
    get("secrets?fieldSelector=metadata.name%3Ds2").await.refused(403, "Forbidden").expect("not that one");
    get("pods?fieldSelector=spec.nodeName%3Dn1").await.expect(200).expect("its pods");
    get("pods").await.refused(403, "Forbidden").expect("not others'");
    get("services").await.expect(200).expect("all services");
    node.get(NODES).await.refused(403, "Forbidden").expect("not all nodes");
    let stranger = cluster.user("system:node:n1", None).await;
    let foreign = stranger.get(&format!("{DEFAULT}/secrets/s1")).await;
    foreign.refused(403, "Forbidden").expect("no member of system:nodes");
    let gone = Call::delete(format!("{DEFAULT}/pods/p1?gracePeriodSeconds=0"));
    admin.send(gone).await.expect(200).expect("deleted");
    get("secrets/s1").await.refused(403, "Forbidden").expect("its pod is gone");
}

#[tokio::test]
async fn a_node_writes_about_itself() {
    let (_cluster, admin, node) = two_nodes().await;
    let other = made_refused(&node, NODES, &object!({"metadata": {"name": "n2"}})).await;
    assert!(other.ends_with(r#"node "n1" is not allowed to modify node "n2""#), "{other}");
    let mut own = object!({"metadata": {"name": "n1", "labels": {"kubernetes.io/role": "master"}}});
    let refused = made_refused(&node, NODES, &own).await;
    assert!(refused.ends_with("is not allowed to set the following labels: kubernetes.io/role"), "{refused}");
    own.set(&["metadata", "labels"], object!({"kubernetes.io/hostname": "n1"}));
    made(&node, NODES, &own).await;
    let patch = async |path: &str, patch: Value| node.send(Call::patch(path, MERGE_PATCH, &patch)).await;
    let taint = object!({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}});
    let refused = patch(&format!("{NODES}/n1"), taint).await.refused(403, "Forbidden").expect("not taints");
    assert!(refused.ends_with("is not allowed to modify taints"), "{refused}");
    let status = object!({"status": {"nodeInfo": {"kernelVersion": "1"}}});
    patch(&format!("{NODES}/n1/status"), status).await.expect(200).expect("its status");
    let running = || object!({"status": {"phase": "Running"}});
    patch(&format!("{DEFAULT}/pods/p1/status"), running()).await.expect(200).expect("its pod");
    let refused = patch(&format!("{DEFAULT}/pods/p2/status"), running()).await.refused(403, "Forbidden");
    let refused = refused.expect("another node's pod");
    let why = r#"node "n1" can only update pod status for pods with spec.nodeName set to itself"#;
    assert_eq!(refused, format!("pods \"p2\" is forbidden: {why}"));
    let lease = |name: &str| object!({"metadata": {"name": name}});
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    made(&node, leases, &lease("n1")).await;
    made_refused(&node, leases, &lease("n2")).await;
    for (name, code) in [("p2", 403), ("p1", 200)] {
        let deletion = Call::delete(format!("{DEFAULT}/pods/{name}?gracePeriodSeconds=0"));
        assert_eq!(node.send(deletion).await.code, code, "{name}");
    }
    let plain = made_refused(&node, &format!("{DEFAULT}/pods"), &pod("x", "n1", "s2")).await;
    assert!(plain.ends_with(r#"node "n1" can only create mirror pods"#), "{plain}");
    admin.get(&format!("{DEFAULT}/pods/p2")).await.expect(200).expect("it is still there");
}

async fn made_refused(client: &Client, path: &str, object: &Value) -> String {
    client.send(Call::post(path, object)).await.refused(403, "Forbidden").expect(path)
}

#[tokio::test]
async fn a_node_has_tokens_for_its_pods() {
    let (_cluster, admin, node) = two_nodes().await;
    let uid = async |name: &str| {
        let pod = admin.get(&format!("{DEFAULT}/pods/{name}")).await.expect(200).expect("a pod");
        pod.str_at(&["metadata", "uid"]).expect("a UID").to_owned()
    };
    let (own, other) = (uid("p1").await, uid("p2").await);
    let ask = async |account: &str, bound: Value, audiences: Value| {
        let request = object!({"spec": {"boundObjectRef": bound, "audiences": audiences}});
        node.send(Call::post(format!("{DEFAULT}/serviceaccounts/{account}/token"), &request)).await
    };
    let bound =
        |name: &str, uid: &str| object!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid});
    let refused = async |account: &str, to: Value, audiences: Value| {
        ask(account, to, audiences).await.refused(403, "Forbidden").expect("refused")
    };
    ask("default", bound("p1", &own), object!([])).await.expect(201).expect("a token");
    let why = refused("default", bound("p2", &other), object!([])).await;
    assert!(why.ends_with("node requested token bound to a pod scheduled on a different node"), "{why}");
    let why = refused("default", Value::Null, object!([])).await;
    assert!(why.ends_with("node requested token not bound to a pod"), "{why}");
    let why = refused("other", bound("p1", &own), object!([])).await;
    assert!(why.ends_with("no relationship found between node 'n1' and this object"), "{why}");
    let why = refused("default", bound("p1", &own), object!(["vault"])).await;
    assert!(why.contains(r#"audience "vault" not found in pod spec volume"#), "{why}");
}
