//! The rules that a set of services needs: a pure function of the services and the node's ranges.
//!
//! There is one nftables table, called `xebec`, for each address family:
//!
//! ```text
//!  prerouting, output (nat)      address . protocol . port ──map services──▶ chain of the service port
//!    service/NS/NAME/tcp/80        dnat to a random backend
//!    ... with client affinity      client in a backend's set? that backend; else a random one
//!      backend/NS/NAME/tcp/80/IP/PORT   notes the client in the backend's set, dnat
//!  forward, node-output (filter) a packet that is still for a service has no backend: refuse at once
//!  postrouting (nat)             a pod that reached itself, and the way out: masquerade
//! ```
//!
//! Names of chains and sets are the same for the same service port and backend, so that a change touches
//! only what it is about, and affinity survives changes elsewhere and restarts.
//!
//! Room for network policy: the forward chain sees pods' own addresses, after the service address was
//! replaced and before anything is masqueraded. A policy chain belongs at its end, jumped to for packets
//! whose source or destination is in a set of isolated pods; the node's own probes come by `node-output`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::cidr::Cidr;
use crate::egress::EGRESS_LINK;
use crate::service::{Protocol, ServiceSpec, TrafficPolicy, Vip, eligible};

/// The most clients that one backend's affinity set remembers.
pub(crate) const AFFINITY_CLIENTS: u32 = 65_535;

/// What rules depend on besides the services. All ranges are of one address family.
#[derive(Debug, Clone)]
pub struct RulesetConfig {
    /// All services of the family.
    pub service_range: Cidr,
    /// Service ports that are answered in the node's namespace itself: DNS and the API server.
    pub local: BTreeSet<Vip>,
    /// Where pods may not go by the way out. Link-local addresses are here by default: clouds offer their
    /// machines' credentials there.
    pub blocked: Vec<Cidr>,
}

impl RulesetConfig {
    pub(crate) fn family(&self) -> Family {
        if self.service_range.network().is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

/// An address family in nftables' words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    /// Names the table's family and the header that rules match on.
    pub(crate) fn keyword(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }

    pub(crate) fn address_type(self) -> &'static str {
        match self {
            Self::V4 => "ipv4_addr",
            Self::V6 => "ipv6_addr",
        }
    }

    fn has(self, ip: IpAddr) -> bool {
        ip.is_ipv4() == (self == Self::V4)
    }
}

/// What the kernel and the `nft` program can do. All of it, as far as anyone knows, until a probe says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// Choosing at random. Without it, the client's address and port choose.
    pub random: bool,
    /// Sets that rules add to. Without them, the client's address chooses its backend for ever.
    pub dynamic_sets: bool,
}

impl Default for Features {
    fn default() -> Self {
        Self { random: true, dynamic_sets: true }
    }
}

/// The part of a table that depends on services, in nftables' words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// Rules of each chain.
    pub(crate) chains: BTreeMap<String, Vec<String>>,
    /// Which chain serves an address.
    pub(crate) services: BTreeMap<String, String>,
    /// Addresses outside the service range that nobody serves now.
    pub(crate) unavailable: BTreeSet<String>,
    /// All backends twice: one that reaches itself needs its source replaced.
    pub(crate) hairpin: BTreeSet<String>,
    /// Sets of clients that stay with a backend.
    pub(crate) affinity: BTreeSet<String>,
    /// Who may answer at each UDP address; flows to anyone else are stale.
    pub(crate) udp: BTreeMap<Vip, BTreeSet<SocketAddr>>,
}

impl Ruleset {
    /// The rules for `services`. When two services claim an address, the first by name gets it.
    pub fn render(config: &RulesetConfig, features: Features, services: &[ServiceSpec]) -> Self {
        let mut ordered: Vec<_> = services.iter().collect();
        ordered.sort_by(|a, b| a.name.cmp(&b.name));
        let mut ruleset = Self::default();
        for service in ordered {
            ruleset.add_service(config, features, service);
        }
        ruleset
    }

    fn add_service(&mut self, config: &RulesetConfig, features: Features, service: &ServiceSpec) {
        let family = config.family();
        for port in &service.ports {
            let vips = |ips: &[IpAddr]| -> Vec<Vip> {
                let vip = |ip| Vip { ip, protocol: port.protocol, port: port.port };
                let ours = |ip: &IpAddr| family.has(*ip);
                ips.iter().copied().filter(ours).map(vip).filter(|v| !config.local.contains(v)).collect()
            };
            let within = |policy| -> Vec<SocketAddr> {
                eligible(&port.backends, policy).into_iter().filter(|a| family.has(a.ip())).collect()
            };
            // Inside the cluster even an external address means every backend: the policy for external
            // traffic is about keeping the client's address, which is not lost here.
            let internal = within(service.internal_policy);
            let external = within(TrafficPolicy::Cluster);
            let id = format!("{}/{}/{}", service.name, port.protocol, port.port);
            let (protocol, affinity) = (port.protocol, service.affinity);
            let target = Target { family, features, protocol, affinity, service_range: config.service_range };
            self.add_port(&target, &id, &vips(&service.cluster_ips), &internal);
            let id = if internal == external { id } else { format!("{id}/external") };
            self.add_port(&target, &id, &vips(&service.external_ips), &external);
        }
    }

