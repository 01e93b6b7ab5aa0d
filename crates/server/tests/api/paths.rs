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
}

#[tokio::test]
async fn who_may_see_one_object_may_list_and_watch_it() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    for name in ["a", "b"] {
        given(&admin, maps, &object!({"metadata": {"name": name}})).await;
    }
    let rule = |verbs: Vec<&str>, resource: &str, name: &str| object!({"verbs": (verbs), "apiGroups": [""], "resources": [resource], "resourceNames": [name]});
    let all = vec!["deletecollection", "get", "list", "watch"];
    let rules = vec![rule(all, "configmaps", "a"), rule(vec!["list"], "componentstatuses", "scheduler")];
    given(&admin, &format!("{RBAC}/clusterroles"), &object!({"metadata": {"name": "one"}, "rules": (rules)}))
        .await;
    let group = "rbac.authorization.k8s.io";
    let binding = object!({
        "metadata": {"name": "one"}, "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "one"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": "jane"}]
    });
    given(&admin, &format!("{RBAC}/clusterrolebindings"), &binding).await;
    let jane = cluster.user("jane", None).await;
    settle(&jane, &format!("{maps}/a")).await;
    for path in ["/api/v1/configmaps", maps] {
        for (query, want) in [
            ("fieldSelector=metadata.name%3Da", 1),
            ("fieldSelector=metadata.name%3D%3Da", 1),
            ("fieldSelector=metadata.namespace%3Ddefault,metadata.name%3Da", 1),
            ("fieldSelector=metadata.name%3Da,metadata.name%3Db", 0),
            ("fieldSelector=metadata.name%3Da&fieldSelector=metadata.name%3Db", 1),
        ] {
            let list = jane.get(&format!("{path}?{query}")).await.expect(200);
            let items = list.unwrap_or_else(|why| panic!("{query}: {why}")).array_at(&["items"]).to_vec();
            assert_eq!(items.len(), want, "{query}");
            assert!(items.iter().all(|item| item.str_at(&["metadata", "name"]) == Some("a")), "{query}");
        }
        for query in [
            "",
            "fieldSelector=metadata.name%3Db",
            "fieldSelector=metadata.name!%3Da",
            "fieldSelector=metadata.name%3Db&fieldSelector=metadata.name%3Da",
            "fieldSelector=&fieldSelector=metadata.name%3Da",
            "labelSelector=metadata.name%3Da",
            "fieldSelector=metadata.name%3Da,nonsense",
        ] {
            for path in [format!("{path}?{query}"), format!("{path}?watch=true&{query}")] {
                let answer = jane.get(&path).await;
                answer.refused(403, "Forbidden").unwrap_or_else(|why| panic!("{path}: {why}"));
            }
        }
    }
    let mut watch =
        jane.watch(&format!("{maps}?watch=1&fieldSelector=metadata.name%3Da")).await.expect("a watch");
    let event = watch.next().await.expect("in time").expect("an event");
    assert_eq!(event.str_at(&["object", "metadata", "name"]), Some("a"));
    // Of what is deleted as a collection, the name does not count, as upstream.
    let delete = Call::delete(format!("{maps}?fieldSelector=metadata.name%3Da"));
    let text = jane.send(delete).await.refused(403, "Forbidden").expect("a collection has no name");
    assert!(text.contains("cannot deletecollection resource \"configmaps\""), "{text}");
    let parts = "/api/v1/componentstatuses";
    let list = jane.get(&format!("{parts}?fieldSelector=metadata.name%3Dscheduler")).await.expect(200);
    assert_eq!(list.expect("allowed").array_at(&["items"]).len(), 1, "no others are shown");
    jane.get(parts).await.refused(403, "Forbidden").expect("not all");
}

#[tokio::test]
async fn nobody_may_do_what_no_role_allows() {
    let cluster = Cluster::start().await;
    let as_nobody = |path: &str| {
        Call::get(path).header(http::HeaderName::from_static("impersonate-user"), "system:anonymous")
    };
    let (admin, nobody) = (cluster.admin().await, cluster.connect(None).await);
    for path in ["/api/v1/nodes", "/metrics", "/apis", "/api/v1/namespaces/default/pods/a/nonsense"] {
        for (client, call) in [(&admin, as_nobody(path)), (&nobody, Call::get(path))] {
            let answer = client.send(call).await;
            let text = answer.refused(403, "Forbidden").unwrap_or_else(|why| panic!("{path}: {why}"));
            let may_not = ["get", "list"].map(|verb| format!("User \"system:anonymous\" cannot {verb}"));
            assert!(may_not.iter().any(|words| text.contains(words)), "{text}");
        }
    }
    nobody.send(as_nobody("/version")).await.refused(403, "Forbidden").expect("nobody is nobody for nobody");
    let post = Call::put("/api/v1/nodes", &object!({}));
    let post = post.header(http::HeaderName::from_static("impersonate-user"), "system:anonymous");
    admin.send(post).await.refused(405, "MethodNotAllowed").expect("what nobody can do");
}
