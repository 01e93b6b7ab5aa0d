//! Functions on strings: of the standard library and of cel-go's extension, version 2. Positions are code points.

use super::{Args, Fun, Outcome, format, lists};
use crate::error::{EvalError, fail, no_overload};
use crate::limits::MAX_MADE;
use crate::value::{Str, Value};

pub(super) fn lookup(name: &str) -> Option<Fun> {
    Some(match name {
        "contains" => |args| test(args, |text, part| text.contains(part)),
        "startsWith" => |args| test(args, |text, part| text.starts_with(part)),
        "endsWith" => |args| test(args, |text, part| text.ends_with(part)),
        "charAt" => char_at,
        "indexOf" => index_of,
        "lastIndexOf" => last_index_of,
        "lowerAscii" => |args| map(args, str::to_ascii_lowercase),
        "upperAscii" => |args| map(args, str::to_ascii_uppercase),
        "trim" => trim,
        "replace" => replace,
        "split" => split,
        "substring" => substring,
        "join" => join,
        "format" => format::format,
        "strings.quote" => quote,
        "jsonpatch.escapeKey" => |args| map(args, |key| key.replace('~', "~0").replace('/', "~1")),
        _ => return None,
    })
}

fn test<'a>(args: &mut Args<'_, 'a>, holds: fn(&str, &str) -> bool) -> Outcome<'a> {
    let text = args.str(0)?;
    args.meter.work(text.len() / 16)?;
    Ok(Value::Bool(holds(text, args.str(1)?)))
}

fn map<'a>(args: &mut Args<'_, 'a>, change: fn(&str) -> String) -> Outcome<'a> {
    let text = args.str(0)?;
    args.meter.work(text.len() / 4)?;
    Ok(Value::from(change(text)))
}

fn out_of_range<T>(index: i64) -> Result<T, EvalError> {
    fail(format!("index out of range: {index}"))
}

/// Where the code point at `index` begins; the end counts as one more.
fn byte_at(text: &str, index: i64) -> Result<usize, EvalError> {
    let Ok(wanted) = usize::try_from(index) else { return out_of_range(index) };
    match text.char_indices().map(|(at, _)| at).chain([text.len()]).nth(wanted) {
        Some(at) => Ok(at),
        None => out_of_range(index),
    }
}

/// A part of a value's text: borrowed where the text is.
fn part<'a>(value: &Value<'a>, start: usize, end: usize) -> Value<'a> {
    match value {
        Value::String(Str::Borrowed(text)) => Value::String(Str::Borrowed(&text[start..end])),
        Value::String(text) => Value::from(text[start..end].to_owned()),
        other => other.clone(),
    }
}

fn char_at<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let (text, index) = (args.str(0)?, args.int(1)?);
    args.meter.work(text.len())?;
    let start = byte_at(text, index)?;
    let end = start + text[start..].chars().next().map_or(0, char::len_utf8);
    Ok(part(args.get(0), start, end))
}

fn position<'a>(text: &str, at: Option<usize>) -> Outcome<'a> {
    let index = at.map_or(-1, |at| i64::try_from(text[..at].chars().count()).unwrap_or(i64::MAX));
    Ok(Value::Int(index))
}

fn index_of<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    if let Value::List(list) = args.get(0) {
        return lists::index_of(list, args.get(1), args.meter);
    }
    let (text, wanted) = (args.str(0)?, args.str(1)?);
    args.meter.work(text.len())?;
    let offset = if args.len() > 2 { args.int(2)? } else { 0 };
    if wanted.is_empty() {
        return Ok(Value::Int(offset));
    }
    if offset < 0 {
        return out_of_range(offset);
    }
    let Ok(start) = byte_at(text, offset) else { return Ok(Value::Int(-1)) };
    position(text, text[start..].find(wanted).map(|at| at + start))
}

