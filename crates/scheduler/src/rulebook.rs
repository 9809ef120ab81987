//! The rules that are in force: loaded whole, checked, tested, then active in one step on every server. A bad
//! set leaves the old one in force, and says so.

use crate::Scheduler;
use model::{Revision, diagnostic::Report, ids::RuleName};
use rules::{
    compile::{RuleSet, compile},
    language::Mode,
    load::{Options, RuleFiles, read_folder},
    rule_test::{self, TestOutcome},
};
use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
};
use store::{Activation, StoreError, StoredRuleSet};
use tokio_util::sync::CancellationToken;

/// How many compiled rule sets are kept for judging past events again.
const COMPILED_KEPT_MAX: usize = 8;

/// The rules that are in force on this server.
#[derive(Debug)]
pub struct Rulebook {
    options: Options,
    folder: Option<PathBuf>,
    current: RwLock<Arc<InForce>>,
    compiled: Mutex<HashMap<Revision, Arc<RuleSet>>>,
    problem: Mutex<Option<String>>,
}

/// A rule set in force.
#[derive(Debug)]
struct InForce {
    serial: i64,
    set: Arc<RuleSet>,
}

/// Why a rule set was not taken.
#[derive(Debug, thiserror::Error)]
pub enum RuleSetError {
    /// Its files are wrong.
    #[error("the rule set has {} {}", .0.errors(), if .0.errors() == 1 { "error" } else { "errors" })]
    Wrong(Report),
    /// Its own tests fail.
    #[error("{} of the rule set's own tests {}", .0.len(), if .0.len() == 1 { "fails" } else { "fail" })]
    TestsFail(Vec<TestOutcome>),
    /// There is no folder to read.
    #[error("no rules folder is configured; rules come by the API only")]
    NoFolder,
    /// The store said no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RuleSetError {
    /// Whether the same set may be taken later without anybody changing it.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_transient())
    }

    /// Everything that is wrong, for people.
    #[must_use]
    pub fn details(&self) -> String {
        match self {
            Self::Wrong(report) => report.to_string(),
            Self::TestsFail(failed) => {
                let lines = failed.iter().map(|test| {
                    let difference = test.difference.as_deref().unwrap_or("fails");
                    format!("{}:{}: test `{}`: {difference}", test.file, test.line, test.name)
                });
                lines.collect::<Vec<_>>().join("\n")
            }
            other => other.to_string(),
        }
    }
}

/// A checked rule set.
#[derive(Debug)]
pub struct Checked {
    /// The set.
    pub set: RuleSet,
    /// Its warnings.
    pub report: Report,
    /// How its own tests went; all passed.
    pub tests: Vec<TestOutcome>,
}

impl Rulebook {
    /// With no rules in force. `folder` is where [`Scheduler::reload_rules`] reads.
    #[must_use]
    #[expect(clippy::expect_used, reason = "there is nothing in an empty rule set that could be wrong")]
    pub fn new(options: Options, folder: Option<PathBuf>) -> Self {
        let empty = compile(&RuleFiles::default(), &options).expect("an empty rule set compiles");
        let in_force = InForce { serial: 0, set: Arc::new(empty.rule_set) };
        Self {
            options,
            folder,
            current: RwLock::new(Arc::new(in_force)),
            compiled: Mutex::default(),
            problem: Mutex::default(),
        }
    }

    /// The rule set in force.
    #[must_use]
    pub fn current(&self) -> Arc<RuleSet> {
        // A thread that panicked while it held the lock left a whole value: it is swapped in one step.
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).set)
    }

    /// Why the last set was not taken, as long as no later one was.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The folder that rules are read from.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Compiles files and runs their tests.
    ///
    /// # Errors
    /// The files are wrong, or their own tests fail.
    pub fn check(&self, files: &RuleFiles) -> Result<Checked, RuleSetError> {
        let compiled = compile(files, &self.options).map_err(RuleSetError::Wrong)?;
        let tests = rule_test::run(&compiled.rule_set);
        let failed: Vec<_> = tests.iter().filter(|test| !test.passed).cloned().collect();
        if failed.is_empty() {
            return Ok(Checked { set: compiled.rule_set, report: compiled.report, tests });
        }
        Err(RuleSetError::TestsFail(failed))
    }

    fn set_problem(&self, problem: Option<String>) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    fn remember(&self, set: &Arc<RuleSet>) {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if compiled.len() >= COMPILED_KEPT_MAX {
            compiled.clear();
        }
        compiled.insert(set.revision().clone(), Arc::clone(set));
    }

    fn remembered(&self, revision: &Revision) -> Option<Arc<RuleSet>> {
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner).get(revision).map(Arc::clone)
    }

    fn put_in_force(&self, serial: i64, set: Arc<RuleSet>) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if serial > current.serial {
            tracing::info!(revision = set.revision().short(), rules = set.rules().len(), "rules in force");
            *current = Arc::new(InForce { serial, set });
        }
    }

    fn serial(&self) -> i64 {
        self.current.read().unwrap_or_else(PoisonError::into_inner).serial
    }
}

