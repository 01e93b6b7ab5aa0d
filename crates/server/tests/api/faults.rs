//! What goes wrong is answered in the words that users of Kubernetes know, and leaves nothing behind.

use std::time::{Duration, SystemTime};

use http::Method;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use xebec_api::{Value, json, meta, object};
use xebec_server::auth::keys::{ClusterKeys, Credential};
use xebec_store::{Key, Revision, Txn, Value as Stored};

use crate::client::{APPLY_PATCH, Answer, Call, Client, JSON, MERGE_PATCH, PROTOBUF, YAML};
use crate::cluster::{Cluster, settle};
use crate::samples::DEFINITION;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// That an answer is a refusal with this code, reason and text.
#[track_caller]
fn check(what: &str, answer: &Answer, code: u16, reason: &str, text: &str) {
    match answer.refused(code, reason) {
        Ok(message) => assert!(message.contains(text), "{what}: {message:?} does not say {text:?}"),
        Err(why) => panic!("{what}: {why}"),
    }
}

async fn post(client: &Client, content_type: &str, body: impl Into<bytes::Bytes>) -> Answer {
    client.send(Call::new(Method::POST, MAPS).body(content_type, body)).await
}

fn config_map(name: &str) -> Value {
    object!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})
}

#[tokio::test]
async fn bodies_that_cannot_be_read() {
    let cluster = Cluster::start().await;
    let client = cluster.admin().await;
    let unreadable = async |what: &str, content_type: &str, body: String, text: &str| {
        check(what, &post(&client, content_type, body).await, 400, "BadRequest", text);
    };
    let unrecognized = "the object provided is unrecognized";
    unreadable(
        "cut JSON",
        JSON,
        r#"{"metadata": {"#.into(),
        "EOF while parsing an object at line 1 column 14",
    )
    .await;
    unreadable("two documents", JSON, "{} {}".into(), "trailing characters at line 1 column 4").await;
    unreadable("no object", JSON, "[1]".into(), "expected an object, got array").await;
    unreadable("nothing", JSON, String::new(), unrecognized).await;
    unreadable("cut YAML", YAML, "metadata: {name: a".into(), unrecognized).await;
    unreadable("tabs in YAML", YAML, "metadata:\n\tname: a".into(), unrecognized).await;
    unreadable(
        "two YAML documents",
        YAML,
        "metadata: {name: a}\n---\nmetadata: {name: b}\n".into(),
        unrecognized,
    )
    .await;
    unreadable("JSON as protobuf", PROTOBUF, "{}".into(), unrecognized).await;
    unreadable("cut protobuf", PROTOBUF, "k8s\0\u{a}\u{f}".into(), unrecognized).await;
    let deep = |levels: usize| format!(r#"{{"data": {}1{}}}"#, "[".repeat(levels), "]".repeat(levels));
    unreadable("deep JSON", JSON, deep(200), "recursion limit exceeded").await;
    unreadable("deep YAML", YAML, deep(200), "depth").await;
    let mistyped = "ConfigMap in version \"v1\" cannot be handled as a ConfigMap";
    unreadable("JSON that is just not too deep", JSON, deep(126), mistyped).await;
    unreadable("YAML that is just not too deep", YAML, format!("#\n{}", deep(62)), mistyped).await;
    let bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n";
    let bomb = (b'b'..=b'i').fold(bomb.to_owned(), |text, level| {
        let (level, last) = (char::from(level), char::from(level - 1));
        text + &format!("{level}: &{level} [{}]\n", vec![format!("*{last}"); 9].join(", "))
    });
    unreadable("aliases that multiply", YAML, bomb, unrecognized).await;
    assert_eq!(client.get(MAPS).await.json().array_at(&["items"]), [] as [Value; 0], "something was made");
}

#[tokio::test]
async fn bodies_that_are_too_large() {
    let cluster = Cluster::start().await;
    let client = cluster.admin().await;
    let limit = 3 * 1024 * 1024;
    let mut large = config_map("large");
    large.set(&["data", "a"], "x".repeat(limit));
    let answer = client.send(Call::post(MAPS, &large)).await;
    check("over the limit", &answer, 413, "RequestEntityTooLarge", "limit is 3145728");
    // What can be read may still be more than an object of its kind may hold.
    large.set(&["data", "a"], "x".repeat(1024 * 1024 + 1));
    let answer = client.send(Call::post(MAPS, &large)).await;
    check("over the kind's limit", &answer, 422, "Invalid", "may not be more than 1048576 bytes");
    large.set(&["data", "a"], "x".repeat(1024 * 1024 - 1));
    client.send(Call::post(MAPS, &large)).await.expect(201).expect("within the limits");
}

#[tokio::test]
async fn fields_that_nobody_knows() {
    let cluster = Cluster::start().await;
    let client = cluster.admin().await;
    let json = r#"{"metadata": {"name": "NAME"}, "odd": 1, "data": {"a": "1", "a": "2"}}"#;
    let yaml = "metadata: {name: NAME}\nodd: 1\ndata:\n  a: '1'\n  a: '2'\n";
    for (form, text, content_type) in [("json", json, JSON), ("yaml", yaml, YAML)] {
        let send = async |mode: &str| {
            let body = text.replace("NAME", &format!("{form}-{}", mode.to_lowercase()));
            let path = format!("{MAPS}?fieldValidation={mode}");
            client.send(Call::new(Method::POST, path).body(content_type, body)).await
        };
        let unknown = "unknown field \"odd\"";
        // YAML is made JSON first, so what is wrong with the former comes first.
        let both = match form {
            "json" => [unknown, "duplicate field \"data.a\""],
            _ => ["yaml: unmarshal errors:\n  line 5: key \"a\" already set in map", unknown],
        };
        let strict = send("Strict").await;
        check(form, &strict, 400, "BadRequest", "strict decoding error: ");
        both.iter().for_each(|text| check(form, &strict, 400, "BadRequest", text));
        let warned = send("Warn").await;
        let made = warned.expect(201).expect("unknown fields are dropped");
        assert_eq!(made.get("odd"), None, "{form}");
        assert_eq!(made.str_at(&["data", "a"]), Some("2"), "{form}: the last one wins");
        let escaped = both.map(|text| format!("299 - \"{}\"", text.replace('\n', " ").replace('"', "\\\"")));
        assert_eq!(warned.warnings(), escaped, "{form}");
        let ignored = send("Ignore").await;
        ignored.expect(201).expect("unknown fields are dropped");
        assert_eq!(ignored.warnings(), [] as [String; 0], "{form}");
        check(form, &send("Odd").await, 422, "Invalid", "fieldValidation: Unsupported value: \"Odd\"");
    }
    let patch = object!({"odd": 1});
    let path = format!("{MAPS}/json-warn?fieldValidation=Strict");
    check(
        "a patch",
        &client.send(Call::patch(path, MERGE_PATCH, &patch)).await,
        400,
        "BadRequest",
        "unknown field",
    );
    let mut config = config_map("json-warn");
    config.set(&["odd"], 1);
    let path = format!("{MAPS}/json-warn?fieldValidation=Strict&fieldManager=a");
    check(
        "an apply",
        &client.send(Call::patch(path, APPLY_PATCH, &config)).await,
        500,
        "",
        ".odd: field not declared in schema",
    );
    let twice = "{apiVersion: v1, kind: ConfigMap, metadata: {name: json-warn},\ndata: {a: '1', a: '2'}}";
    for (mode, code) in [("Strict", 400), ("Warn", 200)] {
        let path = format!("{MAPS}/json-warn?fieldValidation={mode}&fieldManager=a&force=true");
        let answer = client.send(Call::new(Method::PATCH, path).body(APPLY_PATCH, twice)).await;
        let text =
            "error converting YAML to JSON: yaml: unmarshal errors:\n  line 2: key \"a\" already set in map";
        match code {
            400 => {
                check("an apply", &answer, 400, "BadRequest", &format!("error strict decoding YAML: {text}"));
            }
            _ => {
                answer.expect(code).expect("the last one wins");
                let escaped = text.replace('\n', " ").replace('"', "\\\"");
                assert_eq!(answer.warnings(), [format!("299 - \"{escaped}\"")]);
            }
        }
    }
}

#[tokio::test]
async fn faults_without_number_are_told_in_few_words() {
    let cluster = Cluster::start().await;
    let client = cluster.admin().await;
    let long = "k".repeat(1_000_000);
    let many = |member: &str| vec![member; 100_000].join(",");
    for (what, body) in [
        (
            "members that come twice",
            format!(r#"{{"metadata":{{"name":"a"}},"{long}":{{{}}}}}"#, many(r#""a":0"#)),
        ),
        (
            "values of another type",
            format!(r#"{{"metadata":{{"name":"a"}},"data":{{"{long}":[{}]}}}}"#, many("0")),
        ),
        ("owners of nothing", format!(r#"{{"metadata":{{"name":"a","ownerReferences":[{}]}}}}"#, many("{}"))),
        ("a long name", format!(r#"{{"metadata":{{"name":"{long}"}}}}"#)),
    ] {
        let path = format!("{MAPS}?fieldValidation=Strict");
        let answer = client.send(Call::new(Method::POST, path).body(JSON, body)).await;
        assert!(matches!(answer.code, 400 | 422), "{what}: {}", answer.code);
        let size = answer.body.len();
        assert!(what == "a long name" || size < 200_000, "{what}: an answer of {size} bytes");
    }
}

#[tokio::test]
async fn objects_that_belong_elsewhere() {
    let cluster = Cluster::start().await;
    let client = cluster.admin().await;
    client.send(Call::post(MAPS, &config_map("a"))).await.expect(201).expect("made");
    let with = |path: &[&str], value: &str| {
        let mut object = config_map("a");
        object.set(path, value);
        object
    };
    for (what, object, text) in [
        (
            "another kind",
            with(&["kind"], "Secret"),
            "Secret in version \"v1\" cannot be handled as a ConfigMap",
        ),
        (
            "another version",
            with(&["apiVersion"], "v2"),
            "the API version in the data (v2) does not match the expected API version (v1)",
        ),
        (
            "another namespace",
            with(&["metadata", "namespace"], "kube-system"),
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
    ] {
        check(what, &client.send(Call::post(MAPS, &object)).await, 400, "BadRequest", text);
        check(what, &client.send(Call::put(format!("{MAPS}/a"), &object)).await, 400, "BadRequest", text);
    }
    let other = client.send(Call::put(format!("{MAPS}/a"), &config_map("b"))).await;
    let text = "the name of the object (b) does not match the name on the URL (a)";
    check("another name", &other, 400, "BadRequest", text);
    let nowhere = client.send(Call::post("/api/v1/namespaces/absent/configmaps", &config_map("a"))).await;
    check("no such namespace", &nowhere, 404, "NotFound", "namespaces \"absent\" not found");
    let nameless = client.send(Call::post(MAPS, &object!({"metadata": {}}))).await;
    check(
        "no name",
        &nameless,
        422,
        "Invalid",
        "metadata.name: Required value: name or generateName is required",
    );
    let versioned = with(&["metadata", "resourceVersion"], "1");
    let text = "resourceVersion should not be set on objects to be created";
    check("a version", &client.send(Call::post(MAPS, &versioned)).await, 500, "", text);
}

#[tokio::test]
async fn objects_of_a_definition_that_goes() {
    let cluster = Cluster::start().await;
    let client = cluster.admin().await;
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let widgets = "/apis/parity.example.com/v1/namespaces/default/widgets";
    client.send(Call::new(Method::POST, definitions).body(YAML, DEFINITION)).await.expect(201).expect("made");
    let widget = |name: &str| object!({"apiVersion": "parity.example.com/v1", "kind": "Widget", "metadata": {"name": name}});
    client.send(Call::post(widgets, &widget("a"))).await.expect(201).expect("made");
    let definition = format!("{definitions}/widgets.parity.example.com");
    client.send(Call::delete(definition.as_str())).await.expect(200).expect("deletion begins");
    let text = "create not allowed while custom resource definition is terminating";
    let made = client.send(Call::post(widgets, &widget("b"))).await;
    check("a new object", &made, 405, "MethodNotAllowed", text);
    let apply = Call::patch(format!("{widgets}/b?fieldManager=a"), APPLY_PATCH, &widget("b"));
    check("a new object by apply", &client.send(apply).await, 405, "MethodNotAllowed", text);
    client.send(Call::delete(format!("{widgets}/a"))).await.expect(200).expect("what is there may go");
    let none = object!({"metadata": {"finalizers": null}});
    client.send(Call::patch(definition, MERGE_PATCH, &none)).await.expect(200).expect("the definition goes");
    let gone = client.get(widgets).await;
    check("the resource", &gone, 404, "NotFound", "the server could not find the requested resource");
}

#[tokio::test]
async fn types_that_cannot_be_given_or_taken() {
    let cluster = Cluster::start().await;
    let client = cluster.admin().await;
    let answer = post(&client, "text/csv", "a,b").await;
    check("a body", &answer, 415, "UnsupportedMediaType", "accepted media types include: application/json");
    let patch = client.send(Call::patch(format!("{MAPS}/a"), JSON, &object!({}))).await;
    check("a patch", &patch, 415, "UnsupportedMediaType", "application/merge-patch+json");
    for nonsense in ["text/csv", "application/json;as=Nonsense;g=meta.k8s.io;v=v1", "nonsense"] {
        let answer = client.send(Call::get(MAPS).accept(nonsense)).await;
        check(
            nonsense,
            &answer,
            406,
            "NotAcceptable",
            "only the following media types are accepted: application/json",
        );
    }
}

#[tokio::test]
async fn what_the_server_cannot_stand_ends_no_connection() {
    let cluster = Cluster::start().await;
    let client = cluster.admin().await;
    cluster.clock.breaks_once();
    check("a panic", &client.get(MAPS).await, 500, "InternalError", "a fault of its own");
    assert_eq!(client.get(MAPS).await.code, 200, "on the same connection");
}

#[tokio::test]
async fn watches_of_odd_length() {
    let cluster = Cluster::start().await;
    let client = cluster.admin().await;
    let path = |seconds: &str| format!("{MAPS}?watch=true&timeoutSeconds={seconds}");
    for seconds in ["18446744073709551615", "x", "1.5"] {
        let why = format!("strconv.ParseInt: parsing {seconds:?}: ");
        check(seconds, &client.get(&path(seconds)).await, 400, "BadRequest", &why);
    }
    let mut over = client.watch(&path("-1")).await.expect("a watch");
    assert_eq!(over.next().await, Ok(None), "less than nothing is over at once");
    for (name, seconds) in [("a", "9223372036854775807"), ("b", "0")] {
        let mut watch = client
            .watch(&format!("{}&sendInitialEvents=false&resourceVersionMatch=NotOlderThan", path(seconds)))
            .await;
        let watch = watch.as_mut().expect("a watch");
        client.send(Call::post(MAPS, &config_map(name))).await.expect(201).expect("made");
        let event = watch.next().await.expect("in time").expect("the watch goes on");
        assert_eq!(event.str_at(&["type"]), Some("ADDED"), "{seconds}");
    }
}

#[tokio::test]
async fn states_that_are_gone() {
    let cluster = Cluster::start().await;
    let client = cluster.admin().await;
    let old = client.send(Call::post(MAPS, &config_map("a"))).await.expect(201).expect("made");
    let mut new = old.clone();
    new.set(&["data", "a"], "b");
    let now = client.send(Call::put(format!("{MAPS}/a"), &new)).await.expect(200).expect("changed");
    let stale = client.send(Call::put(format!("{MAPS}/a"), &new)).await;
    let text = "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your \
                changes to the latest version and try again";
    check("a stale object", &stale, 409, "Conflict", text);

    let version = meta::resource_version(&now).parse().expect("a number");
    cluster.server.core().store.compact(Revision::new(version)).await.expect("compacted");
    // Clients recognise this event, and list again; an answer that fails makes some of them try for ever.
    let path = format!("{MAPS}?watch=true&resourceVersion=1");
    let mut watch = client.watch(&path).await.expect("the watch itself begins");
    let event = watch.next().await.expect("in time").expect("an event");
    assert_eq!(event.str_at(&["type"]), Some("ERROR"));
    assert_eq!(event.i64_at(&["object", "code"]), Some(410));
    assert_eq!(event.str_at(&["object", "reason"]), Some("Expired"));
    assert_eq!(watch.next().await, Ok(None), "the watch goes on");
    let list = client.get(&format!("{MAPS}?resourceVersion=1&resourceVersionMatch=Exact")).await;
    check("a list", &list, 410, "Expired", "too old resource version: 1");
    let future = client.get(&format!("{MAPS}?resourceVersion=99999999")).await;
    check("a state to come", &future, 504, "Timeout", "Too large resource version");
}

/// A client certificate of the cluster's authority, but in force at another time.
fn certificate(cluster: &Cluster, from: SystemTime, to: SystemTime) -> Credential {
    let read = |name: &str| std::fs::read_to_string(cluster.pki().join(name)).expect("the authority's files");
    let key = KeyPair::from_pem(&read("ca.key")).expect("a key");
    let issuer = Issuer::from_ca_cert_pem(&read("ca.crt"), key).expect("an authority");
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "admin");
    params.distinguished_name.push(DnType::OrganizationName, "system:masters");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    (params.not_before, params.not_after) = (from.into(), to.into());
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    Credential { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() }
}

#[tokio::test]
async fn certificates_that_are_not_good() {
    let cluster = Cluster::start().await;
    let (now, hour) = (SystemTime::now(), Duration::from_hours(1));
    let dir = tempfile::tempdir().expect("a directory");
    let stranger = ClusterKeys::open(dir.path(), &ring::rand::SystemRandom::new()).expect("keys");
    let foreign = stranger.client("admin", Some("system:masters")).expect("a certificate");
    for (what, credential) in [
        ("an expired one", certificate(&cluster, now - 2 * hour, now - hour)),
        ("one of tomorrow", certificate(&cluster, now + hour, now + 2 * hour)),
        ("one of another authority", foreign),
    ] {
        let client = cluster.connect(Some(&credential)).await;
        check(what, &client.get(MAPS).await, 401, "Unauthorized", "Unauthorized");
        check(what, &client.get("/metrics").await, 401, "Unauthorized", "Unauthorized");
    }
    let client = cluster.connect(Some(&certificate(&cluster, now - hour, now + hour))).await;
    assert_eq!(client.get(MAPS).await.code, 200, "a good certificate");
    let nobody = cluster.connect(None).await;
    for path in ["/healthz", "/readyz", "/livez", "/version"] {
        assert_eq!(nobody.get(path).await.code, 200, "{path} answers everybody");
    }
}

/// A token of the service account `robot`, which is there afterwards.
async fn token(client: &Client, bound: Option<Value>) -> String {
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let robot = client.send(Call::post(accounts, &object!({"metadata": {"name": "robot"}}))).await;
    assert!(matches!(robot.code, 201 | 409), "{}", robot.text());
    let mut request = object!({"spec": {"expirationSeconds": 600}});
    if let Some(bound) = bound {
        request.set(&["spec", "boundObjectRef"], bound);
    }
    let made = client.send(Call::post(format!("{accounts}/robot/token"), &request)).await;
    let made = made.expect(201).expect("a token");
    made.str_at(&["status", "token"]).expect("a token").to_owned()
}

#[tokio::test]
async fn certificates_end_while_a_connection_is_open() {
    let cluster = Cluster::start().await;
    let (now, hour) = (SystemTime::now(), Duration::from_hours(1));
    let client = cluster.connect(Some(&certificate(&cluster, now - hour, now + hour))).await;
    assert_eq!(client.get(MAPS).await.code, 200, "a good certificate");
    cluster.clock.advance(2 * hour);
    check("it has expired", &client.get(MAPS).await, 401, "Unauthorized", "Unauthorized");
    // Who has a token too is known by that.
    let token = token(&cluster.admin().await, None).await;
    assert!(is_known(&client, &token).await, "an expired certificate and a token");
    let late = cluster.connect(Some(&certificate(&cluster, now - 2 * hour, now - hour))).await;
    assert!(is_known(&late, &token).await, "a certificate that was never good, and a token");
    assert!(!is_known(&late, "nonsense").await, "neither is good");
    let good = cluster.connect(Some(&certificate(&cluster, now - hour, now + 9 * hour))).await;
    assert_eq!(good.with_token("nonsense").get(MAPS).await.code, 200, "a good certificate decides");
}

/// Whether the holder of a token is known: 403, since the account may do nothing, or 401.
async fn is_known(nobody: &Client, token: &str) -> bool {
    let answer = nobody.with_token(token).get(MAPS).await;
    let known = answer
        .refused(403, "Forbidden")
        .is_ok_and(|text| text.contains("system:serviceaccount:default:robot"));
    if !known {
        check("a token", &answer, 401, "Unauthorized", "Unauthorized");
    }
    known
}

#[tokio::test]
async fn tokens_that_are_not_good() {
    let cluster = Cluster::start().await;
    let (client, nobody) = (cluster.admin().await, cluster.connect(None).await);
    let pods = "/api/v1/namespaces/default/pods";
    let good = token(&client, None).await;
    assert!(is_known(&nobody, &good).await, "a good token");
    let elsewhere = Cluster::start().await;
    let foreign = token(&elsewhere.admin().await, None).await;
    assert!(!is_known(&nobody, &foreign).await, "a token of another cluster");
    for nonsense in ["nonsense", "a.b.c", &good[..good.len() - 4], &good.replace('.', "")] {
        assert!(!is_known(&nobody, nonsense).await, "{nonsense}");
    }

    let pod = object!({
        "metadata": {"name": "p"}, "spec": {"serviceAccountName": "robot", "containers": [{"name": "a", "image": "a"}]}
    });
    client.send(Call::post(pods, &pod)).await.expect(201).expect("a pod");
    let bound = token(&client, Some(object!({"apiVersion": "v1", "kind": "Pod", "name": "p"}))).await;
    assert!(is_known(&nobody, &bound).await, "a token of a pod that is there");
    client.send(Call::delete(format!("{pods}/p"))).await.expect(200).expect("deleted");
    assert!(!is_known(&nobody, &bound).await, "a token whose pod is gone");
    client.send(Call::post(pods, &pod)).await.expect(201).expect("another pod of the name");
    assert!(!is_known(&nobody, &bound).await, "a token whose pod was replaced");

    let robot = "/api/v1/namespaces/default/serviceaccounts/robot";
    client.send(Call::delete(robot)).await.expect(200).expect("deleted");
    assert!(!is_known(&nobody, &good).await, "a token whose account is gone");
    let fresh = token(&client, None).await;
    assert!(!is_known(&nobody, &good).await, "a token whose account was replaced");
    assert!(is_known(&nobody, &fresh).await, "a fresh token");
    cluster.clock.advance(Duration::from_mins(11));
    assert!(!is_known(&nobody, &fresh).await, "a token that has expired");
}

#[tokio::test]
async fn tokens_of_what_is_being_deleted() {
    let cluster = Cluster::start().await;
    let (client, nobody) = (cluster.admin().await, cluster.connect(None).await);
    let pods = "/api/v1/namespaces/default/pods";
    let robot = "/api/v1/namespaces/default/serviceaccounts/robot";
    let free = token(&client, None).await;
    let held = object!({"metadata": {"finalizers": ["example.com/held"]}});
    client.send(Call::patch(robot, MERGE_PATCH, &held)).await.expect(200).expect("held");
    let pod = object!({
        "metadata": {"name": "p"},
        "spec": {"nodeName": "n", "serviceAccountName": "robot", "containers": [{"name": "a", "image": "a"}]}
    });
    client.send(Call::post(pods, &pod)).await.expect(201).expect("a pod");
    let bound = token(&client, Some(object!({"apiVersion": "v1", "kind": "Pod", "name": "p"}))).await;
    client.send(Call::delete(format!("{pods}/p?gracePeriodSeconds=120"))).await.expect(200).expect("it ends");
    assert!(is_known(&nobody, &bound).await, "a pod that has time to end");
    cluster.clock.advance(Duration::from_secs(150));
    assert!(is_known(&nobody, &bound).await, "one that is late");
    cluster.clock.advance(Duration::from_secs(60));
    assert!(!is_known(&nobody, &bound).await, "one that should be gone");
    assert!(is_known(&nobody, &free).await, "the account is still good");
    client.send(Call::delete(robot)).await.expect(200).expect("it waits for who holds it");
    assert!(is_known(&nobody, &free).await, "the account has just been deleted");
    cluster.clock.advance(Duration::from_secs(90));
    assert!(!is_known(&nobody, &free).await, "the account should be gone");
}

#[tokio::test]
async fn tokens_last_a_day_at_most() {
    let cluster = Cluster::start().await;
    let client = cluster.admin().await;
    let path = "/api/v1/namespaces/default/serviceaccounts/robot";
    token(&client, None).await;
    for (asked, given, warnings) in [
        (600, 600, vec![]),
        (86_400, 86_400, vec![]),
        (86_401, 86_400, vec!["299 - \"requested expiration of 86401 seconds shortened to 86400 seconds\""]),
        (
            1_i64 << 32,
            86_400,
            vec!["299 - \"requested expiration of 4294967296 seconds shortened to 86400 seconds\""],
        ),
    ] {
        let request = object!({"spec": {"expirationSeconds": asked}});
        let answer = client.send(Call::post(format!("{path}/token"), &request)).await;
        let made = answer.expect(201).expect("a token");
        assert_eq!(made.i64_at(&["spec", "expirationSeconds"]), Some(given), "{asked}");
        assert_eq!(answer.warnings(), warnings, "{asked}");
    }
    let request = object!({"spec": {"expirationSeconds": ((1_i64 << 32) + 1)}});
    let answer = client.send(Call::post(format!("{path}/token"), &request)).await;
    check("too long", &answer, 422, "Invalid", "may not specify a duration larger than 2^32 seconds");
}

#[tokio::test]
async fn options_of_deletion() {
    let cluster = Cluster::start().await;
    let client = cluster.admin().await;
    client.send(Call::post(MAPS, &config_map("a"))).await.expect(201).expect("made");
    let one = format!("{MAPS}/a");
    let delete = async |path: &str, content_type: &str, body: &[u8]| {
        client.send(Call::delete(path).body(content_type, body.to_vec())).await
    };
    for body in [
        r#"{"gracePeriodSeconds": "0"}"#,
        r#"{"gracePeriodSeconds": 1.5}"#,
        r#"{"propagationPolicy": 1}"#,
        r#"{"orphanDependents": "false"}"#,
        r#"{"preconditions": []}"#,
        r#"{"preconditions": {"uid": 1}}"#,
        r#"{"dryRun": "All"}"#,
        r#"{"dryRun": [true]}"#,
        r#"{"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}}"#,
        r#"{"kind": 1}"#,
        r#"{"kind": "DeleteOptions", "apiVersion": "a/b/c"}"#,
        "[]",
        "1",
        "{",
    ] {
        check(body, &delete(&one, JSON, body.as_bytes()).await, 400, "BadRequest", "unrecognized");
        check(body, &delete(MAPS, JSON, body.as_bytes()).await, 400, "BadRequest", "unrecognized");
    }
    let yaml = delete(&one, YAML, b"dryRun: All").await;
    check("YAML", &yaml, 400, "BadRequest", "unrecognized");
    check("CSV", &delete(&one, "text/csv", b"a").await, 415, "UnsupportedMediaType", "application/json");
    let policy = delete(&one, JSON, br#"{"propagationPolicy": "Nonsense"}"#).await;
    check("a policy", &policy, 422, "Invalid", "propagationPolicy");
    let uid = delete(&one, JSON, br#"{"preconditions": {"uid": "nonsense"}}"#).await;
    check("another object", &uid, 409, "Conflict", "Precondition failed: UID");
    // Every group and version has the kind; what it does not have is dropped in silence.
    for version in ["v1", "meta.k8s.io/v1", "policy/v1", "apps/v1beta1", "example.com/v7", ""] {
        let tree = object!({"kind": "DeleteOptions", "apiVersion": version, "dryRun": ["All"], "odd": 1});
        for (form, body) in [(JSON, json::to_vec(&tree)), (YAML, json::to_vec(&tree))] {
            let answer = delete(&format!("{one}?fieldValidation=Strict"), form, &body).await;
            answer.expect(200).unwrap_or_else(|why| panic!("{version} {form}: {why}"));
            assert_eq!(answer.warnings(), [] as [String; 0], "{version} {form}");
        }
        if !version.is_empty() {
            let message = xebec_api::protobuf::encode_object(&tree).expect("the kind has a protobuf form");
            let answer = delete(&one, PROTOBUF, &message).await;
            answer.expect(200).unwrap_or_else(|why| panic!("{version} as protobuf: {why}"));
        }
    }
    client.get(&one).await.expect(200).expect("nothing of this was more than tried");
    for (n, body) in ["null", "{}", r#"{"kind": null, "gracePeriodSeconds": null}"#].iter().enumerate() {
        let name = format!("b{n}");
        client.send(Call::post(MAPS, &config_map(&name))).await.expect(201).expect("made");
        let answer = delete(&format!("{MAPS}/{name}"), JSON, body.as_bytes()).await;
        answer.expect(200).unwrap_or_else(|why| panic!("{body}: {why}"));
        assert_eq!(client.get(&format!("{MAPS}/{name}")).await.code, 404, "{body}");
    }
}

#[tokio::test]
async fn changes_that_come_to_a_creation() {
    let cluster = Cluster::start().await;
    let (admin, jane) = (cluster.admin().await, cluster.user("jane", None).await);
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let rules = object!([{"verbs": ["get", "patch", "update"], "apiGroups": ["*"], "resources": ["*"]}]);
    let role = object!({"metadata": {"name": "changer"}, "rules": (rules)});
    let binding = object!({
        "metadata": {"name": "changer"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "changer"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}]
    });
    for (path, object) in [("clusterroles", role), ("clusterrolebindings", binding)] {
        admin.send(Call::post(format!("{rbac}/{path}"), &object)).await.expect(201).expect("made");
    }
    settle(&jane, &format!("{MAPS}/absent")).await;
    let apply = || Call::patch(format!("{MAPS}/a?fieldManager=a"), APPLY_PATCH, &config_map("a"));
    let text = "configmaps \"a\" is forbidden: User \"jane\" cannot create resource \"configmaps\" in API group \"\" in \
                the namespace \"default\"";
    check("an apply", &jane.send(apply()).await, 403, "Forbidden", text);
    let lease = "/apis/coordination.k8s.io/v1/namespaces/default/leases/a";
    let object = object!({"metadata": {"name": "a"}, "spec": {}});
    let answer = jane.send(Call::put(lease, &object)).await;
    check("an update", &answer, 403, "Forbidden", "cannot create resource \"leases\"");
    admin.send(apply()).await.expect(201).expect("made");
    jane.send(apply()).await.expect(200).expect("what is there she may change");
}

#[tokio::test]
async fn what_is_not_allowed() {
    let cluster = Cluster::start().await;
    let jane = cluster.user("jane", None).await;
    let text = "configmaps is forbidden: User \"jane\" cannot list resource \"configmaps\" in API group \"\" in the \
                namespace \"default\"";
    check("a list", &jane.get(MAPS).await, 403, "Forbidden", text);
    let text = "nodes \"a\" is forbidden: User \"jane\" cannot get resource \"nodes\" in API group \"\" at the cluster \
                scope";
    check("a node", &jane.get("/api/v1/nodes/a").await, 403, "Forbidden", text);
    let text = "deployments.apps \"a\" is forbidden: User \"jane\" cannot patch resource \"deployments/scale\" in API \
                group \"apps\" in the namespace \"default\"";
    let scale = "/apis/apps/v1/namespaces/default/deployments/a/scale";
    let answer = jane.send(Call::patch(scale, MERGE_PATCH, &object!({}))).await;
    check("a scale", &answer, 403, "Forbidden", text);
    let text = "forbidden: User \"jane\" cannot get path \"/metrics\"";
    check("a path", &jane.get("/metrics").await, 403, "Forbidden", text);
    let answer = jane.get("/api/v1/namespaces/default/nonsense").await;
    check("what is not there", &answer, 403, "Forbidden", "cannot list resource \"nonsense\"");
    let admin = cluster.admin().await;
    let answer = admin.get("/api/v1/namespaces/default/nonsense").await;
    check("what is not there", &answer, 404, "NotFound", "the server could not find the requested resource");
    assert_eq!(
        json::to_vec(&jane.get("/version").await.json()),
        json::to_vec(&admin.get("/version").await.json())
    );
}

#[tokio::test]
async fn lists_of_what_cannot_be_read() {
    let cluster = Cluster::start().await;
    let client = cluster.admin().await;
    client.send(Call::post(MAPS, &config_map("a"))).await.expect(201).expect("made");
    let key = Key::new("/registry/core/configmaps/default/b").expect("a key");
    let damaged = Txn::default().put(key, Stored::opaque("{nonsense"));
    cluster.server.core().store.commit(damaged).await.expect("committed");
    for form in [
        "application/json;as=Table;v=v1;g=meta.k8s.io",
        "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
        YAML,
        PROTOBUF,
    ] {
        let answer = client.send(Call::get(MAPS).accept(form)).await;
        let status = match form {
            PROTOBUF => xebec_api::protobuf::decode_object(&answer.body).expect("a Status"),
            YAML => {
                let text = answer.text();
                assert!(text.contains("configmaps/default/b cannot be read"), "{text}");
                assert_eq!(answer.code, 500);
                continue;
            }
            _ => answer.json(),
        };
        assert_eq!(answer.code, 500, "{form}");
        let text = status.str_at(&["message"]).unwrap_or_default();
        assert!(
            text.contains("the stored object /registry/core/configmaps/default/b cannot be read"),
            "{text}"
        );
    }
}
