//! Rulesets as input of `nft`: what differs, in an order that is safe at every step. Pure.
//!
//! A change is a list of steps. Each step must be applied whole; between two steps every address is served as
//! before the change or as after it. So a change can be cut into several transactions where it is too large
//! for one: the kernel takes a transaction in a single message, and lets an ordinary user send at most twice
//! `net.core.wmem_max`, which is 416 KiB by default. A change of some hundred services is one transaction.

use std::collections::{BTreeMap, BTreeSet};

use crate::service::ruleset::{AFFINITY_CLIENTS, Family, Ruleset, RulesetConfig, base_chains};

/// The table's name.
pub(crate) const TABLE: &str = "xebec";

/// The most text in one transaction, in bytes. The kernel's form of a rule is up to six times as long.
const MAX_SCRIPT: usize = 48 * 1024;
/// Elements in one step; it is enough that a step is small.
const ELEMENTS_PER_STEP: usize = 64;

/// Reads the output of `nft --numeric list table`: what the kernel has of an earlier run. Rules are not
/// compared, so those of every chain count as changed.
pub fn observe(listing: &str, config: &RulesetConfig) -> Ruleset {
    let base: BTreeSet<_> = base_chains(config).iter().map(|(name, ..)| *name).collect();
    let mut observed = Ruleset::default();
    let mut lines = listing.lines();
    let mut inside = String::new();
    while let Some(line) = lines.next() {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            ["chain", name, "{"] if !base.contains(name) => {
                observed.chains.insert(name.to_owned(), Vec::new());
            }
            ["map" | "set", name, "{"] => {
                inside = name.to_owned();
                if !FIXED_SETS.contains(&name) {
                    observed.affinity.insert(name.to_owned());
                }
            }
            ["elements", "=", "{", ..] => {
                let mut text = line.split_once('{').expect("the words say so").1.to_owned();
                while !text.contains('}') {
                    let Some(more) = lines.next() else { break };
                    text += more;
                }
                let elements = text.split('}').next().unwrap_or_default().split(',').map(str::trim);
                observe_elements(&mut observed, &inside, elements.filter(|e| !e.is_empty()));
            }
            _ => {}
        }
    }
    observed
}

const FIXED_SETS: [&str; 3] = ["services", "unavailable", "hairpin"];

fn observe_elements<'a>(observed: &mut Ruleset, set: &str, elements: impl Iterator<Item = &'a str>) {
    let owned = elements.map(str::to_owned);
    match set {
        "unavailable" => observed.unavailable.extend(owned),
        "hairpin" => observed.hairpin.extend(owned),
        "services" => observed.services.extend(owned.filter_map(|element| {
            element.split_once(" : goto ").map(|(key, chain)| (key.to_owned(), chain.to_owned()))
        })),
        _ => {}
    }
}

/// Turns a table, whose fixed part may be missing or outdated, into that of `new`. `old` is what it has.
pub fn replace(config: &RulesetConfig, old: &Ruleset, new: &Ruleset) -> Vec<String> {
    let mut change = Change::new(config.family());
    change.declare_base(config);
    change.differ(old, new);
    pack(change.steps)
}

/// Makes the table anew, dropping everything that it had.
pub fn recreate(config: &RulesetConfig, new: &Ruleset) -> Vec<String> {
    let mut change = Change::new(config.family());
    let table = change.table.clone();
    change.steps.push(format!("add table {table}\ndelete table {table}\n"));
    change.declare_base(config);
    change.differ(&Ruleset::default(), new);
    pack(change.steps)
}

/// Turns the table of `old` into that of `new`; no script at all when they are the same.
pub fn difference(config: &RulesetConfig, old: &Ruleset, new: &Ruleset) -> Vec<String> {
    let mut change = Change::new(config.family());
    change.differ(old, new);
    pack(change.steps)
}

/// Joins steps into as few scripts as the limit allows.
fn pack(steps: Vec<String>) -> Vec<String> {
    let mut scripts: Vec<String> = Vec::new();
    for step in steps {
        match scripts.last_mut() {
            Some(last) if last.len() + step.len() <= MAX_SCRIPT => *last += &step,
            _ => scripts.push(step),
        }
    }
    scripts
}

