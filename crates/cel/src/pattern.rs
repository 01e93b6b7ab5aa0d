//! Regular expressions as Go's `regexp` (RE2) has them, run by the `regex` crate, which is linear in the text as RE2 is.
//!
//! The two syntaxes differ in places; the pattern is rewritten there: Perl's classes and word boundaries are of ASCII, `[` and
//! `&&` mean themselves within a class, braces that are no repetition mean themselves, `\Q…\E` quotes, `\C` and
//! back-references are refused.

use regex::{Regex, RegexBuilder};

use crate::limits::{MAX_REGEX_DEPTH, MAX_REGEX_SIZE};

/// A pattern that is none, in the words of Go.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {0}")]
pub struct PatternError(String);

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// It is no pattern, or it is too large to be run.
    pub fn compile(pattern: &str) -> Result<Self, PatternError> {
        compile(pattern).map(Self)
    }

    /// Whether it is found in a text.
    #[must_use]
    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

pub(crate) fn compile(pattern: &str) -> Result<Regex, PatternError> {
    let rewritten = Rewriter { chars: pattern.chars().collect(), at: 0, out: String::new() }.run()?;
    let built = RegexBuilder::new(&rewritten).size_limit(MAX_REGEX_SIZE).nest_limit(MAX_REGEX_DEPTH).build();
    built.map_err(|error| {
        let why = match &error {
            regex::Error::CompiledTooBig(_) => "expression too large".to_owned(),
            other => reason(other, pattern),
        };
        PatternError(why)
    })
}

/// Go's words for the commonest mistakes; else those of the other parser, whose last line says what is wrong.
fn reason(error: &regex::Error, pattern: &str) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
    match last {
        "unclosed group" => format!("missing closing ): `{pattern}`"),
        "unopened group" => format!("unexpected ): `{pattern}`"),
        "unclosed character class" => {
            let from = pattern.rfind('[').unwrap_or(0);
            format!("missing closing ]: `{}`", &pattern[from..])
        }
        "repetition operator missing expression" => "missing argument to repetition operator".to_owned(),
        other => format!("{other}: `{pattern}`"),
    }
}

struct Rewriter {
    chars: Vec<char>,
    at: usize,
    out: String,
}

impl Rewriter {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn run(mut self) -> Result<String, PatternError> {
        while let Some(c) = self.peek(0) {
            match c {
                '\\' => self.escape(false)?,
                '[' => self.class()?,
                '{' => self.brace(),
                '*' | '+' | '?' | '}' => self.repetition(c)?,
                _ => self.keep(c),
            }
        }
        Ok(self.out)
    }

    fn keep(&mut self, c: char) {
        self.out.push(c);
        self.at += 1;
    }

    fn repetition(&mut self, c: char) -> Result<(), PatternError> {
        if c == '}' {
            self.out.push('\\');
            self.keep(c);
            return Ok(());
        }
        let before = self.at;
        self.keep(c);
        if c != '?' || before > 0 {
            if self.peek(0) == Some('?') {
                self.keep('?');
            }
            if let Some(next @ ('*' | '+' | '?')) = self.peek(0)
                && before > 0
                && !matches!(self.chars[before - 1], '(' | '|')
            {
                return Err(PatternError(format!("invalid nested repetition operator: `{c}{next}`")));
            }
        }
        Ok(())
    }

    /// A repetition if it is one, else the brace itself.
    fn brace(&mut self) {
        let rest: String = self.chars[self.at + 1..].iter().take(12).collect();
        let repetition = rest.split_once('}').is_some_and(|(inside, _)| {
            let (least, most) = inside.split_once(',').unwrap_or((inside, ""));
            let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
            !least.is_empty() && digits(least) && digits(most)
        });
        if !repetition {
            self.out.push('\\');
            self.keep('{');
            return;
        }
        while let Some(c) = self.peek(0) {
            self.keep(c);
            if c == '}' {
                return;
            }
        }
    }

    fn escape(&mut self, in_class: bool) -> Result<(), PatternError> {
        let Some(c) = self.peek(1) else {
            return Err(PatternError("trailing backslash at end of expression: ``".to_owned()));
        };
        let ascii = match (c, in_class) {
            ('d', true) => "0-9",
            ('w', true) => "0-9A-Za-z_",
            ('s', true) => "\\t\\n\\x0C\\r ",
            ('d', false) => "[0-9]",
            ('w', false) => "[0-9A-Za-z_]",
            ('s', false) => "[\\t\\n\\x0C\\r ]",
            ('D', _) => "[^0-9]",
            ('W', _) => "[^0-9A-Za-z_]",
            ('S', _) => "[^\\t\\n\\x0C\\r ]",
            ('b', false) => "(?-u:\\b)",
            _ => "",
        };
        if !ascii.is_empty() {
            self.out.push_str(ascii);
            self.at += 2;
            return Ok(());
        }
        match c {
            'Q' if !in_class => {
                self.quote();
                Ok(())
            }
            '0'..='7' => self.octal(c),
            'A' | 'B' | 'z' if !in_class => {
                self.out.push('\\');
                self.out.push(c);
                self.at += 2;
                Ok(())
            }
            'a' | 'f' | 't' | 'n' | 'r' | 'v' | 'x' | 'p' | 'P' => {
                self.out.push('\\');
                self.out.push(c);
                self.at += 2;
                // The braces of `\p{L}` and `\x{4F}` are no repetition.
                if matches!(c, 'x' | 'p' | 'P') && self.peek(0) == Some('{') {
                    while let Some(c) = self.peek(0) {
                        self.keep(c);
                        if c == '}' {
                            break;
                        }
                    }
                }
                Ok(())
            }
            _ if c.is_ascii_punctuation() => {
                self.out.push_str(&regex::escape(&c.to_string()));
                if in_class && matches!(c, '-' | '&' | '~' | '^') && !self.out.ends_with(&format!("\\{c}")) {
                    self.out.pop();
                    self.out.push('\\');
                    self.out.push(c);
                }
                self.at += 2;
                Ok(())
            }
            _ => Err(PatternError(format!("invalid escape sequence: `\\{c}`"))),
        }
    }

