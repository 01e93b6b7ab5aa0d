//! Faults on the way between clients and the server: a layer in front of the service in memory.
//!
//! A request is compared with the faults in the order in which they were asked for; the first that fits answers it, and the
//! server never sees it. What delays a request, and what ends a watch, is apart from that.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use serde_json::json;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tower::Service;
use xebec_server::http::body::BoxError;
use xebec_server::http::query::Query;
use xebec_server::http::reply::{ReplyBody, full};
use xebec_server::http::route::{Route, Verb};
use xebec_server::server::LocalService;

/// What goes wrong, from [`crate::Cluster::faults`]. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    refusals: Vec<Refusal>,
    delay: Duration,
    /// Ends the watches that are open.
    watches: CancellationToken,
}

#[derive(Debug)]
struct Refusal {
    /// `None` for every verb that changes an object.
    verb: Option<String>,
    /// `None` for every resource.
    resource: Option<String>,
    code: StatusCode,
    /// How many more times; `None` until the faults are cleared.
    times: Option<u32>,
}

impl Faults {
    /// Answers the next `times` requests that change an object (`update`, `patch`) with a conflict (409), as if somebody else
    /// had changed it first.
    pub fn conflict_next(&self, times: u32) {
        self.refuse(Refusal { verb: None, resource: None, code: StatusCode::CONFLICT, times: Some(times) });
    }

    /// Answers requests with an error until [`Faults::clear`]: `fail("create", "pods", 500)`. The verbs are those of RBAC
    /// (`get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`) or `*`; a resource is `pods`,
    /// `deployments/status`, or `*`. A watch that is refused with 410 has to begin with a new list.
    ///
    /// # Panics
    /// `code` is no error of HTTP, 400 to 599.
    pub fn fail(&self, verb: &str, resource: &str, code: u16) {
        self.refuse(refusal(verb, resource, code, None));
    }

    /// The same for the next `times` requests.
    ///
    /// # Panics
    /// `code` is no error of HTTP, 400 to 599.
    pub fn fail_next(&self, times: u32, verb: &str, resource: &str, code: u16) {
        self.refuse(refusal(verb, resource, code, Some(times)));
    }

    /// Has every request wait so long before it goes to the server, until [`Faults::clear`].
    pub fn delay(&self, by: Duration) {
        self.lock().delay = by;
    }

    /// Ends every watch that is open, as a server that goes away does: the client has to watch again from where it was.
    pub fn drop_watches(&self) {
        std::mem::take(&mut self.lock().watches).cancel();
    }

    /// Nothing goes wrong any more.
    pub fn clear(&self) {
        let mut state = self.lock();
        state.refusals.clear();
        state.delay = Duration::ZERO;
    }

    fn refuse(&self, refusal: Refusal) {
        self.lock().refusals.push(refusal);
    }

