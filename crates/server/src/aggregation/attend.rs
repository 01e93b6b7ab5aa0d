//! Whether the servers behind this one are there, and what they offer: asked when something about them changes, and every half
//! minute.
//!
//! ```text
//!  API service, its service and slices ──change, time──▶ look (pure) ──▶ ask ──▶ offer kept ──▶ condition Available written
//! ```
//!
//! What a server offers is known before its API service is called available, so that who hears of that finds it in discovery.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use http::header::{ACCEPT, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, USER_AGENT};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};
use xebec_api::{Reason, Status, Value, meta, object};
use xebec_store::{Scope, StoreError, WatchError};

use super::offer::{self, MAX_DOCUMENT, Offer, Part as OfferedPart, Unreadable};
use super::{GROUP, Remote, Service, headers, register, until_stopped};
use crate::auth::User;
use crate::auth::user::MASTERS;
use crate::core::Core;
use crate::http::body::BoxError;
use crate::outbound::{Endpoint, Limits, ServiceRef, Trust, find_service, slices};
use crate::registry::special::set_condition;
use crate::registry::write::{self, Change, Part};

/// How often a server that answers is asked.
const REFRESH: Duration = Duration::from_secs(30);
/// How soon one that does not is asked again, doubled each time up to [`REFRESH`].
const RETRY: Duration = Duration::from_millis(500);
/// Changes that come together are looked at together.
const SETTLE: Duration = Duration::from_millis(50);
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How often a server is asked at once, when the first try failed, before it is called unavailable.
const TRIES: usize = 4;
/// The form of discovery that tells everything at once.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                          application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
/// How many servers are asked at once.
const MAX_ASKED: usize = 16;

/// Attends to the servers behind this one until `shutdown`.
pub(crate) async fn keep(core: Arc<Core>, shutdown: CancellationToken) {
    let following = until_stopped(&shutdown, "services and their endpoints", || follow_endpoints(&core));
    let attending = attend_all(&core, &shutdown);
    tokio::join!(following, attending);
}

/// Has one task for each API service that another server answers for.
async fn attend_all(core: &Arc<Core>, shutdown: &CancellationToken) {
    let mut changed = core.aggregation.changed.subscribe();
    let asking = Arc::new(Semaphore::new(MAX_ASKED));
    let mut attended: HashMap<(String, String), DropGuard> = HashMap::new();
    let mut tasks = JoinSet::new();
    loop {
        changed.mark_unchanged();
        let state = core.aggregation.state();
        let id = |service: &Service| (service.name.clone(), service.uid.clone());
        attended.retain(|known, _| state.remote().iter().any(|service| id(service) == *known));
        for service in state.remote() {
            attended.entry(id(service)).or_insert_with(|| {
                let stop = CancellationToken::new();
                tasks.spawn(attend(core.clone(), service.clone(), asking.clone(), stop.clone()));
                stop.drop_guard()
            });
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            told = changed.changed() => if told.is_err() { return },
            Some(ended) = tasks.join_next() => if let Err(error) = ended
                && let Ok(panic) = error.try_into_panic()
            {
                std::panic::resume_unwind(panic);
            },
        }
    }
}

/// Attends to one server until `stop`, or until its API service is another one.
async fn attend(core: Arc<Core>, first: Arc<Service>, asking: Arc<Semaphore>, stop: CancellationToken) {
    let mut service = first;
    let mut changed = core.aggregation.changed.subscribe();
    let mut endpoints = core.aggregation.endpoints.subscribe();
    let mut retry = RETRY;
    loop {
        changed.mark_unchanged();
        endpoints.mark_unchanged();
        match core.aggregation.state().named(&service.name) {
            Some(now) if now.uid == service.uid => service = now.clone(),
            _ => return,
        }
        let Some(remote) = &service.remote else { return };
        let is_good = {
            let Ok(_turn) = asking.acquire().await else { return };
            round(&core, &service, remote).await
        };
        let pause = if is_good { REFRESH } else { retry };
        retry = if is_good { RETRY } else { (retry * 2).min(REFRESH) };
        let is_told = tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => false,
            () = told_of_another(&core, &service, &mut changed) => true,
            told = endpoints.changed() => told.is_ok(),
        };
        if is_told {
            retry = RETRY;
            tokio::time::sleep(SETTLE).await;
        }
    }
}

/// Waits until an API service asks for something else; its status and labels do not count.
async fn told_of_another(core: &Core, service: &Service, changed: &mut watch::Receiver<()>) {
    while changed.changed().await.is_ok() {
        if core.aggregation.state().named(&service.name).is_none_or(|now| now.spec != service.spec) {
            return;
        }
    }
    std::future::pending::<()>().await;
}

