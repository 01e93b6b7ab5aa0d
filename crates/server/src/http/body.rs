//! Reading request bodies: bounded, and decoded by content type.

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use xebec_api::json::Parsed;
use xebec_api::{Status, Value, json, protobuf};

use super::yaml;

/// The largest body of a request, in bytes.
pub const MAX_BODY: usize = 3 * 1024 * 1024;

/// Whatever goes wrong with a stream of bytes.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// A request's body, from a socket or from memory.
pub type RequestBody = UnsyncBoxBody<Bytes, BoxError>;

/// What a body is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON.
    Json,
    /// YAML 1.1 as Go reads it.
    Yaml,
    /// Protobuf in Kubernetes' envelope; built-in kinds only.
    Protobuf,
}

/// The content types of objects that are understood; of custom resources only [`CUSTOM_TYPES`].
pub const OBJECT_TYPES: [&str; 3] =
    ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
/// The content types of custom resources.
pub const CUSTOM_TYPES: [&str; 2] = ["application/json", "application/yaml"];

impl Format {
    /// The format that a `Content-Type` header names; a body without one is JSON.
    ///
    /// # Errors
    /// 415 with the types that are understood.
    pub fn from_content_type(value: Option<&str>) -> Result<Self, Status> {
        let media = value.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        match media {
            "" | "application/json" => Ok(Self::Json),
            "application/yaml" | "text/yaml" => Ok(Self::Yaml),
            "application/vnd.kubernetes.protobuf" => Ok(Self::Protobuf),
            _ => Err(Status::unsupported_media_type(&OBJECT_TYPES)),
        }
    }

    /// Reads one document.
    ///
    /// # Errors
    /// 400 with the place of the fault.
    pub fn parse(self, bytes: &[u8]) -> Result<Document, Status> {
        match self {
            Self::Json => json::parse(bytes).map(Document::from).map_err(|e| unrecognized(&e)),
            // JSON is YAML too, and what most clients send as such; it is read much faster.
            Self::Yaml if bytes.trim_ascii_start().starts_with(b"{") => match json::parse(bytes) {
                Ok(parsed) if parsed.duplicates.is_empty() => Ok(parsed.into()),
                _ => yaml::parse(bytes),
            },
            Self::Yaml => yaml::parse(bytes),
            Self::Protobuf => {
                let value = protobuf::decode_object(bytes).map_err(|e| unrecognized(&e))?;
                Ok(Document { value, repeated: Repeated::None })
            }
        }
    }
}

/// What was read from a body.
#[derive(Debug)]
pub struct Document {
    /// The tree.
    pub value: Value,
    /// Members that came more than once, of which the last one counts.
    pub repeated: Repeated,
}

/// Members that came more than once, as upstream tells of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repeated {
    /// There are none.
    None,
    /// The paths of members in JSON.
    Paths(Vec<String>),
    /// The lines of members in YAML, all in one text.
    Lines(String),
}

impl Repeated {
    /// What strict decoding finds fault with: these, and what is `unknown`.
    #[must_use]
    pub fn with_unknown(&self, mut unknown: Vec<String>) -> Vec<String> {
        match self {
            Self::None => {}
            Self::Paths(paths) => {
                unknown.extend(paths.iter().map(|path| format!("duplicate field {path:?}")));
            }
            // YAML is turned into JSON first.
            Self::Lines(text) => unknown.insert(0, text.clone()),
        }
        unknown
    }
}

impl From<Parsed> for Document {
    fn from(Parsed { value, duplicates }: Parsed) -> Self {
        let repeated = if duplicates.is_empty() { Repeated::None } else { Repeated::Paths(duplicates) };
        Self { value, repeated }
    }
}

pub(super) fn unrecognized(error: &dyn std::fmt::Display) -> Status {
    Status::bad_request(format!("the object provided is unrecognized: {error}"))
}

/// A body that is all there.
#[must_use]
pub fn whole(bytes: Bytes) -> RequestBody {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// Reads a whole body.
///
/// # Errors
/// 413 over [`MAX_BODY`]; 400 if the connection breaks.
pub async fn read(body: RequestBody) -> Result<Bytes, Status> {
    read_counted(body, |_| Ok(())).await
}

/// Reads a whole body; `count` is told of bytes as they come, and may refuse them.
///
/// # Errors
/// As [`read`]; what `count` says.
pub async fn read_counted(
    mut body: RequestBody,
    mut count: impl FnMut(usize) -> Result<(), Status>,
) -> Result<Bytes, Status> {
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(Status::too_large(MAX_BODY));
    }
    let mut first: Option<Bytes> = None;
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| Status::bad_request(format!("the request's body ended early: {e}")))?;
        let Ok(data) = frame.into_data() else { continue };
        let so_far = first.as_ref().map_or(all.len(), Bytes::len);
        if so_far + data.len() > MAX_BODY {
            return Err(Status::too_large(MAX_BODY));
        }
        count(data.len())?;
        // Most bodies come in one frame, which then need not be copied.
        match first.take() {
            None if all.is_empty() => first = Some(data),
            None => all.extend_from_slice(&data),
            Some(head) => {
                all.extend_from_slice(&head);
                all.extend_from_slice(&data);
            }
        }
    }
    Ok(first.unwrap_or_else(|| all.freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body::Frame;
    use http_body_util::StreamBody;

    fn boxed(chunks: Vec<&'static [u8]>) -> RequestBody {
        let frames = chunks.into_iter().map(|c| Ok::<_, BoxError>(Frame::data(Bytes::from_static(c))));
        StreamBody::new(futures::stream::iter(frames)).boxed_unsync()
    }

    #[tokio::test]
    async fn bodies_are_bounded() {
        assert_eq!(read(boxed(vec![b"ab"])).await.expect("short"), "ab");
        assert_eq!(read(boxed(vec![b"ab", b"", b"c", b"d"])).await.expect("short"), "abcd");
        assert_eq!(read(boxed(vec![])).await.expect("empty"), "");
        static BIG: [u8; MAX_BODY] = [0; MAX_BODY];
        assert_eq!(read(boxed(vec![&BIG, b"x"])).await.expect_err("too large").code(), 413);
        let large = whole(Bytes::from(vec![0; MAX_BODY + 1]));
        assert_eq!(read(large).await.expect_err("too large").code(), 413);
    }

    #[test]
    fn formats() {
        let check = |ty: Option<&str>, want: Result<Format, u16>| {
            assert_eq!(Format::from_content_type(ty).map_err(|e| e.code()), want, "{ty:?}");
        };
        check(None, Ok(Format::Json));
        check(Some("application/json; charset=utf-8"), Ok(Format::Json));
        check(Some("application/yaml"), Ok(Format::Yaml));
        check(Some("application/vnd.kubernetes.protobuf"), Ok(Format::Protobuf));
        check(Some("text/plain"), Err(415));
        let yaml = Format::Yaml.parse(b"a: 1\nb: [x, true]\n").expect("valid");
        assert_eq!(json::to_vec(&yaml.value), br#"{"a":1,"b":["x",true]}"#);
        assert_eq!(Format::Json.parse(b"{").expect_err("cut").code(), 400);
        let namespace = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09Namespace\x12\x05\x0a\x03\x0a\x01a";
        let object = Format::Protobuf.parse(namespace).expect("a namespace").value;
        assert_eq!(
            json::to_vec(&object),
            br#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"a"},"spec":{},"status":{}}"#
        );
        let error = Format::Protobuf.parse(b"{}").expect_err("JSON");
        assert_eq!(error.code(), 400);
    }
}
