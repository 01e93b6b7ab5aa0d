//! What a node may do: read what its pods refer to, write about itself (the Node authorizer).
//!
//! A node is a user `system:node:NAME` in the group `system:nodes`. What rules of the role `system:node` say is confined to
//! its own objects here; what it writes is looked at by admission (`NodeRestriction`). It has an opinion only where it allows:
//! roles may allow a node more.
//!
//! The graph behind it follows pods, volumes, attachments and slices in the store. Whoever asks brings it up to date first, so
//! that a node finds what the pod needs of which it has just heard, and no longer what a pod of yesterday needed.

mod graph;
pub(crate) mod references;

use std::sync::{Arc, Mutex, PoisonError};

use futures::future::select_all;
use tokio_util::sync::CancellationToken;
use xebec_api::{json, meta};
use xebec_store::{Event, EventKind, Prefix, Scope, Store, StoreError, Watch, WatchError};

use self::graph::{Graph, Source};
use self::references::Kind;
use super::{Question, Rule};
use crate::core::Core;

/// Where nodes keep their leases.
pub(crate) const LEASES: &str = "kube-node-lease";

/// What leads to nodes, and where it stands in the store.
const FOLLOWED: [(Source, &str); 4] = [
    (Source::Pod, "/registry/core/pods/"),
    (Source::Volume, "/registry/core/persistentvolumes/"),
    (Source::Attachment, "/registry/storage.k8s.io/volumeattachments/"),
    (Source::Slice, "/registry/resource.k8s.io/resourceslices/"),
];

/// Decides for nodes.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    rules: Vec<Rule>,
    followed: Mutex<Option<Followed>>,
}

/// The graph, and what is to be heard of it.
struct Followed {
    store: Arc<dyn Store>,
    graph: Graph,
    watches: Vec<(Source, Watch)>,
}

impl std::fmt::Debug for Followed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Followed").field("graph", &self.graph).finish_non_exhaustive()
    }
}

fn watches(store: &dyn Store) -> Result<Vec<(Source, Watch)>, StoreError> {
    let after = store.current_revision();
    let prefix = |path: &str| Prefix::new(path).expect("a short path without odd characters is a prefix");
    FOLLOWED
        .iter()
        .map(|(source, path)| Ok((*source, store.watch(Scope::Prefix(prefix(path)), after)?)))
        .collect()
}

impl Followed {
    /// All that is stored. What comes between the beginning of the watches and the snapshot is taken twice, which is the same.
    fn read(store: Arc<dyn Store>) -> Result<Self, StoreError> {
        let watches = watches(&*store)?;
        let snapshot = store.snapshot();
        let mut graph = Graph::default();
        for (source, path) in FOLLOWED {
            let prefix = Prefix::new(path).expect("a short path without odd characters is a prefix");
            for record in snapshot.range(&prefix, None) {
                put(&mut graph, source, record.key().as_str(), record.as_slice());
            }
        }
        Ok(Self { store, graph, watches })
    }

    /// Takes what has happened since. What is lost is read anew.
    fn catch_up(&mut self) {
        for (source, watch) in &mut self.watches {
            loop {
                match watch.try_next() {
                    Ok(Some(batch)) => {
                        batch.events.iter().for_each(|event| follow(&mut self.graph, *source, event));
                    }
                    Ok(None) => break,
                    Err(WatchError::Closed) => return,
                    Err(error) => {
                        tracing::info!(%error, "changes of pods are lost to the node authorizer: all are read anew");
                        match Self::read(self.store.clone()) {
                            Ok(anew) => *self = anew,
                            Err(error) => tracing::error!(%error, "the node authorizer knows no new pods"),
                        }
                        return;
                    }
                }
            }
        }
    }
}

fn follow(graph: &mut Graph, source: Source, event: &Event) {
    let key = event.key().as_str();
    match event.kind() {
        EventKind::Deleted => remove(graph, source, key),
        _ => put(graph, source, key, event.record().as_slice()),
    }
}

/// Takes an object; one that cannot be read leads nowhere.
fn put(graph: &mut Graph, source: Source, key: &str, bytes: &[u8]) {
    match json::from_slice(bytes) {
        Ok(object) if !meta::name(&object).is_empty() => graph.put(source, &object),
        Ok(_) => {}
        Err(error) => {
            tracing::error!(key, %error, "a stored object cannot be read and opens nothing to nodes");
            remove(graph, source, key);
        }
    }
}

fn remove(graph: &mut Graph, source: Source, key: &str) {
    let Some(rest) = FOLLOWED.iter().find(|(s, _)| *s == source).and_then(|(_, path)| key.strip_prefix(path))
    else {
        return;
    };
    let (namespace, name) = rest.split_once('/').unwrap_or(("", rest));
    graph.remove(source, namespace, name);
}

