//! The audit log of a real server.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use xebec_api::{Value, json, object};
use xebec_server::audit::{AuditSettings, LogSettings, Policy};
use xebec_server::config::Settings;

use crate::client::{Call, MERGE_PATCH};
use crate::cluster::{Cluster, trust};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";

pub(crate) fn settings(policy: Policy) -> (Settings, PathBuf, TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("audit.log");
    // A request is answered when it is recorded.
    let log = LogSettings { path: path.clone(), max_bytes: 1 << 30, backups: 1, blocking: true };
    let audit = Some(AuditSettings { policy, log });
    (Settings { audit, ..Settings::default() }, path, directory)
}

pub(crate) fn events(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("a log");
    text.lines().map(|line| json::from_slice(line.as_bytes()).expect("JSON")).collect()
}

fn text<'a>(event: &'a Value, path: &[&str]) -> &'a str {
    event.str_at(path).unwrap_or_default()
}

#[tokio::test]
async fn who_changed_what_is_recorded() {
    let (settings, path, _directory) = settings(Policy::default());
    let cluster = Cluster::start_with(settings).await;
    let admin = cluster.admin().await;
    let jane = cluster.user("jane", None).await;
    trust(&admin, &jane, "jane").await;
    let before = events(&path).len();
    let map = object!({"metadata": {"name": "a"}, "data": {"a": "hidden"}});
    jane.send(Call::post(MAPS, &map)).await.expect(201).expect("made");
    jane.get(MAPS).await.expect(200).expect("read");
    jane.send(Call::post(MAPS, &map)).await.refused(409, "AlreadyExists").expect("once only");
    jane.send(Call::post("/api/v1/namespaces", &map)).await.refused(403, "Forbidden").expect("not hers");
    jane.get(&format!("{SECRETS}/none")).await.refused(404, "NotFound").expect("no secret");
    let as_bob = Call::delete(format!("{MAPS}/a"))
        .header("impersonate-user".parse().expect("a name"), "bob")
        .header("audit-id".parse().expect("a name"), "my-own-id");
    let answer = admin.send(as_bob).await;
    assert_eq!(answer.headers.get("audit-id").map(|id| id.as_bytes()), Some(&b"my-own-id"[..]));
    let nobody = cluster.connect(None).await;
    nobody.send(Call::delete(format!("{MAPS}/a"))).await.refused(403, "Forbidden").expect("who?");
    let events = events(&path).split_off(before);
    let found: Vec<_> = events
        .iter()
        .map(|event| {
            let code = event.i64_at(&["responseStatus", "code"]).unwrap_or_default();
            let decision =
                event.object_at(&["annotations"]).and_then(|all| all.get("authorization.k8s.io/decision"));
            let decision = decision.and_then(Value::as_str).unwrap_or_default();
            let target = text(event, &["objectRef", "name"]);
            (text(event, &["user", "username"]), text(event, &["verb"]), target, code, decision)
        })
        .collect();
    let want = [
        ("jane", "create", "a", 201, "allow"),
        ("jane", "create", "a", 409, "allow"),
        ("jane", "create", "", 403, "forbid"),
        ("jane", "get", "none", 404, "allow"),
        ("admin", "delete", "a", 403, "forbid"),
        ("system:anonymous", "delete", "a", 403, "forbid"),
    ];
    assert_eq!(found, want, "{events:?}");
    let first = &events[0];
    let reason = first.object_at(&["annotations"]).and_then(|all| all.get("authorization.k8s.io/reason"));
    let because = r#"RBAC: allowed by RoleBinding "jane/default" of Role "jane" to User "jane""#;
    assert_eq!(reason.and_then(Value::as_str), Some(because));
    assert_eq!(text(first, &["stage"]), "ResponseComplete");
    assert_eq!(first.array_at(&["sourceIPs"]).first().and_then(Value::as_str), Some("127.0.0.1"));
    assert_eq!(text(&events[1], &["responseStatus", "reason"]), "AlreadyExists");
    assert_eq!(text(&events[4], &["impersonatedUser", "username"]), "bob");
    assert_eq!(text(&events[4], &["auditID"]), "my-own-id");
    let log = std::fs::read_to_string(&path).expect("a log");
    assert!(!log.contains("hidden"), "no bodies");
    let metrics = admin.get("/metrics").await.text();
    assert!(metrics.contains("apiserver_audit_error_total{plugin=\"log\"} 0"), "{metrics}");
}

#[tokio::test]
async fn a_policy_chooses_bodies_and_stages() {
    let policy = "{apiVersion: audit.k8s.io/v1, kind: Policy, omitManagedFields: true, rules: [\
        {level: RequestResponse, users: [admin], resources: [{group: '', resources: [configmaps]}], verbs: [create, patch, watch]}]}";
    let (settings, path, _directory) = settings(Policy::read(policy).expect("a policy"));
    let cluster = Cluster::start_with(settings).await;
    let admin = cluster.admin().await;
    let map = object!({"metadata": {"generateName": "a-"}, "data": {"a": "shown"}});
    let made = admin.send(Call::post(MAPS, &map)).await.expect(201).expect("made");
    let name = text(&made, &["metadata", "name"]);
    let patch = object!({"data": {"b": "more"}});
    admin
        .send(Call::patch(format!("{MAPS}/{name}"), MERGE_PATCH, &patch))
        .await
        .expect(200)
        .expect("patched");
    admin.get(&format!("{MAPS}/{name}")).await.expect(200).expect("read");
    let mut watch = admin.watch(&format!("{MAPS}?watch=true")).await.expect("a watch");
    watch.next().await.expect("an event").expect("the map");
    drop(watch);
    let mut found = Vec::new();
    // The end of the watch is recorded when the server has seen it.
    for _ in 0..1000 {
        found = events(&path);
        if found.len() == 7 {
            break;
        }
        admin.get("/version").await;
    }
    let stages: Vec<_> =
        found.iter().map(|event| (text(event, &["verb"]), text(event, &["stage"]))).collect();
    let want = [
        ("create", "RequestReceived"),
        ("create", "ResponseComplete"),
        ("patch", "RequestReceived"),
        ("patch", "ResponseComplete"),
        ("watch", "RequestReceived"),
        ("watch", "ResponseStarted"),
        ("watch", "ResponseComplete"),
    ];
    assert_eq!(stages, want);
    assert_eq!(text(&found[1], &["requestObject", "data", "a"]), "shown");
    assert_eq!(text(&found[1], &["responseObject", "metadata", "name"]), name);
    let metadata = found[1].object_at(&["responseObject", "metadata"]).expect("metadata");
    assert!(metadata.get("managedFields").is_none(), "{metadata:?}");
    assert_eq!(found[3].get("requestObject"), Some(&patch));
    assert_eq!(text(&found[3], &["responseObject", "data", "b"]), "more");
}
