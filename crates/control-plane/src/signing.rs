//! The server's keys, for the controllers that sign with them: they ask, and never see a key.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ring::rand::SystemRandom;
use xebec_api::time::Timestamp;
use xebec_controllers::certificates::Signer;
use xebec_controllers::tokens::Minter;
use xebec_server::auth::keys::ClusterKeys;
use xebec_server::auth::signing::{CertificateRequest, Terms};
use xebec_server::auth::token::SecretClaims;
use xebec_server::core::Core;

/// The cluster's authority.
#[derive(Debug)]
pub struct Authority(pub Arc<ClusterKeys>);

impl Signer for Authority {
    fn sign(
        &self,
        request: &[u8],
        usages: &[String],
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<String, String> {
        let request = CertificateRequest::read(request).map_err(|error| error.to_string())?;
        let terms = Terms { usages, lifetime, now: Timestamp::from_system(now) };
        self.0.sign_request(&request, terms, &SystemRandom::new()).map_err(|error| error.to_string())
    }
}

/// The signer of service-account tokens.
#[derive(Debug)]
pub struct AccountKey(pub Arc<Core>);

impl Minter for AccountKey {
    fn mint(&self, namespace: &str, account: &str, uid: &str, secret: &str) -> Result<String, String> {
        let claims = SecretClaims {
            namespace: namespace.to_owned(),
            name: account.to_owned(),
            uid: uid.to_owned(),
            secret: secret.to_owned(),
        };
        self.0.tokens.sign_secret(&claims).map_err(|_| "the system gives no random bytes".to_owned())
    }
}
