//! DNS messages, and reading them (RFC 1035 §4, RFC 6891 for EDNS).
//!
//! What is read comes from anybody. Reading never panics, never goes round in circles, and keeps no more than
//! the message had.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::dns::name::{Name, NameError};

/// Record types that this program knows by name.
pub(crate) mod kind {
    pub(crate) const A: u16 = 1;
    pub(crate) const NS: u16 = 2;
    pub(crate) const CNAME: u16 = 5;
    pub(crate) const SOA: u16 = 6;
    pub(crate) const PTR: u16 = 12;
    pub(crate) const MX: u16 = 15;
    pub(crate) const TXT: u16 = 16;
    pub(crate) const AAAA: u16 = 28;
    pub(crate) const SRV: u16 = 33;
    pub(crate) const OPT: u16 = 41;
    pub(crate) const IXFR: u16 = 251;
    pub(crate) const AXFR: u16 = 252;
    pub(crate) const ANY: u16 = 255;
}

/// The Internet's class, the only one served.
pub(crate) const CLASS_IN: u16 = 1;
pub(crate) const CLASS_ANY: u16 = 255;

pub(crate) const HEADER: usize = 12;
pub(crate) const FLAG_RESPONSE: u16 = 0x8000;
pub(crate) const FLAG_AUTHORITATIVE: u16 = 0x0400;
pub(crate) const FLAG_TRUNCATED: u16 = 0x0200;
pub(crate) const FLAG_RECURSION_DESIRED: u16 = 0x0100;
pub(crate) const FLAG_RECURSION_AVAILABLE: u16 = 0x0080;
pub(crate) const FLAG_CHECKING_DISABLED: u16 = 0x0010;
pub(crate) const EDNS_DNSSEC_OK: u32 = 0x8000;

/// The largest UDP message that is sent and asked for; it fits any path without fragments.
pub(crate) const UDP_SIZE: u16 = 1232;
/// What fits every UDP client.
const CLASSIC_UDP_SIZE: u16 = 512;

/// The outcome that a response states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the registry")]
pub enum Rcode {
    NoError,
    FormErr,
    ServFail,
    NxDomain,
    NotImp,
    Refused,
    BadVers,
    Other(u8),
}

impl Rcode {
    pub(crate) fn value(self) -> u16 {
        match self {
            Self::NoError => 0,
            Self::FormErr => 1,
            Self::ServFail => 2,
            Self::NxDomain => 3,
            Self::NotImp => 4,
            Self::Refused => 5,
            Self::BadVers => 16,
            Self::Other(value) => value.into(),
        }
    }

    fn of_header(flags: u16) -> Self {
        match flags & 0xf {
            0 => Self::NoError,
            1 => Self::FormErr,
            2 => Self::ServFail,
            3 => Self::NxDomain,
            4 => Self::NotImp,
            5 => Self::Refused,
            other => Self::Other(other.to_be_bytes()[1]),
        }
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    /// The name, as the client spelled it.
    pub name: Name,
    /// The record type.
    pub kind: u16,
    /// The class.
    pub class: u16,
}

/// A client's EDNS options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edns {
    udp_size: u16,
    version: u8,
    pub(crate) dnssec_ok: bool,
}

/// A query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    pub(crate) id: u16,
    pub(crate) recursion_desired: bool,
    pub(crate) checking_disabled: bool,
    pub(crate) question: Question,
    pub(crate) edns: Option<Edns>,
}

/// A message that is no query to be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotAQuery {
    /// Too short or a response: answering would only make noise.
    Ignore,
    /// The sender deserves this error, with as much of the header as was understood.
    Refuse(Vec<u8>),
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its owner.
    pub name: Name,
    /// How long it may be kept, in seconds.
    pub ttl: u32,
    /// What it says.
    pub data: Data,
}

/// What a record says. Types whose names other servers may compress are taken apart; the others are bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the registry")]
pub enum Data {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Ns(Name),
    Cname(Name),
    Ptr(Name),
    Mx { preference: u16, exchange: Name },
    Txt(Box<[u8]>),
    Srv { priority: u16, weight: u16, port: u16, target: Name },
    Soa { primary: Name, mailbox: Name, numbers: [u32; 5] },
    Other { kind: u16, bytes: Box<[u8]> },
}

/// The answer to a query, before it is written for one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The outcome.
    pub rcode: Rcode,
    /// It comes from the zone's owner.
    pub authoritative: bool,
    /// The answer section.
    pub answers: Vec<Record>,
    /// The authority section.
    pub authorities: Vec<Record>,
    /// The additional section, without OPT.
    pub additionals: Vec<Record>,
}

impl Response {
    /// An outcome without records.
    pub(crate) fn empty(rcode: Rcode) -> Self {
        Self {
            rcode,
            authoritative: false,
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
        }
    }
}

