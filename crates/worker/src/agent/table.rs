//! What a worker holds: its attempts, from the claim until the server has their end.

use crate::{
    executor::AttemptLabel,
    runner::{Control, StopWhy},
};
use model::{
    WorkerName,
    protocol::{HeartbeatEntry, Held, Order},
};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// The attempts that are held.
#[derive(Debug, Default)]
pub(super) struct Table {
    held: Mutex<HashMap<Held, Arc<Control>>>,
    /// Told when there is one less.
    pub(super) freed: Notify,
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, HashMap<Held, Arc<Control>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an attempt; nothing if it is held already.
    pub(super) fn take(&self, held: Held, control: &Arc<Control>) -> bool {
        let mut table = self.lock();
        if table.contains_key(&held) {
            return false;
        }
        table.insert(held, Arc::clone(control));
        true
    }

    pub(super) fn release(&self, held: Held) {
        self.lock().remove(&held);
        self.freed.notify_one();
    }

    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.lock().len()).unwrap_or(u32::MAX)
    }

    pub(super) fn held(&self) -> Vec<Held> {
        self.lock().keys().copied().collect()
    }

    pub(super) fn heartbeat(&self) -> Vec<HeartbeatEntry> {
        self.lock()
            .iter()
            .map(|(held, control)| HeartbeatEntry {
                held: *held,
                phase: control.phase(),
                kept: control.kept(),
            })
            .collect()
    }

    pub(super) fn labels(&self, worker: &WorkerName) -> HashSet<AttemptLabel> {
        let label = |held: &Held| AttemptLabel {
            worker: worker.clone(),
            task: held.task,
            attempt: held.attempt.attempt,
        };
        self.lock().keys().map(label).collect()
    }

    pub(super) fn obey(&self, held: Held, order: Order) {
        let Some(control) = self.lock().get(&held).cloned() else { return };
        match order {
            Order::Continue => {}
            Order::Stop { why } => control.stop(StopWhy::Ordered(why)),
            Order::EndHold => control.end_hold(),
            Order::Fenced => control.stop(StopWhy::Fenced),
        }
    }

    /// Ends all holds, also those that would begin.
    pub(super) fn end_holds(&self) {
        self.lock().values().for_each(|control| control.end_hold());
    }

    pub(super) fn stop_all(&self, why: &StopWhy) {
        self.lock().values().for_each(|control| control.stop(why.clone()));
    }

    /// Whether nothing is run any more: all that is held is being delivered.
    pub(super) fn is_delivering(&self) -> bool {
        self.lock().values().all(|control| control.is_delivering())
    }

    /// Hands back what has not begun; says how many.
    pub(super) fn hand_back_all(&self) -> usize {
        self.lock().values().filter(|control| control.hand_back()).count()
    }
}
