//! What resources the server has, built in or made by a CustomResourceDefinition.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResource as ListedResource;
use kube::Client;
use kube::core::discovery::v2::{APIGroupDiscovery, APIResourceDiscovery};
use kube::discovery::ApiResource;

use super::error::ApiError;
use super::writer::api_error;

/// Group and plural name: what a resource is called in every version.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceId {
    /// The API group, empty for the core group.
    pub group: String,
    /// The plural name.
    pub plural: String,
}

impl std::fmt::Display for ResourceId {
    /// `pods.` and `deployments.apps`, as Kubernetes writes resources in namespace conditions.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.plural, self.group)
    }
}

/// A resource in the version that the server prefers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKind {
    /// Group and plural name.
    pub id: ResourceId,
    /// The version to speak.
    pub version: String,
    /// The kind of its objects.
    pub kind: String,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// What may be done with it.
    pub verbs: BTreeSet<String>,
}

impl ApiKind {
    /// As `kube` wants it.
    pub fn resource(&self) -> ApiResource {
        let api_version = match self.id.group.as_str() {
            "" => self.version.clone(),
            group => format!("{group}/{}", self.version),
        };
        ApiResource {
            group: self.id.group.clone(),
            version: self.version.clone(),
            api_version,
            kind: self.kind.clone(),
            plural: self.id.plural.clone(),
        }
    }

    /// The path of the collection; of one namespace when given.
    pub fn path(&self, namespace: Option<&str>) -> String {
        let root = match self.id.group.as_str() {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        };
        match namespace {
            Some(namespace) => format!("{root}/namespaces/{namespace}/{}", self.id.plural),
            None => format!("{root}/{}", self.id.plural),
        }
    }

    /// Whether every one of `verbs` is served.
    pub fn can(&self, verbs: &[&str]) -> bool {
        verbs.iter().all(|verb| self.verbs.contains(*verb))
    }
}

/// What the server has, as far as it could tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Discovered {
    /// Each resource once.
    pub kinds: Vec<ApiKind>,
    /// Group versions about which nothing is known at the moment, mostly those of other servers that are down.
    pub failed: Vec<String>,
}

impl Discovered {
    fn add(&mut self, kind: ApiKind) {
        if !self.kinds.iter().any(|known| known.id == kind.id) {
            self.kinds.push(kind);
        }
    }
}

/// Asks the server: two requests where it serves aggregated discovery, else one for each group version.
pub async fn discover(client: &Client) -> Result<Discovered, ApiError> {
    let failed = |source| api_error("discover", "resources".into(), &"of the server", source);
    let core = client.list_core_api_versions_aggregated().await.map_err(failed)?;
    let groups = client.list_api_groups_aggregated().await.map_err(failed)?;
    // A server that does not know the aggregated form answers with the old one, which reads as empty.
    if core.items.is_empty() || groups.items.is_empty() {
        return discover_each(client).await.map_err(failed);
    }
    let mut discovered = Discovered::default();
    for group in core.items.iter().chain(&groups.items) {
        add_group(&mut discovered, group);
    }
    Ok(discovered)
}

fn add_group(discovered: &mut Discovered, group: &APIGroupDiscovery) {
    let name = group.metadata.as_ref().and_then(|meta| meta.name.clone()).unwrap_or_default();
    for version in &group.versions {
        let version_name = version.version.clone().unwrap_or_default();
        if version.freshness.as_deref() == Some("Stale") {
            discovered.failed.push(group_version(&name, &version_name));
            continue;
        }
        for resource in &version.resources {
            discovered.add(aggregated_kind(&name, &version_name, resource));
        }
    }
}

fn aggregated_kind(group: &str, version: &str, resource: &APIResourceDiscovery) -> ApiKind {
    let kind = resource.response_kind.as_ref().and_then(|kind| kind.kind.clone()).unwrap_or_default();
    ApiKind {
        id: ResourceId { group: group.to_owned(), plural: resource.resource.clone().unwrap_or_default() },
        version: version.to_owned(),
        kind,
        namespaced: resource.scope.as_deref() == Some("Namespaced"),
        verbs: resource.verbs.iter().cloned().collect(),
    }
}

async fn discover_each(client: &Client) -> Result<Discovered, kube::Error> {
    let mut discovered = Discovered::default();
    for version in client.list_core_api_versions().await?.versions {
        let listed = client.list_core_api_resources(&version).await?;
        add_listed(&mut discovered, "", &version, &listed.resources);
    }
    for group in client.list_api_groups().await?.groups {
        let preferred = group.preferred_version.as_ref().map(|version| &version.version);
        let mut versions: Vec<_> = group.versions.iter().map(|version| &version.version).collect();
        versions.sort_by_key(|version| Some(*version) != preferred);
        for version in versions {
            let group_version = group_version(&group.name, version);
            match client.list_api_group_resources(&group_version).await {
                Ok(listed) => add_listed(&mut discovered, &group.name, version, &listed.resources),
                Err(kube::Error::Api(_)) => discovered.failed.push(group_version),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(discovered)
}

fn add_listed(discovered: &mut Discovered, group: &str, version: &str, resources: &[ListedResource]) {
    for resource in resources.iter().filter(|resource| !resource.name.contains('/')) {
        discovered.add(ApiKind {
            id: ResourceId { group: group.to_owned(), plural: resource.name.clone() },
            version: version.to_owned(),
            kind: resource.kind.clone(),
            namespaced: resource.namespaced,
            verbs: resource.verbs.iter().cloned().collect(),
        });
    }
}

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_preferred_version_of_each_resource_counts() {
        let resource = |plural: &str, kind: &str| {
            json!({"resource": plural, "responseKind": {"kind": kind}, "scope": "Namespaced",
                   "verbs": ["list", "delete"], "subresources": [{"subresource": "status", "verbs": ["get"]}]})
        };
        let group: APIGroupDiscovery = serde_json::from_value(json!({
            "metadata": {"name": "example.com"},
            "versions": [
                {"version": "v2", "freshness": "Current", "resources": [resource("widgets", "Widget")]},
                {"version": "v1", "freshness": "Current",
                 "resources": [resource("widgets", "Widget"), resource("gadgets", "Gadget")]},
                {"version": "v1alpha1", "freshness": "Stale", "resources": [resource("olds", "Old")]},
            ]
        }))
        .unwrap();
        let mut discovered = Discovered::default();
        add_group(&mut discovered, &group);
        let found: Vec<_> = discovered.kinds.iter().map(|kind| kind.path(Some("ns"))).collect();
        assert_eq!(
            found,
            ["/apis/example.com/v2/namespaces/ns/widgets", "/apis/example.com/v1/namespaces/ns/gadgets"]
        );
        assert_eq!(discovered.failed, ["example.com/v1alpha1"]);
        assert!(discovered.kinds[0].can(&["list", "delete"]) && !discovered.kinds[0].can(&["watch"]));
        assert_eq!(discovered.kinds[0].resource().api_version, "example.com/v2");
    }
}
