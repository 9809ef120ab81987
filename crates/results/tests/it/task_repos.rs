//! The shipped task repositories, run for real.
