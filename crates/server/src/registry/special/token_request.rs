//! `serviceaccounts/token`: a token is made for an account, bound to it and, if asked, to a pod, secret or node
//! (`TokenRequest` of authentication.k8s.io/v1).

use std::time::Duration;

use http::StatusCode;
use xebec_api::{Cause, FieldPath, Status, Value, meta, object};

use super::pod::read_kind;
use crate::admission;
use crate::auth::token::{BoundKind, BoundObject, Claims};
use crate::core::Core;
use crate::http::reply::Reply;
use crate::http::route::Target;
use crate::registry::table::Served;
use crate::registry::{convert, read};
use crate::serve::Incoming;

const GROUP: &str = "authentication.k8s.io";
const KIND: &str = "TokenRequest";
const MIN_SECONDS: i64 = 600;
const MAX_SECONDS: i64 = 1 << 32;

/// POST of a `TokenRequest`.
pub(crate) async fn request_token(
    core: &Core,
    incoming: &mut Incoming,
    target: &Target,
    served: &Served,
) -> Result<Reply, Status> {
    let mut request = read_kind(incoming, GROUP, "v1", KIND).await?;
    admission::posted(core, &incoming.context, served, target, &mut request).await?;
    check_home(&request, target)?;
    let snapshot = core.newest().await?;
    let record = read::find(&snapshot, &served.row, &target.namespace, &target.name)?;
    let account = convert::stored_object(record)?;
    let uid = meta::uid(&account);
    if !meta::uid(&request).is_empty() && meta::uid(&request) != uid {
        let why = format!(
            "the UID in the token request ({}) does not match the UID of the service account ({uid})",
            meta::uid(&request)
        );
        return Err(Status::conflict(GROUP, KIND, &target.name, why));
    }
    let issued = incoming.context.now;
    let identity = [
        ("name", &*target.name),
        ("namespace", &target.namespace),
        ("uid", uid),
        ("creationTimestamp", &issued.to_string()),
    ];
    for (field, value) in identity {
        request.set(&["metadata", field], value);
    }
    let seconds = lifetime(core, incoming, &request)?;
    let audiences = match super::reviews::texts(request.array_at(&["spec", "audiences"])) {
        none if none.is_empty() => core.settings.audiences.clone(),
        some => some,
    };
    let (bound, node) = bound_object(core, target, &request)?;
    let expires = issued.after(Duration::from_secs(seconds.unsigned_abs()));
    let claims = Claims {
        namespace: target.namespace.clone(),
        name: target.name.clone(),
        uid: uid.to_owned(),
        bound,
        node,
        audiences: audiences.clone(),
        issued,
        expires,
        id: core.new_uid()?,
    };
    let signed = core.tokens.sign(&claims).map_err(|_| Status::internal("the token cannot be signed"))?;
    request.set(&["spec", "audiences"], audiences);
    request.set(&["spec", "expirationSeconds"], seconds);
    request.set(&["status"], object!({"token": (signed), "expirationTimestamp": (expires.to_string())}));
    Ok(Reply::Document(StatusCode::CREATED, request))
}

/// What the request says of its account is what its path says.
fn check_home(request: &Value, target: &Target) -> Result<(), Status> {
    let own = [
        ("name", meta::name(request), &target.name),
        ("namespace", meta::namespace(request), &target.namespace),
    ];
    for (field, said, path) in own {
        if !said.is_empty() && said != path {
            let detail = format!("must match the service account {field} if specified");
            let cause = Cause::invalid(FieldPath::new("metadata").field(field), said, &detail);
            return Err(Status::invalid(GROUP, KIND, &target.name, vec![cause]));
        }
    }
    Ok(())
}

/// How long the token is to last, in seconds.
fn lifetime(core: &Core, incoming: &Incoming, request: &Value) -> Result<i64, Status> {
    let limit = |limit: Duration| i64::try_from(limit.as_secs()).unwrap_or(i64::MAX);
    let (usual, longest) = (limit(core.settings.token_lifetime), limit(core.settings.max_token_lifetime));
    let seconds = request.i64_at(&["spec", "expirationSeconds"]).unwrap_or(usual);
    let fault = match seconds {
        ..MIN_SECONDS => Some("may not specify a duration less than 10 minutes"),
        _ if seconds > MAX_SECONDS => Some("may not specify a duration larger than 2^32 seconds"),
        _ => None,
    };
    if let Some(detail) = fault {
        let cause = Cause::invalid(FieldPath::new("spec.expirationSeconds"), seconds, detail);
        return Err(Status::invalid(GROUP, KIND, "", vec![cause]));
    }
    if seconds > longest {
        let text = format!("requested expiration of {seconds} seconds shortened to {longest} seconds");
        incoming.context.warn(text);
    }
    Ok(seconds.min(longest))
}

type Binding = (Option<BoundObject>, Option<(String, String)>);

/// The object that the token is to be bound to; of a pod also its node.
fn bound_object(core: &Core, target: &Target, request: &Value) -> Result<Binding, Status> {
    let Some(reference) = request.at(&["spec", "boundObjectRef"]).filter(|r| !r.is_null()) else {
        return Ok((None, None));
    };
    let text = |field: &str| reference.str_at(&[field]).unwrap_or_default();
    let (kind, resource, namespace) = match (text("apiVersion"), text("kind")) {
        ("v1", "Pod") => (BoundKind::Pod, "pods", target.namespace.as_str()),
        ("v1", "Secret") => (BoundKind::Secret, "secrets", target.namespace.as_str()),
        ("v1", "Node") => (BoundKind::Node, "nodes", ""),
        (version, kind) => {
            let text = format!("cannot bind token to object of type {version}, Kind={kind}");
            return Err(Status::bad_request(text));
        }
    };
    let table = core.table.get();
    let row = table.row("", resource).ok_or_else(Status::no_such_path)?;
    let snapshot = core.store.snapshot();
    let object = convert::stored_object(read::find(&snapshot, row, namespace, text("name"))?)?;
    let uid = meta::uid(&object);
    if !text("uid").is_empty() && text("uid") != uid {
        let why = format!(
            "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
            text("uid")
        );
        return Err(Status::conflict("", resource, text("name"), why));
    }
    if kind == BoundKind::Pod && object.str_at(&["spec", "serviceAccountName"]) != Some(&target.name) {
        let text = format!(
            "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
            target.name
        );
        return Err(Status::bad_request(text));
    }
    let node = (kind == BoundKind::Pod)
        .then(|| object.str_at(&["spec", "nodeName"]))
        .flatten()
        .filter(|n| !n.is_empty());
    let node = node.map(|name| {
        let record =
            table.row("", "nodes").and_then(|row| read::find(&snapshot, row, "", name).ok().cloned());
        let uid = record.and_then(|r| convert::stored_object(&r).ok()).map(|n| meta::uid(&n).to_owned());
        (name.to_owned(), uid.unwrap_or_default())
    });
    Ok((Some(BoundObject { kind, name: text("name").to_owned(), uid: uid.to_owned() }), node))
}
