//! Who somebody is, and what they may: reviews, tokens, the issuer, impersonation, certificates.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderName;
use rcgen::{CertificateParams, DnType, KeyPair};
use xebec_api::{Value, object};

use crate::Checked;
use crate::client::{Call, Client, MERGE_PATCH};
use crate::cluster::{Cluster, settle};

const AUTHORIZATION: &str = "/apis/authorization.k8s.io/v1";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

/// Lets a user do what a rule says, everywhere.
async fn allow(admin: &Client, user: &str, rule: Value) {
    let group = "rbac.authorization.k8s.io";
    let role = object!({"metadata": {"name": user}, "rules": [(rule)]});
    let binding = object!({
        "metadata": {"name": user}, "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": user},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}]
    });
    for (path, object) in [("clusterroles", role), ("clusterrolebindings", binding)] {
        admin.send(Call::post(format!("{RBAC}/{path}"), &object)).await.expect(201).expect("made");
    }
}

async fn review(client: &Client, path: &str, spec: Value) -> Checked<Value> {
    let answer = client.send(Call::post(path, &object!({"spec": (spec)}))).await;
    Ok(answer.expect(201)?.get("status").cloned().unwrap_or_default())
}

#[tokio::test]
async fn access_is_reviewed() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let jane = cluster.user("jane", None).await;
    allow(&admin, "jane", object!({"verbs": ["list"], "apiGroups": [""], "resources": ["pods"]})).await;
    settle(&jane, "/api/v1/pods").await;
    let why = r#"RBAC: allowed by ClusterRoleBinding "jane" of ClusterRole "jane" to User "jane""#;
    let granted = object!({"allowed": true, "reason": why});
    let pods =
        |verb: &str| object!({"resourceAttributes": {"verb": verb, "resource": "pods", "namespace": "a"}});
    let myself = format!("{AUTHORIZATION}/selfsubjectaccessreviews");
    assert_eq!(review(&jane, &myself, pods("list")).await, Ok(granted.clone()));
    assert_eq!(review(&jane, &myself, pods("get")).await, Ok(object!({"allowed": false})));
    let somebody = format!("{AUTHORIZATION}/subjectaccessreviews");
    let about = |user: &str, mut spec: Value| {
        spec.set(&["user"], user);
        spec
    };
    assert_eq!(review(&admin, &somebody, about("jane", pods("list"))).await, Ok(granted));
    let mut selected = about("jane", pods("get"));
    selected.set(&["resourceAttributes", "fieldSelector"], object!({"rawSelector": "nonsense"}));
    let ignored = "spec.resourceAttributes.fieldSelector ignored due to parse error";
    let want = object!({"allowed": false, "evaluationError": ignored});
    assert_eq!(review(&admin, &somebody, selected).await, Ok(want));
    let path = about("jane", object!({"nonResourceAttributes": {"verb": "get", "path": "/metrics"}}));
    assert_eq!(review(&admin, &somebody, path).await, Ok(object!({"allowed": false})));
    let local = format!("{AUTHORIZATION}/namespaces/b/localsubjectaccessreviews");
    let refused = review(&admin, &local, about("jane", pods("list"))).await.expect_err("another namespace");
    assert!(refused.contains("must match metadata.namespace"), "{refused}");
    jane.send(Call::post(&*somebody, &object!({"spec": (about("bob", pods("get")))})))
        .await
        .refused(403, "Forbidden")
        .expect("not for everybody");
}

