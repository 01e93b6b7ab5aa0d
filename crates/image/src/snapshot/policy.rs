//! What unpacking does with things that an image should not contain, and what it reports.

use serde::{Deserialize, Serialize};

use super::owner::IdShift;

/// What to do with the doubtful parts of layers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnpackPolicy {
    /// Where ids go.
    pub shift: IdShift,
    /// Ids without a place.
    pub owners: OwnerPolicy,
    /// Device nodes.
    pub devices: DevicePolicy,
    /// Set-user-id and set-group-id programs.
    pub set_id: SetIdPolicy,
}

/// Files whose owner has no place in the user namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OwnerPolicy {
    /// They become `nobody`'s, with a warning: images carry ids of the machines that built them.
    #[default]
    Nobody,
    /// The image is refused.
    Refuse,
}

/// Device nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DevicePolicy {
    /// They are left out, with a warning: containers get their devices from the runtime.
    #[default]
    Drop,
    /// The image is refused.
    Refuse,
}

/// Set-user-id and set-group-id bits of files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SetIdPolicy {
    /// They stay; containers run with no new privileges unless their pod asks otherwise.
    #[default]
    Keep,
    /// They are cleared, with a warning.
    Strip,
}

/// Something of a layer that was not unpacked as written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// A device was left out.
    #[error("left out the device node `{path}`")]
    Device {
        /// Where.
        path: String,
    },
    /// A file changed hands.
    #[error("`{path}` belongs to id {id}, which does not exist here; it belongs to nobody now")]
    Owner {
        /// Which.
        path: String,
        /// Whose it was.
        id: u64,
    },
    /// A set-id bit was cleared.
    #[error("cleared the set-id bits of `{path}`")]
    SetId {
        /// Which.
        path: String,
    },
    /// An extended attribute was left out.
    #[error("left out the attribute `{name}` of `{path}`")]
    Xattr {
        /// Of what.
        path: String,
        /// Which.
        name: String,
    },
    /// Book-keeping of aufs was left out.
    #[error("left out `{path}`, which only aufs understands")]
    Aufs {
        /// Where.
        path: String,
    },
}

/// What unpacking a layer did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Entries of its archive.
    pub entries: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// The first warnings.
    pub warnings: Vec<String>,
    /// How many more there were.
    pub more_warnings: u64,
}

impl Report {
    const MAX_WARNINGS: usize = 32;

    #[expect(clippy::needless_pass_by_value, reason = "a warning is made to be reported")]
    pub(super) fn warn(&mut self, warning: Warning) {
        if self.warnings.len() < Self::MAX_WARNINGS {
            self.warnings.push(warning.to_string());
        } else {
            self.more_warnings += 1;
        }
    }
}
