//! Tokens of service accounts in volumes, each kept until most of its life is over.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccountTokenProjection as Wanted;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{Api, PostParams};

use super::{VolumeError, pod_namespace};
use crate::host::Host;

/// How much of a token's life may pass before the next one is asked for, in percent.
const RENEW_AT: u32 = 80;
/// A token is renewed at this age at the latest, however long it would be good.
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// How soon a token that could not be renewed is asked for again.
const RETRY: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
struct Token {
    text: String,
    renew_at: SystemTime,
    expires: SystemTime,
}

/// The tokens in one pod's volumes, by audience and lifetime.
#[derive(Clone, Debug, Default)]
pub(super) struct Tokens {
    tokens: BTreeMap<(String, i64), Token>,
}

impl Tokens {
    /// When the first of them is to be renewed.
    #[must_use]
    pub(super) fn renew_at(&self) -> Option<SystemTime> {
        self.tokens.values().map(|token| token.renew_at).min()
    }

    /// A token for a projection; the one that there is, if it is young enough.
    pub(super) async fn get(
        &mut self,
        host: &Host,
        pod: &Pod,
        wanted: &Wanted,
    ) -> Result<String, VolumeError> {
        let audience = wanted.audience.clone().unwrap_or_default();
        let seconds = wanted.expiration_seconds.unwrap_or(3600);
        let key = (audience.clone(), seconds);
        let now = SystemTime::now();
        let known = self.tokens.get_mut(&key);
        if let Some(token) = known.as_ref().filter(|token| now < token.renew_at) {
            return Ok(token.text.clone());
        }
        match (request(host, pod, &audience, seconds).await, known) {
            (Ok(token), _) => {
                let text = token.text.clone();
                self.tokens.insert(key, token);
                Ok(text)
            }
            (Err(error), Some(old)) if now < old.expires => {
                tracing::warn!(pod = pod.metadata.name, %error, "a token could not be renewed yet");
                old.renew_at = now + RETRY;
                Ok(old.text.clone())
            }
            (Err(error), _) => Err(error),
        }
    }
}

async fn request(host: &Host, pod: &Pod, audience: &str, seconds: i64) -> Result<Token, VolumeError> {
    let account = pod.spec.as_ref().and_then(|s| s.service_account_name.as_deref()).unwrap_or("default");
    let api: Api<ServiceAccount> = Api::namespaced(host.client.clone(), pod_namespace(pod));
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: (!audience.is_empty()).then(|| vec![audience.to_owned()]),
            expiration_seconds: Some(seconds),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
            }),
        }),
        ..TokenRequest::default()
    };
    let asked = SystemTime::now();
    let answer = api.create_token_request(account, &PostParams::default(), &request).await;
    let what = format!("a token of service account {account:?}");
    let answer = answer.map_err(|source| VolumeError::Api { what: what.clone(), source })?;
    let status = answer.status.unwrap_or_default();
    let text = status.token.filter(|token| !token.is_empty()).ok_or(VolumeError::NoToken(what))?;
    let life = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let expires = status.expiration_timestamp.map_or(asked + life, |time| SystemTime::from(time.0));
    Ok(Token { text, renew_at: renewal(asked, expires), expires })
}

fn renewal(asked: SystemTime, expires: SystemTime) -> SystemTime {
    let life = expires.duration_since(asked).unwrap_or_default();
    asked + (life * RENEW_AT / 100).min(MAX_AGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_renewed_in_time() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        for (life, age) in [(600, 480), (3600, 2880), (0, 0), (1_000_000, 86_400)] {
            assert_eq!(renewal(at(100), at(100 + life)), at(100 + age), "{life}");
        }
    }
}
