//! Whiteouts: how a layer says that something of the layers below is gone.
//!
//! In an archive, an entry `.wh.NAME` hides `NAME` of the layers below, and `.wh..wh.opq` hides everything below in
//! its directory. Neither touches entries of its own layer, wherever it stands among them, so both are collected while
//! a layer is unpacked and applied at its end.
//!
//! On disk there are three ways ([`WhiteoutStyle`]), of which the first that works where Xebec runs is used:
//!
//! - **Device**: a character device 0/0. Since Linux 5.8 anyone may make that one device, also in a user namespace.
//! - **Xattr**: an empty file with the attribute `user.overlay.whiteout` in a directory whose `user.overlay.opaque` is
//!   `x`; known to overlayfs since Linux 6.7, and for file systems that refuse any device node.
//! - **Merged**: no marks at all. Each snapshot is the whole tree, its files hard links to those of the snapshot below.
//!
//! Opaque directories carry `user.overlay.opaque=y`. Both attributes mean something only in overlay mounts with
//! `userxattr`, which is what mounts inside user namespaces must use anyway. Overlayfs ignores the mark on a layer's
//! root, so an opaque root becomes a whiteout for each name below it.
//!
//! Spec: OCI image spec 1.1, layer, "Whiteouts"; Linux `Documentation/filesystems/overlayfs.rst`.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, XattrFlags, fsetxattr, mkdirat, mknodat, openat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::ExtractError;
use super::inode::{self, Attributes};
use super::lower::{LowerView, Visible};
use super::path::{LayerPath, open_dir};

pub(super) const OPAQUE: &str = "user.overlay.opaque";
pub(super) const WHITEOUT: &str = "user.overlay.whiteout";

const PREFIX: &[u8] = b".wh.";
const OPAQUE_NAME: &[u8] = b".wh..wh.opq";
const AUFS_PREFIX: &[u8] = b".wh..wh.";

/// How whiteouts are kept on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhiteoutStyle {
    /// Character devices 0/0.
    Device,
    /// Empty files with an extended attribute.
    Xattr,
    /// None: every snapshot is a whole tree.
    Merged,
}

/// What an archive's name means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Name<'a> {
    /// Itself.
    Plain,
    /// The layers below show nothing of this name.
    Hides(&'a [u8]),
    /// The layers below show nothing in this directory.
    Opaque,
    /// Book-keeping of a file system of the past; nothing to unpack.
    Aufs,
    /// A whiteout of nothing.
    Invalid,
}

pub(super) fn classify(name: &[u8]) -> Name<'_> {
    match name.strip_prefix(PREFIX) {
        None => Name::Plain,
        Some(_) if name == OPAQUE_NAME => Name::Opaque,
        Some(_) if name.starts_with(AUFS_PREFIX) => Name::Aufs,
        Some(b"" | b"." | b"..") => Name::Invalid,
        Some(hidden) => Name::Hides(hidden),
    }
}

/// The whiteouts of one layer.
#[derive(Debug, Default)]
pub(super) struct Whiteouts {
    pub(super) hidden: BTreeSet<LayerPath>,
    pub(super) opaque: BTreeSet<LayerPath>,
}

impl Whiteouts {
    /// Whether this layer hides everything below at `path`'s directory already.
    fn covered(&self, path: &LayerPath) -> bool {
        path.with_ancestors().skip(1).any(|above| self.opaque.contains(&above))
    }

    /// A whiteout of a directory that the layer has itself means that the layer's starts empty.
    pub(super) fn settle(&mut self, root: BorrowedFd<'_>) -> Result<(), ExtractError> {
        let mut renewed = Vec::new();
        for path in &self.hidden {
            if open_dir(root, path)?.is_some() {
                renewed.push(path.clone());
            }
        }
        for path in renewed {
            self.hidden.remove(&path);
            self.opaque.insert(path);
        }
        Ok(())
    }