/// Keeps the graph near to the present when nobody asks, until `shutdown`.
pub(crate) async fn keep_up(core: Arc<Core>, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        let Ok(mut watches) = watches(&*core.store) else {
            // There is nothing to follow any more.
            return shutdown.cancelled().await;
        };
        loop {
            let any = select_all(watches.iter_mut().map(|(_, watch)| Box::pin(watch.next())));
            let heard = tokio::select! {
                () = shutdown.cancelled() => return,
                (heard, ..) = any => heard,
            };
            core.authorizer.nodes.catch_up();
            if heard.is_err() {
                break;
            }
        }
    }
}

impl Nodes {
    /// Nodes may do what the rules say, confined to their own objects.
    pub(super) fn new(rules: Vec<Rule>) -> Self {
        Self { rules, followed: Mutex::default() }
    }

    /// Reads what is stored, and follows it.
    pub(super) fn open(&self, store: Arc<dyn Store>) -> Result<(), StoreError> {
        let followed = Followed::read(store)?;
        *self.followed.lock().unwrap_or_else(PoisonError::into_inner) = Some(followed);
        Ok(())
    }

    fn catch_up(&self) {
        if let Some(followed) = &mut *self.followed.lock().unwrap_or_else(PoisonError::into_inner) {
            followed.catch_up();
        }
    }

    /// Whether something is so by now.
    fn holds(&self, is: impl FnOnce(&Graph) -> bool) -> bool {
        let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(followed) = &mut *followed else { return false };
        followed.catch_up();
        is(&followed.graph)
    }

    /// Whether a node may.
    ///
    /// # Errors
    /// Why there is no opinion; may be empty.
    pub(super) fn decide(&self, node: &str, question: &Question<'_>) -> Result<(), String> {
        if question.is_resource() {
            let ask = Ask { nodes: self, node, question };
            match (question.group, question.resource) {
                ("", "secrets") => return ask.read(Kind::Secret),
                ("", "configmaps") => return ask.read(Kind::ConfigMap),
                ("", "persistentvolumeclaims") if question.subresource == "status" => {
                    return ask.claim_status();
                }
                ("", "persistentvolumeclaims") => return ask.get(Related::To(Kind::Claim)),
                ("", "persistentvolumes") => return ask.get(Related::On(Source::Volume)),
                ("resource.k8s.io", "resourceclaims") => return ask.get(Related::To(Kind::ResourceClaim)),
                ("storage.k8s.io", "volumeattachments") => return ask.get(Related::On(Source::Attachment)),
                ("", "serviceaccounts") => return ask.account(),
                ("coordination.k8s.io", "leases") => return ask.lease(),
                ("storage.k8s.io", "csinodes") => return ask.csi_node(),
                ("resource.k8s.io", "resourceslices") => return ask.slice(),
                ("", "nodes") => return ask.node(),
                ("", "pods") => return ask.pod(),
                _ => {}
            }
        }
        let allowed = self.rules.iter().any(|rule| rule.allows(question));
        if allowed { Ok(()) } else { Err(String::new()) }
    }
}

/// How an object may have to do with a node.
#[derive(Clone, Copy)]
enum Related {
    To(Kind),
    On(Source),
}

/// One question of one node.
struct Ask<'a> {
    nodes: &'a Nodes,
    node: &'a str,
    question: &'a Question<'a>,
}

fn no<T>(why: impl Into<String>) -> Result<T, String> {
    Err(why.into())
}

