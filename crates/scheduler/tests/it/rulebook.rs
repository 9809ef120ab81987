//! The rules in force.

use super::bed::{Bed, RULES, TASKS, build, files, quick, until};
use model::verdict::VerdictKind;
use taskbot_scheduler::{
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
    assert_eq!(why[0].rule.as_str(), "check-builds");
    assert_eq!(why[0].verdict, VerdictKind::Fired { tasks: 1 });
    bed.end().await;
}
