//! What is told of each request when it is over.
//!
//! ```text
//!   request ──▶ Witness ──▶ answer ──all there──────────────▶ counted
//!                  │           └──made while it is read──end, or the client goes──▶ counted
//!                  └──dropped before there is an answer: the client has gone
//! ```

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;

use crate::core::Core;
use crate::http::body::{BoxError, RequestBody};
use crate::http::query::Query;
use crate::http::reply::ReplyBody;
use crate::http::route::{Route, Verb};
use crate::metrics::requests::{About, Counters};
use crate::serve::content_type;

/// Sees one request from its beginning to its end.
#[derive(Debug)]
pub(crate) struct Witness {
    counters: Arc<Counters>,
    started: Instant,
    answered: bool,
}

impl Witness {
    /// Begins to look at a request.
    pub(crate) fn new(
        core: &Core,
        request: &Request<RequestBody>,
        route: Option<&Route>,
        query: &Query,
    ) -> Self {
        let dry_run = query.get("dryRun").is_some();
        let about = About::new(verb(request, route), route, dry_run);
        let exists = || match route {
            Some(Route::Resource(_, target)) => {
                core.table.get().served(&target.group, &target.version, &target.resource).is_ok()
            }
            Some(Route::Path(_)) | None => true,
        };
        let counters = core.metrics.requests.of(about, exists);
        Self { counters, started: Instant::now(), answered: false }
    }

    /// The counters of this kind of request.
    pub(crate) const fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Sees the answer, and tells of it when it is read.
    pub(crate) fn saw(mut self, response: Response<ReplyBody>) -> Response<ReplyBody> {
        self.answered = true;
        let code = response.status();
        if response.body().size_hint().exact().is_some() {
            self.counters.answered(code.as_u16(), self.started.elapsed());
            return response;
        }
        self.counters.long_running(1);
        response.map(|body| SeenBody { body, code, witness: self }.boxed_unsync())
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        if !self.answered {
            self.counters.was_aborted();
        }
    }
}

/// The verb as metrics tell it.
fn verb(request: &Request<RequestBody>, route: Option<&Route>) -> &'static str {
    let Some(Route::Resource(verb, target)) = route else { return method(request.method()) };
    if matches!(target.subresource.as_str(), "exec" | "attach" | "portforward" | "proxy") {
        return "CONNECT";
    }
    match verb {
        Verb::Get => "GET",
        Verb::List => "LIST",
        Verb::Watch => "WATCH",
        Verb::Create => "POST",
        Verb::Update => "PUT",
        Verb::Patch
            if content_type(request.headers())
                .is_some_and(|kind| kind.starts_with("application/apply-patch+")) =>
        {
            "APPLY"
        }
        Verb::Patch => "PATCH",
        Verb::Delete => "DELETE",
        Verb::DeleteCollection => "DELETECOLLECTION",
    }
}

/// A method by its name; clients may send any word.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}

/// An answer that is made while it is read.
struct SeenBody {
    body: ReplyBody,
    code: StatusCode,
    witness: Witness,
}

impl Body for SeenBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for SeenBody {
    fn drop(&mut self) {
        let Witness { counters, started, .. } = &self.witness;
        counters.long_running(-1);
        counters.answered(self.code.as_u16(), started.elapsed());
    }
}
