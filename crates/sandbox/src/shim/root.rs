//! The shim's own root directory, and what is mounted in it for containers.
//!
//! A container's first process prepares its mounts as root of the pod, who may
//! not walk through the user's private directories. So everything it needs is
//! put in place beforehand by the shim, in a mount namespace of the shim's own
//! with a root that anybody may walk through:
//!
//! ```text
//!  /host               what was `/` before: the server's view
//!  /dev  /proc  /sys   the same as there
//!  /shm                the pod's shared memory
//!  /mem/<name>         volumes in memory
//!  /lib, /tmp          for the runtime library and gVisor
//!  /c/<container>/     bundle/config.json, rootfs (overlay), m/<n> (sources of mounts)
//! ```
//!
//! Paths given by the server are resolved below `/host` by `openat2`, so that
//! no symlink, however it changes meanwhile, leads anywhere else, and are then
//! used by descriptor only.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount,
    mount_bind_recursive, mount_change, move_mount, open_tree, unmount,
};
use rustix::thread::UnshareFlags;

use super::refusal::{Refusal, cannot};
use crate::bootstrap::netns_dir;
use crate::complaint::complain;
use crate::config::{ContainerId, MAX_LAYERS, POD_ID_SHIFT, Rootfs, is_valid_id};
use crate::sandbox::ErrorKind;
use crate::sys;

/// Where the pod's shared memory is.
pub(crate) const SHM: &str = "/shm";

/// Where volumes in memory are.
const MEMORY: &str = "/mem";
/// Most volumes in memory of a pod.
const MAX_MEMORY_VOLUMES: usize = 64;

const CONTAINERS: &str = "/c";
/// An existing directory of any host, over which the new root is built.
const SCAFFOLD: &str = "/proc";

/// Most files in a file system in memory of a size: empty ones take memory too,
/// which the size does not count.
pub(crate) const fn tmpfs_files(size_bytes: u64) -> u64 {
    const PAGE: u64 = 4096;
    size_bytes / PAGE + 1024
}

/// The shim's root, with the server's view of the file system open in it.
#[derive(Debug)]
pub(crate) struct Root {
    host: OwnedFd,
}

impl Root {
    /// Gives this process a mount namespace and root of its own.
    pub(crate) fn enter(run_dir: &Path, shm_bytes: u64) -> Result<Self, Refusal> {
        sys::unshare(UnshareFlags::NEWNS).map_err(cannot("make the shim's mount namespace"))?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
            .map_err(cannot("make the shim's mounts private"))?;
        // The copies of other pods' pins would keep their networks alive.
        unmount(netns_dir(run_dir), UnmountFlags::DETACH)
            .map_err(cannot("let go of other pods' networks"))?;
        Self::build(shm_bytes).map_err(cannot("build the shim's root directory"))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let host = rustix::fs::open("/host", flags, Mode::empty()).map_err(cannot("open the host's root"))?;
        Ok(Self { host })
    }

    fn build(shm_bytes: u64) -> io::Result<()> {
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount("tmpfs", SCAFFOLD, "tmpfs", flags, Some(c"mode=0755,size=64m"))?;
        let scaffold = Path::new(SCAFFOLD);
        for directory in ["host", "dev", "proc", "sys", "shm", "mem", "c", "lib", "tmp"] {
            DirBuilder::new().mode(0o755).create(scaffold.join(directory))?;
        }
        mount_memory(&scaffold.join("shm"), shm_bytes, 0o1777, MountFlags::NOEXEC)?;
        rustix::process::pivot_root(SCAFFOLD, scaffold.join("host"))?;
        rustix::process::chdir("/")?;
        for directory in ["dev", "proc", "sys"] {
            mount_bind_recursive(Path::new("/host").join(directory), Path::new("/").join(directory))?;
        }
        Ok(())
    }

    /// Opens a path of the server's view as a reference (`O_PATH`).
    pub(crate) fn open(&self, path: &Path) -> Result<OwnedFd, Refusal> {
        open_in(&self.host, path, OFlags::PATH, Mode::empty()).map_err(|error| lookup_failed(path, &error))
    }

