//! Keys, and the prefixes that group them.
//!
//! A key is a path of `/`-separated segments; the store gives the segments no meaning. The server writes
//! `/registry/<group or "core">/<resource>/<namespace>/<name>`.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use crate::limits::MAX_KEY_BYTES;

/// The path of one record, for example `/registry/core/pods/default/web-0`. Cheap to clone.
///
/// It starts with `/`, has no empty segment and no control character, and is at most [`MAX_KEY_BYTES`] long.
/// Keys order by their bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// Checks `path` and makes it a key.
    ///
    /// # Errors
    /// [`KeyError`] names the rule that `path` breaks.
    pub fn new(path: impl Into<Arc<str>>) -> Result<Self, KeyError> {
        let path = path.into();
        check_path(&path)?;
        if path.ends_with('/') {
            return Err(KeyError::EmptySegment { path: path.to_string() });
        }
        Ok(Self(path))
    }

    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, out)
    }
}

/// All keys below a path, for example `/registry/core/pods/`. Starts and ends with `/`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Prefix {
    path: Arc<str>,
    /// The first string after every key below `path`: `path` with its last `/` replaced by the next byte.
    end: Arc<str>,
}

impl Prefix {
    /// Checks `path` and makes it a prefix.
    ///
    /// # Errors
    /// [`KeyError`] names the rule that `path` breaks.
    pub fn new(path: impl Into<Arc<str>>) -> Result<Self, KeyError> {
        let path = path.into();
        check_path(&path)?;
        let Some(body) = path.strip_suffix('/') else {
            return Err(KeyError::PrefixEnd { path: path.to_string() });
        };
        let end = format!("{body}{}", char::from(b'/' + 1)).into();
        Ok(Self { path, end })
    }

    /// The prefix of every key: `/`.
    #[must_use]
    pub fn all() -> Self {
        Self { path: "/".into(), end: "0".into() }
    }

    /// The path, with its last `/`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.path
    }

    /// Whether `key` is below this prefix.
    #[must_use]
    pub fn contains(&self, key: &Key) -> bool {
        key.as_str().starts_with(&*self.path)
    }

    pub(crate) fn end(&self) -> &str {
        &self.end
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(out)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.path, out)
    }
}

/// Why a text is no [`Key`] or [`Prefix`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It does not start with `/`.
    #[error("key {path:?} must start with \"/\"")]
    Start {
        /// The text.
        path: String,
    },
    /// Two slashes meet, or a key ends with one.
    #[error("key {path:?} has an empty segment")]
    EmptySegment {
        /// The text.
        path: String,
    },
    /// A prefix without the closing slash would also name its siblings.
    #[error("prefix {path:?} must end with \"/\"")]
    PrefixEnd {
        /// The text.
        path: String,
    },
    /// It holds a control character.
    #[error("key {path:?} holds a control character")]
    Control {
        /// The text.
        path: String,
    },
    /// It is longer than [`MAX_KEY_BYTES`].
    #[error("key of {bytes} bytes is longer than the limit of {limit}", limit = MAX_KEY_BYTES)]
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

fn check_path(path: &str) -> Result<(), KeyError> {
    if path.len() > MAX_KEY_BYTES {
        return Err(KeyError::TooLong { bytes: path.len() });
    }
    if !path.starts_with('/') {
        return Err(KeyError::Start { path: path.to_owned() });
    }
    if path.contains("//") {
        return Err(KeyError::EmptySegment { path: path.to_owned() });
    }
    if path.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(KeyError::Control { path: path.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Key, KeyError, MAX_KEY_BYTES, Prefix};

    #[test]
    fn keys_are_paths() {
        let longest = format!("/{}", "k".repeat(MAX_KEY_BYTES - 1));
        for good in ["/a", "/registry/core/pods/default/web-0", "/rbac/system:node", "/ü", &longest] {
            assert_eq!(Key::new(good).expect(good).as_str(), good);
        }
        let path = |text: &str| text.to_owned();
        for (bad, error) in [
            ("", KeyError::Start { path: path("") }),
            ("a/b", KeyError::Start { path: path("a/b") }),
            ("/", KeyError::EmptySegment { path: path("/") }),
            ("/a/", KeyError::EmptySegment { path: path("/a/") }),
            ("/a//b", KeyError::EmptySegment { path: path("/a//b") }),
            ("/a\0b", KeyError::Control { path: path("/a\0b") }),
            (&format!("{longest}k"), KeyError::TooLong { bytes: MAX_KEY_BYTES + 1 }),
        ] {
            assert_eq!(Key::new(bad), Err(error));
        }
    }

    #[test]
    fn prefixes_end_with_a_slash() {
        for (good, end) in [("/", "0"), ("/a/", "/a0"), ("/a/b/", "/a/b0")] {
            assert_eq!(Prefix::new(good).expect(good).end(), end);
        }
        assert_eq!(Prefix::new("/"), Ok(Prefix::all()));
        assert_eq!(Prefix::new("/a"), Err(KeyError::PrefixEnd { path: "/a".to_owned() }));
        assert!(Prefix::new("//").is_err());
    }

    #[test]
    fn a_prefix_bounds_exactly_the_keys_below_it() {
        let prefix = Prefix::new("/a/b/").expect("prefix");
        for (key, below) in
            [("/a/b/c", true), ("/a/b/c/d", true), ("/a/b", false), ("/a/b-c/d", false), ("/a/b0", false)]
        {
            let key = Key::new(key).expect(key);
            assert_eq!(prefix.contains(&key), below, "{key}");
            let within = prefix.as_str() <= key.as_str() && key.as_str() < prefix.end();
            assert_eq!(within, below, "{key}");
        }
    }
}
