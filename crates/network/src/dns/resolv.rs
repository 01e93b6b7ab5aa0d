//! The host's resolver configuration, `resolv.conf(5)`.

use std::net::IpAddr;

/// As many servers as the C library asks.
const MAX_SERVERS: usize = 3;
/// The most search domains that Kubernetes lets a pod have.
const MAX_SEARCH: usize = 32;

/// What of a `resolv.conf` matters here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// Servers, the first one first.
    pub servers: Vec<IpAddr>,
    /// Domains in which short names are looked up.
    pub search: Vec<String>,
}

impl ResolvConf {
    /// Reads a file's text. Lines that mean nothing here, or nothing at all, are passed over as the C library
    /// does.
    pub fn parse(text: &str) -> Self {
        let mut conf = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    // Link-local servers need an interface, which this program doesn't choose.
                    let server = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                    let room = conf.servers.len() < MAX_SERVERS;
                    conf.servers.extend(server.filter(|_| room));
                }
                // The last of these lines counts.
                Some("search" | "domain") => {
                    conf.search = words.take(MAX_SEARCH).map(str::to_owned).collect();
                }
                _ => {}
            }
        }
        conf
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts() {
        let check = |text: &str, servers: &[&str], search: &[&str]| {
            let conf = ResolvConf::parse(text);
            let got: Vec<_> = conf.servers.iter().map(IpAddr::to_string).collect();
            assert_eq!(
                (&got[..], &conf.search[..]),
                (
                    &servers.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()[..],
                    &search.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()[..],
                )
            );
        };
        check("", &[], &[]);
        check("nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n", &["127.0.0.53"], &["."]);
        check("# nameserver 1.1.1.1\n;x\n  nameserver\t192.0.2.1 # x\n", &["192.0.2.1"], &[]);
        check("nameserver fe80::1%eth0\nnameserver ::1\nnameserver what\nnameserver", &["::1"], &[]);
        check("domain a.example\nsearch b.example c.example\n", &[], &["b.example", "c.example"]);
        let many = "nameserver 192.0.2.1\n".repeat(9);
        check(&many, &["192.0.2.1"; 3], &[]);
    }
}