    fn quote(&mut self) {
        self.at += 2;
        while let Some(c) = self.peek(0) {
            if c == '\\' && self.peek(1) == Some('E') {
                self.at += 2;
                return;
            }
            self.out.push_str(&regex::escape(&c.to_string()));
            self.at += 1;
        }
    }

    fn octal(&mut self, first: char) -> Result<(), PatternError> {
        let next_is_octal = self.peek(2).is_some_and(|c| c.is_digit(8));
        if first != '0' && !next_is_octal {
            return Err(PatternError(format!("invalid escape sequence: `\\{first}`")));
        }
        let digits: String = self.chars[self.at + 1..].iter().take(3).take_while(|c| c.is_digit(8)).collect();
        let code = u32::from_str_radix(&digits, 8).unwrap_or(0);
        self.out.push_str(&format!("\\x{{{code:X}}}"));
        self.at += 1 + digits.len();
        Ok(())
    }

    fn class(&mut self) -> Result<(), PatternError> {
        self.keep('[');
        if self.peek(0) == Some('^') {
            self.keep('^');
        }
        if self.peek(0) == Some(']') {
            self.out.push_str("\\]");
            self.at += 1;
        }
        while let Some(c) = self.peek(0) {
            match c {
                ']' => {
                    self.keep(']');
                    return Ok(());
                }
                '\\' => self.escape(true)?,
                '[' if self.peek(1) == Some(':') && self.named_class() => {}
                '[' | '&' | '~' => {
                    self.out.push('\\');
                    self.keep(c);
                }
                // Two in a row would be a difference of sets: the first is itself where a class begins, else makes a range.
                '-' if self.peek(1) == Some('-') => {
                    let begins = self.out.ends_with(['[', '^']);
                    self.out.push_str(if begins { "\\-" } else { "-\\-" });
                    self.at += if begins { 1 } else { 2 };
                }
                _ => self.keep(c),
            }
        }
        Ok(())
    }

    /// Takes `[:alpha:]`, if that is what follows.
    fn named_class(&mut self) -> bool {
        let rest: String = self.chars[self.at + 2..].iter().take(12).collect();
        let Some((name, _)) = rest.split_once(":]") else { return false };
        if !name.trim_start_matches('^').bytes().all(|b| b.is_ascii_lowercase()) {
            return false;
        }
        for _ in 0..name.chars().count() + 4 {
            if let Some(c) = self.peek(0) {
                self.keep(c);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_patterns_match_as_in_go() {
        let check = |pattern: &str, text: &str, want: bool| {
            let regex = compile(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
            assert_eq!(regex.is_match(text), want, "{pattern} on {text}");
        };
        check(r"^\d+$", "12", true);
        check(r"^\d+$", "١٢", false);
        check(r"^\w+$", "é", false);
        check(r"\bfoo\b", "éfoo", true);
        check(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "a-b", true);
        check(r"^[[]$", "[", true);
        check(r"^[a&&b]+$", "a&b", true);
        check(r"^[+--]+$", "+,-", true);
        check(r"^[]a]+$", "]a", true);
        check(r"^[^]a]$", "b", true);
        check(r"^[[:alpha:]_]+$", "ab_", true);
        check(r"^[\d.]+$", "1.2", true);
        check(r"^[\D]+$", "ab", true);
        check(r"^a{2}$", "aa", true);
        check(r"^a{,2}$", "a{,2}", true);
        check(r"^{$", "{", true);
        check(r"^a}$", "a}", true);
        check(r"^\Qa.b\E+$", "a.bb", true);
        check(r"^\101$", "A", true);
        check(r"^\x{41}$", "A", true);
        check(r"^\/\-\_\%$", "/-_%", true);
        check(r"(?i)^ABC$", "abc", true);
        check(r"^(?P<n>a)(?:b)$", "ab", true);
        check(r"^a.c$", "a\nc", false);
        check(r"(?s)^a.c$", "a\nc", true);
        check(r"^a*?b+?$", "aab", true);
        check(r"^\pL+$", "é", true);
        check(r"^\p{L}+\P{L}$", "é1", true);
        check(r"^\x{4F}{2}$", "OO", true);
        check(r"a$", "a\n", false);
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for pattern in [
            r"(", r"a)", r"[a", r"\", r"\8", r"\1", r"a**", r"*a", r"\C", r"\Z", r"(?=a)", r"(?<!a)",
            r"a{2,1}",
        ] {
            assert!(compile(pattern).is_err(), "{pattern}");
        }
        assert!(compile("((a{1000}){1000}){1000}").is_err());
        assert!(compile(&"(".repeat(5000)).is_err());
    }
}
