//! Unpacking one layer's archive into a directory.
//!
//! Everything is done relative to descriptors below the layer's root (see `path.rs`); the last component of a
//! path is never followed, and what is in its place is removed first, so an existing file is never written to. Later
//! entries win over earlier ones. Times of directories and whiteouts are applied at the end.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Uid, chmodat, chownat, futimens, linkat, mkdirat, mknodat, openat,
    symlinkat,
};
use rustix::fs::{Timespec, Timestamps};
use rustix::io::Errno;

use super::ExtractError;
use super::inode::{self, Attributes};
use super::lower::{LowerView, Visible};
use super::path::{LayerPath, Missing, OpenDir, open_dir, real_path, resolve};
use super::policy::{DevicePolicy, OwnerPolicy, Report, SetIdPolicy, UnpackPolicy, Warning};
use super::whiteout::{self, Name, Whiteouts, implied_directory};
use crate::limits::{Exceeded, Limits};
use crate::tarball::{Entry, Kind, Reader, Segment, display};

const BUFFER: usize = 256 << 10;

/// What a layer is unpacked with.
pub(super) struct Context<'a> {
    pub(super) root: BorrowedFd<'a>,
    pub(super) lower: &'a LowerView,
    pub(super) policy: &'a UnpackPolicy,
    pub(super) limits: &'a Limits,
}

/// A layer being unpacked.
pub(super) struct Extractor<'a> {
    context: Context<'a>,
    whiteouts: Whiteouts,
    directory_times: Vec<(LayerPath, (i64, u32))>,
    deferred_bytes: u64,
    /// The directory of the entry before, by the path that led there.
    parent: Option<(LayerPath, Rc<OpenDir>)>,
    report: Report,
    buffer: Vec<u8>,
}

/// A layer whose entries are in place, before whiteouts and directory times.
pub(super) struct Extracted {
    pub(super) whiteouts: Whiteouts,
    pub(super) report: Report,
    directory_times: Vec<(LayerPath, (i64, u32))>,
}

impl Extracted {
    /// Sets the times of directories, which filling them changed.
    pub(super) fn set_directory_times(&self, root: BorrowedFd<'_>) -> Result<(), ExtractError> {
        for (path, mtime) in &self.directory_times {
            if let Some(dir) = open_dir(root, path)? {
                let time = Timespec { tv_sec: mtime.0, tv_nsec: mtime.1.into() };
                let times = Timestamps { last_access: time, last_modification: time };
                futimens(&dir, &times).map_err(ExtractError::io("set the time of", path))?;
            }
        }
        Ok(())
    }
}

impl<'a> Extractor<'a> {
    pub(super) fn new(context: Context<'a>) -> Self {
        Self {
            context,
            whiteouts: Whiteouts::default(),
            directory_times: Vec::new(),
            deferred_bytes: 0,
            parent: None,
            report: Report::default(),
            buffer: vec![0; BUFFER],
        }
    }

    /// Unpacks every entry.
    pub(super) fn run<R: Read>(mut self, archive: &mut Reader<R>) -> Result<Extracted, ExtractError> {
        self.begin()?;
        while let Some(entry) = archive.next_entry()? {
            self.report.entries += 1;
            self.entry(&entry, archive)?;
        }
        Ok(Extracted {
            whiteouts: self.whiteouts,
            report: self.report,
            directory_times: self.directory_times,
        })
    }

    /// The root looks like the one below, until the archive says otherwise.
    fn begin(&mut self) -> Result<(), ExtractError> {
        let root = LayerPath::default();
        let attributes = match self.context.lower.look(&root)? {
            Visible::Directory(attributes) => attributes,
            Visible::Nothing | Visible::Other => Attributes::of_implied_directory(self.root_owner()),
        };
        let dir = inode::open_subdir(self.context.root, b".").map_err(ExtractError::io("open", &root))?;
        attributes.apply(dir.as_fd()).map_err(ExtractError::io("set the owner of", &root))?;
        self.defer_time(root, attributes.mtime)
    }

    fn root_owner(&self) -> u32 {
        self.context.policy.shift.apply(0).unwrap_or(self.context.policy.shift.highest)
    }

