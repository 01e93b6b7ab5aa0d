//! The controllers on a real API server in this process, for what only shows when both work together.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

#[path = "server/credentials.rs"]
mod credentials;
#[path = "server/protection.rs"]
mod protection;
#[path = "server/quota.rs"]
mod quota;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, DynamicObject, EvictParams, ListParams, Patch, PatchParams, PostParams};
use kube::client::Body;
use kube::discovery::ApiResource;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tower::ServiceExt;
use xebec_controllers::context::Context;
use xebec_controllers::namespace::NamespaceController;
use xebec_controllers::pod::PodRecord;
use xebec_controllers::runtime::clock::Clock;
use xebec_controllers::runtime::discovery::{ApiKind, ResourceId};
use xebec_controllers::runtime::dynamic;
use xebec_controllers::runtime::election::{Election, LEASE_NAMESPACE, Timing};
use xebec_controllers::runtime::events::Recorder;
use xebec_controllers::runtime::informer::Informers;
use xebec_controllers::runtime::object::ObjectKey;
use xebec_controllers::runtime::rng::Rng;
use xebec_controllers::runtime::runner::Controller;
use xebec_controllers::runtime::tasks::TaskLost;
use xebec_controllers::runtime::writer::{Requests, Writes};
use xebec_controllers::{Config, Keys};
use xebec_server::ApiServer;
use xebec_server::auth::User;
use xebec_server::auth::keys::ClusterKeys;
use xebec_server::config::Settings;
use xebec_server::core::{Clock as ServerClock, SystemClock};
use xebec_server::nodes::NoNodes;
use xebec_server::server::Parts;
use xebec_store::Memory;
use xebec_store::limits::Limits;

/// How long a test waits for the controllers.
const PATIENCE: Duration = Duration::from_secs(30);

/// A clock that is ahead of the server's.
#[derive(Debug)]
struct Ahead(Duration);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        Timestamp::try_from(SystemTime::now() + self.0).unwrap()
    }
}

/// The machine's clock and some seconds.
#[derive(Debug, Default)]
struct Shifted(AtomicU64);

impl ServerClock for Shifted {
    fn now(&self) -> xebec_api::time::Timestamp {
        SystemClock.now().after(Duration::from_secs(self.0.load(Ordering::Relaxed)))
    }
}

/// A server on an empty store.
struct Server {
    client: Client,
    server: ApiServer,
}

/// Controllers that run until they are told to stop.
struct Running {
    stop: oneshot::Sender<()>,
    controllers: JoinHandle<Result<(), TaskLost>>,
}

impl Server {
    async fn start() -> Self {
        Self::start_at(Arc::new(SystemClock)).await
    }

    async fn start_at(clock: Arc<dyn ServerClock>) -> Self {
        let keys = ClusterKeys::ephemeral(&ring::rand::SystemRandom::new()).unwrap();
        let store = Memory::new(&Limits::default());
        let parts =
            Parts { store: Arc::new(store), nodes: Arc::new(NoNodes), clock, settings: Settings::default() };
        let server = ApiServer::new(parts, &keys).unwrap();
        server.start().await.unwrap();
        let client = Client::new(server.local(User::component("admin", &["system:masters"])), "default");
        Self { client, server }
    }

    /// Runs the controllers with a clock that is ahead of the server's.
    fn controllers(&self, ahead: Duration) -> Running {
        Self::controllers_of(&self.client, ahead)
    }

    fn controllers_of(client: &Client, ahead: Duration) -> Running {
        Self::controllers_with(client, ahead, Keys::default())
    }

    fn controllers_with(client: &Client, ahead: Duration, keys: Keys) -> Running {
        let (stop, stopped) = oneshot::channel();
        let mut config = Config::new("no certificate".to_owned());
        config.clock = Arc::new(Ahead(ahead));
        config.keys = keys;
        let stopped = async move { drop(stopped.await) };
        let controllers = tokio::spawn(xebec_controllers::run(client.clone(), config, stopped));
        Running { stop, controllers }
    }

