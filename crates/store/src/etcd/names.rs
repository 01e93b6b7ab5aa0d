//! Where things stand in etcd, below a prefix such as `/xebec`.
//!
//! ```text
//! /xebec/registry/…     records, under their keys
//! /xebec//passed        put to see that the watch has passed a revision; no record's key has an empty segment
//! /xebec.identity       which keys the data is written with; outside of what is watched
//! /xebec.compaction     which server compacts
//! ```

use crate::{Key, KeyError};

#[derive(Clone, Debug)]
pub(super) struct Names {
    prefix: Key,
    /// The first of all names that are watched, and the first behind them.
    pub(super) start: Vec<u8>,
    pub(super) end: Vec<u8>,
    pub(super) passed: Vec<u8>,
    pub(super) identity: Vec<u8>,
    pub(super) compaction: Vec<u8>,
}

/// What a name in the watched range stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Record(Key),
    Passed,
}

impl Names {
    pub(super) fn new(prefix: Key) -> Self {
        let name = |rest: &str| format!("{prefix}{rest}").into_bytes();
        Self {
            start: name("/"),
            end: name("0"),
            passed: name("//passed"),
            identity: name(".identity"),
            compaction: name(".compaction"),
            prefix,
        }
    }

    /// The name of a record, in pieces.
    pub(super) fn record<'a>(&'a self, key: &'a Key) -> [&'a [u8]; 2] {
        [self.prefix.as_str().as_bytes(), key.as_str().as_bytes()]
    }

    pub(super) fn read(&self, name: &[u8]) -> Result<Name, KeyError> {
        if name == self.passed {
            return Ok(Name::Passed);
        }
        let path = name.strip_prefix(self.prefix.as_str().as_bytes()).unwrap_or(name);
        Key::new(String::from_utf8_lossy(path)).map(Name::Record)
    }
}

#[cfg(test)]
mod tests {
    use super::{Name, Names};
    use crate::Key;

    #[test]
    fn records_and_nothing_else_are_in_the_range() {
        let names = Names::new(Key::new("/a/xebec").expect("key"));
        let key = Key::new("/registry/core/pods/a/b").expect("key");
        let name = names.record(&key).concat();
        assert_eq!(name, b"/a/xebec/registry/core/pods/a/b");
        assert_eq!(names.read(&name), Ok(Name::Record(key)));
        assert_eq!(names.read(&names.passed), Ok(Name::Passed));
        let inside = |name: &[u8]| *names.start <= *name && *name < *names.end;
        assert!(inside(&name) && inside(&names.passed));
        for other in [&*names.identity, &*names.compaction, b"/a/xebec2/registry", b"/a/xebec", b"/b"] {
            assert!(!inside(other), "{}", String::from_utf8_lossy(other));
        }
        names.read(b"/a/xebec/a//b").expect_err("no key");
    }
}