impl Ask<'_> {
    fn verb(&self) -> &str {
        self.question.verb
    }

    fn related(&self, how: Related) -> Result<(), String> {
        let Question { namespace, name, .. } = *self.question;
        if name.is_empty() {
            return no("No Object name found");
        }
        let is_related = self.nodes.holds(|graph| match how {
            Related::To(kind) => graph.leads(kind, namespace, name, self.node),
            Related::On(source) => graph.is_on(source, namespace, name, self.node),
        });
        if is_related {
            return Ok(());
        }
        no(format!("no relationship found between node '{}' and this object", self.node))
    }

    /// What is confined by a selector to one node of theirs.
    fn selects(&self, field: &str) -> bool {
        let fields = self.question.selected.map(|selected| selected.fields.as_slice()).unwrap_or_default();
        fields.iter().any(|r| r.field == field && r.equal && r.value == self.node)
    }

    fn read(&self, kind: Kind) -> Result<(), String> {
        match self.verb() {
            "get" | "list" | "watch" => {}
            _ => return no("can only read resources of this type"),
        }
        if !self.question.subresource.is_empty() {
            return no("cannot read subresource");
        }
        if self.question.namespace.is_empty() {
            return no("can only read namespaced object of this type");
        }
        self.related(Related::To(kind))
    }

    fn get(&self, how: Related) -> Result<(), String> {
        if self.verb() != "get" {
            return no("can only get individual resources of this type");
        }
        if !self.question.subresource.is_empty() {
            return no("cannot get subresource");
        }
        self.related(how)
    }

    fn claim_status(&self) -> Result<(), String> {
        match self.verb() {
            "update" | "patch" => self.related(Related::To(Kind::Claim)),
            _ => no("can only get/update/patch this type"),
        }
    }

    fn account(&self) -> Result<(), String> {
        let Question { name, subresource, .. } = *self.question;
        if self.verb() == "get" && subresource.is_empty() {
            return self.read(Kind::ServiceAccount);
        }
        if self.verb() != "create" || name.is_empty() {
            return no("can only create tokens for individual service accounts");
        }
        if subresource != "token" {
            return no("can only create token subresource of serviceaccount");
        }
        self.related(Related::To(Kind::ServiceAccount))
    }

    fn lease(&self) -> Result<(), String> {
        if !self.writes_or_gets() {
            return no("can only get, create, update, patch, or delete a node lease");
        }
        if self.question.namespace != LEASES {
            return no(format!("can only access leases in the {LEASES:?} system namespace"));
        }
        self.own("node lease")
    }

    fn csi_node(&self) -> Result<(), String> {
        if !self.writes_or_gets() {
            return no("can only get, create, update, patch, or delete a CSINode");
        }
        if !self.question.subresource.is_empty() {
            return no("cannot authorize CSINode subresources");
        }
        self.own("CSINode")
    }

    fn writes_or_gets(&self) -> bool {
        matches!(self.verb(), "get" | "create" | "update" | "patch" | "delete")
    }

    /// What is called like the node. Of a new object admission looks at the name.
    fn own(&self, what: &str) -> Result<(), String> {
        if self.verb() == "create" || self.question.name == self.node {
            return Ok(());
        }
        no(format!("can only access {what} with the same name as the requesting node"))
    }

    fn slice(&self) -> Result<(), String> {
        if !self.question.subresource.is_empty() {
            return no("cannot authorize ResourceSlice subresources");
        }
        match self.verb() {
            "create" => Ok(()),
            "get" | "update" | "patch" | "delete" => self.related(Related::On(Source::Slice)),
            "watch" | "list" | "deletecollection" if self.selects("spec.nodeName") => Ok(()),
            "watch" | "list" | "deletecollection" => {
                no("can only list/watch/deletecollection resourceslices with nodeName field selector")
            }
            _ => no(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, \
                 deletecollection",
            ),
        }
    }

    fn node(&self) -> Result<(), String> {
        let (node, name) = (self.node, self.question.name);
        match (self.question.subresource, self.verb()) {
            ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Ok(()),
            ("", "get" | "list" | "watch") if name == node => Ok(()),
            ("", "get" | "list" | "watch") if name.is_empty() => {
                no(format!("node '{node}' cannot read all nodes, only its own Node object"))
            }
            ("", "get" | "list" | "watch") => {
                no(format!("node '{node}' cannot read '{name}', only its own Node object"))
            }
            _ => no(""),
        }
    }

    fn pod(&self) -> Result<(), String> {
        match (self.question.subresource, self.verb()) {
            ("", "get") => self.related(Related::On(Source::Pod)),
            ("", "list" | "watch") if self.selects("spec.nodeName") => Ok(()),
            ("", "list" | "watch") if !self.question.name.is_empty() => {
                self.related(Related::On(Source::Pod))
            }
            ("", "list" | "watch") => no("can only list/watch pods with spec.nodeName field selector"),
            // What is written is admission's to look at.
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => Ok(()),
            _ => no(""),
        }
    }
}

#[cfg(test)]
mod tests {
    use xebec_api::selector::FieldSelector;
    use xebec_api::{Value, object};
    use xebec_store::{Embedded, EmbeddedOptions, Key, Txn, Value as Bytes};

    use super::*;
    use crate::authz::{Selected, bootstrap};

    async fn put(store: &Embedded, path: &str, object: &Value) {
        let key = Key::new(format!("/registry/{path}")).expect("a key");
        store.commit(Txn::default().put(key, Bytes::opaque(json::to_vec(object)))).await.expect("committed");
    }

