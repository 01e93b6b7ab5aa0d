//! The pod's volumes: directories that are filled before its containers run, and files renewed while they do.
//!
//! Files of ConfigMaps, Secrets and tokens are written as upstream's atomic writer does: into a new directory that a
//! link `..data` then points to in one step, so that a reader never sees half of a change.
//!
//! Everything is owned as the pod's containers need it: ids of a container are shifted (`xebec_sandbox::config::host_id`).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, ServiceAccount, Volume, VolumeProjection,
};
use kube::api::{Api, PostParams};
use xebec_sandbox::config::host_id;

use super::env::{Addresses, field_value, resource_value};
use super::plan;
use crate::host::{Host, PodDir};

/// Files of one volume: their paths below it, contents and modes.
type Files = BTreeMap<String, (Vec<u8>, u32)>;

/// How many bytes all files of a volume may have together.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// Why a volume cannot be filled.
#[derive(Debug, thiserror::Error)]
pub(super) enum VolumeError {
    /// The API says no, or cannot be asked.
    #[error("{what}: {source}")]
    Api {
        /// What was asked for.
        what: String,
        /// The answer.
        source: kube::Error,
    },
    /// A key that a volume names is not there.
    #[error("{what} has no key {key:?}")]
    NoKey {
        /// Which object.
        what: String,
        /// The key.
        key: String,
    },
    /// A file name that leads out of the volume.
    #[error("the path {0:?} must be relative and must not contain '..'")]
    Path(String),
    /// A field that cannot be shown in a file.
    #[error(transparent)]
    Field(#[from] super::env::EnvError),
    /// The disk says no.
    #[error("writing {path}")]
    Disk {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// More than a volume may hold.
    #[error("the files have more than {MAX_BYTES} bytes together")]
    TooLarge,
    /// A kind of volume that this node does not know.
    #[error(
        "volume {0:?} is of a kind that this node does not support (it knows emptyDir, configMap, secret, downwardAPI and projected)"
    )]
    Unsupported(String),
}

fn disk(path: &Path) -> impl FnOnce(io::Error) -> VolumeError {
    let path = path.to_owned();
    move |source| VolumeError::Disk { path, source }
}

/// The pod's volumes by name, filled, and after how many seconds files want to be renewed.
///
/// # Errors
/// [`VolumeError`] for the first volume that cannot be filled.
pub(super) async fn set_up(
    host: &Host,
    pod: &Pod,
    dir: &PodDir,
    addresses: &Addresses,
) -> Result<BTreeMap<String, PathBuf>, VolumeError> {
    let mut out = BTreeMap::new();
    for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
        let path = dir.volume(&volume.name);
        make_directory(&path, 0o777)?;
        if volume.empty_dir.is_none() {
            let files = files(host, pod, volume, addresses).await?;
            let target = path.clone();
            let group = pod.spec.as_ref().and_then(|s| s.security_context.as_ref()).and_then(|s| s.fs_group);
            tokio::task::spawn_blocking(move || write_files(&target, &files, group))
                .await
                .map_err(|e| VolumeError::Disk { path: path.clone(), source: io::Error::other(e) })??;
        }
        out.insert(volume.name.clone(), path);
    }
    Ok(out)
}

