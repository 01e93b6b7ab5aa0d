//! What whoever runs a cluster sees of it: health, metrics, compression.

use std::io::Read as _;
use std::time::Duration;

use flate2::read::GzDecoder;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use xebec_api::{json, object};
use xebec_server::config::Settings;

use crate::client::{Call, Client, PROTOBUF};
use crate::cluster::Cluster;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn why_the_server_is_not_well_is_for_its_log() {
    let cluster = Cluster::start().await;
    let (nobody, admin) = (cluster.connect(None).await, cluster.admin().await);
    let check = async |path: &str, code: u16, text: &str| {
        // Single checks are not for everybody.
        let client = if path.split('/').count() > 2 { &admin } else { &nobody };
        let answer = client.get(path).await;
        assert_eq!(answer.code, code, "{path}");
        assert!(answer.text().contains(text), "{path}: {}", answer.text());
    };
    check("/livez", 200, "ok").await;
    check("/livez?verbose", 200, "[+]poststarthook/rbac/bootstrap-roles ok\n").await;
    check("/healthz?verbose", 200, "[+]ping ok\n[+]etcd ok\n[+]tasks ok\n").await;
    check("/readyz?verbose", 200, "[+]shutdown ok\nreadyz check passed\n").await;
    check("/readyz/etcd", 200, "ok").await;
    let refused = nobody.get("/readyz/etcd").await;
    assert_eq!(refused.code, 403, "single checks are not for everybody");
    cluster.server.core().store.shutdown().await;
    check("/healthz", 500, "[-]etcd failed: reason withheld\n").await;
    check("/readyz/etcd", 500, "internal server error: the store is shut down\n").await;
    check("/readyz?exclude=etcd", 500, "[+]etcd excluded: ok\n[-]etcd-readiness failed: reason withheld\n")
        .await;
    for path in ["/livez/etcd", "/readyz/nonsense", "/healthz/etcd/more"] {
        admin.get(path).await.refused(404, "NotFound").unwrap_or_else(|why| panic!("{path}: {why}"));
    }
    let slis = admin.get("/metrics/slis").await.text();
    for line in [
        r#"kubernetes_healthcheck{name="ping",type="livez"} 1"#,
        r#"kubernetes_healthcheck{name="etcd",type="readyz"} 0"#,
        r#"kubernetes_healthchecks_total{name="etcd",status="error",type="readyz"} 1"#,
        r#"kubernetes_healthchecks_total{name="etcd",status="success",type="readyz"} 2"#,
    ] {
        assert!(slis.lines().any(|found| found == line), "{line} in {slis}");
    }
}

/// The answer as a client reads it that takes compressed ones, and whether it was.
async fn fetch(client: &Client, path: &str, accept: &str) -> (Vec<u8>, bool) {
    let answer = client.send(Call::get(path).accept(accept).header(ACCEPT_ENCODING, "gzip")).await;
    assert_eq!(answer.code, 200, "{path}: {}", answer.text());
    let Some(encoding) = answer.headers.get(CONTENT_ENCODING) else { return (answer.body.into(), false) };
    assert_eq!(encoding, "gzip");
    let vary: Vec<_> = answer.headers.get_all("vary").iter().collect();
    assert!(vary.iter().any(|value| *value == "Accept-Encoding"), "{vary:?}");
    let mut plain = Vec::new();
    GzDecoder::new(&answer.body[..]).read_to_end(&mut plain).expect("gzip");
    (plain, true)
}

#[tokio::test]
async fn long_answers_are_compressed() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    for n in 0..20 {
        let object = object!({"metadata": {"name": (format!("m{n}"))}, "data": {"a": ("x".repeat(40_000))}});
        admin.send(Call::post(MAPS, &object)).await.expect(201).expect("made");
    }
    let large = object!({"metadata": {"name": "large"}, "data": {"a": ("x".repeat(200_000))}});
    let made = admin.send(Call::post(MAPS, &large).header(ACCEPT_ENCODING, "gzip")).await;
    assert_eq!((made.code, made.headers.contains_key(CONTENT_ENCODING)), (201, true));
    for (path, accept, want) in [
        (format!("{MAPS}/m0"), "application/json", false),
        (format!("{MAPS}/large"), "application/json", true),
        (MAPS.to_owned(), "application/json", true),
        (MAPS.to_owned(), "application/yaml", true),
        (MAPS.to_owned(), PROTOBUF, true),
        (format!("{MAPS}?fieldSelector=metadata.name=m1"), "application/json", false),
        (format!("{MAPS}?watch=true&timeoutSeconds=1"), "application/json", false),
        ("/openapi/v2".to_owned(), "application/json", true),
        ("/version".to_owned(), "application/json", false),
    ] {
        let (compressed, was) = fetch(&admin, &path, accept).await;
        assert_eq!(was, want, "{path} as {accept}");
        let plain = admin.send(Call::get(&path).accept(accept)).await;
        assert!(plain.headers.get(CONTENT_ENCODING).is_none());
        assert!(compressed == plain.body, "{path} as {accept} is another");
    }
    let list = json::from_slice(&fetch(&admin, MAPS, "application/json").await.0).expect("JSON");
    assert_eq!(list.array_at(&["items"]).len(), 21);
}

