//! Custom resources whose versions a webhook converts between.

use http::Method;
use http::header::ACCEPT;
use xebec_api::{Value, object};

use crate::client::{APPLY_PATCH, Call, Client, MERGE_PATCH, YAML};
use crate::cluster::Cluster;
use crate::hooks::{Hook, answer};
use crate::{Checked, ensure};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const DEFINITION: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/hosts.conv.example.com";

/// A definition whose first version has a host and port in one field, and whose second has two.
fn definition(stored: &str, hook: &Hook) -> String {
    let config = hook.client_config();
    let text = |field: &str| config.str_at(&[field]).unwrap_or_default().to_owned();
    let version = |name: &str, fields: &str, more: &str| {
        format!(
            "  - name: {name}
    served: true
    storage: {}
    subresources: {{status: {{}}, scale: {{specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}}}}
    schema: {{openAPIV3Schema: {{type: object, properties: {{
      spec: {{type: object, properties: {{replicas: {{type: integer}}, {fields}}}}},
      status: {{type: object, properties: {{replicas: {{type: integer}}}}}}}}}}}}
{more}",
            name == stored
        )
    };
    format!(
        "metadata: {{name: hosts.conv.example.com}}
spec:
  group: conv.example.com
  scope: Namespaced
  names: {{plural: hosts, singular: host, kind: Host, listKind: HostList}}
  conversion:
    strategy: Webhook
    webhook:
      conversionReviewVersions: [v1, v1beta1]
      clientConfig: {{url: '{}', caBundle: '{}'}}
  versions:
{}{}",
        text("url"),
        text("caBundle"),
        version("v1", "hostPort: {type: string, pattern: '^[a-z]*:[0-9]*$'}", ""),
        version(
            "v2",
            "host: {type: string, maxLength: 9}, port: {type: string}",
            "    selectableFields: [{jsonPath: .spec.port}]
    additionalPrinterColumns: [{name: Port, type: string, jsonPath: .spec.port}]
"
        )
    )
}

fn hosts(version: &str) -> String {
    format!("/apis/conv.example.com/{version}/namespaces/default/hosts")
}

/// Splits what the first version has in one field, and joins what the second has in two.
fn convert(object: &Value, to: &str) -> Value {
    let mut object = object.clone();
    object.set(&["apiVersion"], to);
    let text = |object: &Value, field: &str| object.str_at(&["spec", field]).unwrap_or_default().to_owned();
    if to.ends_with("/v2") {
        if let Some(both) = object.remove_at(&["spec", "hostPort"]) {
            let (host, port) = both.as_str().and_then(|both| both.split_once(':')).unwrap_or_default();
            object.set(&["spec", "host"], host);
            object.set(&["spec", "port"], port);
        }
        object.set(&["metadata", "annotations"], object!({"converted": "yes"}));
    } else {
        let both = format!("{}:{}", text(&object, "host"), text(&object, "port"));
        object.remove_at(&["spec", "host"]);
        object.remove_at(&["spec", "port"]);
        object.set(&["spec", "hostPort"], both);
        object.remove_at(&["metadata", "annotations"]);
    }
    object.set(&["metadata", "finalizers"], vec!["not.theirs/to-add"]);
    object.set(&["spec", "unknown"], true);
    object
}

/// A webhook that converts, and then does to its answer what a test wants.
async fn converting(change: impl Fn(&mut Value) + Send + Sync + 'static) -> Hook {
    Hook::start(&["localhost"], move |_, review| {
        let to = review.str_at(&["request", "desiredAPIVersion"]).unwrap_or_default();
        let objects = review.array_at(&["request", "objects"]).iter();
        let objects: Vec<Value> = objects.map(|object| convert(object, to)).collect();
        let mut response = object!({
            "uid": (review.str_at(&["request", "uid"]).unwrap_or_default()),
            "result": {"status": "Success"}, "convertedObjects": (objects)
        });
        change(&mut response);
        let api_version = review.str_at(&["apiVersion"]).unwrap_or_default();
        answer(&object!({"apiVersion": api_version, "kind": "ConversionReview", "response": (response)}))
    })
    .await
}

