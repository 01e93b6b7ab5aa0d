//! The store's directory: who may use it, and which format it has.
//!
//! ```text
//! lock     locked while a store is open
//! format   "xebec-store 1": written last when a store is made, so without it `data` was never used
//! data/    the engine's files
//! ```

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The format that this version reads and writes.
const FORMAT: u32 = 1;

const LOCK: &str = "lock";
const FORMAT_FILE: &str = "format";
const FORMAT_NEW: &str = "format.new";
const DATA: &str = "data";
const MAGIC: &str = "xebec-store";

/// A directory that nobody else uses while this value lives.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    lock: File,
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Closing is not enough: a child process that is just being started holds a copy of the file.
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, "the store's directory stays locked until the process ends");
        }
    }
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Another store has it open.
    #[error("{path} is in use by another xebec; stop it first, or choose another data directory")]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// A newer version wrote it.
    #[error("{path} has store format {found}, this version knows up to {FORMAT}; use a newer xebec")]
    Newer {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// It holds something else.
    #[error("{path} is not a store: {reason}; choose an empty directory")]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// What shows it.
        reason: String,
    },
    /// The file system refused.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The refusal.
        source: io::Error,
    },
}

/// What a directory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contents {
    /// Nothing that was ever used.
    Fresh,
    /// A store of the current format.
    Store,
}

impl Directory {
    /// Makes the directory when there is none, readable by its owner only, and locks it.
    pub(crate) fn acquire(path: &Path) -> Result<Self, DirectoryError> {
        let create = DirBuilder::new().recursive(true).mode(0o700).create(path);
        create.map_err(io_error("create", path))?;
        let lock_path = path.join(LOCK);
        let lock = File::options().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(io_error("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), lock }),
            Err(TryLockError::WouldBlock) => Err(DirectoryError::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => Err(io_error("lock", &lock_path)(source)),
        }
    }

    /// Where the engine keeps its files.
    pub(crate) fn data(&self) -> PathBuf {
        self.path.join(DATA)
    }

    /// Looks at what is there. Removes what an interrupted first start has left.
    pub(crate) fn inspect(&self) -> Result<Contents, DirectoryError> {
        let path = self.path.join(FORMAT_FILE);
        match fs::read(&path) {
            Ok(text) => self.check_format(&text).map(|()| Contents::Store),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.check_no_strangers()?;
                self.remove_unused_data()?;
                Ok(Contents::Fresh)
            }
            Err(error) => Err(io_error("read", &path)(error)),
        }
    }

    /// Declares the data complete: from here on it is a store.
    pub(crate) fn mark_formatted(&self) -> Result<(), DirectoryError> {
        let (new, path) = (self.path.join(FORMAT_NEW), self.path.join(FORMAT_FILE));
        let write = || {
            let mut file = File::create(&new)?;
            writeln!(file, "{MAGIC} {FORMAT}")?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(io_error("write", &path))
    }

    fn check_format(&self, text: &[u8]) -> Result<(), DirectoryError> {
        let text = String::from_utf8_lossy(text);
        let number =
            text.trim_end().strip_prefix(MAGIC).and_then(|rest| rest.trim_start().parse::<u32>().ok());
        match number {
            Some(FORMAT) => Ok(()),
            Some(found) if found > FORMAT => Err(DirectoryError::Newer { path: self.path.clone(), found }),
            Some(_) | None => {
                let text: String = text.chars().take(40).collect();
                Err(self.foreign(format!("its format file says {text:?}")))
            }
        }
    }

    fn check_no_strangers(&self) -> Result<(), DirectoryError> {
        let list =
            || fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>();
        let names = list().map_err(io_error("list", &self.path))?;
        match names.iter().find(|name| ![LOCK, FORMAT_NEW, DATA].iter().any(|own| name == own)) {
            Some(stranger) => Err(self.foreign(format!("it holds {}", stranger.display()))),
            None => Ok(()),
        }
    }

    fn remove_unused_data(&self) -> Result<(), DirectoryError> {
        match fs::remove_dir_all(self.data()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error("remove", &self.data())(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn foreign(&self, reason: String) -> DirectoryError {
        DirectoryError::Foreign { path: self.path.clone(), reason }
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DirectoryError {
    let path = path.to_owned();
    move |source| DirectoryError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::{Contents, Directory, DirectoryError};

    #[test]
    fn a_store_is_marked_last() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("deep/store");
        let directory = Directory::acquire(&path).expect("acquire");
        assert_eq!(fs::metadata(&path).expect("metadata").permissions().mode() & 0o777, 0o700);
        assert_eq!(directory.inspect().expect("inspect"), Contents::Fresh);
        fs::create_dir(directory.data()).expect("data");
        fs::write(directory.data().join("0.jnl"), "half").expect("half a store");
        assert_eq!(directory.inspect().expect("inspect"), Contents::Fresh);
        assert!(!directory.data().exists(), "an interrupted first start leaves nothing");
        directory.mark_formatted().expect("mark");
        assert_eq!(directory.inspect().expect("inspect"), Contents::Store);
    }

    #[test]
    fn the_second_opener_is_told() {
        let dir = tempfile::tempdir().expect("directory");
        let first = Directory::acquire(dir.path()).expect("acquire");
        let second = Directory::acquire(dir.path());
        assert!(matches!(second, Err(DirectoryError::Locked { path }) if path == dir.path()));
        drop(first);
        Directory::acquire(dir.path()).expect("free again");
    }

    #[test]
    fn other_formats_are_refused() {
        let check = |format: &str, want: &str| {
            let dir = tempfile::tempdir().expect("directory");
            fs::write(dir.path().join("format"), format).expect("format");
            let error = Directory::acquire(dir.path()).expect("acquire").inspect().expect_err(format);
            let text = error.to_string().replace(&*dir.path().to_string_lossy(), "DIR");
            assert_eq!(text, want);
        };
        check("xebec-store 2\n", "DIR has store format 2, this version knows up to 1; use a newer xebec");
        let foreign = |what: &str| format!("DIR is not a store: {what}; choose an empty directory");
        check("xebec-store 0\n", &foreign(r#"its format file says "xebec-store 0\n""#));
        check("xebec-store one\n", &foreign(r#"its format file says "xebec-store one\n""#));
        check("", &foreign(r#"its format file says """#));
    }

    #[test]
    fn files_of_others_are_not_touched() {
        let dir = tempfile::tempdir().expect("directory");
        fs::write(dir.path().join("thesis.tex"), "years").expect("file");
        fs::create_dir(dir.path().join("data")).expect("data");
        let error = Directory::acquire(dir.path()).expect("acquire").inspect().expect_err("foreign");
        assert!(error.to_string().contains("it holds thesis.tex"), "{error}");
        assert!(dir.path().join("data").exists());
    }
}
