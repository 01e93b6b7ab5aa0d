//! The image configuration: what a container of the image runs by default, and which layers make its root.
//!
//! Spec: OCI image spec 1.1, image configuration and layer "ChainID". Docker's configuration has the same fields.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use crate::digest::{Algorithm, Digest, DigestError, Hasher};
use crate::manifest::null_default;
use crate::platform::Platform;
use crate::quote::{JsonError, clip};

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not JSON, or a field of the wrong type.
    #[error("the image configuration is malformed: {0}")]
    Json(#[from] JsonError),
    /// Text that no program can be given.
    #[error("the image configuration has a NUL byte in `{field}`")]
    Nul {
        /// The field.
        field: &'static str,
    },
    /// Built for another kind of machine.
    #[error("the image is for {image}; this machine is {host}")]
    Platform {
        /// The image's.
        image: String,
        /// This machine's.
        host: String,
    },
    /// The manifest and the configuration tell different stories.
    #[error("the manifest has {layers} layers, the image configuration {diff_ids}")]
    LayerCount {
        /// In the manifest.
        layers: usize,
        /// In the configuration.
        diff_ids: usize,
    },
    /// Not a root made of layers.
    #[error("the image's rootfs has type `{0}`; only `layers` is known")]
    RootfsType(String),
}

/// The identity of an image: the digest of its configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageId(pub Digest);

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The identity of a stack of layers: two images whose lowest layers are the same share the chain ids of those.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChainId(Digest);

impl ChainId {
    /// The chain of `diff_id` on top of `parent`.
    pub fn of(parent: Option<&Self>, diff_id: &Digest) -> Self {
        match parent {
            None => Self(diff_id.clone()),
            Some(Self(parent)) => {
                let mut hasher = Hasher::new(Algorithm::Sha256);
                hasher.update(parent.as_str().as_bytes());
                hasher.update(b" ");
                hasher.update(diff_id.as_str().as_bytes());
                Self(hasher.finish())
            }
        }
    }

    /// The chain of this digest.
    ///
    /// # Errors
    /// When the text is no digest.
    pub fn parse(text: &str) -> Result<Self, DigestError> {
        Digest::parse(text).map(Self)
    }

    /// The chain as a digest.
    pub fn digest(&self) -> &Digest {
        &self.0
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// An image configuration. Fields that only matter to builders of others are not kept; the bytes in the store are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// `amd64`, …; very old images leave it out.
    #[serde(default)]
    pub architecture: String,
    /// `linux`.
    #[serde(default)]
    pub os: String,
    /// `v8`, ….
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// What to run.
    #[serde(default, deserialize_with = "null_default")]
    pub config: ContainerDefaults,
    /// The layers.
    pub rootfs: Layers,
    /// How the image was made, one entry per build step.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
}

/// What a container runs with unless its pod says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerDefaults {
    /// `user`, `uid`, `user:group`, `uid:gid`; empty means root. See [`crate::rootfs::UserSpec`].
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `80/tcp`.
    #[serde(default, with = "go_set", skip_serializing_if = "Vec::is_empty")]
    pub exposed_ports: Vec<String>,
    /// `NAME=value`.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The program and its fixed arguments.
    #[serde(default, deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// Default arguments, or the program when there is no entry point.
    #[serde(default, deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Directories whose content should outlive the container's root.
    #[serde(default, with = "go_set", skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
    /// Where the program starts; empty means `/`.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Free-form.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// `SIGTERM`, `15`; empty means `SIGTERM`.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
}

/// The `rootfs` field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layers {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Digests of the layers' uncompressed tar archives, lowest first.
    #[serde(default, deserialize_with = "null_default")]
    pub diff_ids: Vec<Digest>,
}

impl Default for Layers {
    fn default() -> Self {
        Self { kind: "layers".to_owned(), diff_ids: Vec::new() }
    }
}

/// One build step.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The instruction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Free-form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether the step made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

impl ImageConfig {
    /// Parses a configuration.
    ///
    /// # Errors
    /// When it is not JSON of the right shape, not made of layers, or holds text that no process can be given.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let config: Self = serde_json::from_slice(bytes).map_err(JsonError::from)?;
        if config.rootfs.kind != "layers" {
            return Err(ConfigError::RootfsType(clip(&config.rootfs.kind)));
        }
        config.config.refuse_nul()?;
        Ok(config)
    }

    /// The platform that the image is for.
    pub fn platform(&self) -> Platform {
        Platform {
            architecture: self.architecture.clone(),
            os: self.os.clone(),
            variant: self.variant.clone(),
        }
    }

    /// Checks that the image runs on `host`.
    ///
    /// # Errors
    /// When it does not.
    pub fn check_platform(&self, host: &Platform) -> Result<(), ConfigError> {
        let unstated = self.architecture.is_empty() && self.os.is_empty();
        if unstated || host.runs(&self.platform()) {
            return Ok(());
        }
        Err(ConfigError::Platform { image: clip(&self.platform().to_string()), host: host.to_string() })
    }

    /// Checks that the image has as many layers as its manifest.
    ///
    /// # Errors
    /// When it has not.
    pub fn check_layers(&self, layers: usize) -> Result<(), ConfigError> {
        let diff_ids = self.rootfs.diff_ids.len();
        if layers == diff_ids { Ok(()) } else { Err(ConfigError::LayerCount { layers, diff_ids }) }
    }

    /// The chain id of each layer, lowest first.
    pub fn chain_ids(&self) -> Vec<ChainId> {
        let mut chain: Vec<ChainId> = Vec::with_capacity(self.rootfs.diff_ids.len());
        for diff_id in &self.rootfs.diff_ids {
            chain.push(ChainId::of(chain.last(), diff_id));
        }
        chain
    }
}

