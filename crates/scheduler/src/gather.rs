//! Writes that come while others are being written share the next transaction: what a transaction costs, and waiting for
//! the disk, is once for all of them. Who comes alone does not wait for others.

use crate::Scheduler;
use std::{
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};
use store::{Result, StoreError};
use tokio::sync::oneshot;

/// How many writes share a transaction at most.
const TOGETHER_MAX: usize = 64;
/// How many writes wait at most.
const WAITING_MAX: usize = 10_000;

/// What is written in one transaction with others of its kind.
pub(crate) trait Shared: Sized + Send + Sync + 'static {
    /// What comes of it.
    type Written: Send + 'static;

    /// Those that wait.
    fn gather(scheduler: &Scheduler) -> &Gather<Self>;

    /// Writes several in this order, all or none.
    fn write(
        scheduler: &Scheduler,
        batch: &[Self],
    ) -> impl Future<Output = Result<Vec<Self::Written>>> + Send;
}

type Told<T> = oneshot::Sender<Result<<T as Shared>::Written>>;

/// Writes of one kind that wait for their transaction.
pub(crate) struct Gather<T: Shared>(Mutex<Waiting<T>>);

struct Waiting<T: Shared> {
    all: Vec<(T, Told<T>)>,
    /// Whether somebody writes and will look again.
    writing: bool,
}

impl<T: Shared> Default for Gather<T> {
    fn default() -> Self {
        Self(Mutex::new(Waiting { all: Vec::new(), writing: false }))
    }
}

impl<T: Shared> Gather<T> {
    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those whose turn it is, in the order in which they came; nobody writes any more when there are none.
    fn take(&self) -> Option<(Vec<T>, Vec<Told<T>>)> {
        let mut waiting = self.lock();
        if waiting.all.is_empty() {
            waiting.writing = false;
            return None;
        }
        let together = TOGETHER_MAX.min(waiting.all.len());
        let rest = waiting.all.split_off(together);
        Some(mem::replace(&mut waiting.all, rest).into_iter().unzip())
    }
}

/// Writes one, with what else waits. It is written even if nobody waits for it any more.
pub(crate) async fn write<T: Shared>(scheduler: &Scheduler, one: T) -> Result<T::Written> {
    let (tell, told) = oneshot::channel();
    let begins = {
        let mut waiting = T::gather(scheduler).lock();
        if waiting.all.len() >= WAITING_MAX {
            return Err(StoreError::Unavailable(format!("{WAITING_MAX} writes wait for it")));
        }
        waiting.all.push((one, tell));
        !mem::replace(&mut waiting.writing, true)
    };
    if begins {
        tokio::spawn(write_waiting::<T>(scheduler.clone()));
    }
    told.await.unwrap_or_else(|_| Err(StoreError::Unavailable("the server is stopping".to_owned())))
}

/// Lets others begin anew when writing stopped in the middle.
struct Writing<'a, T: Shared>(&'a Gather<T>);

impl<T: Shared> Drop for Writing<'_, T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut waiting = self.0.lock();
            waiting.writing = false;
            waiting.all.clear();
        }
    }
}

async fn write_waiting<T: Shared>(scheduler: Scheduler) {
    let gather = T::gather(&scheduler);
    let _writing = Writing(gather);
    while let Some((batch, told)) = gather.take() {
        let written = write_batch(&scheduler, batch).await;
        scheduler.wake().moved();
        for (tell, written) in told.into_iter().zip(written) {
            // Who does not wait any more does not hear it.
            let _ = tell.send(written);
        }
    }
}

/// Writes all in one transaction; each in one of its own when the database refuses one of them.
async fn write_batch<T: Shared>(scheduler: &Scheduler, batch: Vec<T>) -> Vec<Result<T::Written>> {
    match T::write(scheduler, &batch).await {
        Ok(written) => written.into_iter().map(Ok).collect(),
        Err(error) if error.is_transient() || batch.len() == 1 => {
            batch.iter().map(|_| Err(error.clone())).collect()
        }
        Err(error) => {
            tracing::debug!(%error, writes = batch.len(), "written one by one");
            let mut written = Vec::with_capacity(batch.len());
            for one in batch.chunks(1) {
                let alone = T::write(scheduler, one).await;
                written.push(alone.and_then(|mut alone| {
                    alone.pop().ok_or_else(|| StoreError::Database("nothing came of a write".to_owned()))
                }));
            }
            written
        }
    }
}
