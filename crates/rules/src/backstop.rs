//! A limit on the time that something takes, which other work on the machine does not use up.

use nix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};

/// The clock on the wall is looked at first, for it costs nothing; when half of the limit has passed there, this
/// thread's time on the processor begins to count. On a machine that is overloaded nothing harmless is ended so.
#[derive(Debug, Clone)]
pub(crate) struct Backstop {
    limit: Duration,
    first: Instant,
    /// The processor's time at which it ends.
    end: Option<Duration>,
}

impl Backstop {
    /// Begins now.
    pub(crate) fn start(limit: Duration) -> Self {
        Self { limit, first: Instant::now() + limit / 2, end: None }
    }

    /// Whether it took too long.
    pub(crate) fn is_over(&mut self) -> bool {
        if Instant::now() < self.first {
            return false;
        }
        // Without such a clock the wall's decides.
        let Ok(now) = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from) else {
            return true;
        };
        now > *self.end.get_or_insert(now + self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_work_counts() {
        let mut backstop = Backstop::start(Duration::from_millis(4));
        // As if the machine had done other things for an hour.
        backstop.first -= Duration::from_secs(1);
        assert!(!backstop.is_over(), "nothing was done yet");
        let mut looks = 0_u64;
        while !backstop.is_over() {
            looks += 1;
        }
        assert!(looks > 10, "{looks} looks within 4 ms");
    }
}