    /// A client that may do everything but to delete pods.
    async fn without_deleting_pods(&self) -> Client {
        let rule = |resources: &[&str], verbs: &[&str]| json!({"apiGroups": [""], "resources": resources, "verbs": verbs});
        let role = object::<ClusterRole>(json!({
            "metadata": {"name": "limited"},
            "rules": [
                {"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch", "patch", "update"]},
                {"nonResourceURLs": ["*"], "verbs": ["get"]},
                rule(&["configmaps", "events", "namespaces", "secrets", "serviceaccounts"], &["*"]),
            ]
        }));
        let binding = object::<ClusterRoleBinding>(json!({
            "metadata": {"name": "limited"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "limited"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "limited"}]
        }));
        Api::all(self.client.clone()).create(&PostParams::default(), &role).await.unwrap();
        Api::all(self.client.clone()).create(&PostParams::default(), &binding).await.unwrap();
        Client::new(self.server.local(User::component("limited", &["limited"])), "default")
    }

    /// A client, and how many requests it has sent to `path`.
    fn counting(&self, path: &'static str) -> (Client, Arc<AtomicUsize>) {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let service = self.server.local(User::component("admin", &["system:masters"]));
        let service = service.map_request(move |request: http::Request<Body>| {
            if request.uri().path() == path {
                counted.fetch_add(1, Ordering::Relaxed);
            }
            request
        });
        (Client::new(service, "default"), count)
    }

    async fn end(self, running: Running) {
        drop(running.stop);
        running.controllers.await.unwrap().unwrap();
        self.server.stop().await;
    }
}

fn resource(group: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource {
        group: group.to_owned(),
        version: "v1".to_owned(),
        api_version: format!("{group}/v1"),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

fn object<T: serde::de::DeserializeOwned>(object: Value) -> T {
    serde_json::from_value(object).unwrap()
}

/// Looks until `done` has something to say, for a while.
async fn eventually<T>(what: &str, mut done: impl AsyncFnMut() -> Option<T>) -> T {
    let look = async {
        loop {
            match done().await {
                Some(value) => return value,
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("never: {what}"))
}

#[tokio::test]
async fn a_definition_goes_with_its_instances() {
    let cluster = Server::start().await;
    let running = cluster.controllers(Duration::ZERO);
    let client = cluster.client.clone();
    let definitions: Api<DynamicObject> = Api::all_with(
        client.clone(),
        &resource("apiextensions.k8s.io", "CustomResourceDefinition", "customresourcedefinitions"),
    );
    let definition = object(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                          "schema": {"openAPIV3Schema": {"type": "object"}}}],
        }
    }));
    definitions.create(&PostParams::default(), &definition).await.unwrap();
    let other: Namespace = object(json!({"metadata": {"name": "other"}}));
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &other).await.unwrap();
    let widgets = resource("example.com", "Widget", "widgets");
    let within = |namespace| Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &widgets);
    let widget = |name: &str, finalizers: &[&str]| {
        object(json!({
            "apiVersion": "example.com/v1", "kind": "Widget",
            "metadata": {"name": name, "finalizers": finalizers}
        }))
    };
    within("default").create(&PostParams::default(), &widget("free", &[])).await.unwrap();
    within("other").create(&PostParams::default(), &widget("held", &["example.com/a"])).await.unwrap();

    definitions.delete("widgets.example.com", &DeleteParams::default()).await.unwrap();
    let message = eventually("the condition says what holds the definition back", async || {
        let definition = definitions.get("widgets.example.com").await.unwrap();
        let conditions = definition.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let terminating = conditions.into_iter().find(|condition| condition["type"] == "Terminating")?;
        (terminating["reason"] == "InstanceDeletionInProgress").then(|| terminating["message"].to_string())
    })
    .await;
    assert!(
        message.contains("1 instances are left; of the finalizers on them example.com/a holds 1"),
        "{message}"
    );
    let left = within("other").list(&ListParams::default()).await.unwrap();
    assert_eq!(left.items.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), ["held"]);
    assert_eq!(within("default").list(&ListParams::default()).await.unwrap().items.len(), 0);

    let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    within("other").patch("held", &PatchParams::default(), &none).await.unwrap();
    eventually("the definition is gone", async || {
        definitions.get_opt("widgets.example.com").await.unwrap().is_none().then_some(())
    })
    .await;
    cluster.end(running).await;
}