    /// What befalls a request.
    fn befall(&self, request: &Asked) -> Befallen {
        let mut state = self.lock();
        let at = state.refusals.iter().position(|refusal| refusal.fits(request));
        let code = at.map(|at| {
            let refusal = &mut state.refusals[at];
            let code = refusal.code;
            let last = refusal.times.as_mut().is_some_and(|times| {
                *times -= 1;
                *times == 0
            });
            if last {
                state.refusals.remove(at);
            }
            code
        });
        Befallen { delay: state.delay, code, watches: state.watches.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is a single step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Befallen {
    delay: Duration,
    code: Option<StatusCode>,
    watches: CancellationToken,
}

fn refusal(verb: &str, resource: &str, code: u16, times: Option<u32>) -> Refusal {
    let code =
        StatusCode::from_u16(code).ok().filter(|code| code.is_client_error() || code.is_server_error());
    Refusal {
        verb: Some(verb.to_owned()),
        resource: Some(resource.to_owned()).filter(|resource| resource != "*"),
        code: code.expect("an error's code is 400 to 599"),
        times: times.map(|times| times.max(1)),
    }
}

/// What a request asks for.
struct Asked {
    verb: &'static str,
    /// `pods`, `pods/status`.
    resource: String,
}

impl Asked {
    fn read<B>(request: &Request<B>) -> Option<Self> {
        let query = Query::parse(request.uri().query().unwrap_or_default());
        // What the server refuses anyway is left to it.
        let Ok(Route::Resource(verb, target)) = Route::read(request.method(), request.uri().path(), &query)
        else {
            return None;
        };
        let resource = match target.subresource.is_empty() {
            true => target.resource,
            false => format!("{}/{}", target.resource, target.subresource),
        };
        Some(Self { verb: verb.as_str(), resource })
    }

    fn is_watch(&self) -> bool {
        self.verb == Verb::Watch.as_str()
    }
}

impl Refusal {
    fn fits(&self, request: &Asked) -> bool {
        let verb = match self.verb.as_deref() {
            None => matches!(request.verb, "update" | "patch"),
            Some("*") => true,
            Some(verb) => verb == request.verb,
        };
        verb && self.resource.as_ref().is_none_or(|resource| *resource == request.resource)
    }
}

/// The API for one user, with faults on the way.
#[derive(Clone, Debug)]
pub(crate) struct FaultyService {
    inner: LocalService,
    faults: Faults,
    /// Whether the cluster has ended: the server itself answers those in its process to the last.
    ended: CancellationToken,
}

impl FaultyService {
    pub(crate) fn new(inner: LocalService, faults: Faults, ended: CancellationToken) -> Self {
        Self { inner, faults, ended }
    }
}

impl<B> Service<Request<B>> for FaultyService
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<ReplyBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if self.ended.is_cancelled() {
            let over = refused(StatusCode::SERVICE_UNAVAILABLE, "the test's cluster has ended");
            return Box::pin(std::future::ready(Ok(over)));
        }
        let Some(asked) = Asked::read(&request) else { return self.inner.call(request) };
        let Befallen { delay, code, watches } = self.faults.befall(&asked);
        let mut inner = self.inner.clone();
        Box::pin(async move {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            if let Some(code) = code {
                let message = format!("{} of {} is refused, as the test wants", asked.verb, asked.resource);
                return Ok(refused(code, &message));
            }
            let answer = inner.call(request).await?;
            Ok(if asked.is_watch() {
                answer.map(|body| Cut::new(body, watches).boxed_unsync())
            } else {
                answer
            })
        })
    }
}

fn refused(code: StatusCode, message: &str) -> Response<ReplyBody> {
    let reason = match code.as_u16() {
        400 => "BadRequest",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        405 => "MethodNotAllowed",
        409 => "Conflict",
        410 => "Expired",
        413 => "RequestEntityTooLarge",
        422 => "Invalid",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "",
    };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code.as_u16()
    });
    let mut response = Response::new(full(status.to_string()));
    *response.status_mut() = code;
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    response
}

/// A body that ends when it is cut.
struct Cut {
    body: ReplyBody,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Cut {
    fn new(body: ReplyBody, cut: CancellationToken) -> Self {
        Self { body, cut: Box::pin(cut.cancelled_owned()) }
    }
}

impl Body for Cut {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.cut.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &str, path: &str) -> Asked {
        let request = Request::builder().method(method).uri(path).body(()).expect("a request");
        Asked::read(&request).expect("a resource")
    }

    #[test]
    fn the_first_that_fits_answers_and_is_used_up() {
        let faults = Faults::default();
        let code =
            |method: &str, path: &str| faults.befall(&asked(method, path)).code.map(|code| code.as_u16());
        faults.conflict_next(2);
        faults.fail("create", "pods", 500);
        faults.fail_next(1, "*", "pods/status", 503);
        let pod = "/api/v1/namespaces/a/pods/b";
        assert_eq!(code("GET", pod), None);
        assert_eq!(code("PUT", &format!("{pod}/status")), Some(409));
        assert_eq!(code("PATCH", pod), Some(409));
        assert_eq!(code("PUT", &format!("{pod}/status")), Some(503));
        assert_eq!(code("PUT", &format!("{pod}/status")), None);
        for _ in 0..3 {
            assert_eq!(code("POST", "/api/v1/namespaces/a/pods"), Some(500));
        }
        assert_eq!(code("POST", &format!("{pod}/eviction")), None);
        faults.clear();
        assert_eq!(code("POST", "/api/v1/namespaces/a/pods"), None);
    }

    #[test]
    fn watches_are_known() {
        assert!(asked("GET", "/api/v1/pods?watch=true").is_watch());
        assert!(!asked("GET", "/api/v1/pods").is_watch());
    }
}
