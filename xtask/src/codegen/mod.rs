//! `cargo xtask codegen`: makes the tables of built-in resources and their types.
//!
//! Three published packages are the source, each pinned by version and digest: the OpenAPI definitions of Kubernetes 1.36
//! with their extensions (`kubernetes-validate`), the paths that its server answers (`lightkube-models`), and the
//! protobuf messages with the comments of the Go types (`k8s-pb`), which alone declare defaults and the numbers of fields.
//! What none of them says stands in [`resources`], [`protobuf`] and `presence.txt`, and is refused where a package
//! contradicts it.
//!
//! The result is checked in under `crates/api/src/generated`, so that building needs no network; `--check` makes it anew
//! and fails if it differs.

mod definitions;
mod emit;
mod lightkube;
mod markers;
mod messages;
mod packages;
mod presence;
mod protobuf;
mod resources;
mod schema;

use std::borrow::Cow;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use flate2::read::DeflateDecoder;

/// One file of the result, by its name under the directory of generated files.
struct Output {
    name: &'static str,
    bytes: Vec<u8>,
}

/// Runs the task.
pub(crate) fn run(options: &[&str]) -> Result<()> {
    let check = match options {
        [] => false,
        ["--check"] => true,
        other => bail!("codegen does not know the options {other:?}; it takes --check or nothing"),
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")?;
    let work = target_dir(root).join("codegen");
    let outputs = generate(&work)?;
    let committed = root.join("crates/api/src/generated");
    if check {
        return compare(&outputs, &committed, &work.join("generated"));
    }
    write(&outputs, &committed)
}

fn target_dir(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

fn generate(work: &Path) -> Result<Vec<Output>> {
    let packages = packages::fetch(work)?;
    let definitions = definitions::read(&packages.definitions)?;
    let paths = lightkube::read(&packages.lightkube)?;
    let defaults = markers::read_defaults(&packages.k8s_pb)?;
    resources::check(&definitions, &paths)?;
    let arena = schema::build(&definitions, &defaults)?;
    let messages = protobuf::join(&arena, &messages::read(&packages.k8s_pb)?, &presence::read()?)?;
    emit::all(&arena, &messages)
}

fn write(outputs: &[Output], dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    for output in outputs {
        let path = dir.join(output.name);
        std::fs::write(&path, &output.bytes).with_context(|| format!("write {}", path.display()))?;
        println!("{:>8} bytes  {}", output.bytes.len(), path.display());
    }
    Ok(())
}

fn compare(outputs: &[Output], committed: &Path, fresh: &Path) -> Result<()> {
    write(outputs, fresh)?;
    for output in outputs {
        let path = committed.join(output.name);
        let have = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        if contents(output.name, &have)? != contents(output.name, &output.bytes)? {
            bail!(
                "{} is not what codegen makes now ({}): run `cargo xtask codegen` and commit the result",
                path.display(),
                fresh.join(output.name).display()
            );
        }
    }
    println!("the generated files are up to date");
    Ok(())
}

/// A file's bytes; of a compressed one what is in it, since compressors differ between their versions.
fn contents<'a>(name: &str, bytes: &'a [u8]) -> Result<Cow<'a, [u8]>> {
    if !name.ends_with(".deflate") {
        return Ok(bytes.into());
    }
    let mut out = Vec::new();
    DeflateDecoder::new(bytes).read_to_end(&mut out).with_context(|| format!("{name} is not deflated"))?;
    Ok(out.into())
}
