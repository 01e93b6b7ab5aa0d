//! Descriptors, manifests and indexes: parsing of what others wrote, refusal of what can be read in two ways.
//!
//! Parsing never looks at digests: bytes come from [`crate::store`] or the registry client, which verified them, and
//! the exact bytes are what is stored and signed. Values are re-encoded only for manifests that this crate makes.
//!
//! Spec: OCI image spec 1.1 (manifest, image index, descriptor); Docker image manifest version 2 schema 2. Schema 1
//! is refused: its digest does not cover what is executed.

use std::collections::BTreeMap;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize};

use crate::digest::Digest;
use crate::limits::{Exceeded, Limits};
use crate::media::{self, DocumentKind};
use crate::platform::Platform;
use crate::quote::{JsonError, clip};

/// Why a document is not a manifest that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON, or a field of the wrong type.
    #[error("the manifest is malformed: {0}")]
    Json(#[from] JsonError),
    /// Docker's retired format.
    #[error(
        "the image has a Docker schema 1 manifest, which was retired because it cannot be verified; \
         push the image again with a tool of this decade, such as `skopeo copy`"
    )]
    Schema1,
    /// Another version than 2.
    #[error("the manifest has schemaVersion {0}; only 2 is known")]
    Version(u64),
    /// The document could be taken for two things.
    #[error("the manifest is ambiguous: {0}")]
    Ambiguous(String),
    /// Neither manifest nor index.
    #[error("the document is neither an image manifest nor an index")]
    Neither,
    /// Something that is stored like an image but is none.
    #[error("not a container image: {what} has media type `{media_type}`")]
    NotAnImage {
        /// "the configuration", "layer 2".
        what: String,
        /// As found.
        media_type: String,
    },
    /// Layers that are kept elsewhere.
    #[error("layer {digest} is to be fetched from foreign addresses, which is not supported")]
    ForeignLayer {
        /// The layer.
        digest: Digest,
    },
    /// No entry of an index runs here.
    #[error("the image has no variant for {wanted}; it offers {offered}")]
    Platform {
        /// This machine's.
        wanted: String,
        /// What there is, comma separated.
        offered: String,
    },
    /// Too many layers, or too large ones.
    #[error(transparent)]
    Limit(#[from] Exceeded),
}

/// A reference to content: type, digest and size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is.
    #[serde(default)]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Foreign addresses; never followed.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Free-form.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// In an index: what the manifest is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// What an artifact is, when it is not an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// A descriptor with only the mandatory fields.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            platform: None,
            artifact_type: None,
        }
    }
}

/// One image for one platform, or an artifact of the same shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u64,
    /// OCI allows it to be absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What an artifact is, when it is not an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The image configuration.
    pub config: Descriptor,
    /// The layers, lowest first.
    #[serde(default, deserialize_with = "null_default")]
    pub layers: Vec<Descriptor>,
    /// What this manifest says something about (signatures, attestations).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free-form.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// An OCI image manifest.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media::OCI_MANIFEST.to_owned()),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Checks that this is a container image whose layers can be fetched and unpacked, within the limits.
    ///
    /// # Errors
    /// When it is an artifact, has foreign layers, or is too large.
    pub fn check_image(&self, limits: &Limits) -> Result<(), ManifestError> {
        // Images of 2016 declare their configuration as plain bytes.
        if !media::is_config(&self.config.media_type) && self.config.media_type != "application/octet-stream"
        {
            let media_type = clip(self.artifact_type.as_ref().unwrap_or(&self.config.media_type));
            return Err(ManifestError::NotAnImage { what: "the configuration".to_owned(), media_type });
        }
        let config = || format!("image configuration {}", self.config.digest);
        Exceeded::check(self.config.size, "config_bytes", limits.config_bytes, config)?;
        let count = u64::try_from(self.layers.len()).unwrap_or(u64::MAX);
        Exceeded::check(count, "layers", limits.layers, || format!("an image of {count} layers"))?;
        let mut total = self.config.size;
        for (index, layer) in self.layers.iter().enumerate() {
            if !layer.urls.is_empty() || media::is_foreign_layer(&layer.media_type) {
                return Err(ManifestError::ForeignLayer { digest: layer.digest.clone() });
            }
            if !media::is_layer(&layer.media_type) {
                let media_type = clip(&layer.media_type);
                return Err(ManifestError::NotAnImage { what: format!("layer {}", index + 1), media_type });
            }
            let what = || format!("layer {} of {} bytes", layer.digest, layer.size);
            Exceeded::check(layer.size, "layer_bytes", limits.layer_bytes, what)?;
            total = total.saturating_add(layer.size);
        }
        Exceeded::check(total, "image_bytes", limits.image_bytes, || format!("an image of {total} bytes"))?;
        Ok(())
    }

    /// The sum of the configuration's and the layers' sizes.
    pub fn content_bytes(&self) -> u64 {
        self.layers.iter().fold(self.config.size, |sum, layer| sum.saturating_add(layer.size))
    }
}

