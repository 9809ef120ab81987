//! What the environment says: where the services are, and how much to do.

#![expect(clippy::disallowed_methods, reason = "services for tests are named by the environment")]

use super::random::Random;
use model::{Ids, SystemIds};
use std::{net::TcpListener, path::PathBuf, time::Duration};

/// A variable that must be there.
pub(crate) fn required(name: &str) -> String {
    optional(name).unwrap_or_else(|| panic!("{name} is not set: run the drills by `cargo xtask test`"))
}

/// A variable that may be there; an empty one counts as not set.
pub(crate) fn optional(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Whether the long forms are asked for.
pub(crate) fn full() -> bool {
    optional("TASKBOT_TEST_FULL").is_some()
}

/// The smaller value, or in full the larger one.
pub(crate) fn sized<T>(normal: T, in_full: T) -> T {
    if full() { in_full } else { normal }
}

/// The seed of this run: as the environment says, or a new one; printed, so that the run can be repeated.
pub(crate) fn seed(drill: &str) -> u64 {
    let given =
        optional("TASKBOT_DRILL_SEED").map(|text| text.parse().expect("TASKBOT_DRILL_SEED is a number"));
    let seed = given.unwrap_or_else(|| SystemIds.next().as_u64_pair().1 >> 16);
    println!("drill {drill}: repeat it with TASKBOT_DRILL_SEED={seed}");
    seed
}

/// A name that no other drill has, fit for databases, streams and subjects.
pub(crate) fn unique(what: &str) -> String {
    let id = SystemIds.next().simple().to_string();
    format!("{what}_{}{}", &id[..12], &id[24..])
}

/// A port that is free now, and that no connection takes by chance while its server is away.
pub(crate) fn free_port() -> u16 {
    // Below the range that the kernel gives out by itself.
    let mut random = Random::new(SystemIds.next().as_u64_pair().1);
    let mut ports = std::iter::repeat_with(|| u16::try_from(10_000 + random.below(20_000)).unwrap());
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

/// The top folder of the project.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Nothing that a drill waits for takes this long unless it is broken. Others use the machine meanwhile.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
