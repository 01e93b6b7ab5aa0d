//! Groups, versions and resources, in the three forms that clients ask for: lists per group and version, and all at once
//! (aggregated discovery, apidiscovery.k8s.io/v2).

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use http::HeaderMap;
use http::header::ACCEPT;
use xebec_api::resource::{Subresource, Text, Version};
use xebec_api::{Status, Value, json, object};

use crate::aggregation::offer::Offer;
use crate::aggregation::priority::{self, Priority};
use crate::aggregation::{Aggregation, Service, State};
use crate::registry::{Row, Table};

/// The content type of aggregated discovery.
pub(super) const AGGREGATED_TYPE: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Whether the client prefers everything at once.
pub(super) fn wants_aggregated(headers: &HeaderMap) -> bool {
    let ranges = headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    let known = ranges.map(str::trim).find(|range| {
        let media = range.split(';').next().unwrap_or_default().trim();
        let aggregated = range.contains("as=APIGroupDiscoveryList");
        media == "application/json" && (!aggregated || range.contains("v=v2") && !range.contains("v=v2beta1"))
    });
    known.is_some_and(|range| range.contains("as=APIGroupDiscoveryList"))
}

/// All groups and versions in their order.
#[derive(Debug)]
pub(super) struct Catalogue {
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    name: String,
    versions: Vec<Served>,
    /// The largest of its versions'.
    priority: i64,
}

/// A version of a group, and who answers for it.
#[derive(Debug)]
struct Served {
    name: String,
    priority: i64,
    /// `None`: this server.
    behind: Option<Arc<Service>>,
}

impl Catalogue {
    /// What is served here and by the servers behind this one. What API services say of priorities counts; without one those
    /// that Kubernetes and custom resources have by themselves do.
    pub(super) fn of(table: &Table, services: &State) -> Self {
        let mut found: BTreeMap<(&str, &str), Option<&Arc<Service>>> = BTreeMap::new();
        for row in table.rows() {
            for version in row.def.versions.iter().filter(|version| version.served) {
                found.insert((row.group(), &version.name), None);
            }
        }
        found.extend(services.remote().iter().map(|s| ((s.group.as_str(), s.version.as_str()), Some(s))));
        let registered: HashMap<(&str, &str), Priority> = services
            .services()
            .iter()
            .map(|s| ((s.group.as_str(), s.version.as_str()), s.priority))
            .collect();
        let mut groups: Vec<Group> = Vec::new();
        // Versions of a group come one after the other.
        for ((group, version), behind) in found {
            let registered = registered.get(&(group, version)).copied();
            let priority = registered.unwrap_or_else(|| Priority::of_local(group, version));
            if groups.last().is_none_or(|last| last.name != group) {
                groups.push(Group { name: group.to_owned(), versions: Vec::new(), priority: 0 });
            }
            let Some(group) = groups.last_mut() else { continue };
            group.priority = group.priority.max(priority.group);
            let served =
                Served { name: version.to_owned(), priority: priority.version, behind: behind.cloned() };
            group.versions.push(served);
        }
        for group in &mut groups {
            priority::sort_versions(&mut group.versions, |served| (served.priority, &served.name));
        }
        groups.sort_by(|a, b| (Reverse(a.priority), &a.name).cmp(&(Reverse(b.priority), &b.name)));
        Self { groups }
    }

    fn named(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().filter(|group| !group.name.is_empty())
    }

    /// The paths of all groups and versions but the core group's.
    pub(super) fn paths(&self) -> impl Iterator<Item = String> {
        self.named().flat_map(|group| {
            let versions =
                group.versions.iter().map(|version| format!("/apis/{}/{}", group.name, version.name));
            std::iter::once(format!("/apis/{}", group.name)).chain(versions)
        })
    }

    /// `APIGroupList`.
    pub(super) fn list(&self) -> Value {
        let groups: Vec<Value> = self.named().map(Group::value).collect();
        object!({"kind": "APIGroupList", "apiVersion": "v1", "groups": (groups)})
    }

