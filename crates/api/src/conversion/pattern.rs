//! Texts that a pattern matches, for examples.
//!
//! It reads what patterns of schemas are mostly made of: literals, classes, groups, alternatives, repetitions. What it makes
//! is only a suggestion: whoever uses it asks the pattern.

use super::example::Random;

/// How often something is repeated that may be repeated without end.
const MANY: u32 = 3;
/// How deep groups are followed.
const MAX_DEPTH: usize = 16;
/// How many parts are made at most: repetitions of repetitions are many.
const MAX_PARTS: usize = 4096;
/// How long a text becomes, in bytes.
const MAX_TEXT: usize = 512;

/// A text that the pattern may match; `None`: it has what is not understood here.
pub(super) fn suggest(pattern: &str, random: &mut Random) -> Option<String> {
    let mut maker = Maker { rest: pattern.chars().collect(), at: 0, random, depth: 0, parts: 0 };
    let mut text = String::new();
    maker.alternatives(&mut text)?;
    (maker.at == maker.rest.len()).then_some(text)
}

struct Maker<'r> {
    rest: Vec<char>,
    at: usize,
    random: &'r mut Random,
    depth: usize,
    parts: usize,
}

impl Maker<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.get(self.at).copied()
    }

    fn eat(&mut self, c: char) -> bool {
        let is = self.peek() == Some(c);
        self.at += usize::from(is);
        is
    }

    /// All alternatives are read, and one is taken.
    fn alternatives(&mut self, out: &mut String) -> Option<()> {
        let mut made = Vec::new();
        loop {
            let mut text = String::new();
            self.sequence(&mut text)?;
            made.push(text);
            if !self.eat('|') {
                break;
            }
        }
        let chosen = self.random.below(made.len());
        out.push_str(&made[chosen]);
        Some(())
    }

    fn sequence(&mut self, out: &mut String) -> Option<()> {
        while let Some(c) = self.peek() {
            match c {
                '|' | ')' => break,
                '^' | '$' => self.at += 1,
                _ => self.repeated(out)?,
            }
        }
        Some(())
    }

    fn repeated(&mut self, out: &mut String) -> Option<()> {
        let start = self.at;
        let mut first = String::new();
        self.atom(&mut first)?;
        let end = self.at;
        let (least, most) = self.bounds()?;
        let count = least + u32::try_from(self.random.below((most - least + 1) as usize)).ok()?;
        let after = self.at;
        for n in 0..count {
            if out.len() + first.len() > MAX_TEXT {
                break;
            }
            if n == 0 {
                out.push_str(&first);
                continue;
            }
            // Each time it may be another text.
            self.at = start;
            self.atom(out)?;
            debug_assert_eq!(self.at, end, "the same is read again");
        }
        self.at = after;
        Some(())
    }

    fn bounds(&mut self) -> Option<(u32, u32)> {
        let bounds = match self.peek() {
            Some('*') => (0, MANY),
            Some('+') => (1, MANY),
            Some('?') => (0, 1),
            Some('{') => return self.counted(),
            _ => return Some((1, 1)),
        };
        self.at += 1;
        self.eat('?');
        Some(bounds)
    }

    fn counted(&mut self) -> Option<(u32, u32)> {
        let close = self.at + self.rest[self.at..].iter().position(|c| *c == '}')?;
        let text: String = self.rest[self.at + 1..close].iter().collect();
        self.at = close + 1;
        self.eat('?');
        let bounds = match text.split_once(',') {
            None => (text.parse().ok()?, text.parse().ok()?),
            Some((least, "")) => (least.parse().ok()?, least.parse::<u32>().ok()?.checked_add(MANY)?),
            Some((least, most)) => (least.parse().ok()?, most.parse().ok()?),
        };
        // Few of many are as good an example.
        (bounds.0 <= bounds.1 && bounds.0 <= 256).then(|| (bounds.0, bounds.1.min(bounds.0 + MANY)))
    }

    fn atom(&mut self, out: &mut String) -> Option<()> {
        let c = self.peek()?;
        self.at += 1;
        self.parts += 1;
        if self.parts > MAX_PARTS {
            return None;
        }
        match c {
            '(' => {
                if self.eat('?') && !self.eat(':') {
                    return None;
                }
                self.depth += 1;
                if self.depth > MAX_DEPTH {
                    return None;
                }
                self.alternatives(out)?;
                self.depth -= 1;
                self.eat(')').then_some(())
            }
            '[' => {
                let class = self.class()?;
                out.push(class[self.random.below(class.len())]);
                Some(())
            }
            '.' => {
                out.push(char::from(b'a' + u8::try_from(self.random.below(26)).ok()?));
                Some(())
            }
            '\\' => {
                let class = self.escaped()?;
                out.push(class[self.random.below(class.len())]);
                Some(())
            }
            '*' | '+' | '?' | '{' | ']' | '}' => None,
            literal => {
                out.push(literal);
                Some(())
            }
        }
    }

    fn escaped(&mut self) -> Option<Vec<char>> {
        let c = self.peek()?;
        self.at += 1;
        Some(match c {
            'd' => ('0'..='9').collect(),
            'w' => ('a'..='z').chain('0'..='9').collect(),
            's' => vec![' '],
            c if c.is_ascii_alphanumeric() => return None,
            literal => vec![literal],
        })
    }

    fn class(&mut self) -> Option<Vec<char>> {
        if self.peek() == Some('^') {
            return None;
        }
        let mut all = Vec::new();
        loop {
            let c = self.peek()?;
            self.at += 1;
            match c {
                ']' if !all.is_empty() => return Some(all),
                '[' | ']' => return None,
                '\\' => all.extend(self.escaped()?),
                low if self.peek() == Some('-') && self.rest.get(self.at + 1).is_some_and(|c| *c != ']') => {
                    let high = self.rest[self.at + 1];
                    self.at += 2;
                    if high < low || u32::from(high) - u32::from(low) > 256 {
                        return None;
                    }
                    all.extend(low..=high);
                }
                literal => all.push(literal),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Pattern;

    #[test]
    fn what_is_suggested_matches() {
        let mut random = Random::new(7);
        for pattern in [
            "^[a-z]([-a-z0-9]*[a-z0-9])?$",
            r"^\d+(\.\d{1,2})?(ms|s|m|h)$",
            "^(0|[1-9][0-9]{0,3})s$",
            "^v?[0-9]+$|^latest$",
            "a.c",
            r"^(?:\w+\.)+example\.com:[0-9]{2,}$",
        ] {
            let compiled = Pattern::new(pattern.to_owned());
            for _ in 0..32 {
                let text = suggest(pattern, &mut random).expect(pattern);
                assert_eq!(compiled.is_match(&text), Ok(true), "{pattern}: {text:?}");
            }
        }
    }

    #[test]
    fn what_is_not_understood_is_left() {
        let mut random = Random::new(7);
        for pattern in
            ["[^a]", r"\pL", "(?i)a", "a{", "(a", "a)", "[", "[]", r"\", "*", "[[:alpha:]]", "a{9999999999}"]
        {
            assert_eq!(suggest(pattern, &mut random), None, "{pattern}");
        }
    }
}
