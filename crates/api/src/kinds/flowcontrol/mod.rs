//! Flow schemas and priority levels.

mod levels;
mod schemas;

use super::Kind;
use super::check::{Check, run, text};
use super::fill::{Given, Row, absent, empty, fill};
use crate::Value;

const FLOW: Kind =
    Kind { group: "flowcontrol.apiserver.k8s.io", unconditional_update: true, ..Kind::DEFAULT };

pub(super) const FLOW_SCHEMA: Kind = Kind {
    resource: "flowschemas",
    defaults: |object, _| fill(object, &[empty("spec!.matchingPrecedence", Given::Int(1000))]),
    validate: |object| run(|c| schemas::check(c, object)),
    validate_update: |object, _| run(|c| schemas::check(c, object)),
    validate_status: |object, _| run(|c| conditions(c, object)),
    ..FLOW
};

pub(super) const PRIORITY_LEVEL: Kind = Kind {
    resource: "prioritylevelconfigurations",
    defaults: |object, _| fill(object, LEVEL),
    validate: |object| run(|c| levels::check(c, object)),
    validate_update: |object, _| run(|c| levels::check(c, object)),
    validate_status: |object, _| run(|c| conditions(c, object)),
    ..FLOW
};

const LEVEL: &[Row] = &[
    absent("spec.exempt.nominalConcurrencyShares", Given::Int(0)),
    absent("spec.exempt.lendablePercent", Given::Int(0)),
    absent("spec.limited.nominalConcurrencyShares", Given::Int(30)),
    absent("spec.limited.lendablePercent", Given::Int(0)),
    empty("spec.limited.limitResponse.queuing.handSize", Given::Int(8)),
    empty("spec.limited.limitResponse.queuing.queues", Given::Int(64)),
    empty("spec.limited.limitResponse.queuing.queueLengthLimit", Given::Int(50)),
];

/// Objects of these names are always there, as they are.
const EXEMPT: &str = "exempt";
const CATCH_ALL: &str = "catch-all";

fn conditions(c: &mut Check, object: &Value) {
    let mut seen = Vec::new();
    c.field(object, "status", |c, status| {
        c.each(status, "conditions", |c, condition| {
            let ty = text(condition, "type");
            if seen.contains(&ty) {
                c.at("type").duplicate(ty);
            }
            seen.push(ty);
            c.require(condition, "type");
        });
    });
}