impl Scheduler {
    /// Reads the rules folder, and makes what it holds the active rule set. Modes that were switched by hand
    /// stay for the rules that are still there.
    ///
    /// # Errors
    /// The files are wrong or their tests fail (the old set stays in force), or the database is away.
    pub async fn reload_rules(&self, by: &str) -> Result<Activation, RuleSetError> {
        let reloaded = self.reload(by).await;
        self.metrics().rules_loaded(reloaded.is_ok());
        self.rulebook().set_problem(reloaded.as_ref().err().map(RuleSetError::details));
        reloaded
    }

    async fn reload(&self, by: &str) -> Result<Activation, RuleSetError> {
        let files = self.load_folder().await?;
        let origin = self.rulebook().folder().map(|folder| folder.display().to_string()).unwrap_or_default();
        self.activate(files, &origin, by, None).await
    }

    /// The rules in force, to judge events by. A server that has none yet looks for the active revision; where
    /// a folder is configured and was not loaded yet, nothing is judged by no rules at all.
    ///
    /// # Errors
    /// The database is away, or no rules are in force yet.
    pub(crate) async fn rules_in_force(&self) -> store::Result<Arc<RuleSet>> {
        if self.rulebook().serial() == 0 {
            self.follow_active().await.map_err(|error| match error {
                RuleSetError::Store(error) => error,
                other => StoreError::Unavailable(format!("the active rule set cannot be used: {other}")),
            })?;
            if self.rulebook().serial() == 0 && self.rulebook().folder().is_some() {
                return Err(StoreError::Unavailable("the rules folder was not loaded yet".to_owned()));
            }
        }
        Ok(self.rulebook().current())
    }

    async fn load_folder(&self) -> Result<RuleFiles, RuleSetError> {
        let folder = self.rulebook().folder().ok_or(RuleSetError::NoFolder)?.to_owned();
        let read = tokio::task::spawn_blocking(move || read_folder(&folder)).await;
        let mut files = match read {
            Ok(read) => read.map_err(RuleSetError::Wrong)?,
            Err(error) => {
                return Err(StoreError::Conflict(format!("reading the rules stopped: {error}")).into());
            }
        };
        files.modes = self.switched_modes().await?;
        Ok(files)
    }

    /// The modes that were switched by hand in the active rule set.
    ///
    /// # Errors
    /// The database is away.
    pub async fn switched_modes(&self) -> Result<BTreeMap<RuleName, Mode>, RuleSetError> {
        let Some(active) = self.store().active().await? else { return Ok(Default::default()) };
        let stored = self.store().rule_set(active.revision.as_str()).await?;
        Ok(files_of(&stored).map(|files| files.modes).unwrap_or_default())
    }

    /// Checks files and makes them the active rule set.
    ///
    /// # Errors
    /// The files are wrong or their tests fail (the old set stays in force), or the database is away.
    pub async fn activate_rules(
        &self,
        files: RuleFiles,
        origin: &str,
        by: &str,
    ) -> Result<Activation, RuleSetError> {
        let activated = self.activate(files, origin, by, None).await;
        self.rulebook().set_problem(activated.as_ref().err().map(RuleSetError::details));
        activated
    }

