//! The phases of an attempt, one by one.

use super::{
    Folders, Halt, Job, Runner, Source,
    brought::Brought,
    copy_folder,
    course::{Course, guarded, limited},
    one_line, surroundings, verdict,
};
use crate::{
    artifacts::{ArtifactFile, is_artifact_name, sha256_of},
    executor::{
        AttemptLabel, CollectLimits, Collected, ExecRequest, Exit, OWN_DIR, Profile, ProvisionError,
        ProvisionRequest, Provisioned, Skipped,
    },
    fetch::{self, Fetched},
    git::TreeLimits,
    secrets::{
        Secret,
        mask::{Masked, Masker},
    },
};
use chrono::{SubsecRound as _, TimeDelta};
use model::{
    ErrorReason, Outcome, Phase,
    attempt::{EnvironmentReport, PhaseReport},
    requirements::ExecutorKind,
    result::NewResult,
    retry::Decision,
    task::{Kept, Trust},
    task_file::OUTPUT_PREFIX,
};
use results::Conclusion;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

/// How long taking files out of an environment may take, before the worker's factor.
pub const COLLECT_LIMIT: Duration = Duration::from_secs(600);
/// How long reading the results may take, before the worker's factor.
pub const REPORT_LIMIT: Duration = Duration::from_secs(300);
/// How long moving files in, and destroying, may take, before the worker's factor.
pub const MOVE_LIMIT: Duration = Duration::from_secs(300);

/// How many of the files that were left out a report names.
const SKIPPED_TOLD_MAX: usize = 10;

