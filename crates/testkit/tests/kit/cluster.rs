//! Starting, sharing nothing, and ending.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, ServiceAccount};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use xebec_testkit::{AuditPolicy, Builder, Cluster, StartError, WaitError};

use crate::{PATIENCE, Tested};

fn config_map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}})).expect("a config map")
}

async fn names(client: Client) -> Result<Vec<String>, kube::Error> {
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let mut names: Vec<_> = maps.list(&ListParams::default()).await?.iter().map(|m| m.name_any()).collect();
    names.retain(|name| name != "kube-root-ca.crt");
    Ok(names)
}

fn exists<K>(object: Option<&K>) -> bool {
    object.is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_run_beside_each_other_and_share_nothing() -> Tested {
    let clusters = futures::future::try_join_all((0..32).map(|_| Cluster::start())).await?;
    for (number, cluster) in clusters.iter().enumerate() {
        let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
        maps.create(&PostParams::default(), &config_map(&format!("of-{number}"))).await?;
    }
    for (number, cluster) in clusters.iter().enumerate() {
        assert_eq!(names(cluster.client()).await?, [format!("of-{number}")]);
    }
    for cluster in &clusters {
        let accounts: Api<ServiceAccount> = Api::default_namespaced(cluster.client());
        cluster.wait_for(&accounts, "default", exists, PATIENCE).await?;
    }
    for cluster in clusters {
        cluster.stop().await?;
    }
    Ok(())
}

/// Tasks of this test's runtime, and threads of this process.
fn alive() -> (usize, Vec<String>) {
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let threads = std::fs::read_dir("/proc/self/task").expect("Linux tells of threads");
    let name = |thread: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(thread.expect("a thread").path().join("comm")).unwrap_or_default()
    };
    (tasks, threads.map(name).collect())
}

#[tokio::test]
async fn nothing_is_left_when_it_has_stopped() -> Tested {
    let before = alive().0;
    let cluster = Cluster::builder().serve_tls().audit().start().await?;
    cluster.node("n1").ready().await?;
    let client = cluster.client();
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    cluster.wait_for(&maps, "kube-root-ca.crt", exists, PATIENCE).await?;
    assert!(alive().0 > before + 20, "the cluster runs in this runtime");
    cluster.stop().await?;
    assert!(maps.list(&ListParams::default()).await.is_err(), "it answers nobody any more");
    drop((maps, client));
    // What holds a client alive ends when it notices that nobody has it any more.
    settles("no task is left", || alive().0 == before).await;
    let left = |name: &&String| name.starts_with("store-writer") || name.starts_with("audit");
    settles("no thread is left", || alive().1.iter().filter(left).count() == 0).await;
    Ok(())
}

#[tokio::test]
async fn nothing_is_left_when_it_was_dropped() -> Tested {
    let before = alive().0;
    let cluster = Cluster::start().await?;
    cluster.node("n1").ready().await?;
    let accounts: Api<ServiceAccount> = Api::default_namespaced(cluster.client());
    cluster.wait_for(&accounts, "default", exists, PATIENCE).await?;
    drop((cluster, accounts));
    settles("no task is left", || alive().0 == before).await;
    Ok(())
}

async fn settles(what: &str, mut holds: impl FnMut() -> bool) {
    let settled = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, settled).await.is_ok(), "never: {what}");
}

#[tokio::test]
async fn a_namespace_goes_with_what_is_in_it() -> Tested {
    let cluster = Cluster::start().await?;
    cluster.apply("{apiVersion: v1, kind: Namespace, metadata: {name: shop}}").await?;
    cluster
        .apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: shop, finalizers: [example.com/a]}}")
        .await?;
    let namespaces: Api<Namespace> = Api::all(cluster.client());
    namespaces.delete("shop", &DeleteParams::default()).await?;
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client(), "shop");
    let is_deleting = |map: Option<&ConfigMap>| map.is_some_and(|m| m.metadata.deletion_timestamp.is_some());
    cluster.wait_for(&maps, "a", is_deleting, PATIENCE).await?;
    cluster.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: b}}").await?;
    let freed = json!({"metadata": {"finalizers": null}});
    maps.patch("a", &Default::default(), &kube::api::Patch::Merge(freed)).await?;
    let gone = |namespace: Option<&Namespace>| namespace.is_none();
    cluster.wait_for(&namespaces, "shop", gone, PATIENCE).await?;
    cluster.stop().await?;
    Ok(())
}