    fn entry<R: Read>(&mut self, entry: &Entry, archive: &mut Reader<R>) -> Result<(), ExtractError> {
        let path = LayerPath::parse(&entry.path, self.context.limits)?;
        let Some((parent, name)) = path.split() else {
            return match entry.kind {
                Kind::Directory => self.describe(self.context.root, b".", &path, entry),
                _ => Err(ExtractError::Name { path: entry.display(), what: "is the root, but no directory" }),
            };
        };
        if parent.components().any(|component| whiteout::classify(component) == Name::Aufs) {
            return Ok(());
        }
        if parent.components().any(|component| whiteout::classify(component) != Name::Plain) {
            return Err(ExtractError::Name { path: entry.display(), what: "is inside a whiteout" });
        }
        match whiteout::classify(name) {
            Name::Plain => self.place(&path, &parent, name, entry, archive),
            Name::Hides(hidden) => {
                let path = self.real(&parent)?.join(hidden);
                self.defer(path.weight())?;
                self.whiteouts.hidden.insert(path);
                Ok(())
            }
            Name::Opaque => {
                let path = self.real(&parent)?;
                self.defer(path.weight())?;
                self.whiteouts.opaque.insert(path);
                Ok(())
            }
            Name::Aufs => {
                self.report.warn(Warning::Aufs { path: path.to_string() });
                Ok(())
            }
            Name::Invalid => {
                Err(ExtractError::Name { path: entry.display(), what: "is a whiteout of nothing" })
            }
        }
    }

    fn place<R: Read>(
        &mut self,
        path: &LayerPath,
        parent: &LayerPath,
        name: &[u8],
        entry: &Entry,
        archive: &mut Reader<R>,
    ) -> Result<(), ExtractError> {
        if matches!(entry.kind, Kind::CharDevice | Kind::BlockDevice) {
            return self.device(path);
        }
        let dir = self.parent(parent)?;
        let (fd, path) = (dir.fd.as_fd(), dir.path.join(name));
        path.check(self.context.limits)?;
        match &entry.kind {
            Kind::File => self.file(fd, name, &path, entry, archive),
            Kind::Directory => self.directory(fd, name, &path, entry),
            Kind::Symlink(target) => {
                let make = || symlinkat(target.as_slice(), fd, name);
                self.replacing(fd, name, &path, make, "create the symbolic link")?;
                self.describe_special(fd, name, &path, entry)
            }
            Kind::Hardlink(target) => self.hardlink(fd, name, &path, target),
            Kind::Fifo => {
                let make = || mknodat(fd, name, FileType::Fifo, Mode::RUSR, 0);
                self.replacing(fd, name, &path, make, "create the pipe")?;
                self.describe_special(fd, name, &path, entry)
            }
            Kind::CharDevice | Kind::BlockDevice => Ok(()),
        }
    }

    fn device(&mut self, path: &LayerPath) -> Result<(), ExtractError> {
        match self.context.policy.devices {
            DevicePolicy::Refuse => Err(ExtractError::Device { path: path.to_string() }),
            DevicePolicy::Drop => {
                self.report.warn(Warning::Device { path: path.to_string() });
                Ok(())
            }
        }
    }

    fn file<R: Read>(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        path: &LayerPath,
        entry: &Entry,
        archive: &mut Reader<R>,
    ) -> Result<(), ExtractError> {
        self.report.bytes = self.report.bytes.saturating_add(entry.size);
        let max = self.context.limits.unpacked_bytes;
        Exceeded::check(self.report.bytes, "unpacked_bytes", max, || "the layer's files".to_owned())?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let make = || openat(dir, name, flags, Mode::RUSR | Mode::WUSR);
        let fd = self.replacing(dir, name, path, make, "create the file")?;
        let file = File::from(fd);
        match &entry.segments {
            None => self.copy(&file, path, archive)?,
            Some(segments) => self.copy_sparse(&file, path, segments, entry.size, archive)?,
        }
        self.attributes(path, entry)?
            .apply(file.as_fd())
            .map_err(ExtractError::io("set the owner of", path))?;
        self.xattrs(file.as_fd(), path, entry)?;
        let time = Timespec { tv_sec: entry.mtime.0, tv_nsec: entry.mtime.1.into() };
        futimens(&file, &Timestamps { last_access: time, last_modification: time })
            .map_err(ExtractError::io("set the time of", path))
    }

    fn copy<R: Read>(
        &mut self,
        mut file: &File,
        path: &LayerPath,
        archive: &mut Reader<R>,
    ) -> Result<(), ExtractError> {
        loop {
            match archive.read_data(&mut self.buffer)? {
                0 => return Ok(()),
                n => file.write_all(&self.buffer[..n]).map_err(|e| ExtractError::write(path, e))?,
            }
        }
    }

