//! Reading: one object, or a list of them out of one consistent state.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use xebec_api::{Status, Value, json, object};
use xebec_store::{Key, Prefix, Record, Revision, Snapshot, StoreError};

use super::conversion::Ready;
use super::convert;
use super::facts::Want;
use super::table::{Row, Served};
use crate::core::Core;
use crate::http::query::{At, ListOptions};

/// The object `name`, in the version served.
///
/// # Errors
/// 404; 504 when a newer state is asked for than there is; 503 when the newest cannot be had.
pub async fn get(core: &Core, served: &Served, namespace: &str, name: &str, at: At) -> Result<Bytes, Status> {
    let snapshot = snapshot(core, at).await?;
    let record = find(&snapshot, &served.row, namespace, name)?;
    convert::bytes(core, record, served).await
}

/// The record of an object.
///
/// # Errors
/// 404.
pub fn find<'a>(
    snapshot: &'a Snapshot,
    row: &Row,
    namespace: &str,
    name: &str,
) -> Result<&'a Arc<Record>, Status> {
    let key = row.key(namespace, name)?;
    snapshot.get(&key).ok_or_else(|| Status::not_found(row.group(), row.resource(), name))
}

/// The state that a read wants.
async fn snapshot(core: &Core, at: At) -> Result<Snapshot, Status> {
    match at {
        At::Newest => core.newest().await,
        At::Any => Ok(core.store.snapshot()),
        At::NotOlderThan(version) => {
            let snapshot = reaching(core, version).await?;
            if snapshot.revision().get() < version {
                return Err(too_new(version, snapshot.revision()));
            }
            Ok(snapshot)
        }
        At::Exact(version) => {
            reaching(core, version).await?;
            core.store.snapshot_at(Revision::new(version)).map_err(|e| stale(&e))
        }
    }
}

/// A state at that version or a later one; an older one when it does not come soon.
pub(super) async fn reaching(core: &Core, version: u64) -> Result<Snapshot, Status> {
    core.store.reaching(Revision::new(version)).get().await.map_err(|e| stale(&e))
}

fn too_new(asked: u64, current: Revision) -> Status {
    let text = format!("Too large resource version: {asked}, current: {current}");
    let mut status = Status::new(xebec_api::Reason::Timeout, text);
    let details = xebec_api::error::Details { retry_after_seconds: Some(1), ..Default::default() };
    status.details = Some(Box::new(details));
    status
}

/// The answer to a read of a state that the store does not have.
pub(crate) fn stale(error: &StoreError) -> Status {
    match error {
        StoreError::Compacted { requested, oldest } => {
            Status::expired(format!("too old resource version: {requested} ({oldest})"))
        }
        StoreError::Future { requested, current } => too_new(requested.get(), *current),
        other => Status::new(xebec_api::Reason::ServiceUnavailable, other.to_string()),
    }
}

/// A list, or one page of it.
#[derive(Debug)]
pub struct Page {
    /// The objects.
    pub records: Vec<Arc<Record>>,
    /// Those of them that had to be converted.
    pub(crate) ready: Ready,
    /// The state they come from.
    pub revision: Revision,
    /// Where the next page begins; empty on the last.
    pub continue_token: String,
    /// How many objects follow, when no selector makes that unknown.
    pub remaining: Option<usize>,
}

/// Lists objects of one namespace, or with an empty namespace of all.
///
/// # Errors
/// 410 when the state asked for is gone; 400 for a token that is none of ours; 500 for objects that cannot be converted.
pub async fn list(
    core: &Core,
    served: &Served,
    namespace: &str,
    options: &ListOptions,
) -> Result<Page, Status> {
    let row = &served.row;
    let prefix = row.prefix(namespace)?;
    let token = options.continue_token.as_deref().map(Token::decode).transpose()?;
    let (snapshot, after) = match &token {
        Some(token) => (resume(core, token).await?, Some(token.start(row)?)),
        None => (snapshot(core, options.at).await?, None),
    };
    let want = Want { labels: options.labels.clone(), fields: options.fields.clone() };
    check_fields(served, &want)?;
    let limit = if options.limit == 0 { usize::MAX } else { options.limit };
    let Found { records, more, ready } = if row.converter.is_some() && want.looks_inside() {
        find_converted(core, served, &snapshot, &prefix, after, &want, limit).await?
    } else {
        let mut matching = snapshot.range(&prefix, after.as_ref()).filter(|r| want.matches(r, row));
        let records: Vec<Arc<Record>> = matching.by_ref().take(limit).cloned().collect();
        let more = records.len() == limit && matching.next().is_some();
        let ready = Ready::of(core, served, records.iter().map(Arc::as_ref)).await?;
        Found { records, more, ready }
    };
    let selective = !want.labels.is_empty() || !want.fields.requirements.is_empty();
    let remaining = (more && !selective).then(|| {
        let last = records.last().map(|r| r.key().clone());
        snapshot.range(&prefix, last.as_ref()).count()
    });
    let continue_token = match records.last() {
        Some(last) if more => {
            Token { revision: snapshot.revision(), after: last.key().as_str().to_owned() }.encode()
        }
        _ => String::new(),
    };
    Ok(Page { records, ready, revision: snapshot.revision(), continue_token, remaining })
}

