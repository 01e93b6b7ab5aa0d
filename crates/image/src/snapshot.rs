//! Unpacked layers: directories that an overlay mount can stack.
//!
//! ```text
//! ROOT/snapshots/<name>/fs          the layer's files; a lower directory of container roots
//! ROOT/snapshots/<name>/meta.json   which chain of layers it is and how it was unpacked
//! ```
//!
//! A snapshot belongs to a position in a chain of layers ([`ChainId`]), so images share the snapshots of the layers
//! that they have in common. Its name is derived from the chain and from how layers are unpacked here (policy and
//! whiteout style), so a changed configuration makes new snapshots and leaves those in use alone.
//!
//! Missing snapshots of an image are unpacked one after the other in temporary directories, verified (the blob's digest
//! and the uncompressed layer's), made durable by one `syncfs`, and renamed into place: a directory under `snapshots`
//! is complete. Two callers who need the same snapshot share the work.
//!
//! Unpacking needs a process that may set owners: root of a user namespace. Nothing in an archive can make it touch a
//! file outside the directory it unpacks into; see the modules `path` and `extract`.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::config::{ChainId, ConfigError, ImageConfig};
use crate::digest::Digest;
use crate::limits::Exceeded;
use crate::manifest::{Descriptor, Manifest};
use crate::progress::{Event, Progress};
use crate::store::{ContentStore, Lease, Pruned, StoreError, TempDir, sync_dir, sync_file_system};
use crate::tarball::TarError;

mod extract;
mod graft;
mod inode;
mod layer;
mod lower;
mod owner;
mod path;
mod policy;
mod probe;
mod whiteout;

pub use owner::IdShift;
pub use policy::{DevicePolicy, OwnerPolicy, Report, SetIdPolicy, UnpackPolicy, Warning};
pub use probe::detached_overlay;
pub use whiteout::WhiteoutStyle;

use layer::DescribedLayer;
use path::LayerPath;

/// Why a layer cannot be unpacked as it is.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// The archive itself is broken.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// A name that must not be used.
    #[error("refusing the entry `{path}`: its name {what}")]
    Name {
        /// The entry.
        path: String,
        /// What is wrong.
        what: &'static str,
    },
    /// The directory of a link's target is missing.
    #[error("there is no directory `{path}` in this layer")]
    NoParent {
        /// The directory.
        path: String,
    },
    /// A path goes through something else than a directory.
    #[error("`{path}` is not a directory, but an entry is to be put below it")]
    NotADirectory {
        /// The path.
        path: String,
    },
    /// Symbolic links that lead nowhere.
    #[error("too many symbolic links on the way to `{path}`")]
    Links {
        /// The path.
        path: String,
    },
    /// A hard link to something that cannot be linked.
    #[error("cannot link `{path}` to `{target}`: {what}")]
    HardLink {
        /// The new name.
        path: String,
        /// The target as written.
        target: String,
        /// Why not.
        what: String,
    },
    /// A device node, where policy refuses them.
    #[error("refusing the device node `{path}`")]
    Device {
        /// Where.
        path: String,
    },
    /// An owner without a place, where policy refuses those.
    #[error("`{path}` belongs to id {id}, which has no place in the user namespace")]
    Owner {
        /// Which.
        path: String,
        /// Whose.
        id: u64,
    },
    /// The file system failed. A full disk shows here.
    #[error("cannot {action} `{path}`: {source}")]
    Io {
        /// "create the file", ….
        action: &'static str,
        /// Inside the layer.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A bound was hit.
    #[error(transparent)]
    Limit(#[from] Exceeded),
}

impl ExtractError {
    fn io(action: &'static str, path: &LayerPath) -> impl FnOnce(rustix::io::Errno) -> Self + use<> {
        let path = path.to_string();
        move |errno| Self::Io { action, path, source: errno.into() }
    }

    fn write(path: &LayerPath, source: io::Error) -> Self {
        Self::Io { action: "write", path: path.to_string(), source }
    }
}

/// Why an image has no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// A layer cannot be unpacked.
    #[error("cannot unpack layer {layer}: {source}")]
    Extract {
        /// The layer's blob.
        layer: Digest,
        /// Why.
        #[source]
        source: ExtractError,
    },
    /// A layer is not what the image's configuration says.
    #[error("layer {layer} unpacks to {actual}, but the image says {expected}")]
    DiffId {
        /// The layer's blob.
        layer: Digest,
        /// In the configuration.
        expected: Digest,
        /// What was hashed.
        actual: Digest,
    },
    /// The content store failed, or a layer is missing or damaged.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The manifest and the configuration contradict each other.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A snapshot's description could not be written.
    #[error("cannot describe a snapshot: {0}")]
    Meta(#[from] serde_json::Error),
}

/// How layers are unpacked here; part of a snapshot's identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Recipe {
    version: u32,
    style: WhiteoutStyle,
    policy: UnpackPolicy,
}

/// `meta.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Meta {
    chain: ChainId,
    recipe: Recipe,
    report: Report,
}

