//! Temporary files and directories that vanish unless they are kept.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::StoreError;

/// A file that is removed when dropped, unless it was moved into place.
#[derive(Debug)]
pub struct TempFile {
    path: Option<PathBuf>,
}

impl TempFile {
    pub(super) fn create(path: PathBuf) -> Result<(Self, File), StoreError> {
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(StoreError::io("create", &path))?;
        Ok((Self { path: Some(path) }, file))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.path.as_deref().expect("the path is taken only by rename_to, which consumes self")
    }

    pub(super) fn rename_to(mut self, target: &Path) -> Result<(), StoreError> {
        fs::rename(self.path(), target).map_err(StoreError::io("move into place", target))?;
        self.path = None;
        Ok(())
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            warn_unless_removed(path, remove(path));
        }
    }
}

/// A directory that is removed with its content when dropped, unless it was moved into place.
#[derive(Debug)]
pub struct TempDir {
    path: Option<PathBuf>,
}

impl TempDir {
    pub(super) fn create(path: PathBuf) -> Result<Self, StoreError> {
        DirBuilder::new().mode(0o700).create(&path).map_err(StoreError::io("create", &path))?;
        Ok(Self { path: Some(path) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.path.as_deref().expect("the path is taken only by rename_to, which consumes self")
    }

    /// Moves the directory to `target`, which must not exist or be an empty directory.
    pub(crate) fn rename_to(mut self, target: &Path) -> Result<(), StoreError> {
        fs::rename(self.path(), target).map_err(StoreError::io("move into place", target))?;
        self.path = None;
        Ok(())
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            warn_unless_removed(path, remove(path));
        }
    }
}

/// Removes a file, a symbolic link or a whole directory; fine when it is not there.
pub(crate) fn remove(path: &Path) -> Result<(), StoreError> {
    let outcome = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match outcome {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// The next open sweeps what could not be removed.
fn warn_unless_removed(path: &Path, outcome: Result<(), StoreError>) {
    if let Err(error) = outcome {
        tracing::warn!(path = %path.display(), %error, "left a temporary file behind");
    }
}
