//! DNS messages of anybody: queries are answered from a zone, responses are kept; what is written reads as the same.
#![no_main]

use std::sync::LazyLock;

use xebec_fuzz::target;
use xebec_network::dns::name::Name;
use xebec_network::dns::resolv::ResolvConf;
use xebec_network::dns::zone::{EndpointNames, PortName, ServiceNames, ServiceNamesKind, Zone, ZoneSpec};
use xebec_network::fuzzing;
use xebec_network::service::Protocol;

static ZONE: LazyLock<Zone> = LazyLock::new(|| {
    let port = PortName { name: "http".to_owned(), protocol: Protocol::Tcp, port: 80 };
    let ip = |text: &str| text.parse().expect("an address");
    let endpoints = (1..60).map(|host| EndpointNames {
        ip: ip(&format!("10.42.0.{host}")),
        hostname: (host % 2 == 0).then(|| format!("h{host}")),
        ports: vec![port.clone()],
    });
    let service = |name: &str, kind| ServiceNames { namespace: "a".to_owned(), name: name.to_owned(), kind };
    let spec = ZoneSpec {
        domain: "c.l".to_owned(),
        dns: vec![ip("10.43.0.10")],
        ranges: vec!["10.42.0.0/16".parse().expect("a range"), "10.43.0.0/16".parse().expect("a range")],
        services: vec![
            service("w", ServiceNamesKind::ClusterIps { ips: vec![ip("10.43.0.5")], ports: vec![port.clone()] }),
            service("e", ServiceNamesKind::Endpoints(endpoints.collect())),
            service("x", ServiceNamesKind::External("w.a.svc.c.l".to_owned())),
            service("l", ServiceNamesKind::External("l.a.svc.c.l".to_owned())),
        ],
        pods: vec![("a".to_owned(), ip("10.42.0.9"))],
    };
    Zone::build(&spec).expect("a zone")
});

/// A message with one question, records and a section's counts.
fn message(flags: u16, name: &str, kind: u16, counts: [u16; 3], records: &[u8]) -> Vec<u8> {
    let mut message = [7_u16, flags, 1].map(u16::to_be_bytes).concat();
    message.extend(counts.map(u16::to_be_bytes).concat());
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend([kind, 1].map(u16::to_be_bytes).concat());
    message.extend(records);
    message
}

fn seeds() -> Vec<Vec<u8>> {
    const OPT: &[u8] = &[0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0];
    let a = &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 1, 2, 3, 4];
    let soa = [&[0xc0, 12, 0, 6, 0, 1, 0, 0, 0, 9, 0, 24, 0xc0, 12, 0xc0, 12][..], &[0; 20]].concat();
    let srv = &[0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 9, 0, 8, 0, 0, 0, 1, 0, 80, 0xc0, 12];
    let cname = &[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 3, 1, b'x', 0];
    let mut seeds: Vec<Vec<u8>> = [("w.a.svc.c.l", 1), ("e.a.svc.c.l", 1), ("_http._tcp.e.a.svc.c.l", 33), ("x.a.svc.c.l", 1)]
        .into_iter()
        .chain([("l.a.svc.c.l", 28), ("5.0.43.10.in-addr.arpa", 12), ("example.com", 255), ("c.l", 6), ("10-42-0-9.a.pod.c.l", 1)])
        .map(|(name, kind)| message(0x0100, name, kind, [0, 0, 1], OPT))
        .collect();
    seeds.push(message(0x8180, "a.b", 1, [2, 1, 1], &[&a[..], cname, &soa, srv].concat()));
    seeds.push(message(0x8180, "a.b", 15, [1, 0, 1], &[&[0xc0, 12, 0, 15, 0, 1, 0, 0, 0, 9, 0, 4, 0, 1, 0xc0, 14][..], OPT].concat()));
    seeds.push(b"nameserver 10.0.0.1\nsearch a b c\nnameserver ::1\noptions ndots:5\n".to_vec());
    seeds
}

target!("network_dns", seeds(), |data| {
    fuzzing::dns_message(data, &ZONE);
    let Ok(text) = std::str::from_utf8(data) else { return };
    drop(ResolvConf::parse(text));
    if let Ok(name) = Name::parse(text) {
        drop(Name::parse(&name.to_string()));
    }
    if let Ok(cidr) = text.parse::<xebec_network::cidr::Cidr>() {
        assert_eq!(cidr.to_string().parse(), Ok(cidr));
    }
});
