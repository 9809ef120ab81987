//! `rule backtest`: what a rule set would have made of recorded history, and how that differs from another set.
//!
//! The modules stand in the order of the data: events are read in batches ([`history`]), judged in parallel
//! ([`judge`]), put in order again and counted ([`tally`]), and shown ([`report`]). Nothing is held but counters:
//! a history of any length can be read.

pub(super) mod history;
mod judge;
mod report;
mod tally;

use super::rule;
use crate::{
    cli::{Backtest, Global},
    fault::{self, Fault},
    output,
};
use anyhow::Result;
use history::{Batch, History};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use judge::Judges;
use std::{
    collections::BTreeMap,
    io::{self, IsTerminal},
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};
use tally::Tally;

/// How many batches wait for each thread that judges.
const WAITING_BATCHES: usize = 2;

/// Carries `rule backtest` out.
///
/// # Errors
/// The rules are wrong, or the history cannot be read.
pub(super) fn run(args: &Backtest, global: &Global) -> Result<u8> {
    let new = rule::compile(&args.path, global)?.0;
    let old = args.diff.as_deref().map(|old| rule::named_set(old, global)).transpose()?;
    let history = History::of(&args.history, global)?;
    let judges = Judges::new(new, old);
    let threads = args.jobs.or_else(|| thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    let bar = progress(history.bytes());
    let begun = Instant::now();
    let tally = judge_all(history, &judges, threads, args.examples, &bar);
    bar.finish_and_clear();
    let tally = tally?;
    if tally.events() == 0 && tally.unreadable() > 0 {
        return Err(Fault::new(
            fault::FAILED,
            format!(
                "no event could be read; {}",
                tally.first_unreadable().unwrap_or("expected one recorded message a line")
            ),
        )
        .into());
    }
    report::show(global.output, &tally.finish(begun.elapsed()))?;
    Ok(fault::DONE)
}

/// Reads, judges and counts, each in threads of its own; what was judged is counted in the order of the history.
fn judge_all<'a>(
    history: History,
    judges: &'a Judges,
    threads: usize,
    examples: usize,
    bar: &ProgressBar,
) -> Result<Tally<'a>> {
    let (feed, batches) = mpsc::sync_channel::<(u64, Batch)>(threads * WAITING_BATCHES);
    let (tell, judged) = mpsc::sync_channel(threads * WAITING_BATCHES);
    let batches = Arc::new(Mutex::new(batches));
    thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut serial = 0;
            // Who judges is gone only when the counting stopped; then nobody wants more.
            history.read(&mut |batch| {
                serial += 1;
                feed.send((serial - 1, batch)).is_ok()
            })
        });
        for _ in 0..threads {
            let (batches, tell) = (Arc::clone(&batches), tell.clone());
            scope.spawn(move || {
                loop {
                    let next = batches.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok((serial, batch)) = next else { return };
                    if tell.send((serial, judges.batch(batch))).is_err() {
                        return;
                    }
                }
            });
        }
        // The channels end with their last user.
        drop((batches, tell));
        let mut tally = Tally::new(judges, examples);
        let mut waiting = BTreeMap::new();
        let mut next = 0;
        for (serial, batch) in judged {
            waiting.insert(serial, batch);
            while let Some(batch) = waiting.remove(&next) {
                bar.inc(batch.bytes);
                tally.add(batch);
                bar.set_message(format!("{} events", tally.events()));
                next += 1;
            }
        }
        match reader.join() {
            Ok(read) => read.map(|()| tally),
            Err(_) => Err(anyhow::anyhow!("reading the history broke; a fault of this program")),
        }
    })
}

/// A bar on a terminal; nothing without one.
fn progress(bytes: Option<u64>) -> ProgressBar {
    let target =
        if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(bytes, target);
    let form = if bytes.is_some() {
        "judging {bar:30} {bytes}/{total_bytes} {msg} {eta}"
    } else {
        "judging {spinner} {msg} {elapsed}"
    };
    if let Ok(style) = ProgressStyle::with_template(form) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    if bar.is_hidden() {
        output::note("judging; this may take a while");
    }
    bar
}
