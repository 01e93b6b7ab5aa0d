//! The objects that every cluster has: namespaces, roles, priority classes, the service of the API itself.
//!
//! They are written at every start where they are missing; of a role, rules that it lost are put back.

use std::sync::Arc;

use futures::future::try_join_all;
use xebec_api::{Map, Reason, Status, Value, meta, object};

use crate::aggregation;
use crate::auth::User;
use crate::authz::{self, Rule, escalation};
use crate::core::{Context, Core};
use crate::flow;
use crate::http::query::Query;
use crate::registry::write::{self, Change, Part};

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
/// A role that says `false` here is left as it is.
const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// Writes what is missing.
///
/// # Errors
/// The store takes no writes.
pub(crate) async fn run(core: &Core) -> Result<(), Status> {
    let user = Arc::new(User::component("system:apiserver", &["system:masters"]));
    let context = Context::new(user, core.clock.now(), Query::default(), "xebec".into());
    // Namespaces come first: what lives in them needs them. All else is written at once, in one group commit.
    ensure_all(core, &context, NAMESPACES.map(namespace).to_vec()).await?;
    let mut objects = authz::bootstrap_objects(&core.settings.component_roles);
    objects.extend(priority_classes());
    objects.extend(flow::objects());
    objects.push(service_cidr(core));
    objects.extend(api_service(core)?);
    objects.extend(aggregation::built_in(&core.table.get()));
    objects.push(core.aggregation.front_proxy().config_map());
    ensure_all(core, &context, objects).await
}

async fn ensure_all(core: &Core, context: &Context, objects: Vec<Value>) -> Result<(), Status> {
    try_join_all(objects.into_iter().map(|object| ensure(core, context, object))).await.map(|_| ())
}

/// Writes an object if it is missing, and puts back what it lost.
///
/// # Errors
/// The store takes no writes.
pub(crate) async fn ensure(core: &Core, context: &Context, object: Value) -> Result<(), Status> {
    let api_version = object.str_at(&["apiVersion"]).unwrap_or_default().to_owned();
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let kind = object.str_at(&["kind"]).unwrap_or_default();
    let table = core.table.get();
    let row = table.rows().find(|row| row.group() == group && row.kind_name() == kind);
    let row = row.ok_or_else(|| Status::internal(format_args!("no resource for {api_version} {kind}")))?;
    let served = table.served(group, version, row.resource())?;
    let (namespace, name) = (meta::namespace(&object).to_owned(), meta::name(&object).to_owned());
    let key = row.key(&namespace, &name)?;
    if core.store.snapshot().get(&key).is_none() {
        let target = write::Target { served: &served, namespace: &namespace, name: "", part: Part::Main };
        return match write::create(core, context, target, object).await {
            Ok(_) => Ok(()),
            Err(status) if status.reason == Reason::AlreadyExists => Ok(()),
            Err(status) => Err(status),
        };
    }
    let restore: fn(&Value, &Value) -> Value = match group {
        "rbac.authorization.k8s.io" => restored_role,
        "flowcontrol.apiserver.k8s.io" => flow::restored,
        aggregation::GROUP => aggregation::restored,
        "" if row.kind_name() == "ConfigMap" => restored_data,
        _ => return Ok(()),
    };
    let target = write::Target { served: &served, namespace: &namespace, name: &name, part: Part::Main };
    write::change(core, context, target, &mut Restore { wanted: object, restore }).await.map(|_| ())
}

/// Puts back what an object lost.
struct Restore {
    wanted: Value,
    /// What it should be, given what it is, and what it is at first.
    restore: fn(&Value, &Value) -> Value,
}

impl Change for Restore {
    fn apply(&mut self, old: &Value) -> Result<Value, Status> {
        Ok((self.restore)(old, &self.wanted))
    }

    fn may_retry(&self) -> bool {
        true
    }
}

/// A ConfigMap whose entries are as they should be; what it has besides stays.
fn restored_data(old: &Value, wanted: &Value) -> Value {
    let mut new = old.clone();
    for (key, value) in wanted.object_at(&["data"]).into_iter().flat_map(Map::iter) {
        new.set(&["data", key], value.clone());
    }
    new
}

