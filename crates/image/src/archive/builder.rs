//! Making an image: layers from entries, written as an OCI image layout in a tar archive.
//!
//! The output depends on nothing but the input: times are those of 1970 unless stated, owners are root, compression
//! carries no time. Layers are held in memory.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

use crate::compress::Compression;
use crate::config::{History, ImageConfig, ImageId};
use crate::digest::Digest;
use crate::manifest::{Descriptor, Index, Manifest};
use crate::media;
use crate::platform::Platform;
use crate::tarball::{Meta, TarWriter};

use super::{ANNOTATION_CONTAINERD_NAME, ANNOTATION_REF_NAME};

/// Collects the entries of one layer.
#[derive(Debug)]
pub struct LayerBuilder {
    tar: TarWriter<Vec<u8>>,
}

/// A finished layer.
#[derive(Debug, Clone)]
pub struct Layer {
    blob: Vec<u8>,
    diff_id: Digest,
    media_type: &'static str,
}

const IN_MEMORY: &str = "writing to memory cannot fail";

impl Default for LayerBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl LayerBuilder {
    /// A layer without entries.
    pub fn new() -> Self {
        Self { tar: TarWriter::new(Vec::new()) }
    }

    /// A file of root's.
    #[must_use]
    pub fn file(self, path: &str, mode: u32, data: &[u8]) -> Self {
        self.file_as(path, Meta::new(mode), data)
    }

    /// A file with owner and time.
    #[must_use]
    pub fn file_as(mut self, path: &str, meta: Meta, data: &[u8]) -> Self {
        self.tar.file(path, meta, data).expect(IN_MEMORY);
        self
    }

    /// A directory of root's.
    #[must_use]
    pub fn directory(self, path: &str, mode: u32) -> Self {
        self.directory_as(path, Meta::new(mode))
    }

    /// A directory with owner and time.
    #[must_use]
    pub fn directory_as(mut self, path: &str, meta: Meta) -> Self {
        self.tar.directory(path, meta).expect(IN_MEMORY);
        self
    }

    /// A symbolic link.
    #[must_use]
    pub fn symlink(mut self, path: &str, target: &str) -> Self {
        self.tar.symlink(path, target).expect(IN_MEMORY);
        self
    }

    /// Another name for a file that was added before.
    #[must_use]
    pub fn hardlink(mut self, path: &str, target: &str) -> Self {
        self.tar.hardlink(path, target).expect(IN_MEMORY);
        self
    }

    /// Hides `path` of the layers below.
    #[must_use]
    pub fn whiteout(self, path: &str) -> Self {
        let hidden = match path.rsplit_once('/') {
            Some((dir, name)) => format!("{dir}/.wh.{name}"),
            None => format!(".wh.{path}"),
        };
        self.file(&hidden, 0o644, b"")
    }

    /// Hides everything of the layers below in the directory `path`; empty means the root.
    #[must_use]
    pub fn opaque(self, path: &str) -> Self {
        let slash = if path.is_empty() { "" } else { "/" };
        self.file(&format!("{path}{slash}.wh..wh.opq"), 0o644, b"")
    }

    /// Ends the layer and compresses it.
    pub fn build(self, compression: Compression) -> Layer {
        let tar = self.tar.finish().expect(IN_MEMORY);
        Layer::from_tar(tar, compression)
    }
}

impl Layer {
    /// A layer from an archive made elsewhere.
    pub fn from_tar(tar: Vec<u8>, compression: Compression) -> Self {
        let diff_id = Digest::sha256(&tar);
        let (media_type, blob) = match compression {
            Compression::None => (media::OCI_LAYER, tar),
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(&tar).expect(IN_MEMORY);
                (media::OCI_LAYER_GZIP, encoder.finish().expect(IN_MEMORY))
            }
            Compression::Zstd => {
                (media::OCI_LAYER_ZSTD, zstd::encode_all(tar.as_slice(), 0).expect(IN_MEMORY))
            }
        };
        Self { blob, diff_id, media_type }
    }

    /// The bytes as they are stored and transferred.
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// The digest of the layer before compression.
    pub fn diff_id(&self) -> &Digest {
        &self.diff_id
    }

    /// What a manifest says about the layer.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.media_type, Digest::sha256(&self.blob), length(&self.blob))
    }
}

