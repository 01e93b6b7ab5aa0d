//! The platform that an image is built for, and which entry of a multi-platform index suits this machine.
//!
//! Spec: OCI image spec 1.1, image index, `platform`; names are Go's `GOOS` and `GOARCH`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Operating system, architecture and, for some architectures, a variant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// `amd64`, `arm64`, …
    #[serde(default)]
    pub architecture: String,
    /// `linux`.
    #[serde(default)]
    pub os: String,
    /// `v8` for arm64, `v2`… for amd64; empty means the base of the architecture.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

impl Platform {
    /// The platform that this program was built for, without a variant.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            other => other,
        };
        Self { architecture: architecture.to_owned(), os: "linux".to_owned(), variant: String::new() }
    }

    /// Whether software for `offered` runs on `self`: same system and architecture, and no variant beyond the base one.
    pub fn runs(&self, offered: &Self) -> bool {
        let base = |p: &Self| match (p.architecture.as_str(), p.variant.as_str()) {
            ("amd64", "v1") | ("arm64", "v8") => String::new(),
            (_, variant) => variant.to_owned(),
        };
        self.os == offered.os
            && self.architecture == offered.architecture
            && (base(offered).is_empty() || base(self) == base(offered))
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        let mut parts = text.split('/').map(str::to_owned);
        Platform {
            os: parts.next().unwrap_or_default(),
            architecture: parts.next().unwrap_or_default(),
            variant: parts.next().unwrap_or_default(),
        }
    }

    #[test]
    fn picks_what_runs_here() {
        for (host, offered, runs) in [
            ("linux/amd64", "linux/amd64", true),
            ("linux/amd64", "linux/amd64/v1", true),
            ("linux/amd64", "linux/amd64/v3", false),
            ("linux/amd64/v3", "linux/amd64/v3", true),
            ("linux/amd64", "linux/arm64", false),
            ("linux/arm64", "linux/arm64/v8", true),
            ("linux/amd64", "windows/amd64", false),
            ("linux/amd64", "unknown/unknown", false),
        ] {
            assert_eq!(platform(host).runs(&platform(offered)), runs, "{host} {offered}");
        }
        assert_eq!(platform("linux/arm64/v8").to_string(), "linux/arm64/v8");
        assert_eq!(Platform::host().os, "linux");
    }
}
