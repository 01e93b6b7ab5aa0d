//! Lists, written item by item: whatever form and encoding is wanted, one frame of the answer is made at a time.
//!
//! The first frame is made before the answer begins, so that an item in it that cannot be made fails the request. Another
//! one ends the answer early, which HTTP tells apart from its end.

use std::sync::Arc;

use bytes::Bytes;
use xebec_api::protobuf::{self, Message};
use xebec_api::table::Renderer;
use xebec_api::time::Timestamp;
use xebec_api::{Map, Status, Value, json, object};
use xebec_store::Record;

use super::accept::{Encoding, Form};
use super::render::{self, META_V1};
use crate::registry::conversion::Ready;
use crate::registry::read::Page;
use crate::registry::table::Served;
use crate::registry::{convert, facts};

/// About how many bytes one frame holds.
const FRAME: usize = 64 * 1024;
/// About how many bytes of stored objects are read for one frame, which may hold little of each.
const READ: usize = 4 * FRAME;

/// A list as frames.
#[derive(Debug)]
pub(super) struct ListFrames {
    items: Items,
    records: std::vec::IntoIter<Arc<Record>>,
    /// What the items' messages have in bytes, which protobuf says in front.
    lengths: std::vec::IntoIter<usize>,
    head: Option<Vec<u8>>,
    tail: Option<&'static [u8]>,
    first: bool,
}

/// How items are written.
#[derive(Debug)]
struct Items {
    served: Served,
    form: Form,
    encoding: Encoding,
    /// What had to be converted.
    ready: Ready,
    /// When ages are counted to.
    now: Timestamp,
}

impl ListFrames {
    /// The frames of a page in a form and encoding that its resource can be given in.
    ///
    /// # Errors
    /// 500: a stored object cannot be read, or the encoding cannot hold the list.
    pub(super) async fn new(
        mut page: Page,
        served: &Served,
        form: Form,
        encoding: Encoding,
    ) -> Result<Self, Status> {
        let ready = std::mem::take(&mut page.ready);
        let items = Items { served: served.clone(), form, encoding, ready, now: render::now() };
        let lengths = match encoding {
            Encoding::Protobuf => items.lengths(&page.records).await?,
            Encoding::Json | Encoding::Yaml => Vec::new(),
        };
        let head = items.head(&page, &lengths)?;
        let tail: &[u8] = match encoding {
            Encoding::Json => b"]}\n",
            Encoding::Yaml => b"",
            Encoding::Protobuf => const { &protobuf::List::tail() },
        };
        Ok(Self {
            items,
            records: page.records.into_iter(),
            lengths: lengths.into_iter(),
            head: Some(head),
            tail: Some(tail),
            first: true,
        })
    }

    /// Whether the last frame has been made.
    pub(super) const fn is_done(&self) -> bool {
        self.tail.is_none()
    }

    fn next_frame(&mut self) -> Result<Vec<u8>, Status> {
        let mut out = self.head.take().unwrap_or_default();
        let renderer = self.items.renderer();
        let mut read = 0;
        while out.len() < FRAME && read < READ {
            let Some(record) = self.records.next() else { break };
            read += record.as_slice().len();
            let first = std::mem::take(&mut self.first);
            match self.items.encoding {
                Encoding::Json => self.items.json(&record, &renderer, first, &mut out)?,
                Encoding::Yaml => {
                    let item = self.items.value(&record, &renderer)?;
                    out.extend_from_slice(yaml(&[item])?.as_bytes());
                }
                Encoding::Protobuf => {
                    let message = self.items.message(&record)?;
                    if self.lengths.next() != Some(message.len()) {
                        return Err(Status::internal("the same object has two lengths"));
                    }
                    out.extend_from_slice(&protobuf::List::item(message.len()));
                    out.extend_from_slice(&message);
                }
            }
        }
        if self.records.len() == 0 {
            out.extend_from_slice(self.tail.take().unwrap_or_default());
        }
        Ok(out)
    }
}

impl Items {
    /// What stands before the items.
    fn head(&self, page: &Page, lengths: &[usize]) -> Result<Vec<u8>, Status> {
        let metadata = page_metadata(page);
        let own_version = self.served.api_version();
        let (api_version, kind, items) = match self.form {
            Form::Whole => (own_version.as_str(), self.served.row.def.names.list_kind.as_ref(), "items"),
            Form::Metadata => (META_V1, "PartialObjectMetadataList", "items"),
            Form::Table(_) => (META_V1, "Table", "rows"),
        };
        if self.encoding == Encoding::Protobuf {
            let metadata = Value::Object(metadata);
            return Ok(protobuf::List::head(api_version, kind, &metadata, lengths.iter().copied()));
        }
        let mut list = object!({"apiVersion": api_version, "kind": kind, "metadata": (metadata)});
        if matches!(self.form, Form::Table(_)) {
            list.set(&["columnDefinitions"], self.renderer().definitions());
        }
        if self.encoding == Encoding::Yaml {
            // The items follow as elements that are indented no further, which YAML takes as the member's value.
            let none = if page.records.is_empty() { " []" } else { "" };
            return Ok(format!("{}{items}:{none}\n", yaml(&list)?).into_bytes());
        }
        let mut head = json::to_vec(&list);
        head.pop();
        head.extend_from_slice(format!(",\"{items}\":[").as_bytes());
        Ok(head)
    }

