//! One layer from blob to directory: decompress, hash on both sides, unpack, mark.

use std::fs;
use std::io::BufReader;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::extract::{Context, Extracted, Extractor};
use super::graft::graft;
use super::lower::LowerView;
use super::policy::Report;
use super::whiteout::WhiteoutStyle;
use super::{ExtractError, FILES, Inner, META, Meta, SnapshotError};
use crate::compress::{Bound, Decoder, Hashed, Metered};
use crate::digest::Digest;
use crate::limits::Limits;
use crate::manifest::Descriptor;
use crate::store::{BlobReader, StoreError, TempDir};
use crate::tarball::{Bounds, Reader, TarError};

const BUFFER: usize = 256 << 10;
/// Below this size, a high ratio is nothing to worry about.
const RATIO_FREE_BYTES: u64 = 64 << 20;

/// An unpacked layer. Dropped, it leaves nothing.
#[derive(Debug)]
pub(super) struct Unpacked {
    temp: TempDir,
    report: Report,
}

/// An unpacked layer that is ready to be moved into place. Dropped, it leaves nothing.
#[derive(Debug)]
pub(super) struct DescribedLayer {
    temp: TempDir,
    name: String,
}

impl Unpacked {
    pub(super) fn report(&self) -> &Report {
        &self.report
    }

    /// Writes `meta.json`.
    pub(super) fn describe(self, name: &str, meta: &Meta) -> Result<DescribedLayer, SnapshotError> {
        let path = self.temp.path().join(META);
        fs::write(&path, serde_json::to_vec_pretty(meta)?).map_err(StoreError::io("write", &path))?;
        Ok(DescribedLayer { temp: self.temp, name: name.to_owned() })
    }
}

impl DescribedLayer {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn files(&self) -> PathBuf {
        self.temp.path().join(FILES)
    }

    pub(super) fn publish(self, target: &Path) -> Result<(), StoreError> {
        self.temp.rename_to(target)
    }
}

/// Unpacks a layer over those below it (topmost first) into a temporary directory.
pub(super) fn unpack(
    inner: &Inner,
    layer: &Descriptor,
    diff_id: &Digest,
    below: &[PathBuf],
) -> Result<Unpacked, SnapshotError> {
    let temp = inner.store.temp_dir("unpack")?;
    let files = temp.path().join(FILES);
    fs::create_dir(&files).map_err(StoreError::io("create", &files))?;
    let root = open(&files)?;
    let below = below.iter().map(|path| open(path)).collect::<Result<Vec<_>, _>>()?;
    let report = fill(inner, layer, diff_id, &root, &LowerView::new(below))?;
    Ok(Unpacked { temp, report })
}

fn open(path: &Path) -> Result<OwnedFd, StoreError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    openat(CWD, path, flags, Mode::empty()).map_err(|errno| StoreError::io("open", path)(errno.into()))
}

fn fill(
    inner: &Inner,
    layer: &Descriptor,
    diff_id: &Digest,
    root: &OwnedFd,
    lower: &LowerView,
) -> Result<Report, SnapshotError> {
    let refuse = |source: ExtractError| SnapshotError::Extract { layer: layer.digest.clone(), source };
    let mut blob = inner.store.open_blob(&layer.digest)?;
    let unpacked = extract(inner, layer, diff_id, &mut blob, root, lower);
    // A damaged blob explains any other error, so its digest is looked at first.
    blob.finish()?;
    let (extracted, actual) = unpacked.map_err(refuse)?;
    if actual != *diff_id {
        return Err(SnapshotError::DiffId { layer: layer.digest.clone(), expected: diff_id.clone(), actual });
    }
    complete(inner, extracted, root, lower).map_err(refuse)
}

/// Unpacks the entries and hashes the uncompressed layer to its very end.
fn extract(
    inner: &Inner,
    layer: &Descriptor,
    diff_id: &Digest,
    blob: &mut BlobReader,
    root: &OwnedFd,
    lower: &LowerView,
) -> Result<(Extracted, Digest), ExtractError> {
    let limits = inner.store.limits();
    let bounds = stream_bounds(limits, blob.size());
    let decoder = Decoder::open(BufReader::with_capacity(BUFFER, blob)).map_err(TarError::from)?;
    let metered = Metered::new(decoder, format!("layer {}", layer.digest), bounds);
    let mut hashed = Hashed::new(metered, diff_id.algorithm());
    let mut archive = Reader::new(BufReader::with_capacity(BUFFER, &mut hashed), Bounds::layer(limits));
    let context = Context { root: root.as_fd(), lower, policy: &inner.recipe.policy, limits };
    let extracted = Extractor::new(context).run(&mut archive)?;
    let actual = hashed.finish().map_err(TarError::from)?;
    Ok((extracted, actual))
}

/// Applies what could not be applied before the last entry was there.
fn complete(
    inner: &Inner,
    mut extracted: Extracted,
    root: &OwnedFd,
    lower: &LowerView,
) -> Result<Report, ExtractError> {
    let mut whiteouts = std::mem::take(&mut extracted.whiteouts);
    whiteouts.settle(root.as_fd())?;
    match (inner.recipe.style, lower.layers()) {
        (_, []) => {}
        (WhiteoutStyle::Merged, [below, ..]) => graft(root.as_fd(), below.as_fd(), &whiteouts)?,
        (style, _) => {
            let owner = inner.recipe.policy.shift.apply(0).unwrap_or_default();
            whiteouts.mark(root.as_fd(), lower, style, owner)?;
        }
    }
    extracted.set_directory_times(root.as_fd())?;
    Ok(extracted.report)
}

fn stream_bounds(limits: &Limits, compressed: u64) -> Vec<Bound> {
    let ratio = limits.compression_ratio;
    vec![
        Bound { limit: "unpacked_bytes", value: limits.unpacked_bytes, bytes: limits.unpacked_bytes },
        Bound {
            limit: "compression_ratio",
            value: ratio,
            bytes: compressed.saturating_mul(ratio).max(RATIO_FREE_BYTES),
        },
    ]
}
