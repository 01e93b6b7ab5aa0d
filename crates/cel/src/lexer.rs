//! The tokens of an expression, by the lexical grammar of cel-spec (langdef.md, "Syntax").

use crate::issues::{Issues, Source};

/// What a token is. A word of the language is a [`Token::Symbol`], as operators are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    End,
    Symbol(&'static str),
    Int,
    Uint,
    Float,
    String,
    Bytes,
    Ident,
    /// An identifier between backquotes.
    Quoted,
}

/// A token and the code points that it covers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lexeme {
    pub(crate) token: Token,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// Longer ones first.
const SYMBOLS: [&str; 24] = [
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "[", "]", "{", "}", "(", ")", ".", ",", "-", "!", "?", ":",
    "+", "*", "/", "%",
];
const WORDS: [&str; 4] = ["in", "true", "false", "null"];

/// Reads all tokens; the last is [`Token::End`]. What is no token is reported and left out.
pub(crate) fn tokens(source: &Source, issues: &mut Issues) -> Vec<Lexeme> {
    let mut lexer = Lexer { chars: &source.chars, at: 0 };
    let mut found = Vec::new();
    loop {
        lexer.skip_blank();
        let start = lexer.at;
        if start == lexer.chars.len() {
            found.push(Lexeme { token: Token::End, start, end: start });
            return found;
        }
        match lexer.next() {
            Ok(token) => found.push(Lexeme { token, start, end: lexer.at }),
            Err(end) => {
                let text: String = source.chars[start..end].iter().collect();
                let message = format!("Syntax error: token recognition error at: '{text}'");
                issues.report(source, source.location(start), message);
                lexer.at = end;
            }
        }
    }
}