/// Makes a directory that the pod's root owns.
pub(super) fn make_directory(path: &Path, mode: u32) -> Result<(), VolumeError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(disk(path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(disk(path))?;
    own(path, None)
}

/// Makes the pod's root the owner; the group is the pod's, if it has one.
fn own(path: &Path, group: Option<i64>) -> Result<(), VolumeError> {
    let group = group.and_then(|g| u32::try_from(g).ok()).unwrap_or(0);
    std::os::unix::fs::lchown(path, host_id(0), host_id(group)).map_err(disk(path))
}

async fn files(host: &Host, pod: &Pod, volume: &Volume, addresses: &Addresses) -> Result<Files, VolumeError> {
    let mut out = Files::new();
    if let Some(source) = &volume.config_map {
        let mode = mode(source.default_mode);
        let items = source.items.as_deref();
        let data = config_map(host, pod, &source.name, source.optional == Some(true)).await?;
        pick(
            &mut out,
            &format!("configmap {:?}", source.name),
            data,
            items,
            mode,
            source.optional == Some(true),
        )?;
    } else if let Some(source) = &volume.secret {
        let name = source.secret_name.clone().unwrap_or_default();
        let optional = source.optional == Some(true);
        let data = secret(host, pod, &name, optional).await?;
        pick(
            &mut out,
            &format!("secret {name:?}"),
            data,
            source.items.as_deref(),
            mode(source.default_mode),
            optional,
        )?;
    } else if let Some(source) = &volume.downward_api {
        downward(&mut out, pod, source.items.iter().flatten(), mode(source.default_mode), addresses)?;
    } else if let Some(source) = &volume.projected {
        for projection in source.sources.iter().flatten() {
            project(&mut out, host, pod, projection, mode(source.default_mode), addresses).await?;
        }
    } else {
        return Err(VolumeError::Unsupported(volume.name.clone()));
    }
    let total: usize = out.values().map(|(bytes, _)| bytes.len()).sum();
    if total > MAX_BYTES { Err(VolumeError::TooLarge) } else { Ok(out) }
}

fn mode(declared: Option<i32>) -> u32 {
    declared.and_then(|m| u32::try_from(m).ok()).unwrap_or(0o644) & 0o777
}

async fn project(
    out: &mut Files,
    host: &Host,
    pod: &Pod,
    projection: &VolumeProjection,
    mode: u32,
    addresses: &Addresses,
) -> Result<(), VolumeError> {
    if let Some(source) = &projection.config_map {
        let optional = source.optional == Some(true);
        let data = config_map(host, pod, &source.name, optional).await?;
        pick(out, &format!("configmap {:?}", source.name), data, source.items.as_deref(), mode, optional)?;
    }
    if let Some(source) = &projection.secret {
        let optional = source.optional == Some(true);
        let data = secret(host, pod, &source.name, optional).await?;
        pick(out, &format!("secret {:?}", source.name), data, source.items.as_deref(), mode, optional)?;
    }
    if let Some(source) = &projection.downward_api {
        downward(out, pod, source.items.iter().flatten(), mode, addresses)?;
    }
    if let Some(source) = &projection.service_account_token {
        let token = token(host, pod, source.audience.as_deref(), source.expiration_seconds).await?;
        // Readable by whoever the container runs as, but by nobody outside of the pod.
        out.insert(safe(&source.path)?, (token.into_bytes(), mode));
    }
    Ok(())
}

fn pod_namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

type Data = BTreeMap<String, Vec<u8>>;

fn bytes(data: Option<BTreeMap<String, ByteString>>) -> Data {
    data.into_iter().flatten().map(|(k, v)| (k, v.0)).collect()
}

/// A ConfigMap's data; `None` if it is optional and not there.
pub(super) async fn config_map(
    host: &Host,
    pod: &Pod,
    name: &str,
    optional: bool,
) -> Result<Option<Data>, VolumeError> {
    let api: Api<ConfigMap> = Api::namespaced(host.client.clone(), pod_namespace(pod));
    match api.get_opt(name).await {
        Ok(Some(map)) => {
            let mut data = bytes(map.binary_data);
            data.extend(map.data.into_iter().flatten().map(|(k, v)| (k, v.into_bytes())));
            Ok(Some(data))
        }
        Ok(None) if optional => Ok(None),
        Ok(None) => Err(missing(&format!("configmap {name:?}"))),
        Err(source) => Err(VolumeError::Api { what: format!("configmap {name:?}"), source }),
    }
}

/// A Secret's data; `None` if it is optional and not there.
pub(super) async fn secret(
    host: &Host,
    pod: &Pod,
    name: &str,
    optional: bool,
) -> Result<Option<Data>, VolumeError> {
    let api: Api<Secret> = Api::namespaced(host.client.clone(), pod_namespace(pod));
    match api.get_opt(name).await {
        Ok(Some(secret)) => Ok(Some(bytes(secret.data))),
        Ok(None) if optional => Ok(None),
        Ok(None) => Err(missing(&format!("secret {name:?}"))),
        Err(source) => Err(VolumeError::Api { what: format!("secret {name:?}"), source }),
    }
}

fn missing(what: &str) -> VolumeError {
    let text = "not found";
    VolumeError::Disk { path: what.into(), source: io::Error::new(io::ErrorKind::NotFound, text) }
}

fn pick(
    out: &mut Files,
    what: &str,
    data: Option<Data>,
    items: Option<&[KeyToPath]>,
    mode: u32,
    optional: bool,
) -> Result<(), VolumeError> {
    let Some(mut data) = data else { return Ok(()) };
    let Some(items) = items.filter(|i| !i.is_empty()) else {
        for (key, value) in data {
            out.insert(safe(&key)?, (value, mode));
        }
        return Ok(());
    };
    for item in items {
        match data.remove(&item.key) {
            Some(value) => {
                let mode = item.mode.map_or(mode, |m| self::mode(Some(m)));
                out.insert(safe(&item.path)?, (value, mode));
            }
            None if optional => {}
            None => return Err(VolumeError::NoKey { what: what.into(), key: item.key.clone() }),
        }
    }
    Ok(())
}

fn downward<'a>(
    out: &mut Files,
    pod: &Pod,
    items: impl Iterator<Item = &'a DownwardAPIVolumeFile>,
    mode: u32,
    addresses: &Addresses,
) -> Result<(), VolumeError> {
    for item in items {
        let text = if let Some(field) = &item.field_ref {
            field_value(field, pod, addresses)?
        } else if let Some(resource) = &item.resource_field_ref {
            let name = resource.container_name.as_deref().unwrap_or_default();
            let all = plan::containers(pod).iter().chain(plan::init_containers(pod));
            let container = all.into_iter().find(|c| c.name == name).cloned().unwrap_or_default();
            resource_value(resource, &container)?
        } else {
            continue;
        };
        let mode = item.mode.map_or(mode, |m| self::mode(Some(m)));
        out.insert(safe(&item.path)?, (text.into_bytes(), mode));
    }
    Ok(())
}