/// Tells who attends when a service, or a slice of its endpoints, changes in a namespace that one of them is in.
async fn follow_endpoints(core: &Core) -> Result<(), BoxError> {
    let services = follow_rows(core, "", "services");
    let slices = follow_rows(core, "discovery.k8s.io", "endpointslices");
    tokio::try_join!(services, slices).map(drop)
}

async fn follow_rows(core: &Core, group: &str, resource: &str) -> Result<(), BoxError> {
    let table = core.table.get();
    let row = table.row(group, resource).ok_or("there is no resource of services or of slices")?;
    let prefix = row.prefix("").map_err(|status| status.message)?;
    let namespace_at = prefix.as_str().len();
    let mut watch = match core.store.watch(Scope::Prefix(prefix), core.store.snapshot().revision()) {
        Err(StoreError::Closed) => return Ok(()),
        opened => opened?,
    };
    // What has changed before is looked at once more.
    core.aggregation.endpoints.send_replace(());
    loop {
        match watch.next().await {
            Ok(batch) => {
                let state = core.aggregation.state();
                let mut paths = batch.events.iter().map(|event| &event.key().as_str()[namespace_at..]);
                if paths.any(|path| state.remote().iter().any(|service| service.is_in_namespace_of(path))) {
                    core.aggregation.endpoints.send_replace(());
                }
            }
            Err(WatchError::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Asks once, and notes what was found. Whether the server is available.
async fn round(core: &Core, service: &Service, remote: &Remote) -> bool {
    let found = match look(core, remote) {
        Ok(()) => ask(core, service, remote).await,
        Err(fault) => Err(fault),
    };
    let mut offer = core.aggregation.offer(service).map(|offer| (*offer).clone()).unwrap_or_default();
    offer.of.clone_from(&service.uid);
    offer.is_fresh = false;
    if found.is_ok() {
        match read_offer(core, service, remote, &mut offer).await {
            Ok(()) => offer.is_fresh = true,
            Err(why) => tracing::warn!(name = service.name, why, "what an API server offers cannot be read"),
        }
    }
    core.aggregation.keep_offer(service, offer);
    let is_available = found.is_ok();
    if let Err(status) = report(core, service, found).await {
        tracing::warn!(name = service.name, %status, "the availability of an API server cannot be written");
    }
    is_available
}

/// Why a server is not available: reason and message.
type Fault = (&'static str, String);

/// Looks at the service, without asking anybody.
fn look(core: &Core, remote: &Remote) -> Result<(), Fault> {
    let snapshot = core.store.snapshot();
    let (namespace, name) = (&remote.service.namespace, &remote.service.name);
    let service = find_service(core, &snapshot, &remote.service).ok();
    // A service that has no slices is told of like one whose slices cannot be read: none is there to be called.
    let slices = slices(core, &snapshot, namespace, name).unwrap_or_default();
    fault(&remote.service, service.as_ref(), &slices).map_or(Ok(()), Err)
}

fn fault(of: &ServiceRef, service: Option<&Value>, slices: &[Value]) -> Option<Fault> {
    let ServiceRef { namespace, name, port } = of;
    let Some(service) = service else {
        return Some(("ServiceNotFound", format!("service/{name} in {namespace:?} is not present")));
    };
    if !matches!(service.str_at(&["spec", "type"]), None | Some("ClusterIP")) {
        return None;
    }
    let mut ports = service.array_at(&["spec", "ports"]).iter();
    let Some(found) = ports.find(|p| p.i64_at(&["port"]) == Some(i64::from(*port))) else {
        let text = format!("service/{name} in {namespace:?} is not listening on port {port}");
        return Some(("ServicePortError", text));
    };
    if slices.is_empty() {
        let text = format!("cannot find endpointslices for service/{name} in {namespace:?}");
        return Some(("EndpointsNotFound", text));
    }
    let port_name = found.str_at(&["name"]).unwrap_or_default();
    if slices.iter().any(|slice| is_ready(slice, port_name)) {
        return None;
    }
    let text = format!(
        "endpointslices for service/{name} in {namespace:?} have no addresses with port name {port_name:?}"
    );
    Some(("MissingEndpoints", text))
}

fn is_ready(slice: &Value, port: &str) -> bool {
    let mut endpoints = slice.array_at(&["endpoints"]).iter();
    let mut ports = slice.array_at(&["ports"]).iter();
    endpoints.any(|endpoint| endpoint.bool_at(&["conditions", "ready"]) != Some(false))
        && ports.any(|p| p.str_at(&["name"]).unwrap_or_default() == port && p.i64_at(&["port"]).is_some())
}

/// Asks whether the server knows its group and version: once, and if that fails some more times at once, as there may be
/// several endpoints.
async fn ask(core: &Core, service: &Service, remote: &Remote) -> Result<(), Fault> {
    let path = discovery_path(service);
    let attempt = || async {
        let (url, answer) = get(core, remote, &path, "application/json", None).await;
        let failed = |why: String| format!("failing or missing response from {url}: {why}");
        match answer {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(failed(format!("bad status from {url}: {}", answer.status().as_u16()))),
            Err(why) => Err(failed(why)),
        }
    };
    let mut last = match attempt().await {
        Ok(()) => return Ok(()),
        Err(why) => why,
    };
    let mut others: FuturesUnordered<_> = std::iter::repeat_with(attempt).take(TRIES).collect();
    while let Some(outcome) = others.next().await {
        match outcome {
            Ok(()) => return Ok(()),
            Err(why) => last = why,
        }
    }
    Err(("FailedDiscoveryCheck", last))
}

fn discovery_path(service: &Service) -> String {
    match service.group.as_str() {
        "" => format!("/api/{}", service.version),
        group => format!("/apis/{group}/{}", service.version),
    }
}

/// Asks a server for a document, as this one itself; where that was, and what it says.
async fn get(
    core: &Core,
    remote: &Remote,
    path: &str,
    accept: &str,
    tag: Option<&HeaderValue>,
) -> (String, Result<Response<Bytes>, String>) {
    let endpoint = match Endpoint::of_service(core, &remote.service) {
        Ok(endpoint) => endpoint,
        Err(error) => return (format!("https://{}{path}", remote.service.host()), Err(error.to_string())),
    };
    let url = format!("https://{endpoint}{path}");
    let answer = call(core, &endpoint, &remote.trust, &url, accept, tag).await;
    (url, answer)
}

async fn call(
    core: &Core,
    endpoint: &Endpoint,
    trust: &Result<Trust, String>,
    url: &str,
    accept: &str,
    tag: Option<&HeaderValue>,
) -> Result<Response<Bytes>, String> {
    let trust = trust.as_ref().map_err(Clone::clone)?;
    let request = Request::get(url).header(ACCEPT, accept).header(USER_AGENT, "kube-aggregator");
    let mut request = request.body(Full::default()).map_err(|error| error.to_string())?;
    let user =
        User { name: "system:kube-aggregator".into(), groups: vec![MASTERS.into()], ..User::default() };
    headers::identify(request.headers_mut(), &user).map_err(|error| error.to_string())?;
    if let Some(tag) = tag {
        request.headers_mut().insert(IF_NONE_MATCH, tag.clone());
    }
    let limits = Limits { timeout: TIMEOUT, answer: MAX_DOCUMENT };
    let answer = core.outbound.call(endpoint, trust, request, limits).await;
    answer.map_err(|error| format!("Get {url:?}: {error}"))
}

/// Reads what the server offers. Only its resources have to be there.
async fn read_offer(
    core: &Core,
    service: &Service,
    remote: &Remote,
    offer: &mut Offer,
) -> Result<(), String> {
    let (group, version) = (service.group.as_str(), service.version.as_str());
    let (url, answer) = get(core, remote, "/apis", AGGREGATED, None).await;
    let resources = match answer? {
        answer if answer.status() == StatusCode::OK && is_aggregated(&answer) => {
            offer::aggregated(answer.body(), group, version).map_err(|why| format!("{url}: {why}"))
        }
        _ => {
            let (url, answer) = get(core, remote, &discovery_path(service), "application/json", None).await;
            offer::listed(answer?.body(), group, version).map_err(|why| format!("{url}: {why}"))
        }
    };
    offer.resources = resources?;
    read_openapi(core, service, remote, offer).await;
    Ok(())
}

fn is_aggregated(answer: &Response<Bytes>) -> bool {
    let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.contains("as=APIGroupDiscoveryList")
}

/// Reads the OpenAPI documents, without which a server still answers.
async fn read_openapi(core: &Core, service: &Service, remote: &Remote, offer: &mut Offer) {
    let (group, version) = (service.group.as_str(), service.version.as_str());
    let (url, answer) = get(core, remote, "/openapi/v3", "application/json", None).await;
    match read_document(answer, |bytes| offer::index(bytes, group, version)) {
        Ok(Some((index, _))) => offer.v3 = index,
        Ok(None) => offer.v3.clear(),
        Err(why) => tracing::debug!(url, why, "an index of OpenAPI documents cannot be read"),
    }
    let tag = offer.v2.as_ref().and_then(|part| part.tag.clone());
    let (url, answer) = get(core, remote, "/openapi/v2", "application/json", tag.as_ref()).await;
    if matches!(&answer, Ok(answer) if answer.status() == StatusCode::NOT_MODIFIED) {
        return;
    }
    let (group, version) = (group.to_owned(), version.to_owned());
    // Large documents take their time.
    let reading = tokio::task::spawn_blocking(move || {
        read_document(answer, |bytes| offer::swagger(bytes, &group, &version))
    });
    match reading.await {
        Ok(Ok(Some((document, answer)))) => {
            let (tag, size) = (answer.headers().get(ETAG).cloned(), answer.body().len());
            offer.v2 = Some(OfferedPart { tag, document: Arc::new(document), size });
        }
        Ok(Ok(None)) => offer.v2 = None,
        Ok(Err(why)) => tracing::debug!(url, why, "an OpenAPI document cannot be read"),
        Err(error) => tracing::warn!(url, %error, "an OpenAPI document could not be read"),
    }
}

/// What is read of an answer, and the answer; `None` if the server has no such document.
fn read_document<T>(
    answer: Result<Response<Bytes>, String>,
    read: impl FnOnce(&[u8]) -> Result<T, Unreadable>,
) -> Result<Option<(T, Response<Bytes>)>, String> {
    match answer? {
        answer if answer.status() == StatusCode::OK => {
            let found = read(answer.body()).map_err(|why| why.to_string())?;
            Ok(Some((found, answer)))
        }
        answer if answer.status() == StatusCode::NOT_FOUND => Ok(None),
        answer => Err(format!("the answer is {}", answer.status())),
    }
}

/// Writes the condition `Available`, if it is another one.
async fn report(core: &Core, service: &Service, found: Result<(), Fault>) -> Result<(), Status> {
    let (status, reason, message) = match found {
        Ok(()) => ("True", "Passed", "all checks passed".to_owned()),
        Err((reason, message)) => ("False", reason, message),
    };
    let condition = object!({
        "type": "Available", "status": status, "reason": reason, "message": message,
        "lastTransitionTime": (core.clock.now().to_string())
    });
    let served = core.table.get().served(GROUP, "v1", "apiservices")?;
    let about = write::Target { served: &served, namespace: "", name: &service.name, part: Part::Status };
    let mut change = Observed { uid: &service.uid, condition };
    match write::change(core, &register::context(core), about, &mut change).await {
        Err(status) if status.reason == Reason::NotFound => Ok(()),
        outcome => outcome.map(drop),
    }
}

struct Observed<'a> {
    uid: &'a str,
    condition: Value,
}

impl Change for Observed<'_> {
    fn apply(&mut self, old: &Value) -> Result<Value, Status> {
        let mut new = old.clone();
        // One that has taken its place, or that this server answers for by now, is looked at by itself.
        if meta::uid(old) == self.uid && old.object_at(&["spec", "service"]).is_some() {
            set_condition(&mut new, self.condition.clone());
        }
        Ok(new)
    }

    fn may_retry(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_that_nobody_can_be_reached_by() {
        let of = ServiceRef { namespace: "n".into(), name: "s".into(), port: 443 };
        let check = |service: Option<Value>, slices: &[Value], want: Option<(&str, &str)>| {
            let found = fault(&of, service.as_ref(), slices);
            assert_eq!(found.as_ref().map(|(reason, text)| (*reason, text.as_str())), want);
        };
        let service =
            |port: i64| object!({"spec": {"type": "ClusterIP", "ports": [{"name": "web", "port": port}]}});
        let slice = |name: &str, ready: bool| {
            object!({
                "ports": [{"name": name, "port": 8443}],
                "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}]
            })
        };
        check(None, &[], Some(("ServiceNotFound", r#"service/s in "n" is not present"#)));
        check(
            Some(service(80)),
            &[slice("web", true)],
            Some(("ServicePortError", r#"service/s in "n" is not listening on port 443"#)),
        );
        let missing = r#"cannot find endpointslices for service/s in "n""#;
        check(Some(service(443)), &[], Some(("EndpointsNotFound", missing)));
        let none = r#"endpointslices for service/s in "n" have no addresses with port name "web""#;
        for bad in
            [slice("web", false), slice("other", true), object!({"ports": [{"name": "web", "port": 1}]})]
        {
            check(Some(service(443)), &[bad], Some(("MissingEndpoints", none)));
        }
        check(Some(service(443)), &[slice("web", false), slice("web", true)], None);
        check(Some(object!({"spec": {"type": "ExternalName"}})), &[], None);
    }
}