#[tokio::test]
async fn pods_that_cannot_be_deleted_keep_what_they_live_on() {
    let cluster = Server::start().await;
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    namespaces.create(&PostParams::default(), &object(json!({"metadata": {"name": "busy"}}))).await.unwrap();
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), "busy");
    accounts.create(&PostParams::default(), &object(json!({"metadata": {"name": "default"}}))).await.unwrap();
    let pod: Pod = object(json!({
        "metadata": {"name": "running"}, "spec": {"containers": [{"name": "c", "image": "c"}]}
    }));
    Api::namespaced(cluster.client.clone(), "busy").create(&PostParams::default(), &pod).await.unwrap();
    let settings: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), "busy");
    settings.create(&PostParams::default(), &object(json!({"metadata": {"name": "kept"}}))).await.unwrap();
    let running = Server::controllers_of(&cluster.without_deleting_pods().await, Duration::ZERO);
    namespaces.delete("busy", &DeleteParams::default()).await.unwrap();
    let message = eventually("the condition says what went wrong", async || {
        let conditions = namespaces.get("busy").await.unwrap().status?.conditions?;
        let failure = conditions.into_iter().find(|at| at.type_ == "NamespaceDeletionContentFailure")?;
        (failure.status == "True").then_some(failure.message.unwrap())
    })
    .await;
    assert!(message.contains("pods"), "{message}");
    settings.get("kept").await.unwrap();
    cluster.end(running).await;
}

#[tokio::test]
async fn a_namespace_is_looked_at_when_its_last_pod_is_gone_and_asks_once_what_there_is() {
    let cluster = Server::start().await;
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    namespaces.create(&PostParams::default(), &object(json!({"metadata": {"name": "busy"}}))).await.unwrap();
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), "busy");
    accounts.create(&PostParams::default(), &object(json!({"metadata": {"name": "default"}}))).await.unwrap();
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), "busy");
    for name in ["a", "b", "c"] {
        let pod: Pod = object(json!({
            "metadata": {"name": name, "finalizers": ["example.com/held"]},
            "spec": {"containers": [{"name": "c", "image": "c"}]}
        }));
        pods.create(&PostParams::default(), &pod).await.unwrap();
    }
    let (client, discoveries) = cluster.counting("/apis");
    let (rng, clock) = (Arc::new(Rng::seeded(1)), Arc::new(Ahead(Duration::ZERO)));
    // Nobody writes the events.
    let requests = Requests::new(client.clone(), "events");
    let (recorder, _events) = Recorder::new(requests, clock.clone(), "test".to_owned());
    let informers = Informers::new(client.clone(), Arc::clone(&rng));
    let context = Context { client: client.clone(), informers, clock, rng: Arc::clone(&rng), recorder };
    let controller = NamespaceController::new(&context);
    let (queue, known) = (controller.queue(), context.informers.get::<PodRecord>());
    controller.synced().await;
    namespaces.delete("busy", &DeleteParams::default()).await.unwrap();
    let key = queue.next().await;
    let writes = Writes::new(Requests::new(client, "test"));
    let look = async || {
        controller.reconcile(&key, &writes).await.unwrap();
        queue.done(&key);
    };
    look().await;
    let release = async |name: &str, left: usize| {
        let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        pods.patch(name, &PatchParams::default(), &none).await.unwrap();
        eventually("the pod is gone", async || (known.list().len() == left).then_some(())).await;
    };
    for (name, left) in [("a", 2), ("b", 1)] {
        // What the look has changed of the namespace is one more reason to look.
        while let Ok(woken) = tokio::time::timeout(Duration::from_millis(300), queue.next()).await {
            assert_eq!(woken, key);
            look().await;
        }
        release(name, left).await;
        assert_eq!(queue.len(), 0, "{left} pods are left");
    }
    release("c", 0).await;
    assert_eq!(tokio::time::timeout(PATIENCE, queue.next()).await.unwrap(), key);
    look().await;
    assert_eq!(namespaces.get_opt("busy").await.unwrap(), None);
    assert_eq!(discoveries.load(Ordering::Relaxed), 2, "at first, and before it is let go");
    context.informers.stop().await;
    cluster.server.stop().await;
}

