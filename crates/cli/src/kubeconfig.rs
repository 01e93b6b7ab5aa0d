//! The administrator's kubeconfig.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use xebec_api::object;
use xebec_server::auth::keys::{ClusterKeys, write_file};

use crate::args::Place;
use crate::layout::Layout;
use crate::output;

/// Prints it.
pub(crate) fn print(place: &Place) -> Result<ExitCode> {
    let path = Layout::find(place)?.kubeconfig();
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!(
            "reading {}: a cluster that was started here has one; start it with: xebec up",
            path.display()
        )
    })?;
    output::print(text.trim_end())?;
    Ok(ExitCode::SUCCESS)
}

/// Writes it, with mode 0600, for the server at `url`.
pub(crate) fn write(layout: &Layout, keys: &ClusterKeys, url: &str) -> Result<()> {
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
    let text = serde_json::to_vec_pretty(&config)?;
    write_file(&layout.kubeconfig(), &text)?;
    Ok(())
}
