//! What fuzzing checks of reading logs; part of no other build.

use std::path::Path;

use super::LogOptions;
use super::files::LogFiles;
use super::reader::{Reader, Step};

/// What a client reads of the log at `path`.
///
/// # Panics
/// The file cannot be read.
#[must_use]
pub fn text(path: &Path, options: &LogOptions) -> Vec<u8> {
    let mut reader = Reader::open(LogFiles::new(path.to_owned()), options).expect("the log can be opened");
    let mut all = Vec::new();
    loop {
        match reader.step().expect("the log can be read") {
            Step::Text(text) => all.extend(text),
            Step::AtEnd => break,
            Step::Done => return all,
        }
    }
    all.extend(reader.finish());
    all
}
