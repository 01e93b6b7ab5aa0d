//! Controllers and scheduler on the real API server, in one process, with nodes that only pretend to run pods.
//!
//! Waiting is by watch, never by time; the bound on it only tells a hang from a slow machine.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod harness;

use harness::{Cluster, labels_of, objects};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Event, Namespace, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

fn deployment(name: &str, replicas: i32, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "image": image,
                                         "ports": [{"name": "http", "containerPort": 8080}]}]},
            },
        },
    })
}

fn is_rolled_out(deployment: &Deployment) -> bool {
    let (spec, status) = (deployment.spec.as_ref().unwrap(), deployment.status.clone().unwrap_or_default());
    let all = spec.replicas.unwrap_or(1);
    status.observed_generation == deployment.metadata.generation
        && status.updated_replicas.unwrap_or(0) == all
        && status.available_replicas.unwrap_or(0) == all
        && status.replicas.unwrap_or(0) == all
}

fn revision(deployment: &Deployment) -> String {
    deployment.metadata.annotations.as_ref().unwrap()["deployment.kubernetes.io/revision"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_rolls_out_back_and_away() {
    let cluster = Cluster::start(&["n1", "n2"]).await;
    let (deployments, sets, pods) = cluster.apis::<Deployment, ReplicaSet, Pod>("default");
    cluster.create("default", &deployment("web", 4, "v1")).await;
    let first = cluster.until(&deployments, "web", is_rolled_out).await;
    assert_eq!(revision(&first), "1");

    let image = |image: &str| json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
    cluster.patch(&deployments, "web", &image("v2")).await;
    let second =
        cluster.until(&deployments, "web", |d| is_rolled_out(d) && d.metadata.generation == Some(2)).await;
    assert_eq!(revision(&second), "2");
    cluster.patch(&deployments, "web", &image("v1")).await;
    let third =
        cluster.until(&deployments, "web", |d| is_rolled_out(d) && d.metadata.generation == Some(3)).await;
    assert_eq!(revision(&third), "3");
    let reasons: Vec<_> =
        third.status.unwrap().conditions.unwrap().into_iter().map(|c| c.reason.unwrap()).collect();
    assert!(reasons.contains(&"NewReplicaSetAvailable".to_owned()), "{reasons:?}");
    assert_eq!(objects(&sets, "").await.len(), 2, "going back takes the old ReplicaSet up again");

    cluster.patch(&deployments, "web", &json!({"spec": {"replicas": 1}})).await;
    cluster.until(&deployments, "web", |d| is_rolled_out(d) && d.metadata.generation == Some(4)).await;
    deployments.delete("web", &DeleteParams::foreground()).await.unwrap();
    cluster.until_gone(&deployments, "web").await;
    assert!(objects(&sets, "").await.is_empty(), "foreground: dependents went first");
    assert!(objects(&pods, "").await.is_empty());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_gets_its_endpoints() {
    let cluster = Cluster::start(&["n1"]).await;
    let (deployments, slices, endpoints) = cluster.apis::<Deployment, EndpointSlice, Endpoints>("default");
    cluster
        .create(
            "default",
            &json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
                    "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}}),
        )
        .await;
    cluster.create("default", &deployment("web", 3, "v1")).await;
    cluster.until(&deployments, "web", is_rolled_out).await;
    let count = |endpoints: &Endpoints| {
        endpoints.subsets.iter().flatten().flat_map(|s| s.addresses.iter().flatten()).count()
    };
    let legacy = cluster.until(&endpoints, "web", |endpoints| count(endpoints) == 3).await;
    assert_eq!(legacy.subsets.unwrap()[0].ports.as_ref().unwrap()[0].port, 8080);
    let of_service = objects(&slices, "kubernetes.io/service-name=web").await;
    let ready: usize = of_service.iter().map(|slice| slice.endpoints.iter().flatten().count()).sum();
    assert_eq!((of_service.len(), ready), (1, 3));

    let services: Api<Service> = cluster.api("default");
    services.delete("web", &DeleteParams::background()).await.unwrap();
    cluster.until_gone(&endpoints, "web").await;
    let slice = of_service[0].metadata.name.clone().unwrap();
    cluster.until_gone(&slices, &slice).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_comes_furnished_and_goes_with_everything() {
    let cluster = Cluster::start(&["n1"]).await;
    let namespaces: Api<Namespace> = Api::all(cluster.client());
    cluster
        .create_cluster(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}}))
        .await;
    let (accounts, maps, deployments) = cluster.apis::<ServiceAccount, ConfigMap, Deployment>("team");
    cluster.until(&accounts, "default", |_| true).await;
    let ca = cluster.until(&maps, "kube-root-ca.crt", |_| true).await;
    assert!(ca.data.unwrap()["ca.crt"].starts_with("-----BEGIN CERTIFICATE"));
    cluster.create("team", &deployment("web", 2, "v1")).await;
    cluster.until(&deployments, "web", is_rolled_out).await;
    let held = json!({"apiVersion": "v1", "kind": "ConfigMap",
                      "metadata": {"name": "held", "finalizers": ["example.com/hold"]}});
    cluster.create("team", &held).await;

    namespaces.delete("team", &DeleteParams::default()).await.unwrap();
    let remaining = |namespace: &Namespace| {
        let conditions = namespace.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.clone().any(|c| c.type_ == "NamespaceFinalizersRemaining" && c.status == "True")
    };
    let stuck = cluster.until(&namespaces, "team", remaining).await;
    assert_eq!(stuck.status.unwrap().phase.as_deref(), Some("Terminating"));
    cluster.patch(&maps, "held", &json!({"metadata": {"finalizers": null}})).await;
    cluster.until_gone(&namespaces, "team").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn owners_orphans_and_custom_resources_are_collected_rightly() {
    let cluster = Cluster::start(&[]).await;
    let maps: Api<ConfigMap> = cluster.api("default");
    let owner = cluster
        .create("default", &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner"}}))
        .await;
    let owned = |name: &str, kind: &str, api_version: &str, owner: &str, uid: &Value| {
        let reference = json!({"apiVersion": api_version, "kind": kind, "name": owner, "uid": uid,
                               "blockOwnerDeletion": true});
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "ownerReferences": [reference]}})
    };
    let uid = |object: &Value| object["metadata"]["uid"].clone();
    cluster.create("default", &owned("kept", "ConfigMap", "v1", "owner", &uid(&owner))).await;
    maps.delete("owner", &DeleteParams::orphan()).await.unwrap();
    cluster.until_gone(&maps, "owner").await;
    cluster.until(&maps, "kept", |map| map.metadata.owner_references.iter().flatten().count() == 0).await;
    cluster.create("default", &owned("stray", "ConfigMap", "v1", "never-was", &json!("no-such-uid"))).await;
    cluster.until_gone(&maps, "stray").await;

    cluster
        .create_cluster(&json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "widgets.example.com"},
            "spec": {"group": "example.com", "scope": "Namespaced",
                     "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
                     "versions": [{"name": "v1", "served": true, "storage": true,
                                   "schema": {"openAPIV3Schema": {"type": "object"}}}]},
        }))
        .await;
    let widget = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}});
    let widget = cluster.create_when_served("/apis/example.com/v1/namespaces/default/widgets", &widget).await;
    cluster.create("default", &owned("part", "Widget", "example.com/v1", "w", &uid(&widget))).await;
    cluster.delete_path("/apis/example.com/v1/namespaces/default/widgets/w").await;
    cluster.until_gone(&maps, "part").await;
    assert!(maps.get_opt("kept").await.unwrap().is_some());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_waits_for_room_and_says_so() {
    let cluster = Cluster::start(&["n1"]).await;
    let (pods, events, _) = cluster.apis::<Pod, Event, ConfigMap>("default");
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "large"},
                     "spec": {"nodeSelector": {"size": "large"},
                              "containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "64"}}}]}});
    let created: Pod = serde_json::from_value(pod).unwrap();
    pods.create(&PostParams::default(), &created).await.unwrap();
    let message = |pod: &Pod| {
        let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions
            .clone()
            .find(|c| c.type_ == "PodScheduled" && c.status == "False")
            .and_then(|c| c.message.clone())
    };
    let text = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.";
    cluster.until(&pods, "large", |pod| message(pod).as_deref() == Some(text)).await;
    cluster
        .until_any(&events, |event| {
            event.reason.as_deref() == Some("FailedScheduling") && event.message.as_deref() == Some(text)
        })
        .await;
    cluster.add_node("n2", &json!({"size": "large"}), "128").await;
    let bound = cluster.until(&pods, "large", |pod| pod.spec.as_ref().unwrap().node_name.is_some()).await;
    assert_eq!(bound.spec.unwrap().node_name.as_deref(), Some("n2"));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_bursts_of_replicas_are_made_once_each() {
    let names: Vec<String> = (0..10).map(|n| format!("n{n}")).collect();
    let cluster = Cluster::start(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let (deployments, pods, _) = cluster.apis::<Deployment, Pod, ConfigMap>("default");
    let started = std::time::Instant::now();
    cluster.create("default", &deployment("web", 700, "v1")).await;
    cluster
        .until(&deployments, "web", |d| d.status.as_ref().and_then(|status| status.replicas) == Some(700))
        .await;
    eprintln!("700 pods exist and are counted after {:?}", started.elapsed());
    let made = pods.list(&ListParams::default()).await.unwrap().items;
    assert_eq!(made.len(), 700);
    let hash = &labels_of(&made[0])["pod-template-hash"];
    assert!(made.iter().all(|pod| &labels_of(pod)["pod-template-hash"] == hash));
    let ready = cluster.until(&deployments, "web", is_rolled_out).await;
    let writes = ready.metadata.resource_version.unwrap();
    eprintln!("and are all available after {:?} and {writes} writes", started.elapsed());
    let patch = Patch::Merge(json!({"spec": {"replicas": 0}}));
    deployments.patch("web", &PatchParams::default(), &patch).await.unwrap();
    cluster.until(&deployments, "web", |d| is_rolled_out(d) && d.metadata.generation == Some(2)).await;
    cluster.stop().await;
}
