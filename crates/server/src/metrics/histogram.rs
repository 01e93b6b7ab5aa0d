//! How long things take: counts between bounds that are chosen once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::text::{Label, Text};

/// Upper bounds in seconds, ascending; the name of the family that has them says what they measure.
pub(crate) type Bounds = &'static [f64];

/// How values spread.
#[derive(Debug)]
pub(crate) struct Histogram {
    bounds: Bounds,
    /// One for each bound, and one for what is above all.
    counts: Box<[AtomicU64]>,
    sum_nanos: AtomicU64,
}

impl Histogram {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum_nanos: AtomicU64::new(0) }
    }

    /// Counts one value.
    pub(crate) fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let place = self.bounds.partition_point(|bound| *bound < seconds);
        self.counts[place].fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.sum_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// How many values there are.
    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Writes it as a sample of the family that was begun.
    pub(crate) fn write(&self, labels: &[Label<'_>], out: &mut Text) {
        let counts: Vec<u64> = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let buckets: Vec<(f64, u64)> = self.bounds.iter().copied().zip(counts.iter().copied()).collect();
        let above = counts.last().copied().unwrap_or_default();
        let sum = Duration::from_nanos(self.sum_nanos.load(Ordering::Relaxed));
        out.histogram(labels, &buckets, above, sum.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::super::text::Kind;
    use super::*;

    #[test]
    fn values_fall_between_bounds() {
        let histogram = Histogram::new(&[0.1, 1.0]);
        for millis in [0, 100, 101, 1000, 1001, 5000] {
            histogram.observe(Duration::from_millis(millis));
        }
        assert_eq!(histogram.count(), 6);
        let mut text = Text::default();
        text.family("a", Kind::Histogram, "b");
        histogram.write(&[], &mut text);
        let text = text.finish();
        for line in
            [r#"a_bucket{le="0.1"} 2"#, r#"a_bucket{le="1"} 4"#, r#"a_bucket{le="+Inf"} 6"#, "a_sum 7.202"]
        {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }
}
