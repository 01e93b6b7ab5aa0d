//! Files that change all at once.
//!
//! As upstream's atomic writer does it: all files are written into a new directory, to which a link `..data` then leads
//! in one step. What a reader has open stays as it was; a mount of a single file (`subPath`) never changes.

use std::fs;
use std::io;
use std::path::Path;

use super::owner::Owner;
use super::{File, Files, VolumeError, create_directory, disk};

/// Writes all files into a new directory, and lets `..data` and a link per file lead there. Nothing is done if they are
/// there already as they should be.
pub(super) fn write_files(volume: &Path, files: &Files, owner: Owner) -> Result<(), VolumeError> {
    create_directory(volume)?;
    owner.directory(volume, 0o755)?;
    let data = volume.join("..data");
    let current = generation(&data).map(|name| volume.join(name));
    if current.as_ref().is_some_and(|dir| same(dir, files)) {
        return Ok(());
    }
    let fresh = (0_u32..)
        .map(|n| volume.join(format!("..{n}")))
        .find(|p| !p.exists())
        .expect("numbers do not run out");
    create_directory(&fresh)?;
    owner.directory(&fresh, 0o755)?;
    for (name, file) in files {
        let path = fresh.join(name);
        let parents: Vec<&Path> = path.ancestors().skip(1).take_while(|p| *p != fresh).collect();
        for parent in parents.into_iter().rev() {
            create_directory(parent)?;
            owner.directory(parent, 0o755)?;
        }
        fs::write(&path, &file.bytes).map_err(disk(&path))?;
        if file.secret {
            owner.secret_file(&path, file.mode)?;
        } else {
            owner.file(&path, file.mode)?;
        }
    }
    let next = volume.join("..data_new");
    remove_if_there(&next)?;
    std::os::unix::fs::symlink(fresh.file_name().unwrap_or_default(), &next).map_err(disk(&next))?;
    fs::rename(&next, &data).map_err(disk(&data))?;
    link_names(volume, files)?;
    match current {
        Some(old) => fs::remove_dir_all(&old).map_err(disk(&old)),
        None => Ok(()),
    }
}

/// The directory that `..data` leads to, if it is one that [`write_files`] made: nothing else is ever read or removed,
/// whoever may have changed the link.
fn generation(data: &Path) -> Option<std::path::PathBuf> {
    let target = fs::read_link(data).ok()?;
    let number = target.to_str()?.strip_prefix("..")?;
    let made = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    let real = fs::symlink_metadata(data.with_file_name(&target)).is_ok_and(|meta| meta.is_dir());
    (made && real).then_some(target)
}

/// A link in the volume for the first part of each path; links of files that are gone are removed.
fn link_names(volume: &Path, files: &Files) -> Result<(), VolumeError> {
    let wanted: std::collections::BTreeSet<&str> =
        files.keys().filter_map(|name| name.split('/').next()).collect();
    for entry in fs::read_dir(volume).map_err(disk(volume))? {
        let name = entry.map_err(disk(volume))?.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !wanted.contains(name.as_ref()) {
            remove_if_there(&volume.join(name.as_ref()))?;
        }
    }
    for name in wanted {
        let link = volume.join(name);
        if fs::symlink_metadata(&link).is_err() {
            std::os::unix::fs::symlink(Path::new("..data").join(name), &link).map_err(disk(&link))?;
        }
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> Result<(), VolumeError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(disk(path)(e)),
        _ => Ok(()),
    }
}

fn same(dir: &Path, files: &Files) -> bool {
    let equal =
        |(name, file): (&String, &File)| fs::read(dir.join(name)).is_ok_and(|bytes| bytes == file.bytes);
    let count = walk(dir);
    count == files.len() && files.iter().all(equal)
}

/// How many files there are below a directory.
fn walk(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|e| if e.path().is_dir() { walk(&e.path()) } else { 1 }).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_link_leads_nowhere_else() {
        let (volume, other) = (tempfile::tempdir().expect("a"), tempfile::tempdir().expect("b"));
        let kept = other.path().join("kept");
        fs::write(&kept, "").expect("a file");
        let files = |text: &str| Files::from([("a".to_owned(), File::new(text.as_bytes().to_vec(), 0o644))]);
        write_files(volume.path(), &files("1"), Owner::default()).expect("written");
        for target in [other.path().display().to_string(), "..".into(), "../..".into(), "..9".into()] {
            let data = volume.path().join("..data");
            fs::remove_file(&data).expect("removed");
            std::os::unix::fs::symlink(&target, &data).expect("a link");
            write_files(volume.path(), &files(&target), Owner::default()).expect("written");
            assert!(kept.exists() && volume.path().exists());
            assert_eq!(fs::read_to_string(volume.path().join("a")).expect("read"), target);
        }
    }

    #[test]
    fn a_tree_is_known_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let files =
            |text: &str| Files::from([("a/b".to_owned(), File::new(text.as_bytes().to_vec(), 0o644))]);
        fs::create_dir(directory.path().join("a")).expect("a directory");
        fs::write(directory.path().join("a/b"), "1").expect("a file");
        assert!(same(directory.path(), &files("1")));
        assert!(!same(directory.path(), &files("2")));
        fs::write(directory.path().join("c"), "").expect("a file");
        assert!(!same(directory.path(), &files("1")));
    }
}
