//! Archives of anybody, raw and compressed: their entries, and whole images imported into a store.
//!
//! An import that fails leaves nothing in the store, and none writes beside it.
#![no_main]

use std::fs;
use std::io::Cursor;
use std::path::Path;

use xebec_fuzz::{Choices, seeds, target};
use xebec_image::archive::{Builder, LayerBuilder, Source, import};
use xebec_image::compress::{Compression, Decoder};
use xebec_image::limits::Limits;
use xebec_image::platform::Platform;
use xebec_image::store::ContentStore;
use xebec_image::tarball::{Bounds, Reader};

fn seeds() -> Vec<Vec<u8>> {
    let image = |compression| {
        let layer = LayerBuilder::new().file("a", 0o644, b"text").symlink("l", "../a").hardlink("h", "a").build(compression);
        let mut archive = Vec::new();
        Builder::new().name("a:b").layer(layer).cmd(["x"]).write(&mut archive).expect("memory");
        archive
    };
    let long = LayerBuilder::new().file(&"d/".repeat(120), 0o755, b"").build(Compression::Gzip);
    let plain = image(Compression::None);
    [plain.clone(), image(Compression::Gzip), image(Compression::Zstd), long.blob().to_vec()]
        .into_iter()
        .flat_map(|bytes| [[&[0][..], &bytes].concat(), [&[1][..], &bytes].concat()])
        .collect()
}

fn limits() -> Limits {
    Limits { archive_bytes: 16 << 20, archive_entries: 200, layer_bytes: 4 << 20, image_bytes: 8 << 20, ..Limits::default() }
}

fn entries(data: &[u8]) {
    let Ok(decoder) = Decoder::open(Cursor::new(data)) else { return };
    let mut reader = Reader::new(std::io::Read::take(decoder, 16 << 20), Bounds::archive(&limits()));
    let mut buffer = [0; 4096];
    while let Ok(Some(entry)) = reader.next_entry() {
        assert!(entry.path.len() <= 4095, "{}", entry.display());
        while let Ok(1..) = reader.read_data(&mut buffer) {}
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

target!("image_archive", seeds(), |data| {
    let mut choices = Choices::new(data);
    let mend = choices.once_in(2);
    let mut bytes = choices.rest().to_vec();
    if mend {
        seeds::fix_tar_checksums(&mut bytes);
    }
    entries(&bytes);
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path().join("images");
    let store = ContentStore::open(&root, limits()).expect("a store");
    let result = import(&store, Source::Reader(Box::new(Cursor::new(bytes))), None, &Platform::host());
    assert_eq!(names(directory.path()), ["images"]);
    if result.is_err() {
        let pruned: Vec<_> = walk(&root.join("blobs")).chain(walk(&root.join("tmp"))).collect();
        assert!(pruned.is_empty(), "a failed import left {pruned:?}");
    }
});

/// The files below a directory, which need not be there.
fn walk(directory: &Path) -> Box<dyn Iterator<Item = String>> {
    let Ok(entries) = fs::read_dir(directory) else { return Box::new(std::iter::empty()) };
    Box::new(entries.filter_map(Result::ok).flat_map(|entry| {
        let path = entry.path();
        if path.is_dir() { walk(&path) } else { Box::new(std::iter::once(path.display().to_string())) }
    }))
}
