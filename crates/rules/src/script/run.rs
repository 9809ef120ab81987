//! What the evaluation that runs in this thread may still take, and the time that it is given.
//!
//! Rhai passes nothing of the kind to functions, and evaluation never leaves its thread.

use super::{
    error::ErrorKind,
    limits::{MADE_BYTES_MAX, TIME_MAX, VALUE_BYTES},
};
use chrono::{DateTime, Utc};
use rhai::{Dynamic, EvalAltResult, Position};
use std::{cell::Cell, time::Instant};

#[derive(Clone, Copy)]
struct Run {
    now: DateTime<Utc>,
    deadline: Instant,
    made_bytes: usize,
}

thread_local! {
    static RUN: Cell<Option<Run>> = const { Cell::new(None) };
}

/// An evaluation, until it is dropped.
pub(super) struct Guard(Option<Run>);

impl Guard {
    /// Starts one; `now` is what the script takes for the time.
    pub(super) fn start(now: DateTime<Utc>) -> Self {
        let run = Run { now, deadline: Instant::now() + TIME_MAX, made_bytes: 0 };
        Self(RUN.replace(Some(run)))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        RUN.set(self.0);
    }
}

/// The given time; nothing outside of an evaluation.
pub(super) fn now() -> Option<DateTime<Utc>> {
    RUN.get().map(|run| run.now)
}

/// Whether the time is over.
pub(super) fn is_over() -> bool {
    RUN.get().is_some_and(|run| Instant::now() > run.deadline)
}

/// Counts what a closure has made and a list now keeps.
pub(super) fn keep(value: &Dynamic) -> Result<(), Box<EvalAltResult>> {
    let Some(mut run) = RUN.get() else { return Ok(()) };
    run.made_bytes += bytes_of(value);
    RUN.set(Some(run));
    if run.made_bytes <= MADE_BYTES_MAX {
        return Ok(());
    }
    Err(refuse(ErrorKind::TooLarge, format!("the script makes more than {MADE_BYTES_MAX} bytes"), None))
}

/// About how much memory a value holds. Views of the event hold none of their own.
fn bytes_of(value: &Dynamic) -> usize {
    if let Ok(text) = value.as_immutable_string_ref() {
        return VALUE_BYTES + text.len();
    }
    if let Ok(items) = value.as_array_ref() {
        return VALUE_BYTES + items.iter().map(bytes_of).sum::<usize>();
    }
    if let Ok(entries) = value.as_map_ref() {
        return entries.values().map(|value| 2 * VALUE_BYTES + bytes_of(value)).sum::<usize>() + VALUE_BYTES;
    }
    VALUE_BYTES
}

/// Why one of our functions refuses; travels through Rhai as the value of a thrown error.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub(super) kind: ErrorKind,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

/// An error of one of our functions; Rhai adds the place of the call.
pub(super) fn refuse(
    kind: ErrorKind,
    message: impl Into<String>,
    help: Option<String>,
) -> Box<EvalAltResult> {
    let refusal = Refusal { kind, message: message.into(), help };
    Box::new(EvalAltResult::ErrorRuntime(Dynamic::from(refusal), Position::NONE))
}

/// The common case of [`refuse`].
pub(super) fn fail(message: impl Into<String>) -> Box<EvalAltResult> {
    refuse(ErrorKind::Runtime, message, None)
}
