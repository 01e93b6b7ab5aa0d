//! Images in files: OCI image layouts (tar or directory) and what `docker save` writes.
//!
//! An import reads everything into temporary files, checks it as a whole (every digest and size, each image's manifest
//! and configuration, that layers are where they are said to be), and only then publishes the blobs to the content
//! store. A failed import leaves nothing. What is not referenced by an image for this platform is left out.
//!
//! Formats: OCI image layout 1.1 with `oci-layout` and `index.json`; `docker save` with `manifest.json`, in the old
//! form (a directory per layer) and the new one, which is both at once. Names come from the annotations
//! `io.containerd.image.name` and `org.opencontainers.image.ref.name` and from `RepoTags`, or from the caller. The
//! archive may be plain, gzip or zstd.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;

use crate::acquired::Acquired;
use crate::compress::{self, Compression};
use crate::config::{ConfigError, ImageConfig, ImageId};
use crate::digest::{Digest, DigestError};
use crate::limits::Exceeded;
use crate::manifest::{Descriptor, Document, Index, Manifest, ManifestError, null_default};
use crate::media::{self, DocumentKind};
use crate::platform::Platform;
use crate::quote::{JsonError, clip};
use crate::reference::{Reference, ReferenceError};
use crate::store::{ContentStore, Expected, Lease, StagedBlob, StoreError, Verified};
use crate::tarball::TarError;

mod builder;
mod stage;

pub use builder::{Builder, Built, Layer, LayerBuilder};
pub use stage::Source;

use stage::Stage;

/// Annotation of an index entry: the image's whole name.
pub const ANNOTATION_CONTAINERD_NAME: &str = "io.containerd.image.name";
/// Annotation of an index entry: the image's name or only its tag.
pub const ANNOTATION_REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Indexes inside indexes.
const MAX_NESTING: u32 = 3;

/// Why an archive is not imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The archive cannot be read.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// A doubtful entry.
    #[error("refusing the archive: `{path}` {what}")]
    Entry {
        /// The entry.
        path: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A blob does not match, or the disk is full.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A manifest is unusable.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A configuration is unusable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// `manifest.json` is malformed.
    #[error("the archive's manifest.json is malformed: {0}")]
    DockerManifest(#[source] JsonError),
    /// Neither layout.
    #[error("this is no image archive: it has neither `index.json` (OCI) nor `manifest.json` (docker save)")]
    NoImages,
    /// Only images for other machines.
    #[error("the archive has no image for {wanted}")]
    Platform {
        /// This machine's platform.
        wanted: String,
    },
    /// Something that is referenced is not there.
    #[error("the archive is incomplete: `{path}` is missing")]
    Missing {
        /// Its name in the archive.
        path: String,
    },
    /// A layer is not the one that the configuration means.
    #[error("layer `{path}` has digest {actual}, but the image configuration says {expected}")]
    DiffId {
        /// Its name in the archive.
        path: String,
        /// In the configuration.
        expected: Digest,
        /// As hashed.
        actual: Digest,
    },
    /// A name in the archive is not an image name.
    #[error("the archive names an image wrongly: {0}")]
    Name(#[from] ReferenceError),
    /// A digest in the archive is none.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// One name for several images.
    #[error("the archive has {count} images; a name can be given only when it has one")]
    ManyImages {
        /// How many.
        count: usize,
    },
    /// A bound was hit.
    #[error(transparent)]
    Limit(#[from] Exceeded),
}

/// An image that an archive brought.
#[derive(Debug, Clone)]
pub struct Imported {
    /// The names that the archive or the caller gives to it.
    pub names: Vec<Reference>,
    /// The image.
    pub image: Acquired,
}

/// Imports every image for `platform`. With `name`, the archive must have exactly one, which gets that name only.
/// Blocks.
///
/// # Errors
/// As described by [`ImportError`]; nothing is kept then.
pub fn import(
    store: &ContentStore,
    source: Source,
    name: Option<&Reference>,
    platform: &Platform,
) -> Result<Vec<Imported>, ImportError> {
    let mut import = Import {
        stage: Stage::open(store, source)?,
        store,
        platform,
        blobs: BTreeMap::new(),
        images: BTreeMap::new(),
        leases: Vec::new(),
    };
    let tags = import.docker_manifest()?;
    let max = store.limits().manifest_bytes;
    match import.stage.read("index.json", "manifest_bytes", max)? {
        Some(index) => {
            import.layout(&index)?;
            import.add_tags(tags.as_deref().unwrap_or_default())?;
        }
        None => match tags {
            Some(entries) => import.docker_images(&entries)?,
            None => return Err(ImportError::NoImages),
        },
    }
    import.finish(name)
}

/// An entry of `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default, deserialize_with = "null_default")]
    repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "null_default")]
    layers: Vec<String>,
}

