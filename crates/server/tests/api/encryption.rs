//! The keys of encryption at rest are changed while the server runs.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use tower::ServiceExt as _;
use xebec_api::{Value, json, object};
use xebec_server::auth::User;
use xebec_server::auth::keys::ClusterKeys;
use xebec_server::auth::user::MASTERS;
use xebec_server::config::Settings;
use xebec_server::core::SystemClock;
use xebec_server::encryption::{Coverage, EncryptionKeys, Rotated};
use xebec_server::nodes::NoNodes;
use xebec_server::server::{ApiServer, Parts};
use xebec_store::{AesGcmSealer, Embedded, EmbeddedOptions, Encryption, SealKeyId};

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn keys(dir: &Path) -> ClusterKeys {
    ClusterKeys::open(&dir.join("pki"), &ring::rand::SystemRandom::new()).expect("keys")
}

fn coverage() -> Coverage {
    Coverage::read(
        "{apiVersion: apiserver.config.k8s.io/v1, kind: EncryptionConfiguration, \
         resources: [{resources: [configmaps], providers: [{aesgcm: {}}]}]}",
    )
    .expect("a configuration")
}

fn options(encryption: Encryption) -> EmbeddedOptions {
    EmbeddedOptions { encryption: Some(encryption), ..EmbeddedOptions::default() }
}

async fn start(dir: &Path) -> (ApiServer, EncryptionKeys) {
    let keys = keys(dir);
    let encryption = keys.encryption().covering(coverage());
    let store = Embedded::open(&dir.join("store"), options(encryption.encryption())).expect("it opens");
    let parts = Parts {
        store: Arc::new(store),
        nodes: Arc::new(NoNodes),
        clock: Arc::new(SystemClock),
        settings: Settings::default(),
    };
    let server = ApiServer::new(parts, &keys).expect("usable keys");
    server.start().await.expect("it starts");
    (server, encryption)
}

async fn stop(server: ApiServer) {
    server.stop().await;
    server.core().store.shutdown().await;
}

async fn send(server: &ApiServer, method: Method, path: &str, object: Option<&Value>) -> (u16, Value) {
    let admin = server.local(User::component("admin", &[MASTERS]));
    let body = object.map(json::to_vec).unwrap_or_default();
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    let request = request.body(Full::new(Bytes::from(body))).expect("a request");
    let answer = admin.oneshot(request).await.expect("an answer");
    let code = answer.status().as_u16();
    let body = answer.into_body().collect().await.expect("a body").to_bytes();
    (code, json::from_slice(&body).expect("JSON"))
}

async fn made(server: &ApiServer, path: &str, name: &str) -> Value {
    let object = object!({"metadata": {"name": name}});
    let (code, made) = send(server, Method::POST, path, Some(&object)).await;
    assert_eq!(code, 201, "{made:?}");
    made
}

/// The numbers of the keys that there are.
fn key_files(dir: &Path) -> Vec<String> {
    let files = std::fs::read_dir(dir.join("pki")).expect("a directory");
    let names = files.map(|file| file.expect("an entry").file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("encryption")).collect();
    names.sort();
    names
}

#[tokio::test]
async fn everything_is_sealed_anew_and_older_keys_go() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let (server, encryption) = start(dir).await;
    let first = std::fs::read(dir.join("pki/encryption.key")).expect("the first key");
    for n in 0..100 {
        made(&server, SECRETS, &format!("s{n}")).await;
    }
    let map = made(&server, MAPS, "m").await;
    let rotated = server.rotate_encryption(&encryption).await.expect("changed");
    assert_eq!(rotated, Rotated { key: 2, values: 102, removed: 1 });
    assert_eq!(key_files(dir), ["encryption-2.key"]);
    let (_, same) = send(&server, Method::GET, &format!("{MAPS}/m"), None).await;
    assert_eq!(same.at(&["metadata", "uid"]), map.at(&["metadata", "uid"]));
    assert_eq!(same.at(&["metadata", "managedFields"]), map.at(&["metadata", "managedFields"]));
    made(&server, SECRETS, "late").await;
    stop(server).await;
    // The old key opens none of it, the new one all.
    let old = AesGcmSealer::new(SealKeyId(1), &first.try_into().expect("32 bytes"));
    let old = Encryption { sealer: Arc::new(old), covers: Arc::new(|_| false) };
    let refused = Embedded::open(&dir.join("store"), options(old)).map(drop).expect_err("other keys");
    assert!(format!("{refused:?}").contains("UnknownKey"), "{refused:?}");
    let (server, encryption) = start(dir).await;
    let (_, list) = send(&server, Method::GET, SECRETS, None).await;
    assert_eq!(list.array_at(&["items"]).len(), 101);
    // A change that broke off has left a key that still seals something.
    std::fs::write(dir.join("pki/encryption-7.key"), [7; 32]).expect("written");
    let rotated = server.rotate_encryption(&encryption).await.expect("changed");
    assert_eq!(rotated, Rotated { key: 8, values: 103, removed: 2 });
    assert_eq!(key_files(dir), ["encryption-8.key"]);
    stop(server).await;
    let (server, _) = start(dir).await;
    let (code, _) = send(&server, Method::GET, &format!("{SECRETS}/late"), None).await;
    assert_eq!(code, 200);
    stop(server).await;
}