/// An attempt that is being run.
pub(super) struct Attempt<'a> {
    runner: &'a Runner,
    job: Job,
    folders: &'a Folders,
    course: Course<'a>,
    provisioned: Option<Box<dyn Provisioned>>,
    environment: Option<EnvironmentReport>,
    executor: Option<ExecutorKind>,
    /// How long the environment may take to start, before the worker's factor.
    start_limit: Duration,
    /// Whether anything of the task was run, so that there is something to clean up and to collect.
    begun: bool,
    /// What the task brought that would count as its results.
    brought: Brought,
    collected: Collected,
    run_ms: Option<u64>,
    /// What `run` said last.
    said: String,
    /// What it may read and nobody else.
    secrets: Arc<[Secret]>,
    /// Keeps that out of the files that it leaves.
    masker: Option<Masker>,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(runner: &'a Runner, job: Job, folders: &'a Folders, course: Course<'a>) -> Self {
        Self {
            runner,
            job,
            folders,
            course,
            provisioned: None,
            environment: None,
            executor: None,
            start_limit: Duration::ZERO,
            begun: false,
            brought: Brought::default(),
            collected: Collected::default(),
            run_ms: None,
            said: String::new(),
            secrets: Arc::default(),
            masker: None,
        }
    }

    pub(super) fn phases(&self) -> Vec<PhaseReport> {
        self.course.phases.clone()
    }

    /// What it ran in, with what a person should know: also what was left out of what it left.
    pub(super) fn environment(&self) -> Option<EnvironmentReport> {
        let mut report = self.environment.clone()?;
        let skipped = &self.collected.skipped;
        let named = skipped.iter().take(SKIPPED_TOLD_MAX);
        report
            .notes
            .extend(named.map(|skipped| format!("`{}` is left out: {}", skipped.name, skipped.reason)));
        let more = skipped.len().saturating_sub(SKIPPED_TOLD_MAX);
        report
            .notes
            .extend((more > 0).then(|| format!("{more} more files are left out: the log names them")));
        Some(report)
    }

    /// The task's own result when it came to none.
    pub(super) fn own_result(&self, halt: Halt) -> NewResult {
        let conclusion =
            Conclusion { outcome: halt.outcome, results: Vec::new(), note: Some(one_line(&halt.reason)) };
        results::report(self.job.file.testcase(), self.job.item.as_ref(), self.run_ms, &conclusion)
    }

    fn limit(&self, limit: Duration) -> Duration {
        self.runner.limit(limit, self.executor)
    }

    /// From provisioning to the report.
    pub(super) async fn go(&mut self) -> Result<NewResult, Halt> {
        self.provision().await?;
        self.check_out().await?;
        let fetched = self.fetch().await?;
        self.prepare(&fetched).await?;
        let ended = self.run().await;
        // Also what was cut short is collected: its logs say why.
        let collected = self.collect().await;
        let (exit, limit) = ended?;
        collected?;
        self.report(exit, limit).await
    }

    async fn provision(&mut self) -> Result<(), Halt> {
        let (runner, control, log) = (self.runner, self.course.control, self.course.log);
        let job = &mut self.job;
        let deadline = self.course.clock.now()
            + TimeDelta::from_std(deadline(runner, job)).unwrap_or(TimeDelta::days(30));
        let (secrets, masker) = (&mut self.secrets, &mut self.masker);
        let work = async {
            *secrets = surroundings::secrets(job, &runner.config.secrets)?;
            if !secrets.is_empty() {
                log.mask(masker.insert(Masker::new(secrets)));
            }
            job.file = surroundings::filled_in(&job.file, &job.inputs)?;
            surroundings::complete_machines(&mut job.file, &job.dir)?;
            let label = AttemptLabel {
                worker: runner.worker.clone(),
                task: job.held.task,
                attempt: job.held.attempt.attempt,
            };
            let mut tried = Vec::new();
            let mut blame = ErrorReason::NoWorker;
            for environment in &job.file.environment {
                let kind = environment.executor();
                let Some(executor) = runner.executor(kind) else {
                    tried.push(format!("{kind}: this worker has none (`worker.executors` switches it off)"));
                    continue;
                };
                let limit = runner.limit(job.file.timeout.provision, Some(kind));
                let request =
                    ProvisionRequest { label: &label, environment, trust: job.trust, limit, deadline };
                let made = guarded(
                    "provisioning",
                    limit,
                    control,
                    executor.provision(&request, log, control.stopped()),
                );
                match made.await? {
                    Ok(mut made) => match made.give_secrets(secrets) {
                        Ok(()) => return Ok((kind, made, tried, environment.start_limit())),
                        Err(why) => {
                            guarded("destroying", limit, control, made.destroy()).await??;
                            tried.push(format!("{kind}: {why}"));
                        }
                    },
                    Err(ProvisionError::BadTask(why)) => {
                        return Err(Halt::bad_task(format!("{kind}: {why}")));
                    }
                    Err(error @ ProvisionError::Unavailable(_)) => tried.push(format!("{kind}: {error}")),
                    Err(ProvisionError::Stopped) => return Err(Halt::infra("stopped")),
                    Err(error @ (ProvisionError::Infra(_) | ProvisionError::TimedOut)) => {
                        blame = ErrorReason::Infra;
                        tried.push(format!("{kind}: {error}"));
                    }
                }
                log.note(tried.last().map_or("", String::as_str));
            }
            let reason = format!("none of the task's environments can be had here: {}", tried.join("; "));
            Err(Halt { outcome: Outcome::Error(blame), reason })
        };
        let (kind, made, tried, start_limit) = self.course.phase(Phase::Provision, work).await?;
        let mut report = made.report();
        report.notes.extend(tried.into_iter().map(|why| format!("tried before: {why}")));
        log.note(&shown(&report));
        self.environment = Some(report);
        self.executor = Some(kind);
        self.start_limit = start_limit;
        self.provisioned = Some(made);
        Ok(())
    }

    async fn check_out(&mut self) -> Result<(), Halt> {
        let limit = self.limit(self.job.file.timeout.provision);
        let (runner, job, control, log) = (self.runner, &self.job, self.course.control, self.course.log);
        let work = self.folders.work.join("tree");
        let step = async {
            match &job.source {
                Source::Git { repo, commit } => {
                    log.note(&format!("{repo} at commit {commit}"));
                    let checkout = runner.git.checkout(repo, commit, &work, TreeLimits::default());
                    limited("checkout", limit, control, checkout).await?;
                }
                Source::Folder(folder) => {
                    log.note(&format!("copy of {}", folder.display()));
                    let (from, to) = (folder.clone(), work.clone());
                    let copied = tokio::task::spawn_blocking(move || copy_folder(&from, &to));
                    copied.await.map_err(|error| Halt::infra(error.to_string()))??;
                }
            }
            if std::fs::symlink_metadata(work.join(OWN_DIR)).is_ok() {
                return Err(Halt::bad_task(format!(
                    "the repository holds `{OWN_DIR}`, which is ours: remove it"
                )));
            }
            if !work.join(&job.dir).is_dir() {
                return Err(Halt::bad_task(format!("the repository has no folder `{}`", job.dir)));
            }
            let (job, tree) = (job.clone(), work.clone());
            let marked = tokio::task::spawn_blocking(move || Brought::mark(&job, &tree));
            marked.await.map_err(|error| Halt::infra(error.to_string()))?
        };
        self.brought = self.course.phase(Phase::Checkout, step).await?;
        Ok(())
    }

    /// Fetches beside the tree, so that `prepare` can be shown the one without the other.
    async fn fetch(&mut self) -> Result<Vec<Fetched>, Halt> {
        let limit = self.limit(self.job.file.timeout.fetch);
        let (runner, job, control, log) = (self.runner, &self.job, self.course.control, self.course.log);
        let (tree, beside) = (self.folders.work.join("tree"), self.folders.work.join("fetched"));
        let step = async {
            surroundings::write_inputs(&beside, &job.inputs)?;
            let fetching = async {
                let entries = runner.fetcher.look_up(&job.file.fetch, &job.inputs, log).await?;
                let mut wanted = fetch::plan(&entries, &job.inputs)?;
                for one in &mut wanted {
                    one.to = job.inner(&one.to);
                    fetch::check_free(&tree, &one.to)?;
                }
                runner.fetcher.fetch(&wanted, &beside, log).await
            };
            limited("fetch", limit, control, fetching).await
        };
        self.course.phase(Phase::Fetch, step).await
    }

    async fn prepare(&mut self, fetched: &[Fetched]) -> Result<(), Halt> {
        let limit = self.limit(self.job.file.timeout.prepare);
        let move_limit = self.limit(MOVE_LIMIT);
        let start_limit = self.limit(self.start_limit) + move_limit;
        let (job, control, log) = (&self.job, self.course.control, self.course.log);
        let (tree, beside) = (self.folders.work.join("tree"), self.folders.work.join("fetched"));
        let (begun, environment) = (&mut self.begun, &mut self.environment);
        let Some(provisioned) = &mut self.provisioned else {
            return Err(Halt::infra("nothing was provisioned"));
        };
        let step = async {
            let view = surroundings::prepare_view(job, &tree, fetched);
            for name in surroundings::only_in_file(&job.inputs) {
                log.note(&format!(
                    "{name} is too long for a variable or holds a NUL: read it from $TASKBOT_INPUTS"
                ));
            }
            guarded("moving files in", move_limit, control, provisioned.copy_in(&tree)).await??;
            if view.sees_inputs || job.file.prepare.is_empty() {
                guarded("moving files in", move_limit, control, provisioned.copy_in(&beside)).await??;
            }
            *begun = true;
            let starting = provisioned.start(log, control.stopped());
            let started = guarded("starting", start_limit, control, starting).await?;
            started.map_err(|error| verdict::not_started(error, job.file.timeout.outcome))?;
            if job.file.prepare.is_empty() {
                return Ok(());
            }
            let request = ExecRequest {
                profile: Profile::Install,
                lines: &job.file.prepare,
                dir: &job.dir,
                env: &view.variables,
                limit,
                idle: None,
            };
            let preparing = provisioned.prepare(&request, view.cache_key.as_deref(), log, control.stopped());
            let prepared = guarded("prepare", limit, control, preparing).await??;
            if let Some(report) = environment {
                report.prepared_from_cache |= prepared.from_cache;
            }
            if prepared.from_cache {
                log.note("taken from the cache");
            }
            verdict::must_succeed("prepare", prepared.exit, limit, log)?;
            if !view.sees_inputs {
                guarded("moving files in", move_limit, control, provisioned.copy_in(&beside)).await??;
            }
            Ok(())
        };
        let done = self.course.phase(Phase::Prepare, step).await;
        if let Err(halt) = &done
            && self.begun
            && self.course.control.why().is_none()
        {
            tracing::debug!(reason = halt.reason, "prepare failed; collecting what it left");
            self.collect().await.ok();
        }
        done
    }

    async fn run(&mut self) -> Result<(Exit, Duration), Halt> {
        let timeout = &self.job.file.timeout;
        let capped = self.job.timeout_cap.map_or(timeout.run, |cap| cap.min(timeout.run));
        let (limit, idle) = (self.limit(capped), timeout.idle.map(|idle| self.limit(idle)));
        let (job, control, log) = (&self.job, self.course.control, self.course.log);
        let Some(provisioned) = &mut self.provisioned else {
            return Err(Halt::infra("nothing was provisioned"));
        };
        let variables = surroundings::variables(job);
        let begin = Instant::now();
        let step = async {
            let request = ExecRequest {
                profile: Profile::Run,
                lines: &job.file.run,
                dir: &job.dir,
                env: &variables,
                limit,
                idle,
            };
            let exit =
                guarded("run", limit, control, provisioned.exec(&request, log, control.stopped())).await??;
            log.note(&match exit {
                Exit::Code(code) => format!("exit code {code}"),
                Exit::Signal(signal) => format!("killed by signal {signal}"),
                other => {
                    format!("ended by the worker: {}", verdict::cut_short("run", other, limit, idle).reason)
                }
            });
            if exit == Exit::Stopped { Err(Halt::infra("stopped")) } else { Ok((exit, limit)) }
        };
        let done = self.course.phase(Phase::Run, step).await;
        self.run_ms = u64::try_from(begin.elapsed().as_millis()).ok();
        self.said = log.last_output(verdict::QUOTED_LINES);
        done
    }

    async fn collect(&mut self) -> Result<(), Halt> {
        let limit = self.limit(COLLECT_LIMIT);
        let (globs, limits) = (self.globs(), self.collect_limits());
        let (control, log, to) = (self.course.control, self.course.log, &self.folders.output);
        let Some(provisioned) = &mut self.provisioned else { return Ok(()) };
        let masker = self.masker.clone();
        let step = async {
            let collected =
                guarded("collect", limit, control, provisioned.copy_out(&globs, limits, to)).await??;
            let collected = masked(collected, to, masker).await?;
            for skipped in &collected.skipped {
                log.note(&format!("`{}` is left out: {}", skipped.name, skipped.reason));
            }
            log.note(&format!("{} files taken", collected.files.len()));
            Ok(collected)
        };
        self.collected = self.course.phase(Phase::Collect, step).await?;
        Ok(())
    }

    fn globs(&self) -> Vec<String> {
        let file = &self.job.file;
        // All of the output folder is taken in any case.
        let result = file.results.path.iter().filter(|path| !path.starts_with(OUTPUT_PREFIX));
        file.artifacts.paths.iter().chain(result).map(|glob| self.job.inner(glob)).collect()
    }

    fn collect_limits(&self) -> CollectLimits {
        let config = &self.runner.config;
        CollectLimits {
            total_bytes: self.job.file.artifacts.max_bytes.min(config.artifact_bytes_max),
            files: config.artifact_files_max,
        }
    }

    async fn report(&mut self, exit: Exit, limit: Duration) -> Result<NewResult, Halt> {
        let idle = self.job.file.timeout.idle.map(|idle| self.limit(idle));
        let (job, collected, folder) =
            (self.job.clone(), self.collected.clone(), self.folders.output.clone());
        let brought = self.brought.clone();
        let (run_ms, log, control) = (self.run_ms, self.course.log, self.course.control);
        let said = std::mem::take(&mut self.said);
        let report_limit = self.limit(REPORT_LIMIT);
        let step = async {
            let read = tokio::task::spawn_blocking(move || {
                let documents = verdict::documents(&job, &collected, &brought, &folder)?;
                let old = documents.old.iter().map(|name| verdict::is_old(&job, name)).collect::<Vec<_>>();
                let conclusion = verdict::conclude(&job, exit, limit, idle, &said, documents);
                let result = results::report(job.file.testcase(), job.item.as_ref(), run_ms, &conclusion);
                Ok::<_, Halt>((result, old))
            });
            let read = async { read.await.map_err(|error| Halt::infra(error.to_string()))? };
            let read = limited("reading the results", report_limit, control, read);
            let (result, old): (NewResult, _) = read.await?;
            old.iter().for_each(|old| log.note(old));
            let note = result.note.as_deref().map(|note| format!(": {note}")).unwrap_or_default();
            log.note(&format!("{} {}{note}", result.testcase, result.outcome));
            Ok(result)
        };
        self.course.phase(Phase::Report, step).await
    }

    /// Keeps the environment of the last attempt for a person, if it failed and somebody asked for that.
    pub(super) async fn hold(&mut self, outcome: Outcome) {
        let (job, config) = (&self.job, &self.runner.config);
        let last = job.file.retry.decide(outcome, job.held.attempt.attempt) == Decision::Finish;
        let Some(wish) = job.hold.filter(|_| self.begun && last && !outcome.is_good()) else { return };
        let (control, log) = (self.course.control, self.course.log);
        if job.trust == Trust::Untrusted && !config.hold_untrusted {
            let why = "not held: the task is not trusted, and this worker holds only trusted ones \
                       (`worker.hold.untrusted`)";
            log.note(why);
            if let Some(report) = &mut self.environment {
                report.notes.push(why.to_owned());
            }
            return;
        }
        let Some(provisioned) = &mut self.provisioned else { return };
        let (limit, task) = (wish.min(config.hold_max), job.held.task);
        let until = self.course.clock.now() + TimeDelta::from_std(limit).unwrap_or(TimeDelta::days(1));
        // For people.
        let until = until.trunc_subsecs(0);
        let move_limit = self.runner.limit(MOVE_LIMIT, self.executor);
        let worker = &self.runner.worker;
        let step = async {
            let enter = bounded("holding", move_limit, provisioned.keep()).await??;
            log.note(&format!("held on {worker} until {until}, or `taskbot task unhold {task}`"));
            enter.iter().for_each(|line| log.note(line));
            control.keep(Some(Kept { until, enter }));
            // Nobody who holds it is the task's time limit.
            let _ = tokio::time::timeout(limit, control.hold_over()).await;
            control.keep(None);
            log.note("the hold is over");
            Ok(())
        };
        if let Err(halt) = self.course.phase(Phase::Hold, step).await {
            tracing::debug!(%task, reason = halt.reason, "nothing is held");
        }
    }

    /// Runs `cleanup` if anything of the task was run, takes what it left, and destroys the environment.
    pub(super) async fn clean_up(&mut self) {
        let Some(mut provisioned) = self.provisioned.take() else { return };
        let limit = self.limit(self.job.file.timeout.cleanup);
        let (collect_limit, move_limit) = (self.limit(COLLECT_LIMIT), self.limit(MOVE_LIMIT));
        let (globs, limits) = (self.globs(), self.collect_limits());
        let variables = surroundings::variables(&self.job);
        let (job, begun, control, log) = (&self.job, self.begun, self.course.control, self.course.log);
        let again = self.folders.output.with_extension("again");
        let (mut collected, masker) = (None, self.masker.clone());
        let step = async {
            let mut wrong = None;
            if begun && !job.file.cleanup.is_empty() && !control.killed().is_cancelled() {
                let request = ExecRequest {
                    profile: Profile::Cleanup,
                    lines: &job.file.cleanup,
                    dir: &job.dir,
                    env: &variables,
                    limit,
                    idle: None,
                };
                let exec = provisioned.exec(&request, log, control.killed());
                let exit = bounded("cleanup", limit, exec).await.and_then(|exit| exit.map_err(Halt::from));
                wrong = exit.and_then(|exit| verdict::must_succeed("cleanup", exit, limit, log)).err();
                if control.why().is_none() {
                    let taking = provisioned.copy_out(&globs, limits, &again);
                    let taken = bounded("collect", collect_limit, taking).await.ok().and_then(Result::ok);
                    if let Some(taken) = taken {
                        collected = masked(taken, &again, masker).await.ok();
                    }
                }
            }
            let destroyed = bounded("destroying", move_limit, provisioned.destroy()).await;
            let destroyed = destroyed.and_then(|destroyed| destroyed.map_err(Halt::from));
            wrong.map_or(destroyed, Err)
        };
        if let Err(halt) = self.course.phase(Phase::Cleanup, step).await {
            tracing::warn!(task = %self.job.held.task, reason = halt.reason, "cleaning up went wrong");
        }
        if let Some(collected) = collected
            && self.replace_output(&again).is_ok()
        {
            self.collected = collected;
        }
    }

    fn replace_output(&self, again: &PathBuf) -> std::io::Result<()> {
        crate::files::remove(&self.folders.output)?;
        std::fs::rename(again, &self.folders.output)
    }

    /// The collected files, summed. Those whose names cannot be artifacts' are left out.
    pub(super) async fn artifacts(&self) -> Vec<ArtifactFile> {
        let (folder, files) = (self.folders.output.clone(), self.collected.files.clone());
        let sum = move || {
            let summed = |name: String| {
                let path = folder.join(&name);
                let size_bytes = std::fs::metadata(&path).ok()?.len();
                Some(ArtifactFile { sha256: sha256_of(&path).ok()?, size_bytes, name })
            };
            let mut names = BTreeMap::new();
            for file in files {
                names.insert(file.name.clone(), is_artifact_name(&file.name));
            }
            names.into_iter().filter(|(_, fit)| *fit).filter_map(|(name, _)| summed(name)).collect()
        };
        tokio::task::spawn_blocking(sum).await.unwrap_or_default()
    }
}

