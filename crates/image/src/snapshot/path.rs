//! Paths inside a layer, and opening directories beneath its root.
//!
//! A [`LayerPath`] has no empty, `.` or `..` components, so it can be handed to the kernel relative to the root's
//! descriptor. Symbolic links in it still could lead out: the kernel is told not to follow any
//! (`RESOLVE_NO_SYMLINKS`), and where there are some they are walked here, by descriptors, with the layer's root as
//! the top: `..` is a step back on the stack of opened directories, never a name given to the kernel.

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2, readlinkat};
use rustix::io::Errno;

use super::ExtractError;
use crate::limits::{Exceeded, Limits};
use crate::tarball::display;

/// As many symbolic links as the kernel follows in one path.
const MAX_LINKS: u32 = 40;

/// A normalised path relative to a layer's root. Empty is the root.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) struct LayerPath(Vec<u8>);

impl LayerPath {
    /// Normalises a name of an archive. A leading slash means the layer's root; `..` is refused.
    pub(super) fn parse(name: &[u8], limits: &Limits) -> Result<Self, ExtractError> {
        if name.contains(&0) {
            return Err(ExtractError::Name { path: display(name), what: "contains a NUL byte" });
        }
        let mut path = Self::default();
        for component in name.split(|b| *b == b'/') {
            match component {
                b"" | b"." => {}
                b".." => return Err(ExtractError::Name { path: display(name), what: "climbs out by `..`" }),
                component => path.push(component),
            }
        }
        path.check(limits)?;
        Ok(path)
    }

    pub(super) fn check(&self, limits: &Limits) -> Result<(), ExtractError> {
        let length = u64::try_from(self.0.len()).unwrap_or(u64::MAX);
        Exceeded::check(length, "path_bytes", limits.path_bytes, || format!("the path `{self}`"))?;
        let depth = u64::try_from(self.components().count()).unwrap_or(u64::MAX);
        Exceeded::check(depth, "path_depth", limits.path_depth, || {
            format!("the depth of the path `{self}`")
        })?;
        Ok(())
    }

    fn push(&mut self, component: &[u8]) {
        if !self.0.is_empty() {
            self.0.push(b'/');
        }
        self.0.extend_from_slice(component);
    }

    pub(super) fn join(&self, component: &[u8]) -> Self {
        let mut path = self.clone();
        path.push(component);
        path
    }

    pub(super) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Directory and last component; nothing for the root.
    pub(super) fn split(&self) -> Option<(Self, &[u8])> {
        if self.is_root() {
            return None;
        }
        Some(match self.0.iter().rposition(|b| *b == b'/') {
            Some(slash) => (Self(self.0[..slash].to_vec()), &self.0[slash + 1..]),
            None => (Self::default(), &self.0),
        })
    }

    pub(super) fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|component| !component.is_empty())
    }

    /// The path itself and every directory above it, the root last.
    pub(super) fn with_ancestors(&self) -> impl Iterator<Item = Self> + use<> {
        std::iter::successors(Some(self.clone()), |path| path.split().map(|(parent, _)| parent))
    }

    /// Bytes of memory that keeping the path takes.
    pub(super) fn weight(&self) -> u64 {
        u64::try_from(self.0.len() + size_of::<Self>()).unwrap_or(u64::MAX)
    }

    /// The path for a system call that starts at the root's descriptor.
    pub(super) fn as_bytes(&self) -> &[u8] {
        if self.is_root() { b"." } else { &self.0 }
    }
}

impl fmt::Display for LayerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&display(self.as_bytes()))
    }
}

impl fmt::Debug for LayerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An opened directory (`O_PATH`) and where it really is.
#[derive(Debug)]
pub(super) struct OpenDir {
    pub(super) fd: OwnedFd,
    pub(super) path: LayerPath,
}

/// Makes a directory of a name in a directory of a path.
pub(super) type MakeDir<'a> = dyn FnMut(BorrowedFd<'_>, &LayerPath, &[u8]) -> Result<(), ExtractError> + 'a;

/// What a walk does about a component that is not there.
pub(super) enum Missing<'a> {
    /// Fail.
    Refuse,
    /// Make it.
    Create(&'a mut MakeDir<'a>),
    /// Go on by name only.
    Imagine,
}

/// Opens the directory at `path` without following any symbolic link; nothing if there is none.
pub(super) fn open_dir(root: BorrowedFd<'_>, path: &LayerPath) -> Result<Option<OwnedFd>, ExtractError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    open_beneath(root, path, flags)
}

