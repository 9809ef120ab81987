//! Waiting for a condition.

use super::environment::PATIENCE;
use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Looks until there is something.
pub(crate) async fn until<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, look).await
}

/// Looks until there is something, for what takes its time.
pub(crate) async fn until_within<T>(
    patience: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < patience, "waited {:?} in vain: {what}", begun.elapsed());
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Looks until what is seen is this.
pub(crate) async fn until_equal<T: PartialEq + Debug>(what: &str, expect: T, look: impl AsyncFnMut() -> T) {
    until_holds(&format!("{what}: {expect:?}"), look, |seen| *seen == expect).await;
}

/// Looks until something holds for what is seen. As long as that changes, patience begins anew: a slow machine is
/// none that hangs.
pub(crate) async fn until_holds<T: PartialEq + Debug>(
    what: &str,
    mut look: impl AsyncFnMut() -> T,
    holds: impl Fn(&T) -> bool,
) {
    let (begun, mut changed, mut last) = (Instant::now(), Instant::now(), None);
    loop {
        let seen = look().await;
        if holds(&seen) {
            return;
        }
        if last.as_ref() != Some(&seen) {
            changed = Instant::now();
        }
        assert!(
            changed.elapsed() < PATIENCE,
            "waited {:?} in vain: {what}; it is {seen:?} and does not change",
            begun.elapsed()
        );
        last = Some(seen);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
