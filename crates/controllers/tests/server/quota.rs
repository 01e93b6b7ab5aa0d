//! Quotas: the server charges them, the controller counts what they limit.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota, Secret, ServiceAccount};
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::{Server, eventually, object};

async fn used(client: &Client) -> BTreeMap<String, String> {
    let quotas: Api<ResourceQuota> = Api::namespaced(client.clone(), "default");
    let status = quotas.get("q").await.unwrap().status.unwrap_or_default();
    status.used.unwrap_or_default().into_iter().map(|(name, amount)| (name, amount.0)).collect()
}

async fn until_used(client: &Client, name: &str, want: &str) {
    let what = format!("{want} of {name} in use");
    eventually(&what, async || {
        (used(client).await.get(name).map(String::as_str) == Some(want)).then_some(())
    })
    .await;
}

async fn limit(client: &Client, hard: serde_json::Value) {
    let quotas: Api<ResourceQuota> = Api::namespaced(client.clone(), "default");
    let quota = object(json!({"metadata": {"name": "q"}, "spec": {"hard": hard}}));
    quotas.create(&PostParams::default(), &quota).await.unwrap();
}

fn secret(name: &str) -> Secret {
    object(json!({"metadata": {"name": name}}))
}

#[tokio::test]
async fn a_quota_is_never_exceeded_and_what_goes_is_given_back() {
    let server = Server::start().await;
    let running = server.controllers(Duration::ZERO);
    let client = &server.client.clone();
    limit(client, json!({"secrets": "5", "count/configmaps": "100"})).await;
    until_used(client, "secrets", "0").await;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "default");
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    secrets.create(&dry, &secret("tried")).await.unwrap();
    let post = PostParams::default();
    let all: Vec<Secret> = (0..20).map(|n| secret(&format!("s{n}"))).collect();
    let made = join_all(all.iter().map(|secret| secrets.create(&post, secret))).await;
    assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 5);
    assert_eq!(used(client).await["secrets"], "5", "charged in the same transaction");
    for refused in made.into_iter().filter_map(Result::err) {
        let kube::Error::Api(status) = refused else { panic!("{refused}") };
        assert_eq!((status.code, status.reason.as_str()), (403, "Forbidden"));
        let text =
            "is forbidden: exceeded quota: q, requested: secrets=1, used: secrets=5, limited: secrets=5";
        assert!(status.message.ends_with(text), "{}", status.message);
    }
    let dry = secrets.create(&dry, &secret("tried")).await;
    assert!(dry.is_err(), "what is only tried is refused too");
    let there = secrets.list(&Default::default()).await.unwrap();
    let name = there.items[0].metadata.name.clone().unwrap();
    secrets.delete(&name, &DeleteParams::default()).await.unwrap();
    until_used(client, "secrets", "4").await;
    secrets.create(&post, &secret("again")).await.unwrap();
    server.end(running).await;
}

#[tokio::test]
async fn pods_must_say_what_is_limited_and_count_until_they_end() {
    let server = Server::start().await;
    let running = server.controllers(Duration::ZERO);
    let client = &server.client.clone();
    limit(client, json!({"pods": "2", "requests.cpu": "1"})).await;
    until_used(client, "pods", "0").await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
    eventually("the default account", async || accounts.get_opt("default").await.unwrap()).await;
    let post = PostParams::default();
    let pod = |name: &str, requests: serde_json::Value| -> Pod {
        object(json!({"metadata": {"name": name}, "spec": {"containers": [
            {"name": "c", "image": "i", "resources": {"requests": requests}}
        ]}}))
    };
    let refused = pods.create(&post, &pod("silent", json!({}))).await.unwrap_err().to_string();
    assert!(refused.contains("failed quota: q: must specify requests.cpu for: c"), "{refused}");
    pods.create(&post, &pod("a", json!({"cpu": "600m"}))).await.unwrap();
    let refused = pods.create(&post, &pod("b", json!({"cpu": "600m"}))).await.unwrap_err().to_string();
    let text =
        "exceeded quota: q, requested: requests.cpu=600m, used: requests.cpu=600m, limited: requests.cpu=1";
    assert!(refused.contains(text), "{refused}");
    let ended = Patch::Merge(json!({"status": {"phase": "Succeeded"}}));
    pods.patch_status("a", &PatchParams::default(), &ended).await.unwrap();
    until_used(client, "requests.cpu", "0").await;
    until_used(client, "pods", "0").await;
    pods.create(&post, &pod("b", json!({"cpu": "600m"}))).await.unwrap();
    server.end(running).await;
}
