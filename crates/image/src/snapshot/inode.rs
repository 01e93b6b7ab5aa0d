//! Small operations on one file-system object, relative to an opened directory.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, fchmod, fchown, fgetxattr,
    openat, statat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::ExtractError;
use super::path::LayerPath;

/// Mode, owner and time of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: (i64, u32),
}

impl Attributes {
    /// Of a directory that no layer describes.
    pub(super) fn of_implied_directory(owner: u32) -> Self {
        Self { mode: 0o755, uid: owner, gid: owner, mtime: (0, 0) }
    }

    pub(super) fn of(stat: &Stat) -> Self {
        let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
        Self {
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: (stat.st_mtime, nanos),
        }
    }

    /// Owner first: changing it clears the set-id bits.
    pub(super) fn apply(&self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        fchown(fd, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))?;
        fchmod(fd, Mode::from_raw_mode(self.mode))
    }
}

/// What is at `name`, without following a link; nothing if nothing is.
pub(super) fn stat(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Stat>, Errno> {
    match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

pub(super) fn is_dir(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// Opens a directory for reading and for its attributes.
pub(super) fn open_subdir(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(dir, name, flags, Mode::empty())
}

/// Sets the modification time of `name` (a link itself, not its target); the access time becomes the same.
pub(super) fn set_times(dir: BorrowedFd<'_>, name: &[u8], mtime: (i64, u32)) -> Result<(), Errno> {
    let time = Timespec { tv_sec: mtime.0, tv_nsec: mtime.1.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)
}

/// An extended attribute's value; nothing if it is not set or the file system has none.
pub(super) fn xattr(fd: BorrowedFd<'_>, name: &str) -> Result<Option<Vec<u8>>, Errno> {
    let mut value = vec![0; 256];
    match fgetxattr(fd, name, &mut value) {
        Ok(n) => {
            value.truncate(n);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        // Longer than any value that is asked for.
        Err(Errno::RANGE) => Ok(Some(Vec::new())),
        Err(errno) => Err(errno),
    }
}

/// The names in a directory, without `.` and `..`.
pub(super) fn list(dir: BorrowedFd<'_>, path: &LayerPath) -> Result<Vec<Vec<u8>>, ExtractError> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir).map_err(ExtractError::io("list", path))? {
        let entry = entry.map_err(ExtractError::io("list", path))?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

/// Removes whatever is at `name`, directories with all their content. The bound on path depth bounds the recursion.
pub(super) fn remove(dir: BorrowedFd<'_>, name: &[u8], path: &LayerPath) -> Result<(), ExtractError> {
    let fail = || ExtractError::io("replace", path);
    match unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(errno) => return Err(fail()(errno)),
    }
    let sub = open_subdir(dir, name).map_err(fail())?;
    for inner in list(sub.as_fd(), path)? {
        remove(sub.as_fd(), &inner, &path.join(&inner))?;
    }
    unlinkat(dir, name, AtFlags::REMOVEDIR).map_err(fail())
}
