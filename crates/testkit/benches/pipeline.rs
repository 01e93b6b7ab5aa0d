//! What requests cost the server, asked in this process: no TLS, no HTTP framing, no client's decoding.
//!
//! `cargo bench -p xebec-testkit --bench pipeline`

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use tower::ServiceExt as _;
use xebec_server::auth::User;
use xebec_server::auth::keys::ClusterKeys;
use xebec_server::config::Settings;
use xebec_server::core::SystemClock;
use xebec_server::http::reply::ReplyBody;
use xebec_server::nodes::NoNodes;
use xebec_server::server::{ApiServer, LocalService, Parts};
use xebec_store::limits::Limits;
use xebec_store::{Embedded, EmbeddedOptions, Memory, Store};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const GETS: usize = 200_000;
const CREATES: usize = 20_000;
const AT_ONCE: usize = 64;
const LISTED: usize = 10_000;
const LISTS: usize = 30;
const WATCHERS: usize = 1_000;
const EVENTS: usize = 100;

/// One thread, so that its CPU time is that of the work.
#[tokio::main(flavor = "current_thread")]
async fn main() {
    let only = std::env::args().nth(1).filter(|name| !name.starts_with("--")).unwrap_or_default();
    let chosen = |name: &str| name.contains(&only);
    if chosen("get") {
        gets(&in_memory().await).await;
    }
    if chosen("create") {
        creates("creates in memory", &in_memory().await, 1).await;
        let directory = tempfile::tempdir().expect("a directory");
        let store = Embedded::open(directory.path(), EmbeddedOptions::default()).expect("an empty store");
        creates("durable creates, 64 at once", &served(Arc::new(store)).await, AT_ONCE).await;
    }
    if chosen("policies") {
        for (name, resource, kind) in [
            ("creates with policies of other resources", "secrets", "validating"),
            ("creates that a validating policy admits", "configmaps", "validating"),
            ("creates that a mutating policy changes", "configmaps", "mutating"),
        ] {
            let server = in_memory().await;
            enforce(&server, resource, kind).await;
            creates(name, &server, 1).await;
        }
    }
    if chosen("list") {
        lists(&in_memory().await).await;
    }
    if chosen("watch") {
        watches(&in_memory().await).await;
    }
}

async fn in_memory() -> LocalService {
    served(Arc::new(Memory::new(&Limits::default()))).await
}

async fn served(store: Arc<dyn Store>) -> LocalService {
    let keys = ClusterKeys::ephemeral(&ring::rand::SystemRandom::new()).expect("keys");
    let settings = Settings::default();
    let parts = Parts { store, nodes: Arc::new(NoNodes), clock: Arc::new(SystemClock), settings };
    let server = ApiServer::new(parts, &keys).expect("usable keys");
    server.start().await.expect("an empty store takes the first objects");
    server.local(User::component("admin", &["system:masters"]))
}

async fn gets(server: &LocalService) {
    create(server, 0).await;
    let work = async {
        for _ in 0..GETS {
            let answer = ask(server, Method::GET, &format!("{MAPS}/n0"), Bytes::new()).await;
            assert_eq!(
                answer.into_body().collect().await.expect("a whole body").to_bytes().first(),
                Some(&b'{')
            );
        }
    };
    report("GET", GETS, work).await;
}

async fn creates(name: &str, server: &LocalService, at_once: usize) {
    let work = futures::stream::iter(0..CREATES).for_each_concurrent(at_once, |n| create(server, n));
    report(name, CREATES, work).await;
}

/// Puts a policy for a resource in force.
async fn enforce(server: &LocalService, resource: &str, kind: &str) {
    const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
    let rules = format!(
        r#"{{"resourceRules":[{{"operations":["*"],"apiGroups":[""],"apiVersions":["v1"],"resources":["{resource}"]}}]}}"#
    );
    let does = match kind {
        "validating" => {
            r#""variables":[{"name":"data","expression":"object.data"}],"validations":[
                {"expression":"variables.data.all(k, variables.data[k].size() < 2000)"},
                {"expression":"object.metadata.name.startsWith('n')","message":"no"}]"#
        }
        _ => {
            r#""reinvocationPolicy":"Never","mutations":[{"patchType":"ApplyConfiguration","applyConfiguration":
                {"expression":"Object{metadata: Object.metadata{labels: {'a': 'b'}}}"}}]"#
        }
    };
    let policy = format!(r#"{{"metadata":{{"name":"p"}},"spec":{{"matchConstraints":{rules},{does}}}}}"#);
    let actions = if kind == "validating" { r#","validationActions":["Deny"]"# } else { "" };
    let binding = format!(r#"{{"metadata":{{"name":"p"}},"spec":{{"policyName":"p"{actions}}}}}"#);
    for (path, text) in [("policies", policy), ("policybindings", binding)] {
        let path = format!("{GROUP}/{kind}admission{path}");
        let answer = ask(server, Method::POST, &path, text.into()).await;
        assert_eq!(answer.status().as_u16(), 201, "{path}");
    }
}

async fn lists(server: &LocalService) {
    for n in 0..LISTED {
        create(server, n).await;
    }
    let work = async {
        for _ in 0..LISTS {
            let answer = ask(server, Method::GET, MAPS, Bytes::new()).await;
            let length = answer.into_body().collect().await.expect("a whole body").to_bytes().len();
            assert!(length > LISTED * 1024);
        }
    };
    report("LIST of 10,000 ConfigMaps of 1 KiB", LISTS, work).await;
}

async fn watches(server: &LocalService) {
    let mut bodies = Vec::new();
    for _ in 0..WATCHERS {
        let path = format!("{MAPS}?watch=true&fieldSelector=metadata.name!=none");
        bodies.push(ask(server, Method::GET, &path, Bytes::new()).await.into_body());
    }
    let work = async {
        for n in 0..EVENTS {
            create(server, n).await;
            for body in &mut bodies {
                let frame = body.frame().await.expect("the watch goes on").expect("a frame");
                assert!(frame.data_ref().is_some_and(|data| !data.is_empty()));
            }
        }
    };
    report("deliveries to 1,000 watchers", EVENTS * WATCHERS, work).await;
}

async fn create(server: &LocalService, n: usize) {
    let text = format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"n{n}"}},"data":{{"a":"{}"}}}}"#,
        "x".repeat(1024)
    );
    let answer = ask(server, Method::POST, MAPS, text.into()).await;
    assert_eq!(answer.status().as_u16(), 201);
}

async fn ask(server: &LocalService, method: Method, path: &str, body: Bytes) -> Response<ReplyBody> {
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    let request = request.header("user-agent", "bench").body(Full::new(body)).expect("a request");
    match server.clone().oneshot(request).await {
        Ok(answer) => answer,
        Err(never) => match never {},
    }
}

async fn report(name: &str, count: usize, work: impl Future<Output = ()>) {
    let (begun, before) = (Instant::now(), cpu());
    work.await;
    let each = |time: Duration| time.as_secs_f64() * 1e6 / count as f64;
    println!("{name}: {:.2} µs CPU each ({:.2} µs)", each(cpu() - before), each(begun.elapsed()));
}

/// The CPU time of this process so far: what `/proc/self/task` says of each thread.
fn cpu() -> Duration {
    let threads = std::fs::read_dir("/proc/self/task").expect("Linux tells of threads");
    let of = |thread: std::io::Result<std::fs::DirEntry>| {
        let path = thread.expect("a thread").path().join("schedstat");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.split_whitespace().next().and_then(|field| field.parse().ok()).unwrap_or(0)
    };
    Duration::from_nanos(threads.map(of).sum())
}
