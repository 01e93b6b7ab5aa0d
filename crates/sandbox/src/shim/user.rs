//! Who a container's process runs as, by the container's own `/etc/passwd` and
//! `/etc/group`.
//!
//! The files are the image's, so they are hostile: they are read by the shim
//! through a descriptor, with a limit, and no code of the image (such as a name
//! service module) takes part.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use super::refusal::Refusal;
use crate::config::{ContainerUser, POD_IDS, Principal};

/// Most bytes read of either file.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Most supplementary groups, by the kernel's own limit.
const MAX_GROUPS: usize = 65_536;

/// A user with everything looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResolvedUser {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
}

/// Looks a user up in files that `open` finds in the container.
pub(crate) fn resolve(
    user: &ContainerUser,
    open: impl Fn(&Path) -> io::Result<OwnedFd>,
) -> Result<ResolvedUser, Refusal> {
    let passwd = read(&open, "/etc/passwd")?;
    let group = read(&open, "/etc/group")?;
    resolve_in(user, &passwd, &group)
}

fn read(open: &impl Fn(&Path) -> io::Result<OwnedFd>, path: &str) -> Result<String, Refusal> {
    let file = match open(Path::new(path)) {
        Ok(file) => File::from(file),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(String::new());
        }
        Err(error) => return Err(Refusal::invalid(format!("cannot open the container's {path}: {error}"))),
    };
    let regular = file.metadata().is_ok_and(|metadata| metadata.is_file());
    if !regular {
        return Err(Refusal::invalid(format!("the container's {path} is not a file")));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES)
        .read_to_end(&mut bytes)
        .map_err(|error| Refusal::invalid(format!("cannot read the container's {path}: {error}")))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn resolve_in(user: &ContainerUser, passwd: &str, group: &str) -> Result<ResolvedUser, Refusal> {
    let entry = match &user.user {
        Principal::Id(uid) => passwd_entries(passwd).find(|entry| entry.uid == *uid),
        Principal::Name(name) => {
            Some(passwd_entries(passwd).find(|entry| entry.name == name).ok_or_else(|| {
                Refusal::invalid(format!("there is no user `{name}` in the container's /etc/passwd"))
            })?)
        }
    };
    let uid = match (&user.user, &entry) {
        (Principal::Id(uid), _) => *uid,
        (Principal::Name(_), Some(entry)) => entry.uid,
        (Principal::Name(_), None) => unreachable!("a missing name was refused above"),
    };
    let gid = match &user.group {
        Some(Principal::Id(gid)) => *gid,
        Some(Principal::Name(name)) => {
            group_entries(group).find(|entry| entry.name == name).map(|entry| entry.gid).ok_or_else(|| {
                Refusal::invalid(format!("there is no group `{name}` in the container's /etc/group"))
            })?
        }
        None => entry.as_ref().map_or(0, |entry| entry.gid),
    };
    let groups = groups_of(user, gid, entry.as_ref().map(|entry| entry.name), group);
    for id in [uid, gid].iter().chain(&groups) {
        if *id >= POD_IDS {
            return Err(Refusal::invalid(format!(
                "the id {id} does not exist inside a pod; ids go from 0 to {}",
                POD_IDS - 1
            )));
        }
    }
    if groups.len() > MAX_GROUPS {
        return Err(Refusal::invalid(format!("more than {MAX_GROUPS} supplementary groups")));
    }
    let home = entry.map(|entry| entry.home).filter(|home| home.starts_with('/')).unwrap_or("/");
    Ok(ResolvedUser { uid, gid, groups, home: home.to_owned() })
}

/// The groups asked for, and those in which the image lists the user. The
/// primary group is among them: a program that changes its group must not
/// thereby leave one whose members a file denies access.
fn groups_of(user: &ContainerUser, gid: u32, name: Option<&str>, group: &str) -> Vec<u32> {
    let mut groups = user.supplementary_groups.clone();
    groups.push(gid);
    if let Some(name) = name {
        let listed = group_entries(group).filter(|entry| entry.members.split(',').any(|m| m == name));
        groups.extend(listed.map(|entry| entry.gid));
    }
    groups.sort_unstable();
    groups.dedup();
    groups
}

struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn passwd_entries(text: &str) -> impl Iterator<Item = PasswdEntry<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1).unwrap_or_default();
        Some(PasswdEntry { name, uid, gid, home })
    })
}

struct GroupEntry<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

fn group_entries(text: &str) -> impl Iterator<Item = GroupEntry<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some(GroupEntry { name, gid, members: fields.next().unwrap_or_default() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:100:101::/srv/web:/bin/false\nbad:x:-1:0::/:\n\
                          4294967295:x:7:7::/:\nhuge:x:4294967295:0::/:\nrelative:x:8:8::home:\n";
    const GROUP: &str = "root:x:0:\nweb:x:101:\nlogs:x:200:web,other\nmore:x:201:web\nbroken:x\n";

    #[test]
    fn users_and_groups() {
        type Expected<'a> = Result<(u32, u32, &'a [u32], &'a str), &'a str>;
        let name = |name: &str| Principal::Name(name.to_owned());
        let check = |user: Principal, group: Option<Principal>, more: &[u32], expected: Expected<'_>| {
            let asked = ContainerUser { user, group, supplementary_groups: more.to_vec() };
            let got = resolve_in(&asked, PASSWD, GROUP);
            match (got, expected) {
                (Ok(user), Ok(expected)) => {
                    let got = (user.uid, user.gid, user.groups.as_slice(), user.home.as_str());
                    assert_eq!(got, expected, "{asked:?}");
                }
                (Err(refusal), Err(part)) => assert!(refusal.message.contains(part), "{refusal}"),
                (got, expected) => panic!("{asked:?}: {got:?} instead of {expected:?}"),
            }
        };
        check(Principal::Id(0), None, &[], Ok((0, 0, &[0], "/root")));
        check(name("web"), None, &[], Ok((100, 101, &[101, 200, 201], "/srv/web")));
        check(
            Principal::Id(100),
            Some(Principal::Id(5)),
            &[200, 9],
            Ok((100, 5, &[5, 9, 200, 201], "/srv/web")),
        );
        check(Principal::Id(4000), None, &[], Ok((4000, 0, &[0], "/")));
        check(Principal::Id(4000), Some(name("logs")), &[], Ok((4000, 200, &[200], "/")));
        check(name("relative"), None, &[], Ok((8, 8, &[8], "/")));
        check(name("nobody"), None, &[], Err("no user `nobody`"));
        check(name("bad"), None, &[], Err("no user `bad`"));
        check(Principal::Id(1), Some(name("none")), &[], Err("no group `none`"));
        check(name("huge"), None, &[], Err("id 4294967295 does not exist"));
        check(Principal::Id(65_535), None, &[], Err("id 65535 does not exist"));
        check(Principal::Id(0), Some(Principal::Id(65_535)), &[], Err("id 65535 does not exist"));
        check(Principal::Id(0), None, &[70_000], Err("id 70000 does not exist"));
    }
}