/// A role or binding with the rules, subjects, labels and selectors that it lost; what it has besides stays.
fn restored_role(old: &Value, wanted: &Value) -> Value {
    let mut new = old.clone();
    if meta::annotation(old, AUTO_UPDATE) == Some("false") {
        return new;
    }
    for map in ["labels", "annotations"] {
        for (key, value) in wanted.object_at(&["metadata", map]).into_iter().flat_map(Map::iter) {
            if old.at(&["metadata", map, key]).is_none() {
                new.set(&["metadata", map, key], value.clone());
            }
        }
    }
    let is_aggregated = old.get("aggregationRule").is_some();
    let lists: &[&[&str]] = match is_aggregated {
        // Its rules come from others.
        true => &[&["aggregationRule", "clusterRoleSelectors"]],
        false => &[&["rules"], &["subjects"]],
    };
    for list in lists {
        let mut items = old.array_at(list).to_vec();
        let lost: Vec<Value> =
            wanted.array_at(list).iter().filter(|item| !has(list[0], &items, item)).cloned().collect();
        if !lost.is_empty() {
            items.extend(lost);
            new.set(list, items);
        }
    }
    new
}

/// Whether nothing is lost of an item; of rules, whether the others allow what it does.
fn has(list: &str, items: &[Value], item: &Value) -> bool {
    if list != "rules" {
        return items.contains(item);
    }
    let held: Vec<Rule> = items.iter().map(Rule::from_value).collect();
    escalation::missing(&held, &[Rule::from_value(item)]).is_empty()
}

fn namespace(name: &str) -> Value {
    object!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

fn priority_classes() -> [Value; 2] {
    let class = |name: &str, value: i64, description: &str| {
        object!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": {"name": name}, "value": value, "description": description
        })
    };
    [
        class("system-node-critical", 2_000_001_000, "For pods that a node cannot do without"),
        class("system-cluster-critical", 2_000_000_000, "For pods that the cluster cannot do without"),
    ]
}

fn service_cidr(core: &Core) -> Value {
    let network = core.settings.service_network;
    object!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": [(format!("{}/{}", network.base, network.length))]}
    })
}

/// The port at which pods reach the API.
const API_PORT: i64 = 443;

/// The service through which pods reach the API: always the first address of the network. Nodes answer there themselves,
/// so what stands behind the service is its own address.
fn api_service(core: &Core) -> Result<[Value; 3], Status> {
    let ip = core.settings.service_network.address(1);
    let ip = ip.ok_or_else(|| Status::internal("the service network is too small"))?.to_string();
    let ip = ip.as_str();
    let port = object!({"name": "https", "port": API_PORT, "protocol": "TCP"});
    let service = object!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"}
        },
        "spec": {
            "type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip],
            "ports": [{"name": "https", "port": API_PORT, "protocol": "TCP", "targetPort": API_PORT}]
        }
    });
    let endpoints = object!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}
        },
        "subsets": [{"addresses": [{"ip": ip}], "ports": [(port.clone())]}]
    });
    let slice = object!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [ip], "conditions": {"ready": true}}],
        "ports": [(port)]
    });
    Ok([service, endpoints, slice])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lost_comes_back_and_what_was_added_stays() {
        let rule = |verbs: &str, resource: &str| Rule::on(verbs, "", resource).to_value();
        let wanted = object!({
            "metadata": {"labels": {"a": "b"}, "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"}},
            "rules": [(rule("get list", "pods")), (rule("get", "nodes"))]
        });
        let restored = |old: &Value| restored_role(old, &wanted);
        let added = rule("get", "secrets");
        let old =
            object!({"metadata": {"labels": {"a": "c"}}, "rules": [(rule("*", "pods")), (added.clone())]});
        let new = restored(&old);
        assert_eq!(new.array_at(&["rules"]), [rule("*", "pods"), added, rule("get", "nodes")]);
        assert_eq!(new.str_at(&["metadata", "labels", "a"]), Some("c"));
        assert_eq!(meta::annotation(&new, AUTO_UPDATE), Some("true"));
        assert_eq!(restored(&new), new, "nothing is lost any more");
        let mut kept = object!({"metadata": {"annotations": {}}, "rules": []});
        kept.set(&["metadata", "annotations", AUTO_UPDATE], "false");
        assert_eq!(restored(&kept), kept, "its owner wants it so");
        let aggregated = object!({"metadata": {}, "aggregationRule": {}, "rules": []});
        assert_eq!(restored(&aggregated).array_at(&["rules"]), []);
    }
}
