//! From how the commands ended and what they left to an outcome with its results.

use super::{Halt, Job, Source, brought::Brought};
use crate::{
    executor::{Collected, Exit, StartError},
    files,
    logs::AttemptLog,
};
use globset::{GlobBuilder, GlobMatcher};
use model::{
    ErrorReason, Outcome,
    task_file::{OUTPUT_PREFIX, ResultFormat, TimeoutMeans},
    units::format_duration,
};
use results::{Conclusion, ParseError, Parsed, parsed::DOCUMENT_BYTES_MAX};
use std::{fs::File, io::Read, path::Path, time::Duration};

/// How many of the last lines of output a reason quotes.
pub const QUOTED_LINES: usize = 3;

/// What a command that must succeed says by not doing so. `prepare` that fails is an error of the task: its
/// packages or its commands are wrong; that a mirror was away cannot be told from its exit code.
pub(super) fn must_succeed(what: &str, exit: Exit, limit: Duration, log: &AttemptLog) -> Result<(), Halt> {
    let error = |reason: ErrorReason, said: String| {
        let last = log.last_output(QUOTED_LINES);
        let reason_text = if last.is_empty() { said } else { format!("{said}: {last}") };
        Err(Halt { outcome: Outcome::Error(reason), reason: reason_text })
    };
    match exit {
        Exit::Code(0) => Ok(()),
        Exit::Code(code) => error(ErrorReason::Task, format!("{what} ended with exit code {code}")),
        Exit::Signal(signal) => error(ErrorReason::Task, format!("{what} was killed by signal {signal}")),
        other => Err(cut_short(what, other, limit, None)),
    }
}

/// What becomes of an environment that did not come up. What the task brought is under test: that it does not
/// come up is a failure, and that it takes too long is what time-outs mean to the task.
pub(super) fn not_started(error: StartError, timeout: TimeoutMeans) -> Halt {
    let outcome = match (&error, timeout) {
        (StartError::Infra(_) | StartError::Stopped, _) => Outcome::Error(ErrorReason::Infra),
        (StartError::BadTask(_), _) => Outcome::Error(ErrorReason::BadTask),
        (StartError::Failed(_), _) | (StartError::TimedOut(_), TimeoutMeans::Failed) => Outcome::Failed,
        (StartError::TimedOut(_), TimeoutMeans::Error) => Outcome::Error(ErrorReason::Timeout),
    };
    Halt { outcome, reason: error.to_string() }
}

/// What ended the commands from outside.
pub(super) fn cut_short(what: &str, exit: Exit, limit: Duration, idle: Option<Duration>) -> Halt {
    let (reason, text) = match exit {
        Exit::TimedOut => {
            (ErrorReason::Timeout, format!("{what} took longer than its limit of {}", format_duration(limit)))
        }
        Exit::Idle => {
            let idle = format_duration(idle.unwrap_or_default());
            (ErrorReason::Timeout, format!("{what} had no output for {idle}"))
        }
        Exit::Oom => (ErrorReason::Oom, format!("{what} ran out of memory")),
        Exit::OutOfDisk => (ErrorReason::Limit, format!("{what} used more disk space than it may")),
        Exit::DiskFull => {
            let least = files::FREE_BYTES_MIN >> 20;
            (
                ErrorReason::Infra,
                format!("{what} was ended: this machine has less than {least} MiB of disk left"),
            )
        }
        Exit::Stopped => (ErrorReason::Task, format!("{what} was stopped")),
        Exit::Gone => (ErrorReason::Task, format!("{what}: the machine ended in the middle of it")),
        Exit::Code(code) => (ErrorReason::Task, format!("{what} ended with exit code {code}")),
        Exit::Signal(signal) => (ErrorReason::Task, format!("{what} was killed by signal {signal}")),
    };
    Halt { outcome: Outcome::Error(reason), reason: text }
}

