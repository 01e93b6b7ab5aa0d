//! How a webhook is reached: a URL, or a service in the cluster.

use super::check::{Check, is_set, number, text};
use crate::{Value, names};

const FORM: &str = "; desired format: https://host[/path]";

/// Checks that the client configuration in the member `name` has a URL or a service, and which.
pub(super) fn client(c: &mut Check, owner: &Value, name: &str) {
    c.field(owner, name, config);
}

/// Checks the client configuration that the walk stands at.
pub(super) fn config(c: &mut Check, config: &Value) {
    if is_set(config, "url") == is_set(config, "service") {
        return c.here().required("exactly one of url or service is required");
    }
    c.some(config, "url", |c, u| url(c, u.as_str().unwrap_or_default()));
    c.some(config, "service", service);
}

fn url(c: &mut Check, text: &str) {
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(fault) => {
            return c.here().required(&format!("url must be a valid URL: parse \"{text}\": {fault}{FORM}"));
        }
    };
    if url.scheme != "https" {
        c.here().invalid(url.scheme, &format!("'https' is the only allowed URL scheme{FORM}"));
    }
    if url.host.is_empty() {
        c.here().invalid("", &format!("host must be specified{FORM}"));
    }
    if let Some(user) = url.user {
        c.here().invalid(user, "user information is not permitted in the URL");
    }
    if !url.fragment.is_empty() {
        c.here().invalid(url.fragment, "fragments are not permitted in the URL");
    }
    if !url.query.is_empty() {
        c.here().invalid(url.query, "query parameters are not permitted in the URL");
    }
}

/// Whether the text is a URL with a scheme and a host.
pub(super) fn is_url(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| !url.scheme.is_empty() && !url.host.is_empty())
}

/// The parts of a URL that matter here.
struct Url<'t> {
    scheme: String,
    user: Option<&'t str>,
    host: &'t str,
    query: &'t str,
    fragment: &'t str,
}

impl<'t> Url<'t> {
    fn parse(text: &'t str) -> Result<Self, String> {
        if text.bytes().any(|b| b < b' ' || b == 0x7f) {
            return Err("net/url: invalid control character in URL".into());
        }
        let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
        let (text, query) = text.split_once('?').unwrap_or((text, ""));
        let (scheme, rest) = match text.split_once(':') {
            Some(("", _)) => return Err("missing protocol scheme".into()),
            Some((scheme, rest)) if is_scheme(scheme) => (scheme.to_ascii_lowercase(), rest),
            Some((first, _)) if !first.contains('/') => {
                return Err("first path segment in URL cannot contain colon".into());
            }
            _ => (String::new(), text),
        };
        let authority = rest.strip_prefix("//").unwrap_or_default();
        let authority = authority.split('/').next().unwrap_or_default();
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        let after_address = host.rfind(']').map_or(host, |i| &host[i + 1..]);
        if let Some(i) = after_address.find(':') {
            let port = &after_address[i..];
            if !port[1..].bytes().all(|b| b.is_ascii_digit()) {
                return Err(format!("invalid port \"{port}\" after host"));
            }
        }
        Ok(Self { scheme, user, host, query, fragment })
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

/// Upstream takes the service's name for its namespace and the other way round, so each is reported as the other.
fn service(c: &mut Check, service: &Value) {
    for (field, reported) in [("namespace", "name"), ("name", "namespace")] {
        if text(service, field).is_empty() {
            c.at(reported).required("");
        }
    }
    let port = number(service, "port").unwrap_or(0);
    if !(1..=65_535).contains(&port) {
        c.at("port").invalid(port, "port is not valid: must be between 1 and 65535, inclusive");
    }
    path(c, text(service, "path"));
}

fn path(c: &mut Check, path: &str) {
    if path.is_empty() || path == "/" {
        return;
    }
    if path == "//" {
        return c.at("path").invalid(path, "segment[0] may not be empty");
    }
    if !path.starts_with('/') {
        c.at("path").invalid(path, "must start with a '/'");
    }
    // The first character is left out, whatever it is.
    let mut chars = path.chars();
    chars.next();
    let rest = chars.as_str();
    for (i, segment) in rest.strip_suffix('/').unwrap_or(rest).split('/').enumerate() {
        if segment.is_empty() {
            c.at("path").invalid(path, &format!("segment[{i}] may not be empty"));
        } else if let Err(fault) = names::dns_subdomain(segment) {
            c.at("path").invalid(path, &format!("segment[{i}]: {fault}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::check::run;
    use crate::kinds::check::testing::{cases, json};

    #[test]
    fn webhooks_are_reached() {
        let base = json(r#"{"to": {"service": {"name": "a", "namespace": "b", "port": 443}}}"#);
        cases(&base, CLIENTS, |object| run(|c| client(c, object, "to")));
    }

    const CLIENTS: &str = r#"
to.service.path = "/a/b.c/"

to.service.path = "/"

to = {}
! to: Required value: exactly one of url or service is required

to.url = "https://a"
! to: Required value: exactly one of url or service is required

to.service = {"name": "a", "port": 0, "path": "a"}
! to.service.name: Required value
! to.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive
! to.service.path: Invalid value: "a": must start with a '/'
! to.service.path: Invalid value: "a": segment[0] may not be empty

to.service.name = ""
to.service.path = "//"
! to.service.namespace: Required value
! to.service.path: Invalid value: "//": segment[0] may not be empty

to.service.path = "/a//B"
! to.service.path: Invalid value: "/a//B": segment[1] may not be empty
! to.service.path: Invalid value: "/a//B": segment[2]: a lowercase RFC 1123 subdomain must consist of lower case
  alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex
  used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')

to = {"url": "https://[::1]:443/a"}

to = {"url": "HTTP://a@b/c?d#e"}
! to.url: Invalid value: "http": 'https' is the only allowed URL scheme; desired format: https://host[/path]
! to.url: Invalid value: "a": user information is not permitted in the URL
! to.url: Invalid value: "e": fragments are not permitted in the URL
! to.url: Invalid value: "d": query parameters are not permitted in the URL

to = {"url": "/a:b"}
! to.url: Invalid value: "": 'https' is the only allowed URL scheme; desired format: https://host[/path]
! to.url: Invalid value: "": host must be specified; desired format: https://host[/path]

to = {"url": ":a"}
! to.url: Required value: url must be a valid URL: parse ":a": missing protocol scheme; desired format:
  https://host[/path]

to = {"url": "1:a"}
! to.url: Required value: url must be a valid URL: parse "1:a": first path segment in URL cannot contain colon; desired
  format: https://host[/path]

to = {"url": "https://a:b"}
! to.url: Required value: url must be a valid URL: parse "https://a:b": invalid port ":b" after host; desired format:
  https://host[/path]

to = {"url": "a\u007f"}
! to.url: Required value: url must be a valid URL: parse "a": net/url: invalid control character in URL; desired
  format: https://host[/path]
"#;
}
