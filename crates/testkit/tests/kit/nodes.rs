//! Simulated nodes and their pods.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt as _};
use xebec_testkit::{Cluster, NodeError, Script};

use crate::{PATIENCE, Tested};

const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: 'example.com/web:1'}]}
";

fn available(count: i32) -> impl Fn(Option<&Deployment>) -> bool {
    move |deployment| {
        let status = deployment.and_then(|deployment| deployment.status.as_ref());
        status.is_some_and(|status| status.available_replicas.unwrap_or(0) == count)
    }
}

fn waits_for(reason: &'static str) -> impl Fn(Option<&Pod>) -> bool {
    move |pod| {
        let containers = pod.and_then(|pod| pod.status.as_ref()?.container_statuses.as_ref());
        let waiting = containers.and_then(|all| all.first()?.state.as_ref()?.waiting.as_ref());
        waiting.and_then(|waiting| waiting.reason.as_deref()) == Some(reason)
    }
}

fn phase(phase: &'static str) -> impl Fn(Option<&Pod>) -> bool {
    move |pod| pod.and_then(|pod| pod.status.as_ref()?.phase.as_deref()) == Some(phase)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deployments_become_available_and_go() -> Tested {
    let cluster = Cluster::start().await?;
    cluster.apply(WEB).await?;
    let node = cluster.node("n1").label("zone", "a").ready().await?;
    let deployments: Api<Deployment> = Api::default_namespaced(cluster.client());
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    cluster.wait_for(&deployments, "web", available(3), PATIENCE).await?;
    let all = pods.list(&ListParams::default()).await?;
    let mut ips: Vec<_> = all.iter().filter_map(|pod| pod.status.as_ref()?.pod_ip.clone()).collect();
    ips.sort();
    ips.dedup();
    assert_eq!((all.items.len(), ips.len()), (3, 3), "each pod has an address of its own");

    node.script(|_| Script::CrashLoop(1));
    cluster.wait_for(&deployments, "web", available(0), PATIENCE).await?;
    cluster.wait_for(&pods, &all.items[0].name_any(), waits_for("CrashLoopBackOff"), PATIENCE).await?;
    node.script(|_| Script::Run);
    cluster.wait_for(&deployments, "web", available(3), PATIENCE).await?;

    deployments.delete("web", &DeleteParams::default()).await?;
    for pod in all {
        cluster.wait_for(&pods, &pod.name_any(), |pod: Option<&Pod>| pod.is_none(), PATIENCE).await?;
    }
    cluster.stop().await?;
    Ok(())
}

#[tokio::test]
async fn scripts_tell_pods_apart() -> Tested {
    let cluster = Cluster::builder().without_scheduler().start().await?;
    let node = cluster.node("n1").ready().await?;
    node.script(|pod| match pod.name_any().as_str() {
        "fails" => Script::Fail(3),
        "ends" => Script::Succeed,
        "waits" => Script::Wait("ImagePullBackOff".to_owned()),
        _ => Script::Run,
    });
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    for name in ["fails", "ends", "waits", "runs"] {
        let pod = format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, \
             spec: {{nodeName: n1, containers: [{{name: c, image: i}}]}}}}"
        );
        cluster.apply(&pod).await?;
    }
    cluster.wait_for(&pods, "fails", phase("Failed"), PATIENCE).await?;
    cluster.wait_for(&pods, "ends", phase("Succeeded"), PATIENCE).await?;
    cluster.wait_for(&pods, "waits", waits_for("ImagePullBackOff"), PATIENCE).await?;
    cluster.wait_for(&pods, "runs", phase("Running"), PATIENCE).await?;
    let again = cluster.node("n1").ready().await;
    assert!(matches!(again, Err(NodeError::Exists { .. })));
    cluster.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_script_that_panics_is_reported_at_the_end() -> Tested {
    let cluster = Cluster::builder().without_scheduler().start().await?;
    let node = cluster.node("n1").ready().await?;
    node.script(|pod| panic!("what is {}?", pod.name_any()));
    cluster
        .apply(
            "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {nodeName: n1, containers: [{name: c, image: i}]}}",
        )
        .await?;
    let lost = tokio::time::timeout(PATIENCE, cluster.lost()).await?;
    let stopped = cluster.stop().await.expect_err("a part was lost");
    assert_eq!(stopped, lost);
    assert!(stopped.to_string().contains("the simulated node n1 has panicked: what is p?"), "{stopped}");
    Ok(())
}
