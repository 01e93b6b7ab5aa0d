//! Messages that were damaged at random, from a fixed seed: reading and answering them never panics, and what
//! is answered can be read.

use std::net::IpAddr;

use crate::dns::message::{CLASS_IN, Query, Question, UpstreamResponse, kind};
use crate::dns::name::Name;
use crate::dns::zone::{Answer, EndpointNames, PortName, ServiceNames, ServiceNamesKind, Zone, ZoneSpec};
use crate::service::Protocol;

const ROUNDS: u32 = 20_000;

/// A small generator (xorshift64); quality hardly matters here, sameness does.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }

    fn damage(&mut self, message: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let at = self.below(message.len().max(1));
            match self.below(6) {
                0 => message.truncate(at),
                1 if at < message.len() => message[at] ^= 1 << self.below(8),
                2 if at < message.len() => message[at] = [0, 0xff, 0xc0, 0x3f, 12, 41][self.below(6)],
                3 => message.insert(at, 0xc0),
                4 if at < message.len() => drop(message.remove(at)),
                _ => message.extend_from_within(at.min(message.len())..),
            }
            message.truncate(2000);
        }
    }
}

fn zone() -> Zone {
    let port = PortName { name: "http".to_owned(), protocol: Protocol::Tcp, port: 80 };
    let endpoint =
        |n| EndpointNames { ip: IpAddr::from([10, 42, 0, n]), hostname: None, ports: vec![port.clone()] };
    let service = |name: &str, kind| ServiceNames { namespace: "a".to_owned(), name: name.to_owned(), kind };
    Zone::build(&ZoneSpec {
        domain: "cluster.local".to_owned(),
        ranges: vec!["10.42.0.0/15".parse().unwrap()],
        services: vec![
            service("b", ServiceNamesKind::Endpoints((2..60).map(endpoint).collect())),
            service("c", ServiceNamesKind::External("example.com".to_owned())),
        ],
        ..ZoneSpec::default()
    })
    .unwrap()
}

fn questions() -> Vec<Vec<u8>> {
    let ask = |name: &str, kind| {
        let question = Question { name: Name::parse(name).unwrap(), kind, class: CLASS_IN };
        Query::upstream(1, question, true, false).encode()
    };
    vec![
        ask("_http._tcp.b.a.svc.cluster.local", kind::SRV),
        ask("b.a.svc.cluster.local", kind::A),
        ask("c.a.svc.cluster.local", kind::ANY),
        ask("2.0.42.10.in-addr.arpa", kind::PTR),
        ask("cluster.local", kind::SOA),
    ]
}

#[test]
fn damaged_queries() {
    let (zone, questions) = (zone(), questions());
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut understood = 0;
    for round in 0..ROUNDS {
        let mut message = questions[random.below(questions.len())].clone();
        random.damage(&mut message);
        let Ok(query) = Query::decode(&message) else { continue };
        understood += 1;
        let (Answer::Reply(response) | Answer::Alias { so_far: response, .. }) =
            zone.answer(&query.question, random.below(100))
        else {
            continue;
        };
        for limit in [query.udp_limit(), 65_535] {
            let reply = query.respond(&response, limit);
            assert!(reply.len() <= limit, "round {round}");
            let read = UpstreamResponse::decode(&reply).unwrap_or_else(|e| panic!("round {round}: {e}"));
            assert_eq!(read.question, query.question, "round {round}");
        }
    }
    assert!(understood > ROUNDS / 20, "only {understood} of {ROUNDS} were still queries");
}

#[test]
fn damaged_responses() {
    let zone = zone();
    let reply = |message: &Vec<u8>| {
        let query = Query::decode(message).unwrap();
        match zone.answer(&query.question, 0) {
            Answer::Reply(response) | Answer::Alias { so_far: response, .. } => {
                query.respond(&response, 1232)
            }
            Answer::NotOurs => panic!("all questions are the zone's"),
        }
    };
    let replies: Vec<_> = questions().iter().map(reply).collect();
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut understood = 0;
    for _ in 0..ROUNDS {
        let mut message = replies[random.below(replies.len())].clone();
        random.damage(&mut message);
        if let Ok(read) = UpstreamResponse::decode(&message) {
            understood += 1;
            let query = Query::upstream(1, read.question, false, false);
            query.respond(&read.response, 65_535);
        }
    }
    assert!(understood > ROUNDS / 20, "only {understood} of {ROUNDS} were still responses");
}