fn last_index_of<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    if let Value::List(list) = args.get(0) {
        return lists::last_index_of(list, args.get(1), args.meter);
    }
    let (text, wanted) = (args.str(0)?, args.str(1)?);
    args.meter.work(text.len())?;
    if args.len() < 3 {
        if wanted.is_empty() {
            return position(text, Some(text.len()));
        }
        return position(text, text.rfind(wanted));
    }
    let offset = args.int(2)?;
    if wanted.is_empty() {
        return Ok(Value::Int(offset));
    }
    if offset < 0 {
        return out_of_range(offset);
    }
    match byte_at(text, offset) {
        Ok(start) if start < text.len() => {
            // It may begin at the offset, and go on behind it.
            let end = text.len().min(start + wanted.len());
            let mut end = end;
            while !text.is_char_boundary(end) {
                end += 1;
            }
            position(text, text[..end].rfind(wanted))
        }
        _ => Ok(Value::Int(-1)),
    }
}

fn trim<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let text = args.str(0)?;
    let start = text.len() - text.trim_start().len();
    let end = start + text[start..].trim_end().len();
    Ok(part(args.get(0), start, end))
}

fn replace<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let (text, from, to) = (args.str(0)?, args.str(1)?, args.str(2)?);
    let most = if args.len() > 3 { args.int(3)? } else { -1 };
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let found = text.matches(from).take(most).count();
    let size = (text.len() - found * from.len()).saturating_add(found.saturating_mul(to.len()));
    args.meter.work(size)?;
    if size > MAX_MADE {
        return fail(format!("replace: the result would have more than {MAX_MADE} bytes"));
    }
    Ok(Value::from(text.replacen(from, to, found)))
}

fn split<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let (text, separator) = (args.str(0)?, args.str(1)?);
    let most = if args.len() > 2 { args.int(2)? } else { -1 };
    args.meter.work(text.len())?;
    let most = match most {
        0 => return Ok(Value::from(Vec::new())),
        most => usize::try_from(most).unwrap_or(usize::MAX),
    };
    let whole = args.get(0);
    let base = text.as_ptr().addr();
    let piece = |found: &str| {
        let start = found.as_ptr().addr() - base;
        part(whole, start, start + found.len())
    };
    if !separator.is_empty() {
        return Ok(Value::from(text.splitn(most, separator).map(piece).collect::<Vec<_>>()));
    }
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let end = if pieces.len() + 1 == most { rest.len() } else { c.len_utf8() };
        pieces.push(piece(&rest[..end]));
        rest = &rest[end..];
    }
    Ok(Value::from(pieces))
}

fn substring<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let (text, start) = (args.str(0)?, args.int(1)?);
    args.meter.work(text.len())?;
    let end = if args.len() > 2 { Some(args.int(2)?) } else { None };
    if let Some(end) = end
        && start > end
    {
        return fail(format!("invalid substring range. start: {start}, end: {end}"));
    }
    let from = byte_at(text, start)?;
    let to = end.map_or(Ok(text.len()), |end| byte_at(text, end))?;
    Ok(part(args.get(0), from, to))
}

fn join<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let list = args.list(0)?;
    let separator = if args.len() > 1 { args.str(1)? } else { "" };
    let mut joined = String::new();
    for (index, element) in list.iter().enumerate() {
        if index > 0 {
            joined.push_str(separator);
        }
        match element? {
            Value::String(text) => joined.push_str(&text),
            other => return fail(format!("join: invalid input: {other:?}")),
        }
        args.meter.work(8)?;
        if joined.len() > MAX_MADE {
            return fail(format!("join: the result would have more than {MAX_MADE} bytes"));
        }
    }
    args.meter.work(joined.len() / 4)?;
    Ok(Value::from(joined))
}

fn quote<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let Value::String(text) = args.get(0) else { return no_overload() };
    args.meter.work(text.len())?;
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            _ => quoted.push(c),
        }
    }
    quoted.push('"');
    Ok(Value::from(quoted))
}
