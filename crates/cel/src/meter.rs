//! What an evaluation has cost so far: in the units of cel-go, and in steps of real work.

use crate::error::EvalError;

/// Most steps of one evaluation: what copying, comparing and searching may do beyond what the cost says of it. A step is about
/// a nanosecond's work, so no expression takes longer than some tenths of a second, whatever it was built to do.
const MAX_STEPS: u64 = 200_000_000;

#[derive(Debug)]
pub(crate) struct Meter {
    cost: u64,
    limit: u64,
    steps: u64,
}

impl Meter {
    pub(crate) const fn new(limit: u64) -> Self {
        Self { cost: 0, limit, steps: 0 }
    }

    pub(crate) const fn cost(&self) -> u64 {
        self.cost
    }

    /// Adds to the cost.
    pub(crate) const fn charge(&mut self, cost: u64) -> Result<(), EvalError> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.limit { Err(EvalError::CostExceeded) } else { Ok(()) }
    }

    /// Adds to the work.
    pub(crate) const fn work(&mut self, steps: usize) -> Result<(), EvalError> {
        self.steps = self.steps.saturating_add(steps as u64);
        if self.steps > MAX_STEPS { Err(EvalError::CostExceeded) } else { Ok(()) }
    }
}
