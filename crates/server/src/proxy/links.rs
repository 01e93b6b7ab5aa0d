//! Links in HTML that comes back through a proxy: those to the same host are led through the proxy.
//!
//! What is read are tags and their attributes (HTML, 13.2.5), as far as links need it; all else is copied as it is.

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, BodyStream, StreamBody};

use crate::http::body::BoxError;
use crate::http::reply::ReplyBody;

/// How much of a page is looked through, in bytes; what follows is passed on as it is.
const MAX_PAGE: usize = 4 * 1024 * 1024;

/// The attributes that are links, of each element.
const LINKS: [(&str, &[&str]); 23] = [
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("video", &["poster", "src"]),
];

/// Leads the links of a page by `lead`, which gives what a link becomes, if it changes.
///
/// # Errors
/// The connection breaks.
pub(super) async fn led(
    response: Response<ReplyBody>,
    lead: impl Fn(&str) -> Option<String>,
) -> Result<Response<ReplyBody>, BoxError> {
    if !is_page(response.headers()) {
        return Ok(response);
    }
    let (mut parts, mut body) = response.into_parts();
    let mut page = BytesMut::new();
    while page.len() < MAX_PAGE {
        let Some(frame) = body.frame().await else { break };
        if let Ok(data) = frame?.into_data() {
            page.extend_from_slice(&data);
        }
    }
    parts.headers.remove(CONTENT_LENGTH);
    let page = Bytes::from(rewrite(&page, lead));
    let all = futures::stream::iter([Ok(Frame::data(page))]).chain(BodyStream::new(body));
    Ok(Response::from_parts(parts, StreamBody::new(all).boxed_unsync()))
}

fn is_page(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("text/html") && !headers.contains_key(CONTENT_ENCODING)
}

fn rewrite(page: &[u8], lead: impl Fn(&str) -> Option<String>) -> Vec<u8> {
    let mut out = Vec::with_capacity(page.len() + 256);
    let mut rest = page;
    while let Some(at) = rest.iter().position(|b| *b == b'<') {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let end = if rest.starts_with(b"<!--") {
            let end = find(rest, b"-->").map_or(rest.len(), |end| end + 3);
            out.extend_from_slice(&rest[..end]);
            end
        } else if rest.get(1).is_some_and(u8::is_ascii_alphabetic) {
            tag(rest, &lead, &mut out)
        } else {
            out.push(b'<');
            1
        };
        rest = &rest[end..];
    }
    out.extend_from_slice(rest);
    out
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window.eq_ignore_ascii_case(what))
}

/// Copies a tag, and of a script or style what it holds; how long that is.
fn tag(text: &[u8], lead: &impl Fn(&str) -> Option<String>, out: &mut Vec<u8>) -> usize {
    let name_end = text[1..].iter().position(|b| !b.is_ascii_alphanumeric()).map_or(text.len(), |n| n + 1);
    let name = String::from_utf8_lossy(&text[1..name_end]).to_ascii_lowercase();
    let links = LINKS.iter().find(|(element, _)| *element == name).map_or(&[][..], |(_, links)| *links);
    out.extend_from_slice(&text[..name_end]);
    let mut at = name_end;
    while let Some(byte) = text.get(at) {
        match byte {
            b'>' => {
                out.push(b'>');
                at += 1;
                break;
            }
            b if b.is_ascii_whitespace() || *b == b'/' => {
                out.push(*b);
                at += 1;
            }
            _ => at += attribute(&text[at..], links, lead, out),
        }
    }
    if matches!(name.as_str(), "script" | "style") {
        let close = format!("</{name}");
        let end = find(&text[at..], close.as_bytes()).map_or(text.len(), |end| at + end);
        out.extend_from_slice(&text[at..end]);
        at = end;
    }
    at
}

/// Copies an attribute; how long it is.
fn attribute(
    text: &[u8],
    links: &[&str],
    lead: &impl Fn(&str) -> Option<String>,
    out: &mut Vec<u8>,
) -> usize {
    let ends = |b: &u8| b.is_ascii_whitespace() || matches!(b, b'=' | b'>' | b'/');
    // A stray sign is a name of its own, so that there is always something to go on by.
    let name_end = text.iter().skip(1).position(ends).map_or(text.len(), |n| n + 1);
    let blank = |from: usize| text[from..].iter().take_while(|b| b.is_ascii_whitespace()).count();
    let sign = name_end + blank(name_end);
    if text.get(sign) != Some(&b'=') {
        out.extend_from_slice(&text[..name_end]);
        return name_end;
    }
    let start = sign + 1 + blank(sign + 1);
    let (open, end) = match text.get(start) {
        Some(quote @ (b'"' | b'\'')) => {
            let length = text[start + 1..].iter().position(|b| b == quote);
            (start + 1, length.map_or(text.len(), |n| start + 1 + n))
        }
        _ => {
            let length = text[start..].iter().position(|b| b.is_ascii_whitespace() || *b == b'>');
            (start, length.map_or(text.len(), |n| start + n))
        }
    };
    out.extend_from_slice(&text[..open]);
    let is_link = links.iter().any(|link| text[..name_end].eq_ignore_ascii_case(link.as_bytes()));
    let value = std::str::from_utf8(&text[open..end]).ok().filter(|_| is_link);
    match value.and_then(lead) {
        Some(value) => out.extend_from_slice(value.as_bytes()),
        None => out.extend_from_slice(&text[open..end]),
    }
    end + closing(text, open, end, start, out)
}

/// Copies the closing quote, if there is one; how long that is.
fn closing(text: &[u8], open: usize, end: usize, start: usize, out: &mut Vec<u8>) -> usize {
    if open == start || end == text.len() {
        return 0;
    }
    out.push(text[end]);
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_led() {
        let check = |page: &str, want: &str| {
            let lead = |link: &str| link.starts_with('/').then(|| format!("/p{link}"));
            let got = rewrite(page.as_bytes(), lead);
            assert_eq!(String::from_utf8_lossy(&got), want);
        };
        check(r#"<a href="/x">test</a>"#, r#"<a href="/p/x">test</a>"#);
        check("<A\n HREF = '/x' class=/y>/z", "<A\n HREF = '/p/x' class=/y>/z");
        check("<img src=/x usemap=#a><br/>", "<img src=/p/x usemap=#a><br/>");
        check(r#"<a href="http://a/x" title="/x">"#, r#"<a href="http://a/x" title="/x">"#);
        check(r#"<!-- <a href="/x"> --><a href="/x">"#, r#"<!-- <a href="/x"> --><a href="/p/x">"#);
        check(
            r#"<script src="/x">'<a href="/x">'</script><a href=/x>"#,
            r#"<script src="/p/x">'<a href="/x">'</script><a href=/p/x>"#,
        );
        check("1 < 2 <3> </a href=\"/x\">", "1 < 2 <3> </a href=\"/x\">");
        check("<b href=/x>", "<b href=/x>");
        for cut in [
            "<",
            "<a",
            "<a href",
            "<a href=",
            "<a href='",
            "<a href=\"b",
            "<a =",
            "<a \"x",
            "<!-- x",
            "<script>x",
        ] {
            check(cut, cut);
        }
    }
}
