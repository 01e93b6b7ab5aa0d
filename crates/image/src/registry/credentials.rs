//! Credentials for registries, as data: what image pull secrets and Docker's configuration file hold.
//!
//! Formats: `.dockerconfigjson` (`{"auths": {HOST: {…}}}`) and the older `.dockercfg` (the inner object alone). Which
//! entry is meant for an image follows Kubernetes: host and port must be the same (labels may contain `*` and `?`), a
//! path must be a prefix; the more specific entries come first, and all that fit are tried in order. Unlike there, a
//! path is a prefix only at a slash.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::Deserialize;

use crate::reference::Reference;

/// Why credentials cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// Not the JSON of a Docker configuration. The text may hold secrets, so it is not quoted.
    #[error("the registry credentials are malformed at line {line}, column {column}")]
    Json {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// The `auth` of an entry is not base64 of `user:password`.
    #[error("the registry credentials for `{host}` are malformed: `auth` must be base64 of user:password")]
    Auth {
        /// The entry.
        host: String,
    },
}

/// Something that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// How to identify to one registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Not at all.
    Anonymous,
    /// User and password.
    Basic {
        /// User.
        username: String,
        /// Password, or a token in its place.
        password: Secret,
    },
    /// An OAuth refresh token.
    Identity(Secret),
    /// A bearer token for the registry itself.
    Bearer(Secret),
}

/// Credentials for many registries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keyring {
    entries: Vec<(Pattern, Credentials)>,
}

/// Which images an entry is for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    host: String,
    port: Option<String>,
    path: String,
}

#[derive(Deserialize)]
struct DockerEntry {
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    auth: Option<String>,
    #[serde(default, rename = "identitytoken")]
    identity_token: Option<String>,
    #[serde(default, rename = "registrytoken")]
    registry_token: Option<String>,
}

#[derive(Deserialize)]
struct DockerConfig {
    auths: BTreeMap<String, DockerEntry>,
}

impl Keyring {
    /// Reads a Docker configuration, the content of a pull secret.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn parse(bytes: &[u8]) -> Result<Self, CredentialsError> {
        let entries = match serde_json::from_slice::<DockerConfig>(bytes) {
            Ok(config) => config.auths,
            Err(error) => serde_json::from_slice(bytes)
                .map_err(|_| CredentialsError::Json { line: error.line(), column: error.column() })?,
        };
        let mut keyring = Self::default();
        for (key, entry) in entries {
            let credentials = entry.credentials(&key)?;
            keyring.entries.push((Pattern::parse(&key), credentials));
        }
        keyring.sort();
        Ok(keyring)
    }

    /// Adds credentials for a registry, or for a path in it: `registry.example:5000/team`.
    pub fn add(&mut self, registry: &str, credentials: Credentials) {
        self.entries.push((Pattern::parse(registry), credentials));
        self.sort();
    }

    /// Adds the entries of another keyring.
    pub fn extend(&mut self, other: Self) {
        self.entries.extend(other.entries);
        self.sort();
    }

    /// What to try for an image, in order; [`Credentials::Anonymous`] alone when nothing fits.
    pub fn pick(&self, image: &Reference) -> Vec<Credentials> {
        let fitting = self.entries.iter().filter(|(pattern, _)| pattern.fits(image));
        let mut picked: Vec<Credentials> = Vec::new();
        for (_, credentials) in fitting {
            if !picked.contains(credentials) {
                picked.push(credentials.clone());
            }
        }
        if picked.is_empty() { vec![Credentials::Anonymous] } else { picked }
    }

    /// The more specific first: longer paths, then hosts without wildcards.
    fn sort(&mut self) {
        self.entries.sort_by_key(|(pattern, _)| {
            (std::cmp::Reverse(pattern.path.len()), pattern.host.contains(['*', '?']))
        });
    }
}

impl DockerEntry {
    fn credentials(self, host: &str) -> Result<Credentials, CredentialsError> {
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        if let Some(token) = filled(self.registry_token) {
            return Ok(Credentials::Bearer(Secret(token)));
        }
        if let Some(token) = filled(self.identity_token) {
            return Ok(Credentials::Identity(Secret(token)));
        }
        if let Some(username) = filled(self.username) {
            let password = Secret(self.password.unwrap_or_default());
            return Ok(Credentials::Basic { username, password });
        }
        let Some(auth) = filled(self.auth) else { return Ok(Credentials::Anonymous) };
        let malformed = || CredentialsError::Auth { host: crate::quote::clip(host) };
        let bytes = STANDARD.decode(&auth).or_else(|_| STANDARD_NO_PAD.decode(&auth));
        let text = String::from_utf8(bytes.map_err(|_| malformed())?).map_err(|_| malformed())?;
        let (username, password) = text.split_once(':').ok_or_else(malformed)?;
        // Docker for Windows ends some passwords with NULs.
        let password = Secret(password.trim_end_matches('\0').to_owned());
        Ok(Credentials::Basic { username: username.to_owned(), password })
    }
}

impl Pattern {
    fn parse(key: &str) -> Self {
        let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
        let (authority, path) = key.split_once('/').unwrap_or((key, ""));
        let path = path.trim_matches('/');
        // Docker's own key for its hub ends in the version of the interface.
        let path = if matches!(path, "v1" | "v2") { "" } else { path };
        let (host, port) = split_port(authority);
        let host = match host {
            "index.docker.io" | "registry-1.docker.io" => "docker.io",
            host => host,
        };
        Self { host: host.to_ascii_lowercase(), port: port.map(str::to_owned), path: path.to_owned() }
    }

