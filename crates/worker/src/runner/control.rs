//! The hand on a running attempt: what phase it is in, and whether and why it is to stop.

use super::Halt;
use model::{
    ErrorReason, Outcome, Phase,
    protocol::AttemptEnd,
    task::{Kept, Stop},
    units::format_duration,
};
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// Why an attempt was stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopWhy {
    /// The server said so: cancelled or superseded.
    Ordered(Stop),
    /// It is another worker's now.
    Fenced,
    /// No server was heard of for this long.
    LostContact(Duration),
    /// The worker stops, and the attempt had not begun to run the task.
    HandedBack,
    /// The worker is made to stop at once.
    Killed,
}

impl StopWhy {
    /// One line for people.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Ordered(stop) => stop.to_string(),
            Self::Fenced => "the task is another worker's now".to_owned(),
            Self::LostContact(silence) => format!("no server was heard of for {}", format_duration(*silence)),
            Self::HandedBack => "the worker stops and had not begun to run the task".to_owned(),
            Self::Killed => "the worker was made to stop at once while it ran the task".to_owned(),
        }
    }

    /// How an attempt that was stopped so ends. A task that was told to stop ends as cancelled or superseded
    /// whatever outcome is sent. One that a person stops hands back what it runs: that says nothing about the task
    /// and costs it no try. After a lost contact the task's policy decides.
    #[must_use]
    pub fn end(&self) -> AttemptEnd {
        let error =
            |reason| AttemptEnd::Outcome { outcome: Outcome::Error(reason), reason: Some(self.reason()) };
        match self {
            Self::Ordered(_) => error(ErrorReason::Task),
            Self::HandedBack | Self::Killed => AttemptEnd::HandedBack { reason: self.reason() },
            Self::Fenced | Self::LostContact(_) => error(ErrorReason::Lost),
        }
    }

    pub(super) fn halt(&self) -> Halt {
        Halt { outcome: Outcome::Error(ErrorReason::Task), reason: self.reason() }
    }
}

#[derive(Debug)]
struct State {
    phase: Phase,
    why: Option<StopWhy>,
    /// It has ended, and how is on its way to the server.
    delivering: bool,
    /// What is kept of it for a person.
    kept: Option<Kept>,
}

/// Shared by the attempt and whoever may stop it.
#[derive(Debug)]
pub struct Control {
    state: Mutex<State>,
    stop: CancellationToken,
    kill: CancellationToken,
    end_hold: CancellationToken,
}

impl Default for Control {
    fn default() -> Self {
        Self::new(CancellationToken::new())
    }
}

impl Control {
    /// A fresh one; cancelling `kill` cuts cleaning up short too.
    #[must_use]
    pub fn new(kill: CancellationToken) -> Self {
        let state = State { phase: Phase::Provision, why: None, delivering: false, kept: None };
        let end_hold = CancellationToken::new();
        Self { state: Mutex::new(state), stop: CancellationToken::new(), kill, end_hold }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops the attempt. The first reason counts, but that it is fenced overrides every other.
    pub fn stop(&self, why: StopWhy) {
        let mut state = self.lock();
        if (state.why.is_none() && !state.delivering) || why == StopWhy::Fenced {
            state.why = Some(why);
        }
        self.stop.cancel();
    }

    /// Stops the attempt if it has not begun to run anything of the task. Says whether it did.
    pub fn hand_back(&self) -> bool {
        let mut state = self.lock();
        let early = state.phase < Phase::Prepare && state.why.is_none() && !state.delivering;
        if early {
            state.why = Some(StopWhy::HandedBack);
            self.stop.cancel();
        }
        early
    }

    /// Notes that it has ended; from now on only being fenced stops anything.
    pub fn enter_delivery(&self) {
        let mut state = self.lock();
        state.phase = Phase::Cleanup;
        state.delivering = true;
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_delivering(&self) -> bool {
        self.lock().delivering
    }

    /// The phase that it is in.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.lock().phase
    }

    /// Why it was stopped, if it was.
    #[must_use]
    pub fn why(&self) -> Option<StopWhy> {
        self.lock().why.clone()
    }

    /// Ends its hold, now or when it comes to it.
    pub fn end_hold(&self) {
        self.end_hold.cancel();
    }

    /// What is kept of it for a person, while it is held.
    #[must_use]
    pub fn kept(&self) -> Option<Kept> {
        self.lock().kept.clone()
    }

    pub(super) fn keep(&self, kept: Option<Kept>) {
        self.lock().kept = kept;
    }

    /// Comes back when nobody is waited for any more.
    pub(super) async fn hold_over(&self) {
        tokio::select! {
            () = self.end_hold.cancelled() => {}
            () = self.stop.cancelled() => {}
            () = self.kill.cancelled() => {}
        }
    }

    /// Cancelled when it is to stop.
    #[must_use]
    pub const fn stopped(&self) -> &CancellationToken {
        &self.stop
    }

    /// Cancelled when even cleaning up is to end.
    #[must_use]
    pub const fn killed(&self) -> &CancellationToken {
        &self.kill
    }

    /// Enters a phase, unless it is to stop; cleaning up is always entered.
    pub(super) fn enter(&self, phase: Phase) -> Result<(), Halt> {
        let mut state = self.lock();
        match &state.why {
            Some(why) if phase != Phase::Cleanup => Err(why.halt()),
            _ => {
                state.phase = phase;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_not_begun_is_handed_back() {
        let control = Control::default();
        control.enter(Phase::Prepare).unwrap();
        assert!(!control.hand_back());
        let early = Control::default();
        early.enter(Phase::Fetch).unwrap();
        assert!(early.hand_back());
        assert!(early.enter(Phase::Prepare).is_err(), "it must not begin after it was handed back");
        early.enter(Phase::Cleanup).unwrap();
        early.stop(StopWhy::Killed);
        assert_eq!(early.why(), Some(StopWhy::HandedBack));
        early.stop(StopWhy::Fenced);
        assert_eq!(early.why(), Some(StopWhy::Fenced));
    }
}
