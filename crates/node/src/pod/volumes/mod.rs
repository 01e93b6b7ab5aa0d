//! The pod's volumes: directories that are filled before its containers run, and files renewed while they do.
//!
//! Files of ConfigMaps, Secrets, tokens and the pod's own fields follow what they are made from: the objects are watched,
//! tokens renewed, and all files of a volume change in one step ([`atomic`]).
//!
//! Everything is owned as the pod's containers need it: ids of a container are shifted (`xebec_sandbox::config::host_id`).

mod atomic;
mod owner;
mod token;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use k8s_openapi::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, EmptyDirVolumeSource, KeyToPath, Pod, Secret, Volume, VolumeProjection,
};
use kube::api::Api;

use self::owner::Owner;
use self::token::Tokens;
use super::env::{Surroundings, field_value, resource_value};
use super::plan;
use super::run::uid;
use crate::host::Host;
use crate::objects::{self, Data, Interest, Key, Kind};

/// Files of one volume by their paths below it.
type Files = BTreeMap<String, File>;

/// A file of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
struct File {
    bytes: Vec<u8>,
    mode: u32,
    /// It is not for everybody in the pod.
    secret: bool,
}

impl File {
    fn new(bytes: Vec<u8>, mode: u32) -> Self {
        Self { bytes, mode, secret: false }
    }
}

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
    /// The API has no such object.
    #[error("{} {name:?} not found", kind.as_str())]
    NoObject {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: String,
    },
    /// An object could not be looked at.
    #[error(transparent)]
    Unseen(#[from] objects::Unseen),
    /// The answer to the request for a token has none.
    #[error("the API gave no token for {0}")]
    NoToken(String),
    /// A key that a volume names is not there.
    #[error("{} {name:?} has no key {key:?}", kind.as_str())]
    NoKey {
        /// The object's kind.
        kind: Kind,
        /// Its name.
        name: String,
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
    /// An owner that there is not inside a pod.
    #[error("{field} {id} is not one of the ids that pods have here: 0 to {}", xebec_sandbox::config::POD_IDS - 1)]
    Id {
        /// The field that names it.
        field: &'static str,
        /// The id.
        id: i64,
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

/// What a pod's volumes are filled from, kept from one filling to the next.
#[derive(Default)]
pub struct Contents {
    objects: BTreeMap<Key, Interest>,
    tokens: Tokens,
}

impl Contents {
    /// Returns when something that the volumes show has changed.
    pub async fn changed(&mut self) {
        if self.objects.is_empty() {
            return std::future::pending().await;
        }
        let changes = self.objects.values_mut().map(|interest| Box::pin(interest.changed()));
        futures::future::select_all(changes).await;
    }

    /// When something is to be renewed that does not change by itself.
    #[must_use]
    pub fn renew_at(&self) -> Option<SystemTime> {
        self.tokens.renew_at()
    }

    /// The data of an object; it is watched from now on.
    async fn data(
        &mut self,
        (host, pod): (&Host, &Pod),
        kind: Kind,
        name: &str,
        optional: bool,
    ) -> Result<Option<Arc<Data>>, VolumeError> {
        let key = Key { kind, namespace: pod_namespace(pod).to_owned(), name: name.to_owned() };
        let interest = self.objects.entry(key).or_insert_with_key(|key| host.objects.watch(key.clone()));
        match interest.data().await? {
            None if !optional => Err(VolumeError::NoObject { kind, name: name.to_owned() }),
            data => Ok(data),
        }
    }
}

/// Where a volume is, as a container mounts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A directory of the node's.
    Directory {
        /// Where.
        path: PathBuf,
        /// Only the node changes it.
        read_only: bool,
    },
    /// In memory.
    Memory {
        /// Most bytes.
        size_bytes: u64,
    },
}

/// The pod's volumes by name.
pub type Places = BTreeMap<String, Place>;

/// Fills the pod's volumes, or brings them up to date.
///
/// # Errors
/// [`VolumeError`] for the first volume that cannot be filled.
pub(super) async fn set_up(
    host: &Host,
    pod: &Pod,
    around: &Surroundings,
    contents: &mut Contents,
) -> Result<Places, VolumeError> {
    let dir = host.pod_dir(uid(pod));
    let owner = Owner::of(pod)?;
    let mut out = Places::new();
    for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
        let path = dir.volume(&volume.name);
        let place = match &volume.empty_dir {
            Some(empty) if empty.medium.as_deref() == Some("Memory") => memory(empty, pod),
            Some(_) => {
                make_empty(&path, owner)?;
                Place::Directory { path, read_only: false }
            }
            None => {
                let files = files(host, pod, volume, around, contents).await?;
                let target = path.clone();
                tokio::task::spawn_blocking(move || atomic::write_files(&target, &files, owner))
                    .await
                    .map_err(|e| VolumeError::Disk { path: path.clone(), source: io::Error::other(e) })??;
                Place::Directory { path, read_only: true }
            }
        };
        out.insert(volume.name.clone(), place);
    }
    Ok(out)
}

/// Files in memory are bounded by what the volume says, else by what the pod's containers may use, else by half of the
/// machine's memory, as the kernel would have it.
fn memory(empty: &EmptyDirVolumeSource, pod: &Pod) -> Place {
    let limit = |container: &k8s_openapi::api::core::v1::Container| {
        let limits = container.resources.as_ref()?.limits.as_ref()?;
        crate::quantity::units(&limits.get("memory")?.0)
    };
    let limits: Option<u64> = plan::containers(pod).iter().map(limit).sum();
    let declared = empty.size_limit.as_ref().and_then(|q| crate::quantity::units(&q.0)).filter(|q| *q > 0);
    let half = crate::registration::memory_kib() * 1024 / 2;
    let size_bytes = [declared, limits.filter(|l| *l > 0)].into_iter().flatten().min().unwrap_or(half);
    Place::Memory { size_bytes }
}

/// An empty directory that everybody in the pod may write to; with a group, what is made in it belongs to that.
fn make_empty(path: &Path, owner: Owner) -> Result<(), VolumeError> {
    if path.exists() {
        return Ok(());
    }
    create_directory(path)?;
    owner.writable_directory(path, 0o777)
}

/// Makes a directory that the pod's root owns.
pub(super) fn make_directory(path: &Path, mode: u32) -> Result<(), VolumeError> {
    create_directory(path)?;
    Owner::default().directory(path, mode)
}

/// Makes a directory that nobody else may look into yet.
fn create_directory(path: &Path) -> Result<(), VolumeError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(disk(path))
}

