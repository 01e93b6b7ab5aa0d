//! External programs: where they are and what to install when they are not.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Directories with administrators' programs; an ordinary user's `PATH` often lacks them.
const ADMIN_DIRECTORIES: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Where `name` is, in the `PATH` or among the administrators' programs.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    find_in(name, env::var_os("PATH").as_deref())
}

fn find_in(name: &str, path: Option<&OsStr>) -> Option<PathBuf> {
    let directories = path.map(env::split_paths).into_iter().flatten();
    let directories = directories.chain(ADMIN_DIRECTORIES.iter().map(PathBuf::from));
    directories.filter(|d| d.is_absolute()).map(|d| d.join(name)).find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_in_the_path_and_in_fixed_places() {
        assert_eq!(find_in("sh", Some(OsStr::new("/nowhere:/bin"))), Some("/bin/sh".into()));
        assert_eq!(find_in("sh", Some(OsStr::new("bin:."))), None);
        assert_eq!(find_in("no-such-program", Some(OsStr::new("/bin"))), None);
        assert_eq!(find_in("passwd", Some(OsStr::new("/etc"))), None, "a file that can't be executed");
    }
}
