//! Pushing: from the content store to a registry.
//!
//! What is pushed is the manifest for this platform; an index that it came from names other platforms' manifests,
//! whose layers are not here.

use futures::FutureExt as _;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::credentials::Keyring;
use super::transport::Payload;
use super::{Client, RegistryError, Session};
use crate::blocking::blocking;
use crate::digest::Digest;
use crate::manifest::{Descriptor, Document, ManifestError};
use crate::media;
use crate::progress::{Event, Progress};
use crate::reference::Reference;
use crate::store::{ContentStore, StoreError};

/// Why an image could not be pushed.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The manifest is unusable.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A blob is missing or damaged.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Pushes the image with manifest `manifest` under the name `to`. Blobs that the repository has are not sent; those
/// that `from`, another repository of the same registry, has are mounted.
///
/// # Errors
/// As described by [`PushError`].
pub async fn push(
    client: &Client,
    store: &ContentStore,
    manifest: &Digest,
    (to, from): (&Reference, Option<&Reference>),
    keyring: &Keyring,
    progress: &dyn Progress,
) -> Result<(), PushError> {
    let max = store.limits().manifest_bytes;
    let verified = {
        let (store, manifest) = (store.clone(), manifest.clone());
        blocking(move || store.read(&manifest, "manifest_bytes", max)).await?
    };
    let Document::Manifest(parsed) = Document::parse(verified.bytes(), None)? else {
        return Err(ManifestError::Neither.into());
    };
    parsed.check_image(store.limits())?;
    let from = from.filter(|from| from.registry() == to.registry());
    let mut refused = None;
    for credentials in keyring.pick(to) {
        let session = client.session(to, credentials)?;
        session.want_push(from);
        let push = Push { session, store, from, progress };
        let name = to.digest().map_or_else(|| to.tag().unwrap_or_default().to_owned(), Digest::to_string);
        let media_type = parsed.media_type.as_deref().unwrap_or(media::OCI_MANIFEST);
        let blobs = std::iter::once(&parsed.config).chain(&parsed.layers);
        let outcome = push.run(&name, media_type, verified.bytes(), blobs).await;
        match outcome {
            Err(PushError::Registry(error)) if error.is_denied() => refused = Some(error),
            outcome => return outcome,
        }
    }
    Err(refused.unwrap_or_else(|| RegistryError::denied(to)).into())
}

struct Push<'a> {
    session: Session,
    store: &'a ContentStore,
    from: Option<&'a Reference>,
    progress: &'a dyn Progress,
}

impl Push<'_> {
    async fn run(
        &self,
        name: &str,
        media_type: &str,
        manifest: &bytes::Bytes,
        blobs: impl Iterator<Item = &Descriptor>,
    ) -> Result<(), PushError> {
        // Boxed and collected first: closures over references inside a stream keep its future from being `Send`.
        let sends: Vec<_> = blobs.map(|blob| self.send(blob).boxed()).collect();
        stream::iter(sends).buffer_unordered(self.session.client.parallel).try_collect::<()>().await?;
        let put = || self.session.put_manifest(name, media_type, manifest.clone()).boxed();
        Ok(self.session.client.retry.run(name, self.progress, put).await?)
    }

    /// Makes sure that the repository has a blob.
    async fn send(&self, blob: &Descriptor) -> Result<(), PushError> {
        // What is sent must be what the manifest says, also if the disk disagrees.
        let (store, digest) = (self.store.clone(), blob.digest.clone());
        blocking(move || store.open_blob(&digest)?.finish()).await?;
        let retry = &self.session.client.retry;
        let what = blob.digest.as_str();
        let reused = retry.run(what, self.progress, || self.offer(blob).boxed()).await?;
        if !reused {
            retry.run(what, self.progress, || self.upload(blob).boxed()).await?;
        }
        self.progress.report(Event::Complete { blob: &blob.digest, reused });
        Ok(())
    }

    /// Whether the repository has the blob, or could take it from another.
    async fn offer(&self, blob: &Descriptor) -> Result<bool, RegistryError> {
        if self.session.has_blob(&blob.digest).await? {
            return Ok(true);
        }
        match self.from {
            Some(from) => self.session.mount(&blob.digest, from).await,
            None => Ok(false),
        }
    }

    async fn upload(&self, blob: &Descriptor) -> Result<(), RegistryError> {
        let path = self.store.blob_path(&blob.digest);
        let sent = |done| {
            self.progress.report(Event::Transferred { blob: &blob.digest, done, total: blob.size });
        };
        match self.session.client.upload_chunk {
            Some(chunk) => self.session.upload_chunked(&blob.digest, (&path, blob.size), chunk, sent).await,
            None => {
                let payload = Payload::File { path, offset: 0, length: blob.size };
                self.session.upload(&blob.digest, payload).await?;
                sent(blob.size);
                Ok(())
            }
        }
    }
}
