//! Reads an expression into steps.

use super::{JsonPathError, Operator, Slice, Step, Test};
use crate::Value;

type Result<T> = std::result::Result<T, JsonPathError>;

/// Reads `text` to its end.
pub(super) fn steps(text: &str) -> Result<Vec<Step>> {
    let mut parser = Parser { rest: text, steps: Vec::new() };
    while !parser.rest.is_empty() {
        parser.step()?;
    }
    Ok(parser.steps)
}

struct Parser<'a> {
    rest: &'a str,
    steps: Vec<Step>,
}

/// Whether a character ends a field's name.
fn is_end(c: char) -> bool {
    c.is_whitespace() || matches!(c, '.' | ',' | '[' | ']' | '$' | '@' | '{' | '}')
}

impl<'a> Parser<'a> {
    fn step(&mut self) -> Result<()> {
        if let Some(rest) = self.rest.strip_prefix("[?(") {
            self.rest = rest;
            return self.filter();
        }
        if let Some(rest) = self.rest.strip_prefix("..") {
            self.rest = rest;
            return self.recursive();
        }
        let Some(first) = self.rest.chars().next() else { return Ok(()) };
        match first {
            // The object itself, and space between steps.
            ' ' | '@' | '$' => self.rest = &self.rest[1..],
            '[' => self.bracket()?,
            '.' => {
                self.rest = &self.rest[1..];
                self.field();
            }
            '"' | '\'' => {
                let text = self.quoted(first)?;
                self.steps.push(Step::Literal(text.into()));
            }
            '+' | '-' | '0'..='9' => self.number()?,
            c if c == '_' || c.is_alphabetic() => self.word(),
            c => return Err(JsonPathError::Character(c)),
        }
        Ok(())
    }

    /// Takes the rest up to the byte `end`.
    fn take(&mut self, end: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn field(&mut self) {
        let mut name = String::new();
        let mut chars = self.rest.char_indices();
        let mut end = self.rest.len();
        while let Some((at, c)) = chars.next() {
            if c == '\\' {
                name.extend(chars.next().map(|(_, escaped)| escaped));
            } else if is_end(c) {
                end = at;
                break;
            } else {
                name.push(c);
            }
        }
        self.take(end);
        self.steps.push(if name == "*" { Step::Wildcard } else { Step::Field(name) });
    }

    fn recursive(&mut self) -> Result<()> {
        if self.steps.last() == Some(&Step::Recursive) {
            return Err(JsonPathError::Recursive);
        }
        self.steps.push(Step::Recursive);
        if self.rest.starts_with(|c: char| c == '_' || c.is_alphanumeric()) {
            self.field();
        }
        Ok(())
    }

    fn word(&mut self) {
        let end = self.rest.find(is_end).unwrap_or(self.rest.len());
        let step = match self.take(end) {
            "true" => Step::Literal(true.into()),
            "false" => Step::Literal(false.into()),
            _ => Step::Word,
        };
        self.steps.push(step);
    }

    fn number(&mut self) -> Result<()> {
        let sign = usize::from(self.rest.starts_with(['+', '-']));
        let digits = self.rest[sign..].find(|c: char| c != '.' && !c.is_ascii_digit());
        let text = self.take(digits.map_or(self.rest.len(), |d| d + sign));
        let value = match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(integer), _) => Value::Int(integer),
            (_, Ok(float)) if float.is_finite() => Value::Float(float),
            _ => return Err(JsonPathError::Number(text.to_owned())),
        };
        self.steps.push(Step::Literal(value));
        Ok(())
    }

    /// A quoted text; a backslash keeps the next character from ending it.
    fn quoted(&mut self, quote: char) -> Result<String> {
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            if c == quote {
                self.take(at + 1);
                return Ok(text);
            }
            let next = if c == '\\' { chars.next() } else { None };
            text.push(match next {
                Some((_, 'n')) => '\n',
                Some((_, 't')) => '\t',
                Some((_, escaped)) => escaped,
                None => c,
            });
        }
        Err(JsonPathError::Unterminated("quoted string"))
    }

    fn bracket(&mut self) -> Result<()> {
        let end = self.rest.find(']').ok_or(JsonPathError::Unterminated("array"))?;
        let inside = &self.take(end + 1)[1..end];
        if inside.contains(',') {
            let parts: Result<Vec<_>> =
                inside.split(',').map(|part| steps(&format!("[{}]", part.trim_matches(' ')))).collect();
            self.steps.push(Step::Union(parts?));
        } else if let Some(name) = inside.strip_prefix('\'').and_then(|i| i.strip_suffix('\'')) {
            // A name between quotes is read like one after a dot: dots in it separate unless escaped.
            self.steps.extend(steps(&format!(".{name}"))?);
        } else {
            self.steps.push(Step::Slice(slice(inside)?));
        }
        Ok(())
    }

    fn filter(&mut self) -> Result<()> {
        let end = filter_end(self.rest).ok_or(JsonPathError::Unterminated("filter"))?;
        let inside = self.take(end);
        self.rest = self.rest.strip_prefix(")]").ok_or(JsonPathError::Unterminated("filter"))?;
        let is_operator = |c: char| matches!(c, '!' | '<' | '>' | '=');
        let step = match inside.find(is_operator) {
            Some(start) if start > 0 => {
                let (left, rest) = inside.split_at(start);
                let end = rest.find(|c| !is_operator(c)).unwrap_or(rest.len());
                let (operator, right) = rest.split_at(end);
                let test = Test::Compare(read_operator(operator)?, steps(right)?);
                Step::Filter { left: steps(left)?, test }
            }
            _ => Step::Filter { left: steps(inside)?, test: Test::Exists },
        };
        self.steps.push(step);
        Ok(())
    }
}

/// Where a filter's closing parenthesis stands: the first one outside of quotes.
fn filter_end(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, ')') => return Some(at),
            (None, '"' | '\'') => quote = Some(c),
            (Some(q), c) if c == q && !escaped => quote = None,
            _ => {}
        }
        escaped = c == '\\' && !escaped;
    }
    None
}

fn read_operator(text: &str) -> Result<Operator> {
    Ok(match text {
        "==" => Operator::Equal,
        "!=" => Operator::NotEqual,
        "<" => Operator::Less,
        "<=" => Operator::LessOrEqual,
        ">" => Operator::Greater,
        ">=" => Operator::GreaterOrEqual,
        _ => return Err(JsonPathError::Operator(text.to_owned())),
    })
}

fn slice(text: &str) -> Result<Slice> {
    let invalid = || JsonPathError::Index(text.to_owned());
    if text == "*" {
        return Ok(Slice { start: None, end: None, step: None, single: false });
    }
    let number = |part: &str| -> Result<Option<i64>> {
        let digits = part.strip_prefix('-').unwrap_or(part);
        match (part, digits.bytes().all(|b| b.is_ascii_digit())) {
            ("", _) => Ok(None),
            (_, true) => part.parse().map(Some).map_err(|_| invalid()),
            _ => Err(invalid()),
        }
    };
    let parts: Vec<&str> = text.split(':').collect();
    match parts.as_slice() {
        [""] => Err(invalid()),
        [one] => Ok(Slice { start: number(one)?, end: None, step: None, single: true }),
        [start, end] => Ok(Slice { start: number(start)?, end: number(end)?, step: None, single: false }),
        [start, end, step] => {
            Ok(Slice { start: number(start)?, end: number(end)?, step: number(step)?, single: false })
        }
        _ => Err(invalid()),
    }
}
