//! Reads the Go markers that `k8s-pb` keeps in the comments of its messages: the declared defaults.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

/// Defaults as JSON text, by the names of definition and property, both as [`join_name`] makes them.
pub(super) type Defaults = BTreeMap<(String, String), String>;

/// Constants that `+default=ref(NAME)` names.
const CONSTANTS: &[(&str, &str)] =
    &[("AzureDataDiskCachingReadWrite", "\"ReadWrite\""), ("AzureSharedBlobDisk", "\"Shared\"")];

/// Defaults of fields that Go leaves out when they have their zero value, which these are: setting them changes nothing
/// that a client of Kubernetes sees, so Xebec does not set them.
const INVISIBLE: &[(&str, &str)] = &[
    ("io.k8s.api.core.v1.ReplicationControllerSpec", "minReadySeconds"),
    ("io.k8s.api.autoscaling.v1.ScaleSpec", "replicas"),
];

/// Reads all messages under `src`.
pub(super) fn read_defaults(src: &Path) -> Result<Defaults> {
    let mut defaults = Defaults::new();
    for (package, text) in modules(src)? {
        read_module(&package, &text, &mut defaults).with_context(|| format!("in {package}"))?;
    }
    for (definition, field) in INVISIBLE {
        let key = (join_name(definition), join_name(field));
        ensure!(defaults.remove(&key).is_some(), "{definition} {field} declares no default any more");
    }
    Ok(defaults)
}

/// `api/core/v1/mod.rs` → `io.k8s.api.core.v1`.
fn package(src: &Path, path: &Path) -> Result<String> {
    let dir: PathBuf = path.parent().context("a module lies in a directory")?.strip_prefix(src)?.to_owned();
    let parts: Vec<String> = dir.iter().map(|p| p.to_string_lossy().replace('_', "-")).collect();
    Ok(format!("io.k8s.{}", parts.join(".")))
}

/// The packages of messages under `src`, each with its source.
pub(super) fn modules(src: &Path) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut open = vec![src.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.file_name().is_some_and(|n| n == "mod.rs") {
                let text =
                    std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
                found.push((package(src, &path)?, text));
            }
        }
    }
    Ok(found)
}

fn read_module(package: &str, text: &str, defaults: &mut Defaults) -> Result<()> {
    let (mut message, mut pending) = (String::new(), None);
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("pub struct ") {
            message = rest.split([' ', '{']).next().unwrap_or_default().to_owned();
        } else if let Some(value) = line.strip_prefix("/// +default=") {
            pending = Some(json(value)?);
        } else if let Some((name, _)) = line.strip_prefix("pub ").and_then(|l| l.split_once(':'))
            && let Some(value) = pending.take()
        {
            defaults.insert((join_name(&format!("{package}.{message}")), join_name(name)), value);
        }
    }
    Ok(())
}

fn json(marker: &str) -> Result<String> {
    if let Some(name) = marker.strip_prefix("ref(").and_then(|m| m.strip_suffix(')')) {
        let Some((_, value)) = CONSTANTS.iter().find(|(n, _)| *n == name) else {
            bail!("the default ref({name}) names a constant whose value codegen does not know");
        };
        return Ok((*value).to_owned());
    }
    serde_json::from_str::<serde_json::Value>(marker)
        .with_context(|| format!("the default {marker} is JSON"))?;
    Ok(marker.to_owned())
}

/// What a name in Rust (`IscsiVolumeSource`, `fs_type`) and the published one (`ISCSIVolumeSource`, `fsType`) share.
pub(super) fn join_name(name: &str) -> String {
    name.trim_start_matches("r#").replace(['_', '-', '$'], "").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_both_worlds_meet() {
        let check = |rust: &str, published: &str| assert_eq!(join_name(rust), join_name(published));
        check("IscsiVolumeSource", "ISCSIVolumeSource");
        check("fs_type", "fsType");
        check("r#type", "type");
        check("r#ref", "$ref");
        check("x_kubernetes_int_or_string", "x-kubernetes-int-or-string");
    }

    #[test]
    fn defaults_are_json_or_known_constants() {
        assert_eq!(json("\"TCP\"").ok().as_deref(), Some("\"TCP\""));
        assert_eq!(json("ref(AzureSharedBlobDisk)").ok().as_deref(), Some("\"Shared\""));
        assert!(json("ref(Unheard)").is_err());
        assert!(json("TCP").is_err());
    }
}