/// What a page is made of.
#[derive(Default)]
struct Found {
    records: Vec<Arc<Record>>,
    more: bool,
    ready: Ready,
}

/// How many records are converted before it is known which of them are wanted.
const LOOKED_AT: usize = 500;

/// The records that match in the version served, for which they may have to be converted.
async fn find_converted(
    core: &Core,
    served: &Served,
    snapshot: &Snapshot,
    prefix: &Prefix,
    mut after: Option<Key>,
    want: &Want,
    limit: usize,
) -> Result<Found, Status> {
    let mut found = Found::default();
    loop {
        let records: Vec<Arc<Record>> =
            snapshot.range(prefix, after.as_ref()).take(LOOKED_AT).cloned().collect();
        let Some(last) = records.last() else { return Ok(found) };
        after = Some(last.key().clone());
        let mut ready = Ready::of(core, served, records.iter().map(Arc::as_ref)).await?;
        for record in records {
            if !want.matches_in(&record, served, &ready)? {
                continue;
            }
            if found.records.len() == limit {
                found.more = true;
                return Ok(found);
            }
            found.ready.adopt(&mut ready, &record);
            found.records.push(record);
        }
    }
}

/// The state that a token continues in: the one it began in, or the newest if the token was given for that.
async fn resume(core: &Core, token: &Token) -> Result<Snapshot, Status> {
    if token.revision == Revision::ZERO {
        return core.newest().await;
    }
    // The page before may have come from another server.
    reaching(core, token.revision.get()).await?;
    core.store.snapshot_at(token.revision).map_err(|error| match error {
        StoreError::Compacted { .. } => expired_token(token),
        other => stale(&other),
    })
}

/// 410 with a token that continues in the newest state, for clients that prefer an inconsistent list to a fresh start.
fn expired_token(token: &Token) -> Status {
    let fresh = Token { revision: Revision::ZERO, after: token.after.clone() }.encode();
    let mut status = Status::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list \
         without the continue parameter, or use the continue token in this response to retrieve the remainder of the \
         results. Continuing with the provided token results in an inconsistent list - objects that were created, \
         modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    );
    status.continue_token = fresh;
    status
}

/// Refuses field selectors on fields that the resource does not offer.
///
/// # Errors
/// 400 naming the field.
pub fn check_fields(served: &Served, want: &Want) -> Result<(), Status> {
    let row = &served.row;
    let version = if row.converter.is_some() { served.version() } else { row.def.storage() };
    let offered = |field: &str| {
        matches!(field, "metadata.name" | "metadata.namespace")
            || version.selectable.iter().any(|f| f == field)
    };
    match want.fields.requirements.iter().find(|r| !offered(&r.field)) {
        Some(r) => Err(Status::bad_request(format!("field label not supported: {}", r.field))),
        None => Ok(()),
    }
}

/// Where a list goes on: opaque to clients.
#[derive(Debug, PartialEq, Eq)]
struct Token {
    /// The state; zero means the newest.
    revision: Revision,
    /// The key of the last object given.
    after: String,
}

impl Token {
    fn encode(&self) -> String {
        let revision = i64::try_from(self.revision.get()).unwrap_or_default();
        let value = object!({"v": "xebec/v1", "rv": (revision), "start": (self.after.as_str())});
        URL_SAFE_NO_PAD.encode(json::to_vec(&value))
    }

    fn decode(text: &str) -> Result<Self, Status> {
        let bad = || Status::bad_request("invalid continue token: continue key is not valid");
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| bad())?;
        let value: Value = json::from_slice(&bytes).map_err(|_| bad())?;
        if value.str_at(&["v"]) != Some("xebec/v1") {
            return Err(bad());
        }
        let revision = value.i64_at(&["rv"]).and_then(|rv| u64::try_from(rv).ok()).ok_or_else(bad)?;
        let after = value.str_at(&["start"]).ok_or_else(bad)?.to_owned();
        Ok(Self { revision: Revision::new(revision), after })
    }

    /// The key after which the list goes on; it must be one of this resource.
    fn start(&self, row: &Row) -> Result<Key, Status> {
        let bad = || Status::bad_request("invalid continue token: continue key is not valid");
        let key = Key::new(self.after.as_str()).map_err(|_| bad())?;
        if row.prefix("")?.contains(&key) { Ok(key) } else { Err(bad()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip_and_refuse_nonsense() {
        let token = Token { revision: Revision::new(7), after: "/registry/core/pods/a/b".into() };
        assert_eq!(Token::decode(&token.encode()).expect("ours"), token);
        for bad in ["", "x", "e30", "!!"] {
            assert_eq!(Token::decode(bad).expect_err("nonsense").code(), 400, "{bad}");
        }
    }
}
