//! Where things stand in the data directory.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::args::Place;

/// The layout that this program writes; a directory of a newer one is refused.
const VERSION: u32 = 1;

/// A data directory.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The directory that the arguments name, or the user's default; always absolute.
    ///
    /// # Errors
    /// Nothing says where it is.
    pub(crate) fn find(place: &Place) -> Result<Self> {
        let root = match &place.data_dir {
            Some(dir) => dir.clone(),
            None => default_root()
                .context("neither XDG_DATA_HOME nor HOME is set: name a directory with --data-dir")?,
        };
        Ok(Self { root: std::path::absolute(&root).with_context(|| format!("finding {}", root.display()))? })
    }

    /// Makes the directory if it is not there, and checks that this program may use it.
    ///
    /// # Errors
    /// It cannot be made, or is of a newer version.
    pub(crate) fn prepare(&self) -> Result<()> {
        let shown = self.root.display();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.root)
            .with_context(|| format!("making the data directory {shown}"))?;
        let file = self.version();
        match fs::read_to_string(&file) {
            Ok(text) => match text.trim().parse::<u32>() {
                Ok(version) if version <= VERSION => Ok(()),
                Ok(version) => bail!(
                    "{shown} was written by a newer Xebec (layout {version}, this one knows {VERSION}): \
                     update Xebec, or use another --data-dir"
                ),
                Err(_) => {
                    bail!("{} holds no version number: is {shown} a data directory of Xebec?", file.display())
                }
            },
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => fs::write(&file, format!("{VERSION}\n"))
                .with_context(|| format!("writing {}", file.display())),
            Err(e) => Err(e).with_context(|| format!("reading {}", file.display())),
        }
    }

    /// Takes the directory for this process; released when the file is dropped. `None`: another process has it.
    ///
    /// # Errors
    /// The lock file cannot be made.
    pub(crate) fn try_lock(&self) -> Result<Option<File>> {
        let path = self.lock();
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("opening {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(e)) => Err(e).with_context(|| format!("locking {}", path.display())),
        }
    }

    /// Whether this program made the directory.
    #[must_use]
    pub(crate) fn is_marked(&self) -> bool {
        self.version().is_file()
    }

    /// Everything in it that is not needed to remove it.
    #[must_use]
    pub(crate) fn contents(&self) -> [PathBuf; 7] {
        [self.store(), self.images(), self.pods(), self.pki(), self.audit(), self.log(), self.kubeconfig()]
    }

    /// What says that it is a data directory: to be removed last.
    #[must_use]
    pub(crate) fn markers(&self) -> [PathBuf; 2] {
        [self.lock(), self.version()]
    }

    fn version(&self) -> PathBuf {
        self.root.join("version")
    }

    fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// The directory itself.
    #[must_use]
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Keys and certificates.
    #[must_use]
    pub(crate) fn pki(&self) -> PathBuf {
        self.root.join("pki")
    }

    /// The store of the API.
    #[must_use]
    pub(crate) fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    /// Who did what.
    #[must_use]
    pub(crate) fn audit(&self) -> PathBuf {
        self.root.join("audit")
    }

    /// Images.
    #[must_use]
    pub(crate) fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// Volumes and logs of pods.
    #[must_use]
    pub(crate) fn pods(&self) -> PathBuf {
        self.root.join("pods")
    }

    /// Sockets and pinned namespaces.
    #[must_use]
    pub(crate) fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// The socket on which the server takes commands.
    #[must_use]
    pub(crate) fn control_socket(&self) -> PathBuf {
        self.run().join("control.sock")
    }

    /// What a detached cluster says.
    #[must_use]
    pub(crate) fn log(&self) -> PathBuf {
        self.root.join("xebec.log")
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.root.join("kubeconfig")
    }
}

fn default_root() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let base = set("XDG_DATA_HOME").or_else(|| set("HOME").map(|home| home.join(".local/share")))?;
    Some(base.join("xebec"))
}
