//! Endpoints and EndpointSlices.

use super::Kind;
use super::fill::{Given, absent, fill, text};

pub(super) const ENDPOINTS: Kind = Kind {
    resource: "endpoints",
    generation: false,
    unconditional_update: true,
    create_on_update: true,
    defaults: |object, _| fill(object, &[text("subsets[*].ports[*].protocol", "TCP")]),
    ..Kind::DEFAULT
};

pub(super) const ENDPOINT_SLICE: Kind = Kind {
    group: "discovery.k8s.io",
    resource: "endpointslices",
    unconditional_update: true,
    defaults: |object, _| {
        fill(
            object,
            &[absent("ports[*].name", Given::Text("")), absent("ports[*].protocol", Given::Text("TCP"))],
        );
    },
    ..Kind::DEFAULT
};