#[tokio::test]
async fn a_server_that_goes_lets_watches_go_first() {
    let settings = Settings { shutdown_delay: Duration::from_millis(500), ..Settings::default() };
    let cluster = Cluster::start_with(settings).await;
    let admin = cluster.admin().await;
    let mut watches = Vec::new();
    for _ in 0..5 {
        watches.push(admin.watch(&format!("{MAPS}?watch=true&resourceVersion=0")).await.expect("a watch"));
    }
    let drained = cluster.server.drain();
    let ended = async {
        for mut watch in watches {
            let end = watch.next().await.expect("an orderly end");
            assert_eq!(end, None);
        }
        assert_eq!(admin.get("/readyz").await.code, 500, "nobody new should come");
        assert_eq!(admin.get("/livez").await.code, 200);
        admin.get(MAPS).await.expect(200).expect("those who are here are served");
    };
    tokio::join!(drained, ended);
}

#[tokio::test]
async fn requests_are_counted() {
    let cluster = Cluster::start().await;
    let (admin, nobody) = (cluster.admin().await, cluster.connect(None).await);
    assert_eq!(nobody.get("/metrics").await.code, 403, "metrics are not for everybody");
    let object = object!({"metadata": {"name": "a"}});
    admin.send(Call::post(MAPS, &object)).await.expect(201).expect("made");
    admin.send(Call::post(MAPS, &object)).await.refused(409, "AlreadyExists").expect("once only");
    for name in ["x", "y"] {
        let answer = admin.get(&format!("/apis/{name}.example.com/v1/{name}/{name}")).await;
        assert_eq!(answer.code, 404);
    }
    let mut watch = admin.watch(&format!("{MAPS}?watch=true")).await.expect("a watch");
    watch.next().await.expect("an event").expect("the map");
    let metrics = async || admin.get("/metrics").await;
    let has = |text: &str, line: &str| {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    };
    let answer = metrics().await;
    assert_eq!(
        answer.headers.get("content-type").map(|v| v.as_bytes()),
        Some(&b"text/plain; version=0.0.4; charset=utf-8"[..])
    );
    let text = answer.text();
    let maps = r#"component="apiserver",dry_run="",group="",resource="configmaps",scope="resource",subresource="",verb="POST",version="v1""#;
    has(&text, &format!("apiserver_request_total{{code=\"201\",{maps}}} 1"));
    has(&text, &format!("apiserver_request_total{{code=\"409\",{maps}}} 1"));
    has(&text, &format!("apiserver_request_duration_seconds_count{{{maps}}} 2"));
    has(
        &text,
        r#"apiserver_request_total{code="404",component="apiserver",dry_run="",group="",resource="",scope="resource",subresource="",verb="GET",version=""} 2"#,
    );
    has(&text, r#"apiserver_watch_events_total{group="",resource="configmaps",version="v1"} 1"#);
    let watches = r#"{component="apiserver",group="",resource="configmaps",scope="namespace",subresource="",verb="WATCH",version="v1"}"#;
    has(&text, &format!("apiserver_longrunning_requests{watches} 1"));
    assert!(text.contains(r#"{operation="CREATE",rejected="false",type="admit"}"#), "{text}");
    has(&text, r#"apiserver_current_inflight_requests{request_kind="readOnly"} 1"#);
    has(&text, r#"apiserver_storage_objects{resource="configmaps"} 2"#);
    has(&text, r#"authorization_attempts_total{result="denied"} 1"#);
    drop(watch);
    let ended = r#"verb="WATCH",version="v1"} 1"#;
    for _ in 0..1000 {
        let text = metrics().await.text();
        if text
            .lines()
            .any(|line| line.starts_with(r#"apiserver_request_total{code="200""#) && line.ends_with(ended))
        {
            assert!(!text.contains(&format!("apiserver_longrunning_requests{watches}")), "{text}");
            return;
        }
    }
    panic!("the end of the watch is not counted");
}
