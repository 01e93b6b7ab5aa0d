//! What the operator chose.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use xebec_api::pod_security::{Level, Policy};

use crate::audit::AuditSettings;
use crate::auth::oidc::AuthenticationConfiguration;
use crate::authz::Role;

/// The issuer of service-account tokens: the API, as pods reach it.
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// A server's settings. [`Settings::default`] is what a cluster on one machine uses.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the audit log has, and where it is; there is none otherwise.
    pub audit: Option<AuditSettings>,
    /// Issuers of service-account tokens: the first signs, tokens of the others are taken too.
    pub issuers: Vec<String>,
    /// The audiences of the API, for which tokens must be meant; those of the default are its issuer.
    pub audiences: Vec<String>,
    /// Who else issues tokens, and who may ask without saying who they are.
    pub authentication: Arc<AuthenticationConfiguration>,
    /// Where the issuer's keys are; `None`: at the issuer, under `/openid/v1/jwks`.
    pub jwks_url: Option<String>,
    /// Where the API is reached, `https://127.0.0.1:6443`: what kubeconfigs and discovery say.
    pub url: String,
    /// First three octets and length of the network that service addresses come from.
    pub service_network: ServiceNetwork,
    /// Ports that NodePorts come from.
    pub node_ports: std::ops::RangeInclusive<u16>,
    /// What pods are held to in namespaces whose labels say nothing of it, `kube-system` apart, where they may do anything.
    pub pod_security: Policy,
    /// Roles of Xebec's own components.
    pub component_roles: Vec<Role>,
    /// How many requests that change data run at once, of those that flow control exempts. This and the next two hold once
    /// for components in this process, once for members of `system:masters`, and once for everybody else. Together with
    /// the next one it is how many seats flow control divides.
    pub max_mutating: usize,
    /// How many requests that read data run at once, of those that flow control exempts; watches do not count.
    pub max_reading: usize,
    /// How many bytes the bodies of requests under way hold; those of one user at most a quarter of it.
    pub max_body_bytes: usize,
    /// How many requests of one user are under way, from their body on.
    pub max_user_requests: usize,
    /// How many watches are open at once; these too are counted apart for components, and for members of `system:masters`.
    pub max_watches: usize,
    /// How long a watch lasts when the client does not say, at least; up to twice as long, so that not all end at once.
    pub watch_timeout: Duration,
    /// How often a watch that wants bookmarks gets one.
    pub bookmark_interval: Duration,
    /// How long a request may take, watches and streams apart.
    pub request_timeout: Duration,
    /// How long a server that is to stop goes on, no longer ready, while those who watch leave one after the other.
    pub shutdown_delay: Duration,
    /// How long a token of a service account lasts when the client does not say.
    pub token_lifetime: Duration,
    /// How long it lasts at most; a client that asks for more gets this, and a warning.
    pub max_token_lifetime: Duration,
}

/// The IPv4 network of service addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceNetwork {
    /// Its first address.
    pub base: std::net::Ipv4Addr,
    /// Its prefix length.
    pub length: u8,
}

impl ServiceNetwork {
    /// The address number `n` of the network; `None` beyond its end.
    #[must_use]
    pub fn address(self, n: u32) -> Option<std::net::Ipv4Addr> {
        (n < self.size()).then(|| std::net::Ipv4Addr::from(u32::from(self.base) + n))
    }

    /// How many addresses it has.
    #[must_use]
    pub fn size(self) -> u32 {
        1_u32.checked_shl(32 - u32::from(self.length)).unwrap_or(u32::MAX)
    }

    /// Whether it holds `ip`.
    #[must_use]
    pub fn contains(self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => {
                u32::from(ip).checked_sub(u32::from(self.base)).is_some_and(|n| n < self.size())
            }
            IpAddr::V6(_) => false,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            audit: None,
            issuers: vec![ISSUER.into()],
            audiences: vec![ISSUER.into()],
            authentication: Arc::default(),
            jwks_url: None,
            url: "https://127.0.0.1:6443".into(),
            service_network: ServiceNetwork { base: std::net::Ipv4Addr::new(10, 43, 0, 0), length: 16 },
            node_ports: 30000..=32767,
            pod_security: Policy::latest(Level::Baseline, Level::Baseline, Level::Restricted),
            component_roles: Vec::new(),
            max_mutating: 200,
            max_reading: 400,
            max_body_bytes: 256 * 1024 * 1024,
            max_user_requests: 100,
            max_watches: 20_000,
            watch_timeout: Duration::from_mins(30),
            bookmark_interval: Duration::from_mins(1),
            request_timeout: Duration::from_mins(1),
            shutdown_delay: Duration::ZERO,
            token_lifetime: Duration::from_hours(1),
            max_token_lifetime: Duration::from_hours(24),
        }
    }
}
