//! Bodies of requests, and sending blobs.

use std::io::{self, SeekFrom};

use bytes::{Bytes, BytesMut};
use futures::stream;
use http::{HeaderValue, Method, StatusCode, Uri, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::auth::percent_encode;
use super::error::RegistryError;
use super::transport::{Body, Payload, host_of, small_body};
use super::{Call, Session, resolve, text_header};
use crate::digest::Digest;
use crate::reference::Reference;

const PIECE: usize = 128 << 10;

/// A fresh body for a payload, and its length where there is one.
pub(super) async fn body(payload: &Payload) -> Result<(Body, Option<u64>), RegistryError> {
    match payload {
        Payload::Empty => Ok((small_body(Bytes::new()), None)),
        Payload::Bytes(bytes) => {
            let length = u64::try_from(bytes.len()).expect("a slice's length fits 64 bits");
            Ok((small_body(bytes.clone()), Some(length)))
        }
        Payload::File { path, offset, length } => {
            let mut file = tokio::fs::File::open(path).await.map_err(RegistryError::Read)?;
            file.seek(SeekFrom::Start(*offset)).await.map_err(RegistryError::Read)?;
            let pieces = stream::try_unfold(file.take(*length), |mut file| async move {
                let mut piece = BytesMut::with_capacity(PIECE);
                let n = file.read_buf(&mut piece).await?;
                Ok::<_, io::Error>((n > 0).then(|| (Frame::data(piece.freeze()), file)))
            });
            Ok((StreamBody::new(pieces).boxed(), Some(*length)))
        }
    }
}

impl Session {
    /// Asks for the right to write, and to read from `also` for mounting blobs of it.
    pub(super) fn want_push(&self, also: Option<&Reference>) {
        let own = format!("repository:{}:pull,push", self.repository);
        let other = also.map(|other| format!("repository:{}:pull", other.repository()));
        self.widen(std::iter::once(own).chain(other));
    }

    /// Makes a blob of another repository of the same registry part of this one. False when the registry would rather
    /// have it sent.
    pub(super) async fn mount(&self, digest: &Digest, from: &Reference) -> Result<bool, RegistryError> {
        let what = format!("mounting blob {digest}");
        let query = format!(
            "blobs/uploads/?mount={}&from={}",
            percent_encode(digest.as_str()),
            percent_encode(from.repository())
        );
        let call = Call::new(Method::POST, self.uri(&query)?, &what);
        let response = self.call(call, &[StatusCode::CREATED, StatusCode::ACCEPTED]).await?;
        if response.status() == StatusCode::CREATED {
            return Ok(true);
        }
        // The registry has opened an upload that nobody will use.
        if let Ok(location) = self.location(&response, &self.origin) {
            let cancel = Call::new(Method::DELETE, location, &what);
            if let Err(error) = self.call(cancel, &[StatusCode::NO_CONTENT]).await {
                tracing::debug!(%error, "could not cancel an unused upload");
            }
        }
        Ok(false)
    }

    /// Sends a blob as a whole.
    pub(super) async fn upload(&self, digest: &Digest, payload: Payload) -> Result<(), RegistryError> {
        let what = format!("uploading blob {digest}");
        let location = self.open_upload(&what).await?;
        let mut call = Call::new(Method::PUT, with_digest(&location, digest)?, &what);
        call.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        call.payload = payload;
        self.call(call, &[StatusCode::CREATED]).await?;
        Ok(())
    }

    /// Sends a blob in pieces of `chunk` bytes.
    pub(super) async fn upload_chunked(
        &self,
        digest: &Digest,
        (path, length): (&std::path::Path, u64),
        chunk: u64,
        sent: impl Fn(u64),
    ) -> Result<(), RegistryError> {
        let what = format!("uploading blob {digest}");
        let mut location = self.open_upload(&what).await?;
        let mut offset = 0;
        while offset < length {
            let size = chunk.max(1).min(length - offset);
            let mut call = Call::new(Method::PATCH, location, &what);
            let range = HeaderValue::from_str(&format!("{offset}-{}", offset + size - 1));
            call.headers.insert(header::CONTENT_RANGE, range.map_err(|_| RegistryError::Address)?);
            call.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
            call.payload = Payload::File { path: path.to_owned(), offset, length: size };
            let uri = call.uri.clone();
            let response = self.call(call, &[StatusCode::ACCEPTED, StatusCode::NO_CONTENT]).await?;
            location = self.location(&response, &uri)?;
            offset += size;
            sent(offset);
        }
        let mut call = Call::new(Method::PUT, with_digest(&location, digest)?, &what);
        call.payload = Payload::Bytes(Bytes::new());
        self.call(call, &[StatusCode::CREATED]).await?;
        Ok(())
    }

    /// Puts a manifest under a tag or its digest.
    pub(super) async fn put_manifest(
        &self,
        tag_or_digest: &str,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<(), RegistryError> {
        let what = format!("{}:{tag_or_digest}", self.repository);
        let mut call = Call::new(Method::PUT, self.uri(&format!("manifests/{tag_or_digest}"))?, &what);
        let media_type = HeaderValue::from_str(media_type).map_err(|_| RegistryError::Address)?;
        call.headers.insert(header::CONTENT_TYPE, media_type);
        call.payload = Payload::Bytes(bytes);
        self.call(call, &[StatusCode::CREATED]).await?;
        Ok(())
    }

    async fn open_upload(&self, what: &str) -> Result<Uri, RegistryError> {
        let uri = self.uri("blobs/uploads/")?;
        let mut call = Call::new(Method::POST, uri.clone(), what);
        call.payload = Payload::Bytes(Bytes::new());
        let response = self.call(call, &[StatusCode::ACCEPTED]).await?;
        self.location(&response, &uri)
    }

    fn location(
        &self,
        response: &http::Response<hyper::body::Incoming>,
        base: &Uri,
    ) -> Result<Uri, RegistryError> {
        let missing = || RegistryError::Missing { host: host_of(base), field: "Location" };
        let location = text_header(response, &header::LOCATION).ok_or_else(missing)?;
        let location = resolve(base, &location).ok_or(RegistryError::Address)?;
        self.client.transport.check_hop(base, &location)?;
        Ok(location)
    }
}

fn with_digest(location: &Uri, digest: &Digest) -> Result<Uri, RegistryError> {
    let text = location.to_string();
    let separator = if text.contains('?') { '&' } else { '?' };
    let text = format!("{text}{separator}digest={}", percent_encode(digest.as_str()));
    text.parse().map_err(|_| RegistryError::Address)
}