struct Change {
    /// Family and name, as each command needs them.
    table: String,
    address_type: &'static str,
    steps: Vec<String>,
}

impl Change {
    fn new(family: Family) -> Self {
        let table = format!("{} {TABLE}", family.keyword());
        Self { table, address_type: family.address_type(), steps: Vec::new() }
    }

    fn step(&mut self, lines: impl IntoIterator<Item = String>) {
        self.steps.push(lines.into_iter().map(|line| line + "\n").collect());
    }

    fn declare_base(&mut self, config: &RulesetConfig) {
        let (table, address) = (&self.table, self.address_type);
        let vip = format!("type {address} . inet_proto . inet_service");
        let mut lines = vec![
            format!("add table {table}"),
            format!("add map {table} services {{ {vip} : verdict; }}"),
            format!("add set {table} unavailable {{ {vip}; }}"),
            format!("add set {table} hairpin {{ type {address} . {address}; }}"),
        ];
        let chains = base_chains(config);
        for (name, hook, _) in &chains {
            lines.push(format!("add chain {table} {name}{hook}"));
        }
        for (name, _, rules) in &chains {
            lines.push(format!("flush chain {table} {name}"));
            lines.extend(rules.iter().map(|rule| format!("add rule {table} {name} {rule}")));
        }
        self.step(lines);
    }

    fn differ(&mut self, old: &Ruleset, new: &Ruleset) {
        let (table, address) = (self.table.clone(), self.address_type);
        for set in new.affinity.difference(&old.affinity) {
            let kind = format!("type {address}; flags dynamic,timeout; size {AFFINITY_CLIENTS};");
            self.step([format!("add set {table} {set} {{ {kind} }}")]);
        }
        // In this order backends come before the services that go to them.
        for (chain, rules) in &new.chains {
            let before = old.chains.get(chain);
            if before != Some(rules) {
                let verb = if before.is_some() { "flush" } else { "add" };
                let rules = rules.iter().map(|rule| format!("add rule {table} {chain} {rule}"));
                self.step(std::iter::once(format!("{verb} chain {table} {chain}")).chain(rules));
            }
        }
        self.elements("add", "hairpin", new.hairpin.difference(&old.hairpin));
        self.change_services(&old.services, &new.services);
        self.elements("add", "unavailable", new.unavailable.difference(&old.unavailable));
        self.elements("delete", "unavailable", old.unavailable.difference(&new.unavailable));
        self.elements("delete", "hairpin", old.hairpin.difference(&new.hairpin));
        // Services first: nothing may go to a chain that is deleted.
        for chain in old.chains.keys().rev().filter(|c| !new.chains.contains_key(*c)) {
            self.step(["flush", "delete"].map(|verb| format!("{verb} chain {table} {chain}")));
        }
        for set in old.affinity.difference(&new.affinity) {
            self.step([format!("delete set {table} {set}")]);
        }
    }

    fn change_services(&mut self, old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) {
        let table = self.table.clone();
        let fresh = new.iter().filter(|(vip, _)| !old.contains_key(*vip));
        self.elements("add", "services", fresh.map(|(vip, chain)| format!("{vip} : goto {chain}")));
        for (vip, chain) in new {
            if old.get(vip).is_some_and(|before| before != chain) {
                self.step([
                    format!("delete element {table} services {{ {vip} }}"),
                    format!("add element {table} services {{ {vip} : goto {chain} }}"),
                ]);
            }
        }
        self.elements("delete", "services", old.keys().filter(|vip| !new.contains_key(*vip)));
    }

