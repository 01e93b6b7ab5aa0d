//! Standard output. Whoever reads it may have had enough (`xebec image ls | head`), which is no failure.

use std::io::{ErrorKind, Write};

use anyhow::{Context as _, Result};

/// Prints a line, or several.
///
/// # Errors
/// They cannot be written, but for that nobody reads them.
pub(crate) fn print(text: &str) -> Result<()> {
    write(&mut std::io::stdout().lock(), text)
}

fn write(to: &mut impl Write, text: &str) -> Result<()> {
    match writeln!(to, "{text}").and_then(|()| to.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other.context("writing to standard output"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_may_leave_but_a_full_disk_is_told() {
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        write(&mut writer, "nobody reads this").expect("no failure");
        let mut full = std::fs::File::options().write(true).open("/dev/full").expect("Linux has it");
        let error = write(&mut full, "nor this").expect_err("there is no room");
        assert!(format!("{error:#}").starts_with("writing to standard output: No space left"), "{error:#}");
    }
}
