//! Answering a registry's challenge.
//!
//! Spec: RFC 9110, `WWW-Authenticate`; the distribution project's token authentication specification. Credentials are
//! only given to whoever the registry itself names as its token server, over TLS unless plain HTTP was allowed for
//! that host too; a challenge from anyone else (the storage that a blob was redirected to) is never answered.

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use serde::Deserialize;

use super::credentials::Credentials;
use super::error::RegistryError;
use super::transport::{Payload, Transport, host_of};

/// Longest `WWW-Authenticate` that is looked at.
const MAX_CHALLENGE: usize = 8 << 10;
/// Largest answer of a token server.
const MAX_TOKEN: u64 = 1 << 20;

/// What a registry asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    /// The strongest challenge in a response; nothing if there is none that can be answered.
    pub(super) fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let all = headers.get_all(header::WWW_AUTHENTICATE).iter();
        let challenges: Vec<Self> =
            all.filter_map(|value| value.to_str().ok()).flat_map(Self::parse).collect();
        let bearer = challenges.iter().find(|challenge| matches!(challenge, Self::Bearer { .. }));
        bearer.or(challenges.first()).cloned()
    }

    /// Parses one header: challenges are a scheme and then `name=value` parameters, all separated by commas.
    fn parse(text: &str) -> Vec<Self> {
        let mut found: Vec<(String, Vec<(String, String)>)> = Vec::new();
        let mut rest = text.get(..text.len().min(MAX_CHALLENGE)).unwrap_or_default().trim_start();
        while !rest.is_empty() {
            let end = rest.find([' ', '\t', '=', ',']).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            let after = after.trim_start();
            rest = match after.strip_prefix('=') {
                Some(value) => {
                    let (value, after) = take_value(value.trim_start());
                    if let Some((_, parameters)) = found.last_mut() {
                        parameters.push((word.to_ascii_lowercase(), value));
                    }
                    after
                }
                None => {
                    if !word.is_empty() {
                        found.push((word.to_ascii_lowercase(), Vec::new()));
                    }
                    after
                }
            };
            rest = rest.trim_start_matches([',', ' ', '\t']);
        }
        found.into_iter().filter_map(|(scheme, parameters)| Self::of(&scheme, &parameters)).collect()
    }

    fn of(scheme: &str, parameters: &[(String, String)]) -> Option<Self> {
        let get = |name: &str| {
            let found = parameters.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.clone())
        };
        match scheme {
            "basic" => Some(Self::Basic),
            "bearer" => {
                Some(Self::Bearer { realm: get("realm")?, service: get("service"), scope: get("scope") })
            }
            _ => None,
        }
    }
}

/// A token or a quoted string, and what follows.
fn take_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
}

/// Makes the `Authorization` that a challenge asks for; nothing when the credentials are no answer to it.
pub(super) async fn answer(
    transport: &Transport,
    origin: &Uri,
    challenge: &Challenge,
    credentials: &Credentials,
    scopes: &[String],
) -> Result<Option<HeaderValue>, RegistryError> {
    match (challenge, credentials) {
        (_, Credentials::Bearer(token)) => Ok(Some(sensitive(&format!("Bearer {}", token.expose()))?)),
        (Challenge::Basic, Credentials::Basic { username, password }) => {
            Ok(Some(basic(username, password.expose())?))
        }
        (Challenge::Basic, _) => Ok(None),
        (Challenge::Bearer { realm, service, scope }, credentials) => {
            let mut scopes = scopes.to_vec();
            scopes.extend(scope.iter().flat_map(|scope| scope.split(' ')).map(str::to_owned));
            scopes.sort();
            scopes.dedup();
            let service = service.as_deref();
            let token = fetch(transport, origin, (realm, service), credentials, &scopes).await?;
            Ok(Some(sensitive(&format!("Bearer {token}"))?))
        }
    }
}

