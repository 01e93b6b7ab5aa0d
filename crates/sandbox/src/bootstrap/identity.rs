//! The user on whose behalf Xebec runs.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::DumpableBehavior;
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use serde::{Deserialize, Serialize};

use super::find_program;
use crate::sys::{self, SingleThreaded};

/// A user of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Login name.
    pub name: String,
    /// User id on the host; never 0.
    pub uid: u32,
    /// Group on the host.
    pub gid: u32,
    /// Home directory.
    pub home: PathBuf,
}

/// Why a user cannot be found or become.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The user data base has no such user.
    #[error("there is no user `{0}` on this machine; create one with `useradd --create-home {0}`")]
    Unknown(String),
    /// The user is root.
    #[error("`{0}` is root (user id 0), and Xebec never runs as root: name an ordinary user")]
    IsRoot(String),
    /// This process is not root, so it cannot become another user.
    #[error("only root can become another user, and this process has user id {0}")]
    NotRoot(u32),
    /// The user data base could not be read.
    #[error("cannot read the user data base")]
    Database(#[source] io::Error),
    /// Becoming the user failed.
    #[error("cannot {action} to become user `{name}`")]
    Become {
        /// The user.
        name: String,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl Identity {
    /// The user and group that this process runs as.
    pub fn current() -> Result<Self, IdentityError> {
        let uid = rustix::process::geteuid().as_raw();
        let found = Self::find(&uid.to_string(), |entry| entry.uid == uid)?;
        Ok(Self { gid: rustix::process::getegid().as_raw(), ..found })
    }

    /// The user of this login name.
    pub fn lookup(name: &str) -> Result<Self, IdentityError> {
        Self::find(name, |entry| entry.name == name)
    }

    fn find(key: &str, matches: impl Fn(&Self) -> bool) -> Result<Self, IdentityError> {
        let file = fs::read_to_string("/etc/passwd").map_err(IdentityError::Database)?;
        if let Some(found) = file.lines().filter_map(parse_passwd_line).find(&matches) {
            return Ok(found);
        }
        // Users of a directory service are not in the file.
        let getent = find_program("getent").ok_or_else(|| IdentityError::Unknown(key.to_owned()))?;
        let output = Command::new(getent)
            .args(["passwd", "--", key])
            .env_clear()
            .output()
            .map_err(IdentityError::Database)?;
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(parse_passwd_line)
            .find(&matches)
            .ok_or_else(|| IdentityError::Unknown(key.to_owned()))
    }

    /// Makes this process, started by root, this user's for good: user, groups,
    /// keys, working directory. `HOME` is the caller's to set.
    pub fn assume(&self) -> Result<(), IdentityError> {
        let fail = |action| move |source| IdentityError::Become { name: self.name.clone(), action, source };
        let euid = rustix::process::geteuid();
        if !euid.is_root() {
            return Err(IdentityError::NotRoot(euid.as_raw()));
        }
        let (Some(uid), Some(gid)) = (ordinary_uid(self.uid), ordinary_gid(self.gid)) else {
            return Err(IdentityError::IsRoot(self.name.clone()));
        };
        SingleThreaded::prove().map_err(fail("count threads"))?;
        sys::join_fresh_keyring().map_err(fail("leave root's keys"))?;
        set_thread_groups(&[gid]).map_err(io::Error::from).map_err(fail("set the groups"))?;
        set_thread_res_gid(gid, gid, gid).map_err(io::Error::from).map_err(fail("set the group"))?;
        set_thread_res_uid(uid, uid, uid).map_err(io::Error::from).map_err(fail("set the user"))?;
        // The kernel marks a process that changed users as not inspectable,
        // which would hide its children's id maps from newuidmap.
        rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)
            .map_err(io::Error::from)
            .map_err(fail("make the process inspectable"))?;
        let directory = if self.home.is_dir() { self.home.as_path() } else { "/".as_ref() };
        std::env::set_current_dir(directory).map_err(fail("enter the home directory"))
    }
}

fn ordinary_uid(uid: u32) -> Option<rustix::process::Uid> {
    (uid != 0 && uid != u32::MAX).then(|| rustix::process::Uid::from_raw(uid))
}

fn ordinary_gid(gid: u32) -> Option<rustix::process::Gid> {
    (gid != 0 && gid != u32::MAX).then(|| rustix::process::Gid::from_raw(gid))
}

fn parse_passwd_line(line: &str) -> Option<Identity> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?.to_owned();
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let home = PathBuf::from(fields.nth(1)?);
    Some(Identity { name, uid, gid, home })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwd_lines() {
        let check = |line: &str, expected: Option<(&str, u32, u32, &str)>| {
            let parsed = parse_passwd_line(line);
            let got = parsed.as_ref().map(|i| (i.name.as_str(), i.uid, i.gid, i.home.to_str().unwrap()));
            assert_eq!(got, expected, "{line:?}");
        };
        check("root:x:0:0:root:/root:/bin/bash", Some(("root", 0, 0, "/root")));
        check("a:x:1000:100::/home/a:", Some(("a", 1000, 100, "/home/a")));
        check("a:x:1000:100", None);
        check("a:x:many:100::/home/a:", None);
        check(":x:1:1::/:", None);
        check("", None);
    }

    #[test]
    fn root_is_known_and_a_made_up_user_is_not() {
        assert_eq!(Identity::lookup("root").unwrap().uid, 0);
        assert!(matches!(Identity::lookup("no-such-user-here"), Err(IdentityError::Unknown(_))));
    }
}
