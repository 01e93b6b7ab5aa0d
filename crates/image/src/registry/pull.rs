//! Pulling: from a name to blobs in the content store.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::sync::{Notify, mpsc};

use super::credentials::Keyring;
use super::{Client, RegistryError, Session};
use crate::acquired::Acquired;
use crate::blocking::blocking;
use crate::config::{ConfigError, ImageConfig, ImageId};
use crate::digest::Digest;
use crate::limits::Exceeded;
use crate::manifest::{Descriptor, Document, Manifest, ManifestError};
use crate::platform::Platform;
use crate::progress::{Event, Progress};
use crate::reference::Reference;
use crate::store::{ContentStore, Expected, Lease, StoreError, Verified, VerifiedDigest, Writer};

/// Pieces of a blob between the network and the disk.
const PIECES: usize = 32;
/// Bytes after which a transfer counts as going on, so that failures before it are forgiven.
const PROGRESS: u64 = 1 << 20;
/// Indexes inside indexes.
const MAX_NESTING: u32 = 3;

/// Why an image could not be pulled.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A manifest is unusable.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The configuration is unusable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What came is not what was asked for, or the disk is full.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A manifest has another size than announced.
    #[error("manifest {digest} has {actual} bytes, but {expected} were announced")]
    ManifestSize {
        /// The manifest.
        digest: Digest,
        /// In the index.
        expected: u64,
        /// What came.
        actual: u64,
    },
    /// A bound was hit.
    #[error(transparent)]
    Limit(#[from] Exceeded),
}

/// Pulls the image for `platform`, trying the credentials that fit it one after the other.
///
/// Blobs that are in the store already are not transferred, and two pulls of the same blob from the same registry share
/// one transfer. When the returned future is dropped, transfers stop and leave nothing.
///
/// # Errors
/// As described by [`PullError`]. Blobs that were complete stay in the store for the next attempt, until pruned.
pub async fn pull(
    client: &Client,
    (store, downloads): (&ContentStore, &Downloads),
    image: &Reference,
    keyring: &Keyring,
    platform: &Platform,
    progress: &dyn Progress,
) -> Result<Acquired, PullError> {
    let mut refused = None;
    for credentials in keyring.pick(image) {
        let session = client.session(image, credentials)?;
        let pull = Pull { session, store, downloads, platform, progress };
        match pull.run(image).await {
            Err(PullError::Registry(error)) if error.is_denied() => refused = Some(error),
            outcome => return outcome,
        }
    }
    Err(refused.unwrap_or_else(|| RegistryError::denied(image)).into())
}

struct Pull<'a> {
    session: Session,
    store: &'a ContentStore,
    downloads: &'a Downloads,
    platform: &'a Platform,
    progress: &'a dyn Progress,
}

