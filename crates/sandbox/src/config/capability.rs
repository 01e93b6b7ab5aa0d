//! Names of Linux capabilities.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A Linux capability, spelled with or without `CAP_`, or `ALL`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CapabilityName(String);

/// A name that is no capability.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not a Linux capability; write a name such as NET_BIND_SERVICE, or ALL")]
pub struct UnknownCapability {
    /// What was offered.
    pub value: String,
}

/// Every capability, in the order of its number.
pub(crate) const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

impl CapabilityName {
    /// The name without `CAP_`, in upper case; `ALL` for every capability.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CapabilityName {
    type Err = UnknownCapability;

    fn from_str(value: &str) -> Result<Self, UnknownCapability> {
        let upper = value.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if name == "ALL" || CAPABILITIES.contains(&name) {
            Ok(Self(name.to_owned()))
        } else {
            Err(UnknownCapability { value: value.to_owned() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities() {
        let check = |text: &str, name: Option<&str>| {
            let parsed = text.parse::<CapabilityName>().ok();
            assert_eq!(parsed.as_ref().map(CapabilityName::as_str), name, "{text:?}");
        };
        check("NET_ADMIN", Some("NET_ADMIN"));
        check("cap_net_admin", Some("NET_ADMIN"));
        check("all", Some("ALL"));
        check("NET", None);
        check("", None);
    }
}