#[tokio::test]
async fn whatever_an_object_is_called_it_is_the_one_that_is_asked_for() {
    let cluster = Server::start().await;
    let roles = Api::<Role>::namespaced(cluster.client.clone(), "default");
    let kind = ApiKind {
        id: ResourceId { group: "rbac.authorization.k8s.io".to_owned(), plural: "roles".to_owned() },
        version: "v1".to_owned(),
        kind: "Role".to_owned(),
        namespaced: true,
        verbs: BTreeSet::new(),
    };
    // What a name that is not escaped would ask for.
    let role = |name: &str| object::<Role>(json!({"metadata": {"name": name}}));
    roles.create(&PostParams::default(), &role("a")).await.unwrap();
    for name in ["a?b", "a#b", "a b", "system:reader", "é"] {
        let created = roles.create(&PostParams::default(), &role(name)).await.unwrap();
        let (client, key) = (&cluster.client, ObjectKey::new("default", name));
        let label = json!({"metadata": {"labels": {"seen": "yes"}}});
        dynamic::merge(client, &kind, &key, &label).await.unwrap();
        let meta = dynamic::get(client, &kind, &key).await.unwrap().expect("it is there");
        assert_eq!(meta.uid, created.metadata.uid, "{name}");
        assert!(meta.labels.is_some_and(|labels| labels.contains_key("seen")), "{name}");
        dynamic::delete(client, &kind, &key, &DeleteParams::background()).await.unwrap();
        assert_eq!(dynamic::get(client, &kind, &key).await.unwrap(), None, "{name}");
    }
    assert_eq!(roles.get("a").await.unwrap().labels().len(), 0);
    cluster.server.stop().await;
}

#[tokio::test]
async fn events_are_forgotten_an_hour_after_their_last_write() {
    let clock = Arc::new(Shifted::default());
    let cluster = Server::start_at(Arc::clone(&clock) as Arc<dyn ServerClock>).await;
    let events = Api::<Event>::namespaced(cluster.client.clone(), "default");
    let event = |name: &str, happened: &str| {
        object::<Event>(json!({
            "metadata": {"name": name}, "eventTime": happened, "action": "Test", "reason": "Tested", "type": "Normal",
            "reportingController": "example.com/a", "reportingInstance": "a",
            "regarding": {"kind": "Namespace", "name": "default", "namespace": "default", "apiVersion": "v1"},
        }))
    };
    // Their writer says that the one is old and the other has not happened yet.
    let (past, future) = ("2000-01-01T00:00:00.000000Z", "2999-01-01T00:00:00.000000Z");
    for event in [event("old", future), event("repeated", past)] {
        events.create(&PostParams::default(), &event).await.unwrap();
    }
    clock.0.store(90 * 60, Ordering::Relaxed);
    let again = Patch::Merge(json!({"series": {"count": 2, "lastObservedTime": past}}));
    events.patch("repeated", &PatchParams::default(), &again).await.unwrap();
    let running = cluster.controllers(Duration::from_mins(120));
    eventually("the old event is forgotten", async || {
        events.get_opt("old").await.unwrap().is_none().then_some(())
    })
    .await;
    events.get("repeated").await.unwrap();
    cluster.end(running).await;
}

#[tokio::test]
async fn roles_gather_the_rules_of_others() {
    let cluster = Server::start().await;
    let running = cluster.controllers(Duration::ZERO);
    let roles = Api::<ClusterRole>::all(cluster.client.clone());
    let rule =
        |resource: &str| json!({"apiGroups": ["example.com"], "resources": [resource], "verbs": ["get"]});
    let role = |name: &str, labels: Value, resource: &str| {
        object::<ClusterRole>(
            json!({"metadata": {"name": name, "labels": labels}, "rules": [rule(resource)]}),
        )
    };
    let holds = async |name: &str, resource: &str| {
        let role = roles.get(name).await.unwrap();
        let mut rules = role.rules.into_iter().flatten();
        rules.any(|rule| rule.resources.into_iter().flatten().any(|held| held == resource))
    };
    let view = json!({"rbac.authorization.k8s.io/aggregate-to-view": "true"});
    let widgets = role("widgets", view, "widgets");
    roles.create(&PostParams::default(), &widgets).await.unwrap();
    // What may be viewed may be edited and administered too: the bootstrap roles gather each other.
    for name in ["view", "edit", "admin"] {
        eventually("a bootstrap role has the new rule", async || holds(name, "widgets").await.then_some(()))
            .await;
    }
    assert!(holds("view", "pods").await, "what it had it keeps");
    let mut own = role("own", json!({}), "lost");
    let selectors = json!({"clusterRoleSelectors": [{"matchLabels": {"to": "own"}}]});
    own.aggregation_rule = Some(object(selectors));
    roles.create(&PostParams::default(), &own).await.unwrap();
    eventually("nothing is gathered", async || (!holds("own", "lost").await).then_some(())).await;
    let labels = Patch::Merge(json!({"metadata": {"labels": {"to": "own"}}}));
    roles.patch("widgets", &PatchParams::default(), &labels).await.unwrap();
    eventually("the label is noticed", async || holds("own", "widgets").await.then_some(())).await;
    roles.delete("widgets", &DeleteParams::default()).await.unwrap();
    eventually("the rule goes with its role", async || (!holds("admin", "widgets").await).then_some(()))
        .await;
    cluster.end(running).await;
}

