//! What single kinds do by themselves, seen from outside.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use xebec_api::{Value, json, meta, object};

use crate::client::{Call, Client, MERGE_PATCH, STRATEGIC_PATCH, YAML};
use crate::cluster::Cluster;
use crate::samples::DEFINITION;

const PODS: &str = "/api/v1/namespaces/default/pods";
const JOBS: &str = "/apis/batch/v1/namespaces/default/jobs";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

async fn made(client: &Client, path: &str, object: &Value) -> Value {
    client.send(Call::post(path, object)).await.expect(201).expect("made")
}

/// Makes the account that pods run as.
async fn with_account(client: &Client) {
    made(client, "/api/v1/namespaces/default/serviceaccounts", &object!({"metadata": {"name": "default"}}))
        .await;
}

fn pod(name: &str) -> Value {
    object!({"metadata": {"name": name}, "spec": {"containers": [{"name": "a", "image": "a"}]}})
}

#[tokio::test]
async fn a_signing_request_says_who_sent_it() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let key = rcgen::KeyPair::generate().expect("a key");
    let request = rcgen::CertificateParams::default().serialize_request(&key).expect("a request");
    let request = STANDARD.encode(request.pem().expect("PEM"));
    let approved = object!({"type": "Approved", "status": "True", "reason": "r", "message": "m"});
    let sent = made(
        &admin,
        REQUESTS,
        &object!({
            "metadata": {"name": "a"},
            "spec": {
                "request": (request), "signerName": "example.com/a", "usages": ["client auth"],
                "username": "somebody else", "groups": ["system:nodes"], "uid": "u", "extra": {"a": ["b"]}
            },
            "status": {"conditions": [(approved.clone())], "certificate": "YQ=="}
        }),
    )
    .await;
    assert_eq!(sent.str_at(&["spec", "username"]), Some("admin"));
    assert_eq!(
        sent.array_at(&["spec", "groups"]),
        ["system:masters", "system:authenticated"].map(Value::from)
    );
    assert_eq!((sent.at(&["spec", "uid"]), sent.at(&["spec", "extra"])), (None, None));
    assert_eq!(
        sent.array_at(&["status", "conditions"]),
        [],
        "nobody approves their own request by sending it"
    );

    let approval = format!("{REQUESTS}/a/approval");
    let approve = |conditions: Value, certificate: &str| {
        object!({
            "metadata": {"annotations": {"note": "seen"}},
            "status": {"conditions": (conditions), "certificate": certificate},
            "spec": {"username": "x"}
        })
    };
    let denied = object!({"type": "Denied", "status": "True", "reason": "r", "message": "m"});
    let both = approve(vec![approved.clone(), denied].into(), "YQ==");
    let refused = admin.send(Call::patch(approval.as_str(), MERGE_PATCH, &both)).await;
    let message = refused.refused(422, "Invalid").expect("approved and denied");
    assert!(message.contains("Approved and Denied conditions are mutually exclusive"), "{message}");
    let one = approve(vec![approved].into(), "YQ==");
    let done =
        admin.send(Call::patch(approval.as_str(), MERGE_PATCH, &one)).await.expect(200).expect("approved");
    let condition = &done.array_at(&["status", "conditions"])[0];
    assert!(condition.str_at(&["lastUpdateTime"]).is_some(), "{}", text(&done));
    assert!(condition.str_at(&["lastTransitionTime"]).is_some(), "{}", text(&done));
    assert_eq!(done.at(&["status", "certificate"]), None, "an approval is no certificate");
    assert_eq!(
        done.str_at(&["metadata", "annotations", "note"]),
        Some("seen"),
        "metadata is written with it"
    );
    assert_eq!(done.str_at(&["spec", "username"]), Some("admin"));
    let none = approve(Vec::<Value>::new().into(), "");
    let refused = admin.send(Call::patch(approval, MERGE_PATCH, &none)).await;
    refused.refused(422, "Invalid").expect("what is approved stays approved");
}

