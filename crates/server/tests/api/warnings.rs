//! What is stored but not enforced is said in the answer.

use http::Method;
use xebec_api::{meta, object};

use crate::client::{Call, MERGE_PATCH, YAML};
use crate::cluster::Cluster;
use crate::samples::{STORED, Sample};

/// Of these kinds every object promises something that is not kept.
const PROMISES: &[&str] = &["networkpolicies"];

fn collection(sample: &Sample, namespaced: bool) -> String {
    let root = if sample.api_version.contains('/') { "apis" } else { "api" };
    let namespace = if namespaced { "namespaces/default/" } else { "" };
    format!("/{root}/{}/{namespace}{}", sample.api_version, sample.resource)
}

fn told(warnings: &[String]) -> Vec<&String> {
    warnings.iter().filter(|warning| warning.contains("stored, but not enforced by Xebec yet: ")).collect()
}

#[tokio::test]
async fn who_writes_what_is_not_enforced_is_told() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let rows = xebec_api::builtin::resources();
    let mut seen = Vec::new();
    for sample in STORED {
        let row = rows.iter().find(|row| {
            row.names.plural == sample.resource && sample.api_version == row.api_version(&row.storage().name)
        });
        let Some(row) = row else { continue };
        let object = sample.object.replace("$ID", "told").replace("$NS", "default").replace("$N", "7");
        let collection = collection(sample, row.is_namespaced());
        let dry = Call::new(Method::POST, format!("{collection}?dryRun=All")).body(YAML, object.clone());
        let answer = admin.send(dry).await;
        let (warnings, promises) = (answer.warnings(), PROMISES.contains(&sample.resource));
        assert_eq!(told(&warnings).len(), usize::from(promises), "{}: {warnings:?}", sample.resource);
        seen.extend(promises.then_some(sample.resource));
    }
    assert_eq!(seen.len(), PROMISES.len(), "{seen:?}");
}

#[tokio::test]
async fn who_changes_it_is_told_again() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let policies = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies";
    let policy =
        object!({"metadata": {"name": "q"}, "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}});
    admin.send(Call::post(policies, &policy)).await.expect(201).expect("made");
    let patch = object!({"spec": {"policyTypes": ["Egress"]}});
    let answer = admin.send(Call::patch(format!("{policies}/q"), MERGE_PATCH, &patch)).await;
    assert_eq!(meta::name(&answer.expect(200).expect("changed")), "q");
    assert_eq!(told(&answer.warnings()).len(), 1, "{:?}", answer.warnings());
}
