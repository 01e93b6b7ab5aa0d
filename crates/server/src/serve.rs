//! The pipeline: from an HTTP request to its answer.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use futures::FutureExt as _;

use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, USER_AGENT};
use http::{HeaderMap, Request, Response};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use xebec_api::time::Timestamp;
use xebec_api::{Reason, Status};

use crate::auth::user::MASTERS;
use crate::auth::{self, Peer, User};
use crate::authz::{Question, Selected};
use crate::bounds::{Bounds, Caller, Turn};
use crate::core::{Context, Core};
use crate::http::accept::{Accept, Rows};
use crate::http::body::{self, RequestBody};
use crate::http::delivery::Delivery;
use crate::http::gzip::{self, Gzip};
use crate::http::query::Query;
use crate::http::reply::{self, ReplyBody};
use crate::http::route::{Route, Target, Verb};
use crate::witness::Witness;
use crate::{discovery, resources};

const WARNING: HeaderName = HeaderName::from_static("warning");
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// Answers requests. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ApiService {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    core: Arc<Core>,
    bounds: Arc<Bounds>,
    watches: Watches,
    gzip: Gzip,
    shutdown: CancellationToken,
}

/// How many more watches may be opened, by each group of callers.
#[derive(Debug)]
struct Watches {
    common: Arc<Semaphore>,
    masters: Arc<Semaphore>,
    components: Arc<Semaphore>,
}

impl Watches {
    fn new(each: usize) -> Self {
        let pool = || Arc::new(Semaphore::new(each));
        Self { common: pool(), masters: pool(), components: pool() }
    }

    const fn of(&self, caller: Caller<'_>) -> &Arc<Semaphore> {
        match caller {
            Caller::User(_) => &self.common,
            Caller::Master => &self.masters,
            Caller::Component => &self.components,
        }
    }
}

/// One request after authentication.
pub struct Incoming {
    /// The request without what has been read of it.
    pub request: Request<RequestBody>,
    /// Who asks, and how.
    pub context: Context,
    /// In which form the answer is wanted.
    pub accept: Accept,
    /// Ends watches.
    pub shutdown: CancellationToken,
    /// Bounds watches.
    pub watches: Arc<Semaphore>,
    /// Counts the events that a watch sends.
    pub events: Arc<AtomicU64>,
}

