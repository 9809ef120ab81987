//! The worker's parts against real ones: git, bubblewrap, a container engine.

mod git;
