//! From HTTP to a stream: which protocol a client asks for, and the answer that starts it.

use http::header::{CONNECTION, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::header::{SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};

use super::AgentBody;
use super::status::Refusal;
use super::websocket::accept_key;

/// How SPDY clients name the protocol inside the streams.
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");

/// What SPDY clients are told when none of theirs is known.
const ACCEPTED_PROTOCOLS: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");

/// A protocol that the agent speaks after the upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Protocol {
    /// What carries it.
    pub(crate) carrier: CarrierKind,
    /// Its name in the header of that carrier.
    pub(crate) name: &'static str,
}

/// The connection after the upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CarrierKind {
    /// WebSocket, version 13.
    WebSocket,
    /// SPDY/3.1.
    Spdy,
}

/// Chooses the protocol: the first of the client's that is in `known`.
pub(crate) fn negotiate(headers: &HeaderMap, known: &[Protocol]) -> Result<Protocol, Refusal> {
    let required = || Refusal::bad_request("Upgrade request required");
    if !tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade")) {
        return Err(required());
    }
    let wanted = |name: &str| tokens(headers, &UPGRADE).any(|token| token.eq_ignore_ascii_case(name));
    let (carrier, header) = if wanted("websocket") {
        (CarrierKind::WebSocket, &SEC_WEBSOCKET_PROTOCOL)
    } else if wanted("SPDY/3.1") {
        (CarrierKind::Spdy, &STREAM_PROTOCOL)
    } else {
        return Err(required());
    };
    let of_carrier = || known.iter().filter(|protocol| protocol.carrier == carrier);
    tokens(headers, header)
        .find_map(|offered| of_carrier().find(|protocol| protocol.name == offered))
        .copied()
        .ok_or_else(|| {
            let names: Vec<_> = of_carrier().map(|protocol| protocol.name).collect();
            let names = names.join(", ");
            let text = format!(
                "unable to upgrade: none of the protocols in {header} is known here; known are {names}"
            );
            match carrier {
                CarrierKind::WebSocket => Refusal::bad_request(text),
                CarrierKind::Spdy => {
                    let names = HeaderValue::from_str(&names).expect("names of protocols are ASCII");
                    Refusal::forbidden(text).with_header(ACCEPTED_PROTOCOLS, names)
                }
            }
        })
}

/// The answer after which the connection speaks `protocol`.
pub(crate) fn accept(headers: &HeaderMap, protocol: Protocol) -> Result<Response<AgentBody>, Refusal> {
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    let name = HeaderValue::from_static(protocol.name);
    match protocol.carrier {
        CarrierKind::WebSocket => {
            let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
            if text(&SEC_WEBSOCKET_VERSION) != Some("13") {
                return Err(Refusal::bad_request("only version 13 of the WebSocket protocol is understood")
                    .with_header(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")));
            }
            let key = text(&SEC_WEBSOCKET_KEY).and_then(accept_key);
            let key = key.and_then(|key| HeaderValue::from_str(&key).ok());
            let key = key.ok_or_else(|| {
                Refusal::bad_request("the header Sec-WebSocket-Key must be the base64 form of 16 bytes")
            })?;
            answer.insert(UPGRADE, HeaderValue::from_static("websocket"));
            answer.insert(SEC_WEBSOCKET_ACCEPT, key);
            answer.insert(SEC_WEBSOCKET_PROTOCOL, name);
        }
        CarrierKind::Spdy => {
            answer.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
            answer.insert(STREAM_PROTOCOL, name);
        }
    }
    Ok(response)
}

/// The comma-separated values of all headers of that name.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [Protocol; 3] = [
        Protocol { carrier: CarrierKind::WebSocket, name: "v5.channel.k8s.io" },
        Protocol { carrier: CarrierKind::WebSocket, name: "v4.channel.k8s.io" },
        Protocol { carrier: CarrierKind::Spdy, name: "v4.channel.k8s.io" },
    ];

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn the_clients_first_known_protocol_wins() {
        let check = |pairs: &[(&'static str, &'static str)], expected: Option<Protocol>| {
            assert_eq!(negotiate(&headers(pairs), &KNOWN).ok(), expected, "{pairs:?}");
        };
        let websocket = [("connection", "Upgrade"), ("upgrade", "websocket")];
        let offers = |values: &[&'static str]| {
            let offers = values.iter().map(|value| ("sec-websocket-protocol", *value));
            websocket.into_iter().chain(offers).collect::<Vec<_>>()
        };
        check(&offers(&["v5.channel.k8s.io"]), Some(KNOWN[0]));
        check(&offers(&["v9.channel.k8s.io, v4.channel.k8s.io,v5.channel.k8s.io"]), Some(KNOWN[1]));
        check(&offers(&["v9.channel.k8s.io", "v5.channel.k8s.io"]), Some(KNOWN[0]));
        check(&offers(&["v9.channel.k8s.io"]), None);
        check(&offers(&[]), None);
        let spdy = [("connection", "keep-alive, upgrade"), ("upgrade", "spdy/3.1")];
        check(&[spdy[0], spdy[1], ("x-stream-protocol-version", "v4.channel.k8s.io")], Some(KNOWN[2]));
        check(&[spdy[0], spdy[1], ("x-stream-protocol-version", "v5.channel.k8s.io")], None);
        check(&[spdy[0], ("upgrade", "h2c")], None);
        check(&[("upgrade", "websocket"), ("sec-websocket-protocol", "v5.channel.k8s.io")], None);
    }

    #[test]
    fn websockets_are_accepted_by_key() {
        let good = [("sec-websocket-version", "13"), ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")];
        let response = accept(&headers(&good), KNOWN[0]).unwrap();
        assert_eq!(response.headers()[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(response.headers()[SEC_WEBSOCKET_PROTOCOL], "v5.channel.k8s.io");
        assert!(accept(&headers(&good[..1]), KNOWN[0]).is_err());
        assert!(accept(&headers(&good[1..]), KNOWN[0]).is_err());
        assert_eq!(accept(&headers(&[]), KNOWN[2]).unwrap().headers()[UPGRADE], "SPDY/3.1");
    }
}
