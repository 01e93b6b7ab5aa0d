//! What a path names is what is asked for, and what may be done to it.

use xebec_api::{Value, object};

use crate::client::{Call, Client, MERGE_PATCH};
use crate::cluster::{Cluster, settle};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

async fn given(admin: &Client, path: &str, object: &Value) {
    let answer = admin.send(Call::post(path, object)).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
}

fn everything() -> Value {
    object!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}])
}

/// Lets `jane` do everything in one namespace, which is there afterwards.
async fn mistress_of(cluster: &Cluster, admin: &Client, namespace: &str) -> Client {
    given(admin, "/api/v1/namespaces", &object!({"metadata": {"name": namespace}})).await;
    let role = object!({"metadata": {"name": "all"}, "rules": (everything())});
    given(admin, &format!("{RBAC}/namespaces/{namespace}/roles"), &role).await;
    let group = "rbac.authorization.k8s.io";
    let binding = object!({
        "metadata": {"name": "all"}, "roleRef": {"apiGroup": group, "kind": "Role", "name": "all"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": "jane"}]
    });
    given(admin, &format!("{RBAC}/namespaces/{namespace}/rolebindings"), &binding).await;
    let jane = cluster.user("jane", None).await;
    settle(&jane, &format!("/api/v1/namespaces/{namespace}/configmaps")).await;
    jane
}

#[tokio::test]
async fn who_holds_a_namespace_holds_no_other() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let jane = mistress_of(&cluster, &admin, "hers").await;
    given(&admin, "/api/v1/namespaces", &object!({"metadata": {"name": "other"}})).await;
    let patch = object!({"metadata": {"labels": {"a": "b"}}});
    for client in [&jane, &admin] {
        // A namespace is in no namespace, and neither is what else the cluster has.
        for path in ["namespaces/other", "namespaces/hers", "nodes/a", "persistentvolumes/a"] {
            let path = format!("/api/v1/namespaces/hers/{path}");
            for call in [
                Call::get(path.as_str()),
                Call::delete(path.as_str()),
                Call::patch(path.as_str(), MERGE_PATCH, &patch),
            ] {
                let answer = client.send(call).await;
                answer.refused(404, "NotFound").unwrap_or_else(|why| panic!("{path}: {why}"));
            }
        }
        let answer = client.get("/api/v1/namespaces/hers/namespaces").await;
        answer.refused(404, "NotFound").expect("no namespaces in a namespace");
    }
    for path in ["/api/v1/namespaces/other", "/api/v1/namespaces/other/finalize", "/api/v1/namespaces"] {
        jane.get(path).await.refused(403, "Forbidden").unwrap_or_else(|why| panic!("{path}: {why}"));
    }
    // Her own namespace she may change, as a role in it says.
    let changed = jane.send(Call::patch("/api/v1/namespaces/hers", MERGE_PATCH, &patch)).await;
    changed.expect(200).expect("a role in a namespace speaks of the namespace too");
    admin.get("/api/v1/namespaces/other").await.expect(200).expect("it is still there");
}

#[tokio::test]
async fn nothing_is_made_at_the_path_of_an_object() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let map = object!({"metadata": {"name": "b"}});
    let role = object!({
        "metadata": {"name": "one"},
        "rules": [{"verbs": ["create", "get"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"]}]
    });
    given(&admin, &format!("{RBAC}/namespaces/default/roles"), &role).await;
    let group = "rbac.authorization.k8s.io";
    let binding = object!({
        "metadata": {"name": "one"}, "roleRef": {"apiGroup": group, "kind": "Role", "name": "one"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": "jane"}]
    });
    given(&admin, &format!("{RBAC}/namespaces/default/rolebindings"), &binding).await;
    let jane = cluster.user("jane", None).await;
    settle(&jane, &format!("{maps}/a")).await;
    for (client, call) in [
        (&jane, Call::post(format!("{maps}/a"), &map)),
        (&admin, Call::post(format!("{maps}/a"), &map)),
        (&admin, Call::put(maps, &map)),
        (&admin, Call::patch(maps, MERGE_PATCH, &map)),
        (&admin, Call::new(http::Method::TRACE, maps)),
        (&admin, Call::post("/api/v1/watch/namespaces/default/configmaps", &map)),
    ] {
        client
            .send(call.clone())
            .await
            .refused(405, "MethodNotAllowed")
            .unwrap_or_else(|why| panic!("{call:?}: {why}"));
    }
    admin.get(&format!("{maps}/b")).await.refused(404, "NotFound").expect("nothing was made");
    let nobody = cluster.connect(None).await;
    nobody.send(Call::put(maps, &map)).await.refused(401, "Unauthorized").expect("who is it?");
}
