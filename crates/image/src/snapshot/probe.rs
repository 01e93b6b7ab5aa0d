//! Finding out which whiteouts work here, by making one and, where it matters, mounting it.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, statat};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use rustix::mount::{fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen};

use super::whiteout::{self, OPAQUE, WhiteoutStyle};
use crate::store::{ContentStore, StoreError};

impl WhiteoutStyle {
    /// The first style that works on the store's file system for this process.
    ///
    /// # Errors
    /// When the store cannot be written to.
    pub fn probe(store: &ContentStore) -> Result<Self, StoreError> {
        let temp = store.temp_dir("probe")?;
        let style = match Self::first_working(temp.path())? {
            Ok(style) => style,
            Err(reason) => {
                tracing::info!(%reason, "image layers will be stored merged");
                Self::Merged
            }
        };
        tracing::debug!(?style, "whiteout style");
        Ok(style)
    }

    /// The inner error says why no marks can be used.
    fn first_working(dir: &Path) -> Result<Result<Self, Errno>, StoreError> {
        let (upper, lower) = (dir.join("upper"), dir.join("lower"));
        for path in [&upper, &lower] {
            fs::create_dir(path).map_err(StoreError::io("create", path))?;
        }
        let file = lower.join("file");
        fs::write(&file, "").map_err(StoreError::io("write", &file))?;
        let open = |path: &Path| {
            openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|errno| StoreError::io("open", path)(errno.into()))
        };
        let (upper, lower) = (open(&upper)?, open(&lower)?);
        if let Err(errno) = whiteout::set(lower.as_fd(), OPAQUE, b"y") {
            return Ok(Err(errno));
        }
        if whiteout::device(upper.as_fd(), b"device").is_ok() {
            return Ok(Ok(Self::Device));
        }
        Ok(xattr_hides(upper.as_fd(), lower.as_fd())
            .and_then(|hides| if hides { Ok(Self::Xattr) } else { Err(Errno::OPNOTSUPP) }))
    }
}

/// Whether overlayfs takes an attribute for a whiteout.
fn xattr_hides(upper: BorrowedFd<'_>, lower: BorrowedFd<'_>) -> Result<bool, Errno> {
    whiteout::attribute(upper, b"file")?;
    let mount = detached_overlay(&[upper, lower])?;
    match statat(&mount, "file", AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(true),
        Ok(_) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// A read-only overlay of directories, topmost first, that is mounted nowhere and ends with its descriptor.
///
/// # Errors
/// When the kernel refuses; the process needs CAP_SYS_ADMIN in the user namespace of its mount namespace.
pub fn detached_overlay(layers: &[BorrowedFd<'_>]) -> Result<OwnedFd, Errno> {
    use std::os::fd::AsRawFd;
    // Names by descriptor stay short: a value may have no more than 255 bytes.
    let paths: Vec<String> = layers.iter().map(|fd| format!("/proc/self/fd/{}", fd.as_raw_fd())).collect();
    let overlay = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_flag(&overlay, "userxattr")?;
    fsconfig_set_string(&overlay, "lowerdir", paths.join(":"))?;
    fsconfig_create(&overlay)?;
    fsmount(&overlay, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)
}
