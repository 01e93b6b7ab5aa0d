//! Servers that configurations and definitions name by their `clientConfig`: by a URL or a service, with whom to trust.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::Full;
use xebec_api::Value;

use super::{Endpoint, Limits, ServiceRef, Trust};
use crate::core::Core;

/// How much of a server's words on its failure is passed on, in characters.
const MAX_WORDS: usize = 2048;

/// How a server is reached.
#[derive(Debug)]
pub(crate) struct Way {
    /// The whole URL, without a query.
    url: String,
    to: To,
    trust: Trust,
}

/// Who is called.
#[derive(Debug)]
enum To {
    Url(Uri),
    Service(ServiceRef),
}

impl Way {
    /// Reads a `WebhookClientConfig`.
    ///
    /// # Errors
    /// Nobody can be called by it, and why.
    pub(crate) fn read(config: &Value) -> Result<Self, String> {
        let bundle = config.str_at(&["caBundle"]).filter(|text| !text.is_empty());
        let bundle =
            bundle.map(|text| STANDARD.decode(text)).transpose().map_err(|error| error.to_string())?;
        let trust = Trust::new(bundle.as_deref(), None).map_err(|error| error.to_string())?;
        if let Some(url) = config.str_at(&["url"]) {
            let uri: Uri = url.parse().map_err(|error| format!("{url:?} is no URL: {error}"))?;
            return Ok(Self { url: url.to_owned(), to: To::Url(uri), trust });
        }
        let Some(service) = config.get("service") else {
            return Err("webhook configuration must have either service or URL".into());
        };
        let text = |field: &str| service.str_at(&[field]).unwrap_or_default();
        let port = service.i64_at(&["port"]).unwrap_or(443);
        let port = u16::try_from(port).map_err(|_| format!("{port} is no port"))?;
        let service = ServiceRef { namespace: text("namespace").into(), name: text("name").into(), port };
        let path = text("path");
        let slash = if path.starts_with('/') || path.is_empty() { "" } else { "/" };
        let url = format!("https://{}:{port}{slash}{path}", service.host());
        Ok(Self { url, to: To::Service(service), trust })
    }

    /// Posts a JSON document, and gives the answer's body.
    ///
    /// # Errors
    /// There is no answer, or one that says that it failed; in upstream's words.
    pub(crate) async fn post(
        &self,
        core: &Core,
        agent: &str,
        body: Vec<u8>,
        limits: Limits,
    ) -> Result<Bytes, String> {
        let url = format!("{}?timeout={}s", self.url, limits.timeout.as_secs());
        let failed = |error: &dyn std::fmt::Display| format!("Post {url:?}: {error}");
        let endpoint = match &self.to {
            To::Url(uri) => Endpoint::of_url(core, uri),
            To::Service(service) => Endpoint::of_service(core, service),
        };
        let endpoint = endpoint.map_err(|error| failed(&error))?;
        let request = Request::post(&url)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, */*")
            .header(USER_AGENT, agent)
            .body(Full::from(body))
            .map_err(|error| failed(&error))?;
        let answer = core.outbound.call(&endpoint, &self.trust, request, limits).await;
        let (parts, body) = answer.map_err(|error| failed(&error))?.into_parts();
        match parts.status {
            status if status.is_success() => Ok(body),
            StatusCode::NOT_FOUND => Err("the server could not find the requested resource".into()),
            StatusCode::UNAUTHORIZED => {
                Err("the server has asked for the client to provide credentials".into())
            }
            StatusCode::FORBIDDEN => Err("forbidden: the server refused the review".into()),
            status => {
                let text = String::from_utf8_lossy(&body);
                let text: String = text.chars().take(MAX_WORDS).collect();
                Err(format!(
                    "an error on the server ({text:?}, {status}) has prevented the request from succeeding"
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xebec_api::object;

    #[test]
    fn ways() {
        let check = |config: Value, want: &str| match Way::read(&config) {
            Ok(way) => assert_eq!(way.url, want),
            Err(error) => assert!(error.contains(want), "{error}"),
        };
        let pem = rcgen::generate_simple_self_signed(vec!["a".to_owned()]).expect("a certificate").cert.pem();
        let bundle = STANDARD.encode(pem);
        let service = |path: Value| object!({"caBundle": (bundle.as_str()), "service": {"name": "hook", "namespace": "ops", "path": (path)}});
        check(service(Value::from("/a/b")), "https://hook.ops.svc:443/a/b");
        check(service(Value::from("a")), "https://hook.ops.svc:443/a");
        check(service(Value::Null), "https://hook.ops.svc:443");
        check(object!({"caBundle": (bundle.as_str()), "url": "https://a.example/x"}), "https://a.example/x");
        check(object!({"caBundle": "?"}), "Invalid");
        check(object!({"caBundle": "aGk="}), "holds no usable certificate");
        check(object!({"caBundle": (bundle.as_str())}), "must have either service or URL");
    }
}