/// Concludes from how `run` ended and its documents. A signal counts as exit code 128 + its number, as shells
/// report it, but `*` of the task file does not speak of it: what is killed could not tell. What was cut short keeps
/// the results that can be read, but they decide nothing. `said`, what came last, is quoted where `run` could not tell
/// and no results say more.
pub(super) fn conclude(
    job: &Job,
    exit: Exit,
    limit: Duration,
    idle: Option<Duration>,
    said: &str,
    documents: Documents,
) -> Conclusion {
    let code = match exit {
        Exit::Code(code) => code,
        Exit::Signal(signal) => 128 + signal,
        other => {
            let halt = cut_short("run", other, limit, idle);
            let hangs = matches!(other, Exit::TimedOut | Exit::Idle)
                && job.file.timeout.outcome == TimeoutMeans::Failed;
            let read = documents.read.into_iter().filter_map(Result::ok).flat_map(|parsed| parsed.results);
            return Conclusion {
                outcome: if hangs { Outcome::Failed } else { halt.outcome },
                results: read.collect(),
                note: Some(halt.reason),
            };
        }
    };
    // Nothing was written that counts: then it must be said why what lies there does not.
    let old = documents.old.first().filter(|_| documents.read.is_empty()).map(|name| is_old(job, name));
    let mut means = job.file.results.exit.clone();
    if matches!(exit, Exit::Signal(_)) {
        means.remove("*");
    }
    let mut conclusion = results::conclude(code, &means, job.file.results.path.as_deref(), documents.read);
    if conclusion.outcome == Outcome::Error(ErrorReason::BadResults)
        && let (Some(note), Some(old)) = (&mut conclusion.note, old)
    {
        note.push_str("; ");
        note.push_str(&old);
    }
    if let Exit::Signal(signal) = exit {
        let note = conclusion.note.map(|note| format!(" ({note})")).unwrap_or_default();
        conclusion.note = Some(format!("run was killed by signal {signal}{note}"));
    }
    let tells_nothing =
        conclusion.outcome == Outcome::Error(ErrorReason::Task) && conclusion.results.is_empty();
    if let Some(note) = conclusion.note.as_mut().filter(|_| tells_nothing && !said.is_empty()) {
        note.push_str(": ");
        note.push_str(said);
    }
    conclusion
}

/// The result documents of an attempt.
#[derive(Debug, Default)]
pub(super) struct Documents {
    /// What was read, or why it could not be.
    pub(super) read: Vec<Result<Parsed, ParseError>>,
    /// The names of files that would be some, but came with the task and were not written by the attempt.
    pub(super) old: Vec<String>,
}

/// Why a file is no result.
pub(super) fn is_old(job: &Job, name: &str) -> String {
    let from = match job.source {
        Source::Git { .. } => "is from the repository",
        Source::Folder(_) => "was there before",
    };
    format!(
        "`{name}` {from} and was not written by this attempt, so it is no result; remove it there, or write to \
         $TASKBOT_OUTPUT and name it so in `results.path`"
    )
}

/// Reads the result documents among the collected files: those in the output folder and those in the task's
/// folder that the path names.
pub(super) fn documents(
    job: &Job,
    collected: &Collected,
    brought: &Brought,
    folder: &Path,
) -> Result<Documents, Halt> {
    let (format, Some(path)) = (job.file.results.format, &job.file.results.path) else {
        return Ok(Documents::default());
    };
    if format == ResultFormat::Exit {
        return Ok(Documents::default());
    }
    // What an earlier run left in the task's own folder is no result where it says that it writes elsewhere.
    let globs = match path.strip_prefix(OUTPUT_PREFIX) {
        Some(inner) => vec![matcher(inner)?],
        None => vec![matcher(path)?, matcher(&job.inner(path))?],
    };
    let wanted = |name: &str| globs.iter().any(|glob| glob.is_match(name));
    if let Some(skipped) = collected.skipped.iter().find(|skipped| wanted(&skipped.name)) {
        let message = format!("the result file was not taken: {}", skipped.reason);
        let read = vec![Err(ParseError::of_file(&skipped.name, message))];
        return Ok(Documents { read, old: Vec::new() });
    }
    let mut names: Vec<&str> =
        collected.files.iter().map(|file| file.name.as_str()).filter(|name| wanted(name)).collect();
    names.sort_unstable();
    let read = |name: &str| -> Result<_, Halt> {
        let mut document = Vec::new();
        File::open(folder.join(name))?.take(DOCUMENT_BYTES_MAX as u64 + 1).read_to_end(&mut document)?;
        Ok(results::parse(format, name, &document))
    };
    let mut documents = Documents::default();
    for name in names {
        if brought.is(name, collected, folder)? {
            documents.old.push(name.to_owned());
        } else {
            documents.read.push(read(name)?);
        }
    }
    Ok(documents)
}

