//! Image names: `[host[:port]/]path[:tag][@digest]`.
//!
//! [`Reference::parse`] is the only way from text (a pod's `image:`, a command line, an annotation of an archive) to a
//! name that may become part of a URL or an index key, so everything else in this crate relies on its grammar.
//!
//! Spec: the grammar of the `reference` package of the CNCF distribution project, and its normalisation: a name
//! without a host belongs to `docker.io`, a single component there to `library/`, and a name with neither tag nor
//! digest has the tag `latest`. Stricter than that grammar in three points: IPv6 literals must be addresses, ports
//! must fit 16 bits, and digests must be sha256 or sha512.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, DigestError, is_lower_hex};
use crate::quote::clip;

#[cfg(test)]
mod tests;

const DEFAULT_REGISTRY: &str = "docker.io";
const LEGACY_DEFAULT_REGISTRY: &str = "index.docker.io";
const OFFICIAL_PREFIX: &str = "library/";
const DEFAULT_TAG: &str = "latest";

/// Longest text that is looked at; a legal one is shorter.
const MAX_TEXT: usize = 1_024;
const MAX_PATH: usize = 255;
const MAX_TAG: usize = 128;

/// Why a text is not an image name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing, or nothing before the tag.
    #[error("the image name is empty")]
    Empty,
    /// Longer than any legal name.
    #[error("the image name is longer than {max} characters")]
    TooLong {
        /// The limit.
        max: usize,
    },
    /// Repositories are lower case.
    #[error("image name `{0}`: the repository must be lower case")]
    UpperCase(String),
    /// 64 hexadecimal digits are an image id, not a name.
    #[error("`{0}` is an image id, not a name: write a repository, or the id where one is asked for")]
    LooksLikeId(String),
    /// The part before the first slash is not `host` or `host:port`.
    #[error("image name `{name}`: `{host}` is not a registry host")]
    Host {
        /// The whole text.
        name: String,
        /// The offending part.
        host: String,
    },
    /// A path component has a character or a separator out of place.
    #[error(
        "image name `{name}`: `{component}` is not a path component; use lower-case letters and digits, \
         separated by `.`, `_`, `__` or dashes"
    )]
    Path {
        /// The whole text.
        name: String,
        /// The offending part.
        component: String,
    },
    /// The part after the colon is not a tag.
    #[error(
        "image name `{name}`: `{tag}` is not a tag; use at most 128 letters, digits, `_`, `.` and `-`, \
         not starting with `.` or `-`"
    )]
    Tag {
        /// The whole text.
        name: String,
        /// The offending part.
        tag: String,
    },
    /// The part after the at sign is not a digest.
    #[error("image name `{name}`: {source}")]
    Digest {
        /// The whole text.
        name: String,
        /// What is wrong with it.
        #[source]
        source: DigestError,
    },
}

/// A normalised image name. It has a tag, or a digest, or both.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Parses and normalises an image name.
    ///
    /// # Errors
    /// When the text does not follow the grammar; the error names the part.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        if text.len() > MAX_TEXT {
            return Err(ReferenceError::TooLong { max: MAX_TEXT });
        }
        if text.len() == 64 && is_lower_hex(text) {
            return Err(ReferenceError::LooksLikeId(text.to_owned()));
        }
        let (rest, digest) = split_digest(text)?;
        let (registry, path_and_tag) = split_registry(rest);
        let (path, tag) = match path_and_tag.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (path_and_tag, None),
        };
        if path.is_empty() {
            return Err(ReferenceError::Empty);
        }
        check_host(text, registry)?;
        check_path(text, path)?;
        if let Some(tag) = tag {
            check_tag(text, tag)?;
        }
        let repository = if registry == DEFAULT_REGISTRY && !path.contains('/') {
            format!("{OFFICIAL_PREFIX}{path}")
        } else {
            path.to_owned()
        };
        if repository.len() > MAX_PATH {
            return Err(ReferenceError::TooLong { max: MAX_PATH });
        }
        let tag = match (tag, &digest) {
            (None, None) => Some(DEFAULT_TAG.to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }

    /// The registry as named: `docker.io`, `registry.example:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path inside the registry: `library/nginx`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if the name has one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if the name has one. It decides what is pulled, whatever the tag says.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Registry and repository, without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// `name@digest`: the same repository, exactly this content.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self {
            registry: self.registry.clone(),
            repository: self.repository.clone(),
            tag: None,
            digest: Some(digest),
        }
    }

    /// The name as people write it: without `docker.io/` and `library/`.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let Some(short) = full.strip_prefix(DEFAULT_REGISTRY).and_then(|s| s.strip_prefix('/')) else {
            return full;
        };
        short.strip_prefix(OFFICIAL_PREFIX).unwrap_or(short).to_owned()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Reference {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

fn split_digest(text: &str) -> Result<(&str, Option<Digest>), ReferenceError> {
    let Some((rest, digest)) = text.split_once('@') else { return Ok((text, None)) };
    match Digest::parse(digest) {
        Ok(digest) => Ok((rest, Some(digest))),
        Err(source) => Err(ReferenceError::Digest { name: clip(text), source }),
    }
}

/// A first component is a host only if it could not be a path component of the default registry.
fn split_registry(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        Some((LEGACY_DEFAULT_REGISTRY, path)) => (DEFAULT_REGISTRY, path),
        Some((host, path))
            if host == "localhost"
                || host.contains(['.', ':'])
                || host.chars().any(|c| c.is_ascii_uppercase()) =>
        {
            (host, path)
        }
        _ => (DEFAULT_REGISTRY, text),
    }
}

fn check_host(name: &str, host: &str) -> Result<(), ReferenceError> {
    let fail = || ReferenceError::Host { name: clip(name), host: clip(host) };
    let (address, port) = match host.strip_prefix('[') {
        Some(literal) => {
            let (address, after) = literal.split_once(']').ok_or_else(fail)?;
            address.parse::<Ipv6Addr>().map_err(|_| fail())?;
            (None, after)
        }
        None => {
            let end = host.find(':').unwrap_or(host.len());
            (Some(&host[..end]), &host[end..])
        }
    };
    if !port.is_empty() {
        let digits = port.strip_prefix(':').ok_or_else(fail)?;
        let plain = digits.bytes().all(|b| b.is_ascii_digit());
        if !plain || digits.parse::<u16>().is_err() {
            return Err(fail());
        }
    }
    match address {
        Some(address) if !address.split('.').all(is_domain_component) => Err(fail()),
        _ => Ok(()),
    }
}

fn is_domain_component(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn check_path(name: &str, path: &str) -> Result<(), ReferenceError> {
    if path.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(ReferenceError::UpperCase(clip(name)));
    }
    match path.split('/').find(|component| !is_path_component(component)) {
        Some(component) => Err(ReferenceError::Path { name: clip(name), component: clip(component) }),
        None => Ok(()),
    }
}

/// Runs of lower-case letters and digits, joined by `.`, `_`, `__` or any number of dashes.
fn is_path_component(text: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends_well = |b: Option<&u8>| b.is_some_and(|b| is_word(*b));
    ends_well(bytes.first())
        && ends_well(bytes.last())
        && bytes.split(|b| is_word(*b)).all(|separator| {
            matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
        })
}

fn check_tag(name: &str, tag: &str) -> Result<(), ReferenceError> {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let well_formed = tag.len() <= MAX_TAG
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|b| is_word(b) || b == b'.' || b == b'-');
    if well_formed { Ok(()) } else { Err(ReferenceError::Tag { name: clip(name), tag: clip(tag) }) }
}
