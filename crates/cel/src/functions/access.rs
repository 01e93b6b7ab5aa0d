//! `authorizer.group('').resource('pods').check('create').allowed()` (upstream's libraries `kubernetes.authz` and
//! `kubernetes.authzSelectors`): questions are put together here and answered by the host.

use std::sync::Arc;

use super::{Args, Fun, Outcome};
use crate::authz::{AccessRequest, AccessTarget, Authority, Decision, PathCheck, Resource, ResourceCheck};
use crate::error::{EvalError, fail, no_overload};
use crate::opaque::Opaque;
use crate::value::Value;

pub(super) fn lookup(name: &str) -> Option<Fun> {
    Some(match name {
        "path" => path,
        "group" => group,
        "serviceAccount" => service_account,
        "resource" => resource,
        "subresource" => |args| narrowed(args, |resource| &mut resource.subresource),
        "namespace" => |args| narrowed(args, |resource| &mut resource.namespace),
        "name" => |args| narrowed(args, |resource| &mut resource.name),
        "fieldSelector" => |args| narrowed(args, |resource| &mut resource.field_selector),
        "labelSelector" => |args| narrowed(args, |resource| &mut resource.label_selector),
        "check" => check,
        "allowed" => |args| Ok(Value::Bool(decision(args)?.allowed)),
        "errored" => |args| Ok(Value::Bool(decision(args)?.error.is_some())),
        "error" => |args| Ok(Value::from(decision(args)?.error.clone().unwrap_or_default())),
        "reason" => |args| Ok(Value::from(decision(args)?.reason.clone())),
        _ => return None,
    })
}

fn authority<'a>(args: &Args<'_, 'a>) -> Result<Authority<'a>, EvalError> {
    match args.get(0) {
        Value::Opaque(Opaque::Authorizer(authority)) => Ok(authority.clone()),
        _ => no_overload(),
    }
}

fn decision(args: &Args<'_, '_>) -> Result<Arc<Decision>, EvalError> {
    match args.get(0) {
        Value::Opaque(Opaque::Decision(decision)) => Ok(Arc::clone(decision)),
        _ => no_overload(),
    }
}

fn path<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let (authority, path) = (authority(args)?, args.str(1)?);
    if path.trim().is_empty() {
        return fail("path must not be empty");
    }
    Ok(Value::Opaque(Opaque::PathCheck(Arc::new(PathCheck { authority, path: path.into() }))))
}

fn group<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let (authority, group) = (authority(args)?, args.str(1)?);
    let resource = Resource { group: group.to_owned(), ..Resource::default() };
    Ok(Value::Opaque(Opaque::GroupCheck(Arc::new(ResourceCheck { authority, resource }))))
}

fn is_label(text: &str) -> bool {
    let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && bytes.first().is_some_and(|b| fine(*b))
        && bytes.last().is_some_and(|b| fine(*b))
        && bytes.iter().all(|b| fine(*b) || *b == b'-')
}

fn service_account<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let authority = authority(args)?;
    let (namespace, name) = (args.str(1)?, args.str(2)?);
    let subdomain = name.len() <= 253 && name.split('.').all(is_label);
    if !subdomain {
        return fail("Invalid service account name");
    }
    if !is_label(namespace) {
        return fail("Invalid service account namespace");
    }
    let service_account = Some((namespace.into(), name.into()));
    Ok(Value::Opaque(Opaque::Authorizer(Authority { authorizer: authority.authorizer, service_account })))
}

fn resource<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let Value::Opaque(Opaque::GroupCheck(check)) = args.get(0) else { return no_overload() };
    let name = args.str(1)?;
    if name.trim().is_empty() {
        return fail("resource must not be empty");
    }
    let mut check = ResourceCheck::clone(check);
    check.resource.resource = name.to_owned();
    Ok(Value::Opaque(Opaque::ResourceCheck(Arc::new(check))))
}

fn narrowed<'a>(args: &mut Args<'_, 'a>, part: fn(&mut Resource) -> &mut String) -> Outcome<'a> {
    let Value::Opaque(Opaque::ResourceCheck(check)) = args.get(0) else { return no_overload() };
    let mut check = ResourceCheck::clone(check);
    args.str(1)?.clone_into(part(&mut check.resource));
    Ok(Value::Opaque(Opaque::ResourceCheck(Arc::new(check))))
}

fn check<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let verb = args.str(1)?;
    let (authority, target) = match args.get(0) {
        Value::Opaque(Opaque::PathCheck(check)) => (&check.authority, AccessTarget::Path(&check.path)),
        Value::Opaque(Opaque::ResourceCheck(check)) => {
            (&check.authority, AccessTarget::Resource(&check.resource))
        }
        _ => return no_overload(),
    };
    let service_account = authority.service_account.as_ref().map(|(namespace, name)| (&**namespace, &**name));
    let decision = authority.authorizer.authorize(&AccessRequest { service_account, verb, target });
    Ok(Value::Opaque(Opaque::Decision(Arc::new(decision))))
}
