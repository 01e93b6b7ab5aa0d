//! To whom the files of volumes belong.
//!
//! The pod's root owns them. With an `fsGroup` they belong to that group too, which can read what the node writes and
//! write what is the pod's own; what is made in such a directory later belongs to it as well. As upstream's
//! `SetVolumeOwnership`.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;

use k8s_openapi::api::core::v1::Pod;
use xebec_sandbox::config::host_id;

use super::{VolumeError, disk};
use crate::pod::plan;

/// Files that only their user may see, but for the group.
const PRIVATE: u32 = 0o600;
/// What a group may do with files that the node writes.
const READ: u32 = 0o440;
/// What a group may do with files of the pod's own.
const WRITE: u32 = 0o660;
/// What makes a directory one of the group's: it may look inside, and what is made there is the group's too.
const DIRECTORY: u32 = 0o2110;

/// The owners of a pod's files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Owner {
    /// The one user that all containers run as, if they say so.
    user: Option<u32>,
    /// The pod's `fsGroup`.
    group: Option<u32>,
}

impl Owner {
    /// As the pod's specification says.
    pub(super) fn of(pod: &Pod) -> Result<Self, VolumeError> {
        let security = pod.spec.as_ref().and_then(|s| s.security_context.clone()).unwrap_or_default();
        let checked = |field: &'static str, id: i64| match u32::try_from(id) {
            Ok(id) if host_id(id).is_some() => Ok(id),
            _ => Err(VolumeError::Id { field, id }),
        };
        let group = security.fs_group.map(|id| checked("fsGroup", id)).transpose()?;
        let mut users = plan::init_containers(pod)
            .iter()
            .chain(plan::containers(pod))
            .map(|c| c.security_context.as_ref().and_then(|s| s.run_as_user).or(security.run_as_user));
        let first = users.next().flatten().filter(|first| users.all(|user| user == Some(*first)));
        let user = first.map(|id| checked("runAsUser", id)).transpose()?;
        Ok(Self { user, group })
    }

    /// Gives a file that the node has written.
    pub(super) fn file(self, path: &Path, mode: u32) -> Result<(), VolumeError> {
        self.give(path, 0, mode | self.group.map_or(0, |_| READ))
    }

    /// Gives a file that only those who need it may read: the one user of the containers and the group, if they are known.
    pub(super) fn secret_file(self, path: &Path, mode: u32) -> Result<(), VolumeError> {
        match (self.user, self.group) {
            (None, None) => self.give(path, 0, mode),
            (user, group) => self.give(path, user.unwrap_or(0), PRIVATE | group.map_or(0, |_| READ)),
        }
    }

    /// Gives a directory that only the node changes.
    pub(super) fn directory(self, path: &Path, mode: u32) -> Result<(), VolumeError> {
        self.give(path, 0, mode | self.group.map_or(0, |_| READ | DIRECTORY))
    }

    /// Gives a directory that is the pod's own.
    pub(super) fn writable_directory(self, path: &Path, mode: u32) -> Result<(), VolumeError> {
        self.give(path, 0, mode | self.group.map_or(0, |_| WRITE | DIRECTORY))
    }

    fn give(self, path: &Path, user: u32, mode: u32) -> Result<(), VolumeError> {
        chown(path, host_id(user), host_id(self.group.unwrap_or(0))).map_err(disk(path))?;
        // Last: a change of owner takes the bit of the group away again.
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(disk(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn pods_say_who_owns_their_files() {
        let check = |pod: Value, users: &[Value], want: Result<(Option<u32>, Option<u32>), &str>| {
            let containers: Vec<Value> = users
                .iter()
                .map(|user| json!({"name": "c", "securityContext": {"runAsUser": user}}))
                .collect();
            let pod = json!({"spec": {"securityContext": pod, "containers": containers}});
            let got = Owner::of(&serde_json::from_value(pod).expect("a pod"));
            let got = got.map(|owner| (owner.user, owner.group)).map_err(|e| e.to_string());
            assert_eq!(got, want.map_err(str::to_owned), "{users:?}");
        };
        let none = Value::Null;
        check(json!({}), std::slice::from_ref(&none), Ok((None, None)));
        check(json!({"runAsUser": 5, "fsGroup": 7}), &[none.clone(), none.clone()], Ok((Some(5), Some(7))));
        check(json!({"runAsUser": 5}), &[none.clone(), json!(6)], Ok((None, None)));
        check(json!({}), &[json!(6), json!(6)], Ok((Some(6), None)));
        check(json!({}), &[json!(6), none], Ok((None, None)));
        let far = "fsGroup 65536 is not one of the ids that pods have here: 0 to 65534";
        check(json!({"fsGroup": 65536}), &[], Err(far));
    }
}
