//! Nobody gives away more than they hold.

use xebec_api::{Value, json, object};

use crate::client::{Answer, Call, Client, MERGE_PATCH};
use crate::cluster::{Cluster, settle};

const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles";
const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
const CLUSTER_ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
const CLUSTER_BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";

fn rule(verbs: &[&str], group: &str, resource: &str) -> Value {
    object!({"verbs": (verbs.to_vec()), "apiGroups": [group], "resources": [resource]})
}

fn role(name: &str, rules: Vec<Value>) -> Value {
    object!({"metadata": {"name": name}, "rules": (rules)})
}

fn binding(name: &str, kind: &str, role: &str) -> Value {
    let group = "rbac.authorization.k8s.io";
    object!({
        "metadata": {"name": name}, "roleRef": {"apiGroup": group, "kind": kind, "name": role},
        "subjects": [{"apiGroup": group, "kind": "User", "name": "jane"}]
    })
}

/// What the administrator makes.
async fn given(admin: &Client, path: &str, object: &Value) {
    let answer = admin.send(Call::post(path, object)).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
}

/// Lets `jane` do all with roles and bindings, which is much, but not all that she could write into them; in the namespace
/// she may read pods.
async fn jane(cluster: &Cluster, admin: &Client) -> Client {
    let all = ["create", "delete", "get", "list", "patch", "update"];
    let resources = ["roles", "rolebindings", "clusterroles", "clusterrolebindings"];
    let rules = resources.iter().map(|resource| rule(&all, "rbac.authorization.k8s.io", resource));
    given(admin, CLUSTER_ROLES, &role("keeper", rules.collect())).await;
    given(admin, CLUSTER_BINDINGS, &binding("keeper", "ClusterRole", "keeper")).await;
    given(admin, ROLES, &role("reader", vec![rule(&["get", "list"], "", "pods")])).await;
    given(admin, BINDINGS, &binding("reader", "Role", "reader")).await;
    let jane = cluster.user("jane", None).await;
    settle(&jane, "/api/v1/namespaces/default/pods").await;
    jane
}

#[track_caller]
fn refused(answer: &Answer, text: &str) {
    let message = answer.refused(403, "Forbidden").expect("a refusal");
    assert_eq!(message, text);
}

const JANE: &str = "user \"jane\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently \
                    held:\n";

#[tokio::test]
async fn roles() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let jane = jane(&cluster, &admin).await;
    let held = role("held", vec![rule(&["get"], "", "pods")]);
    jane.send(Call::post(ROLES, &held)).await.expect(201).expect("what she holds she may give");
    let more = role("more", vec![rule(&["get", "delete"], "", "pods"), rule(&["get"], "", "secrets")]);
    let missing = "{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\"]}\n\
                   {APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\"]}";
    refused(
        &jane.send(Call::post(ROLES, &more)).await,
        &format!("roles.rbac.authorization.k8s.io \"more\" is forbidden: {JANE}{missing}"),
    );
    refused(
        &jane.send(Call::post(format!("{ROLES}?dryRun=All"), &more)).await,
        &format!("roles.rbac.authorization.k8s.io \"more\" is forbidden: {JANE}{missing}"),
    );
    let patch = object!({"rules": [(rule(&["*"], "*", "*"))]});
    refused(
        &jane.send(Call::patch(format!("{ROLES}/held"), MERGE_PATCH, &patch)).await,
        &format!(
            "roles.rbac.authorization.k8s.io \"held\" is forbidden: {JANE}\
             {{APIGroups:[\"*\"], Resources:[\"*\"], Verbs:[\"*\"]}}"
        ),
    );
    // What she holds in the namespace she does not hold in the cluster.
    refused(
        &jane.send(Call::post(CLUSTER_ROLES, &held)).await,
        &format!(
            "clusterroles.rbac.authorization.k8s.io \"held\" is forbidden: {JANE}\
             {{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"get\"]}}"
        ),
    );
    let mut gathering = role("gathering", Vec::new());
    gathering.set(&["aggregationRule", "clusterRoleSelectors"], Vec::<Value>::new());
    refused(
        &jane.send(Call::post(CLUSTER_ROLES, &gathering)).await,
        "clusterroles.rbac.authorization.k8s.io \"gathering\" is forbidden: must have cluster-admin privileges to use \
         the aggregationRule",
    );
    // A role that holds more than she does may still be unlocked for the garbage collector.
    given(&admin, ROLES, &more).await;
    let finalizers = object!({"metadata": {"finalizers": ["example.com/a"]}});
    let patched = jane.send(Call::patch(format!("{ROLES}/more"), MERGE_PATCH, &finalizers)).await;
    patched.expect(200).expect("finalizers give nothing");
    let labels = object!({"metadata": {"labels": {"a": "b"}}});
    let patched = jane.send(Call::patch(format!("{ROLES}/more"), MERGE_PATCH, &labels)).await;
    refused(&patched, &format!("roles.rbac.authorization.k8s.io \"more\" is forbidden: {JANE}{missing}"));
}