async fn files(
    host: &Host,
    pod: &Pod,
    volume: &Volume,
    around: &Surroundings,
    contents: &mut Contents,
) -> Result<Files, VolumeError> {
    let mut out = Files::new();
    let of = (host, pod);
    if let Some(source) = &volume.config_map {
        let optional = source.optional == Some(true);
        let data = contents.data(of, Kind::ConfigMap, &source.name, optional).await?;
        let what = (Kind::ConfigMap, source.name.as_str());
        pick(&mut out, what, data.as_deref(), source.items.as_deref(), mode(source.default_mode), optional)?;
    } else if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or_default();
        let optional = source.optional == Some(true);
        let data = contents.data(of, Kind::Secret, name, optional).await?;
        let what = (Kind::Secret, name);
        pick(&mut out, what, data.as_deref(), source.items.as_deref(), mode(source.default_mode), optional)?;
    } else if let Some(source) = &volume.downward_api {
        downward(&mut out, pod, source.items.iter().flatten(), mode(source.default_mode), around)?;
    } else if let Some(source) = &volume.projected {
        for projection in source.sources.iter().flatten() {
            project(&mut out, of, projection, mode(source.default_mode), around, contents).await?;
        }
    } else {
        return Err(VolumeError::Unsupported(volume.name.clone()));
    }
    let total: usize = out.values().map(|file| file.bytes.len()).sum();
    if total > MAX_BYTES { Err(VolumeError::TooLarge) } else { Ok(out) }
}

fn mode(declared: Option<i32>) -> u32 {
    declared.and_then(|m| u32::try_from(m).ok()).unwrap_or(0o644) & 0o777
}

