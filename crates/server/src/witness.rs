//! What is told of each request when it is over.
//!
//! ```text
//!   request ──▶ Witness ──▶ answer ──all there──────────────▶ counted
//!                  │           └──made while it is read──end, or the client goes──▶ counted
//!                  └──dropped before there is an answer: the client has gone
//! ```

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tracing::Span;
use tracing::field::Empty;
use xebec_api::{Status, json};

use crate::audit::{Begin, Outcome, Record, Stage};
use crate::auth::User;
use crate::core::{self, Core};
use crate::flow::Class;
use crate::http::body::{BoxError, RequestBody};
use crate::http::query::Query;
use crate::http::reply::{Reply, ReplyBody};
use crate::http::route::{Route, Verb};
use crate::metrics::requests::{About, Counters};
use crate::serve::content_type;
use crate::trace::{Steps, TraceParent};

/// Sees one request from its beginning to its end.
pub(crate) struct Witness {
    core: Arc<Core>,
    counters: Arc<Counters>,
    started: Instant,
    id: String,
    uri: Uri,
    user: Option<Arc<User>>,
    trace: Option<TraceParent>,
    steps: Arc<Mutex<Steps>>,
    /// Whether its answer goes on as long as its client likes.
    endless: bool,
    answered: bool,
    refusal: Option<Status>,
    /// Where it belongs in flow control.
    class: Option<Class>,
    /// What goes to the audit log; nothing does after a panic, which has been told there.
    record: Option<Box<Record>>,
}

/// From here on the log and the audit log tell how long a request took.
const SLOW: Duration = Duration::from_millis(500);

impl Witness {
    /// Begins to look at a request.
    pub(crate) fn new(
        core: &Arc<Core>,
        request: &Request<RequestBody>,
        id: &str,
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
        let started = Instant::now();
        let endless = matches!(route, Some(Route::Resource(Verb::Watch, _)));
        Self {
            core: core.clone(),
            counters,
            started,
            id: id.to_owned(),
            uri: request.uri().clone(),
            user: None,
            trace: TraceParent::of(request.headers()),
            steps: Arc::new(Mutex::new(Steps::since(started))),
            endless,
            answered: false,
            refusal: None,
            class: None,
            record: None,
        }
    }

    /// The span of the request, for what is logged on its way.
    pub(crate) fn span(&self) -> Span {
        let trace = self.trace.as_ref().map(TraceParent::trace_id).map(tracing::field::display);
        tracing::info_span!("request", id = self.id, path = self.uri.path(), user = Empty, trace)
    }

    /// The trace and the steps of the request, for its context.
    pub(crate) fn part(&self) -> (Option<TraceParent>, Arc<Mutex<Steps>>) {
        (self.trace, self.steps.clone())
    }

    /// A step of the request is done.
    pub(crate) fn done(&self, step: &'static str) {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).done(step);
    }

    /// The request has said who it is from, or has not.
    pub(crate) async fn begins(&mut self, begin: &Begin<'_>) {
        if let Some(user) = begin.user {
            Span::current().record("user", user.name.as_str());
            self.user = Some(user.clone());
        }
        self.done("identified");
        let Some(audit) = &self.core.audit else { return };
        self.record = audit.begin(begin);
        if let Some(record) = &self.record {
            audit.tell(record, Stage::RequestReceived, Outcome::UnderWay, begin.received).await;
        }
    }

    /// Whom the asker acts as.
    pub(crate) fn impersonates(&mut self, user: &Arc<User>) {
        self.record.iter_mut().for_each(|record| record.impersonates(user));
    }

    /// The request was sorted.
    pub(crate) fn sorted(&mut self, class: Option<Class>) {
        self.class = class;
    }

    /// Where it was sorted.
    pub(crate) const fn class(&self) -> Option<&Class> {
        self.class.as_ref()
    }

    /// Whether the request is allowed, and why.
    pub(crate) fn decided(&mut self, allowed: bool, why: impl FnOnce() -> String) {
        if let Some(record) = &mut self.record {
            let decision = if allowed { "allow" } else { "forbid" };
            record.annotate("authorization.k8s.io/decision", decision.to_owned());
            record.annotate("authorization.k8s.io/reason", why());
        }
    }

