//! Pod networking without root: links, service addresses, names, ports and the way out.
//!
//! ```text
//!  host's network          │ node's network namespace                     │ pods' namespaces
//!  node ports, host ports ─┼─▶ proxy ───────────────┐                     │
//!  API server ◀────────────┼── 10.43.0.1:443        ├──▶ routed links ────┼─▶ eth0
//!  resolvers ◀─────────────┼── DNS 10.43.0.10:53    │    service rules    │
//!  pasta's sockets ◀───────┼── xout0 ◀──────────────┘                     │
//! ```
//!
//! This crate owns one node's network namespace and the links of pods to it. It is given plain data, what should
//! be, and makes it so; what is there already after a restart is read back from the kernel. It knows no
//! container, no Kubernetes client and no file of its own.
//!
//! The process that uses it is root of a user namespace and in the host's network namespace, where it has no
//! power: there it only opens ordinary sockets. See [`netns`] for how it reaches the others.
//!
//! | part | given | does |
//! |---|---|---|
//! | [`node::NodeNetwork`] | the node's ranges | starts all of the below |
//! | [`link::Links`] | a pod's id and pinned namespace | links it, gives it an address |
//! | [`service::rules::ServiceRules`] | all services | kernel rules, as differences |
//! | [`proxy::ports::Ports`] | all ports | listeners and proxies |
//! | [`dns::server::DnsServer`] | all names | answers |
//! | [`egress::Egress`] | | a user-mode stack for what leaves the cluster |
//! | [`netns::Netns`] | | dials pods and services from this process |

pub mod cidr;
pub mod dns;
pub mod egress;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod ipam;
pub mod link;
mod netlink;
pub mod netns;
pub mod node;
mod program;
pub mod proxy;
pub mod service;
mod socket;