    #[tokio::test]
    async fn nodes_read_what_their_pods_need() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Arc::new(Embedded::open(dir.path(), EmbeddedOptions::default()).expect("an empty store"));
        let nodes = Nodes::new(bootstrap::rules("system:node"));
        nodes.open(store.clone()).expect("a watch");
        let ask = |resource: &str, verb: &str, name: &str| {
            let question = Question { verb, resource, name, namespace: "a", ..Question::default() };
            nodes.decide("n1", &question)
        };
        let unrelated = Err("no relationship found between node 'n1' and this object".to_owned());
        assert_eq!(ask("secrets", "get", "s"), unrelated);
        let pod = object!({"metadata": {"name": "p", "namespace": "a"}, "spec": {
            "nodeName": "n1", "volumes": [{"name": "v", "secret": {"secretName": "s"}}]
        }});
        put(&store, "core/pods/a/p", &pod).await;
        assert_eq!(ask("secrets", "get", "s"), Ok(()), "as soon as the pod is there");
        assert_eq!(ask("secrets", "watch", "s"), Ok(()));
        assert_eq!(ask("secrets", "list", ""), Err("No Object name found".into()));
        assert_eq!(ask("secrets", "update", "s"), Err("can only read resources of this type".into()));
        assert_eq!(ask("secrets", "get", "t"), unrelated);
        assert_eq!(ask("pods", "get", "p"), Ok(()));
        assert_eq!(ask("pods", "get", "q"), unrelated);
        let key = Key::new("/registry/core/pods/a/p").expect("a key");
        store.commit(Txn::default().delete(key)).await.expect("committed");
        assert_eq!(ask("secrets", "get", "s"), unrelated, "as soon as the pod is gone");
        store.shutdown().await;
        assert_eq!(ask("secrets", "get", "s"), unrelated);
    }

    #[test]
    fn nodes_see_to_themselves_only() {
        let nodes = Nodes::new(bootstrap::rules("system:node"));
        let check = |group: &str,
                     path: &str,
                     verb: &str,
                     namespace: &str,
                     name: &str,
                     want: Result<(), &str>| {
            let (resource, subresource) = path.split_once('/').unwrap_or((path, ""));
            let question =
                Question { verb, group, resource, subresource, namespace, name, ..Question::default() };
            assert_eq!(nodes.decide("n1", &question), want.map_err(str::to_owned), "{verb} {path} {name}");
        };
        check("", "nodes", "get", "", "n1", Ok(()));
        check("", "nodes", "list", "", "", Err("node 'n1' cannot read all nodes, only its own Node object"));
        check("", "nodes", "get", "", "n2", Err("node 'n1' cannot read 'n2', only its own Node object"));
        check("", "nodes/status", "patch", "", "n1", Ok(()));
        check("", "nodes", "delete", "", "n1", Err(""));
        check("", "pods", "list", "", "", Err("can only list/watch pods with spec.nodeName field selector"));
        check("", "pods/status", "patch", "a", "p", Ok(()));
        check("", "pods/exec", "create", "a", "p", Err(""));
        let leases = "coordination.k8s.io";
        check(leases, "leases", "create", LEASES, "", Ok(()));
        let other = "can only access node lease with the same name as the requesting node";
        check(leases, "leases", "update", LEASES, "n2", Err(other));
        let home = r#"can only access leases in the "kube-node-lease" system namespace"#;
        check(leases, "leases", "get", "a", "n1", Err(home));
        check("", "services", "list", "", "", Ok(()));
        check("apps", "deployments", "list", "", "", Err(""));
        check(
            "",
            "serviceaccounts",
            "create",
            "a",
            "b",
            Err("can only create token subresource of serviceaccount"),
        );
        let unknown = "no relationship found between node 'n1' and this object";
        check("", "serviceaccounts/token", "create", "a", "b", Err(unknown));
        check("storage.k8s.io", "csinodes", "get", "", "n1", Ok(()));
        let slices = "can only list/watch/deletecollection resourceslices with nodeName field selector";
        check("resource.k8s.io", "resourceslices", "list", "", "", Err(slices));
    }

    #[test]
    fn a_selector_confines_a_list() {
        let nodes = Nodes::new(Vec::new());
        let list = |selector: &str| {
            let fields = FieldSelector::parse(selector).expect("a selector").requirements;
            let selected = Selected { fields, labels: Vec::new() };
            let question =
                Question { verb: "list", resource: "pods", selected: Some(&selected), ..Question::default() };
            nodes.decide("n1", &question).is_ok()
        };
        assert!(list("spec.nodeName=n1") && !list("spec.nodeName=n2") && !list("spec.nodeName!=n1"));
    }
}
