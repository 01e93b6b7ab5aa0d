//! Answers of other servers, kept for as long as they say and not much longer than a moment. Pure.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::dns::message::{Data, Question, Rcode, Record, Response};

/// The most answers kept.
const MAX_ENTRIES: usize = 1024;
/// The most that one answer may weigh to be kept, in bytes.
const MAX_WEIGHT: usize = 8 * 1024;
/// The longest that an answer is kept.
const MAX_POSITIVE: Duration = Duration::from_secs(300);
/// The longest that "no such name" is kept.
const MAX_NEGATIVE: Duration = Duration::from_secs(30);

/// What an answer depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) question: Question,
    pub(crate) dnssec_ok: bool,
    pub(crate) checking_disabled: bool,
}

/// The answers.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    entries: HashMap<Key, Entry>,
}

#[derive(Debug)]
struct Entry {
    response: Response,
    stored: Instant,
    expires: Instant,
}

impl Cache {
    /// A kept answer, its times to live reduced by its age.
    pub(crate) fn get(&self, key: &Key, now: Instant) -> Option<Response> {
        let entry = self.entries.get(key).filter(|entry| now < entry.expires)?;
        let age = now.saturating_duration_since(entry.stored).as_secs();
        let age = u32::try_from(age).unwrap_or(u32::MAX);
        let mut response = entry.response.clone();
        let Response { answers, authorities, additionals, .. } = &mut response;
        for record in answers.iter_mut().chain(authorities).chain(additionals) {
            record.ttl = record.ttl.saturating_sub(age);
        }
        Some(response)
    }

    /// Keeps an answer, if it may be kept.
    pub(crate) fn put(&mut self, key: Key, response: &Response, now: Instant) {
        let Some(life) = lifetime(response).filter(|_| weight(response) <= MAX_WEIGHT) else { return };
        if self.entries.len() >= MAX_ENTRIES && !self.entries.contains_key(&key) {
            self.entries.retain(|_, entry| now < entry.expires);
            if self.entries.len() >= MAX_ENTRIES {
                let next = self.entries.iter().min_by_key(|(_, entry)| entry.expires);
                next.map(|(key, _)| key.clone()).map(|key| self.entries.remove(&key));
            }
        }
        self.entries.insert(key, Entry { response: response.clone(), stored: now, expires: now + life });
    }
}

/// About what an answer takes in memory.
fn weight(response: &Response) -> usize {
    let Response { answers, authorities, additionals, .. } = response;
    let records = answers.iter().chain(authorities).chain(additionals);
    let weigh = |record: &Record| {
        let inside = match &record.data {
            Data::Txt(bytes) | Data::Other { bytes, .. } => bytes.len(),
            Data::Soa { primary, mailbox, .. } => primary.wire().len() + mailbox.wire().len(),
            Data::Ns(name)
            | Data::Cname(name)
            | Data::Ptr(name)
            | Data::Mx { exchange: name, .. }
            | Data::Srv { target: name, .. } => name.wire().len(),
            Data::A(_) | Data::Aaaa(_) => 0,
        };
        size_of::<Record>() + record.name.wire().len() + inside
    };
    records.map(weigh).sum()
}

/// How long an answer may be kept; `None` for one that may not.
fn lifetime(response: &Response) -> Option<Duration> {
    let seconds = |ttl: u32| Duration::from_secs(ttl.into());
    let life = match (response.rcode, &response.answers[..]) {
        (Rcode::NoError, [_, ..]) => {
            let shortest = response.answers.iter().map(|record| record.ttl).min()?;
            seconds(shortest).min(MAX_POSITIVE)
        }
        // RFC 2308: without the zone's SOA nobody says how long it holds.
        (Rcode::NoError | Rcode::NxDomain, _) => {
            let soa = response.authorities.iter().find_map(|record| match &record.data {
                Data::Soa { numbers, .. } => Some(record.ttl.min(numbers[4])),
                _ => None,
            });
            seconds(soa?).min(MAX_NEGATIVE)
        }
        _ => return None,
    };
    (!life.is_zero()).then_some(life)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::message::{CLASS_IN, kind};
    use crate::dns::name::Name;

    fn key(name: &str) -> Key {
        let question = Question { name: Name::parse(name).unwrap(), kind: kind::A, class: CLASS_IN };
        Key { question, dnssec_ok: false, checking_disabled: false }
    }

    fn record(ttl: u32, data: Data) -> Record {
        Record { name: Name::parse("x.example").unwrap(), ttl, data }
    }

    fn soa(ttl: u32, minimum: u32) -> Record {
        let name = Name::parse("example").unwrap();
        record(ttl, Data::Soa { primary: name.clone(), mailbox: name, numbers: [1, 1, 1, 1, minimum] })
    }

    fn a(ttl: u32) -> Record {
        record(ttl, Data::A([192, 0, 2, 1].into()))
    }

    #[test]
    fn how_long_answers_are_kept() {
        let check = |rcode, answers: Vec<Record>, authorities: Vec<Record>, want: Option<u64>| {
            let response = Response { answers, authorities, ..Response::empty(rcode) };
            assert_eq!(lifetime(&response), want.map(Duration::from_secs), "{response:?}");
        };
        check(Rcode::NoError, vec![a(60), a(20)], vec![], Some(20));
        check(Rcode::NoError, vec![a(86_400)], vec![], Some(300));
        check(Rcode::NoError, vec![a(0)], vec![], None);
        check(Rcode::NoError, vec![], vec![], None);
        check(Rcode::NoError, vec![], vec![soa(60, 7)], Some(7));
        check(Rcode::NxDomain, vec![], vec![soa(5, 3600)], Some(5));
        check(Rcode::NxDomain, vec![a(9)], vec![soa(3600, 3600)], Some(30));
        check(Rcode::NxDomain, vec![], vec![], None);
        check(Rcode::ServFail, vec![], vec![soa(60, 60)], None);
        check(Rcode::Refused, vec![a(60)], vec![], None);
    }

    #[test]
    fn answers_age_and_end() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut cache = Cache::default();
        let response = Response { answers: vec![a(20), a(50)], ..Response::empty(Rcode::NoError) };
        cache.put(key("x.example"), &response, start);
        let ttls = |secs| {
            let kept = cache.get(&key("X.Example"), at(secs));
            kept.map(|r| r.answers.iter().map(|record| record.ttl).collect::<Vec<_>>())
        };
        assert_eq!(ttls(0), Some(vec![20, 50]));
        assert_eq!(ttls(19), Some(vec![1, 31]));
        assert_eq!(ttls(20), None);
        let signed = Key { dnssec_ok: true, ..key("x.example") };
        assert!(cache.get(&signed, start).is_none());
    }

    #[test]
    fn it_is_bounded() {
        let now = Instant::now();
        let mut cache = Cache::default();
        for n in 0..MAX_ENTRIES + 10 {
            let ttl = if n == 7 { 1 } else { 100 };
            let response = Response { answers: vec![a(ttl)], ..Response::empty(Rcode::NoError) };
            cache.put(key(&format!("x{n}.example")), &response, now);
        }
        assert_eq!(cache.entries.len(), MAX_ENTRIES);
        assert!(cache.get(&key("x7.example"), now).is_none(), "the one that would end first made room");
        let heavy = Data::Txt(vec![0; MAX_WEIGHT].into());
        let response = Response { answers: vec![record(100, heavy)], ..Response::empty(Rcode::NoError) };
        cache.put(key("heavy.example"), &response, now);
        assert!(cache.get(&key("heavy.example"), now).is_none());
    }
}
