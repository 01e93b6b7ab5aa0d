//! The cluster's names: built from what exists, asked without IO.
//!
//! Follows the Kubernetes DNS specification 1.1.0. Beyond it, `a-b-c-d.NS.pod.DOMAIN` names a pod that has that
//! address in that namespace, and no other.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use crate::cidr::Cidr;
use crate::dns::message::{CLASS_ANY, CLASS_IN, Data, Question, Rcode, Record, Response, kind};
use crate::dns::name::{Name, NameError};
use crate::dns::reverse::{dashed, is_reverse, parse_reverse, reverse};
use crate::service::Protocol;

/// How long answers may be kept, in seconds: short, because pods come and go.
const TTL: u32 = 5;
/// The version of the specification that the records follow.
const VERSION: &str = "1.1.0";

/// Aliases of aliases that are followed.
const MAX_ALIASES: usize = 8;

/// Everything that has a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ZoneSpec {
    /// The cluster's domain, such as `cluster.local`.
    pub domain: String,
    /// The addresses of this DNS.
    pub dns: Vec<IpAddr>,
    /// Ranges of pods and services: their addresses are looked up here and nowhere else.
    pub ranges: Vec<Cidr>,
    /// The services.
    pub services: Vec<ServiceNames>,
    /// The pods: namespace and address.
    pub pods: Vec<(String, IpAddr)>,
}

/// What names a service has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceNames {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Where the names lead.
    pub kind: ServiceNamesKind,
}

/// Where a service's names lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceNamesKind {
    /// To addresses of its own.
    ClusterIps {
        /// The addresses.
        ips: Vec<IpAddr>,
        /// The ports.
        ports: Vec<PortName>,
    },
    /// To its endpoints: a headless service.
    Endpoints(Vec<EndpointNames>),
    /// To another name.
    External(String),
}

/// A port that may be looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortName {
    /// Its name; a port without one can't be looked up.
    pub name: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
}

/// One endpoint of a headless service that should have names: it is ready, or its service publishes those that
/// are not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointNames {
    /// Its address.
    pub ip: IpAddr,
    /// Its host name. Without one, its address stands for it.
    pub hostname: Option<String>,
    /// Its ports.
    pub ports: Vec<PortName>,
}

/// What the zone says to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This is the answer.
    Reply(Response),
    /// The zone is not about this name.
    NotOurs,
    /// The name is another name outside the zone, which must be asked elsewhere.
    Alias {
        /// What is known so far.
        so_far: Response,
        /// The other name.
        target: Name,
    },
}

/// All names of a cluster at one moment.
#[derive(Debug)]
pub struct Zone {
    domain: Name,
    ranges: Vec<Cidr>,
    /// Every name that exists; one that only has names below it has no records.
    records: HashMap<Name, Vec<Data>>,
    soa: Data,
    problems: Vec<String>,
}

impl Zone {
    /// Builds the zone. What can't be named is left out and told by [`Zone::problems`].
    pub fn build(spec: &ZoneSpec) -> Result<Self, NameError> {
        let domain = Name::parse(&spec.domain)?;
        let primary = domain.child("dns")?.child("ns")?;
        let mailbox = domain.child("hostmaster")?;
        // Serial, refresh, retry, expire, and how long "no such name" may be kept.
        let soa = Data::Soa { primary: primary.clone(), mailbox, numbers: [1, 7200, 1800, 86_400, TTL] };
        let mut zone = Self {
            domain: domain.clone(),
            ranges: spec.ranges.clone(),
            records: HashMap::new(),
            soa: soa.clone(),
            problems: Vec::new(),
        };
        zone.add(domain.clone(), soa);
        zone.add(domain.clone(), Data::Ns(primary.clone()));
        spec.dns.iter().for_each(|ip| zone.add(primary.clone(), address(*ip)));
        let text = [&[u8::try_from(VERSION.len()).expect("it is short")], VERSION.as_bytes()].concat();
        zone.add(domain.child("dns-version")?, Data::Txt(text.into()));
        for part in ["svc", "pod"] {
            zone.exists(domain.child(part)?);
        }
        for service in &spec.services {
            if let Err(error) = zone.add_service(service) {
                zone.problems.push(format!("service {}/{}: {error}", service.namespace, service.name));
            }
        }
        for (namespace, ip) in &spec.pods {
            let name =
                domain.child("pod").and_then(|n| n.child(namespace)).and_then(|n| n.child(&dashed(*ip)));
            match name {
                Ok(name) => zone.add(name, address(*ip)),
                Err(error) => zone.problems.push(format!("pod {namespace}/{ip}: {error}")),
            }
        }
        Ok(zone)
    }

