//! The files of an archive, kept aside until it is known which of them are wanted.
//!
//! A streamed archive may say last what its first entries were, so each file goes to a temporary file of the store as
//! it comes. Names of the archive are only keys of a map here, never names on the disk, and links are only aliases in
//! that map: no archive can reach a file outside. A directory is read on demand, beneath its descriptor and without
//! following symbolic links.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

use super::ImportError;
use crate::compress::{Bound, Decoder, Metered};
use crate::digest::Digest;
use crate::limits::{Exceeded, Limits};
use crate::store::{ContentStore, Expected, StagedBlob, StoreError};
use crate::tarball::{Bounds, Entry, Kind, Reader, TarError, display};

const BUFFER: usize = 256 << 10;
/// Links to links to links; more is a loop.
const MAX_ALIASES: usize = 8;

/// Where an image is imported from.
pub enum Source {
    /// An archive file, or a directory in OCI image layout.
    Path(PathBuf),
    /// An archive, streamed.
    Reader(Box<dyn Read + Send>),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => write!(f, "Source({})", path.display()),
            Self::Reader(_) => f.write_str("Source(stream)"),
        }
    }
}

/// The files of one archive by name.
pub(super) struct Stage {
    store: ContentStore,
    files: BTreeMap<String, Staged>,
    /// Where names that were not staged yet may be found.
    directory: Option<OwnedFd>,
}

enum Staged {
    Here(StagedBlob),
    /// Handed out; what it was.
    Taken(Digest, u64),
    Alias(String),
}