#[tokio::test]
async fn rules_are_reviewed() {
    let cluster = Cluster::start().await;
    let (admin, jane) = (cluster.admin().await, cluster.user("jane", None).await);
    let rules = format!("{AUTHORIZATION}/selfsubjectrulesreviews");
    let status = review(&jane, &rules, object!({"namespace": "default"})).await.expect("reviewed");
    let paths = status.array_at(&["nonResourceRules"]).iter().flat_map(|r| r.array_at(&["nonResourceURLs"]));
    assert!(paths.filter_map(Value::as_str).any(|path| path == "/healthz"), "{status:?}");
    assert_eq!(status.get("incomplete"), Some(&Value::Bool(false)));
    let status = review(&admin, &rules, object!({"namespace": "default"})).await.expect("reviewed");
    let all = object!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]});
    assert!(status.array_at(&["resourceRules"]).contains(&all), "{status:?}");
    let lost = object!({
        "metadata": {"name": "lost"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "gone"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}]
    });
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    admin.send(Call::post(bindings, &lost)).await.expect(201).expect("made");
    let fault = r#"role.rbac.authorization.k8s.io "gone" not found"#;
    let noted = async {
        loop {
            let status = review(&jane, &rules, object!({"namespace": "default"})).await.expect("reviewed");
            if status.str_at(&["evaluationError"]) == Some(fault) {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), noted).await.expect("the binding is noted");
    let refused =
        jane.get("/api/v1/namespaces/default/pods").await.refused(403, "Forbidden").expect("refused");
    assert!(refused.ends_with(&format!(r#"in the namespace "default": RBAC: {fault}"#)), "{refused}");
}

async fn robot(client: &Client) -> Value {
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let made = client.send(Call::post(accounts, &object!({"metadata": {"name": "robot"}}))).await;
    made.expect(201).expect("made")
}

async fn token(client: &Client, spec: Value) -> Value {
    let path = "/api/v1/namespaces/default/serviceaccounts/robot/token";
    client.send(Call::post(path, &object!({"spec": (spec)}))).await.expect(201).expect("a token")
}

const REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

#[tokio::test]
async fn tokens_are_reviewed() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let account = robot(&admin).await;
    let made = token(&admin, object!({"audiences": ["vault", "other"]})).await;
    assert_eq!(made.at(&["metadata", "uid"]), account.at(&["metadata", "uid"]));
    let text = made.str_at(&["status", "token"]).expect("a token");
    let spec = |audience: &str| object!({"token": text, "audiences": [audience]});
    let status = review(&admin, REVIEWS, spec("vault")).await.expect("reviewed");
    assert_eq!(status.get("audiences"), Some(&object!(["vault"])), "{status:?}");
    assert_eq!(status.str_at(&["user", "username"]), Some("system:serviceaccount:default:robot"));
    let status = review(&admin, REVIEWS, spec("api")).await.expect("reviewed");
    let why = r#"[invalid bearer token, token audiences ["vault", "other"] is invalid for the target audiences ["api"]]"#;
    assert_eq!((status.str_at(&["error"]), status.get("authenticated")), (Some(why), None), "{status:?}");
    let status = review(&admin, REVIEWS, object!({"token": "nonsense"})).await.expect("reviewed");
    assert_eq!(status.str_at(&["error"]), Some("invalid bearer token"));
    let empty = admin.send(Call::post(REVIEWS, &object!({"spec": {}}))).await;
    empty.refused(400, "BadRequest").expect("there is nothing to review");
    let other = object!({"metadata": {"name": "other"}, "spec": {}});
    let path = "/api/v1/namespaces/default/serviceaccounts/robot/token";
    admin.send(Call::post(path, &other)).await.refused(422, "Invalid").expect("another account");
    let other = object!({"metadata": {"uid": "other"}, "spec": {}});
    admin.send(Call::post(path, &other)).await.refused(409, "Conflict").expect("an account of before");
}

#[tokio::test]
async fn the_issuer_tells_its_keys_to_accounts() {
    let cluster = Cluster::start().await;
    let (admin, nobody) = (cluster.admin().await, cluster.connect(None).await);
    robot(&admin).await;
    let made = token(&admin, object!({})).await;
    let client = nobody.with_token(made.str_at(&["status", "token"]).expect("a token"));
    let answer = client.get("/.well-known/openid-configuration").await;
    let configuration = answer.expect(200).expect("the configuration");
    let issuer = "https://kubernetes.default.svc.cluster.local";
    assert_eq!(configuration.str_at(&["issuer"]), Some(issuer));
    assert_eq!(configuration.str_at(&["jwks_uri"]), Some(&*format!("{issuer}/openid/v1/jwks")));
    let answer = client.get("/openid/v1/jwks").await;
    assert_eq!(answer.headers["content-type"], "application/jwk-set+json");
    let keys = answer.expect(200).expect("keys");
    let key = &keys.array_at(&["keys"])[0];
    assert_eq!((key.str_at(&["kty"]), key.str_at(&["alg"])), (Some("EC"), Some("ES256")));
    for client in [&nobody, &cluster.user("jane", None).await] {
        client.get("/openid/v1/jwks").await.refused(403, "Forbidden").expect("for accounts");
    }
}

/// A secret with these texts.
fn secret(name: &str, ty: &str, data: &[(&str, &str)]) -> Value {
    let mut secret = object!({"metadata": {"name": name}, "type": ty, "data": {}});
    for (key, text) in data {
        secret.set(&["data", key], STANDARD.encode(text));
    }
    secret
}

#[tokio::test]
async fn a_token_in_a_secret_lives_as_long_as_that() {
    use xebec_server::auth::token::SecretClaims;
    let cluster = Cluster::start().await;
    let (admin, nobody) = (cluster.admin().await, cluster.connect(None).await);
    let account = robot(&admin).await;
    let claims = SecretClaims {
        namespace: "default".into(),
        name: "robot".into(),
        uid: account.str_at(&["metadata", "uid"]).expect("a UID").into(),
        secret: "robot-token".into(),
    };
    let token = cluster.server.core().tokens.sign_secret(&claims).expect("signed");
    let client = nobody.with_token(&token);
    let path = "/api/v1/namespaces/default/secrets";
    assert_eq!(client.get(path).await.code, 401, "there is no secret");
    let mut object = secret("robot-token", "kubernetes.io/service-account-token", &[("token", &token)]);
    object.set(&["metadata", "annotations", "kubernetes.io/service-account.name"], "robot");
    admin.send(Call::post(path, &object)).await.expect(201).expect("made");
    assert_eq!(client.get(path).await.code, 403, "known, but may do nothing");
    let label = "kubernetes.io/legacy-token-invalid-since";
    let mut patch = Value::object();
    patch.set(&["metadata", "labels", label], "2026-01-01");
    let one = format!("{path}/robot-token");
    admin.send(Call::patch(&*one, MERGE_PATCH, &patch)).await.expect(200).expect("marked");
    assert_eq!(client.get(path).await.code, 401, "it is marked as invalid");
    patch.set(&["metadata", "labels", label], Value::Null);
    admin.send(Call::patch(&*one, MERGE_PATCH, &patch)).await.expect(200).expect("no longer marked");
    assert_eq!(client.get(path).await.code, 403);
    admin.send(Call::delete(one)).await.expect(200).expect("deleted");
    assert_eq!(client.get(path).await.code, 401, "the secret is gone");
}

#[tokio::test]
async fn bootstrap_tokens_end() {
    let cluster = Cluster::start().await;
    let (admin, nobody) = (cluster.admin().await, cluster.connect(None).await);
    let hour = Duration::from_hours(1);
    let end = xebec_server::core::Clock::now(&*cluster.clock).after(hour).to_string();
    let data = [
        ("token-id", "abcdef"),
        ("token-secret", "0123456789abcdef"),
        ("usage-bootstrap-authentication", "true"),
        ("auth-extra-groups", "system:bootstrappers:kubeadm"),
        ("expiration", &end),
    ];
    let object = secret("bootstrap-token-abcdef", "bootstrap.kubernetes.io/token", &data);
    let secrets = "/api/v1/namespaces/kube-system/secrets";
    let client = nobody.with_token("abcdef.0123456789abcdef");
    assert_eq!(client.get(secrets).await.code, 401, "there is no token");
    admin.send(Call::post(secrets, &object)).await.expect(201).expect("made");
    let refused = client.get(secrets).await.refused(403, "Forbidden").expect("known, but may do nothing");
    assert!(refused.contains("system:bootstrap:abcdef"), "{refused}");
    let who =
        client.send(Call::post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &object!({}))).await;
    let who = who.expect(201).expect("who am I");
    let groups = ["system:bootstrappers", "system:bootstrappers:kubeadm", "system:authenticated"];
    assert_eq!(who.array_at(&["status", "userInfo", "groups"]), groups.map(Value::from));
    assert_eq!(nobody.with_token("abcdef.0123456789abcdee").get(secrets).await.code, 401, "another secret");
    cluster.clock.advance(2 * hour);
    assert_eq!(client.get(secrets).await.code, 401, "it has expired");
}

#[tokio::test]
async fn impersonation_can_be_confined() {
    let cluster = Cluster::start().await;
    let (admin, jane) = (cluster.admin().await, cluster.user("jane", None).await);
    allow(&admin, "bob", object!({"verbs": ["list", "delete"], "apiGroups": [""], "resources": ["pods"]}))
        .await;
    let as_bob = |call: Call| call.header(HeaderName::from_static("impersonate-user"), "bob");
    let list = || as_bob(Call::get("/api/v1/pods"));
    let refused = jane.send(list()).await.refused(403, "Forbidden").expect("refused");
    let want = r#"pods is forbidden: User "jane" cannot impersonate-on:user-info:list resource "pods""#;
    assert!(refused.starts_with(want), "{refused}");
    let rules = [
        object!({"verbs": ["impersonate-on:user-info:list"], "apiGroups": [""], "resources": ["pods"]}),
        object!({
            "verbs": ["impersonate:user-info"], "apiGroups": ["authentication.k8s.io"], "resources": ["users"],
            "resourceNames": ["bob"]
        }),
    ];
    allow(&admin, "jane", rules[0].clone()).await;
    let more = object!({"rules": (rules.to_vec())});
    let role = Call::patch(format!("{RBAC}/clusterroles/jane"), MERGE_PATCH, &more);
    admin.send(role).await.expect(200).expect("changed");
    let noted = async { while jane.send(list()).await.code == 403 {} };
    tokio::time::timeout(Duration::from_secs(10), noted).await.expect("roles hold soon");
    let delete = as_bob(Call::delete("/api/v1/namespaces/default/pods/a"));
    jane.send(delete).await.refused(403, "Forbidden").expect("not this verb");
    admin.send(as_bob(Call::get("/api/v1/nodes"))).await.refused(403, "Forbidden").expect("bob may not");
}

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

fn signing_request(name: &str, group: &str) -> Value {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.distinguished_name.push(DnType::OrganizationName, group);
    let key = KeyPair::generate().expect("a key");
    let pem = params.serialize_request(&key).expect("a request").pem().expect("PEM");
    object!({
        "metadata": {"name": name},
        "spec": {
            "request": (STANDARD.encode(pem)), "signerName": "kubernetes.io/kube-apiserver-client",
            "usages": ["client auth"]
        }
    })
}

#[tokio::test]
async fn signers_are_approved_and_signed_for_by_name() {
    let cluster = Cluster::start().await;
    let (admin, jane) = (cluster.admin().await, cluster.user("jane", None).await);
    let masters = admin.send(Call::post(REQUESTS, &signing_request("eve", "system:masters"))).await;
    let refused = masters.refused(403, "Forbidden").expect("nobody becomes a master");
    assert!(refused.contains("signer with system:masters group is not allowed"), "{refused}");
    let mut forged = signing_request("eve", "dev");
    forged.set(
        &["spec", "request"],
        STANDARD.encode("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"),
    );
    admin.send(Call::post(REQUESTS, &forged)).await.refused(422, "Invalid").expect("no request");

    let made = admin.send(Call::post(REQUESTS, &signing_request("bob", "dev"))).await;
    let mut request = made.expect(201).expect("made");
    let group = "certificates.k8s.io";
    let approving = object!({
        "verbs": ["update", "get"], "apiGroups": [group],
        "resources": ["certificatesigningrequests", "certificatesigningrequests/approval", "certificatesigningrequests/status"]
    });
    allow(&admin, "jane", approving.clone()).await;
    settle(&jane, &format!("{REQUESTS}/bob")).await;
    request
        .set(&["status", "conditions"], vec![object!({"type": "Approved", "status": "True", "reason": "a"})]);
    let approve = Call::put(format!("{REQUESTS}/bob/approval"), &request);
    let refused = jane.send(approve.clone()).await.refused(403, "Forbidden").expect("refused");
    let want =
        r#"user not permitted to approve requests with signerName "kubernetes.io/kube-apiserver-client""#;
    assert!(refused.ends_with(want), "{refused}");
    let signers = object!({
        "verbs": ["approve"], "apiGroups": [group], "resources": ["signers"], "resourceNames": ["kubernetes.io/*"]
    });
    let more = object!({"rules": [(approving), (signers)]});
    let role = Call::patch(format!("{RBAC}/clusterroles/jane"), MERGE_PATCH, &more);
    admin.send(role).await.expect(200).expect("changed");
    let noted = async {
        loop {
            let answer = jane.send(approve.clone()).await;
            if answer.code != 403 {
                return answer;
            }
        }
    };
    let approved = tokio::time::timeout(Duration::from_secs(10), noted).await.expect("roles hold soon");
    let mut approved = approved.expect(200).expect("approved");
    assert!(approved.at(&["status", "conditions"]).is_some());
    approved.set(
        &["status", "certificate"],
        STANDARD.encode("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"),
    );
    let status = Call::put(format!("{REQUESTS}/bob/status"), &approved);
    let refused = jane.send(status).await.refused(403, "Forbidden").expect("refused");
    assert!(refused.contains("not permitted to sign"), "{refused}");
}
