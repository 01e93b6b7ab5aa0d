//! Which objects lead to which node: through its pods, their claims and the volumes of those.
//!
//! ```text
//!  secret, config map, account, claims ─▶ pod ─▶ node
//!  secret ─▶ volume ─▶ claim ─▶ pod ─▶ node          attachment, slice ─▶ node
//! ```
//!
//! It is as large as what pods and volumes refer to, and changes by one object at a time.

use std::collections::{HashMap, HashSet};

use xebec_api::{Value, meta};

use super::references::{self, Kind, MIRROR};

/// Namespace and name.
type Place = (String, String);

/// A kind that leads to nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    Pod,
    Volume,
    Attachment,
    Slice,
}

#[derive(Debug, Default)]
pub(super) struct Graph {
    pods: HashMap<Place, Pod>,
    /// How many pods of which node refer to an object.
    used: HashMap<(Kind, Place), HashMap<String, usize>>,
    volumes: HashMap<String, Volume>,
    /// The volumes that need a secret.
    volumes_of: HashMap<Place, HashSet<String>>,
    /// The nodes of attachments, and of slices of devices.
    attachments: HashMap<String, String>,
    slices: HashMap<String, String>,
}

#[derive(Debug)]
struct Pod {
    node: String,
    references: Vec<references::Reference>,
}

#[derive(Debug)]
struct Volume {
    claim: Place,
    secrets: Vec<Place>,
}

fn place(namespace: &str, name: &str) -> Place {
    (namespace.to_owned(), name.to_owned())
}

impl Graph {
    /// Takes an object as it is now.
    pub(super) fn put(&mut self, source: Source, object: &Value) {
        let name = meta::name(object);
        self.remove(source, meta::namespace(object), name);
        let node = |path: &[&str]| object.str_at(path).filter(|node| !node.is_empty()).map(str::to_owned);
        match source {
            Source::Pod => {
                if let Some(node) = node(&["spec", "nodeName"]) {
                    self.put_pod(node, object);
                }
            }
            Source::Volume => self.put_volume(object),
            Source::Attachment => {
                if let Some(node) = node(&["spec", "nodeName"]) {
                    self.attachments.insert(name.to_owned(), node);
                }
            }
            Source::Slice => {
                if let Some(node) = node(&["spec", "nodeName"]) {
                    self.slices.insert(name.to_owned(), node);
                }
            }
        }
    }

    fn put_pod(&mut self, node: String, pod: &Value) {
        let namespace = meta::namespace(pod);
        // What a node says of its own pods must not open it anything.
        let is_mirror = meta::annotation(pod, MIRROR).is_some();
        let references = if is_mirror { Vec::new() } else { references::of_pod(pod) };
        for (kind, name) in &references {
            let nodes = self.used.entry((*kind, place(namespace, name))).or_default();
            *nodes.entry(node.clone()).or_default() += 1;
        }
        self.pods.insert(place(namespace, meta::name(pod)), Pod { node, references });
    }

    fn put_volume(&mut self, volume: &Value) {
        let of = |field: &str| volume.str_at(&["spec", "claimRef", field]).unwrap_or_default();
        if of("name").is_empty() {
            return;
        }
        let name = meta::name(volume);
        let secrets = references::secrets_of_volume(volume);
        for secret in &secrets {
            self.volumes_of.entry(secret.clone()).or_default().insert(name.to_owned());
        }
        self.volumes.insert(name.to_owned(), Volume { claim: place(of("namespace"), of("name")), secrets });
    }

    /// Forgets an object.
    pub(super) fn remove(&mut self, source: Source, namespace: &str, name: &str) {
        match source {
            Source::Pod => self.remove_pod(namespace, name),
            Source::Volume => {
                let Some(volume) = self.volumes.remove(name) else { return };
                for secret in volume.secrets {
                    if let Some(volumes) = self.volumes_of.get_mut(&secret) {
                        volumes.remove(name);
                        if volumes.is_empty() {
                            self.volumes_of.remove(&secret);
                        }
                    }
                }
            }
            Source::Attachment => drop(self.attachments.remove(name)),
            Source::Slice => drop(self.slices.remove(name)),
        }
    }

    fn remove_pod(&mut self, namespace: &str, name: &str) {
        let Some(Pod { node, references }) = self.pods.remove(&place(namespace, name)) else { return };
        for (kind, name) in references {
            let key = (kind, place(namespace, &name));
            let Some(nodes) = self.used.get_mut(&key) else { continue };
            if let Some(count) = nodes.get_mut(&node) {
                *count -= 1;
                if *count == 0 {
                    nodes.remove(&node);
                }
            }
            if nodes.is_empty() {
                self.used.remove(&key);
            }
        }
    }

