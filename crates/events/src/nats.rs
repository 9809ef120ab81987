//! NATS `JetStream`: a durable pull consumer as source, what a stream still holds as history, a stream as outlet.
//!
//! Both connect in the background and for ever; both read back what the server stored and refuse what differs,
//! since servers accept settings that they do not know and drop them.

mod connection;
mod health;
mod history;
mod outlet;
mod readback;
mod source;
mod unreadable;
mod version;

pub use history::JetStreamHistory;
pub use outlet::JetStreamOutlet;
pub use source::JetStreamSource;
pub use version::{MINIMUM, Version};

/// Why a bus cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Trouble {
    /// It may pass by itself.
    Passing(String),
    /// Somebody has to mend something.
    Refusal(String),
}