    /// Writes the marks of `style` into the layer at `root`.
    pub(super) fn mark(
        mut self,
        root: BorrowedFd<'_>,
        lower: &LowerView,
        style: WhiteoutStyle,
        owner: u32,
    ) -> Result<(), ExtractError> {
        if self.opaque.remove(&LayerPath::default()) {
            self.hidden.extend(lower.root_names()?);
            self.settle(root)?;
        }
        for path in &self.opaque {
            if !self.covered(path) && matches!(lower.look(path)?, Visible::Directory(_)) {
                let Some(dir) = make_dir(root, path, lower, owner)? else { continue };
                set(dir.as_fd(), OPAQUE, b"y").map_err(ExtractError::io("mark as opaque", path))?;
            }
        }
        for path in &self.hidden {
            if !self.covered(path) && lower.look(path)? != Visible::Nothing {
                hide(root, path, lower, style, owner)?;
            }
        }
        Ok(())
    }
}

fn hide(
    root: BorrowedFd<'_>,
    path: &LayerPath,
    lower: &LowerView,
    style: WhiteoutStyle,
    owner: u32,
) -> Result<(), ExtractError> {
    let Some((parent, name)) = path.split() else { return Ok(()) };
    let Some(dir) = make_dir(root, &parent, lower, owner)? else { return Ok(()) };
    let fail = || ExtractError::io("hide", path);
    if inode::stat(dir.as_fd(), name).map_err(fail())?.is_some() {
        return Ok(());
    }
    let outcome = match style {
        WhiteoutStyle::Device => device(dir.as_fd(), name),
        WhiteoutStyle::Xattr => attribute(dir.as_fd(), name),
        WhiteoutStyle::Merged => Ok(()),
    };
    outcome.map_err(fail())
}

pub(super) fn device(dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    mknodat(dir, name, FileType::CharacterDevice, Mode::empty(), 0)
}

pub(super) fn attribute(dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(dir, name, flags, Mode::RUSR)?;
    set(file.as_fd(), WHITEOUT, b"")?;
    set(dir, OPAQUE, b"x")
}

pub(super) fn set(fd: BorrowedFd<'_>, name: &str, value: &[u8]) -> Result<(), Errno> {
    fsetxattr(fd, name, value, XattrFlags::empty())
}

/// Opens a directory of the layer, making it and those above look like the ones below. Nothing when the layer has
/// something else there.
fn make_dir(
    root: BorrowedFd<'_>,
    path: &LayerPath,
    lower: &LowerView,
    owner: u32,
) -> Result<Option<OwnedFd>, ExtractError> {
    if let Some(dir) = open_dir(root, path)? {
        return Ok(Some(dir));
    }
    let Some((parent, name)) = path.split() else { return Ok(None) };
    let Some(dir) = make_dir(root, &parent, lower, owner)? else { return Ok(None) };
    if inode::stat(dir.as_fd(), name).map_err(ExtractError::io("inspect", path))?.is_some() {
        return Ok(None);
    }
    let attributes = implied_directory(dir.as_fd(), path, name, lower, owner)?;
    let made = open_dir(root, path)?;
    inode::set_times(dir.as_fd(), name, attributes.mtime)
        .map_err(ExtractError::io("set the time of", path))?;
    Ok(made)
}

/// Makes a directory that the archive does not describe. Its time is for the caller to set once it is filled.
pub(super) fn implied_directory(
    dir: BorrowedFd<'_>,
    path: &LayerPath,
    name: &[u8],
    lower: &LowerView,
    owner: u32,
) -> Result<Attributes, ExtractError> {
    let attributes = match lower.look(path)? {
        Visible::Directory(attributes) => attributes,
        Visible::Nothing | Visible::Other => Attributes::of_implied_directory(owner),
    };
    mkdirat(dir, name, Mode::RWXU).map_err(ExtractError::io("create the directory", path))?;
    let made = inode::open_subdir(dir, name).map_err(ExtractError::io("open", path))?;
    attributes.apply(made.as_fd()).map_err(ExtractError::io("set the owner of", path))?;
    Ok(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (name, expected) in [
            (&b"file"[..], Name::Plain),
            (b".wh", Name::Plain),
            (b".wh.file", Name::Hides(b"file")),
            (b".wh..hidden", Name::Hides(b".hidden")),
            (b".wh..wh.opq", Name::Opaque),
            (b".wh..wh.plnk", Name::Aufs),
            (b".wh..wh..opq", Name::Aufs),
            (b".wh.", Name::Invalid),
            (b".wh..", Name::Invalid),
            (b".wh...", Name::Invalid),
        ] {
            assert_eq!(classify(name), expected, "{}", String::from_utf8_lossy(name));
        }
    }
}
