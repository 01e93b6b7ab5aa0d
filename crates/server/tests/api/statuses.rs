//! What else changes when a status is written, as upstream's kinds have it.

use http::Method;
use xebec_api::{Value, meta, object};

use crate::client::{Call, Client, MERGE_PATCH, YAML};
use crate::cluster::Cluster;
use crate::samples::DEFINITION;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const FIELDS: [&str; 4] = ["annotations", "finalizers", "labels", "ownerReferences"];

/// Makes an object and writes its status together with metadata; which metadata is then changed.
async fn changed(client: &Client, collection: &str, object: &Value) -> Vec<&'static str> {
    let made = client.send(Call::post(collection, object)).await;
    made.expect(201).unwrap_or_else(|why| panic!("{collection}: {why}"));
    let patch = object!({
        "metadata": {
            "annotations": {"a": "b"}, "labels": {"a": "b"}, "finalizers": ["example.com/held"],
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}]
        },
        "status": {"conditions": []}
    });
    let path = format!("{collection}/{}/status", meta::name(object));
    let written = client.send(Call::patch(path, MERGE_PATCH, &patch)).await;
    let written = written.expect(200).unwrap_or_else(|why| panic!("{collection}: {why}"));
    let new = |field: &str| written.at(&["metadata", field]) == patch.at(&["metadata", field]);
    FIELDS.into_iter().filter(|field| new(field)).collect()
}

#[tokio::test]
async fn a_status_is_written_with_what_its_kind_allows() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    admin
        .send(Call::new(Method::POST, DEFINITIONS).body(YAML, DEFINITION))
        .await
        .expect(201)
        .expect("defined");
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    admin
        .send(Call::post(accounts, &object!({"metadata": {"name": "default"}})))
        .await
        .expect(201)
        .expect("made");
    let pod = object!({"containers": [{"name": "a", "image": "a"}]});
    let deployment = object!({
        "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": (pod.clone())}
    });
    let schema = object!({"type": "object"});
    let definition = object!({
        "group": "other.example.com", "scope": "Namespaced", "names": {"plural": "others", "kind": "Other"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": (schema)}}]
    });
    let attachment = object!({"attacher": "a", "nodeName": "n", "source": {"persistentVolumeName": "p"}});
    for (collection, name, spec, want) in [
        ("/api/v1/nodes", "a", object!({}), FIELDS.as_slice()),
        ("/api/v1/namespaces/default/pods", "a", pod, &["annotations", "finalizers", "labels"]),
        (
            "/apis/apps/v1/namespaces/default/deployments",
            "a",
            deployment,
            &["annotations", "finalizers", "ownerReferences"],
        ),
        ("/apis/storage.k8s.io/v1/volumeattachments", "a", attachment, &[]),
        // Its finalizer is removed through the status.
        (DEFINITIONS, "others.other.example.com", definition, &FIELDS),
        ("/apis/parity.example.com/v1/namespaces/default/widgets", "a", object!({}), &[]),
    ] {
        let mut object = object!({"metadata": {"name": name}, "spec": (spec)});
        if collection.contains("parity") {
            object.set(&["apiVersion"], "parity.example.com/v1");
            object.set(&["kind"], "Widget");
        }
        assert_eq!(changed(&admin, collection, &object).await, want, "{collection}");
    }
}

#[tokio::test]
async fn who_writes_a_status_owns_nothing_else() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    admin
        .send(Call::new(Method::POST, DEFINITIONS).body(YAML, DEFINITION))
        .await
        .expect(201)
        .expect("defined");
    let widgets = "/apis/parity.example.com/v1/namespaces/default/widgets";
    let widget = object!({"apiVersion": "parity.example.com/v1", "kind": "Widget", "metadata": {"name": "a"}, "spec": {"size": "s"}});
    admin.send(Call::post(widgets, &widget)).await.expect(201).expect("made");
    let patch = object!({"metadata": {"labels": {"a": "b"}}, "status": {"done": true}});
    let written =
        admin.send(Call::patch(format!("{widgets}/a/status?fieldManager=m"), MERGE_PATCH, &patch)).await;
    let written = written.expect(200).expect("written");
    let owns = |entry: &&Value| entry.str_at(&["subresource"]) == Some("status");
    let entry = written.array_at(&["metadata", "managedFields"]).iter().find(owns);
    let entry = entry.unwrap_or_else(|| panic!("no owner: {written:?}"));
    assert_eq!(entry.get("fieldsV1"), Some(&object!({"f:status": {".": {}, "f:done": {}}})));
    assert_eq!(written.bool_at(&["status", "done"]), Some(true));
}
