//! What a request says of itself, read before anybody has asked who it is from.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, Request};
use xebec_api::Status;

use crate::auth::Peer;
use crate::authz::{Question, Selected};
use crate::core::Core;
use crate::discovery;
use crate::http::accept::{Accept, Rows};
use crate::http::body::RequestBody;
use crate::http::gzip;
use crate::http::query::Query;
use crate::http::route::{Route, Verb};
use crate::resources;

/// Names a request, in the request and in its answer.
pub(crate) const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
/// The longest id that a client may give its request, in bytes.
const MAX_AUDIT_ID: usize = 64;

/// What a request says before anybody has asked who it is from.
pub(crate) struct Arrival {
    /// The id that the client gave it, or a new one.
    pub(crate) id: String,
    pub(crate) source: Option<IpAddr>,
    pub(crate) peer: Peer,
    pub(crate) query: Query,
    pub(crate) accept: Result<Accept, Status>,
    pub(crate) route: Result<Route, Status>,
    /// What its selectors confine it to.
    selected: Option<Selected>,
}

impl Arrival {
    /// Reads the head of a request.
    pub(crate) fn read(
        core: &Core,
        peer: Peer,
        source: Option<IpAddr>,
        request: &Request<RequestBody>,
    ) -> Self {
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let rows = Rows::read(query.get("includeObject").unwrap_or_default());
        let accept = Accept::from_headers(request.headers()).and_then(|a| rows.map(|rows| a.with_rows(rows)));
        let route = Route::read(request.method(), request.uri().path(), &query);
        let selected = match &route {
            Ok(Route::Resource(verb, target)) => Selected::of_request(*verb, target, &query),
            Ok(Route::Path(_)) | Err(_) => None,
        };
        Self { id: audit_id(core, request.headers()), source, peer, query, accept, route, selected }
    }

    /// What has to be allowed. Nothing is asked of a request that goes nowhere.
    pub(crate) fn question<'a>(&'a self, method: &'a str) -> Question<'a> {
        match &self.route {
            Ok(Route::Path(path)) => {
                let verb = if method == "head" { "get" } else { method };
                Question { verb, path, ..Question::default() }
            }
            Ok(Route::Resource(verb, target)) => {
                let selected = self.selected.as_ref();
                let mut question = Question { selected, ..Question::about(verb.as_str(), target) };
                if matches!(verb, Verb::List | Verb::Watch) {
                    question.name = selected.and_then(Selected::name).unwrap_or(question.name);
                }
                question
            }
            Err(_) => Question { verb: method, path: "/", ..Question::default() },
        }
    }

    /// Whether another server may answer in the place of one that stops: who asks how this one is means this one, and
    /// components in this process have no other.
    pub(crate) fn may_come_again(&self) -> bool {
        let vital = matches!(&self.route, Ok(Route::Path(path)) if discovery::is_vital(path));
        !vital && !matches!(self.peer, Peer::Local(_))
    }

    /// Whether the client takes a compressed answer, and the answer has an end.
    pub(crate) fn may_be_compressed(&self, headers: &HeaderMap) -> bool {
        let endless = match &self.route {
            Ok(Route::Resource(verb, target)) => *verb == Verb::Watch || resources::is_stream(target),
            Ok(Route::Path(_)) | Err(_) => false,
        };
        !endless && gzip::is_accepted(headers)
    }
}

/// The id that the client gave the request, or a new one.
fn audit_id(core: &Core, headers: &HeaderMap) -> String {
    let given = headers.get(AUDIT_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
    match given.len() {
        1..=MAX_AUDIT_ID => given.to_owned(),
        _ => core.new_uid().unwrap_or_default(),
    }
}
