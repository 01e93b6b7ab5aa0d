//! Rules of priority levels: how many requests run at once, and how many wait.

use super::{CATCH_ALL, EXEMPT};
use crate::kinds::check::{Check, is_set, number, same, text};
use crate::{Value, meta, object};

const MAX_QUEUES: i64 = 10_000_000;
const MAX_HASH_BITS: u32 = 60;
const POSITIVE: &str = "must be positive";

/// Checks a priority level.
pub(super) fn check(c: &mut Check, object: &Value) {
    const ANNOTATION: &str = "flowcontrol.k8s.io/v1beta3-preserve-zero-concurrency-shares";
    let name = meta::name(object);
    if meta::annotation(object, ANNOTATION).is_some() {
        c.at("metadata.annotations").forbidden(&format!("annotation '{ANNOTATION}' is forbidden"));
    }
    c.field(object, "spec", |c, spec| {
        let ty = text(spec, "type");
        if (name == EXEMPT) != (ty == "Exempt") {
            c.at("type").invalid(ty, "must be 'Exempt' if and only if `name` is 'exempt'");
        }
        match ty {
            "Exempt" => {
                if is_set(spec, "limited") {
                    c.at("limited").forbidden("must be nil if the type is not Limited");
                }
                c.some(spec, "exempt", shares);
            }
            "Limited" => {
                if is_set(spec, "exempt") {
                    c.at("exempt").forbidden("must be nil if the type is Limited");
                }
                if is_set(spec, "limited") {
                    c.field(spec, "limited", limited);
                } else {
                    c.at("limited").required("must not be empty when type is Limited");
                }
            }
            _ => c.at("type").not_supported(ty, &["Exempt", "Limited"]),
        }
        fixed_level(c, spec, name);
    });
}

fn fixed_level(c: &mut Check, spec: &Value, name: &str) {
    if name == EXEMPT {
        let mut rest = spec.clone();
        drop(rest.remove_at(&["exempt"]));
        if !same(Some(&rest), Some(&object!({"type": "Exempt"}))) {
            let detail =
                format!("spec of '{name}' except the 'spec.exempt' field must equal the fixed value");
            c.here().invalid(spec.clone(), &detail);
        }
    } else if name == CATCH_ALL {
        let fixed = object!({
            "type": "Limited",
            "limited": {
                "nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": {"type": "Reject"}
            }
        });
        if !same(Some(spec), Some(&fixed)) {
            c.here().invalid(spec.clone(), &format!("spec of '{name}' must equal the fixed value"));
        }
    }
}

fn shares(c: &mut Check, level: &Value) {
    let shares = number(level, "nominalConcurrencyShares");
    if shares.is_some_and(|n| n < 0) {
        c.at("nominalConcurrencyShares").invalid(shares, "must be a non-negative integer");
    }
    c.range(level, "lendablePercent", 0, 100);
}

fn limited(c: &mut Check, level: &Value) {
    shares(c, level);
    c.field(level, "limitResponse", |c, response| match text(response, "type") {
        "Reject" => {
            if is_set(response, "queuing") {
                c.at("queuing").forbidden("must be nil if limited.limitResponse.type is not Limited");
            }
        }
        "Queue" if is_set(response, "queuing") => c.field(response, "queuing", queuing),
        "Queue" => c.at("queuing").required("must not be empty if limited.limitResponse.type is Limited"),
        other => c.at("type").not_supported(other, &["Queue", "Reject"]),
    });
    let percent = number(level, "borrowingLimitPercent");
    if percent.is_some_and(|p| p < 0) {
        c.at("borrowingLimitPercent").invalid(percent, "if specified, must be a non-negative integer");
    }
}

fn queuing(c: &mut Check, queuing: &Value) {
    let [length, queues, hand] =
        ["queueLengthLimit", "queues", "handSize"].map(|field| number(queuing, field).unwrap_or(0));
    if length <= 0 {
        c.at("queueLengthLimit").invalid(length, POSITIVE);
    }
    if queues <= 0 {
        c.at("queues").invalid(queues, POSITIVE);
    } else if queues > MAX_QUEUES {
        c.at("queues").invalid(queues, &format!("must not be greater than {MAX_QUEUES}"));
    }
    if hand <= 0 {
        c.at("handSize").invalid(hand, POSITIVE);
    } else if hand > queues {
        c.at("handSize").invalid(hand, &format!("should not be greater than queues ({queues})"));
    } else if hash_is_short(queues, hand) {
        let detail = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {MAX_HASH_BITS}"
        );
        c.at("handSize").invalid(hand, &detail);
    }
}