impl Query {
    /// Reads a query.
    pub(crate) fn decode(message: &[u8]) -> Result<Self, NotAQuery> {
        let mut reader = Reader { message, at: 0 };
        let header = reader.header().map_err(|_| NotAQuery::Ignore)?;
        if header.flags & FLAG_RESPONSE != 0 {
            return Err(NotAQuery::Ignore);
        }
        let refuse = |rcode: Rcode| {
            let flags = FLAG_RESPONSE | (header.flags & (0x7800 | FLAG_RECURSION_DESIRED)) | rcode.value();
            let mut reply = [header.id.to_be_bytes(), flags.to_be_bytes()].concat();
            reply.resize(HEADER, 0);
            NotAQuery::Refuse(reply)
        };
        if header.flags & 0x7800 != 0 {
            return Err(refuse(Rcode::NotImp));
        }
        let malformed = |_| refuse(Rcode::FormErr);
        if header.counts[0] != 1 {
            return Err(refuse(Rcode::FormErr));
        }
        let question = reader.question().map_err(malformed)?;
        let mut edns = None;
        for _ in 0..header.records() {
            let raw = reader.raw_record().map_err(malformed)?;
            if raw.kind == kind::OPT && edns.replace(raw.edns()).is_some() {
                return Err(refuse(Rcode::FormErr));
            }
        }
        Ok(Self {
            id: header.id,
            recursion_desired: header.flags & FLAG_RECURSION_DESIRED != 0,
            checking_disabled: header.flags & FLAG_CHECKING_DISABLED != 0,
            question,
            edns,
        })
    }

    /// Whether the client speaks a later EDNS than this program.
    pub(crate) fn wants_later_edns(&self) -> bool {
        self.edns.is_some_and(|edns| edns.version > 0)
    }

    /// The most bytes that the client takes over UDP.
    pub(crate) fn udp_limit(&self) -> usize {
        let asked = self.edns.map_or(CLASSIC_UDP_SIZE, |edns| edns.udp_size);
        asked.clamp(CLASSIC_UDP_SIZE, UDP_SIZE).into()
    }

    /// A query of this server's own for `question`.
    pub(crate) fn upstream(id: u16, question: Question, dnssec_ok: bool, checking_disabled: bool) -> Self {
        let edns = Some(Edns { udp_size: UDP_SIZE, version: 0, dnssec_ok });
        Self { id, recursion_desired: true, checking_disabled, question, edns }
    }
}

/// A response from an upstream server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UpstreamResponse {
    pub(crate) id: u16,
    pub(crate) truncated: bool,
    pub(crate) question: Question,
    pub(crate) response: Response,
}

impl UpstreamResponse {
    /// Reads a response.
    pub(crate) fn decode(message: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader { message, at: 0 };
        let header = reader.header()?;
        if header.flags & FLAG_RESPONSE == 0 || header.counts[0] != 1 {
            return Err(Malformed);
        }
        let question = reader.question()?;
        let mut response = Response::empty(Rcode::of_header(header.flags));
        let [_, answers, authorities, additionals] = header.counts;
        for (count, section) in [
            (answers, &mut response.answers),
            (authorities, &mut response.authorities),
            (additionals, &mut response.additionals),
        ] {
            for _ in 0..count {
                let raw = reader.raw_record()?;
                if raw.kind != kind::OPT && raw.class == CLASS_IN {
                    section.push(raw.parse(message)?);
                }
            }
        }
        let truncated = header.flags & FLAG_TRUNCATED != 0;
        Ok(Self { id: header.id, truncated, question, response })
    }
}

/// Bytes that are no DNS message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the DNS message is malformed")]
pub struct Malformed;

impl From<NameError> for Malformed {
    fn from(_: NameError) -> Self {
        Self
    }
}

struct Header {
    id: u16,
    flags: u16,
    counts: [u16; 4],
}

impl Header {
    /// Records after the question.
    fn records(&self) -> u32 {
        self.counts[1..].iter().map(|count| u32::from(*count)).sum()
    }
}

struct RawRecord<'a> {
    name: Name,
    kind: u16,
    class: u16,
    ttl: u32,
    /// Where the data starts in the message: names in it may point elsewhere.
    start: usize,
    data: &'a [u8],
}

