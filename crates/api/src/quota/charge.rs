//! Charging one object to one quota.

use super::{Amounts, Evaluator, Event, Limits, add, amounts, to_value};
use crate::quantity::Quantity;
use crate::time::Timestamp;
use crate::{Key, Value, meta};

/// Why a quota refuses an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The pod does not say what the quota needs to know.
    #[error("failed quota: {quota}: {why}")]
    Unsaid {
        /// The quota's name.
        quota: String,
        /// What is not said, by which containers.
        why: String,
    },
    /// The quota has not been counted yet.
    #[error("status unknown for quota: {quota}, resources: {resources}")]
    Uncounted {
        /// The quota's name.
        quota: String,
        /// What has not been counted.
        resources: String,
    },
    /// The object asks for less than nothing.
    #[error("quota usage is negative for resource(s): {0}")]
    Negative(String),
    /// There is not enough left.
    #[error("exceeded quota: {quota}, requested: {requested}, used: {used}, limited: {limited}")]
    Exceeded {
        /// The quota's name.
        quota: String,
        /// What the object wants more of.
        requested: String,
        /// What is used of it.
        used: String,
        /// What may be used of it.
        limited: String,
    },
}

/// The quota with what `object` uses added to `status.used`; `None` when it is not concerned. Of a change only what is
/// used more than before is charged, if the object was charged to this quota before.
///
/// # Errors
/// See [`Denied`].
pub fn charge(
    evaluator: &Evaluator,
    quota: &Value,
    event: Event<'_>,
    object: &Value,
    now: Timestamp,
) -> Result<Option<Value>, Denied> {
    if !evaluator.concerns(quota, Limits::InForce, object) {
        return Ok(None);
    }
    let name = || meta::name(quota).to_owned();
    let names: Vec<&str> = Limits::InForce.names(quota).filter(|name| evaluator.knows(name)).collect();
    if let Some(why) = evaluator.unsaid(&names, object) {
        return Err(Denied::Unsaid { quota: name(), why });
    }
    let mut used = amounts(quota.at(&["status", "used"]));
    let uncounted: Vec<&str> = names.iter().copied().filter(|name| !used.contains_key(*name)).collect();
    if !uncounted.is_empty() {
        return Err(Denied::Uncounted { quota: name(), resources: uncounted.join(",") });
    }
    let mut more = evaluator.usage(object, now);
    let negative: Vec<&str> =
        more.iter().filter(|(_, amount)| amount.signum() < 0).map(|(n, _)| &**n).collect();
    if !negative.is_empty() {
        return Err(Denied::Negative(negative.join(",")));
    }
    if let Event::Update(old, _) = event
        && evaluator.concerns(quota, Limits::InForce, old)
    {
        more = increase(&evaluator.usage(old, now), more);
    }
    let hard = amounts(quota.at(&["status", "hard"]));
    more.retain(|name, amount| amount.signum() > 0 && hard.contains_key(name));
    if more.is_empty() {
        return Ok(None);
    }
    let before = used.clone();
    add(&mut used, &more);
    let exceeds = |name: &&Key| used.get(*name) > hard.get(*name);
    let exceeded: Vec<&Key> = more.keys().filter(exceeds).collect();
    if !exceeded.is_empty() {
        return Err(Denied::Exceeded {
            quota: name(),
            requested: listed(&more, &exceeded),
            used: listed(&before, &exceeded),
            limited: listed(&hard, &exceeded),
        });
    }
    let mut charged = quota.clone();
    charged.set(&["status", "used"], to_value(&used));
    Ok(Some(charged))
}

fn increase(old: &Amounts, mut new: Amounts) -> Amounts {
    for (name, amount) in &mut new {
        if let Some(before) = old.get(name) {
            *amount = amount.minus(*before).max(Quantity::ZERO);
        }
    }
    new
}

fn listed(amounts: &Amounts, names: &[&Key]) -> String {
    let parts = names.iter().filter_map(|name| Some(format!("{name}={}", amounts.get(*name)?)));
    parts.collect::<Vec<_>>().join(",")
}
