//! The operator of `database` on a cluster: what its author would test.

use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;
use tokio::task::JoinHandle;
use xebec_testkit::Cluster;

use crate::database::{self, Database, Operator, Registry};
use crate::{PATIENCE, Tested};

/// A cluster with the operator in it, which may do what it needs and no more.
struct Bench {
    cluster: Cluster,
    registry: Registry,
    failures: Arc<Mutex<Vec<String>>>,
    running: JoinHandle<()>,
}

const ROLE: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: database-operator}
rules:
- {apiGroups: [example.com], resources: [databases, databases/status, databases/finalizers], verbs: ['*']}
- {apiGroups: [''], resources: [configmaps], verbs: [create, get, list, patch, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: database-operator}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: database-operator}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: database-operator}]
";

impl Bench {
    async fn start() -> Result<Self, Box<dyn std::error::Error>> {
        let cluster = Cluster::builder().crd::<Database>().manifests(ROLE).start().await?;
        let (registry, failures) = (Registry::default(), Arc::<Mutex<Vec<String>>>::default());
        let operator = Operator {
            client: cluster.user("database-operator", &[]),
            registry: registry.clone(),
            failures: failures.clone(),
        };
        let running = tokio::spawn(database::run(operator));
        Ok(Self { cluster, registry, failures, running })
    }

    fn databases(&self) -> Api<Database> {
        Api::default_namespaced(self.cluster.client())
    }

    fn settings(&self) -> Api<ConfigMap> {
        Api::default_namespaced(self.cluster.client())
    }

    async fn make(&self, name: &str, size: u32) -> Tested {
        let database = json!({
            "apiVersion": "example.com/v1", "kind": "Database", "metadata": {"name": name}, "spec": {"size": size}
        });
        self.cluster.apply(&database.to_string()).await?;
        self.cluster.wait_for(&self.databases(), name, is_ready, PATIENCE).await?;
        Ok(())
    }

    fn registered(&self) -> Vec<String> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    async fn end(self) -> Tested {
        self.running.abort();
        self.cluster.stop().await?;
        Ok(())
    }
}

fn is_ready(database: Option<&Database>) -> bool {
    database.and_then(|database| database.status.as_ref()).is_some_and(|status| status.ready)
}

fn has_size(size: &'static str) -> impl Fn(Option<&ConfigMap>) -> bool {
    move |map| map.and_then(|map| map.data.as_ref()?.get("size")).is_some_and(|found| found == size)
}

fn is_gone<K>(object: Option<&K>) -> bool {
    object.is_none()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_database_owns_goes_with_it() -> Tested {
    let bench = Bench::start().await?;
    bench.make("orders", 3).await?;
    assert_eq!(bench.registered(), ["orders"]);
    bench.cluster.wait_for(&bench.settings(), "orders", has_size("3"), PATIENCE).await?;

    bench.databases().delete("orders", &DeleteParams::default()).await?;
    bench.cluster.wait_for(&bench.databases(), "orders", is_gone, PATIENCE).await?;
    assert!(bench.registered().is_empty(), "the finalizer ran before the object was gone");
    bench.cluster.wait_for(&bench.settings(), "orders", is_gone, PATIENCE).await?;
    bench.end().await
}

#[tokio::test]
async fn settings_that_are_changed_by_hand_are_put_back() -> Tested {
    let bench = Bench::start().await?;
    bench.make("orders", 3).await?;
    let wrong = Patch::Merge(json!({"data": {"size": "9"}}));
    let settings = bench.settings();
    let changed = settings.patch("orders", &PatchParams::default(), &wrong).await?;
    let put_back = |map: Option<&ConfigMap>| {
        has_size("3")(map) && map.is_some_and(|map| map.resource_version() != changed.resource_version())
    };
    bench.cluster.wait_for(&settings, "orders", put_back, PATIENCE).await?;
    bench.end().await
}

#[tokio::test]
async fn faults_delay_it_and_no_more() -> Tested {
    let bench = Bench::start().await?;
    let faults = bench.cluster.faults();
    faults.fail_next(2, "patch", "configmaps", 503);
    faults.fail_next(1, "patch", "databases/status", 409);
    bench.make("orders", 3).await?;
    assert!(bench.failures.lock().unwrap_or_else(PoisonError::into_inner).len() >= 3);
    // It goes on where its watches were.
    faults.drop_watches();
    bench.make("users", 4).await?;
    bench.cluster.wait_for(&bench.settings(), "users", has_size("4"), PATIENCE).await?;
    bench.end().await
}

#[tokio::test]
async fn the_schema_holds() -> Tested {
    let bench = Bench::start().await?;
    let refused = bench.make("none", 0).await.expect_err("too small");
    let source = refused.source().map(ToString::to_string).unwrap_or_default();
    assert!(source.contains("spec.size"), "{refused}: {source}");
    bench.end().await
}