struct Import<'a> {
    store: &'a ContentStore,
    platform: &'a Platform,
    stage: Stage,
    /// What will be published.
    blobs: BTreeMap<Digest, StagedBlob>,
    /// By digest of the manifest.
    images: BTreeMap<Digest, Image>,
    leases: Vec<Lease>,
}

/// What will become an [`Imported`].
struct Image {
    names: Vec<Reference>,
    target: Digest,
    manifest: Verified<Manifest>,
    id: ImageId,
    config: ImageConfig,
}

impl Import<'_> {
    fn docker_manifest(&mut self) -> Result<Option<Vec<DockerImage>>, ImportError> {
        let max = self.store.limits().manifest_bytes;
        let Some(bytes) = self.stage.read("manifest.json", "manifest_bytes", max)? else { return Ok(None) };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| ImportError::DockerManifest(JsonError::from(error)))
    }

    /// Images of an OCI layout.
    fn layout(&mut self, bytes: &[u8]) -> Result<(), ImportError> {
        let Document::Index(index) = Document::parse(bytes, None)? else { return Err(ImportError::NoImages) };
        for (entry, names) in wanted(&index, self.platform)? {
            self.document(entry, &entry.digest, &names, MAX_NESTING)?;
        }
        Ok(())
    }

    /// An image, or the one that suits this machine out of an index.
    fn document(
        &mut self,
        entry: &Descriptor,
        target: &Digest,
        names: &[Reference],
        nesting: u32,
    ) -> Result<(), ImportError> {
        let limit = self.store.limits().manifest_bytes;
        let verified = self.read_blob(entry, "manifest_bytes", limit)?;
        match Document::parse(verified.bytes(), Some(&entry.media_type))? {
            Document::Manifest(manifest) if !media::is_config(&manifest.config.media_type) => Ok(()),
            Document::Manifest(manifest) => {
                let manifest = verified.parse(|_| Ok::<_, ManifestError>(*manifest))?;
                self.image(manifest, target, names)
            }
            Document::Index(index) if nesting > 0 => {
                let picked = pick(&index, self.platform)?;
                self.document(&picked, target, names, nesting - 1)
            }
            Document::Index(_) => {
                Err(ManifestError::Ambiguous("indexes are nested too deeply".to_owned()).into())
            }
        }
    }

    fn image(
        &mut self,
        manifest: Verified<Manifest>,
        target: &Digest,
        names: &[Reference],
    ) -> Result<(), ImportError> {
        if let Some(image) = self.images.get_mut(manifest.digest()) {
            image.names.extend_from_slice(names);
            return Ok(());
        }
        let limits = self.store.limits().clone();
        manifest.value().check_image(&limits)?;
        let descriptor = manifest.value().config.clone();
        let config = self.read_blob(&descriptor, "config_bytes", limits.config_bytes)?;
        let config = ImageConfig::parse(config.bytes())?;
        config.check_platform(self.platform)?;
        config.check_layers(manifest.value().layers.len())?;
        for layer in &manifest.value().layers {
            self.need(layer)?;
        }
        let image = Image {
            names: names.to_vec(),
            target: target.clone(),
            id: ImageId(descriptor.digest),
            config,
            manifest,
        };
        self.images.insert(image.manifest.digest().clone(), image);
        Ok(())
    }

    /// Makes sure that a blob will be in the store, and reads it.
    fn read_blob(
        &mut self,
        blob: &Descriptor,
        limit: &'static str,
        max: u64,
    ) -> Result<Verified<()>, ImportError> {
        Exceeded::check(blob.size, limit, max, || format!("document {}", blob.digest))?;
        self.need(blob)?;
        match self.blobs.get(&blob.digest) {
            Some(staged) => Ok(Verified::check(Bytes::from(staged.read(limit, max)?), &blob.digest)?),
            None => Ok(self.store.read(&blob.digest, limit, max)?),
        }
    }

    /// Makes sure that a blob will be in the store: out of the archive, or because it is there already.
    fn need(&mut self, blob: &Descriptor) -> Result<(), ImportError> {
        self.leases.push(self.store.lease(&blob.digest));
        let path = blob_path(&blob.digest);
        if !self.blobs.contains_key(&blob.digest) {
            let staged = self.stage.take(&path)?;
            self.blobs.extend(staged.map(|staged| (blob.digest.clone(), staged)));
        }
        match self.blobs.get(&blob.digest) {
            Some(staged) if staged.size() == blob.size => Ok(()),
            Some(staged) => {
                let (expected, actual) = (blob.size, staged.size());
                Err(StoreError::SizeMismatch { digest: blob.digest.clone(), expected, actual }.into())
            }
            None if self.store.contains(&blob.digest, blob.size)? => Ok(()),
            None => Err(ImportError::Missing { path }),
        }
    }

    /// Names in `manifest.json` for images that came by `index.json`.
    fn add_tags(&mut self, entries: &[DockerImage]) -> Result<(), ImportError> {
        for entry in entries {
            let Some((id, _)) = self.stage.inspect(&entry.config)? else { continue };
            for image in self.images.values_mut().filter(|image| image.id.0 == id) {
                image.names.extend(parse_names(&entry.repo_tags)?);
            }
        }
        Ok(())
    }

    /// Images of a `docker save` archive, whose manifests are made here.
    fn docker_images(&mut self, entries: &[DockerImage]) -> Result<(), ImportError> {
        let count = u64::try_from(entries.len()).unwrap_or(u64::MAX);
        let max = self.store.limits().archive_entries;
        Exceeded::check(count, "archive_entries", max, || format!("an archive of {count} images"))?;
        for entry in entries {
            self.docker_image(entry)?;
        }
        Ok(())
    }

    fn docker_image(&mut self, entry: &DockerImage) -> Result<(), ImportError> {
        let limits = self.store.limits().clone();
        let missing = |path: &str| ImportError::Missing { path: clip(path) };
        let (id, size) = self.stage.inspect(&entry.config)?.ok_or_else(|| missing(&entry.config))?;
        self.check_config_name(&entry.config, &id)?;
        let staged = self.stage.take(&entry.config)?;
        self.blobs.extend(staged.map(|blob| (id.clone(), blob)));
        let descriptor = Descriptor::new(media::OCI_CONFIG, id, size);
        let config = self.read_blob(&descriptor, "config_bytes", limits.config_bytes)?;
        let config = ImageConfig::parse(config.bytes())?;
        config.check_layers(entry.layers.len())?;
        let mut layers = Vec::with_capacity(entry.layers.len());
        for (path, diff_id) in entry.layers.iter().zip(&config.rootfs.diff_ids) {
            layers.push(self.docker_layer(path, diff_id)?);
        }
        let bytes = serde_json::to_vec(&Manifest::new(descriptor, layers));
        let bytes = bytes.map_err(|error| ImportError::DockerManifest(error.into()))?;
        let max = limits.manifest_bytes;
        let mut writer =
            self.store.writer(Expected { digest: None, size: None, limit: "manifest_bytes", max })?;
        writer.append(&bytes)?;
        let staged = writer.finish()?;
        let digest = staged.digest().digest().clone();
        self.blobs.insert(digest.clone(), staged);
        let manifest = Verified::check(bytes.into(), &digest)?;
        let manifest = manifest.parse(|bytes| serde_json::from_slice::<Manifest>(bytes));
        let manifest = manifest.map_err(|error| ImportError::DockerManifest(error.into()))?;
        self.image(manifest, &digest, &parse_names(&entry.repo_tags)?)
    }

    /// Docker names a configuration by its digest; a wrong one means that the archive was changed.
    fn check_config_name(&self, path: &str, actual: &Digest) -> Result<(), ImportError> {
        let name = path.rsplit('/').next().unwrap_or_default();
        let name = name.strip_suffix(".json").unwrap_or(name);
        match Digest::parse(&format!("sha256:{name}")) {
            Ok(expected) if expected != *actual => {
                Err(StoreError::DigestMismatch { expected, actual: actual.clone() }.into())
            }
            _ => Ok(()),
        }
    }

    fn docker_layer(&mut self, path: &str, diff_id: &Digest) -> Result<Descriptor, ImportError> {
        let (digest, size) =
            self.stage.inspect(path)?.ok_or_else(|| ImportError::Missing { path: clip(path) })?;
        if let Some(blob) = self.stage.take(path)? {
            self.blobs.insert(digest.clone(), blob);
        }
        // The same layer may have been taken for another image of the archive.
        let head = self.blobs.get(&digest).map(StagedBlob::head).transpose()?.unwrap_or_default();
        let media_type = match compress::recognise(&head) {
            Compression::Gzip => media::OCI_LAYER_GZIP,
            Compression::Zstd => media::OCI_LAYER_ZSTD,
            // Whether compressed layers are what the configuration says is seen when they are unpacked.
            Compression::None if digest == *diff_id => media::OCI_LAYER,
            Compression::None => {
                return Err(ImportError::DiffId {
                    path: clip(path),
                    expected: diff_id.clone(),
                    actual: digest,
                });
            }
        };
        Ok(Descriptor::new(media_type, digest, size))
    }

    fn finish(mut self, name: Option<&Reference>) -> Result<Vec<Imported>, ImportError> {
        if self.images.is_empty() {
            return Err(ImportError::Platform { wanted: self.platform.to_string() });
        }
        if let Some(name) = name {
            let count = self.images.len();
            if count != 1 {
                return Err(ImportError::ManyImages { count });
            }
            for image in self.images.values_mut() {
                image.names = vec![name.clone()];
            }
        }
        self.leases.extend(self.images.keys().map(|manifest| self.store.lease(manifest)));
        let leases = Arc::new(self.leases);
        let images = self.images.into_values().map(|mut image| {
            image.names.sort();
            image.names.dedup();
            let (target, manifest) = (image.target, image.manifest);
            let leases = Arc::clone(&leases);
            let acquired = Acquired { target, manifest, id: image.id, config: image.config, leases };
            Imported { names: image.names, image: acquired }
        });
        let images = images.collect();
        self.store.publish(self.blobs.into_values().collect())?;
        Ok(images)
    }
}

