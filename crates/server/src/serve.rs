//! The pipeline: from an HTTP request to its answer.

use std::any::Any;
use std::borrow::Cow;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use futures::FutureExt as _;

use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, USER_AGENT};
use http::{HeaderMap, Method, Request, Response};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use xebec_api::time::Timestamp;
use xebec_api::{Reason, Status};

use crate::aggregation::Service;
use crate::aggregation::forward::{self, Until};
use crate::arrival::{AUDIT_ID, Arrival};
use crate::audit::Begin;
use crate::auth::user::MASTERS;
use crate::auth::{self, Peer, User};
use crate::authz::Question;
use crate::bounds::{Bounds, Caller, Turn, too_many};
use crate::core::{Context, Core};
use crate::drain::{self, Waves};
use crate::flow::{Class, Seat};
use crate::http::accept::Accept;
use crate::http::body::{self, RequestBody};
use crate::http::delivery::Delivery;
use crate::http::gzip::Gzip;
use crate::http::reply::{self, ReplyBody};
use crate::http::route::{Route, Target, Verb};
use crate::witness::Witness;
use crate::{discovery, resources};

const WARNING: HeaderName = HeaderName::from_static("warning");

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
    waves: Waves,
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
    /// The server.
    pub core: Arc<Core>,
    /// Names the request in audit logs.
    pub id: String,
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
            waves: Waves::new(&shutdown),
            shutdown,
            core,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Ends watches one after the other, for as long as was chosen.
    pub(crate) async fn end_watches(&self) {
        self.inner.waves.end_over(self.inner.core.settings.shutdown_delay).await;
    }

    /// The state behind the service.
    #[must_use]
    pub fn core(&self) -> &Arc<Core> {
        &self.inner.core
    }

    /// Answers one request of `peer`, whose connection comes from `source`; there is none for components in this process.
    pub async fn handle(
        &self,
        peer: Peer,
        source: Option<IpAddr>,
        request: Request<RequestBody>,
    ) -> Response<ReplyBody> {
        let core = &self.inner.core;
        let arrival = Arrival::read(core, peer, source, &request);
        let (id, compressed) = (arrival.id.clone(), arrival.may_be_compressed(request.headers()));
        let shown = arrival.accept.as_ref().copied().unwrap_or_default();
        let mut witness = Witness::new(core, &request, &id, arrival.route.as_ref().ok(), &arrival.query);
        let span = witness.span();
        // What a request can leave half done is behind locks that recover, or in the store, which has a thread of its own.
        let mut warnings = Vec::new();
        let outcome = {
            // Pinned, so that the wrappers move a pointer instead of all that the work may come to hold.
            let work = pin!(self.pass(arrival, request, &mut witness, &mut warnings));
            AssertUnwindSafe(work).catch_unwind().instrument(span).await
        };
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(panic) => {
                witness.panicked(panic_text(&*panic)).await;
                Err(panicked(&*panic))
            }
        };
        let mut response = match outcome {
            Ok(response) => response,
            Err(status) => {
                if status.reason == Reason::InternalError {
                    tracing::error!(request = %id, error = %status, "request failed");
                }
                // What was wanted cannot be given, so the answer is in what everybody reads.
                let plain = status.reason == Reason::NotAcceptable;
                let accept = if plain { Accept::default() } else { shown.whole() };
                let response = reply::failure(&status, accept);
                witness.refused(status);
                response
            }
        };
        for warning in warnings.iter().filter_map(|text| reply::warning(text)) {
            response.headers_mut().append(WARNING, warning);
        }
        if compressed {
            response = self.inner.gzip.compress(response).await;
        }
        if let Ok(id) = id.parse() {
            response.headers_mut().insert(AUDIT_ID, id);
        }
        witness.saw(response).await
    }

    /// The steps of a request: who asks, as whom, whether they may; then its work. What the client should be warned of is
    /// told whether or not the request is refused in the end.
    async fn pass(
        &self,
        arrival: Arrival,
        request: Request<RequestBody>,
        witness: &mut Witness,
        warnings: &mut Vec<String>,
    ) -> Result<Response<ReplyBody>, Status> {
        let core = &self.inner.core;
        let now = core.clock.now();
        let method = lower_case(request.method());
        let question = arrival.question(&method);
        let asker = self.authenticate(&arrival.peer, request.headers(), request.uri().path(), now).await;
        core.metrics.identified(asker.is_ok());
        let begin = Begin {
            id: &arrival.id,
            uri: request.uri(),
            headers: request.headers(),
            source: arrival.source,
            user: asker.as_ref().ok(),
            question: &question,
            route: arrival.route.as_ref().ok(),
            received: now,
        };
        witness.begins(&begin).await;
        let asker = asker?;
        if self.inner.shutdown.is_cancelled() && arrival.may_come_again() {
            return Err(drain::stops());
        }
        let caller = match arrival.peer {
            Peer::Local(_) => Caller::Component,
            _ if asker.is_in(MASTERS) => Caller::Master,
            _ => Caller::User(&asker.name),
        };
        if let Err(status) = &arrival.route {
            return Err(status.clone());
        }
        let other = auth::impersonated(&core.authorizer, &asker, request.headers(), &question).await?;
        let user = other.map_or_else(|| asker.clone(), |other| Arc::new(other.user));
        if !Arc::ptr_eq(&user, &asker) {
            witness.impersonates(&user);
        }
        witness.sorted(core.flow.classify(&user, &question));
        authorize(core, &user, &question, witness).await?;
        let named = !question.name.is_empty();
        let Arrival { id, accept, query, route, .. } = arrival;
        let route = route?;
        let seats = core.flow.estimate().seats(core, &route, &query, named);
        let agent =
            request.headers().get(USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        witness.done("authorized");
        let (trace, steps) = witness.part();
        let mut incoming = Incoming {
            core: core.clone(),
            id,
            request,
            context: Context::new(user, now, query, agent).part_of(trace, steps),
            accept: Accept::default(),
            shutdown: self.inner.waves.join(),
            watches: self.inner.watches.of(caller).clone(),
            events: witness.counters().events.clone(),
        };
        let outcome = self.dispatch(&mut incoming, accept, &route, caller, seats, witness).await;
        witness.heard(&incoming.context);
        *warnings = incoming.context.take_warnings();
        outcome
    }

    /// Lets a request do its work when there is room for it.
    async fn dispatch(
        &self,
        incoming: &mut Incoming,
        accept: Result<Accept, Status>,
        route: &Route,
        caller: Caller<'_>,
        seats: u64,
        witness: &mut Witness,
    ) -> Result<Response<ReplyBody>, Status> {
        let core = &self.inner.core;
        if let Some(service) = forward::behind(core, route) {
            return self.delegate(incoming, &service, route, caller, seats, witness).await;
        }
        match route {
            Route::Path(path) if discovery::is_vital(path) => {
                let reply = discovery::handle(core, path, incoming).await?;
                reply::respond(reply, accept.unwrap_or_default(), self.delivery(None)).await
            }
            Route::Path(path) => {
                let work = pin!(async {
                    let turn = self.admit(caller, false, seats, incoming, witness).await?;
                    let reply = discovery::handle(core, path, incoming).await?;
                    reply::respond(reply, accept.unwrap_or_default(), self.delivery(Some(turn))).await
                });
                self.within_deadline(work).await
            }
            Route::Resource(verb, target) if resources::is_stream(target) => {
                incoming.accept = accept.unwrap_or_default();
                self.work(incoming, *verb, target, None, witness).await
            }
            Route::Resource(verb, target) => {
                incoming.accept = accept?;
                if *verb == Verb::Watch {
                    // What is there is gone through at the beginning; what is to come takes no seat.
                    let _seat = self.sit(seats, witness).await?;
                    return self.work(incoming, *verb, target, None, witness).await;
                }
                let work = pin!(async {
                    let turn = self.admit(caller, verb.is_write(), seats, incoming, witness).await?;
                    self.work(incoming, *verb, target, Some(turn), witness).await
                });
                self.within_deadline(work).await
            }
        }
    }

    /// Passes a request on to the server that answers for its group and version.
    async fn delegate(
        &self,
        incoming: &mut Incoming,
        service: &Service,
        route: &Route,
        caller: Caller<'_>,
        seats: u64,
        witness: &mut Witness,
    ) -> Result<Response<ReplyBody>, Status> {
        let core = &self.inner.core;
        if forward::is_endless(route, incoming.request.headers()) {
            let _seat = self.sit(seats, witness).await?;
            let permit = incoming.watches.clone().try_acquire_owned().map_err(|_| {
                let limit = core.settings.max_watches;
                too_many(&format!("{limit} watches are open, which is the limit"))
            })?;
            let until = Until::Stopped(incoming.shutdown.clone());
            return forward::pass(core, incoming, service, until, permit).await;
        }
        let until = Until::After(core.settings.request_timeout);
        let write = !matches!(*incoming.request.method(), Method::GET | Method::HEAD);
        let work = pin!(async {
            let turn = self.admit(caller, write, seats, incoming, witness).await?;
            forward::pass(core, incoming, service, until, turn).await
        });
        self.within_deadline(work).await
    }

    async fn work(
        &self,
        incoming: &mut Incoming,
        verb: Verb,
        target: &Target,
        turn: Option<Turn>,
        witness: &mut Witness,
    ) -> Result<Response<ReplyBody>, Status> {
        let reply = resources::handle(&self.inner.core, incoming, verb, target).await?;
        witness.done("worked");
        witness.replied(&reply);
        reply::respond(reply, incoming.accept, self.delivery(turn)).await
    }

    fn delivery(&self, turn: Option<Turn>) -> Delivery {
        Delivery { patience: self.inner.core.settings.request_timeout, turn }
    }

    async fn within_deadline<T>(
        &self,
        work: Pin<&mut impl Future<Output = Result<T, Status>>>,
    ) -> Result<T, Status> {
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
        seats: u64,
        incoming: &mut Incoming,
        witness: &mut Witness,
    ) -> Result<Turn, Status> {
        let mut turn = self.inner.bounds.turn(caller).await?;
        if write {
            let request = &mut incoming.request;
            let body = std::mem::take(request.body_mut());
            let body = body::read_counted(body, |n| turn.hold(n)).await?;
            witness.request(&body, content_type(request.headers()));
            *request.body_mut() = body::whole(body);
        }
        if let Some(seat) = self.sit(seats, witness).await? {
            turn.sit(seat);
        }
        // Who is exempt from flow control is still one of so many.
        if witness.class().is_none_or(Class::is_exempt) {
            turn.permit(write).await?;
        }
        witness.done("admitted");
        turn.works(self.inner.core.metrics.works(write));
        Ok(turn)
    }

    /// Waits for seats in the request's priority level.
    async fn sit(&self, seats: u64, witness: &Witness) -> Result<Option<Seat>, Status> {
        match witness.class() {
            Some(class) => self.inner.core.flow.enter(class, seats).await.map(Some),
            None => Ok(None),
        }
    }

    /// Who is at the other end: a certificate decides, and where it is not good a token may.
    async fn authenticate(
        &self,
        peer: &Peer,
        headers: &HeaderMap,
        path: &str,
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
            (None, None) if self.inner.core.issuers.takes_anonymous(path) => {
                return Ok(Arc::new(User::anonymous()));
            }
            (None, None) => return Err(Status::unauthorized()),
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

/// A method as RBAC writes it where there is no resource.
fn lower_case(method: &Method) -> Cow<'static, str> {
    match *method {
        Method::GET => "get".into(),
        Method::HEAD => "head".into(),
        Method::POST => "post".into(),
        Method::PUT => "put".into(),
        Method::PATCH => "patch".into(),
        Method::DELETE => "delete".into(),
        _ => method.as_str().to_ascii_lowercase().into(),
    }
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

/// Whether the user may, which is counted and recorded.
async fn authorize(
    core: &Core,
    user: &User,
    question: &Question<'_>,
    witness: &mut Witness,
) -> Result<(), Status> {
    let decision = core.authorizer.decide(user, question).await;
    let allowed = decision.is_allowed();
    core.metrics.authorized(allowed);
    witness.decided(allowed, || decision.reason.to_string());
    if allowed { Ok(()) } else { Err(question.refusal(user, &decision.reason.to_string())) }
}

/// The content type of a request.
#[must_use]
pub fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok())
}
