//! The process that owns one pod.
//!
//! ```text
//!  server ──order──▶ shim ──report──▶ server        (start, see `start`)
//!     │                │
//!     └── requests ───▶│ loop: signals, clients, input and output of processes
//!                      ├─ container processes
//!                      └─ `exec` processes
//! ```
//!
//! It has one thread and one loop. The server that starts it may die: the
//! keeper adopts the shim, its containers run on, and the next server finds
//! its socket. It knows nothing of Kubernetes and nothing of networks beyond
//! making and pinning a namespace for one.
//!
//! What a container can reach of it: nothing. Its processes become the
//! container's only by executing the container's program; until then they
//! cannot be inspected (`PR_SET_DUMPABLE`), so their `/proc/<pid>/exe` and
//! descriptors cannot be opened. The program file itself belongs to an id that
//! no pod has, and is not writable for others.

mod connection;
mod container;
mod diagnosis;
mod finish;
mod group;
mod gvisor;
mod join;
mod launch;
mod log;
pub(crate) mod members;
mod oci;
mod pod;
mod process;
mod reaper;
mod refusal;
mod root;
mod server;
mod spec;
mod start;
pub(crate) mod user;

pub(crate) use server::{Record, STATE};
pub use start::main;
pub(crate) use start::{SOCKET, netns_pin, pod_dir, user_pin};
