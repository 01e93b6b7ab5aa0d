//! Fetches the packages that the tables are made from, by name through the ordinary clients, and checks their digests.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

/// A wheel of PyPI.
struct Wheel {
    name: &'static str,
    version: &'static str,
    file: &'static str,
    sha256: &'static str,
}

const DEFINITIONS: Wheel = Wheel {
    name: "kubernetes-validate",
    version: "1.37.0",
    file: "kubernetes_validate-1.37.0-py3-none-any.whl",
    sha256: "85136d018a27b50ec7fc049d902bfa5193f5976807e6c0f408e3ab6fe078cad9",
};
const PATHS: Wheel = Wheel {
    name: "lightkube-models",
    version: "1.36.3.8",
    file: "lightkube_models-1.36.3.8-py3-none-any.whl",
    sha256: "a938eed82e61ae3083e7cac15802e58cf8f7e5d7d6a9a9576d5cbb043427db46",
};
const K8S_PB_VERSION: &str = "0.9.0";
const K8S_PB_SHA256: &str = "43b6ba14400b62feaa58ebbbd32ce2d9a4601339b2820af393f68033b9cea620";

/// Where the unpacked sources lie.
pub(super) struct Packages {
    /// `_definitions.json` of Kubernetes 1.36.
    pub(super) definitions: PathBuf,
    /// The directory of lightkube's resource modules.
    pub(super) lightkube: PathBuf,
    /// The `src` directory of `k8s-pb`.
    pub(super) k8s_pb: PathBuf,
}

/// Downloads what is not yet under `work`, and unpacks it.
pub(super) fn fetch(work: &Path) -> Result<Packages> {
    std::fs::create_dir_all(work).with_context(|| format!("create {}", work.display()))?;
    let definitions = wheel(work, &DEFINITIONS)?
        .join("kubernetes_validate/kubernetes-json-schema/v1.36.0-local/_definitions.json");
    let lightkube = wheel(work, &PATHS)?.join("lightkube/resources");
    Ok(Packages { definitions, lightkube, k8s_pb: k8s_pb(work)? })
}

fn wheel(work: &Path, wheel: &Wheel) -> Result<PathBuf> {
    let file = work.join(wheel.file);
    if !file.exists() {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest"])
            .arg(work);
        pip.arg(format!("{}=={}", wheel.name, wheel.version));
        run(pip)?;
    }
    let bytes = std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
    let digest = hex(&Sha256::digest(&bytes));
    ensure!(digest == wheel.sha256, "{} has the digest {digest}, not {}", file.display(), wheel.sha256);
    let unpacked = work.join(wheel.name);
    if !unpacked.exists() {
        let mut unzip = Command::new("python3");
        unzip.args(["-m", "zipfile", "-e"]).arg(&file).arg(&unpacked);
        run(unzip)?;
    }
    Ok(unpacked)
}

/// Lets cargo vendor the crate, whose checksum file names the digest of the package it came from.
fn k8s_pb(work: &Path) -> Result<PathBuf> {
    let vendored = work.join("vendor/k8s-pb");
    if !vendored.exists() {
        let manifest = work.join("k8s-pb-source");
        std::fs::create_dir_all(manifest.join("src"))
            .with_context(|| format!("create {}", manifest.display()))?;
        std::fs::write(manifest.join("src/lib.rs"), "")?;
        let text = format!(
            "[package]\nname = \"source\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n[dependencies]\nk8s-pb = \"={K8S_PB_VERSION}\"\n"
        );
        std::fs::write(manifest.join("Cargo.toml"), text)?;
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["vendor", "--quiet", "--manifest-path"]).arg(manifest.join("Cargo.toml"));
        cargo.arg(work.join("vendor"));
        run(cargo)?;
    }
    let checksum = vendored.join(".cargo-checksum.json");
    let text = std::fs::read(&checksum).with_context(|| format!("read {}", checksum.display()))?;
    let json: serde_json::Value = serde_json::from_slice(&text).context("the checksum file is JSON")?;
    ensure!(
        json["package"] == K8S_PB_SHA256,
        "k8s-pb has the digest {}, not {K8S_PB_SHA256}",
        json["package"]
    );
    Ok(vendored.join("src"))
}

fn run(mut command: Command) -> Result<()> {
    let name = format!("{command:?}");
    let output = command.output().with_context(|| format!("start {name}"))?;
    if !output.status.success() {
        bail!("{name} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