#[tokio::test]
async fn ephemeral_containers_are_added_and_stay() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    with_account(&admin).await;
    made(&admin, PODS, &pod("p")).await;
    let path = format!("{PODS}/p/ephemeralcontainers");
    let add = |container: Value| object!({"metadata": {"annotations": {"note": "seen"}}, "spec": {"ephemeralContainers": [(container)], "priority": 7}});
    let send = async |patch: &Value| admin.send(Call::patch(path.as_str(), STRATEGIC_PATCH, patch)).await;
    let looking = object!({"name": "look", "image": "busybox", "stdin": true});
    let changed = send(&add(looking)).await.expect(200).expect("added");
    let names: Vec<_> = changed
        .array_at(&["spec", "ephemeralContainers"])
        .iter()
        .filter_map(|c| c.str_at(&["name"]))
        .collect();
    assert_eq!(names, ["look"]);
    assert_eq!(changed.at(&["metadata", "annotations", "note"]), None, "the metadata stays as it was");
    assert_eq!(changed.i64_at(&["spec", "priority"]), Some(0), "nothing else changes");
    for (what, patch, text) in [
        (
            "another image",
            add(object!({"name": "look", "image": "other"})),
            "existing ephemeral containers \"look\" may not be changed",
        ),
        (
            "none",
            object!({"spec": {"ephemeralContainers": [{"name": "look", "$patch": "delete"}]}}),
            "existing ephemeral containers \"look\" may not be removed",
        ),
        (
            "probes",
            add(object!({"name": "b", "image": "b", "livenessProbe": {"exec": {"command": ["a"]}}})),
            "spec.ephemeralContainers[0].livenessProbe: Forbidden",
        ),
        ("no image", add(object!({"name": "b"})), "spec.ephemeralContainers[0].image: Required value"),
    ] {
        let message =
            send(&patch).await.refused(422, "Invalid").unwrap_or_else(|why| panic!("{what}: {why}"));
        assert!(message.contains(text), "{what}: {message}");
    }
    // The pod itself takes none.
    let direct = add(object!({"name": "c", "image": "c"}));
    let refused = admin.send(Call::patch(format!("{PODS}/p"), STRATEGIC_PATCH, &direct)).await;
    refused.refused(422, "Invalid").expect("there is a subresource for it");
}

#[tokio::test]
async fn a_job_selects_the_pods_that_it_makes() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let job = |name: &str, spec: Value| {
        let mut job = object!({"metadata": {"name": name}, "spec": (spec)});
        let pod = object!({"restartPolicy": "Never", "containers": [{"name": "a", "image": "a"}]});
        job.set(&["spec", "template", "spec"], pod);
        job
    };
    let generated = made(&admin, JOBS, &job("a", object!({}))).await;
    let uid = meta::uid(&generated);
    let selector = object!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}});
    assert_eq!(generated.at(&["spec", "selector"]), Some(&selector));
    let labels = object!({
        "batch.kubernetes.io/controller-uid": uid, "batch.kubernetes.io/job-name": "a", "controller-uid": uid,
        "job-name": "a"
    });
    assert_eq!(generated.at(&["spec", "template", "metadata", "labels"]), Some(&labels));
    let own = object!({"manualSelector": true, "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}}});
    let manual = made(&admin, JOBS, &job("b", own.clone())).await;
    assert_eq!(manual.at(&["spec", "selector"]), own.get("selector"));
    let half = object!({"selector": {"matchLabels": {"a": "b"}}});
    let refused = admin.send(Call::post(JOBS, &job("c", half))).await;
    let message = refused.refused(422, "Invalid").expect("a selector of one's own must be asked for");
    assert!(message.contains("`selector` not auto-generated"), "{message}");
}

#[tokio::test]
async fn generations_count_what_means_something_else() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    admin.send(Call::new(Method::POST, DEFINITIONS).body(YAML, DEFINITION)).await.expect(201).expect("made");
    let (deployments, widgets) = (
        "/apis/apps/v1/namespaces/default/deployments",
        "/apis/parity.example.com/v1/namespaces/default/widgets",
    );
    let deployment = object!({"metadata": {"name": "a"}, "spec": {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "a"}]}}
    }});
    made(&admin, deployments, &deployment).await;
    let widget = object!({
        "apiVersion": "parity.example.com/v1", "kind": "Widget", "metadata": {"name": "a"}, "spec": {}
    });
    made(&admin, widgets, &widget).await;
    for (collection, patch, want) in [
        (deployments, object!({"spec": {"paused": false, "minReadySeconds": 0}}), 1),
        (deployments, object!({"spec": {"template": {"spec": {"volumes": [], "hostname": ""}}}}), 1),
        (deployments, object!({"metadata": {"labels": {"a": "b"}}}), 1),
        (deployments, object!({"metadata": {"annotations": {"a": "b"}}}), 2),
        (deployments, object!({"spec": {"paused": true}}), 3),
        (deployments, object!({"spec": {"paused": true}, "metadata": {"annotations": {"a": "c"}}}), 4),
        (widgets, object!({"metadata": {"annotations": {"a": "b"}}}), 1),
        (widgets, object!({"status": {"done": true}}), 1),
        // Of a custom resource nobody knows what an empty text means.
        (widgets, object!({"spec": {"size": ""}}), 2),
        (widgets, object!({"metadata": {"generation": 9}}), 2),
    ] {
        let changed = admin.send(Call::patch(format!("{collection}/a"), MERGE_PATCH, &patch)).await;
        let changed = changed.expect(200).unwrap_or_else(|why| panic!("{}: {why}", text(&patch)));
        assert_eq!(changed.i64_at(&["metadata", "generation"]), Some(want), "{}", text(&patch));
    }
}

