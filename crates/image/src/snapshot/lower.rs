//! What the layers below show at a path, as overlayfs will merge them.
//!
//! Needed for three things: a directory that a layer's archive only implies must look like the one below (otherwise
//! `/tmp` would lose its sticky bit), a whiteout is only worth placing over something (in a directory that is in
//! no other layer, overlayfs would list it), and a hard link may be to a file of theirs.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, Stat, openat};
use rustix::io::Errno;

use super::ExtractError;
use super::inode::{self, Attributes};
use super::path::{LayerPath, open_dir};
use super::whiteout::{OPAQUE, WHITEOUT};

/// The layers below one that is being unpacked, topmost first.
#[derive(Debug, Default)]
pub(super) struct LowerView {
    layers: Vec<OwnedFd>,
}

/// What is visible at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Visible {
    Nothing,
    Directory(Attributes),
    Other,
}

/// What one layer says about a path.
enum Answer {
    /// It is silent, and so the next one decides.
    Ask,
    Final(Visible),
}

impl LowerView {
    pub(super) fn new(layers: Vec<OwnedFd>) -> Self {
        Self { layers }
    }

    pub(super) fn layers(&self) -> &[OwnedFd] {
        &self.layers
    }

    pub(super) fn look(&self, path: &LayerPath) -> Result<Visible, ExtractError> {
        for layer in &self.layers {
            match ask(layer.as_fd(), path)? {
                Answer::Ask => {}
                Answer::Final(visible) => return Ok(visible),
            }
        }
        Ok(Visible::Nothing)
    }

    /// The directory, in the layer that decides, of what is visible at `path`, unless that is a directory itself. No
    /// symbolic link is followed on the way.
    pub(super) fn directory_of(&self, path: &LayerPath) -> Result<Option<OwnedFd>, ExtractError> {
        let Some((parent, _)) = path.split() else { return Ok(None) };
        for layer in &self.layers {
            match ask(layer.as_fd(), path)? {
                Answer::Ask => {}
                Answer::Final(Visible::Other) => return open_dir(layer.as_fd(), &parent),
                Answer::Final(Visible::Nothing | Visible::Directory(_)) => return Ok(None),
            }
        }
        Ok(None)
    }

    /// The names visible in the root.
    pub(super) fn root_names(&self) -> Result<Vec<LayerPath>, ExtractError> {
        let root = LayerPath::default();
        let mut names = Vec::new();
        for layer in &self.layers {
            let dir = inode::open_subdir(layer.as_fd(), b".").map_err(ExtractError::io("open", &root))?;
            names.extend(inode::list(dir.as_fd(), &root)?.iter().map(|name| root.join(name)));
        }
        names.sort_unstable();
        names.dedup();
        let mut visible = Vec::new();
        for name in names {
            if self.look(&name)? != Visible::Nothing {
                visible.push(name);
            }
        }
        Ok(visible)
    }
}

fn ask(layer: BorrowedFd<'_>, path: &LayerPath) -> Result<Answer, ExtractError> {
    let fail = || ExtractError::io("look up", path);
    let mut here: Option<OwnedFd> = None;
    let mut hides_below = false;
    let mut components = path.components().peekable();
    while let Some(component) = components.next() {
        let dir = here.as_ref().map_or(layer, AsFd::as_fd);
        let Some(stat) = inode::stat(dir, component).map_err(fail())? else {
            return Ok(if hides_below { Answer::Final(Visible::Nothing) } else { Answer::Ask });
        };
        if is_whiteout(dir, component, &stat).map_err(fail())? {
            return Ok(Answer::Final(Visible::Nothing));
        }
        if !inode::is_dir(&stat) {
            let last = components.peek().is_none();
            return Ok(Answer::Final(if last { Visible::Other } else { Visible::Nothing }));
        }
        let sub = inode::open_subdir(dir, component).map_err(fail())?;
        hides_below |= inode::xattr(sub.as_fd(), OPAQUE).map_err(fail())?.as_deref() == Some(b"y");
        here = Some(sub);
    }
    let stat = rustix::fs::fstat(here.as_ref().map_or(layer, AsFd::as_fd)).map_err(fail())?;
    Ok(Answer::Final(Visible::Directory(Attributes::of(&stat))))
}

/// Whether `name` is a whiteout in either form that overlayfs knows.
fn is_whiteout(dir: BorrowedFd<'_>, name: &[u8], stat: &Stat) -> Result<bool, Errno> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice => Ok(stat.st_rdev == 0),
        FileType::RegularFile if stat.st_size == 0 => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = openat(dir, name, flags, Mode::empty())?;
            Ok(inode::xattr(file.as_fd(), WHITEOUT)?.is_some())
        }
        _ => Ok(false),
    }
}