    /// The request's body has come.
    pub(crate) fn request(&mut self, body: &Bytes, content_type: Option<&str>) {
        self.record.iter_mut().for_each(|record| record.request(body, content_type));
    }

    /// The work is done.
    pub(crate) fn replied(&mut self, reply: &Reply) {
        let Some(record) = &mut self.record else { return };
        match reply {
            Reply::Object(_, bytes, _) => record.response(|| bytes.clone()),
            Reply::Document(_, value) => record.response(|| json::to_vec(value).into()),
            _ => {}
        }
    }

    /// Takes what others had to say of the request.
    pub(crate) fn heard(&mut self, context: &core::Context) {
        let Some(record) = &mut self.record else { return };
        let notes = context.take_notes();
        record.named(&notes.name);
        notes.annotations.into_iter().for_each(|(key, value)| record.annotate(&key, value));
    }

    /// The request was refused.
    pub(crate) fn refused(&mut self, status: Status) {
        if self.record.is_some() {
            self.refusal = Some(status);
        }
    }

    /// The server has failed at the request.
    pub(crate) async fn panicked(&mut self, text: &str) {
        if let (Some(audit), Some(record)) = (&self.core.audit, self.record.take()) {
            audit.tell(&record, Stage::Panic, Outcome::Panicked(text), self.core.clock.now()).await;
        }
    }

    /// The counters of this kind of request.
    pub(crate) const fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Sees the answer, and tells of it when it is read.
    pub(crate) async fn saw(mut self, mut response: Response<ReplyBody>) -> Response<ReplyBody> {
        self.answered = true;
        self.done("answered");
        self.class.iter().for_each(|class| class.mark(response.headers_mut()));
        let code = response.status();
        self.log(code);
        if response.body().size_hint().exact().is_some() {
            self.counters.answered(code.as_u16(), self.started.elapsed());
            self.tell(Stage::ResponseComplete, code).await;
            return response;
        }
        self.counters.long_running(1);
        if self.endless {
            self.tell(Stage::ResponseStarted, code).await;
        }
        response.map(|body| SeenBody { body, code, witness: self }.boxed_unsync())
    }

    fn outcome(&self, code: StatusCode) -> Outcome<'_> {
        self.refusal.as_ref().map_or(Outcome::Answered(code.as_u16()), Outcome::Refused)
    }

    async fn tell(&mut self, stage: Stage, code: StatusCode) {
        self.note_latency();
        if let (Some(audit), Some(record)) = (&self.core.audit, &self.record) {
            audit.tell(record, stage, self.outcome(code), self.core.clock.now()).await;
        }
    }

    /// Tells of the end where nobody can wait.
    fn ends(&mut self, outcome: impl FnOnce(&Self) -> Outcome<'_>) {
        self.note_latency();
        if let (Some(audit), Some(record)) = (&self.core.audit, &self.record) {
            audit.tell_soon(record, Stage::ResponseComplete, outcome(self), self.core.clock.now());
        }
    }

    /// Tells the log of the request, and how its time was spent if that was long. A watch or stream is as long as it likes.
    fn log(&self, code: StatusCode) {
        let took = self.started.elapsed();
        let (id, path, code) = (&self.id, self.uri.path(), code.as_u16());
        let user = self.user.as_ref().map_or("", |user| &user.name);
        if took < SLOW {
            tracing::info!(id, path, user, code, ?took, "answered");
            return;
        }
        let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner).to_string();
        let trace = self.trace.as_ref().map(TraceParent::trace_id).map(tracing::field::display);
        tracing::warn!(id, path, user, code, ?took, steps, trace, "a request was slow");
    }

    fn note_latency(&mut self) {
        let took = self.started.elapsed();
        if let Some(record) = self.record.as_mut().filter(|_| took > SLOW) {
            record.annotate("apiserver.latency.k8s.io/total", format!("{}s", took.as_secs_f64()));
        }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        if !self.answered {
            self.counters.was_aborted();
            self.ends(|_| Outcome::Left);
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
        let (code, witness) = (self.code, &mut self.witness);
        witness.counters.long_running(-1);
        witness.counters.answered(code.as_u16(), witness.started.elapsed());
        witness.ends(|witness| witness.outcome(code));
    }
}