    fn copy_sparse<R: Read>(
        &mut self,
        file: &File,
        path: &LayerPath,
        segments: &[Segment],
        size: u64,
        archive: &mut Reader<R>,
    ) -> Result<(), ExtractError> {
        file.set_len(size).map_err(|e| ExtractError::write(path, e))?;
        for segment in segments {
            let (mut at, end) = (segment.offset, segment.offset + segment.length);
            while at < end {
                let want = usize::try_from(end - at).unwrap_or(BUFFER).min(BUFFER);
                let n = archive.read_data(&mut self.buffer[..want])?;
                file.write_all_at(&self.buffer[..n], at).map_err(|e| ExtractError::write(path, e))?;
                at += u64::try_from(n).expect("a slice's length fits 64 bits");
            }
        }
        Ok(())
    }

    fn directory(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        path: &LayerPath,
        entry: &Entry,
    ) -> Result<(), ExtractError> {
        let existing = inode::stat(dir, name).map_err(ExtractError::io("inspect", path))?;
        if !existing.is_some_and(|stat| inode::is_dir(&stat)) {
            self.replacing(dir, name, path, || mkdirat(dir, name, Mode::RWXU), "create the directory")?;
        }
        self.describe(dir, name, path, entry)
    }

    fn hardlink(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        path: &LayerPath,
        target: &[u8],
    ) -> Result<(), ExtractError> {
        let fail =
            |what: String| ExtractError::HardLink { path: path.to_string(), target: display(target), what };
        let target_path = LayerPath::parse(target, self.context.limits)?;
        let Some((parent, target_name)) = target_path.split() else {
            return Err(fail("that is the root".to_owned()));
        };
        let from = match resolve(self.context.root, &parent, Missing::Refuse, self.context.limits) {
            Ok(from) => Some(from),
            Err(ExtractError::NoParent { .. }) => None,
            Err(error) => return Err(fail(error.to_string())),
        };
        let existing = from.as_ref().map(|from| inode::stat(from.fd.as_fd(), target_name)).transpose();
        let existing = existing.map_err(ExtractError::io("inspect", &target_path))?.flatten();
        let from = match (from, existing) {
            (_, Some(existing)) if inode::is_dir(&existing) => {
                return Err(fail("that is a directory".to_owned()));
            }
            (Some(from), Some(_)) if from.path.join(target_name) == *path => {
                return Err(fail("that is itself".to_owned()));
            }
            (Some(from), Some(_)) => from.fd,
            // Linked and not copied, as where trees are merged: neither unpacking nor overlayfs ever writes to a file below.
            // Whether this layer hides its old name makes no difference.
            _ => (self.context.lower)
                .directory_of(&self.real(&parent)?.join(target_name))?
                .ok_or_else(|| fail("there is no such file in this layer or below it".to_owned()))?,
        };
        let make = || linkat(&from, target_name, dir, name, AtFlags::empty());
        self.replacing(dir, name, path, make, "create the hard link")
    }

    /// Makes something, removing first what is in its place.
    fn replacing<T>(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        path: &LayerPath,
        mut make: impl FnMut() -> Result<T, Errno>,
        action: &'static str,
    ) -> Result<T, ExtractError> {
        match make() {
            Err(Errno::EXIST) => {
                self.parent = None;
                inode::remove(dir, name, path)?;
                make().map_err(ExtractError::io(action, path))
            }
            outcome => outcome.map_err(ExtractError::io(action, path)),
        }
    }

    /// Owner, mode, attributes and, at the end, time of a directory.
    fn describe(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        path: &LayerPath,
        entry: &Entry,
    ) -> Result<(), ExtractError> {
        let fd = inode::open_subdir(dir, name).map_err(ExtractError::io("open", path))?;
        let attributes = self.attributes(path, entry)?;
        attributes.apply(fd.as_fd()).map_err(ExtractError::io("set the owner of", path))?;
        self.xattrs(fd.as_fd(), path, entry)?;
        self.defer_time(path.clone(), entry.mtime)
    }

