//! The index of images: which names mean which manifest.
//!
//! One small file, replaced as a whole and synced, so that a crash leaves either the old or the new index. An image is
//! in it by its manifest for this platform; its names are tags (`repo:tag`) and digests (`repo@digest`, of the manifest
//! or of the multi-platform index that was asked for). A name means one image; giving it to another takes it from the
//! first, which stays, as an image that pods may still run, until it is removed.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::config::ImageId;
use crate::digest::{Digest, is_lower_hex};
use crate::quote::clip;
use crate::reference::{Reference, ReferenceError};
use crate::store::{StoreError, sync_dir};

const FILE: &str = "index.json";
const VERSION: u32 = 1;
/// Fewer digits than this are rather a name.
const MIN_ID_PREFIX: usize = 4;

/// What went wrong with the index.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The file system failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The index cannot be understood.
    #[error("the image index {path} is damaged ({source}); remove it and pull or import the images again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Written by a later version.
    #[error("the image index {path} has version {version}, which this version does not know")]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// No image of this name or id.
    #[error("image `{0}` is not present; pull or import it")]
    NotFound(String),
    /// A prefix that fits several ids.
    #[error("`{0}` is the beginning of several image ids; give more digits")]
    Ambiguous(String),
    /// Not a name, and no id either.
    #[error(transparent)]
    Name(#[from] ReferenceError),
}

/// One image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its id: the digest of its configuration.
    pub id: ImageId,
    /// Digest of its manifest for this platform.
    pub manifest: Digest,
    /// Digest of what its names refer to in a registry: the manifest or the index that it was picked from.
    pub target: Digest,
    /// Bytes of its configuration and layers as stored.
    pub size: u64,
    /// `repo:tag` names.
    pub tags: BTreeSet<Reference>,
    /// `repo@digest` names.
    pub digests: BTreeSet<Reference>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Contents {
    version: u32,
    images: Vec<Record>,
}

/// The index of one store.
#[derive(Debug)]
pub struct Images {
    dir: PathBuf,
    images: Mutex<Vec<Record>>,
}

