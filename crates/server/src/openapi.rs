//! Serves the OpenAPI documents of what the table holds.
//!
//! Documents are large, take long to make, and are seldom asked for: each is made when it first is, by a thread that no other
//! request waits for, one at a time, and kept for as long as the table is the same.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use http::HeaderMap;
use http::header::{ACCEPT, CACHE_CONTROL, HeaderValue};
use tokio::sync::{OnceCell, Semaphore};
use xebec_api::builtin::Docs;
use xebec_api::openapi::{self, Documents, Resource, merge};
use xebec_api::{Status, Value, json};

use crate::aggregation::offer::Others;
use crate::discovery::KUBERNETES_VERSION;
use crate::http::document::{self, Document};
use crate::http::query::Query;
use crate::http::reply::Reply;
use crate::registry::Table;

const JSON: &str = "application/json";
/// What version 2 as protobuf is called in answers, and its older name, which client-go asks for.
const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
const V2_PROTOBUF_ASKED: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
/// How many bytes of documents are kept; what exceeds them is made each time.
const MAX_KEPT: usize = 32 * 1024 * 1024;

/// Hashes of version 3 documents by key.
type ByKey = BTreeMap<String, String>;

/// The documents of the table in force.
#[derive(Debug)]
pub struct Published {
    newest: Mutex<Arc<Edition>>,
    /// Held by the document that is made.
    press: Arc<Semaphore>,
    limit: usize,
}

/// The documents of one table.
#[derive(Debug, Default)]
struct Edition {
    /// The table, which is not kept for the documents' sake.
    of: Weak<Table>,
    documents: Mutex<HashMap<Which, Arc<OnceCell<Document>>>>,
    hashes: OnceCell<ByKey>,
    kept: AtomicUsize,
}

/// One of the documents.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Which {
    /// With what other servers have in this edition of theirs.
    V2(u64),
    V2Protobuf(u64),
    /// The version 3 document with this key.
    V3(String),
}

impl Default for Published {
    fn default() -> Self {
        Self { newest: Mutex::default(), press: Arc::new(Semaphore::new(1)), limit: MAX_KEPT }
    }
}

impl Published {
    fn edition(&self, table: &Arc<Table>) -> Arc<Edition> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let of = Arc::downgrade(table);
        if !Weak::ptr_eq(&newest.of, &of) {
            *newest = Arc::new(Edition { of, ..Edition::default() });
        }
        newest.clone()
    }

    async fn document(
        &self,
        edition: &Edition,
        table: &Arc<Table>,
        which: Which,
        others: &Others,
    ) -> Result<Document, Status> {
        edition.forget_before(&which);
        let cell = edition.documents().entry(which.clone()).or_default().clone();
        let make = || async {
            let which = which.clone();
            let others = if which.is_v2() { others.v2.clone() } else { Vec::new() };
            let document = self.make(table, move |table| made(table, &which, &others)).await?;
            edition.kept.fetch_add(document.bytes().len(), Ordering::Relaxed);
            Ok::<_, Status>(document)
        };
        let document = cell.get_or_try_init(make).await?.clone();
        if edition.kept.load(Ordering::Relaxed) > self.limit && edition.documents().remove(&which).is_some() {
            edition.kept.fetch_sub(document.bytes().len(), Ordering::Relaxed);
        }
        Ok(document)
    }

    /// The list of version 3 documents with their hashes, those of other servers among them.
    async fn index(
        &self,
        edition: &Edition,
        table: &Arc<Table>,
        others: &Others,
    ) -> Result<Document, Status> {
        let own = edition.hashes.get_or_try_init(|| self.make(table, hashes)).await?;
        let all: BTreeMap<&String, &String> = own.iter().chain(&others.v3).collect();
        let index = openapi::index(all.into_iter().map(|(key, hash)| (key.as_str(), hash.as_str())));
        Ok(Document::new(index, JSON))
    }

    /// Makes something of the table's documents on a thread that may take its time.
    async fn make<T: Send + 'static>(
        &self,
        table: &Arc<Table>,
        work: impl FnOnce(&Table) -> T + Send + 'static,
    ) -> Result<T, Status> {
        let turn = self.press.clone().acquire_owned().await.map_err(Status::internal)?;
        let table = table.clone();
        let made = tokio::task::spawn_blocking(move || {
            // The turn ends with the work, which goes on when nobody waits for it any more.
            let _turn = turn;
            work(&table)
        });
        made.await.map_err(Status::internal)
    }
}

