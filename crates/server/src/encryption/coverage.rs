//! Which resources are encrypted at rest: `EncryptionConfiguration` of apiserver.config.k8s.io/v1, as far as it says that.
//!
//! The keys are Xebec's own, and Secrets are encrypted whatever it says. A value that was written before the configuration
//! changed stays readable, and is written as it says now when it is written next.

use serde::Deserialize;
use serde::de::IgnoredAny;
use xebec_store::Key;

/// The longest configuration, in bytes.
const MAX_CONFIGURATION: usize = 1024 * 1024;

/// Which resources are encrypted. [`Coverage::default`] is Secrets.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    /// The first pattern that matches decides.
    patterns: Vec<(Pattern, bool)>,
}

/// `configmaps`, `widgets.example.com`, `*.apps`, `*.*`.
#[derive(Clone, Debug)]
struct Pattern {
    /// The group as keys have it; `None`: any.
    group: Option<String>,
    /// `None`: any.
    resource: Option<String>,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CoverageError {
    /// It is none.
    #[error("it cannot be read: {0}")]
    Unreadable(Box<serde_saphyr::Error>),
    /// It is longer than configurations are.
    #[error("it has {0} bytes, the limit is {MAX_CONFIGURATION}")]
    Long(usize),
    /// It is something else.
    #[error(
        "it is a {kind:?} of {api_version:?}, not an \"EncryptionConfiguration\" of \"apiserver.config.k8s.io/v1\""
    )]
    Other {
        /// Its version.
        api_version: String,
        /// Its kind.
        kind: String,
    },
    /// A provider that Xebec does not have, or not so.
    #[error(
        "resources[{entry}]: {what}: Xebec encrypts by AES-GCM with keys of its own, which `xebec secrets rotate` changes; \
         write {{aesgcm: {{}}}}"
    )]
    Provider {
        /// Which entry, from 0.
        entry: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// Secrets would lie on the disk as they are.
    #[error(
        "resources[{0}]: Secrets are always encrypted: {{identity: {{}}}} may not be their first provider"
    )]
    PlainSecrets(usize),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Configuration {
    api_version: String,
    kind: String,
    #[serde(default)]
    resources: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    resources: Vec<String>,
    providers: Vec<Provider>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Provider {
    aesgcm: Option<AesGcm>,
    aescbc: Option<IgnoredAny>,
    secretbox: Option<IgnoredAny>,
    kms: Option<IgnoredAny>,
    identity: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AesGcm {
    #[serde(default)]
    keys: Vec<IgnoredAny>,
}

impl Coverage {
    /// Reads a configuration in YAML or JSON.
    ///
    /// # Errors
    /// It is none, or asks for what there is not.
    pub fn read(text: &str) -> Result<Self, CoverageError> {
        if text.len() > MAX_CONFIGURATION {
            return Err(CoverageError::Long(text.len()));
        }
        let read = serde_saphyr::from_str(text).map_err(|error| CoverageError::Unreadable(Box::new(error)));
        let Configuration { api_version, kind, resources } = read?;
        if (api_version.as_str(), kind.as_str()) != ("apiserver.config.k8s.io/v1", "EncryptionConfiguration")
        {
            return Err(CoverageError::Other { api_version, kind });
        }
        let mut patterns = Vec::new();
        for (n, entry) in resources.iter().enumerate() {
            let covered = entry.is_covered().map_err(|what| CoverageError::Provider { entry: n, what })?;
            for pattern in entry.resources.iter().map(|text| Pattern::read(text)) {
                if !covered
                    && pattern.group.as_deref() == Some("core")
                    && pattern.resource.as_deref() == Some("secrets")
                {
                    return Err(CoverageError::PlainSecrets(n));
                }
                patterns.push((pattern, covered));
            }
        }
        Ok(Self { patterns })
    }

    /// Whether the value of a key is encrypted.
    #[must_use]
    pub fn covers(&self, key: &Key) -> bool {
        let Some((group, rest)) =
            key.as_str().strip_prefix("/registry/").and_then(|path| path.split_once('/'))
        else {
            return false;
        };
        let resource = rest.split('/').next().unwrap_or_default();
        (group, resource) == ("core", "secrets")
            || self
                .patterns
                .iter()
                .find(|(pattern, _)| pattern.matches(group, resource))
                .is_some_and(|(_, on)| *on)
    }
}

impl Entry {
    /// Whether its resources are encrypted: what its first provider says.
    fn is_covered(&self) -> Result<bool, &'static str> {
        for Provider { aesgcm, aescbc, secretbox, kms, .. } in &self.providers {
            if aescbc.is_some() || secretbox.is_some() || kms.is_some() {
                return Err("there are no providers but aesgcm and identity");
            }
            if aesgcm.as_ref().is_some_and(|provider| !provider.keys.is_empty()) {
                return Err("keys cannot be given");
            }
        }
        match self.providers.first() {
            Some(Provider { aesgcm: Some(_), .. }) => Ok(true),
            Some(Provider { identity: Some(_), .. }) => Ok(false),
            _ => Err("there is no provider"),
        }
    }
}

impl Pattern {
    fn read(text: &str) -> Self {
        let (resource, group) = text.split_once('.').unwrap_or((text, ""));
        let any = |word: &str| (word != "*").then(|| word.to_owned());
        let group = if group.is_empty() { Some("core".to_owned()) } else { any(group) };
        Self { group, resource: any(resource) }
    }

    fn matches(&self, group: &str, resource: &str) -> bool {
        let is = |wanted: &Option<String>, word: &str| wanted.as_deref().is_none_or(|wanted| wanted == word);
        is(&self.group, group) && is(&self.resource, resource)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(resources: &str) -> Result<Coverage, CoverageError> {
        let head = "apiVersion: apiserver.config.k8s.io/v1, kind: EncryptionConfiguration";
        Coverage::read(&format!("{{{head}, resources: [{resources}]}}"))
    }

    #[test]
    fn what_is_encrypted() {
        let check = |resources: &str, path: &str, want: bool| {
            let coverage = configuration(resources).expect("a configuration");
            let key = Key::new(format!("/registry/{path}")).expect("a key");
            assert_eq!(coverage.covers(&key), want, "{resources}: {path}");
        };
        let on = |names: &str| {
            format!("{{resources: [{names}], providers: [{{aesgcm: {{}}}}, {{identity: {{}}}}]}}")
        };
        check("", "core/secrets/a/b", true);
        check("", "core/configmaps/a/b", false);
        check(&on("configmaps"), "core/configmaps/a/b", true);
        check(&on("configmaps"), "core/secrets/a/b", true);
        check(&on("configmaps"), "apps/configmaps/a/b", false);
        check(&on("deployments.apps"), "apps/deployments/a/b", true);
        check(&on("'*.apps'"), "apps/deployments/a/b", true);
        check(&on("'*.apps'"), "core/configmaps/a/b", false);
        check(&on("'*.'"), "core/configmaps/a/b", true);
        check(&on("'*.*'"), "batch/jobs/a/b", true);
        let plain = format!("{{resources: [events], providers: [{{identity: {{}}}}]}}, {}", on("'*.*'"));
        check(&plain, "core/events/a/b", false);
        check(&plain, "core/pods/a/b", true);
        assert!(!Coverage::default().covers(&Key::new("/xebec/a").expect("a key")));
    }

    #[test]
    fn what_cannot_be_had() {
        let check = |resources: &str, want: &str| {
            let error = configuration(resources).expect_err("refused").to_string();
            assert!(error.contains(want), "{resources}: {error}");
        };
        let entry =
            |names: &str, provider: &str| format!("{{resources: [{names}], providers: [{{{provider}}}]}}");
        check(&entry("pods", "aescbc: {keys: []}"), "no providers but aesgcm and identity");
        check(&entry("pods", "kms: {name: a}"), "no providers but aesgcm and identity");
        check(&entry("pods", "aesgcm: {keys: [{name: a, secret: b}]}"), "resources[0]: keys cannot be given");
        check(&entry("secrets", "identity: {}"), "Secrets are always encrypted");
        check(&entry("pods", "rot13: {}"), "cannot be read");
        check("{resources: [pods], providers: []}", "there is no provider");
        let other = Coverage::read("{apiVersion: v1, kind: Pod}").expect_err("refused").to_string();
        assert!(other.contains("not an \"EncryptionConfiguration\""), "{other}");
    }
}
