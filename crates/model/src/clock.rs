//! Time and ids as parameters, so that tests can say what time it is and what the next id will be.

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// Tells the time. Passed in everywhere; clippy refuses the ambient clocks.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Now, in UTC.
    fn now(&self) -> DateTime<Utc>;
}

/// Makes ids. Passed in everywhere; clippy refuses the ambient makers.
pub trait Ids: Send + Sync + std::fmt::Debug {
    /// A fresh id, sortable by the time of its making (UUID version 7).
    fn next(&self) -> Uuid;
    /// 32 bytes that nobody can guess, for tokens.
    fn secret(&self) -> [u8; 32];
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where the ambient clock is read")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}

/// Ids from the machine's clock and random source.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemIds;

impl Ids for SystemIds {
    #[expect(clippy::disallowed_methods, reason = "the one place where ids are made")]
    fn next(&self) -> Uuid {
        Uuid::now_v7()
    }

    #[expect(clippy::disallowed_methods, reason = "the one place where secrets are made")]
    fn secret(&self) -> [u8; 32] {
        // Two version 4 UUIDs carry 122 random bits each; hashing them spreads the bits over all 32 bytes.
        use sha2::{Digest, Sha256};
        Sha256::new().chain_update(Uuid::new_v4()).chain_update(Uuid::new_v4()).finalize().into()
    }
}
