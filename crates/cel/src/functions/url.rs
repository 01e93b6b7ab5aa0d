//! `url('https://…')` (upstream's library `kubernetes.urls`): what Go's `net/url` takes for one, and its parts.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Args, Fun, Outcome};
use crate::error::{fail, no_overload};
use crate::opaque::Opaque;
use crate::value::{Key, Map, Str, Value};

/// A URL by its parts.
#[derive(Debug, PartialEq, Eq)]
pub struct Url {
    text: String,
    scheme: String,
    host: String,
    /// As it was written, if that is a way to write it; else escaped anew.
    path: String,
    query: String,
}

impl Url {
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Reads an absolute URL or an absolute path, as requests have them.
    ///
    /// # Errors
    /// It is neither, and why.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| Err(format!("parse {text:?}: {why}"));
        if text.bytes().any(|b| b < 0x20 || b == 0x7f) {
            return wrong("net/url: invalid control character in URL");
        }
        if text.is_empty() {
            return wrong("empty url");
        }
        let (scheme, rest) = match scheme_of(text) {
            Ok(parts) => parts,
            Err(why) => return wrong(why),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        if !rest.starts_with('/') {
            if scheme.is_empty() {
                return wrong("invalid URI for request");
            }
            let (path, host) = (String::new(), String::new());
            return Ok(Self { text: text.to_owned(), scheme, host, path, query: query.to_owned() });
        }
        let mut host = String::new();
        let mut path = rest;
        if (!scheme.is_empty() || !rest.starts_with("///"))
            && let Some(after) = rest.strip_prefix("//")
        {
            let end = after.find('/').unwrap_or(after.len());
            host = match host_of(&after[..end]) {
                Ok(host) => host,
                Err(why) => return wrong(&why),
            };
            path = &after[end..];
        }
        let path = path.split_once('#').map_or(path, |(path, _)| path);
        let query = query.split_once('#').map_or(query, |(query, _)| query);
        match escaped_path(path) {
            Ok(path) => Ok(Self { text: text.to_owned(), scheme, host, path, query: query.to_owned() }),
            Err(why) => wrong(&why),
        }
    }

    fn hostname(&self) -> &str {
        let host = self.host.strip_suffix(self.port()).unwrap_or(&self.host);
        let host = if self.port().is_empty() {
            host.strip_suffix(':').unwrap_or(host)
        } else {
            &host[..host.len() - 1]
        };
        host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host)
    }

    fn port(&self) -> &str {
        match self.host.rfind(':') {
            Some(at) if self.host[at + 1..].bytes().all(|b| b.is_ascii_digit()) => &self.host[at + 1..],
            _ => "",
        }
    }
}

fn scheme_of(text: &str) -> Result<(String, &str), &'static str> {
    for (index, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if index > 0 => {}
            ':' if index == 0 => return Err("missing protocol scheme"),
            ':' => return Ok((text[..index].to_ascii_lowercase(), &text[index + 1..])),
            _ => break,
        }
    }
    Ok((String::new(), text))
}

fn host_of(authority: &str) -> Result<String, String> {
    let host = match authority.rsplit_once('@') {
        Some((user, host)) => {
            let fine = |b: u8| b.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&b);
            if !user.bytes().all(fine) {
                return Err("net/url: invalid userinfo".to_owned());
            }
            unescape(user, |_| true)?;
            host
        }
        None => authority,
    };
    let port = |text: &str| -> Result<(), String> {
        let fine = text.is_empty()
            || text.strip_prefix(':').is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
        if fine { Ok(()) } else { Err(format!("invalid port {text:?} after host")) }
    };
    if host.starts_with('[') {
        let Some(end) = host.rfind(']') else { return Err("missing ']' in host".to_owned()) };
        port(&host[end + 1..])?;
    } else if let Some(at) = host.rfind(':') {
        port(&host[at..])?;
    }
    let literal =
        |b: u8| !b.is_ascii() || b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:[]<>\"%".contains(&b);
    if let Some(bad) = host.chars().find(|c| c.is_ascii() && !literal(*c as u8)) {
        return Err(format!("invalid character {:?} in host name", bad.to_string()));
    }
    // Only what is not ASCII may be escaped in a host.
    unescape(host, |byte| byte >= 0x80 || host.starts_with('['))
}

/// The text with `%41` replaced, where `allowed` says that the byte may be written so.
fn unescape(text: &str, allowed: impl Fn(u8) -> bool) -> Result<String, String> {
    if !text.contains('%') {
        return Ok(text.to_owned());
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b'%' {
            out.push(bytes[at]);
            at += 1;
            continue;
        }
        let digits = bytes.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
            .filter(|byte| allowed(*byte));
        let Some(byte) = byte else {
            let end = (at + 3).min(bytes.len());
            return Err(format!("invalid URL escape {:?}", String::from_utf8_lossy(&bytes[at..end])));
        };
        out.push(byte);
        at += 3;
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// The path as it was written if nothing in it must be escaped, else escaped.
fn escaped_path(path: &str) -> Result<String, String> {
    unescape(path, |_| true)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:@/[]%".contains(&b);
    if path.bytes().all(plain) {
        return Ok(path.to_owned());
    }
    let kept = |b: u8| b.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&b);
    let mut out = String::new();
    let mut bytes = path.bytes().peekable();
    while let Some(byte) = bytes.next() {
        let byte = if byte == b'%' {
            let pair: Vec<u8> = bytes.by_ref().take(2).collect();
            std::str::from_utf8(&pair).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok()).unwrap_or(b'%')
        } else {
            byte
        };
        if kept(byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    Ok(out)
}

pub(super) fn lookup(name: &str) -> Option<Fun> {
    Some(match name {
        "url" => url,
        "isURL" => |args| Ok(Value::Bool(Url::parse(args.str(0)?).is_ok())),
        "getScheme" => |args| part(args, |url| &url.scheme),
        "getHost" => |args| part(args, |url| &url.host),
        "getHostname" => |args| part(args, Url::hostname),
        "getPort" => |args| part(args, Url::port),
        "getEscapedPath" => |args| part(args, |url| &url.path),
        "getQuery" => query,
        _ => return None,
    })
}

fn url<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    match Url::parse(args.str(0)?) {
        Ok(url) => Ok(Value::Opaque(Opaque::Url(Arc::new(url)))),
        Err(why) => fail(format!("URL parse error during conversion from string: {why}")),
    }
}

fn part<'a>(args: &mut Args<'_, 'a>, of: fn(&Url) -> &str) -> Outcome<'a> {
    match args.get(0) {
        Value::Opaque(Opaque::Url(url)) => Ok(Value::from(of(url).to_owned())),
        _ => no_overload(),
    }
}

fn query<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let Value::Opaque(Opaque::Url(url)) = args.get(0) else { return no_overload() };
    args.meter.work(url.query.len())?;
    let mut found: BTreeMap<String, Vec<Value<'a>>> = BTreeMap::new();
    for pair in url.query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let text = |part: &str| unescape(&part.replace('+', " "), |_| true);
        if let (Ok(key), Ok(value)) = (text(key), text(value)) {
            found.entry(key).or_default().push(Value::from(value));
        }
    }
    let members =
        found.into_iter().map(|(key, values)| (Key::String(Str::from(key)), Value::from(values))).collect();
    Ok(Value::Map(Map::Made(Arc::new(members))))
}