    /// `expected` is what must be active now, when it matters.
    async fn activate(
        &self,
        mut files: RuleFiles,
        origin: &str,
        by: &str,
        expected: Option<&Revision>,
    ) -> Result<Activation, RuleSetError> {
        let mut checked = self.check_rules(files.clone()).await;
        if let Ok(good) = &checked {
            // A switch outlives a reload, but not the rule that it is for.
            let switches = files.modes.len();
            files.modes.retain(|rule, _| good.set.rule(rule).is_some());
            if files.modes.len() < switches {
                checked = self.check_rules(files.clone()).await;
            }
        }
        let content = serde_json::to_string(&files)
            .map_err(|error| StoreError::Inconsistent { table: "rule_set", message: error.to_string() })?;
        let set = Arc::new(checked?.set);
        let stored = StoredRuleSet {
            revision: set.revision().clone(),
            content,
            origin: origin.to_owned(),
            commit: None,
            by: by.to_owned(),
            created_at: self.clock().now(),
        };
        self.store().put_rule_set(&stored).await?;
        let activation = self.store().activate(set.revision(), expected, by).await?;
        self.rulebook().remember(&set);
        self.rulebook().put_in_force(activation.serial, set);
        self.wake().rules.ring();
        Ok(activation)
    }

    /// Compiles files and runs their tests, off the threads that serve others.
    ///
    /// # Errors
    /// The files are wrong, or their own tests fail.
    pub async fn check_rules(&self, files: RuleFiles) -> Result<Checked, RuleSetError> {
        let scheduler = self.clone();
        match tokio::task::spawn_blocking(move || scheduler.rulebook().check(&files)).await {
            Ok(checked) => checked,
            Err(error) => Err(StoreError::Conflict(format!("checking the rules stopped: {error}")).into()),
        }
    }

    /// Switches a rule: a new revision with the same files.
    ///
    /// # Errors
    /// There is no such rule, somebody else changed the rules at the same time, or the database is away.
    pub async fn switch_rule(
        &self,
        rule: &RuleName,
        mode: Mode,
        by: &str,
    ) -> Result<Activation, RuleSetError> {
        let not_found = || StoreError::NotFound { what: "rule", id: rule.to_string() };
        let active = self.store().active().await?.ok_or_else(not_found)?;
        let stored = self.store().rule_set(active.revision.as_str()).await?;
        let mut files = files_of(&stored)?;
        // Of the active set, which this server may not have taken over yet.
        if self.rule_set_of(&active.revision).await?.rule(rule).is_none() {
            return Err(not_found().into());
        }
        files.modes.insert(rule.clone(), mode);
        self.activate(files, &stored.origin, by, Some(&active.revision)).await
    }

    /// The rule set of a revision, compiled: for judging a past event again as it was judged then.
    ///
    /// # Errors
    /// It is not kept, or does not compile any more.
    pub async fn rule_set_of(&self, revision: &Revision) -> Result<Arc<RuleSet>, RuleSetError> {
        if let Some(set) = self.rulebook().remembered(revision) {
            return Ok(set);
        }
        let stored = self.store().rule_set(revision.as_str()).await?;
        let files = files_of(&stored)?;
        let options = self.rulebook().options.clone();
        let compiled = tokio::task::spawn_blocking(move || compile(&files, &options)).await;
        let set = match compiled {
            Ok(compiled) => Arc::new(compiled.map_err(RuleSetError::Wrong)?.rule_set),
            Err(error) => return Err(StoreError::Conflict(format!("compiling stopped: {error}")).into()),
        };
        self.rulebook().remember(&set);
        Ok(set)
    }

    /// Follows the active revision, which another server may have changed.
    pub(crate) async fn follow_active(&self) -> Result<(), RuleSetError> {
        let Some(active) = self.store().active().await? else { return Ok(()) };
        if active.serial > self.rulebook().serial() {
            let set = self.rule_set_of(&active.revision).await?;
            self.rulebook().put_in_force(active.serial, set);
        }
        Ok(())
    }
}

/// The files of a stored rule set.
///
/// # Errors
/// What is stored is no rule set.
pub fn files_of(stored: &StoredRuleSet) -> store::Result<RuleFiles> {
    serde_json::from_str(&stored.content)
        .map_err(|error| StoreError::Inconsistent { table: "rule_set", message: error.to_string() })
}

/// Follows the active revision until told to stop.
pub(crate) async fn run(scheduler: Scheduler, stop: CancellationToken) {
    let mut bell = scheduler.wake().rules.listen();
    loop {
        if let Err(error) = scheduler.follow_active().await {
            tracing::warn!(error = %error.details(), "the active rule set could not be taken over");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = bell.heard(scheduler.settings().poll_every) => {}
        }
    }
}