    /// What has no name, and why.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    fn add_service(&mut self, service: &ServiceNames) -> Result<(), NameError> {
        let name = self.domain.child("svc")?.child(&service.namespace)?.child(&service.name)?;
        match &service.kind {
            ServiceNamesKind::ClusterIps { ips, ports } => {
                for ip in ips {
                    self.add(name.clone(), address(*ip));
                    self.add(reverse(*ip), Data::Ptr(name.clone()));
                }
                for port in ports {
                    self.add_port(&name, port, &name)?;
                }
                self.exists(name);
            }
            ServiceNamesKind::Endpoints(endpoints) => {
                for endpoint in endpoints {
                    let host = endpoint.hostname.clone().unwrap_or_else(|| dashed(endpoint.ip));
                    let host = name.child(&host)?;
                    self.add(name.clone(), address(endpoint.ip));
                    self.add(host.clone(), address(endpoint.ip));
                    self.add(reverse(endpoint.ip), Data::Ptr(host.clone()));
                    for port in &endpoint.ports {
                        self.add_port(&name, port, &host)?;
                    }
                }
            }
            ServiceNamesKind::External(target) => {
                let target = Name::parse(target)?;
                self.add(name, Data::Cname(target));
            }
        }
        Ok(())
    }

    fn add_port(&mut self, service: &Name, port: &PortName, target: &Name) -> Result<(), NameError> {
        if port.name.is_empty() {
            return Ok(());
        }
        let name = service.child(&format!("_{}", port.protocol))?.child(&format!("_{}", port.name))?;
        self.add(name, Data::Srv { priority: 0, weight: 100, port: port.port, target: target.clone() });
        Ok(())
    }

    fn add(&mut self, name: Name, data: Data) {
        self.exists(name.clone());
        let records = self.records.entry(name).or_default();
        if !records.contains(&data) {
            records.push(data);
        }
    }

    /// Notes that a name exists, and so do those above it.
    fn exists(&mut self, name: Name) {
        let mut next = Some(name);
        while let Some(name) = next {
            if self.records.contains_key(&name) || !(name.is_in(&self.domain) || is_reverse(&name)) {
                return;
            }
            next = name.parent();
            self.records.insert(name, Vec::new());
        }
    }

    /// Answers `question`. Of several records the one at `turn` comes first, so that clients which take the
    /// first spread over all.
    pub fn answer(&self, question: &Question, turn: usize) -> Answer {
        let apex = if question.name.is_in(&self.domain) {
            self.domain.clone()
        } else if let Some(apex) = self.reverse_apex(&question.name) {
            apex
        } else {
            return Answer::NotOurs;
        };
        if ![CLASS_IN, CLASS_ANY].contains(&question.class)
            || [kind::AXFR, kind::IXFR].contains(&question.kind)
        {
            return Answer::Reply(Response::empty(Rcode::Refused));
        }
        let mut response = Response { authoritative: true, ..Response::empty(Rcode::NoError) };
        let mut name = question.name.clone();
        for _ in 0..MAX_ALIASES {
            let Some(records) = self.records.get(&name) else {
                return Answer::Reply(self.negative(Rcode::NxDomain, apex, response));
            };
            let Some(target) =
                alias_of(records).filter(|_| ![kind::CNAME, kind::ANY].contains(&question.kind))
            else {
                return Answer::Reply(self.finish(response, &name, records, question.kind, turn, apex));
            };
            response.answers.push(record(&name, Data::Cname(target.clone())));
            name = target.clone();
            if !name.is_in(&self.domain) {
                return Answer::Alias { so_far: response, target: name };
            }
        }
        Answer::Reply(Response::empty(Rcode::ServFail))
    }

    fn finish(
        &self,
        mut response: Response,
        name: &Name,
        records: &[Data],
        wanted: u16,
        turn: usize,
        apex: Name,
    ) -> Response {
        let matches = |data: &&Data| wanted == kind::ANY || data.kind() == wanted;
        let mut found: Vec<_> = records.iter().filter(matches).cloned().collect();
        if found.is_empty() {
            return self.negative(Rcode::NoError, apex, response);
        }
        let first = turn % found.len();
        found.rotate_left(first);
        response.additionals = self.addresses_of_targets(&found);
        response.answers.extend(found.into_iter().map(|data| record(name, data)));
        response
    }

    fn addresses_of_targets(&self, found: &[Data]) -> Vec<Record> {
        let mut seen = BTreeSet::new();
        let mut additionals = Vec::new();
        for data in found {
            let Data::Srv { target, .. } = data else { continue };
            if seen.insert(target.wire()) {
                let addresses = self.records.get(target).map_or(&[][..], Vec::as_slice);
                let addresses = addresses.iter().filter(|d| matches!(d, Data::A(_) | Data::Aaaa(_)));
                additionals.extend(addresses.map(|data| record(target, data.clone())));
            }
        }
        additionals
    }

    /// "No such name" or "no such record", and how long that may be kept (RFC 2308).
    fn negative(&self, rcode: Rcode, apex: Name, so_far: Response) -> Response {
        let soa = Record { name: apex, ttl: TTL, data: self.soa.clone() };
        Response { rcode, authorities: vec![soa], ..so_far }
    }

    /// The name that stands for the range in which the address is that `name` spells backwards, if it is one
    /// of this cluster's.
    fn reverse_apex(&self, name: &Name) -> Option<Name> {
        let ip = parse_reverse(name)?;
        let range = self.ranges.iter().find(|range| range.contains(ip))?;
        let (parts, per_part) = if ip.is_ipv4() { (4, 8) } else { (32, 4) };
        let below = parts - usize::from(range.prefix_len()) / per_part;
        Name::from_labels(name.labels().skip(below)).ok()
    }
}