#[tokio::test]
async fn fields_can_be_selected_as_upstream_shows_them() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    with_account(&admin).await;
    made(&admin, PODS, &pod("plain")).await;
    let anything = object!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}});
    let labelled = Call::patch("/api/v1/namespaces/default", MERGE_PATCH, &anything);
    admin.send(labelled).await.expect(200).expect("labelled");
    let mut host = pod("host");
    host.set(&["spec", "hostNetwork"], true);
    made(&admin, PODS, &host).await;
    let event = |name: &str, reporter: &str, source: &str| {
        object!({
            "metadata": {"name": name}, "reason": "Tested", "type": "Normal",
            "involvedObject": {"kind": "Pod", "name": "plain", "namespace": "default"},
            "reportingComponent": reporter, "source": {"component": source}
        })
    };
    let events = "/api/v1/namespaces/default/events";
    made(&admin, events, &event("old", "", "kubelet")).await;
    made(&admin, events, &event("new", "example.com/a", "")).await;
    let job = object!({"metadata": {"name": "j"}, "spec": {"template": {"spec": {
        "restartPolicy": "Never", "containers": [{"name": "a", "image": "a"}]
    }}}});
    made(&admin, JOBS, &job).await;
    let other = "/apis/events.k8s.io/v1/namespaces/default/events";
    for (collection, selector, want) in [
        (PODS, "spec.hostNetwork=false", vec!["plain"]),
        (PODS, "spec.hostNetwork=true,status.phase=Pending", vec!["host"]),
        (PODS, "spec.hostNetwork!=true", vec!["plain"]),
        (PODS, "spec.nodeName=", vec!["host", "plain"]),
        (JOBS, "status.successful=0", vec!["j"]),
        (JOBS, "status.successful=1", vec![]),
        // Whichever of the two groups asks first, both find the same.
        (other, "regarding.name=plain,reportingController=example.com/a", vec!["new"]),
        (other, "regarding.kind=Pod,type=Normal", vec!["new", "old"]),
        (events, "source=kubelet", vec!["old"]),
        (events, "source=example.com/a", vec!["new"]),
        (events, "reportingComponent=example.com/a", vec!["new"]),
        (events, "involvedObject.name=plain,involvedObject.kind=Pod,reason=Tested", vec!["new", "old"]),
    ] {
        let list = admin.get(&format!("{collection}?fieldSelector={}", selector.replace('=', "%3D"))).await;
        let list = list.expect(200).unwrap_or_else(|why| panic!("{selector}: {why}"));
        let names: Vec<&str> = list.array_at(&["items"]).iter().map(meta::name).collect();
        assert_eq!(names, want, "{selector}");
    }
}

