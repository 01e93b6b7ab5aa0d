//! Serves the OpenAPI documents of what the table holds.
//!
//! Documents are large and seldom asked for: they are made when they are, and only their hashes are kept, for as long as
//! the table is the same.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use http::header::{CACHE_CONTROL, ETAG, HeaderValue};
use xebec_api::Status;
use xebec_api::builtin::Docs;
use xebec_api::openapi::{self, Documents, Resource};

use crate::discovery::{KUBERNETES_VERSION, document_hash, tagged};
use crate::http::reply::Reply;
use crate::registry::Table;
use crate::serve::Incoming;

const JSON: &str = "application/json";

/// Hashes by document.
type ByKey = Arc<BTreeMap<String, String>>;

/// The hashes of the documents of one table.
#[derive(Debug, Default)]
pub struct Hashes {
    known: Mutex<Option<(Arc<Table>, ByKey)>>,
}

impl Hashes {
    fn of(&self, table: &Arc<Table>, documents: &Documents<'_>) -> ByKey {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, hashes)) = known.as_ref().filter(|(of, _)| Arc::ptr_eq(of, table)) {
            return hashes.clone();
        }
        let docs = Docs::unpack();
        let hash = |key: String| {
            let document = documents.v3(&key, &docs)?;
            Some((key, document_hash(&document)))
        };
        let hashes: ByKey = Arc::new(documents.keys().into_iter().filter_map(hash).collect());
        *known = Some((table.clone(), hashes.clone()));
        hashes
    }
}

fn documents(table: &Table) -> Documents<'_> {
    let resources = table.rows().map(|row| Resource { row: &row.def, definition: row.definition.as_ref() });
    Documents::new(resources.collect(), KUBERNETES_VERSION)
}

/// Answers `/openapi/…`.
///
/// # Errors
/// 404 for documents that there are not; 406 for version 2 as protobuf.
pub(crate) fn handle(
    hashes: &Hashes,
    table: &Arc<Table>,
    path: &[&str],
    incoming: &Incoming,
) -> Result<Reply, Status> {
    let documents = documents(table);
    match path {
        ["v2"] => {
            let only_protobuf = incoming
                .request
                .headers()
                .get(http::header::ACCEPT)
                .and_then(|v| v.to_str().ok())
                .is_some_and(|accept| {
                    accept.contains("protobuf") && !accept.contains(JSON) && !accept.contains("*/*")
                });
            if only_protobuf {
                return Err(Status::not_acceptable(&[JSON]));
            }
            tagged(incoming, documents.v2(&Docs::unpack()), JSON)
        }
        ["v3"] => {
            let hashes = hashes.of(table, &documents);
            let index = openapi::index(hashes.iter().map(|(key, hash)| (key.as_str(), hash.as_str())));
            tagged(incoming, index, JSON)
        }
        ["v3", key @ ..] => {
            let document = documents.v3(&key.join("/"), &Docs::unpack()).ok_or_else(Status::no_such_path)?;
            let reply = tagged(incoming, document, JSON)?;
            Ok(immutable(reply, incoming))
        }
        _ => Err(Status::no_such_path()),
    }
}

/// A document that was asked for by its hash never changes.
fn immutable(reply: Reply, incoming: &Incoming) -> Reply {
    let Reply::Prepared(bytes, mut headers) = reply else { return reply };
    let tag =
        headers.iter().find(|(name, _)| name == ETAG).and_then(|(_, v)| v.to_str().ok()).unwrap_or_default();
    if incoming.context.query.get("hash").is_some_and(|hash| tag.trim_matches('"') == hash) {
        headers.push((CACHE_CONTROL, HeaderValue::from_static("public, immutable, max-age=31536000")));
    }
    Reply::Prepared(bytes, headers)
}
