//! Questions to the server that leave nothing behind: who am I, may I, is this token good
//! (authentication.k8s.io/v1, authorization.k8s.io/v1).

mod access;
mod selectors;

use http::StatusCode;
use xebec_api::time::Timestamp;
use xebec_api::{Status, Value, object};

use super::pod::read_kind;
use crate::auth::{User, bearer};
use crate::core::Core;
use crate::http::reply::Reply;
use crate::http::route::Target;
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
    let status = match kind.as_str() {
        "SelfSubjectReview" => {
            review.set(&["metadata", "creationTimestamp"], incoming.context.now.to_string());
            object!({"userInfo": (user.to_value())})
        }
        "TokenReview" => token(core, &review, incoming.context.now).await?,
        "SelfSubjectAccessReview" | "SubjectAccessReview" | "LocalSubjectAccessReview" => {
            access::review(core, &user, &mut review, &kind, target).await?
        }
        "SelfSubjectRulesReview" => rules(core, &user, &review)?,
        other => return Err(Status::internal(format_args!("no review {other}"))),
    };
    review.set(&["status"], status);
    Ok(Reply::Document(StatusCode::CREATED, review))
}

/// The texts in a list.
pub(super) fn texts(list: &[Value]) -> Vec<String> {
    list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

async fn token(core: &Core, review: &Value, now: Timestamp) -> Result<Value, Status> {
    let token = review.str_at(&["spec", "token"]).unwrap_or_default();
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let mut audiences = texts(review.array_at(&["spec", "audiences"]));
    if audiences.is_empty() {
        audiences.clone_from(&core.settings.audiences);
    }
    Ok(match bearer::identify(core, token, &audiences, now).await {
        Ok(holder) => object!({
            "authenticated": true, "user": (holder.user.to_value()), "audiences": (holder.audiences)
        }),
        Err(error) => object!({"user": {}, "error": (error.to_string())}),
    })
}

/// What the user may do in a namespace, and in the cluster.
fn rules(core: &Core, user: &User, review: &Value) -> Result<Value, Status> {
    let namespace = review.str_at(&["spec", "namespace"]).unwrap_or_default();
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let held = core.authorizer.rules(user, namespace);
    let (mut resources, mut paths) = (Vec::new(), Vec::new());
    for mut rule in held.rules {
        if !rule.paths.is_empty() {
            let mut rule = rule.clone();
            (rule.resources, rule.groups, rule.names) = Default::default();
            paths.push(rule.to_value());
        }
        if !rule.resources.is_empty() {
            rule.paths.clear();
            resources.push(rule.to_value());
        }
    }
    let mut status =
        object!({"resourceRules": (resources), "nonResourceRules": (paths), "incomplete": (held.incomplete)});
    if !held.faults.is_empty() {
        status.set(&["evaluationError"], crate::authz::together(&held.faults));
    }
    Ok(status)
}
