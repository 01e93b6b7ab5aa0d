//! The issuer of service-account tokens, for whoever verifies them elsewhere (OpenID Connect Discovery 1.0).

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use xebec_api::{Value, json, object};

use crate::core::Core;
use crate::http::reply::Reply;

/// How long the answers may be kept: a key that comes is known everywhere after this time.
const KEPT: &str = "public, max-age=3600";

/// Who the issuer is, and where its keys are.
pub(super) fn configuration(core: &Core) -> Reply {
    let issuer = core.tokens.issuer();
    let keys = core.settings.jwks_url.clone();
    let keys = keys.unwrap_or_else(|| format!("{}/openid/v1/jwks", issuer.trim_end_matches('/')));
    let document = object!({
        "issuer": issuer,
        "jwks_uri": (keys),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": (core.tokens.algorithms())
    });
    document_of(&document, "application/json")
}

/// The keys that verify its tokens.
pub(super) fn keys(core: &Core) -> Reply {
    document_of(&core.tokens.key_set(), "application/jwk-set+json")
}

fn document_of(document: &Value, content_type: &'static str) -> Reply {
    let header = |name: HeaderName, value| (name, HeaderValue::from_static(value));
    let headers = vec![header(CONTENT_TYPE, content_type), header(CACHE_CONTROL, KEPT)];
    Reply::Prepared(json::to_vec(document).into(), headers)
}