#[tokio::test]
async fn bindings() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let jane = jane(&cluster, &admin).await;
    given(&admin, ROLES, &role("more", vec![rule(&["get"], "", "secrets")])).await;
    let bound = jane.send(Call::post(BINDINGS, &binding("held", "Role", "reader"))).await;
    bound.expect(201).expect("what she holds she may bind");
    let missing = "{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\"]}";
    refused(
        &jane.send(Call::post(BINDINGS, &binding("more", "Role", "more"))).await,
        &format!("rolebindings.rbac.authorization.k8s.io \"more\" is forbidden: {JANE}{missing}"),
    );
    refused(
        &jane.send(Call::post(CLUSTER_BINDINGS, &binding("root", "ClusterRole", "cluster-admin"))).await,
        &format!(
            "clusterrolebindings.rbac.authorization.k8s.io \"root\" is forbidden: {JANE}\
             {{APIGroups:[\"*\"], Resources:[\"*\"], Verbs:[\"*\"]}}\n{{NonResourceURLs:[\"*\"], Verbs:[\"*\"]}}"
        ),
    );
    let absent = jane.send(Call::post(BINDINGS, &binding("absent", "Role", "absent"))).await;
    let message = absent.refused(404, "NotFound").expect("a role that is not there holds nobody knows what");
    assert_eq!(message, "roles.rbac.authorization.k8s.io \"absent\" not found");
    given(&admin, BINDINGS, &binding("absent", "Role", "absent")).await;
}

#[tokio::test]
async fn those_who_may_escalate_and_bind() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let jane = jane(&cluster, &admin).await;
    let mut verbs = vec![rule(&["escalate"], "rbac.authorization.k8s.io", "roles")];
    let mut bind = rule(&["bind"], "rbac.authorization.k8s.io", "clusterroles");
    bind.set(&["resourceNames"], vec!["view"]);
    // Read last, this shows that the others hold.
    verbs.extend([bind, rule(&["list"], "", "configmaps")]);
    given(&admin, CLUSTER_ROLES, &role("trusted", verbs)).await;
    given(&admin, CLUSTER_BINDINGS, &binding("trusted", "ClusterRole", "trusted")).await;
    settle(&jane, "/api/v1/configmaps").await;
    let more = role("more", vec![rule(&["*"], "*", "*")]);
    jane.send(Call::post(ROLES, &more)).await.expect(201).expect("she may escalate roles");
    jane.send(Call::post(CLUSTER_ROLES, &more))
        .await
        .refused(403, "Forbidden")
        .expect("but not cluster roles");
    let view = jane.send(Call::post(CLUSTER_BINDINGS, &binding("view", "ClusterRole", "view"))).await;
    view.expect(201).expect("she may bind this role");
    let edit = jane.send(Call::post(CLUSTER_BINDINGS, &binding("edit", "ClusterRole", "edit"))).await;
    edit.refused(403, "Forbidden").expect("but no other");
    let made = jane.get(&format!("{ROLES}/more")).await.json();
    assert_eq!(json::to_vec(&made.array_at(&["rules"])[0]), json::to_vec(&rule(&["*"], "*", "*")));
}

/// Waits until what the user may is as the test says.
async fn becomes(client: &Client, path: &str, code: u16) {
    let soon = async {
        while client.get(path).await.code != code {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let soon = tokio::time::timeout(std::time::Duration::from_secs(10), soon).await;
    soon.unwrap_or_else(|_| panic!("{path} is never answered with {code}"));
}

#[tokio::test]
async fn roles_and_bindings_that_change() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let jane = cluster.user("jane", None).await;
    let (pods, maps) = ("/api/v1/namespaces/default/pods", "/api/v1/namespaces/default/configmaps");
    // The binding comes first: it grants what the role says when there is one.
    given(&admin, BINDINGS, &binding("reader", "Role", "reader")).await;
    assert_eq!(jane.get(pods).await.code, 403, "there is no role");
    given(&admin, ROLES, &role("reader", vec![rule(&["list"], "", "pods")])).await;
    becomes(&jane, pods, 200).await;
    assert_eq!(jane.get(maps).await.code, 403, "nobody has said so");
    let patch = object!({"rules": [(rule(&["list"], "", "configmaps"))]});
    let patch = Call::patch(format!("{ROLES}/reader"), MERGE_PATCH, &patch);
    admin.send(patch).await.expect(200).expect("changed");
    becomes(&jane, maps, 200).await;
    assert_eq!(jane.get(pods).await.code, 403, "what a role said before");
    admin.send(Call::delete(format!("{BINDINGS}/reader"))).await.expect(200).expect("deleted");
    becomes(&jane, maps, 403).await;
    given(&admin, BINDINGS, &binding("again", "Role", "reader")).await;
    becomes(&jane, maps, 200).await;
    admin.send(Call::delete(format!("{ROLES}/reader"))).await.expect(200).expect("deleted");
    becomes(&jane, maps, 403).await;
}
