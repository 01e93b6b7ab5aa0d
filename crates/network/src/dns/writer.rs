//! Writes DNS messages, with names compressed (RFC 1035 §4.1.4).

use std::collections::HashMap;

use crate::dns::message::{
    CLASS_IN, Data, EDNS_DNSSEC_OK, FLAG_AUTHORITATIVE, FLAG_CHECKING_DISABLED, FLAG_RECURSION_AVAILABLE,
    FLAG_RECURSION_DESIRED, FLAG_RESPONSE, FLAG_TRUNCATED, HEADER, Query, Question, Rcode, Record, Response,
    UDP_SIZE, kind,
};
use crate::dns::name::Name;

/// What an OPT record takes, in bytes.
const OPT_SIZE: usize = 11;
/// Pointers have 14 bits.
const MAX_POINTER: usize = 0x3fff;

impl Query {
    /// Writes a query for an upstream server.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut flags = 0;
        if self.recursion_desired {
            flags |= FLAG_RECURSION_DESIRED;
        }
        if self.checking_disabled {
            flags |= FLAG_CHECKING_DISABLED;
        }
        let mut writer = Writer::new(usize::from(u16::MAX));
        writer.header(self.id, flags);
        writer.question(&self.question);
        if let Some(edns) = self.edns {
            writer.opt(edns.dnssec_ok, Rcode::NoError);
        }
        writer.finish(0)
    }

    /// Writes `response` to this query in at most `limit` bytes. What doesn't fit is left out whole, and the
    /// client told to ask again over TCP.
    pub(crate) fn respond(&self, response: &Response, limit: usize) -> Vec<u8> {
        let mut flags = FLAG_RESPONSE | FLAG_RECURSION_AVAILABLE | (response.rcode.value() & 0xf);
        if response.authoritative {
            flags |= FLAG_AUTHORITATIVE;
        }
        if self.recursion_desired {
            flags |= FLAG_RECURSION_DESIRED;
        }
        if self.checking_disabled {
            flags |= FLAG_CHECKING_DISABLED;
        }
        let reserved = if self.edns.is_some() { OPT_SIZE } else { 0 };
        let mut writer = Writer::new(limit - reserved);
        writer.header(self.id, flags);
        writer.question(&self.question);
        let whole = writer.section(1, &response.answers) && writer.section(2, &response.authorities);
        if whole {
            writer.section(3, &response.additionals);
        }
        if let Some(edns) = self.edns {
            writer.opt(edns.dnssec_ok, response.rcode);
        }
        writer.finish(if whole { 0 } else { FLAG_TRUNCATED })
    }
}

struct Writer {
    message: Vec<u8>,
    limit: usize,
    /// Where each end of a name stands that was written and can be pointed to, letter by letter.
    names: HashMap<Box<[u8]>, u16>,
}

impl Writer {
    fn new(limit: usize) -> Self {
        Self { message: Vec::with_capacity(512), limit, names: HashMap::new() }
    }

    fn header(&mut self, id: u16, flags: u16) {
        self.message.extend(id.to_be_bytes());
        self.message.extend(flags.to_be_bytes());
        self.message.resize(HEADER, 0);
    }

    fn question(&mut self, question: &Question) {
        self.name(&question.name);
        self.message.extend(question.kind.to_be_bytes());
        self.message.extend(question.class.to_be_bytes());
        self.count(0, 1);
    }

    fn count(&mut self, section: usize, count: u16) {
        let at = 4 + 2 * section;
        self.message[at..at + 2].copy_from_slice(&count.to_be_bytes());
    }

    /// Writes records until one does not fit; says whether all did. Nothing may be compressed after one that
    /// did not: it may have been pointed to.
    fn section(&mut self, section: usize, records: &[Record]) -> bool {
        let mut written: u16 = 0;
        for record in records {
            let length = self.message.len();
            self.record(record);
            if self.message.len() > self.limit || written == u16::MAX {
                self.message.truncate(length);
                self.count(section, written);
                return false;
            }
            written += 1;
        }
        self.count(section, written);
        true
    }

    fn record(&mut self, record: &Record) {
        self.name(&record.name);
        self.message.extend(record.data.kind().to_be_bytes());
        self.message.extend(CLASS_IN.to_be_bytes());
        self.message.extend(record.ttl.to_be_bytes());
        let length_at = self.message.len();
        self.message.extend([0; 2]);
        self.data(&record.data);
        let length = self.message.len() - length_at - 2;
        let length = u16::try_from(length).expect("no data is longer than the message that it came in");
        self.message[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
    }

    fn data(&mut self, data: &Data) {
        match data {
            Data::A(address) => self.message.extend(address.octets()),
            Data::Aaaa(address) => self.message.extend(address.octets()),
            Data::Ns(name) | Data::Cname(name) | Data::Ptr(name) => self.name(name),
            Data::Mx { preference, exchange } => {
                self.message.extend(preference.to_be_bytes());
                self.name(exchange);
            }
            Data::Txt(bytes) | Data::Other { bytes, .. } => self.message.extend(bytes),
            Data::Srv { priority, weight, port, target } => {
                for number in [priority, weight, port] {
                    self.message.extend(number.to_be_bytes());
                }
                // RFC 2782: the target is never compressed.
                self.message.extend(target.wire());
            }
            Data::Soa { primary, mailbox, numbers } => {
                self.name(primary);
                self.name(mailbox);
                for number in numbers {
                    self.message.extend(number.to_be_bytes());
                }
            }
        }
    }

    /// Writes a name, pointing to an earlier one for the longest end that both share.
    fn name(&mut self, name: &Name) {
        let mut rest = name.wire();
        while rest[0] != 0 {
            if let Some(pointer) = self.names.get(rest) {
                self.message.extend((pointer | 0xc000).to_be_bytes());
                return;
            }
            let at = self.message.len();
            if let Some(at) = u16::try_from(at).ok().filter(|_| at <= MAX_POINTER) {
                self.names.insert(rest.into(), at);
            }
            let (label, after) = rest.split_at(1 + usize::from(rest[0]));
            self.message.extend(label);
            rest = after;
        }
        self.message.push(0);
    }

    fn opt(&mut self, dnssec_ok: bool, rcode: Rcode) {
        let extended = u32::from(rcode.value() >> 4) << 24;
        let flags = if dnssec_ok { EDNS_DNSSEC_OK } else { 0 };
        self.message.push(0);
        self.message.extend(kind::OPT.to_be_bytes());
        self.message.extend(UDP_SIZE.to_be_bytes());
        self.message.extend((extended | flags).to_be_bytes());
        self.message.extend([0; 2]);
        let count = u16::from_be_bytes([self.message[10], self.message[11]]);
        self.count(3, count + 1);
    }

    fn finish(mut self, flags: u16) -> Vec<u8> {
        let [high, low] = flags.to_be_bytes();
        self.message[2] |= high;
        self.message[3] |= low;
        self.message
    }
}
