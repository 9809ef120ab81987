//! The rules in force.

use super::bed::{Bed, RULES, TASKS, build, files, quick, until};
use async_trait::async_trait;
use model::verdict::VerdictKind;
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use taskbot_scheduler::{
    resolve::LookUpError,
    rule_source::{RuleCheckout, RuleRepository},
    rulebook::{RuleSetError, Rulebook},
    rules::{language::Mode, load::Options},
};

fn folder(rules: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tasks.yaml"), TASKS).unwrap();
    std::fs::write(folder.path().join("rules.yaml"), rules).unwrap();
    folder
}

async fn bed_on(folder: &tempfile::TempDir) -> Bed {
    let path = folder.path().to_owned();
    let bed = Bed::with(quick(), |mut parts| {
        parts.rulebook = Rulebook::new(Options::default(), Some(path));
        parts
    })
    .await;
    bed.scheduler.reload_rules("start").await.unwrap();
    bed
}

#[tokio::test]
async fn a_bad_set_leaves_the_old_one_and_says_so() {
    let folder = folder(RULES);
    let bed = bed_on(&folder).await;
    let before = bed.scheduler.rulebook().current().revision().clone();
    std::fs::write(folder.path().join("rules.yaml"), RULES.replace("task: lint", "task: lnit")).unwrap();
    let error = bed.scheduler.reload_rules("me").await.unwrap_err();
    assert!(error.details().contains("lint"), "{}", error.details());
    assert_eq!(*bed.scheduler.rulebook().current().revision(), before);
    assert_eq!(bed.store.active().await.unwrap().unwrap().revision, before);
    assert!(bed.scheduler.rulebook().problem().unwrap().contains("rules.yaml"));
    let tests = "tests:\n  - name: other\n    event: {topic: build.done, body: {nvr: x}}\n    expect: {}\n";
    std::fs::write(folder.path().join("rules.yaml"), format!("{RULES}{tests}")).unwrap();
    let error = bed.scheduler.reload_rules("me").await.unwrap_err();
    assert!(matches!(error, RuleSetError::TestsFail(_)), "{}", error.details());
    std::fs::write(folder.path().join("rules.yaml"), format!("{RULES}\n")).unwrap();
    bed.scheduler.reload_rules("me").await.unwrap();
    assert_eq!(bed.scheduler.rulebook().problem(), None);
    bed.end().await;
}

#[tokio::test]
async fn a_switch_outlives_a_reload_but_not_its_rule() {
    let folder = folder(RULES);
    let bed = bed_on(&folder).await;
    let rule = "check-builds".into();
    bed.scheduler.switch_rule(&rule, Mode::Off, "me").await.unwrap();
    assert!(bed.take(build("a")).await.is_empty());
    bed.scheduler.reload_rules("me").await.unwrap();
    assert!(bed.take(build("b")).await.is_empty(), "the switch is forgotten");
    std::fs::write(folder.path().join("rules.yaml"), RULES.replace("check-builds", "renamed")).unwrap();
    bed.scheduler.reload_rules("me").await.unwrap();
    assert_eq!(bed.take(build("c")).await.len(), 1);
    assert!(
        bed.scheduler.switch_rule(&rule, Mode::Off, "me").await.is_err(),
        "there is no such rule any more"
    );
    bed.end().await;
}

#[tokio::test]
async fn a_changed_file_and_another_server_are_followed() {
    let folder = folder(RULES);
    let mut bed = bed_on(&folder).await;
    let other = bed.second(quick(), |parts| parts).await;
    bed.start();
    bed.run(&other, Vec::new());
    let before = bed.scheduler.rulebook().current().revision().clone();
    let changed = RULES.replace("check-builds", "renamed");
    // The watch may begin after the first write: it is written until it is seen.
    let mut looks = 0;
    until("the change to be in force on both", || {
        if looks % 100 == 0 {
            std::fs::write(folder.path().join("rules.yaml"), format!("{changed}# {looks}\n")).unwrap();
        }
        looks += 1;
        let revisions = [&bed.scheduler, &other].map(|one| one.rulebook().current().revision().clone());
        let done = revisions[0] != before && revisions[0] == revisions[1];
        async move { done.then_some(()) }
    })
    .await;
    assert!(other.rulebook().current().rule(&"renamed".into()).is_some());
    bed.end().await;
}

#[tokio::test]
async fn why_is_answered_by_the_rules_of_then() {
    let bed = Bed::new().await;
    bed.take(build("a")).await;
    let rules = RULES.replace("check-builds", "renamed").replace("on: build.done", "on: other");
    bed.scheduler.activate_rules(files(&rules), "test", "tester").await.unwrap();
    let event = bed.scheduler.find_event("a").await.unwrap();
    let why = bed.scheduler.why(&event, None).await.unwrap();
    assert_eq!(why.len(), 1);
    assert_eq!(why[0].verdict.rule.as_str(), "check-builds");
    assert_eq!(why[0].verdict.verdict, VerdictKind::Fired { tasks: 1 });
    assert_eq!(why[0].became, []);
    bed.end().await;
}

