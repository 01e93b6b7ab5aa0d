//! `componentstatuses`: the parts that upstream lists, as they are here.

use xebec_api::{Status, Value, object};

use crate::core::{Context, Core};
use crate::http::query::ListOptions;
use crate::http::reply::Reply;
use crate::http::route::{Target, Verb};
use crate::registry::table::Served;

/// GET and LIST.
pub(super) fn status(
    core: &Core,
    context: &Context,
    verb: Verb,
    target: &Target,
    served: &Served,
) -> Result<Reply, Status> {
    let healthy = matches!(core.store.health(), xebec_store::Health::Writable);
    let one = |name: &str, healthy: bool| {
        let (status, message) = if healthy { ("True", "ok") } else { ("False", "the store takes no writes") };
        object!({
            "apiVersion": "v1", "kind": "ComponentStatus", "metadata": {"name": name},
            "conditions": [{"type": "Healthy", "status": status, "message": message}]
        })
    };
    let all = [one("controller-manager", true), one("etcd-0", healthy), one("scheduler", true)];
    if verb == Verb::List {
        let ListOptions { labels, fields, .. } = ListOptions::from_query(&context.query)?;
        let wanted = |item: &Value| {
            let name = |path: &str| (path == "metadata.name").then(|| xebec_api::meta::name(item));
            labels.matches_labels(None) && fields.matches(name)
        };
        let items: Vec<Value> = all.into_iter().filter(wanted).collect();
        return Ok(Reply::ok(object!({
            "apiVersion": "v1", "kind": "ComponentStatusList", "metadata": {}, "items": (items)
        })));
    }
    let named = all.into_iter().find(|c| xebec_api::meta::name(c) == target.name);
    named.map(Reply::ok).ok_or_else(|| Status::not_found("", served.row.resource(), &target.name))
}
