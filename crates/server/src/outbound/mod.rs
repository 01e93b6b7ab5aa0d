//! Calls that the server makes: of webhooks, extension API servers and identity providers.
//!
//! It owns the way out: who is dialled, over which network, whom it trusts, how long it waits and how much it reads. It never
//! knows what a call is about, and follows no redirects.
//!
//! ```text
//!  URL ─────────────────────────────┐
//!  Service ──Services, slices──▶ Endpoint ──dial──▶ TLS ──▶ HTTP/1.1 or HTTP/2, pooled ──▶ answer, bounded
//! ```
//!
//! Addresses of pods and services are dialled inside of the cluster's network, by [`NodeConnector::dial`]; all others in the
//! server's own. A service is called at one of its ready endpoints, as `NAME.NAMESPACE.svc`.

mod connect;
mod endpoint;
mod tls;
mod way;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::nodes::NodeConnector;

use self::connect::Connector;
pub use self::connect::Dialled;
pub use self::endpoint::{Endpoint, ServiceRef, Unresolved};
pub(crate) use self::endpoint::{find_service, slices};
pub use self::tls::{Identity, Trust, TrustError};
pub(crate) use self::way::Way;

/// How many endpoints have pooled connections at once; the one that was called longest ago gives way.
const MAX_ENDPOINTS: usize = 128;
/// How many idle connections of one endpoint are kept, and how long.
const MAX_IDLE: usize = 16;
const IDLE: Duration = Duration::from_secs(90);
/// How often a connection that carries several calls is tried, and how long it may be silent then.
const PROBE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(15));

/// How much one call may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From the beginning to the end of the answer.
    pub timeout: Duration,
    /// The answer's body, in bytes.
    pub answer: usize,
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// It took too long; in the words that clients look for.
    #[error("context deadline exceeded")]
    Deadline,
    /// Nobody was reached, or the connection broke.
    #[error("{}", chain(.0.as_ref()))]
    Transport(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The answer is larger than the caller reads.
    #[error("the answer is longer than {limit} bytes, which is the limit")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
}

/// An error and what caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Calls others, over connections that it keeps for the next call.
pub struct Outbound {
    network: Arc<dyn NodeConnector>,
    clients: Mutex<HashMap<(Endpoint, Trust), Kept>>,
}

/// The connections to one endpoint.
struct Kept {
    client: Client<Connector, Full<Bytes>>,
    called: Instant,
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound").finish_non_exhaustive()
    }
}

impl Outbound {
    /// Calls pods and services over `network`.
    #[must_use]
    pub fn new(network: Arc<dyn NodeConnector>) -> Self {
        Self { network, clients: Mutex::default() }
    }

    /// Sends a request, whose URI is absolute, to an endpoint, and reads the whole answer.
    ///
    /// # Errors
    /// There is no answer within the limits. Whatever status an answer has, it is one.
    pub async fn call(
        &self,
        endpoint: &Endpoint,
        trust: &Trust,
        request: Request<Full<Bytes>>,
        limits: Limits,
    ) -> Result<Response<Bytes>, CallError> {
        let client = self.client(endpoint, trust);
        let work = async {
            let answer = client.request(request).await.map_err(|e| CallError::Transport(e.into()))?;
            let (parts, body) = answer.into_parts();
            Ok(Response::from_parts(parts, read(body, limits.answer).await?))
        };
        tokio::time::timeout(limits.timeout, work).await.unwrap_or(Err(CallError::Deadline))
    }

    /// Sends a request, whose URI is absolute, to an endpoint; the answer's body is read by the caller, who bounds it.
    ///
    /// # Errors
    /// There is no answer. Whatever status an answer has, it is one.
    pub async fn send(
        &self,
        endpoint: &Endpoint,
        trust: &Trust,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<hyper::body::Incoming>, CallError> {
        self.client(endpoint, trust).request(request).await.map_err(|e| CallError::Transport(e.into()))
    }

    /// Opens a connection that is the caller's alone, which speaks HTTP/1.1; with `trust` over TLS.
    ///
    /// # Errors
    /// Nobody is there, or they cannot show who they are.
    pub async fn connect(&self, endpoint: &Endpoint, trust: Option<&Trust>) -> std::io::Result<Dialled> {
        connect::open(&*self.network, endpoint, trust, connect::Protocols::One).await
    }

    fn client(&self, endpoint: &Endpoint, trust: &Trust) -> Client<Connector, Full<Bytes>> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (endpoint.clone(), trust.clone());
        if let Some(kept) = clients.get_mut(&key) {
            kept.called = Instant::now();
            return kept.client.clone();
        }
        if clients.len() >= MAX_ENDPOINTS {
            let oldest = clients.iter().min_by_key(|(_, kept)| kept.called).map(|(key, _)| key.clone());
            oldest.and_then(|key| clients.remove(&key));
        }
        let connector = Connector::new(self.network.clone(), endpoint.clone(), trust.clone());
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MAX_IDLE)
            .http2_keep_alive_interval(PROBE.0)
            .http2_keep_alive_timeout(PROBE.1)
            .build(connector);
        clients.insert(key, Kept { client: client.clone(), called: Instant::now() });
        client
    }
}

async fn read(mut body: hyper::body::Incoming, limit: usize) -> Result<Bytes, CallError> {
    if body.size_hint().lower() > limit as u64 {
        return Err(CallError::TooLarge { limit });
    }
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| CallError::Transport(e.into()))?;
        let Ok(data) = frame.into_data() else { continue };
        if all.len() + data.len() > limit {
            return Err(CallError::TooLarge { limit });
        }
        all.extend_from_slice(&data);
    }
    Ok(all.freeze())
}
