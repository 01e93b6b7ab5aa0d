//! Custom resources whose definition declares how its versions are converted.

use http::Method;
use xebec_api::conversion::{ANNOTATION, DATA};
use xebec_api::{Value, json, meta, object, yaml};

use crate::client::{Call, Client, MERGE_PATCH, YAML};
use crate::cluster::Cluster;
use crate::{Checked, ensure};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const EXAMPLE: &str = include_str!("../../../../examples/conversion/workers.yaml");

fn workers(version: &str) -> String {
    format!("/apis/example.com/{version}/namespaces/default/workers")
}

async fn define(admin: &Client) -> Checked {
    let defined = admin.send(Call::new(Method::POST, DEFINITIONS).body(YAML, EXAMPLE)).await;
    defined.expect(201).map(drop)
}

fn old() -> Value {
    object!({
        "metadata": {"name": "old"},
        "spec": {"size": 3, "enabled": true, "image": "a", "timeout": "90s", "address": "db:5432"}
    })
}

#[tokio::test]
async fn every_client_sees_its_own_version() -> Checked {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    define(&admin).await?;
    let mut watch = admin.watch(&format!("{}?watch=true", workers("v1alpha1"))).await?;
    let made = admin.send(Call::post(workers("v1alpha1"), &old())).await.expect(201)?;
    assert_eq!(made.at(&["spec"]), old().at(&["spec"]));
    let one = format!("{}/old", workers("v1"));
    let got = admin.get(&one).await.expect(200)?;
    let want = object!({
        "capacity": {"size": 3}, "mode": "Enabled", "images": ["a"], "timeoutSeconds": 90,
        "endpoint": {"host": "db", "port": 5432}, "replicas": 1
    });
    assert_eq!(got.at(&["spec"]), Some(&want));
    let event = watch.next().await?.ok_or("an event")?;
    assert_eq!(event.at(&["object", "spec"]), old().at(&["spec"]));

    // What the older version cannot hold goes with the object through a change there.
    let more = object!({"spec": {"images": ["a", "b"], "labels": {"x": "y"}}});
    admin.send(Call::patch(&*one, MERGE_PATCH, &more)).await.expect(200)?;
    let event = watch.next().await?.ok_or("an event")?;
    let seen = event.get("object").ok_or("an object")?;
    assert_eq!(seen.str_at(&["spec", "image"]), Some("a"));
    let kept = meta::annotation(seen, DATA).ok_or("something is kept")?;
    let kept = json::from_slice(kept.as_bytes()).map_err(|error| error.to_string())?;
    assert_eq!(kept, object!({"v1": {"spec.images": ["a", "b"], "spec.labels": {"x": "y"}}}));
    let mut changed = seen.clone();
    changed.set(&["spec", "size"], 4);
    changed.set(&["spec", "image"], "c");
    let put = admin.send(Call::put(format!("{}/old", workers("v1alpha1")), &changed)).await;
    put.expect(200)?;
    let got = admin.get(&one).await.expect(200)?;
    assert_eq!(got.i64_at(&["spec", "capacity", "size"]), Some(4));
    assert_eq!(got.at(&["spec", "images"]), Some(&object!(["c"])), "the older version's word counts");
    assert_eq!(got.at(&["spec", "labels"]), Some(&object!({"x": "y"})));
    assert_eq!(meta::annotation(&got, DATA), None);
    let list = admin.get(&workers("v1alpha1")).await.expect(200)?;
    assert_eq!(list.array_at(&["items"])[0].str_at(&["spec", "image"]), Some("c"));
    Ok(())
}

#[tokio::test]
async fn what_would_be_lost_is_refused() -> Checked {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let mut definition = yaml::parse(EXAMPLE).map_err(|error| error.to_string())?.value;
    let text = meta::annotation(&definition, ANNOTATION).ok_or("a declaration")?.to_owned();
    let declares =
        |definition: &mut Value, text: &str| definition.set(&["metadata", "annotations", ANNOTATION], text);
    declares(&mut definition, &text.replace(", spec.labels]", "]"));
    let refused = admin.send(Call::post(DEFINITIONS, &definition)).await.refused(422, "Invalid")?;
    ensure!(
        refused.contains("metadata.annotations[xebec.dev/conversion]: Invalid value: spec.labels of v1 is lost on the way to \
                          v1alpha1 and back: {") && refused.contains("acknowledgeLossy: [spec.labels] accepts that"),
        "{refused}"
    );
    declares(&mut definition, &text.replace("self.spec.timeoutSeconds", "self.spec.timeoutHours"));
    let refused = admin.send(Call::post(DEFINITIONS, &definition)).await.refused(422, "Invalid")?;
    ensure!(refused.contains("undefined field 'timeoutHours'"), "{refused}");

    // Another declaration is in force at once, and ends what was opened under the former one.
    define(&admin).await?;
    admin.send(Call::post(workers("v1alpha1"), &old())).await.expect(201)?;
    let mut watch = admin.watch(&format!("{}?watch=true", workers("v1alpha1"))).await?;
    watch.next().await?.ok_or("what is there")?;
    let other = text.replace("[[true, Enabled], [false, Disabled]]", "[[false, Enabled], [true, Disabled]]");
    let patch = object!({"metadata": {"annotations": {"xebec.dev/conversion": (other.as_str())}}});
    let patched = Call::patch(format!("{DEFINITIONS}/workers.example.com"), MERGE_PATCH, &patch);
    admin.send(patched).await.expect(200)?;
    assert_eq!(watch.next().await?, None);
    let got = admin.get(&format!("{}/old", workers("v1alpha1"))).await.expect(200)?;
    assert_eq!(got.bool_at(&["spec", "enabled"]), Some(false));
    Ok(())
}