#[tokio::test]
async fn users_may_do_what_they_are_allowed() -> Tested {
    let cluster = Cluster::start().await?;
    let jane = cluster.user("jane", &["developers"]);
    let refused = names(jane.clone()).await.expect_err("nobody allowed it");
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 403), "{refused}");
    cluster
        .apply(
            "
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: developers}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: developers}]",
        )
        .await?;
    let allowed = async {
        while names(jane.clone()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, allowed).await?;
    let maps: Api<ConfigMap> = Api::default_namespaced(jane);
    maps.create(&PostParams::default(), &config_map("a")).await.expect_err("to view is not to create");
    cluster.stop().await?;
    Ok(())
}

#[tokio::test]
async fn parts_can_be_left_out() -> Tested {
    let cluster =
        Cluster::builder().controllers(["service-account-controller"]).without_scheduler().start().await?;
    let accounts: Api<ServiceAccount> = Api::default_namespaced(cluster.client());
    cluster.wait_for(&accounts, "default", exists, PATIENCE).await?;
    let error = Cluster::builder().controllers(["deployments"]).start().await.expect_err("there is none");
    assert!(matches!(&error, StartError::NoSuchController { .. }), "{error}");
    assert!(error.to_string().contains("deployment-controller"), "{error}");
    assert!(Builder::controller_names().any(|name| name == "generic-garbage-collector"));
    cluster.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_failure_to_wait_shows_the_object_and_its_events() -> Tested {
    let cluster = Cluster::start().await?;
    cluster
        .apply("{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c, image: i}]}}")
        .await?;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    let unscheduled = |pod: Option<&Pod>| {
        let conditions = pod.and_then(|pod| pod.status.as_ref()?.conditions.as_ref());
        conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "PodScheduled" && c.status == "False"))
    };
    cluster.wait_for(&pods, "p", unscheduled, PATIENCE).await?;
    let seen = async {
        loop {
            let never = cluster.wait_for(&pods, "p", |_: Option<&Pod>| false, Duration::ZERO).await;
            let text = format!("{:?}", never.expect_err("it never holds"));
            if text.contains("FailedScheduling") {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let text = tokio::time::timeout(PATIENCE, seen).await?;
    assert!(text.contains("image: i") && text.contains("no nodes available"), "{text}");
    let absent = cluster.wait_for(&pods, "q", exists, Duration::ZERO).await;
    assert!(matches!(&absent, Err(WaitError::Timeout { picture, .. }) if picture.contains("does not exist")));
    cluster.stop().await?;
    Ok(())
}

#[tokio::test]
async fn what_was_done_is_recorded() -> Tested {
    let policy = AuditPolicy::read(
        "{apiVersion: audit.k8s.io/v1, kind: Policy, omitStages: [RequestReceived], rules: [{level: Metadata}]}",
    )?;
    let cluster = Cluster::builder().audit_by(policy).start().await?;
    let jane = cluster.user("jane", &[]);
    names(jane).await.expect_err("nobody allowed it");
    let events = cluster.audit_events().await?;
    let of_jane: Vec<_> = events.iter().filter(|event| event["user"]["username"] == "jane").collect();
    let [event] = of_jane.as_slice() else { panic!("{of_jane:?}") };
    assert_eq!((&event["verb"], &event["responseStatus"]["code"]), (&json!("list"), &json!(403)));
    cluster.stop().await?;
    Ok(())
}

#[tokio::test]
async fn manifests_that_cannot_be_applied_are_told_apart() -> Tested {
    let cluster = Cluster::start().await?;
    for (manifest, want) in [
        ("a: [", "document 1 cannot be read"),
        ("kind: Pod", "document 1 has no apiVersion"),
        ("{apiVersion: v1, kind: Pod, metadata: {}}", "document 1 has no metadata.name"),
        ("{apiVersion: v1, kind: Pood, metadata: {name: a}}", "v1 Pood is not served"),
        ("{apiVersion: v1, kind: Secret, metadata: {name: A_B}}", "Secret A_B is refused"),
    ] {
        let error = cluster.apply(manifest).await.expect_err(manifest).to_string();
        assert!(error.contains(want), "{manifest}: {error}");
    }
    cluster.stop().await?;
    Ok(())
}
