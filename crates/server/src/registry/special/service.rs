//! Services: their addresses and ports.
//!
//! An address is held by an `IPAddress` object, a node port by a key of its own; both are made in the transaction that
//! writes the service, so that two services never hold the same one and a crash leaves nothing behind.

use std::net::{IpAddr, Ipv4Addr};

use xebec_api::{Cause, FieldPath, Status, Value, meta, object};
use xebec_store::{Condition, Key, Txn};

use crate::registry::strategy::{Strategy, Write};
use crate::registry::write;

/// Addresses at the start of the network are left for services that ask for one by number.
const RESERVED: u32 = 256;

#[derive(Debug)]
pub(super) struct Services;

impl Strategy for Services {
    fn create(&self, write: &mut Write<'_>, service: &mut Value) -> Result<(), Status> {
        settle_addresses(write, service, None)?;
        settle_node_ports(write, service, None)
    }

    fn update(&self, write: &mut Write<'_>, service: &mut Value) -> Result<(), Status> {
        let old = write.old;
        carry_over(service, old);
        settle_addresses(write, service, old)?;
        settle_node_ports(write, service, old)
    }

    fn delete(&self, write: &mut Write<'_>) -> Result<(), Status> {
        let Some(old) = write.old else { return Ok(()) };
        if let Some(ip) = address(old) {
            release(write, address_key(ip)?);
        }
        for port in node_ports(old) {
            release(write, port_key(port)?);
        }
        Ok(())
    }
}

fn kind(service: &Value) -> &str {
    service.str_at(&["spec", "type"]).unwrap_or("ClusterIP")
}

fn has_node_ports(service: &Value) -> bool {
    match kind(service) {
        "NodePort" => true,
        "LoadBalancer" => service.bool_at(&["spec", "allocateLoadBalancerNodePorts"]) != Some(false),
        _ => false,
    }
}

/// The address that a service holds, if any.
fn address(service: &Value) -> Option<Ipv4Addr> {
    service.str_at(&["spec", "clusterIP"])?.parse().ok()
}

fn node_ports(service: &Value) -> Vec<u16> {
    let ports = service.array_at(&["spec", "ports"]).iter();
    let mut ports: Vec<u16> =
        ports.filter_map(|p| u16::try_from(p.i64_at(&["nodePort"])?).ok()).filter(|p| *p != 0).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

fn address_key(ip: Ipv4Addr) -> Result<Key, Status> {
    Key::new(format!("/registry/networking.k8s.io/ipaddresses/{ip}")).map_err(Status::internal)
}

fn port_key(port: u16) -> Result<Key, Status> {
    Key::new(format!("/xebec/node-ports/{port}")).map_err(Status::internal)
}

fn release(write: &mut Write<'_>, key: Key) {
    if write.snapshot.get(&key).is_some() {
        write.txn = write::release(std::mem::take(&mut write.txn), key);
    }
}

/// What a client may leave out of an update keeps its value.
fn carry_over(service: &mut Value, old: Option<&Value>) {
    let Some(old) = old else { return };
    let addressed = |s: &Value| kind(s) != "ExternalName";
    if addressed(service)
        && addressed(old)
        && service.str_at(&["spec", "clusterIP"]).unwrap_or_default().is_empty()
    {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if let Some(value) = old.at(&["spec", field]) {
                service.set(&["spec", field], value.clone());
            }
        }
    }
    if !(has_node_ports(service) && has_node_ports(old)) {
        return;
    }
    let known: Vec<(Value, Value, Value)> = old
        .array_at(&["spec", "ports"])
        .iter()
        .map(|p| {
            let at = |field: &str| p.get(field).cloned().unwrap_or_default();
            (at("port"), at("protocol"), at("nodePort"))
        })
        .collect();
    let Some(ports) = service.make(&["spec", "ports"]).as_array_mut() else { return };
    for port in ports.iter_mut().filter(|p| p.i64_at(&["nodePort"]).unwrap_or(0) == 0) {
        let at = |field: &str| port.get(field).cloned().unwrap_or_default();
        let same =
            known.iter().find(|(number, protocol, _)| *number == at("port") && *protocol == at("protocol"));
        if let Some((.., node_port)) = same.filter(|(.., n)| !n.is_null()) {
            port.set(&["nodePort"], node_port.clone());
        }
    }
}

fn settle_addresses(write: &mut Write<'_>, service: &mut Value, old: Option<&Value>) -> Result<(), Status> {
    let held = old.and_then(address);
    if kind(service) == "ExternalName" {
        if let Some(ip) = held {
            release(write, address_key(ip)?);
        }
        return Ok(());
    }
    let listed =
        service.array_at(&["spec", "clusterIPs"]).first().and_then(Value::as_str).unwrap_or_default();
    let wanted =
        service.str_at(&["spec", "clusterIP"]).filter(|ip| !ip.is_empty()).unwrap_or(listed).to_owned();
    let ip = match wanted.as_str() {
        "None" => None,
        "" => Some(pick_address(write)?),
        text => Some(check_address(write, service, text)?),
    };
    let text = ip.map_or_else(|| "None".to_owned(), |ip| ip.to_string());
    service.set(&["spec", "clusterIP"], text.as_str());
    service.set(&["spec", "clusterIPs"], vec![text.as_str()]);
    if service.array_at(&["spec", "ipFamilies"]).is_empty() {
        service.set(&["spec", "ipFamilies"], vec!["IPv4"]);
    }
    if service.at(&["spec", "ipFamilyPolicy"]).is_none() {
        service.set(&["spec", "ipFamilyPolicy"], "SingleStack");
    }
    if ip == held {
        return Ok(());
    }
    if let Some(ip) = held {
        release(write, address_key(ip)?);
    }
    if let Some(ip) = ip {
        hold_address(write, ip, service)?;
    }
    Ok(())
}

