//! What the environment of a container refers to.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, Service};
use kube::api::{Api, ListParams};

use super::{Failure, chain, namespace};
use crate::host::Host;
use crate::objects::Kind as Of;
use crate::pod::env::Sources;
use crate::pod::volumes;

/// Gathers what the environment refers to.
pub(super) async fn sources(
    host: &Host,
    pod: &Pod,
    container: &Container,
    image: &[String],
) -> Result<Sources, Failure> {
    let mut sources = Sources { image: image.to_vec(), ..Sources::default() };
    let (mut maps, mut secrets) = (Vec::new(), Vec::new());
    for from in container.env_from.iter().flatten() {
        maps.extend(from.config_map_ref.as_ref().map(|r| r.name.clone()));
        secrets.extend(from.secret_ref.as_ref().map(|r| r.name.clone()));
    }
    for from in container.env.iter().flatten().filter_map(|v| v.value_from.as_ref()) {
        maps.extend(from.config_map_key_ref.as_ref().map(|r| r.name.clone()));
        secrets.extend(from.secret_key_ref.as_ref().map(|r| r.name.clone()));
    }
    let text = |data: BTreeMap<String, Vec<u8>>| -> BTreeMap<String, String> {
        data.into_iter().map(|(k, v)| (k, String::from_utf8_lossy(&v).into_owned())).collect()
    };
    let failed = |e: volumes::VolumeError| Failure::new("CreateContainerConfigError", chain(&e));
    for name in maps {
        if let Some(data) = volumes::read(host, pod, Of::ConfigMap, &name, true).await.map_err(failed)? {
            sources.config_maps.insert(name, text(data));
        }
    }
    for name in secrets {
        if let Some(data) = volumes::read(host, pod, Of::Secret, &name, true).await.map_err(failed)? {
            sources.secrets.insert(name, text(data));
        }
    }
    sources.services = service_variables(host, pod).await?;
    Ok(sources)
}

/// `NAME_SERVICE_HOST` and the like, for the services of the pod's namespace and the API itself.
async fn service_variables(host: &Host, pod: &Pod) -> Result<BTreeMap<String, String>, Failure> {
    let links = pod.spec.as_ref().and_then(|s| s.enable_service_links) != Some(false);
    let mut out = BTreeMap::new();
    let failed = |e: kube::Error| {
        Failure::new("CreateContainerConfigError", format!("services cannot be listed: {e}"))
    };
    let own: Api<Service> = Api::namespaced(host.client.clone(), namespace(pod));
    if links {
        own.list(&ListParams::default())
            .await
            .map_err(failed)?
            .items
            .iter()
            .for_each(|s| add_service(&mut out, s));
    }
    let master: Api<Service> = Api::namespaced(host.client.clone(), "default");
    if let Some(service) = master.get_opt("kubernetes").await.map_err(failed)? {
        add_service(&mut out, &service);
    }
    Ok(out)
}

fn add_service(out: &mut BTreeMap<String, String>, service: &Service) {
    let Some(spec) = &service.spec else { return };
    let ip = spec.cluster_ip.as_deref().unwrap_or_default();
    let Some(first) = spec.ports.iter().flatten().next() else { return };
    if matches!(ip, "" | "None") {
        return;
    }
    let name = service.metadata.name.as_deref().unwrap_or_default().to_uppercase().replace('-', "_");
    out.insert(format!("{name}_SERVICE_HOST"), ip.to_owned());
    out.insert(format!("{name}_SERVICE_PORT"), first.port.to_string());
    for (i, port) in spec.ports.iter().flatten().enumerate() {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let url = format!("{}://{ip}:{}", protocol.to_lowercase(), port.port);
        if let Some(port_name) = port.name.as_deref().filter(|n| !n.is_empty()) {
            let port_name = port_name.to_uppercase().replace('-', "_");
            out.insert(format!("{name}_SERVICE_PORT_{port_name}"), port.port.to_string());
        }
        if i == 0 {
            out.insert(format!("{name}_PORT"), url.clone());
        }
        let prefix = format!("{name}_PORT_{}_{protocol}", port.port);
        out.insert(prefix.clone(), url);
        out.insert(format!("{prefix}_PROTO"), protocol.to_lowercase());
        out.insert(format!("{prefix}_PORT"), port.port.to_string());
        out.insert(format!("{prefix}_ADDR"), ip.to_owned());
    }
}
