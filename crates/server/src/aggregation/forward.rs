//! Passing a request on to the server that answers for its group and version, which has been authorized already.
//!
//! What is no upgrade goes over connections that are kept; an upgrade has a connection of its own, which carries bytes
//! afterwards. What cannot be passed on is told in upstream's plain words, as clients look for the code.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, UPGRADE};
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Full};
use tokio_util::sync::CancellationToken;
use xebec_api::Status;

use super::{Remote, Service, headers};
use crate::core::Core;
use crate::http::body::{self, BoxError};
use crate::http::reply::{self, ReplyBody};
use crate::http::route::{Route, Verb};
use crate::outbound::{Endpoint, Trust};
use crate::serve::Incoming;
use crate::{proxy, resources, streams};

/// How long a server may take to say which resources it has: upstream's bound, as clients wait for all of them.
const DISCOVERY: Duration = Duration::from_secs(5);

/// The API service by which another server answers a request.
pub(crate) fn behind(core: &Core, route: &Route) -> Option<Arc<Service>> {
    match route {
        Route::Resource(_, target) => core.aggregation.behind(&target.group, &target.version),
        Route::Path(path) => {
            let openapi = path.strip_prefix("/openapi/v3");
            let (group, version) = group_version(openapi.unwrap_or(path))?;
            let service = core.aggregation.behind(group, version)?;
            let has_document = || core.aggregation.offer(&service).is_some_and(|offer| !offer.v3.is_empty());
            (openapi.is_none() || has_document()).then_some(service)
        }
    }
}

/// The group and version that a path asks for the resources of.
fn group_version(path: &str) -> Option<(&str, &str)> {
    match path.strip_prefix("/apis/") {
        Some(rest) => rest.split_once('/').filter(|(_, version)| !version.contains('/')),
        None => Some(("", path.strip_prefix("/api/")?)),
    }
}

/// Whether the answer to a request has no end of its own.
pub(crate) fn is_endless(route: &Route, headers: &HeaderMap) -> bool {
    let stream = match route {
        Route::Resource(verb, target) => *verb == Verb::Watch || resources::is_stream(target),
        Route::Path(_) => false,
    };
    stream || headers.contains_key(UPGRADE)
}

/// How long an answer is read.
#[derive(Debug)]
pub(crate) enum Until {
    /// Until this server stops.
    Stopped(CancellationToken),
    /// For so long; it breaks off then.
    After(Duration),
}

/// Passes a request on; `held` is held until its answer has been read.
///
/// # Errors
/// The request's body is too long, or who asks cannot be told.
pub(crate) async fn pass<H: Send + 'static>(
    core: &Core,
    incoming: &mut Incoming,
    service: &Service,
    until: Until,
    held: H,
) -> Result<Response<ReplyBody>, Status> {
    let Some(remote) = &service.remote else { return Err(Status::no_such_path()) };
    let (endpoint, trust) = match way(core, service, remote) {
        Ok(way) => way,
        Err((code, why)) => return Ok(plain(code, &why)),
    };
    let request = outgoing(incoming, &endpoint).await?;
    let limit = match group_version(incoming.request.uri().path().trim_end_matches('/')) {
        Some(_) => DISCOVERY,
        None => Duration::MAX,
    };
    let answer = tokio::time::timeout(limit, send(core, incoming, &endpoint, trust, request));
    let mut response = match answer.await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return Ok(unreachable(&error)),
        Err(_) => return Ok(unreachable(&"context deadline exceeded")),
    };
    proxy::strip(response.headers_mut());
    Ok(response.map(|body| PassedBody::new(body, until, held).boxed_unsync()))
}

/// Whom to call and whom to trust there, or why not.
fn way<'r>(
    core: &Core,
    service: &Service,
    remote: &'r Remote,
) -> Result<(Endpoint, &'r Trust), (StatusCode, String)> {
    let unavailable = || (StatusCode::SERVICE_UNAVAILABLE, "service unavailable".to_owned());
    if !remote.is_available {
        return Err(unavailable());
    }
    let trust = remote.trust.as_ref().map_err(|why| (StatusCode::INTERNAL_SERVER_ERROR, why.clone()))?;
    match Endpoint::of_service(core, &remote.service) {
        Ok(endpoint) => Ok((endpoint, trust)),
        Err(error) => {
            tracing::warn!(name = service.name, %error, "an API server cannot be found");
            Err(unavailable())
        }
    }
}

