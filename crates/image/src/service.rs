//! Images as the node and the command line use them: one object that pulls, imports, lists, removes and unpacks.
//!
//! Asynchronous on the outside; everything that may block runs on the blocking pool. Whether an image should be pulled
//! (pull policy) is for the caller to decide: [`ImageService::pull`] always asks the registry, [`ImageService::get`]
//! never does.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use crate::acquired::Acquired;
use crate::archive::{self, ImportError, Source};
use crate::blocking::blocking;
use crate::config::{ChainId, ConfigError, ContainerDefaults, ImageConfig, ImageId};
use crate::digest::Digest;
use crate::images::{Images, IndexError, Record, Removed};
use crate::limits::Limits;
use crate::manifest::{Document, Manifest, ManifestError};
use crate::platform::Platform;
use crate::progress::Progress;
use crate::reference::Reference;
use crate::registry::{self, Client, Downloads, Keyring, PullError, PushError, RegistryConfig};
use crate::rootfs::Rootfs;
use crate::snapshot::{SnapshotError, Snapshots, UnpackPolicy, WhiteoutStyle};
use crate::store::{ContentStore, Lease, Pruned, StoreError};

/// Why an operation on images failed.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A pull.
    #[error("cannot pull {image}: {source}")]
    Pull {
        /// The image.
        image: String,
        /// Why.
        #[source]
        source: Box<PullError>,
    },
    /// A push.
    #[error("cannot push {image}: {source}")]
    Push {
        /// The image.
        image: String,
        /// Why.
        #[source]
        source: Box<PushError>,
    },
    /// An import.
    #[error("cannot import: {0}")]
    Import(#[source] Box<ImportError>),
    /// The index of images.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The content store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Unpacking.
    #[error("cannot unpack {image}: {source}")]
    Snapshot {
        /// The image.
        image: String,
        /// Why.
        #[source]
        source: Box<SnapshotError>,
    },
    /// A stored manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A stored configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// How images are kept.
#[derive(Debug, Clone)]
pub struct ServiceConfig {
    /// The directory for everything; it is made private.
    pub root: PathBuf,
    /// What images may cost.
    pub limits: Limits,
    /// How layers are unpacked.
    pub policy: UnpackPolicy,
    /// How registries are talked to.
    pub registry: RegistryConfig,
    /// Which images are taken.
    pub platform: Platform,
}

impl ServiceConfig {
    /// Defaults, for this machine.
    pub fn new(root: PathBuf) -> Self {
        Self {
            root,
            limits: Limits::default(),
            policy: UnpackPolicy::default(),
            registry: RegistryConfig::default(),
            platform: Platform::host(),
        }
    }
}

/// An image in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageInfo {
    /// Names, ids and size.
    pub record: Record,
    /// When it was made, RFC 3339.
    pub created: Option<String>,
    /// What it is for.
    pub platform: Platform,
    /// User, entry point, environment, working directory, volumes, ports, stop signal.
    pub defaults: ContainerDefaults,
}

/// What a prune removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// Blobs.
    pub blobs: Pruned,
    /// Unpacked layers.
    pub snapshots: Pruned,
}

/// All images of one node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ImageService {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: ContentStore,
    images: Images,
    snapshots: Snapshots,
    client: Client,
    downloads: Downloads,
    platform: Platform,
}

impl ImageService {
    /// Opens the images under a directory, cleaning up after a crash.
    ///
    /// # Errors
    /// When another process has them open, or the file system refuses.
    pub async fn open(config: ServiceConfig) -> Result<Self, ImageError> {
        blocking(move || {
            let store = ContentStore::open(&config.root, config.limits)?;
            let inner = Inner {
                images: Images::open(store.root())?,
                snapshots: Snapshots::open(&store, config.policy)?,
                client: Client::new(&config.registry),
                downloads: Downloads::default(),
                platform: config.platform,
                store,
            };
            Ok(Self { inner: Arc::new(inner) })
        })
        .await
    }

    /// The content store, for what is built on top.
    pub fn store(&self) -> &ContentStore {
        &self.inner.store
    }

    /// How whiteouts are kept here.
    pub fn whiteout_style(&self) -> WhiteoutStyle {
        self.inner.snapshots.style()
    }

