//! `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` of a pod.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use k8s_openapi::api::core::v1::Pod;

use super::volumes::{VolumeError, make_directory};
use crate::host::{Host, PodDir};

/// The pod's host name: its own, else its name, at most 63 bytes.
#[must_use]
pub(super) fn hostname(pod: &Pod) -> String {
    let own = pod.spec.as_ref().and_then(|s| s.hostname.as_deref()).filter(|h| !h.is_empty());
    let name = own.or(pod.metadata.name.as_deref()).unwrap_or("pod");
    let cut = name.get(..63).unwrap_or(name);
    cut.trim_end_matches(['-', '.']).to_owned()
}

/// Writes the files.
///
/// # Errors
/// The disk says no.
pub(super) fn write(host: &Host, pod: &Pod, dir: &PodDir, ip: Option<IpAddr>) -> Result<(), VolumeError> {
    let etc = dir.etc();
    make_directory(&etc, 0o755)?;
    put(&etc.join("hostname"), &format!("{}\n", hostname(pod)))?;
    put(&etc.join("hosts"), &hosts(pod, ip, &host.domain))?;
    put(&etc.join("resolv.conf"), &resolv_conf(pod, host.dns, &host.domain))
}

fn put(path: &Path, text: &str) -> Result<(), VolumeError> {
    let failed = |source| VolumeError::Disk { path: path.to_owned(), source };
    fs::write(path, text).map_err(failed)?;
    let root = xebec_sandbox::config::host_id(0);
    std::os::unix::fs::chown(path, root, root).map_err(failed)?;
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).map_err(failed)
}

fn hosts(pod: &Pod, ip: Option<IpAddr>, domain: &str) -> String {
    let mut out = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    let spec = pod.spec.as_ref();
    if let Some(ip) = ip {
        let name = hostname(pod);
        let subdomain = spec.and_then(|s| s.subdomain.as_deref()).filter(|s| !s.is_empty());
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        match subdomain {
            Some(sub) => out.push_str(&format!("{ip}\t{name}.{sub}.{namespace}.svc.{domain}\t{name}\n")),
            None => out.push_str(&format!("{ip}\t{name}\n")),
        }
    }
    for alias in spec.into_iter().flat_map(|s| s.host_aliases.iter().flatten()) {
        let names = alias.hostnames.iter().flatten().map(String::as_str).collect::<Vec<_>>().join("\t");
        out.push_str(&format!("{}\t{names}\n", alias.ip));
    }
    out
}

fn resolv_conf(pod: &Pod, dns: IpAddr, domain: &str) -> String {
    let spec = pod.spec.as_ref();
    let own = spec.and_then(|s| s.dns_config.clone()).unwrap_or_default();
    let policy = spec.and_then(|s| s.dns_policy.as_deref()).unwrap_or("ClusterFirst");
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let (mut servers, mut searches, mut options) = match policy {
        "None" => (Vec::new(), Vec::new(), Vec::new()),
        // The cluster's server passes on what it does not know, so it serves for the node's names too.
        "Default" => (vec![dns.to_string()], Vec::new(), Vec::new()),
        _ => (
            vec![dns.to_string()],
            vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()],
            vec!["ndots:5".to_owned()],
        ),
    };
    servers.extend(own.nameservers.into_iter().flatten());
    searches.extend(own.searches.into_iter().flatten());
    for option in own.options.into_iter().flatten() {
        let name = option.name.unwrap_or_default();
        options.retain(|o| o.split(':').next() != Some(&name));
        options.push(option.value.map_or(name.clone(), |value| format!("{name}:{value}")));
    }
    let mut out: String = servers.iter().map(|s| format!("nameserver {s}\n")).collect();
    if !searches.is_empty() {
        out.push_str(&format!("search {}\n", searches.join(" ")));
    }
    if !options.is_empty() {
        out.push_str(&format!("options {}\n", options.join(" ")));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{PodDNSConfig, PodDNSConfigOption, PodSpec};

    #[test]
    fn names_are_resolved_in_the_cluster_first() {
        let mut pod = Pod::default();
        pod.metadata.namespace = Some("default".into());
        let dns = IpAddr::from([10, 43, 0, 10]);
        assert_eq!(
            resolv_conf(&pod, dns, "cluster.local"),
            "nameserver 10.43.0.10\nsearch default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
        );
        let option = PodDNSConfigOption { name: Some("ndots".into()), value: Some("2".into()) };
        let config = PodDNSConfig {
            nameservers: Some(vec!["1.1.1.1".into()]),
            options: Some(vec![option]),
            ..PodDNSConfig::default()
        };
        pod.spec =
            Some(PodSpec { dns_policy: Some("None".into()), dns_config: Some(config), ..PodSpec::default() });
        assert_eq!(resolv_conf(&pod, dns, "cluster.local"), "nameserver 1.1.1.1\noptions ndots:2\n");
    }

    #[test]
    fn a_pod_knows_its_own_name() {
        let mut pod = Pod::default();
        pod.metadata.name = Some("web-1".into());
        let text = hosts(&pod, Some(IpAddr::from([10, 42, 0, 2])), "cluster.local");
        assert!(text.ends_with("10.42.0.2\tweb-1\n"), "{text}");
        pod.metadata.name = Some(format!("{}-x", "a".repeat(62)));
        assert_eq!(hostname(&pod).len(), 62);
    }
}
