//! What happens when the clock is moved.

use std::time::{Duration, SystemTime};

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenReview};
use k8s_openapi::api::core::v1::{Event, Node, Pod, ServiceAccount};
use kube::Api;
use kube::api::{ListParams, PostParams};
use serde_json::json;
use xebec_testkit::Cluster;

use crate::{PATIENCE, Tested};

const HOUR: Duration = Duration::from_hours(1);

fn is_gone<K>(object: Option<&K>) -> bool {
    object.is_none()
}

fn is_running(pod: Option<&Pod>) -> bool {
    pod.and_then(|pod| pod.status.as_ref()?.phase.as_deref()) == Some("Running")
}

fn ready(status: &'static str) -> impl Fn(Option<&Node>) -> bool {
    move |node| {
        let conditions = node.and_then(|node| node.status.as_ref()?.conditions.as_ref());
        conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == status))
    }
}

#[tokio::test]
async fn events_expire() -> Tested {
    let cluster = Cluster::start().await?;
    let events: Api<Event> = Api::default_namespaced(cluster.client());
    let event = |name: &str| {
        serde_json::from_value::<Event>(json!({
            "metadata": {"name": name},
            "involvedObject": {"kind": "ConfigMap", "namespace": "default", "name": "a"}
        }))
    };
    events.create(&PostParams::default(), &event("old")?).await?;
    cluster.clock().advance(HOUR / 2).await;
    events.create(&PostParams::default(), &event("young")?).await?;
    let written = events.get("young").await?.metadata.creation_timestamp.ok_or("it has a time")?;
    let ahead = SystemTime::from(written.0).duration_since(SystemTime::now())?;
    assert!(ahead > HOUR / 3, "objects are written by the cluster's time");
    cluster.clock().advance(HOUR / 2 + Duration::from_secs(61)).await;
    cluster.wait_for(&events, "old", is_gone, PATIENCE).await?;
    events.get("young").await?;
    cluster.stop().await?;
    Ok(())
}

#[tokio::test]
async fn tokens_expire() -> Tested {
    let cluster = Cluster::start().await?;
    let accounts: Api<ServiceAccount> = Api::default_namespaced(cluster.client());
    cluster
        .wait_for(&accounts, "default", |account: Option<&ServiceAccount>| account.is_some(), PATIENCE)
        .await?;
    let request: TokenRequest =
        serde_json::from_value(json!({"spec": {"audiences": [], "expirationSeconds": 600}}))?;
    let issued = accounts.create_token_request("default", &PostParams::default(), &request).await?;
    let token = issued.status.ok_or("there is a token")?.token;
    let reviews: Api<TokenReview> = Api::all(cluster.client());
    let review: TokenReview = serde_json::from_value(json!({"spec": {"token": token}}))?;
    let is_good = async || {
        let answer = reviews.create(&PostParams::default(), &review).await?;
        Ok::<_, kube::Error>(answer.status.and_then(|status| status.authenticated).unwrap_or(false))
    };
    assert!(is_good().await?);
    cluster.clock().advance(Duration::from_mins(11)).await;
    assert!(!is_good().await?);
    cluster.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_node_loses_its_pods_and_others_do_not() -> Tested {
    let cluster = Cluster::start().await?;
    let silent = cluster.node("silent").ready().await?;
    cluster.node("alive").ready().await?;
    for node in ["silent", "alive"] {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("on-{node}")},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}
        });
        cluster.apply(&pod.to_string()).await?;
    }
    let (nodes, pods): (Api<Node>, Api<Pod>) =
        (Api::all(cluster.client()), Api::default_namespaced(cluster.client()));
    for pod in ["on-silent", "on-alive"] {
        cluster.wait_for(&pods, pod, is_running, PATIENCE).await?;
    }
    silent.falls_silent();
    // The controller has to have heard of both before.
    cluster.wait_for(&nodes, "silent", ready("True"), PATIENCE).await?;
    cluster.clock().advance(Duration::from_secs(120)).await;
    cluster.wait_for(&nodes, "silent", ready("Unknown"), PATIENCE).await?;
    let is_tainted = |node: Option<&Node>| {
        let taints = node.and_then(|node| node.spec.as_ref()?.taints.as_ref());
        taints.is_some_and(|all| {
            all.iter().any(|t| t.key == "node.kubernetes.io/unreachable" && t.effect == "NoExecute")
        })
    };
    cluster.wait_for(&nodes, "silent", is_tainted, PATIENCE).await?;
    // Pods tolerate that for five minutes, by default.
    cluster.clock().advance(Duration::from_secs(310)).await;
    let is_deleting = |pod: Option<&Pod>| pod.is_some_and(|pod| pod.metadata.deletion_timestamp.is_some());
    cluster.wait_for(&pods, "on-silent", is_deleting, PATIENCE).await?;
    assert!(ready("True")(Some(&nodes.get("alive").await?)));
    assert!(pods.get("on-alive").await?.metadata.deletion_timestamp.is_none());
    // It is back, and lets its pod go.
    silent.comes_back().await;
    cluster.wait_for(&nodes, "silent", ready("True"), PATIENCE).await?;
    cluster.wait_for(&pods, "on-silent", is_gone, PATIENCE).await?;
    assert_eq!(pods.list(&ListParams::default()).await?.items.len(), 1);
    cluster.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_day_goes_by_and_no_node_is_given_up() -> Tested {
    let cluster = Cluster::start().await?;
    cluster.node("n1").ready().await?;
    let nodes: Api<Node> = Api::all(cluster.client());
    let before = cluster.clock().now();
    cluster.clock().advance(Duration::from_hours(3)).await;
    assert!(cluster.clock().now().duration_since(before)? >= Duration::from_hours(3));
    let node = nodes.get("n1").await?;
    assert!(ready("True")(Some(&node)));
    let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
    assert!(taints.is_empty(), "{taints:?}");
    cluster.stop().await?;
    Ok(())
}
