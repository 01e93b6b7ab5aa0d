//! The node agent: makes the pods that are bound to this node run, and tells the API how they are.
//!
//! It meets the rest of the cluster at the API alone, as `system:node:NAME`. What isolates a pod ([`xebec_sandbox`]),
//! where its image comes from ([`xebec_image`]) and how it is connected ([`xebec_network`]) is behind those crates.
//!
//! ```text
//!  registration   the Node object and its lease
//!  pressure       whether the machine runs out of something
//!  manager        watches the node's pods, one worker each
//!  objects        ConfigMaps and Secrets that pods have in their volumes
//!  access         what the API server asks of the node: logs, exec, attach, port-forward
//!  pod/           one pod: plan (pure), status (pure), worker (owns the state), run (does things)
//! ```

pub mod access;
pub mod events;
pub mod host;
pub mod logs;
pub mod manager;
pub mod objects;
pub mod pod;
mod pressure;
mod quantity;
pub mod registration;
pub mod services;
pub mod streams;