async fn define(admin: &Client, stored: &str, hook: &Hook) -> Checked {
    let answer = admin.send(Call::new(Method::POST, DEFINITIONS).body(YAML, definition(stored, hook))).await;
    ensure!(answer.warnings().is_empty(), "{:?}", answer.warnings());
    answer.expect(201).map(drop)
}

fn first(name: &str, both: &str) -> Value {
    object!({"metadata": {"name": name}, "spec": {"hostPort": both, "replicas": 1}})
}

/// Host and port, of either version.
fn shape(object: &Value) -> [Option<&str>; 3] {
    ["hostPort", "host", "port"].map(|field| object.str_at(&["spec", field]))
}

const FIRST: [Option<&str>; 3] = [Some("a:80"), None, None];
const SECOND: [Option<&str>; 3] = [None, Some("a"), Some("80")];

#[tokio::test]
async fn every_verb_speaks_every_version() -> Checked {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let hook = converting(|_| {}).await;
    define(&admin, "v1", &hook).await?;
    let made = admin.send(Call::post(hosts("v1"), &first("a", "a:80"))).await.expect(201)?;
    assert_eq!((shape(&made), hook.seen().len()), (FIRST, 0), "what is stored so is shown to nobody");
    let one = format!("{}/a", hosts("v2"));
    let got = admin.get(&one).await.expect(200)?;
    assert_eq!((shape(&got), got.str_at(&["apiVersion"])), (SECOND, Some("conv.example.com/v2")));
    assert_eq!(got.at(&["spec", "unknown"]), None, "what the schema does not know goes");
    assert_eq!(got.at(&["metadata", "finalizers"]), None, "only labels and annotations are the webhook's");
    assert_eq!(got.str_at(&["metadata", "annotations", "converted"]), Some("yes"));
    let (path, told) = hook.seen().remove(0);
    assert_eq!(path, "/review?timeout=30s");
    assert_eq!(told.str_at(&["apiVersion"]), Some("apiextensions.k8s.io/v1"));
    assert_eq!(told.str_at(&["request", "desiredAPIVersion"]), Some("conv.example.com/v2"));
    admin.get(&one).await.expect(200)?;
    let listed = admin.get(&hosts("v2")).await.expect(200)?;
    assert_eq!(shape(&listed.array_at(&["items"])[0]), SECOND);
    assert_eq!(hook.seen().len(), 1, "what is known is not asked again");

    let table = Call::get(hosts("v2")).accept("application/json;as=Table;g=meta.k8s.io;v=v1");
    let table = admin.send(table).await.expect(200)?;
    assert_eq!(table.array_at(&["rows"])[0].array_at(&["cells"])[1].as_str(), Some("80"));
    let metadata = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let metadata = admin.send(Call::get(hosts("v2")).header(ACCEPT, metadata)).await.expect(200)?;
    let annotated = metadata.array_at(&["items"])[0].str_at(&["metadata", "annotations", "converted"]);
    assert_eq!(annotated, Some("yes"));

    let mut watch = admin.watch(&format!("{}?watch=true", hosts("v2"))).await?;
    let event = watch.next().await?.ok_or("an event")?;
    assert_eq!((event.str_at(&["type"]), event.get("object").map(shape)), (Some("ADDED"), Some(SECOND)));
    let patch = object!({"spec": {"port": "81"}});
    let patched = admin.send(Call::patch(&*one, MERGE_PATCH, &patch)).await.expect(200)?;
    assert_eq!(shape(&patched), [None, Some("a"), Some("81")]);
    let stored = admin.get(&format!("{}/a", hosts("v1"))).await.expect(200)?;
    assert_eq!((shape(&stored)[0], stored.i64_at(&["metadata", "generation"])), (Some("a:81"), Some(2)));
    let event = watch.next().await?.ok_or("an event")?;
    assert_eq!(event.str_at(&["object", "spec", "port"]), Some("81"));

    let status = object!({"status": {"replicas": 5}});
    admin.send(Call::patch(format!("{one}/status"), MERGE_PATCH, &status)).await.expect(200)?;
    let scale = admin.get(&format!("{one}/scale")).await.expect(200)?;
    assert_eq!(
        (scale.i64_at(&["spec", "replicas"]), scale.i64_at(&["status", "replicas"])),
        (Some(1), Some(5))
    );
    let scale = object!({"spec": {"replicas": 3}});
    admin.send(Call::patch(format!("{one}/scale"), MERGE_PATCH, &scale)).await.expect(200)?;
    let stored = admin.get(&format!("{}/a", hosts("v1"))).await.expect(200)?;
    assert_eq!((shape(&stored)[0], stored.i64_at(&["spec", "replicas"])), (Some("a:81"), Some(3)));
    let bad = object!({"spec": {"host": "0123456789"}});
    let refused = admin.send(Call::patch(&*one, MERGE_PATCH, &bad)).await.refused(422, "Invalid")?;
    ensure!(refused.contains("spec.host: Too long"), "the request's version is what is validated: {refused}");
    admin.send(Call::delete(&*one)).await.expect(200).map(drop)
}

