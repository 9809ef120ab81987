//! Rates.

use std::time::Duration;

/// So many in so long, for each second.
#[expect(clippy::cast_precision_loss, reason = "counts of benchmarks are small")]
pub(crate) fn rate(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}