impl Stage {
    pub(super) fn open(store: &ContentStore, source: Source) -> Result<Self, ImportError> {
        let mut stage = Self { store: store.clone(), files: BTreeMap::new(), directory: None };
        match source {
            Source::Reader(reader) => stage.read_archive(reader)?,
            Source::Path(path) if path.is_dir() => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let fd = openat(CWD, &path, flags, Mode::empty());
                stage.directory = Some(fd.map_err(|errno| unreadable(&path)(errno.into()))?);
            }
            Source::Path(path) => {
                // Not waiting for a writer, as opening a pipe would.
                let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
                let fd = openat(CWD, &path, flags, Mode::empty());
                let file = File::from(fd.map_err(|errno| unreadable(&path)(errno.into()))?);
                if !file.metadata().map_err(unreadable(&path))?.is_file() {
                    let path = path.display().to_string();
                    return Err(ImportError::Entry { path, what: "is neither a file nor a directory" });
                }
                stage.read_archive(Box::new(file))?;
            }
        }
        Ok(stage)
    }

    /// A small document, left where it is.
    pub(super) fn read(
        &mut self,
        name: &str,
        limit: &'static str,
        max: u64,
    ) -> Result<Option<Vec<u8>>, ImportError> {
        let name = self.locate(name, (limit, max))?;
        match self.files.get(&name) {
            Some(Staged::Here(blob)) => Ok(Some(blob.read(limit, max)?)),
            _ => Ok(None),
        }
    }

    /// What a name is: digest and size.
    pub(super) fn inspect(&mut self, name: &str) -> Result<Option<(Digest, u64)>, ImportError> {
        let max = self.store.limits().layer_bytes;
        let name = self.locate(name, ("layer_bytes", max))?;
        Ok(match self.files.get(&name) {
            Some(Staged::Here(blob)) => Some((blob.digest().digest().clone(), blob.size())),
            Some(Staged::Taken(digest, size)) => Some((digest.clone(), *size)),
            _ => None,
        })
    }

    /// Hands a file out; nothing when there is none of this name, or it was handed out before.
    pub(super) fn take(&mut self, name: &str) -> Result<Option<StagedBlob>, ImportError> {
        let max = self.store.limits().layer_bytes;
        let name = self.locate(name, ("layer_bytes", max))?;
        let Some(staged) = self.files.get_mut(&name) else { return Ok(None) };
        let Staged::Here(blob) = staged else { return Ok(None) };
        let taken = Staged::Taken(blob.digest().digest().clone(), blob.size());
        Ok(match std::mem::replace(staged, taken) {
            Staged::Here(blob) => Some(blob),
            Staged::Taken(..) | Staged::Alias(_) => None,
        })
    }

    /// Follows aliases and, for a directory, brings the file in.
    fn locate(&mut self, name: &str, limit: (&'static str, u64)) -> Result<String, ImportError> {
        let mut name = normalise(name.as_bytes())?;
        for _ in 0..MAX_ALIASES {
            match self.files.get(&name) {
                Some(Staged::Alias(target)) => name.clone_from(target),
                Some(_) => return Ok(name),
                None => {
                    self.fetch(&name, limit)?;
                    return Ok(name);
                }
            }
        }
        Err(ImportError::Entry { path: name, what: "is a link that leads nowhere" })
    }

    fn fetch(&mut self, name: &str, (limit, max): (&'static str, u64)) -> Result<(), ImportError> {
        let Some(directory) = &self.directory else { return Ok(()) };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let path = PathBuf::from(name);
        let mut file = match openat2(directory, name, flags, Mode::empty(), resolve) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT) => return Ok(()),
            Err(Errno::LOOP) => {
                return Err(ImportError::Entry {
                    path: name.to_owned(),
                    what: "is or goes through a symbolic link",
                });
            }
            Err(errno) => return Err(unreadable(&path)(errno.into()).into()),
        };
        let metadata = file.metadata().map_err(unreadable(&path))?;
        if !metadata.is_file() {
            return Err(ImportError::Entry { path: name.to_owned(), what: "is not a file" });
        }
        let expected = Expected { digest: digest_of_name(name), size: None, limit, max };
        let mut writer = self.store.writer(expected)?;
        let mut buffer = vec![0; BUFFER];
        loop {
            match file.read(&mut buffer).map_err(unreadable(&path))? {
                0 => break,
                n => writer.append(&buffer[..n])?,
            }
        }
        self.files.insert(name.to_owned(), Staged::Here(writer.finish()?));
        Ok(())
    }

    fn read_archive(&mut self, source: Box<dyn Read + Send>) -> Result<(), ImportError> {
        let limits = self.store.limits().clone();
        let decoder = Decoder::open(BufReader::with_capacity(BUFFER, source)).map_err(TarError::from)?;
        let max = limits.archive_bytes;
        let bounds = vec![Bound { limit: "archive_bytes", value: max, bytes: max }];
        let metered = Metered::new(decoder, "the archive".to_owned(), bounds);
        let mut archive = Reader::new(BufReader::with_capacity(BUFFER, metered), Bounds::archive(&limits));
        while let Some(entry) = archive.next_entry()? {
            self.entry(&entry, &mut archive, &limits)?;
        }
        Ok(())
    }

    fn entry<R: Read>(
        &mut self,
        entry: &Entry,
        archive: &mut Reader<R>,
        limits: &Limits,
    ) -> Result<(), ImportError> {
        let name = normalise(&entry.path)?;
        let refuse = |what| Err(ImportError::Entry { path: entry.display(), what });
        let staged = match &entry.kind {
            Kind::Directory => return Ok(()),
            Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => return refuse("is a device or pipe"),
            Kind::File if entry.segments.is_some() => return refuse("is a sparse file"),
            Kind::File => Staged::Here(self.receive(&name, entry.size, archive, limits)?),
            Kind::Hardlink(target) => Staged::Alias(normalise(target)?),
            Kind::Symlink(target) => {
                let directory = name.rsplit_once('/').map_or("", |(directory, _)| directory);
                Staged::Alias(relative(directory, target)?)
            }
        };
        match (self.files.get(&name), &staged) {
            (Some(Staged::Here(old)), Staged::Here(new)) if old.digest() == new.digest() => Ok(()),
            (Some(_), _) => refuse("appears twice with different content"),
            (None, _) => {
                self.files.insert(name, staged);
                Ok(())
            }
        }
    }

    fn receive<R: Read>(
        &self,
        name: &str,
        size: u64,
        archive: &mut Reader<R>,
        limits: &Limits,
    ) -> Result<StagedBlob, ImportError> {
        let max = limits.layer_bytes;
        Exceeded::check(size, "layer_bytes", max, || {
            format!("archive entry `{}`", display(name.as_bytes()))
        })?;
        let expected = Expected { digest: digest_of_name(name), size: Some(size), limit: "layer_bytes", max };
        let mut writer = self.store.writer(expected)?;
        let mut buffer = vec![0; BUFFER];
        loop {
            match archive.read_data(&mut buffer)? {
                0 => return Ok(writer.finish()?),
                n => writer.append(&buffer[..n])?,
            }
        }
    }
}

/// In an image layout a blob's name is its digest.
fn digest_of_name(name: &str) -> Option<Digest> {
    let (algorithm, hex) = name.strip_prefix("blobs/")?.split_once('/')?;
    Digest::parse(&format!("{algorithm}:{hex}")).ok()
}

/// A relative name without `.` and empty components.
fn normalise(name: &[u8]) -> Result<String, ImportError> {
    if name.starts_with(b"/") {
        return Err(ImportError::Entry { path: display(name), what: "has an absolute name" });
    }
    relative("", name)
}

/// `target` as seen from `directory`, inside the archive.
fn relative(directory: &str, target: &[u8]) -> Result<String, ImportError> {
    let refuse = |what| ImportError::Entry { path: display(target), what };
    let text = std::str::from_utf8(target).map_err(|_| refuse("has a name that is not UTF-8"))?;
    if text.starts_with('/') {
        return Err(refuse("is the absolute target of a link"));
    }
    let mut parts: Vec<&str> = directory.split('/').filter(|part| !part.is_empty()).collect();
    let climbs = directory.is_empty();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." if climbs => return Err(refuse("climbs out of the archive by `..`")),
            ".." => {
                parts.pop().ok_or_else(|| refuse("climbs out of the archive by `..`"))?;
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

fn unreadable(path: &Path) -> impl FnOnce(std::io::Error) -> StoreError + use<> {
    StoreError::io("read", path)
}
