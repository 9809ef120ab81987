//! The rules that are in force: loaded whole, checked, tested, then active in one step on every server. A bad
//! set leaves the old one in force, and says so.

use crate::{
    Scheduler,
    resolve::LookUpError,
    rule_source::{ReadRules, RuleRepository, RuleSource},
};
use model::{Revision, diagnostic::Report, ids::RuleName};
use rules::{
    compile::{RuleSet, compile},
    language::Mode,
    load::{Options, RuleFiles},
    rule_test::{self, TestOutcome},
};
use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
};
use store::{Activation, Pin, StoreError, StoredRuleSet};
use tokio_util::sync::CancellationToken;

/// How many compiled rule sets are kept for judging past events again.
const COMPILED_KEPT_MAX: usize = 8;
/// How far back a rollback looks that names no revision, in activations.
const HISTORY_MAX: u32 = 100;

/// The rules that are in force on this server.
#[derive(Debug)]
pub struct Rulebook {
    options: Options,
    source: RuleSource,
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
    /// There is nowhere to read.
    #[error("no rules folder and no repository are configured; rules come by the API only")]
    NoFolder,
    /// The repository that rules are kept in could not be read.
    #[error("the repository of the rules: {0}")]
    Repository(#[from] LookUpError),
    /// There is nothing to go back to.
    #[error("no earlier rule set was in force")]
    NothingBefore,
    /// The store said no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RuleSetError {
    /// Whether the same set may be taken later without anybody changing it.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Store(error) => error.is_transient(),
            Self::Repository(error) => matches!(error, LookUpError::Later(_)),
            _ => false,
        }
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

/// How a rule set comes to be the active one.
struct Import<'a> {
    origin: &'a str,
    commit: Option<&'a str>,
    by: &'a str,
    /// What must be active now, when it matters.
    expected: Option<&'a Revision>,
    pin: Pin,
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
    pub fn new(options: Options, folder: Option<PathBuf>) -> Self {
        Self::with_source(options, folder.map_or(RuleSource::Nowhere, RuleSource::Folder))
    }

    /// With no rules in force; they are kept in a git repository.
    #[must_use]
    pub fn from_git(options: Options, repository: Arc<dyn RuleRepository>) -> Self {
        Self::with_source(options, RuleSource::git(repository))
    }

    #[expect(clippy::expect_used, reason = "there is nothing in an empty rule set that could be wrong")]
    fn with_source(options: Options, source: RuleSource) -> Self {
        let empty = compile(&RuleFiles::default(), &options).expect("an empty rule set compiles");
        let in_force = InForce { serial: 0, set: Arc::new(empty.rule_set) };
        Self {
            options,
            source,
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
        self.source.folder()
    }

    pub(crate) const fn source(&self) -> &RuleSource {
        &self.source
    }

    /// Whether rules are read from anywhere, rather than coming by the API only.
    #[must_use]
    pub const fn has_source(&self) -> bool {
        self.source.is_anywhere()
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
    /// Reads the rules folder or repository, and makes what it holds the active rule set. Modes that were switched
    /// by hand stay for the rules that are still there. After a rollback nothing changes as long as it holds what was
    /// rolled back ([`Activation::held_back`]).
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
        let ReadRules { mut files, origin, commit } = self.rulebook().source().read().await?;
        let active = self.store().active().await?;
        if let Some(active) = &active
            && self.is_held_back(active, &files).await?
        {
            tracing::info!(
                revision = active.revision.short(),
                "the rules are as they were when they were rolled back"
            );
            return Ok(active.clone());
        }
        files.modes = self.switched_modes().await?;
        let import =
            Import { origin: &origin, commit: commit.as_deref(), by, expected: None, pin: Pin::Follow };
        self.activate(files, import).await
    }

    /// Whether these files are what a rollback took out of force.
    async fn is_held_back(&self, active: &Activation, files: &RuleFiles) -> Result<bool, RuleSetError> {
        let Some(held_back) = &active.held_back else { return Ok(false) };
        let held_back = self.store().rule_set(held_back.as_str()).await?;
        Ok(files_of(&held_back)?.files == files.files)
    }

    /// Goes back to a rule set that was in force before: the one named (by its revision or the start of it), else
    /// the last one that was another. The folder or repository is not followed until it holds something new.
    ///
    /// # Errors
    /// There is no such set, it does not compile any more, or the database is away.
    pub async fn roll_back_rules(
        &self,
        revision: Option<&str>,
        by: &str,
    ) -> Result<Activation, RuleSetError> {
        let target = match revision {
            Some(revision) => self.store().rule_set(revision).await?.revision,
            None => self.revision_before().await?,
        };
        let set = self.rule_set_of(&target).await?;
        let activation = self.store().activate(&target, None, by, Pin::HoldBack).await?;
        self.rulebook().put_in_force(activation.serial, set);
        self.rulebook().set_problem(None);
        self.wake().rules.ring();
        Ok(activation)
    }

    async fn revision_before(&self) -> Result<Revision, RuleSetError> {
        let past = self.store().activations(HISTORY_MAX).await?;
        let active = past.first().ok_or(RuleSetError::NothingBefore)?.clone();
        // Going back twice goes further back, not forth.
        let is_other = |earlier: &Activation| {
            earlier.revision != active.revision && Some(&earlier.revision) != active.held_back.as_ref()
        };
        let before = past.into_iter().find(is_other);
        before.map(|before| before.revision).ok_or(RuleSetError::NothingBefore)
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
            if self.rulebook().serial() == 0 && self.rulebook().has_source() {
                return Err(StoreError::Unavailable("the rules were not loaded yet".to_owned()));
            }
        }
        Ok(self.rulebook().current())
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
        let import = Import { origin, commit: None, by, expected: None, pin: Pin::Follow };
        let activated = self.activate(files, import).await;
        self.rulebook().set_problem(activated.as_ref().err().map(RuleSetError::details));
        activated
    }

    async fn activate(&self, mut files: RuleFiles, import: Import<'_>) -> Result<Activation, RuleSetError> {
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
            origin: import.origin.to_owned(),
            commit: import.commit.map(str::to_owned),
            by: import.by.to_owned(),
            created_at: self.clock().now(),
        };
        self.store().put_rule_set(&stored).await?;
        let Import { expected, by, pin, .. } = import;
        let activation = self.store().activate(set.revision(), expected, by, pin).await?;
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
        let import = Import {
            origin: &stored.origin,
            commit: stored.commit.as_deref(),
            by,
            expected: Some(&active.revision),
            pin: Pin::Keep,
        };
        self.activate(files, import).await
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