impl ApiService {
    /// A service for `core`, which ends its watches when `shutdown` is cancelled.
    #[must_use]
    pub fn new(core: Arc<Core>, shutdown: CancellationToken) -> Self {
        let settings = &core.settings;
        let inner = Inner {
            bounds: Arc::new(Bounds::new(settings)),
            watches: Watches::new(settings.max_watches),
            gzip: Gzip::default(),
            shutdown,
            core,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The state behind the service.
    #[must_use]
    pub fn core(&self) -> &Arc<Core> {
        &self.inner.core
    }

    /// Answers one request of `peer`.
    pub async fn handle(&self, peer: Peer, request: Request<RequestBody>) -> Response<ReplyBody> {
        let id = self.inner.core.new_uid().unwrap_or_default();
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let rows = Rows::read(query.get("includeObject").unwrap_or_default());
        let accept = Accept::from_headers(request.headers()).and_then(|a| rows.map(|rows| a.with_rows(rows)));
        let route = Route::read(request.method(), request.uri().path(), &query);
        let witness = Witness::new(&self.inner.core, &request, route.as_ref().ok(), &query);
        let events = witness.counters().events.clone();
        let shown = accept.as_ref().copied().unwrap_or_default();
        let compressed = gzip::is_accepted(request.headers()) && !route.as_ref().is_ok_and(is_endless);
        // What a request can leave half done is behind locks that recover, or in the store, which has a thread of its own.
        let work = AssertUnwindSafe(self.route(&peer, request, accept, query, route, events)).catch_unwind();
        let mut response = match work.await.unwrap_or_else(|panic| Err(panicked(&*panic))) {
            Ok(response) => response,
            Err(status) => {
                if status.reason == Reason::InternalError {
                    tracing::error!(request = %id, error = %status, "request failed");
                }
                // What was wanted cannot be given, so the answer is in what everybody reads.
                let plain = status.reason == Reason::NotAcceptable;
                reply::failure(&status, if plain { Accept::default() } else { shown.whole() })
            }
        };
        if compressed {
            response = self.inner.gzip.compress(response).await;
        }
        if let Ok(id) = id.parse() {
            response.headers_mut().insert(AUDIT_ID, id);
        }
        witness.saw(response)
    }

    async fn route(
        &self,
        peer: &Peer,
        request: Request<RequestBody>,
        accept: Result<Accept, Status>,
        query: Query,
        route: Result<Route, Status>,
        events: Arc<AtomicU64>,
    ) -> Result<Response<ReplyBody>, Status> {
        let core = &self.inner.core;
        let now = core.clock.now();
        let asker = self.authenticate(peer, request.headers(), now).await;
        core.metrics.identified(asker.is_ok());
        let asker = asker?;
        let caller = match peer {
            Peer::Local(_) => Caller::Component,
            _ if asker.is_in(MASTERS) => Caller::Master,
            _ => Caller::User(&asker.name),
        };
        let route = route?;
        let selected = selected(&query, &route);
        let method = request.method().as_str().to_ascii_lowercase();
        let question = question(&method, &route, selected.as_ref());
        let other = auth::impersonated(&core.authorizer, &asker, request.headers(), &question).await?;
        let user = other.map_or_else(|| asker.clone(), |other| Arc::new(other.user));
        let decision = core.authorizer.authorize(&user, &question).await;
        core.metrics.authorized(decision.is_ok());
        decision?;
        let agent =
            request.headers().get(USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let context = Context::new(user, now, query, agent);
        let mut incoming = Incoming {
            request,
            context,
            accept: Accept::default(),
            shutdown: self.inner.shutdown.clone(),
            watches: self.inner.watches.of(caller).clone(),
            events,
        };
        match route {
            Route::Path(path) if discovery::is_vital(&path) => {
                let reply = discovery::handle(core, &path, &mut incoming).await?;
                reply::respond(reply, accept.unwrap_or_default(), self.delivery(None)).await
            }
            Route::Path(path) => {
                self.within_deadline(async {
                    let turn = self.admit(caller, false, &mut incoming.request).await?;
                    let reply = discovery::handle(core, &path, &mut incoming).await?;
                    reply::respond(reply, accept.unwrap_or_default(), self.delivery(Some(turn))).await
                })
                .await
            }
            Route::Resource(verb, target) if resources::is_stream(&target) => {
                incoming.accept = accept.unwrap_or_default();
                self.work(incoming, verb, &target, None).await
            }
            Route::Resource(verb, target) => {
                incoming.accept = accept?;
                if verb == Verb::Watch {
                    return self.work(incoming, verb, &target, None).await;
                }
                self.within_deadline(async {
                    let turn = self.admit(caller, verb.is_write(), &mut incoming.request).await?;
                    self.work(incoming, verb, &target, Some(turn)).await
                })
                .await
            }
        }
    }

    async fn work(
        &self,
        mut incoming: Incoming,
        verb: Verb,
        target: &Target,
        turn: Option<Turn>,
    ) -> Result<Response<ReplyBody>, Status> {
        let reply = resources::handle(&self.inner.core, &mut incoming, verb, target).await?;
        let warnings = incoming.context.take_warnings();
        let mut response = reply::respond(reply, incoming.accept, self.delivery(turn)).await?;
        for warning in warnings.iter().filter_map(|w| reply::warning(w)) {
            response.headers_mut().append(WARNING, warning);
        }
        Ok(response)
    }

    fn delivery(&self, turn: Option<Turn>) -> Delivery {
        Delivery { patience: self.inner.core.settings.request_timeout, turn }
    }

    async fn within_deadline<T>(&self, work: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        let limit = self.inner.core.settings.request_timeout;
        tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
            let text = format!("request did not complete within {} seconds", limit.as_secs());
            Err(Status::new(Reason::Timeout, text))
        })
    }

    /// Lets a request in when its body is there, and there is room for its work.
    async fn admit(
        &self,
        caller: Caller<'_>,
        write: bool,
        request: &mut Request<RequestBody>,
    ) -> Result<Turn, Status> {
        let mut turn = self.inner.bounds.turn(caller).await?;
        if write {
            let body = std::mem::take(request.body_mut());
            *request.body_mut() = body::whole(body::read_counted(body, |n| turn.hold(n)).await?);
        }
        turn.permit(write).await?;
        Ok(turn)
    }

    /// Who is at the other end: a certificate decides, and where it is not good a token may.
    async fn authenticate(
        &self,
        peer: &Peer,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Result<Arc<User>, Status> {
        let fault = match peer {
            Peer::Local(user) => return Ok(user.clone()),
            Peer::Certificate { user, until } if now <= *until => return Ok(user.clone()),
            Peer::Certificate { .. } => Some("it has expired since the connection was made"),
            Peer::Rejected(why) => Some(&**why),
            Peer::Plain => None,
        };
        if let Some(why) = fault {
            tracing::debug!(%why, "client certificate rejected");
        }
        let header = match (headers.get(AUTHORIZATION), fault) {
            (Some(header), _) => header,
            (None, Some(_)) => return Err(Status::unauthorized()),
            (None, None) => return Ok(Arc::new(User::anonymous())),
        };
        // Whoever has a certificate that is no good, and no token, is not anonymous: they said who they are.
        let token = auth::bearer::from_header(header).ok_or_else(Status::unauthorized)?;
        let core = &self.inner.core;
        match auth::bearer::identify(core, token, &core.settings.audiences, now).await {
            Ok(holder) => Ok(holder.user),
            Err(why) => {
                tracing::debug!(%why, "bearer token rejected");
                Err(Status::unauthorized())
            }
        }
    }
}

/// Whether an answer goes on as long as its client likes.
fn is_endless(route: &Route) -> bool {
    matches!(route, Route::Resource(verb, target) if *verb == Verb::Watch || resources::is_stream(target))
}

/// The answer to a request that the server could not stand.
fn panicked(panic: &(dyn Any + Send)) -> Status {
    tracing::error!(panic = panic_text(panic), "a request panicked: this is a fault of Xebec");
    Status::internal("the server met a fault of its own, which its log tells of")
}

/// What a panic says.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}

fn selected(query: &Query, route: &Route) -> Option<Selected> {
    match route {
        Route::Resource(verb, target) => Selected::of_request(*verb, target, query),
        Route::Path(_) => None,
    }
}

/// What authorization is asked about a request.
fn question<'a>(method: &'a str, route: &'a Route, selected: Option<&'a Selected>) -> Question<'a> {
    match route {
        Route::Path(path) => {
            let verb = if method == "head" { "get" } else { method };
            Question { verb, path, ..Question::default() }
        }
        Route::Resource(verb, target) => {
            let mut question = Question { selected, ..Question::about(verb.as_str(), target) };
            if matches!(verb, Verb::List | Verb::Watch) {
                question.name = selected.and_then(Selected::name).unwrap_or(question.name);
            }
            question
        }
    }
}

/// The content type of a request.
#[must_use]
pub fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok())
}