    /// `APIGroup`.
    pub(super) fn group(&self, name: &str) -> Result<Value, Status> {
        let group = self.groups.iter().find(|group| group.name == name).ok_or_else(Status::no_such_path)?;
        let mut value = group.value();
        value.set(&["kind"], "APIGroup");
        value.set(&["apiVersion"], "v1");
        Ok(value)
    }

    /// `APIGroupDiscoveryList`: the core group, or all others.
    pub(super) fn aggregated(&self, table: &Table, servers: &Aggregation, core: bool) -> Vec<u8> {
        let chosen = self.groups.iter().filter(|group| group.name.is_empty() == core);
        let items: Vec<Value> = chosen.map(|group| group.aggregated(table, servers)).collect();
        json::to_vec(&object!({
            "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": (items)
        }))
    }
}

impl Group {
    fn value(&self) -> Value {
        let entry = |version: &Served| {
            object!({
                "groupVersion": (group_version(&self.name, &version.name)), "version": (version.name.as_str())
            })
        };
        let entries: Vec<Value> = self.versions.iter().map(entry).collect();
        object!({
            "name": (self.name.as_str()), "versions": (entries.clone()),
            "preferredVersion": (entries.first().cloned())
        })
    }

    fn aggregated(&self, table: &Table, servers: &Aggregation) -> Value {
        let versions = self.versions.iter().map(|version| match &version.behind {
            None => {
                let resources = served(table, &self.name, &version.name);
                let resources: Vec<Value> = resources.map(|(row, v)| aggregated_resource(row, v)).collect();
                object!({"version": (version.name.as_str()), "resources": (resources), "freshness": "Current"})
            }
            Some(service) => elsewhere(&version.name, servers.offer(service).as_deref()),
        });
        let versions: Vec<Value> = versions.collect();
        let metadata = if self.name.is_empty() {
            object!({"creationTimestamp": null})
        } else {
            object!({"name": (self.name.as_str()), "creationTimestamp": null})
        };
        object!({"metadata": (metadata), "versions": (versions)})
    }
}

/// What another server offers; what it did at last if it does not say.
fn elsewhere(version: &str, offer: Option<&Offer>) -> Value {
    let fresh = offer.is_some_and(|offer| offer.is_fresh);
    let mut out = object!({"version": version, "freshness": (if fresh { "Current" } else { "Stale" })});
    if let Some(offer) = offer.filter(|offer| !offer.resources.is_empty()) {
        out.set(&["resources"], offer.resources.clone());
    }
    out
}

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// The rows of a group that are served in a version.
fn served<'a>(
    table: &'a Table,
    group: &'a str,
    version: &'a str,
) -> impl Iterator<Item = (&'a Row, &'a Version)> {
    let rows = table.rows().filter(move |row| row.group() == group);
    rows.filter_map(move |row| Some((row.as_ref(), row.def.served(version)?)))
}

/// `APIResourceList`.
pub(super) fn resources(table: &Table, group: &str, version: &str) -> Result<Value, Status> {
    let mut entries: Vec<Value> = Vec::new();
    for (row, v) in served(table, group, version) {
        entries.push(resource(row, version));
        entries.extend(v.subresources.iter().map(|sub| subresource(row, version, sub)));
    }
    if entries.is_empty() {
        return Err(Status::no_such_path());
    }
    entries.sort_by(|a, b| a.str_at(&["name"]).cmp(&b.str_at(&["name"])));
    let group_version = group_version(group, version);
    let mut list =
        object!({"kind": "APIResourceList", "groupVersion": (group_version), "resources": (entries)});
    // The core group's is as old as the API, and never had a version of its own.
    if !group.is_empty() {
        list.set(&["apiVersion"], "v1");
    }
    Ok(list)
}

fn texts(items: &[Text]) -> Vec<&str> {
    items.iter().map(AsRef::as_ref).collect()
}

