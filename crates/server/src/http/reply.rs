//! Answers: what a handler gives back, and how it becomes an HTTP response.

use std::convert::Infallible;

use bytes::Bytes;
use futures::StreamExt as _;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use xebec_api::{Status, Value, json, protobuf};

use super::accept::{Accept, Encoding, Form};
use super::body::BoxError;
use super::delivery::Delivery;
use super::list::ListFrames;
use super::render;
use crate::registry::read::Page;
use crate::registry::table::Served;
use crate::registry::watch::Open;

/// The body of an answer.
pub type ReplyBody = UnsyncBoxBody<Bytes, BoxError>;

/// What a handler gives back.
pub enum Reply {
    /// An object in the version served, as canonical JSON.
    Object(StatusCode, Bytes, Served),
    /// A list.
    List(Page, Served),
    /// Any other document.
    Document(StatusCode, Value),
    /// Text.
    Text(StatusCode, String),
    /// A document that is kept ready as JSON bytes, with further headers.
    Prepared(Bytes, Vec<(HeaderName, HeaderValue)>),
    /// A watch.
    Watch(Box<Open>),
    /// A response that somebody else made.
    Response(Response<ReplyBody>),
}

impl Reply {
    /// A document with 200.
    #[must_use]
    pub fn ok(document: Value) -> Self {
        Self::Document(StatusCode::OK, document)
    }
}

/// A body that is all there.
#[must_use]
pub fn full(bytes: impl Into<Bytes>) -> ReplyBody {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// The response to a request that failed.
#[must_use]
pub fn failure(status: &Status, accept: Accept) -> Response<ReplyBody> {
    let code = StatusCode::from_u16(status.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = document(code, &status.to_value(), accept.encoding);
    let retry = status.details.as_ref().and_then(|d| d.retry_after_seconds);
    let retry = retry.or((status.reason == xebec_api::Reason::TooManyRequests).then_some(1));
    if let Some(seconds) = retry {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The response that a reply is, in the form wanted; what is wanted of a resource has been [settled](Accept::settle).
///
/// # Errors
/// A stored object cannot be read, or the document cannot be given in the form wanted.
pub(crate) async fn respond(
    reply: Reply,
    accept: Accept,
    delivery: Delivery,
) -> Result<Response<ReplyBody>, Status> {
    match reply {
        Reply::Object(code, bytes, served) => respond_object(code, bytes, &served, accept),
        Reply::List(page, served) => {
            let mut list = ListFrames::new(page, &served, accept.form, accept.encoding).await?;
            let first = list.next().transpose()?.unwrap_or_default();
            let body = if list.is_done() { full(first) } else { delivery.send(first, list).boxed_unsync() };
            Ok(response(StatusCode::OK, accept.encoding.content_type(), body))
        }
        Reply::Document(code, value) => Ok(document(code, &value, accept.encoding)),
        Reply::Text(code, text) => Ok(response(code, "text/plain; charset=utf-8", full(text))),
        Reply::Prepared(bytes, headers) => {
            let mut response = response(StatusCode::OK, Encoding::Json.content_type(), full(bytes));
            for (name, value) in headers {
                response.headers_mut().insert(name, value);
            }
            Ok(response)
        }
        Reply::Watch(open) => {
            let frames = open.into_stream().map(|bytes| Ok(http_body::Frame::data(bytes)));
            let content_type = match (accept.encoding, accept.form) {
                (Encoding::Protobuf, _) => "application/vnd.kubernetes.protobuf;stream=watch",
                (_, Form::Whole) => "application/json",
                (_, Form::Table(_) | Form::Metadata) => "application/json;stream=watch",
            };
            Ok(response(StatusCode::OK, content_type, StreamBody::new(frames).boxed_unsync()))
        }
        Reply::Response(response) => Ok(response),
    }
}

fn respond_object(
    code: StatusCode,
    bytes: Bytes,
    served: &Served,
    accept: Accept,
) -> Result<Response<ReplyBody>, Status> {
    if accept.is_as_stored() {
        return Ok(response(code, Encoding::Json.content_type(), full(bytes)));
    }
    let object = json::from_slice(&bytes).map_err(Status::internal)?;
    let object = render::object(object, accept.form, served)?;
    Ok(document(code, &object, accept.encoding))
}

/// A document that cannot be written in the encoding wanted is given as JSON.
fn document(code: StatusCode, value: &Value, encoding: Encoding) -> Response<ReplyBody> {
    let bytes = match encoding {
        Encoding::Json => None,
        Encoding::Yaml => match serde_saphyr::to_string(value) {
            Ok(text) => Some(text.into_bytes()),
            Err(error) => {
                tracing::error!(%error, "a document cannot be written as YAML");
                None
            }
        },
        // Documents that are no objects of a kind (`/version`) have no protobuf form.
        Encoding::Protobuf => protobuf::encode_object(value),
    };
    match bytes {
        Some(bytes) => response(code, encoding.content_type(), full(bytes)),
        None => {
            let mut bytes = json::to_vec(value);
            bytes.push(b'\n');
            response(code, Encoding::Json.content_type(), full(bytes))
        }
    }
}

fn response(code: StatusCode, content_type: &'static str, body: ReplyBody) -> Response<ReplyBody> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// The `Warning` header (RFC 7234, code 299) of a text.
#[must_use]
pub fn warning(text: &str) -> Option<HeaderValue> {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let escaped = clean.replace('\\', "\\\\").replace('"', "\\\"");
    HeaderValue::from_str(&format!("299 - \"{escaped}\"")).ok()
}
