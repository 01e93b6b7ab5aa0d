//! Pull and push against Debian's `docker-registry`, directly and through a front that breaks things.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use support::registry::{Action, Front, Registry, Seen, TokenServer, free_port};
use xebec_image::archive::{Builder, LayerBuilder, Source};
use xebec_image::compress::Compression;
use xebec_image::images::Record;
use xebec_image::limits::Limits;
use xebec_image::manifest::{Descriptor, Index, Manifest};
use xebec_image::platform::Platform;
use xebec_image::progress::{Event, Progress, Silent};
use xebec_image::registry::{Credentials, HostConfig, Keyring, RegistryConfig, RetryPolicy, Secret};
use xebec_image::service::ImageError;
use xebec_image::{Digest, ImageService, Reference, ServiceConfig, media};

/// A layer that does not compress, so that its blob is about this long.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut noise = Vec::with_capacity(bytes);
    while noise.len() < bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        noise.extend_from_slice(&(state >> 16).to_be_bytes()[2..]);
    }
    noise.truncate(bytes);
    noise
}

fn builder() -> Builder {
    let layer = |name: &str, seed, compression| {
        LayerBuilder::new().file(name, 0o644, &noise(seed, 300_000)).build(compression)
    };
    Builder::new()
        .layer(layer("gzip", 1, Compression::Gzip))
        .layer(layer("zstd", 2, Compression::Zstd))
        .layer(layer("plain", 3, Compression::None))
        .entrypoint(["/bin/sh"])
        .env("A", "b")
}

/// Settings under which other services of this machine may lead to this one.
fn named(host: String) -> impl Fn(&mut ServiceConfig) {
    move |config| drop(config.registry.hosts.insert(host.clone(), HostConfig::default()))
}

fn config(dir: &Path) -> ServiceConfig {
    let mut config = ServiceConfig::new(dir.join("images"));
    config.registry.retry = RetryPolicy {
        attempts: 3,
        first_wait: Duration::from_millis(1),
        longest_wait: Duration::from_millis(10),
    };
    config
}

struct Node {
    service: ImageService,
    dir: tempfile::TempDir,
}

