//! Isolated execution of pods: rootless OCI containers and gVisor.
//!
//! Owns everything that touches namespaces, mounts, capabilities and seccomp:
//!
//! - [`bootstrap`]: how an ordinary user's process becomes the keeper of a user,
//!   mount and process namespace in which the server runs;
//! - [`sandbox`]: the `Engine` and `Sandbox` traits, with [`config`] as their vocabulary;
//! - [`engines`]: the engines, `oci` and `gvisor`;
//! - [`shim`]: the process that owns one pod;
//! - [`client`]: the server's side of the shim's socket.
//!
//! It never knows Kubernetes, pulls an image or configures a network: it is
//! given unpacked layers and hands out a pinned network namespace.

pub mod bootstrap;
mod capabilities;
pub mod client;
mod complaint;
pub mod config;
pub mod engines;
#[cfg(fuzzing)]
pub mod fuzzing;
mod netif;
pub mod sandbox;
mod seccomp;
pub mod shim;
mod sys;
mod wire;