/// A pod that answers, of an owner if there is one.
async fn ready_pod(pods: &Api<Pod>, name: &str, owner: Option<Value>) {
    let pod = json!({
        "metadata": {"name": name, "labels": {"app": "web"}, "ownerReferences": owner.into_iter().collect::<Vec<_>>()},
        "spec": {"containers": [{"name": "a", "image": "a"}], "nodeName": "n"},
    });
    pods.create(&PostParams::default(), &object(pod)).await.unwrap();
    let status = json!({"status": {
        "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]
    }});
    pods.patch_status(name, &PatchParams::default(), &Patch::Strategic(status)).await.unwrap();
}

fn allowed(budget: &PodDisruptionBudget) -> Option<i32> {
    budget.status.as_ref()?.disruptions_allowed
}

#[tokio::test]
async fn a_budget_lets_go_of_what_is_not_needed() {
    let cluster = Server::start().await;
    let running = cluster.controllers(Duration::ZERO);
    let client = cluster.client.clone();
    let pods = Api::<Pod>::namespaced(client.clone(), "default");
    let budgets = Api::<PodDisruptionBudget>::namespaced(client.clone(), "default");
    let accounts = Api::<ServiceAccount>::namespaced(client, "default");
    eventually("pods have an account", async || accounts.get_opt("default").await.unwrap()).await;
    let node = Api::<Node>::all(cluster.client.clone());
    node.create(&PostParams::default(), &object(json!({"metadata": {"name": "n"}}))).await.unwrap();
    ready_pod(&pods, "a", None).await;
    ready_pod(&pods, "b", None).await;
    let budget = |name: &str, spec: Value| object(json!({"metadata": {"name": name}, "spec": spec}));
    let web = json!({"matchLabels": {"app": "web"}});
    let keep_one = budget("web", json!({"minAvailable": 1, "selector": web}));
    budgets.create(&PostParams::default(), &keep_one).await.unwrap();
    // One without a selector covers nothing, and so does not get in the way.
    budgets.create(&PostParams::default(), &budget("nobody", json!({"minAvailable": 9}))).await.unwrap();

    let first = eventually("one may go", async || {
        let budget = budgets.get("web").await.unwrap();
        (allowed(&budget) == Some(1)).then(|| budget.status.unwrap())
    })
    .await;
    let counts = (first.expected_pods, first.desired_healthy, first.current_healthy);
    assert_eq!(counts, (Some(2), Some(1), Some(2)));
    let condition = &first.conditions.unwrap()[0];
    assert_eq!(
        (condition.type_.as_str(), condition.reason.as_str()),
        ("DisruptionAllowed", "SufficientPods")
    );
    let nobody = eventually("the other is looked at too", async || {
        budgets.get("nobody").await.unwrap().status.filter(|status| status.observed_generation.is_some())
    })
    .await;
    assert_eq!((nobody.expected_pods, nobody.disruptions_allowed), (Some(0), Some(0)));

    pods.evict("a", &EvictParams::default()).await.unwrap();
    let refused = pods.evict("b", &EvictParams::default()).await.unwrap_err();
    let kube::Error::Api(status) = &refused else { panic!("{refused}") };
    assert_eq!(status.code, 429, "{refused}");
    assert!(status.message.contains("violate the pod's disruption budget"), "{refused}");
    let causes = status.details.as_ref().map(|details| details.causes.clone()).unwrap_or_default();
    assert_eq!(causes[0].reason, "DisruptionBudget");
    let why = "The disruption budget web needs 1 healthy pods and has ";
    assert!(causes[0].message.starts_with(why), "{}", causes[0].message);
    // The pod goes; when another comes in its place, one may go again.
    let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    pods.delete("a", &now).await.unwrap();
    ready_pod(&pods, "c", None).await;
    eventually("one may go again", async || {
        let status = budgets.get("web").await.unwrap().status.unwrap_or_default();
        (status.disruptions_allowed == Some(1) && status.disrupted_pods.is_none()).then_some(())
    })
    .await;
    cluster.end(running).await;
}