    /// Pulls an image from its registry. Blobs that are here are not transferred again.
    ///
    /// # Errors
    /// When the registry, the network or the disk fails, or the image is not one that can run here.
    pub async fn pull(
        &self,
        image: &Reference,
        keyring: &Keyring,
        progress: Arc<dyn Progress>,
    ) -> Result<Record, ImageError> {
        let inner = &self.inner;
        let target = (&inner.store, &inner.downloads);
        let pulled = registry::pull(&inner.client, target, image, keyring, &inner.platform, &*progress).await;
        let acquired = pulled
            .map_err(|source| ImageError::Pull { image: image.familiar(), source: Box::new(source) })?;
        let names = vec![image.clone()];
        self.write_index(move |inner| inner.record(&acquired, &names)).await
    }

    /// Imports the images of an archive. With `name`, it must have exactly one, which gets that name.
    ///
    /// # Errors
    /// When the archive is not sound; nothing is kept then.
    pub async fn import(&self, source: Source, name: Option<Reference>) -> Result<Vec<Record>, ImageError> {
        self.write_index(move |inner| {
            let imported = archive::import(&inner.store, source, name.as_ref(), &inner.platform);
            let imported = imported.map_err(|error| ImageError::Import(Box::new(error)))?;
            imported.iter().map(|imported| inner.record(&imported.image, &imported.names)).collect()
        })
        .await
    }

    /// Pushes a local image under a name. Layers that came from another repository of the same registry are mounted
    /// there instead of sent.
    ///
    /// # Errors
    /// When the image is not here, or the registry or the network fails.
    pub async fn push(
        &self,
        image: &str,
        to: &Reference,
        keyring: &Keyring,
        progress: Arc<dyn Progress>,
    ) -> Result<(), ImageError> {
        let inner = &self.inner;
        let record = inner.images.find(image)?;
        let names = record.digests.iter().chain(&record.tags);
        let from =
            names.into_iter().find(|name| name.registry() == to.registry() && name.name() != to.name());
        let pushed =
            registry::push(&inner.client, &inner.store, &record.manifest, (to, from), keyring, &*progress);
        let failed = |source| ImageError::Push { image: to.familiar(), source: Box::new(source) };
        pushed.await.map_err(failed)
    }

    /// Every image.
    pub fn list(&self) -> Vec<Record> {
        self.inner.images.list()
    }

    /// Finds an image by exactly this name.
    pub fn get(&self, name: &Reference) -> Option<Record> {
        self.inner.images.get(name)
    }

    /// Finds an image by name, digest, id, or the beginning of an id.
    ///
    /// # Errors
    /// When there is none, or several.
    pub fn resolve(&self, text: &str) -> Result<Record, ImageError> {
        Ok(self.inner.images.find(text)?)
    }

    /// Everything about an image.
    ///
    /// # Errors
    /// When it is not here, or its stored documents are damaged.
    pub async fn info(&self, text: &str) -> Result<ImageInfo, ImageError> {
        let (record, inner) = (self.resolve(text)?, Arc::clone(&self.inner));
        blocking(move || {
            let (_, config) = inner.documents(&record)?;
            let (platform, created) = (config.platform(), config.created);
            Ok(ImageInfo { record, created, platform, defaults: config.config })
        })
        .await
    }

    /// Gives one more name to an image.
    ///
    /// # Errors
    /// When it is not here, or the index cannot be written.
    pub async fn tag(&self, text: &str, name: &Reference) -> Result<Record, ImageError> {
        let (text, name) = (text.to_owned(), name.clone());
        self.write_index(move |inner| Ok(inner.images.tag(&text, &name)?)).await
    }

    /// Removes a name, and with its last name the image. Content stays on the disk until [`ImageService::prune`].
    ///
    /// # Errors
    /// When it is not here, or the index cannot be written.
    pub async fn remove(&self, text: &str) -> Result<Removed, ImageError> {
        let text = text.to_owned();
        self.write_index(move |inner| Ok(inner.images.remove(&text)?)).await
    }