    fn add_port(&mut self, target: &Target, id: &str, vips: &[Vip], backends: &[SocketAddr]) {
        let mut claimed = false;
        for vip in vips {
            let key = format!("{} . {} . {}", vip.ip, number(vip.protocol), vip.port);
            if self.services.contains_key(&key) || self.unavailable.contains(&key) {
                continue;
            }
            claimed = true;
            if !backends.is_empty() {
                self.services.insert(key, format!("service/{id}"));
            } else if !target.service_range.contains(vip.ip) {
                self.unavailable.insert(key);
            }
            if vip.protocol == Protocol::Udp {
                self.udp.insert(*vip, backends.iter().copied().collect());
            }
        }
        if claimed && !backends.is_empty() {
            self.add_chains(target, id, backends);
            self.hairpin.extend(backends.iter().map(|b| format!("{0} . {0}", b.ip())));
        }
    }

    fn add_chains(&mut self, target: &Target, id: &str, backends: &[SocketAddr]) {
        let chain = format!("service/{id}");
        let remembered = target.affinity.filter(|_| target.features.dynamic_sets && backends.len() > 1);
        let Some(timeout) = remembered else {
            self.chains.insert(chain, vec![target.choose(backends)]);
            return;
        };
        let mut rules = Vec::new();
        let mut any = Vec::new();
        for (n, backend) in backends.iter().enumerate() {
            let suffix = format!("{id}/{}/{}", backend.ip().to_string().replace(':', "."), backend.port());
            let (set, next) = (format!("clients/{suffix}"), format!("backend/{suffix}"));
            let saddr = format!("{} saddr", target.family.keyword());
            rules.push(format!("{saddr} @{set} goto {next}"));
            any.push(format!("{n} : goto {next}"));
            let note = format!("update @{set} {{ {saddr} timeout {}s }}", timeout.as_secs().max(1));
            self.chains.insert(next, vec![note, target.send_to(*backend)]);
            self.affinity.insert(set);
        }
        rules.push(format!("{} vmap {{ {} }}", target.selector(backends.len()), any.join(", ")));
        self.chains.insert(chain, rules);
    }
}

/// What is the same for every rule of a service's port.
struct Target {
    family: Family,
    features: Features,
    protocol: Protocol,
    affinity: Option<Duration>,
    service_range: Cidr,
}

impl Target {
    /// An expression that is a number below `count`.
    fn selector(&self, count: usize) -> String {
        let saddr = format!("{} saddr", self.family.keyword());
        if self.affinity.is_some() && !self.features.dynamic_sets {
            format!("jhash {saddr} mod {count}")
        } else if self.features.random {
            format!("numgen random mod {count}")
        } else {
            format!("jhash {saddr} . th sport mod {count}")
        }
    }

    fn choose(&self, backends: &[SocketAddr]) -> String {
        if let [only] = backends {
            return self.send_to(*only);
        }
        let targets: Vec<_> =
            backends.iter().enumerate().map(|(n, b)| format!("{n} : {} . {}", b.ip(), b.port())).collect();
        let (protocol, family) = (number(self.protocol), self.family.keyword());
        let selector = self.selector(backends.len());
        format!("meta l4proto {protocol} dnat {family} to {selector} map {{ {} }}", targets.join(", "))
    }

    fn send_to(&self, backend: SocketAddr) -> String {
        format!("meta l4proto {} dnat to {backend}", number(self.protocol))
    }
}

/// The protocol's number. Names need `/etc/protocols`, which a small system may not have.
fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    }
}

/// The chains that every packet meets, whatever the services are: name, hook, rules.
pub(crate) fn base_chains(config: &RulesetConfig) -> Vec<(&'static str, &'static str, Vec<String>)> {
    let ip = config.family().keyword();
    let range = config.service_range;
    let out = EGRESS_LINK;
    let served = format!("{ip} daddr . meta l4proto . th dport vmap @services");
    let unserved = format!("{ip} daddr . meta l4proto . th dport @unavailable goto refuse");
    let unasked = format!("iifname {out} ct state new drop");
    let mut forward = vec![
        "ct state invalid drop".to_owned(),
        unasked.clone(),
        unserved.clone(),
        format!("{ip} daddr {range} goto refuse"),
    ];
    forward
        .extend(config.blocked.iter().map(|range| format!("oifname {out} {ip} daddr {range} goto refuse")));
    let postrouting = vec![
        format!("ct status dnat {ip} saddr . {ip} daddr @hairpin masquerade"),
        format!("oifname {out} masquerade"),
    ];
    let node_output = vec![unserved, format!("{ip} daddr {range} fib daddr type != local goto refuse")];
    let refuse = vec!["meta l4proto 6 reject with tcp reset".to_owned(), "reject".to_owned()];
    vec![
        ("refuse", "", refuse),
        ("prerouting", " { type nat hook prerouting priority -100; policy accept; }", vec![served.clone()]),
        ("output", " { type nat hook output priority -100; policy accept; }", vec![served]),
        ("postrouting", " { type nat hook postrouting priority 100; policy accept; }", postrouting),
        ("input", " { type filter hook input priority 0; policy accept; }", vec![unasked]),
        ("forward", " { type filter hook forward priority 0; policy accept; }", forward),
        ("node-output", " { type filter hook output priority 0; policy accept; }", node_output),
    ]
}