/// Takes secrets out of the files that were collected.
async fn masked(mut collected: Collected, folder: &Path, masker: Option<Masker>) -> Result<Collected, Halt> {
    let Some(masker) = masker else { return Ok(collected) };
    let folder = folder.to_owned();
    let work = move || {
        let mut kept = Vec::with_capacity(collected.files.len());
        for mut file in std::mem::take(&mut collected.files) {
            let path = folder.join(&file.name);
            if masker.text(&file.name) != file.name {
                let (name, reason) = (masker.text(&file.name), "its name holds a secret".to_owned());
                collected.skipped.push(Skipped { name, reason });
                continue;
            }
            match masker.file(&path)? {
                Masked::Clean => kept.push(file),
                Masked::Rewritten => {
                    file.size_bytes = std::fs::metadata(&path)?.len();
                    kept.push(file);
                }
                Masked::Removed => {
                    let reason = "it holds a secret and is no text, so that nothing can be masked in it";
                    collected.skipped.push(Skipped { name: file.name, reason: reason.to_owned() });
                }
            }
        }
        collected.files = kept;
        Ok::<_, std::io::Error>(collected)
    };
    Ok(tokio::task::spawn_blocking(work).await.map_err(|error| Halt::infra(error.to_string()))??)
}

/// Waits for an executor that is not to be stopped any more.
async fn bounded<T>(what: &str, limit: Duration, work: impl Future<Output = T>) -> Result<T, Halt> {
    tokio::time::timeout(limit + super::EXECUTOR_GRACE, work)
        .await
        .map_err(|_| Halt::infra(format!("{what} does not end")))
}

