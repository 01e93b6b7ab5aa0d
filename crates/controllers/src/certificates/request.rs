//! What a signing request asks for, and whether a signer takes it.

use std::collections::BTreeSet;

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;

use super::{CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY};

/// The subject and alternative names that are asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) common_name: String,
    pub(super) organisations: Vec<String>,
    pub(super) dns: usize,
    pub(super) ips: usize,
    pub(super) emails: usize,
    pub(super) uris: usize,
}

impl Asked {
    /// Reads the PEM of a request.
    pub(super) fn read(pem: &[u8]) -> Option<Self> {
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem).ok()?;
        if pem.label != "CERTIFICATE REQUEST" {
            return None;
        }
        let (_, parsed) = X509CertificationRequest::from_der(&pem.contents).ok()?;
        let info = &parsed.certification_request_info;
        let mut asked = Self {
            common_name: info.subject.iter_common_name().next()?.as_str().ok()?.to_owned(),
            organisations: info
                .subject
                .iter_organization()
                .map(|o| o.as_str().map(str::to_owned))
                .collect::<Result<_, _>>()
                .ok()?,
            ..Self::default()
        };
        for attribute in info.iter_attributes() {
            let ParsedCriAttribute::ExtensionRequest(wanted) = attribute.parsed_attribute() else { continue };
            for extension in &wanted.extensions {
                let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else {
                    continue;
                };
                names.general_names.iter().for_each(|name| asked.count(name));
            }
        }
        Some(asked)
    }

    fn count(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::DNSName(_) => self.dns += 1,
            GeneralName::IPAddress(_) => self.ips += 1,
            GeneralName::RFC822Name(_) => self.emails += 1,
            GeneralName::URI(_) => self.uris += 1,
            _ => {}
        }
    }
}

/// The usages of a request.
pub(super) fn usages(request: &CertificateSigningRequest) -> Vec<String> {
    request.spec.usages.clone().unwrap_or_default()
}

/// Why a signer does not sign a request, in upstream's words.
pub(super) fn fault(signer: &str, asked: &Asked, usages: &[String]) -> Option<String> {
    match signer {
        KUBELET_SERVING => serving_fault(asked, usages),
        KUBELET_CLIENT => client_fault(asked, usages),
        CLIENT => client_usages_fault(usages),
        LEGACY => None,
        other => Some(format!("unrecognized signerName: {other:?}")),
    }
}

fn serving_fault(asked: &Asked, usages: &[String]) -> Option<String> {
    let fault = match asked {
        _ if asked.organisations != ["system:nodes"] => "subject organization is not system:nodes",
        Asked { dns: 0, ips: 0, .. } => "DNS or IP subjectAltName is required",
        Asked { emails: 1.., .. } => "Email subjectAltNames are not allowed",
        Asked { uris: 1.., .. } => "URI subjectAltNames are not allowed",
        _ => return usages_fault(usages, "server auth").or_else(|| name_fault(asked)),
    };
    Some(fault.to_owned())
}

fn client_fault(asked: &Asked, usages: &[String]) -> Option<String> {
    let fault = match asked {
        _ if asked.organisations != ["system:nodes"] => "subject organization is not system:nodes",
        Asked { dns: 1.., .. } => "DNS subjectAltNames are not allowed",
        Asked { emails: 1.., .. } => "Email subjectAltNames are not allowed",
        Asked { ips: 1.., .. } => "IP subjectAltNames are not allowed",
        Asked { uris: 1.., .. } => "URI subjectAltNames are not allowed",
        _ => return name_fault(asked).or_else(|| usages_fault(usages, "client auth")),
    };
    Some(fault.to_owned())
}

fn name_fault(asked: &Asked) -> Option<String> {
    let is_node = asked.common_name.starts_with("system:node:");
    (!is_node).then(|| "subject common name does not begin with system:node:".to_owned())
}

/// A node's certificate is for one purpose, signs, and may encipher keys, which only RSA needs.
fn usages_fault(usages: &[String], purpose: &str) -> Option<String> {
    let found: BTreeSet<&str> = usages.iter().map(String::as_str).collect();
    let required = BTreeSet::from(["digital signature", purpose]);
    let mut with_encipherment = required.clone();
    with_encipherment.insert("key encipherment");
    if found == required || found == with_encipherment {
        return None;
    }
    let names: Vec<&str> = with_encipherment.into_iter().collect();
    Some(format!("usages did not match [{}]", names.join(" ")))
}