    /// Owner and time of a link or pipe, and the mode of a pipe; a link has none.
    fn describe_special(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        path: &LayerPath,
        entry: &Entry,
    ) -> Result<(), ExtractError> {
        let attributes = self.attributes(path, entry)?;
        let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
        chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(ExtractError::io("set the owner of", path))?;
        if entry.kind == Kind::Fifo {
            chmodat(dir, name, Mode::from_raw_mode(attributes.mode), AtFlags::empty())
                .map_err(ExtractError::io("set the mode of", path))?;
        }
        inode::set_times(dir, name, entry.mtime).map_err(ExtractError::io("set the time of", path))
    }

    fn attributes(&mut self, path: &LayerPath, entry: &Entry) -> Result<Attributes, ExtractError> {
        let shift = self.context.policy.shift;
        let (uid, gid) = match (shift.apply(entry.uid), shift.apply(entry.gid)) {
            (Some(uid), Some(gid)) => (uid, gid),
            (uid, gid) => {
                let (path, foreign) = (path.to_string(), if uid.is_none() { entry.uid } else { entry.gid });
                if self.context.policy.owners == OwnerPolicy::Refuse {
                    return Err(ExtractError::Owner { path, id: foreign });
                }
                self.report.warn(Warning::Owner { path, id: foreign });
                (uid.unwrap_or(shift.nobody()), gid.unwrap_or(shift.nobody()))
            }
        };
        let mut mode = entry.mode;
        if entry.kind == Kind::File && mode & 0o6000 != 0 && self.context.policy.set_id == SetIdPolicy::Strip
        {
            self.report.warn(Warning::SetId { path: path.to_string() });
            mode &= 0o1777;
        }
        Ok(Attributes { mode, uid, gid, mtime: entry.mtime })
    }

    fn xattrs(&mut self, fd: BorrowedFd<'_>, path: &LayerPath, entry: &Entry) -> Result<(), ExtractError> {
        for (name, value) in &entry.xattrs {
            let ours = name.strip_prefix(b"user.").is_some_and(|rest| !is_overlay(rest));
            let kept = ours && {
                match rustix::fs::fsetxattr(fd, name.as_slice(), value, rustix::fs::XattrFlags::empty()) {
                    Ok(()) => true,
                    Err(Errno::OPNOTSUPP | Errno::PERM) => false,
                    Err(errno) => return Err(ExtractError::io("set an attribute of", path)(errno)),
                }
            };
            if !kept {
                self.report.warn(Warning::Xattr { path: path.to_string(), name: display(name) });
            }
        }
        Ok(())
    }

    /// The directory that an entry goes to, made where it is missing.
    fn parent(&mut self, path: &LayerPath) -> Result<Rc<OpenDir>, ExtractError> {
        if let Some((cached, dir)) = &self.parent
            && cached == path
        {
            return Ok(Rc::clone(dir));
        }
        let owner = self.root_owner();
        let lower = self.context.lower;
        let mut made = Vec::new();
        let mut create = |dir: BorrowedFd<'_>, here: &LayerPath, name: &[u8]| {
            let path = here.join(name);
            let attributes = implied_directory(dir, &path, name, lower, owner)?;
            made.push((path, attributes.mtime));
            Ok(())
        };
        let dir = resolve(self.context.root, path, Missing::Create(&mut create), self.context.limits)?;
        for (path, mtime) in made {
            self.defer_time(path, mtime)?;
        }
        let dir = Rc::new(dir);
        self.parent = Some((path.clone(), Rc::clone(&dir)));
        Ok(dir)
    }

    fn real(&self, path: &LayerPath) -> Result<LayerPath, ExtractError> {
        real_path(self.context.root, path, self.context.limits)
    }

    fn defer_time(&mut self, path: LayerPath, mtime: (i64, u32)) -> Result<(), ExtractError> {
        self.defer(path.weight())?;
        self.directory_times.push((path, mtime));
        Ok(())
    }

    fn defer(&mut self, bytes: u64) -> Result<(), ExtractError> {
        self.deferred_bytes = self.deferred_bytes.saturating_add(bytes);
        let what = || "the memory for the layer's whiteouts and directories".to_owned();
        Ok(Exceeded::check(self.deferred_bytes, "deferred_bytes", self.context.limits.deferred_bytes, what)?)
    }
}

/// Overlayfs gives a meaning to `user.overlay` and what is below it.
fn is_overlay(rest: &[u8]) -> bool {
    rest.strip_prefix(b"overlay").is_some_and(|rest| rest.is_empty() || rest.starts_with(b"."))
}