fn resource(row: &Row, version: &str) -> Value {
    let names = &row.def.names;
    let mut out = object!({
        "name": (names.plural.as_ref()), "singularName": (names.singular.as_ref()),
        "namespaced": (row.def.is_namespaced()), "kind": (names.kind.as_ref()),
        "verbs": (row.def.verbs.names().collect::<Vec<_>>())
    });
    if !names.short.is_empty() {
        out.set(&["shortNames"], texts(&names.short));
    }
    if !names.categories.is_empty() {
        out.set(&["categories"], texts(&names.categories));
    }
    if row.def.verbs.has(xebec_api::resource::Verbs::LIST) {
        out.set(&["storageVersionHash"], storage_hash(row, version));
    }
    out
}

/// Changes when objects are stored in another version: eight bytes of a hash, base64.
fn storage_hash(row: &Row, _version: &str) -> String {
    use base64::Engine as _;
    let text = format!("{}/{}/{}", row.group(), row.def.storage().name, row.kind_name());
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(&digest.as_ref()[..8])
}

fn subresource(row: &Row, served: &str, sub: &Subresource) -> Value {
    let mut out = object!({
        "name": (format!("{}/{}", row.resource(), sub.name)), "singularName": "",
        "namespaced": (row.def.is_namespaced()), "kind": (sub.kind.as_ref()),
        "verbs": (sub.verbs.names().collect::<Vec<_>>())
    });
    if let Some((group, version)) = foreign(row, served, sub) {
        if !group.is_empty() {
            out.set(&["group"], group);
        }
        out.set(&["version"], version);
    }
    out
}

/// The group and version of what a subresource answers with, where they are not those of the list that it stands in.
fn foreign<'a>(row: &Row, served: &str, sub: &'a Subresource) -> Option<(&'a str, &'a str)> {
    let (group, version) = sub.group_version.as_ref()?;
    ((&**group, &**version) != (row.group(), served)).then_some((group, version))
}

fn aggregated_resource(row: &Row, version: &Version) -> Value {
    let names = &row.def.names;
    let scope = if row.def.is_namespaced() { "Namespaced" } else { "Cluster" };
    let mut out = object!({
        "resource": (names.plural.as_ref()), "singularResource": (names.singular.as_ref()), "scope": scope,
        "responseKind": (response_kind(own(row, version), &names.kind)),
        "verbs": (row.def.verbs.names().collect::<Vec<_>>())
    });
    if !names.short.is_empty() {
        out.set(&["shortNames"], texts(&names.short));
    }
    if !names.categories.is_empty() {
        out.set(&["categories"], texts(&names.categories));
    }
    if !version.subresources.is_empty() {
        let subs: Vec<Value> =
            version.subresources.iter().map(|s| aggregated_subresource(row, version, s)).collect();
        out.set(&["subresources"], subs);
    }
    out
}

fn aggregated_subresource(row: &Row, version: &Version, sub: &Subresource) -> Value {
    let place = foreign(row, &version.name, sub).unwrap_or_else(|| own(row, version));
    object!({
        "subresource": (sub.name.as_ref()),
        "responseKind": (response_kind(place, &sub.kind)),
        "verbs": (sub.verbs.names().collect::<Vec<_>>())
    })
}

/// The group and version of what a resource answers with. Of a built-in kind they are left to the list that it stands in.
fn own<'a>(row: &'a Row, version: &'a Version) -> (&'a str, &'a str) {
    if row.custom { (row.group(), &version.name) } else { ("", "") }
}

fn response_kind((group, version): (&str, &str), kind: &str) -> Value {
    object!({"group": group, "version": version, "kind": kind})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_aggregated_form_is_asked_for() {
        let check = |accept: &str, want: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().expect("a header"));
            assert_eq!(wants_aggregated(&headers), want, "{accept}");
        };
        let aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        check(&format!("{aggregated},application/json"), true);
        check(&format!("{aggregated};profile=nopeer,{aggregated},application/json"), true);
        check("application/json", false);
        check(&format!("application/json,{aggregated}"), false);
        check(
            "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json",
            false,
        );
    }
}