/// What an index has for this machine, in its order. A document that is listed once for each of its names, as is usual,
/// or simply again and again, is one entry with all of them: it is read only once.
fn wanted<'a>(
    index: &'a Index,
    platform: &Platform,
) -> Result<Vec<(&'a Descriptor, Vec<Reference>)>, ImportError> {
    let mut wanted: Vec<(&Descriptor, Vec<Reference>)> = Vec::new();
    let mut places = BTreeMap::new();
    for entry in &index.manifests {
        let names = names_of(entry)?;
        match DocumentKind::of(&entry.media_type) {
            Some(DocumentKind::Schema1) => return Err(ManifestError::Schema1.into()),
            None => {}
            Some(_) if entry.platform.as_ref().is_some_and(|p| !platform.runs(p)) => {}
            Some(_) => {
                // Entries that contradict each other stay apart: each is held against the document.
                let what = (&entry.digest, entry.size, &entry.media_type);
                let place = *places.entry(what).or_insert(wanted.len());
                match wanted.get_mut(place) {
                    Some((_, known)) => known.extend(names),
                    None => wanted.push((entry, names)),
                }
            }
        }
    }
    Ok(wanted)
}

/// The entry of an index for this machine.
fn pick(index: &Index, platform: &Platform) -> Result<Descriptor, ImportError> {
    Ok(index.pick(platform)?.clone())
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

fn names_of(entry: &Descriptor) -> Result<Vec<Reference>, ImportError> {
    let whole = entry.annotations.get(ANNOTATION_CONTAINERD_NAME);
    // Many tools put only a tag here, which would make a wrong name.
    let name = entry.annotations.get(ANNOTATION_REF_NAME).filter(|name| name.contains(['/', ':']));
    whole.or(name).map(|name| Ok(Reference::parse(name)?)).into_iter().collect()
}

fn parse_names(tags: &[String]) -> Result<Vec<Reference>, ImportError> {
    tags.iter().map(|tag| Ok(Reference::parse(tag)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_again_is_read_once() {
        let entry = |content: &str, name: &str| {
            let mut entry = Descriptor::new(media::OCI_MANIFEST, Digest::sha256(content.as_bytes()), 7);
            if !name.is_empty() {
                entry.annotations.insert(ANNOTATION_REF_NAME.to_owned(), name.to_owned());
            }
            entry
        };
        let check = |entries: &[Descriptor], expected: &[(usize, &[&str])]| {
            let index = Index::new(entries.to_vec());
            let found = wanted(&index, &Platform::host()).expect("well formed");
            let found: Vec<(&Descriptor, Vec<String>)> = found
                .into_iter()
                .map(|(entry, names)| (entry, names.iter().map(ToString::to_string).collect()))
                .collect();
            let expected: Vec<_> = expected
                .iter()
                .map(|(at, names)| (&entries[*at], names.iter().map(|name| (*name).to_owned()).collect()))
                .collect();
            assert_eq!(found, expected);
        };
        let larger = Descriptor { size: 8, ..entry("a", "") };
        check(&[], &[]);
        check(&vec![entry("a", ""); 1_000], &[(0, &[])]);
        check(
            &[entry("b", "h.io/b:1"), entry("a", ""), entry("b", "h.io/b:2"), entry("b", "")],
            &[(0, &["h.io/b:1", "h.io/b:2"]), (1, &[])],
        );
        check(&[entry("a", ""), larger], &[(0, &[]), (1, &[])]);
    }
}
