//! `AuthenticationConfiguration` (apiserver.config.k8s.io/v1): who besides the cluster issues tokens, and what their claims mean.

use std::collections::BTreeSet;

use http::Uri;
use serde::Deserialize;

use crate::auth::remote::is_https;

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthenticationConfiguration {
    pub(super) api_version: String,
    pub(super) kind: String,
    /// Issuers of tokens.
    #[serde(default)]
    pub(super) jwt: Vec<JwtAuthenticator>,
    /// Who has not said who they are.
    #[serde(default)]
    pub(super) anonymous: Option<Anonymous>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Anonymous {
    pub(super) enabled: bool,
    #[serde(default)]
    pub(super) conditions: Vec<AnonymousCondition>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AnonymousCondition {
    pub(super) path: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct JwtAuthenticator {
    pub(super) issuer: Issuer,
    #[serde(default)]
    pub(super) claim_validation_rules: Vec<ClaimRule>,
    pub(super) claim_mappings: ClaimMappings,
    #[serde(default)]
    pub(super) user_validation_rules: Vec<UserRule>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Issuer {
    pub(super) url: String,
    #[serde(default, rename = "discoveryURL")]
    pub(super) discovery_url: Option<String>,
    #[serde(default)]
    pub(super) certificate_authority: Option<String>,
    #[serde(default)]
    pub(super) audiences: Vec<String>,
    #[serde(default)]
    pub(super) audience_match_policy: String,
    #[serde(default)]
    pub(super) egress_selector_type: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct ClaimRule {
    pub(super) claim: String,
    pub(super) required_value: String,
    pub(super) expression: String,
    pub(super) message: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ClaimMappings {
    pub(super) username: PrefixedClaim,
    pub(super) groups: PrefixedClaim,
    pub(super) uid: PlainClaim,
    pub(super) extra: Vec<ExtraMapping>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PrefixedClaim {
    pub(super) claim: String,
    pub(super) prefix: Option<String>,
    pub(super) expression: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PlainClaim {
    pub(super) claim: String,
    pub(super) expression: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct ExtraMapping {
    pub(super) key: String,
    pub(super) value_expression: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct UserRule {
    pub(super) expression: String,
    pub(super) message: String,
}

/// What is wrong with a configuration: each fault with the field that it is of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the configuration of authentication cannot be used: {}", .0.join("; "))]
pub struct ConfigError(pub(super) Vec<String>);

/// How many issuers there may be.
const MAX_ISSUERS: usize = 64;

impl AuthenticationConfiguration {
    /// Reads the file's text.
    ///
    /// # Errors
    /// It is no such configuration, or says what cannot be.
    pub fn read(text: &str) -> Result<Self, ConfigError> {
        let config: Self =
            serde_saphyr::from_str(text).map_err(|error| ConfigError(vec![error.to_string()]))?;
        let mut faults = Vec::new();
        let versions =
            ["v1", "v1beta1", "v1alpha1"].map(|version| format!("apiserver.config.k8s.io/{version}"));
        if config.kind != "AuthenticationConfiguration" || !versions.contains(&config.api_version) {
            let found = format!("{} {}", config.api_version, config.kind);
            faults.push(format!("it is a {found}, not an {} AuthenticationConfiguration", versions[0]));
        }
        if config.jwt.len() > MAX_ISSUERS {
            faults
                .push(format!("jwt: Too many: {}: must have at most {MAX_ISSUERS} items", config.jwt.len()));
        }
        if let Some(anonymous) = &config.anonymous
            && !anonymous.enabled
            && !anonymous.conditions.is_empty()
        {
            faults.push(
                "anonymous.conditions: enabled should be set to true when conditions are defined".to_owned(),
            );
        }
        let mut seen = BTreeSet::new();
        for (i, jwt) in config.jwt.iter().enumerate() {
            let at = format!("jwt[{i}]");
            if !seen.insert(&jwt.issuer.url) {
                faults.push(format!("{at}.issuer.url: Duplicate value: {:?}", jwt.issuer.url));
            }
            jwt.issuer.check(&format!("{at}.issuer"), &mut faults);
            jwt.check(&at, &mut faults);
        }
        if faults.is_empty() { Ok(config) } else { Err(ConfigError(faults)) }
    }
}

impl Issuer {
    fn check(&self, at: &str, faults: &mut Vec<String>) {
        check_url(&self.url, &format!("{at}.url"), faults);
        if let Some(discovery) = &self.discovery_url {
            let at = format!("{at}.discoveryURL");
            if discovery.trim_end_matches('/') == self.url.trim_end_matches('/') {
                faults.push(format!("{at}: discoveryURL must be different from URL"));
            }
            check_url(discovery, &at, faults);
        }
        let mut seen = BTreeSet::new();
        if self.audiences.is_empty() {
            faults.push(format!("{at}.audiences: Required value: at least one {at}.audiences is required"));
        }
        for (i, audience) in self.audiences.iter().enumerate() {
            if audience.is_empty() {
                faults.push(format!("{at}.audiences[{i}]: Required value"));
            } else if !seen.insert(audience) {
                faults.push(format!("{at}.audiences[{i}]: Duplicate value: {audience:?}"));
            }
        }
        let at = format!("{at}.audienceMatchPolicy");
        match (self.audience_match_policy.as_str(), self.audiences.len()) {
            ("MatchAny", _) | ("", 0 | 1) => {}
            (_, 0 | 1) => {
                faults
                    .push(format!("{at}: audienceMatchPolicy must be empty or MatchAny for single audience"));
            }
            _ => faults.push(format!("{at}: audienceMatchPolicy must be MatchAny for multiple audiences")),
        }
        if !self.egress_selector_type.is_empty() {
            faults.push("egressSelectorType is not known: issuers are called directly".to_owned());
        }
    }

    /// Where the issuer's configuration is.
    pub(super) fn discovery(&self) -> String {
        let standard = || format!("{}/.well-known/openid-configuration", self.url.trim_end_matches('/'));
        self.discovery_url.clone().unwrap_or_else(standard)
    }
}

fn check_url(url: &str, at: &str, faults: &mut Vec<String>) {
    if url.is_empty() {
        return faults.push(format!("{at}: Required value"));
    }
    let fault = match url.parse::<Uri>() {
        Err(_) => "URL cannot be read",
        Ok(uri) if !is_https(&uri) => "URL scheme must be https",
        Ok(uri) if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) => {
            "URL must not contain a username or password"
        }
        Ok(_) if url.contains('?') => "URL must not contain a query",
        Ok(_) if url.contains('#') => "URL must not contain a fragment",
        Ok(_) => return,
    };
    faults.push(format!("{at}: Invalid value: {url:?}: {fault}"));
}

impl JwtAuthenticator {
    fn check(&self, at: &str, faults: &mut Vec<String>) {
        let mappings = &self.claim_mappings;
        let at_mappings = format!("{at}.claimMappings");
        mappings.username.check(&format!("{at_mappings}.username"), true, faults);
        mappings.groups.check(&format!("{at_mappings}.groups"), false, faults);
        if !mappings.uid.claim.is_empty() && !mappings.uid.expression.is_empty() {
            faults.push(format!("{at_mappings}.uid: claim and expression can't both be set"));
        }
        let mut seen = BTreeSet::new();
        for (i, extra) in mappings.extra.iter().enumerate() {
            let at = format!("{at_mappings}.extra[{i}]");
            if let Some(fault) = extra_key_fault(&extra.key) {
                faults.push(format!("{at}.key: Invalid value: {:?}: {fault}", extra.key));
            }
            if !seen.insert(&extra.key) {
                faults.push(format!("{at}.key: Duplicate value: {:?}", extra.key));
            }
            if extra.value_expression.is_empty() {
                faults.push(format!("{at}.valueExpression: Required value"));
            }
        }
        let mut seen = BTreeSet::new();
        for (i, rule) in self.claim_validation_rules.iter().enumerate() {
            let at = format!("{at}.claimValidationRules[{i}]");
            match (rule.claim.is_empty(), rule.expression.is_empty()) {
                (false, false) => faults.push(format!("{at}: claim and expression can't both be set")),
                (true, true) => faults.push(format!("{at}: Required value: claim or expression is required")),
                (false, true) if !rule.message.is_empty() => {
                    faults.push(format!("{at}.message: may not be specified when claim is set"));
                }
                (true, false) if !rule.required_value.is_empty() => {
                    faults.push(format!("{at}.requiredValue: may not be specified when expression is set"));
                }
                _ if !seen.insert((&rule.claim, &rule.expression)) => {
                    faults.push(format!("{at}: Duplicate value"));
                }
                _ => {}
            }
        }
        for (i, rule) in self.user_validation_rules.iter().enumerate() {
            if rule.expression.is_empty() {
                faults.push(format!("{at}.userValidationRules[{i}].expression: Required value"));
            }
        }
        self.check_email(&format!("{at_mappings}.username.expression"), faults);
    }

    /// Who goes by an address must have been asked whether it is theirs.
    fn check_email(&self, at: &str, faults: &mut Vec<String>) {
        let mappings = &self.claim_mappings;
        let extra = mappings.extra.iter().map(|extra| &extra.value_expression);
        let rules = self.claim_validation_rules.iter().map(|rule| &rule.expression);
        let mut places = [&mappings.username.expression].into_iter().chain(extra).chain(rules);
        if selects(&mappings.username.expression, "email")
            && !places.any(|text| selects(text, "email_verified"))
        {
            faults.push(format!(
                "{at}: claims.email_verified must be used in claimMappings.username.expression or \
                 claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in \
                 claimMappings.username.expression"
            ));
        }
    }
}

/// Whether an expression uses a claim. It may also say so in a text, which does no harm.
fn selects(expression: &str, claim: &str) -> bool {
    expression.match_indices("claims.").any(|(at, prefix)| {
        let rest = &expression[at + prefix.len()..];
        let rest = rest.strip_prefix('?').unwrap_or(rest);
        rest.strip_prefix(claim)
            .is_some_and(|after| !after.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
    })
}

fn extra_key_fault(key: &str) -> Option<&'static str> {
    let Some((domain, path)) = key.split_once('/') else {
        return Some("must be a domain-prefixed path (such as \"acme.io/foo\")");
    };
    let of = |name: &str| domain == name || domain.ends_with(&format!(".{name}"));
    if path.is_empty() || xebec_api::names::dns_subdomain(&domain.to_ascii_lowercase()).is_err() {
        Some("must be a domain-prefixed path (such as \"acme.io/foo\")")
    } else if key.chars().any(|c| c.is_ascii_uppercase()) {
        Some("must be lowercase")
    } else if of("k8s.io") || of("kubernetes.io") {
        Some("k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use")
    } else {
        None
    }
}

impl PrefixedClaim {
    fn check(&self, at: &str, is_required: bool, faults: &mut Vec<String>) {
        match (self.claim.is_empty(), self.expression.is_empty()) {
            (false, false) => faults.push(format!("{at}: claim and expression can't both be set")),
            (true, true) if is_required => {
                faults.push(format!("{at}: Required value: claim or expression is required"));
            }
            (false, true) if self.prefix.is_none() => {
                faults.push(format!("{at}.prefix: Required value: prefix is required when claim is set. It can be set to an empty string to disable prefixing"));
            }
            (true, _) if self.prefix.is_some() => {
                faults.push(format!("{at}.prefix: prefix can't be set without claim"));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults() {
        let check = |rest: &str, want: &[&str]| {
            let text =
                format!("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n{rest}");
            let found = AuthenticationConfiguration::read(&text).map(drop);
            let want: Vec<String> = want.iter().map(ToString::to_string).collect();
            assert_eq!(found, if want.is_empty() { Ok(()) } else { Err(ConfigError(want)) }, "{rest}");
        };
        let jwt = |issuer: &str, more: &str| format!("jwt: [{{issuer: {{{issuer}}}, {more}}}]");
        let issuer = "url: 'https://a.example', audiences: [b]";
        let mappings = "claimMappings: {username: {claim: sub, prefix: ''}}";
        check("", &[]);
        check(&jwt(issuer, mappings), &[]);
        check(
            &jwt("url: 'http://a.example/?b', audiences: [b, b]", mappings),
            &[
                r#"jwt[0].issuer.url: Invalid value: "http://a.example/?b": URL scheme must be https"#,
                r#"jwt[0].issuer.audiences[1]: Duplicate value: "b""#,
                "jwt[0].issuer.audienceMatchPolicy: audienceMatchPolicy must be MatchAny for multiple audiences",
            ],
        );
        check(
            &jwt(
                issuer,
                "claimMappings: {username: {}, groups: {claim: a}, extra: [{key: k8s.io/a, valueExpression: a}]}",
            ),
            &[
                "jwt[0].claimMappings.username: Required value: claim or expression is required",
                "jwt[0].claimMappings.groups.prefix: Required value: prefix is required when claim is set. It can be set to an empty string to disable prefixing",
                r#"jwt[0].claimMappings.extra[0].key: Invalid value: "k8s.io/a": k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use"#,
            ],
        );
        check(
            &jwt(issuer, &format!("{mappings}, claimValidationRules: [{{}}, {{claim: a, expression: b}}]")),
            &[
                "jwt[0].claimValidationRules[0]: Required value: claim or expression is required",
                "jwt[0].claimValidationRules[1]: claim and expression can't both be set",
            ],
        );
        check(
            "anonymous: {enabled: false, conditions: [{path: /healthz}]}",
            &["anonymous.conditions: enabled should be set to true when conditions are defined"],
        );
        for text in [
            "",
            "kind: Pod\napiVersion: v1",
            "kind: AuthenticationConfiguration\napiVersion: apiserver.config.k8s.io/v1\nmore: 1",
        ] {
            AuthenticationConfiguration::read(text).expect_err(text);
        }
    }

    #[test]
    fn addresses_are_verified() {
        assert!(selects("claims.email", "email") && selects("claims.?email.orValue('')", "email"));
        assert!(!selects("claims.email_verified", "email") && !selects("claims.mail", "email"));
    }
}
