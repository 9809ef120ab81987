//! How long to wait between tries: doubling, capped, jittered, and never shorter than the other side asks for.

use model::Ids;
use std::time::Duration;

/// The first delay of a series.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(200);
/// The longest delay of a series.
pub const BACKOFF_MAX: Duration = Duration::from_secs(15);
/// The longest delay that a server's `Retry-After` can ask for.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// A series of delays.
#[derive(Debug, Default)]
pub struct Backoff {
    tries: u32,
}

impl Backoff {
    /// The next delay: between half of and the whole of the doubled one, so that many workers do not come
    /// back in step; at least what the server asked for.
    pub fn next(&mut self, ids: &dyn Ids, asked: Option<Duration>) -> Duration {
        let whole = BACKOFF_FIRST.saturating_mul(1 << self.tries.min(16)).min(BACKOFF_MAX);
        self.tries = self.tries.saturating_add(1);
        let share = u32::from(ids.secret()[0]);
        let delay = whole / 2 + whole * share / 512;
        delay.max(asked.unwrap_or_default().min(RETRY_AFTER_MAX))
    }

    /// How many delays were given.
    #[must_use]
    pub const fn tries(&self) -> u32 {
        self.tries
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::SystemIds;

    #[test]
    fn delays_double_up_to_the_cap_and_honour_the_server() {
        let mut backoff = Backoff::default();
        for (at, whole) in [200, 400, 800, 1600, 3200, 6400, 12_800, 15_000, 15_000].into_iter().enumerate() {
            let delay = backoff.next(&SystemIds, None).as_millis();
            assert!((whole / 2..=whole).contains(&delay), "delay {at} is {delay} ms");
        }
        let asked = backoff.next(&SystemIds, Some(Duration::from_secs(60)));
        assert_eq!(asked, Duration::from_secs(60));
        assert_eq!(backoff.next(&SystemIds, Some(Duration::from_secs(9999))), RETRY_AFTER_MAX);
        assert_eq!(backoff.tries(), 11);
    }
}