pub(super) fn matcher(glob: &str) -> Result<GlobMatcher, Halt> {
    GlobBuilder::new(glob)
        .literal_separator(true)
        .build()
        .map(|glob| glob.compile_matcher())
        .map_err(|error| Halt::bad_task(format!("`results.path`: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::tests::job;

    #[test]
    fn exits_become_outcomes() {
        let check = |results: &str, exit: Exit, outcome: &str, note: Option<&str>| {
            let job = job(&format!("name: t\nrun: 'true'\n{results}\n"));
            let (limit, idle) = (Duration::from_secs(900), Some(Duration::from_secs(300)));
            let conclusion = conclude(&job, exit, limit, idle, "last words", Documents::default());
            assert_eq!(
                (conclusion.outcome.as_str(), conclusion.note.as_deref()),
                (outcome, note),
                "{exit:?}"
            );
        };
        check("", Exit::Code(0), "passed", None);
        check("", Exit::Code(1), "failed", None);
        check("", Exit::Code(7), "error(task)", Some("exit code 7: last words"));
        let killed = "run was killed by signal 11 (exit code 139): last words";
        check("", Exit::Signal(11), "error(task)", Some(killed));
        check(
            "results: {exit: {139: failed}}",
            Exit::Signal(11),
            "failed",
            Some("run was killed by signal 11"),
        );
        for others in ["passed", "failed"] {
            let results = format!("results: {{exit: {{0: passed, '*': {others}}}}}");
            check(&results, Exit::Signal(11), "error(task)", Some(killed));
            check(&results, Exit::Code(77), others, None);
        }
        check("", Exit::TimedOut, "error(timeout)", Some("run took longer than its limit of 15m"));
        check("", Exit::Idle, "error(timeout)", Some("run had no output for 5m"));
        check(
            "timeout: {outcome: failed}",
            Exit::TimedOut,
            "failed",
            Some("run took longer than its limit of 15m"),
        );
        check("timeout: {outcome: failed}", Exit::Oom, "error(oom)", Some("run ran out of memory"));
        check("", Exit::OutOfDisk, "error(limit)", Some("run used more disk space than it may"));
        let full = "run was ended: this machine has less than 512 MiB of disk left";
        check("", Exit::DiskFull, "error(infra)", Some(full));
    }

    #[test]
    fn a_result_file_is_found_in_the_output_and_in_the_task_folder() {
        let folder = tempfile::tempdir().unwrap();
        let check_path = |path: &str, names: &[&str], dir: &str, expect: &[&str]| {
            let mut job = job(&format!("name: t\nrun: 'true'\nresults: {{format: tap, path: {path}}}\n"));
            job.dir = dir.to_owned();
            let mut collected = Collected::default();
            for name in names {
                let path = folder.path().join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(&path, format!("1..1\nok 1 - {name}\n")).unwrap();
                collected
                    .files
                    .push(crate::executor::CollectedFile { name: (*name).to_owned(), size_bytes: 1 });
            }
            let read = documents(&job, &collected, &Brought::default(), folder.path()).unwrap();
            let found: Vec<String> =
                read.read.into_iter().map(|parsed| parsed.unwrap().results[0].name.clone()).collect();
            assert_eq!(found, expect);
        };
        let check = |names: &[&str], dir: &str, expect: &[&str]| check_path("'*.tap'", names, dir, expect);
        check_path("$TASKBOT_OUTPUT/*.tap", &["e.tap", "sub/e.tap"], "sub", &["e.tap"]);
        check(&["b.tap", "a.tap", "x.log"], "", &["a.tap", "b.tap"]);
        check(&["a.tap", "deep/c.tap"], "", &["a.tap"]);
        check(&["sub/d.tap"], "sub", &["sub/d.tap"]);
        check(&[], "", &[]);
    }
}