    /// The pod's volume in memory of this name, made when it is first asked for.
    fn memory_volume(&self, name: &str, size_bytes: u64) -> Result<OwnedFd, Refusal> {
        if !is_valid_id(name) {
            return Err(Refusal::invalid(format!("`{name}` is no name for a volume in memory")));
        }
        let path = Path::new(MEMORY).join(name);
        if !path.exists() {
            let count = fs::read_dir(MEMORY).map_err(cannot("count the volumes in memory"))?.count();
            if count >= MAX_MEMORY_VOLUMES {
                return Err(Refusal::new(
                    ErrorKind::LimitReached,
                    format!("the pod has {MAX_MEMORY_VOLUMES} volumes in memory, the most there can be"),
                ));
            }
            DirBuilder::new()
                .mode(0o755)
                .create(&path)
                .and_then(|()| mount_memory(&path, size_bytes, 0o777, MountFlags::empty()))
                .map_err(cannot(format!("make the volume `{name}` in memory")))?;
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::open(&path, flags, Mode::empty()).map_err(cannot(format!("open the volume `{name}`")))
    }

    /// Shows a program of the server's view at a place that pods' users can reach.
    pub(crate) fn expose_program(&self, path: &Path, target: &Path) -> Result<(), Refusal> {
        let program = self.open(path)?;
        fs::File::create_new(target)
            .and_then(|_| clone_mount(program.as_fd(), target, true))
            .map_err(cannot(format!("show `{}` to the pod", path.display())))
    }

    /// Makes the directory in which a container's things are put.
    pub(crate) fn make_stage(self: &Rc<Self>, container: &ContainerId) -> Result<Stage, Refusal> {
        let path = Path::new(CONTAINERS).join(container.as_str());
        for directory in [path.clone(), path.join("rootfs"), path.join("m"), path.join("bundle")] {
            DirBuilder::new()
                .mode(0o755)
                .create(&directory)
                .map_err(cannot(format!("prepare container {container}")))?;
        }
        Ok(Stage { root: Rc::clone(self), path, sources: 0 })
    }
}

/// Mounts a file system in memory that the pod's root owns.
fn mount_memory(path: &Path, size_bytes: u64, mode: u32, more: MountFlags) -> io::Result<()> {
    let files = tmpfs_files(size_bytes);
    let owner = POD_ID_SHIFT;
    let options = format!("mode={mode:o},size={size_bytes},nr_inodes={files},uid={owner},gid={owner}");
    let options = std::ffi::CString::new(options)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | more;
    Ok(mount("tmpfs", path, "tmpfs", flags, Some(options.as_c_str()))?)
}

/// A container's things, as long as it is being created; with gVisor, as long
/// as there is the container. Dropping it unmounts and removes them.
#[derive(Debug)]
pub(crate) struct Stage {
    root: Rc<Root>,
    path: PathBuf,
    sources: usize,
}

impl Drop for Stage {
    fn drop(&mut self) {
        // What is not mounted cannot be unmounted; the removal below tells
        // whether anything really stayed.
        unmount(self.rootfs(), UnmountFlags::DETACH).unwrap_or_default();
        for number in 0..self.sources {
            unmount(self.source(number), UnmountFlags::DETACH).unwrap_or_default();
        }
        if let Err(error) = fs::remove_dir_all(&self.path) {
            complain(format_args!("cannot remove {}: {error}", self.path.display()));
        }
    }
}

impl Stage {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.path.join("rootfs")
    }

    pub(crate) fn bundle(&self) -> PathBuf {
        self.path.join("bundle")
    }

    fn source(&self, number: usize) -> PathBuf {
        self.path.join("m").join(number.to_string())
    }

    /// Mounts the root file system.
    pub(crate) fn mount_rootfs(&self, rootfs: &Rootfs) -> Result<(), Refusal> {
        if rootfs.lower.is_empty() || rootfs.lower.len() > MAX_LAYERS {
            return Err(Refusal::invalid(format!(
                "a root file system needs 1 to {MAX_LAYERS} layers, and this one has {}",
                rootfs.lower.len()
            )));
        }
        let lower = rootfs.lower.iter().map(|path| self.root.open(path)).collect::<Result<Vec<_>, _>>()?;
        let writable = self.root.open(&rootfs.writable)?;
        let (upper, work) =
            make_writable(&writable, &lower[0]).map_err(cannot("prepare the writable layer"))?;
        let by_descriptor = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
        let lower = lower.iter().map(by_descriptor).collect::<Vec<_>>().join(":");
        let options = format!(
            "lowerdir={lower},upperdir={},workdir={},userxattr",
            by_descriptor(&upper),
            by_descriptor(&work)
        );
        let options = std::ffi::CString::new(options).expect("the options are made of digits and letters");
        mount("overlay", self.rootfs(), "overlay", MountFlags::empty(), Some(options.as_c_str()))
            .map_err(cannot("mount the container's root file system"))
    }