#[tokio::test]
async fn a_budget_knows_what_the_owners_of_its_pods_want() {
    let cluster = Server::start().await;
    let running = cluster.controllers(Duration::ZERO);
    let client = cluster.client.clone();
    let pods = Api::<Pod>::namespaced(client.clone(), "default");
    let budgets = Api::<PodDisruptionBudget>::namespaced(client.clone(), "default");
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), "default");
    eventually("pods have an account", async || accounts.get_opt("default").await.unwrap()).await;
    let node = Api::<Node>::all(client.clone());
    node.create(&PostParams::default(), &object(json!({"metadata": {"name": "n"}}))).await.unwrap();
    // No controller of ours makes its pods, and no cache holds it: it is asked for its scale.
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a", "image": "a"}]}});
    let set = json!({"metadata": {"name": "s"}, "spec": {
        "replicas": 3, "serviceName": "s", "selector": {"matchLabels": {"app": "web"}}, "template": template
    }});
    let sets = Api::<StatefulSet>::namespaced(client, "default");
    let set = sets.create(&PostParams::default(), &object(set)).await.unwrap();
    let owner = |kind: &str, name: &str, uid: &str| json!({"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": true});
    for name in ["s-0", "s-1", "s-2"] {
        ready_pod(&pods, name, Some(owner("StatefulSet", "s", &set.uid().unwrap()))).await;
    }
    let selector = json!({"matchLabels": {"app": "web"}});
    let budget =
        json!({"metadata": {"name": "web"}, "spec": {"maxUnavailable": "34%", "selector": selector}});
    budgets.create(&PostParams::default(), &object(budget)).await.unwrap();
    eventually("two of three may go", async || {
        let status = budgets.get("web").await.unwrap().status?;
        (status.expected_pods == Some(3) && status.disruptions_allowed == Some(2)).then_some(())
    })
    .await;
    ready_pod(&pods, "odd", Some(owner("ReplicaSet", "gone", "no-such-uid"))).await;
    let condition = eventually("nothing may go while the scale is unknown", async || {
        let status = budgets.get("web").await.unwrap().status?;
        let condition = status.conditions.into_iter().flatten().next()?;
        (condition.reason == "SyncFailed" && status.disruptions_allowed == Some(0)).then_some(condition)
    })
    .await;
    assert_eq!(condition.message, "found no controllers for pod \"odd\"");
    cluster.end(running).await;
}

/// One of two candidates leads, the other when the first gives the lease back, or does not renew it.
#[tokio::test]
async fn one_of_two_candidates_leads() {
    let server = Server::start().await;
    let duration = Duration::from_secs(1);
    let timing = Timing { duration, renew_within: duration / 2, retry: duration / 20 };
    let clock = Arc::new(xebec_controllers::runtime::clock::SystemClock);
    let candidate =
        |name: &str| Election::new(server.client.clone(), "test", name.to_owned(), clock.clone(), timing);
    let (mut one, mut two) = (candidate("one"), candidate("two"));
    let within = async |what: &str, future: &mut (dyn Future<Output = ()> + Unpin)| {
        tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} takes too long"));
    };
    within("the first lease", &mut Box::pin(one.won())).await;
    tokio::select! {
        () = one.lost() => panic!("a lease that is renewed is lost"),
        () = two.won() => panic!("two lead"),
        () = tokio::time::sleep(3 * duration) => {}
    }
    one.resign().await;
    within("a lease that was given back", &mut Box::pin(two.won())).await;
    // The second does nothing more, as if it were dead.
    within("a lease that has run out", &mut Box::pin(one.won())).await;
    within("the loss", &mut Box::pin(two.lost())).await;
    two.resign().await;
    let leases: Api<Lease> = Api::namespaced(server.client.clone(), LEASE_NAMESPACE);
    let spec = leases.get("test").await.unwrap().spec.unwrap();
    assert_eq!(spec.holder_identity.as_deref(), Some("one"), "who has lost it gives nothing back");
    assert_eq!(spec.lease_transitions, Some(2));
}
