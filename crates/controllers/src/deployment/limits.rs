//! How far a rollout may stray from `spec.replicas`: maxSurge and maxUnavailable.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStrategy};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// How old pods are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// All old pods go before the first new one comes.
    Recreate,
    /// New pods come and old pods go side by side, within limits.
    Rolling {
        /// How many pods above `spec.replicas` there may be.
        max_surge: i32,
        /// How many pods below `spec.replicas` may be available.
        max_unavailable: i32,
    },
}

impl Strategy {
    /// The strategy of a Deployment, with percentages of its replicas worked out.
    pub fn of(deployment: &Deployment) -> Self {
        let spec = deployment.spec.as_ref();
        let strategy = spec.and_then(|spec| spec.strategy.as_ref());
        if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate") {
            return Self::Recreate;
        }
        let (max_surge, max_unavailable) = fence_posts(strategy, replicas(deployment));
        Self::Rolling { max_surge, max_unavailable }
    }

    /// How many pods above `spec.replicas` there may be.
    pub fn max_surge(self) -> i32 {
        match self {
            Self::Recreate => 0,
            Self::Rolling { max_surge, .. } => max_surge,
        }
    }

    /// How many of `replicas` pods may be unavailable during a rollout.
    pub fn max_unavailable(self, replicas: i32) -> i32 {
        match self {
            Self::Recreate => 0,
            Self::Rolling { max_unavailable, .. } => max_unavailable.min(replicas),
        }
    }
}

/// `spec.replicas`, never negative.
pub fn replicas(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1).max(0)
}

/// A surge rounds up, an outage rounds down; were both none, nothing could ever move, so one pod may be missing.
fn fence_posts(strategy: Option<&DeploymentStrategy>, replicas: i32) -> (i32, i32) {
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let surge = scaled(rolling.and_then(|rolling| rolling.max_surge.as_ref()), replicas, Round::Up);
    let unavailable =
        scaled(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), replicas, Round::Down);
    match (surge, unavailable) {
        (0, 0) => (0, 1),
        posts => posts,
    }
}

/// Which way a percentage of pods is rounded.
#[derive(Clone, Copy)]
pub(crate) enum Round {
    /// More pods.
    Up,
    /// Fewer pods.
    Down,
}

/// A number of pods, or a percentage of `total`.
pub(crate) fn scaled(value: Option<&IntOrString>, total: i32, round: Round) -> i32 {
    let percent = match value {
        Some(IntOrString::Int(number)) => return (*number).max(0),
        // The API's default; validation lets nothing unreadable through.
        None => 25,
        Some(IntOrString::String(text)) => {
            text.strip_suffix('%').and_then(|number| number.parse::<i64>().ok()).unwrap_or(25).max(0)
        }
    };
    let product = i64::from(total).saturating_mul(percent);
    let whole = match round {
        Round::Up => product.saturating_add(99) / 100,
        Round::Down => product / 100,
    };
    i32::try_from(whole).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn percentages_round_up_for_surge_and_down_for_outage() {
        let check = |replicas: i32, surge: Value, unavailable: Value, expected: (i32, i32)| {
            let deployment: Deployment = serde_json::from_value(json!({"metadata": {}, "spec": {
                "replicas": replicas, "selector": {}, "template": {},
                "strategy": {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}},
            }}))
            .unwrap();
            let strategy = Strategy::of(&deployment);
            let limits = (strategy.max_surge(), strategy.max_unavailable(replicas));
            assert_eq!(limits, expected, "{replicas} {surge} {unavailable}");
        };
        check(10, json!(3), json!(2), (3, 2));
        check(10, json!("25%"), json!("25%"), (3, 2));
        check(1, json!("25%"), json!("25%"), (1, 0));
        check(3, json!("0%"), json!("10%"), (0, 1));
        check(10, json!(0), json!(0), (0, 1));
        check(2, json!(0), json!(5), (0, 2));
        check(0, json!("25%"), json!("25%"), (0, 0));
        check(4, json!("100%"), json!("50%"), (4, 2));
        check(8, json!(null), json!(null), (2, 2));
    }
}
