//! How many pods an owner wants, asked of its `scale` subresource: for kinds that no cache holds.

use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResource;
use kube::Client;
use kube::core::Request;

use crate::pod::Owner;
use crate::runtime::discovery::{ApiKind, ResourceId};
use crate::runtime::error::ApiError;
use crate::runtime::object::Uid;
use crate::runtime::writer::api_error;

/// The replicas that `owner` wants; `None` when it is gone or its kind has no scale.
pub(super) async fn replicas(
    client: &Client,
    namespace: &str,
    owner: &Owner,
) -> Result<Option<i32>, ApiError> {
    let failed = |source| api_error("get", format!("scale of {}", owner.kind).into(), &owner.name, source);
    let (group, version) = owner.api_version.split_once('/').unwrap_or(("", &owner.api_version));
    let listed = match group {
        "" => client.list_core_api_resources(version).await,
        _ => client.list_api_group_resources(&owner.api_version).await,
    };
    let Some(listed) = present(listed.map_err(failed))? else { return Ok(None) };
    let Some(plural) = scalable(&listed.resources, &owner.kind) else { return Ok(None) };
    let kind = ApiKind {
        id: ResourceId { group: group.to_owned(), plural: plural.to_owned() },
        version: version.to_owned(),
        kind: owner.kind.to_string(),
        namespaced: true,
        verbs: ["get".to_owned()].into(),
    };
    let request = Request::new(kind.path(Some(namespace))).get_subresource("scale", &owner.name);
    let request = request.map_err(|error| failed(kube::Error::BuildRequest(error)))?;
    let Some(scale) = present(client.request::<Scale>(request).await.map_err(failed))? else {
        return Ok(None);
    };
    let wanted = scale.spec.and_then(|spec| spec.replicas).unwrap_or(0);
    Ok((Uid::of(&scale.metadata) == owner.uid).then_some(wanted))
}

fn present<T>(found: Result<T, ApiError>) -> Result<Option<T>, ApiError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The plural name of a kind that has a scale.
fn scalable<'a>(resources: &'a [APIResource], kind: &str) -> Option<&'a str> {
    let named = |name: &str| resources.iter().any(|resource| resource.name == name);
    let plural = resources.iter().find(|resource| resource.kind == kind && !resource.name.contains('/'))?;
    named(&format!("{}/scale", plural.name)).then_some(plural.name.as_str())
}