async fn token(
    host: &Host,
    pod: &Pod,
    audience: Option<&str>,
    seconds: Option<i64>,
) -> Result<String, VolumeError> {
    let account = pod.spec.as_ref().and_then(|s| s.service_account_name.as_deref()).unwrap_or("default");
    let api: Api<ServiceAccount> = Api::namespaced(host.client.clone(), pod_namespace(pod));
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: audience.filter(|a| !a.is_empty()).map(|a| vec![a.to_owned()]),
            expiration_seconds: seconds,
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
            }),
        }),
        ..TokenRequest::default()
    };
    let what = || format!("a token of service account {account:?}");
    let answer = api.create_token_request(account, &PostParams::default(), &request).await;
    let answer = answer.map_err(|source| VolumeError::Api { what: what(), source })?;
    answer.status.and_then(|s| s.token).ok_or_else(|| missing(&what()))
}

/// A path below a volume, as it may be used.
fn safe(path: &str) -> Result<String, VolumeError> {
    let plain = Path::new(path).components().all(|c| matches!(c, Component::Normal(_)));
    let hidden = path.starts_with("..");
    if plain && !hidden && !path.is_empty() {
        Ok(path.to_owned())
    } else {
        Err(VolumeError::Path(path.to_owned()))
    }
}

/// Writes all files into a new directory, and lets `..data` and a link per file lead there. Nothing is done if they are
/// there already as they should be.
fn write_files(volume: &Path, files: &Files, group: Option<i64>) -> Result<(), VolumeError> {
    let data = volume.join("..data");
    let current = fs::read_link(&data).ok().map(|name| volume.join(name));
    if current.as_ref().is_some_and(|dir| same(dir, files)) {
        return Ok(());
    }
    let fresh = (0_u32..)
        .map(|n| volume.join(format!("..{n}")))
        .find(|p| !p.exists())
        .expect("numbers do not run out");
    make_directory(&fresh, 0o755)?;
    for (name, (bytes, mode)) in files {
        let path = fresh.join(name);
        for parent in
            path.ancestors().skip(1).take_while(|p| *p != fresh).collect::<Vec<_>>().into_iter().rev()
        {
            make_directory(parent, 0o755)?;
        }
        fs::write(&path, bytes).map_err(disk(&path))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).map_err(disk(&path))?;
        own(&path, group)?;
    }
    let next = volume.join("..data_new");
    remove_if_there(&next)?;
    std::os::unix::fs::symlink(fresh.file_name().unwrap_or_default(), &next).map_err(disk(&next))?;
    fs::rename(&next, &data).map_err(disk(&data))?;
    link_names(volume, files)?;
    match current {
        Some(old) => fs::remove_dir_all(&old).map_err(disk(&old)),
        None => Ok(()),
    }
}

