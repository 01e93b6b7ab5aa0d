//! Two layers of anybody unpacked one over the other. Run as root, of a user namespace or of the host.
//!
//! Nothing outside the snapshots changes, what fails leaves nothing, and unpacking again gives the same.
#![no_main]

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use xebec_fuzz::{Choices, seeds, target};
use xebec_image::archive::{Layer, LayerBuilder};
use xebec_image::compress::Compression;
use xebec_image::config::ImageConfig;
use xebec_image::limits::Limits;
use xebec_image::manifest::{Descriptor, Manifest};
use xebec_image::progress::Silent;
use xebec_image::snapshot::{Snapshots, UnpackPolicy, WhiteoutStyle};
use xebec_image::store::{ContentStore, Expected};
use xebec_image::{Digest, media};

const PARTS: [&str; 12] = ["a", "b", "c", "..", ".", "", ".wh.a", ".wh..wh..opq", ".wh.", "dir", "\u{e9}", ".wh..."];

fn seeds() -> Vec<Vec<u8>> {
    let raw = LayerBuilder::new().directory("dir", 0o755).file("dir/a", 0o4755, b"text").symlink("l", "/").whiteout("dir/b");
    let raw = raw.build(Compression::None);
    let mut seeds = vec![[&[1, 1][..], raw.blob()].concat()];
    seeds.extend((0..16_usize).map(|seed| (0..200_usize).map(|at| (at * 13 + at * at * seed + seed * 7) as u8).collect()));
    seeds
}

fn path(choices: &mut Choices<'_>) -> String {
    let parts: Vec<&str> = (0..=choices.below(3)).map(|_| *choices.pick(&PARTS)).collect();
    let root = if choices.once_in(8) { "/" } else { "" };
    format!("{root}{}", parts.join("/"))
}

fn link(choices: &mut Choices<'_>) -> String {
    match choices.below(5) {
        0 => "../../../../../outside".to_owned(),
        1 => "/".to_owned(),
        2 => "..".to_owned(),
        _ => path(choices),
    }
}

fn layer(choices: &mut Choices<'_>) -> Layer {
    let compression = *choices.pick(&[Compression::None, Compression::Gzip, Compression::Zstd]);
    let mut builder = LayerBuilder::new();
    for _ in 0..choices.below(12) {
        let name = path(choices);
        builder = match choices.below(8) {
            0 | 1 => builder.directory(&name, u32::from(choices.byte())),
            2 | 3 => builder.file(&name, 0o4755, b"text"),
            4 => builder.symlink(&name, &link(choices)),
            5 => builder.hardlink(&name, &link(choices)),
            6 => builder.whiteout(&name),
            _ => builder.opaque(&name),
        };
    }
    builder.build(compression)
}

/// What is in a directory beside the snapshots, with what a write or a change of owner or mode would change.
fn outside(directory: &Path) -> Vec<(String, u32, u32, i64, u64)> {
    let mut all = Vec::new();
    for path in [directory.to_owned(), directory.join("outside"), directory.join("outside/file"), directory.join("link")] {
        let meta = fs::symlink_metadata(&path).expect("it is still there");
        all.push((path.display().to_string(), meta.mode(), meta.uid(), meta.ctime_nsec(), meta.nlink()));
    }
    all
}

fn run(layers: &[Layer], style: WhiteoutStyle) {
    let directory = tempfile::tempdir().expect("a directory");
    let beside = directory.path();
    fs::create_dir(beside.join("outside")).expect("made");
    fs::write(beside.join("outside/file"), "outside").expect("written");
    symlink("outside", beside.join("link")).expect("made");
    let limits = Limits { unpacked_bytes: 8 << 20, unpacked_entries: 500, ..Limits::default() };
    let store = ContentStore::open(&beside.join("images"), limits).expect("a store");
    let snapshots = Snapshots::with_style(&store, UnpackPolicy::default(), style).expect("snapshots");
    let mut config = ImageConfig::default();
    for layer in layers {
        let expected = Expected { digest: None, size: None, limit: "layer_bytes", max: 1 << 30 };
        store.put(layer.blob(), expected).expect("stored");
        config.rootfs.diff_ids.push(layer.diff_id().clone());
    }
    let descriptor = Descriptor::new(media::OCI_CONFIG, Digest::sha256(b""), 0);
    let manifest = Manifest::new(descriptor, layers.iter().map(Layer::descriptor).collect());
    let before = outside(beside);
    let first = snapshots.ensure(&manifest, &config, &Silent);
    assert_eq!(outside(beside), before, "something outside was changed");
    let temporary = fs::read_dir(store.root().join("tmp")).map_or(0, Iterator::count);
    assert_eq!(temporary, 0, "something temporary was left");
    let again = snapshots.ensure(&manifest, &config, &Silent);
    assert_eq!(first.as_ref().ok(), again.as_ref().ok());
}

target!("image_layer", seeds(), |data| {
    let mut choices = Choices::new(data);
    let style = *choices.pick(&[WhiteoutStyle::Device, WhiteoutStyle::Xattr, WhiteoutStyle::Merged]);
    if choices.once_in(2) {
        let mut tar = choices.rest().to_vec();
        seeds::fix_tar_checksums(&mut tar);
        run(&[Layer::from_tar(tar, Compression::None)], style);
    } else {
        let below = layer(&mut choices);
        run(&[below, layer(&mut choices)], style);
    }
});
