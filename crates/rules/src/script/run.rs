//! What the evaluation that runs in this thread may still take, and the time that it is given.
//!
//! Rhai passes nothing of the kind to functions, and evaluation never leaves its thread.

use super::{
    error::{ErrorKind, ScriptError},
    limits::{MADE_BYTES_MAX, OPERATIONS_MAX, TIME_MAX, VALUE_BYTES},
};
use crate::backstop::Backstop;
use chrono::{DateTime, Utc};
use rhai::{Dynamic, EvalAltResult, Position};
use std::{cell::RefCell, ops::Range};

#[derive(Clone)]
struct Run {
    now: DateTime<Utc>,
    backstop: Backstop,
    operations: u64,
    made_bytes: usize,
    /// Why no further operation is allowed.
    stop: Option<Refusal>,
}

/// How many operations pass between two looks at the clock.
const OPERATIONS_PER_LOOK: u64 = 16;

thread_local! {
    static RUN: RefCell<Option<Run>> = const { RefCell::new(None) };
}

/// An evaluation, until it is dropped.
pub(super) struct Guard(Option<Run>);

impl Guard {
    /// Starts one; `now` is what the script takes for the time.
    pub(super) fn start(now: DateTime<Utc>) -> Self {
        let backstop = Backstop::start(TIME_MAX);
        Self(RUN.replace(Some(Run { now, backstop, operations: 0, made_bytes: 0, stop: None })))
    }

    /// Why the evaluation had to stop; also where Rhai swallowed the error.
    pub(super) fn stopped(&self) -> Option<Refusal> {
        RUN.with_borrow(|run| run.as_ref()?.stop.clone())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        RUN.replace(self.0.take());
    }
}

/// The given time; nothing outside of an evaluation.
pub(super) fn now() -> Option<DateTime<Utc>> {
    RUN.with_borrow(|run| run.as_ref().map(|run| run.now))
}

/// Counts an operation, and says whether it must be the last.
///
/// Rhai counts them, too, but forgets those of a closure when a function such as `filter` has called it.
pub(super) fn operation() -> Option<Dynamic> {
    RUN.with_borrow_mut(|run| {
        let run = run.as_mut()?;
        run.operations += 1;
        if run.operations > OPERATIONS_MAX {
            run.stop.get_or_insert_with(Refusal::operations);
        } else if run.operations.is_multiple_of(OPERATIONS_PER_LOOK) && run.backstop.is_over() {
            run.stop.get_or_insert_with(Refusal::timeout);
        }
        run.stop.is_some().then_some(Dynamic::UNIT)
    })
}

/// Lets no further operation happen: for errors that Rhai would swallow, such as those of making a text.
pub(super) fn stop(why: &str) {
    RUN.with_borrow_mut(|run| {
        if let Some(run) = run {
            let refusal = Refusal { kind: ErrorKind::TooLarge, message: why.to_owned(), help: None };
            run.stop.get_or_insert(refusal);
        }
    });
}

/// Counts what a closure has made and a list now keeps.
pub(super) fn keep(value: &Dynamic) -> Result<(), Box<EvalAltResult>> {
    let bytes = bytes_of(value);
    let made = RUN.with_borrow_mut(|run| {
        let Some(run) = run else { return bytes };
        run.made_bytes += bytes;
        run.made_bytes
    });
    if made <= MADE_BYTES_MAX {
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

impl Refusal {
    /// Of more than [`OPERATIONS_MAX`].
    pub(super) fn operations() -> Self {
        Self {
            kind: ErrorKind::Operations,
            message: format!("the script needs more than {OPERATIONS_MAX} operations"),
            help: Some("go through fewer elements, or put what can be said there into `when`".to_owned()),
        }
    }

    fn timeout() -> Self {
        let message = format!("the script took longer than {} ms", TIME_MAX.as_millis());
        Self { kind: ErrorKind::Timeout, message, help: None }
    }

    /// The error at its place.
    pub(super) fn at(self, span: Range<usize>) -> ScriptError {
        ScriptError { message: self.message, span, help: self.help, kind: self.kind }
    }
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
