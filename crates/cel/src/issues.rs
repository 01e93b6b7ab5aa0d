//! What is wrong with an expression, where, and how it is told: in the form of cel-go, which clients show and tests match.

use std::fmt;

use crate::limits::{MAX_ERRORS, MAX_SNIPPET};

/// The text of an expression, to find lines and columns in.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) chars: Vec<char>,
    /// Where each line begins.
    lines: Vec<usize>,
}

/// A place in the source: the line from 1, the column from 0, both in code points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Location {
    line: i32,
    column: i32,
}

impl Location {
    /// Of errors about the expression as a whole.
    pub(crate) const NONE: Self = Self { line: -1, column: -1 };
}

impl Source {
    pub(crate) fn new(text: &str) -> Self {
        let chars: Vec<char> = text.chars().collect();
        let mut lines = vec![0];
        lines.extend(chars.iter().enumerate().filter(|(_, c)| **c == '\n').map(|(at, _)| at + 1));
        Self { chars, lines }
    }

    pub(crate) fn location(&self, offset: usize) -> Location {
        let line = self.lines.partition_point(|start| *start <= offset);
        let column = i32::try_from(offset - self.lines[line - 1]).unwrap_or(i32::MAX);
        // The end of nothing stands before its begin, as cel-go counts.
        let column = if self.chars.is_empty() { -1 } else { column };
        Location { line: i32::try_from(line).unwrap_or(i32::MAX), column }
    }

    fn line(&self, number: i32) -> Option<String> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        let start = *self.lines.get(index)?;
        let end = self.lines.get(index + 1).map_or(self.chars.len(), |next| next - 1);
        Some(self.chars[start..end].iter().collect())
    }
}

/// The errors of an expression. Its `Display` is cel-go's: place, message, the line and a mark under the spot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Issues {
    list: Vec<Issue>,
    more: usize,
}

/// One error of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    location: Location,
    /// What is wrong, without the place.
    pub message: String,
    /// The line and the mark under it; empty where there is no line.
    snippet: String,
}

impl Issues {
    pub(crate) const fn new() -> Self {
        Self { list: Vec::new(), more: 0 }
    }

    pub(crate) fn report(&mut self, source: &Source, location: Location, message: impl Into<String>) {
        if self.list.len() == MAX_ERRORS {
            self.more += 1;
            return;
        }
        self.list.push(Issue { location, message: message.into(), snippet: snippet(source, location) });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Nothing if there are no errors; otherwise the errors by their place.
    pub(crate) fn into_result(mut self) -> Result<(), Self> {
        if self.list.is_empty() {
            return Ok(());
        }
        self.list.sort_by_key(|issue| issue.location);
        Err(self)
    }

    /// The errors in the order of their place.
    pub fn iter(&self) -> impl Iterator<Item = &Issue> {
        self.list.iter()
    }
}

impl fmt::Display for Issues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, issue) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            issue.fmt(f)?;
        }
        if self.more > 0 {
            write!(f, "\n{} more errors were truncated", self.more)?;
        }
        Ok(())
    }
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Location { line, column } = self.location;
        write!(f, "ERROR: <input>:{line}:{}: {}{}", column + 1, self.message, self.snippet)
    }
}

fn snippet(source: &Source, location: Location) -> String {
    let Some(line) = source.line(location.line).filter(|line| !line.is_empty() && line.len() <= MAX_SNIPPET)
    else {
        return String::new();
    };
    let line = line.replace('\t', " ");
    let mark = |c: char, narrow: char, wide: char| if c.is_ascii() { narrow } else { wide };
    let column = usize::try_from(location.column).unwrap_or(0);
    let mut pointer: String = line.chars().take(column).map(|c| mark(c, '.', '\u{ff0e}')).collect();
    pointer.push(line.chars().nth(column).map_or('^', |c| mark(c, '^', '\u{ff3e}')));
    format!("\n | {line}\n | {pointer}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_point_into_the_line() {
        let source = Source::new("a +\n\té + b");
        let mut issues = Issues::new();
        issues.report(&source, source.location(9), "second");
        issues.report(&source, source.location(0), "first");
        issues.report(&source, Location::NONE, "whole");
        let text = issues.into_result().expect_err("there are errors").to_string();
        assert_eq!(
            text,
            "ERROR: <input>:-1:0: whole\nERROR: <input>:1:1: first\n | a +\n | ^\n\
             ERROR: <input>:2:6: second\n |  é + b\n | .．...^"
        );
    }

    #[test]
    fn errors_are_bounded() {
        let source = Source::new("a");
        let mut issues = Issues::new();
        for _ in 0..103 {
            issues.report(&source, Location::NONE, "x");
        }
        let text = issues.to_string();
        assert_eq!(text.lines().count(), 101);
        assert!(text.ends_with("\n3 more errors were truncated"), "{text}");
    }
}
