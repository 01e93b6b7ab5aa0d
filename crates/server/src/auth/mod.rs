//! Authentication: who asks. Client certificates and service-account tokens become a [`User`]; everybody else is
//! `system:anonymous`, who may ask only for health and version. Whoever may impersonate can act as another user.

pub mod accounts;
mod certificate;
mod impersonate;
pub mod keys;
pub mod token;
pub mod user;

pub use certificate::{CertificateVerifier, Peer};
pub(crate) use impersonate::impersonated;
pub use user::User;
