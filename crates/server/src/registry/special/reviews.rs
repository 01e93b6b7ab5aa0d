//! Questions to the server that leave nothing behind: who am I, may I, is this token good.

use http::StatusCode;
use xebec_api::{Status, Value, object};

use super::pod::read_kind;
use crate::auth::User;
use crate::authz::Question;
use crate::core::{Context, Core};
use crate::http::query::ListOptions;
use crate::http::reply::Reply;
use crate::http::route::{Target, Verb};
use crate::registry::table::Served;
use crate::serve::Incoming;

/// POST of a review.
pub(super) async fn create(
    core: &Core,
    incoming: &mut Incoming,
    target: &Target,
    served: &Served,
) -> Result<Reply, Status> {
    let kind = served.row.kind_name().to_owned();
    let mut review = read_kind(incoming, &target.group, &target.version, &kind).await?;
    let user = incoming.context.user.clone();
    let spec = review.get("spec").cloned().unwrap_or_default();
    let status = match kind.as_str() {
        "SelfSubjectReview" => object!({"userInfo": (user.to_value())}),
        "TokenReview" => token(core, &spec),
        "SelfSubjectAccessReview" => access(core, &user, &spec)?,
        "SubjectAccessReview" => access(core, &subject(&spec)?, &spec)?,
        "LocalSubjectAccessReview" => {
            let namespace = spec.str_at(&["resourceAttributes", "namespace"]).unwrap_or_default();
            if namespace != target.namespace {
                let path = xebec_api::FieldPath::new("spec.resourceAttributes.namespace");
                let cause = xebec_api::Cause::invalid(path, namespace, "must match metadata.namespace");
                return Err(Status::invalid(&target.group, &kind, "", vec![cause]));
            }
            access(core, &subject(&spec)?, &spec)?
        }
        "SelfSubjectRulesReview" => rules(core, &user, &spec)?,
        other => return Err(Status::internal(format_args!("no review {other}"))),
    };
    review.set(&["status"], status);
    Ok(Reply::Document(StatusCode::CREATED, review))
}

fn token(core: &Core, spec: &Value) -> Value {
    let wanted: Vec<String> =
        spec.array_at(&["audiences"]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let audiences = if wanted.is_empty() { vec![core.settings.issuer.clone()] } else { wanted };
    match crate::auth::accounts::identify(core, spec.str_at(&["token"]).unwrap_or_default(), &audiences) {
        Ok((user, claims)) => {
            let shared: Vec<&str> =
                claims.audiences.iter().filter(|a| audiences.contains(a)).map(String::as_str).collect();
            object!({"authenticated": true, "user": (user.to_value()), "audiences": (shared)})
        }
        Err(error) => object!({"authenticated": false, "user": {}, "error": (error.to_string())}),
    }
}

fn subject(spec: &Value) -> Result<User, Status> {
    let groups: Vec<String> =
        spec.array_at(&["groups"]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let name = spec.str_at(&["user"]).unwrap_or_default();
    if name.is_empty() && groups.is_empty() {
        return Err(Status::bad_request(
            "spec.user: Invalid value: \"\": at least one of user or group must be specified",
        ));
    }
    Ok(User { name: name.to_owned(), groups, ..User::default() })
}

fn access(core: &Core, user: &User, spec: &Value) -> Result<Value, Status> {
    let text = |path: &[&str]| spec.str_at(path).unwrap_or_default().to_owned();
    let verb;
    let mut values = [const { String::new() }; 6];
    if spec.get("resourceAttributes").is_some() {
        verb = text(&["resourceAttributes", "verb"]);
        for (value, field) in values.iter_mut().zip(["group", "resource", "subresource", "namespace", "name"])
        {
            *value = text(&["resourceAttributes", field]);
        }
    } else if spec.get("nonResourceAttributes").is_some() {
        verb = text(&["nonResourceAttributes", "verb"]);
        values[5] = text(&["nonResourceAttributes", "path"]);
    } else {
        return Err(Status::bad_request(
            "exactly one of spec.resourceAttributes and spec.nonResourceAttributes must be specified",
        ));
    }
    let [group, resource, subresource, namespace, name, path] = &values;
    let question = Question { verb: &verb, group, resource, subresource, namespace, name, path };
    Ok(match core.authorizer.check(user, &question) {
        Ok(()) => object!({"allowed": true}),
        Err(why) => object!({"allowed": false, "reason": (why)}),
    })
}

fn rules(core: &Core, user: &User, spec: &Value) -> Result<Value, Status> {
    let namespace = spec.str_at(&["namespace"]).unwrap_or_default();
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let rules = core.authorizer.rules(user, namespace);
    let of = |resources: bool| -> Vec<Value> {
        rules
            .iter()
            .filter(|r| if resources { !r.resources.is_empty() } else { !r.paths.is_empty() })
            .map(|r| {
                let mut rule = r.clone();
                if resources {
                    rule.paths.clear();
                } else {
                    rule.resources.clear();
                    rule.groups.clear();
                }
                rule.to_value()
            })
            .collect()
    };
    Ok(object!({"resourceRules": (of(true)), "nonResourceRules": (of(false)), "incomplete": false}))
}

/// `componentstatuses`: the parts that upstream lists, as they are here.
pub(super) fn component_status(
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
