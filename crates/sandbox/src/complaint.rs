//! What the keeper and the shims say when something goes wrong beside the way.

use std::fmt::Display;
use std::io::Write;

/// Writes a line to standard error. A process that holds pods must not end
/// because nobody can read its complaints, or the disk of its log is full.
pub(crate) fn complain(message: impl Display) {
    writeln!(std::io::stderr(), "xebec: {message}").unwrap_or_default();
}