#[tokio::test]
async fn a_mixed_list_is_one_call() -> Checked {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let hook = converting(|_| {}).await;
    define(&admin, "v1", &hook).await?;
    for name in ["a", "b"] {
        admin.send(Call::post(hosts("v1"), &first(name, "a:80"))).await.expect(201)?;
    }
    let versions = object!([
        {"op": "replace", "path": "/spec/versions/0/storage", "value": false},
        {"op": "replace", "path": "/spec/versions/1/storage", "value": true}
    ]);
    admin.send(Call::patch(DEFINITION, crate::client::JSON_PATCH, &versions)).await.expect(200)?;
    admin.send(Call::post(hosts("v1"), &first("c", "a:80"))).await.expect(201)?;
    for (version, want, converted) in [("v1", FIRST, 1), ("v2", SECOND, 2)] {
        let before = hook.seen().len();
        let list = admin.get(&hosts(version)).await.expect(200)?;
        let items = list.array_at(&["items"]);
        assert_eq!(items.iter().map(shape).collect::<Vec<_>>(), [want; 3], "{version}");
        // The new object's answer was converted when it was made.
        let calls: Vec<usize> = hook.seen()[before..]
            .iter()
            .map(|(_, told)| told.array_at(&["request", "objects"]).len())
            .collect();
        assert_eq!(calls, if version == "v1" { vec![] } else { vec![converted] }, "{version}");
    }
    let chosen =
        admin.get(&format!("{}?fieldSelector=spec.port%3D80&limit=2", hosts("v2"))).await.expect(200)?;
    assert_eq!(chosen.array_at(&["items"]).len(), 2);
    ensure!(chosen.str_at(&["metadata", "continue"]).is_some(), "there is one more");
    let none = admin.get(&format!("{}?fieldSelector=spec.port%3D81", hosts("v2"))).await.expect(200)?;
    assert_eq!(none.array_at(&["items"]).len(), 0);
    let refused = admin.get(&format!("{}?fieldSelector=spec.port%3D80", hosts("v1"))).await;
    refused.refused(400, "BadRequest").map(drop)
}