impl RawRecord<'_> {
    fn edns(&self) -> Edns {
        let [_, version, ..] = self.ttl.to_be_bytes();
        Edns { udp_size: self.class, version, dnssec_ok: self.ttl & EDNS_DNSSEC_OK != 0 }
    }

    fn parse(self, message: &[u8]) -> Result<Record, Malformed> {
        let mut reader = Reader { message: &message[..self.start + self.data.len()], at: self.start };
        let data = match self.kind {
            kind::A => Data::A(reader.array::<4>()?.into()),
            kind::AAAA => Data::Aaaa(reader.array::<16>()?.into()),
            kind::NS => Data::Ns(reader.name()?),
            kind::CNAME => Data::Cname(reader.name()?),
            kind::PTR => Data::Ptr(reader.name()?),
            kind::MX => Data::Mx { preference: reader.u16()?, exchange: reader.name()? },
            kind::TXT => Data::Txt(reader.rest()),
            kind::SRV => Data::Srv {
                priority: reader.u16()?,
                weight: reader.u16()?,
                port: reader.u16()?,
                target: reader.name()?,
            },
            kind::SOA => {
                let (primary, mailbox) = (reader.name()?, reader.name()?);
                let mut numbers = [0; 5];
                for number in &mut numbers {
                    *number = u32::from_be_bytes(reader.array()?);
                }
                Data::Soa { primary, mailbox, numbers }
            }
            kind => Data::Other { kind, bytes: reader.rest() },
        };
        if reader.at != self.start + self.data.len() {
            return Err(Malformed);
        }
        Ok(Record { name: self.name, ttl: self.ttl, data })
    }
}

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let bytes = self.message.get(self.at..).and_then(|rest| rest.first_chunk()).ok_or(Malformed)?;
        self.at += N;
        Ok(*bytes)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    fn rest(&mut self) -> Box<[u8]> {
        let rest = self.message[self.at..].into();
        self.at = self.message.len();
        rest
    }

    fn name(&mut self) -> Result<Name, Malformed> {
        let (name, end) = Name::decode(self.message, self.at)?;
        self.at = end;
        Ok(name)
    }

    fn header(&mut self) -> Result<Header, Malformed> {
        let (id, flags) = (self.u16()?, self.u16()?);
        Ok(Header { id, flags, counts: [self.u16()?, self.u16()?, self.u16()?, self.u16()?] })
    }

    fn question(&mut self) -> Result<Question, Malformed> {
        Ok(Question { name: self.name()?, kind: self.u16()?, class: self.u16()? })
    }

    fn raw_record(&mut self) -> Result<RawRecord<'a>, Malformed> {
        let (name, kind, class) = (self.name()?, self.u16()?, self.u16()?);
        let ttl = u32::from_be_bytes(self.array()?);
        let length = usize::from(self.u16()?);
        let start = self.at;
        let data = self.message.get(start..start + length).ok_or(Malformed)?;
        self.at += length;
        Ok(RawRecord { name, kind, class, ttl, start, data })
    }
}

