//! Certificates for those who ask, and tokens in secrets.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use kube::api::{Api, DeleteParams, PostParams};
use rcgen::{CertificateParams, DnType, KeyPair};
use ring::rand::SystemRandom;
use serde_json::{Value, json};
use xebec_control_plane::signing::Authority;
use xebec_controllers::Keys;
use xebec_controllers::tokens::Minter;
use xebec_server::auth::keys::ClusterKeys;

use crate::{Server, eventually, object};

/// Says what it was asked to sign.
#[derive(Debug)]
struct Plain;

impl Minter for Plain {
    fn mint(&self, namespace: &str, account: &str, uid: &str, secret: &str) -> Result<String, String> {
        Ok(format!("{namespace} {account} {uid} {secret}"))
    }
}

fn request(name: &str, subject: &str, group: &str, signer: &str) -> CertificateSigningRequest {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, subject);
    params.distinguished_name.push(DnType::OrganizationName, group);
    let key = KeyPair::generate().unwrap();
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    let mut request: CertificateSigningRequest = object(json!({
        "metadata": {"name": name},
        "spec": {"request": "", "signerName": signer, "usages": ["digital signature", "client auth"]}
    }));
    request.spec.request.0 = pem.into_bytes();
    request
}

fn conditions(request: &CertificateSigningRequest) -> Vec<(String, String)> {
    let conditions = request.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.map(|c| (c.type_.clone(), c.message.clone().unwrap_or_default())).collect()
}

#[tokio::test]
async fn certificates_are_approved_and_signed() {
    let server = Server::start().await;
    let authority = Authority(Arc::new(ClusterKeys::ephemeral(&SystemRandom::new()).unwrap()));
    let keys = Keys { certificates: Some(Arc::new(authority)), accounts: None };
    let running = Server::controllers_with(&server.client, Duration::ZERO, keys);
    let requests: Api<CertificateSigningRequest> = Api::all(server.client.clone());
    // The client is a master, who may have nodes' certificates approved.
    let node =
        request("node", "system:node:a", "system:nodes", "kubernetes.io/kube-apiserver-client-kubelet");
    requests.create(&PostParams::default(), &node).await.unwrap();
    let signed = async |name: &str| {
        eventually("a certificate", async || {
            let request = requests.get(name).await.unwrap();
            let certificate = request.status.as_ref()?.certificate.clone()?;
            Some((String::from_utf8(certificate.0).unwrap(), conditions(&request)))
        })
        .await
    };
    let (pem, told) = signed("node").await;
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----"), "{pem}");
    assert_eq!(told[0].1, "Auto approving kubelet client certificate after SubjectAccessReview.");

    for (name, group) in [("jane", "dev"), ("bob", "ops")] {
        let asked = request(name, name, group, "kubernetes.io/kube-apiserver-client");
        requests.create(&PostParams::default(), &asked).await.unwrap();
    }
    let serving = request("serving", "system:node:a", "system:nodes", "kubernetes.io/kubelet-serving");
    requests.create(&PostParams::default(), &serving).await.unwrap();
    for name in ["jane", "serving"] {
        let mut approved = requests.get(name).await.unwrap();
        approved.status =
            Some(object(json!({"conditions": [{"type": "Approved", "status": "True", "reason": "a"}]})));
        requests.replace_subresource("approval", name, &PostParams::default(), &approved).await.unwrap();
    }
    signed("jane").await;
    let told = eventually("a refusal", async || {
        conditions(&requests.get("serving").await.unwrap()).into_iter().find(|(type_, _)| type_ == "Failed")
    })
    .await;
    assert_eq!(told.1, "DNS or IP subjectAltName is required");
    assert_eq!(conditions(&requests.get("bob").await.unwrap()), [], "nobody approved it");
    server.end(running).await;
}

#[tokio::test]
async fn old_requests_and_tokens_go() {
    let server = Server::start().await;
    let requests: Api<CertificateSigningRequest> = Api::all(server.client.clone());
    let asked = request("jane", "jane", "dev", "kubernetes.io/kube-apiserver-client");
    requests.create(&PostParams::default(), &asked).await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(server.client.clone(), "kube-system");
    let token = |id: &str, end: &str| {
        object::<Secret>(json!({
            "metadata": {"name": format!("bootstrap-token-{id}")}, "type": "bootstrap.kubernetes.io/token",
            "stringData": {
                "token-id": id, "token-secret": "0123456789abcdef", "usage-bootstrap-signing": "true", "expiration": end
            }
        }))
    };
    for (id, end) in [("abcdef", "2001-01-01T00:00:00Z"), ("ghijkl", "2999-01-01T00:00:00Z")] {
        secrets.create(&PostParams::default(), &token(id, end)).await.unwrap();
    }
    let infos: Api<ConfigMap> = Api::namespaced(server.client.clone(), "kube-public");
    let info: ConfigMap = object(json!({"metadata": {"name": "cluster-info"}, "data": {"kubeconfig": "a"}}));
    infos.create(&PostParams::default(), &info).await.unwrap();
    let running = server.controllers(Duration::from_hours(25));
    eventually("the request goes", async || requests.get_opt("jane").await.unwrap().is_none().then_some(()))
        .await;
    let gone = async || secrets.get_opt("bootstrap-token-abcdef").await.unwrap().is_none().then_some(());
    eventually("the token goes", gone).await;
    assert!(secrets.get_opt("bootstrap-token-ghijkl").await.unwrap().is_some());
    eventually("the cluster's kubeconfig is signed", async || {
        let data = infos.get("cluster-info").await.unwrap().data.unwrap();
        let signed: Vec<&String> = data.keys().filter(|key| key.starts_with("jws-kubeconfig-")).collect();
        (signed == ["jws-kubeconfig-ghijkl"]).then_some(())
    })
    .await;
    server.end(running).await;
}

#[tokio::test]
async fn secrets_of_accounts_are_filled_and_go_with_them() {
    let server = Server::start().await;
    let keys = Keys { certificates: None, accounts: Some(Arc::new(Plain)) };
    let running = Server::controllers_with(&server.client, Duration::ZERO, keys);
    let accounts: Api<ServiceAccount> = Api::default_namespaced(server.client.clone());
    let account: ServiceAccount = object(json!({"metadata": {"name": "robot"}}));
    let account = accounts.create(&PostParams::default(), &account).await.unwrap();
    let secrets: Api<Secret> = Api::default_namespaced(server.client.clone());
    for (name, of) in [("token", "robot"), ("lost", "nobody")] {
        let secret: Secret = object(json!({
            "metadata": {"name": name, "annotations": {"kubernetes.io/service-account.name": of}},
            "type": "kubernetes.io/service-account-token"
        }));
        secrets.create(&PostParams::default(), &secret).await.unwrap();
    }
    let filled = eventually("the secret is filled", async || {
        secrets.get("token").await.unwrap().data.filter(|data| data.contains_key("token"))
    })
    .await;
    let texts: Vec<Value> = ["ca.crt", "namespace", "token"]
        .map(|key| json!(String::from_utf8(filled[key].0.clone()).unwrap()))
        .into();
    let token = format!("default robot {} token", account.metadata.uid.unwrap());
    assert_eq!(json!(texts), json!(["no certificate", "default", token]));
    eventually("the lost one goes", async || secrets.get_opt("lost").await.unwrap().is_none().then_some(()))
        .await;
    accounts.delete("robot", &DeleteParams::default()).await.unwrap();
    eventually("it goes with its account", async || {
        secrets.get_opt("token").await.unwrap().is_none().then_some(())
    })
    .await;
    server.end(running).await;
}
