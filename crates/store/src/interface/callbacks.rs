//! Who is to be told when a task has ended.

use super::Result;
use async_trait::async_trait;
use model::TaskId;
use std::time::Duration;

/// Somebody to be told that a task has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callback {
    /// The task.
    pub task: TaskId,
    /// Where to, as it was asked for.
    pub href: String,
    /// How often that was tried.
    pub tried: u32,
}

/// Who is to be told when a task has ended.
#[async_trait]
pub trait Callbacks: Send + Sync {
    /// Keeps one; it may come before its task.
    async fn add_callback(&self, task: TaskId, href: &str) -> Result<()>;

    /// Those that are due and whose tasks have ended, the oldest first. They are nobody else's for `held`.
    async fn due_callbacks(&self, limit: u32, held: Duration) -> Result<Vec<Callback>>;

    /// Tries again after a time; `why` is kept.
    async fn put_off_callback(&self, task: TaskId, after: Duration, why: &str) -> Result<()>;

    /// It is done, or given up.
    async fn end_callback(&self, task: TaskId) -> Result<()>;
}
