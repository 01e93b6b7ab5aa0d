//! Pod networking in real network namespaces, as an ordinary user. Arguments select scenarios by substring.

#[path = "../support/mod.rs"]
mod support;

mod cluster;
mod dns;
mod links;
mod node;
mod ports;
mod services;

use std::env;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use support::Host;
use tokio::time::timeout;

/// No scenario comes near this; one that hangs ends here.
const PATIENCE: Duration = Duration::from_secs(120);

type Scenario = fn() -> Pin<Box<dyn Future<Output = Result<()>>>>;

macro_rules! scenarios {
    ($($module:ident: $($name:ident),+;)+) => {
        &[$($((concat!(stringify!($module), "::", stringify!($name)), || Box::pin($module::$name()))),+),+]
    };
}

const SCENARIOS: &[(&str, Scenario)] = scenarios! {
    links: pods_reach_each_other, attach_is_idempotent, a_restart_adopts, a_pod_gets_a_new_namespace,
        pods_cannot_spoof;
    services: tcp_and_udp, nobody_serves, clients_stay, udp_flows_follow, rules_survive_a_restart, fallbacks_and_ipv6,
        a_thousand;
    ports: tcp_from_the_host, no_port_takes_all_connections, udp_from_the_host, taken_ports_say_why,
        from_pods_and_the_node, the_way_to_the_api_server;
    dns: names_of_services, large_answers_over_tcp, other_names, the_c_library;
    node: everything_together_and_again;
};

fn main() -> ExitCode {
    support::run(Host::Machine, || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let wanted: Vec<_> = env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
        let mut failed = 0;
        for (name, scenario) in SCENARIOS {
            if !wanted.is_empty() && !wanted.iter().any(|w| name.contains(w.as_str())) {
                continue;
            }
            println!("test {name} ...");
            let outcome = runtime.block_on(async { timeout(PATIENCE, scenario()).await });
            match outcome.context("it hangs").and_then(|o| o) {
                Ok(()) => println!("test {name} ... ok"),
                Err(error) => {
                    println!("test {name} ... FAILED: {error:#}");
                    failed += 1;
                }
            }
        }
        ensure!(failed == 0, "{failed} scenarios failed");
        Ok(())
    })
}