fn invalid(service: &Value, cause: Cause) -> Status {
    Status::invalid("", "Service", meta::name(service), vec![cause])
}

fn check_address(write: &Write<'_>, service: &Value, text: &str) -> Result<Ipv4Addr, Status> {
    let network = write.core.settings.service_network;
    let fault = |detail: String| {
        let path = FieldPath::new("spec.clusterIPs");
        Err(invalid(service, Cause::invalid(path, vec![text], &detail)))
    };
    match text.parse() {
        Ok(IpAddr::V4(ip)) if network.contains(IpAddr::V4(ip)) => {
            let mine = write.old.and_then(address) == Some(ip);
            if !mine && write.snapshot.get(&address_key(ip)?).is_some() {
                return fault("failed to allocate IP: provided IP is already allocated".into());
            }
            Ok(ip)
        }
        Ok(_) => fault(format!(
            "failed to allocate IP {text}: the provided IP is not in the valid range, which is {}/{}",
            network.base, network.length
        )),
        Err(_) => fault("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".into()),
    }
}

/// A free address, from a random place on; the reserved ones last.
fn pick_address(write: &Write<'_>) -> Result<Ipv4Addr, Status> {
    let network = write.core.settings.service_network;
    // Neither the network's own address nor its last one.
    let last = network.size().saturating_sub(2);
    let start = u32::from_le_bytes(write.core.random()?);
    let upper = last.saturating_sub(RESERVED);
    let candidates =
        (0..upper).map(|i| RESERVED + 1 + start.wrapping_add(i) % upper).chain(1..=RESERVED.min(last));
    for n in candidates {
        let Some(ip) = network.address(n) else { continue };
        if write.snapshot.get(&address_key(ip)?).is_none() {
            return Ok(ip);
        }
    }
    Err(Status::internal(format_args!(
        "failed to allocate a serviceIP: range {}/{} is full",
        network.base, network.length
    )))
}

fn hold_address(write: &mut Write<'_>, ip: Ipv4Addr, service: &Value) -> Result<(), Status> {
    let key = address_key(ip)?;
    let mut holder = object!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": {
            "name": (ip.to_string()),
            "uid": (write.core.new_uid()?),
            "creationTimestamp": (write.context.now.to_string()),
            "labels": {
                "ipaddress.kubernetes.io/ip-family": "IPv4",
                "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"
            }
        },
        "spec": {"parentRef": {
            "group": "", "resource": "services",
            "namespace": (meta::namespace(service)), "name": (meta::name(service))
        }}
    });
    let value = write::stored(&mut holder);
    let txn: Txn = std::mem::take(&mut write.txn);
    write.txn = txn.when(Condition::Absent(key.clone())).put(key, value);
    Ok(())
}

fn settle_node_ports(write: &mut Write<'_>, service: &mut Value, old: Option<&Value>) -> Result<(), Status> {
    let held = old.map(node_ports).unwrap_or_default();
    if has_node_ports(service) {
        choose_node_ports(write, service, &held)?;
    }
    let now = if has_node_ports(service) { node_ports(service) } else { Vec::new() };
    for port in held.iter().filter(|p| !now.contains(p)) {
        release(write, port_key(*port)?);
    }
    for port in now.iter().filter(|p| !held.contains(p)) {
        write.txn = write::claim(std::mem::take(&mut write.txn), port_key(*port)?, service);
    }
    Ok(())
}

fn choose_node_ports(write: &Write<'_>, service: &mut Value, held: &[u16]) -> Result<(), Status> {
    let range = write.core.settings.node_ports.clone();
    let mut taken = node_ports(service);
    let shown = service.clone();
    let Some(ports) = service.make(&["spec", "ports"]).as_array_mut() else { return Ok(()) };
    for (i, port) in ports.iter_mut().enumerate() {
        let path = FieldPath::new("spec.ports").index(i).field("nodePort");
        match port.i64_at(&["nodePort"]).unwrap_or(0) {
            0 => {
                let free = pick_port(write, &taken)?;
                taken.push(free);
                port.set(&["nodePort"], i64::from(free));
            }
            number => {
                let known = u16::try_from(number).ok().filter(|n| range.contains(n));
                let Some(known) = known else {
                    let detail = format!(
                        "provided port is not in the valid range. The range of valid ports is {}-{}",
                        range.start(),
                        range.end()
                    );
                    return Err(invalid(&shown, Cause::invalid(path, number, &detail)));
                };
                if !held.contains(&known) && write.snapshot.get(&port_key(known)?).is_some() {
                    let detail = "provided port is already allocated";
                    return Err(invalid(&shown, Cause::invalid(path, number, detail)));
                }
            }
        }
    }
    Ok(())
}

fn pick_port(write: &Write<'_>, taken: &[u16]) -> Result<u16, Status> {
    let range = &write.core.settings.node_ports;
    let count = u32::from(range.end() - range.start()) + 1;
    let start = u32::from_le_bytes(write.core.random()?);
    for i in 0..count {
        let offset = u16::try_from(start.wrapping_add(i) % count).unwrap_or_default();
        let port = range.start() + offset;
        if !taken.contains(&port) && write.snapshot.get(&port_key(port)?).is_none() {
            return Ok(port);
        }
    }
    Err(Status::internal(format_args!(
        "failed to allocate a nodePort: range {}-{} is full",
        range.start(),
        range.end()
    )))
}