impl ContainerDefaults {
    fn refuse_nul(&self) -> Result<(), ConfigError> {
        let lists = [
            ("Env", &self.env),
            ("Entrypoint", &self.entrypoint),
            ("Cmd", &self.cmd),
            ("Volumes", &self.volumes),
        ];
        let texts =
            [("User", &self.user), ("WorkingDir", &self.working_dir), ("StopSignal", &self.stop_signal)];
        let all = lists
            .into_iter()
            .flat_map(|(field, list)| list.iter().map(move |text| (field, text)))
            .chain(texts);
        match all.into_iter().find(|(_, text)| text.contains('\0')) {
            Some((field, _)) => Err(ConfigError::Nul { field }),
            None => Ok(()),
        }
    }
}

/// Docker accepted a bare string where a list belongs.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Option::<OneOrMany>::deserialize(deserializer)? {
        None => Vec::new(),
        Some(OneOrMany::One(text)) => vec![text],
        Some(OneOrMany::Many(list)) => list,
    })
}

/// Go's set of strings: an object whose values are empty objects.
mod go_set {
    use std::collections::BTreeMap;

    use serde::de::IgnoredAny;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
        let set = Option::<BTreeMap<String, IgnoredAny>>::deserialize(deserializer)?;
        Ok(set.unwrap_or_default().into_keys().collect())
    }

    pub(super) fn serialize<S: Serializer>(keys: &[String], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(keys.iter().map(|key| (key, BTreeMap::<String, String>::new())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::mutations;

    const DOCKER: &str = r#"{"architecture":"amd64","os":"linux","container":"abc","created":"2024-01-01T00:00:00Z",
        "config":{"Hostname":"x","User":"1000:1000","ExposedPorts":{"80/tcp":{},"443/tcp":{}},"Env":["PATH=/bin","A=b=c"],
        "Cmd":["-c","x"],"Entrypoint":"/bin/sh","Volumes":{"/data":{}},"WorkingDir":"/srv","Labels":null,"OnBuild":null,
        "StopSignal":"SIGQUIT"},
        "rootfs":{"type":"layers","diff_ids":["sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]},
        "history":[{"created_by":"ADD x","empty_layer":true}]}"#;

    #[test]
    fn reads_what_docker_writes() {
        let image = ImageConfig::parse(DOCKER.as_bytes()).expect("a configuration");
        let config = &image.config;
        assert_eq!(config.entrypoint, ["/bin/sh"]);
        assert_eq!(config.cmd, ["-c", "x"]);
        assert_eq!(config.exposed_ports, ["443/tcp", "80/tcp"]);
        assert_eq!(config.volumes, ["/data"]);
        assert_eq!((config.user.as_str(), config.stop_signal.as_str()), ("1000:1000", "SIGQUIT"));
        assert!(image.history[0].empty_layer);
        let again = serde_json::to_vec(&image).expect("encodes");
        assert_eq!(ImageConfig::parse(&again).expect("decodes"), image);
    }

    #[test]
    fn refusals() {
        let host = Platform { os: "linux".into(), architecture: "amd64".into(), variant: String::new() };
        let check = |from: &str, to: &str, expected: &str| {
            let json = DOCKER.replace(from, to);
            let outcome = ImageConfig::parse(json.as_bytes())
                .and_then(|config| config.check_platform(&host).and_then(|()| config.check_layers(1)));
            let error = outcome.err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.contains(expected), "{from} -> {to}: {error}");
        };
        check("", "", "");
        check("amd64", "arm64", "is for linux/arm64; this machine is linux/amd64");
        check("\"layers\"", "\"squash\"", "`squash`");
        check("diff_ids\":[", "diff_ids\":[], \"x\":[", "1 layers, the image configuration 0");
        check("SIGQUIT", "SIG\\u0000", "NUL byte in `StopSignal`");
        check("A=b=c", "A=\\u0000", "NUL byte in `Env`");
        check("{\"type\"", "[\"type\"", "malformed");
        check("rootfs", "rootfz", "missing field `rootfs`");
    }

    #[test]
    fn chain_ids_follow_the_specification() {
        let digest = |text: &str| Digest::sha256(text.as_bytes());
        let config = ImageConfig {
            rootfs: Layers { diff_ids: vec![digest("a"), digest("b"), digest("c")], ..Layers::default() },
            ..ImageConfig::default()
        };
        let chain = config.chain_ids();
        let second = digest(&format!("{} {}", digest("a"), digest("b")));
        let third = digest(&format!("{second} {}", digest("c")));
        assert_eq!(chain.iter().map(ChainId::digest).collect::<Vec<_>>(), [&digest("a"), &second, &third]);
    }

    #[test]
    fn any_bytes_are_answered() {
        let mut parsed = 0;
        for bytes in mutations(&[DOCKER.as_bytes()], 20_000, 5) {
            if let Ok(config) = ImageConfig::parse(&bytes) {
                parsed += 1;
                assert_eq!(config.chain_ids().len(), config.rootfs.diff_ids.len());
            }
        }
        assert!(parsed > 500, "{parsed}");
    }
}
