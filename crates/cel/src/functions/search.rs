//! `matches`, `find` and `findAll`.

use regex::Regex;

use super::{Args, Fun, Outcome};
use crate::error::{EvalError, fail};
use crate::meter::Meter;
use crate::pattern;
use crate::value::{Str, Value};

pub(super) fn lookup(name: &str) -> Option<Fun> {
    Some(match name {
        "matches" => |args| with_pattern(args, Search::Matches),
        "find" => |args| with_pattern(args, Search::Find),
        "findAll" => |args| with_pattern(args, Search::FindAll),
        _ => return None,
    })
}

/// What is searched for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Search {
    Matches,
    Find,
    FindAll,
}

impl Search {
    pub(crate) fn of(function: &str) -> Option<Self> {
        Some(match function {
            "matches" => Self::Matches,
            "find" => Self::Find,
            "findAll" => Self::FindAll,
            _ => return None,
        })
    }

    /// What goes before a pattern's error.
    pub(crate) fn blames(self) -> &'static str {
        match self {
            Self::Matches => "",
            Self::Find | Self::FindAll => "Illegal regex: ",
        }
    }
}

/// A pattern that is only known now costs its compilation.
fn with_pattern<'a>(args: &mut Args<'_, 'a>, search: Search) -> Outcome<'a> {
    let text = args.str(1)?;
    args.meter.work(20_000 + text.len() * 1_000)?;
    match pattern::compile(text) {
        Ok(regex) => run(search, &regex, args),
        Err(error) => fail(format!("{}{error}", search.blames())),
    }
}

/// The search with a compiled pattern.
pub(crate) fn run<'a>(search: Search, regex: &Regex, args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let text = args.str(0)?;
    args.meter.work(text.len())?;
    Ok(match search {
        Search::Matches => Value::Bool(regex.is_match(text)),
        Search::Find => {
            let found = regex.find(text).map_or(0..0, |found| found.range());
            piece(args.get(0), found.start, found.end)
        }
        Search::FindAll => {
            let most = if args.len() > 2 { args.int(2)? } else { -1 };
            find_all(regex, text, most, args.get(0), args.meter)?
        }
    })
}

fn find_all<'a>(
    regex: &Regex,
    text: &str,
    most: i64,
    whole: &Value<'a>,
    meter: &mut Meter,
) -> Result<Value<'a>, EvalError> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let mut found = Vec::new();
    for place in regex.find_iter(text).take(most) {
        meter.work(4)?;
        found.push(piece(whole, place.start(), place.end()));
    }
    Ok(Value::from(found))
}

fn piece<'a>(whole: &Value<'a>, start: usize, end: usize) -> Value<'a> {
    match whole {
        Value::String(Str::Borrowed(text)) => Value::String(Str::Borrowed(&text[start..end])),
        Value::String(text) => Value::from(text[start..end].to_owned()),
        other => other.clone(),
    }
}