fn unreachable(error: &dyn std::fmt::Display) -> Response<ReplyBody> {
    plain(StatusCode::SERVICE_UNAVAILABLE, &format!("error trying to reach service: {error}"))
}

fn plain(code: StatusCode, text: &str) -> Response<ReplyBody> {
    let mut response = Response::new(reply::full(format!("{text}\n")));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    response
}

/// The request as it goes on: the path and query as the client wrote them, the body read.
async fn outgoing(incoming: &mut Incoming, endpoint: &Endpoint) -> Result<Request<Full<Bytes>>, Status> {
    let body = body::read(std::mem::take(incoming.request.body_mut())).await?;
    let given = &incoming.request;
    let path = given.uri().path_and_query().map_or("/", |path| path.as_str());
    let uri: Uri = format!("https://{endpoint}{path}")
        .parse()
        .map_err(|_| Status::bad_request("the request's path cannot be passed on"))?;
    let headers = headers::outgoing(given.headers(), &incoming.context.user, &incoming.id);
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = given.method().clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = headers.map_err(Status::internal)?;
    Ok(request)
}

async fn send(
    core: &Core,
    incoming: &mut Incoming,
    endpoint: &Endpoint,
    trust: &Trust,
    mut request: Request<Full<Bytes>>,
) -> Result<Response<ReplyBody>, BoxError> {
    if !request.headers().contains_key(UPGRADE) {
        let response = core.outbound.send(endpoint, trust, request).await?;
        return Ok(response.map(|body| body.map_err(BoxError::from).boxed_unsync()));
    }
    let stream = core.outbound.connect(endpoint, Some(trust)).await?;
    let client = hyper::upgrade::on(&mut incoming.request);
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map(Uri::from).unwrap_or_default();
    request.headers_mut().insert(http::header::HOST, HeaderValue::from_str(&endpoint.to_string())?);
    let request = request.map(|body| body.map_err(|never| match never {}).boxed_unsync());
    Ok(streams::pass(core, &incoming.shutdown, stream, client, request).await?)
}

/// An answer that is passed on while it comes.
struct PassedBody<H> {
    body: ReplyBody,
    /// Ends it: well, or with an error.
    end: Pin<Box<dyn Future<Output = Option<BoxError>> + Send>>,
    ended: bool,
    _held: H,
}

impl<H> PassedBody<H> {
    fn new(body: ReplyBody, until: Until, held: H) -> Self {
        let end: Pin<Box<dyn Future<Output = Option<BoxError>> + Send>> = match until {
            Until::Stopped(stopped) => Box::pin(async move {
                stopped.cancelled_owned().await;
                None
            }),
            Until::After(limit) => Box::pin(async move {
                tokio::time::sleep(limit).await;
                let text = format!("the answer did not end within {} seconds", limit.as_secs());
                Some(BoxError::from(text))
            }),
        };
        Self { body, end, ended: false, _held: held }
    }
}

// Nothing of it is pinned in place.
impl<H> Unpin for PassedBody<H> {}

impl<H> Body for PassedBody<H> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Poll::Ready(how) = self.end.as_mut().poll(cx) {
            self.ended = true;
            return Poll::Ready(how.map(Err));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_groups_and_versions() {
        let check = |path: &str, want: Option<(&str, &str)>| assert_eq!(group_version(path), want, "{path}");
        check("/apis/a.b/v1", Some(("a.b", "v1")));
        check("/apis/a.b", None);
        check("/apis/a.b/v1/things", None);
        check("/api/v1", Some(("", "v1")));
        check("/api", None);
        check("/openapi/v3", None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_end_breaks_off() {
        let endless = || {
            let frames = futures::stream::pending::<Result<Frame<Bytes>, BoxError>>();
            http_body_util::StreamBody::new(frames).boxed_unsync()
        };
        let late = PassedBody::new(endless(), Until::After(Duration::from_secs(60)), ());
        let error = late.collect().await.expect_err("it breaks off").to_string();
        assert_eq!(error, "the answer did not end within 60 seconds");
        let stopped = CancellationToken::new();
        let watch = PassedBody::new(endless(), Until::Stopped(stopped.clone()), ());
        stopped.cancel();
        assert!(watch.collect().await.is_ok_and(|all| all.to_bytes().is_empty()));
    }
}