/// Collects an image and writes it.
#[derive(Debug, Clone)]
pub struct Builder {
    config: ImageConfig,
    layers: Vec<Layer>,
    names: Vec<String>,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The manifest's digest.
    pub manifest: Digest,
    /// The image's id.
    pub id: ImageId,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// An image of no layers for this machine's platform.
    pub fn new() -> Self {
        let platform = Platform::host();
        let config = ImageConfig {
            architecture: platform.architecture,
            os: platform.os,
            created: Some("1970-01-01T00:00:00Z".to_owned()),
            ..ImageConfig::default()
        };
        Self { config, layers: Vec::new(), names: Vec::new() }
    }

    /// Adds a name that the archive gives to the image.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.names.push(name.to_owned());
        self
    }

    /// Adds a layer on top.
    #[must_use]
    pub fn layer(mut self, layer: Layer) -> Self {
        self.config.rootfs.diff_ids.push(layer.diff_id.clone());
        self.config.history.push(History {
            created: self.config.created.clone(),
            created_by: Some("xebec".to_owned()),
            ..History::default()
        });
        self.layers.push(layer);
        self
    }

    /// Sets the program and its fixed arguments.
    #[must_use]
    pub fn entrypoint<S: Into<String>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.config.config.entrypoint = words.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the default arguments.
    #[must_use]
    pub fn cmd<S: Into<String>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.config.config.cmd = words.into_iter().map(Into::into).collect();
        self
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.config.config.env.push(format!("{name}={value}"));
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn workdir(mut self, path: &str) -> Self {
        path.clone_into(&mut self.config.config.working_dir);
        self
    }

    /// Sets the user, `name`, `uid` or `uid:gid`.
    #[must_use]
    pub fn user(mut self, user: &str) -> Self {
        user.clone_into(&mut self.config.config.user);
        self
    }

    /// Changes anything else of the configuration. Layers are added by [`Builder::layer`] only.
    #[must_use]
    pub fn configure(mut self, change: impl FnOnce(&mut ImageConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// Writes the image.
    ///
    /// # Errors
    /// When the sink fails.
    pub fn write(&self, sink: impl Write) -> io::Result<Built> {
        let config = encode(&self.config);
        let config_descriptor = Descriptor::new(media::OCI_CONFIG, Digest::sha256(&config), length(&config));
        let layers: Vec<Descriptor> = self.layers.iter().map(Layer::descriptor).collect();
        let manifest = encode(&Manifest::new(config_descriptor.clone(), layers.clone()));
        let built =
            Built { manifest: Digest::sha256(&manifest), id: ImageId(config_descriptor.digest.clone()) };
        let index = encode(&self.index(&manifest));

        let mut blobs: BTreeMap<&Digest, &[u8]> = BTreeMap::new();
        blobs.insert(&config_descriptor.digest, &config);
        blobs.insert(&built.manifest, &manifest);
        blobs.extend(layers.iter().map(|layer| &layer.digest).zip(self.layers.iter().map(Layer::blob)));

        let mut tar = TarWriter::new(sink);
        tar.file("oci-layout", Meta::new(0o644), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        tar.file("index.json", Meta::new(0o644), &index)?;
        for (digest, blob) in blobs {
            let path = format!("blobs/{}/{}", digest.algorithm(), digest.hex());
            tar.file(&path, Meta::new(0o644), blob)?;
        }
        tar.finish()?;
        Ok(built)
    }

    /// One entry per name, or one without.
    fn index(&self, manifest: &[u8]) -> Index {
        let mut entry = Descriptor::new(media::OCI_MANIFEST, Digest::sha256(manifest), length(manifest));
        entry.platform = Some(self.config.platform());
        if self.names.is_empty() {
            return Index::new(vec![entry]);
        }
        let named = self.names.iter().map(|name| {
            let mut entry = entry.clone();
            for key in [ANNOTATION_REF_NAME, ANNOTATION_CONTAINERD_NAME] {
                entry.annotations.insert(key.to_owned(), name.clone());
            }
            entry
        });
        Index::new(named.collect())
    }
}

fn encode(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("documents have only strings, numbers and lists")
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).expect("a slice's length fits 64 bits")
}
