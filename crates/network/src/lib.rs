//! Pod links, service addresses, cluster DNS.

pub mod cidr;
pub mod dns;
pub mod egress;
pub mod ipam;
pub mod link;
mod netlink;
pub mod netns;
pub mod node;
mod program;
pub mod proxy;
pub mod service;
mod socket;