    fn elements<T: AsRef<str>>(&mut self, verb: &str, set: &str, elements: impl Iterator<Item = T>) {
        let elements: Vec<_> = elements.collect();
        for some in elements.chunks(ELEMENTS_PER_STEP) {
            let some: Vec<_> = some.iter().map(AsRef::as_ref).collect();
            self.step([format!("{verb} element {} {set} {{ {} }}", self.table, some.join(", "))]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::service::ruleset::Features;
    use crate::service::{Backend, Protocol, ServiceName, ServicePort, ServiceSpec, TrafficPolicy, Vip};

    fn config() -> RulesetConfig {
        let dns = Vip { ip: "10.43.0.10".parse().unwrap(), protocol: Protocol::Udp, port: 53 };
        RulesetConfig {
            service_range: "10.43.0.0/16".parse().unwrap(),
            local: [dns].into(),
            blocked: vec!["169.254.0.0/16".parse().unwrap()],
        }
    }

    /// `name vip protocol/port backend*`, where a backend in brackets is on another node.
    fn service(text: &str) -> ServiceSpec {
        let words: Vec<_> = text.split(' ').collect();
        let [name, ip, port, backends @ ..] = &words[..] else { panic!("{text}") };
        let (protocol, port) = port.split_once('/').unwrap();
        let backend = |text: &&str| Backend {
            address: text.trim_matches(['(', ')']).parse().unwrap(),
            ready: true,
            serving: true,
            terminating: false,
            local: !text.starts_with('('),
        };
        ServiceSpec {
            name: ServiceName::new("default", name).unwrap(),
            cluster_ips: vec![ip.parse().unwrap()],
            external_ips: Vec::new(),
            ports: vec![ServicePort {
                protocol: if protocol == "tcp" { Protocol::Tcp } else { Protocol::Udp },
                port: port.parse().unwrap(),
                node_port: None,
                backends: backends.iter().map(backend).collect(),
            }],
            affinity: None,
            internal_policy: TrafficPolicy::Cluster,
            external_policy: TrafficPolicy::Cluster,
        }
    }

    fn render(services: &[ServiceSpec]) -> Ruleset {
        Ruleset::render(&config(), Features::default(), services)
    }

    fn check(old: &[ServiceSpec], new: &[ServiceSpec], want: &str) {
        let got = difference(&config(), &render(old), &render(new)).concat();
        let want: Vec<_> = want.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
        assert_eq!(got.lines().collect::<Vec<_>>(), want);
    }

    #[test]
    fn a_new_service() {
        check(
            &[],
            &[service("web 10.43.0.5 tcp/80 10.42.0.3:8080 10.42.0.2:8080")],
            "add chain ip xebec service/default/web/tcp/80
             add rule ip xebec service/default/web/tcp/80 meta l4proto 6 dnat ip to numgen random mod 2 map { 0 : 10.42.0.2 . 8080, 1 : 10.42.0.3 . 8080 }
             add element ip xebec hairpin { 10.42.0.2 . 10.42.0.2, 10.42.0.3 . 10.42.0.3 }
             add element ip xebec services { 10.43.0.5 . 6 . 80 : goto service/default/web/tcp/80 }",
        );
    }

    #[test]
    fn nothing_to_do() {
        let web = || service("web 10.43.0.5 tcp/80 10.42.0.2:8080");
        check(&[web()], &[web()], "");
        check(&[], &[service("no-backends 10.43.0.5 tcp/80")], "");
        check(&[], &[service("dns 10.43.0.10 udp/53 10.42.0.2:53")], "");
        check(&[], &[service("six fd00::1 tcp/80 [fd00::2]:80")], "");
    }

    #[test]
    fn backends_come_and_go() {
        check(
            &[service("web 10.43.0.5 tcp/80 10.42.0.2:8080")],
            &[service("web 10.43.0.5 tcp/80 10.42.0.3:8080")],
            "flush chain ip xebec service/default/web/tcp/80
             add rule ip xebec service/default/web/tcp/80 meta l4proto 6 dnat to 10.42.0.3:8080
             add element ip xebec hairpin { 10.42.0.3 . 10.42.0.3 }
             delete element ip xebec hairpin { 10.42.0.2 . 10.42.0.2 }",
        );
        check(
            &[service("web 10.43.0.5 tcp/80 10.42.0.2:8080")],
            &[service("web 10.43.0.5 tcp/80")],
            "delete element ip xebec services { 10.43.0.5 . 6 . 80 }
             delete element ip xebec hairpin { 10.42.0.2 . 10.42.0.2 }
             flush chain ip xebec service/default/web/tcp/80
             delete chain ip xebec service/default/web/tcp/80",
        );
        check(
            &[service("a 10.43.0.5 tcp/80 10.42.0.2:80")],
            &[service("b 10.43.0.5 tcp/80 10.42.0.2:80")],
            "add chain ip xebec service/default/b/tcp/80
             add rule ip xebec service/default/b/tcp/80 meta l4proto 6 dnat to 10.42.0.2:80
             delete element ip xebec services { 10.43.0.5 . 6 . 80 }
             add element ip xebec services { 10.43.0.5 . 6 . 80 : goto service/default/b/tcp/80 }
             flush chain ip xebec service/default/a/tcp/80
             delete chain ip xebec service/default/a/tcp/80",
        );
    }

    #[test]
    fn clients_that_stay_with_a_backend() {
        let mut web = service("web 10.43.0.5 udp/53 10.42.0.2:53 10.42.0.3:53");
        web.affinity = Some(Duration::from_secs(10_800));
        check(
            &[],
            std::slice::from_ref(&web),
            "add set ip xebec clients/default/web/udp/53/10.42.0.2/53 { type ipv4_addr; flags dynamic,timeout; size 65535; }
             add set ip xebec clients/default/web/udp/53/10.42.0.3/53 { type ipv4_addr; flags dynamic,timeout; size 65535; }
             add chain ip xebec backend/default/web/udp/53/10.42.0.2/53
             add rule ip xebec backend/default/web/udp/53/10.42.0.2/53 update @clients/default/web/udp/53/10.42.0.2/53 { ip saddr timeout 10800s }
             add rule ip xebec backend/default/web/udp/53/10.42.0.2/53 meta l4proto 17 dnat to 10.42.0.2:53
             add chain ip xebec backend/default/web/udp/53/10.42.0.3/53
             add rule ip xebec backend/default/web/udp/53/10.42.0.3/53 update @clients/default/web/udp/53/10.42.0.3/53 { ip saddr timeout 10800s }
             add rule ip xebec backend/default/web/udp/53/10.42.0.3/53 meta l4proto 17 dnat to 10.42.0.3:53
             add chain ip xebec service/default/web/udp/53
             add rule ip xebec service/default/web/udp/53 ip saddr @clients/default/web/udp/53/10.42.0.2/53 goto backend/default/web/udp/53/10.42.0.2/53
             add rule ip xebec service/default/web/udp/53 ip saddr @clients/default/web/udp/53/10.42.0.3/53 goto backend/default/web/udp/53/10.42.0.3/53
             add rule ip xebec service/default/web/udp/53 numgen random mod 2 vmap { 0 : goto backend/default/web/udp/53/10.42.0.2/53, 1 : goto backend/default/web/udp/53/10.42.0.3/53 }
             add element ip xebec hairpin { 10.42.0.2 . 10.42.0.2, 10.42.0.3 . 10.42.0.3 }
             add element ip xebec services { 10.43.0.5 . 17 . 53 : goto service/default/web/udp/53 }",
        );
        // With one backend left there is nothing to remember.
        let mut alone = web.clone();
        alone.ports[0].backends.truncate(1);
        check(
            &[web],
            &[alone],
            "flush chain ip xebec service/default/web/udp/53
             add rule ip xebec service/default/web/udp/53 meta l4proto 17 dnat to 10.42.0.2:53
             delete element ip xebec hairpin { 10.42.0.3 . 10.42.0.3 }
             flush chain ip xebec backend/default/web/udp/53/10.42.0.3/53
             delete chain ip xebec backend/default/web/udp/53/10.42.0.3/53
             flush chain ip xebec backend/default/web/udp/53/10.42.0.2/53
             delete chain ip xebec backend/default/web/udp/53/10.42.0.2/53
             delete set ip xebec clients/default/web/udp/53/10.42.0.2/53
             delete set ip xebec clients/default/web/udp/53/10.42.0.3/53",
        );
    }

    #[test]
    fn what_a_lesser_kernel_gets() {
        let without = Features { dynamic_sets: false, random: false };
        let check = |affinity: Option<u64>, want: &str| {
            let mut web = service("web 10.43.0.5 udp/53 10.42.0.2:53 10.42.0.3:53");
            web.affinity = affinity.map(Duration::from_secs);
            let ruleset = Ruleset::render(&config(), without, &[web]);
            let map = "map { 0 : 10.42.0.2 . 53, 1 : 10.42.0.3 . 53 }";
            let rule = format!("meta l4proto 17 dnat ip to {want} mod 2 {map}");
            assert_eq!(ruleset.chains["service/default/web/udp/53"], [rule]);
            assert!(ruleset.affinity.is_empty());
        };
        check(None, "jhash ip saddr . th sport");
        check(Some(60), "jhash ip saddr");
    }

    #[test]
    fn policies_and_external_addresses() {
        let mut web = service("web 10.43.0.5 tcp/80 10.42.0.2:80 (10.42.1.2:80)");
        web.external_ips = vec!["192.0.2.9".parse().unwrap()];
        let same = render(std::slice::from_ref(&web));
        assert_eq!(same.chains.keys().collect::<Vec<_>>(), ["service/default/web/tcp/80"]);
        assert_eq!(same.services.len(), 2);

        web.internal_policy = TrafficPolicy::Local;
        let apart = render(std::slice::from_ref(&web));
        assert_eq!(apart.chains["service/default/web/tcp/80"], ["meta l4proto 6 dnat to 10.42.0.2:80"]);
        assert!(apart.chains["service/default/web/tcp/80/external"][0].contains("10.42.1.2 . 80"));

        web.ports[0].backends.clear();
        let nobody = render(&[web]);
        assert!(nobody.chains.is_empty() && nobody.services.is_empty());
        assert_eq!(nobody.unavailable, ["192.0.2.9 . 6 . 80".to_owned()].into());
    }

    #[test]
    fn the_first_by_name_gets_an_address() {
        let services =
            [service("b 10.43.0.5 tcp/80 10.42.0.2:80"), service("a 10.43.0.5 tcp/80 10.42.0.3:80")];
        let ruleset = render(&services);
        assert_eq!(ruleset.services.values().collect::<Vec<_>>(), ["service/default/a/tcp/80"]);
        assert_eq!(ruleset.chains.len(), 1);
    }

    #[test]
    fn taking_over_an_earlier_table() {
        let listing = "table ip xebec {
            map services {
                type ipv4_addr . inet_proto . inet_service : verdict
                elements = { 10.43.0.5 . 6 . 80 : goto service/default/web/tcp/80,
                             10.43.0.6 . 6 . 1 : goto service/default/old/tcp/1 }
            }
            set hairpin {
                type ipv4_addr . ipv4_addr
                elements = { 10.42.0.2 . 10.42.0.2 }
            }
            set unavailable {
                type ipv4_addr . inet_proto . inet_service
            }
            set clients/default/old/tcp/1/10.42.0.2/1 {
                type ipv4_addr
                size 65535
                flags dynamic,timeout
                elements = { 10.42.0.1 timeout 1m expires 59s, 10.42.0.2 timeout 1m expires 3s }
            }
            chain refuse {
                meta l4proto 6 reject with tcp reset
                reject
            }
            chain service/default/web/tcp/80 {
                meta l4proto 6 dnat to 10.42.0.2:8080
            }
            chain service/default/old/tcp/1 {
                meta l4proto 6 dnat to 10.42.0.2:1
            }
        }";
        let web = render(&[service("web 10.43.0.5 tcp/80 10.42.0.2:8080")]);
        let script = difference(&config(), &observe(listing, &config()), &web).concat();
        let want = [
            "flush chain ip xebec service/default/web/tcp/80",
            "add rule ip xebec service/default/web/tcp/80 meta l4proto 6 dnat to 10.42.0.2:8080",
            "delete element ip xebec services { 10.43.0.6 . 6 . 1 }",
            "flush chain ip xebec service/default/old/tcp/1",
            "delete chain ip xebec service/default/old/tcp/1",
            "delete set ip xebec clients/default/old/tcp/1/10.42.0.2/1",
        ];
        assert_eq!(script.lines().collect::<Vec<_>>(), want);
        for torn in 0..listing.len() {
            observe(&listing[..torn], &config());
        }
    }

    #[test]
    fn large_changes_are_cut_between_steps() {
        let services: Vec<_> = (0..1000_u16)
            .map(|n| service(&format!("s{n} 10.43.{}.{} tcp/80 10.42.0.2:80", n / 250, n % 250)))
            .collect();
        let scripts = difference(&config(), &Ruleset::default(), &render(&services));
        assert!(scripts.len() > 1);
        assert!(scripts.iter().all(|s| s.len() <= MAX_SCRIPT));
        let mut chains = BTreeSet::new();
        for line in scripts.concat().lines() {
            if let Some(chain) = line.strip_prefix("add chain ip xebec ") {
                chains.insert(chain.to_owned());
            }
            for goto in line.split("goto ").skip(1) {
                let chain = goto.split([',', ' ']).next().unwrap();
                assert!(chains.contains(chain), "{chain} is used before it exists");
            }
        }
        assert_eq!(chains.len(), 1000);
    }

    #[test]
    fn the_fixed_part() {
        let got = recreate(&config(), &Ruleset::default()).concat();
        let want = "add table ip xebec
            delete table ip xebec
            add table ip xebec
            add map ip xebec services { type ipv4_addr . inet_proto . inet_service : verdict; }
            add set ip xebec unavailable { type ipv4_addr . inet_proto . inet_service; }
            add set ip xebec hairpin { type ipv4_addr . ipv4_addr; }
            add chain ip xebec refuse
            add chain ip xebec prerouting { type nat hook prerouting priority -100; policy accept; }
            add chain ip xebec output { type nat hook output priority -100; policy accept; }
            add chain ip xebec postrouting { type nat hook postrouting priority 100; policy accept; }
            add chain ip xebec input { type filter hook input priority 0; policy accept; }
            add chain ip xebec forward { type filter hook forward priority 0; policy accept; }
            add chain ip xebec node-output { type filter hook output priority 0; policy accept; }
            flush chain ip xebec refuse
            add rule ip xebec refuse meta l4proto 6 reject with tcp reset
            add rule ip xebec refuse reject
            flush chain ip xebec prerouting
            add rule ip xebec prerouting ip daddr . meta l4proto . th dport vmap @services
            flush chain ip xebec output
            add rule ip xebec output ip daddr . meta l4proto . th dport vmap @services
            flush chain ip xebec postrouting
            add rule ip xebec postrouting ct status dnat ip saddr . ip daddr @hairpin masquerade
            add rule ip xebec postrouting oifname xout0 masquerade
            flush chain ip xebec input
            add rule ip xebec input iifname xout0 ct state new drop
            flush chain ip xebec forward
            add rule ip xebec forward ct state invalid drop
            add rule ip xebec forward iifname xout0 ct state new drop
            add rule ip xebec forward ip daddr . meta l4proto . th dport @unavailable goto refuse
            add rule ip xebec forward ip daddr 10.43.0.0/16 goto refuse
            add rule ip xebec forward oifname xout0 ip daddr 169.254.0.0/16 goto refuse
            flush chain ip xebec node-output
            add rule ip xebec node-output ip daddr . meta l4proto . th dport @unavailable goto refuse
            add rule ip xebec node-output ip daddr 10.43.0.0/16 fib daddr type != local goto refuse";
        let want: Vec<_> = want.lines().map(str::trim).collect();
        assert_eq!(got.lines().collect::<Vec<_>>(), want);
    }
}