fn open_beneath(
    root: BorrowedFd<'_>,
    path: &LayerPath,
    flags: OFlags,
) -> Result<Option<OwnedFd>, ExtractError> {
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    match openat2(root, path.as_bytes(), flags, Mode::empty(), resolve) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(ExtractError::io("open", path)(errno)),
    }
}

/// Opens the directory at `path`, following symbolic links inside the root and making what is missing.
pub(super) fn resolve(
    root: BorrowedFd<'_>,
    path: &LayerPath,
    missing: Missing<'_>,
    limits: &Limits,
) -> Result<OpenDir, ExtractError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if let Some(fd) = open_beneath(root, path, flags)? {
        return Ok(OpenDir { fd, path: path.clone() });
    }
    let mut walk = Walk::new(root, path, limits);
    walk.run(missing)?;
    match walk.stack.pop() {
        Some((path, Some(fd))) => Ok(OpenDir { fd, path }),
        Some((path, None)) => Err(ExtractError::NoParent { path: path.to_string() }),
        None => {
            let path = LayerPath::default();
            let fd = open_beneath(root, &path, flags)?;
            let fd = fd.ok_or_else(|| ExtractError::NoParent { path: path.to_string() })?;
            Ok(OpenDir { fd, path })
        }
    }
}

/// Where the directory at `path` really is, or would be if its missing parts were made.
pub(super) fn real_path(
    root: BorrowedFd<'_>,
    path: &LayerPath,
    limits: &Limits,
) -> Result<LayerPath, ExtractError> {
    let mut walk = Walk::new(root, path, limits);
    walk.run(Missing::Imagine)?;
    Ok(walk.stack.pop().map(|(path, _)| path).unwrap_or_default())
}

struct Walk<'a> {
    root: BorrowedFd<'a>,
    asked: &'a LayerPath,
    limits: &'a Limits,
    pending: VecDeque<Vec<u8>>,
    links: u32,
    /// Directories below the root that were entered; without a descriptor when only imagined.
    stack: Vec<(LayerPath, Option<OwnedFd>)>,
}

impl<'a> Walk<'a> {
    fn new(root: BorrowedFd<'a>, asked: &'a LayerPath, limits: &'a Limits) -> Self {
        let pending = asked.components().map(<[u8]>::to_vec).collect();
        Self { root, asked, limits, pending, links: 0, stack: Vec::new() }
    }

    fn run(&mut self, mut missing: Missing<'_>) -> Result<(), ExtractError> {
        while let Some(name) = self.pending.pop_front() {
            match name.as_slice() {
                b"" | b"." => {}
                b".." => drop(self.stack.pop()),
                name => self.enter(name, &mut missing)?,
            }
        }
        Ok(())
    }

    fn here(&self) -> (LayerPath, Option<BorrowedFd<'_>>) {
        match self.stack.last() {
            None => (LayerPath::default(), Some(self.root)),
            Some((path, fd)) => (path.clone(), fd.as_ref().map(AsFd::as_fd)),
        }
    }

    fn enter(&mut self, name: &[u8], missing: &mut Missing<'_>) -> Result<(), ExtractError> {
        let (here, dir) = self.here();
        let path = here.join(name);
        path.check(self.limits)?;
        let Some(dir) = dir else {
            self.stack.push((path, None));
            return Ok(());
        };
        let fd = match open_component(dir, name) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => match missing {
                Missing::Refuse => return Err(ExtractError::NoParent { path: self.asked.to_string() }),
                Missing::Imagine => {
                    self.stack.push((path, None));
                    return Ok(());
                }
                Missing::Create(create) => {
                    create(dir, &here, name)?;
                    open_component(dir, name).map_err(ExtractError::io("open", &path))?
                }
            },
            Err(errno) => return Err(ExtractError::io("open", &path)(errno)),
        };
        let stat = fstat(&fd).map_err(ExtractError::io("inspect", &path))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => self.stack.push((path, Some(fd))),
            FileType::Symlink => self.follow(&fd, &path)?,
            _ => return Err(ExtractError::NotADirectory { path: path.to_string() }),
        }
        Ok(())
    }

    /// Replaces a symbolic link by its target's components.
    fn follow(&mut self, link: &OwnedFd, path: &LayerPath) -> Result<(), ExtractError> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(ExtractError::Links { path: self.asked.to_string() });
        }
        let target = readlinkat(link, c"", Vec::new()).map_err(ExtractError::io("read the link", path))?;
        let target = target.into_bytes();
        if target.starts_with(b"/") {
            self.stack.clear();
        }
        for component in target.rsplit(|b| *b == b'/') {
            self.pending.push_front(component.to_vec());
        }
        Ok(())
    }
}

fn open_component(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}
