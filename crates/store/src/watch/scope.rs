//! What a watcher wants to see, and which log holds it.

use std::fmt;

use crate::{Key, Prefix};

/// How many segments name a partition: `/registry/core/pods/` has three.
const PARTITION_SEGMENTS: usize = 3;

/// The keys of a watch.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Scope {
    /// All keys below a prefix.
    Prefix(Prefix),
    /// One key.
    Key(Key),
}

impl Scope {
    /// Whether an event of `key` is delivered.
    #[must_use]
    pub fn contains(&self, key: &Key) -> bool {
        match self {
            Self::Prefix(prefix) => prefix.contains(key),
            Self::Key(own) => own == key,
        }
    }

    fn path(&self) -> &str {
        match self {
            Self::Prefix(prefix) => prefix.as_str(),
            Self::Key(key) => key.as_str(),
        }
    }

    /// The partition that holds all its events; none when they spread over several.
    pub(crate) fn partition(&self) -> Option<&str> {
        partition_of(self.path())
    }

    /// The part of the path behind `partition`.
    pub(crate) fn below<'a>(&'a self, partition: &str) -> &'a str {
        self.path().strip_prefix(partition).expect("a scope is registered in its own partition")
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path().fmt(out)
    }
}

/// The first segments of `path` with the slash behind them; none when `path` ends earlier.
pub(crate) fn partition_of(path: &str) -> Option<&str> {
    path.match_indices('/').nth(PARTITION_SEGMENTS).map(|(slash, _)| &path[..=slash])
}

/// The first segment of `rest`, without its slash.
pub(crate) fn first_segment(rest: &str) -> &str {
    rest.split('/').next().unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::{first_segment, partition_of};

    #[test]
    fn partitions_are_the_first_three_segments() {
        for (path, want) in [
            ("/registry/core/pods/default/web-0", Some("/registry/core/pods/")),
            ("/registry/core/pods/default/", Some("/registry/core/pods/")),
            ("/registry/core/pods/", Some("/registry/core/pods/")),
            ("/registry/core/nodes/a", Some("/registry/core/nodes/")),
            ("/registry/core/pods", None),
            ("/registry/core/", None),
            ("/", None),
        ] {
            assert_eq!(partition_of(path), want, "{path}");
        }
    }

    #[test]
    fn a_namespace_is_the_segment_behind_the_partition() {
        for (rest, want) in
            [("default/web-0", "default"), ("default/", "default"), ("node-a", "node-a"), ("", "")]
        {
            assert_eq!(first_segment(rest), want);
        }
    }
}