impl Pull<'_> {
    async fn run(&self, image: &Reference) -> Result<Acquired, PullError> {
        let mut leases = Vec::new();
        let (target, manifest) = self.resolve(image, &mut leases).await?;
        let limits = self.store.limits();
        manifest.value().check_image(limits)?;
        let layers = &manifest.value().layers;
        let config = &manifest.value().config;
        self.progress.report(Event::Resolved {
            name: image,
            manifest: manifest.digest(),
            layers: layers.len(),
            total: manifest.value().content_bytes(),
        });
        let mut seen = HashSet::new();
        let blobs: Vec<&Descriptor> =
            std::iter::once(config).chain(layers).filter(|blob| seen.insert(&blob.digest)).collect();
        leases.extend(blobs.iter().map(|blob| self.store.lease(&blob.digest)));
        // Boxed and collected first: closures over references inside a stream keep its future from being `Send`.
        let fetches: Vec<_> = blobs.into_iter().map(|blob| self.fetch(blob).boxed()).collect();
        stream::iter(fetches).buffer_unordered(self.session.client.parallel).try_collect::<()>().await?;
        let (store, digest, max) = (self.store.clone(), config.digest.clone(), limits.config_bytes);
        let bytes = blocking(move || store.read(&digest, "config_bytes", max)).await?;
        let id = ImageId(config.digest.clone());
        let config = ImageConfig::parse(bytes.bytes())?;
        config.check_platform(self.platform)?;
        config.check_layers(layers.len())?;
        Ok(Acquired { target, id, config, leases: Arc::new(leases), manifest })
    }

    /// The digest that the name stands for, and this platform's manifest.
    async fn resolve(
        &self,
        image: &Reference,
        leases: &mut Vec<Lease>,
    ) -> Result<(Digest, Verified<Manifest>), PullError> {
        let by_digest = image.digest().map(|digest| Descriptor::new("", digest.clone(), 0));
        let tag = image.tag().unwrap_or_default();
        let (mut verified, mut content_type) = match &by_digest {
            Some(descriptor) => self.manifest(descriptor.digest.as_str(), Some(&descriptor.digest)).await?,
            None => self.manifest(tag, None).await?,
        };
        let target = verified.digest().clone();
        for _ in 0..=MAX_NESTING {
            leases.push(self.store.lease(verified.digest()));
            let document = Document::parse(verified.bytes(), content_type.as_deref())?;
            self.keep(&verified).await?;
            let index = match document {
                Document::Manifest(manifest) => {
                    return Ok((target, verified.parse(|_| Ok::<_, ManifestError>(*manifest))?));
                }
                Document::Index(index) => index,
            };
            let picked = index.pick(self.platform)?;
            (verified, content_type) = self.manifest(picked.digest.as_str(), Some(&picked.digest)).await?;
            let actual = u64::try_from(verified.bytes().len()).unwrap_or(u64::MAX);
            if actual != picked.size {
                let (digest, expected) = (picked.digest.clone(), picked.size);
                return Err(PullError::ManifestSize { digest, expected, actual });
            }
        }
        Err(ManifestError::Ambiguous("indexes are nested too deeply".to_owned()).into())
    }

    async fn manifest(
        &self,
        tag_or_digest: &str,
        digest: Option<&Digest>,
    ) -> Result<(Verified<()>, Option<String>), PullError> {
        let max = self.store.limits().manifest_bytes;
        let retry = &self.session.client.retry;
        let get = || self.session.manifest(tag_or_digest, max).boxed();
        let raw = retry.run(tag_or_digest, self.progress, get).await?;
        let verified = match digest {
            Some(digest) => Verified::check(raw.bytes, digest)?,
            None => Verified::by_content(raw.bytes),
        };
        Ok((verified, raw.content_type))
    }

    /// Stores a manifest as it came.
    async fn keep(&self, verified: &Verified<()>) -> Result<(), PullError> {
        let (store, bytes) = (self.store.clone(), verified.bytes().clone());
        let max = store.limits().manifest_bytes;
        let digest = Some(verified.digest().clone());
        let expected = Expected { digest, size: None, limit: "manifest_bytes", max };
        blocking(move || store.put(&bytes, expected)).await?;
        Ok(())
    }

    /// Makes sure that a blob is in the store.
    async fn fetch(&self, blob: &Descriptor) -> Result<(), PullError> {
        let _turn = self.downloads.turn(&self.session, &blob.digest).await;
        let (store, wanted) = (self.store.clone(), blob.clone());
        let Some(writer) = blocking(move || prepare(&store, wanted)).await? else {
            self.progress.report(Event::Complete { blob: &blob.digest, reused: true });
            return Ok(());
        };
        let (sender, receiver) = mpsc::channel(PIECES);
        let store = self.store.clone();
        let writing = blocking(move || write(&store, writer, receiver));
        // Both run together. Whichever fails first stops the other: the channel between them closes.
        let (sent, written) = tokio::join!(self.transfer(blob, sender), writing);
        match (sent, written) {
            (_, Err(error)) => Err(error.into()),
            (Err(error), _) => Err(error.into()),
            (Ok(()), Ok(_)) => {
                self.progress.report(Event::Complete { blob: &blob.digest, reused: false });
                Ok(())
            }
        }
    }

    /// Sends a blob's bytes to the writer, continuing where a connection broke.
    async fn transfer(&self, blob: &Descriptor, sender: mpsc::Sender<Piece>) -> Result<(), RegistryError> {
        let retry = &self.session.client.retry;
        let (mut done, mut forgiven_at, mut failures) = (0, 0, 0);
        loop {
            let error = match self.attempt(blob, &mut done, &sender).await {
                Ok(Attempt::Complete) => {
                    // The writer is gone only after an error of its own, which is the one that counts.
                    drop(sender.send(Piece::End).await);
                    return Ok(());
                }
                Ok(Attempt::Unwanted) => return Ok(()),
                Err(error) => error,
            };
            if done >= forgiven_at + PROGRESS {
                forgiven_at = done;
                failures = 0;
            }
            failures += 1;
            let Some(wait) = retry.wait(failures, &error) else { return Err(error) };
            retry.pause(blob.digest.as_str(), failures, &error, wait, self.progress).await;
        }
    }

    async fn attempt(
        &self,
        blob: &Descriptor,
        done: &mut u64,
        sender: &mpsc::Sender<Piece>,
    ) -> Result<Attempt, RegistryError> {
        let session = &self.session;
        let (mut body, start) = session.blob(&blob.digest, *done).await?;
        // A registry that cannot resume sends what is there already once more.
        let mut skip = *done - start;
        while let Some(mut piece) = body.next().await? {
            let length = u64::try_from(piece.len()).expect("a slice's length fits 64 bits");
            if skip >= length {
                skip -= length;
                continue;
            }
            let _skipped = piece.split_to(usize::try_from(skip).expect("less than the piece's length"));
            skip = 0;
            *done += u64::try_from(piece.len()).expect("a slice's length fits 64 bits");
            if sender.send(Piece::Data(piece)).await.is_err() {
                return Ok(Attempt::Unwanted);
            }
            self.progress.report(Event::Transferred { blob: &blob.digest, done: *done, total: blob.size });
        }
        if *done < blob.size {
            let (got, expected) = (*done, blob.size);
            return Err(RegistryError::Short {
                host: session.host(),
                blob: blob.digest.clone(),
                got,
                expected,
            });
        }
        Ok(Attempt::Complete)
    }
}