impl Images {
    /// Opens the index in `dir`.
    ///
    /// # Errors
    /// When it cannot be read or understood.
    pub fn open(dir: &Path) -> Result<Self, IndexError> {
        let path = dir.join(FILE);
        let images = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(StoreError::io("read", &path)(error).into()),
            Ok(bytes) => {
                let damaged = |source| IndexError::Damaged { path: path.clone(), source };
                let contents: Contents = serde_json::from_slice(&bytes).map_err(damaged)?;
                if contents.version != VERSION {
                    return Err(IndexError::Version { path, version: contents.version });
                }
                contents.images
            }
        };
        Ok(Self { dir: dir.to_owned(), images: Mutex::new(images) })
    }

    /// Every image.
    pub fn list(&self) -> Vec<Record> {
        self.lock().clone()
    }

    /// Adds an image, or adds names to it if it is there. A name that another image had is taken from it.
    ///
    /// # Errors
    /// When the index cannot be written; it is then unchanged.
    pub fn put(&self, image: Record) -> Result<Record, IndexError> {
        self.change(|images| {
            for other in images.iter_mut() {
                other.tags.retain(|tag| !image.tags.contains(tag));
                other.digests.retain(|digest| !image.digests.contains(digest));
            }
            let known = images.iter_mut().find(|other| other.manifest == image.manifest);
            let record = match known {
                Some(known) => {
                    known.tags.extend(image.tags);
                    known.digests.extend(image.digests);
                    known.target = image.target;
                    known.clone()
                }
                None => {
                    images.push(image.clone());
                    image
                }
            };
            Ok(record)
        })
    }

    /// Finds an image by name, digest, id, or the beginning of an id.
    ///
    /// # Errors
    /// When there is none, or several.
    pub fn find(&self, text: &str) -> Result<Record, IndexError> {
        let images = self.lock();
        position(&images, text).map(|found| images[found].clone())
    }

    /// Finds an image by its name.
    pub fn get(&self, name: &Reference) -> Option<Record> {
        let images = self.lock();
        by_name(&images, name).map(|found| images[found].clone())
    }

    /// Gives one more name to an image.
    ///
    /// # Errors
    /// When the image is not there or the index cannot be written.
    pub fn tag(&self, text: &str, name: &Reference) -> Result<Record, IndexError> {
        let mut record = self.find(text)?;
        record.tags = BTreeSet::from([name.clone()]);
        record.digests.clear();
        self.put(record)
    }

    /// Removes a name, or, when `text` is not a tag, the whole image. An image whose last tag is removed goes with it.
    ///
    /// # Errors
    /// When there is no such image or the index cannot be written.
    pub fn remove(&self, text: &str) -> Result<Removed, IndexError> {
        self.change(|images| {
            let found = position(images, text)?;
            let name = Reference::parse(text).ok();
            let tag = name.filter(|name| images[found].tags.contains(name));
            if let Some(tag) = tag
                && images[found].tags.len() > 1
            {
                images[found].tags.remove(&tag);
                return Ok(Removed::Name(tag));
            }
            Ok(Removed::Image(images.remove(found)))
        })
    }

    /// Changes a copy, writes it, and only then takes it over.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut Vec<Record>) -> Result<T, IndexError>,
    ) -> Result<T, IndexError> {
        let mut images = self.lock();
        let mut changed = images.clone();
        let value = change(&mut changed)?;
        if changed != *images {
            self.write(&changed)?;
            *images = changed;
        }
        Ok(value)
    }

    fn write(&self, images: &[Record]) -> Result<(), IndexError> {
        let path = self.dir.join(FILE);
        let temp = self.dir.join("index.json.new");
        let contents = Contents { version: VERSION, images: images.to_vec() };
        let damaged = |source| IndexError::Damaged { path: path.clone(), source };
        let bytes = serde_json::to_vec_pretty(&contents).map_err(damaged)?;
        let mut file = File::create(&temp).map_err(StoreError::io("create", &temp))?;
        file.write_all(&bytes).map_err(StoreError::io("write", &temp))?;
        file.sync_all().map_err(StoreError::io("sync", &temp))?;
        std::fs::rename(&temp, &path).map_err(StoreError::io("replace", &path))?;
        Ok(sync_dir(&self.dir)?)
    }

    /// The list is replaced as a whole, so it is never seen half changed.
    fn lock(&self) -> MutexGuard<'_, Vec<Record>> {
        self.images.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What [`Images::remove`] removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// One of several names.
    Name(Reference),
    /// The image.
    Image(Record),
}

fn position(images: &[Record], text: &str) -> Result<usize, IndexError> {
    if let Ok(digest) = Digest::parse(text) {
        let found =
            images.iter().position(|i| i.id.0 == digest || i.manifest == digest || i.target == digest);
        return found.ok_or_else(|| IndexError::NotFound(text.to_owned()));
    }
    let name = Reference::parse(text);
    if let Ok(name) = &name
        && let Some(found) = by_name(images, name)
    {
        return Ok(found);
    }
    let prefix = text.strip_prefix("sha256:").unwrap_or(text);
    if prefix.len() >= MIN_ID_PREFIX && is_lower_hex(prefix) {
        let mut fitting = images.iter().enumerate().filter(|(_, image)| image.id.0.hex().starts_with(prefix));
        match (fitting.next(), fitting.next()) {
            (Some((found, _)), None) => return Ok(found),
            (Some(_), Some(_)) => return Err(IndexError::Ambiguous(clip(text))),
            (None, _) => return Err(IndexError::NotFound(clip(text))),
        }
    }
    Err(IndexError::NotFound(name?.familiar()))
}