struct Lexer<'s> {
    chars: &'s [char],
    at: usize,
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn skip_blank(&mut self) {
        while let Some(c) = self.peek(0) {
            match c {
                '\t' | ' ' | '\r' | '\n' | '\u{c}' => self.at += 1,
                '/' if self.peek(1) == Some('/') => {
                    while self.peek(0).is_some_and(|c| c != '\n') {
                        self.at += 1;
                    }
                }
                _ => return,
            }
        }
    }

    /// The next token, or up to where the text is none.
    fn next(&mut self) -> Result<Token, usize> {
        let Some(c) = self.peek(0) else { return Ok(Token::End) };
        match c {
            '"' | '\'' => self.quoted(false).map(|()| Token::String),
            'r' | 'R' if matches!(self.peek(1), Some('"' | '\'')) => {
                Ok(self.prefixed(1, true, Token::String))
            }
            'b' | 'B' if self.begins_bytes() => {
                let raw = matches!(self.peek(1), Some('r' | 'R'));
                Ok(self.prefixed(1 + usize::from(raw), raw, Token::Bytes))
            }
            'a'..='z' | 'A'..='Z' | '_' => Ok(self.word()),
            '0'..='9' => Ok(self.number()),
            '.' if self.peek(1).is_some_and(|c| c.is_ascii_digit()) => Ok(self.number()),
            '`' => self.escaped(),
            _ => self.symbol(),
        }
    }

    /// A literal after a prefix; if it does not end, the prefix is a word.
    fn prefixed(&mut self, prefix: usize, raw: bool, token: Token) -> Token {
        let start = self.at;
        self.at += prefix;
        if self.quoted(raw).is_ok() {
            return token;
        }
        self.at = start;
        self.word()
    }

    fn begins_bytes(&self) -> bool {
        match self.peek(1) {
            Some('"' | '\'') => true,
            Some('r' | 'R') => matches!(self.peek(2), Some('"' | '\'')),
            _ => false,
        }
    }

    fn word(&mut self) -> Token {
        let start = self.at;
        while self.peek(0).is_some_and(|c| c.is_ascii_alphanumeric() || c == '_') {
            self.at += 1;
        }
        let text: String = self.chars[start..self.at].iter().collect();
        WORDS.iter().find(|word| **word == text).map_or(Token::Ident, |word| Token::Symbol(word))
    }

    fn digits(&mut self, is: impl Fn(char) -> bool) {
        while self.peek(0).is_some_and(&is) {
            self.at += 1;
        }
    }

    fn number(&mut self) -> Token {
        let hex = self.peek(0) == Some('0')
            && self.peek(1) == Some('x')
            && self.peek(2).is_some_and(|c| c.is_ascii_hexdigit());
        if hex {
            self.at += 2;
            self.digits(|c| c.is_ascii_hexdigit());
            return self.unsigned();
        }
        self.digits(|c| c.is_ascii_digit());
        let mut float = false;
        if self.peek(0) == Some('.') && self.peek(1).is_some_and(|c| c.is_ascii_digit()) {
            float = true;
            self.at += 1;
            self.digits(|c| c.is_ascii_digit());
        }
        if matches!(self.peek(0), Some('e' | 'E')) {
            let sign = usize::from(matches!(self.peek(1), Some('+' | '-')));
            if self.peek(1 + sign).is_some_and(|c| c.is_ascii_digit()) {
                float = true;
                self.at += 1 + sign;
                self.digits(|c| c.is_ascii_digit());
            }
        }
        if float { Token::Float } else { self.unsigned() }
    }

    fn unsigned(&mut self) -> Token {
        if matches!(self.peek(0), Some('u' | 'U')) {
            self.at += 1;
            return Token::Uint;
        }
        Token::Int
    }

    fn quoted(&mut self, raw: bool) -> Result<(), usize> {
        let quote = self.peek(0);
        let long = self.peek(1) == quote && self.peek(2) == quote;
        let start = self.at;
        self.at += if long { 3 } else { 1 };
        loop {
            let Some(c) = self.peek(0) else {
                self.at = start;
                return Err(self.chars.len());
            };
            let closes = Some(c) == quote && (!long || self.peek(1) == quote && self.peek(2) == quote);
            if closes {
                self.at += if long { 3 } else { 1 };
                return Ok(());
            }
            match c {
                '\n' | '\r' if !long => return Err(self.at + 1),
                '\\' if !raw => self.escape()?,
                _ => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Result<(), usize> {
        let (digits, radix, first) = match self.peek(1) {
            Some('a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '"' | '\'' | '\\' | '?' | '`') => (0, 0, 2),
            Some('x' | 'X') => (2, 16, 2),
            Some('u') => (4, 16, 2),
            Some('U') => (8, 16, 2),
            Some('0'..='3') => (2, 8, 2),
            _ => return Err((self.at + 2).min(self.chars.len())),
        };
        for index in first..first + digits {
            if !self.peek(index).is_some_and(|c| c.is_digit(radix)) {
                return Err((self.at + index + 1).min(self.chars.len()));
            }
        }
        self.at += first + digits;
        Ok(())
    }

    fn escaped(&mut self) -> Result<Token, usize> {
        let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | ' ');
        let mut end = self.at + 1;
        while self.chars.get(end).is_some_and(|c| inside(*c)) {
            end += 1;
        }
        if end == self.at + 1 || self.chars.get(end) != Some(&'`') {
            return Err((end + 1).min(self.chars.len()));
        }
        self.at = end + 1;
        Ok(Token::Quoted)
    }

    fn symbol(&mut self) -> Result<Token, usize> {
        for symbol in SYMBOLS {
            if symbol.chars().enumerate().all(|(index, c)| self.peek(index) == Some(c)) {
                self.at += symbol.len();
                return Ok(Token::Symbol(symbol));
            }
        }
        // `=`, `&` and `|` begin an operator: what follows is part of what is not understood.
        let ahead = usize::from(matches!(self.peek(0), Some('=' | '&' | '|'))) + 1;
        Err((self.at + ahead).min(self.chars.len()))
    }
}