    /// Clones the mount at `path`/`sub_path` of the server's view, and gives
    /// the place from which the container can mount it.
    pub(crate) fn stage_bind(
        &mut self,
        path: &Path,
        sub_path: Option<&Path>,
        read_only: bool,
    ) -> Result<PathBuf, Refusal> {
        let source = self.root.open(path)?;
        self.stage_volume(source, path, sub_path, read_only)
    }

    /// Makes a directory of the mounted root file system, and gives a place from which the container can mount it so
    /// that it can be written, whatever holds for the rest.
    pub(crate) fn stage_own(&mut self, path: &Path) -> Result<PathBuf, Refusal> {
        let shown = || format!("the image's volume `{}`", path.display());
        self.make_directory(path).map_err(cannot(format!("make {}", shown())))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let source = rustix::fs::open(self.rootfs(), flags, Mode::empty())
            .map_err(io::Error::from)
            .and_then(|rootfs| open_in(&rootfs, path, flags, Mode::empty()))
            .map_err(cannot(format!("open {}", shown())))?;
        self.stage_volume(source, path, None, false)
    }

    /// As `stage_bind`, for a volume in memory.
    pub(crate) fn stage_memory(
        &mut self,
        name: &str,
        size_bytes: u64,
        sub_path: Option<&Path>,
        read_only: bool,
    ) -> Result<PathBuf, Refusal> {
        let source = self.root.memory_volume(name, size_bytes)?;
        self.stage_volume(source, Path::new(name), sub_path, read_only)
    }

    fn stage_volume(
        &mut self,
        mut source: OwnedFd,
        path: &Path,
        sub_path: Option<&Path>,
        read_only: bool,
    ) -> Result<PathBuf, Refusal> {
        if let Some(sub_path) = sub_path {
            source = open_sub_path(&source, sub_path)?;
        }
        let shown = || format!("`{}`", sub_path.map_or(path.to_owned(), |sub| path.join(sub)).display());
        let stat = rustix::fs::fstat(&source).map_err(cannot(format!("examine {}", shown())))?;
        let target = self.source(self.sources);
        let place = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => DirBuilder::new().mode(0o755).create(&target),
            FileType::RegularFile | FileType::Socket => fs::File::create_new(&target).map(drop),
            other => {
                return Err(Refusal::invalid(format!(
                    "{} is a {other:?}; only directories, files and sockets can be mounted",
                    shown()
                )));
            }
        };
        place.map_err(cannot(format!("make a place for {}", shown())))?;
        self.sources += 1;
        clone_mount(source.as_fd(), &target, read_only).map_err(cannot(format!("mount {}", shown())))?;
        Ok(target)
    }

    /// Makes a directory inside the mounted root file system, with those
    /// above it. Symlinks in the image cannot lead it out.
    pub(crate) fn make_directory(&self, path: &Path) -> io::Result<()> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let rootfs = rustix::fs::open(self.rootfs(), flags, Mode::empty())?;
        let mut here = rustix::io::dup(&rootfs)?;
        let mut walked = PathBuf::new();
        for component in path.components() {
            let name = match component {
                Component::RootDir | Component::CurDir | Component::Prefix(_) => continue,
                Component::ParentDir => return Err(io::ErrorKind::InvalidInput.into()),
                Component::Normal(name) => Path::new(name),
            };
            walked.push(name);
            here = match open_in(&rootfs, &walked, flags, Mode::empty()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    make_owned_directory(&here, name, POD_ID_SHIFT, POD_ID_SHIFT, 0o755)?
                }
                result => result?,
            };
        }
        Ok(())
    }

    /// Opens a file of the mounted root file system for reading.
    pub(crate) fn open_in_rootfs(&self, path: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let rootfs = rustix::fs::open(self.rootfs(), flags, Mode::empty())?;
        open_in(&rootfs, path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())
    }
}