/// A digest in a name decides; a tag beside it is only for people.
fn by_name(images: &[Record], name: &Reference) -> Option<usize> {
    match name.digest() {
        Some(digest) => {
            let name = name.with_digest(digest.clone());
            images.iter().position(|image| image.digests.contains(&name))
        }
        None => images.iter().position(|image| image.tags.contains(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> Digest {
        Digest::sha256(text.as_bytes())
    }

    fn record(seed: &str, names: &[&str]) -> Record {
        let names = names.iter().map(|name| Reference::parse(name).expect("a name"));
        let (digests, tags) = names.partition(|name| name.digest().is_some());
        Record {
            id: ImageId(digest(seed)),
            manifest: digest(&format!("{seed} manifest")),
            target: digest(&format!("{seed} index")),
            size: 1,
            tags,
            digests,
        }
    }

    #[test]
    fn finds_by_every_kind_of_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let images = Images::open(dir.path()).expect("opens");
        let at = format!("h.io/a@{}", digest("a index"));
        images.put(record("a", &["nginx:1.27", &at])).expect("written");
        images.put(record("b", &["h.io/b"])).expect("written");
        let check = |text: &str, expected: Result<&str, &str>| match (images.find(text), expected) {
            (Ok(found), Ok(seed)) => assert_eq!(found.id.0, digest(seed), "{text}"),
            (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{text}: {error}"),
            (found, _) => panic!("{text}: {found:?}"),
        };
        check("nginx:1.27", Ok("a"));
        check("docker.io/library/nginx:1.27", Ok("a"));
        check("nginx", Err("`nginx:latest` is not present"));
        check(&at, Ok("a"));
        check(&format!("h.io/a:anything@{}", digest("a index")), Ok("a"));
        check(&format!("h.io/other@{}", digest("a index")), Err("not present"));
        check(digest("a").as_str(), Ok("a"));
        check(digest("b manifest").as_str(), Ok("b"));
        check(digest("c").as_str(), Err("not present"));
        check(digest("b").short(), Ok("b"));
        check(digest("b").hex(), Ok("b"));
        check(&digest("b").as_str()[..15], Ok("b"));
        check("abcdef", Err("not present"));
        check("Not A Name", Err("lower case"));
        let again = Images::open(dir.path()).expect("opens again");
        assert_eq!(again.list(), images.list());
    }

    #[test]
    fn a_prefix_of_two_ids_is_ambiguous() {
        let dir = tempfile::tempdir().expect("a directory");
        let images = Images::open(dir.path()).expect("opens");
        for tail in ["0", "1"] {
            let mut image = record(tail, &[]);
            image.id = ImageId(
                Digest::parse(&format!("sha256:{}{tail}", "ab".repeat(31) + "c")).expect("64 digits"),
            );
            images.put(image).expect("written");
        }
        assert!(matches!(images.find("abab"), Err(IndexError::Ambiguous(_))));
    }

    #[test]
    fn a_name_moves_and_the_old_image_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let images = Images::open(dir.path()).expect("opens");
        images.put(record("old", &["app"])).expect("written");
        images.put(record("new", &["app"])).expect("written");
        assert_eq!(images.find("app").expect("found").id.0, digest("new"));
        assert!(images.find(digest("old").hex()).expect("still there").tags.is_empty());
        let name = Reference::parse("h.io/app:2").expect("a name");
        assert_eq!(images.tag("app", &name).expect("tagged").tags.len(), 2);
        assert!(matches!(images.remove("app"), Ok(Removed::Name(_))));
        assert!(matches!(images.remove("h.io/app:2"), Ok(Removed::Image(_))));
        assert!(matches!(images.remove("h.io/app:2"), Err(IndexError::NotFound(_))));
        assert!(matches!(images.remove(digest("old").short()), Ok(Removed::Image(_))));
        assert_eq!(images.list(), []);
    }

    #[test]
    fn a_damaged_or_newer_index_is_not_overwritten() {
        let dir = tempfile::tempdir().expect("a directory");
        let check = |contents: &str, expected: &str| {
            std::fs::write(dir.path().join(FILE), contents).expect("written");
            let error = Images::open(dir.path()).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("{", "is damaged");
        check(r#"{"version":2,"images":[]}"#, "has version 2");
    }
}