    /// The lengths of all messages. It takes long for long lists, in which others have their turn.
    async fn lengths(&self, records: &[Arc<Record>]) -> Result<Vec<usize>, Status> {
        let mut lengths = Vec::with_capacity(records.len());
        let mut read = 0;
        for record in records {
            lengths.push(self.message(record)?.len());
            read += record.as_slice().len();
            if read >= READ {
                read = 0;
                tokio::task::yield_now().await;
            }
        }
        Ok(lengths)
    }

    fn renderer(&self) -> Renderer<'_> {
        Renderer::new(match self.form {
            Form::Table(_) => &self.served.version().columns,
            Form::Whole | Form::Metadata => &[],
        })
    }

    fn json(
        &self,
        record: &Record,
        renderer: &Renderer<'_>,
        first: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Status> {
        if !first {
            out.push(b',');
        }
        match self.form {
            Form::Whole => out.extend_from_slice(&convert::bytes_of(record, &self.served, &self.ready)?),
            Form::Metadata | Form::Table(_) => json::write(&self.value(record, renderer)?, out),
        }
        Ok(())
    }

    fn value(&self, record: &Record, renderer: &Renderer<'_>) -> Result<Value, Status> {
        let object = convert::object_of(record, &self.served, &self.ready)?;
        Ok(match self.form {
            Form::Whole => object,
            Form::Metadata => render::metadata_only(object),
            Form::Table(rows) => render::row(renderer, object, rows, &self.served, self.now),
        })
    }

    fn message(&self, record: &Record) -> Result<Bytes, Status> {
        let formless =
            || Status::internal(format_args!("{} has no protobuf form", self.served.row.kind_name()));
        match self.form {
            // What is stored as it is wanted is kept with its record.
            Form::Whole if self.served.is_stored() => facts::message(record, &self.served),
            Form::Whole => {
                let message = Message::of_node(self.served.version().root).ok_or_else(formless)?;
                Ok(protobuf::encode(&convert::object_of(record, &self.served, &self.ready)?, message).into())
            }
            Form::Metadata => {
                let message = Message::of(META_V1, "PartialObjectMetadata").ok_or_else(formless)?;
                let object = convert::object_of(record, &self.served, &self.ready)?;
                Ok(protobuf::encode(&render::metadata_only(object), message).into())
            }
            Form::Table(_) => Err(Status::internal("a table has no protobuf form")),
        }
    }
}

fn yaml(value: &impl serde::Serialize) -> Result<String, Status> {
    serde_saphyr::to_string(value).map_err(Status::internal)
}

fn page_metadata(page: &Page) -> Map {
    let mut metadata = Map::new();
    metadata.insert("resourceVersion", page.revision.to_string());
    if !page.continue_token.is_empty() {
        metadata.insert("continue", page.continue_token.as_str());
    }
    if let Some(count) = page.remaining.and_then(|n| i64::try_from(n).ok()) {
        metadata.insert("remainingItemCount", count);
    }
    metadata
}

impl Iterator for ListFrames {
    type Item = Result<Bytes, Status>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done() {
            return None;
        }
        let frame = self.next_frame();
        if frame.is_err() {
            self.tail = None;
        }
        Some(frame.map(Bytes::from))
    }
}

#[cfg(test)]
mod tests {
    use xebec_store::{Embedded, EmbeddedOptions, Store as _, Txn, Value as Stored};

    use super::*;
    use crate::http::accept::Rows;
    use crate::registry::Table;

    const FORMS: [Form; 5] = [
        Form::Whole,
        Form::Metadata,
        Form::Table(Rows::Metadata),
        Form::Table(Rows::Object),
        Form::Table(Rows::Nothing),
    ];

    /// A page of so many objects of some size.
    async fn page(served: &Served, count: usize, size: usize) -> Page {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Embedded::open(dir.path(), EmbeddedOptions::default()).expect("an empty store");
        for n in 0..count {
            let name = format!("map-{n:04}");
            // Texts that YAML would take for something else.
            let data =
                object!({"a": ("x".repeat(size)), "b": "- 1\n: &a *b", "c": "null", "d": "0x1F", "e": ""});
            let object = object!({
                "apiVersion": "v1", "kind": "ConfigMap", "data": (data),
                "metadata": {"name": (name.as_str()), "namespace": "a", "creationTimestamp": "2020-01-01T00:00:00Z"}
            });
            let key = served.row.key("a", &name).expect("a key");
            let txn = Txn::default().put(key, Stored::opaque(json::to_vec(&object)));
            store.commit(txn).await.expect("committed");
        }
        let snapshot = store.snapshot();
        let prefix = served.row.prefix("").expect("a prefix");
        Page {
            records: snapshot.range(&prefix, None).cloned().collect(),
            ready: Ready::default(),
            revision: snapshot.revision(),
            continue_token: "more".into(),
            remaining: Some(7),
        }
    }