/// Whether a hash has too few bits to draw `hand` times one of `deck` cards.
fn hash_is_short(deck: i64, hand: i64) -> bool {
    let ways = u32::try_from(hand).ok().and_then(|hand| deck.unsigned_abs().checked_pow(hand));
    ways.is_none_or(|ways| ways > 1 << MAX_HASH_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::check::testing::{cases, json};
    use crate::kinds::flowcontrol::PRIORITY_LEVEL;

    #[test]
    fn levels() {
        let base = json(
            r#"{"metadata": {"name": "a"}, "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 1,
                "limitResponse": {"type": "Queue", "queuing": {"queues": 64, "handSize": 8, "queueLengthLimit": 50}}}}}"#,
        );
        cases(&base, LEVELS, PRIORITY_LEVEL.validate);
        assert_eq!(
            [(64, 8), (1, 1), (1024, 6), (1025, 6)].map(|(d, h)| hash_is_short(d, h)),
            [false, false, false, true]
        );
    }

    const LEVELS: &str = r#"
spec.limited.limitResponse = {"type": "Reject"}

metadata.name = "exempt"
spec = {"type": "Exempt", "exempt": {"nominalConcurrencyShares": 1, "lendablePercent": 50}}

metadata.name = "catch-all"
spec = {"type": "Limited", "limited": {"nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": {"type":
  "Reject"}}}

metadata.name = "catch-all"
spec = {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}
! spec: Invalid value: {"limited":{"limitResponse":{"type":"Reject"}},"type":"Limited"}: spec of 'catch-all' must equal
  the fixed value

metadata.annotations = {"flowcontrol.k8s.io/v1beta3-preserve-zero-concurrency-shares": ""}
spec = {}
! metadata.annotations: Forbidden: annotation 'flowcontrol.k8s.io/v1beta3-preserve-zero-concurrency-shares' is forbidden
! spec.type: Unsupported value: "": supported values: "Exempt", "Limited"

metadata.name = "exempt"
spec = {"type": "Exempt", "exempt": {"nominalConcurrencyShares": -1, "lendablePercent": 101}, "limited": {"x": 1}}
! spec.limited: Forbidden: must be nil if the type is not Limited
! spec.exempt.nominalConcurrencyShares: Invalid value: -1: must be a non-negative integer
! spec.exempt.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive
! spec: Invalid value:
  {"exempt":{"lendablePercent":101,"nominalConcurrencyShares":-1},"limited":{"x":1},"type":"Exempt"}: spec of 'exempt'
  except the 'spec.exempt' field must equal the fixed value

spec = {"type": "Limited", "exempt": {}}
! spec.exempt: Forbidden: must be nil if the type is Limited
! spec.limited: Required value: must not be empty when type is Limited

spec.type = "Exempt"
spec.limited =
! spec.type: Invalid value: "Exempt": must be 'Exempt' if and only if `name` is 'exempt'

spec.limited = {"borrowingLimitPercent": -1, "limitResponse": {"type": "Reject", "queuing": {}}}
! spec.limited.limitResponse.queuing: Forbidden: must be nil if limited.limitResponse.type is not Limited
! spec.limited.borrowingLimitPercent: Invalid value: -1: if specified, must be a non-negative integer

spec.limited.limitResponse.queuing =
! spec.limited.limitResponse.queuing: Required value: must not be empty if limited.limitResponse.type is Limited

spec.limited.limitResponse.type = "x"
! spec.limited.limitResponse.type: Unsupported value: "x": supported values: "Queue", "Reject"

spec.limited.limitResponse.queuing = {}
! spec.limited.limitResponse.queuing.queueLengthLimit: Invalid value: 0: must be positive
! spec.limited.limitResponse.queuing.queues: Invalid value: 0: must be positive
! spec.limited.limitResponse.queuing.handSize: Invalid value: 0: must be positive

spec.limited.limitResponse.queuing = {"queueLengthLimit": 1, "queues": 10000001, "handSize": 3}
! spec.limited.limitResponse.queuing.queues: Invalid value: 10000001: must not be greater than 10000000
! spec.limited.limitResponse.queuing.handSize: Invalid value: 3: required entropy bits of deckSize 10000001 and handSize 3
  should not be greater than 60

spec.limited.limitResponse.queuing = {"queueLengthLimit": 1, "queues": 2, "handSize": 3}
! spec.limited.limitResponse.queuing.handSize: Invalid value: 3: should not be greater than queues (2)
"#;
}
