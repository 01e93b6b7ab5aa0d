//! Groups, versions and resources, in the three forms that clients ask for: lists per group and version, and all at once
//! (aggregated discovery, apidiscovery.k8s.io/v2).

use http::HeaderMap;
use http::header::ACCEPT;
use xebec_api::resource::{Subresource, Version};
use xebec_api::{Status, Value, json, object};

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

/// Groups in their order, each with its served versions, the preferred one first.
pub(super) fn groups(table: &Table) -> impl Iterator<Item = (String, Vec<String>)> {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for row in table.rows() {
        let at = groups.iter().position(|(group, _)| group == row.group()).unwrap_or_else(|| {
            groups.push((row.group().to_owned(), Vec::new()));
            groups.len() - 1
        });
        for version in row.def.versions.iter().filter(|v| v.served) {
            if !groups[at].1.iter().any(|known| *known == version.name) {
                groups[at].1.push(version.name.to_string());
            }
        }
    }
    for (_, versions) in &mut groups {
        versions.sort_by_key(|version| std::cmp::Reverse(priority(version)));
    }
    groups.into_iter().filter(|(_, versions)| !versions.is_empty())
}

/// How versions compare: `v2` > `v1` > `v1beta2` > `v1beta1` > `v1alpha1` > anything else.
fn priority(version: &str) -> (u8, u32, u32) {
    let parse = |text: &str| text.parse::<u32>().ok();
    let Some(rest) = version.strip_prefix('v') else { return (0, 0, 0) };
    for (level, word) in [(2, "beta"), (1, "alpha")] {
        if let Some((major, minor)) = rest.split_once(word) {
            return match (parse(major), parse(minor)) {
                (Some(major), Some(minor)) => (level, major, minor),
                _ => (0, 0, 0),
            };
        }
    }
    parse(rest).map_or((0, 0, 0), |major| (3, major, 0))
}

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

fn group_value(group: &str, versions: &[String]) -> Value {
    let entry = |version: &String| object!({"groupVersion": (group_version(group, version)), "version": (version.as_str())});
    let entries: Vec<Value> = versions.iter().map(entry).collect();
    object!({"name": group, "versions": (entries.clone()), "preferredVersion": (entries.first().cloned())})
}

/// `APIGroupList`.
pub(super) fn list(table: &Table) -> Value {
    let named = groups(table).filter(|(group, _)| !group.is_empty());
    let values: Vec<Value> = named.map(|(group, versions)| group_value(&group, &versions)).collect();
    object!({"kind": "APIGroupList", "apiVersion": "v1", "groups": (values)})
}

/// `APIGroup`.
pub(super) fn group(table: &Table, name: &str) -> Result<Value, Status> {
    let (group, versions) =
        groups(table).find(|(group, _)| group == name).ok_or_else(Status::no_such_path)?;
    let mut value = group_value(&group, &versions);
    value.set(&["kind"], "APIGroup");
    value.set(&["apiVersion"], "v1");
    Ok(value)
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
        entries.extend(v.subresources.iter().map(|sub| subresource(row, sub)));
    }
    if entries.is_empty() {
        return Err(Status::no_such_path());
    }
    entries.sort_by(|a, b| a.str_at(&["name"]).cmp(&b.str_at(&["name"])));
    let group_version = group_version(group, version);
    Ok(
        object!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": (group_version), "resources": (entries)}),
    )
}

fn texts(items: &[xebec_api::resource::Text]) -> Vec<&str> {
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

fn subresource(row: &Row, sub: &Subresource) -> Value {
    let mut out = object!({
        "name": (format!("{}/{}", row.resource(), sub.name)), "singularName": "",
        "namespaced": (row.def.is_namespaced()), "kind": (sub.kind.as_ref()),
        "verbs": (sub.verbs.names().collect::<Vec<_>>())
    });
    if let Some((group, version)) = &sub.group_version {
        if !group.is_empty() {
            out.set(&["group"], group.as_ref());
        }
        out.set(&["version"], version.as_ref());
    }
    out
}

/// `APIGroupDiscoveryList`: the core group, or all others.
pub(super) fn aggregated(table: &Table, core: bool) -> Vec<u8> {
    let chosen = groups(table).filter(|(group, _)| group.is_empty() == core);
    let items: Vec<Value> =
        chosen.map(|(group, versions)| aggregated_group(table, &group, &versions)).collect();
    json::to_vec(&object!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": (items)
    }))
}

fn aggregated_group(table: &Table, group: &str, versions: &[String]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| {
            let resources: Vec<Value> =
                served(table, group, version).map(|(row, v)| aggregated_resource(row, v)).collect();
            object!({"version": (version.as_str()), "resources": (resources), "freshness": "Current"})
        })
        .collect();
    let metadata = if group.is_empty() {
        object!({"creationTimestamp": null})
    } else {
        object!({"name": group, "creationTimestamp": null})
    };
    object!({"metadata": (metadata), "versions": (versions)})
}

fn aggregated_resource(row: &Row, version: &Version) -> Value {
    let names = &row.def.names;
    let scope = if row.def.is_namespaced() { "Namespaced" } else { "Cluster" };
    let mut out = object!({
        "resource": (names.plural.as_ref()), "singularResource": (names.singular.as_ref()), "scope": scope,
        "responseKind": {"group": (row.group()), "version": (version.name.as_ref()), "kind": (names.kind.as_ref())},
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
    let (group, own_version) = match &sub.group_version {
        Some((group, version)) => (group.as_ref(), version.as_ref()),
        None => (row.group(), version.name.as_ref()),
    };
    object!({
        "subresource": (sub.name.as_ref()),
        "responseKind": {"group": group, "version": own_version, "kind": (sub.kind.as_ref())},
        "verbs": (sub.verbs.names().collect::<Vec<_>>())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_stability() {
        let mut versions = ["v1alpha1", "v1", "foo", "v2beta1", "v10", "v1beta2", "v2"];
        versions.sort_by_key(|v| std::cmp::Reverse(priority(v)));
        assert_eq!(versions, ["v10", "v2", "v1", "v2beta1", "v1beta2", "v1alpha1", "foo"]);
    }

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