/// A link in the volume for the first part of each path; links of files that are gone are removed.
fn link_names(volume: &Path, files: &Files) -> Result<(), VolumeError> {
    let wanted: std::collections::BTreeSet<&str> =
        files.keys().filter_map(|name| name.split('/').next()).collect();
    for entry in fs::read_dir(volume).map_err(disk(volume))? {
        let name = entry.map_err(disk(volume))?.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !wanted.contains(name.as_ref()) {
            remove_if_there(&volume.join(name.as_ref()))?;
        }
    }
    for name in wanted {
        let link = volume.join(name);
        if fs::symlink_metadata(&link).is_err() {
            std::os::unix::fs::symlink(Path::new("..data").join(name), &link).map_err(disk(&link))?;
        }
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> Result<(), VolumeError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(disk(path)(e)),
        _ => Ok(()),
    }
}

fn same(dir: &Path, files: &Files) -> bool {
    let equal =
        |(name, (bytes, _)): (&String, &(Vec<u8>, u32))| fs::read(dir.join(name)).is_ok_and(|b| b == *bytes);
    let count = walk(dir);
    count == files.len() && files.iter().all(equal)
}

/// How many files there are below a directory.
fn walk(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|e| if e.path().is_dir() { walk(&e.path()) } else { 1 }).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_in_the_volume() {
        for (path, ok) in [
            ("a", true),
            ("a/b.c", true),
            ("", false),
            ("/a", false),
            ("../a", false),
            ("a/../b", false),
            ("..data", false),
            ("./a", false),
        ] {
            assert_eq!(safe(path).is_ok(), ok, "{path}");
        }
    }

    #[test]
    fn keys_are_picked() {
        let data = || Some(Data::from([("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"2".to_vec())]));
        let item = |key: &str, path: &str| KeyToPath { key: key.into(), path: path.into(), mode: None };
        let mut out = Files::new();
        pick(&mut out, "x", data(), None, 0o644, false).expect("all");
        assert_eq!(out.len(), 2);
        let mut out = Files::new();
        pick(&mut out, "x", data(), Some(&[item("a", "d/e")]), 0o600, false).expect("one");
        assert_eq!(out, Files::from([("d/e".to_owned(), (b"1".to_vec(), 0o600))]));
        assert!(pick(&mut out, "x", data(), Some(&[item("c", "c")]), 0o600, false).is_err());
        assert!(pick(&mut out, "x", data(), Some(&[item("c", "c")]), 0o600, true).is_ok());
    }
}
