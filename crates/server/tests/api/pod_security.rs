//! Pod Security: who is refused, who is warned, what namespaces may say, what the audit log tells.

use xebec_api::pod_security::{Level, Policy};
use xebec_api::{Value, json, object};
use xebec_server::audit::{AuditSettings, LogSettings};
use xebec_server::config::Settings;

use crate::client::{Call, Client, MERGE_PATCH};
use crate::cluster::Cluster;

/// The headers of warnings.
fn told<T: AsRef<str>>(texts: &[T]) -> Vec<String> {
    let escaped = texts.iter().map(|text| text.as_ref().replace('"', "\\\""));
    escaped.map(|text| format!("299 - \"{text}\"")).collect()
}

const NAMESPACES: &str = "/api/v1/namespaces";

async fn namespace(client: &Client, name: &str, labels: &[(&str, &str)]) {
    let path = |below: &str| format!("{NAMESPACES}/{name}/{below}");
    let made = client.send(Call::post(NAMESPACES, &labelled(name, labels))).await;
    made.expect(201).expect("a namespace");
    let account = object!({"metadata": {"name": "default"}});
    client.send(Call::post(path("serviceaccounts"), &account)).await.expect(201).expect("an account");
}

fn labelled(name: &str, labels: &[(&str, &str)]) -> Value {
    let mut namespace = object!({"metadata": {"name": name}});
    for (mode, value) in labels {
        namespace.set(&["metadata", "labels", &format!("pod-security.kubernetes.io/{mode}")], *value);
    }
    namespace
}

fn pod(name: &str, spec: Value) -> Value {
    let mut pod = object!({"metadata": {"name": name}, "spec": spec});
    pod.set(&["spec", "containers"], object!([{"name": "a", "image": "a"}]));
    pod
}

const LACKS: &str = "allowPrivilegeEscalation != false (container \"a\" must set \
    securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"a\" must set \
    securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"a\" must set \
    securityContext.runAsNonRoot=true), seccompProfile (pod or container \"a\" must set \
    securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")";

#[tokio::test]
async fn pods_are_held_to_the_standard_of_their_namespace() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    namespace(&admin, "plain", &[]).await;
    namespace(&admin, "strict", &[("enforce", "restricted"), ("enforce-version", "v1.36")]).await;
    namespace(&admin, "open", &[("enforce", "privileged"), ("warn", "privileged")]).await;
    let post = async |namespace: &str, pod: Value| {
        admin.send(Call::post(format!("{NAMESPACES}/{namespace}/pods"), &pod)).await
    };
    let answer = post("plain", pod("a", object!({}))).await;
    answer.expect(201).expect("nothing leads out of it");
    let want = format!("would violate PodSecurity \"restricted:latest\": {LACKS}");
    assert_eq!(answer.warnings(), told(&[want]));
    let answer = post("plain", pod("b", object!({"hostPID": true}))).await;
    let refused = answer.refused(403, "Forbidden").expect("it leads out");
    let why = r#"violates PodSecurity "baseline:latest": host namespaces (hostPID=true)"#;
    assert_eq!(refused, format!("pods \"b\" is forbidden: {why}"));
    assert_eq!(answer.warnings(), [""; 0], "it is refused anyway");
    let refused = post("strict", pod("a", object!({}))).await.refused(403, "Forbidden").expect("it lacks");
    assert_eq!(
        refused,
        format!("pods \"a\" is forbidden: violates PodSecurity \"restricted:v1.36\": {LACKS}")
    );
    for (namespace, warned) in [("open", 0), ("kube-system", 0)] {
        let account = object!({"metadata": {"name": "default"}});
        let accounts = format!("{NAMESPACES}/{namespace}/serviceaccounts");
        admin.send(Call::post(accounts, &account)).await;
        let answer = post(namespace, pod("a", object!({"hostPID": true}))).await;
        answer.expect(201).expect(namespace);
        assert_eq!(answer.warnings().len(), warned, "{namespace}");
    }
}

