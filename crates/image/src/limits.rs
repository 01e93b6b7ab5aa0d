//! What an image may cost. Every bound of this crate is a field here; an error that hits one names the field.

/// Bounds on images. All sizes are bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// One manifest or index.
    pub manifest_bytes: u64,
    /// One image configuration.
    pub config_bytes: u64,
    /// One layer blob as transferred, usually compressed.
    pub layer_bytes: u64,
    /// All blobs of one image together.
    pub image_bytes: u64,
    /// Layers of one image; overlayfs of Linux allows a few hundred.
    pub layers: u64,
    /// One imported archive, unpacked.
    pub archive_bytes: u64,
    /// Entries of one imported archive.
    pub archive_entries: u64,
    /// One layer, decompressed.
    pub unpacked_bytes: u64,
    /// Entries of one layer.
    pub unpacked_entries: u64,
    /// The files of all layers of one image together: many small bombs are one large one.
    pub unpacked_image_bytes: u64,
    /// Decompressed size of a layer divided by its compressed size, once it is larger than 64 MiB. Deflate cannot
    /// exceed 1,032.
    pub compression_ratio: u64,
    /// One path inside a layer or archive; also one link target.
    pub path_bytes: u64,
    /// Components of one path.
    pub path_depth: u64,
    /// One extended header of a tar archive (long names, extended attributes).
    pub header_bytes: u64,
    /// Data segments of one sparse file.
    pub sparse_segments: u64,
    /// Memory for what can only be applied at the end of a layer: whiteouts and the times of directories.
    pub deferred_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            manifest_bytes: 4 << 20,
            config_bytes: 8 << 20,
            layer_bytes: 16 << 30,
            image_bytes: 32 << 30,
            layers: 128,
            archive_bytes: 64 << 30,
            archive_entries: 20_000,
            unpacked_bytes: 32 << 30,
            unpacked_entries: 1_000_000,
            unpacked_image_bytes: 64 << 30,
            compression_ratio: 1_100,
            path_bytes: 4_095,
            path_depth: 256,
            header_bytes: 1 << 20,
            sparse_segments: 65_536,
            deferred_bytes: 64 << 20,
        }
    }
}

/// A bound of [`Limits`] was hit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} exceeds the limit `{limit}` of {max}; raise it in the image limits if you trust the source")]
pub struct Exceeded {
    /// What is too large, such as "layer sha256:…".
    pub what: String,
    /// The field of [`Limits`].
    pub limit: &'static str,
    /// Its value.
    pub max: u64,
}

impl Exceeded {
    /// An error when `value` is above `max`.
    ///
    /// # Errors
    /// When it is.
    pub fn check(
        value: u64,
        limit: &'static str,
        max: u64,
        what: impl FnOnce() -> String,
    ) -> Result<(), Self> {
        if value > max { Err(Self { what: what(), limit, max }) } else { Ok(()) }
    }
}