    /// The list, and how long its frames are.
    async fn read(page: &Page, served: &Served, form: Form, encoding: Encoding) -> (Value, Vec<usize>) {
        let (records, continue_token) = (page.records.clone(), page.continue_token.clone());
        let copy = Page {
            records,
            ready: Ready::default(),
            revision: page.revision,
            continue_token,
            remaining: page.remaining,
        };
        let mut list = ListFrames::new(copy, served, form, encoding).await.expect("a list");
        let (mut all, mut frames) = (Vec::new(), Vec::new());
        for frame in list.by_ref() {
            let data = frame.expect("objects that can be written");
            frames.push(data.len());
            all.extend_from_slice(&data);
        }
        assert!(list.is_done());
        let value = match encoding {
            Encoding::Json => json::from_slice(&all).expect("JSON"),
            Encoding::Yaml => {
                crate::http::body::Format::Yaml.parse(&all).unwrap_or_else(|e| panic!("{form:?}: {e}")).value
            }
            Encoding::Protobuf => protobuf::decode_object(&all).expect("protobuf"),
        };
        (value, frames)
    }

    #[tokio::test]
    async fn all_forms_and_encodings_say_the_same() {
        let table = Table::built_in();
        let served = table.served("", "v1", "configmaps").expect("built in");
        for count in [0, 1, 3] {
            let page = page(&served, count, 10).await;
            for form in FORMS {
                let (mut json, _) = read(&page, &served, form, Encoding::Json).await;
                let items = if matches!(form, Form::Table(_)) { "rows" } else { "items" };
                assert_eq!(json.array_at(&[items]).len(), count, "{form:?}");
                assert_eq!(json.str_at(&["metadata", "continue"]), Some("more"));
                assert_eq!(json.i64_at(&["metadata", "remainingItemCount"]), Some(7));
                let (yaml, _) = read(&page, &served, form, Encoding::Yaml).await;
                assert_eq!(json::to_vec(&yaml), json::to_vec(&json), "{form:?}");
                if items == "rows" {
                    continue;
                }
                let (protobuf, _) = read(&page, &served, form, Encoding::Protobuf).await;
                let mut names = Vec::new();
                if let Some(items) = json.get_mut("items").and_then(Value::as_array_mut) {
                    for item in items {
                        names.push(xebec_api::meta::name(item).to_owned());
                    }
                }
                let found = protobuf.array_at(&["items"]).iter().map(|i| xebec_api::meta::name(i).to_owned());
                assert_eq!(found.collect::<Vec<_>>(), names, "{form:?}");
                assert_eq!(protobuf.get("kind"), json.get("kind"));
                assert_eq!(protobuf.get("metadata"), json.get("metadata"));
            }
        }
    }

    #[tokio::test]
    async fn frames_are_bounded() {
        let table = Table::built_in();
        let served = table.served("", "v1", "configmaps").expect("built in");
        let page = page(&served, 100, 30_000).await;
        for form in FORMS {
            for encoding in [Encoding::Json, Encoding::Yaml, Encoding::Protobuf] {
                if encoding == Encoding::Protobuf && matches!(form, Form::Table(_)) {
                    continue;
                }
                let (_, frames) = read(&page, &served, form, encoding).await;
                // Three megabytes are stored, of which a frame reads less than 300,000 bytes.
                assert!(frames.len() >= 10, "{form:?} {encoding:?}: {frames:?}");
                assert!(frames.iter().all(|len| *len < FRAME + 40_000), "{form:?} {encoding:?}: {frames:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_damaged_object_fails_its_frame() {
        let table = Table::built_in();
        let served = table.served("", "v1", "configmaps").expect("built in");
        let dir = tempfile::tempdir().expect("a directory");
        let store = Embedded::open(dir.path(), EmbeddedOptions::default()).expect("an empty store");
        let large = object!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "a"},
            "data": {"a": ("x".repeat(READ))}
        });
        for (name, bytes) in [("a", json::to_vec(&large)), ("b", b"{nonsense".to_vec())] {
            let key = served.row.key("a", name).expect("a key");
            store.commit(Txn::default().put(key, Stored::opaque(bytes))).await.expect("committed");
        }
        let snapshot = store.snapshot();
        let records: Vec<_> =
            snapshot.range(&served.row.prefix("").expect("a prefix"), None).cloned().collect();
        for (what, records, before) in [("alone", &records[1..], 0), ("after another", &records[..], 1)] {
            let page = Page {
                records: records.to_vec(),
                ready: Ready::default(),
                revision: snapshot.revision(),
                continue_token: String::new(),
                remaining: None,
            };
            let list = ListFrames::new(page, &served, Form::Metadata, Encoding::Json).await;
            let mut list = list.expect("its items are not looked at yet");
            for _ in 0..before {
                list.next().expect("a frame").expect("what can be written");
            }
            let status = list.next().expect("a frame").expect_err("what cannot be written");
            assert_eq!(status.code(), 500, "{what}");
            let text = "the stored object /registry/core/configmaps/a/b cannot be read";
            assert!(status.message.contains(text), "{what}: {status}");
            assert!(list.next().is_none(), "{what}");
        }
    }
}