async fn project(
    out: &mut Files,
    of: (&Host, &Pod),
    projection: &VolumeProjection,
    mode: u32,
    around: &Surroundings,
    contents: &mut Contents,
) -> Result<(), VolumeError> {
    if let Some(source) = &projection.config_map {
        let optional = source.optional == Some(true);
        let data = contents.data(of, Kind::ConfigMap, &source.name, optional).await?;
        let what = (Kind::ConfigMap, source.name.as_str());
        pick(out, what, data.as_deref(), source.items.as_deref(), mode, optional)?;
    }
    if let Some(source) = &projection.secret {
        let optional = source.optional == Some(true);
        let data = contents.data(of, Kind::Secret, &source.name, optional).await?;
        let what = (Kind::Secret, source.name.as_str());
        pick(out, what, data.as_deref(), source.items.as_deref(), mode, optional)?;
    }
    if let Some(source) = &projection.downward_api {
        downward(out, of.1, source.items.iter().flatten(), mode, around)?;
    }
    if let Some(source) = &projection.service_account_token {
        let token = contents.tokens.get(of.0, of.1, source).await?;
        out.insert(safe(&source.path)?, File { bytes: token.into_bytes(), mode, secret: true });
    }
    Ok(())
}

fn pod_namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

/// A ConfigMap's or Secret's data as it is now; `None` if it is optional and not there.
pub(super) async fn read(
    host: &Host,
    pod: &Pod,
    kind: Kind,
    name: &str,
    optional: bool,
) -> Result<Option<Data>, VolumeError> {
    let client = host.client.clone();
    let read = match kind {
        Kind::ConfigMap => {
            let api: Api<ConfigMap> = Api::namespaced(client, pod_namespace(pod));
            api.get_opt(name).await.map(|found| found.map(objects::config_map))
        }
        Kind::Secret => {
            let api: Api<Secret> = Api::namespaced(client, pod_namespace(pod));
            api.get_opt(name).await.map(|found| found.map(objects::secret))
        }
    };
    match read {
        Ok(None) if !optional => Err(VolumeError::NoObject { kind, name: name.to_owned() }),
        Ok(data) => Ok(data),
        Err(source) => Err(VolumeError::Api { what: format!("{} {name:?}", kind.as_str()), source }),
    }
}

fn pick(
    out: &mut Files,
    (kind, name): (Kind, &str),
    data: Option<&Data>,
    items: Option<&[KeyToPath]>,
    mode: u32,
    optional: bool,
) -> Result<(), VolumeError> {
    let Some(data) = data else { return Ok(()) };
    let Some(items) = items.filter(|i| !i.is_empty()) else {
        for (key, value) in data {
            out.insert(safe(key)?, File::new(value.clone(), mode));
        }
        return Ok(());
    };
    for item in items {
        match data.get(&item.key) {
            Some(value) => {
                let mode = item.mode.map_or(mode, |m| self::mode(Some(m)));
                out.insert(safe(&item.path)?, File::new(value.clone(), mode));
            }
            None if optional => {}
            None => return Err(VolumeError::NoKey { kind, name: name.into(), key: item.key.clone() }),
        }
    }
    Ok(())
}

fn downward<'a>(
    out: &mut Files,
    pod: &Pod,
    items: impl Iterator<Item = &'a DownwardAPIVolumeFile>,
    mode: u32,
    around: &Surroundings,
) -> Result<(), VolumeError> {
    for item in items {
        let text = if let Some(field) = &item.field_ref {
            field_value(field, pod, around)?
        } else if let Some(resource) = &item.resource_field_ref {
            let name = resource.container_name.as_deref().unwrap_or_default();
            let all = plan::containers(pod).iter().chain(plan::init_containers(pod));
            let container = all.into_iter().find(|c| c.name == name).cloned().unwrap_or_default();
            resource_value(resource, &container, around)?
        } else {
            continue;
        };
        let mode = item.mode.map_or(mode, |m| self::mode(Some(m)));
        out.insert(safe(&item.path)?, File::new(text.into_bytes(), mode));
    }
    Ok(())
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
        let data = Data::from([("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"2".to_vec())]);
        let what = (Kind::ConfigMap, "x");
        let item = |key: &str, path: &str| KeyToPath { key: key.into(), path: path.into(), mode: None };
        let mut out = Files::new();
        pick(&mut out, what, Some(&data), None, 0o644, false).expect("all");
        assert_eq!(out.len(), 2);
        let mut out = Files::new();
        pick(&mut out, what, Some(&data), Some(&[item("a", "d/e")]), 0o600, false).expect("one");
        assert_eq!(out, Files::from([("d/e".to_owned(), File::new(b"1".to_vec(), 0o600))]));
        assert!(pick(&mut out, what, Some(&data), Some(&[item("c", "c")]), 0o600, false).is_err());
        assert!(pick(&mut out, what, Some(&data), Some(&[item("c", "c")]), 0o600, true).is_ok());
    }
}
