//! How much of a capacity one claim can ask for.

use super::set;
use crate::Value;
use crate::kinds::check::Check;
use crate::kinds::volumes::quantity;
use crate::quantity::Quantity;

const MAX_OPTIONS: usize = 10;

/// An amount; what is none counts as nothing.
fn amount(value: Option<&Value>) -> Quantity {
    quantity(value).unwrap_or_else(|| Quantity::from_units(0))
}

/// Checks what can be asked for, of `capacity` in all.
pub(super) fn request_policy(c: &mut Check, policy: &Value, capacity: Option<&Value>) {
    let capacity = amount(capacity);
    let values = policy.array_at(&["validValues"]);
    let range = policy.get("validRange").filter(|range| !range.is_null());
    let default = quantity(policy.get("default"));
    match (values.is_empty(), range) {
        (false, Some(_)) => {
            let detail = "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the \
                          same time";
            c.here().forbidden(detail);
        }
        (true, None) => {}
        (false, None) => match default {
            None => c.at("default").required("required when validValues is defined"),
            Some(default) => valid_values(c, policy, default, capacity),
        },
        (true, Some(range)) => match default {
            None => c.at("default").required("required when validRange is defined"),
            Some(default) => c.within("validRange", |c| valid_range(c, range, default, capacity)),
        },
    }
}

fn valid_values(c: &mut Check, policy: &Value, default: Quantity, capacity: Quantity) {
    const FIELD: &str = "validValues";
    let values: Vec<Quantity> =
        policy.array_at(&[FIELD]).iter().filter_map(|value| quantity(Some(value))).collect();
    for (i, pair) in values.windows(2).enumerate() {
        if pair[0] > pair[1] {
            c.at(FIELD).index(i + 1).invalid(pair[1].to_string(), "values must be sorted in ascending order");
        }
    }
    let key = |value: &Value| amount(Some(value)).units().to_string();
    set(c, policy, FIELD, MAX_OPTIONS, key, |c, value| {
        if quantity(Some(value)).is_some_and(|value| value > capacity) {
            let detail = format!("option is larger than capacity value: {capacity}");
            c.here().invalid(value.clone(), &detail);
        }
    });
    if !values.contains(&default) {
        let detail = "default value is not valid according to the requestPolicy";
        c.at(FIELD).invalid(default.to_string(), detail);
    }
}

fn valid_range(c: &mut Check, range: &Value, default: Quantity, capacity: Quantity) {
    let Some(min) = quantity(range.get("min")) else {
        return c.at("min").required("required when validRange is defined");
    };
    let max = quantity(range.get("max"));
    let mut refuse = |wrong: bool, field: &str, value: Quantity, detail: String| {
        if wrong {
            c.at(field).invalid(value.to_string(), &detail);
        }
    };
    refuse(min > capacity, "min", min, format!("min is larger than capacity value: {capacity}"));
    refuse(default < min, "min", default, format!("default is less than min: {min}"));
    if let Some(max) = max {
        refuse(min > max, "max", min, format!("min is larger than max: {max}"));
        refuse(max > capacity, "max", max, format!("max is larger than capacity value: {capacity}"));
        refuse(default > max, "max", default, format!("default is more than max: {max}"));
    }
    if let Some(step) = quantity(range.get("step")) {
        let next = min.plus(step);
        let detail = format!("one step {next} is larger than capacity value: {capacity}");
        refuse(next > capacity, "step", step, detail);
        for value in [Some(default), max].into_iter().flatten() {
            let away = i128::from(value.units()) - i128::from(min.units());
            let misses = away.checked_rem(step.units().into()) != Some(0);
            let detail = format!("value is not a multiple of a given step ({step}) from ({min})");
            refuse(misses, "step", value, detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::check::run;
    use crate::kinds::check::testing::{cases, json};

    #[test]
    fn policies() {
        let capacity = Value::from("8");
        cases(&json("{}"), POLICIES, |object| run(|c| request_policy(c, object, Some(&capacity))));
    }

    const POLICIES: &str = r#"
= {"default": "1", "validValues": ["1", "2"]}

= {"default": "2", "validRange": {"min": "1", "max": "4", "step": "1"}}

= {"validValues": ["1"], "validRange": {}}
! <root>: Forbidden: exactly one policy can be specified, cannot specify "validValues" and "validRange" at the same time

= {"validValues": ["1"]}
! default: Required value: required when validValues is defined

= {"validRange": {}}
! default: Required value: required when validRange is defined

= {"default": "3", "validValues": ["9", "1", "1"]}
! validValues[1]: Invalid value: "1": values must be sorted in ascending order
! validValues[0]: Invalid value: "9": option is larger than capacity value: 8
! validValues[2]: Duplicate value: "1"
! validValues: Invalid value: "3": default value is not valid according to the requestPolicy

= {"default": "1", "validRange": {}}
! validRange.min: Required value: required when validRange is defined

= {"default": "1", "validRange": {"min": "9"}}
! validRange.min: Invalid value: "9": min is larger than capacity value: 8
! validRange.min: Invalid value: "1": default is less than min: 9

= {"default": "10", "validRange": {"min": "9", "max": "8", "step": "0"}}
! validRange.min: Invalid value: "9": min is larger than capacity value: 8
! validRange.max: Invalid value: "9": min is larger than max: 8
! validRange.max: Invalid value: "10": default is more than max: 8
! validRange.step: Invalid value: "0": one step 9 is larger than capacity value: 8
! validRange.step: Invalid value: "10": value is not a multiple of a given step (0) from (9)
! validRange.step: Invalid value: "8": value is not a multiple of a given step (0) from (9)

= {"default": "2", "validRange": {"min": "1", "max": "9", "step": "2"}}
! validRange.max: Invalid value: "9": max is larger than capacity value: 8
! validRange.step: Invalid value: "2": value is not a multiple of a given step (2) from (1)
"#;
}