/// How one attempt to transfer a blob ended.
enum Attempt {
    Complete,
    /// The writer wants no more: it has failed.
    Unwanted,
}

enum Piece {
    Data(Bytes),
    /// Everything came. Without it, the end of the channel means that the transfer was given up.
    End,
}

/// A writer for a blob; nothing if it is in the store.
fn prepare(store: &ContentStore, blob: Descriptor) -> Result<Option<Writer>, StoreError> {
    if store.contains(&blob.digest, blob.size)? {
        return Ok(None);
    }
    let max = store.limits().layer_bytes;
    let (digest, size) = (Some(blob.digest), Some(blob.size));
    store.writer(Expected { digest, size, limit: "layer_bytes", max }).map(Some)
}

/// Writes what comes; nothing is stored unless the end was announced.
fn write(
    store: &ContentStore,
    mut writer: Writer,
    mut pieces: mpsc::Receiver<Piece>,
) -> Result<Option<VerifiedDigest>, StoreError> {
    loop {
        match pieces.blocking_recv() {
            None => return Ok(None),
            Some(Piece::Data(bytes)) => writer.append(&bytes)?,
            Some(Piece::End) => {
                let staged = writer.finish()?;
                let digest = staged.digest().clone();
                store.publish(vec![staged])?;
                return Ok(Some(digest));
            }
        }
    }
}

/// Blobs on their way, so that two pulls of one share the transfer. By registry too: else a slow one could announce
/// what others have, and whoever wants it from them would wait for the slow one.
#[derive(Debug, Default)]
pub struct Downloads {
    busy: Mutex<HashSet<(String, Digest)>>,
    changed: Notify,
}

impl Downloads {
    /// Waits until nobody else transfers the blob from this registry.
    async fn turn(&self, session: &Session, digest: &Digest) -> Turn<'_> {
        let blob = (session.host(), digest.clone());
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before looking, so that a change in between is not missed.
            changed.as_mut().enable();
            if self.busy.lock().unwrap_or_else(PoisonError::into_inner).insert(blob.clone()) {
                return Turn { downloads: self, blob };
            }
            changed.await;
        }
    }
}

/// The right to transfer one blob.
struct Turn<'a> {
    downloads: &'a Downloads,
    blob: (String, Digest),
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.downloads.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.blob);
        self.downloads.changed.notify_waiters();
    }
}