/// A list of manifests, one per platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u64,
    /// OCI allows it to be absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The entries.
    #[serde(default, deserialize_with = "null_default")]
    pub manifests: Vec<Descriptor>,
    /// Free-form.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Index {
    /// An OCI image index.
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media::OCI_INDEX.to_owned()),
            manifests,
            annotations: BTreeMap::new(),
        }
    }

    /// The first entry that runs on `wanted`. An entry without a platform is taken when nothing else fits.
    ///
    /// # Errors
    /// When none does; the error lists what is offered.
    pub fn pick(&self, wanted: &Platform) -> Result<&Descriptor, ManifestError> {
        let fits = |d: &&Descriptor| d.platform.as_ref().is_some_and(|p| wanted.runs(p));
        let unstated = |d: &&Descriptor| d.platform.is_none();
        let found = self.manifests.iter().find(fits).or_else(|| self.manifests.iter().find(unstated));
        found.ok_or_else(|| {
            let mut offered: Vec<String> =
                self.manifests.iter().filter_map(|d| d.platform.as_ref()).map(Platform::to_string).collect();
            offered.dedup();
            let offered = if offered.is_empty() { "nothing".to_owned() } else { clip(&offered.join(", ")) };
            ManifestError::Platform { wanted: wanted.to_string(), offered }
        })
    }
}

/// What a registry or an archive may hold under a manifest's digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest(Box<Manifest>),
    /// Several.
    Index(Index),
}

/// The fields that tell documents apart.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    #[serde(default)]
    schema_version: Option<u64>,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    config: Option<IgnoredAny>,
    #[serde(default)]
    layers: Option<IgnoredAny>,
    #[serde(default)]
    manifests: Option<IgnoredAny>,
    #[serde(default)]
    fs_layers: Option<IgnoredAny>,
}

impl Document {
    /// Parses a manifest or index. `content_type` is what the transport said, if it said anything.
    ///
    /// A document that has both layers and manifests, or whose media type, shape and content type disagree, is
    /// refused, because another reader might take it for the other thing.
    ///
    /// # Errors
    /// As described by [`ManifestError`].
    pub fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<Self, ManifestError> {
        let shape: Shape = serde_json::from_slice(bytes).map_err(JsonError::from)?;
        match shape.kind(content_type)? {
            DocumentKind::Manifest => {
                Ok(Self::Manifest(serde_json::from_slice(bytes).map_err(JsonError::from)?))
            }
            DocumentKind::Index => Ok(Self::Index(serde_json::from_slice(bytes).map_err(JsonError::from)?)),
            DocumentKind::Schema1 => Err(ManifestError::Schema1),
        }
    }
}

impl Shape {
    fn kind(&self, content_type: Option<&str>) -> Result<DocumentKind, ManifestError> {
        let declared = self.media_type.as_deref().and_then(DocumentKind::of);
        let transported = content_type.and_then(DocumentKind::of);
        let schema1 = Some(DocumentKind::Schema1);
        if self.fs_layers.is_some()
            || self.schema_version == Some(1)
            || declared == schema1
            || transported == schema1
        {
            return Err(ManifestError::Schema1);
        }
        match self.schema_version {
            Some(2) => {}
            Some(other) => return Err(ManifestError::Version(other)),
            None => return Err(ManifestError::Neither),
        }
        let has_image = self.config.is_some() || self.layers.is_some();
        let shape = match (has_image, self.manifests.is_some()) {
            (true, true) => {
                let what = "it has both `manifests` and `config` or `layers`";
                return Err(ManifestError::Ambiguous(what.to_owned()));
            }
            (true, false) => DocumentKind::Manifest,
            (false, true) => DocumentKind::Index,
            (false, false) => return Err(ManifestError::Neither),
        };
        for (source, kind) in [("mediaType", declared), ("Content-Type", transported)] {
            if kind.is_some_and(|kind| kind != shape) {
                let what = format!("its {source} says otherwise than its fields");
                return Err(ManifestError::Ambiguous(what));
            }
        }
        Ok(shape)
    }
}

