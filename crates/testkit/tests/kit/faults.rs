//! Faults as a client sees them.

use std::time::Duration;

use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams, PostParams, WatchParams};
use kube::{Api, Error};
use serde_json::json;
use xebec_testkit::Cluster;

use crate::{PATIENCE, Tested};

fn code<T>(answer: Result<T, Error>) -> u16 {
    match answer {
        Ok(_) => 200,
        Err(Error::Api(status)) => status.code,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn requests_are_refused_as_often_as_was_said() -> Tested {
    let cluster = Cluster::start().await?;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "a"}}))?;
    cluster.faults().fail_next(1, "create", "configmaps", 500);
    let refused = maps.create(&PostParams::default(), &map).await.expect_err("as was said");
    assert!(refused.to_string().contains("as the test wants"), "{refused}");
    assert_eq!(code(maps.get("a").await), 404, "the server has not seen it");
    maps.create(&PostParams::default(), &map).await?;
    cluster.faults().conflict_next(2);
    let change = Patch::Merge(json!({"data": {"a": "b"}}));
    let mut codes = Vec::new();
    for _ in 0..3 {
        codes.push(code(maps.patch("a", &PatchParams::default(), &change).await));
    }
    assert_eq!(codes, [409, 409, 200]);
    cluster.stop().await?;
    Ok(())
}

#[tokio::test]
async fn watches_end_and_go_on() -> Tested {
    let cluster = Cluster::start().await?;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    let watch = maps.watch(&WatchParams::default().fields("metadata.name=a"), "0").await?;
    cluster.faults().drop_watches();
    let left = tokio::time::timeout(PATIENCE, watch.try_collect::<Vec<_>>()).await??;
    assert!(left.is_empty(), "there is no such object");
    cluster.faults().delay(Duration::from_millis(1));
    cluster.faults().fail("watch", "configmaps", 410);
    assert_eq!(code(maps.watch(&WatchParams::default(), "0").await.map(drop)), 410);
    cluster.faults().clear();
    maps.watch(&WatchParams::default(), "0").await.map(drop)?;
    cluster.stop().await?;
    Ok(())
}