/// How long an attempt can take at the most.
fn deadline(runner: &Runner, job: &Job) -> Duration {
    let timeout = &job.file.timeout;
    let environments = u32::try_from(job.file.environment.len()).unwrap_or(u32::MAX).saturating_add(1);
    let phases = [
        timeout.fetch,
        timeout.prepare,
        timeout.run,
        timeout.cleanup,
        COLLECT_LIMIT * 2,
        MOVE_LIMIT * 3,
        REPORT_LIMIT,
    ];
    let start = job.file.environment.iter().map(model::task_file::Environment::start_limit).max();
    let sum = phases
        .iter()
        .chain(&start)
        .fold(timeout.provision.saturating_mul(environments), |sum, limit| sum.saturating_add(*limit));
    let hold = job.hold.map_or(Duration::ZERO, |hold| hold.min(runner.config.hold_max));
    let slowest =
        job.file.environment.iter().map(|environment| runner.limit(sum, Some(environment.executor()))).max();
    slowest.unwrap_or(sum).saturating_add(hold).saturating_add(super::EXECUTOR_GRACE * 10)
}

fn shown(report: &EnvironmentReport) -> String {
    let mut text = format!("environment: {} on {}", report.executor, report.arch);
    for (what, value) in
        [("image", &report.image), ("digest", &report.image_digest), ("engine", &report.engine)]
    {
        if let Some(value) = value {
            text = format!("{text}, {what} {value}");
        }
    }
    for note in &report.notes {
        text = format!("{text}\nnote: {note}");
    }
    text
}
