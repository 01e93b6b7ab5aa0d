//! Proxies between the host's network and the pods': node ports, host ports, and pods' way to the API server.
//!
//! An ordinary user can't add rules to the host's network namespace, so a port of the host is a listener of
//! this process, and what arrives is passed on over sockets made in the node's namespace. A backend is chosen
//! here, not by the service rules: that way a connection refused by one backend is given to the next, and the
//! policy for external traffic is kept. Backends see the node's address as the client's.
//!
//! TCP is copied both ways with half-closed connections kept half-closed; a connection that breaks on one
//! side is reset on the other. UDP clients each get a socket of their own towards a backend, until they have
//! been silent for a while.

mod balance;
mod datagram;
pub mod forward;
pub mod ports;
mod stream;
