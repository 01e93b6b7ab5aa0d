//! Services, endpoints, ingresses, network policies and addresses.

use std::collections::BTreeSet;

use super::{AGE, Entry, NAME, OBJECT_NAME, identifying, selector, text};
use crate::Value;
use crate::resource::Column;
use crate::table::NAME_DESCRIPTION;
use crate::table::cell::{self, Printer, annotation, shortened, text_at};

pub(super) static ENTRIES: &[Entry] = &[
    ("", "services", &SERVICES),
    ("", "endpoints", &ENDPOINTS),
    ("discovery.k8s.io", "endpointslices", &ENDPOINT_SLICES),
    ("networking.k8s.io", "ingresses", &INGRESSES),
    ("networking.k8s.io", "ingressclasses", &INGRESS_CLASSES),
    ("networking.k8s.io", "networkpolicies", &NETWORK_POLICIES),
    ("networking.k8s.io", "servicecidrs", &SERVICE_CIDRS),
    ("networking.k8s.io", "ipaddresses", &IP_ADDRESSES),
];

static SERVICES: [Column; 7] = [
    NAME,
    text("Type", "How the service is reached", Printer::Text("spec.type", "")),
    text("Cluster-IP", "Its address inside the cluster", Printer::Call(cluster_ip)),
    text("External-IP", "Its addresses outside", Printer::Call(external_ip)),
    text("Port(s)", "Its ports", Printer::Call(ports)),
    AGE,
    selector(Printer::Labels("spec.selector")),
];

static ENDPOINTS: [Column; 3] =
    [NAME, text("Endpoints", "Where the service's pods are reached", Printer::Call(endpoints)), AGE];

static ENDPOINT_SLICES: [Column; 5] = [
    NAME,
    text("AddressType", "What kind of addresses the slice holds", Printer::Text("addressType", "")),
    text("Ports", "The ports of each endpoint", Printer::Call(slice_ports)),
    text("Endpoints", "The addresses", Printer::Call(slice_addresses)),
    AGE,
];

static INGRESSES: [Column; 6] = [
    NAME,
    text("Class", "Which controller serves it", Printer::Text("spec.ingressClassName", "<none>")),
    text("Hosts", "The host names that requests are matched with", Printer::Call(hosts)),
    text("Address", "Where it is reached", Printer::Call(|i| load_balancer(i).join(","))),
    text("Ports", "The ports it listens on", Printer::Call(ingress_ports)),
    AGE,
];

static INGRESS_CLASSES: [Column; 4] = [
    identifying("Name", NAME_DESCRIPTION, Printer::Call(ingress_class_name)),
    text("Controller", "Who serves ingresses of this class", Printer::Text("spec.controller", "")),
    text("Parameters", "The object with further settings", Printer::Call(parameters)),
    AGE,
];

static NETWORK_POLICIES: [Column; 3] =
    [NAME, text("Pod-Selector", "Which pods it is for", Printer::Selector("spec.podSelector")), AGE];

static SERVICE_CIDRS: [Column; 3] =
    [NAME, text("CIDRs", "The ranges of service addresses", Printer::List("spec.cidrs", "")), AGE];

static IP_ADDRESSES: [Column; 2] = [
    identifying("Name", NAME_DESCRIPTION, OBJECT_NAME),
    text("ParentRef", "Whose address it is", Printer::Call(parent)),
];

fn none() -> String {
    "<none>".to_owned()
}