impl Edition {
    fn documents(&self) -> MutexGuard<'_, HashMap<Which, Arc<OnceCell<Document>>>> {
        self.documents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets documents of version 2 with what other servers had before.
    fn forget_before(&self, which: &Which) {
        let Some(newest) = which.others() else { return };
        self.documents().retain(|known, cell| {
            let stays = known.others().is_none_or(|others| others >= newest);
            if let Some(document) = cell.get().filter(|_| !stays) {
                self.kept.fetch_sub(document.bytes().len(), Ordering::Relaxed);
            }
            stays
        });
    }

    /// What a document hashes to, if that is known without making it.
    fn hash(&self, which: &Which) -> Option<String> {
        if let Which::V3(key) = which
            && let Some(hash) = self.hashes.get().and_then(|hashes| hashes.get(key))
        {
            return Some(hash.clone());
        }
        self.documents().get(which)?.get().map(|document| document.hash().to_owned())
    }
}

fn documents(table: &Table) -> Documents<'_> {
    let resources = table.rows().map(|row| Resource { row: &row.def, definition: row.definition.as_ref() });
    Documents::new(resources.collect(), KUBERNETES_VERSION)
}

fn hashes(table: &Table) -> ByKey {
    let (documents, docs) = (documents(table), Docs::unpack());
    let hash = |key: String| {
        let bytes = documents.v3(&key, &docs)?;
        Some((key, document::hash(&bytes)))
    };
    documents.keys().into_iter().filter_map(hash).collect()
}

fn made(table: &Table, which: &Which, others: &[Arc<Value>]) -> Document {
    let (documents, docs) = (documents(table), Docs::unpack());
    match which {
        Which::V2(_) if others.is_empty() => Document::new(documents.v2(&docs), JSON),
        Which::V2(_) => Document::new(json::to_vec(&merged(&documents, &docs, others)), JSON),
        Which::V2Protobuf(_) if others.is_empty() => Document::new(documents.v2_protobuf(&docs), V2_PROTOBUF),
        Which::V2Protobuf(_) => {
            Document::new(openapi::to_protobuf(&merged(&documents, &docs, others)), V2_PROTOBUF)
        }
        Which::V3(key) => Document::new(documents.v3(key, &docs).unwrap_or_default(), JSON),
    }
}

/// The version 2 document with what other servers have.
fn merged(documents: &Documents<'_>, docs: &Docs, others: &[Arc<Value>]) -> Value {
    let own = documents.v2(docs);
    let mut document = json::from_slice(&own).expect("the document that was just written is JSON");
    others.iter().for_each(|other| merge::merge(&mut document, (**other).clone()));
    document
}

impl Which {
    const fn is_v2(&self) -> bool {
        self.others().is_some()
    }

    /// The edition of other servers' documents that it has.
    const fn others(&self) -> Option<u64> {
        match self {
            Self::V2(others) | Self::V2Protobuf(others) => Some(*others),
            Self::V3(_) => None,
        }
    }
}

/// Answers `/openapi/…`.
///
/// # Errors
/// 404 for documents that there are not.
pub(crate) async fn handle(
    published: &Published,
    table: &Arc<Table>,
    others: &Others,
    path: &[&str],
    headers: &HeaderMap,
    query: &Query,
) -> Result<Reply, Status> {
    let which = match path {
        ["v2"] if wants_protobuf(headers) => Which::V2Protobuf(others.edition),
        ["v2"] => Which::V2(others.edition),
        ["v3"] => {
            let edition = published.edition(table);
            return published.index(&edition, table, others).await?.answer(headers);
        }
        ["v3", key @ ..] => {
            let key = key.join("/");
            if !documents(table).keys().contains(&key) {
                return Err(Status::no_such_path());
            }
            Which::V3(key)
        }
        _ => return Err(Status::no_such_path()),
    };
    let edition = published.edition(table);
    if let Some(hash) = edition.hash(&which)
        && let Some(unchanged) = document::unchanged(headers, &hash)?
    {
        return Ok(unchanged);
    }
    let by_hash = matches!(which, Which::V3(_)).then(|| query.get("hash")).flatten();
    let document = published.document(&edition, table, which, others).await?;
    let reply = document.answer(headers)?;
    Ok(if by_hash == Some(document.hash()) { immutable(reply) } else { reply })
}

/// Whether the first of the wanted types that there is of version 2 is protobuf; it is JSON if there is none of them.
fn wants_protobuf(headers: &HeaderMap) -> bool {
    let wanted = headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    let known = |range: &str| match range.split(';').next().unwrap_or_default().trim() {
        V2_PROTOBUF | V2_PROTOBUF_ASKED => Some(true),
        JSON | "application/*" | "*/*" => Some(false),
        _ => None,
    };
    wanted.filter_map(known).next().unwrap_or(false)
}

