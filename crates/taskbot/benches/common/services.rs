//! Where the services of a benchmark are.

/// A variable that must be there.
#[expect(clippy::disallowed_methods, reason = "services for benchmarks are named by the environment")]
pub(crate) fn required(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run this by `cargo xtask bench`"))
}