/// The snapshots of one store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Snapshots {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: ContentStore,
    dir: PathBuf,
    recipe: Recipe,
    /// Names of snapshots that somebody is making.
    busy: Mutex<HashSet<String>>,
    idle: Condvar,
}

/// An image's snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layers {
    /// Topmost first, as overlayfs wants them.
    pub lowerdirs: Vec<PathBuf>,
    /// What was not unpacked as written, over all layers.
    pub warnings: Vec<String>,
}

impl Snapshots {
    /// Opens the snapshots beside the store's blobs and finds out which whiteouts work.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn open(store: &ContentStore, policy: UnpackPolicy) -> Result<Self, StoreError> {
        let style = WhiteoutStyle::probe(store)?;
        Self::with_style(store, policy, style)
    }

    /// Opens the snapshots with a given whiteout style.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn with_style(
        store: &ContentStore,
        policy: UnpackPolicy,
        style: WhiteoutStyle,
    ) -> Result<Self, StoreError> {
        let dir = store.root().join("snapshots");
        fs::create_dir_all(&dir).map_err(StoreError::io("create", &dir))?;
        let inner = Inner {
            store: store.clone(),
            dir,
            recipe: Recipe { version: 1, style, policy },
            busy: Mutex::default(),
            idle: Condvar::new(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// How whiteouts are kept.
    pub fn style(&self) -> WhiteoutStyle {
        self.inner.recipe.style
    }

    /// Makes sure that every layer of an image is unpacked. Blocks; layers that are there already cost nothing.
    ///
    /// # Errors
    /// When a layer is missing, damaged, hostile or beyond a limit. Nothing of a failed layer stays.
    pub fn ensure(
        &self,
        manifest: &Manifest,
        config: &ImageConfig,
        progress: &dyn Progress,
    ) -> Result<Layers, SnapshotError> {
        config.check_layers(manifest.layers.len())?;
        let chain = config.chain_ids();
        let _leases: Vec<Lease> = chain.iter().map(|chain| self.inner.store.lease(chain.digest())).collect();
        let mut work = Work {
            snapshots: self,
            names: chain.iter().map(|chain| self.name(chain)).collect(),
            chain,
            metas: Vec::new(),
            fresh: Vec::new(),
            claims: Vec::new(),
        };
        for (position, layer) in manifest.layers.iter().enumerate() {
            work.ensure_layer(position, layer, &config.rootfs.diff_ids[position], progress)?;
        }
        self.publish(work.fresh)?;
        drop(work.claims);
        if work.names.is_empty() {
            return Ok(Layers { lowerdirs: vec![self.empty()?], warnings: Vec::new() });
        }
        let mut lowerdirs: Vec<PathBuf> = work.names.iter().rev().map(|name| self.files(name)).collect();
        if self.style() == WhiteoutStyle::Merged {
            lowerdirs.truncate(1);
        }
        let warnings = work.metas.into_iter().flat_map(|meta| meta.report.warnings).collect();
        Ok(Layers { lowerdirs, warnings })
    }

    /// Removes snapshots of chains that are neither in `keep` nor leased.
    ///
    /// # Errors
    /// When the file system refuses; snapshots removed until then stay removed.
    pub fn prune<E: From<StoreError>>(
        &self,
        keep: impl FnOnce() -> Result<BTreeSet<Digest>, E>,
    ) -> Result<Pruned, E> {
        let sweep = self.inner.store.sweep_leases();
        let keep = keep()?;
        let dir = &self.inner.dir;
        let mut pruned = Pruned::default();
        for entry in fs::read_dir(dir).map_err(StoreError::io("list", dir))? {
            let path = entry.map_err(StoreError::io("list", dir))?.path();
            let meta = read_meta(&path)?;
            let temp = match &meta {
                Some(meta) if keep.contains(meta.chain.digest()) => None,
                Some(meta) => sweep.unless_protected(meta.chain.digest(), || self.put_aside(&path))?,
                None if path == dir.join(EMPTY) => None,
                None => Some(self.put_aside(&path)?),
            };
            if let Some(temp) = temp {
                drop(temp);
                pruned.count += 1;
                pruned.bytes += meta.map_or(0, |meta| meta.report.bytes);
            }
        }
        Ok(pruned)
    }

    /// Moves a snapshot away in one step, so that a crash leaves no half of it where it would be taken for whole.
    fn put_aside(&self, snapshot: &Path) -> Result<TempDir, StoreError> {
        let temp = self.inner.store.temp_dir("prune")?;
        let target = temp.path().join("snapshot");
        fs::rename(snapshot, &target).map_err(StoreError::io("remove", snapshot))?;
        Ok(temp)
    }

    /// The directory for images without layers: overlayfs wants at least one.
    fn empty(&self) -> Result<PathBuf, StoreError> {
        let path = self.inner.dir.join(EMPTY).join(FILES);
        fs::create_dir_all(&path).map_err(StoreError::io("create", &path))?;
        let owner = self.inner.recipe.policy.shift.apply(0);
        std::os::unix::fs::chown(&path, owner, owner).map_err(StoreError::io("set the owner of", &path))?;
        Ok(path)
    }

    /// 128 bits of a hash over chain and recipe. Short, because all lower directories must fit one page of mount
    /// options on kernels that know no other way; `meta.json` has the whole chain id to compare with.
    fn name(&self, chain: &ChainId) -> String {
        let recipe = &self.inner.recipe;
        let recipe = serde_json::to_string(recipe).expect("a recipe has only numbers and names");
        Digest::sha256(format!("{chain} {recipe}").as_bytes()).hex()[..32].to_owned()
    }

    fn files(&self, name: &str) -> PathBuf {
        self.inner.dir.join(name).join(FILES)
    }

    fn find(&self, name: &str, chain: &ChainId) -> Result<Option<Meta>, StoreError> {
        let path = self.inner.dir.join(name);
        Ok(read_meta(&path)?.filter(|meta| meta.chain == *chain && meta.recipe == self.inner.recipe))
    }

    fn publish(&self, fresh: Vec<DescribedLayer>) -> Result<(), StoreError> {
        if fresh.is_empty() {
            return Ok(());
        }
        sync_file_system(&self.inner.dir)?;
        for layer in fresh {
            let target = self.inner.dir.join(layer.name());
            // What is there without a readable description is damage, or a crash of a version that knew no better.
            crate::store::remove_tree(&target)?;
            layer.publish(&target)?;
        }
        sync_dir(&self.inner.dir)
    }

    /// Waits until nobody else makes the snapshot of this name, then keeps others from it.
    fn claim(&self, name: &str) -> Claim<'_> {
        let mut busy = self.inner.busy();
        while busy.contains(name) {
            busy = self.inner.idle.wait(busy).unwrap_or_else(PoisonError::into_inner);
        }
        busy.insert(name.to_owned());
        Claim { inner: &self.inner, name: name.to_owned() }
    }
}

const FILES: &str = "fs";
const META: &str = "meta.json";
const EMPTY: &str = "empty";

impl Inner {
    /// A set of names is consistent at every statement.
    fn busy(&self) -> MutexGuard<'_, HashSet<String>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The layers of one image on their way to snapshots.
struct Work<'a> {
    snapshots: &'a Snapshots,
    chain: Vec<ChainId>,
    names: Vec<String>,
    metas: Vec<Meta>,
    fresh: Vec<DescribedLayer>,
    claims: Vec<Claim<'a>>,
}

impl Work<'_> {
    /// Finds or unpacks the layer at `position`; those below it were done before.
    fn ensure_layer(
        &mut self,
        position: usize,
        layer: &Descriptor,
        diff_id: &Digest,
        progress: &dyn Progress,
    ) -> Result<(), SnapshotError> {
        let (name, chain) = (&self.names[position], &self.chain[position]);
        let mut found = self.snapshots.find(name, chain)?;
        if found.is_none() {
            self.claims.push(self.snapshots.claim(name));
            // Whoever had the claim before has made it by now, unless that failed.
            found = self.snapshots.find(name, chain)?;
        }
        if let Some(meta) = found {
            self.metas.push(meta);
            return Ok(());
        }
        progress.report(Event::Unpacking { layer: &layer.digest });
        let inner = &self.snapshots.inner;
        let unpacked = layer::unpack(inner, layer, diff_id, &self.below(position))?;
        self.check_size(layer, unpacked.report())?;
        let recipe = inner.recipe.clone();
        let meta = Meta { chain: chain.clone(), recipe, report: unpacked.report().clone() };
        self.fresh.push(unpacked.describe(name, &meta)?);
        self.metas.push(meta);
        Ok(())
    }

    /// Looked at when a layer was unpacked, which has a bound of its own.
    fn check_size(&self, layer: &Descriptor, report: &Report) -> Result<(), SnapshotError> {
        let below = self.metas.iter().map(|meta| meta.report.bytes);
        let total = below.fold(report.bytes, u64::saturating_add);
        let max = self.snapshots.inner.store.limits().unpacked_image_bytes;
        Exceeded::check(total, "unpacked_image_bytes", max, || "what the image's layers hold".to_owned())
            .map_err(|limit| SnapshotError::Extract { layer: layer.digest.clone(), source: limit.into() })
    }

    /// The files of the layers below a position, topmost first: published ones, or those just unpacked.
    fn below(&self, position: usize) -> Vec<PathBuf> {
        let depth = if self.snapshots.style() == WhiteoutStyle::Merged { 1 } else { usize::MAX };
        let path = |name: &String| {
            let unpublished = self.fresh.iter().find(|layer| layer.name() == name);
            unpublished.map_or_else(|| self.snapshots.files(name), DescribedLayer::files)
        };
        self.names[..position].iter().rev().take(depth).map(path).collect()
    }
}

/// The right to make one snapshot.
struct Claim<'a> {
    inner: &'a Inner,
    name: String,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.inner.busy().remove(&self.name);
        self.inner.idle.notify_all();
    }
}

/// The description of a snapshot; nothing when there is none. One that cannot be understood counts as none: the
/// snapshot is then made again.
fn read_meta(snapshot: &Path) -> Result<Option<Meta>, StoreError> {
    let path = snapshot.join(META);
    match fs::read(&path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(StoreError::io("read", &path)(error)),
    }
}