/// A document that was asked for by its hash never changes.
fn immutable(reply: Reply) -> Reply {
    let Reply::Prepared(bytes, mut headers) = reply else { return reply };
    headers.push((CACHE_CONTROL, HeaderValue::from_static("public, immutable, max-age=31536000")));
    Reply::Prepared(bytes, headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_version_2() {
        let check = |accept: &[&str], want: bool| {
            let header = |v: &&str| (ACCEPT, v.parse().expect("a header"));
            assert_eq!(wants_protobuf(&accept.iter().map(header).collect()), want, "{accept:?}");
        };
        check(&[], false);
        check(&["*/*"], false);
        check(&["application/json"], false);
        check(&["text/html"], false);
        check(&["application/com.github.proto-openapi.spec.v2@v1.0+protobuf"], true);
        check(&["application/com.github.proto-openapi.spec.v2.v1.0+protobuf; q=0.9"], true);
        check(&["text/html, application/com.github.proto-openapi.spec.v2@v1.0+protobuf,*/*"], true);
        check(&["application/json,application/com.github.proto-openapi.spec.v2@v1.0+protobuf"], false);
        check(&["text/html", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"], true);
        check(&["application/vnd.kubernetes.protobuf"], false);
    }

    #[tokio::test]
    async fn documents_are_made_once() {
        let (published, others) = (Published::default(), Others::default());
        let table = Arc::new(Table::built_in());
        let v3 = |key: &str| Which::V3(key.to_owned());
        let edition = published.edition(&table);
        let (apps, batch) = (v3("apis/apps/v1"), v3("apis/batch/v1"));
        assert_eq!(edition.hash(&apps), None);
        let ask = || published.document(&edition, &table, apps.clone(), &others);
        let (first, second) = tokio::join!(ask(), ask());
        let (first, second) = (first.expect("made"), second.expect("kept"));
        assert_eq!(first.bytes().as_ptr(), second.bytes().as_ptr());
        assert_eq!(edition.hash(&apps).as_deref(), Some(first.hash()));
        assert_eq!(edition.hash(&batch), None);
        published.index(&edition, &table, &others).await.expect("made");
        let hash = edition.hash(&batch).expect("the index has all hashes");
        assert_eq!(hash, published.document(&edition, &table, batch, &others).await.expect("made").hash());
        assert_eq!(hashes(&table)["apis/apps/v1"], first.hash());

        assert!(Arc::ptr_eq(&edition, &published.edition(&table)));
        let other = Arc::new(table.with_custom([]));
        assert_eq!(published.edition(&other).hash(&apps), None, "another table has other documents");
    }

    #[tokio::test]
    async fn documents_that_are_too_large_are_not_kept() {
        let (published, others) = (Published { limit: 10_000, ..Published::default() }, Others::default());
        let table = Arc::new(Table::built_in());
        let edition = published.edition(&table);
        let version =
            published.document(&edition, &table, Which::V3("version".into()), &others).await.expect("made");
        let v2 = published.document(&edition, &table, Which::V2(0), &others).await.expect("made");
        assert!(version.bytes().len() < 10_000 && v2.bytes().len() > 10_000);
        assert_eq!(edition.documents().keys().collect::<Vec<_>>(), [&Which::V3("version".into())]);
        assert_eq!(edition.kept.load(Ordering::Relaxed), version.bytes().len());
    }

    #[tokio::test]
    async fn what_other_servers_have_is_in_version_2_and_in_the_index() {
        let published = Published::default();
        let table = Arc::new(Table::built_in());
        let edition = published.edition(&table);
        let mut other = Value::object();
        other.set(&["paths", "/apis/a.b/v1/things", "get"], Value::object());
        let hashes = BTreeMap::from([("apis/a.b/v1".to_owned(), "ABC".to_owned())]);
        let others = Others { edition: 1, v2: vec![Arc::new(other)], v3: hashes };
        let none = Others::default();
        let v2 = |others| published.document(&edition, &table, Which::V2(0), others);
        let before = v2(&none).await.expect("made");
        let after = published.document(&edition, &table, Which::V2(1), &others).await.expect("made");
        let has = |document: &Document| {
            let document = json::from_slice(document.bytes()).expect("JSON");
            document.at(&["paths", "/apis/a.b/v1/things"]).is_some()
        };
        assert_eq!((has(&before), has(&after)), (false, true));
        assert_eq!(edition.documents().keys().collect::<Vec<_>>(), [&Which::V2(1)]);
        assert_eq!(edition.kept.load(Ordering::Relaxed), after.bytes().len());
        let index = published.index(&edition, &table, &others).await.expect("made");
        let index = json::from_slice(index.bytes()).expect("JSON");
        let url = index.str_at(&["paths", "apis/a.b/v1", "serverRelativeURL"]);
        assert_eq!(url, Some("/openapi/v3/apis/a.b/v1?hash=ABC"));
        assert!(index.at(&["paths", "apis/apps/v1"]).is_some());
    }
}