    /// Whether an object leads to a node.
    pub(super) fn leads(&self, kind: Kind, namespace: &str, name: &str, node: &str) -> bool {
        let at = place(namespace, name);
        let volumes = || self.volumes_of.get(&at).into_iter().flatten();
        let by_volume =
            || kind == Kind::Secret && volumes().any(|volume| self.is_on(Source::Volume, "", volume, node));
        self.is_used(kind, &at, node) || by_volume()
    }

    fn is_used(&self, kind: Kind, at: &Place, node: &str) -> bool {
        self.used.get(&(kind, at.clone())).is_some_and(|nodes| nodes.contains_key(node))
    }

    /// Whether something is on a node.
    pub(super) fn is_on(&self, source: Source, namespace: &str, name: &str, node: &str) -> bool {
        match source {
            Source::Pod => self.pods.get(&place(namespace, name)).is_some_and(|pod| pod.node == node),
            Source::Volume => {
                self.volumes.get(name).is_some_and(|volume| self.is_used(Kind::Claim, &volume.claim, node))
            }
            Source::Attachment => self.attachments.get(name).is_some_and(|on| on == node),
            Source::Slice => self.slices.get(name).is_some_and(|on| on == node),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xebec_api::object;

    fn pod(name: &str, node: &str, secret: &str) -> Value {
        object!({
            "metadata": {"name": name, "namespace": "a", "annotations": {}},
            "spec": {"nodeName": node, "volumes": [
                {"name": "s", "secret": {"secretName": secret}},
                {"name": "c", "persistentVolumeClaim": {"claimName": "claim"}}
            ]}
        })
    }

    #[test]
    fn objects_lead_to_the_nodes_of_their_pods() {
        let mut graph = Graph::default();
        let leads = |graph: &Graph, name: &str, node: &str| graph.leads(Kind::Secret, "a", name, node);
        graph.put(Source::Pod, &pod("p", "", "s"));
        assert!(!leads(&graph, "s", "n1"), "it is on no node yet");
        graph.put(Source::Pod, &pod("p", "n1", "s"));
        graph.put(Source::Pod, &pod("q", "n1", "s"));
        graph.put(Source::Pod, &pod("r", "n2", "t"));
        assert!(leads(&graph, "s", "n1") && leads(&graph, "t", "n2"));
        assert!(!leads(&graph, "t", "n1") && !leads(&graph, "s", "n2"));
        assert!(!graph.leads(Kind::ConfigMap, "a", "s", "n1") && !graph.leads(Kind::Secret, "b", "s", "n1"));
        assert!(graph.is_on(Source::Pod, "a", "p", "n1") && !graph.is_on(Source::Pod, "a", "p", "n2"));
        graph.remove(Source::Pod, "a", "p");
        assert!(leads(&graph, "s", "n1"), "another pod needs it");
        graph.put(Source::Pod, &pod("q", "n1", "u"));
        assert!(!leads(&graph, "s", "n1") && leads(&graph, "u", "n1"));
        graph.remove(Source::Pod, "a", "q");
        graph.remove(Source::Pod, "a", "r");
        assert!(graph.used.is_empty() && graph.pods.is_empty(), "{graph:?}");
    }

    #[test]
    fn volumes_lead_on() {
        let mut graph = Graph::default();
        let volume = |claim: &str| {
            object!({"metadata": {"name": "v"}, "spec": {
                "claimRef": {"namespace": "a", "name": claim},
                "csi": {"nodeStageSecretRef": {"namespace": "ops", "name": "stage"}}
            }})
        };
        graph.put(Source::Volume, &volume("claim"));
        let both = |graph: &Graph| {
            let secret = graph.leads(Kind::Secret, "ops", "stage", "n1");
            assert_eq!(graph.is_on(Source::Volume, "", "v", "n1"), secret);
            secret
        };
        assert!(!both(&graph), "nobody uses the claim");
        graph.put(Source::Pod, &pod("p", "n1", "s"));
        assert!(both(&graph));
        graph.put(Source::Volume, &volume("other"));
        assert!(!both(&graph));
        graph.remove(Source::Volume, "", "v");
        assert!(graph.volumes.is_empty() && graph.volumes_of.is_empty());
        let attachment = object!({"metadata": {"name": "x"}, "spec": {"nodeName": "n1"}});
        graph.put(Source::Attachment, &attachment);
        graph.put(Source::Slice, &attachment);
        assert!(graph.is_on(Source::Attachment, "", "x", "n1") && graph.is_on(Source::Slice, "", "x", "n1"));
        assert!(
            !graph.is_on(Source::Attachment, "", "x", "n2") && !graph.is_on(Source::Slice, "", "y", "n1")
        );
    }

    #[test]
    fn a_node_gains_nothing_by_pods_of_its_own() {
        let mut graph = Graph::default();
        let mut mirror = pod("p", "n1", "s");
        mirror.set(&["metadata", "annotations", MIRROR], "x");
        graph.put(Source::Pod, &mirror);
        assert!(!graph.leads(Kind::Secret, "a", "s", "n1"));
        assert!(graph.is_on(Source::Pod, "a", "p", "n1"));
    }
}