fn client_usages_fault(usages: &[String]) -> Option<String> {
    let known = ["digital signature", "key encipherment", "client auth"];
    if let Some(other) = usages.iter().find(|usage| !known.contains(&usage.as_str())) {
        return Some(format!("invalid usage for client certificate: {other}"));
    }
    let is_client = usages.iter().any(|usage| usage == "client auth");
    (!is_client).then(|| "missing required usage for client certificate: client auth".to_owned())
}

#[cfg(test)]
pub(super) mod testing {
    /// A request, PEM, with these alternative DNS names.
    pub(in crate::certificates) fn pem(name: &str, group: &str, dns: &[&str]) -> String {
        use rcgen::{CertificateParams, DnType, KeyPair, SanType};
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, group);
        params.subject_alt_names = dns.iter().map(|n| SanType::DnsName((*n).try_into().unwrap())).collect();
        let key = KeyPair::generate().unwrap();
        params.serialize_request(&key).unwrap().pem().unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for() {
        let pem = testing::pem("system:node:a", "system:nodes", &["a.example", "b.example"]);
        let asked = Asked {
            common_name: "system:node:a".to_owned(),
            organisations: vec!["system:nodes".to_owned()],
            dns: 2,
            ..Asked::default()
        };
        assert_eq!(Asked::read(pem.as_bytes()), Some(asked));
        assert_eq!(Asked::read(b"nonsense"), None);
    }

    #[test]
    fn what_signers_take() {
        let node = || Asked {
            common_name: "system:node:a".to_owned(),
            organisations: vec!["system:nodes".to_owned()],
            ..Asked::default()
        };
        let check = |signer: &str, asked: Asked, usages: &[&str], want: Option<&str>| {
            let usages: Vec<String> = usages.iter().map(ToString::to_string).collect();
            assert_eq!(fault(signer, &asked, &usages).as_deref(), want, "{signer} {asked:?} {usages:?}");
        };
        let client = ["digital signature", "client auth"];
        check(KUBELET_CLIENT, node(), &client, None);
        check(KUBELET_CLIENT, node(), &["client auth", "key encipherment", "digital signature"], None);
        check(
            KUBELET_CLIENT,
            node(),
            &["client auth"],
            Some("usages did not match [client auth digital signature key encipherment]"),
        );
        check(
            KUBELET_CLIENT,
            Asked { dns: 1, ..node() },
            &client,
            Some("DNS subjectAltNames are not allowed"),
        );
        check(
            KUBELET_CLIENT,
            Asked { ips: 1, ..node() },
            &client,
            Some("IP subjectAltNames are not allowed"),
        );
        let jane = Asked { common_name: "jane".to_owned(), ..node() };
        check(KUBELET_CLIENT, jane, &client, Some("subject common name does not begin with system:node:"));
        let other = Asked { organisations: vec!["system:nodes".to_owned(), "a".to_owned()], ..node() };
        check(KUBELET_CLIENT, other, &client, Some("subject organization is not system:nodes"));

        let serving = ["digital signature", "server auth"];
        check(KUBELET_SERVING, Asked { ips: 1, ..node() }, &serving, None);
        check(KUBELET_SERVING, node(), &serving, Some("DNS or IP subjectAltName is required"));
        check(
            KUBELET_SERVING,
            Asked { dns: 1, uris: 1, ..node() },
            &serving,
            Some("URI subjectAltNames are not allowed"),
        );
        check(
            KUBELET_SERVING,
            Asked { dns: 1, ..node() },
            &client,
            Some("usages did not match [digital signature key encipherment server auth]"),
        );

        check(CLIENT, Asked::default(), &client, None);
        check(
            CLIENT,
            Asked::default(),
            &["server auth"],
            Some("invalid usage for client certificate: server auth"),
        );
        check(
            CLIENT,
            Asked::default(),
            &["digital signature"],
            Some("missing required usage for client certificate: client auth"),
        );
        check(LEGACY, Asked::default(), &[], None);
        check(
            "kubernetes.io/more",
            Asked::default(),
            &[],
            Some("unrecognized signerName: \"kubernetes.io/more\""),
        );
    }
}
