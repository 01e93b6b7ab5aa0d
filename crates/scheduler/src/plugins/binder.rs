//! Tells the API where a pod goes.

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use xebec_controllers::runtime::error::ApiError;
use xebec_controllers::runtime::writer::Requests;

use crate::framework::Bind;
use crate::pod::PodInfo;

/// Posts to `pods/binding`.
pub(super) struct DefaultBinder;

impl Bind for DefaultBinder {
    fn bind<'a>(
        &'a self,
        requests: &'a Requests,
        pod: &'a PodInfo,
        node: &'a str,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        async move {
            let body = json!({
                "apiVersion": "v1", "kind": "Binding",
                "metadata": { "name": pod.key.name(), "namespace": pod.key.namespace(), "uid": pod.uid.as_str() },
                "target": { "apiVersion": "v1", "kind": "Node", "name": node },
            });
            requests.post_subresource::<Pod>(&pod.key, "binding", &body).await
        }
        .boxed()
    }
}
