//! What a runtime needs to run an image: directories to mount and defaults to run with.

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{ChainId, ContainerDefaults, ImageId};
use crate::store::Lease;

/// A container's root before it has a writable layer. Its directories are not pruned while it, or a clone, exists.
#[derive(Debug, Clone)]
pub struct Rootfs {
    /// The image's id.
    pub id: ImageId,
    /// Lower directories for an overlay mount, topmost first; at least one. The mount needs `userxattr`.
    pub lowerdirs: Vec<PathBuf>,
    /// What the directories are made of, lowest first. Who must remember across a restart what a container uses keeps
    /// these and hands them to [`crate::ImageService::hold`] afterwards.
    pub chain: Vec<ChainId>,
    /// What to run, unless the pod says otherwise.
    pub defaults: ContainerDefaults,
    /// What of the image was not unpacked as written, for people to read.
    pub warnings: Vec<String>,
    /// What protects the directories.
    pub leases: Arc<Vec<Lease>>,
}

/// Why the `User` of an image cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// Empty parts, blanks, too many colons.
    #[error("`{0}` is not a user; expected `user`, `uid`, `user:group` or `uid:gid`")]
    Malformed(String),
    /// A number that is no id. Truncating it could make it root.
    #[error("user or group id `{0}` is out of range")]
    Range(String),
}

/// One side of a [`UserSpec`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdOrName {
    /// A number.
    Id(u32),
    /// A name, to be looked up in the container's own `/etc/passwd` or `/etc/group`.
    Name(String),
}

/// The `User` of an image, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserSpec {
    /// The user.
    pub user: IdOrName,
    /// The group; without one it is the user's.
    pub group: Option<IdOrName>,
}

impl UserSpec {
    /// Parses `user[:group]`; empty text is root.
    ///
    /// # Errors
    /// When it is malformed or a number is not an id.
    pub fn parse(text: &str) -> Result<Self, UserError> {
        if text.is_empty() {
            return Ok(Self { user: IdOrName::Id(0), group: None });
        }
        let malformed = || UserError::Malformed(crate::quote::clip(text));
        let mut parts = text.split(':');
        let user = parts.next().ok_or_else(malformed)?;
        let group = parts.next();
        if parts.next().is_some() {
            return Err(malformed());
        }
        let part = |part: &str| {
            let odd = |c: char| c.is_whitespace() || c.is_control() || c == '/';
            if part.is_empty() || part.contains(odd) { Err(malformed()) } else { IdOrName::parse(part) }
        };
        Ok(Self { user: part(user)?, group: group.map(part).transpose()? })
    }
}

impl IdOrName {
    fn parse(text: &str) -> Result<Self, UserError> {
        if !text.bytes().all(|b| b.is_ascii_digit()) {
            return Ok(Self::Name(text.to_owned()));
        }
        // Kubernetes and the OCI runtimes agree on 31 bits.
        match text.parse::<u32>() {
            Ok(id) if i32::try_from(id).is_ok() => Ok(Self::Id(id)),
            _ => Err(UserError::Range(crate::quote::clip(text))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users() {
        let id = IdOrName::Id;
        let name = |text: &str| IdOrName::Name(text.to_owned());
        let check = |text: &str, user: IdOrName, group: Option<IdOrName>| {
            assert_eq!(UserSpec::parse(text), Ok(UserSpec { user, group }), "{text}");
        };
        check("", id(0), None);
        check("0", id(0), None);
        check("1000:1001", id(1_000), Some(id(1_001)));
        check("www-data", name("www-data"), None);
        check("www-data:0", name("www-data"), Some(id(0)));
        check("+5", name("+5"), None);
        for text in [":", "a:", ":b", "a:b:c", "a b", "a\n", "../a"] {
            assert!(matches!(UserSpec::parse(text), Err(UserError::Malformed(_))), "{text}");
        }
        // 2^32 and the like must not wrap around to root.
        for text in ["2147483648", "4294967296", "18446744073709551616", "0:4294967295"] {
            assert!(matches!(UserSpec::parse(text), Err(UserError::Range(_))), "{text}");
        }
        assert_eq!(UserSpec::parse("2147483647").expect("in range").user, id(2_147_483_647));
    }
}
