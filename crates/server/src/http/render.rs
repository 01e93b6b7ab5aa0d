//! Objects and lists in the form and encoding that the client wants.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};
use xebec_api::table::{self, Renderer};
use xebec_api::time::Timestamp;
use xebec_api::{Map, Status, Value, json, object, protobuf};
use xebec_store::Record;

use super::accept::{Form, Rows};
use super::body::BoxError;
use crate::registry::read::Page;
use crate::registry::table::Served;
use crate::registry::{convert, facts};

const META_V1: &str = "meta.k8s.io/v1";
/// About how many bytes one frame of a list holds.
const FRAME: usize = 64 * 1024;

/// An object in the form wanted.
///
/// # Errors
/// 500: a row of the table cannot be made.
pub fn object(object: Value, form: Form, served: &Served) -> Result<Value, Status> {
    match form {
        Form::Whole => Ok(object),
        Form::Metadata => Ok(metadata_only(object)),
        Form::Table(rows) => Ok(table_of(vec![object], rows, served, now())),
    }
}

/// A bookmark in the form wanted.
#[must_use]
pub fn bookmark(object: Value, form: Form) -> Value {
    match form {
        Form::Whole => object,
        Form::Metadata => metadata_only(object),
        Form::Table(_) => {
            let version = object.at(&["metadata", "resourceVersion"]).cloned().unwrap_or_default();
            object!({
                "apiVersion": META_V1, "kind": "Table", "columnDefinitions": [],
                "metadata": {"resourceVersion": (version)},
                "rows": [{"cells": [], "object": (metadata_only(object))}]
            })
        }
    }
}

fn now() -> Timestamp {
    Timestamp::from_system(std::time::SystemTime::now())
}

fn metadata_only(mut object: Value) -> Value {
    let metadata = object.get_mut("metadata").map_or_else(Value::object, Value::take);
    object!({"apiVersion": META_V1, "kind": "PartialObjectMetadata", "metadata": (metadata)})
}

fn table_of(objects: Vec<Value>, include: Rows, served: &Served, now: Timestamp) -> Value {
    let renderer = Renderer::new(&served.version().columns);
    let (group, kind) = (served.row.group(), served.row.kind_name());
    let row = |object: Value| {
        let mut row = object!({"cells": (renderer.cells(&object, now))});
        let conditions = table::row_conditions(group, kind, &object);
        if !conditions.is_empty() {
            row.set(&["conditions"], conditions);
        }
        match include {
            Rows::Metadata => row.set(&["object"], metadata_only(object)),
            Rows::Object => row.set(&["object"], object),
            Rows::Nothing => {}
        }
        row
    };
    let rows: Vec<Value> = objects.into_iter().map(row).collect();
    object!({
        "apiVersion": META_V1, "kind": "Table", "metadata": {},
        "columnDefinitions": (renderer.definitions()),
        "rows": (rows)
    })
}

/// A page in the form wanted, as one tree.
///
/// # Errors
/// 500: a stored object cannot be read.
pub fn page(page: &Page, form: Form, served: &Served) -> Result<Value, Status> {
    let objects = page.records.iter().map(|r| convert::object(r, served)).collect::<Result<Vec<_>, _>>()?;
    let mut list = match form {
        Form::Table(rows) => table_of(objects, rows, served, now()),
        Form::Metadata => {
            let items: Vec<Value> = objects.into_iter().map(metadata_only).collect();
            object!({"apiVersion": META_V1, "kind": "PartialObjectMetadataList", "items": (items)})
        }
        Form::Whole => object!({
            "apiVersion": (served.api_version()),
            "kind": (served.row.def.names.list_kind.as_ref()),
            "items": (objects)
        }),
    };
    list.set(&["metadata"], page_metadata(page));
    Ok(list)
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

/// A list of whole objects, frame by frame: the bytes of those that are stored as they are wanted are passed on as they are.
#[derive(Debug)]
pub struct ListBody {
    records: std::vec::IntoIter<Arc<Record>>,
    served: Served,
    head: Option<Vec<u8>>,
    tail: Option<Vec<u8>>,
    first: bool,
}

impl ListBody {
    /// The body of a page.
    #[must_use]
    pub fn new(page: Page, served: &Served) -> Self {
        let mut head = br#"{"apiVersion":"#.to_vec();
        json::write_str(&served.api_version(), &mut head);
        head.extend_from_slice(br#","items":["#);
        let mut tail = br#"],"kind":"#.to_vec();
        json::write_str(&served.row.def.names.list_kind, &mut tail);
        tail.extend_from_slice(br#","metadata":"#);
        json::write(&Value::Object(page_metadata(&page)), &mut tail);
        tail.extend_from_slice(b"}\n");
        let records = page.records.into_iter();
        Self { records, served: served.clone(), head: Some(head), tail: Some(tail), first: true }
    }
}

impl Body for ListBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut out = BytesMut::from(self.head.take().unwrap_or_default().as_slice());
        while out.len() < FRAME {
            let Some(record) = self.records.next() else { break };
            if !std::mem::take(&mut self.first) {
                out.extend_from_slice(b",");
            }
            out.extend_from_slice(&convert::bytes(&record, &self.served)?);
        }
        if self.records.len() == 0 {
            match self.tail.take() {
                Some(tail) => out.extend_from_slice(&tail),
                None => return Poll::Ready(None),
            }
        }
        Poll::Ready(Some(Ok(Frame::data(out.freeze()))))
    }

    fn is_end_stream(&self) -> bool {
        self.tail.is_none()
    }
}

/// A list as protobuf, put together from its items' messages, which are kept with their records.
#[derive(Debug)]
pub struct MessageList {
    head: Option<Vec<u8>>,
    messages: std::vec::IntoIter<Bytes>,
    tail: Option<[u8; 4]>,
}

impl MessageList {
    /// The body of a page; the objects' version must be the one stored, and their kind built in.
    ///
    /// # Errors
    /// 500: a stored object cannot be read.
    pub fn new(page: &Page, served: &Served) -> Result<Self, Status> {
        let messages =
            page.records.iter().map(|r| facts::message(r, served)).collect::<Result<Vec<_>, _>>()?;
        let head = protobuf::List::head(
            &served.api_version(),
            &served.row.def.names.list_kind,
            &Value::Object(page_metadata(page)),
            messages.iter().map(Bytes::len),
        );
        Ok(Self { head: Some(head), messages: messages.into_iter(), tail: Some(protobuf::List::tail()) })
    }
}

impl Body for MessageList {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut out = BytesMut::from(self.head.take().unwrap_or_default().as_slice());
        while out.len() < FRAME {
            let Some(message) = self.messages.next() else { break };
            out.extend_from_slice(&protobuf::List::item(message.len()));
            out.extend_from_slice(&message);
        }
        if self.messages.len() == 0 {
            match self.tail.take() {
                Some(tail) => out.extend_from_slice(&tail),
                None => return Poll::Ready(None),
            }
        }
        Poll::Ready(Some(Ok(Frame::data(out.freeze()))))
    }

    fn is_end_stream(&self) -> bool {
        self.tail.is_none()
    }
}