fn strings(object: &Value, path: &[&str]) -> Vec<String> {
    object.array_at(path).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn cluster_ip(service: &Value) -> String {
    strings(service, &["spec", "clusterIPs"]).into_iter().next().unwrap_or_else(none)
}

fn external_ip(service: &Value) -> String {
    let external = strings(service, &["spec", "externalIPs"]);
    match service.str_at(&["spec", "type"]) {
        Some("ClusterIP" | "NodePort") if external.is_empty() => none(),
        Some("ClusterIP" | "NodePort") => external.join(","),
        Some("LoadBalancer") => {
            let mut all = load_balancer(service);
            all.extend(external);
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        Some("ExternalName") => text_at(service, "spec.externalName").unwrap_or_default().to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

/// The addresses or names of a load balancer, sorted, each once.
fn load_balancer(object: &Value) -> Vec<String> {
    let ingress = object.array_at(&["status", "loadBalancer", "ingress"]);
    let address = |i: &Value| text_at(i, "ip").or_else(|| text_at(i, "hostname")).map(str::to_owned);
    ingress.iter().filter_map(address).collect::<BTreeSet<_>>().into_iter().collect()
}

fn ports(service: &Value) -> String {
    let port = |p: &Value| {
        let number = p.i64_at(&["port"]).unwrap_or_default();
        let protocol = p.str_at(&["protocol"]).unwrap_or_default();
        match p.i64_at(&["nodePort"]) {
            Some(node) if node > 0 => format!("{number}:{node}/{protocol}"),
            _ => format!("{number}/{protocol}"),
        }
    };
    let ports: Vec<String> = service.array_at(&["spec", "ports"]).iter().map(port).collect();
    if ports.is_empty() { none() } else { ports.join(",") }
}

fn endpoints(object: &Value) -> String {
    let mut all = Vec::new();
    for subset in object.array_at(&["subsets"]) {
        let ips = || subset.array_at(&["addresses"]).iter().map(|a| a.str_at(&["ip"]).unwrap_or_default());
        let ports = subset.array_at(&["ports"]);
        if ports.is_empty() {
            all.extend(ips().map(str::to_owned));
        }
        for port in ports {
            let port = port.i64_at(&["port"]).unwrap_or_default();
            all.extend(
                ips().map(
                    |ip| if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") },
                ),
            );
        }
    }
    let none = if object.array_at(&["subsets"]).is_empty() { "<none>" } else { "" };
    shortened(&all, 3, none)
}

fn slice_ports(slice: &Value) -> String {
    let port = |p: &Value| {
        let number = cell::text(p.get("port"));
        number.or_else(|| p.str_at(&["name"]).map(str::to_owned)).unwrap_or_else(|| "*".to_owned())
    };
    let ports: Vec<String> = slice.array_at(&["ports"]).iter().map(port).collect();
    shortened(&ports, 3, "<unset>")
}

fn slice_addresses(slice: &Value) -> String {
    let endpoints = slice.array_at(&["endpoints"]);
    let all: Vec<String> = endpoints.iter().flat_map(|e| strings(e, &["addresses"])).collect();
    shortened(&all, 3, "<unset>")
}

fn hosts(ingress: &Value) -> String {
    const MAX: usize = 3;
    let rules = ingress.array_at(&["spec", "rules"]);
    let mut hosts: Vec<&str> = Vec::new();
    for rule in rules {
        if hosts.len() == MAX {
            // Counts rules, also those without a host, as upstream does.
            return format!("{} + {} more...", hosts.join(","), rules.len() - MAX);
        }
        hosts.extend(text_at(rule, "host"));
    }
    if hosts.is_empty() { "*".to_owned() } else { hosts.join(",") }
}

fn ingress_ports(ingress: &Value) -> String {
    if ingress.array_at(&["spec", "tls"]).is_empty() { "80" } else { "80, 443" }.to_owned()
}

fn ingress_class_name(class: &Value) -> String {
    let is_default = annotation(class, "ingressclass.kubernetes.io/is-default-class") == Some("true");
    let name = text_at(class, "metadata.name").unwrap_or_default();
    format!("{name}{}", if is_default { " (default)" } else { "" })
}

fn parameters(class: &Value) -> String {
    let Some(parameters) = class.at(&["spec", "parameters"]).filter(|p| !p.is_null()) else { return none() };
    let field = |name: &str| parameters.str_at(&[name]);
    let group = field("apiGroup").map(|g| format!(".{g}")).unwrap_or_default();
    format!("{}{group}/{}", field("kind").unwrap_or_default(), field("name").unwrap_or_default())
}

fn parent(address: &Value) -> String {
    let Some(parent) = address.at(&["spec", "parentRef"]).filter(|p| !p.is_null()) else { return none() };
    let field = |name: &str| text_at(parent, name);
    let group = field("group").map(|g| format!(".{g}")).unwrap_or_default();
    let namespace = field("namespace").map(|n| format!("/{n}")).unwrap_or_default();
    let resource = format!("{}{group}", field("resource").unwrap_or_default()).to_lowercase();
    format!("{resource}{namespace}/{}", field("name").unwrap_or_default())
}