    fn fits(&self, image: &Reference) -> bool {
        let (host, port) = split_port(image.registry());
        let host = host.to_ascii_lowercase();
        let labels = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
        let (ours, theirs) = (labels(&self.host), labels(&host));
        let same_host =
            ours.len() == theirs.len() && ours.iter().zip(&theirs).all(|(glob, text)| matches(glob, text));
        let below = image.repository().strip_prefix(self.path.as_str());
        let in_path =
            self.path.is_empty() || below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        same_host && self.port.as_deref() == port && in_path
    }
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

/// `*` is any run of characters, `?` is one. Iterative: after a mismatch only the last `*` is tried again.
fn matches(glob: &str, text: &str) -> bool {
    let (glob, text) = (glob.as_bytes(), text.as_bytes());
    let (mut g, mut t) = (0, 0);
    let mut star = None;
    while t < text.len() {
        if g < glob.len() && glob[g] == b'*' {
            star = Some((g, t));
            g += 1;
        } else if g < glob.len() && (glob[g] == b'?' || glob[g] == text[t]) {
            g += 1;
            t += 1;
        } else if let Some((star_g, star_t)) = star {
            star = Some((star_g, star_t + 1));
            g = star_g + 1;
            t = star_t + 1;
        } else {
            return false;
        }
    }
    glob[g..].iter().all(|b| *b == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::mutations;

    fn basic(username: &str, password: &str) -> Credentials {
        Credentials::Basic { username: username.to_owned(), password: Secret::new(password) }
    }

    fn pick(keyring: &Keyring, image: &str) -> Vec<Credentials> {
        keyring.pick(&Reference::parse(image).expect("a name"))
    }

    #[test]
    fn both_formats_and_every_kind() {
        let modern = br#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"},"h.io":{"username":"a","password":"b"},
            "i.io":{"auth":"dTpw","identitytoken":"t"},"r.io":{"registrytoken":"r"},"e.io":{"email":"x"}},
            "credsStore":"desktop"}"#;
        let keyring = Keyring::parse(modern).expect("well formed");
        assert_eq!(pick(&keyring, "nginx"), [basic("u", "p")]);
        assert_eq!(pick(&keyring, "docker.io/team/app"), [basic("u", "p")]);
        assert_eq!(pick(&keyring, "h.io/x"), [basic("a", "b")]);
        assert_eq!(pick(&keyring, "i.io/x"), [Credentials::Identity(Secret::new("t"))]);
        assert_eq!(pick(&keyring, "r.io/x"), [Credentials::Bearer(Secret::new("r"))]);
        assert_eq!(pick(&keyring, "e.io/x"), [Credentials::Anonymous]);
        assert_eq!(pick(&keyring, "other.io/x"), [Credentials::Anonymous]);
        let old = Keyring::parse(br#"{"h.io":{"auth":"dTpwOnEA"}}"#).expect("well formed");
        assert_eq!(pick(&old, "h.io/x"), [basic("u", "p:q")]);
    }

    #[test]
    fn entries_fit_by_host_port_and_path() {
        let check = |key: &str, image: &str, fits: bool| {
            let mut keyring = Keyring::default();
            keyring.add(key, basic("u", "p"));
            assert_eq!(pick(&keyring, image) == [basic("u", "p")], fits, "{key} {image}");
        };
        check("h.io", "h.io/a", true);
        check("H.io", "h.io/a", true);
        check("h.io", "sub.h.io/a", false);
        check("h.io", "h.io:5000/a", false);
        check("h.io:5000", "h.io:5000/a", true);
        check("h.io:5000", "h.io/a", false);
        check("*.h.io", "sub.h.io/a", true);
        check("*.h.io", "a.sub.h.io/a", false);
        check("*.h.io", "evil-h.io/a", false);
        check("reg-?.h.io", "reg-1.h.io/a", true);
        check("reg-*x*.h.io", "reg-1x2.h.io/a", true);
        check("reg-*x*y.h.io", "reg-1x2.h.io/a", false);
        check("h.io/team", "h.io/team", true);
        check("h.io/team", "h.io/team/app", true);
        check("h.io/team", "h.io/teams/app", false);
        check("h.io/team/", "h.io/other", false);
        check("[::1]:5000", "[::1]:5000/a", true);
        check("[::1]", "[::1]:5000/a", false);
        check("http://h.io/v2/", "h.io/a", true);
    }

    #[test]
    fn the_more_specific_comes_first() {
        let mut keyring = Keyring::default();
        keyring.add("*.io", basic("wild", ""));
        keyring.add("h.io", basic("host", ""));
        keyring.add("h.io/team/app", basic("app", ""));
        keyring.add("h.io/team", basic("team", ""));
        let names = ["app", "team", "host", "wild"].map(|name| basic(name, ""));
        assert_eq!(pick(&keyring, "h.io/team/app"), names);
    }

    #[test]
    fn secrets_are_not_shown() {
        let keyring = Keyring::parse(br#"{"auths":{"h.io":{"auth":"dTpzM2NyM3Q="}}}"#).expect("well formed");
        assert!(!format!("{keyring:?}").contains("s3cr3t"));
        for text in [
            r#"{"auths":{"h.io":{"auth":"c2VjcmV0"}}}"#,
            r#"{"auths":{"h.io":{"auth":"***"}}}"#,
            r#"{"a":"s3cr3t"}"#,
        ] {
            let error = Keyring::parse(text.as_bytes()).expect_err("malformed").to_string();
            assert!(!error.contains("cr3t") && error.contains("malformed"), "{error}");
        }
    }

    #[test]
    fn any_bytes_are_answered() {
        let seeds = [&br#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"}}}"#[..]];
        let image = Reference::parse("nginx").expect("a name");
        let parsed = mutations(&seeds, 5_000, 17).filter_map(|bytes| Keyring::parse(&bytes).ok());
        assert!(parsed.map(|keyring| keyring.pick(&image).len()).sum::<usize>() > 500);
    }
}