#[tokio::test]
async fn the_api_is_a_service_with_something_behind_it() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let get =
        async |path: &str| admin.get(path).await.expect(200).unwrap_or_else(|why| panic!("{path}: {why}"));
    let service = get("/api/v1/namespaces/default/services/kubernetes").await;
    let ip = service.str_at(&["spec", "clusterIP"]).expect("an address");
    let endpoints = get("/api/v1/namespaces/default/endpoints/kubernetes").await;
    let port = object!({"name": "https", "port": 443, "protocol": "TCP"});
    let subset = object!({"addresses": [{"ip": ip}], "ports": [(port.clone())]});
    assert_eq!(endpoints.array_at(&["subsets"]), [subset]);
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let slices = get(&format!("{slices}?labelSelector=kubernetes.io/service-name%3Dkubernetes")).await;
    let [slice] = slices.array_at(&["items"]) else { panic!("not one slice: {}", text(&slices)) };
    assert_eq!(slice.array_at(&["endpoints"])[0].array_at(&["addresses"]), [Value::from(ip)]);
    assert_eq!(slice.array_at(&["ports"]), [port]);
}

fn text(value: &Value) -> String {
    String::from_utf8_lossy(&json::to_vec(value)).into_owned()
}

/// A definition of colours in a group of its own; `selectable` is a list of paths.
fn colour(group: &str, selectable: &str) -> String {
    format!(
        "metadata: {{name: colours.{group}}}
spec:
  group: {group}
  scope: Namespaced
  names: {{plural: colours, singular: colour, kind: Colour, listKind: ColourList}}
  versions:
  - name: v1
    served: true
    storage: true
    selectableFields: [{selectable}]
    schema: {{openAPIV3Schema: {{type: object, properties: {{
      spec: {{type: object, properties: {{a: {{type: string}}, b: {{type: string}}}}}}}}}}}}
"
    )
}

#[tokio::test]
async fn a_definition_may_change_what_selects_its_objects() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let definition = Call::new(Method::POST, DEFINITIONS.to_owned());
    let definition = definition.body(YAML, colour("late.example.com", ""));
    admin.send(definition).await.expect(201).expect("defined");
    let colours = "/apis/late.example.com/v1/namespaces/default/colours";
    let object =
        object!({"metadata": {"name": "x", "labels": {"l": "1"}}, "spec": {"a": "red", "b": "blue"}});
    made(&admin, colours, &object).await;
    let count = async |query: &str| {
        let list = admin.send(Call::new(Method::GET, format!("{colours}?{query}"))).await;
        list.expect(200).expect("listed").array_at(&["items"]).len()
    };
    assert_eq!(count("labelSelector=l=1").await, 1);
    for (selectable, query, found) in [
        ("{jsonPath: .spec.a}", "fieldSelector=spec.a%3Dred", 1),
        ("{jsonPath: .spec.b}, {jsonPath: .spec.a}", "fieldSelector=spec.a%3Dred", 1),
        ("{jsonPath: .spec.b}, {jsonPath: .spec.a}", "fieldSelector=spec.b%3Dred", 0),
    ] {
        let path = format!("{DEFINITIONS}/colours.late.example.com");
        let stored = admin.get(&path).await.json();
        let text = colour("late.example.com", selectable).replacen(
            "metadata: {",
            &format!("metadata: {{resourceVersion: '{}', ", meta::resource_version(&stored)),
            1,
        );
        let changed = admin.send(Call::new(Method::PUT, path).body(YAML, text)).await;
        changed.expect(200).expect("changed");
        assert_eq!(count(query).await, found, "{selectable} {query}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn definitions_that_come_together_are_all_served() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let groups: Vec<String> = (0..24).map(|n| format!("g{n}.example.com")).collect();
    let define = |group: &String| {
        admin.send(Call::new(Method::POST, DEFINITIONS.to_owned()).body(YAML, colour(group, "")))
    };
    for answer in futures::future::join_all(groups.iter().map(define)).await {
        answer.expect(201).expect("defined");
    }
    for group in &groups {
        let list = admin.get(&format!("/apis/{group}/v1/colours")).await;
        assert_eq!(list.code, 200, "{group}: {}", list.text());
    }
}
