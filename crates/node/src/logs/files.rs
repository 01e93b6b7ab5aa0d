//! Which files a log consists of, while they are being rotated.
//!
//! Rotation renames `<path>.n` to `<path>.n+1`, the highest number first, then `<path>` to `<path>.1`; the next line
//! makes a new `<path>`. So an open file is found by its identity, never by its name, and numbers only grow.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Most files of a log.
const MAX_FILES: u32 = 100;

/// How often a listing is tried again because a file was rotated meanwhile.
const MAX_TRIES: u32 = 16;

/// Tells an open file from all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

/// An open file of a log. Its number is not given to another file while it is open.
#[derive(Debug)]
pub(super) struct LogFile {
    file: File,
    pub(super) id: FileId,
    /// Its length when it was opened.
    pub(super) length: u64,
}

impl LogFile {
    fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let metadata = file.metadata()?;
        let id = FileId { device: metadata.dev(), inode: metadata.ino() };
        Ok(Some(Self { file, id, length: metadata.len() }))
    }

    /// Reads what is there at `offset`, at most as much as fits; 0 at the end.
    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match self.file.read_at(buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Fills the buffer from `offset` on.
    pub(super) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }
}

/// The files of a log.
#[derive(Debug)]
pub(super) struct LogFiles {
    path: PathBuf,
}

impl LogFiles {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Opens all files, the oldest first.
    pub(super) fn open_all(&self) -> io::Result<Vec<LogFile>> {
        for _ in 0..MAX_TRIES {
            let files = self.list()?;
            let newest = LogFile::open(&self.path)?.map(|file| file.id);
            // Without a rotation to its end meanwhile, what was listed is in order.
            if newest == files.last().map(|file| file.id) || newest.is_none() {
                return Ok(files);
            }
        }
        Err(io::Error::other("the log is rotated faster than it can be read"))
    }

    /// The file that follows the one of that identity. When that one is gone, the oldest of all.
    pub(super) fn successor(&self, of: Option<FileId>) -> io::Result<Option<LogFile>> {
        let mut files = self.open_all()?;
        let at = files.iter().position(|file| Some(file.id) == of).map_or(0, |at| at + 1);
        Ok((at < files.len()).then(|| files.swap_remove(at)))
    }

    /// By growing numbers, as files move: none can be missed, one can be met twice in a row.
    fn list(&self) -> io::Result<Vec<LogFile>> {
        let mut files: Vec<LogFile> = Vec::new();
        let mut missing = 0;
        for number in 0..MAX_FILES {
            match LogFile::open(&self.numbered(number))? {
                Some(file) if files.last().is_some_and(|last| last.id == file.id) => {}
                Some(file) => files.push(file),
                // The file that is just being renamed has no name for others to see.
                None if number > 0 => missing += 1,
                None => {}
            }
            if missing == 2 {
                break;
            }
        }
        files.reverse();
        Ok(files)
    }

    fn numbered(&self, number: u32) -> PathBuf {
        if number == 0 {
            return self.path.clone();
        }
        let mut path = self.path.clone().into_os_string();
        path.push(format!(".{number}"));
        path.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn texts(files: &[LogFile]) -> Vec<String> {
        let text = |file: &LogFile| {
            let mut buffer = vec![0; file.length as usize];
            file.read_exact_at(&mut buffer, 0).unwrap();
            String::from_utf8(buffer).unwrap()
        };
        files.iter().map(text).collect()
    }

    #[test]
    fn files_are_found_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        let files = LogFiles::new(path.clone());
        assert!(files.open_all().unwrap().is_empty());
        assert!(files.successor(None).unwrap().is_none());
        for (name, text) in
            [("0.log.2", "a"), ("0.log.1", "b"), ("0.log", "c"), ("0.log.9", "far"), ("0.logx", "x")]
        {
            fs::write(directory.path().join(name), text).unwrap();
        }
        let all = files.open_all().unwrap();
        assert_eq!(texts(&all), ["a", "b", "c"]);
        let next = |of: &LogFile| files.successor(Some(of.id)).unwrap().map(|file| texts(&[file]).remove(0));
        assert_eq!(next(&all[0]).as_deref(), Some("b"));
        assert_eq!(next(&all[1]).as_deref(), Some("c"));
        assert_eq!(next(&all[2]), None);
        // In the middle of a rotation: `.1` has moved, the current file has not.
        fs::rename(directory.path().join("0.log.2"), directory.path().join("0.log.3")).unwrap();
        fs::rename(directory.path().join("0.log.1"), directory.path().join("0.log.2")).unwrap();
        assert_eq!(texts(&files.open_all().unwrap()), ["a", "b", "c"]);
        fs::rename(&path, directory.path().join("0.log.1")).unwrap();
        assert_eq!(next(&all[2]), None);
        fs::write(&path, "d").unwrap();
        assert_eq!(next(&all[2]).as_deref(), Some("d"));
        // A file that is gone is followed by the oldest.
        fs::remove_file(directory.path().join("0.log.3")).unwrap();
        assert_eq!(next(&all[0]).as_deref(), Some("b"));
    }
}
