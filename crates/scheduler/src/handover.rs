//! Tasks that this server has made and resolves itself at once: they need not be looked for among those that wait.
//! What does not fit is left to whoever looks next; what is lost with the server is taken up once its hold is over.

use crate::settings::RESOLVE_TAKEN_MAX;
use std::sync::{Arc, Mutex, PoisonError};
use store::Unresolved;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// A counter between those who make tasks and the resolver.
#[derive(Debug)]
pub(crate) struct Handover {
    /// None before somebody resolves.
    places: Arc<Semaphore>,
    given: Mutex<Vec<Handed>>,
    bell: Notify,
}

/// A task that was handed over. Its place is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(crate) unresolved: Unresolved,
    pub(crate) place: OwnedSemaphorePermit,
}

/// Places that are kept for tasks which are about to be made.
#[derive(Debug)]
pub(crate) struct Room(Option<OwnedSemaphorePermit>);

impl Default for Handover {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(0)), given: Mutex::default(), bell: Notify::new() }
    }
}

impl Handover {
    /// Somebody resolves from now on.
    pub(crate) fn open(&self) {
        self.places.add_permits(RESOLVE_TAKEN_MAX);
    }

    /// Nobody resolves any more.
    pub(crate) fn close(&self) {
        self.places.close();
    }

    /// As many places as there are, at most `wanted`.
    pub(crate) fn keep(&self, wanted: usize) -> Room {
        let free = self.places.available_permits().min(wanted);
        // Somebody else may have been faster: then all go the long way.
        let kept = u32::try_from(free).ok().filter(|free| *free > 0);
        Room(kept.and_then(|free| Arc::clone(&self.places).try_acquire_many_owned(free).ok()))
    }

    /// Hands over tasks that were made, at most as many as there are places.
    pub(crate) fn give(&self, mut room: Room, made: Vec<Unresolved>) {
        if made.is_empty() {
            return;
        }
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        for unresolved in made {
            if let Some(place) = room.0.as_mut().and_then(|places| places.split(1)) {
                given.push(Handed { unresolved, place });
            }
        }
        drop(given);
        self.bell.notify_one();
    }

    /// What was handed over since the last time, as soon as there is something. Safe to drop while waiting.
    pub(crate) async fn take(&self) -> Vec<Handed> {
        loop {
            let given = std::mem::take(&mut *self.given.lock().unwrap_or_else(PoisonError::into_inner));
            if !given.is_empty() {
                return given;
            }
            self.bell.notified().await;
        }
    }
}

impl Room {
    /// How many there are.
    pub(crate) fn places(&self) -> usize {
        self.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_places_as_are_not_taken() {
        let handover = Handover::default();
        assert_eq!(handover.keep(1).places(), 0, "nobody resolves yet");
        handover.open();
        assert_eq!(handover.keep(0).places(), 0);
        let most = handover.keep(RESOLVE_TAKEN_MAX - 1);
        assert_eq!(most.places(), RESOLVE_TAKEN_MAX - 1);
        assert_eq!(handover.keep(5).places(), 1);
        drop(most);
        assert_eq!(handover.keep(5).places(), 5);
        handover.close();
        assert_eq!(handover.keep(5).places(), 0);
    }
}
