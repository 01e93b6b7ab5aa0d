//! Serves the OpenAPI documents of what the table holds.
//!
//! Documents are large and seldom asked for: they are made when they are, and only their hashes are kept, for as long as
//! the table is the same.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderMap;
use http::header::{ACCEPT, CACHE_CONTROL, ETAG, HeaderValue};
use xebec_api::Status;
use xebec_api::builtin::Docs;
use xebec_api::openapi::{self, Documents, Resource};

use crate::discovery::{KUBERNETES_VERSION, document_hash, tagged};
use crate::http::reply::Reply;
use crate::registry::Table;
use crate::serve::Incoming;

const JSON: &str = "application/json";
/// What version 2 as protobuf is called in answers, and its older name, which client-go asks for.
const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
const V2_PROTOBUF_ASKED: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// Hashes by key.
type ByKey = BTreeMap<String, String>;

/// The hashes of the documents of one table.
#[derive(Debug, Default)]
pub struct Hashes {
    known: Mutex<Option<(Arc<Table>, Arc<ByKey>)>>,
}

impl Hashes {
    fn of(&self, table: &Arc<Table>, documents: &Documents<'_>) -> Arc<ByKey> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, hashes)) = known.as_ref().filter(|(of, _)| Arc::ptr_eq(of, table)) {
            return hashes.clone();
        }
        let docs = Docs::unpack();
        let hash = |key: String| {
            let document = documents.v3(&key, &docs)?;
            Some((key, document_hash(&document)))
        };
        let hashes: Arc<ByKey> = Arc::new(documents.keys().into_iter().filter_map(hash).collect());
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
/// 404 for documents that there are not.
pub(crate) fn handle(
    hashes: &Hashes,
    table: &Arc<Table>,
    path: &[&str],
    incoming: &Incoming,
) -> Result<Reply, Status> {
    let documents = documents(table);
    match path {
        ["v2"] => match v2_type(incoming.request.headers()) {
            V2Type::Json => tagged(incoming, documents.v2(&Docs::unpack()), JSON),
            V2Type::Protobuf => tagged(incoming, documents.v2_protobuf(&Docs::unpack()), V2_PROTOBUF),
        },
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

/// The forms of the version 2 document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum V2Type {
    Json,
    Protobuf,
}

/// The first of the wanted types that there is, as for objects; JSON if there is none of them.
fn v2_type(headers: &HeaderMap) -> V2Type {
    let wanted = headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    let known = |range: &str| match range.split(';').next().unwrap_or_default().trim() {
        V2_PROTOBUF | V2_PROTOBUF_ASKED => Some(V2Type::Protobuf),
        JSON | "application/*" | "*/*" => Some(V2Type::Json),
        _ => None,
    };
    wanted.filter_map(known).next().unwrap_or(V2Type::Json)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_version_2() {
        let check = |accept: &[&str], want: V2Type| {
            let header = |v: &&str| (ACCEPT, v.parse().expect("a header"));
            assert_eq!(v2_type(&accept.iter().map(header).collect()), want, "{accept:?}");
        };
        check(&[], V2Type::Json);
        check(&["*/*"], V2Type::Json);
        check(&["application/json"], V2Type::Json);
        check(&["text/html"], V2Type::Json);
        check(&["application/com.github.proto-openapi.spec.v2@v1.0+protobuf"], V2Type::Protobuf);
        check(&["application/com.github.proto-openapi.spec.v2.v1.0+protobuf; q=0.9"], V2Type::Protobuf);
        check(
            &["text/html, application/com.github.proto-openapi.spec.v2@v1.0+protobuf,*/*"],
            V2Type::Protobuf,
        );
        check(&["application/json,application/com.github.proto-openapi.spec.v2@v1.0+protobuf"], V2Type::Json);
        check(&["text/html", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"], V2Type::Protobuf);
        check(&["application/vnd.kubernetes.protobuf"], V2Type::Json);
    }
}
