//! Which capabilities a container has.

use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::config::{CAPABILITIES, CapabilityChange, CapabilityName};

/// What a container gets unless it asks for more or less.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// A set of capabilities, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capabilities(u64);

impl Capabilities {
    pub(crate) const ALL: Self = Self((1 << CAPABILITIES.len()) - 1);

    /// The default set with a container's changes.
    pub(crate) fn of(change: &CapabilityChange) -> Self {
        let default = DEFAULT.iter().fold(0, |bits, name| bits | bit(name));
        let dropped = change.drop.iter().fold(default, |bits, name| bits & !bits_of(name));
        Self(change.add.iter().fold(dropped, |bits, name| bits | bits_of(name)))
    }

    /// With those that the last step before a program's start needs.
    pub(crate) fn with(self, names: &[&str]) -> Self {
        Self(names.iter().fold(self.0, |bits, name| bits | bit(name)))
    }

    /// As the OCI runtime specification spells them.
    pub(crate) fn names(self) -> Vec<String> {
        CAPABILITIES.iter().filter(|name| self.0 & bit(name) != 0).map(|name| format!("CAP_{name}")).collect()
    }

    /// Makes every capability that this process may have effective.
    pub(crate) fn raise_permitted() -> std::io::Result<()> {
        let mut sets = rustix::thread::capabilities(None)?;
        sets.effective = sets.permitted;
        Ok(rustix::thread::set_capabilities(None, sets)?)
    }

    /// Makes these the only ones that this process and its programs can ever have.
    pub(crate) fn confine(self) -> std::io::Result<()> {
        // The bounding set is shrunk first: that takes a capability itself.
        for number in 0..u64::BITS {
            let capability = CapabilitySet::from_bits_retain(1 << number);
            match rustix::thread::capability_is_in_bounding_set(capability) {
                Ok(true) if self.0 & (1 << number) == 0 => {
                    rustix::thread::remove_capability_from_bounding_set(capability)?;
                }
                Ok(_) => {}
                // A number that this kernel does not know.
                Err(_) => break,
            }
        }
        rustix::thread::clear_ambient_capability_set()?;
        self.restrict()
    }

    /// Makes these the only ones that this process has now.
    pub(crate) fn restrict(self) -> std::io::Result<()> {
        let set = CapabilitySet::from_bits_retain(self.0);
        let sets = CapabilitySets { effective: set, permitted: set, inheritable: CapabilitySet::empty() };
        Ok(rustix::thread::set_capabilities(None, sets)?)
    }
}

fn bit(name: &str) -> u64 {
    let number = CAPABILITIES.iter().position(|known| *known == name);
    1 << number.expect("capability names in this crate are checked when they are made")
}

fn bits_of(name: &CapabilityName) -> u64 {
    if name.as_str() == "ALL" { Capabilities::ALL.0 } else { bit(name.as_str()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes() {
        let check = |add: &[&str], drop: &[&str], expected: &[&str]| {
            let parse = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
            let change = CapabilityChange { add: parse(add), drop: parse(drop) };
            assert_eq!(Capabilities::of(&change).names(), expected, "+{add:?} -{drop:?}");
        };
        check(&[], &["ALL"], &[]);
        check(&["NET_BIND_SERVICE"], &["ALL"], &["CAP_NET_BIND_SERVICE"]);
        check(&["SYS_ADMIN", "CHOWN"], &["ALL"], &["CAP_CHOWN", "CAP_SYS_ADMIN"]);
        let all: Vec<_> = CAPABILITIES.iter().map(|name| format!("CAP_{name}")).collect();
        check(&["ALL"], &[], &all.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(Capabilities::of(&CapabilityChange::default()).names().len(), DEFAULT.len());
    }
}