fn alias_of(records: &[Data]) -> Option<&Name> {
    records.iter().find_map(|data| match data {
        Data::Cname(target) => Some(target),
        _ => None,
    })
}

fn record(name: &Name, data: Data) -> Record {
    Record { name: name.clone(), ttl: TTL, data }
}

fn address(ip: IpAddr) -> Data {
    match ip {
        IpAddr::V4(ip) => Data::A(ip),
        IpAddr::V6(ip) => Data::Aaaa(ip),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str, port: u16) -> PortName {
        PortName { name: name.to_owned(), protocol: Protocol::Tcp, port }
    }

    fn endpoint(ip: &str, hostname: Option<&str>) -> EndpointNames {
        let hostname = hostname.map(str::to_owned);
        EndpointNames { ip: ip.parse().unwrap(), hostname, ports: vec![port("http", 8080)] }
    }

    fn service(name: &str, kind: ServiceNamesKind) -> ServiceNames {
        ServiceNames { namespace: "default".to_owned(), name: name.to_owned(), kind }
    }

    fn cluster_ips(ips: &[&str]) -> ServiceNamesKind {
        let ips = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        ServiceNamesKind::ClusterIps { ips, ports: vec![port("http", 80), port("", 81)] }
    }

    fn zone() -> Zone {
        let external = |name: &str| ServiceNamesKind::External(name.to_owned());
        let pets = vec![
            endpoint("10.42.0.5", Some("rex")),
            endpoint("10.42.0.6", None),
            endpoint("fd00:42::7", Some("tom")),
        ];
        Zone::build(&ZoneSpec {
            domain: "cluster.local".to_owned(),
            dns: vec!["10.43.0.10".parse().unwrap()],
            ranges: vec!["10.42.0.0/16".parse().unwrap(), "10.43.0.0/20".parse().unwrap()],
            services: vec![
                service("web", cluster_ips(&["10.43.0.5"])),
                service("dual", cluster_ips(&["10.43.0.6", "fd00:43::6"])),
                service("pets", ServiceNamesKind::Endpoints(pets)),
                service("empty", ServiceNamesKind::Endpoints(Vec::new())),
                service("far", external("www.example.com")),
                service("near", external("web.default.svc.cluster.local.")),
                service("lost", external("gone.default.svc.cluster.local")),
                service("loop", external("loop.default.svc.cluster.local")),
                service("bad", external("a..b")),
            ],
            pods: vec![("default".to_owned(), "10.42.0.9".parse().unwrap())],
        })
        .unwrap()
    }

    fn kind_of(text: &str) -> u16 {
        match text {
            "A" => kind::A,
            "AAAA" => kind::AAAA,
            "SRV" => kind::SRV,
            "PTR" => kind::PTR,
            "TXT" => kind::TXT,
            "CNAME" => kind::CNAME,
            "SOA" => kind::SOA,
            "NS" => kind::NS,
            "ANY" => kind::ANY,
            "AXFR" => kind::AXFR,
            other => panic!("{other}"),
        }
    }

    fn show(record: &Record) -> String {
        let data = match &record.data {
            Data::A(ip) => format!("A {ip}"),
            Data::Aaaa(ip) => format!("AAAA {ip}"),
            Data::Ns(name) => format!("NS {name}"),
            Data::Cname(name) => format!("CNAME {name}"),
            Data::Ptr(name) => format!("PTR {name}"),
            Data::Txt(text) => format!("TXT {:?}", String::from_utf8_lossy(&text[1..])),
            Data::Srv { port, target, .. } => format!("SRV {port} {target}"),
            Data::Soa { .. } => "SOA".to_owned(),
            other => format!("{other:?}"),
        };
        format!("{} {data}", record.name)
    }

    /// Asks `NAME TYPE`; the answer is the outcome, then a line for each record, `+` for additional ones.
    fn ask(zone: &Zone, question: &str, turn: usize) -> Vec<String> {
        let (name, wanted) = question.split_once(' ').unwrap();
        let name = Name::parse(name).unwrap();
        let question = Question { name, kind: kind_of(wanted), class: CLASS_IN };
        let (response, target) = match zone.answer(&question, turn) {
            Answer::NotOurs => return vec!["not ours".to_owned()],
            Answer::Reply(response) => (response, None),
            Answer::Alias { so_far, target } => (so_far, Some(target)),
        };
        let mut lines = vec![format!("{:?}", response.rcode)];
        lines.extend(response.answers.iter().map(show));
        lines.extend(response.authorities.iter().map(show));
        lines.extend(response.additionals.iter().map(|r| format!("+ {}", show(r))));
        lines.extend(target.map(|name| format!("then ask {name}")));
        lines
    }

    #[track_caller]
    fn check(question: &str, want: &[&str]) {
        assert_eq!(ask(&zone(), question, 0), want, "{question}");
    }

    const NO_RECORD: [&str; 2] = ["NoError", "cluster.local. SOA"];
    const NO_NAME: [&str; 2] = ["NxDomain", "cluster.local. SOA"];

    #[test]
    fn services_with_addresses() {
        check("web.default.svc.cluster.local A", &["NoError", "web.default.svc.cluster.local. A 10.43.0.5"]);
        check("WEB.Default.svc.CLUSTER.local A", &["NoError", "WEB.Default.svc.CLUSTER.local. A 10.43.0.5"]);
        check("web.default.svc.cluster.local AAAA", &NO_RECORD);
        check(
            "dual.default.svc.cluster.local AAAA",
            &["NoError", "dual.default.svc.cluster.local. AAAA fd00:43::6"],
        );
        check(
            "_http._tcp.web.default.svc.cluster.local SRV",
            &[
                "NoError",
                "_http._tcp.web.default.svc.cluster.local. SRV 80 web.default.svc.cluster.local.",
                "+ web.default.svc.cluster.local. A 10.43.0.5",
            ],
        );
        check("_tcp.web.default.svc.cluster.local SRV", &NO_RECORD);
        check("_udp.web.default.svc.cluster.local SRV", &NO_NAME);
        check(
            "5.0.43.10.in-addr.arpa PTR",
            &["NoError", "5.0.43.10.in-addr.arpa. PTR web.default.svc.cluster.local."],
        );
    }

    #[test]
    fn headless_services() {
        check(
            "pets.default.svc.cluster.local A",
            &[
                "NoError",
                "pets.default.svc.cluster.local. A 10.42.0.5",
                "pets.default.svc.cluster.local. A 10.42.0.6",
            ],
        );
        let turned = ask(&zone(), "pets.default.svc.cluster.local A", 1);
        assert_eq!(turned[1], "pets.default.svc.cluster.local. A 10.42.0.6");
        check(
            "rex.pets.default.svc.cluster.local A",
            &["NoError", "rex.pets.default.svc.cluster.local. A 10.42.0.5"],
        );
        check("rex.pets.default.svc.cluster.local AAAA", &NO_RECORD);
        check(
            "10-42-0-6.pets.default.svc.cluster.local A",
            &["NoError", "10-42-0-6.pets.default.svc.cluster.local. A 10.42.0.6"],
        );
        check(
            "_http._tcp.pets.default.svc.cluster.local SRV",
            &[
                "NoError",
                "_http._tcp.pets.default.svc.cluster.local. SRV 8080 rex.pets.default.svc.cluster.local.",
                "_http._tcp.pets.default.svc.cluster.local. SRV 8080 10-42-0-6.pets.default.svc.cluster.local.",
                "_http._tcp.pets.default.svc.cluster.local. SRV 8080 tom.pets.default.svc.cluster.local.",
                "+ rex.pets.default.svc.cluster.local. A 10.42.0.5",
                "+ 10-42-0-6.pets.default.svc.cluster.local. A 10.42.0.6",
                "+ tom.pets.default.svc.cluster.local. AAAA fd00:42::7",
            ],
        );
        check(
            "5.0.42.10.in-addr.arpa PTR",
            &["NoError", "5.0.42.10.in-addr.arpa. PTR rex.pets.default.svc.cluster.local."],
        );
        check("empty.default.svc.cluster.local A", &NO_NAME);
    }

    #[test]
    fn aliases() {
        let alias = "far.default.svc.cluster.local. CNAME www.example.com.";
        check("far.default.svc.cluster.local A", &["NoError", alias, "then ask www.example.com."]);
        check("far.default.svc.cluster.local CNAME", &["NoError", alias]);
        check(
            "near.default.svc.cluster.local A",
            &[
                "NoError",
                "near.default.svc.cluster.local. CNAME web.default.svc.cluster.local.",
                "web.default.svc.cluster.local. A 10.43.0.5",
            ],
        );
        let lost = "lost.default.svc.cluster.local. CNAME gone.default.svc.cluster.local.";
        check("lost.default.svc.cluster.local A", &["NxDomain", lost, "cluster.local. SOA"]);
        check("loop.default.svc.cluster.local A", &["ServFail"]);
        check("bad.default.svc.cluster.local A", &NO_NAME);
        assert_eq!(zone().problems(), ["service default/bad: a label of a domain name needs 1 to 63 bytes"]);
    }

    #[test]
    fn the_zone_itself_and_pods() {
        check("dns-version.cluster.local TXT", &["NoError", "dns-version.cluster.local. TXT \"1.1.0\""]);
        check("cluster.local SOA", &["NoError", "cluster.local. SOA"]);
        check("cluster.local NS", &["NoError", "cluster.local. NS ns.dns.cluster.local."]);
        check("ns.dns.cluster.local A", &["NoError", "ns.dns.cluster.local. A 10.43.0.10"]);
        check("cluster.local A", &NO_RECORD);
        for inner in ["svc", "pod", "default.svc", "default.pod"] {
            check(&format!("{inner}.cluster.local A"), &NO_RECORD);
        }
        check(
            "10-42-0-9.default.pod.cluster.local A",
            &["NoError", "10-42-0-9.default.pod.cluster.local. A 10.42.0.9"],
        );
        check("10-42-0-8.default.pod.cluster.local A", &NO_NAME);
        check("10-42-0-9.other.pod.cluster.local A", &NO_NAME);
        check("cluster.local AXFR", &["Refused"]);
        let any = ask(&zone(), "cluster.local ANY", 0);
        assert_eq!(any.len(), 3, "{any:?}");
    }

    #[test]
    fn what_belongs_elsewhere() {
        for question in [
            "example.com A",
            "local A",
            "xcluster.local A",
            "1.0.0.127.in-addr.arpa PTR",
            "9.16.43.10.in-addr.arpa PTR",
            "43.10.in-addr.arpa PTR",
            "x.0.43.10.in-addr.arpa PTR",
            ". NS",
        ] {
            check(question, &["not ours"]);
        }
        check("nothing.default.svc.cluster.local A", &NO_NAME);
        check("9.0.42.10.in-addr.arpa PTR", &["NxDomain", "42.10.in-addr.arpa. SOA"]);
        check("9.15.43.10.in-addr.arpa PTR", &["NxDomain", "43.10.in-addr.arpa. SOA"]);
    }
}
