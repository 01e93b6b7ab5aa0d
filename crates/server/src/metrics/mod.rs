//! What the server counts, for Prometheus: `/metrics` and `/metrics/slis`, with upstream's names where it counts the same.

pub mod text;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};

use self::text::{Kind, Text};
use crate::core::Core;
use crate::http::reply::Reply;

/// How the health checks went: what service levels are computed from.
pub(crate) fn slis(core: &Core) -> Reply {
    let mut text = Text::default();
    text.family("kubernetes_healthcheck", Kind::Gauge, "Whether a check passed when it was last asked");
    for (question, check, passed, failed, fails) in core.health.outcomes() {
        if passed + failed > 0 {
            text.sample(&[("name", check), ("type", question)], u8::from(!fails));
        }
    }
    text.family(
        "kubernetes_healthchecks_total",
        Kind::Counter,
        "How often a check was asked, by its outcome",
    );
    for (question, check, passed, failed, _) in core.health.outcomes() {
        for (status, count) in [("success", passed), ("error", failed)] {
            if count > 0 {
                text.sample(&[("name", check), ("status", status), ("type", question)], count);
            }
        }
    }
    reply(text)
}

fn reply(text: Text) -> Reply {
    let headers = vec![(CONTENT_TYPE, HeaderValue::from_static(text::CONTENT_TYPE))];
    Reply::Prepared(Bytes::from(text.finish()), headers)
}