#[tokio::test]
async fn a_rollback_lasts_until_the_folder_changes() {
    let folder = folder(RULES);
    let bed = bed_on(&folder).await;
    let write = |rules: &str| std::fs::write(folder.path().join("rules.yaml"), rules).unwrap();
    let in_force = || bed.scheduler.rulebook().current().revision().clone();
    let nothing = bed.scheduler.roll_back_rules(None, "me").await;
    assert!(matches!(nothing, Err(RuleSetError::NothingBefore)), "{nothing:?}");
    let old = in_force();
    write(&RULES.replace("check-builds", "broken"));
    bed.scheduler.reload_rules("me").await.unwrap();
    let new = in_force();
    let activation = bed.scheduler.roll_back_rules(None, "me").await.unwrap();
    assert_eq!((&activation.revision, &activation.held_back), (&old, &Some(new.clone())));
    assert_eq!(in_force(), old);
    // Neither a reload nor a restart loads again what was rolled back, nor does a switched rule change that.
    bed.scheduler.reload_rules("start").await.unwrap();
    assert_eq!(in_force(), old);
    bed.scheduler.switch_rule(&"check-builds".into(), Mode::Shadow, "me").await.unwrap();
    let switched = in_force();
    bed.scheduler.reload_rules("start").await.unwrap();
    assert_eq!(in_force(), switched);
    write(&RULES.replace("check-builds", "mended"));
    bed.scheduler.reload_rules("me").await.unwrap();
    assert!(bed.scheduler.rulebook().current().rule(&"mended".into()).is_some());
    assert_eq!(bed.store.active().await.unwrap().unwrap().held_back, None);
    // By the start of its revision.
    let named = bed.scheduler.roll_back_rules(Some(&new.as_str()[..10]), "me").await.unwrap();
    assert_eq!(named.revision, new);
    bed.end().await;
}

/// A repository whose commits are folders.
#[derive(Debug)]
struct Commits {
    folders: Vec<PathBuf>,
    head: AtomicUsize,
}

#[async_trait]
impl RuleRepository for Commits {
    fn origin(&self) -> String {
        "https://git.example.org/rules.git#main".to_owned()
    }
    fn poll_every(&self) -> Duration {
        Duration::from_millis(20)
    }
    async fn head(&self) -> Result<String, LookUpError> {
        match self.head.load(Ordering::Relaxed) {
            usize::MAX => Err(LookUpError::Later("no route".to_owned())),
            n => Ok(format!("{n:040}")),
        }
    }
    async fn check_out(&self, commit: &str) -> Result<RuleCheckout, LookUpError> {
        let n: usize = commit.trim_start_matches('0').parse().unwrap_or(0);
        Ok(RuleCheckout { folder: self.folders[n].clone(), keep: Box::new(()) })
    }
}

#[tokio::test]
async fn a_repository_is_followed_and_its_commit_stamped() {
    let renamed = |name: &str| folder(&RULES.replace("check-builds", name));
    let bad = folder("rules:\n  - nam: x\n");
    let commits = [renamed("first"), bad, renamed("third")];
    let folders = commits.iter().map(|one| one.path().to_owned()).collect();
    let repository = Arc::new(Commits { folders, head: AtomicUsize::new(0) });
    let of_git = Arc::clone(&repository);
    let mut bed = Bed::with(quick(), move |mut parts| {
        parts.rulebook = Rulebook::from_git(Options::default(), of_git);
        parts
    })
    .await;
    assert!(
        bed.scheduler.ingest(vec![build("early").into()]).await.is_err(),
        "nothing is judged by no rules"
    );
    bed.start();
    let in_force = |name: &str| bed.scheduler.rulebook().current().rule(&name.into()).is_some().then_some(());
    until("the first commit", || async { in_force("first") }).await;
    let active = bed.store.active().await.unwrap().unwrap();
    let stored = bed.store.rule_set(active.revision.as_str()).await.unwrap();
    assert_eq!(stored.commit, Some(format!("{:040}", 0)));
    assert_eq!(stored.origin, "https://git.example.org/rules.git#main");
    repository.head.store(1, Ordering::Relaxed);
    until("the bad commit to be told", || async {
        bed.scheduler.rulebook().problem().filter(|problem| problem.contains("rules.yaml"))
    })
    .await;
    assert_eq!(in_force("first"), Some(()), "the old rules stay in force");
    repository.head.store(usize::MAX, Ordering::Relaxed);
    let away = bed.scheduler.reload_rules("me").await.unwrap_err();
    assert!(away.is_transient(), "{away}");
    repository.head.store(2, Ordering::Relaxed);
    until("the third commit", || async { in_force("third") }).await;
    assert_eq!(bed.scheduler.rulebook().problem(), None);
    bed.end().await;
}