impl Node {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut ServiceConfig)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut config = config(dir.path());
        change(&mut config);
        let service = ImageService::open(config).await.expect("opens");
        Self { service, dir }
    }

    async fn import(&self, builder: &Builder, name: &str) -> Record {
        let mut archive = Vec::new();
        builder.write(&mut archive).expect("memory");
        let source = Source::Reader(Box::new(std::io::Cursor::new(archive)));
        self.service.import(source, Some(reference(name))).await.expect("imported").remove(0)
    }

    async fn pull(&self, name: &str) -> Result<Record, ImageError> {
        self.pull_as(name, &Keyring::default()).await
    }

    async fn pull_as(&self, name: &str, keyring: &Keyring) -> Result<Record, ImageError> {
        self.service.pull(&reference(name), keyring, Arc::new(Silent)).await
    }

    /// The error of a pull that must fail, and leave no image and nothing unfinished.
    async fn refused(&self, name: &str) -> String {
        let error = self.pull(name).await.map(|record| record.id.to_string()).expect_err("must fail");
        self.settle().await;
        assert!(self.service.get(&reference(name)).is_none());
        error.to_string()
    }

    async fn push(&self, image: &str, to: &str) -> Result<(), ImageError> {
        self.service.push(image, &reference(to), &Keyring::default(), Arc::new(Silent)).await
    }

    /// Until no temporary file is left: transfers that were given up are noticed on threads of their own.
    async fn settle(&self) {
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while self.unfinished() > 0 {
            assert!(std::time::Instant::now() < deadline, "temporary files stay");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn unfinished(&self) -> usize {
        fs::read_dir(self.dir.path().join("images/tmp")).expect("there").count()
    }

    fn blobs(&self) -> usize {
        fs::read_dir(self.dir.path().join("images/blobs/sha256")).expect("there").count()
    }
}

fn reference(text: &str) -> Reference {
    Reference::parse(text).expect("a name")
}

fn basic(registry: &str, password: &str) -> Keyring {
    let mut keyring = Keyring::default();
    let password = Secret::new(password);
    keyring.add(registry, Credentials::Basic { username: "user".to_owned(), password });
    keyring
}

/// A registry that holds the image `app:1`, and the image.
async fn with_image(name: &str) -> (Registry, Record) {
    let registry = Registry::start();
    let node = Node::new().await;
    let record = node.import(&builder(), "app").await;
    node.push("app", &format!("{}/{name}", registry.authority())).await.expect("pushed");
    (registry, record)
}

/// Counts what a pull reports.
#[derive(Default)]
struct Counter {
    events: Mutex<BTreeMap<&'static str, usize>>,
}

impl Counter {
    fn count(&self, kind: &str) -> usize {
        self.events.lock().expect("not poisoned").get(kind).copied().unwrap_or_default()
    }
}

impl Progress for Counter {
    fn report(&self, event: Event<'_>) {
        let kind = match event {
            Event::Resolved { layers, .. } => {
                assert_eq!(layers, 3);
                "resolved"
            }
            Event::Transferred { done, total, .. } => {
                assert!(done <= total);
                "transferred"
            }
            Event::Complete { reused: true, .. } => "reused",
            Event::Complete { reused: false, .. } => "complete",
            Event::Retrying { .. } => "retrying",
            _ => "other",
        };
        *self.events.lock().expect("not poisoned").entry(kind).or_default() += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn push_and_pull() {
    let (registry, pushed) = with_image("team/app:1").await;
    let name = format!("{}/team/app:1", registry.authority());
    let node = Node::new().await;
    let counter = Arc::new(Counter::default());
    let keyring = Keyring::default();
    let pulled =
        node.service.pull(&reference(&name), &keyring, Arc::clone(&counter) as _).await.expect("pulled");
    assert_eq!((&pulled.id, &pulled.manifest, pulled.size), (&pushed.id, &pushed.manifest, pushed.size));
    assert_eq!((counter.count("resolved"), counter.count("complete"), counter.count("reused")), (1, 4, 0));
    assert!(counter.count("transferred") >= 4);
    let info = node.service.info(&name).await.expect("stored");
    assert_eq!(
        (info.defaults.entrypoint, info.defaults.env),
        (vec!["/bin/sh".to_owned()], vec!["A=b".to_owned()])
    );

    let by_digest = format!("{}/team/app@{}", registry.authority(), pulled.target);
    assert_eq!(node.service.resolve(&by_digest).expect("by digest").id, pulled.id);
    let again =
        node.service.pull(&reference(&by_digest), &keyring, Arc::clone(&counter) as _).await.expect("pulled");
    assert_eq!((counter.count("complete"), counter.count("reused")), (4, 4), "nothing came twice");
    assert_eq!(again.tags, pulled.tags);

    let manifests = node.blobs();
    assert_eq!(node.service.prune().await.expect("pruned").blobs.count, 0);
    node.service.remove(&name).await.expect("removed");
    let pruned = node.service.prune().await.expect("pruned");
    assert_eq!((usize::try_from(pruned.blobs.count).expect("small"), node.blobs()), (manifests, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn push_in_pieces_and_by_mounting() {
    let registry = Registry::start();
    let front = Front::start(registry.authority(), |_| Action::Forward).await;
    let node = Node::with(|config| config.registry.upload_chunk = Some(100_000)).await;
    let image = node.import(&builder(), "app").await;
    let first = format!("{}/first:1", front.authority());
    let second = format!("{}/second:1", front.authority());
    node.push("app", &first).await.expect("pushed");
    let patches = front.seen().iter().filter(|seen| seen.method == "PATCH").count();
    assert!(patches >= 10, "three layers of 300 kB in pieces of 100 kB: {patches}");
    let pulled = Node::new().await.pull(&first).await.expect("pulled");
    assert_eq!(pulled.id, image.id);

    node.service.tag("app", &reference(&first)).await.expect("tagged");
    let before = front.seen().len();
    node.push("app", &second).await.expect("pushed");
    let later: Vec<Seen> = front.seen().split_off(before);
    assert_eq!(later.iter().filter(|seen| seen.path.contains("mount=sha256")).count(), 4);
    assert_eq!(later.iter().filter(|seen| seen.method == "PATCH").count(), 0, "nothing was sent twice");
    assert_eq!(Node::new().await.pull(&second).await.expect("pulled").id, image.id);
    let before = front.seen().len();
    node.push("app", &second).await.expect("pushed again");
    let later: Vec<Seen> = front.seen().split_off(before);
    assert!(later.iter().all(|seen| seen.method == "HEAD" || seen.method == "PUT"), "{later:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_is_picked_from_an_index() {
    let (registry, image) = with_image("app:plain").await;
    let manifest = |digest: &Digest, size: u64, arch: &str| Descriptor {
        platform: Some(Platform { os: "linux".into(), architecture: arch.into(), variant: String::new() }),
        ..Descriptor::new(media::OCI_MANIFEST, digest.clone(), size)
    };
    let size = fs::metadata(registry.blob_path(image.manifest.hex())).expect("stored").len();
    let other = Digest::sha256(b"elsewhere");
    let answer = move |entries: Vec<Descriptor>| {
        let body = serde_json::to_vec(&Index::new(entries)).expect("encodes");
        let headers = vec![("content-type", media::OCI_INDEX.to_owned())];
        Action::Answer(StatusCode::OK, headers, body.into())
    };
    let host = Platform::host().architecture;
    let image_digest = image.manifest.clone();
    let front = Front::start(registry.authority(), move |seen| match seen.path.rsplit('/').next() {
        Some("multi") => answer(vec![manifest(&other, 9, "s390x"), manifest(&image_digest, size, &host)]),
        Some("wrong-size") => answer(vec![manifest(&image_digest, size + 1, &host)]),
        Some("foreign") => answer(vec![manifest(&other, 9, "s390x"), manifest(&other, 9, "mips64le")]),
        _ => Action::Forward,
    })
    .await;
    let node = Node::new().await;
    let name = |tag: &str| format!("{}/app:{tag}", front.authority());
    let error = node.refused(&name("foreign")).await;
    assert!(
        error.contains("no variant for linux/") && error.contains("linux/s390x, linux/mips64le"),
        "{error}"
    );
    let error = node.refused(&name("wrong-size")).await;
    assert!(error.contains("were announced"), "{error}");
    assert_eq!(node.service.prune().await.expect("pruned").blobs.count, 2, "two indexes of no image");
    let pulled = node.pull(&name("multi")).await.expect("pulled");
    assert_eq!((&pulled.id, &pulled.manifest), (&image.id, &image.manifest));
    assert_ne!(pulled.target, pulled.manifest, "the name stands for the index");
    let named = format!("{}/app@{}", front.authority(), pulled.target);
    assert_eq!(node.service.resolve(&named).expect("by the index's digest").id, image.id);
    assert_eq!(node.service.prune().await.expect("pruned").blobs.count, 0, "the index is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there() {
    let (registry, _) = with_image("app:1").await;
    let node = Node::new().await;
    let check = async |name: &str, expected: &[&str]| {
        let error = node.refused(name).await;
        assert!(expected.iter().all(|text| error.contains(text)), "{error}");
    };
    let host = registry.authority();
    check(&format!("{host}/app:2"), &["cannot pull", "app:2 does not exist in the registry", &host]).await;
    check(&format!("{host}/nope"), &["nope:latest does not exist"]).await;
    let digest = Digest::sha256(b"nothing");
    check(&format!("{host}/app@{digest}"), &[digest.as_str(), "does not exist"]).await;
    let nobody = format!("127.0.0.1:{}", free_port());
    check(&format!("{nobody}/app"), &["cannot connect to", &nobody, "refused"]).await;
    check("no-such-registry.invalid/app", &["cannot connect to no-such-registry.invalid"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_transfers_continue() {
    let (registry, image) = with_image("app:1").await;
    for resumes in [true, false] {
        let reads = Arc::new(Mutex::new(BTreeMap::<String, usize>::new()));
        let front = Front::start(registry.authority(), move |seen| {
            if !seen.is_blob_read() {
                return Action::Forward;
            }
            let mut reads = reads.lock().expect("not poisoned");
            let read = reads.entry(seen.path.clone()).or_default();
            *read += 1;
            match *read {
                1 | 2 => Action::Cut(100_000),
                _ if resumes => Action::Forward,
                _ => Action::WithoutRange,
            }
        })
        .await;
        let node = Node::new().await;
        let pulled = node.pull(&format!("{}/app:1", front.authority())).await.expect("pulled in the end");
        assert_eq!(pulled.id, image.id);
        // Where each read of a layer started. What was on its way when a connection broke may be lost.
        let mut starts = BTreeMap::<String, Vec<u64>>::new();
        for seen in front.blob_reads() {
            let range = seen.headers.get("range").map_or("bytes=0-", |range| range.to_str().expect("text"));
            let start = range.trim_start_matches("bytes=").trim_end_matches('-');
            starts.entry(seen.path).or_default().push(start.parse().expect("a number"));
        }
        let resumed = starts.values().filter(|starts| starts.len() == 3 && starts.is_sorted());
        let resumed: Vec<_> = resumed.filter(|starts| starts[1] > 0 && starts[2] > starts[1]).collect();
        assert_eq!(resumed.len(), 3, "each layer continued twice: {starts:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_that_pass_are_tried_again_and_others_end() {
    let (registry, image) = with_image("app:1").await;
    let check = async |status: u16, times: usize, expected: Result<(), &str>| {
        let left = AtomicUsize::new(times);
        let front = Front::start(registry.authority(), move |seen| {
            let blob = seen.is_blob_read();
            if blob && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
                let status = StatusCode::from_u16(status).expect("a status");
                return Action::Answer(status, vec![("retry-after", "3600".to_owned())], Bytes::new());
            }
            Action::Forward
        })
        .await;
        let node = Node::with(|config| config.registry.parallel = 1).await;
        let name = format!("{}/app:1", front.authority());
        match expected {
            Ok(()) => assert_eq!(node.pull(&name).await.expect("pulled in the end").id, image.id),
            Err(text) => {
                let error = node.refused(&name).await;
                assert!(error.contains(text), "{error}");
            }
        }
    };
    check(503, 2, Ok(())).await;
    check(429, 2, Ok(())).await;
    check(503, 3, Err("answered 503 to a request for blob sha256:")).await;
    check(429, 3, Err("limits the rate of requests")).await;
    check(418, 1, Err("answered 418")).await;
    check(302, 1, Err("it does not say where to")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lies_are_found() {
    let (registry, image) = with_image("app:1").await;
    let check = async |name: &str, expected: &str, decide: fn(&Seen) -> Action| {
        let front = Front::start(registry.authority(), decide).await;
        let node = Node::with(|config| config.limits.config_bytes = 10_000).await;
        let error = node.refused(&format!("{}/{name}", front.authority())).await;
        assert!(error.contains(expected), "{expected}: {error}");
    };
    let by_digest = format!("app@{}", image.manifest);
    check("app:1", "content mismatch: expected sha256:", |seen| {
        if seen.is_blob_read() { Action::Tamper } else { Action::Forward }
    })
    .await;
    check(&by_digest, "content mismatch: expected sha256:", |seen| {
        if seen.path.contains("/manifests/") { Action::Tamper } else { Action::Forward }
    })
    .await;
    check("app:1", "has the wrong size: expected", |seen| {
        if seen.is_blob_read() { Action::Longer } else { Action::Forward }
    })
    .await;
    check("app:1", "`manifest_bytes` of 4194304", |seen| {
        if seen.path.contains("/manifests/") { Action::Endless } else { Action::Forward }
    })
    .await;
    check("app:1", "has the wrong size: expected", |seen| {
        if seen.is_blob_read() { Action::Endless } else { Action::Forward }
    })
    .await;
    check("app:1", "schema 1 manifest", |seen| {
        if !seen.path.contains("/manifests/") {
            return Action::Forward;
        }
        let schema1 = "application/vnd.docker.distribution.manifest.v1+prettyjws".to_owned();
        let body = Bytes::from_static(br#"{"schemaVersion":1,"fsLayers":[]}"#);
        Action::Answer(StatusCode::OK, vec![("content-type", schema1)], body)
    })
    .await;
    check("app:1", "Content-Type says otherwise", |seen| {
        if !seen.path.contains("/manifests/") {
            return Action::Forward;
        }
        let body = Bytes::from_static(br#"{"schemaVersion":2,"manifests":[]}"#);
        Action::Answer(StatusCode::OK, vec![("content-type", media::OCI_MANIFEST.to_owned())], body)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_before_anything_is_transferred() {
    let (registry, _) = with_image("app:1").await;
    let front = Front::start(registry.authority(), |_| Action::Forward).await;
    let name = format!("{}/app:1", front.authority());
    let check = async |limits: Limits, expected: &str| {
        let node = Node::with(|config| config.limits = limits).await;
        let error = node.refused(&name).await;
        assert!(error.contains(expected), "{error}");
    };
    check(Limits { layer_bytes: 200_000, ..Limits::default() }, "`layer_bytes` of 200000").await;
    check(Limits { image_bytes: 500_000, ..Limits::default() }, "`image_bytes` of 500000").await;
    check(Limits { layers: 2, ..Limits::default() }, "`layers` of 2").await;
    check(Limits { config_bytes: 10, ..Limits::default() }, "`config_bytes` of 10").await;
    check(Limits { manifest_bytes: 10, ..Limits::default() }, "`manifest_bytes` of 10").await;
    assert_eq!(front.blob_reads().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn redirected_blobs_come_without_our_credentials() {
    let registry = Registry::with_basic();
    let keyring = |host: &str| basic(host, "secret");
    let node = Node::new().await;
    let image = node.import(&builder(), "app").await;
    let name = format!("{}/app:1", registry.authority());
    let (to, keys) = (reference(&name), keyring(&registry.authority()));
    node.service.push("app", &to, &keys, Arc::new(Silent)).await.expect("pushed");

    // A storage server of its own, which has the blobs and asks nobody for a password, but would like to.
    let blobs: BTreeMap<String, Bytes> = [image.id.0.clone()]
        .into_iter()
        .chain(builder_layers())
        .map(|digest| {
            let bytes = fs::read(registry.blob_path(digest.hex())).expect("stored");
            (digest.hex().to_owned(), bytes.into())
        })
        .collect();
    let storage = Front::start(String::new(), move |seen| {
        let hex = seen.path.rsplit('/').next().unwrap_or_default();
        match blobs.get(hex) {
            Some(bytes) => Action::Answer(StatusCode::OK, Vec::new(), bytes.clone()),
            None => {
                let challenge = vec![("www-authenticate", "Basic realm=\"phishing\"".to_owned())];
                Action::Answer(StatusCode::UNAUTHORIZED, challenge, Bytes::new())
            }
        }
    })
    .await;
    let check = async |target: String, expected: Result<(), &str>| {
        let front = Front::start(registry.authority(), move |seen| {
            if !seen.is_blob_read() {
                return Action::Forward;
            }
            let hex = seen.path.rsplit(':').next().unwrap_or_default();
            let location = target.replace("HEX", hex);
            Action::Answer(StatusCode::TEMPORARY_REDIRECT, vec![("location", location)], Bytes::new())
        })
        .await;
        let node = Node::with(named(storage.authority())).await;
        let name = format!("{}/app:1", front.authority());
        let outcome = node.pull_as(&name, &keyring(&front.authority())).await;
        match (outcome, expected) {
            (Ok(pulled), Ok(())) => assert_eq!(pulled.id, image.id),
            (Err(error), Err(text)) => assert!(error.to_string().contains(text), "{error}"),
            (outcome, _) => panic!("{outcome:?}"),
        }
        assert!(front.seen().iter().any(|seen| seen.headers.contains_key("authorization")));
    };
    check(format!("http://{}/HEX", storage.authority()), Ok(())).await;
    check(format!("http://{}/missing", storage.authority()), Err("refuses access to blob")).await;
    check("/v2/app/blobs/sha256:HEX".to_owned(), Err("there are too many")).await;
    check("http://storage.example/HEX".to_owned(), Err("without TLS")).await;
    check("ftp://storage.example/HEX".to_owned(), Err("invalid address")).await;
    let seen = storage.seen();
    assert!(seen.len() >= 5);
    assert!(seen.iter().all(|seen| !seen.headers.contains_key("authorization")), "{seen:?}");
}

fn builder_layers() -> Vec<Digest> {
    let layer = |name: &str, seed, compression| {
        LayerBuilder::new().file(name, 0o644, &noise(seed, 300_000)).build(compression).descriptor().digest
    };
    vec![
        layer("gzip", 1, Compression::Gzip),
        layer("zstd", 2, Compression::Zstd),
        layer("plain", 3, Compression::None),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords() {
    let registry = Registry::with_basic();
    let host = registry.authority();
    let name = format!("{host}/team/app:1");
    let node = Node::new().await;
    let image = node.import(&builder(), "app").await;
    let push = async |keyring: &Keyring| {
        node.service
            .push("app", &reference(&name), keyring, Arc::new(Silent))
            .await
            .map_err(|e| e.to_string())
    };
    let error = push(&Keyring::default()).await.expect_err("no password");
    assert!(error.contains("refuses access to") && error.contains("needs other credentials"), "{error}");
    push(&basic(&host, "secret")).await.expect("pushed");

    let check = async |keyring: Keyring, allowed: bool| {
        let outcome = Node::new().await.pull_as(&name, &keyring).await;
        match outcome {
            Ok(pulled) if allowed => assert_eq!(pulled.id, image.id),
            Err(error) if !allowed => assert!(error.to_string().contains("refuses access to"), "{error}"),
            outcome => panic!("{outcome:?}"),
        }
    };
    check(basic(&host, "secret"), true).await;
    check(basic(&host, "wrong"), false).await;
    check(basic("other.io", "secret"), false).await;
    check(basic(&format!("{host}/other"), "secret"), false).await;
    let mut several = basic(&format!("{host}/team/app"), "wrong");
    several.extend(basic(&format!("{host}/team"), "secret"));
    check(several, true).await;
    let secret = r#"{"auths":{"HOST":{"auth":"dXNlcjpzZWNyZXQ="}}}"#.replace("HOST", &host);
    check(Keyring::parse(secret.as_bytes()).expect("a pull secret"), true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens() {
    let tokens = TokenServer::start().await;
    let registry = Registry::with_tokens(&tokens);
    let host = registry.authority();
    let settings = named(tokens.authority());
    let node = Node::with(&settings).await;
    let image = node.import(&builder(), "app").await;
    let push = async |to: &str, keyring: &Keyring| {
        node.service.push("app", &reference(&format!("{host}/{to}")), keyring, Arc::new(Silent)).await
    };
    assert!(push("team/app:1", &Keyring::default()).await.is_err());
    push("team/app:1", &basic(&host, "secret")).await.expect("pushed");
    push("public/app:1", &basic(&host, "secret")).await.expect("pushed");
    let check = async |name: &str, keyring: Keyring, expected: Result<(), &str>| {
        let outcome = Node::with(&settings).await.pull_as(&format!("{host}/{name}"), &keyring).await;
        match (outcome, expected) {
            (Ok(pulled), Ok(())) => assert_eq!(pulled.id, image.id),
            (Err(error), Err(text)) => assert!(error.to_string().contains(text), "{error}"),
            (outcome, _) => panic!("{name}: {outcome:?}"),
        }
    };
    check("public/app:1", Keyring::default(), Ok(())).await;
    check("team/app:1", Keyring::default(), Err("refuses access to")).await;
    check("team/app:1", basic(&host, "secret"), Ok(())).await;
    check("team/app:1", basic(&host, "wrong"), Err("the token server")).await;
    let mut identity = Keyring::default();
    identity.add(&host, Credentials::Identity(Secret::new("refresh")));
    check("team/app:1", identity, Ok(())).await;
    // One token is enough for a whole pull.
    let before = tokens.seen().len();
    check("team/app:1", basic(&host, "secret"), Ok(())).await;
    assert_eq!(tokens.seen().len(), before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates() {
    let authority_key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key).expect("signed");
    let issuer = rcgen::Issuer::new(params, &authority_key);
    let key = rcgen::KeyPair::generate().expect("a key");
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate =
        rcgen::CertificateParams::new(names).expect("names").signed_by(&key, &issuer).expect("signed");
    let registry = Registry::with_tls(&certificate.pem(), &key.serialize_pem());

    let dir = tempfile::tempdir().expect("a directory");
    let (good, other, empty) =
        (dir.path().join("ca.pem"), dir.path().join("other.pem"), dir.path().join("empty"));
    fs::write(&good, authority.pem()).expect("written");
    fs::write(&empty, "").expect("written");
    let stranger = rcgen::KeyPair::generate().expect("a key");
    let stranger = rcgen::CertificateParams::new(Vec::new()).expect("no names").self_signed(&stranger);
    fs::write(&other, stranger.expect("signed").pem()).expect("written");

    let host = format!("localhost:{}", registry.port());
    let with_ca = |path: &Path| {
        let (host, path) = (host.clone(), path.to_owned());
        Node::with(move |config| {
            config.registry.hosts.insert(host, HostConfig { ca_files: vec![path], ..HostConfig::default() });
        })
    };
    let name = format!("{host}/app:1");
    let node = with_ca(&good).await;
    let image = node.import(&builder(), "app").await;
    node.push("app", &name).await.expect("pushed over TLS");
    assert_eq!(with_ca(&good).await.pull(&name).await.expect("pulled over TLS").id, image.id);

    let error = with_ca(&other).await.refused(&name).await;
    assert!(error.contains("cannot connect to") && error.contains("invalid peer certificate"), "{error}");
    let error = with_ca(&empty).await.refused(&name).await;
    assert!(error.contains("it holds no certificate"), "{error}");
    let error = with_ca(Path::new("/nowhere/ca.pem")).await.refused(&name).await;
    assert!(error.contains("cannot use the CA file /nowhere/ca.pem"), "{error}");
    // Without settings, a registry on this machine is talked to without TLS, which this one refuses.
    let error = Node::new().await.refused(&name).await;
    assert!(error.contains("answered 400"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_pulls_share_transfers() {
    let (registry, image) = with_image("app:1").await;
    let slow = |seen: &Seen| {
        if seen.is_blob_read() { Action::Slow(Duration::from_millis(100)) } else { Action::Forward }
    };
    let front = Front::start(registry.authority(), slow).await;
    let node = Node::new().await;
    let name = format!("{}/app:1", front.authority());
    let pulls = futures::future::join_all((0..4).map(|_| node.pull(&name))).await;
    for pulled in pulls {
        assert_eq!(pulled.expect("pulled").id, image.id);
    }
    assert_eq!(front.blob_reads().len(), 4, "each blob once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_is_given_up_leaves_nothing() {
    let (registry, _) = with_image("app:1").await;
    let front = Front::start(registry.authority(), |seen| match seen.is_blob_read() {
        true => Action::Slow(Duration::from_secs(600)),
        false => Action::Forward,
    })
    .await;
    let node = Node::new().await;
    let name = format!("{}/app:1", front.authority());
    let gave_up = tokio::time::timeout(Duration::from_secs(1), node.pull(&name)).await;
    assert!(gave_up.is_err(), "the registry never answers");
    node.settle().await;
    assert_eq!(node.service.prune().await.expect("pruned").blobs.count, 1, "the manifest was complete");
    assert_eq!(node.blobs(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_stalls_is_not_waited_for() {
    let (registry, _) = with_image("app:1").await;
    let front = Front::start(registry.authority(), |seen| {
        if seen.is_blob_read() { Action::Slow(Duration::from_secs(600)) } else { Action::Forward }
    })
    .await;
    let node = Node::with(|config| {
        config.registry =
            RegistryConfig { read_timeout: Duration::from_millis(200), ..config.registry.clone() };
    })
    .await;
    let error = node.refused(&format!("{}/app:1", front.authority())).await;
    assert!(error.contains("did not answer within"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_drips_is_not_waited_for() {
    let (registry, _) = with_image("app:1").await;
    let check = async |drips: fn(&Seen) -> bool| {
        let drip = move |seen: &Seen| {
            if drips(seen) { Action::Drip(Duration::from_millis(10)) } else { Action::Forward }
        };
        let front = Front::start(registry.authority(), drip).await;
        let node = Node::with(|config| config.registry.read_timeout = Duration::from_millis(200)).await;
        let error = node.refused(&format!("{}/app:1", front.authority())).await;
        assert!(error.contains("is too slow") && error.contains("4096 in a second"), "{error}");
    };
    check(Seen::is_blob_read).await;
    check(|seen| seen.path.contains("/manifests/")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_another_registry() {
    let (registry, image) = with_image("app:1").await;
    let front = Front::start(registry.authority(), |seen| {
        if seen.is_blob_read() { Action::Drip(Duration::from_millis(10)) } else { Action::Forward }
    })
    .await;
    let node = Node::new().await;
    let (slow, quick) = (format!("{}/app:1", front.authority()), format!("{}/app:1", registry.authority()));
    let quick = async {
        while front.blob_reads().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        node.pull(&quick).await
    };
    let first = tokio::time::timeout(Duration::from_secs(30), async {
        tokio::select! {
            pulled = node.pull(&slow) => Err(pulled.map(|record| record.id)),
            pulled = quick => Ok(pulled.expect("pulled").id),
        }
    });
    assert_eq!(first.await.expect("it does not wait").expect("the quick one ends first"), image.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claimed_size_takes_nothing_from_other_images() {
    let (registry, image) = with_image("app:1").await;
    let layer = builder_layers().remove(0);
    let descriptor = |media, digest: &Digest, size| Descriptor::new(media, digest.clone(), size);
    let config = descriptor(media::OCI_CONFIG, &image.id.0, 7);
    let manifest = Manifest::new(config, vec![descriptor(media::OCI_LAYER_GZIP, &layer, 8)]);
    let manifest = Bytes::from(serde_json::to_vec(&manifest).expect("JSON"));
    let front = Front::start(registry.authority(), move |seen| match seen.path.contains("/manifests/") {
        true => Action::Answer(StatusCode::OK, Vec::new(), manifest.clone()),
        false => Action::Forward,
    })
    .await;
    let node = Node::new().await;
    let good = format!("{}/app:1", registry.authority());
    node.pull(&good).await.expect("pulled");
    let blobs = node.blobs();
    let error = node.refused(&format!("{}/evil:1", front.authority())).await;
    assert!(error.contains("has the wrong size: expected"), "{error}");
    assert_eq!(node.blobs(), blobs + 1, "only the manifest came");
    node.service.info(&good).await.expect("its configuration is still there");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_registries_say_is_told_in_bounded_and_harmless_words() {
    let check = async |status: StatusCode, body: String| {
        let body = Bytes::from(body);
        let answer = move |_: &Seen| Action::Answer(status, Vec::new(), body.clone());
        let front = Front::start(String::new(), answer).await;
        let error = Node::new().await.refused(&format!("{}/app:1", front.authority())).await;
        assert!(error.len() < 1_000, "{} bytes", error.len());
        assert!(!error.contains(char::is_control), "{error:?}");
    };
    let long = "\\u001b[31m".repeat(5_000);
    check(StatusCode::FORBIDDEN, format!(r#"{{"errors":[{{"code":"X","message":"{long}"}}]}}"#)).await;
    check(StatusCode::OK, format!(r#"{{"schemaVersion":"{long}"}}"#)).await;
    check(StatusCode::OK, format!(r#"{{"schemaVersion":2,"config":{{"digest":"{long}"}}}}"#)).await;
}
