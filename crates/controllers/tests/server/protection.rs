//! Claims, volumes and classes of their attributes go when nobody uses them any more.

use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, ServiceAccount};
use k8s_openapi::api::storage::v1::VolumeAttributesClass;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::{Server, eventually, object};

#[tokio::test]
async fn what_is_used_stays_until_it_no_longer_is() {
    let server = Server::start().await;
    let running = server.controllers(Duration::ZERO);
    let client = &server.client.clone();
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
    eventually("the account of pods", async || accounts.get_opt("default").await.unwrap()).await;
    let (post, now) = (PostParams::default(), DeleteParams::default().grace_period(0));
    let classes: Api<VolumeAttributesClass> = Api::all(client.clone());
    let class =
        json!({"metadata": {"name": "fast"}, "driverName": "example.com", "parameters": {"iops": "1"}});
    classes.create(&post, &object(class)).await.unwrap();
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let volume = json!({"metadata": {"name": "v"}, "spec": {
        "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "",
        "csi": {"driver": "example.com", "volumeHandle": "1"}
    }});
    volumes.create(&post, &object(volume)).await.unwrap();
    let bound = json!({"status": {"phase": "Bound"}});
    volumes.patch_status("v", &PatchParams::default(), &Patch::Merge(&bound)).await.unwrap();
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), "default");
    let claim = json!({"metadata": {"name": "c"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "",
        "volumeName": "v", "volumeAttributesClassName": "fast"
    }});
    claims.create(&post, &object(claim)).await.unwrap();
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let pod = json!({"metadata": {"name": "p"}, "spec": {
        "nodeName": "n", "containers": [{"name": "a", "image": "a"}],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]
    }});
    pods.create(&post, &object(pod)).await.unwrap();

    let delete = DeleteParams::default();
    claims.delete("c", &delete).await.unwrap();
    volumes.delete("v", &delete).await.unwrap();
    classes.delete("fast", &delete).await.unwrap();
    // What comes later has been looked at: an unused claim goes.
    let spare = json!({"metadata": {"name": "spare"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": ""
    }});
    claims.create(&post, &object(spare)).await.unwrap();
    claims.delete("spare", &delete).await.unwrap();
    let gone = async |name: &str| claims.get_opt(name).await.unwrap().is_none().then_some(());
    eventually("the end of an unused claim", async || gone("spare").await).await;
    let held = claims.get("c").await.expect("its pod uses it");
    assert_eq!(held.metadata.finalizers, Some(vec!["kubernetes.io/pvc-protection".to_owned()]));
    volumes.get("v").await.expect("it is bound");
    classes.get("fast").await.expect("a claim names it");

    pods.delete("p", &now).await.unwrap();
    eventually("the end of the claim", async || gone("c").await).await;
    eventually("the end of the class", async || {
        classes.get_opt("fast").await.unwrap().is_none().then_some(())
    })
    .await;
    let released = json!({"status": {"phase": "Released"}});
    volumes.patch_status("v", &PatchParams::default(), &Patch::Merge(&released)).await.unwrap();
    eventually("the end of the volume", async || volumes.get_opt("v").await.unwrap().is_none().then_some(()))
        .await;
    server.end(running).await;
}
