//! Documents that clients keep: answered with an `ETag`, or with 304 if the client has what the tag names.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, VARY};
use http::{HeaderMap, Response, StatusCode};
use xebec_api::Status;

use super::reply::{self, Reply};

/// A document with what its bytes hash to. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    bytes: Bytes,
    hash: String,
    content_type: &'static str,
}

impl Document {
    /// The document of these bytes.
    pub(crate) fn new(bytes: Vec<u8>, content_type: &'static str) -> Self {
        Self { hash: hash(&bytes), bytes: bytes.into(), content_type }
    }

    /// Its bytes.
    pub(crate) const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What they hash to.
    pub(crate) fn hash(&self) -> &str {
        &self.hash
    }

    /// The answer to a request with these headers.
    ///
    /// # Errors
    /// 500: the hash is no header value.
    pub(crate) fn answer(&self, headers: &HeaderMap) -> Result<Reply, Status> {
        if let Some(unchanged) = unchanged(headers, &self.hash)? {
            return Ok(unchanged);
        }
        let headers = vec![
            (ETAG, tag(&self.hash)?),
            (CONTENT_TYPE, HeaderValue::from_static(self.content_type)),
            (VARY, HeaderValue::from_static("Accept")),
        ];
        Ok(Reply::Prepared(self.bytes.clone(), headers))
    }
}

/// 304 if the client has the document with this hash.
///
/// # Errors
/// 500: the hash is no header value.
pub(crate) fn unchanged(headers: &HeaderMap, hash: &str) -> Result<Option<Reply>, Status> {
    let tag = tag(hash)?;
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok());
    let mut known = known.flat_map(|list| list.split(',')).map(|one| one.trim().trim_start_matches("W/"));
    if !known.any(|one| one.as_bytes() == tag.as_bytes()) {
        return Ok(None);
    }
    let mut response = Response::new(reply::full(Vec::new()));
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response.headers_mut().insert(ETAG, tag);
    Ok(Some(Reply::Response(response)))
}

fn tag(hash: &str) -> Result<HeaderValue, Status> {
    HeaderValue::from_str(&format!("\"{hash}\"")).map_err(Status::internal)
}

/// SHA-512 in upper-case hexadecimal digits.
pub(crate) fn hash(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA512, bytes);
    digest.as_ref().iter().fold(String::with_capacity(128), |mut text, byte| {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from(b"0123456789ABCDEF"[usize::from(nibble)]));
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_the_document_is_told_so() {
        let document = Document::new(b"a document".to_vec(), "text/plain");
        let check = |header: &str, want: bool| {
            let header = header.replace("TAG", document.hash());
            let headers = HeaderMap::from_iter([(IF_NONE_MATCH, header.parse().expect("a header"))]);
            let answer = document.answer(&headers).expect("a hash is a tag");
            assert_eq!(matches!(answer, Reply::Response(_)), want, "{header}");
        };
        check("\"TAG\"", true);
        check("\"ABC\", W/\"TAG\"", true);
        check("TAG", false);
        check("\"ABC\"", false);
        check("", false);
    }
}