/// Opens `path` as if `root` were `/`; no link leads out of it.
pub(crate) fn open_in(root: &impl AsFd, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    const ATTEMPTS: usize = 16;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    for _ in 1..ATTEMPTS {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, mode, resolve) {
            // A directory was renamed somewhere during the walk.
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
    Ok(rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, mode, resolve)?)
}

fn lookup_failed(path: &Path, error: &io::Error) -> Refusal {
    let kind = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ErrorKind::InvalidConfig,
        _ => ErrorKind::Internal,
    };
    Refusal::new(kind, format!("cannot open `{}`: {error}", path.display()))
}

/// Makes the upper and work directories; the upper takes after the topmost
/// layer, whose root the container sees as its own.
fn make_writable(writable: &OwnedFd, top: &OwnedFd) -> io::Result<(OwnedFd, OwnedFd)> {
    let like = rustix::fs::fstat(top)?;
    let upper =
        make_owned_directory(writable, Path::new("upper"), like.st_uid, like.st_gid, like.st_mode & 0o7777)?;
    let work = make_owned_directory(writable, Path::new("work"), 0, 0, 0o700)?;
    Ok((upper, work))
}

/// Makes a directory unless it exists, and opens it as a reference.
fn make_owned_directory(parent: &OwnedFd, name: &Path, uid: u32, gid: u32, mode: u32) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
        Ok(()) => {
            let directory = rustix::fs::openat(parent, name, flags, Mode::empty())?;
            rustix::fs::fchown(&directory, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
            rustix::fs::fchmod(&directory, Mode::from_raw_mode(mode))?;
            Ok(directory)
        }
        Err(rustix::io::Errno::EXIST) => Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?),
        Err(error) => Err(error.into()),
    }
}

/// Walks down from a volume's root without leaving it, making what is missing.
fn open_sub_path(volume: &OwnedFd, sub_path: &Path) -> Result<OwnedFd, Refusal> {
    let shown = sub_path.display();
    let escape = || {
        Refusal::invalid(format!(
            "the sub-path `{shown}` leads out of its volume; it must be relative, without `..`, \
             and no symlink on it may point outside"
        ))
    };
    let plain = |component: Component<'_>| matches!(component, Component::Normal(_) | Component::CurDir);
    if !sub_path.components().all(plain) {
        return Err(escape());
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let open = |path: &Path| rustix::fs::openat2(volume, path, flags, Mode::empty(), resolve);
    let owner = rustix::fs::fstat(volume).map_err(cannot("examine a volume"))?;
    let mut walked = PathBuf::new();
    let mut here = rustix::io::dup(volume).map_err(cannot("walk into a volume"))?;
    for component in sub_path.components() {
        walked.push(component);
        here = match open(&walked) {
            Ok(next) => next,
            Err(rustix::io::Errno::NOENT) => make_like(&here, Path::new(component.as_os_str()), &owner)
                .map_err(cannot(format!("make the sub-path `{shown}`")))?,
            Err(rustix::io::Errno::XDEV | rustix::io::Errno::LOOP) => return Err(escape()),
            Err(error) => return Err(lookup_failed(sub_path, &error.into())),
        };
    }
    Ok(here)
}

fn make_like(parent: &OwnedFd, name: &Path, owner: &Stat) -> io::Result<OwnedFd> {
    make_owned_directory(parent, name, owner.st_uid, owner.st_gid, owner.st_mode & 0o7777)
}

/// Puts a private copy of the mounts at `source` over `target`.
fn clone_mount(source: BorrowedFd<'_>, target: &Path, read_only: bool) -> io::Result<()> {
    let tree = open_tree(
        source,
        "",
        OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH
            | OpenTreeFlags::AT_RECURSIVE,
    )?;
    let mut attributes = libc::MOUNT_ATTR_NODEV;
    if read_only {
        attributes |= libc::MOUNT_ATTR_RDONLY;
    }
    sys::set_mount_attributes(&tree, attributes, libc::MS_PRIVATE)?;
    Ok(move_mount(&tree, "", rustix::fs::CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}