#[tokio::test]
async fn fields_are_owned_in_every_version() -> Checked {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let hook = converting(|_| {}).await;
    define(&admin, "v1", &hook).await?;
    let apply = |version: &str, manager: &str, spec: Value| {
        let object = object!({
            "apiVersion": (format!("conv.example.com/{version}")), "kind": "Host", "spec": (spec)
        });
        Call::patch(format!("{}/a?fieldManager={manager}", hosts(version)), APPLY_PATCH, &object)
    };
    admin.send(apply("v1", "first", object!({"hostPort": "a:80"}))).await.expect(201)?;
    let conflict =
        admin.send(apply("v2", "second", object!({"port": "81"}))).await.refused(409, "Conflict")?;
    ensure!(conflict.contains(r#"conflict with "first": .spec.hostPort"#), "{conflict}");
    let same = admin.send(apply("v2", "second", object!({"port": "80"}))).await.expect(200)?;
    assert_eq!(same.array_at(&["metadata", "managedFields"]).len(), 2);
    let owners = same.array_at(&["metadata", "managedFields"]).iter();
    let versions: Vec<_> = owners.map(|owner| owner.str_at(&["apiVersion"])).collect();
    assert_eq!(versions, [Some("conv.example.com/v2"), Some("conv.example.com/v1")]);
    // An update in one version takes the field of the other.
    let patch = object!({"spec": {"port": "82"}});
    let one = format!("{}/a?fieldManager=third", hosts("v2"));
    let updated = admin.send(Call::patch(one, MERGE_PATCH, &patch)).await.expect(200)?;
    let owners = updated.array_at(&["metadata", "managedFields"]).iter();
    let managers: Vec<_> = owners.map(|owner| owner.str_at(&["manager"])).collect();
    assert_eq!(managers, [Some("third")], "{updated:?}");
    Ok(())
}

#[tokio::test]
async fn what_fails_is_said_and_ends_only_who_asked() -> Checked {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let hook = converting(|response| {
        let objects = response.get_mut("convertedObjects").and_then(Value::as_array_mut);
        for object in objects.into_iter().flatten() {
            match xebec_api::meta::name(object) {
                "renamed" => object.set(&["metadata", "name"], "other"),
                "refused" => {
                    response.set(&["result"], object!({"status": "Failure", "message": "cannot do it"}));
                    return;
                }
                _ => {}
            }
        }
    })
    .await;
    define(&admin, "v1", &hook).await?;
    let mut plain = admin.watch(&format!("{}?watch=true", hosts("v1"))).await?;
    let mut other = admin.watch(&format!("{}?watch=true", hosts("v2"))).await?;
    for name in ["renamed", "refused"] {
        admin.send(Call::post(hosts("v1"), &first(name, "a:80"))).await.expect(201)?;
        let event = plain.next().await?.ok_or("an event")?;
        assert_eq!(event.get("object").map(shape), Some(FIRST), "who needs no conversion goes on");
    }
    let text = "conversion webhook for conv.example.com/v1, Kind=Host";
    let event = other.next().await?.ok_or("an event")?;
    assert_eq!((event.str_at(&["type"]), event.i64_at(&["object", "code"])), (Some("ERROR"), Some(500)));
    let message = event.str_at(&["object", "message"]).unwrap_or_default();
    assert_eq!(message, format!("{text} returned invalid object: must have the same name: renamed != other"));
    assert_eq!(other.next().await?, None, "who cannot be told the truth is told nothing");
    let refused = admin.get(&format!("{}/refused", hosts("v2"))).await.refused(500, "")?;
    assert_eq!(refused, format!("{text} failed: cannot do it"));
    admin.get(&hosts("v2")).await.refused(500, "")?;
    admin.send(Call::delete(format!("{}/refused", hosts("v1")))).await.expect(200)?;
    let url =
        object!({"spec": {"conversion": {"webhook": {"clientConfig": {"url": "https://localhost:1/x"}}}}});
    admin.send(Call::patch(DEFINITION, MERGE_PATCH, &url)).await.expect(200)?;
    let gone = admin.get(&format!("{}/renamed", hosts("v2"))).await.refused(500, "")?;
    ensure!(
        gone.starts_with(&format!("{text} failed: Post \"https://localhost:1/x?timeout=30s\": ")),
        "{gone}"
    );
    Ok(())
}

#[tokio::test]
async fn admission_webhooks_see_the_version_that_they_want() -> Checked {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let hook = converting(|_| {}).await;
    define(&admin, "v1", &hook).await?;
    let patch = r#"[{"op": "replace", "path": "/spec/port", "value": "90"}]"#;
    let patch = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, patch);
    let admitting = Hook::reviewing(
        move |_| object!({"allowed": true, "patchType": "JSONPatch", "patch": (patch.as_str())}),
    )
    .await;
    let configuration = object!({"metadata": {"name": "test"}, "webhooks": [{
        "name": "a.example.com", "clientConfig": (admitting.client_config()), "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "rules": [{"operations": ["CREATE"], "apiGroups": ["conv.example.com"], "apiVersions": ["v2"], "resources": ["hosts"]}]
    }]});
    let configurations = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
    admin.send(Call::post(configurations, &configuration)).await.expect(201)?;
    let made = admin.send(Call::post(hosts("v1"), &first("a", "a:80"))).await.expect(201)?;
    assert_eq!(shape(&made)[0], Some("a:90"));
    assert_eq!(admitting.requests()[0].get("object").map(shape), Some(SECOND));
    Ok(())
}
