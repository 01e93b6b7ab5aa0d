//! Authentication: who asks. Client certificates and service-account tokens become a [`User`]; everybody else is
//! `system:anonymous`, who may ask only for health and version.

pub mod accounts;
mod certificate;
pub mod keys;
pub mod token;
pub mod user;

pub use certificate::{CertificateVerifier, Peer};
pub use user::User;
