//! A file that tells kubectl and others where the cluster is, and who they are.

use base64::Engine as _;
use xebec_api::object;
use xebec_server::auth::keys::{ClusterKeys, KeyError};

/// A kubeconfig for the server at `url`, in which its user is an administrator. It holds a private key.
///
/// # Errors
/// The authority cannot sign a certificate for the administrator.
pub fn administrator(keys: &ClusterKeys, url: &str) -> Result<String, KeyError> {
    let admin = keys.client("xebec-admin", Some("system:masters"))?;
    let encode = |pem: &str| base64::engine::general_purpose::STANDARD.encode(pem);
    let name = "xebec";
    let config = object!({
        "apiVersion": "v1", "kind": "Config", "preferences": {}, "current-context": name,
        "clusters": [{"name": name, "cluster": {
            "server": url, "certificate-authority-data": (encode(keys.ca_pem()))
        }}],
        "users": [{"name": name, "user": {
            "client-certificate-data": (encode(&admin.certificate_pem)),
            "client-key-data": (encode(&admin.key_pem))
        }}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": "default"}}]
    });
    // JSON is YAML; kubectl reads both.
    Ok(serde_json::to_string_pretty(&config).expect("a tree of text is JSON"))
}
