//! Values of Kubernetes' libraries: addresses, URLs, quantities, versions, formats and what authorization is asked about.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::authz::{Authority, Decision, PathCheck, ResourceCheck};
use crate::functions::named::Format;
use crate::functions::quantity::Quantity;
use crate::functions::semver::Semver;
use crate::functions::url::Url;

/// A value of one of the libraries.
#[derive(Clone)]
pub enum Opaque<'a> {
    /// `net.IP`.
    Ip(IpAddr),
    /// `net.CIDR`: an address and the length of its prefix.
    Cidr(IpAddr, u8),
    /// `kubernetes.URL`.
    Url(Arc<Url>),
    /// `kubernetes.Quantity`.
    Quantity(Quantity),
    /// `kubernetes.Semver`.
    Semver(Arc<Semver>),
    /// `kubernetes.NamedFormat`.
    Format(&'static Format),
    /// `kubernetes.authorization.Authorizer`.
    Authorizer(Authority<'a>),
    /// `kubernetes.authorization.PathCheck`.
    PathCheck(Arc<PathCheck<'a>>),
    /// `kubernetes.authorization.GroupCheck`.
    GroupCheck(Arc<ResourceCheck<'a>>),
    /// `kubernetes.authorization.ResourceCheck`.
    ResourceCheck(Arc<ResourceCheck<'a>>),
    /// `kubernetes.authorization.Decision`.
    Decision(Arc<Decision>),
}

impl Opaque<'_> {
    /// The name of its type.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Ip(_) => "net.IP",
            Self::Cidr(..) => "net.CIDR",
            Self::Url(_) => "kubernetes.URL",
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Semver(_) => "kubernetes.Semver",
            Self::Format(_) => "kubernetes.NamedFormat",
            Self::Authorizer(_) => "kubernetes.authorization.Authorizer",
            Self::PathCheck(_) => "kubernetes.authorization.PathCheck",
            Self::GroupCheck(_) => "kubernetes.authorization.GroupCheck",
            Self::ResourceCheck(_) => "kubernetes.authorization.ResourceCheck",
            Self::Decision(_) => "kubernetes.authorization.Decision",
        }
    }

    /// Whether two of the same type are equal; `None` if they cannot be compared.
    pub(crate) fn equals(&self, other: &Self) -> Option<bool> {
        match (self, other) {
            (Self::Ip(a), Self::Ip(b)) => Some(a == b),
            (Self::Cidr(a, x), Self::Cidr(b, y)) => Some(a == b && x == y),
            (Self::Url(a), Self::Url(b)) => Some(a == b),
            (Self::Quantity(a), Self::Quantity(b)) => Some(a == b),
            (Self::Semver(a), Self::Semver(b)) => Some(a.same_precedence(b)),
            (Self::Format(a), Self::Format(b)) => Some(a.name == b.name),
            _ => None,
        }
    }

    /// How large the costs take it to be.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Ip(IpAddr::V4(_)) => 4,
            Self::Ip(IpAddr::V6(_)) => 16,
            Self::Cidr(_, bits) => u64::from(bits.div_ceil(8)),
            _ => 1,
        }
    }
}

impl fmt::Debug for Opaque<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => write!(f, "ip(\"{address}\")"),
            Self::Cidr(address, bits) => write!(f, "cidr(\"{address}/{bits}\")"),
            Self::Url(url) => write!(f, "url({:?})", url.text()),
            Self::Quantity(quantity) => quantity.fmt(f),
            Self::Semver(version) => version.fmt(f),
            Self::Format(format) => write!(f, "format({})", format.name),
            other => f.write_str(other.type_name()),
        }
    }
}
