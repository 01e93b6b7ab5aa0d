//! Flow schemas and priority levels.

use super::Kind;
use super::fill::{Given, Row, absent, empty, fill};

const FLOW: Kind =
    Kind { group: "flowcontrol.apiserver.k8s.io", unconditional_update: true, ..Kind::DEFAULT };

pub(super) const FLOW_SCHEMA: Kind = Kind {
    resource: "flowschemas",
    defaults: |object, _| fill(object, &[empty("spec!.matchingPrecedence", Given::Int(1000))]),
    ..FLOW
};

pub(super) const PRIORITY_LEVEL: Kind =
    Kind { resource: "prioritylevelconfigurations", defaults: |object, _| fill(object, LEVEL), ..FLOW };

const LEVEL: &[Row] = &[
    absent("spec.exempt.nominalConcurrencyShares", Given::Int(0)),
    absent("spec.exempt.lendablePercent", Given::Int(0)),
    absent("spec.limited.nominalConcurrencyShares", Given::Int(30)),
    absent("spec.limited.lendablePercent", Given::Int(0)),
    empty("spec.limited.limitResponse.queuing.handSize", Given::Int(8)),
    empty("spec.limited.limitResponse.queuing.queues", Given::Int(64)),
    empty("spec.limited.limitResponse.queuing.queueLengthLimit", Given::Int(50)),
];
