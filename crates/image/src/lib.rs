//! Container images: digests, content store, registry client, snapshots.
