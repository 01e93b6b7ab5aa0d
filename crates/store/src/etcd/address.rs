//! Where an etcd is, and where in it the data: `etcd://HOST:PORT[,HOST:PORT…][/PREFIX]`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::{Key, KeyError};

const SCHEME: &str = "etcd://";
const PREFIX: &str = "/xebec";
/// The most members of one etcd that may be named.
pub(super) const MAX_ENDPOINTS: usize = 16;

/// The members of an etcd, and the path below which all keys stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdAddress {
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) prefix: Key,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// A name or an address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

/// Why a text is no address of an etcd.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It does not start with `etcd://`.
    #[error(
        "{text:?} is no address of a store: write etcd://HOST:PORT, several members with commas between, then /PREFIX"
    )]
    Scheme {
        /// The text.
        text: String,
    },
    /// A member is not written as host and port.
    #[error("{member:?} is no member of an etcd: write HOST:PORT, an IPv6 address in brackets")]
    Member {
        /// The member.
        member: String,
    },
    /// Too many members.
    #[error("{count} members are more than the limit of {limit}", limit = MAX_ENDPOINTS)]
    TooMany {
        /// How many there are.
        count: usize,
    },
    /// The prefix is no path.
    #[error("the prefix cannot be used: {0}")]
    Prefix(#[from] KeyError),
}

impl EtcdAddress {
    /// Whether every member is on this machine, so that nobody else sees what is said to it.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let loopback = |host: &str| host.parse().map_or(host == "localhost", |ip: IpAddr| ip.is_loopback());
        self.endpoints.iter().all(|endpoint| loopback(&endpoint.host))
    }
}

impl FromStr for EtcdAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text.strip_prefix(SCHEME).ok_or_else(|| AddressError::Scheme { text: text.to_owned() })?;
        let (members, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let endpoints: Vec<_> = members.split(',').map(str::parse).collect::<Result<_, _>>()?;
        if endpoints.len() > MAX_ENDPOINTS {
            return Err(AddressError::TooMany { count: endpoints.len() });
        }
        let path = match path.trim_end_matches('/') {
            "" => PREFIX,
            path => path,
        };
        Ok(Self { endpoints, prefix: Key::new(path)? })
    }
}

impl fmt::Display for EtcdAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(SCHEME)?;
        for (place, endpoint) in self.endpoints.iter().enumerate() {
            out.write_str(if place == 0 { "" } else { "," })?;
            endpoint.fmt(out)?;
        }
        self.prefix.fmt(out)
    }
}

impl FromStr for Endpoint {
    type Err = AddressError;

    fn from_str(member: &str) -> Result<Self, Self::Err> {
        let wrong = || AddressError::Member { member: member.to_owned() };
        let (host, port) = member.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inner) => inner,
            None if host.contains([':', '[', ']']) => return Err(wrong()),
            None => host,
        };
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c == '@') {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(out, "[{host}]:{port}") } else { write!(out, "{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::EtcdAddress;

    #[test]
    fn addresses_are_read_and_shown() {
        for (text, shown, loopback) in [
            ("etcd://127.0.0.1:2379", "etcd://127.0.0.1:2379/xebec", true),
            ("etcd://localhost:2379/", "etcd://localhost:2379/xebec", true),
            ("etcd://[::1]:2379/a/b/", "etcd://[::1]:2379/a/b", true),
            ("etcd://a:1,b.example:2,10.0.0.1:3/x", "etcd://a:1,b.example:2,10.0.0.1:3/x", false),
            ("etcd://127.0.0.1:1,10.0.0.1:2", "etcd://127.0.0.1:1,10.0.0.1:2/xebec", false),
        ] {
            let address: EtcdAddress = text.parse().expect(text);
            assert_eq!((address.to_string().as_str(), address.is_loopback()), (shown, loopback));
            assert_eq!(shown.parse(), Ok(address));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let many = format!("etcd://{}", ["a:1"; 17].join(","));
        for (text, want) in [
            ("https://a:1", "no address of a store"),
            ("etcd://", "\"\" is no member"),
            ("etcd://a", "\"a\" is no member"),
            ("etcd://a:", "\"a:\" is no member"),
            ("etcd://a:1,", "\"\" is no member"),
            ("etcd://::1:2379", "is no member"),
            ("etcd://user@a:1", "is no member"),
            ("etcd://a:70000", "is no member"),
            ("etcd://a:1//x", "empty segment"),
            (&many, "17 members are more"),
        ] {
            let error = text.parse::<EtcdAddress>().expect_err(text).to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
    }
}
