//! Wishes to run a test once more, which are remembered, so that the same is not run over and over.

use super::{NewTask, Page, Result};
use async_trait::async_trait;
use model::{ids::RetestId, message::NewMessage, retest::Retest};
use std::time::Duration;

/// A wish to run a test once more.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRetest {
    /// What is kept; its time is the database's.
    pub retest: Retest,
    /// What stands for the same wish.
    pub hash: [u8; 32],
    /// How long the same wish holds off the next.
    pub window: Duration,
    /// Whether it is made all the same.
    pub force: bool,
    /// Tasks to make.
    pub tasks: Vec<NewTask>,
    /// Messages to tell, which are also events of ours where their topic is.
    pub messages: Vec<NewMessage>,
}

/// What came of a wish.
#[derive(Debug, Clone, PartialEq)]
pub enum Requested {
    /// It was made.
    Made(Retest),
    /// The same was made a short time ago.
    Known(Retest),
}

/// Wishes to run a test once more.
#[async_trait]
pub trait Retests: Send + Sync {
    /// The same wish, when it was made within this time; it counts as asked once more.
    async fn recent_retest(&self, hash: [u8; 32], window: Duration) -> Result<Option<Retest>>;

    /// Makes a wish with its tasks and messages, unless the same was made within its window.
    async fn request_retest(&self, new: &NewRetest) -> Result<Requested>;

    /// A wish.
    async fn retest(&self, id: RetestId) -> Result<Retest>;

    /// Wishes, newest first, of those before this one.
    async fn retests(&self, before: Option<RetestId>, limit: u32) -> Result<Page<Retest>>;
}