#[tokio::test]
async fn who_makes_a_workload_is_warned_and_an_update_counts_when_it_brings_something() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    namespace(&admin, "a", &[("warn", "baseline"), ("warn-version", "v1.30")]).await;
    let template = object!({"metadata": {"labels": {"a": "b"}}, "spec": {
        "hostNetwork": true, "containers": [{"name": "a", "image": "a"}]
    }});
    let spec = object!({"selector": {"matchLabels": {"a": "b"}}, "template": (template.clone())});
    let mut job = template.clone();
    job.set(&["spec", "restartPolicy"], "Never");
    let job = object!({"spec": {"template": job}});
    let cron = object!({"metadata": {"name": "w"}, "spec": {"schedule": "* * * * *", "jobTemplate": (job)}});
    let workload = |spec: Value| object!({"metadata": {"name": "w"}, "spec": spec});
    for (path, object) in [
        ("apis/apps/v1/namespaces/a/deployments", workload(spec.clone())),
        ("apis/apps/v1/namespaces/a/daemonsets", workload(spec)),
        ("apis/batch/v1/namespaces/a/cronjobs", cron),
        ("api/v1/namespaces/a/podtemplates", object!({"metadata": {"name": "w"}, "template": template})),
    ] {
        let answer = admin.send(Call::post(format!("/{path}"), &object)).await;
        answer.expect(201).expect(path);
        let want = r#"would violate PodSecurity "baseline:v1.30": host namespaces (hostNetwork=true)"#;
        assert_eq!(answer.warnings(), told(&[want]), "{path}");
    }
    let pods = format!("{NAMESPACES}/a/pods");
    let change = async |patch: Value| admin.send(Call::patch(format!("{pods}/p"), MERGE_PATCH, &patch)).await;
    let open = object!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}});
    let closed = object!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}});
    let label =
        async |patch: &Value| admin.send(Call::patch(format!("{NAMESPACES}/a"), MERGE_PATCH, patch)).await;
    label(&open).await.expect(200).expect("opened");
    let mut host = pod("p", object!({"hostPID": true}));
    admin.send(Call::post(&*pods, &host)).await.expect(201).expect("made");
    host.set(&["metadata", "name"], "q");
    admin.send(Call::post(&*pods, &host)).await.expect(201).expect("made");
    let answer = label(&closed).await;
    answer.expect(200).expect("closed");
    let want = [
        r#"existing pods in namespace "a" violate the new PodSecurity enforce level "baseline:latest""#,
        "p (and 1 other pod): host namespaces",
    ];
    assert_eq!(answer.warnings(), told(&want));
    change(object!({"metadata": {"labels": {"x": "y"}}})).await.expect(200).expect("nothing comes with it");
    let image = object!({"spec": {"containers": [{"name": "a", "image": "b"}]}});
    let strategic = Call::patch(format!("{pods}/p"), crate::client::STRATEGIC_PATCH, &image);
    admin.send(strategic).await.refused(403, "Forbidden").expect("another image");
}

#[tokio::test]
async fn labels_of_namespaces_are_checked_when_they_come() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let made = admin.send(Call::post(NAMESPACES, &labelled("a", &[("enforce", "strict")]))).await;
    let refused = made.refused(422, "Invalid").expect("no level");
    let why = "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of privileged, \
               baseline, restricted";
    assert_eq!(refused, format!("Namespace \"a\" is invalid: {why}"));
    admin.send(Call::post(NAMESPACES, &labelled("a", &[]))).await.expect(201).expect("made");
    let bad = labelled("a", &[("warn-version", "1.2")]);
    let patched = admin.send(Call::patch(format!("{NAMESPACES}/a"), MERGE_PATCH, &bad)).await;
    let refused = patched.refused(422, "Invalid").expect("no version");
    assert!(refused.ends_with(r#"must be "latest" or "v1.x""#), "{refused}");
}

#[tokio::test]
async fn the_audit_log_says_what_was_enforced_and_what_was_violated() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("audit.log");
    let log = LogSettings { path: path.clone(), max_bytes: 1 << 30, backups: 1, blocking: true };
    let audit = Some(AuditSettings { policy: xebec_server::audit::Policy::default(), log });
    let pod_security = Policy::latest(Level::Privileged, Level::Baseline, Level::Privileged);
    let cluster = Cluster::start_with(Settings { audit, pod_security, ..Settings::default() }).await;
    let admin = cluster.admin().await;
    namespace(&admin, "a", &[]).await;
    let made =
        admin.send(Call::post(format!("{NAMESPACES}/a/pods"), &pod("p", object!({"hostPID": true})))).await;
    made.expect(201).expect("only looked at");
    assert_eq!(made.warnings(), [""; 0]);
    let text = std::fs::read_to_string(&path).expect("a log");
    let mut events = text.lines().map(|line| -> Value { json::from_slice(line.as_bytes()).expect("JSON") });
    let about = |event: &Value| event.str_at(&["objectRef", "resource"]) == Some("pods");
    let event = events.rfind(about).expect("it is recorded");
    let said = |key: &str| {
        let key = format!("pod-security.kubernetes.io/{key}");
        event.str_at(&["annotations", &key]).map(str::to_owned)
    };
    assert_eq!(said("enforce-policy").as_deref(), Some("privileged:latest"));
    let want = r#"would violate PodSecurity "baseline:latest": host namespaces (hostPID=true)"#;
    assert_eq!(said("audit-violations").as_deref(), Some(want));
}