impl Data {
    /// The record type.
    pub(crate) fn kind(&self) -> u16 {
        match self {
            Self::A(_) => kind::A,
            Self::Aaaa(_) => kind::AAAA,
            Self::Ns(_) => kind::NS,
            Self::Cname(_) => kind::CNAME,
            Self::Ptr(_) => kind::PTR,
            Self::Mx { .. } => kind::MX,
            Self::Txt(_) => kind::TXT,
            Self::Srv { .. } => kind::SRV,
            Self::Soa { .. } => kind::SOA,
            Self::Other { kind, .. } => *kind,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    /// A query for the A record of `WwW.example`, with what comes after the question.
    fn query(flags: u16, questions: u16, additionals: u16, rest: &[u8]) -> Vec<u8> {
        let mut message = vec![0xab, 0xcd];
        for number in [flags, questions, 0, 0, additionals] {
            message.extend(number.to_be_bytes());
        }
        message.extend(b"\x03WwW\x07example\x00\x00\x01\x00\x01");
        message.extend(rest);
        message
    }

    fn opt(udp_size: u16, version: u8, dnssec_ok: bool) -> Vec<u8> {
        let mut record = vec![0, 0, 41];
        record.extend(udp_size.to_be_bytes());
        record.extend([0, version, if dnssec_ok { 0x80 } else { 0 }, 0, 0, 0]);
        record
    }

    #[test]
    fn queries_and_their_limits() {
        let check = |rest: &[u8], limit: usize, later: bool| {
            let additionals = u16::from(!rest.is_empty());
            let query = Query::decode(&query(0x0100, 1, additionals, rest)).unwrap();
            assert_eq!((query.id, query.recursion_desired), (0xabcd, true));
            assert_eq!(query.question.name.to_string(), "WwW.example.");
            assert_eq!((query.udp_limit(), query.wants_later_edns()), (limit, later));
        };
        check(&[], 512, false);
        check(&opt(4096, 0, false), 1232, false);
        check(&opt(1000, 0, true), 1000, false);
        check(&opt(0, 0, false), 512, false);
        check(&opt(1232, 1, false), 1232, true);
    }

    #[test]
    fn what_is_no_query() {
        let check = |message: &[u8], want: Option<u16>| {
            let got = match Query::decode(message).unwrap_err() {
                NotAQuery::Ignore => None,
                NotAQuery::Refuse(reply) => {
                    assert_eq!((reply.len(), &reply[..2], reply[2] & 0x80), (12, &message[..2], 0x80));
                    Some(u16::from(reply[3] & 0xf))
                }
            };
            assert_eq!(got, want, "{message:?}");
        };
        check(&[], None);
        check(&query(0, 1, 0, &[])[..11], None);
        check(&query(0x8000, 1, 0, &[]), None);
        check(&query(0x2800, 1, 0, &[]), Some(4));
        check(&query(0, 0, 0, &[]), Some(1));
        check(&query(0, 2, 0, &[]), Some(1));
        check(&query(0, 1, 1, &[]), Some(1));
        check(&query(0, 1, 1, &opt(512, 0, false)[..10]), Some(1));
        check(&query(0, 1, 2, &opt(512, 0, false).repeat(2)), Some(1));
        check(&query(0, 1, 0, &[])[..20], Some(1));
    }

    fn every_kind() -> Response {
        let record = |data| Record { name: name("www.example"), ttl: 60, data };
        let (primary, mailbox) = (name("ns.example"), name("me.example"));
        Response {
            answers: vec![
                record(Data::A([192, 0, 2, 1].into())),
                record(Data::Aaaa("2001:db8::1".parse().unwrap())),
                record(Data::Cname(name("web.example"))),
                record(Data::Ptr(name("host.example"))),
                record(Data::Mx { preference: 10, exchange: name("mail.example") }),
                record(Data::Txt(b"\x02hi".as_slice().into())),
                record(Data::Srv { priority: 1, weight: 2, port: 3, target: name("web.example") }),
                record(Data::Other { kind: 257, bytes: b"caa".as_slice().into() }),
            ],
            authorities: vec![
                record(Data::Ns(name("ns.example"))),
                record(Data::Soa { primary, mailbox, numbers: [1, 2, 3, 4, 5] }),
            ],
            additionals: vec![record(Data::A([192, 0, 2, 2].into()))],
            ..Response::empty(Rcode::NxDomain)
        }
    }

    #[test]
    fn responses_survive_the_wire() {
        let query = Query::decode(&query(0x0110, 1, 1, &opt(1232, 0, true))).unwrap();
        let message = query.respond(&every_kind(), 1232);
        let read = UpstreamResponse::decode(&message).unwrap();
        assert_eq!(read.response, every_kind());
        assert_eq!((read.id, read.truncated), (0xabcd, false));
        assert_eq!(read.question.name.to_string(), "WwW.example.", "the case is the client's");
        assert_eq!(message[message.len() - 11..], opt(UDP_SIZE, 0, true));
        assert_eq!(message[3] & 0x90, 0x90, "recursion is available, checking was disabled");
    }

    #[test]
    fn names_are_compressed_letter_by_letter() {
        let query = Query::decode(&query(0, 1, 0, &[])).unwrap();
        let record = |text: &str| Record { name: name(text), ttl: 1, data: Data::A([1, 1, 1, 1].into()) };
        let length = |owner: &str| {
            let response = Response { answers: vec![record(owner)], ..Response::empty(Rcode::NoError) };
            query.respond(&response, 512).len() - query.respond(&Response::empty(Rcode::NoError), 512).len()
        };
        assert_eq!(length("WwW.example"), 2 + 14);
        assert_eq!(length("web.example"), 4 + 2 + 14);
        assert_eq!(length("www.example"), 4 + 2 + 14);
        assert_eq!(length("www.EXAMPLE"), 13 + 14);
    }

    #[test]
    fn what_does_not_fit_is_cut_and_told() {
        let query = Query::decode(&query(0, 1, 1, &opt(512, 0, false))).unwrap();
        let record =
            |n: u8| Record { name: name("WwW.example"), ttl: 1, data: Data::A([10, 0, 0, n].into()) };
        let answers: Vec<_> = (0..100).map(record).collect();
        let check = |response: Response, limit: usize, want: (usize, usize, bool)| {
            let message = query.respond(&response, limit);
            assert!(message.len() <= limit, "{} > {limit}", message.len());
            let read = UpstreamResponse::decode(&message).unwrap();
            assert_eq!((read.response.answers.len(), read.response.additionals.len(), read.truncated), want);
        };
        let empty = || Response::empty(Rcode::NoError);
        check(Response { answers: answers.clone(), ..empty() }, 512, (29, 0, true));
        check(Response { answers: answers.clone(), ..empty() }, 65_535, (100, 0, false));
        let additionals = answers[..99].to_vec();
        check(Response { answers: answers[..1].to_vec(), additionals, ..empty() }, 512, (1, 28, false));
    }
}
