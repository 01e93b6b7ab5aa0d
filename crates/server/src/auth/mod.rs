//! Authentication: who asks. Client certificates, service-account tokens and bootstrap tokens become a [`User`]; everybody
//! else is `system:anonymous`, who may ask only for health and version. Whoever may impersonate can act as another user.

pub mod accounts;
pub mod bearer;
pub mod bootstrap_token;
mod certificate;
mod der;
mod impersonate;
pub mod jwt;
pub mod keys;
pub mod oidc;
pub mod remote;
pub mod signing;
pub mod token;
pub mod user;

pub use certificate::{CertificateVerifier, Peer};
pub use impersonate::Impersonated;
pub(crate) use impersonate::impersonated;
pub use user::User;

/// Whether two secrets are the same, in a time that says nothing about where they differ.
fn same_secret(one: &[u8], other: &[u8]) -> bool {
    let digest = |bytes| ring::digest::digest(&ring::digest::SHA256, bytes);
    digest(one).as_ref() == digest(other).as_ref()
}
