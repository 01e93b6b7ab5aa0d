//! What is agreed upon through etcd itself: which keys the data is written with, and who compacts.

use std::sync::Mutex;

use super::messages::{Compare, Range, TxnDone};
use super::names::Names;
use super::rpc::{Client, EtcdError, OUT_OF_RANGE};
use super::shared::{COMPACT, READ, TXN};
use super::wire::Writer;
use crate::Revision;

/// What all servers of a cluster must have in common, such as a key: its name, and what tells it from others without
/// giving it away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// What it is, for people; without line breaks and equal signs.
    pub name: &'static str,
    /// Its fingerprint.
    pub current: String,
    /// Fingerprints of what it was before: what was written with these is taken over.
    pub former: Vec<String>,
}

/// What came of comparing identities.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Agreement {
    Agreed,
    /// The names of what differs.
    Differs(Vec<&'static str>),
}

/// Compares with what is written, or writes it when nothing is, or what is was ours before.
pub(super) async fn agree(client: &Client, names: &Names, own: &[Identity]) -> Result<Agreement, EtcdError> {
    if own.is_empty() {
        return Ok(Agreement::Agreed);
    }
    let mut seen = Revision::ZERO;
    let mut stored = String::new();
    loop {
        let wanted = if seen == Revision::ZERO { Compare::Absent } else { Compare::ModifiedAt(seen) };
        let (differing, outdated) = compare(own, &stored);
        if !differing.is_empty() {
            return Ok(Agreement::Differs(differing));
        }
        if seen != Revision::ZERO && !outdated {
            return Ok(Agreement::Agreed);
        }
        let request = swap(&names.identity, wanted, text(own).as_bytes());
        let answer = client.call(TXN, &request, READ).await?;
        let done = TxnDone::decode(&answer)?;
        if done.succeeded {
            return Ok(Agreement::Agreed);
        }
        let found = done.ranges.first().and_then(|range| range.found.first());
        seen = found.map_or(Revision::ZERO, |found| found.mod_revision);
        stored = found.map(|found| String::from_utf8_lossy(found.value).into_owned()).unwrap_or_default();
    }
}

/// What differs from what is stored, and whether the rest is stored as it was before.
fn compare(own: &[Identity], stored: &str) -> (Vec<&'static str>, bool) {
    let mut outdated = false;
    let differs = |one: &&Identity| {
        let line = stored.lines().filter_map(|line| line.split_once('=')).find(|(name, _)| *name == one.name);
        match line {
            Some((_, found)) if found == one.current => false,
            Some((_, found)) => {
                outdated = true;
                !one.former.iter().any(|former| former == found)
            }
            None => {
                outdated = true;
                false
            }
        }
    };
    let names = own.iter().filter(differs).map(|one| one.name).collect();
    (names, outdated)
}

fn text(own: &[Identity]) -> String {
    own.iter().map(|one| format!("{}={}\n", one.name, one.current)).collect()
}

/// Puts a value when the key is as it was, else reads it.
fn swap(key: &[u8], wanted: Compare, value: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new(2 * key.len() + value.len() + 64);
    writer.message(1, |compare| wanted.write(compare, &[key]));
    writer.message(2, |operation| {
        operation.message(2, |put| {
            put.bytes(1, &[key]);
            put.bytes(2, &[value]);
        });
    });
    writer.message(3, |operation| {
        operation.message(1, |range| Range { key, ..Range::default() }.write(range));
    });
    writer.into_bytes()
}

/// Takes turns with the other servers: whoever compacted last goes on, until it misses its turn.
#[derive(Debug, Default)]
pub(super) struct Compactor {
    /// When the last turn was taken, as far as this server knows.
    seen: Mutex<Revision>,
}

impl Compactor {
    /// Lets etcd forget what is older than `before`, if it is this server's turn.
    pub(super) async fn compact(
        &self,
        client: &Client,
        names: &Names,
        before: Revision,
    ) -> Result<bool, EtcdError> {
        let seen = *self.seen.lock().expect("nothing panics while it holds a number");
        let wanted = if seen == Revision::ZERO { Compare::Absent } else { Compare::ModifiedAt(seen) };
        let request = swap(&names.compaction, wanted, before.to_string().as_bytes());
        let answer = client.call(TXN, &request, READ).await?;
        let done = TxnDone::decode(&answer)?;
        let found = done.ranges.first().and_then(|range| range.found.first());
        let now =
            if done.succeeded { done.revision } else { found.map_or(Revision::ZERO, |f| f.mod_revision) };
        *self.seen.lock().expect("nothing panics while it holds a number") = now;
        if !done.succeeded {
            return Ok(false);
        }
        match client.call(COMPACT, &super::messages::compaction(before), READ).await {
            // Somebody else was further.
            Ok(_) | Err(EtcdError::Refused { code: OUT_OF_RANGE, .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Identity, compare, text};

    #[test]
    fn what_differs_is_named() {
        let one = |name, current: &str, former: &[&str]| Identity {
            name,
            current: current.into(),
            former: former.iter().map(|text| (*text).to_owned()).collect(),
        };
        let own = [one("a key", "1", &[]), one("another", "2", &["1", "0"])];
        assert_eq!(text(&own), "a key=1\nanother=2\n");
        for (stored, want) in [
            ("a key=1\nanother=2\n", (vec![], false)),
            ("a key=1\nanother=2\nnew=3\n", (vec![], false)),
            ("a key=1\nanother=0\n", (vec![], true)),
            ("a key=1\n", (vec![], true)),
            ("a key=9\nanother=2\n", (vec!["a key"], true)),
            ("a key=\nanother=9\n", (vec!["a key", "another"], true)),
        ] {
            assert_eq!(compare(&own, stored), want, "{stored}");
        }
    }
}