async fn fetch(
    transport: &Transport,
    origin: &Uri,
    (realm, service): (&str, Option<&str>),
    credentials: &Credentials,
    scopes: &[String],
) -> Result<String, RegistryError> {
    let mut form = String::new();
    if let Some(service) = service {
        append(&mut form, "service", service);
    }
    let mut headers = HeaderMap::new();
    let (method, target, payload) = match credentials {
        Credentials::Identity(token) => {
            append(&mut form, "scope", &scopes.join(" "));
            append(&mut form, "grant_type", "refresh_token");
            append(&mut form, "client_id", "xebec");
            append(&mut form, "refresh_token", token.expose());
            let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
            headers.insert(header::CONTENT_TYPE, form_type);
            (Method::POST, realm.to_owned(), Payload::Bytes(form.into()))
        }
        _ => {
            for scope in scopes {
                append(&mut form, "scope", scope);
            }
            if let Credentials::Basic { username, password } = credentials {
                headers.insert(header::AUTHORIZATION, basic(username, password.expose())?);
            }
            let separator = if realm.contains('?') { '&' } else { '?' };
            (Method::GET, format!("{realm}{separator}{form}"), Payload::Empty)
        }
    };
    let uri: Uri = target.parse().map_err(|_| RegistryError::Realm { realm: crate::quote::clip(realm) })?;
    transport.check_hop(origin, &uri)?;
    let response = transport.send(method, &uri, &headers, &payload).await?;
    let (host, status) = (host_of(&uri), response.status());
    let body = transport.read_body(&host, response, MAX_TOKEN).await?.unwrap_or_default();
    if !status.is_success() {
        return Err(RegistryError::Token { host, status: status.as_u16() });
    }
    let answer: TokenAnswer =
        serde_json::from_slice(&body).map_err(|_| RegistryError::TokenAnswer { host: host.clone() })?;
    let token = answer.token.or(answer.access_token).filter(|token| !token.is_empty());
    token.ok_or(RegistryError::TokenAnswer { host })
}

fn basic(username: &str, password: &str) -> Result<HeaderValue, RegistryError> {
    sensitive(&format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
}

fn sensitive(text: &str) -> Result<HeaderValue, RegistryError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| RegistryError::Credentials)?;
    value.set_sensitive(true);
    Ok(value)
}

fn append(form: &mut String, key: &str, value: &str) {
    if !form.is_empty() {
        form.push('&');
    }
    form.push_str(key);
    form.push('=');
    form.push_str(&percent_encode(value));
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
pub(super) fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a string cannot fail");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::mutations;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Challenge::Bearer { realm: realm.to_owned(), service: own(service), scope: own(scope) }
    }

    #[test]
    fn challenges() {
        let check =
            |text: &str, expected: &[Challenge]| assert_eq!(Challenge::parse(text), expected, "{text}");
        check(
            r#"Bearer realm="https://a.io/t",service="r",scope="repository:x:pull""#,
            &[bearer("https://a.io/t", Some("r"), Some("repository:x:pull"))],
        );
        check(
            r#"bearer  service = r , realm = "https://a.io/t?x=1" "#,
            &[bearer("https://a.io/t?x=1", Some("r"), None)],
        );
        check(r#"Bearer realm="a\"b""#, &[bearer("a\"b", None, None)]);
        check(r#"Basic realm="x""#, &[Challenge::Basic]);
        check("Basic", &[Challenge::Basic]);
        check(
            r#"Negotiate, Basic realm="x", Bearer realm="y""#,
            &[Challenge::Basic, bearer("y", None, None)],
        );
        check(r#"Bearer service="r""#, &[]);
        check("", &[]);
        check(r#"Bearer realm="unterminated"#, &[bearer("unterminated", None, None)]);
        check("=,=,=", &[]);
    }

    #[test]
    fn the_strongest_is_answered() {
        let mut headers = HeaderMap::new();
        headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"x\""));
        headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"y\""));
        assert_eq!(Challenge::from_headers(&headers), Some(bearer("y", None, None)));
        assert_eq!(Challenge::from_headers(&HeaderMap::new()), None);
    }

    #[test]
    fn encoding() {
        assert_eq!(percent_encode("repository:a/b:pull,push é"), "repository%3Aa%2Fb%3Apull%2Cpush%20%C3%A9");
        let value = basic("u", "p").expect("a header");
        assert_eq!(value, "Basic dTpw");
        assert!(value.is_sensitive());
        assert!(sensitive("Bearer a\nb").is_err(), "no header injection");
    }

    #[test]
    fn any_text_ends() {
        let seeds = [&br#"Bearer realm="https://a.io/t",service="r", Basic realm=x"#[..]];
        let total: usize = mutations(&seeds, 10_000, 19)
            .map(|bytes| Challenge::parse(&String::from_utf8_lossy(&bytes)).len())
            .sum();
        assert!(total > 1_000, "{total}");
    }
}