/// Go writes an absent list or map as `null`.
pub(crate) fn null_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::mutations;

    fn descriptor(media_type: &str, size: u64) -> String {
        format!(r#"{{"mediaType":"{media_type}","digest":"{}","size":{size}}}"#, Digest::sha256(b"x"))
    }

    fn manifest(config: &str, layers: &[String]) -> String {
        let layers = layers.join(",");
        let config = descriptor(config, 7);
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{config},"layers":[{layers}]}}"#,
            media::OCI_MANIFEST
        )
    }

    #[test]
    fn shapes() {
        let check = |json: &str, content_type: Option<&str>, expected: &str| {
            let outcome = match Document::parse(json.as_bytes(), content_type) {
                Ok(Document::Manifest(_)) => "manifest".to_owned(),
                Ok(Document::Index(_)) => "index".to_owned(),
                Err(error) => error.to_string(),
            };
            assert!(outcome.contains(expected), "{json}: {outcome}");
        };
        let image = manifest(media::OCI_CONFIG, &[descriptor(media::OCI_LAYER_GZIP, 3)]);
        check(&image, None, "manifest");
        check(&image, Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8"), "manifest");
        check(&image, Some("application/json"), "manifest");
        check(&image, Some(media::OCI_INDEX), "Content-Type says otherwise");
        check(&image.replace(media::OCI_MANIFEST, media::OCI_INDEX), None, "mediaType says otherwise");
        check(&image.replace("\"layers\":[", "\"manifests\":[],\"layers\":["), None, "both `manifests`");
        check(&image.replace(":2,", ":3,"), None, "schemaVersion 3");
        check(&image.replace(":2,", ":1,"), None, "schema 1");
        check(&image.replace("\"size\":3", "\"size\":-3"), None, "malformed");
        check(&image.replace("sha256:", "md5:"), None, "not supported");
        check(&image.replace("\"size\":3", "\"size\":3,\"size\":4"), None, "duplicate field");
        check(r#"{"schemaVersion":2,"manifests":null}"#, None, "neither");
        check(r#"{"schemaVersion":2,"manifests":[]}"#, None, "index");
        check(r#"{"schemaVersion":1,"fsLayers":[],"name":"x"}"#, None, "skopeo copy");
        check(
            r#"{"name":"x"}"#,
            Some("application/vnd.docker.distribution.manifest.v1+prettyjws"),
            "schema 1",
        );
        check("{}", None, "neither");
        check("[]", None, "neither");
        check(&"[".repeat(100_000), None, "malformed");
    }

    #[test]
    fn images_and_what_is_none() {
        let limits = Limits { layer_bytes: 100, image_bytes: 150, layers: 3, ..Limits::default() };
        let check = |config: &str, layers: &[String], expected: Option<&str>| {
            let json = manifest(config, layers);
            let Ok(Document::Manifest(manifest)) = Document::parse(json.as_bytes(), None) else {
                panic!("{json} is a manifest");
            };
            let error = manifest.check_image(&limits).err().map(|e| e.to_string());
            match expected {
                None => assert_eq!(error, None),
                Some(text) => assert!(error.as_ref().is_some_and(|e| e.contains(text)), "{error:?}"),
            }
        };
        let layer = |size| descriptor(media::DOCKER_LAYER_GZIP, size);
        check(media::DOCKER_CONFIG, &[layer(1)], None);
        check("application/octet-stream", &[], None);
        check("application/vnd.cncf.helm.config.v1+json", &[layer(1)], Some("cncf.helm"));
        check(
            media::OCI_CONFIG,
            &[descriptor("application/vnd.in-toto+json", 1)],
            Some("layer 1 has media type"),
        );
        check(media::OCI_CONFIG, &[layer(101)], Some("`layer_bytes` of 100"));
        check(media::OCI_CONFIG, &[layer(80), layer(80)], Some("`image_bytes` of 150"));
        check(media::OCI_CONFIG, &[layer(1), layer(1), layer(1), layer(1)], Some("`layers` of 3"));
        let foreign = descriptor("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", 1);
        check(media::OCI_CONFIG, &[foreign], Some("foreign addresses"));
        let urls = layer(1).replace("\"size\"", "\"urls\":[\"https://elsewhere.example\"],\"size\"");
        check(media::OCI_CONFIG, &[urls], Some("foreign addresses"));
    }

    #[test]
    fn picks_a_platform_or_says_what_there_is() {
        let entry = |os: &str, arch: &str, variant: &str| Descriptor {
            platform: Some(Platform { os: os.into(), architecture: arch.into(), variant: variant.into() }),
            ..Descriptor::new(media::OCI_MANIFEST, Digest::sha256(format!("{os}{arch}").as_bytes()), 1)
        };
        let wanted = Platform { os: "linux".into(), architecture: "amd64".into(), variant: String::new() };
        let index = Index::new(vec![
            entry("unknown", "unknown", ""),
            entry("linux", "arm64", "v8"),
            entry("linux", "amd64", ""),
        ]);
        let picked = index.pick(&wanted).expect("amd64 is offered");
        assert_eq!(picked.digest, Digest::sha256(b"linuxamd64"));
        let error = Index::new(vec![entry("linux", "arm64", "v8")]).pick(&wanted).expect_err("nothing fits");
        assert_eq!(error.to_string(), "the image has no variant for linux/amd64; it offers linux/arm64/v8");
        let unstated = Index::new(vec![Descriptor::new(media::OCI_MANIFEST, Digest::sha256(b""), 1)]);
        assert!(unstated.pick(&wanted).is_ok());
    }

    #[test]
    fn any_bytes_are_answered() {
        let image = manifest(media::OCI_CONFIG, &[descriptor(media::OCI_LAYER_GZIP, 3)]);
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, descriptor(media::OCI_MANIFEST, 5));
        let mut parsed = 0;
        for bytes in mutations(&[image.as_bytes(), index.as_bytes()], 20_000, 3) {
            match Document::parse(&bytes, None) {
                Ok(Document::Manifest(manifest)) => {
                    parsed += 1;
                    let _outcome = manifest.check_image(&Limits::default());
                }
                Ok(Document::Index(index)) => {
                    parsed += 1;
                    let _outcome = index.pick(&Platform::host());
                }
                Err(_) => {}
            }
        }
        assert!(parsed > 500, "{parsed}");
    }
}