    /// Makes sure that an image is unpacked, and says what a container needs of it.
    ///
    /// # Errors
    /// When a layer is missing, damaged or hostile, or the disk is full.
    pub async fn ensure_snapshot(
        &self,
        image: &Record,
        progress: Arc<dyn Progress>,
    ) -> Result<Rootfs, ImageError> {
        let (record, inner) = (image.clone(), Arc::clone(&self.inner));
        blocking(move || {
            let (manifest, config) = inner.documents(&record)?;
            let chain = config.chain_ids();
            let leases = inner.hold(&chain);
            let layers = inner.snapshots.ensure(&manifest, &config, &*progress);
            let layers = layers.map_err(|source| {
                let name = record.tags.iter().chain(&record.digests).next();
                let image = name.map_or_else(|| record.id.to_string(), Reference::familiar);
                ImageError::Snapshot { image, source: Box::new(source) }
            })?;
            Ok(Rootfs {
                id: record.id,
                lowerdirs: layers.lowerdirs,
                chain,
                defaults: config.config,
                warnings: layers.warnings,
                leases: Arc::new(leases),
            })
        })
        .await
    }

    /// Protects the snapshots of a chain that a container from before a restart still uses.
    pub fn hold(&self, chain: &[ChainId]) -> Vec<Lease> {
        self.inner.hold(chain)
    }

    /// Removes blobs and snapshots that no image refers to and nothing in progress uses.
    ///
    /// # Errors
    /// When a stored document is damaged (what it refers to is unknown then), or the file system refuses.
    pub async fn prune(&self) -> Result<PruneReport, ImageError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let snapshots = inner.snapshots.prune(|| inner.referenced())?;
            let blobs = inner.store.prune(|| inner.referenced())?;
            Ok(PruneReport { blobs, snapshots })
        })
        .await
    }

    async fn write_index<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, ImageError> + Send + 'static,
    ) -> Result<T, ImageError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || work(&inner)).await
    }
}

impl Inner {
    /// Enters an image into the index.
    fn record(&self, acquired: &Acquired, names: &[Reference]) -> Result<Record, ImageError> {
        let digests = names.iter().map(|name| name.with_digest(acquired.target.clone())).collect();
        let tags = names.iter().filter(|name| name.digest().is_none()).cloned().collect();
        Ok(self.images.put(Record {
            id: acquired.id.clone(),
            manifest: acquired.manifest.digest().clone(),
            target: acquired.target.clone(),
            size: acquired.manifest.value().content_bytes(),
            tags,
            digests,
        })?)
    }

    /// An image's manifest and configuration, verified.
    fn documents(&self, record: &Record) -> Result<(Manifest, ImageConfig), ImageError> {
        let limits = self.store.limits();
        let bytes = self.store.read(&record.manifest, "manifest_bytes", limits.manifest_bytes)?;
        let Document::Manifest(manifest) = Document::parse(bytes.bytes(), None)? else {
            return Err(ManifestError::Neither.into());
        };
        let ImageId(id) = &record.id;
        let bytes = self.store.read(id, "config_bytes", limits.config_bytes)?;
        let config = ImageConfig::parse(bytes.bytes())?;
        Ok((*manifest, config))
    }

    /// Digests of everything that the images refer to, chains of layers included.
    fn referenced(&self) -> Result<BTreeSet<Digest>, ImageError> {
        let mut keep = BTreeSet::new();
        for record in self.images.list() {
            let (manifest, config) = self.documents(&record)?;
            keep.extend(config.chain_ids().iter().map(|chain| chain.digest().clone()));
            keep.extend(record.digests.iter().filter_map(Reference::digest).cloned());
            keep.extend(manifest.layers.into_iter().map(|layer| layer.digest));
            keep.extend([record.manifest, record.target, record.id.0]);
        }
        Ok(keep)
    }

    fn hold(&self, chain: &[ChainId]) -> Vec<Lease> {
        chain.iter().map(|chain| self.store.lease(chain.digest())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    fn may_move_between_threads<T: Send>(_: T) {}

    #[test]
    fn operations_run_on_any_thread() {
        let check = |service: &ImageService, image: &Reference| {
            let keyring = Keyring::default();
            may_move_between_threads(service.pull(image, &keyring, Arc::new(Silent)));
            may_move_between_threads(service.push("", image, &keyring, Arc::new(Silent)));
        };
        let _compiles = check;
    }
}
