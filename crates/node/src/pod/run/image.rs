//! The image of a container, there before it is made.

use std::sync::Arc;
use std::time::SystemTime;

use k8s_openapi::api::core::v1::{Container, Pod};
use xebec_image::images::Record;
use xebec_image::progress::Silent;
use xebec_image::reference::Reference;
use xebec_image::registry::Keyring;

use super::{Failure, chain};
use crate::events::Kind;
use crate::host::Host;
use crate::objects::Kind as Of;
use crate::pod::volumes;

/// The container's image, pulled as its policy wants.
pub(super) async fn image(host: &Host, pod: &Pod, container: &Container) -> Result<Record, Failure> {
    let text = container.image.as_deref().unwrap_or_default();
    let reference = Reference::parse(text).map_err(|e| {
        Failure::new("InvalidImageName", format!("Failed to apply default image tag {text:?}: {e}"))
    })?;
    let present = host.images.get(&reference);
    let policy = container.image_pull_policy.as_deref().unwrap_or("IfNotPresent");
    let say =
        |kind, reason, message: String| host.events.pod(pod, Some(&container.name), kind, reason, message);
    match (policy, present) {
        ("IfNotPresent" | "Never", Some(record)) => {
            say(Kind::Normal, "Pulled", format!("Container image {text:?} already present on machine"));
            return Ok(record);
        }
        ("Never", None) => {
            let message = format!("Container image {text:?} is not present with pull policy of Never");
            say(Kind::Warning, "ErrImageNeverPull", message.clone());
            return Err(Failure::new("ErrImageNeverPull", message));
        }
        _ => {}
    }
    say(Kind::Normal, "Pulling", format!("Pulling image {text:?}"));
    let keyring = keyring(host, pod).await;
    let began = SystemTime::now();
    match host.images.pull(&reference, &keyring, Arc::new(Silent)).await.map_err(|e| chain(&e)) {
        Ok(record) => {
            let took = began.elapsed().unwrap_or_default().as_millis();
            say(
                Kind::Normal,
                "Pulled",
                format!("Successfully pulled image {text:?} in {took}ms. Image size: {} bytes.", record.size),
            );
            Ok(record)
        }
        Err(error) => {
            let message = format!(
                "Failed to pull image {text:?}: {error}. Check its name and that its registry can be reached, or bring \
                 it in from an archive: xebec image import FILE"
            );
            say(Kind::Warning, "Failed", message.clone());
            Err(Failure::new("ErrImagePull", message))
        }
    }
}

/// Credentials of the pod's pull secrets; one that cannot be read is said and passed over, as upstream does.
async fn keyring(host: &Host, pod: &Pod) -> Keyring {
    let mut keyring = Keyring::default();
    for reference in pod.spec.iter().flat_map(|s| s.image_pull_secrets.iter().flatten()) {
        let read = match volumes::read(host, pod, Of::Secret, &reference.name, false).await {
            Ok(data) => data
                .unwrap_or_default()
                .remove(".dockerconfigjson")
                .ok_or_else(|| "no .dockerconfigjson".to_owned()),
            Err(error) => Err(chain(&error)),
        };
        let parsed = read.and_then(|bytes| Keyring::parse(&bytes).map_err(|e| e.to_string()));
        match parsed {
            Ok(more) => keyring.extend(more),
            Err(why) => {
                let message = format!(
                    "Unable to retrieve image pull secret {:?}: {why}; attempting to pull the image may not succeed.",
                    reference.name
                );
                host.events.pod(pod, None, Kind::Warning, "FailedToRetrieveImagePullSecret", message);
            }
        }
    }
    keyring
}
